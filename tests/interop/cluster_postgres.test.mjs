// Roomcast servers and a Node server share rooms through PostgreSQL, in the format of Node's
// adapter.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createAdapter } from "@socket.io/postgres-adapter";
import { Emitter } from "@socket.io/postgres-emitter";
import pg from "pg";
import { all, people, serveNode } from "./cluster.mjs";
import { ARGS, describeCluster, startCluster } from "./cluster_suite.mjs";
import { startPostgres } from "./postgres.mjs";
import { until } from "./processes.mjs";

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
async function start() {
  const postgres = await startPostgres();
  const pool = connectPool(postgres);
  // Node's adapter never returns a broken connection, so the end of its pool might not complete.
  const startNode = () => serveNode({ adapter: createAdapter(pool, { channelPrefix: key }) }, () => void pool.end());
  const cluster = await startCluster(postgres, postgres.url, key, startNode);
  return { ...cluster, emitter: new Emitter(pool, "/", { channelPrefix: key }), listening: cluster.ours };
}

const asked = [7, "x".repeat(9_000), Buffer.from([0, 255])];
const sent = [ARGS, [1, "é".repeat(9_000), [2 ** 53 + 2]], ["small"]];
describeCluster("PostgreSQL", start, { sent, asked, hasEmitter: true }, (joined) => {
  test("events of lengths around the notification limit reach all servers", async (t) => {
    const { sockets, heard, room } = await people(t, joined().servers);
    const lengths = Array.from({ length: 300 }, (_, i) => 7_700 + i);
    // With any size of the envelope, one of them has exactly 8,000 bytes.
    for (const length of lengths) sockets[0].emit("in", room, "news", "x".repeat(length));
    await all(heard, lengths.length);
    assert.deepEqual(heard[1].map(([text]) => text.length), lengths);
    assert.deepEqual(heard[2].map(([text]) => text.length).sort((a, b) => a - b), lengths);
  });

  test("a Node server expires a killed server and receives events after an outage", async (t) => {
    const { node, servers } = joined();
    await until(async () => (await node.io.of("/").adapter.serverCount()) === 3, "Node to miss it");
    assert.equal((await node.io.serverSideEmitWithAck("question", 1)).length, 2);
    const { sockets, heard, room } = await people(t, servers);
    sockets[0].emit("in", room, "news", 1);
    await all(heard, 1);
  });
});
