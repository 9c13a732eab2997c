/**
 * The events of the chat, and what is in them. Written by a test of the server from its catalogue of events, as
 * `roomcast catalog --format typescript` prints it; see docs/architecture.md.
 */

/** `notification:ack_all`: the sender has seen all notifications. */
export interface AckAllNotifications {
  /** Only those up to this revision, which the sender has received. Default: all that there are. */
  revision?: number;
}

/** `notification:ack`: the sender has seen a notification. */
export interface AckNotification {
  notificationId: ServiceName;
}

/** A notification that its user has acknowledged. */
export interface AcknowledgedNotification {
  acknowledgedAt: string;
  /** An address, or a path of the site. */
  actionUrl: string | null;
  expiresAt: string;
  message: string;
  notificationId: string;
  /** How soon a notification has to be seen. */
  priority: "low" | "normal" | "high" | "urgent";
  /** That of the acknowledgement. */
  revision: number;
  timestamp: string;
  title: string;
  /** What a notification is. */
  type: "info" | "warning" | "error" | "success";
}

/** How the adapter is. */
export interface AdapterState {
  /** For how many milliseconds it was cut off, all these times together. */
  cutOff: number;
  /** How often the server was cut off from the others since it was started, so that what they sent may be missing. */
  gaps: number;
  /** Milliseconds that the last message of this server to itself took there and back, or that one has taken that is under way, if these are more; absent while nothing is known, as without a connection. */
  lag?: number;
  /** What the adapter knows to be lost, either way, since the server was started. */
  lost: number;
  /** Messages that wait to be sent. */
  queued: number;
  /** Bytes of the messages that wait to be sent. */
  queuedBytes: number;
  /** What the adapter did not take to be sent, since the server was started. */
  unsent: number;
  /** Whether other servers are reached, as far as is known. */
  up: boolean;
}

/** `add_member`: somebody becomes a member. */
export interface AddMember {
  conversationId: string;
  userId: UserId;
}

/** `add_reaction`: an emoji for a message. */
export interface AddReaction {
  emoji: Emoji;
  messageId: string;
}

/** `admin:alert`. */
export interface Alert {
  /** The id of the server. */
  node: string;
  /** What a server needs. */
  part: "store" | "adapter" | "publications" | "task";
  /** Whether something works. */
  state: "ok" | "unavailable";
  /** The name of the task, if it is one. */
  task?: string;
  timestamp: string;
}

/** The sender has acknowledged all notifications up to one. */
export interface AllAcked {
  /** How many were acknowledged by this. */
  acknowledged: number;
  timestamp: string;
}

/** From -1e15 to 1e15. */
export type Amount = number;

/** `presence`: who is here. */
export interface AskPresence {
  conversationId: string;
}

/** `statuses`: what those of a conversation say of themselves. */
export interface AskStatuses {
  conversationId: string;
}

/** `auth:expiring`, which the library sends. */
export interface AuthExpiring {
  expiresAt: string;
}

/** The acknowledgement of `auth:refresh`, which the library sends. */
export interface AuthRefreshed {
  /** When the credentials end, if they do. */
  expiresAt?: string;
}

/** `admin:block`: a network that is shut out. */
export interface BlockNetwork {
  /** An address or a network, as `192.0.2.0/24`. */
  cidr: Network;
  /** For people. */
  reason: Reason;
  /** How long, up to ten years. Default: for good. */
  seconds?: number;
}

/** The acknowledgement of `admin:block`. */
export interface Blocked {
  /** The network, as it was understood. */
  cidr: string;
  /** Until when; for good if absent. */
  expiresAt?: string;
  /** The id of the block, by which it is taken away over HTTP. */
  id: string;
}

/** The acknowledgement of whatever makes or changes a conversation. */
export interface ChangedConversation {
  conversation: ConversationInfo;
}

/** The id that a client gives: 1 to 128 characters, none of them control. */
export type ClientId = string;

/** The `cursor` of the page before. */
export type ConversationCursor = string;

/** A conversation that is deleted; its JSON is on the wire. */
export interface ConversationDeleted {
  /** The conversation. */
  conversationId: string;
  /** When. */
  deletedAt: string;
  /** By whom. */
  deletedBy: string;
}

/** A conversation: its row, and its JSON on the wire. */
export interface ConversationInfo {
  /** When it was made. */
  createdAt: string;
  /** The id of the conversation. */
  id: string;
  /** The members in the order of their ids; empty if the conversation is open to everyone. */
  memberIds: string[];
  /** The user who made the conversation; nobody if it was the server. */
  ownerId: string | null;
  /** The title of the conversation, if it has one. */
  title: string | null;
  /** When its title or members last changed. */
  updatedAt: string;
}

/** `conversation:interrupted`. */
export interface ConversationInterrupted {
  conversationId: string;
}

/** A page of a user's conversations. */
export interface ConversationPage {
  /** The conversations, those with the newest changes of title or members first. */
  conversations: ListedConversation[];
  /** Where the next page begins, if there is one. */
  cursor?: string;
  /** Whether the user has more. */
  hasMore: boolean;
}

/** What those of a conversation say of themselves. */
export interface ConversationStatuses {
  conversationId: string;
  /** At most 1,000. */
  statuses: UserStatus[];
}

/** `conversation_updated`. */
export interface ConversationUpdated {
  conversation: ConversationInfo;
  timestamp: string;
}

/** `create_conversation`: a new one, of which the sender is the owner. */
export interface CreateConversation {
  /** At most 1,000 (`chat.members`). */
  memberIds: UserId[];
  title?: Title;
}

/** `create_invite`: a token for a conversation. */
export interface CreateInvite {
  conversationId: string;
  /** Seconds, 60 to 2,592,000 (30 days). Default 604,800 (7 days). */
  expiresIn?: number;
  /** How many may become members by it, 1 to 10,000. Default: as many as there is room for. */
  uses?: number;
}

/** The acknowledgement of `create_invite`. */
export interface CreatedInvite {
  /** When it ends. */
  expiresAt: string;
  /** What makes whoever has it a member. */
  token: string;
}

/** `delete_conversation`: the conversation, with all that is in it. */
export interface DeleteConversation {
  conversationId: string;
}

/** `delete_message`: take the text out of a message. */
export interface DeleteMessage {
  messageId: string;
}

/** `edit_message`: a new text for a message. */
export interface EditMessage {
  content: MessageText;
  messageId: string;
  /** The version that the editor has seen; another one is a conflict. */
  version?: number;
}

/** One emoji of at most 16 characters, which are 64 bytes. */
export type Emoji = string;

