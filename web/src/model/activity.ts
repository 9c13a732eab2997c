import type { SystemEvent } from "../types.ts";
import { isolated } from "../words/text.ts";

const MAX_LINES = 100;
/** Maximum number of users in one line. The oldest are evicted. */
const MAX_USERS = 1_000;
/** Number of users of one kind whose names are shown, if there are more than three. */
const MAX_NAMED = 2;

export type PresenceEvent = "joined" | "left" | "disconnected";

/** What a user has done since the latest message, in the order of a line. */
const WORDS = ["joined", "came back", "joined and left", "left", "lost the connection"] as const;

interface Visit {
  readonly name: string;
  /** Whether the first event was a join. */
  readonly isNew: boolean;
  readonly last: PresenceEvent;
}

/**
 * A line such as "Ada, Ben and 98 others joined": all joins and departures after the message that
 * was the newest at that time.
 */
export class SystemLine {
  readonly key: string;
  readonly afterSeq: number;
  timestamp = "";
  readonly #visits = new Map<string, Visit>();
  #text: string | undefined;

  constructor(key: string, afterSeq: number) {
    this.key = key;
    this.afterSeq = afterSeq;
  }

  get text(): string {
    return (this.#text ??= WORDS.flatMap((words) => this.#partOf(words)).join(" · "));
  }

  /** Whether it shows the names of all its users. */
  get isShort(): boolean {
    return this.#visits.size <= MAX_NAMED + 1;
  }

  add(last: PresenceEvent, { userId, name, timestamp }: SystemEvent): void {
    const isNew = this.#visits.get(userId)?.isNew ?? last === "joined";
    this.#visits.set(userId, { name, isNew, last });
    const [oldest = ""] = this.#visits.keys();
    if (this.#visits.size > MAX_USERS) this.#visits.delete(oldest);
    this.timestamp = timestamp;
    this.#text = undefined;
  }

  #partOf(words: (typeof WORDS)[number]): string[] {
    const names = [...this.#visits.values()].filter((visit) => wordsOf(visit) === words).map(({ name }) => isolated(name));
    return names.length === 0 ? [] : [`${enumerated(names)} ${words}`];
  }
}

function wordsOf({ isNew, last }: Visit): (typeof WORDS)[number] {
  if (last === "joined") return isNew ? "joined" : "came back";
  return last === "disconnected" ? "lost the connection" : isNew ? "joined and left" : "left";
}

/** Returns up to three names, or the first two and the number of the others. */
function enumerated(names: readonly string[]): string {
  const shown = names.length > MAX_NAMED + 1 ? [...names.slice(0, MAX_NAMED), `${names.length - MAX_NAMED} others`] : names;
  return shown.length === 1 ? shown.join() : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}

/** The joins and departures while the page is open. They are not stored. */
export class Activity {
  #lines: SystemLine[] = [];
  #count = 0;

  get lines(): readonly SystemLine[] {
    return this.#lines;
  }

  /** Adds an event to the line after a message, and returns this line. */
  add(happening: PresenceEvent, event: SystemEvent, afterSeq: number): SystemLine {
    let line = this.#lines.at(-1);
    if (line?.afterSeq !== afterSeq) {
      line = new SystemLine(`system:${(this.#count += 1)}`, afterSeq);
      this.#lines = [...this.#lines, line].slice(-MAX_LINES);
    }
    line.add(happening, event);
    return line;
  }

  clear(): void {
    this.#lines = [];
  }
}
