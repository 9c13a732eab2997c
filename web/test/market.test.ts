import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestError } from "../packages/client/src/index.ts";
import type { Trade, TradeUpdate } from "../src/types.ts";
import { Market, type Outcome } from "../src/trading/market.ts";
import { amount, isSymbol, quantityOf, sum } from "../src/trading/numbers.ts";

/** A connection whose events and answers the test controls. */
function fake(permissions: string[] = []) {
  const listeners = new Map<string, (payload: never) => void>();
  const requested: unknown[] = [];
  const ended: Outcome[] = [];
  const connection = {
    session: { userId: "me", name: "Me", roles: [], permissions, guest: false },
    answer: undefined as unknown,
    on: (name: string, listener: (payload: never) => void) => {
      listeners.set(name, listener);
      return () => listeners.delete(name);
    },
    subscribe: (event: string, payload: unknown) => {
      requested.push([event, payload]);
      return () => requested.push([`end of ${event}`]);
    },
    request: async (...request: unknown[]) => {
      requested.push(request);
      if (connection.answer instanceof RequestError) throw connection.answer;
      return connection.answer;
    },
  };
  const callbacks = { changed: () => {}, announce: () => {}, ended: (outcome: Outcome) => ended.push(outcome) };
  const market = new Market(connection as never, callbacks);
  const receive = (name: string, payload: unknown) => listeners.get(name)?.(payload as never);
  return { market, connection, requested, ended, receive };
}

const trade = (tradeId: string, status: Trade["status"] = "pending"): Trade => {
  return { tradeId, userId: "me", symbol: "AAPL", side: "buy", status, executedPrice: status === "executed" ? 1 : null, quantity: 2, timestamp: "2026-01-01T00:00:00.000Z" };
};
const update = (revision: number, tradeId: string, status: Trade["status"]): TradeUpdate => ({ ...trade(tradeId, status), revision });
const subscribed = (revision: number, ...trades: Trade[]) => ({ room: "trades:me", snapshot: { revision, hasMore: false, trades } });
const shown = (market: Market) => market.trades.map(({ tradeId, status }) => `${tradeId} ${status}`);

test("late, repeated and early updates change nothing", () => {
  const { market, receive } = fake();
  receive("trade:update", update(4, "early", "executed"));
  assert.deepEqual(shown(market), []);
  receive("trades:subscribed", subscribed(5, trade("one"), trade("two", "failed")));
  receive("trade:update", update(7, "one", "executed"));
  receive("trade:update", update(6, "one", "pending"));
  receive("trade:update", update(7, "one", "canceled"));
  assert.deepEqual(shown(market), ["one executed", "two failed"]);
  const portfolio = (totalValue: number) => ({ userId: "me", totalValue, cash: 0, positions: [], timestamp: "2026-01-01T00:00:00.000Z" });
  receive("portfolio:subscribed", { room: "", snapshot: { revision: 3, portfolio: portfolio(3) } });
  receive("portfolio:update", { ...portfolio(2), revision: 2 });
  assert.equal(market.portfolio?.totalValue, 3);
});

test("a snapshot replaces the state even if its revisions restart", () => {
  const { market, receive } = fake();
  receive("trades:subscribed", subscribed(50, trade("old")));
  receive("trades:subscribed", subscribed(0));
  assert.deepEqual(shown(market), []);
  receive("trade:update", update(1, "new", "pending"));
  assert.deepEqual(shown(market), ["new pending"]);
});

test("all open trades come first, then the newest settled trades and signals", () => {
  const { market, receive } = fake();
  receive("trades:subscribed", subscribed(0));
  for (let revision = 1; revision <= 500; revision += 1) receive("trade:update", update(revision, `${revision}`, revision <= 50 ? "pending" : "executed"));
  assert.equal(market.trades.length, 250);
  assert.deepEqual(shown(market).slice(0, 2), ["50 pending", "49 pending"]);
  assert.equal(shown(market)[50], "500 executed");
  assert.equal(market.hasMoreTrades, true);
  const signal = (revision: number) => ({ signalId: `${revision}`, symbol: "X", providerId: "p", providerName: "P", action: "buy", entryPrice: null, stopLoss: null, takeProfit: null, confidence: 1, timestamp: "", revision });
  receive("signals:subscribed", { room: "signals", snapshot: { revision: 0, hasMore: false, signals: [] } });
  for (let revision = 1; revision <= 500; revision += 1) receive("signal:new", signal(revision));
  assert.equal(market.signals.length, 200);
  assert.equal(market.signals[0]?.signalId, "500");
});

