import type { Statistics } from "./types.ts";

/** What happens in a second. */
export interface Rates {
  received: number;
  sent: number;
  bytesReceived: number;
  bytesSent: number;
}

/** What the charts have of one moment. `at` is in milliseconds of a clock that never goes back. */
export interface Point {
  at: number;
  connections: number;
  /** Absent where nothing can be said: at the first figures, and at those of another server or of one that was started again. */
  rates?: Rates;
}

/** Figures, and when they came. */
export interface Reading {
  at: number;
  statistics: Statistics;
}

/** What has happened in a second between two readings of the same server. */
export function ratesOf(before: Reading | undefined, now: Reading): Rates | undefined {
  if (before === undefined || before.statistics.node !== now.statistics.node) return undefined;
  const seconds = (now.at - before.at) / 1_000;
  const [old, traffic] = [before.statistics.traffic, now.statistics.traffic];
  const rate = (name: keyof Rates) => (traffic[name] - old[name]) / seconds;
  const rates: Rates = { received: rate("received"), sent: rate("sent"), bytesReceived: rate("bytesReceived"), bytesSent: rate("bytesSent") };
  // Counters of a server that was started again begin anew.
  return seconds > 0 && Object.values(rates).every((value) => value >= 0) ? rates : undefined;
}

/** The newest of what is put in; the oldest goes when it is full. */
export class Ring<Item> {
  readonly #size: number;
  #items: Item[] = [];

  constructor(size: number) {
    this.#size = size;
  }

  /** Oldest first. */
  get items(): readonly Item[] {
    return this.#items;
  }

  push(item: Item): void {
    this.#items = [...this.#items.slice(Math.max(0, this.#items.length + 1 - this.#size)), item];
  }

  clear(): void {
    this.#items = [];
  }
}

/** A value of a chart at a time, or that nothing is known of that time. */
export interface Value {
  at: number;
  value: number | undefined;
}

/** The least round number that is no less: 1, 2 or 5 times a power of ten. */
export function roundUp(value: number): number {
  if (!(value > 1)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const first = [1, 2, 5].find((step) => step * power >= value * (1 - 1e-9));
  return (first ?? 10) * power;
}

/** What a line is drawn into: the times and values at its edges, and its size. */
export interface Frame {
  from: number;
  to: number;
  top: number;
  width: number;
  height: number;
}

/** The lines of a chart, as a path of SVG. Nothing is drawn over times of which nothing is known, that is for longer than `gap`. */
export function pathOf(values: readonly Value[], { from, to, top, width, height }: Frame, gap: number): string {
  const parts: string[] = [];
  let before: number | undefined;
  for (const { at, value } of values) {
    if (value === undefined || at < from) {
      before = undefined;
      continue;
    }
    const x = ((at - from) / (to - from)) * width;
    const y = height - (Math.min(value, top) / top) * height;
    const isNew = before === undefined || at - before > gap;
    const place = `${x.toFixed(1)} ${y.toFixed(1)}`;
    // One that stands alone is seen as a dot.
    parts.push(isNew ? `M${place}h0` : `L${place}`);
    before = at;
  }
  return parts.join("");
}
