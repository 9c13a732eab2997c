/** The shapes on the wire: what the server sends, what it takes, and what it answers. */

export interface Metadata {
  imageUrl?: string;
  timestamp?: string;
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

export interface ConversationInfo {
  id: string;
  title: string | null;
  ownerId: string | null;
  memberIds: string[];
  createdAt: string;
  updatedAt: string;
}

/** What went wrong, as the server says it in a refused request. */
export interface Failure {
  code: string;
  message: string;
  retryAfter?: number;
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
  clientMessageId: string;
  metadata: Metadata;
}

/** Requests by event name: the payload, and the answer that comes with `success: true`. */
export interface Requests {
  message: { payload: SendMessage; answer: { message: Message } };
  join_conversation: {
    payload: { conversationId: string; lastSeq?: number };
    answer: Page & { conversation: ConversationInfo; users: PresentUser[] };
  };
  message_history: {
    payload: { conversationId: string; beforeSeq?: number; afterSeq?: number; limit?: number };
    answer: Page;
  };
}

export type Ack<Answer> = ({ success: true } & Answer) | { success: false; error: Failure };

export interface ServerEvents {
  session: (session: Session) => void;
  /** With `confirm` the sender asked for a confirmation of the delivery. */
  message: (message: Message, confirm?: () => void) => void;
  message_edited: (message: Message) => void;
  message_deleted: (deleted: MessageDeleted) => void;
  user_joined: (event: SystemEvent) => void;
  user_left: (event: SystemEvent) => void;
  user_disconnected: (event: SystemEvent) => void;
  typing: (typing: Typing) => void;
  presence: (presence: Presence) => void;
  error: (error: ErrorEvent) => void;
}
