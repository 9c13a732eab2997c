// Servers of ours and a Node server share rooms through Redis, on both wires of Node's adapter.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Emitter } from "@socket.io/redis-emitter";
import { io as client } from "socket.io-client";
import { connectRedis, startNode, startRedis } from "./redis.mjs";
import { ask, connect, next, startExample, until, within } from "./support.mjs";

/** Two servers of ours and one of Node. */
async function startCluster(sharded) {
  const redis = await startRedis();
  const key = `key*${sharded}`;
  const scheme = sharded ? "redis+sharded" : "redis";
  const ADAPTER = `${scheme}://${redis.address}`;
  const start = (NODE_NAME) => startExample("interop", { ADAPTER, ADAPTER_KEY: key, NODE_NAME });
  const [a, b, node] = await Promise.all([start("a"), start("b"), startNode(redis, { sharded, key })]);
  const stop = async () => {
    await Promise.all([a.stop(), b.stop(), node.stop()]);
    redis.end();
  };
  return { redis, key, a, b, node, stop };
}

/** A client of each server, in a room of its own name and in one of all; notes what it hears as `news`. */
async function people(t, { a, b, node }) {
  const room = `room of ${t.name}`;
  const sockets = await Promise.all(
    [a, b, node].map(({ url }) => connect(t, client, url, { transports: ["websocket"] })),
  );
  const heard = sockets.map((socket) => {
    const list = [];
    socket.on("news", (...args) => list.push(args));
    return list;
  });
  for (const socket of sockets) await ask(socket, "join", room);
  return { sockets, heard, room };
}

const all = (heard, expected) => until(() => heard.every((list) => list.length >= expected), `${expected} events`);

