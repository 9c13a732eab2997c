// The admin namespace with the official client: admission, notifications and commands, at one
// server and at two.
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkAnswered, checkReceived, checksAll } from "./catalog.mjs";
import { admin, call, enter, io, keyed, logged, server, soon } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { ask, connect, next, open, outcome, startServer, until } from "./support.mjs";
import { token } from "./tokens.mjs";

/** Connects an admin to the namespace and records its notifications. */
async function watch(t, url) {
  const socket = open(t, io, `${url}/admin`, { auth: { token: admin() } });
  const received = { "admin:refusals": [], "admin:alert": [], "admin:node": [] };
  for (const name of Object.keys(received)) {
    socket.on(name, (event) => {
      checkReceived(name, event);
      received[name].push(event);
    });
  }
  await next(socket, "connect");
  return { socket, received };
}

/** The number of refusals of this type and reason in an admin's notifications. */
function refused({ received }, type, reason) {
  const all = received["admin:refusals"].flatMap(({ refusals }) => refusals);
  return all.filter((one) => one.type === type && one.reason === reason).reduce((sum, { count }) => sum + count, 0);
}

const alerts = ({ received }) => received["admin:alert"].map(({ part, state }) => `${part} ${state}`);

test("users without the role admin are refused, whatever their permissions", async (t) => {
  const { url } = await server(t);
  for (const auth of [
    { token: token({ sub: "ann", roles: ["user"] }) },
    { token: token({ sub: "backend", roles: ["service"] }) },
    { name: "a guest" },
  ]) {
    const socket = open(t, io, `${url}/admin`, { auth });
    const [error] = await next(socket, "connect_error");
    assert.deepEqual([error.message, error.data], ["not allowed", { code: "FORBIDDEN" }]);
  }
  const socket = open(t, io, `${url}/admin`, { auth: { token: "no token" } });
  const [error] = await next(socket, "connect_error");
  assert.deepEqual([error.message, error.data], ["unauthorized", { code: "UNAUTHENTICATED" }]);
});

test("admins receive the counts of refusals, once a second", async (t) => {
  const { url } = await server(t, { ROOMCAST_LIMITS__REQUESTS_PER_SECOND: "3" });
  const root = await watch(t, url);
  const { socket } = await enter(t, url, { auth: { token: token({ sub: "ann", roles: ["user"] }) } });
  const answers = await Promise.all(Array.from({ length: 200 }, () => ask(socket, "conversations", {})));
  const limited = answers.filter(({ error }) => error?.code === "RATE_LIMITED").length;
  assert.ok(limited > 100);
  const guest = (await enter(t, url, { auth: { name: "a guest" } })).socket;
  const denied = await ask(guest, "create_conversation", { title: "x", memberIds: [] });
  assert.equal(denied.error.code, "FORBIDDEN");
  await next(open(t, io, url, { auth: { token: "no token" } }), "connect_error");
  await until(() => refused(root, "rateLimit", "requests") === limited, "all that was limited");
  await until(() => refused(root, "permission", "no role grants it") === 1, "what was denied");
  await until(() => refused(root, "authentication", "malformed") === 1, "who was not let in");
  // The HTTP API reports its refusals as well, each once.
  const user = `Bearer ${token({ sub: "ann", roles: ["user"] })}`;
  assert.equal((await call(url, "GET", "/api/v1/rooms", undefined, user)).status, 403);
  assert.equal((await call(url, "GET", "/api/v1/rooms", undefined, "Bearer a.b.c")).status, 401);
  await until(() => refused(root, "permission", "no role grants it") === 2, "who may not call");
  await until(() => refused(root, "authentication", "malformed") === 2, "who is nobody");
  const [first] = root.received["admin:refusals"];
  assert.ok(first.node && Date.parse(first.timestamp));
  assert.ok(root.received["admin:refusals"].length < 10, "coalesced");
});

