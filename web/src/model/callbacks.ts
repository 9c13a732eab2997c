import type { ConversationOptions, Conversation as Feed, SocketManager } from "../../packages/client/src/index.ts";
import type { Message, UserStatus } from "../types.ts";

/** The callbacks of a conversation. */
export interface ConversationCallbacks {
  /** Called after each change of the shown state. */
  changed(): void;
  /** Called after text was added to a message, up to 25 times a second for each. */
  grown(): void;
  /** Announces a text to screen readers: a message of another user, a join or departure. */
  announce(text: string): void;
  /** Shows a notice. */
  notice(text: string): void;
  /** Called for a live message of another user. */
  arrived(message: Message): void;
  /** Called with the name of each user that appears. */
  userSeen(userId: string, name: string): void;
  /** Called with the status of a user. */
  statusReceived(status: UserStatus): void;
}

/** The part of the connection that a conversation uses. */
export interface Connection extends Pick<SocketManager, "on" | "queue" | "session" | "isReady" | "emit" | "watch" | "request" | "send"> {
  conversation(id: string, options: ConversationOptions): Feed;
}
