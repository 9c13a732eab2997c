import type { Statistics } from "./types.ts";

/** Rates per second. */
export interface Rates {
  received: number;
  sent: number;
  bytesReceived: number;
  bytesSent: number;
}

/** The values of the charts at one time. `at` is in milliseconds of a monotonic clock. */
export interface Point {
  at: number;
  connections: number;
  /**
   * Absent if it cannot be computed: for the first figures, and after a change or restart of the
   * server.
   */
  rates?: Rates;
}

/** The traffic of each server by its name, and when the figures arrived. */
export interface Reading {
  at: number;
  traffic: ReadonlyMap<string, Statistics["traffic"]>;
}

/**
 * Returns the rates of all servers that both readings have, or `undefined` if there are none. A
 * restarted server has another name.
 */
export function ratesOf(before: Reading | undefined, now: Reading): Rates | undefined {
  if (before === undefined) return undefined;
  const seconds = (now.at - before.at) / 1_000;
  if (seconds <= 0) return undefined;
  const rates: Rates = { received: 0, sent: 0, bytesReceived: 0, bytesSent: 0 };
  let isKnown = false;
  for (const [name, traffic] of now.traffic) {
    const old = before.traffic.get(name);
    if (old === undefined) continue;
    isKnown = true;
    for (const field of Object.keys(rates) as (keyof Rates)[]) rates[field] += Math.max(0, traffic[field] - old[field]) / seconds;
  }
  return isKnown ? rates : undefined;
}

/** Holds the newest items. The oldest is removed when it is full. */
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

/** A value of a chart at a time; `undefined` if it is unknown. */
export interface Value {
  at: number;
  value: number | undefined;
}

/**
 * Returns the smallest round number that is not less than the value: 1, 2 or 5 times a power of
 * ten.
 */
export function roundUp(value: number): number {
  if (!(value > 1)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const first = [1, 2, 5].find((step) => step * power >= value * (1 - 1e-9));
  return (first ?? 10) * power;
}

/** The area of a chart: the times and values at its edges, and its size. */
export interface Frame {
  from: number;
  to: number;
  top: number;
  width: number;
  height: number;
}

/**
 * Returns a line of a chart as an SVG path. It is interrupted if values are unknown for longer than
 * `gap`.
 */
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
    // A single value is drawn as a dot.
    parts.push(isNew ? `M${place}h0` : `L${place}`);
    before = at;
  }
  return parts.join("");
}
