/**
 * The catalogue of the chat: what clients send, what they are answered, and what the server sends. Payloads are
 * compared with the server's schemas by `test/catalogue.test.ts`.
 */
import type { Failure } from "./failure.ts";

export interface Metadata {
  imageUrl?: string;
  timestamp?: string;
  [name: string]: unknown;
}

export interface Message {
  id: string;
  conversationId: string;
  /** Starts at 1, increases by one, without a gap. */
  seq: number;
  userId: string;
  userName: string;
  content: string;
  type: "user" | "ai";
  metadata?: Metadata | null;
  createdAt: string;
  version: number;
  editedAt?: string | null;
  deletedAt?: string | null;
}

export interface Session {
  userId: string;
  name: string;
  roles: string[];
  guest: boolean;
  expiresAt?: string;
}

export interface PresentUser {
  userId: string;
  name: string;
  /** Left out for users whom somebody vouches for. */
  guest?: true;
  connections: number;
  since: string;
}

export interface Presence {
  conversationId: string;
  users: PresentUser[];
  count: number;
}

export interface Typing {
  conversationId: string;
  userId: string;
  name: string;
  isTyping: boolean;
  timestamp: string;
}

export interface SystemEvent {
  type: "system";
  conversationId: string;
  userId: string;
  name: string;
  timestamp: string;
}

export interface MessageDeleted {
  conversationId: string;
  messageId: string;
  seq: number;
  deletedAt: string;
  deletedBy: string;
}

export interface MessageRead {
  conversationId: string;
  userId: string;
  /** This user has read up to here. */
  seq: number;
}

export interface ConversationDeleted {
  conversationId: string;
  deletedAt: string;
  deletedBy: string;
}

export interface MessageDelivered {
  conversationId: string;
  messageId: string;
  /** How many sockets were asked to confirm. */
  expected: number;
  delivered: number;
  timedOut: boolean;
}

export interface ConversationInfo {
  id: string;
  title: string | null;
  ownerId: string | null;
  memberIds: string[];
  createdAt: string;
  updatedAt: string;
}

export interface ListedConversation extends ConversationInfo {
  lastSeq: number;
  readSeq: number;
  unread: number;
  lastMessage?: Message;
}

/** The event `error`: a failure of something that had asked for no answer. */
export interface ErrorEvent extends Failure {
  type: string;
  event?: string;
  status: number;
}

export interface Page {
  messages: Message[];
  hasMore: boolean;
}

export interface SendMessage {
  conversationId: string;
  content: string;
  type?: "user" | "ai";
  metadata?: Metadata;
  clientMessageId?: string;
  confirmDelivery?: boolean;
}

interface InConversation {
  conversationId: string;
}

export interface Trade {
  tradeId: string;
  userId: string;
  symbol: string;
  status: "pending" | "executed" | "failed" | "canceled";
  /** `null` unless it is executed. */
  executedPrice: number | null;
  quantity: number;
  timestamp: string;
}

export interface Signal {
  signalId: string;
  channelId?: string;
  providerId: string;
  providerName: string;
  symbol: string;
  action: "buy" | "sell" | "hold";
  entryPrice: number | null;
  stopLoss: number | null;
  takeProfit: number | null;
  /** 0 to 100. */
  confidence: number;
  timestamp: string;
}

export interface Portfolio {
  userId: string;
  totalValue: number;
  cash: number;
  positions: { symbol: string; quantity: number; avgPrice: number }[];
  timestamp: string;
}

export interface Notification {
  notificationId: string;
  type: "info" | "warning" | "error" | "success";
  priority: "low" | "normal" | "high" | "urgent";
  title: string;
  message: string;
  /** An address, or a path of the site. */
  actionUrl: string | null;
  timestamp: string;
  expiresAt: string;
}

/** With its place: larger than that of the snapshot and of everything before. */
export type Update<Body> = Body & { revision: number };

export interface Subscribed<Snapshot> {
  room: string;
  snapshot: Update<Snapshot>;
}

export type SubscribedTrades = Subscribed<{ trades: Trade[]; hasMore: boolean }>;
export type SubscribedSignals = Subscribed<{ signals: Signal[]; hasMore: boolean }>;
export type SubscribedPortfolio = Subscribed<{ portfolio: Portfolio | null }>;

export type SubscribedNotifications = Subscribed<{ notifications: Notification[]; hasMore: boolean }>;

export interface NotificationAcked {
  notificationId: string;
  timestamp: string;
}

export interface Unsubscribed {
  room: string;
}

export interface TradeExecuted {
  tradeId: string;
  symbol: string;
  side: "buy" | "sell";
  quantity: number;
  executedPrice: number;
  timestamp: string;
}

export interface TradeError {
  code: string;
  message: string;
  symbol: string;
  /** Left out if no trade came about. */
  tradeId?: string;
}

