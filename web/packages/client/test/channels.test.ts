// Channels over the real manager, with a server that the test plays.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type Channel, type ChannelEnd, type ChannelOptions, type PositionStorage, channel, localPositions } from "../src/channels.ts";
import { DISCONNECTED, RequestError, TIMED_OUT } from "../src/failure.ts";
import type { Line, ObservedLine } from "../src/line/line.ts";
import { SocketManager } from "../src/manager.ts";
import { settled } from "./fake.ts";
import { FakeServer, ORDER, invalid } from "./fake_channels.ts";

interface Orders {
  updated: number;
  deleted: number;
}

/** Follows a channel and records what it reports. */
function follow(t: TestContext, server: FakeServer, options: ChannelOptions = {}, name = ORDER) {
  const manager = new SocketManager("http://127.0.0.1:9", { share: () => server as unknown as Line & { watch: ObservedLine["watch"] } });
  t.after(() => manager.leave());
  return { manager, ...watch(t, manager, options, name) };
}

function watch(t: TestContext, manager: SocketManager, options: ChannelOptions = {}, name = ORDER) {
  const followed: Channel<Orders> = channel<Orders>(manager, name, options);
  t.after(() => followed.close());
  const seen: (number | string)[] = [];
  const ends: ChannelEnd[] = [];
  const failed: string[] = [];
  followed.on("updated", (data) => seen.push(data));
  followed.watch("reset", (newest, hasOlder) => seen.push(`reset ${newest.map(({ data }) => data)}${hasOlder ? " of more" : ""}`));
  followed.watch("ended", (end) => ends.push(end));
  followed.watch("failed", ({ code, message }) => failed.push(`${code} ${message}`));
  return { followed, seen, ends, failed };
}

/** A storage that remembers what it was asked. */
function memory(initial: Record<string, string> = {}): PositionStorage & { stored: Record<string, string> } {
  const stored = initial;
  return {
    stored,
    load: (userId, name) => stored[`${userId} ${name}`],
    save: (userId, name, position) => void (stored[`${userId} ${name}`] = position),
  };
}

const subscriptions = ({ requests }: FakeServer) => requests.filter((request) => request.startsWith("channel:subscribe")).map((request) => request.slice(18));

test("the first answer resets; live events and pages of missed ones follow", async (t) => {
  const server = new FakeServer();
  server.store([1, 2, 3, 4]);
  const { seen, followed } = follow(t, server);
  server.connect();
  await settled();
  assert.deepEqual(seen, ["reset 2,3,4 of more", 2, 3, 4]);
  assert.ok(followed.isFollowing);
  server.store([5]);
  server.lose();
  assert.ok(!followed.isFollowing);
  server.store([6, 7, 8, 9, 10, 11, 12]);
  server.connect();
  await settled();
  server.store([13]);
  assert.deepEqual(seen.slice(4), [5, 6, 7, 8, 9, 10, 11, 12, 13]);
  assert.deepEqual(subscriptions(server), ["{}", ...[5, 8, 11].map((number) => `{"since":"${ORDER}.${number}"}`)]);
});

test("events that arrive before an answer are delivered after it, each once", async (t) => {
  const server = new FakeServer();
  server.store([1, 2]);
  const { seen } = follow(t, server);
  // Live events may be processed before the answer that precedes them.
  server.beforeAnswer = () => server.store([3, 4]);
  server.connect();
  await settled();
  assert.deepEqual(seen, ["reset 1,2", 1, 2, 3, 4]);
  server.lose();
  server.store([5, 6]);
  // A recovered client receives missed events, and the same ones in the answer.
  for (const number of [5, 6]) server.send(ORDER, number);
  server.beforeAnswer = () => server.store([7]);
  server.connect();
  await settled();
  server.store([8]);
  assert.deepEqual(seen.slice(3), [3, 4, 5, 6, 7, 8]);
});