for (const sharded of [false, true]) {
  describe(sharded ? "sharded" : "classic", () => {
    let cluster;
    before(async () => {
      cluster = await startCluster(sharded);
      // Everybody has subscribed.
      const socket = await connect({ after() {} }, client, cluster.a.url);
      await until(async () => (await ask(socket, "servers")) === 3, "all servers");
      socket.disconnect();
    });
    after(() => cluster.stop());

    test("what one server sends reaches the members of a room on all, with binary in it", async (t) => {
      const { sockets, heard, room } = await people(t, cluster);
      const date = new Date(0);
      const args = [1, "é", { deep: [Buffer.from([0, 255]), null, 2.5, -1] }, Buffer.from("x")];
      sockets[0].emit("in", room, "news", ...args);
      await all(heard, 1);
      sockets[1].emit("in", room, "news", ...args);
      await all(heard, 2);
      cluster.node.io.to(room).emit("news", ...args);
      await all(heard, 3);
      cluster.node.io.to([room, "another"]).emit("news", ...args, date);
      await all(heard, 4);
      cluster.node.io.emit("news", ...args);
      await all(heard, 5);
      sockets[0].emit("all", "news", ...args);
      await all(heard, 6);
      for (const list of heard) {
        for (const [i, told] of list.entries()) {
          assert.deepEqual(told, i === 3 ? [...args, date.toJSON()] : args, `event ${i}`);
        }
      }
    });

    test("whoever sends and whoever is excepted hears nothing, on any server", async (t) => {
      const { sockets, heard, room } = await people(t, cluster);
      for (const [i, socket] of sockets.entries()) {
        socket.emit("to", room, "news", i);
        await until(() => heard.every((list, j) => i === j || list.at(-1)?.[0] === i), `event ${i}`);
      }
      await ask(sockets[1], "join", `${room} 2`);
      cluster.node.io.to(room).except(`${room} 2`).emit("news", "except");
      cluster.node.io.to(sockets[0].id).emit("news", "own");
      cluster.node.io.to(sockets[1].id).emit("news", "end");
      await until(() => heard[0].at(-1)[0] === "own" && heard[1].at(-1)[0] === "end" && heard[2].at(-1)[0] === "except", "the end");
      assert.deepEqual(heard.flat(2), [1, 2, "except", "own", 0, 2, "end", 0, 1, "except"]);
    });

    test("clients of all servers acknowledge what any server asks", async (t) => {
      const { sockets, room } = await people(t, cluster);
      for (const [i, socket] of sockets.entries()) socket.on("question", (x, done) => done({ i, x }));
      const expected = [0, 1, 2].map((i) => ({ i, x: Buffer.from("x") }));
      const sorted = (answers) => answers.sort((a, b) => a.i - b.i);
      for (const socket of sockets.slice(0, 2)) {
        const [isComplete, answers] = await ask(socket, "bcast-ack", room, 10_000, "question", Buffer.from("x"));
        assert.ok(isComplete);
        assert.deepEqual(sorted(answers), expected);
      }
      const answers = await cluster.node.io.to(room).timeout(10_000).emitWithAck("question", Buffer.from("x"));
      assert.deepEqual(sorted(answers), expected);
      const nobody = await cluster.node.io.to("nobody").timeout(10_000).emitWithAck("question", 1);
      assert.deepEqual(nobody, []);
      sockets[2].off("question");
      const [isComplete, some] = await ask(sockets[0], "bcast-ack", room, 500, "question", 1);
      assert.ok(!isComplete);
      assert.equal(some.length, 2);
    });

    test("the sockets of all servers are found from any", async (t) => {
      const { sockets, room } = await people(t, cluster);
      for (const [i, socket] of sockets.entries()) socket.emit("set-data", { i });
      for (const socket of sockets) await ask(socket, "echo", 1);
      const expected = sockets
        .map((socket, i) => ({ id: socket.id, rooms: [room], data: { value: { i } } }))
        .sort((a, b) => (a.id < b.id ? -1 : 1));
      for (const socket of sockets.slice(0, 2)) {
        assert.deepEqual(await ask(socket, "fetch", room), expected);
        assert.equal(await ask(socket, "count", room), 3);
        assert.deepEqual(await ask(socket, "fetch", "nobody"), []);
      }
      const found = await cluster.node.io.in(room).fetchSockets();
      const told = found.map(({ id, rooms, data, handshake }) => {
        assert.equal(typeof handshake.address, "string");
        assert.ok(rooms.has(id));
        return { id, rooms: [...rooms].filter((room) => room !== id), data };
      });
      assert.deepEqual(told.sort((a, b) => (a.id < b.id ? -1 : 1)), expected);
    });

    test("sockets of all servers join, leave and are disconnected from any", async (t) => {
      const { sockets, heard, room } = await people(t, cluster);
      cluster.node.io.in(room).socketsJoin(`${room} 2`);
      await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 3, "all to join");
      sockets[0].emit("sockets-join", room, [`${room} 3`]);
      await until(async () => (await cluster.node.io.in(`${room} 3`).fetchSockets()).length === 3, "all to join");
      cluster.node.io.in(room).except(sockets[2].id).socketsLeave(`${room} 2`);
      await until(async () => (await ask(sockets[1], "count", `${room} 2`)) === 1, "two to leave");
      sockets[1].emit("sockets-leave", room, `${room} 3`);
      await until(async () => (await cluster.node.io.in(`${room} 3`).fetchSockets()).length === 0, "all to leave");
      cluster.node.io.in(sockets[0].id).disconnectSockets(true);
      await next(sockets[0], "disconnect");
      sockets[1].emit("sockets-disconnect", sockets[2].id, false);
      assert.deepEqual((await next(sockets[2], "disconnect"))[0], "io server disconnect");
      sockets[1].emit("in", room, "news", "still here");
      await all(heard.slice(1, 2), 1);
    });

    test("servers tell and ask each other", async (t) => {
      const { sockets } = await people(t, cluster);
      const noted = sockets.map((socket) => {
        const list = [];
        socket.on("noted", (...args) => list.push(args));
        return list;
      });
      sockets[0].emit("server-side", "note", 1, { a: "é" });
      await until(() => noted[1].length === 1 && noted[2].length === 1, "notes");
      cluster.node.io.serverSideEmit("note", 2);
      await until(() => noted[0].length === 1 && noted[1].length === 2, "notes of Node");
      assert.deepEqual(noted, [[[2]], [[1, { a: "é" }], [2]], [[1, { a: "é" }]]]);
      assert.deepEqual(await ask(sockets[0], "server-side-ack", 7), [["b", 7], ["node", 7]]);
      const answers = await cluster.node.io.serverSideEmitWithAck("question", 7);
      assert.deepEqual(answers.sort(), [["a", 7], ["b", 7]]);
    });

    test("heartbeats of ours disturb no Node server, not even one that has their namespace", async (t) => {
      const { sockets, heard, room } = await people(t, cluster);
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

    test("namespaces made on demand are joined as well", async (t) => {
      cluster.node.io.of("/dyn-7").on("question", (done) => done(["node"]));
      const [a, b] = await Promise.all(
        [cluster.a, cluster.b].map(({ url }) => connect(t, client, `${url}/dyn-7`)),
      );
      const told = next(b, "news");
      await until(async () => (await ask(a, "servers")) === 3, "the other servers");
      a.emit("all", "news", 1);
      assert.deepEqual(await told, [1]);
      const again = next(a, "news");
      cluster.node.io.of("/dyn-7").emit("news", 2);
      assert.deepEqual(await again, [2]);
    });

    test("garbage on the channels is ignored", async (t) => {
      const { sockets, heard, room } = await people(t, cluster);
      const garbage = ["", "{", "\xc1", "{}", "[1,2]", '{"type":3}', '{"type":2,"opts":1}', "\x93\xa1x\x80\x80"];
      for (const suffix of ["", "-request", "-response"]) {
        for (const bytes of garbage) {
          const channel = `${cluster.key}${suffix}#/#`;
          // Node's classic adapter does not survive garbage where events are.
          if (!sharded && suffix === "") continue;
          await cluster.node.pub[sharded ? "sPublish" : "publish"](channel, Buffer.from(bytes, "latin1"));
        }
      }
      sockets[0].emit("in", room, "news", "still here");
      await all(heard, 1);
    });

    if (!sharded) {
      test("what Node's emitter sends reaches all clients", async (t) => {
        const { sockets, heard, room } = await people(t, cluster);
        const emitter = new Emitter(cluster.node.pub, { key: cluster.key });
        emitter.to(room).emit("news", 1, Buffer.from("x"));
        await all(heard, 1);
        emitter.to([room, "other"]).except(sockets[0].id).emit("news", 2);
        await all(heard.slice(1), 2);
        emitter.in(room).socketsJoin(`${room} 2`);
        await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 3, "all to join");
        emitter.in(`${room} 2`).volatile.compress(false).emit("news", 3);
        await all(heard.slice(1), 3);
        emitter.in(room).socketsLeave(`${room} 2`);
        await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 0, "all to leave");
        await all(heard.slice(0, 1), 2);
        assert.deepEqual(heard[0].map((args) => args[0]), [1, 3]);
        const noted = next(sockets[1], "noted");
        emitter.serverSideEmit("note", 4);
        assert.deepEqual(await noted, [4]);
        emitter.in(sockets[0].id).disconnectSockets();
        await next(sockets[0], "disconnect");
      });
    }

    test("without Redis servers go on by themselves, and are joined again when it is back", async (t) => {
      const { sockets, heard, room } = await people(t, cluster);
      // Node's adapter dies of what it is about to tell Redis then: that it has left the rooms of the tests before.
      const rooms = async () => (await cluster.redis.command("pubsub", "shardchannels")).split("\n");
      const isOwn = (channel) => !channel.includes("room of") || channel.includes(room);
      await until(async () => (await rooms()).every(isOwn), "the rooms before to be left");
      await cluster.redis.kill();
      sockets[0].emit("in", room, "news", "alone");
      await all(heard.slice(0, 1), 1);
      const started = Date.now();
      const [isComplete] = await ask(sockets[0], "bcast-ack", room, 300, "question", 1);
      assert.ok(!isComplete);
      const found = await within(ask(sockets[0], "fetch", room), "what is known", 6500);
      assert.equal(found, "timeout");
      assert.ok(Date.now() - started < 20_000);
      await cluster.redis.start();
      const joined = async () => (await ask(sockets[0], "servers")) === 3;
      await within(until(joined, "all servers"), "all servers", 10_000);
      for (const [i, socket] of sockets.slice(0, 2).entries()) {
        socket.emit("in", room, "news", i);
        await until(() => heard.slice(0, 2).every((list) => list.at(-1)?.[0] === i), `event ${i}`);
      }
      assert.ok(heard[1].filter(([text]) => text === "alone").length <= 1);
    });
  });
}

test("an adapter that finds no Redis waits for it", async (t) => {
  const redis = await startRedis();
  await redis.kill();
  const env = { ADAPTER: `redis://${redis.address}` };
  const servers = await Promise.all([startExample("interop", env), startExample("interop", env)]);
  t.after(() => Promise.all(servers.map((server) => server.stop())).then(redis.end));
  const [a, b] = await Promise.all(servers.map(({ url }) => connect(t, client, url)));
  a.emit("all", "news", "alone");
  assert.deepEqual(await next(a, "news"), ["alone"]);
  await redis.start();
  await within(until(async () => (await ask(b, "servers")) === 2, "both"), "both", 10_000);
  const emitter = new Emitter(await connectRedis(redis));
  const told = Promise.all([a, b].map((socket) => next(socket, "end")));
  emitter.emit("end");
  await told;
  await emitter.redisClient.close();
});
