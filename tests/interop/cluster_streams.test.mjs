// Roomcast servers and Node servers share rooms through a stream of Redis, with the current version
// of Node's adapter and the version before.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io as client } from "socket.io-client";
import { all, people } from "./cluster.mjs";
import { areMissed, goesAway } from "./cluster_away.mjs";
import { clusterEvents } from "./cluster_events.mjs";
import { joinedServers } from "./cluster_suite.mjs";
import { startLink } from "./link.mjs";
import { startRedis, startStreamsNode } from "./redis.mjs";
import { ask, connect, next, startNamed, until } from "./support.mjs";

const PERSISTENT = "--appendonly yes --appendfsync always";

/** Starts two Roomcast servers and a Node server. */
async function startCluster(version) {
  const redis = await startRedis(PERSISTENT);
  const key = `key*${version}`;
  const ADAPTER = `redis-streams://${redis.address}`;
  const start = (name) => startNamed(name, { ADAPTER, ADAPTER_KEY: key });
  const [a, b, node] = await Promise.all([start("a"), start("b"), startStreamsNode(redis, { key, version })]);
  const stop = async () => {
    await Promise.all([a.stop(), b.stop(), node.stop()]);
    redis.end();
  };
  const xadd = (...fields) => redis.command("XADD", key, "*", ...fields);
  return { redis, key, adapter: ADAPTER, a, b, node, ours: [a, b], servers: [a, b, node], xadd, stop };
}

