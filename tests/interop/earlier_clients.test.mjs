// Programs that use earlier names of events and fields, with the shim of docs/clients.md,
// against the server.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { LOBBY, call, enter, logged, server } from "./people.mjs";
import { until, within } from "./support.mjs";
import { token } from "./tokens.mjs";

const page = readFileSync(new URL("../../docs/clients.md", import.meta.url), "utf8");
const [, code] = page.match(/```js\n(\/\*\*.*?)```/s);
const { withEarlierNames } = await import(`data:text/javascript,${encodeURIComponent(code)}`);

/**
 * Connects a program that uses the earlier names: its socket with the shim, and the events that it
 * receives.
 */
async function program(t, url, sub, names = [], roles = ["user"]) {
  const { socket } = await enter(t, url, { auth: { token: token({ sub, name: sub, roles }) } });
  const shimmed = withEarlierNames(socket);
  const events = [];
  for (const name of names) shimmed.on(name, (payload) => events.push([name, payload]));
  const ask = (name, payload) => within(new Promise((done) => shimmed.emit(name, payload, done)), name);
  const all = (name) => events.filter(([event]) => event === name).map(([, payload]) => payload);
  return { socket: shimmed, ask, all };
}

async function publish(url, path, body) {
  const { status } = await call(url, "POST", `/api/v1${path}`, body, `Bearer ${token({ sub: "backend", roles: ["service"] })}`);
  assert.equal(status, 200);
}

describe("a program that uses earlier names", { concurrency: true }, () => {
  test("chats with its own event names through the shim of the page", async (t) => {
    const { url } = await server(t);
    const ann = await program(t, url, "ann", [], ["ai"]);
    const bob = await program(t, url, "bob", ["message", "typing_indicator"]);
    for (const one of [ann, bob]) assert.equal((await one.ask("join_conversation", { conversationId: LOBBY })).success, true);
    const metadata = { timestamp: "2025-01-31T12:00:00.000Z" };
    const sent = await ann.ask("message", { conversationId: LOBBY, content: "hello", type: "message", metadata });
    assert.equal(sent.success, true, sent.error);
    assert.equal(sent.message.type, "user");
    assert.equal(sent.message.messageId, sent.message.id);
    const ai = await ann.ask("message", { conversationId: LOBBY, content: "I am a machine", type: "ai" });
    assert.equal(ai.success, true, ai.error);
    assert.equal(ai.message.type, "ai");
    ann.socket.emit("typing_indicator", { conversationId: LOBBY, isTyping: true });
    await until(() => bob.all("message").length === 2 && bob.all("typing_indicator").length > 0, "what Ann does");
    const [message] = bob.all("message");
    assert.deepEqual([message.messageId, message.timestamp], [sent.message.id, sent.message.createdAt]);
    assert.deepEqual(message.metadata, metadata);
    assert.equal(bob.all("typing_indicator")[0].isTyping, true);
    const { messages } = await bob.ask("message_history", { conversationId: LOBBY });
    assert.deepEqual(messages.map(({ messageId }) => messageId), [sent.message.id, ai.message.id]);
  });

  test("gets errors as strings", async (t) => {
    const { url } = await server(t);
    const ann = await program(t, url, "ann", ["error"]);
    const refused = await ann.ask("message", { conversationId: "none", content: "hello", type: "message" });
    assert.equal(refused.success, false);
    assert.equal(typeof refused.error, "string");
    assert.match(refused.error, /conversationId/);
    // Without an acknowledgement the server sends the event `error`.
    ann.socket.emit("message", { conversationId: "none", content: "hello" });
    await until(() => ann.all("error").length > 0, "the error");
    assert.match(ann.all("error")[0], /conversationId/);
  });

  test("gets trades, portfolios and notifications by one subscription", async (t) => {
    const { url } = await server(t, { ROOMCAST_MARKET__BUNDLE_SUBSCRIPTIONS: "true" });
    const ann = await program(t, url, "ann", ["trade:update", "portfolio:update", "notification:new"]);
    assert.equal((await ann.ask("subscribe:trades", { userId: "ann" })).success, true);
    await publish(url, "/trades", { tradeId: "t1", userId: "ann", symbol: "AAPL", status: "pending", executedPrice: null, quantity: 2 });
    await publish(url, "/portfolios", { userId: "ann", totalValue: 381, cash: 0, positions: [] });
    // Notifications within a second after the first arrive in a batch.
    for (const notificationId of ["n1", "n2", "n3"]) {
      await publish(url, "/notifications", { notificationId, userId: "ann", type: "info", title: "T", message: "M" });
    }
    await until(() => ann.all("notification:new").length === 3 && ann.all("portfolio:update").length > 0, "all three");
    assert.deepEqual(ann.all("notification:new").map(({ notificationId }) => notificationId), ["n1", "n2", "n3"]);
    assert.deepEqual(ann.all("trade:update").map(({ tradeId }) => tradeId), ["t1"]);
    assert.equal(ann.all("portfolio:update")[0].totalValue, 381);
    assert.equal((await ann.ask("unsubscribe:trades", { userId: "ann" })).success, true);
  });

  test("finds in the log that REDIS_HOST and REDIS_PORT have no effect", async (t) => {
    const started = await server(t, { REDIS_HOST: "cache", REDIS_PORT: "6379" });
    await logged(started, /no effect: REDIS_HOST, REDIS_PORT;.*ROOMCAST_ADAPTER__URL=redis/);
  });
});

test("the shim has about twenty lines, and the page lists its conversions", () => {
  const lines = code.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("/**"));
  assert.ok(lines.length <= 26, `${lines.length} lines`);
  for (const name of code.match(/"[a-z_:]+[_:][a-z]+"/g)) assert.ok(page.includes(`\`${name.slice(1, -1)}`), name);
});
