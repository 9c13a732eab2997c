import { RequestError } from "../../packages/client/src/index.ts";
import type { Message } from "../types.ts";

/** Minimum interval between reports to the server, in milliseconds. */
const REPORT_INTERVAL = 1_000;

/** The server counts up to this many unread messages. */
const MAX_COUNTED = 1_000;

/** The line above the first unread message. It stays after the messages were read. */
export interface Divider {
  readonly seq: number;
  /** The number of messages of other users after it, until all were read. */
  readonly count: number;
  /** Whether the view has yet to move to it. */
  readonly isTarget: boolean;
}

/** How far this user and other users have read one conversation. */
export class Reading {
  /** The highest `seq` up to which all messages were on screen. */
  seq = 0;
  /** Whether `seq` is known. Before that, no message counts as read. */
  isKnown = false;
  divider: Divider | undefined;
  /** The server's count of unread messages up to the `seq` `through`. */
  #counted = { through: 0, unread: 0 };
  /** The highest `seq` that was reported to the server. */
  #reported = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #others = new Map<string, number>();
  /**
   * The highest `seq` that any other user had read when the conversation was joined. The server
   * does not report who.
   */
  #byOthers = 0;
  readonly #send: (seq: number) => Promise<unknown>;
  readonly #changed: () => void;

  constructor(send: (seq: number) => Promise<unknown>, changed: () => void) {
    this.#send = send;
    this.#changed = changed;
  }

  /** Sets the state that the server lists. */
  begin(readSeq: number, unread: number, lastSeq: number): void {
    this.seq = Math.max(readSeq, this.seq);
    this.#reported = Math.max(readSeq, this.#reported);
    this.isKnown = true;
    if (lastSeq >= this.#counted.through) this.#counted = { through: lastSeq, unread };
  }

  /** Counts messages up to `lastSeq` as unread that were neither listed nor received. */
  extend(lastSeq: number): void {
    const { through, unread } = this.#counted;
    if (lastSeq > through) this.#counted = { through: lastSeq, unread: unread + lastSeq - Math.max(through, this.seq) };
  }

  /** Sets the state of a conversation that is opened and read from `seq` on. */
  beginAt(seq: number): void {
    this.seq = seq;
    this.isKnown = true;
    this.divider = undefined;
    this.#reported = Math.min(this.#reported, seq);
    this.#counted = { through: seq, unread: 0 };
  }

  /** The newest message that the server has listed. Later messages have arrived since. */
  get listed(): number {
    return this.#counted.through;
  }

  /**
   * Counts the messages of other users after the last seen one. The server's count is used if the
   * loaded messages do not reach back to that one.
   */
  unread(messages: readonly Message[], ownId: string): number {
    const { through, unread } = this.#counted;
    let [all, later] = [0, 0];
    // Most messages were seen, so the count starts at the end.
    for (let index = messages.length - 1; index >= 0; index -= 1) {
      const message = messages[index];
      if (message === undefined || message.seq <= this.seq) return all;
      if (message.userId === ownId || message.deletedAt) continue;
      all += 1;
      if (message.seq > through) later += 1;
    }
    if (messages[0]?.seq === this.seq + 1) return all;
    const most = Math.max(0, through - this.seq);
    return later + (unread < MAX_COUNTED ? Math.min(unread, most) : most);
  }

  /** Notes that the view has moved to the divider, or to a message that the user chose instead. */
  leaveDivider(): void {
    if (this.divider !== undefined) this.divider = { ...this.divider, isTarget: false };
  }

  /**
   * Counts messages that arrived, the first of which is `seq`. The divider moves to them unless
   * other unread messages are above.
   */
  handleArrival(seq: number, count: number, wasRead: boolean, isTarget: boolean): void {
    if (wasRead) this.divider = { seq, count, isTarget };
    else if (this.divider !== undefined) this.divider = { ...this.divider, count: this.divider.count + count };
  }

  /**
   * Marks all messages up to `seq` as seen, of which `count` were unread. The server is notified
   * after a delay.
   */
  see(seq: number, isEntered: boolean, count = 0): void {
    const counted = this.#counted;
    if (this.seq < counted.through && counted.unread < MAX_COUNTED) counted.unread = Math.max(0, counted.unread - count);
    if (seq > this.seq) this.seq = seq;
    if (this.seq > this.#reported && isEntered) this.#timer ??= this.#reportLater();
  }

  /** Marks messages as seen by another tab. */
  seeElsewhere(seq: number): void {
    this.#reported = Math.max(this.#reported, seq);
    this.seq = Math.max(this.seq, seq);
  }

  noteOther(userId: string, seq: number): void {
    this.#others.set(userId, Math.max(seq, this.#others.get(userId) ?? 0));
  }

  /**
   * Sets what the server reports at the join. The value is lower than before if the server has
   * started a new history.
   */
  noteOthers(seq: number): void {
    this.#byOthers = seq;
  }

  /** Whether another user had read a message before this user joined. */
  wasRead({ seq }: Message): boolean {
    return seq <= this.#byOthers;
  }

  /** Counts the other users that have read a message since this user joined. */
  readersOf({ seq }: Message): number {
    let count = 0;
    for (const read of this.#others.values()) if (read >= seq) count += 1;
    return count;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  async #report(): Promise<void> {
    const seq = this.seq;
    try {
      await this.#send(seq);
      this.#reported = Math.max(this.#reported, seq);
    } catch (error) {
      // It is sent again with the next message, or after the next connect.
      if (!(error instanceof RequestError)) throw error;
    } finally {
      // More may have been seen in the meantime.
      this.#timer = this.seq > seq ? this.#reportLater() : undefined;
      this.#changed();
    }
  }

  #reportLater(): ReturnType<typeof setTimeout> {
    return setTimeout(() => void this.#report(), REPORT_INTERVAL);
  }
}
