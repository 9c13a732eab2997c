import type { ConversationOptions, Conversation as Feed, SocketManager } from "../../packages/client/src/index.ts";
import type { Message, UserStatus } from "../types.ts";

/** What the outside does for a conversation. */
export interface Surroundings {
  /** Something that is shown has changed. */
  changed(): void;
  /** Worth reading out: somebody else's message, a coming or going. */
  announce(text: string): void;
  /** Something failed that has no place of its own. */
  notice(text: string): void;
  /** Somebody else has written, just now. */
  arrived(message: Message): void;
  /** Somebody is called so. */
  met(userId: string, name: string): void;
  /** Somebody says this of itself. */
  said(status: UserStatus): void;
}

/** What a conversation needs of the connection. */
export interface Connection extends Pick<SocketManager, "on" | "queue" | "session" | "isReady" | "tell" | "watch" | "request" | "send"> {
  conversation(id: string, options: ConversationOptions): Feed;
}
