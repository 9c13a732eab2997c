import assert from "node:assert/strict";
import { test } from "node:test";
import { type Reading, Ring, pathOf, ratesOf, roundUp } from "../src/dashboard/figures.ts";
import { Journal, MAX_LISTED } from "../src/dashboard/journal.ts";
import { reasonsOf, stepsOf } from "../src/dashboard/diagnosis.ts";
import { eventOf } from "../src/dashboard/drill/trace.ts";
import { compare } from "../src/dashboard/sorted.ts";
import { Titles } from "../src/dashboard/titles.ts";
import type { Conversations, NodeChange } from "../src/dashboard/types.ts";
import { age, bytes, lasting, many, millis, nodeId, rate } from "../src/dashboard/words.ts";

const traffic = (received: number) => ({ received, sent: received * 10, bytesReceived: received * 100, bytesSent: received * 1_000 });
const reading = (at: number, servers: Record<string, number>): Reading => ({ at, traffic: new Map(Object.entries(servers).map(([name, received]) => [name, traffic(received)])) });

test("rates are differences of two readings in the time between them", () => {
  assert.deepEqual(ratesOf(reading(1_000, { a: 10 }), reading(3_000, { a: 15 })), { received: 2.5, sent: 25, bytesReceived: 250, bytesSent: 2_500 });
  assert.deepEqual(ratesOf(reading(0, { a: 10 }), reading(2_000, { a: 10 })), { received: 0, sent: 0, bytesReceived: 0, bytesSent: 0 });
});

test("rates are sums of the servers that both readings have", () => {
  const before = reading(0, { a: 10, b: 100, left: 7 });
  assert.equal(ratesOf(before, reading(2_000, { a: 20, b: 130, joined: 5_000 }))?.received, 20);
  assert.equal(ratesOf(before, reading(2_000, { b: 130 }))?.received, 15, "one does not answer");
});

test("rates need two readings of the same running server", () => {
  assert.equal(ratesOf(undefined, reading(1_000, { a: 10 })), undefined);
  assert.equal(ratesOf(reading(0, { a: 10 }), reading(1_000, { b: 20 })), undefined, "another server, or started again");
  assert.equal(ratesOf(reading(1_000, { a: 10 }), reading(1_000, { a: 10 })), undefined, "no time between them");
});

test("a ring has the newest values in order and never mutates returned arrays", () => {
  const ring = new Ring<number>(3);
  for (const item of [1, 2]) ring.push(item);
  const before = ring.items;
  for (const item of [3, 4, 5]) ring.push(item);
  assert.deepEqual([before, ring.items], [[1, 2], [3, 4, 5]]);
  ring.clear();
  assert.deepEqual(ring.items, []);
});

test("a chart ends at a round number above or equal to its highest value", () => {
  const expected = [[0, 1], [1, 1], [1.5, 2], [3, 5], [7, 10], [10, 10], [101, 200], [4_200, 5_000]];
  for (const [value = 0, top] of expected) assert.equal(roundUp(value), top, String(value));
  assert.equal(roundUp(Number.NaN), 1);
});

test("a line stays in its frame and has gaps for missing values", () => {
  const frame = { from: 0, to: 100, top: 10, width: 100, height: 50 };
  const values = [
    { at: -5, value: 1 },
    { at: 0, value: 0 },
    { at: 10, value: 5 },
    { at: 20, value: undefined },
    { at: 30, value: 10 },
    { at: 90, value: 99 },
  ];
  assert.equal(pathOf(values, frame, 20), "M0.0 50.0h0L10.0 25.0M30.0 0.0h0M90.0 0.0h0");
  assert.equal(pathOf([], frame, 20), "");
});

test("refusals are summed by reason, and the latest are listed, newest first", () => {
  const journal = new Journal();
  const report = (reason: string, count: number) => journal.refused({ node: "a", refusals: [{ type: "rateLimit", reason, count }], timestamp: "2026-01-01T00:00:00.000Z" });
  report("typing", 2);
  report("messages", 1);
  report("messages", 4);
  assert.deepEqual(journal.reasons.map(({ reason, count }) => [reason, count]), [["messages", 5], ["typing", 2]]);
  assert.deepEqual(journal.refusals.map(({ text }) => text), ["rate limit: messages × 4", "rate limit: messages", "rate limit: typing × 2"]);
  for (let index = 0; index < 1_000; index += 1) report(`reason ${index}`, 1);
  assert.equal(journal.refusals.length, MAX_LISTED);
  assert.ok(journal.reasons.length <= 100);
});

test("a server is draining until it has left", () => {
  const journal = new Journal();
  const move = (change: NodeChange["change"]) => journal.moved({ node: "b", change, timestamp: "2026-01-01T00:00:00.000Z" });
  move("draining");
  assert.equal(journal.isDraining("b"), true);
  move("left");
  assert.equal(journal.isDraining("b"), false);
  journal.alerted({ node: "b", alert: "RoomcastTaskDown", part: "task", task: "retention", state: "unavailable", timestamp: "2026-01-01T00:00:00.000Z" });
  journal.alerted({ node: "b", alert: "RoomcastStoreUnavailable", part: "store", state: "ok", timestamp: "2026-01-01T00:00:00.000Z" });
  assert.deepEqual(journal.alerts.map(({ text }) => text), ["store works again", "task retention does not work", "the server left the cluster", "the server is shutting down"]);
});

