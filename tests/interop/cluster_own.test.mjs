// Servers that no Node server joins: a server without an adapter, and servers whose broker is not
// available yet. Servers connected by NATS are tested in tests/server/cluster.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io as client } from "socket.io-client";
import { clusterEvents } from "./cluster_events.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { ask, connect, lastingPort, next, startExample, startNamed, until } from "./support.mjs";

describe("a server without an adapter", () => {
  let alone;
  before(async () => (alone = await startNamed("alone")));
  after(() => alone.stop());

  clusterEvents(() => ({ ours: [alone, alone] }), { asked: [7, Buffer.from([0, 255])] });

  test("is named by its port if it has no name", async (t) => {
    const port = `${await lastingPort()}`;
    const server = await startExample("interop", { PORT: port });
    t.after(() => server.stop());
    const socket = await connect(t, client, server.url);
    assert.deepEqual([await ask(socket, "whereami"), new URL(server.url).port], [port, port]);
  });
});

for (const [name, startOne, url] of [
  ["NATS", () => startBroker("nats"), ({ address }) => `nats://${address}`],
  ["Redis", () => startRedis(), ({ address }) => `redis://${address}`],
  ["PostgreSQL", () => startPostgres(), ({ url }) => url],
]) {
  test(`an adapter waits until ${name} is available`, async (t) => {
    const broker = await startOne();
    await broker.kill();
    const env = { ADAPTER: url(broker) };
    const servers = await Promise.all(["a", "b"].map((name) => startNamed(name, env)));
    t.after(() => Promise.all(servers.map((server) => server.stop())).then(() => broker.end()));
    const [a, b] = await Promise.all(servers.map(({ url }) => connect(t, client, url)));
    a.emit("all", "news", "alone");
    assert.deepEqual(await next(a, "news"), ["alone"]);
    await broker.start();
    for (const one of [a, b]) await until(async () => (await ask(one, "servers")) === 2, "both");
    const told = next(b, "news");
    a.emit("all", "news", "joined");
    assert.deepEqual(await told, ["joined"]);
  });
}