/** `error`. */
export interface ErrorEvent {
  code: string;
  details?: unknown;
  /** The event that failed. */
  event?: string;
  /** For people who write clients. */
  message: string;
  /** Milliseconds after which another attempt makes sense. */
  retryAfter?: number;
  /** The status that HTTP has for it. */
  status: number;
  /** What the failure is about. */
  type: string;
}

/** `execute:trade`: a trade for the sender. */
export interface ExecuteTrade {
  /** Sent again under the same id it is executed once. */
  clientTradeId?: ClientId;
  quantity: Positive;
  side: "buy" | "sell";
  symbol: Symbol;
}

/** Kept as it is sent: at most 4,096 bytes of JSON (`chat.metadata_bytes`). */
export interface GivenMetadata {
  /** An absolute `http` or `https` URL. */
  imageUrl?: string;
  /** An RFC 3339 time. */
  timestamp?: string;
  [name: string]: unknown;
}

/** The acknowledgement of `preview_invite`. */
export interface InvitePreview {
  conversation: PreviewedConversation;
  /** When the token ends. */
  expiresAt: string;
  /** Whether the sender is a member already. */
  isMember: boolean;
}

/** `join_conversation`: an id, or an object with the last `seq` that the client knows. */
export interface Join {
  conversationId: string;
  lastSeq?: number;
}

/** `join_invite`: a token that somebody was given. */
export interface JoinInvite {
  token: string;
}

/** What a client gets when it has joined a conversation. */
export interface Joined {
  conversation: ConversationInfo;
  /** Whether there are more of those asked for, beyond the limit or the size of a page. */
  hasMore: boolean;
  /** Ascending by `seq`, without a gap. */
  messages: Message[];
  /** Of what the member wants to be notified. */
  notificationLevel?: "all" | "mentions" | "none";
  /** The newest message that somebody else has read, by its `seq`; left out if nobody has read any, and where the conversation has so many sockets that `message_read` is not told. */
  othersReadSeq?: number;
  /** The pins, the newest first. */
  pins?: Pin[];
  /** Of all members, and of `users`, who have said something of themselves. */
  statuses: UserStatus[];
  users: PresentUser[];
}

/** `admin:kick`: either a user or a socket. */
export interface Kick {
  /** The socket of the chat whose connection is closed. */
  socketId?: string;
  /** The user whose connections are closed. */
  userId?: UserId;
}

/** The acknowledgement of `admin:kick`. */
export interface Kicked {
  /** How many connections were closed. */
  disconnected: number;
  /** Servers that have not answered. */
  missing: number;
}

/** The last prices of symbols. */
export interface LastPrices {
  /** Without those of symbols of which none was published. */
  prices: Price[];
}

/** `leave_conversation`: an id, or an object with it. */
export interface Leave {
  conversationId: string;
}

/** `conversations`: those of the sender. */
export interface ListConversations {
  /** The `cursor` of the page before; without it, the first page. */
  cursor?: ConversationCursor;
  /** 1 to 200 (`chat.page`). Default 50 (`chat.page_default`). */
  limit?: number;
}

/** One of a user's conversations. */
export interface ListedConversation {
  /** When it was made. */
  createdAt: string;
  /** The id of the conversation. */
  id: string;
  /** The `seq` of its newest message; 0 if it has none. */
  lastSeq: number;
  /** The members in the order of their ids; empty if the conversation is open to everyone. */
  memberIds: string[];
  /** Of what the user wants to be notified in it. */
  notificationLevel: "all" | "mentions" | "none";
  /** The user who made the conversation; nobody if it was the server. */
  ownerId: string | null;
  /** The last `seq` that the user has read. */
  readSeq: number;
  /** The title of the conversation, if it has one. */
  title: string | null;
  /** Messages of others after that which are not deleted; counted up to 1,000. */
  unread: number;
  /** When its title or members last changed. */
  updatedAt: string;
}

/** `mark_read`: the sender has read up to a message. */
export interface MarkAsRead {
  conversationId: string;
  seq: number;
}

/** One stored message: its row, and its JSON on the wire. */
export interface Message {
  /** The text, as it was sent. */
  content: string;
  /** The conversation it belongs to. */
  conversationId: string;
  /** When it was stored. */
  createdAt: string;
  /** When it was deleted; the row stays, so that `seq` has no gap. */
  deletedAt?: string;
  /** When it was last edited. */
  editedAt?: string;
  /** A UUID of version 7: ids ascend in the order of storing. */
  id: string;
  /** The users whom it mentions, as it was sent. */
  mentions?: string[];
  /** A JSON object, as it was sent; `{}` if there was none. */
  metadata: Metadata;
  /** The reactions to it, in the order in which each emoji came first. */
  reactions?: Reaction[];
  /** The message that it answers, as that is now where this one is read, and as it was when this one was sent where it is told; none if there is no such message any more. */
  replyTo?: Quote;
  /** The place of the message in its conversation: 1, 2, 3 and so on, without a gap. */
  seq: number;
  /** Written by a person or by a machine. */
  type: MessageKind;
  /** The user who sent the message. */
  userId: string;
  /** The sender's name at the time of sending. */
  userName: string;
  /** 1, and one more with each edit. */
  version: number;
}

/** `message_deleted`. */
export interface MessageDeleted {
  conversationId: string;
  deletedAt: string;
  deletedBy: string;
  messageId: string;
  seq: number;
}

/** `message_delivered`. */
export interface MessageDelivered {
  conversationId: string;
  /** Those that confirmed in time. */
  delivered: number;
  /** Sockets that were asked: all in the conversation but the sender's. */
  expected: number;
  messageId: string;
  /** Whether the time was over before all had answered. */
  timedOut: boolean;
}

/** Who wrote a message: `"user"` or `"ai"`. */
export type MessageKind = "user" | "ai";

/** A message that is pinned now; its JSON is what members are told. */
export interface MessagePinned {
  /** The conversation. */
  conversationId: string;
  /** The pin. */
  pin: Pin;
}

/** A reaction that was added or taken back; its JSON is what members are told. */
export interface MessageReaction {
  /** Whether it is there now. */
  added: boolean;
  /** The conversation. */
  conversationId: string;
  /** How many have reacted with the emoji now. */
  count: number;
  /** The emoji. */
  emoji: string;
  /** The message. */
  messageId: string;
  /** Its place in its conversation. */
  seq: number;
  /** When that was. */
  timestamp: string;
  /** The user whose reaction it is. */
  userId: string;
}

/** `message_read`. */
export interface MessageRead {
  conversationId: string;
  /** The user has read up to here. */
  seq: number;
  userId: string;
}

