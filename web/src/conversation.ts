import { Activity, type Happening } from "./activity.ts";
import type { Connection } from "./connection.ts";
import { DISCONNECTED, RequestError, explain, isUnconfirmed } from "./failure.ts";
import { randomId } from "./identity.ts";
import { type Draft, Outbox } from "./outbox.ts";
import { Timeline } from "./timeline.ts";
import type { Failure, Message, PresentUser, SystemEvent } from "./types.ts";
import { OwnTyping, Typists } from "./typing.ts";

/** The largest page the server gives. */
const CATCH_UP_PAGE = 200;
/** What was missed beyond this is read by scrolling up instead. */
const CATCH_UP_PAGES = 10;
const HISTORY_PAGE = 50;
/** More loaded messages than this are cut down to two thirds; fewer while the end is in view. */
const MAX_LOADED = 3_000;
const MAX_LOADED_AT_END = 600;
/** A hole in `seq` usually closes by itself: the missing message is just behind. */
const HOLE_PATIENCE = 1_000;
const ENTER_AGAIN = 3_000;
/** The pauses before a message that was not confirmed is sent again; after the last one it has failed. */
const SEND_AGAIN = [1_000, 2_000, 4_000, 8_000];

export type Stage = "entering" | "entered" | "absent";

/** What the outside does for a conversation. */
export interface Surroundings {
  /** Something that is shown has changed. */
  changed(): void;
  /** Worth reading out: somebody else's message, a coming or going. */
  announce(text: string): void;
  /** Something failed that has no place of its own. */
  notice(text: string): void;
  /** Keeps the messages on their way beyond a reload. */
  keep(drafts: readonly Draft[]): void;
}

/** One conversation as this tab sees it, kept complete across lost connections. */
export class Conversation {
  readonly id: string;
  readonly timeline = new Timeline();
  readonly activity = new Activity();
  readonly typists = new Typists();
  readonly outbox: Outbox;
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
  readonly #surroundings: Surroundings;
  readonly #ownTyping = new OwnTyping();
  #isAtEnd = true;
  #isVisible = true;
  #seenSeq = 0;
  #attempt = 0;
  #holeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(id: string, connection: Connection, drafts: readonly Draft[], surroundings: Surroundings) {
    this.id = id;
    this.#connection = connection;
    this.#surroundings = surroundings;
    this.outbox = new Outbox(drafts);
    this.#listen();
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

  /** Enters after every connect: the first time with the newest page, later with what was missed. */
  async enter(): Promise<void> {
    this.#attempt += 1;
    this.stage = "entering";
    this.#surroundings.changed();
    try {
      await this.#join();
      this.stage = "entered";
      this.#surroundings.changed();
      void this.#flush();
    } catch (error) {
      this.#handleEnterFailure(asFailure(error));
    }
  }

  /** Loads the page before the oldest message. */
  async loadOlder(): Promise<void> {
    const beforeSeq = this.timeline.first?.seq;
    if (beforeSeq === undefined || !this.hasOlder || this.isLoadingOlder || this.stage !== "entered") return;
    this.isLoadingOlder = true;
    this.#surroundings.changed();
    try {
      const page = await this.#history({ beforeSeq, limit: HISTORY_PAGE });
      // The messages may have been cut down meanwhile: a page that does not adjoin would leave a hole.
      if (this.timeline.first?.seq === beforeSeq) {
        this.#merge(page.messages);
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
    this.outbox.add({ clientMessageId: randomId(), content, writtenAt: new Date().toISOString() });
    this.#outboxChanged();
    void this.#flush();
  }

  /** Sends a failed message once more, as the same message. */
  sendAgain(clientMessageId: string): void {
    this.outbox.mark(clientMessageId, { state: "waiting" });
    this.#outboxChanged();
    void this.#flush();
  }

  discard(clientMessageId: string): void {
    this.outbox.remove(clientMessageId);
    this.#outboxChanged();
  }

  handleInput(text: string): void {
    this.#tellTyping(this.#ownTyping.handleInput(text, Date.now()));
  }

  handleInputStop(): void {
    this.#tellTyping(this.#ownTyping.handleStop());
  }

  async #join(): Promise<void> {
    const conversationId = this.id;
    const known = this.timeline.lastContiguous;
    // One message more than needed: it proves that this is still the same history.
    const lastSeq = known === undefined ? {} : { lastSeq: known.seq - 1 };
    const { users, messages, hasMore } = await this.#connection.request("join_conversation", { conversationId, ...lastSeq });
    // If there are more, the next list says how many.
    this.#setPresent(users, users.length);
    this.typists.clear();
    if (known !== undefined && messages[0]?.id === known.id) {
      this.#arrive(messages);
      if (hasMore) await this.#catchUp();
    } else {
      await this.#loadNewest();
    }
  }

  /** Reads on from the last message before the first hole until nothing is missing. */
  async #catchUp(): Promise<void> {
    for (let page = 0; page < CATCH_UP_PAGES; page += 1) {
      const afterSeq = this.timeline.lastContiguous?.seq ?? 0;
      const { messages, hasMore } = await this.#history({ afterSeq, limit: CATCH_UP_PAGE });
      this.#arrive(messages);
      if (!hasMore) return;
    }
    await this.#loadNewest();
  }

