import { now } from "./time.ts";

/**
 * So many may go at once, and one more in each such time. By default a server takes 120 changes at once from a user and two
 * each second: of that four tabs leave 40, however often they come back.
 */
const AT_ONCE = 20;
const ONE_PER = 2_000;

/** Lets a few go at once, and those behind them one after the other. */
export class Turns<Item> {
  readonly #waiting = new Set<Item>();
  #free = AT_ONCE;
  #countedAt = now();
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #go: (item: Item) => void;

  constructor(go: (item: Item) => void) {
    this.#go = go;
  }

  /** It goes now, or when it is its turn. */
  take(item: Item): void {
    this.#waiting.add(item);
    this.#advance();
  }

  /** It goes now. */
  hurry(item: Item): void {
    this.#waiting.delete(item);
    this.#go(item);
  }

  /** It need not go any more. */
  drop(item: Item): void {
    this.#waiting.delete(item);
  }

  /** Nobody who waits goes any more. */
  clear(): void {
    this.#waiting.clear();
    clearTimeout(this.#timer);
  }

  #advance(): void {
    clearTimeout(this.#timer);
    const passed = Math.floor((now() - this.#countedAt) / ONE_PER);
    this.#countedAt += passed * ONE_PER;
    this.#free = Math.min(AT_ONCE, this.#free + passed);
    for (const item of this.#waiting) {
      if (this.#free === 0) break;
      this.#free -= 1;
      this.hurry(item);
    }
    if (this.#waiting.size > 0) this.#timer = setTimeout(() => this.#advance(), this.#countedAt + ONE_PER - now());
  }
}
