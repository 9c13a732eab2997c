import { DISCONNECTED, RequestError, type SocketManager, TIMED_OUT } from "../../packages/client/src/index.ts";
import { randomId } from "../../packages/client/src/time.ts";
import type { ExecuteTrade, Portfolio, Signal, Trade, TradeError, TradeExecuted } from "../types.ts";
import { explain } from "../words/failure.ts";
import { Journal } from "./journal.ts";
import { amount } from "./numbers.ts";
import { Prices } from "./prices.ts";

/** Maximum number of retained settled trades. All open trades are retained. */
const MAX_SETTLED = 200;
/** Maximum number of retained signals. */
const MAX_SIGNALS = 200;
/** Maximum number of listed outcomes of orders. */
const MAX_OUTCOMES = 20;
/** Timeout of an order in milliseconds. The executing service may be slow. */
const ORDER_TIMEOUT = 60_000;

/** The outcome of an order, as a text. */
export interface Outcome {
  readonly key: string;
  readonly text: string;
  readonly kind: "good" | "bad" | "open";
}

/** The callbacks of the market. */
export interface MarketCallbacks {
  changed(): void;
  /** Announces a text to screen readers. */
  announce(text: string): void;
  /** Called with the outcome of an order. */
  ended(outcome: Outcome): void;
}

type Connection = Pick<SocketManager, "on" | "request" | "session" | "subscribe">;

/** The portfolio, trades and signals that one user follows. */
export class Market {
  portfolio: Portfolio | undefined;
  /** The reason why a subscription was refused, by its subject. */
  readonly refusals = new Map<"portfolio" | "trades" | "signals", string>();
  readonly known = { portfolio: new Journal(), trades: new Journal(), signals: new Journal() };
  hasMoreTrades = false;
  hasMoreSignals = false;
  outcomes: readonly Outcome[] = [];
  readonly prices: Prices;
  /** In the order of their last changes. */
  #trades = new Map<string, Trade>();
  #signals = new Map<string, Signal>();
  #count = 0;
  readonly #connection: Connection;
  readonly #callbacks: MarketCallbacks;
  readonly #ends: (() => void)[] = [];

  constructor(connection: Connection, callbacks: MarketCallbacks) {
    this.#connection = connection;
    this.#callbacks = callbacks;
    this.prices = new Prices(connection);
    this.#listen();
    const userId = connection.session?.userId ?? "";
    this.#follow("portfolio", { userId });
    this.#follow("trades", { userId });
    this.#follow("signals", {});
  }

