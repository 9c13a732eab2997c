// One of two nodes is drained: its clients are disconnected one after another, and reconnect at the
// other node without losses. Half of them are recovered there, the rest use `lastSeq`. Stock
// clients behind the load balancers of deploy/, two servers on one PostgreSQL.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { agentOf, haproxy } from "./balancer.mjs";
import { account, enter, recoveryOf, total } from "./crowd.mjs";
import { areBack, assertSpread, watchMoves } from "./moves.mjs";
import { randomness } from "./nemesis.mjs";
import { io } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { lastingPort, metric, metricIs, next, open, startServer, until, within } from "./support.mjs";

const MEMBERS = 200;
const WINDOW = 20_000;

let postgres;
before(async () => (postgres = await startPostgres()));
after(() => postgres?.end());

/** Starts a server on the shared database, at this port. */
async function node(t, port, env = {}) {
  const server = await startServer({
    ROOMCAST_STORE: postgres.url,
    ROOMCAST_LISTEN: `127.0.0.1:${port}`,
    ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
    ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1",
    ROOMCAST_SERVER__DRAIN: `${WINDOW}ms`,
    ROOMCAST_RECOVERY__ENABLED: "true",
    ROOMCAST_RECOVERY__CLAIM_TIMEOUT: "20s",
    ROOMCAST_ENGINE__COOKIE__NAME: "io",
    ...env,
  });
  t.after(() => server.stop("SIGKILL"));
  return server;
}

/** Waits until a server reports that it is not ready because it stops. */
async function drains(server) {
  const readiness = () =>
    fetch(`${server.url}/health/ready`).catch((error) => {
      throw new Error(`${error.cause}\n${server.output()}`);
    });
  await until(async () => (await readiness()).status === 503, "the end of readiness");
  assert.equal((await (await readiness()).json()).draining, true);
}

test("clients of a drained node move within the window and miss nothing", async (t) => {
  // Each list of 100 users has 10 KiB. With many moves, they would fill the replay buffer in 4 s.
  const shortLists = { ROOMCAST_PRESENCE__LISTED: "10" };
  const nodes = [await node(t, await lastingPort(), shortLists), await node(t, await lastingPort(), shortLists)];
  const [leaving, staying] = nodes;
  const url = await haproxy(t, nodes.map(({ url }) => url));
  const seed = randomInt(2 ** 32);
  t.diagnostic(`seed ${seed}`);
  const random = randomness(seed);
  const kinds = [["websocket"], ["polling"], ["polling", "websocket"]];
  const times = { timeout: 20_000, ackTimeout: 10_000 };
  const options = (n) => ({ transports: kinds[n % 3], agent: agentOf(t, n), recovery: recoveryOf(n), ...times });
  const members = await enter(t, url, random, MEMBERS, options);
  const writing = members.filter((_, n) => n % 4 === 0).map((member) => member.send(randomness(random() * 2 ** 32)));
  const socketsAt = async ({ url }) => await metric(url, "roomcast_sockets");
  let counts;
  // The creator of the conversations is disconnecting.
  const onlyMembersLeft = async () => (counts = await Promise.all(nodes.map(socketsAt))).reduce((one, other) => one + other) === MEMBERS;
  await until(onlyMembersLeft, () => `nobody but the members: ${counts}`);
  const [before] = counts;
  assert.ok(counts.every((count) => count > MEMBERS / 10), `both have clients: ${counts}`);

  const moves = watchMoves(members);
  const stopped = leaving.stop();
  await drains(leaving);
  assert.equal(await metric(leaving.url, "roomcast_draining"), 1);
  const refused = await fetch(`${leaving.url}/socket.io/?EIO=4&transport=polling`);
  assert.equal(refused.status, 503);
  assert.ok(Number(refused.headers.get("retry-after")) > 0);
  assert.equal(await stopped, 0);
  let arrived;
  const haveArrived = async () => (arrived = await socketsAt(staying)) === MEMBERS && areBack(members);
  await until(haveArrived, () => `all of them at the other node: ${arrived}`);

  const { left, back, reasons } = moves.end();
  assert.equal(left.length, before, "each has moved once");
  // A client that posts while its poll is answered with a close packet notices the failed post
  // first.
  assert.ok(reasons.every((reason) => /^transport (close|error)$/.test(reason)), "they come back by themselves");
  t.diagnostic(assertSpread("left", left, WINDOW));
  t.diagnostic(assertSpread("came back", back, WINDOW));
  const recovered = total(members, "recovered");
  t.diagnostic(`${recovered} were recovered`);
  // A client that does not find its old server in time gets a new session, like clients without
  // recovery.
  assert.ok(recovered >= left.length / 10, "those that use recovery were recovered");

  await sleep(500); // Members continue for a moment at the other node.
  const { acked } = await account(t, staying.url, members, writing);
  assert.ok(acked.size > MEMBERS / 4, "there was something to lose");
});

test("a second signal stops a draining server immediately", async (t) => {
  const server = await node(t, 0, { ROOMCAST_STORE: "memory:", ROOMCAST_SERVER__DRAIN: "1h" });
  const socket = open(t, io, server.url, { transports: ["websocket"] });
  await next(socket, "session");
  const first = server.stop();
  await drains(server);
  const disconnected = next(socket, "disconnect");
  assert.equal(await server.stop(), 1);
  assert.equal(await first, 1);
  assert.deepEqual((await disconnected)[0], "transport close");
  assert.match(server.output(), /received a second signal during shutdown/);
});

test("without a window clients are asked to reconnect immediately", async (t) => {
  const server = await node(t, 0, { ROOMCAST_STORE: "memory:", ROOMCAST_SERVER__DRAIN: "0s" });
  const [socket, polling] = [["websocket"], ["polling"]].map((transports) => open(t, io, server.url, { transports }));
  await Promise.all([socket, polling].map((one) => next(one, "session")));
  const closed = new Promise((done) => (socket.io.engine.transport.ws.onclose = (event) => done(event.code)));
  const left = next(polling, "disconnect");
  await metricIs(server.url, 'roomcast_requests_waiting{for="packets"}', (polls) => polls === 1);
  assert.equal(await server.stop(), 0);
  assert.equal(await within(closed, "the close frame"), 1001);
  assert.equal((await left)[0], "transport close");
});
