import type { RequestError, SocketManager } from "../../packages/client/src/index.ts";
import type { Price } from "../types.ts";
import { explain } from "../words/failure.ts";

/** Maximum number of symbols of positions. The server permits 200 symbols for each connection. */
export const MAX_POSITIONS = 199;
/** Maximum number of symbols in one request. */
const MAX_REQUESTED = 100;
/** Interval of drawing in milliseconds: a person cannot read prices that change more often. */
const DRAW_INTERVAL = 250;
/** A price of this age in milliseconds is old. */
const OLD_AFTER = 60_000;
/** The room of a symbol is this prefix and the symbol. */
const ROOM = "prices:";

/** The last price of a symbol. */
export interface Quote {
  readonly price: number;
  readonly timestamp: string;
  /** When the page received this price, by its own clock. */
  readonly receivedAt: number;
}

/** The last price of a symbol, `undefined` if it has none. */
export type LastQuote = Quote | "loading" | undefined;

type Connection = Pick<SocketManager, "on" | "subscribe">;

/** The last prices of the symbols that the trading page shows. */
export class Prices {
  /** The reason why the server refuses to send prices. */
  refusal: string | undefined;
  #positions: readonly string[] = [];
  #ordered: string | undefined;
  #followed: ReadonlySet<string> = new Set();
  readonly #quotes = new Map<string, Quote>();
  /** The symbols whose last price, if they have one, was received. */
  readonly #answered = new Set<string>();
  /** Ends each subscription. The symbols of a subscription, which no other one has, are its key. */
  readonly #subscriptions = new Map<string, () => void>();
  readonly #listeners = new Set<() => void>();
  readonly #connection: Connection;
  readonly #ends: (() => void)[];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#ends = [
      // Uses the event instead of the answer, which may arrive after updates.
      connection.on("prices:subscribed", ({ rooms, snapshot }) => {
        for (const room of rooms) this.#answer(room.slice(ROOM.length), snapshot.prices.find(({ symbol }) => ROOM + symbol === room));
        this.#change();
      }),
      connection.on("price:update", (price) => {
        this.#answer(price.symbol, price);
        this.#change();
      }),
      connection.on("price:withdrawn", ({ symbol }) => {
        this.#answer(symbol, undefined);
        this.#change();
      }),
    ];
  }

  quoteOf(symbol: string): LastQuote {
    return this.#quotes.get(symbol) ?? (this.#answered.has(symbol) || this.refusal !== undefined ? undefined : "loading");
  }

  /** Follows the prices of positions, and no longer those of earlier positions. */
  followPositions(symbols: readonly string[]): void {
    this.#positions = [...new Set(symbols)].slice(0, MAX_POSITIONS).sort();
    this.#follow();
  }

  /** Follows the price of the symbol of an order, and no longer that of an earlier symbol. */
  followOrder(symbol: string | undefined): void {
    this.#ordered = symbol;
    this.#follow();
  }

  /** Calls a listener after prices have changed. Returns a function that removes the listener. */
  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#positions = [];
    this.followOrder(undefined);
    for (const end of this.#ends) end();
    clearTimeout(this.#timer);
  }

  #follow(): void {
    const groups: string[][] = [];
    for (let from = 0; from < this.#positions.length; from += MAX_REQUESTED) groups.push(this.#positions.slice(from, from + MAX_REQUESTED));
    if (this.#ordered !== undefined && !this.#positions.includes(this.#ordered)) groups.push([this.#ordered]);
    this.#followed = new Set(groups.flat());
    // A symbol contains no space.
    const wanted = new Map(groups.map((symbols) => [symbols.join(" "), symbols]));
    // First ends subscriptions: a new one may have their symbols.
    for (const [key, end] of this.#subscriptions) {
      if (wanted.has(key)) continue;
      this.#subscriptions.delete(key);
      end();
    }
    for (const symbol of this.#answered) {
      if (this.#followed.has(symbol)) continue;
      this.#answered.delete(symbol);
      this.#quotes.delete(symbol);
    }
    for (const [key, symbols] of wanted) if (!this.#subscriptions.has(key)) this.#subscriptions.set(key, this.#subscribe(symbols));
  }

  #subscribe(symbols: string[]): () => void {
    const refused = (failure: RequestError) => {
      this.refusal = explain(failure);
      this.#change();
    };
    return this.#connection.subscribe("subscribe:prices", { symbols }, { answered: () => (this.refusal = undefined), refused });
  }

  /** Takes the last price of a symbol, if the symbol is still followed. */
  #answer(symbol: string, last: Price | undefined): void {
    if (!this.#followed.has(symbol)) return;
    this.#answered.add(symbol);
    const known = this.#quotes.get(symbol);
    if (last === undefined) this.#quotes.delete(symbol);
    // A repeated subscription sends the same price again, which is not new.
    else if (known?.price !== last.price || known.timestamp !== last.timestamp) {
      this.#quotes.set(symbol, { price: last.price, timestamp: last.timestamp, receivedAt: Date.now() });
    }
  }

  #change(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const listener of this.#listeners) listener();
    }, DRAW_INTERVAL);
  }
}

/**
 * Returns the age of a price in milliseconds. It is at least the time since the page received the
 * price, so that a wrong clock of this device does not make a price look new for ever.
 */
export function ageOf({ timestamp, receivedAt }: Quote, now: number): number {
  return Math.max(0, now - Date.parse(timestamp), now - receivedAt);
}

export function isOld(quote: Quote, now: number): boolean {
  return ageOf(quote, now) > OLD_AFTER;
}

/** Returns an age in words. */
export function ageInWords(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} days ago`;
}
