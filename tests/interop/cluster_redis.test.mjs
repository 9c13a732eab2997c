// Roomcast servers and a Node server share rooms through Redis, in both formats of Node's adapter.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Emitter } from "@socket.io/redis-emitter";
import { io as client } from "socket.io-client";
import { all, people } from "./cluster.mjs";
import { areMissed, goesAway } from "./cluster_away.mjs";
import { clusterEvents } from "./cluster_events.mjs";
import { ARGS, joinedServers } from "./cluster_suite.mjs";
import { connectRedis, startNode, startRedis } from "./redis.mjs";
import { ask, connect, next, startNamed, until } from "./support.mjs";

/** Starts two Roomcast servers and a Node server. */
async function startCluster({ scheme, ...more }) {
  const redis = await startRedis();
  const key = `key*${scheme}`;
  const sharded = scheme.includes("sharded");
  const ADAPTER = `${scheme}://${redis.address}`;
  const start = (name) => startNamed(name, { ADAPTER, ADAPTER_KEY: key });
  const [a, b, node] = await Promise.all([start("a"), start("b"), startNode(redis, { sharded, key, ...more })]);
  const stop = async () => {
    await Promise.all([a.stop(), b.stop(), node.stop()]);
    redis.end();
  };
  return { redis, key, adapter: ADAPTER, a, b, node, ours: [a, b], servers: [a, b, node], stop };
}

for (const [name, wire] of Object.entries({
  classic: { scheme: "redis" },
  sharded: { scheme: "redis+sharded" },
  "sharded with channels of sockets": { scheme: "redis+sharded-private", subscriptionMode: "dynamic-private" },
})) {
  const sharded = wire.scheme !== "redis";
  describe(name, () => {
    let cluster;
    before(async () => {
      cluster = await startCluster(wire);
      // All servers have subscribed.
      const socket = await connect({ after() {} }, client, cluster.a.url);
      await until(async () => (await ask(socket, "servers")) === 3, "all servers");
      socket.disconnect();
    });
    after(() => cluster.stop());

    joinedServers(() => cluster, { dated: ARGS });
    clusterEvents(() => cluster, { others: ["node"] });

    test("Roomcast heartbeats do not disturb Node servers with their namespace", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      const beats = new Set();
      const namespace = cluster.node.io.of("/.roomcast");
      namespace.on("beat", ({ id }) => beats.add(id));
      t.after(() => {
        cluster.node.io._nsps.delete("/.roomcast");
        return namespace.adapter.close();
      });
      await until(() => beats.size === 2, "heartbeats of both");
      sockets[0].emit("in", room, "news", 1);
      cluster.node.io.to(room).emit("news", 2);
      await all(heard, 2);
    });

    test("Node emits to, queries, moves and disconnects a socket of Roomcast", async (t) => {
      const { sockets, room } = await people(t, cluster.servers);
      const [remote] = await cluster.node.io.in(sockets[0].id).fetchSockets();
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

    if (!sharded) {
      test("Node receives the rooms of all servers", async (t) => {
        const { sockets, room } = await people(t, cluster.servers);
        const own = `${room} of one server`;
        sockets[1].emit("sockets-join", sockets[1].id, own);
        await until(async () => (await ask(sockets[0], "count", own)) === 1, "it to join");
        const rooms = await cluster.node.io.of("/").adapter.allRooms();
        for (const name of [room, own, sockets[0].id, sockets[1].id, sockets[2].id]) assert.ok(rooms.has(name), name);
      });
    }

    test("garbage on the channels is ignored", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      const garbage = ["", "{", "\xc1", "{}", "[1,2]", '{"type":3}', '{"type":2,"opts":1}', "\x93\xa1x\x80\x80"];
      for (const suffix of ["", "-request", "-response"]) {
        for (const bytes of garbage) {
          const channel = `${cluster.key}${suffix}#/#`;
          // Node's classic adapter does not survive garbage on channels of events.
          if (!sharded && suffix === "") continue;
          await cluster.node.pub[sharded ? "sPublish" : "publish"](channel, Buffer.from(bytes, "latin1"));
        }
      }
      sockets[0].emit("in", room, "news", "still here");
      await all(heard, 1);
    });

    if (!sharded) {
      test("events of Node's emitter reach all clients", async (t) => {
        const { sockets, heard, room } = await people(t, cluster.servers);
        const emitter = new Emitter(cluster.node.pub, { key: cluster.key });
        emitter.to(room).emit("news", 1, Buffer.from("x"));
        await all(heard, 1);
        emitter.to([room, "other"]).except(sockets[0].id).emit("news", 2);
        await all(heard.slice(1), 2);
        emitter.in(room).socketsJoin(`${room} 2`);
        await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 3, "all to join");
        const volatile = async () => {
          emitter.in(`${room} 2`).volatile.compress(false).emit("news", 3);
          for (const socket of sockets) await ask(socket, "echo", 1);
          return heard.every((list) => list.at(-1)[0] === 3);
        };
        await until(volatile, "an event that may be lost while something else is on its way");
        emitter.in(room).socketsLeave(`${room} 2`);
        await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 0, "all to leave");
        assert.deepEqual(heard[0].map((args) => args[0]).filter((one) => one !== 3), [1]);
        const noted = next(sockets[1], "noted");
        emitter.serverSideEmit("note", 4);
        assert.deepEqual(await noted, [4]);
        emitter.in(sockets[0].id).disconnectSockets();
        await next(sockets[0], "disconnect");
      });
    }

    test("a killed server expires later, a stopped server leaves immediately", (t) => {
      const start = (name) => startNamed(name, { ADAPTER: cluster.adapter, ADAPTER_KEY: cluster.key });
      return areMissed(t, cluster.servers, ["b", "node"], start);
    });

    test("servers work without Redis and join again when it is back", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      // Node's adapter crashes if it is still leaving the rooms of earlier tests when Redis goes
      // down.
      const rooms = async () => (await cluster.redis.command("pubsub", "shardchannels")).split("\n");
      const isOwn = (channel) => !channel.includes("room of") || channel.includes(room);
      await until(async () => (await rooms()).every(isOwn), "the rooms before to be left");
      await goesAway({ sockets, heard, room }, ["b", "node"], cluster.redis.kill, cluster.redis.start);
      for (const [i, socket] of sockets.slice(0, 2).entries()) {
        socket.emit("in", room, "news", i);
        await until(() => heard.slice(0, 2).every((list) => list.at(-1)?.[0] === i), `event ${i}`);
      }
      assert.ok(heard[1].filter(([text]) => text === "alone").length <= 1);
    });
  });
}

