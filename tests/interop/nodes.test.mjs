// Several processes on one PostgreSQL: revocations and blocks at one apply at all. Stock clients
// against the server itself.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assertRevoked, call, enter, farewell, io, keyed, LOBBY, refused, server, soon } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { ask, metric, metricIs, open, outcome, startServer, until, within } from "./support.mjs";
import { token } from "./tokens.mjs";

let postgres;
before(async () => (postgres = await startPostgres()));
after(() => postgres?.end());

/** Starts two servers on one database, without an adapter. */
function servers(t, env = {}) {
  const alone = { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: "none" };
  return Promise.all([1, 2].map(() => server(t, { ...alone, ...env })));
}

/** Connects repeatedly until it is admitted. */
async function admitted(t, url, options) {
  let error;
  const isIn = async () => {
    const socket = open(t, io, url, options);
    error = await outcome(socket);
    socket.disconnect();
    if (error) await sleep(100); // Retry interval of a client.
    return !error;
  };
  await until(isIn, () => `to be let in: ${error}`);
}

describe("several servers on one database", { concurrency: false }, () => {
  test("a revocation at one notifies, disconnects and refuses at the other", async (t) => {
    const [here, there] = await servers(t);
    const people = {
      jti: ["n1", token({ sub: "a", jti: "n1" })],
      sessionId: ["s1", token({ sub: "b", sid: "s1" })],
      userId: ["c", token({ sub: "c" })],
      role: ["tester", token({ sub: "d", roles: ["user", "tester"] })],
    };
    const bystander = await enter(t, there.url, { auth: { token: token({ sub: "e", jti: "n2" }) } });
    for (const [n, [kind, [value, own]]] of Object.entries(people).entries()) {
      const transports = [["polling"], ["websocket"]][n % 2];
      const { socket } = await enter(t, there.url, { auth: { token: own }, reconnection: true, transports });
      const gone = farewell(socket);
      const answer = await call(here.url, "POST", "/api/v1/revocations", { [kind]: value });
      assert.equal(answer.status, 200, JSON.stringify(answer));
      assert.equal(answer.body.disconnected, 0, "nobody of them is here");
      assertRevoked(socket, await gone);
      await refused(t, there.url, { auth: { token: own } }, kind);
    }
    assert.equal(bystander.socket.connected, true);
  });

  test("ending a session at one server disconnects its sockets at the other", async (t) => {
    const [here, there] = await servers(t);
    const made = await call(here.url, "POST", "/api/v1/sessions", { userId: "f", roles: ["user"], ttlSeconds: 60 });
    const { sessionId } = made.body;
    const { socket } = await enter(t, there.url, { auth: { sessionId } });
    const gone = farewell(socket);
    const ended = await call(here.url, "DELETE", `/api/v1/sessions/${sessionId}`);
    assert.equal(ended.status, 204);
    const { told, reason } = await gone;
    assert.deepEqual([told.map(({ code }) => code), reason], [["TOKEN_REVOKED"], "io server disconnect"]);
    await refused(t, there.url, { auth: { sessionId } });
  });

  test("a revocation removed at the other server ends at both", async (t) => {
    const [here, there] = await servers(t);
    const own = { auth: { token: token({ sub: "g" }) } };
    const { socket } = await enter(t, there.url, own);
    const gone = farewell(socket);
    await call(here.url, "POST", "/api/v1/revocations", { userId: "g" });
    await gone;
    await refused(t, here.url, own);
    const answer = await call(there.url, "POST", "/api/v1/revocations", { userId: "g", until: soon().text });
    assert.equal(answer.status, 200, JSON.stringify(answer));
    await admitted(t, there.url, own);
    await admitted(t, here.url, own);
  });

  test("revocations stored after a database outage are applied at the other", async (t) => {
    const [here, there] = await servers(t, { ROOMCAST_STORE__RETRY_TIMEOUT: "1s" });
    const { socket } = await enter(t, there.url, { auth: { token: token({ sub: "h" }) } });
    const gone = farewell(socket);
    await postgres.stop();
    const refusal = await call(here.url, "POST", "/api/v1/revocations", { userId: "h" });
    assert.equal(refusal.status, 503, "nothing is promised that is not stored");
    assert.equal(socket.connected, true);
    await postgres.start();
    const stored = async () => (await call(here.url, "POST", "/api/v1/revocations", { userId: "h" })).status === 200;
    await until(stored, "the revocation to be stored");
    assert.deepEqual((await gone).told.map(({ code }) => code), ["TOKEN_REVOKED"]);
  });

  test("a network blocked at one is disconnected at the other until unblocked", async (t) => {
    const [here, there] = await servers(t);
    const own = { auth: { token: token({ sub: "j" }) } };
    const { socket } = await enter(t, there.url, own);
    const gone = new Promise((done) => socket.once("disconnect", done));
    const blocked = await call(here.url, "POST", "/api/v1/blocks", { cidr: "127.0.0.1", reason: "tests" });
    assert.equal(blocked.status, 201, JSON.stringify(blocked));
    await within(gone, "disconnect");
    const shut = await fetch(`${there.url}/socket.io/?EIO=4&transport=polling`);
    assert.equal(shut.status, 403);
    const listed = await call(there.url, "GET", "/api/v1/blocks");
    assert.deepEqual(listed.body.blocks.map(({ id }) => id), [blocked.body.id]);
    const freed = await call(there.url, "DELETE", `/api/v1/blocks/${blocked.body.id}`);
    assert.equal(freed.status, 204);
    await admitted(t, there.url, own);
    await admitted(t, here.url, own);
    // Deleted before the server that created it has read it.
    const made = await call(here.url, "POST", "/api/v1/blocks", { cidr: "192.0.2.0/24", reason: "tests" });
    postgres.query("DELETE FROM blocks");
    const blocks = async () => (await call(here.url, "GET", "/api/v1/blocks")).body.blocks;
    await until(async () => (await blocks()).every(({ id }) => id !== made.body.id), "the end of the block");
  });
});