/** The text of a message: 1 to 10,000 characters (`chat.content_chars`), no control characters but tab and line ends. */
export type MessageText = string;

/** A message that is not pinned any more; its JSON is what members are told. */
export interface MessageUnpinned {
  /** The conversation. */
  conversationId: string;
  /** The message. */
  messageId: string;
  /** Its place in its conversation. */
  seq: number;
  /** When that was. */
  timestamp: string;
  /** The user who has taken the pin away. */
  unpinnedBy: string;
}

export interface Metadata {
  /** An absolute `http` or `https` URL. */
  imageUrl?: string;
  /** An RFC 3339 time. */
  timestamp?: string;
  [name: string]: unknown;
}

/** An address or a network, as `192.0.2.0/24`. */
export type Network = string;

/** The portfolio of a user at one moment. */
export interface NewestPortfolio {
  /** None if none was published. */
  portfolio: Portfolio | null;
  revision: number;
}

/** The answer to a subscription, as event and as acknowledgement. */
export interface NewestPortfolioSubscribed {
  room: string;
  /** What there is at that moment; everything after it comes as an event. */
  snapshot: NewestPortfolio;
}

/** `admin:node`. */
export interface NodeChange {
  /** What a server does. */
  change: "joined" | "left" | "draining";
  /** The id of the server. */
  node: string;
  timestamp: string;
}

/** Something that a user should know. */
export interface Notification {
  /** An address, or a path of the site. */
  actionUrl: string | null;
  expiresAt: string;
  message: string;
  notificationId: string;
  /** How soon a notification has to be seen. */
  priority: "low" | "normal" | "high" | "urgent";
  timestamp: string;
  title: string;
  /** What a notification is. */
  type: "info" | "warning" | "error" | "success";
}

/** One of the user's tabs has acknowledged a notification. */
export interface NotificationAcked {
  notificationId: string;
  timestamp: string;
}

/** Several notifications, in their order. */
export interface NotificationBatch {
  notifications: NotificationUpdate[];
}

/** A page of the notifications that a user has acknowledged, the newest acknowledgement first. */
export interface NotificationHistory {
  /** Where the next page begins, if there is one. */
  cursor?: string;
  /** Whether there are older ones. A page may have fewer than `limit`, or none, also if there are. */
  hasMore: boolean;
  notifications: AcknowledgedNotification[];
  /** That of the last notification or acknowledgement when the page was read. */
  revision: number;
}

/** `notification_level`, and the acknowledgement of `set_notification_level`. */
export interface NotificationLevel {
  conversationId: string;
  /** Of what in a conversation a member wants to be notified. */
  level: "all" | "mentions" | "none";
}

/** An update with its place: a larger number than that of the snapshot and of everything before. */
export interface NotificationUpdate {
  /** An address, or a path of the site. */
  actionUrl: string | null;
  expiresAt: string;
  message: string;
  notificationId: string;
  /** How soon a notification has to be seen. */
  priority: "low" | "normal" | "high" | "urgent";
  revision: number;
  timestamp: string;
  title: string;
  /** What a notification is. */
  type: "info" | "warning" | "error" | "success";
}

/** A notification ended before the user acknowledged it. */
export interface NotificationWithdrawn {
  notificationId: string;
  /** Why a notification ended: the service withdrew it, or a newer mention took the place of the oldest. */
  reason: "withdrawn" | "replaced";
  timestamp: string;
}

/** What nobody has acknowledged, at one moment. */
export interface Notifications {
  /** There are older ones that did not fit, which come with a subscription when these are acknowledged. */
  hasMore: boolean;
  notifications: Notification[];
  revision: number;
  /** How many there are, with those that did not fit. */
  unread: number;
}

/** Several notifications were acknowledged together, by one of the user's tabs or by reading what they are about. */
export interface NotificationsAcked {
  notificationIds: string[];
  timestamp: string;
}

/** The answer to a subscription, as event and as acknowledgement. */
export interface NotificationsSubscribed {
  room: string;
  /** What there is at that moment; everything after it comes as an event. */
  snapshot: Notifications;
}

/** How many notifications a user has not acknowledged, at one moment. */
export interface NotificationsUnread {
  revision: number;
  /** Those that have not expired, also those that did not fit into the snapshot. */
  unread: number;
}

/** One page of messages. */
export interface Page {
  /** Whether there are more of those asked for, beyond the limit or the size of a page. */
  hasMore: boolean;
  /** Ascending by `seq`, without a gap. */
  messages: Message[];
}

/** Milliseconds below which so many percent are; absent as long as there is none. */
export interface Percentiles {
  count: number;
  p50?: number;
  p95?: number;
  p99?: number;
}

/** A message that is to be found at once in its conversation. */
export interface Pin {
  /** The beginning of the message. */
  message: Quote;
  /** When it was pinned. */
  pinnedAt: string;
  /** The user who pinned it. */
  pinnedBy: string;
}

/** `pin_message`: a message that is to be found at once. */
export interface PinMessage {
  messageId: string;
}

/** A portfolio as it is now. */
export interface Portfolio {
  cash: Amount;
  positions: Position[];
  timestamp: string;
  totalValue: Amount;
  userId: UserId;
}

/** An update with its place: a larger number than that of the snapshot and of everything before. */
export interface PortfolioUpdate {
  cash: Amount;
  positions: Position[];
  revision: number;
  timestamp: string;
  totalValue: Amount;
  userId: UserId;
}

/** What a user has of a symbol; a short position is below zero. */
export interface Position {
  avgPrice: Amount;
  quantity: Amount;
  symbol: Symbol;
}

/** More than 0 and at most 1e15. */
export type Positive = number;

/** Who is in a conversation. */
export interface Presence {
  conversationId: string;
  /** How many there are, listed or not. */
  count: number;
  /** Those who came first. */
  users: PresentUser[];
}

/** One of those present. */
export interface PresentUser {
  /** Sockets in this conversation; 0 during the grace after a lost connection. */
  connections: number;
  /** Whether nobody vouches for its name; left out if somebody does. */
  guest?: boolean;
  /** The user's name. */
  name: string;
  /** Since when. */
  since: string;
  /** The user's id. */
  userId: string;
}

/** `preview_invite`: a token that somebody was given. */
export interface PreviewInvite {
  token: string;
}

/** What somebody is told of a conversation who may become a member of it. */
export interface PreviewedConversation {
  id: string;
  /** How many members it has. */
  memberCount: number;
  title: string | null;
}

