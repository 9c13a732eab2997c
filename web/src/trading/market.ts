import { DISCONNECTED, RequestError, type SocketManager, TIMED_OUT } from "../../packages/client/src/index.ts";
import { randomId } from "../../packages/client/src/time.ts";
import type { ExecuteTrade, Portfolio, Signal, Trade, TradeError, TradeExecuted } from "../types.ts";
import { explain } from "../words/failure.ts";
import { Journal } from "./journal.ts";
import { amount } from "./numbers.ts";

/** So many settled trades and signals are kept, the newest; of open trades all are. */
const MAX_SETTLED = 200;
const MAX_SIGNALS = 200;
const MAX_OUTCOMES = 20;
/** A service that executes trades may take its time. */
const PATIENCE = 60_000;

/** What became of an order, in words. */
export interface Outcome {
  readonly key: string;
  readonly text: string;
  readonly kind: "good" | "bad" | "open";
}

/** What the outside does for what is followed. */
export interface MarketSurroundings {
  changed(): void;
  /** Worth reading out. */
  announce(text: string): void;
  /** Something became of an order. */
  ended(outcome: Outcome): void;
}

type Connection = Pick<SocketManager, "on" | "request" | "session" | "subscribe">;

/** What one user follows of the market, as long as somebody looks at it. */
export class Market {
  portfolio: Portfolio | undefined;
  /** Why something of it cannot be followed, by what it is. */
  readonly refusals = new Map<"portfolio" | "trades" | "signals", string>();
  readonly known = { portfolio: new Journal(), trades: new Journal(), signals: new Journal() };
  hasMoreTrades = false;
  hasMoreSignals = false;
  outcomes: readonly Outcome[] = [];
  /** In the order of their last changes. */
  #trades = new Map<string, Trade>();
  #signals = new Map<string, Signal>();
  #count = 0;
  readonly #connection: Connection;
  readonly #surroundings: MarketSurroundings;
  readonly #ends: (() => void)[] = [];

  constructor(connection: Connection, surroundings: MarketSurroundings) {
    this.#connection = connection;
    this.#surroundings = surroundings;
    this.#listen();
    const userId = connection.session?.userId ?? "";
    this.#follow("portfolio", { userId });
    this.#follow("trades", { userId });
    this.#follow("signals", {});
  }

  /** Those that are open first, then those that have changed last. */
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

  /** Has a trade executed, under an id of its own: whoever has ordered twice has given two orders. */
  async execute(order: ExecuteTrade): Promise<void> {
    try {
      const asked = { ...order, clientTradeId: randomId() };
      const executed = await this.#connection.request("execute:trade", asked, PATIENCE);
      this.#noteExecuted(executed);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      const { code } = error;
      if (code === DISCONNECTED || code === TIMED_OUT) {
        this.#note(`unknown:${(this.#count += 1)}`, "open", `${inWords(order)}: nobody knows yet whether it was executed. Look at your trades before you order again.`);
      } else if (code !== "CONFLICT") {
        this.#note(`refused:${(this.#count += 1)}`, "bad", `${inWords(order)}: not executed. ${explain(error)}`);
      }
      // What a conflict is about comes as the event `trade:error`, which knows the trade.
    }
    this.#surroundings.changed();
  }

  close(): void {
    for (const end of this.#ends) end();
  }

  #follow(what: "portfolio" | "trades" | "signals", payload: object): void {
    const refused = (failure: RequestError) => {
      this.refusals.set(what, explain(failure));
      this.#surroundings.changed();
    };
    const answered = () => this.refusals.delete(what);
    this.#ends.push(this.#connection.subscribe(`subscribe:${what}`, payload, { answered, refused }));
  }

  #listen(): void {
    const { portfolio, trades, signals } = this.known;
    const changing = <Payload>(take: (payload: Payload) => void) => (payload: Payload) => {
      take(payload);
      this.#surroundings.changed();
    };
    const connection = this.#connection;
    // The events, and not the answers: these may come behind updates.
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
        // Of channels other subscriptions tell.
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
    if (before?.status !== trade.status) this.#surroundings.announce(`Trade of ${trade.symbol}: ${trade.status}`);
  }

  #noteExecuted({ tradeId, executedPrice, ...order }: TradeExecuted): void {
    this.#note(tradeId, "good", `${inWords(order)}: executed at ${amount(executedPrice)}.`);
  }

  #noteError({ code, message, symbol, tradeId }: TradeError): void {
    // Without a trade the answer to the order says it.
    if (tradeId === undefined && code !== "CONFLICT") return;
    const isOpenStill = code === "OUTCOME_UNKNOWN";
    const text = isOpenStill ? "nobody knows yet whether it was executed. You will be told." : `not executed. ${errors[code] ?? message}`;
    this.#note(tradeId ?? `error:${(this.#count += 1)}`, isOpenStill ? "open" : "bad", `${symbol}: ${text}`);
  }

  /** The outcome of a trade may come more than once, and in place of one that was not known yet. */
  #note(key: string, kind: Outcome["kind"], text: string): void {
    const known = this.outcomes.find((outcome) => outcome.key === key);
    if (known !== undefined && known.kind !== "open") return;
    const outcome = { key, kind, text };
    this.outcomes = [outcome, ...this.outcomes.filter((other) => other !== known)].slice(0, MAX_OUTCOMES);
    this.#surroundings.ended(outcome);
  }
}

const errors: Record<string, string | undefined> = {
  NO_PRICE: "The server knows no price of it.",
  EXECUTOR_UNAVAILABLE: "What executes trades cannot be reached.",
};

export function isOpen({ status }: Trade): boolean {
  return status === "pending";
}

/** Drops the oldest of those that may be dropped; tells whether there were any. */
function keepNewest<Value>(all: Map<string, Value>, most: number, mayGo: (value: Value) => boolean): boolean {
  const going = [...all].filter(([, value]) => mayGo(value)).slice(0, -most);
  for (const [key] of going) all.delete(key);
  return going.length > 0;
}

function inWords({ side, quantity, symbol }: ExecuteTrade): string {
  return `${side === "buy" ? "Buy" : "Sell"} ${amount(quantity)} ${symbol}`;
}