test("figures are formatted by their magnitude", () => {
  assert.deepEqual([0, 999, 1_024, 1_572_864, 2 ** 50].map(bytes), ["0 B", "999 B", "1 KiB", "1.5 MiB", "1,024 TiB"]);
  assert.deepEqual([0, 0.25, 99.96, 1_234.5].map(rate), ["0", "0.3", "100", "1,235"]);
  assert.deepEqual([undefined, 0.0625, 1.55, 12.4].map(millis), ["–", "0.063 ms", "1.6 ms", "12 ms"]);
  assert.deepEqual([-1, 59_999, 61_000, 3_660_000, 90_000_000].map(lasting), ["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 day 1 h"]);
  assert.deepEqual([many(1, "server"), many(2, "server")], ["1 server", "2 servers"]);
});

test("a line of a trace is a step with its further fields", () => {
  const line = { at: "2026-01-01T00:00:00.000Z", node: "a", step: "ack_sent", user: "ann", socket: "s", conversation: null, event: "message", bytes: 12, more: { of: 1 } };
  assert.deepEqual(eventOf(7, line), { number: 7, at: "2026-01-01T00:00:00.000Z", step: "ack sent", more: 'event message, bytes 12, more {"of":1}' });
  const long = eventOf(1, { step: "received", text: "x".repeat(1_000) });
  assert.equal(long.more.length, 301);
  const published = { step: "published", channel: "orders:7:42", event: "changed", data: { n: 1 } };
  assert.equal(eventOf(1, published).more, 'event changed, data {"n":1}');
  assert.deepEqual(eventOf(1, {}), { number: 1, at: "", step: "unknown", more: "" });
});

test("names of servers and ages are for people", () => {
  assert.deepEqual([nodeId("Xy~chat-1"), nodeId("chat-1"), nodeId("a~b~c")], ["chat-1", "chat-1", "b~c"]);
  assert.deepEqual([age(0), age(61_000)], ["0 s old", "1 min 1 s old"]);
});

test("steps have rates at their end, and reasons begin with the most frequent", () => {
  const history = {
    beginsAt: "2026-01-01T00:00:00.000Z",
    stepSeconds: 10,
    connected: [20, 5],
    refused: [0, 1],
    disconnected: [
      { reason: "ping timeout", counts: [1, 0] },
      { reason: "transport close", counts: [0, 30] },
    ],
  };
  const at = Date.parse(history.beginsAt);
  assert.deepEqual(stepsOf(history), [
    { at: at + 10_000, connected: 2, refused: 0, disconnected: { "ping timeout": 0.1, "transport close": 0 } },
    { at: at + 20_000, connected: 0.5, refused: 0.1, disconnected: { "ping timeout": 0, "transport close": 3 } },
  ]);
  assert.deepEqual(reasonsOf(history), ["transport close", "ping timeout"]);
});

test("numbers and texts are compared in both directions, unknown last", () => {
  const sort = (values: (string | number | undefined)[], isDescending: boolean) => [...values].sort((one, other) => compare(one, other, isDescending));
  assert.deepEqual(sort([2, 10, 1], true), [10, 2, 1]);
  assert.deepEqual(sort(["room 10", "Room 2", "a"], false), ["a", "Room 2", "room 10"]);
  // Arrays move `undefined` to their end by themselves, so pairs are compared.
  for (const isDescending of [true, false]) assert.deepEqual([compare(undefined, 1, isDescending), compare("a", undefined, isDescending)], [1, -1]);
});

test("titles are requested once a minute, and never without the permission", async () => {
  const requests: string[] = [];
  const titles = new Titles();
  const api = (answer: () => Promise<Conversations>) => ({
    conversations: ({ ids = "" }: { ids?: string }) => {
      requests.push(ids);
      return answer();
    },
  });
  const one = { id: "1", title: "Plans" } as Conversations["conversations"][number];
  const known = api(async () => ({ conversations: [one], hasMore: false }));
  for (let time = 0; time < 2; time += 1) await titles.load(known, ["conversation:1", "user:ann", "conversation:2", "conversation:1"]);
  assert.deepEqual(requests, ["1,2"]);
  assert.deepEqual(["conversation:1", "conversation:2", "user:ann"].map((room) => titles.get(room)), ["Plans", "deleted", undefined]);
  titles.clear();
  const denied = api(() => Promise.reject(Object.assign(new Error("no"), { code: "FORBIDDEN" })));
  for (let time = 0; time < 2; time += 1) await titles.load(denied, ["conversation:3"]);
  assert.deepEqual(requests, ["1,2", "3"]);
});
