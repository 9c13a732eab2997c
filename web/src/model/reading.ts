import { RequestError } from "../../packages/client/src/index.ts";
import type { Message } from "../types.ts";

/** The server is told at most so often how far we have read. */
const PAUSE = 1_000;

/** How far we and the others have read one conversation. */
export class Reading {
  /** Messages up to here were seen. */
  seq = 0;
  /** Up to here the server counts what is unread, so many messages. */
  #counted = { through: 0, unread: 0 };
  /** What the server knows to be read. */
  #told = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #others = new Map<string, number>();
  /** Up to here somebody else had read when the conversation was joined; the server does not say who. */
  #byOthers = 0;
  readonly #tell: (seq: number) => Promise<unknown>;
  readonly #changed: () => void;

  constructor(tell: (seq: number) => Promise<unknown>, changed: () => void) {
    this.#tell = tell;
    this.#changed = changed;
  }

  /** As the server lists it. */
  begin(readSeq: number, unread: number, lastSeq: number): void {
    this.seq = this.#told = Math.max(readSeq, this.seq);
    this.#counted = { through: lastSeq, unread };
  }

  /** As it is opened by somebody who sees it from here on. */
  beginAt(seq: number): void {
    this.seq = seq;
    this.#told = Math.min(this.#told, seq);
    this.#counted = { through: seq, unread: 0 };
  }

  /** The newest message that the server has listed: those behind it have come since. */
  get listed(): number {
    return this.#counted.through;
  }

  /** Messages of others behind what was seen. */
  unread(messages: readonly Message[], ownId: string): number {
    let count = this.seq < this.#counted.through ? this.#counted.unread : 0;
    // Nearly all were seen, so the count starts at the end.
    for (let index = messages.length - 1; index >= 0; index -= 1) {
      const message = messages[index];
      if (message === undefined || message.seq <= Math.max(this.seq, this.#counted.through)) break;
      if (message.userId !== ownId && !message.deletedAt) count += 1;
    }
    return count;
  }

  /** All up to here is in view; the server is told in a while. */
  see(seq: number, isEntered: boolean): void {
    if (seq > this.seq) this.seq = seq;
    if (this.seq <= this.#told || !isEntered || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => void this.#report(), PAUSE);
  }

  /** Another tab has seen it. */
  seeElsewhere(seq: number): void {
    this.#told = Math.max(this.#told, seq);
    this.seq = Math.max(this.seq, seq);
  }

  noteOther(userId: string, seq: number): void {
    this.#others.set(userId, Math.max(seq, this.#others.get(userId) ?? 0));
  }

  /** As the server says it when the conversation is joined; less than before, if it has begun a new history. */
  noteOthers(seq: number): void {
    this.#byOthers = seq;
  }

  /** Whether somebody else had read a message before we were there to count. */
  wasRead({ seq }: Message): boolean {
    return seq <= this.#byOthers;
  }

  /** How many others have read a message since we are there. */
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
      await this.#tell(seq);
      this.#told = Math.max(this.#told, seq);
    } catch (error) {
      // It is told again with the next message, or after the next connect.
      if (!(error instanceof RequestError)) throw error;
    } finally {
      this.#timer = undefined;
      this.#changed();
    }
  }
}
