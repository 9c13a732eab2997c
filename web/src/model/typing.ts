import type { Typing } from "../types.ts";
import { isolated } from "../words/text.ts";

/**
 * Expiry of a typing state in milliseconds. The server ends it after 6 s. The margin covers a lost
 * event.
 */
const EXPIRES_AFTER = 7_000;

/** Interval in milliseconds at which ongoing typing is sent again, before the server expires it. */
const REPEAT_AFTER = 3_000;

/** The other users that are typing. */
export class Typists {
  readonly #typists = new Map<string, { name: string; until: number }>();

  /** Returns the names at `now`, in the order in which they began. */
  names(now: number): string[] {
    return [...this.#typists.values()].filter(({ until }) => until > now).map(({ name }) => name);
  }

  /** Returns when the next typing state expires. */
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

/** The user's own typing: decides what to send to the server. */
export class OwnTyping {
  #sentAt: number | undefined;

  /** Returns what to send after a change of the text at `now`, if anything. */
  handleInput(text: string, now: number): boolean | undefined {
    if (text.trim() === "") return this.handleStop();
    if (this.#sentAt !== undefined && now - this.#sentAt < REPEAT_AFTER) return undefined;
    this.#sentAt = now;
    return true;
  }

  /** Returns what to send when the user stops writing, if anything. */
  handleStop(): false | undefined {
    if (this.#sentAt === undefined) return undefined;
    this.#sentAt = undefined;
    return false;
  }
}

/** Returns the typing line below the messages. */
export function typingLine(names: readonly string[]): string {
  const [first, second] = names.slice(0, 2).map(isolated);
  if (first === undefined) return "";
  if (second === undefined) return `${first} is typing…`;
  if (names.length === 2) return `${first} and ${second} are typing…`;
  return `${first}, ${second} and ${names.length - 2} more are typing…`;
}