/** The last price of a symbol. */
export interface Price {
  price: Positive;
  symbol: Symbol;
  timestamp: string;
}

/** The price of a symbol is no longer known, until another one is published. */
export interface PriceWithdrawn {
  /** Why the price of a symbol is no longer known: a service withdrew it, or none was published for `market.symbol_expiry`. */
  reason: "withdrawn" | "expired";
  symbol: string;
  timestamp: string;
}

/** The answer to a subscription, as event and as acknowledgement. */
export interface PricesSubscribed {
  /** One for each symbol. */
  rooms: string[];
  /** What is known at that moment; everything after it comes as an event. */
  snapshot: LastPrices;
}

/** The answer to the end of a subscription. */
export interface PricesUnsubscribed {
  /** One for each symbol. */
  rooms: string[];
}

/** Bytes, acknowledgements and polls that wait. */
export interface Queues {
  /** Acknowledgements that clients have not sent yet. */
  acksPending: number;
  /** Of all clients together. */
  bytes: number;
  /** Polls that wait for something to send. */
  polls: number;
}

/** What is shown of a message elsewhere: its beginning. Wherever it is read it is as the message is now. */
export interface Quote {
  /** When it was deleted. */
  deletedAt?: string;
  /** When it was last edited. */
  editedAt?: string;
  /** The first 200 characters of its text; empty once it is deleted. */
  excerpt: string;
  /** The id of the message. */
  id: string;
  /** Its place in its conversation. */
  seq: number;
  /** The user who sent it. */
  userId: string;
  /** The sender's name at the time of sending. */
  userName: string;
}

/** Those who have reacted to a message with one emoji. */
export interface Reaction {
  /** How many have reacted with it. */
  count: number;
  /** The emoji. */
  emoji: string;
  /** Whether the reader is one of them, where a message is read by somebody; left out if not. */
  own?: boolean;
  /** At most ten of them, in the order of their ids. */
  userIds: string[];
}

/** `signals:history`: a page of all signals, or of those of a channel. */
export interface ReadFollowedSignals {
  /** None: all signals. */
  channelId?: ServiceName;
  /** The `cursor` of the snapshot or of the page before; without it, the first page. */
  cursor?: RevisionCursor;
  /** 1 to 200. Default 50. */
  limit?: number;
  /** Only signals with a larger `revision`, of which the client has all others. On each page. */
  sinceRevision?: number;
}

/** `message_history`: a page of messages. */
export interface ReadHistory {
  /** Only messages after this one, the oldest of them. */
  afterSeq?: number;
  /** Only messages before this one, the newest of them; not together with `afterSeq`. */
  beforeSeq?: number;
  conversationId: string;
  /** 1 to 200 (`chat.page`). Default 50 (`chat.page_default`). */
  limit?: number;
}

/** How far a user has read, and what is left; its JSON is part of the acknowledgement. */
export interface ReadMark {
  /** The last `seq` that was read. */
  seq: number;
  /** Messages of others after that which are not deleted; counted up to 1,000. */
  unread: number;
}

/** `notifications:history`: a page of what the sender has acknowledged. */
export interface ReadOwnHistory {
  /** The `cursor` of the page before; without it, the first page. */
  cursor?: RevisionCursor;
  /** 1 to 200. Default 50. */
  limit?: number;
}

/** `trades:history`: a page of the trades of the sender. */
export interface ReadOwnTrades {
  /** The `cursor` of the snapshot or of the page before; without it, the first page. */
  cursor?: RevisionCursor;
  /** 1 to 200. Default 50. */
  limit?: number;
  /** Only trades with a larger `revision`, of which the client has all others. On each page. */
  sinceRevision?: number;
}

/** `admin:stats`. */
export type ReadStatistics = Record<string, unknown>;

/** 1 to 200 characters for people, none of them control or invisible, and not only spaces. */
export type Reason = string;

/** `auth:refresh`: new credentials; neither prolongs the session by which the client came. */
export interface RefreshOffer {
  /** A session of the same user. */
  sessionId?: string;
  /** A token of the same user. */
  token?: string;
}

/** How often something was refused for one reason. */
export interface RefusalCount {
  count: number;
  /** What was wrong; which limit it was. */
  reason: string;
  /** `authentication`, `permission`, `rateLimit` or `connection`. */
  type: string;
}

/** `admin:refusals`. */
export interface Refusals {
  /** The id of the server. */
  node: string;
  refusals: RefusalCount[];
  timestamp: string;
}

/** `remove_member`: somebody is a member no longer. */
export interface RemoveMember {
  conversationId: string;
  userId: UserId;
}

/** `remove_reaction`: an emoji that the sender takes back. */
export interface RemoveReaction {
  emoji: Emoji;
  messageId: string;
}

/** `rename_conversation`: a new title. */
export interface RenameConversation {
  conversationId: string;
  title: Title;
}

/** The `cursor` of the page before. */
export type RevisionCursor = string;

/** `revoke_invites`: the conversation whose tokens are taken back. */
export interface RevokeInvites {
  conversationId: string;
}

/** The acknowledgement of `revoke_invites`. */
export interface RevokedInvites {
  /** How many were valid. */
  revoked: number;
}

/** The rooms of the chat. */
export interface RoomTotals {
  count: number;
  largest: number;
  /** Members of all of them; a socket that is in three counts three times. */
  members: number;
}

/** `message_search`: messages that have all the words. */
export interface SearchMessages {
  /** Only messages that are older than this one. */
  beforeId?: string;
  /** Without it, all conversations of the sender. */
  conversationId?: string;
  /** 1 to 200 (`chat.page`). Default 50 (`chat.page_default`). */
  limit?: number;
  query: SearchQuery;
}

/** 1 to 16 words and at most 200 characters. */
export type SearchQuery = string;

/** `message`: store a message and show it to the conversation. */
export interface SendMessage {
  /** Sent again under the same id it is stored once. */
  clientMessageId?: ClientId;
  /** Whether the sender wants the event `message_delivered`. */
  confirmDelivery?: boolean;
  content: MessageText;
  conversationId: string;
  /** Users whom it mentions: at most 20, each once, all of them members. */
  mentions?: UserId[];
  /** Kept as it is sent, at most 4,096 bytes (`chat.metadata_bytes`). */
  metadata?: GivenMetadata;
  /** The message of the same conversation that it answers. */
  replyTo?: string;
  /** `ai` needs the permission `chat:send_ai`. Default `user`. */
  type?: "user" | "ai";
}

/** An id or a name that a service gives: 1 to 128 characters, none of them control or invisible, and not only spaces. */
export type ServiceName = string;

