// Roomcast servers and a Node server share rooms through Redis, in both formats of Node's adapter.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Emitter } from "@socket.io/redis-emitter";
import { all, people } from "./cluster.mjs";
import { clusterEvents } from "./cluster_events.mjs";
import { ARGS, describeCluster, known, startCluster } from "./cluster_suite.mjs";
import { connectRedis, startNode, startRedis } from "./redis.mjs";
import { ask, next, until } from "./support.mjs";
import { variants } from "./variants.mjs";

/** Starts two Roomcast servers and a Node server. */
async function start({ scheme, ...more }) {
  const redis = await startRedis();
  const key = `key*${scheme}`;
  // Node's adapter crashes if it is still leaving the rooms of earlier tests when Redis goes down.
  const leave = async (room) => {
    const channels = async () => (await redis.command("pubsub", "shardchannels")).split("\n");
    const isOwn = (channel) => !channel.includes("room of") || channel.includes(room);
    await until(async () => (await channels()).every(isOwn), "the rooms before to be left");
    await redis.kill();
  };
  const startOther = () => startNode(redis, { sharded: scheme.includes("sharded"), key, ...more });
  const cluster = await startCluster(redis, `${scheme}://${redis.address}`, key, startOther, { leave });
  return { ...cluster, emitter: new Emitter(cluster.node.pub, { key }), listening: cluster.servers };
}

describe("Redis", { concurrency: true }, () => {
  const wires = {
    "Redis": { scheme: "redis" },
    "sharded Redis": { scheme: "redis+sharded" },
    "sharded Redis with channels of sockets": { scheme: "redis+sharded-private", subscriptionMode: "dynamic-private" },
  };
  for (const [name, wire] of variants(Object.entries(wires), 2)) {
    const isClassic = wire.scheme === "redis";
    describeCluster(name, () => start(wire), { dated: ARGS, hasEmitter: isClassic }, (joined) => {
      test("Roomcast heartbeats do not disturb Node servers with their namespace", async (t) => {
        const { sockets, heard, room } = await people(t, joined().servers);
        const beats = new Set();
        const namespace = joined().node.io.of("/.roomcast");
        namespace.on("beat", ({ id }) => beats.add(id));
        t.after(() => {
          joined().node.io._nsps.delete("/.roomcast");
          return namespace.adapter.close();
        });
        await until(() => beats.size === 2, "heartbeats of both");
        sockets[0].emit("in", room, "news", 1);
        joined().node.io.to(room).emit("news", 2);
        await all(heard, 2);
      });

      test("Node emits to, queries, moves and disconnects a socket of Roomcast", async (t) => {
        const { sockets, room } = await people(t, joined().servers);
        const [remote] = await joined().node.io.in(sockets[0].id).fetchSockets();
        assert.equal(remote.id, sockets[0].id);
        const heard = next(sockets[0], "hello");
        assert.equal(remote.emit("hello", Buffer.from("x")), true);
        assert.deepEqual(await heard, [Buffer.from("x")]);
        sockets[0].on("question", (n, done) => done(n + 1));
        assert.equal(await remote.timeout(10_000).emitWithAck("question", 1), 2);
        remote.join(`${room} 2`);
        await until(async () => (await ask(sockets[1], "count", `${room} 2`)) === 1, "it to join");
        remote.leave(`${room} 2`);
        await until(async () => (await ask(sockets[1], "count", `${room} 2`)) === 0, "it to leave");
        remote.disconnect(true);
        await next(sockets[0], "disconnect");
      });

      if (isClassic) {
        clusterEvents(joined, { others: ["node"] });

        test("Node receives the rooms of all servers", async (t) => {
          const { sockets, room } = await people(t, joined().servers);
          const own = `${room} of one server`;
          sockets[1].emit("sockets-join", sockets[1].id, own);
          await until(async () => (await ask(sockets[0], "count", own)) === 1, "it to join");
          const rooms = await joined().node.io.of("/").adapter.allRooms();
          for (const name of [room, own, sockets[0].id, sockets[1].id, sockets[2].id]) assert.ok(rooms.has(name), name);
        });
      }
    });
  }
});

/**
 * Checks that events of each server reach the clients of all, and that its requests are answered by
 * the rest.
 */
async function talk(t, { node, servers }) {
  const { sockets, heard, room } = await people(t, servers);
  sockets[0].emit("in", room, "news", "a");
  sockets[1].emit("in", room, "news", "b");
  node.io.to(room).emit("news", "node");
  await all(heard, 3);
  for (const list of heard) assert.deepEqual(list.flat().sort(), ["a", "b", "node"]);
  const ids = sockets.map(({ id }) => id).sort();
  for (const socket of sockets.slice(0, 2)) {
    assert.deepEqual((await ask(socket, "fetch", room)).map(({ id }) => id).sort(), ids);
  }
  assert.deepEqual((await node.io.in(room).fetchSockets()).map(({ id }) => id).sort(), ids);
  return room;
}

test("with namespace channels only, rooms have no channels", async (t) => {
  const cluster = await start({ scheme: "redis+sharded-static", subscriptionMode: "static" });
  t.after(() => cluster.stop());
  await known(cluster);
  const room = await talk(t, cluster);
  const channels = await cluster.broker.command("pubsub", "shardchannels");
  assert.ok(channels.includes(`${cluster.key}#/#`) && !channels.includes(room), channels);
});

test("with response channels per requester, no other server receives answers", async (t) => {
  const cluster = await start({ scheme: "redis+specific", publishOnSpecificResponseChannel: true });
  const spy = await connectRedis(cluster.broker);
  t.after(() => spy.close());
  t.after(() => cluster.stop());
  await known(cluster);
  const responses = `${cluster.key}-response#/#`;
  const channels = new Set();
  await spy.pSubscribe(`${responses}*`, (_, channel) => channels.add(channel));
  await talk(t, cluster);
  // The channels of Node and of the two Roomcast servers that have sent a request. The spy's own
  // connection may receive last.
  await until(() => channels.size === 3, () => `three channels: ${[...channels]}`);
  assert.ok(!channels.has(responses));
});
