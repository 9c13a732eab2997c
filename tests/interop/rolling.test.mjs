// Two of three nodes are replaced one after the other while their clients chat, behind HAProxy as
// in deploy/, on one PostgreSQL. Nothing is lost or duplicated. Half of the clients are recovered,
// the rest use `lastSeq`, and clients reconnect spread over the window.
//
// ROLLING_ADAPTER: what connects the nodes: postgres (the default), redis, redis-sharded,
// redis-streams or nats.
// ROLLING_CLIENTS: number of clients (default 200).
// ROLLING_OLD: a program of an older version, whose nodes are replaced; `tests/run rolling` builds
// one. Without it the version is the same. The old nodes do not seal. The new nodes seal, and
// accept both forms (`adapter.accept_plain`).
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { agentOf, haproxy } from "./balancer.mjs";
import { account, enter, recoveryOf, total } from "./crowd.mjs";
import { areBack, assertSpread, watchMoves } from "./moves.mjs";
import { randomness } from "./nemesis.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { lastingPort, metric, metricIs, startServer, until } from "./support.mjs";

const CLIENTS = Number(process.env.ROLLING_CLIENTS ?? 200);
const OLD = process.env.ROLLING_OLD;
const ADAPTER = process.env.ROLLING_ADAPTER ?? "postgres";
/**
 * So many clients on few cores need longer than the default to be claimed, and have received less
 * than they were sent: without all events after that, they cannot be recovered.
 */
const RECOVERY = {
  ROOMCAST_RECOVERY__CLAIM_TIMEOUT: "20s",
  ROOMCAST_RECOVERY__MAX_BYTES: "1048576",
  ROOMCAST_RECOVERY__MAX_MESSAGES: "10000",
};
/**
 * Old nodes do not seal, so that `adapter.accept_plain` is tested whatever the older version does
 * by default.
 */
const PLAIN = { ROOMCAST_ADAPTER__TRUST: "shared-with-node" };
const OLDER = { program: OLD, env: { ...RECOVERY, ...PLAIN } };
const NEWER = { env: { ...RECOVERY, ROOMCAST_ADAPTER__ACCEPT_PLAIN: "true" } };
const WINDOW = Math.max(CLIENTS * 20, 20_000);
/**
 * More clients write more slowly. One process receives everything: if it lagged, clients would lose
 * their connections because of the test.
 */
const PACE = Math.max(CLIENTS / 200, 1);

let postgres;
let broker;
/** The variables of the adapter; PostgreSQL needs none, because the nodes store there. */
const joined = {};
before(async () => {
  postgres = await startPostgres();
  if (ADAPTER === "postgres") return;
  const scheme = ADAPTER.replace("redis-sharded", "redis+sharded");
  broker = scheme === "nats" ? await startBroker("nats", "-js") : await startRedis();
  joined.ROOMCAST_ADAPTER__URL = `${scheme}://${broker.address}`;
});
after(async () => {
  broker?.end();
  await postgres?.end();
});

const start = async (t, port, { program, env: own }) => {
  const env = {
    ROOMCAST_STORE: postgres.url,
    ROOMCAST_LISTEN: `127.0.0.1:${port}`,
    ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
    ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1",
    ROOMCAST_SERVER__DRAIN: `${WINDOW}ms`,
    ROOMCAST_RECOVERY__ENABLED: "true",
    ROOMCAST_ENGINE__COOKIE__NAME: "io",
    ...joined,
    ...own,
  };
  const server = await startServer(env, program);
  t.after(() => server.stop("SIGKILL"));
  await metricIs(server.url, "roomcast_adapter_up", (up) => up === 1);
  return server;
};

test(`two of three nodes joined by ${ADAPTER} are replaced without loss or duplicates`, async (t) => {
  const ports = [await lastingPort(), await lastingPort(), await lastingPort()];
  const nodes = [];
  for (const port of ports) nodes.push(await start(t, port, OLDER));
  const url = await haproxy(t, nodes.map(({ url }) => url));
  const seed = randomInt(2 ** 32);
  t.diagnostic(`seed ${seed}, old nodes with ${JSON.stringify(OLDER.env)}`);
  const random = randomness(seed);
  const kinds = [["websocket"], ["polling"], ["polling", "websocket"]];
  const times = { timeout: 20_000, ackTimeout: 10_000 };
  const options = (n) => ({ transports: kinds[n % 3], agent: agentOf(t, n), recovery: recoveryOf(n), ...times });
  const members = await enter(t, url, random, CLIENTS, options);
  const writers = members.filter((_, n) => n % (CLIENTS / 50) === 0);
  const writing = writers.map((member) => member.send(randomness(random() * 2 ** 32), PACE));
  const connected = async () => {
    const counts = await Promise.all(nodes.map(({ url }) => metric(url, "roomcast_sockets").catch(() => 0)));
    return counts.reduce((sum, count) => sum + count, 0);
  };
  for (const n of [0, 1]) {
    const count = await metric(nodes[n].url, "roomcast_sockets");
    const before = total(members, "recovered");
    const moves = watchMoves(members);
    await nodes[n].stop();
    nodes[n] = await start(t, ports[n], NEWER);
    await until(async () => (await connected()) >= CLIENTS && areBack(members), "all to be back", 60_000);
    const { left, back } = moves.end();
    const recovered = total(members, "recovered") - before;
    t.diagnostic(`${count} of ${CLIENTS} had to move, ${recovered} were recovered`);
    t.diagnostic(assertSpread("left", left, WINDOW));
    t.diagnostic(assertSpread("came back", back, WINDOW));
    // A client that does not find its old server in time gets a new session, like clients without
    // recovery.
    assert.ok(recovered >= left.length / 10, "those that use recovery were recovered");
    await sleep(500); // Members continue for a moment.
  }
  const { acked } = await account(t, nodes[2].url, members, writing);
  assert.ok(acked.size > 50, "there was something to lose");
  t.diagnostic(`${acked.size} messages`);
});
