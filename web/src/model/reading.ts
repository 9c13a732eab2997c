import { RequestError } from "../../packages/client/src/index.ts";
import type { Message } from "../types.ts";

/** Minimum interval between reports to the server, in milliseconds. */
const REPORT_INTERVAL = 1_000;

/** How far this user and other users have read one conversation. */
export class Reading {
  /** The highest `seq` that was seen. */
  seq = 0;
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
    this.seq = this.#reported = Math.max(readSeq, this.seq);
    this.#counted = { through: lastSeq, unread };
  }

  /** Sets the state of a conversation that is opened and read from `seq` on. */
  beginAt(seq: number): void {
    this.seq = seq;
    this.#reported = Math.min(this.#reported, seq);
    this.#counted = { through: seq, unread: 0 };
  }

  /** The newest message that the server has listed. Later messages have arrived since. */
  get listed(): number {
    return this.#counted.through;
  }

  /** Counts the messages of other users after the last seen one. */
  unread(messages: readonly Message[], ownId: string): number {
    let count = this.seq < this.#counted.through ? this.#counted.unread : 0;
    // Most messages were seen, so the count starts at the end.
    for (let index = messages.length - 1; index >= 0; index -= 1) {
      const message = messages[index];
      if (message === undefined || message.seq <= Math.max(this.seq, this.#counted.through)) break;
      if (message.userId !== ownId && !message.deletedAt) count += 1;
    }
    return count;
  }

  /** Marks all messages up to `seq` as seen. The server is notified after a delay. */
  see(seq: number, isEntered: boolean): void {
    if (seq > this.seq) this.seq = seq;
    if (this.seq <= this.#reported || !isEntered || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.#report(), REPORT_INTERVAL);
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
      this.#timer = undefined;
      this.#changed();
    }
  }
}