test("events arrive once and in order whatever happens to the connection", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (let seed = 1; seed <= 300; seed += 1) {
    let random = seed * 7919;
    const below = (bound: number) => (random = (random * 48271) % 2147483647) % bound;
    const server = new FakeServer();
    const { seen, followed } = follow(t, server, { storage: memory({ [`ada ${ORDER}`]: `${ORDER}.0` }) });
    let last = 0;
    const store = () => server.store(Array.from({ length: below(5) }, () => (last += 1)));
    const steps = [
      store,
      () => (server.isReady ? server.lose() : server.connect()),
      () => server.isReady && server.end("interrupted"),
      () => (server.beforeAnswer = () => (store(), below(2) === 0 && server.end("interrupted"), store())),
      () => (server.losesAnswer = true),
      // Another tab on the connection follows the channel.
      () => server.isReady && server.following.add(ORDER),
      () => t.mock.timers.tick(1_000),
      settled,
    ];
    for (let step = 0; step < 60; step += 1) await steps[below(steps.length)]?.();
    if (!server.isReady) server.connect();
    for (let tries = 0; tries < 20 && !followed.isFollowing; tries += 1) {
      await settled();
      t.mock.timers.tick(8_000);
    }
    store();
    assert.deepEqual(seen, Array.from({ length: last }, (_, index) => index + 1), `seed ${seed}`);
    followed.close();
  }
});

test("more early events than are buffered are read again", async (t) => {
  const server = new FakeServer();
  server.store([1]);
  const { seen } = follow(t, server);
  const many = Array.from({ length: 1_005 }, (_, index) => index + 2);
  server.beforeAnswer = () => server.store(many);
  server.connect();
  for (let page = 0; page < 80; page += 1) await settled();
  assert.deepEqual(seen, ["reset 1", 1, ...many]);
});

test("an interrupted channel continues once, also while it waits for answers", async (t) => {
  const server = new FakeServer();
  server.store([1]);
  const { seen } = follow(t, server);
  server.connect();
  await settled();
  server.end("interrupted");
  server.store([2, 3]);
  server.beforeAnswer = () => {
    server.end("interrupted");
    server.store([4]);
  };
  await settled();
  server.store([5]);
  assert.deepEqual(seen, ["reset 1", 1, 2, 3, 4, 5]);
});

test("channels with one event name are told apart and closed one by one", async (t) => {
  const server = new FakeServer();
  const { seen, manager, followed } = follow(t, server, { token: "fixed" });
  const other = watch(t, manager, {}, "orders:7:43");
  const channels: string[] = [];
  other.followed.on("updated", (_, meta) => channels.push(`${meta.channel} ${meta.position} ${meta.id} ${meta.timestamp}`));
  server.connect();
  await settled();
  server.store([1]);
  server.store([2], { name: "orders:7:43" });
  server.store([3], { event: "deleted" });
  assert.deepEqual([seen, other.seen], [["reset ", 1], ["reset ", 2]]);
  assert.deepEqual(channels, ["orders:7:43 orders:7:43.1 id-2 now"]);
  assert.equal(channel<Orders>(manager, ORDER), followed);
  followed.close();
  server.store([4]);
  server.store([5], { name: "orders:7:43" });
  assert.deepEqual([seen.at(-1), other.seen.at(-1)], [1, 5]);
  assert.equal(server.requests.at(-1), `channel:unsubscribe {"channel":"${ORDER}"}`);
  assert.notEqual(channel<Orders>(manager, ORDER), followed);
  channel(manager, ORDER).close();
});

test("forgotten events reset, with the newest ones", async (t) => {
  const server = new FakeServer();
  server.store([1]);
  const { seen } = follow(t, server);
  server.connect();
  await settled();
  server.lose();
  server.store([2, 3, 4, 5]);
  server.oldest = 4;
  server.connect();
  await settled();
  assert.deepEqual(seen, ["reset 1", 1, "reset 4,5", 4, 5]);
});