/** `session`. */
export interface Session {
  expiresAt?: string;
  /** Whether nobody vouches for the name. */
  guest: boolean;
  name: string;
  /** What the roles allow, by the names of the configuration. */
  permissions: string[];
  roles: string[];
  /** What the user has said of itself. */
  status?: UserStatus;
  userId: string;
}

/** Sessions by what carries them now. */
export interface Sessions {
  polling: number;
  total: number;
  websocket: number;
}

/** `set_notification_level`: of what the sender wants to be notified. */
export interface SetNotificationLevel {
  conversationId: string;
  /** With `none`, mentions make no notifications; beyond that it is for clients, which draw attention to less. */
  level: "all" | "mentions" | "none";
}

/** `set_status`: what users say of themselves, the text included. */
export interface SetStatus {
  /** What users may say of themselves. */
  status: "online" | "away" | "busy" | "offline";
  /** 1 to 80 characters, none of them control or invisible. */
  text?: StatusText;
}

/** `typing`: a sign of typing, or its end. */
export interface SetTyping {
  conversationId: string;
  isTyping: boolean;
}

/** What a provider advises. */
export interface Signal {
  /** What a signal advises. */
  action: "buy" | "sell" | "hold";
  channelId?: ServiceName;
  /** In percent: 0 to 100. */
  confidence: number;
  entryPrice: Positive | null;
  providerId: ServiceName;
  providerName: ServiceName;
  signalId: ServiceName;
  stopLoss: Positive | null;
  symbol: Symbol;
  takeProfit: Positive | null;
  timestamp: string;
}

/** A page of signals, the newest first. */
export interface SignalList {
  /** Where the next page begins, if there is one. */
  cursor?: string;
  /** Whether there are older ones; with `sinceRevision`, older ones that came after it. */
  hasMore: boolean;
  /** That of the last of all signals when the page was read. */
  revision: number;
  signals: SignalUpdate[];
  /** That of the request, if the list has only what came after it. */
  sinceRevision?: number;
  /** The ids of signals on this page that were withdrawn after `sinceRevision`. Empty without it. */
  withdrawn?: string[];
}

/** An update with its place: a larger number than that of the snapshot and of everything before. */
export interface SignalUpdate {
  /** What a signal advises. */
  action: "buy" | "sell" | "hold";
  channelId?: ServiceName;
  /** In percent: 0 to 100. */
  confidence: number;
  entryPrice: Positive | null;
  providerId: ServiceName;
  providerName: ServiceName;
  revision: number;
  signalId: ServiceName;
  stopLoss: Positive | null;
  symbol: Symbol;
  takeProfit: Positive | null;
  timestamp: string;
}

/** An update with its place: a larger number than that of the snapshot and of everything before. */
export interface SignalWithdrawnUpdate {
  channelId?: string;
  revision: number;
  signalId: string;
  /** When it was withdrawn. */
  timestamp: string;
}

/** Signals at one moment. */
export interface Signals {
  /** Where the page of the others begins in `signals:history`, if there are more. */
  cursor?: string;
  /** Whether there are more signals than these: older ones, but with `sinceRevision` only those that came after it. */
  hasMore: boolean;
  revision: number;
  /** The last ones. */
  signals: Signal[];
  /** That of the subscription, if `signals` has only what came after it. Without it these are the last of all. */
  sinceRevision?: number;
  /** The ids of signals that were withdrawn after `sinceRevision`. Empty without it. */
  withdrawn?: string[];
}

/** The answer to a subscription, as event and as acknowledgement. */
export interface SignalsSubscribed {
  room: string;
  /** What there is at that moment; everything after it comes as an event. */
  snapshot: Signals;
}

/** How a server is: `GET /health/websocket/detailed`, `GET /api/v1/stats` and the acknowledgement of `admin:stats`. */
export interface Statistics {
  adapter: string;
  /** What joins this server to others; absent where nothing does. */
  adapterState?: AdapterState;
  draining: boolean;
  /** The id of the server that these are the figures of. */
  node: string;
  /** Servers of the cluster, this one among them. */
  nodes: number;
  queues: Queues;
  rooms: RoomTotals;
  sessions: Sessions;
  sockets: number;
  store: string;
  /** Since the server was started. */
  times: Times;
  /** Since the server was started. */
  traffic: Traffic;
  /** Users who are connected to the chat, however many sockets each has. */
  users: number;
}

/** The text of a status: 1 to 80 characters, none of them control or invisible, and not only spaces. */
export type StatusText = string;

/** The acknowledgement of what stores or changes a message. */
export interface StoredMessage {
  message: Message;
}

/** `subscribe:notifications`: the notifications of the sender. */
export type SubscribeNotifications = Record<string, unknown>;

/** `subscribe:portfolio`: the portfolio of the sender. */
export interface SubscribePortfolio {
  /** The sender's own id. */
  userId: UserId;
}

/** `subscribe:prices`: the prices of these symbols. */
export interface SubscribePrices {
  /** 1 to 100 symbols. */
  symbols: Symbol[];
}

/** `subscribe:signals`: all signals, or those of a channel. */
export interface SubscribeSignals {
  /** None: all signals. */
  channelId?: ServiceName;
  /** The last `revision` of these signals that the client knows: the snapshot then has only what came after it. */
  sinceRevision?: number;
}

/** `subscribe:trades`: the trades of the sender. */
export interface SubscribeTrades {
  /** The last `revision` of trades that the client knows: the snapshot then has only what has changed after it. */
  sinceRevision?: number;
  /** The sender's own id. */
  userId: UserId;
}

/** A symbol: 1 to 32 characters: ASCII without spaces. */
export type Symbol = string;

/** `user_joined`, `user_left` and `user_disconnected`. */
export interface SystemEvent {
  conversationId: string;
  /** The user's name. */
  name: string;
  timestamp: string;
  /** The only one. */
  type: "system";
  /** The user's id. */
  userId: string;
}

/** How long things take. */
export interface Times {
  /** From when something is queued for WebSockets until all of them have been written to. */
  delivery: Percentiles;
  /** From a ping on a WebSocket to its pong. */
  ping: Percentiles;
  /** From when a message is received until it is stored and queued. */
  processing: Percentiles;
}

/** The title of a conversation: 1 to 200 characters, none of them control or invisible. */
export type Title = string;

/** A trade as it is now. */
export interface Trade {
  /** None as long as it is not executed. */
  executedPrice: Positive | null;
  quantity: Positive;
  /** None if the service that has published the trade never gave it. */
  side: "buy" | "sell" | null;
  /** What has become of a trade. */
  status: "pending" | "executed" | "failed" | "canceled";
  symbol: Symbol;
  timestamp: string;
  tradeId: ServiceName;
  userId: UserId;
}