describe("several servers that a broker joins", { concurrency: false }, () => {
  let redis;
  let nats;
  let clusters = 0;
  before(async () => ([redis, nats] = await Promise.all([startRedis(), startBroker("nats", "-js")])));
  after(() => {
    redis?.end();
    nats?.end();
  });

  /** Returns the variables for the servers of a new cluster. */
  function cluster(env = {}) {
    const key = `cluster-${(clusters += 1)}`;
    return (id) => ({
      ROOMCAST_STORE: postgres.url,
      ROOMCAST_ADAPTER__URL: `redis://${redis.address}`,
      ROOMCAST_ADAPTER__KEY: key,
      ROOMCAST_NODE__ID: id,
      ROOMCAST_NODE__ADDRESS: `http://${id}.example:3000`,
      ...env,
    });
  }

  const nodes = async (url) => (await call(url, "GET", "/api/v1/nodes")).body.nodes;
  const know = (servers, count) =>
    until(async () => {
      const known = await Promise.all(servers.map(({ url }) => nodes(url)));
      return known.every((list) => list.length === count);
    }, `${count} nodes`);

  test("each server lists all servers with their load until they leave", async (t) => {
    const member = cluster();
    const [a, b] = await Promise.all(["a", "b"].map((id) => server(t, member(id))));
    await know([a, b], 2);
    const listed = await nodes(a.url);
    const told = listed.map(({ id, address, this: own }) => [id, address, own]);
    assert.deepEqual(told, [
      ["a", "http://a.example:3000", true],
      ["b", "http://b.example:3000", false],
    ]);
    for (const { version, startedAt, heartbeatAgeMs, name, id } of listed) {
      assert.match(version, /^\d+\.\d+\.\d+/);
      assert.match(startedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.ok(heartbeatAgeMs >= 0 && name.endsWith(`~${id}`));
    }
    await enter(t, b.url, { auth: { token: token({ sub: "k" }) } });
    await until(async () => (await nodes(a.url))[1].load.sockets === 1, "the socket of the other");
    await metricIs(a.url, 'roomcast_node_sockets{node="b"}', (sockets) => sockets === 1);
    await metricIs(b.url, 'roomcast_node_sockets{node="b"}', (sockets) => sockets === 1);
    await metricIs(b.url, "roomcast_nodes", (count) => count === 2);
    // A conversation with members is a room, at this server as at the other.
    const { socket: other } = await enter(t, b.url, { auth: { token: token({ sub: "l" }) } });
    assert.equal((await ask(other, "join_conversation", LOBBY)).success, true);
    for (const { url } of [a, b]) {
      await metricIs(url, 'roomcast_node_rooms{node="b"}', (rooms) => rooms >= 2);
      for (const id of ["a", "b"]) {
        await metricIs(url, `roomcast_node_lag_seconds{node="${id}"}`, (lag) => lag >= 0 && lag < 60);
        await metricIs(url, `roomcast_node_adapter_lag_seconds{node="${id}"}`, (lag) => lag > 0 && lag < 60);
        for (const row of ["queued_bytes", "adapter_queued", "adapter_queued_bytes", "lost"]) {
          await metricIs(url, `roomcast_node_${row}{node="${id}"}`, (count) => count >= 0);
        }
      }
      await metricIs(url, "roomcast_adapter_lag_seconds", (lag) => lag > 0 && lag < 60);
      for (const row of ["queued", "queued_bytes"]) await metricIs(url, `roomcast_adapter_${row}`, (count) => count >= 0);
    }
    const user = await call(a.url, "GET", "/api/v1/nodes", undefined, `Bearer ${token({ sub: "k" })}`);
    assert.equal(user.status, 403);
    const nobody = await call(a.url, "GET", "/api/v1/nodes", undefined, "");
    assert.equal(nobody.status, 401);
    await b.stop();
    await know([a], 1);
  });

  test("connections, sessions and work of each server are visible at all", async (t) => {
    const member = cluster();
    const servers = await Promise.all(["a", "b"].map((id) => server(t, member(id))));
    await know(servers, 2);
    const [a, b] = servers;
    // So many at one server that the test's own requests do not matter.
    const here = await Promise.all(Array.from({ length: 40 }, (_, n) => {
      return enter(t, a.url, { auth: { token: token({ sub: `here ${n}` }) }, transports: ["websocket"] });
    }));
    for (const transport of ["websocket", "polling"]) {
      await enter(t, b.url, { auth: { token: token({ sub: `there ${transport}` }) }, transports: [transport] });
    }
    /** Waits until all servers report it, in their metrics and by the API. */
    const isSeen = async (id, part, row, isExpected) => {
      for (const { url } of servers) {
        await metricIs(url, `roomcast_node_${row}{node="${id}"}`, isExpected);
        const load = async () => (await nodes(url)).find((node) => node.id === id).load[part];
        await until(async () => isExpected(await load()), `${part} of ${id}`);
      }
    };
    await isSeen("a", "connections", "connections", (count) => count >= 40 && count < 80);
    await isSeen("b", "connections", "connections", (count) => count >= 1 && count < 40);
    await isSeen("a", "sessions", "sessions", (count) => count === 40);
    await isSeen("b", "sessions", "sessions", (count) => count === 2);
    // A server is rarely so idle for a second that no load is visible.
    for (const id of ["a", "b"]) await isSeen(id, "busy", "busy_ratio", (ratio) => ratio > 0 && ratio <= 1);
    for (const { socket } of here.slice(1)) socket.disconnect();
    await isSeen("a", "sessions", "sessions", (count) => count === 1);
    await isSeen("a", "connections", "connections", (count) => count >= 1 && count < 40);
  });

  describe("with a used id", { concurrency: true }, () => {
    for (const [name, url] of [
      ["Redis", () => `redis://${redis.address}`],
      ["sharded Redis", () => `redis+sharded://${redis.address}`],
      ["a stream of Redis", () => `redis-streams://${redis.address}`],
      ["PostgreSQL", () => postgres.url],
      ["NATS", () => `nats://${nats.address}`],
    ]) {
      test(`a server with a used id does not start, with ${name}`, async (t) => {
        const member = cluster({ ROOMCAST_ADAPTER__URL: url() });
        const a = await server(t, member("one"));
        const isOld = async () => Date.now() - Date.parse((await nodes(a.url))[0].startedAt) > 3000;
        await until(isOld, "the first to be nobody's twin");
        const isUsed = /ended with 1\n[^]*node id `one` is in use by http:\/\/one\.example:3000: give each server its own node\.id/;
        // A server that is too slow to learn of the other one at its start ends as soon as it does.
        const starting = startServer({ ...keyed, ...member("one") });
        const late = starting.then(async (it) => {
          throw new Error(`ended with ${await within(it.ended, "the second to end")}\n${it.output()}`);
        });
        await assert.rejects(late, isUsed);
        await know([a], 1);
      });
    }
  });

  test("events queued or lost while the broker is paused are reported", async (t) => {
    const own = await startRedis();
    t.after(() => own.end());
    const member = cluster({ ROOMCAST_ADAPTER__URL: `redis://${own.address}` });
    const [a, b] = await Promise.all(["a", "b"].map((id) => server(t, member(id))));
    await know([a, b], 2);
    const ready = async () => (await fetch(`${a.url}/health/ready`)).json();
    assert.deepEqual([(await ready()).lost, (await ready()).gaps, (await ready()).gapMs], [0, 0, 0]);
    await own.pause();
    // Heartbeats and announcements are queued.
    await metricIs(a.url, "roomcast_adapter_queued", (count) => count > 0);
    await metricIs(a.url, "roomcast_adapter_queued_bytes", (bytes) => bytes > 0);
    await until(async () => (await ready()).lost > 0, "that what has waited for too long is lost");
    assert.equal((await ready()).status, "ok");
    await own.resume();
    await metricIs(b.url, 'roomcast_node_lost{node="a"}', (count) => count > 0);
    await until(async () => (await ready()).gaps > 0 && (await ready()).gapMs > 0, "that it was cut off is told");
    await metricIs(a.url, "roomcast_cluster_gaps_total", (count) => count > 0);
    await metricIs(b.url, 'roomcast_node_gaps{node="a"}', (count) => count > 0);
    const told = async () => (await nodes(b.url)).find(({ id }) => id === "a").load;
    await until(async () => (await told()).gaps > 0 && (await told()).gapMs > 0, "that the API tells of it");
  });

  test("a broker connection that breaks briefly is counted", async (t) => {
    const a = await server(t, cluster()("a"));
    await metricIs(a.url, "roomcast_adapter_up", (up) => up === 1);
    const count = (to) => metric(a.url, `roomcast_adapter_transitions_total{to="${to}"}`);
    const [downs, ups] = await Promise.all(["down", "up"].map(count));
    await redis.command("CLIENT", "KILL", "TYPE", "pubsub");
    await until(async () => (await count("down")) > downs && (await count("up")) > ups, "that it is counted");
    await metricIs(a.url, "roomcast_adapter_up", (up) => up === 1);
  });
});