test("a channel without a history resets with each subscription", async (t) => {
  const server = new FakeServer();
  server.storesNothing = true;
  const storage = memory();
  const { seen, followed, manager } = follow(t, server, { storage });
  server.connect();
  await settled();
  server.store([1, 2]);
  server.lose();
  server.store([3]);
  server.beforeAnswer = () => server.store([4, 5]);
  server.connect();
  await settled();
  server.end("interrupted");
  await settled();
  server.store([6]);
  assert.deepEqual(seen, ["reset ", 1, 2, "reset ", 4, 5, "reset ", 6]);
  assert.deepEqual(storage.stored, { [`ada ${ORDER}`]: `${ORDER}.0` });
  const since = `{"since":"${ORDER}.0"}`;
  assert.deepEqual(subscriptions(server), ["{}", since, since]);
  followed.close();
  const next = watch(t, manager, { storage });
  await settled();
  assert.deepEqual([next.seen, subscriptions(server).at(-1)], [["reset "], since]);
});

test("presence is read with another token after a refused one", async (t) => {
  const server = new FakeServer();
  let tokens = 0;
  const { followed } = follow(t, server, { token: () => `t${(tokens += 1)}` });
  server.connect();
  await settled();
  server.refusing = (_, { token }) => (token === "t1" ? invalid("token") : undefined);
  assert.deepEqual(await followed.presence(), { channel: ORDER, users: [], count: 0 });
  const requests = ["t1", "t2"].map((token) => `channel:presence {"token":"${token}"}`);
  assert.deepEqual(server.requests.slice(-2), requests);
  server.refusing = () => new RequestError({ code: "CONFLICT", message: "" });
  await assert.rejects(followed.presence(), { code: "CONFLICT" });
});

test("a position is stored after the event, and the next visit continues", async (t) => {
  const server = new FakeServer();
  server.store([1]);
  const storage = memory();
  const first = follow(t, server, { storage });
  const storedAt: unknown[] = [];
  first.followed.on("updated", () => storedAt.push(storage.stored[`ada ${ORDER}`]));
  server.connect();
  await settled();
  server.store([2, 3]);
  assert.deepEqual(storedAt, [undefined, `${ORDER}.1`, `${ORDER}.2`]);
  assert.deepEqual(storage.stored, { [`ada ${ORDER}`]: `${ORDER}.3` });
  const save = t.mock.method(storage, "save");
  server.lose();
  server.connect();
  await settled();
  assert.equal(save.mock.callCount(), 0, "it has not changed");
  first.followed.close();
  server.store([4]);
  const second = watch(t, first.manager, { storage });
  await settled();
  assert.deepEqual(second.seen, [4]);
});

test("a position belongs to one user, also on one connection", async (t) => {
  const server = new FakeServer();
  server.store([1, 2]);
  const storage = memory({ [`bob ${ORDER}`]: `${ORDER}.1` });
  const { seen } = follow(t, server, { storage });
  for (const user of ["ada", "bob", "eve"]) {
    server.connect(user);
    await settled();
    server.lose();
    seen.push(user);
  }
  assert.deepEqual(seen, ["reset 1,2", 1, 2, "ada", 2, "bob", "reset 1,2", 1, 2, "eve"]);
  assert.deepEqual(new Set(Object.values(storage.stored)), new Set([`${ORDER}.2`]));
});

test("a guest with another id after a reconnect receives nothing again", async (t) => {
  const server = new FakeServer();
  server.store([1]);
  const { seen } = follow(t, server);
  server.connect("guest-1", { guest: true });
  await settled();
  server.lose();
  server.store([2]);
  server.connect("guest-2", { guest: true });
  await settled();
  assert.deepEqual(seen, ["reset 1", 1, 2]);
});