/** `trade:error` */
export interface TradeError {
  code: string;
  message: string;
  symbol: string;
  /** Left out if there is no such trade. */
  tradeId?: string;
}

/** `trade:executed` */
export interface TradeExecuted {
  executedPrice: Positive;
  quantity: Positive;
  /** Whether something is bought or sold. */
  side: "buy" | "sell";
  symbol: Symbol;
  timestamp: string;
  tradeId: ServiceName;
}

/** A page of the trades of a user as they are now, the newest change first. */
export interface TradeList {
  /** Where the next page begins, if there is one. */
  cursor?: string;
  /** Whether there are older ones; with `sinceRevision`, older ones that changed after it. */
  hasMore: boolean;
  /** That of the last change when the page was read. */
  revision: number;
  /** That of the request, if the list has only what has changed after it. */
  sinceRevision?: number;
  trades: TradeUpdate[];
  /** The ids of trades on this page that were withdrawn after `sinceRevision`. Empty without it. */
  withdrawn?: string[];
}

/** An update with its place: a larger number than that of the snapshot and of everything before. */
export interface TradeUpdate {
  /** None as long as it is not executed. */
  executedPrice: Positive | null;
  quantity: Positive;
  revision: number;
  /** None if the service that has published the trade never gave it. */
  side: "buy" | "sell" | null;
  /** What has become of a trade. */
  status: "pending" | "executed" | "failed" | "canceled";
  symbol: Symbol;
  timestamp: string;
  tradeId: ServiceName;
  userId: UserId;
}

/** An update with its place: a larger number than that of the snapshot and of everything before. */
export interface TradeWithdrawnUpdate {
  revision: number;
  /** When it was withdrawn. */
  timestamp: string;
  tradeId: string;
  userId: string;
}

/** The trades of a user at one moment. */
export interface Trades {
  /** Where the page of the others begins in `trades:history`, if there are more. */
  cursor?: string;
  /** Whether there are more trades than these: older ones, but with `sinceRevision` only those that changed after it. */
  hasMore: boolean;
  revision: number;
  /** That of the subscription, if `trades` has only what has changed after it. Without it these are all that the client needs. */
  sinceRevision?: number;
  /** Those that are open and the last ones that are settled, by their last change. */
  trades: Trade[];
  /** The ids of trades that were withdrawn after `sinceRevision`. Empty without it. */
  withdrawn?: string[];
}

/** The answer to a subscription, as event and as acknowledgement. */
export interface TradesSubscribed {
  room: string;
  /** What there is at that moment; everything after it comes as an event. */
  snapshot: Trades;
}

/** What has come from clients and gone to them. Rates are differences of two answers. */
export interface Traffic {
  /** Bytes of the messages of clients. */
  bytesReceived: number;
  /** Bytes that were written to clients. */
  bytesSent: number;
  /** Messages of clients: events and acknowledgements, and what they connect with. */
  received: number;
  /** Messages to clients, counted once for each client that gets one. */
  sent: number;
}

/** `typing`. */
export interface Typing {
  conversationId: string;
  isTyping: boolean;
  /** The user's name. */
  name: string;
  timestamp: string;
  /** The user's id. */
  userId: string;
}

/** `unpin_message`: no longer. */
export interface UnpinMessage {
  messageId: string;
}

/** `unsubscribe:notifications`: no longer. */
export type UnsubscribeNotifications = Record<string, unknown>;

/** `unsubscribe:portfolio`: no longer. */
export interface UnsubscribePortfolio {
  /** The sender's own id. */
  userId: UserId;
}

/** `unsubscribe:prices`: no longer. */
export interface UnsubscribePrices {
  /** 1 to 100 symbols. */
  symbols: Symbol[];
}

/** `unsubscribe:signals`: no longer. */
export interface UnsubscribeSignals {
  /** The channel that was subscribed to; none: all signals. */
  channelId?: ServiceName;
}

/** `unsubscribe:trades`: no longer. */
export interface UnsubscribeTrades {
  /** The sender's own id. */
  userId: UserId;
}

/** The answer to the end of a subscription. */
export interface Unsubscribed {
  room: string;
}

/** The id of a user: 1 to 128 characters, none of them control or invisible, and not only spaces. */
export type UserId = string;

/** What a user says of itself. Of two of one user the one with the later `timestamp` holds. */
export interface UserStatus {
  /** What users may say of themselves. */
  status: "online" | "away" | "busy" | "offline";
  /** Left out if there is none. */
  text?: string;
  /** When it was said; later with each change. */
  timestamp: string;
  userId: string;
}

/** What went wrong, as the server reports it in a refused request. */
export interface Failure {
  code: string;
  message: string;
  /** Milliseconds after which another attempt makes sense. */
  retryAfter?: number;
  details?: unknown;
}

/** The acknowledgement of a request. */
export type Acknowledgement<Answer> = ({ success: true } & Answer) | { success: false; error: Failure };

/** The arguments of an event before its acknowledgement: none if the payload may be left out. */
export type EventArguments<Payload> = undefined extends Payload
  ? [payload: Exclude<Payload, undefined>] | []
  : [payload: Payload];