  /** Open trades first, then the most recently changed. */
  get trades(): Trade[] {
    const newest = [...this.#trades.values()].reverse();
    return [...newest.filter(isOpen), ...newest.filter((trade) => !isOpen(trade))];
  }

  get signals(): Signal[] {
    return [...this.#signals.values()].reverse();
  }

  get mayExecute(): boolean {
    return this.#connection.session?.permissions?.includes("trades:execute") ?? false;
  }

  /** Requests a trade with a new id: two calls are two orders. */
  async execute(order: ExecuteTrade): Promise<void> {
    try {
      const payload = { ...order, clientTradeId: randomId() };
      const executed = await this.#connection.request("execute:trade", payload, ORDER_TIMEOUT);
      this.#noteExecuted(executed);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      const { code } = error;
      if (code === DISCONNECTED || code === TIMED_OUT) {
        this.#note(`unknown:${(this.#count += 1)}`, "open", `${inWords(order)}: the outcome is not known yet. Check your trades before you order again.`);
      } else if (code !== "CONFLICT") {
        this.#note(`refused:${(this.#count += 1)}`, "bad", `${inWords(order)}: not executed. ${explain(error)}`);
      }
      // The event `trade:error` explains a conflict, because it contains the trade.
    }
    this.#callbacks.changed();
  }

  close(): void {
    this.prices.close();
    for (const end of this.#ends) end();
  }

  #follow(what: "portfolio" | "trades" | "signals", payload: object): void {
    const refused = (failure: RequestError) => {
      this.refusals.set(what, explain(failure));
      this.#callbacks.changed();
    };
    const answered = () => this.refusals.delete(what);
    this.#ends.push(this.#connection.subscribe(`subscribe:${what}`, payload, { answered, refused }));
  }

  #listen(): void {
    const { portfolio, trades, signals } = this.known;
    const changing = <Payload>(take: (payload: Payload) => void) => (payload: Payload) => {
      take(payload);
      this.#callbacks.changed();
    };
    const connection = this.#connection;
    // Uses the events instead of the answers, which may arrive after updates.
    this.#ends.push(
      connection.on("portfolio:subscribed", changing(({ snapshot }) => {
        portfolio.begin(snapshot.revision);
        this.portfolio = snapshot.portfolio ?? undefined;
      })),
      connection.on("portfolio:update", changing((update) => {
        if (portfolio.take(update.revision)) this.portfolio = update;
      })),
      connection.on("trades:subscribed", changing(({ snapshot }) => {
        trades.begin(snapshot.revision);
        this.hasMoreTrades = snapshot.hasMore;
        this.#trades = new Map(snapshot.trades.map((trade) => [trade.tradeId, trade]));
      })),
      connection.on("trade:update", changing((update) => {
        if (!trades.take(update.revision)) return;
        this.#putTrade(update);
      })),
      connection.on("trade:withdrawn", changing(({ tradeId, revision }) => {
        if (trades.take(revision)) this.#trades.delete(tradeId);
      })),
      connection.on("signals:subscribed", changing(({ room, snapshot }) => {
        // Channels have their own subscriptions.
        if (room !== "signals") return;
        signals.begin(snapshot.revision);
        this.hasMoreSignals = snapshot.hasMore;
        this.#signals = new Map(snapshot.signals.map((signal) => [signal.signalId, signal]));
      })),
      connection.on("signal:new", changing((update) => {
        if (!signals.take(update.revision)) return;
        this.#signals.set(update.signalId, update);
        this.hasMoreSignals = keepNewest(this.#signals, MAX_SIGNALS, () => true) || this.hasMoreSignals;
      })),
      connection.on("signal:withdrawn", changing(({ signalId, revision }) => {
        if (signals.take(revision)) this.#signals.delete(signalId);
      })),
      connection.on("trade:executed", changing((executed) => this.#noteExecuted(executed))),
      connection.on("trade:error", changing((error) => this.#noteError(error))),
    );
  }

  #putTrade(trade: Trade): void {
    const before = this.#trades.get(trade.tradeId);
    this.#trades.delete(trade.tradeId);
    this.#trades.set(trade.tradeId, trade);
    this.hasMoreTrades = keepNewest(this.#trades, MAX_SETTLED, (one) => !isOpen(one)) || this.hasMoreTrades;
    if (before?.status !== trade.status) this.#callbacks.announce(`Trade of ${trade.symbol}: ${trade.status}`);
  }

  #noteExecuted({ tradeId, executedPrice, ...order }: TradeExecuted): void {
    this.#note(tradeId, "good", `${inWords(order)}: executed at ${amount(executedPrice)}.`);
  }

  #noteError({ code, message, symbol, tradeId }: TradeError): void {
    // Without a trade, the answer to the order contains the error.
    if (tradeId === undefined && code !== "CONFLICT") return;
    const isOpenStill = code === "OUTCOME_UNKNOWN";
    const text = isOpenStill ? "the outcome is not known yet. You will be notified." : `not executed. ${errors[code] ?? message}`;
    this.#note(tradeId ?? `error:${(this.#count += 1)}`, isOpenStill ? "open" : "bad", `${symbol}: ${text}`);
  }

  /**
   * Adds an outcome. It may arrive more than once, and replaces an unknown outcome of the same
   * trade.
   */
  #note(key: string, kind: Outcome["kind"], text: string): void {
    const known = this.outcomes.find((outcome) => outcome.key === key);
    if (known !== undefined && known.kind !== "open") return;
    const outcome = { key, kind, text };
    this.outcomes = [outcome, ...this.outcomes.filter((other) => other !== known)].slice(0, MAX_OUTCOMES);
    this.#callbacks.ended(outcome);
  }
}

const errors: Record<string, string | undefined> = {
  NO_PRICE: "The server has no price for it.",
  EXECUTOR_UNAVAILABLE: "The execution service is unreachable.",
};

export function isOpen({ status }: Trade): boolean {
  return status === "pending";
}

/** Removes the oldest removable values beyond a number. Returns whether any were removed. */
function keepNewest<Value>(all: Map<string, Value>, most: number, isEvictable: (value: Value) => boolean): boolean {
  const evicted = [...all].filter(([, value]) => isEvictable(value)).slice(0, -most);
  for (const [key] of evicted) all.delete(key);
  return evicted.length > 0;
}

function inWords({ side, quantity, symbol }: ExecuteTrade): string {
  return `${side === "buy" ? "Buy" : "Sell"} ${amount(quantity)} ${symbol}`;
}