test("an admin kicks users and sockets, blocks networks and reads statistics", async (t) => {
  const started = await server(t);
  const { url } = started;
  const { socket: root } = await watch(t, url);
  const people = [];
  for (const sub of ["ann", "ann", "bob"]) {
    people.push((await enter(t, url, { auth: { token: token({ sub }) }, reconnection: false })).socket);
  }
  const disconnects = Promise.all(people.slice(0, 2).map((socket) => next(socket, "disconnect")));
  assert.deepEqual(await ask(root, "admin:kick", { userId: "ann" }), { success: true, disconnected: 2, missing: 0 });
  await disconnects;
  const bob = next(people[2], "disconnect");
  // A stock client loses its id when it is disconnected.
  const socketId = people[2].id;
  const kicked = await ask(root, "admin:kick", { socketId });
  checkAnswered("admin:kick", { socketId }, kicked);
  assert.deepEqual(kicked, { success: true, disconnected: 1, missing: 0 });
  await bob;
  for (const [event, payload, code, field] of [
    ["admin:kick", { socketId: "nobody" }, "NOT_FOUND", undefined],
    ["admin:kick", {}, "INVALID_PAYLOAD", "userId"],
    ["admin:kick", { userId: "a", socketId: "b" }, "INVALID_PAYLOAD", "userId"],
    ["admin:kick", 7, "INVALID_PAYLOAD", "[0]"],
    ["admin:block", { cidr: "nowhere", reason: "x" }, "INVALID_PAYLOAD", "cidr"],
    ["admin:block", { cidr: "192.0.2.1", reason: "" }, "INVALID_PAYLOAD", "reason"],
    ["admin:block", { cidr: "192.0.2.1", reason: "x", seconds: 0 }, "INVALID_PAYLOAD", "seconds"],
    ["message", {}, "NOT_FOUND", undefined],
  ]) {
    const { success, error } = await ask(root, event, payload);
    assert.deepEqual([success, error.code, error.details?.field], [false, code, field], event);
  }
  const network = { cidr: "192.0.2.0/24", seconds: 60, reason: "a test" };
  const blocked = await ask(root, "admin:block", network);
  checkAnswered("admin:block", network, blocked);
  const { body } = await call(url, "GET", "/api/v1/blocks");
  assert.deepEqual(body.blocks.map(({ id, cidr, reason }) => [id, cidr, reason]), [[blocked.id, "192.0.2.0/24", "a test"]]);
  assert.ok(Date.parse(blocked.expiresAt) > Date.now());
  // The log names the admin.
  await logged(started, /admin:kick by="root" whom=User\("ann"\)/);
  await logged(started, new RegExp(`admin:kick by="root" whom=Socket\\(.*${socketId}`));
  await logged(started, /admin:block by="root" network="192\.0\.2\.0\/24"/);
  let figures;
  const isOnlySession = async () => {
    const { success, ...received } = await ask(root, "admin:stats", {});
    checkAnswered("admin:stats", {}, { success, ...received });
    figures = received;
    return received.sessions.total === 1;
  };
  // Disconnected clients are counted until their connections have ended.
  await until(isOnlySession, () => `the end of all other sessions: ${JSON.stringify(figures)}`);
  assert.deepEqual([figures.store, figures.adapter, figures.nodes, figures.sessions.total], ["ok", "none", 1, 1]);
  const other = await call(url, "GET", "/api/v1/stats");
  assert.deepEqual(Object.keys(figures).sort(), Object.keys(other.body).sort());
});

test("an admin is disconnected by a revocation but not by a lesser token", async (t) => {
  const { url } = await server(t);
  const service = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;
  for (const what of [{ role: "admin" }, { userId: "root" }]) {
    const { socket } = await watch(t, url);
    const disconnects = next(socket, "disconnect");
    const error = next(socket, "error");
    const { status } = await call(url, "POST", "/api/v1/revocations", what, service);
    assert.equal(status, 200);
    assert.equal((await error)[0].code, "TOKEN_REVOKED");
    assert.deepEqual((await disconnects)[0], "io server disconnect");
    const again = open(t, io, `${url}/admin`, { auth: { token: admin() } });
    assert.equal((await next(again, "connect_error"))[0].data.code, "UNAUTHENTICATED");
    const shortened = await call(url, "POST", "/api/v1/revocations", { ...what, until: soon().text }, service);
    assert.equal(shortened.status, 200, JSON.stringify(shortened));
    const isAdmitted = async () => !(await outcome(open(t, io, `${url}/admin`, { auth: { token: admin() } })));
    await until(isAdmitted, "the end of the revocation");
  }
  const { socket } = await watch(t, url);
  const answer = await ask(socket, "auth:refresh", { token: token({ sub: "root", roles: ["user"] }) });
  assert.equal(answer.success, false);
  assert.equal((await ask(socket, "admin:stats", {})).success, true);
});

test("admins receive refusals, node changes and alerts of both servers", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.end());
  const env = (id) => ({ ...keyed, ROOMCAST_STORE: postgres.url, ROOMCAST_NODE__ID: id, ROOMCAST_STORE__RETRY_TIMEOUT: "500ms" });
  const here = await startServer(env("here"));
  t.after(() => here.stop("SIGKILL"));
  const root = await watch(t, here.url);
  const there = await startServer(env("there"));
  t.after(() => there.stop("SIGKILL"));
  const changes = () => root.received["admin:node"].map(({ node, change }) => `${node} ${change}`);
  await until(() => changes().includes("there joined"), "the other");
  const guest = await connect(t, io, there.url, { auth: { name: "a guest" }, reconnection: false });
  const denied = await ask(guest, "create_conversation", { title: "x", memberIds: [] });
  assert.equal(denied.error.code, "FORBIDDEN");
  await until(() => refused(root, "permission", "no role grants it") === 1, "what the other has denied");
  assert.equal(root.received["admin:refusals"].at(-1).node, "there");
  // Kicks a user who is connected to the other server.
  const { socket } = await enter(t, there.url, { auth: { token: token({ sub: "ann" }) }, reconnection: false });
  const disconnects = next(socket, "disconnect");
  assert.deepEqual(await ask(root.socket, "admin:kick", { userId: "ann" }), { success: true, disconnected: 1, missing: 0 });
  await disconnects;
  await there.stop();
  await until(() => changes().includes("there left"), "the other to go");
  assert.deepEqual(changes(), ["there joined", "there draining", "there left"]);
  await postgres.kill();
  const lost = ["adapter unavailable", "publications unavailable", "store unavailable"];
  await until(() => lost.every((one) => alerts(root).includes(one)), "the loss");
  // An admin who connects now is notified as well.
  const late = await watch(t, here.url);
  await until(() => lost.every((one) => alerts(late).includes(one)), "the loss");
  await postgres.start();
  await until(() => ["adapter ok", "publications ok", "store ok"].every((one) => alerts(root).includes(one)), "all again");
});

checksAll(import.meta.url);