/** What clients send, by the name of the event: its argument, and the answer that comes with `success: true`. */
export interface Requests {
  /** Stores a message and shows it to the conversation. */
  message: { payload: SendMessage; answer: StoredMessage };
  /** Gives a message a new text. */
  edit_message: { payload: EditMessage; answer: StoredMessage };
  /** Takes the text out of a message. */
  delete_message: { payload: DeleteMessage; answer: StoredMessage };
  /** Reacts to a message with an emoji. */
  add_reaction: { payload: AddReaction; answer: MessageReaction };
  /** Takes a reaction of the sender back. */
  remove_reaction: { payload: RemoveReaction; answer: MessageReaction };
  /** Pins a message to its conversation. */
  pin_message: { payload: PinMessage; answer: MessagePinned };
  /** Takes the pin of a message away. */
  unpin_message: { payload: UnpinMessage; answer: MessageUnpinned };
  /** Joins a conversation and reads what was missed. */
  join_conversation: { payload: string | Join; answer: Joined };
  /** Leaves a conversation. */
  leave_conversation: { payload: string | Leave; answer: object };
  /** Shows that somebody types, or has stopped. */
  typing: { payload: SetTyping; answer: object };
  /** Reads who is in a conversation. */
  presence: { payload: AskPresence; answer: Presence };
  /** Says of oneself that one is online, away, busy or offline. */
  set_status: { payload: SetStatus; answer: UserStatus };
  /** Reads what those of a conversation say of themselves. */
  statuses: { payload: AskStatuses; answer: ConversationStatuses };
  /** Reads a page of messages. */
  message_history: { payload: ReadHistory; answer: Page };
  /** Notes how far the sender has read. */
  mark_read: { payload: MarkAsRead; answer: ReadMark };
  /** Finds messages that have all the words. */
  message_search: { payload: SearchMessages; answer: Page };
  /** Makes a conversation, of which the sender is the owner. */
  create_conversation: { payload: CreateConversation; answer: ChangedConversation };
  /** Gives a conversation a new title. */
  rename_conversation: { payload: RenameConversation; answer: ChangedConversation };
  /** Deletes a conversation with all that is in it. */
  delete_conversation: { payload: DeleteConversation; answer: ConversationDeleted };
  /** Lists the sender's conversations with what is unread. */
  conversations: { payload: ListConversations; answer: ConversationPage };
  /** Adds a member to a conversation. */
  add_member: { payload: AddMember; answer: ChangedConversation };
  /** Removes a member from a conversation, or the sender itself. */
  remove_member: { payload: RemoveMember; answer: ChangedConversation };
  /** Says of what in a conversation the sender wants to be notified. */
  set_notification_level: { payload: SetNotificationLevel; answer: NotificationLevel };
  /** Makes a token by which others become members of a conversation. */
  create_invite: { payload: CreateInvite; answer: CreatedInvite };
  /** Reads what conversation a token is for. */
  preview_invite: { payload: PreviewInvite; answer: InvitePreview };
  /** Makes the sender a member of the conversation that a token is for. */
  join_invite: { payload: JoinInvite; answer: ChangedConversation };
  /** Takes all tokens of a conversation back. */
  revoke_invites: { payload: RevokeInvites; answer: RevokedInvites };
  /** Follows the sender's trades. */
  "subscribe:trades": { payload: SubscribeTrades; answer: TradesSubscribed };
  /** Follows the sender's trades no longer. */
  "unsubscribe:trades": { payload: UnsubscribeTrades; answer: Unsubscribed };
  /** Reads a page of the sender's trades, the newest change first. */
  "trades:history": { payload: ReadOwnTrades | undefined; answer: TradeList };
  /** Has a trade executed for the sender. */
  "execute:trade": { payload: ExecuteTrade; answer: TradeExecuted };
  /** Follows all signals, or those of a channel. */
  "subscribe:signals": { payload: SubscribeSignals | undefined; answer: SignalsSubscribed };
  /** Follows all signals no longer, or those of a channel. */
  "unsubscribe:signals": { payload: UnsubscribeSignals | undefined; answer: Unsubscribed };
  /** Reads a page of all signals, or of those of a channel, the newest first. */
  "signals:history": { payload: ReadFollowedSignals | undefined; answer: SignalList };
  /** Follows the sender's portfolio. */
  "subscribe:portfolio": { payload: SubscribePortfolio; answer: NewestPortfolioSubscribed };
  /** Follows the sender's portfolio no longer. */
  "unsubscribe:portfolio": { payload: UnsubscribePortfolio; answer: Unsubscribed };
  /** Follows the prices of symbols. */
  "subscribe:prices": { payload: SubscribePrices; answer: PricesSubscribed };
  /** Follows the prices of symbols no longer. */
  "unsubscribe:prices": { payload: UnsubscribePrices; answer: PricesUnsubscribed };
  /** Follows the sender's notifications. */
  "subscribe:notifications": { payload: SubscribeNotifications | undefined; answer: NotificationsSubscribed };
  /** Follows the sender's notifications no longer. */
  "unsubscribe:notifications": { payload: UnsubscribeNotifications | undefined; answer: Unsubscribed };
  /** Acknowledges a notification, which does not come again. */
  "notification:ack": { payload: AckNotification; answer: NotificationAcked };
  /** Acknowledges all notifications, or those up to a revision. */
  "notification:ack_all": { payload: AckAllNotifications | undefined; answer: AllAcked };
  /** Reads a page of the notifications that the sender has acknowledged, the newest acknowledgement first. */
  "notifications:history": { payload: ReadOwnHistory | undefined; answer: NotificationHistory };
  /** Swaps the credentials of the connection, or prolongs its session. */
  "auth:refresh": { payload: RefreshOffer | undefined; answer: AuthRefreshed };
}

/**
 * What clients send, for `Socket<ServerToClientEvents, ClientToServerEvents>` of socket.io-client: with an
 * acknowledgement or without. socket.io-client cannot type the answers of `emitWithAck` then; `AcknowledgedEvents` can.
 */
export type ClientToServerEvents = {
  [Name in keyof Requests]: (
    ...args:
      | EventArguments<Requests[Name]["payload"]>
      | [...EventArguments<Requests[Name]["payload"]>, answer: (answer: Acknowledgement<Requests[Name]["answer"]>) => void]
  ) => void;
};

/**
 * What clients send with an acknowledgement, so that `emitWithAck` has the type of each answer:
 * `Socket<ServerToClientEvents, AcknowledgedEvents> & UnacknowledgedEmit`.
 */
export type AcknowledgedEvents = {
  [Name in keyof Requests]: (
    ...args: [...EventArguments<Requests[Name]["payload"]>, answer: (answer: Acknowledgement<Requests[Name]["answer"]>) => void]
  ) => void;
};

/** `emit` without an acknowledgement. */
export interface UnacknowledgedEmit {
  emit<Name extends keyof Requests>(event: Name, ...args: EventArguments<Requests[Name]["payload"]>): unknown;
}