test("withdrawn trades and signals leave the page", () => {
  const { market, receive } = fake();
  receive("trades:subscribed", subscribed(1, trade("one"), trade("two")));
  const withdrawn = (tradeId: string, revision: number) => ({ tradeId, userId: "me", timestamp: "", revision });
  receive("trade:withdrawn", withdrawn("two", 1));
  assert.deepEqual(shown(market), ["two pending", "one pending"], "it is older than the snapshot");
  receive("trade:withdrawn", withdrawn("one", 2));
  assert.deepEqual(shown(market), ["two pending"]);
  const signal = { signalId: "s", symbol: "X" };
  receive("signals:subscribed", { room: "signals", snapshot: { revision: 1, hasMore: false, signals: [signal] } });
  receive("signal:withdrawn", { signalId: "s", timestamp: "", revision: 2 });
  assert.deepEqual(market.signals, []);
});

test("the outcome of an order is listed once, and replaces an unknown one", async () => {
  const { market, connection, ended, receive } = fake(["trades:execute"]);
  assert.equal(market.mayExecute, true);
  const order = { symbol: "AAPL", side: "buy", quantity: 2 } as const;
  receive("trade:error", { code: "OUTCOME_UNKNOWN", message: "", symbol: "AAPL", tradeId: "t1" });
  const executed = { ...order, tradeId: "t1", executedPrice: 190.5, timestamp: "" };
  receive("trade:executed", executed);
  receive("trade:executed", executed);
  assert.deepEqual(ended.map(({ kind }) => kind), ["open", "good"]);
  assert.deepEqual(market.outcomes.map(({ text }) => text), ["Buy 2 AAPL: executed at 190.5."]);
  connection.answer = new RequestError({ code: "TIMED_OUT", message: "" });
  await market.execute(order);
  assert.match(market.outcomes[0]?.text ?? "", /the outcome is not known yet/);
  // The reason arrives as an event, which contains the trade.
  connection.answer = new RequestError({ code: "CONFLICT", message: "" });
  await market.execute(order);
  receive("trade:error", { code: "NO_PRICE", message: "", symbol: "AAPL", tradeId: "t2" });
  assert.equal(market.outcomes[0]?.text, "AAPL: not executed. The server has no price for it.");
  assert.equal(market.outcomes.length, 3);
});

test("each order has its own id and is executed once", async () => {
  const order = { symbol: "AAPL", side: "buy", quantity: 2 } as const;
  const { market, connection, requested } = fake(["trades:execute"]);
  requested.length = 0;
  for (const code of ["TIMED_OUT", "DISCONNECTED"]) {
    connection.answer = new RequestError({ code, message: "" });
    await market.execute(order);
  }
  const [first, second] = (requested as [string, typeof order & { clientTradeId: string }][]).map(([, payload]) => payload);
  assert.deepEqual({ ...first, clientTradeId: "" }, { ...order, clientTradeId: "" });
  assert.match(first?.clientTradeId ?? "", /^[0-9a-f]{32}$/);
  assert.notEqual(first?.clientTradeId, second?.clientTradeId);
});

test("the user's own data is followed until the market is closed", () => {
  const { market, requested } = fake();
  assert.equal(market.mayExecute, false);
  assert.deepEqual(requested, [
    ["subscribe:portfolio", { userId: "me" }],
    ["subscribe:trades", { userId: "me" }],
    ["subscribe:signals", {}],
  ]);
  market.close();
  assert.deepEqual(requested.slice(3).flat(), ["end of subscribe:portfolio", "end of subscribe:trades", "end of subscribe:signals"]);
});

test("numbers of any size can be read", () => {
  assert.deepEqual([0, -0.5, 190.5, 1e15, 0.00000001].map(amount), ["0", "-0.5", "190.5", "1,000,000,000,000,000", "0.00000001"]);
  assert.deepEqual([1e-12, 1e300, -3e20, Number.NaN].map(amount), ["1 × 10^-12", "1 × 10^300", "-3 × 10^20", "–"]);
  assert.deepEqual([0, -1234.5, 0.001].map(sum), ["0.00", "-1,234.50", "1 × 10^-3"]);
});

test("a quantity is parsed completely or refused", () => {
  assert.deepEqual(["2", " 0.5 ", ".25", "7.", "1000000000000000"].map(quantityOf), [2, 0.5, 0.25, 7, 1e15]);
  for (const wrong of ["", "0", "-1", "1,5", "1e3", "0x10", "2 3", "Infinity", "1000000000000001", "."]) assert.equal(quantityOf(wrong), undefined, wrong);
  assert.deepEqual(["BTC/USD", "", "A B", "Ä", "A".repeat(33)].map(isSymbol), [true, false, false, false, false]);
});
