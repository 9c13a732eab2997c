import { asFailure } from "../words/failure.ts";
import type { Failure, Message, MessageDeleted } from "../types.ts";
import { Timeline, isCurrent } from "./timeline.ts";
import { withOwn } from "../marks/marks.ts";

export const HISTORY_PAGE = 50;
/** Number of read messages that are loaded above the first unread one. */
const READ_CONTEXT = 10;

interface Bounds {
  beforeSeq?: number;
  afterSeq?: number;
}

interface Page {
  messages: Message[];
  hasMore: boolean;
}

/** What the loaded messages need of their conversation. */
export interface HistoryCallbacks {
  /** Requests a page from the server. */
  read(bounds: Bounds & { limit: number }): Promise<Page>;
  /** Whether pages can be requested now. */
  mayRead(): boolean;
  changed(): void;
  /** Called with the messages of each page. */
  met(messages: readonly Message[]): void;
  failed(failure: Failure): void;
}

/**
 * The loaded messages of a conversation: the newest ones, and after a jump to a message that was
 * not loaded, those around it, which are shown instead.
 */
export class History {
  readonly live = new Timeline();
  #past: Timeline | undefined;
  #hasOlder = { live: false, past: false };
  /** Whether only the newest message is loaded, which is enough for the list of conversations. */
  isStub: boolean;
  isLoading = false;
  #loading: Promise<void> | undefined;
  readonly #callbacks: HistoryCallbacks;

  constructor(isStub: boolean, callbacks: HistoryCallbacks) {
    this.isStub = this.#hasOlder.live = isStub;
    this.#callbacks = callbacks;
  }

  /** The messages that are shown. */
  get shown(): Timeline {
    return this.#past ?? this.live;
  }

  /** Whether older messages exist than the shown ones. */
  get hasOlder(): boolean {
    return this.#past ? this.#hasOlder.past : this.#hasOlder.live;
  }

  /** Whether newer messages exist than the shown ones. */
  get hasNewer(): boolean {
    return this.#past !== undefined;
  }

  /** Replaces all messages by the newest of another history. */
  reset(newest: readonly Message[], hasOlder: boolean): void {
    this.live.clear();
    this.#past = undefined;
    this.isStub = false;
    this.live.merge(newest);
    this.#hasOlder.live = hasOlder;
  }

  /** Discards old messages if there are more than `limit`. */
  trim(limit: number): void {
    if (this.live.messages.length > limit && this.live.keepNewest((limit * 2) / 3)) this.#hasOlder.live = true;
  }

  showNewest(): void {
    this.#past = undefined;
  }

  /** Loads what the view begins with: the page of a divider, or the newest one. */
  loadFirst(divider: number | undefined): Promise<void> {
    if (divider === undefined || (this.live.first?.seq ?? 0) - HISTORY_PAGE <= divider) return this.loadOlder();
    const afterSeq = Math.max(0, divider - READ_CONTEXT);
    return this.#load({ afterSeq }, ({ messages, hasMore }) => {
      this.#begin(messages, afterSeq > 0);
      this.#connect(hasMore);
    });
  }

  /** Loads the page before the oldest message, or the newest page if no message is loaded. */
  loadOlder(): Promise<void> {
    const { shown } = this;
    const beforeSeq = shown.first?.seq;
    if (!this.hasOlder) return Promise.resolve();
    return this.#load(beforeSeq === undefined ? {} : { beforeSeq }, ({ messages, hasMore }) => {
      // The messages may have been trimmed in the meantime: a page that is not adjacent would leave
      // a hole.
      if (shown !== this.shown || shown.first?.seq !== beforeSeq) return;
      shown.merge(messages);
      this.#hasOlder[this.#past ? "past" : "live"] = hasMore;
    });
  }

  /** Loads the page after the newest shown message, if newer ones exist. */
  loadNewer(): Promise<void> {
    const past = this.#past;
    const afterSeq = past?.newest?.seq;
    if (past === undefined || afterSeq === undefined) return Promise.resolve();
    return this.#load({ afterSeq }, ({ messages, hasMore }) => {
      if (past !== this.#past) return;
      past.merge(messages);
      this.#connect(hasMore);
    });
  }

  /** Shows the place of a message. Returns whether the message exists. */
  async jump(seq: number): Promise<boolean> {
    const isLoaded = () => this.shown.messages.some((message) => message.seq === seq);
    if (isLoaded()) return true;
    // One page is loaded at a time. This one must not be skipped because another is loading.
    while (this.isLoading) await this.#loading;
    await this.#load({ beforeSeq: seq + HISTORY_PAGE / 2 }, ({ messages, hasMore }) => {
      if (messages.length > 0) this.#begin(messages, hasMore);
    });
    if (this.#past && this.#isConnected) await this.loadNewer();
    return isLoaded();
  }

  find(messageId: string): Message | undefined {
    return this.live.find(messageId) ?? this.#past?.find(messageId);
  }

  /** Replaces a loaded message. */
  change(messageId: string, to: (message: Message) => Message): void {
    this.live.change(messageId, to);
    this.#past?.change(messageId, to);
  }

  /** Replaces a message by a newer version. Returns whether the version is not older. */
  renew(message: Message): boolean {
    const known = this.find(message.id);
    if (known !== undefined && !isCurrent(message, known)) return false;
    // Only loaded messages are replaced. The history has the newer version of all others.
    this.change(message.id, (known) => withOwn(message, known));
    this.live.requote(message);
    this.#past?.requote(message);
    return true;
  }

  markDeleted(deleted: MessageDeleted): void {
    for (const timeline of [this.live, this.#past]) {
      timeline?.markDeleted(deleted);
      timeline?.forgetQuoted(deleted.messageId, deleted.deletedAt);
    }
  }

  #begin(messages: readonly Message[], hasOlder: boolean): void {
    this.#past = new Timeline();
    this.#past.merge(messages);
    this.#hasOlder.past = hasOlder;
  }

  /** Whether no message is missing between those of a jump and the newest ones. */
  get #isConnected(): boolean {
    return (this.#past?.newest?.seq ?? 0) + 1 >= (this.live.first?.seq ?? 0);
  }

  /** Ends a jump if its messages meet the newest ones. */
  #connect(hasMore: boolean): void {
    const isConnected = this.#isConnected;
    if (isConnected) {
      this.live.merge(this.#past?.messages ?? []);
      this.#hasOlder.live = this.#hasOlder.past;
    }
    if (isConnected || !hasMore) this.#past = undefined;
  }

  async #load(bounds: Bounds, take: (page: Page) => void): Promise<void> {
    if (this.isLoading || !this.#callbacks.mayRead()) return;
    this.isLoading = true;
    this.#callbacks.changed();
    await (this.#loading = this.#readPage(bounds, take));
  }

  async #readPage(bounds: Bounds, take: (page: Page) => void): Promise<void> {
    try {
      const page = await this.#callbacks.read({ ...bounds, limit: HISTORY_PAGE });
      this.#callbacks.met(page.messages);
      take(page);
    } catch (error) {
      this.#callbacks.failed(asFailure(error));
    } finally {
      this.isLoading = false;
      // If loading fails, the loaded messages are shown.
      if (this.#past === undefined) this.isStub = false;
      this.#callbacks.changed();
    }
  }
}
