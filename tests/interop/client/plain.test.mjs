// The client package with the official Node server, for everything except chat.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Server } from "socket.io";
import { memoryStorage } from "../../../web/packages/client/dist/index.js";
import { lastingPort } from "../support.mjs";
import { manager, shownBy, until, within } from "./chatter.mjs";

/** Starts an official server at a port, which ends with the test. */
function serve(t, port, set) {
  const io = new Server(port);
  t.after(() => io.close());
  set(io);
  return io;
}

/** Without the chat no event has the user's identity. */
const plain = { sessionEvent: false, idField: "key" };

describe("with the official server, the client package", { concurrency: true }, () => {
  test("gets answers, refusals and events", async (t) => {
    const port = await lastingPort();
    const notes = [];
    serve(t, port, (io) =>
      io.on("connection", (socket) => {
        socket.on("add", (numbers, answer) => answer(numbers.reduce((sum, number) => sum + number, 0)));
        socket.on("time", (answer) => answer("now"));
        socket.on("forbidden", (_, answer) => answer({ success: false, error: { code: "FORBIDDEN", message: "no" } }));
        socket.on("silent", () => {});
        socket.on("note", (text) => notes.push(text));
      }),
    );
    const client = manager(t, `http://127.0.0.1:${port}`, plain);
    const states = shownBy(client);
    await assert.rejects(client.request("add", [1, 2]), { code: "DISCONNECTED" });
    client.open();
    await until(() => client.isReady, "to connect");
    assert.equal(await client.request("add", [1, 2, 3]), 6);
    assert.equal(await client.request("time", undefined), "now");
    await assert.rejects(client.request("forbidden", {}), { name: "RequestError", code: "FORBIDDEN" });
    client.emit("note", "hello");
    await until(() => notes.length === 1, "the note");
    await assert.rejects(client.request("silent", {}, 50), { code: "TIMED_OUT" });
    assert.equal(client.status.state, "unresponsive");
    await client.request("add", [1]);
    assert.equal(client.status.state, "online");
    client.close();
    assert.equal(client.status.state, "idle");
    assert.deepEqual(states, ["connecting", "online", "unresponsive", "online", "idle"]);
  });

  test("sends queued entries in order under the same key and resubscribes", async (t) => {
    const port = await lastingPort();
    const orders = [];
    const keys = new Set();
    let isFirst = true;
    let subscriptions = 0;
    const listen = (io) =>
      io.on("connection", (socket) => {
        socket.on("subscribe:prices", ({ symbol }, answer) => {
          subscriptions += 1;
          void socket.join(symbol);
          answer({ success: true, snapshot: subscriptions });
          io.to(symbol).emit("price", symbol, subscriptions);
        });
        socket.on("unsubscribe:prices", ({ symbol }) => void socket.leave(symbol));
        socket.on("rooms", (answer) => answer([...socket.rooms].filter((room) => room !== socket.id)));
        socket.on("order", ({ key, amount }, answer) => {
          if (!keys.has(key)) orders.push(amount);
          keys.add(key);
          // The first answer is lost with the connection.
          if (isFirst) socket.conn.close();
          else answer({ success: true, amount });
          isFirst = false;
        });
      });
    const first = serve(t, port, listen);
    const snapshots = [];
    const prices = [];
    const client = manager(t, `http://127.0.0.1:${port}`, { ...plain, identity: "ann" });
    const states = shownBy(client);
    const stop = client.subscribe("subscribe:prices", { symbol: "BTC" }, { answered: ({ snapshot }) => snapshots.push(snapshot) });
    client.on("price", (symbol, price) => prices.push([symbol, price]));
    const sent = [1, 2, 3].map((amount) => client.send("order", { amount }));
    client.open();
    assert.deepEqual(await within(Promise.all(sent.map(({ answered }) => answered)), "the answers"), [
      { success: true, amount: 1 },
      { success: true, amount: 2 },
      { success: true, amount: 3 },
    ]);
    await first.close();
    await until(() => client.status.state === "offline", "the end of the server");
    const last = client.send("order", { amount: 4 });
    serve(t, port, listen);
    await within(last.answered, "the last answer");
    assert.deepEqual(orders, [1, 2, 3, 4]);
    await until(() => snapshots.length === 3 && prices.length === 3, "all subscriptions");
    assert.deepEqual(snapshots, [1, 2, 3]);
    stop();
    await until(async () => (await client.request("rooms", undefined)).length === 0, "to unsubscribe");
    assert.deepEqual(states, ["connecting", "online", "offline", "online", "offline", "online"]);
  });

  test("waits as long as a refusal states, and stops if it states no time", async (t) => {
    const port = await lastingPort();
    let attempts = 0;
    let data = { code: "RATE_LIMITED", retryAfter: 1_500 };
    serve(t, port, (io) =>
      io.use((_, next) => {
        attempts += 1;
        next(data && Object.assign(new Error("later"), { data }));
      }),
    );
    const client = manager(t, `http://127.0.0.1:${port}`, plain);
    const states = shownBy(client);
    client.open();
    await until(() => client.status.failure?.code === "RATE_LIMITED", "a refusal");
    assert.equal(client.status.state, "offline");
    data = { code: "FORBIDDEN" };
    await until(() => client.status.state === "refused", "another refusal");
    assert.equal(attempts, 2);
    data = undefined;
    client.retry();
    await until(() => client.isReady, "to connect");
    assert.deepEqual(states, ["connecting", "offline", "refused", "connecting", "online"]);
  });

  test("requests credentials until it gets them, and new ones before they end", async (t) => {
    const port = await lastingPort();
    const seen = [];
    const io = serve(t, port, (io) =>
      io.on("connection", (socket) => {
        seen.push(socket.handshake.auth.token);
        socket.on("auth:refresh", ({ token }, answer) => {
          seen.push(token);
          answer({ success: seen.length > 2, error: { code: "STORE_UNAVAILABLE", message: "later", retryAfter: 10 } });
        });
      }),
    );
    const reasons = [];
    const auth = async (reason) => {
      reasons.push(reason);
      if (reasons.length === 1) throw new Error("no network");
      return { token: `token ${reasons.length}` };
    };
    const client = manager(t, `http://127.0.0.1:${port}`, { ...plain, auth });
    const states = shownBy(client);
    client.open();
    await until(() => client.status.failure?.code === "NO_CREDENTIALS", "a failure");
    assert.equal(client.status.state, "offline");
    await until(() => client.isReady, "to connect");
    io.emit("auth:expiring", { expiresAt: new Date().toISOString() });
    await until(() => client.log.some(({ what }) => what === "refreshed"), "the refresh");
    assert.deepEqual(reasons, ["connect", "connect", "expiring", "expiring"]);
    assert.deepEqual(seen, ["token 2", "token 3", "token 4"]);
    assert.ok(!JSON.stringify(client.log).includes("token 2"), "a token in the log");
    assert.deepEqual(states, ["connecting", "offline", "online"]);
  });

  test("emits no content of one user to the listeners of the next", async (t) => {
    const port = await lastingPort();
    const secret = { id: "1", seq: 1, conversationId: "room", userId: "ann", content: "for Ann alone", version: 1 };
    serve(t, port, (io) =>
      io.on("connection", (socket) => {
        const { userId } = socket.handshake.auth;
        const messages = userId === "ann" ? [secret] : [];
        socket.on("join_conversation", (_, answer) => answer({ success: true, users: [], messages: [], hasMore: false }));
        socket.on("message_history", (_, answer) => answer({ success: true, messages, hasMore: false }));
        socket.emit("session", { userId });
      }),
    );
    let userId = "ann";
    const client = manager(t, `http://127.0.0.1:${port}`, { auth: () => ({ userId }) });
    const states = shownBy(client);
    const room = client.conversation("room");
    client.open();
    await until(() => room.stage === "entered", "Ann to enter");
    const seen = [];
    const listen = () => room.on("reset", (messages) => seen.push(messages.map(({ content }) => content)))();
    listen();
    userId = "bob";
    client.close();
    client.open();
    await until(() => client.session?.userId === "bob", "Bob");
    listen();
    await until(() => room.stage === "entered", "Bob to enter");
    listen();
    assert.deepEqual(seen[0], ["for Ann alone"]);
    // Bob may or may not have entered when the second listener is added.
    assert.ok(seen.length > 1);
    assert.deepEqual(seen.slice(1).flat(), []);
    assert.deepEqual(states, ["connecting", "online", "idle", "connecting", "online"]);
  });

  test("continues the queue of an earlier program", async (t) => {
    const port = await lastingPort();
    const url = `http://127.0.0.1:${port}`;
    const storage = memoryStorage();
    const earlier = manager(t, url, { ...plain, storage, identity: "ann" });
    for (const amount of [1, 2, 3]) earlier.send("order", { amount });
    earlier.leave();
    const orders = [];
    serve(t, port, (io) => io.on("connection", (socket) => socket.on("order", ({ amount }, answer) => answer(orders.push(amount)))));
    const other = manager(t, url, { ...plain, storage, identity: "bob" });
    other.open();
    await until(() => other.isReady, "Bob");
    const later = manager(t, url, { ...plain, storage, identity: "ann" });
    const states = [other, later].map(shownBy);
    later.open();
    await until(() => orders.length === 3 && later.queue.entries.length === 0, "the orders");
    assert.deepEqual(orders, [1, 2, 3]);
    assert.deepEqual(await storage.load("ann"), []);
    // The first manager connected before it was watched.
    assert.deepEqual(states, [[], ["connecting", "online"]]);
  });
});
