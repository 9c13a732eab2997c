// Repeated orders of stock clients, while the executor is slow and the server is killed.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { enter, keyed } from "./people.mjs";
import { lastingPort, startServer, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";

/** Starts a service that executes trades; `answer` decides how to respond to each request. */
async function executor(t, answer) {
  const orders = [];
  const hook = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    orders.push(JSON.parse(body));
    assert.equal(request.headers["idempotency-key"], orders.at(-1).tradeId);
    answer(response, orders.length);
  });
  await once(hook.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    hook.close();
    hook.closeAllConnections();
  });
  const env = {
    ...keyed,
    ROOMCAST_MARKET__EXECUTOR: "webhook",
    ROOMCAST_MARKET__WEBHOOK__URL: `http://127.0.0.1:${hook.address().port}/`,
    ROOMCAST_MARKET__WEBHOOK__ALLOW_PRIVATE: "true",
    ROOMCAST_MARKET__WEBHOOK__TIMEOUT: "1min",
  };
  return { orders, env };
}

const fill = (response) => response.end(JSON.stringify({ status: "executed", executedPrice: 7 }));
const auth = { token: token({ sub: "root", roles: ["admin"] }) };
/** Repeats after half a second, for as long as a test lasts. */
const repeating = { auth, reconnection: true, retries: 10_000, ackTimeout: 500, reconnectionDelay: 20, reconnectionDelayMax: 50 };

/** Sends an order and returns the final answer. */
function order(socket, clientTradeId, quantity = 1) {
  const command = { symbol: "AAPL", side: "buy", quantity, clientTradeId };
  return new Promise((done) => socket.emit("execute:trade", command, (error, answer) => done(error ?? answer)));
}

describe("an order under a clientTradeId", () => {
  test("runs once, however often a client sends it again during execution", async (t) => {
    const held = [];
    const { orders, env } = await executor(t, (response) => held.push(response));
    const started = await startServer(env);
    t.after(() => started.stop());
    const { socket } = await enter(t, started.url, repeating);
    const updates = [];
    socket.on("trade:update", (update) => updates.push(update.status));
    socket.emit("subscribe:trades", { userId: "root" }, () => {});
    let sent = 0;
    socket.io.engine.on("packetCreate", ({ data }) => (sent += /execute:trade/.test(data) ? 1 : 0));
    const answered = order(socket, "one");
    await until(() => orders.length === 1 && sent >= 4, "repeats of the order");
    held.forEach(fill);
    const answer = await answered;
    assert.deepEqual([answer.success, answer.executedPrice, answer.tradeId], [true, 7, orders[0].tradeId]);
    await until(() => updates.length === 2, "the trade's two states");
    assert.deepEqual([updates, orders.length], [["pending", "executed"], 1]);
    const other = await order(socket, "one", 2);
    assert.equal(other.error.code, "CONFLICT");
    assert.equal(orders.length, 1);
  });

  test("runs once also when the server is killed, and the next one answers it", async (t) => {
    const { orders, env } = await executor(t, (response, count) => count > 1 && fill(response));
    const folder = temporary();
    const address = `127.0.0.1:${await lastingPort()}`;
    const stored = { ...env, ROOMCAST_LISTEN: address, ROOMCAST_STORE: `sqlite:${join(folder, "chat.db")}` };
    const first = await startServer(stored);
    t.after(() => first.stop("SIGKILL"));
    const { socket } = await enter(t, first.url, repeating);
    const received = [];
    socket.on("trade:executed", ({ tradeId }) => received.push(tradeId));
    const answered = order(socket, "one");
    await until(() => orders.length === 1, "the executor being asked");
    await first.stop("SIGKILL");
    const second = await startServer(stored);
    t.after(() => second.stop());
    const answer = await answered;
    assert.deepEqual([answer.success, answer.executedPrice, answer.tradeId], [true, 7, orders[0].tradeId]);
    // The executor received one more request, with the same key, for which it executes once.
    assert.deepEqual(new Set(orders.map(({ tradeId }) => tradeId)), new Set([answer.tradeId]));
    assert.equal(orders.length, 2);
    const again = await order(socket, "one");
    assert.deepEqual([again.tradeId, again.timestamp], [answer.tradeId, answer.timestamp]);
    assert.equal(orders.length, 2);
    assert.deepEqual(new Set(received), new Set([answer.tradeId]));
  });
});
