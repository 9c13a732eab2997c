// Servers of ours and Node servers share rooms through a stream of Redis, with the current version of Node's adapter
// and the one before.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io as client } from "socket.io-client";
import { all, people } from "./cluster.mjs";
import { joinedServers } from "./cluster_suite.mjs";
import { startRedis, startStreamsNode } from "./redis.mjs";
import { ask, connect, next, startExample, until, within } from "./support.mjs";

const PERSISTENT = "--appendonly yes --appendfsync always";

/** Two servers of ours and one of Node. */
async function startCluster(version) {
  const redis = await startRedis(PERSISTENT);
  const key = `key*${version}`;
  const ADAPTER = `redis-streams://${redis.address}`;
  const start = (NODE_NAME) => startExample("interop", { ADAPTER, ADAPTER_KEY: key, NODE_NAME });
  const [a, b, node] = await Promise.all([start("a"), start("b"), startStreamsNode(redis, { key, version })]);
  const stop = async () => {
    await Promise.all([a.stop(), b.stop(), node.stop()]);
    redis.end();
  };
  const xadd = (...fields) => redis.command("XADD", key, "*", ...fields);
  return { redis, key, a, b, node, servers: [a, b, node], xadd, stop };
}

for (const version of ["0.3", "0.2"]) {
  describe(`version ${version}`, () => {
    let cluster;
    before(async () => {
      cluster = await startCluster(version);
      // Everybody listens, and is known to the others.
      const socket = await connect({ after() {} }, client, cluster.a.url);
      await until(async () => (await ask(socket, "servers")) === 3, "all servers");
      await until(async () => (await cluster.node.io.serverSideEmitWithAck("question", 7)).length === 2, "both of ours");
      socket.disconnect();
    });
    after(() => cluster.stop());

    joinedServers(() => cluster, { listed: version === "0.3" ? 3 : 2 });

    test("servers stay known to each other although nothing is sent", async (t) => {
      const { sockets } = await people(t, cluster.servers);
      // Longer than the ten seconds after which Node servers of the version before take one for gone: that is what is tested.
      await new Promise((done) => setTimeout(done, 12_000));
      assert.deepEqual(await ask(sockets[0], "server-side-ack", 7), [["b", 7], ["node", 7]]);
      assert.equal((await cluster.node.io.serverSideEmitWithAck("question", 7)).length, 2);
    });

    test("garbage in the stream and on the channels is ignored", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      const { redis, key, xadd } = cluster;
      await xadd("x", "y");
      // What is no document; a Node server never gets beyond one that lacks what it should have.
      for (const type of ["3", "4", "7", "9", "99", "x", "-1", "8", "12"]) {
        for (const data of ["{", "é", "////"]) await xadd("uid", "x", "nsp", "/", "type", type, "data", data);
      }
      await xadd("uid", "x", "nsp", "/elsewhere", "type", "3", "data", "{}");
      for (const bytes of ["{", "{}", "[1,2]", '{"type":3}', "é"]) await redis.command("PUBLISH", `${key}#/#`, bytes);
      sockets[0].emit("in", room, "news", "still here");
      await all(heard, 1);
    });

    test("what was sent while a server had no connection to Redis arrives once and in order", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      const send = (from, to) => {
        for (let i = from; i < to; i++) sockets[0].emit("in", room, "news", i);
      };
      send(0, 100);
      await all(heard, 100);
      // Connections are cut again and again; what is in the stream is not lost.
      for (let round = 1; round <= 3; round++) {
        const before = round * 100;
        await cluster.redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
        await cluster.redis.command("CLIENT", "KILL", "TYPE", "pubsub");
        for (let i = before; i < before + 100; i++) {
          const data = JSON.stringify({ packet: { type: 2, data: ["news", i], nsp: "/" }, opts: { rooms: [room], except: [], flags: {} } });
          await cluster.xadd("uid", "emitter", "nsp", "/", "type", "3", "data", data);
        }
        await all(heard.slice(0, 2), before + 100);
      }
      for (const list of heard.slice(0, 2)) assert.deepEqual(list.flat(), [...Array(400).keys()]);
    });

    test("without Redis servers go on by themselves, and catch up when it is back with what it had kept", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      await cluster.redis.kill();
      sockets[0].emit("in", room, "news", "alone");
      await all(heard.slice(0, 1), 1);
      const [isComplete] = await ask(sockets[0], "bcast-ack", room, 300, "question", 1);
      assert.ok(!isComplete);
      assert.equal(await within(ask(sockets[0], "fetch", room), "what is known", 6500), "timeout");
      await cluster.redis.start();
      const data = JSON.stringify({ packet: { type: 2, data: ["news", "kept"], nsp: "/" }, opts: { rooms: [room], except: [], flags: {} } });
      await cluster.xadd("uid", "emitter", "nsp", "/", "type", "3", "data", data);
      const joined = async () => (await ask(sockets[0], "servers")) === 3;
      await within(until(joined, "all servers"), "all servers", 15_000);
      for (const [i, socket] of sockets.slice(0, 2).entries()) {
        socket.emit("in", room, "news", i);
        await until(() => heard.slice(0, 2).every((list) => list.at(-1)?.[0] === i), `event ${i}`);
      }
      for (const list of heard.slice(0, 2)) {
        assert.deepEqual(list.flat().filter((text) => text !== "alone"), ["kept", 0, 1]);
        assert.ok(list.flat().filter((text) => text === "alone").length <= 1);
      }
    });
  });
}