/** What the server sends without being asked. */
export interface ServerToClientEvents {
  /** A message was stored. */
  message: (payload: Message, confirm?: () => void) => void;
  /** A message has a new text. */
  message_edited: (payload: Message) => void;
  /** A message has lost its text. */
  message_deleted: (payload: MessageDeleted) => void;
  /** How many have confirmed a message. */
  message_delivered: (payload: MessageDelivered) => void;
  /** Somebody has read on to a message. */
  message_read: (payload: MessageRead) => void;
  /** Somebody has reacted to a message, or has taken that back. */
  message_reaction: (payload: MessageReaction) => void;
  /** A message was pinned to its conversation. */
  message_pinned: (payload: MessagePinned) => void;
  /** A message is pinned no longer. */
  message_unpinned: (payload: MessageUnpinned) => void;
  /** A user has come with the first socket. */
  user_joined: (payload: SystemEvent) => void;
  /** A user has gone on purpose with the last socket. */
  user_left: (payload: SystemEvent) => void;
  /** A user has lost the last socket and did not come back. */
  user_disconnected: (payload: SystemEvent) => void;
  /** Those who are there have changed. */
  presence: (payload: Presence) => void;
  /** Somebody types, or has stopped. */
  typing: (payload: Typing) => void;
  /** A user says something else of itself. */
  status: (payload: UserStatus) => void;
  /** A conversation was made, or has another title or other members. */
  conversation_updated: (payload: ConversationUpdated) => void;
  /** A conversation was deleted with all that was in it. */
  conversation_deleted: (payload: ConversationDeleted) => void;
  /** The server cannot read what was committed in a conversation, and emits nothing of it until it can; then everything follows in order. */
  "conversation:interrupted": (payload: ConversationInterrupted) => void;
  /** A user has said of what in a conversation it wants to be notified. */
  notification_level: (payload: NotificationLevel) => void;
  /** The socket follows its user's trades from here on. */
  "trades:subscribed": (payload: TradesSubscribed) => void;
  /** The socket follows its user's trades no longer. */
  "trades:unsubscribed": (payload: Unsubscribed) => void;
  /** A trade was published or has changed. */
  "trade:update": (payload: TradeUpdate) => void;
  /** A trade that is not executed was withdrawn. */
  "trade:withdrawn": (payload: TradeWithdrawnUpdate) => void;
  /** A trade was executed as it was ordered. */
  "trade:executed": (payload: TradeExecuted) => void;
  /** A trade was not executed, or nobody knows yet. */
  "trade:error": (payload: TradeError) => void;
  /** The socket follows signals from here on. */
  "signals:subscribed": (payload: SignalsSubscribed) => void;
  /** The socket follows these signals no longer. */
  "signals:unsubscribed": (payload: Unsubscribed) => void;
  /** A signal was published. */
  "signal:new": (payload: SignalUpdate) => void;
  /** A signal was withdrawn. */
  "signal:withdrawn": (payload: SignalWithdrawnUpdate) => void;
  /** The socket follows its user's portfolio from here on. */
  "portfolio:subscribed": (payload: NewestPortfolioSubscribed) => void;
  /** The socket follows its user's portfolio no longer. */
  "portfolio:unsubscribed": (payload: Unsubscribed) => void;
  /** The portfolio has changed. */
  "portfolio:update": (payload: PortfolioUpdate) => void;
  /** The socket follows the prices of these symbols from here on. */
  "prices:subscribed": (payload: PricesSubscribed) => void;
  /** The socket follows the prices of these symbols no longer. */
  "prices:unsubscribed": (payload: PricesUnsubscribed) => void;
  /** The price of a symbol has changed; of prices that come within `market.price_interval` the newest is told. */
  "price:update": (payload: Price) => void;
  /** The price of a symbol is no longer known; it takes the place of a `price:update` that waits, and a newer price its place. */
  "price:withdrawn": (payload: PriceWithdrawn) => void;
  /** The socket follows its user's notifications from here on. */
  "notifications:subscribed": (payload: NotificationsSubscribed) => void;
  /** The socket follows its user's notifications no longer. */
  "notifications:unsubscribed": (payload: Unsubscribed) => void;
  /** There is a notification. */
  "notification:new": (payload: NotificationUpdate) => void;
  /** There are several. */
  "notification:batch": (payload: NotificationBatch) => void;
  /** A notification was acknowledged. */
  "notification:acked": (payload: NotificationAcked) => void;
  /** Several notifications were acknowledged together. */
  "notifications:acked": (payload: NotificationsAcked) => void;
  /** How many notifications the user has not acknowledged, after it has changed. */
  "notifications:unread": (payload: NotificationsUnread) => void;
  /** A notification ended before the user acknowledged it. */
  "notification:withdrawn": (payload: NotificationWithdrawn) => void;
  /** Who the client is. */
  session: (payload: Session) => void;
  /** An event has failed that was sent without asking for an acknowledgement. */
  error: (payload: ErrorEvent) => void;
  /** The credentials end soon; `auth:refresh` prolongs them. */
  "auth:expiring": (payload: AuthExpiring) => void;
}

/** What clients send in the namespace `/admin`, by the name of the event: its argument, and the answer that comes with `success: true`. */
export interface AdminRequests {
  /** Closes the connections of a user, or that of a socket, at whichever server they are. */
  "admin:kick": { payload: Kick; answer: Kicked };
  /** Shuts a network out of all servers of the store, and closes its connections. */
  "admin:block": { payload: BlockNetwork; answer: Blocked };
  /** Says how the server that is asked is. */
  "admin:stats": { payload: ReadStatistics | undefined; answer: Statistics };
}

/**
 * What clients send in the namespace `/admin`, for `Socket<AdminServerToClientEvents, AdminClientToServerEvents>` of socket.io-client: with an
 * acknowledgement or without. socket.io-client cannot type the answers of `emitWithAck` then; `AdminAcknowledgedEvents` can.
 */
export type AdminClientToServerEvents = {
  [Name in keyof AdminRequests]: (
    ...args:
      | EventArguments<AdminRequests[Name]["payload"]>
      | [...EventArguments<AdminRequests[Name]["payload"]>, answer: (answer: Acknowledgement<AdminRequests[Name]["answer"]>) => void]
  ) => void;
};

/**
 * What clients send in the namespace `/admin` with an acknowledgement, so that `emitWithAck` has the type of each answer:
 * `Socket<AdminServerToClientEvents, AdminAcknowledgedEvents> & AdminUnacknowledgedEmit`.
 */
export type AdminAcknowledgedEvents = {
  [Name in keyof AdminRequests]: (
    ...args: [...EventArguments<AdminRequests[Name]["payload"]>, answer: (answer: Acknowledgement<AdminRequests[Name]["answer"]>) => void]
  ) => void;
};

/** `emit` without an acknowledgement. */
export interface AdminUnacknowledgedEmit {
  emit<Name extends keyof AdminRequests>(event: Name, ...args: EventArguments<AdminRequests[Name]["payload"]>): unknown;
}

/** What the server sends in the namespace `/admin` without being asked. */
export interface AdminServerToClientEvents {
  /** What a server has refused since it last said so, once a second at most. */
  "admin:refusals": (payload: Refusals) => void;
  /** Something that a server needs works no longer, or works again. */
  "admin:alert": (payload: Alert) => void;
  /** A server has joined the cluster, has left it, or is about to stop. */
  "admin:node": (payload: NodeChange) => void;
}