/** Requests by event name: the payload, and the answer that comes with `success: true`. */
export interface Requests {
  message: { payload: SendMessage; answer: { message: Message } };
  edit_message: { payload: { messageId: string; content: string; version?: number }; answer: { message: Message } };
  delete_message: { payload: { messageId: string }; answer: { message: Message } };
  join_conversation: {
    payload: { conversationId: string; lastSeq?: number };
    answer: Page & { conversation: ConversationInfo; users: PresentUser[] };
  };
  leave_conversation: { payload: InConversation; answer: object };
  typing: { payload: { conversationId: string; isTyping: boolean }; answer: object };
  message_history: {
    payload: { conversationId: string; beforeSeq?: number; afterSeq?: number; limit?: number };
    answer: Page;
  };
  message_search: {
    payload: { query: string; conversationId?: string; beforeId?: string; limit?: number };
    answer: Page;
  };
  mark_read: { payload: { conversationId: string; seq: number }; answer: { seq: number; unread: number } };
  presence: { payload: InConversation; answer: Presence };
  create_conversation: { payload: { title?: string; memberIds: string[] }; answer: { conversation: ConversationInfo } };
  rename_conversation: { payload: { conversationId: string; title: string }; answer: { conversation: ConversationInfo } };
  delete_conversation: { payload: InConversation; answer: ConversationDeleted };
  add_member: { payload: { conversationId: string; userId: string }; answer: { conversation: ConversationInfo } };
  remove_member: { payload: { conversationId: string; userId: string }; answer: { conversation: ConversationInfo } };
  conversations: {
    payload: { cursor?: string; limit?: number };
    answer: { conversations: ListedConversation[]; cursor?: string; hasMore: boolean };
  };
  "subscribe:trades": { payload: { userId: string }; answer: SubscribedTrades };
  "unsubscribe:trades": { payload: { userId: string }; answer: Unsubscribed };
  "subscribe:signals": { payload: { channelId?: string }; answer: SubscribedSignals };
  "unsubscribe:signals": { payload: { channelId?: string }; answer: Unsubscribed };
  "subscribe:portfolio": { payload: { userId: string }; answer: SubscribedPortfolio };
  "unsubscribe:portfolio": { payload: { userId: string }; answer: Unsubscribed };
  "subscribe:notifications": { payload: { [name: string]: unknown }; answer: SubscribedNotifications };
  "unsubscribe:notifications": { payload: { [name: string]: unknown }; answer: Unsubscribed };
  "notification:ack": { payload: { notificationId: string }; answer: NotificationAcked };
  "execute:trade": {
    payload: { symbol: string; side: "buy" | "sell"; quantity: number };
    answer: TradeExecuted;
  };
  "auth:refresh": { payload: { token?: string; sessionId?: string }; answer: { expiresAt?: string } };
}

/** What the server sends without being asked. */
export interface ServerEvents {
  session: (session: Session) => void;
  /** With `confirm` the sender asked for a confirmation of the delivery. */
  message: (message: Message, confirm?: () => void) => void;
  message_edited: (message: Message) => void;
  message_deleted: (deleted: MessageDeleted) => void;
  message_delivered: (report: MessageDelivered) => void;
  message_read: (read: MessageRead) => void;
  user_joined: (event: SystemEvent) => void;
  user_left: (event: SystemEvent) => void;
  user_disconnected: (event: SystemEvent) => void;
  typing: (typing: Typing) => void;
  presence: (presence: Presence) => void;
  conversation_updated: (update: { conversation: ConversationInfo; timestamp: string }) => void;
  conversation_deleted: (deleted: ConversationDeleted) => void;
  "trades:subscribed": (subscribed: SubscribedTrades) => void;
  "trades:unsubscribed": (unsubscribed: Unsubscribed) => void;
  "signals:subscribed": (subscribed: SubscribedSignals) => void;
  "signals:unsubscribed": (unsubscribed: Unsubscribed) => void;
  "portfolio:subscribed": (subscribed: SubscribedPortfolio) => void;
  "portfolio:unsubscribed": (unsubscribed: Unsubscribed) => void;
  "notifications:subscribed": (subscribed: SubscribedNotifications) => void;
  "notifications:unsubscribed": (unsubscribed: Unsubscribed) => void;
  "notification:new": (notification: Update<Notification>) => void;
  "notification:batch": (batch: { notifications: Update<Notification>[] }) => void;
  "notification:acked": (acked: NotificationAcked) => void;
  "trade:update": (trade: Update<Trade>) => void;
  "signal:new": (signal: Update<Signal>) => void;
  "portfolio:update": (portfolio: Update<Portfolio>) => void;
  "trade:executed": (executed: TradeExecuted) => void;
  "trade:error": (error: TradeError) => void;
  error: (error: ErrorEvent) => void;
  "auth:expiring": (warning: { expiresAt: string }) => void;
}
