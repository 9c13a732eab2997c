// Addresses that offer bad credentials, and how stock clients meet the server's guard.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ask, clients, next, open, outcome, startServer, within } from "./support.mjs";
import { SECRET, now, token } from "./tokens.mjs";

const [[, io]] = clients;
const LOBBY = "00000000-0000-4000-8000-000000000001";
const UNAUTHORIZED = { message: "unauthorized", data: { code: "UNAUTHENTICATED" } };

async function server(t, env = {}) {
  const limits = { ROOMCAST_LIMITS__EXEMPT_LOOPBACK: "false", ROOMCAST_LIMITS__CONNECTS: "0" };
  const started = await startServer({ ROOMCAST_AUTH__JWT__SECRET: SECRET, ...limits, ...env });
  t.after(() => started.stop());
  return started;
}

/** Connects a client from this local address. */
const from = (t, url, localAddress, options) => open(t, io, url, { transports: ["websocket"], localAddress, ...options });

async function blocks(url) {
  const authorization = `Bearer ${token({ sub: "root", roles: ["admin"] })}`;
  const answer = await fetch(`${url}/api/v1/blocks`, { headers: { authorization } });
  return (await answer.json()).blocks;
}

test("a client that repeats bad tokens is blocked, alone and for a while", async (t) => {
  const limits = { ROOMCAST_LIMITS__BLOCK_AFTER_CREDENTIALS: "5", ROOMCAST_LIMITS__BLOCK_TIME: "10s" };
  const { url } = await server(t, limits);
  const innocent = from(t, url, "127.0.0.3", { auth: { token: token() } });
  await next(innocent, "session");
  let disconnectReason;
  innocent.on("disconnect", (reason) => (disconnectReason = reason));

  const guilty = from(t, url, "127.0.0.2", { auth: { token: token({}, "another secret, of the right length") } });
  for (let n = 0; n < 5; n++) {
    const [error] = await next(guilty, "connect_error");
    assert.deepEqual({ message: error.message, data: error.data }, UNAUTHORIZED);
    guilty.connect();
  }
  const [error] = await next(guilty, "connect_error");
  assert.equal(error.type, "TransportError");
  const [block] = await blocks(url);
  assert.equal(block.cidr, "127.0.0.2/32");
  assert.equal(block.source, "automatic");
  assert.equal((await ask(innocent, "join_conversation", LOBBY)).success, true);

  // The block expires by itself, and a good token is accepted again.
  guilty.auth = { token: token() };
  const again = async () => {
    while (!guilty.connected) {
      guilty.connect();
      await outcome(guilty);
      await sleep(50); // Retry interval of a client.
    }
  };
  await within(again(), "the end of the block");
  assert.equal(disconnectReason, undefined);
});

test("a client whose token has expired is refused but not blocked", async (t) => {
  const { url } = await server(t);
  const auth = { token: token({ exp: now() - 3600 }) };
  const client = from(t, url, "127.0.0.2", { auth });
  for (let n = 0; n < 60; n++) {
    const [error] = await next(client, "connect_error");
    assert.deepEqual({ message: error.message, data: error.data }, UNAUTHORIZED);
    client.connect();
  }
  await next(client, "connect_error");
  assert.deepEqual(await blocks(url), []);
  client.auth = { token: token() };
  client.connect();
  await next(client, "session");
});

test("a client that joins too often is refused, and joins after the wait", async (t) => {
  const { url } = await server(t, { ROOMCAST_LIMITS__JOINS_PER_USER: "20" });
  const socket = from(t, url, "127.0.0.2", { auth: { token: token() } });
  await next(socket, "session");
  let joins = 1;
  let refused;
  while (!refused && joins < 200) {
    socket.disconnect();
    socket.connect();
    refused = (await outcome(socket)) ?? undefined;
    joins += 1;
  }
  assert.ok(joins > 20 && joins < 60, `${joins}`);
  assert.equal(refused.data.code, "RATE_LIMITED");
  const { retryAfter } = refused.data;
  assert.ok(Number.isInteger(retryAfter) && retryAfter >= 1 && retryAfter <= 3000, `${retryAfter}`);
  await sleep(retryAfter); // The time that the server stated.
  socket.connect();
  await next(socket, "session");
});

test("a user has one bucket for all connections", async (t) => {
  const { url } = await server(t, { ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "10" });
  const auth = { token: token() };
  const sockets = [1, 2, 3].map((n) => from(t, url, `127.0.0.${n + 1}`, { auth }));
  await Promise.all(sockets.map((socket) => next(socket, "session")));
  for (const socket of sockets) {
    assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
  }
  const answers = [];
  for (let n = 0; n < 18; n++) {
    answers.push(await ask(sockets[n % 3], "message", { conversationId: LOBBY, content: `${n}` }));
  }
  const limited = answers.filter((answer) => !answer.success);
  // One more every six seconds.
  assert.ok(limited.length >= 4 && limited.length <= 8, `${limited.length}`);
  for (const { success, error, ...rest } of limited) {
    assert.deepEqual([success, rest], [false, {}]);
    const { code, message, retryAfter, ...more } = error;
    assert.deepEqual([code, typeof message, more], ["RATE_LIMITED", "string", {}]);
    assert.ok(Number.isInteger(retryAfter) && retryAfter >= 1 && retryAfter <= 6000, `${retryAfter}`);
  }
});
