// Roomcast servers and a Node server share rooms through PostgreSQL, in the format of Node's
// adapter.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createAdapter } from "@socket.io/postgres-adapter";
import { Emitter } from "@socket.io/postgres-emitter";
import pg from "pg";
import { io as client } from "socket.io-client";
import { all, people, serveNode } from "./cluster.mjs";
import { areMissed, goesAway } from "./cluster_away.mjs";
import { clusterEvents } from "./cluster_events.mjs";
import { ARGS, joinedServers } from "./cluster_suite.mjs";
import { startPostgres } from "./postgres.mjs";
import { ask, connect, next, startNamed, until } from "./support.mjs";

const key = "key *1";

/** Opens connections of Node's client, which reconnect when they break. */
function connectPool(postgres) {
  const pool = new pg.Pool({ connectionString: postgres.url });
  pool.on("error", () => {});
  // The adapter does not handle the end of its listening connection.
  pool.on("connect", (connection) => connection.on("error", () => {}));
  return pool;
}

/** Starts two Roomcast servers and a Node server. */
async function startCluster() {
  const postgres = await startPostgres();
  const pool = connectPool(postgres);
  const start = (name) => startNamed(name, { ADAPTER: postgres.url, ADAPTER_KEY: key });
  const [a, b] = await Promise.all([start("a"), start("b")]);
  const node = await serveNode({ adapter: createAdapter(pool, { channelPrefix: key }) });
  const stop = async () => {
    await Promise.all([a.stop(), b.stop(), node.io.close()]);
    // Node's adapter never returns a broken connection, so this might not complete.
    pool.end();
    await postgres.end();
  };
  return { postgres, pool, a, b, node, ours: [a, b], servers: [a, b, node], stop };
}

