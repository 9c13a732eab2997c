import { DISCONNECTED, type SocketManager } from "../../packages/client/src/index.ts";
import type { Message } from "../types.ts";
import { asFailure } from "../words/failure.ts";
import type { Inbox } from "./inbox.ts";

/** Delay after a request, in milliseconds. A server answers 20 requests a second of a user. */
const DELAY = 150;
/** Delay before the next attempt if nothing can be requested now, in milliseconds. */
const RETRY_DELAY = 2_000;

/** What the list of conversations needs to know of its place on the screen. */
export interface ListView {
  /** Whether the page is hidden. */
  isHidden(): boolean;
  /** The ids of the conversations in view. */
  inView(): readonly string[];
  /** Whether the user is looking for a conversation, so that nothing may move. */
  isInUse(): boolean;
}

/**
 * The newest messages of the conversations that are not joined, which the list of the server does
 * not have.
 */
export class Unjoined {
  readonly #newest = new Map<string, Message>();
  #times = new Map<string, string>();
  /** Conversations whose newest message was removed, or cannot be read. */
  readonly #missing = new Set<string>();
  readonly #connection: SocketManager;
  readonly #inbox: Inbox;
  readonly #view: ListView;
  readonly #changed: () => void;
  #isLoading = false;
  #isSorted = true;

  constructor(connection: SocketManager, inbox: Inbox, view: ListView, changed: () => void) {
    this.#connection = connection;
    this.#inbox = inbox;
    this.#view = view;
    this.#changed = changed;
    // Joined conversations receive these by themselves.
    connection.on("message_read", ({ conversationId, userId, seq }) => {
      const known = inbox.known(conversationId);
      if (known === undefined || userId !== connection.session?.userId || seq < (known.lastSeq ?? Infinity)) return;
      known.unread = 0;
      changed();
    });
    connection.on("notification_level", ({ conversationId, level }) => {
      const known = inbox.known(conversationId);
      if (known !== undefined) known.notificationLevel = level;
      changed();
    });
  }

  newestOf(id: string): Message | undefined {
    return this.#newest.get(id);
  }

  /** Returns the time by which a conversation is ordered. Until a pause, new messages move nothing. */
  timeOf(id: string): string | undefined {
    return this.#times.get(id);
  }

  /** Loads the newest messages, of conversations in view first, until the connection is lost. */
  async load(): Promise<void> {
    if (this.#isLoading) return;
    this.#isLoading = true;
    while (this.#connection.isReady) {
      const id = this.#next();
      if (id === undefined && this.#isSorted) break;
      const delay = id === undefined || this.#view.isHidden() ? RETRY_DELAY : await this.#read(id);
      this.#sort();
      this.#changed();
      await new Promise((done) => setTimeout(done, delay));
    }
    this.#isLoading = false;
  }

  #next(): string | undefined {
    const isUnknown = (id: string) => !this.#missing.has(id) && !this.#inbox.isJoined(id) && (this.#inbox.known(id)?.lastSeq ?? 0) > (this.#newest.get(id)?.seq ?? 0);
    return this.#view.inView().find(isUnknown) ?? this.#inbox.items.find(({ id }) => isUnknown(id))?.id;
  }

  /** Reads the newest message of a conversation. Returns the delay before the next request. */
  async #read(id: string): Promise<number> {
    try {
      const { messages } = await this.#connection.request("message_history", { conversationId: id, limit: 1 });
      const [message] = messages;
      if (message === undefined) this.#missing.add(id);
      else this.#newest.set(id, message);
      this.#isSorted = false;
      return DELAY;
    } catch (error) {
      const { code, retryAfter } = asFailure(error);
      if (code !== DISCONNECTED && retryAfter === undefined) this.#missing.add(id);
      return retryAfter ?? RETRY_DELAY;
    }
  }

  #sort(): void {
    if (this.#isSorted || this.#view.isInUse()) return;
    this.#isSorted = true;
    this.#times = new Map([...this.#newest].map(([id, { createdAt }]) => [id, createdAt]));
  }
}