/** Waits until all servers of a cluster know each other. */
async function known(t, cluster) {
  t.after(() => cluster.stop());
  const socket = await connect(t, client, cluster.a.url);
  await until(async () => (await ask(socket, "servers")) === 3, "all servers");
}

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
  const cluster = await startCluster({ scheme: "redis+sharded-static", subscriptionMode: "static" });
  await known(t, cluster);
  const room = await talk(t, cluster);
  const channels = await cluster.redis.command("pubsub", "shardchannels");
  assert.ok(channels.includes(`${cluster.key}#/#`) && !channels.includes(room), channels);
});

test("with response channels per requester, no other server receives answers", async (t) => {
  const cluster = await startCluster({ scheme: "redis+specific", publishOnSpecificResponseChannel: true });
  const spy = await connectRedis(cluster.redis);
  t.after(() => spy.close());
  await known(t, cluster);
  const responses = `${cluster.key}-response#/#`;
  const channels = new Set();
  await spy.pSubscribe(`${responses}*`, (_, channel) => channels.add(channel));
  await talk(t, cluster);
  // The channels of Node and of the two Roomcast servers that have sent a request. The spy's own
  // connection may receive last.
  await until(() => channels.size === 3, () => `three channels: ${[...channels]}`);
  assert.ok(!channels.has(responses));
});

test("an adapter waits until Redis is available", async (t) => {
  const redis = await startRedis();
  await redis.kill();
  const env = { ADAPTER: `redis://${redis.address}` };
  const servers = await Promise.all(["a", "b"].map((name) => startNamed(name, env)));
  t.after(() => Promise.all(servers.map((server) => server.stop())).then(redis.end));
  const [a, b] = await Promise.all(servers.map(({ url }) => connect(t, client, url)));
  a.emit("all", "news", "alone");
  assert.deepEqual(await next(a, "news"), ["alone"]);
  await redis.start();
  for (const one of [a, b]) await until(async () => (await ask(one, "servers")) === 2, "both");
  const emitter = new Emitter(await connectRedis(redis));
  const told = Promise.all([a, b].map((socket) => next(socket, "end")));
  emitter.emit("end");
  await told;
  await emitter.redisClient.close();
});