test("a stored position that is refused or cannot be read is a reset", async (t) => {
  const server = new FakeServer();
  server.store([1]);
  const storage = memory({ [`ada ${ORDER}`]: `${ORDER}.9` });
  const { seen } = follow(t, server, { storage });
  server.connect();
  await settled();
  assert.deepEqual(seen, ["reset 1", 1]);
  assert.deepEqual(subscriptions(server), [`{"since":"${ORDER}.9"}`, "{}"]);
  const broken = new FakeServer();
  const fail = () => Promise.reject(new Error("broken"));
  const second = follow(t, broken, { storage: { load: fail, save: fail } });
  broken.connect();
  await settled();
  broken.store([1]);
  await settled();
  assert.deepEqual(second.seen, ["reset ", 1]);
  assert.deepEqual(new Set(second.failed), new Set(["STORAGE_FAILED Error: broken"]));
});

test("local storage has one position of each channel, for its reader", (t) => {
  const items = new Map<string, string>();
  const storage = { getItem: (key: string) => items.get(key) ?? null, setItem: (key: string, value: string) => void items.set(key, value) };
  const before = Object.getOwnPropertyDescriptor(globalThis, "localStorage");
  Object.defineProperty(globalThis, "localStorage", { value: storage, configurable: true });
  t.after(() => (before ? Object.defineProperty(globalThis, "localStorage", before) : Reflect.deleteProperty(globalThis, "localStorage")));
  const positions = localPositions("shop");
  assert.equal(positions.load("ada", ORDER), undefined);
  positions.save("ada", ORDER, "p1");
  assert.deepEqual([positions.load("ada", ORDER), positions.load("bob", ORDER)], ["p1", undefined]);
  positions.save("bob", ORDER, "p2");
  assert.deepEqual([positions.load("ada", ORDER), positions.load("bob", ORDER), items.size], [undefined, "p2", 1]);
});

test("an expired token is replaced, and the channel continues", async (t) => {
  const server = new FakeServer();
  server.store([1]);
  let tokens = 0;
  const { seen, ends } = follow(t, server, { token: async () => `t${(tokens += 1)}` });
  server.connect();
  await settled();
  server.end("expired");
  server.store([2]);
  await settled();
  assert.deepEqual(seen, ["reset 1", 1, 2]);
  assert.deepEqual(ends, [{ reason: "expired", renews: true }]);
  assert.deepEqual(subscriptions(server), ['{"token":"t1"}', `{"token":"t2","since":"${ORDER}.1"}`]);
});

test("a refused token is replaced once, a missing one is requested again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  let tokens = 0;
  const token = () => {
    tokens += 1;
    if (tokens === 1) throw new Error("no network");
    return `t${tokens}`;
  };
  const { followed, ends, failed } = follow(t, server, { token });
  let isExpired = true;
  server.refusing = (_, payload) => (isExpired || payload.token !== "t6" ? invalid("token") : undefined);
  server.connect();
  await settled();
  assert.deepEqual(failed, ["NO_CREDENTIALS Error: no network"]);
  t.mock.timers.tick(1_000);
  await settled();
  assert.deepEqual([tokens, ends.map(({ reason, renews, failure }) => [reason, renews, failure?.code])], [3, [["refused", false, "INVALID_PAYLOAD"]]]);
  isExpired = false;
  await assert.rejects(followed.history({ limit: 1 }), { code: "INVALID_PAYLOAD" });
  assert.equal(tokens, 4);
  followed.retry();
  await settled();
  assert.deepEqual([tokens, followed.isFollowing], [6, true]);
  assert.deepEqual((await followed.history()).events, []);
  // Later, the server refuses this one.
  server.refusing = (_, payload) => (payload.token === "t6" ? invalid("token") : undefined);
  server.lose();
  server.connect();
  await settled();
  assert.deepEqual([tokens, followed.isFollowing], [7, true]);
});

