import assert from "node:assert/strict";
import { test } from "node:test";
import type { Price } from "../src/types.ts";
import { gainAt, gainPercent, valueAt } from "../src/trading/exact.ts";
import { gain, sum } from "../src/trading/numbers.ts";
import { MAX_POSITIONS, Prices, ageInWords, ageOf, isOld } from "../src/trading/prices.ts";

/** Prices over a connection whose events the test controls. */
function fake() {
  const listeners = new Map<string, (payload: never) => void>();
  const requests: string[] = [];
  const connection = {
    on: (name: string, listener: (payload: never) => void) => {
      listeners.set(name, listener);
      return () => listeners.delete(name);
    },
    subscribe: (_: string, { symbols }: { symbols: string[] }) => {
      const name = symbols.length > 3 ? `${symbols.length}` : symbols.join(" ");
      requests.push(`+ ${name}`);
      return () => requests.push(`- ${name}`);
    },
  };
  const prices = new Prices(connection as never);
  const receive = (name: string, payload: unknown) => listeners.get(name)?.(payload as never);
  const answer = (symbols: string[], ...known: Price[]) => receive("prices:subscribed", { rooms: symbols.map((symbol) => `prices:${symbol}`), snapshot: { prices: known } });
  const shown = (...symbols: string[]) => symbols.map((symbol) => [prices.quoteOf(symbol)].map((quote) => (typeof quote === "object" ? quote.price : quote))[0]);
  return { prices, requests, listeners, receive, answer, shown };
}

const price = (symbol: string, value: number, timestamp = "2026-01-01T00:00:00.000Z"): Price => ({ symbol, price: value, timestamp });

test("values and gains are exact where binary numbers are not", () => {
  assert.equal(valueAt(3, 1.1), "3.3");
  assert.equal(valueAt(0.1, 0.2), "0.02");
  assert.equal(valueAt(-0.0625, 64_120), "-4007.5000");
  assert.equal(valueAt(1e15, 123456789.012345), "123456789012345000000000.000000");
  assert.equal(valueAt(1e-7, 1e-12), "0.0000000000000000001");
  assert.equal(valueAt(1e21, 2), "2000000000000000000000");
  assert.equal(gainAt(3, 1.1, 1), "0.3");
  assert.equal(gainAt(-2, 7, 5), "-4");
  // The binary product is 1.00499999999999989, which would be rounded to 1.00.
  assert.equal(sum(valueAt(1.005, 1)), "1.01");
  assert.equal(sum(valueAt(999_999_999_999.99, 100)), "99,999,999,999,999.00");
  assert.equal(sum(valueAt(1e15, 1e15)), "1 × 10^30");
});

test("a gain has its sign, and a percentage of a known cost", () => {
  assert.equal(gain(40, 190.5, 187.25), "+130.00 (+1.74\u00a0%)");
  assert.equal(gain(-2, 7, 5), "-4.00 (-40.00\u00a0%)");
  assert.equal(gain(1, 5, 5), "0.00 (0.00\u00a0%)");
  assert.equal(gain(1, 5, -5), "+10.00");
  assert.equal(gain(1, 1e-12, 2e-12), "-1 × 10^-12 (-50.00\u00a0%)");
  assert.equal(gainPercent(0, 5, 4), undefined);
});

test("symbols are followed once, within limits, while they are shown", () => {
  const { prices, requests, listeners } = fake();
  prices.followPositions(["B", "A", "B"]);
  prices.followOrder("A");
  assert.deepEqual(requests.splice(0), ["+ A B"]);
  prices.followOrder("C");
  prices.followOrder("C");
  assert.deepEqual(requests.splice(0), ["+ C"]);
  // The order's symbol becomes a position: it is followed again after its end.
  prices.followPositions(["A", "B", "C"]);
  assert.deepEqual(requests.splice(0), ["- A B", "- C", "+ A B C"]);
  prices.followPositions(Array.from({ length: 1_000 }, (_, index) => `S${index}`));
  assert.deepEqual(requests.splice(0), ["- A B C", "+ 100", `+ ${MAX_POSITIONS - 100}`, "+ C"]);
  prices.close();
  assert.deepEqual(requests, ["- 100", `- ${MAX_POSITIONS - 100}`, "- C"]);
  assert.equal(listeners.size, 0);
});

test("the last price to arrive counts, of followed symbols only", () => {
  const { prices, answer, receive, shown } = fake();
  prices.followPositions(["A", "B"]);
  assert.deepEqual(shown("A", "B"), ["loading", "loading"]);
  answer(["A", "B"], price("A", 2));
  receive("price:update", price("C", 9));
  assert.deepEqual(shown("A", "B", "C"), [2, undefined, "loading"]);
  // After a withdrawal, a price may have any timestamp.
  receive("price:withdrawn", { symbol: "A", reason: "withdrawn", timestamp: "" });
  assert.deepEqual(shown("A"), [undefined]);
  receive("price:update", price("A", 3, "2025-01-01T00:00:00.000Z"));
  receive("price:update", price("B", 4));
  assert.deepEqual(shown("A", "B"), [3, 4]);
  // The snapshot after a reconnect: the price of B has expired.
  answer(["A", "B"], price("A", 3));
  assert.deepEqual(shown("A", "B"), [3, undefined]);
  prices.followPositions(["B"]);
  prices.followPositions(["A", "B"]);
  assert.deepEqual(shown("A"), ["loading"]);
});

test("changes are drawn together, after a pause", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { prices, receive } = fake();
  let drawn = 0;
  const end = prices.watch(() => (drawn += 1));
  prices.followOrder("A");
  for (let value = 1; value <= 50; value += 1) receive("price:update", price("A", value));
  assert.equal(drawn, 0);
  t.mock.timers.tick(250);
  assert.equal(drawn, 1);
  end();
  receive("price:update", price("A", 51));
  t.mock.timers.tick(250);
  assert.equal(drawn, 1);
});

test("the age is at least the time since a price was received", () => {
  const at = Date.parse("2026-01-01T00:00:00.000Z");
  const quote = { price: 1, timestamp: "2026-01-01T00:00:00.000Z", receivedAt: at + 5_000 };
  assert.equal(ageOf(quote, at + 9_000), 9_000);
  assert.equal(isOld(quote, at + 60_000), false);
  assert.equal(isOld(quote, at + 60_001), true);
  // The clock of this device is an hour slow.
  const ahead = { ...quote, receivedAt: at - 3_600_000 };
  assert.equal(isOld(ahead, at - 3_600_000), false);
  assert.equal(isOld(ahead, at - 3_500_000), true);
  assert.deepEqual([0, 1_999, 59_999, 60_000, 3_599_999, 3_600_000, 172_799_999, 172_800_000].map(ageInWords), [
    "just now",
    "just now",
    "59 s ago",
    "1 min ago",
    "59 min ago",
    "1 h ago",
    "47 h ago",
    "2 days ago",
  ]);
});