  async #loadNewest(): Promise<void> {
    // Cleared first: what arrives live while the page is on its way belongs behind it.
    this.timeline.clear();
    this.activity.clear();
    this.firstUnread = undefined;
    this.hasOlder = false;
    const { messages, hasMore } = await this.#history({ limit: HISTORY_PAGE });
    this.#merge(messages);
    this.#seenSeq = this.timeline.newest?.seq ?? 0;
    this.hasOlder = hasMore;
  }

  #history(bounds: { beforeSeq?: number; afterSeq?: number; limit: number }) {
    return this.#connection.request("message_history", { conversationId: this.id, ...bounds });
  }

  #merge(messages: readonly Message[]): Message[] {
    const before = this.outbox.drafts.length;
    this.outbox.settle(messages, this.ownId);
    const added = this.timeline.merge(messages);
    if (this.outbox.drafts.length !== before) this.#surroundings.keep(this.outbox.drafts);
    return added;
  }

  /** Takes messages in at the end, live or caught up on, and returns those from others. */
  #arrive(messages: readonly Message[]): Message[] {
    const added = this.#merge(messages).filter(({ userId }) => userId !== this.ownId);
    this.#see();
    const unread = added.find(({ seq }) => seq > this.#seenSeq);
    if (unread !== undefined && (this.firstUnread ?? 0) <= this.#seenSeq) this.firstUnread = unread.seq;
    const limit = this.#isAtEnd ? MAX_LOADED_AT_END : MAX_LOADED;
    if (this.timeline.messages.length > limit && this.timeline.keepNewest((limit * 2) / 3)) this.hasOlder = true;
    return added;
  }

  #see(): void {
    if (this.#isAtEnd && this.#isVisible) this.#seenSeq = this.timeline.newest?.seq ?? 0;
  }

  #listen(): void {
    const connection = this.#connection;
    const isOurs = ({ conversationId }: { conversationId: string }) => conversationId === this.id;
    connection.on("message", (message, confirm) => {
      confirm?.();
      if (isOurs(message)) this.#receive(message);
    });
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

  #receive(message: Message): void {
    this.typists.remove(message.userId);
    for (const { userName, content } of this.#arrive([message])) this.#surroundings.announce(`${userName}: ${content}`);
    this.#watchHole();
    this.#surroundings.changed();
  }

  #note(happening: Happening, event: SystemEvent): void {
    if (happening !== "joined") this.typists.remove(event.userId);
    if (event.userId !== this.ownId) {
      const line = this.activity.add(happening, event, this.timeline.newest?.seq ?? 0);
      this.#surroundings.announce(line.text);
    }
    this.#surroundings.changed();
  }

  #watchHole(): void {
    if (!this.timeline.hasHole || this.#holeTimer !== undefined) return;
    this.#holeTimer = setTimeout(() => {
      this.#holeTimer = undefined;
      if (!this.timeline.hasHole || this.stage !== "entered") return;
      // Should it fail, the next message or the next connection comes back to the hole.
      this.#catchUp().then(
        () => this.#surroundings.changed(),
        () => {},
      );
    }, HOLE_PATIENCE);
  }

  async #flush(): Promise<void> {
    for (let draft = this.#sendable(); draft !== undefined; draft = this.#sendable()) await this.#deliver(draft, SEND_AGAIN);
  }

  #sendable(): Draft | undefined {
    return this.#canSend ? this.outbox.next : undefined;
  }

  get #canSend(): boolean {
    return this.stage === "entered" && this.#connection.isOnline;
  }

  async #deliver(draft: Draft, pauses: readonly number[]): Promise<void> {
    const { clientMessageId, content, writtenAt } = draft;
    this.outbox.mark(clientMessageId, { state: "sending" });
    this.#outboxChanged();
    try {
      const { message } = await this.#connection.request("message", {
        conversationId: this.id,
        content,
        clientMessageId,
        metadata: { timestamp: writtenAt },
      });
      this.outbox.remove(clientMessageId);
      this.#arrive([message]);
      this.#watchHole();
    } catch (error) {
      const failure = asFailure(error);
      const [pause, ...later] = pauses;
      if (isUnconfirmed(failure) && pause !== undefined) {
        this.outbox.mark(clientMessageId, { state: "unconfirmed" });
        this.#outboxChanged();
        await elapsed(Math.max(pause, failure.retryAfter ?? 0));
        // Meanwhile it may have come as a message, which settles it.
        if (!this.outbox.has(clientMessageId)) return;
        if (this.#canSend) return this.#deliver(draft, later);
        this.outbox.mark(clientMessageId, { state: "waiting" });
      } else if (failure.code === DISCONNECTED) {
        this.outbox.mark(clientMessageId, { state: "waiting" });
      } else {
        const outcome = isUnconfirmed(failure) ? "Not confirmed, it may have arrived." : "Not sent.";
        this.outbox.mark(clientMessageId, { state: "failed", reason: `${outcome} ${explain(failure)}` });
      }
    }
    this.#outboxChanged();
  }

  #outboxChanged(): void {
    this.#surroundings.keep(this.outbox.drafts);
    this.#surroundings.changed();
  }

  #tellTyping(isTyping: boolean | undefined): void {
    if (isTyping !== undefined && this.stage === "entered") this.#connection.sendTyping(this.id, isTyping);
  }

  #handleEnterFailure(failure: Failure): void {
    if (failure.code === DISCONNECTED) return;
    if (failure.code === "NOT_FOUND" || failure.code === "FORBIDDEN") {
      this.stage = "absent";
      this.#surroundings.changed();
      return;
    }
    this.#surroundings.notice(`The conversation could not be opened. ${explain(failure)}`);
    const attempt = this.#attempt;
    setTimeout(() => {
      if (attempt === this.#attempt && this.#connection.isOnline) void this.enter();
    }, Math.max(ENTER_AGAIN, failure.retryAfter ?? 0));
  }
}

function elapsed(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Requests reject with a failure; anything else is a mistake of ours and is not to be hidden. */
function asFailure(error: unknown): Failure {
  if (error instanceof RequestError) return error;
  throw error;
}