test("a channel that has ended waits for retry or a new call", async (t) => {
  const server = new FakeServer();
  const { seen, ends, followed, manager } = follow(t, server, { token: "fixed" });
  server.connect();
  await settled();
  for (const reason of ["forbidden", "removed", "expired"]) {
    server.end(reason);
    server.lose();
    server.connect();
    await settled();
    assert.ok(!followed.isFollowing, reason);
    if (reason === "removed") followed.retry();
    else channel(manager, ORDER);
    await settled();
    assert.ok(followed.isFollowing, reason);
  }
  assert.deepEqual(ends, ["forbidden", "removed", "expired"].map((reason) => ({ reason, renews: false })));
  assert.deepEqual(seen, ["reset "]);
});

test("final refusals are reported, and other ones are repeated", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  let code = TIMED_OUT;
  server.refusing = () => new RequestError({ code, message: "", ...(code === "RATE_LIMITED" && { retryAfter: 3_000 }) });
  const { ends, manager } = follow(t, server);
  server.connect();
  await settled();
  code = "RATE_LIMITED";
  t.mock.timers.tick(1_000);
  await settled();
  code = "NOT_FOUND";
  t.mock.timers.tick(2_999);
  await settled();
  assert.equal(ends.length, 0);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual(ends.map(({ reason, renews, failure }) => [reason, renews, failure?.code]), [["refused", false, "NOT_FOUND"]]);
  const failures = manager.log.filter(({ what }) => what === "subscription failed").map(({ detail }) => detail);
  assert.deepEqual(failures, [TIMED_OUT, "RATE_LIMITED", "NOT_FOUND"].map((code) => `channel:subscribe ${code}`));
});

test("requests are repeated while the backend does not answer", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  server.store([1]);
  const { seen, ends, followed } = follow(t, server);
  server.connect();
  await settled();
  server.refusing = () => new RequestError({ code: "BACKEND_UNAVAILABLE", message: "", retryAfter: 5_000 });
  // The answer of the backend has expired.
  server.end("interrupted");
  const published = followed.publish("updated", 3, "own");
  server.store([2]);
  await settled();
  server.refusing = () => undefined;
  t.mock.timers.tick(4_999);
  await settled();
  assert.deepEqual([seen, server.published, followed.isFollowing], [["reset 1", 1], [], false]);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual([seen, ends, followed.isFollowing], [["reset 1", 1, 2], [], true]);
  await published;
  assert.deepEqual(server.published, [{ id: "own", userId: "ada" }]);
  // The backend denies it from now on.
  server.refusing = () => new RequestError({ code: "NOT_FOUND", message: "" });
  server.end("interrupted");
  await settled();
  assert.deepEqual(ends.map(({ reason, renews, failure }) => [reason, renews, failure?.code]), [["refused", false, "NOT_FOUND"]]);
});

test("a token that was requested for one user is not used for the next", async (t) => {
  const server = new FakeServer();
  const given: ((token: string) => void)[] = [];
  const { followed } = follow(t, server, { token: () => new Promise<string>((resolve) => given.push(resolve)) });
  server.connect("ada");
  await settled();
  server.lose();
  server.connect("bob");
  await settled();
  for (const [index, give] of given.entries()) give(["ada's", "bob's"][index] ?? "");
  await settled();
  assert.deepEqual(subscriptions(server), ['{"token":"bob\'s"}']);
  followed.watch("ended", () => followed.close());
  server.end("expired");
  await settled();
  assert.equal(given.length, 2, "a closed channel requests none");
});

test("an event that the server fails to store is refused after five attempts", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  const { followed } = follow(t, server);
  server.connect();
  await settled();
  server.refusing = (_, { id }) => (id === "bad" ? new RequestError({ code: "INTERNAL", message: "" }) : undefined);
  server.lose();
  const bad = followed.publish("updated", 1, "bad");
  const good = followed.publish("updated", 2, "good");
  const outcome = assert.rejects(bad, { code: "INTERNAL" });
  await settled();
  server.connect();
  for (let tries = 0; tries < 5; tries += 1) {
    await settled();
    t.mock.timers.tick(8_000);
  }
  await outcome;
  await good;
  assert.equal(server.requests.filter((request) => request.startsWith("channel:publish")).length, 7);
});

