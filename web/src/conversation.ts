import { type ConversationOptions, DISCONNECTED, type Conversation as Feed, RequestError, type SocketManager } from "../packages/client/src/index.ts";
import { Activity, type Happening } from "./activity.ts";
import { type Draft, draftsOf } from "./draft.ts";
import { explain } from "./failure.ts";
import { Timeline } from "./timeline.ts";
import type { Failure, Message, PresentUser, SystemEvent } from "./types.ts";
import { OwnTyping, Typists } from "./typing.ts";

const HISTORY_PAGE = 50;
/** More loaded messages than this are cut down to two thirds; fewer while the end is in view. */
const MAX_LOADED = 3_000;
const MAX_LOADED_AT_END = 600;

export type Stage = "entering" | "entered" | "absent";

/** What the outside does for a conversation. */
export interface Surroundings {
  /** Something that is shown has changed. */
  changed(): void;
  /** Worth reading out: somebody else's message, a coming or going. */
  announce(text: string): void;
  /** Something failed that has no place of its own. */
  notice(text: string): void;
}

/** What a conversation needs of the connection. */
export interface Connection extends Pick<SocketManager, "on" | "queue" | "session" | "tell" | "watch"> {
  conversation(id: string, options: ConversationOptions): Feed;
}

/** One conversation as this tab shows it; the client package keeps it complete. */
export class Conversation {
  readonly id: string;
  readonly timeline = new Timeline();
  readonly activity = new Activity();
  readonly typists = new Typists();
  /** Those who came first; in a large conversation not all. */
  users: readonly PresentUser[] = [];
  /** How many are here. */
  present = 0;
  stage: Stage = "entering";
  hasOlder = false;
  isLoadingOlder = false;
  /** The first message from others that arrived out of sight; it stays marked after it was seen. */
  firstUnread: number | undefined;
  readonly #connection: Connection;
  readonly #feed: Feed;
  readonly #surroundings: Surroundings;
  readonly #ownTyping = new OwnTyping();
  #isAtEnd = true;
  #isVisible = true;
  #seenSeq = 0;

  constructor(id: string, connection: Connection, surroundings: Surroundings) {
    this.id = id;
    this.#connection = connection;
    this.#surroundings = surroundings;
    this.#feed = connection.conversation(id, { page: HISTORY_PAGE });
    this.#follow();
    this.#listen();
  }

