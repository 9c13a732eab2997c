import type { SystemEvent } from "../types.ts";
import { isolated } from "../words/text.ts";

const MAX_LINES = 100;

/** A line such as "Ada joined", shown after the message that was the newest at that time. */
export interface SystemLine {
  readonly key: string;
  readonly userId: string;
  readonly text: string;
  readonly timestamp: string;
  readonly afterSeq: number;
}

export type PresenceEvent = "joined" | "left" | "disconnected";

const words: Record<PresenceEvent, string> = {
  joined: "joined",
  left: "left",
  disconnected: "lost the connection",
};

/** The joins and departures while the page is open. They are not stored. */
export class Activity {
  #lines: SystemLine[] = [];
  #count = 0;

  get lines(): readonly SystemLine[] {
    return this.#lines;
  }

  /**
   * Adds a line. Repeated joins and departures of one user without a message in between are one
   * line.
   */
  add(happening: PresenceEvent, { userId, name, timestamp }: SystemEvent, afterSeq: number): SystemLine {
    this.#count += 1;
    const text = `${isolated(name)} ${words[happening]}`;
    const line = { key: `system:${this.#count}`, userId, text, timestamp, afterSeq };
    const others = this.#lines.filter((known) => known.afterSeq !== afterSeq || known.userId !== userId);
    this.#lines = [...others, line].slice(-MAX_LINES);
    return line;
  }

  clear(): void {
    this.#lines = [];
  }
}