for (const version of ["0.3", "0.2"]) {
  describe(`version ${version}`, () => {
    let cluster;
    before(async () => {
      cluster = await startCluster(version);
      // All servers have subscribed and know each other.
      const socket = await connect({ after() {} }, client, cluster.a.url);
      await until(async () => (await ask(socket, "servers")) === 3, "all servers");
      await until(async () => (await cluster.node.io.serverSideEmitWithAck("question", 7)).length === 2, "both of ours");
      socket.disconnect();
    });
    after(() => cluster.stop());

    joinedServers(() => cluster, { listed: version === "0.3" ? 3 : 2 });
    clusterEvents(() => cluster, { others: ["node"] });

    test("servers stay known to each other while nothing is sent", async (t) => {
      const { sockets } = await people(t, cluster.servers);
      // Longer than the ten seconds after which Node servers of the earlier version consider a
      // server dead, which this tests.
      await new Promise((done) => setTimeout(done, 12_000));
      assert.deepEqual(await ask(sockets[0], "server-side-ack", 7), [["b", 7], ["node", 7]]);
      assert.equal((await cluster.node.io.serverSideEmitWithAck("question", 7)).length, 2);
    });

    test("garbage in the stream and on the channels is ignored", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      const { redis, key, xadd } = cluster;
      await xadd("x", "y");
      // Invalid documents. Fields that are missing stop a Node server for good, so none lacks
      // required fields.
      for (const type of ["3", "4", "7", "9", "99", "x", "-1", "8", "12"]) {
        for (const data of ["{", "é", "////"]) await xadd("uid", "x", "nsp", "/", "type", type, "data", data);
      }
      await xadd("uid", "x", "nsp", "/elsewhere", "type", "3", "data", "{}");
      for (const bytes of ["{", "{}", "[1,2]", '{"type":3}', "é"]) await redis.command("PUBLISH", `${key}#/#`, bytes);
      sockets[0].emit("in", room, "news", "still here");
      await all(heard, 1);
    });

    test("events sent during a Redis disconnect arrive once and in order", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      const send = (from, to) => {
        for (let i = from; i < to; i++) sockets[0].emit("in", room, "news", i);
      };
      send(0, 100);
      await all(heard, 100);
      // Connections are broken repeatedly; entries in the stream are not lost.
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

    test("a killed server expires later, a stopped server leaves immediately", (t) => {
      const start = (name) => startNamed(name, { ADAPTER: cluster.adapter, ADAPTER_KEY: cluster.key });
      return areMissed(t, cluster.servers, ["b", "node"], start);
    });

    test("servers work without Redis and catch up from its stream afterwards", async (t) => {
      const { sockets, heard, room } = await people(t, cluster.servers);
      const come = async () => {
        await cluster.redis.start();
        const data = JSON.stringify({ packet: { type: 2, data: ["news", "kept"], nsp: "/" }, opts: { rooms: [room], except: [], flags: {} } });
        await cluster.xadd("uid", "emitter", "nsp", "/", "type", "3", "data", data);
      };
      await goesAway({ sockets, heard, room }, ["b", "node"], cluster.redis.kill, come);
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

describe("a client that reconnects to another server", () => {
  let redis, a, b, node, urls;
  before(async () => {
    redis = await startRedis();
    const ADAPTER = `redis-streams://${redis.address}`;
    const start = (name) => startNamed(name, { ADAPTER, ADAPTER_KEY: "key" });
    const onNode = startStreamsNode(redis, { key: "key-recovery", recovery: 60_000 });
    [a, b, node] = await Promise.all([start("a"), start("b"), onNode]);
    const recovering = (url) => url.replace(/\d+$/, (port) => Number(port) + 2);
    urls = { a: recovering(a.url), b: recovering(b.url), node: node.url };
  });
  after(async () => {
    await Promise.all([a.stop(), b.stop(), node.stop()]);
    redis.end();
  });

  /** Waits until the session of a disconnected client is stored, and returns its key. */
  const stored = async (socket) => {
    const key = `sio:session:${socket._pid}`;
    await until(async () => (await redis.command("EXISTS", key)) === "1", "the session");
    return key;
  };

  for (const [from, to] of [["a", "b"], ["a", "node"], ["node", "a"]]) {
    test(`continues with missed events, from ${from} to ${to}`, async (t) => {
      const link = await startLink(urls[from]);
      t.after(() => link.close());
      const room = `room of ${t.name}`;
      const other = await connect(t, client, urls.a);
      const socket = await connect(t, client, link.url, { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
      const heard = [];
      socket.on("n", (...args) => heard.push(args.slice(0, -1)));
      await ask(socket, "join", room);
      if (from !== "node") socket.emit("set-data", "kept");
      other.emit("in", room, "n", 0);
      await until(() => heard.length === 1, "the first event");
      const { id } = socket;
      // An event that a client of Node has received is in the stream, and later events follow it.
      const witness = await connect(t, client, urls.node);
      let newest = -1;
      witness.on("n", (n) => (newest = n));
      await ask(witness, "join", room);
      for (let round = 0; round < 3; round++) {
        const [, there] = round % 2 ? [to, from] : [from, to];
        const lost = next(socket, "disconnect");
        link.cut();
        await lost;
        await stored(socket);
        const first = 1 + round * 7;
        for (let n = first; n < first + 5; n++) other.emit("in", room, "n", n, n % 2 ? Buffer.of(n) : "é");
        await until(() => newest === first + 4, "the events");
        node.io.to(room).emit("n", first + 5);
        node.io.to(room).except(id).emit("n", "except");
        node.io.to("another room").emit("n", "other");
        const back = next(socket, "connect");
        link.restore(urls[there]);
        await back;
        assert.equal(socket.recovered, true, `round ${round} at ${there}`);
        assert.equal(socket.id, id);
        await until(() => heard.length === first + 6, "what was missed");
        other.emit("in", room, "n", first + 6);
        await until(() => heard.length === first + 7, "what comes then");
      }
      assert.deepEqual(heard.map(([n]) => n), [...Array(22).keys()]);
      assert.deepEqual(heard.filter((args) => args.length > 1).map(([n, rest]) => (n % 2 ? rest[0] === n : rest === "é")), Array(15).fill(true));
    });
  }

  test("starts a new session if no server has its session", async (t) => {
    const link = await startLink(urls.a);
    t.after(() => link.close());
    const socket = await connect(t, client, link.url, { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
    const told = next(socket, "n");
    socket.emit("in", socket.id, "n", 0);
    await told;
    const { id } = socket;
    link.cut();
    await redis.command("SET", await stored(socket), "garbage");
    const back = next(socket, "connect");
    link.restore(urls.b);
    await back;
    assert.equal(socket.recovered, false);
    assert.notEqual(socket.id, id);
  });
});

test("sharded answer channels and a custom stream name can be configured", async (t) => {
  const redis = await startRedis();
  const key = "sharded";
  const streamName = `stream of ${key}`;
  const start = (name) => startNamed(name, { ADAPTER: `redis-streams+sharded://${redis.address}`, ADAPTER_KEY: key });
  const node = await startStreamsNode(redis, { key, version: "0.3", streamName, useShardedPubSub: true });
  const [a, b] = await Promise.all([start("a"), start("b")]);
  t.after(() => Promise.all([a, b, node].map((server) => server.stop())).then(redis.end));
  const socket = await connect(t, client, a.url);
  await until(async () => (await ask(socket, "servers")) === 3, "all servers");
  const { sockets, heard, room } = await people(t, [a, b, node]);
  sockets[0].emit("in", room, "news", "a");
  node.io.to(room).emit("news", "node");
  await all(heard, 2);
  for (const list of heard) assert.deepEqual(list.flat().sort(), ["a", "node"]);
  const ids = sockets.map(({ id }) => id).sort();
  assert.deepEqual((await ask(sockets[1], "fetch", room)).map(({ id }) => id).sort(), ids);
  assert.deepEqual((await node.io.in(room).fetchSockets()).map(({ id }) => id).sort(), ids);
  assert.ok(Number(await redis.command("xlen", streamName)) > 0);
  assert.equal(await redis.command("exists", key), "0");
  assert.ok((await redis.command("pubsub", "shardchannels")).includes(`${key}#/#`));
  assert.ok(!(await redis.command("pubsub", "channels")).includes(`${key}#/#`));
});
