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

/** What a token of an invitation is for. */
export interface InvitePreview {
  conversation: { id: string; title: string | null; memberCount: number };
  isMember: boolean;
  expiresAt: string;
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
  /** `expiresIn` in seconds. */
  create_invite: { payload: { conversationId: string; expiresIn?: number; uses?: number }; answer: { token: string; expiresAt: string } };
  preview_invite: { payload: { token: string }; answer: InvitePreview };
  join_invite: { payload: { token: string }; answer: { conversation: ConversationInfo } };
  revoke_invites: { payload: InConversation; answer: { revoked: number } };
  conversations: {
    payload: { cursor?: string; limit?: number };
    answer: { conversations: ListedConversation[]; cursor?: string; hasMore: boolean };
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
  error: (error: ErrorEvent) => void;
  "auth:expiring": (warning: { expiresAt: string }) => void;
}