  /** The own messages on their way, in the order of writing. */
  get drafts(): Draft[] {
    return draftsOf(this.#connection.queue.entries, this.id, this.timeline.messages, this.ownId);
  }

  get ownId(): string {
    return this.#connection.session?.userId ?? "";
  }

  /** How many messages from others arrived out of sight. */
  get unread(): number {
    return this.timeline.messages.filter(({ seq, userId }) => seq > this.#seenSeq && userId !== this.ownId).length;
  }

  /** Says whether the end of the conversation is scrolled to, and whether the page is looked at. */
  watch(isAtEnd: boolean, isVisible: boolean): void {
    this.#isAtEnd = isAtEnd;
    this.#isVisible = isVisible;
    const before = this.#seenSeq;
    this.#see();
    if (this.#seenSeq !== before) this.#surroundings.changed();
  }

  /** Loads the page before the oldest message. */
  async loadOlder(): Promise<void> {
    const beforeSeq = this.timeline.first?.seq;
    if (beforeSeq === undefined || !this.hasOlder || this.isLoadingOlder || this.stage !== "entered") return;
    this.isLoadingOlder = true;
    this.#surroundings.changed();
    try {
      const page = await this.#feed.history({ beforeSeq, limit: HISTORY_PAGE });
      // The messages may have been cut down meanwhile: a page that does not adjoin would leave a hole.
      if (this.timeline.first?.seq === beforeSeq) {
        this.timeline.merge(page.messages);
        this.hasOlder = page.hasMore;
      }
    } catch (error) {
      const failure = asFailure(error);
      if (failure.code !== DISCONNECTED) this.#surroundings.notice(`Earlier messages could not be loaded. ${explain(failure)}`);
    } finally {
      this.isLoadingOlder = false;
      this.#surroundings.changed();
    }
  }

  send(content: string): void {
    this.handleInputStop();
    this.firstUnread = undefined;
    try {
      this.#feed.send(content, { metadata: { timestamp: new Date().toISOString() } });
    } catch (error) {
      this.#surroundings.notice(`Not sent. ${explain(asFailure(error))}`);
    }
  }

  /** Sends a failed message once more, as the same message. */
  sendAgain(clientMessageId: string): void {
    this.#connection.queue.again(clientMessageId);
  }

  discard(clientMessageId: string): void {
    this.#connection.queue.discard(clientMessageId);
  }

  handleInput(text: string): void {
    this.#tellTyping(this.#ownTyping.handleInput(text, Date.now()));
  }

  handleInputStop(): void {
    this.#tellTyping(this.#ownTyping.handleStop());
  }

  #follow(): void {
    const feed = this.#feed;
    const { changed, notice } = this.#surroundings;
    feed.on("stage", (stage) => {
      // What is shown stays while there is no connection.
      if (stage !== "waiting") this.stage = stage;
      changed();
    });
    feed.on("users", (users) => {
      // If there are more, the next list says how many.
      this.#setPresent(users, users.length);
      this.typists.clear();
    });
    feed.on("reset", (newest, hasOlder) => {
      this.timeline.clear();
      this.activity.clear();
      this.firstUnread = undefined;
      this.timeline.merge(newest);
      this.#seenSeq = this.timeline.newest?.seq ?? 0;
      this.hasOlder = hasOlder;
      changed();
    });
    feed.on("messages", (messages) => this.#arrive(messages));
    feed.on("failed", (failure) => notice(`The conversation could not be opened. ${explain(failure)}`));
    this.#connection.watch("entry", changed);
  }

  /** Takes messages in at the end. */
  #arrive(messages: readonly Message[]): void {
    const added = this.timeline.merge(messages).filter(({ userId }) => userId !== this.ownId);
    for (const { userId } of messages) this.typists.remove(userId);
    this.#see();
    const unread = added.find(({ seq }) => seq > this.#seenSeq);
    if (unread !== undefined && (this.firstUnread ?? 0) <= this.#seenSeq) this.firstUnread = unread.seq;
    const limit = this.#isAtEnd ? MAX_LOADED_AT_END : MAX_LOADED;
    if (this.timeline.messages.length > limit && this.timeline.keepNewest((limit * 2) / 3)) this.hasOlder = true;
    // What was missed is not read out, what comes now is.
    if (this.stage === "entered") {
      for (const { userName, content } of added) this.#surroundings.announce(`${userName}: ${content}`);
    }
    this.#surroundings.changed();
  }

  #see(): void {
    if (this.#isAtEnd && this.#isVisible) this.#seenSeq = this.timeline.newest?.seq ?? 0;
  }

  #listen(): void {
    const connection = this.#connection;
    const isOurs = ({ conversationId }: { conversationId: string }) => conversationId === this.id;
    connection.on("message_edited", (message) => {
      // A newer version of what is loaded; of what is not, history has it.
      if (this.timeline.messages.some(({ id }) => id === message.id)) this.timeline.merge([message]);
      this.#surroundings.changed();
    });
    connection.on("message_deleted", (deleted) => {
      this.timeline.markDeleted(deleted);
      this.#surroundings.changed();
    });
    connection.on("presence", (presence) => {
      if (!isOurs(presence)) return;
      this.#setPresent(presence.users, presence.count);
      this.#surroundings.changed();
    });
    connection.on("typing", (typing) => {
      if (!isOurs(typing) || typing.userId === this.ownId) return;
      this.typists.handle(typing, Date.now());
      this.#surroundings.changed();
    });
    const happened = (happening: Happening) => (event: SystemEvent) => {
      if (isOurs(event)) this.#note(happening, event);
    };
    connection.on("user_joined", happened("joined"));
    connection.on("user_left", happened("left"));
    connection.on("user_disconnected", happened("disconnected"));
  }

  #setPresent(users: readonly PresentUser[], count: number): void {
    this.users = users;
    this.present = count;
  }

  #note(happening: Happening, event: SystemEvent): void {
    if (happening !== "joined") this.typists.remove(event.userId);
    if (event.userId !== this.ownId) {
      const line = this.activity.add(happening, event, this.timeline.newest?.seq ?? 0);
      this.#surroundings.announce(line.text);
    }
    this.#surroundings.changed();
  }

  #tellTyping(isTyping: boolean | undefined): void {
    if (isTyping !== undefined && this.stage === "entered") this.#connection.tell("typing", { conversationId: this.id, isTyping });
  }
}

/** Requests reject with a failure; anything else is a mistake of ours and is not to be hidden. */
function asFailure(error: unknown): Failure {
  if (error instanceof RequestError) return error;
  throw error;
}