test("events are published in order, after lost answers under the same id", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  const { followed } = follow(t, server, { token: "fixed" });
  const published = [followed.publish("updated", 1), followed.publish("updated", 2, "own")];
  await settled();
  server.connect();
  await settled();
  assert.deepEqual(await Promise.all(published), [{ position: "p" }, { position: "p" }]);
  const [first, second] = server.published;
  assert.match(first?.id ?? "", /^[0-9a-f]{32}$/);
  assert.equal(second?.id, "own");
  server.refusing = (name) => {
    if (name !== "channel:publish") return undefined;
    server.lose();
    server.refusing = () => undefined;
    return new RequestError({ code: DISCONNECTED, message: "" });
  };
  const lost = followed.publish("updated", 3);
  await settled();
  server.connect();
  await lost;
  const third = server.published.at(-1)?.id;
  const ids = server.requests.filter((request) => request.startsWith("channel:publish")).map((request) => /"id":"(\w+)"/.exec(request)?.[1]);
  // Each was sent once without a connection, or its answer was lost.
  assert.deepEqual(ids, [first?.id, first?.id, "own", third, third]);
  server.refusing = () => new RequestError({ code: "FORBIDDEN", message: "" });
  await assert.rejects(followed.publish("updated", 4), { code: "FORBIDDEN" });
});

test("events are not published as another user or after the end", async (t) => {
  const server = new FakeServer();
  const { followed } = follow(t, server);
  server.connect("ada");
  await settled();
  server.lose();
  const published = followed.publish("updated", 1);
  await settled();
  server.connect("bob");
  await assert.rejects(published, { code: "DISCARDED" });
  server.lose();
  const waiting = Array.from({ length: 1_000 }, () => followed.publish("updated", 2));
  await assert.rejects(followed.publish("updated", 3), { code: "QUEUE_FULL" });
  await settled();
  followed.close();
  for (const one of waiting) await assert.rejects(one, { code: "DISCARDED" });
  assert.deepEqual(server.published, []);
});

test("a tab that reads pages makes others on its connection subscribe again", async (t) => {
  const server = new FakeServer();
  server.store([1]);
  const { seen, followed } = follow(t, server);
  server.connect();
  await settled();
  const tab = new BroadcastChannel(`roomcast:channel:${ORDER}`);
  t.after(() => tab.close());
  // The answer to the other tab has ended the subscription of the connection.
  server.following.clear();
  server.store([2]);
  const again = new Promise<void>((resolve) => (server.beforeAnswer = resolve));
  tab.postMessage("subscribe");
  await again;
  await settled();
  assert.deepEqual([seen, followed.isFollowing], [["reset 1", 1, 2], true]);
  // This tab notifies the other ones in turn.
  const notified = new Promise<unknown>((resolve) => (tab.onmessage = ({ data }) => resolve(data)));
  server.lose();
  server.store([3, 4, 5, 6]);
  server.connect();
  assert.equal(await notified, "subscribe");
});

test("a listener may close the channel or the connection", async (t) => {
  const server = new FakeServer();
  server.store([1, 2, 3]);
  const storage = memory();
  const { seen, followed } = follow(t, server, { storage });
  followed.on("updated", (data) => data === 2 && followed.close());
  server.connect();
  await settled();
  assert.deepEqual(seen, ["reset 1,2,3", 1, 2]);
  assert.deepEqual(storage.stored, {});
  assert.equal(server.following.size, 0);
  const next = new FakeServer();
  next.store([1]);
  const { followed: other } = follow(t, next);
  other.on("updated", () => next.lose());
  next.connect();
  await settled();
  assert.ok(!other.isFollowing);
});
