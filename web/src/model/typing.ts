import type { Typing } from "../types.ts";
import { isolated } from "../words/text.ts";

/** The server ends a typing state after 6 s; a little more, should its word get lost. */
const EXPIRES_AFTER = 7_000;

/** Sent again while typing goes on, well before the server lets it expire. */
const REPEAT_AFTER = 3_000;

/** Who else is typing. */
export class Typists {
  readonly #typists = new Map<string, { name: string; until: number }>();

  /** The names at `now`, in the order in which they began. */
  names(now: number): string[] {
    return [...this.#typists.values()].filter(({ until }) => until > now).map(({ name }) => name);
  }

  /** When the next of them expires. */
  nextExpiry(now: number): number | undefined {
    const times = [...this.#typists.values()].map(({ until }) => until).filter((until) => until > now);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  handle({ userId, name, isTyping }: Typing, now: number): void {
    if (isTyping) this.#typists.set(userId, { name, until: now + EXPIRES_AFTER });
    else this.remove(userId);
  }

  remove(userId: string): void {
    this.#typists.delete(userId);
  }

  clear(): void {
    this.#typists.clear();
  }
}

/** Our own typing: what of it to tell the server. */
export class OwnTyping {
  #toldAt: number | undefined;

  /** What to send after a change of the text at `now`, if anything. */
  handleInput(text: string, now: number): boolean | undefined {
    if (text.trim() === "") return this.handleStop();
    if (this.#toldAt !== undefined && now - this.#toldAt < REPEAT_AFTER) return undefined;
    this.#toldAt = now;
    return true;
  }

  /** What to send when writing stops, if anything. */
  handleStop(): false | undefined {
    if (this.#toldAt === undefined) return undefined;
    this.#toldAt = undefined;
    return false;
  }
}

/** The line under the messages. */
export function typingLine(names: readonly string[]): string {
  const [first, second] = names.slice(0, 2).map(isolated);
  if (first === undefined) return "";
  if (second === undefined) return `${first} is typing…`;
  if (names.length === 2) return `${first} and ${second} are typing…`;
  return `${first}, ${second} and ${names.length - 2} more are typing…`;
}
