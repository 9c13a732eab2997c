import { now } from "./time.ts";

/**
 * Number of joins in a burst. By default, a server accepts 120 changes in a burst from a user and
 * two each second. Four reconnecting tabs then leave 40 of the burst.
 */
const MAX_BURST = 20;
/** Time in milliseconds after which one more item may start. */
const REFILL_INTERVAL = 2_000;

/** Starts the first items immediately and the following ones at an interval. */
export class JoinPacer<Item> {
  readonly #waiting = new Set<Item>();
  #free = MAX_BURST;
  #refilledAt = now();
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #start: (item: Item) => void;

  constructor(start: (item: Item) => void) {
    this.#start = start;
  }

  /** Starts the item now, or after the items before it. */
  take(item: Item): void {
    this.#waiting.add(item);
    this.#advance();
  }

  /** Starts the item now. */
  hurry(item: Item): void {
    this.#waiting.delete(item);
    this.#start(item);
  }

  /** Removes an item that has not started. */
  drop(item: Item): void {
    this.#waiting.delete(item);
  }

  /** Removes all items that have not started. */
  clear(): void {
    this.#waiting.clear();
    clearTimeout(this.#timer);
  }

  #advance(): void {
    clearTimeout(this.#timer);
    const passed = Math.floor((now() - this.#refilledAt) / REFILL_INTERVAL);
    this.#refilledAt += passed * REFILL_INTERVAL;
    this.#free = Math.min(MAX_BURST, this.#free + passed);
    for (const item of this.#waiting) {
      if (this.#free === 0) break;
      this.#free -= 1;
      this.hurry(item);
    }
    if (this.#waiting.size > 0) this.#timer = setTimeout(() => this.#advance(), this.#refilledAt + REFILL_INTERVAL - now());
  }
}