describe("two Roomcast servers and one Node server", () => {
  let cluster;
  before(async () => {
    cluster = await startCluster();
    const socket = await connect({ after() {} }, client, cluster.a.url);
    await until(async () => (await ask(socket, "servers")) === 3, "all servers");
    socket.disconnect();
  });
  after(() => cluster.stop());

  const asked = [7, "x".repeat(9_000), Buffer.from([0, 255])];
  joinedServers(() => cluster, { sent: [ARGS, [1, "é".repeat(9_000), [2 ** 53 + 2]], ["small"]], asked });
  clusterEvents(() => cluster, { others: ["node"], asked });

  test("events of lengths around the notification limit reach all servers", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    const lengths = Array.from({ length: 300 }, (_, i) => 7_700 + i);
    // With any size of the envelope, one of them has exactly 8,000 bytes.
    for (const length of lengths) sockets[0].emit("in", room, "news", "x".repeat(length));
    await all(heard, lengths.length);
    assert.deepEqual(heard[1].map(([text]) => text.length), lengths);
    assert.deepEqual(heard[2].map(([text]) => text.length).sort((a, b) => a - b), lengths);
  });

  test("small events do not overtake large ones between Roomcast servers", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    for (let n = 0; n < 200; n++) {
      sockets[0].emit("in", room, "news", n, n % 3 === 0 ? "x".repeat(20_000) : n % 3 === 1 ? Buffer.alloc(1) : 0);
    }
    await all(heard, 200);
    assert.deepEqual(heard[1].map(([n]) => n), Array.from({ length: 200 }, (_, n) => n));
  });

  test("events of Node's emitter reach the clients of Roomcast servers", async (t) => {
    const { sockets, heard, room } = await people(t, [cluster.a, cluster.b]);
    const emitter = new Emitter(cluster.pool, "/", { channelPrefix: key });
    const sent = [1, Buffer.from("x"), "x".repeat(9_000)];
    for (const [i, one] of sent.entries()) {
      emitter.to(room).emit("news", one);
      await all(heard, i + 1);
    }
    emitter.to([room, "other"]).except(sockets[0].id).emit("news", 2);
    await all(heard.slice(1), 4);
    emitter.in(room).socketsJoin(`${room} 2`);
    await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 2, "all to join");
    const volatile = async () => {
      emitter.in(`${room} 2`).volatile.compress(false).emit("news", 3);
      for (const socket of sockets) await ask(socket, "echo", 1);
      return heard.every((list) => list.at(-1)[0] === 3);
    };
    await until(volatile, "an event that may be lost while something else is on its way");
    emitter.in(room).socketsLeave(`${room} 2`);
    await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 0, "all to leave");
    assert.deepEqual(heard[0].map((args) => args[0]).filter((one) => one !== 3), sent);
    const noted = next(sockets[1], "noted");
    emitter.serverSideEmit("note", 4);
    assert.deepEqual(await noted, [4]);
    emitter.in(sockets[0].id).disconnectSockets();
    await next(sockets[0], "disconnect");
    // The emitter is no server, so servers expect no answers from it.
    assert.equal(await ask(sockets[1], "servers"), 3);
  });

  test("garbage on the channels is ignored", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    const garbage = ["{", "{}", "[1,2]", '{"type":3}', '{"type":99}', '{"attachmentId":"x"}', '{"attachmentId":"999999"}'];
    for (const text of garbage) {
      await cluster.pool.query("SELECT pg_notify($1, $2)", [`${key}#/`, text]);
    }
    for (const payload of ["", "\xc1", "\x80", "x"]) {
      const bytes = Buffer.from(payload, "latin1");
      const stored = await cluster.pool.query("INSERT INTO socket_io_attachments (payload) VALUES ($1) RETURNING id", [bytes]);
      const header = JSON.stringify({ uid: "x", type: 3, attachmentId: stored.rows[0].id });
      await cluster.pool.query("SELECT pg_notify($1, $2)", [`${key}#/`, header]);
    }
    for (const [i, socket] of sockets.entries()) {
      socket.emit("to", room, "news", i);
      await until(() => heard.every((list, j) => i === j || list.at(-1)?.[0] === i), `event ${i}`);
    }
    assert.deepEqual(heard, [[[1], [2]], [[0], [2]], [[0], [1]]]);
  });

  test("servers work without PostgreSQL and join again when it is back", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    await goesAway({ sockets, heard, room }, ["b", "node"], cluster.postgres.kill, cluster.postgres.start);
    for (const [i, socket] of sockets.slice(0, 2).entries()) {
      socket.emit("in", room, "news", i);
      await until(() => heard.every((list) => list.at(-1)?.[0] === i), `event ${i}`);
    }
    assert.ok(heard[1].filter(([text]) => text === "alone").length <= 1);
  });

  test("a killed server expires later, a stopped server leaves immediately", async (t) => {
    const start = (name) => startNamed(name, { ADAPTER: cluster.postgres.url, ADAPTER_KEY: key });
    await areMissed(t, cluster.servers, ["b", "node"], start);
    const { adapter } = cluster.node.io.of("/");
    await until(async () => (await adapter.serverCount()) === 3, "Node to miss it");
    assert.equal((await cluster.node.io.serverSideEmitWithAck("question", 1)).length, 2);
  });
});

test("an adapter waits until PostgreSQL is available", async (t) => {
  const postgres = await startPostgres();
  await postgres.kill();
  const env = { ADAPTER: postgres.url };
  const servers = await Promise.all(["a", "b"].map((name) => startNamed(name, env)));
  t.after(() => Promise.all(servers.map((server) => server.stop())).then(() => postgres.end()));
  const [a, b] = await Promise.all(servers.map(({ url }) => connect(t, client, url)));
  a.emit("all", "news", "alone");
  assert.deepEqual(await next(a, "news"), ["alone"]);
  await postgres.start();
  for (const one of [a, b]) await until(async () => (await ask(one, "servers")) === 2, "both");
  const pool = connectPool(postgres);
  const told = Promise.all([a, b].map((socket) => next(socket, "end")));
  new Emitter(pool).emit("end");
  await told;
  await pool.end();
});
