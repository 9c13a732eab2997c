// Roomcast servers and Node servers share rooms through a stream of Redis, with the current version
// of Node's adapter and the version before.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io as client } from "socket.io-client";
import { all, people } from "./cluster.mjs";
import { describeCluster, startCluster } from "./cluster_suite.mjs";
import { startLink } from "./link.mjs";
import { startRedis, startStreamsNode } from "./redis.mjs";
import { ask, connect, next, startNamed, until } from "./support.mjs";
import { variants } from "./variants.mjs";

const PERSISTENT = "--appendonly yes --appendfsync always";

/** Starts two Roomcast servers and a Node server. */
async function start(version) {
  const redis = await startRedis(PERSISTENT);
  const key = `key*${version}`;
  // Starts Redis again and adds an entry at once, which servers that reconnect later receive.
  const come = async (room) => {
    await redis.start();
    const data = JSON.stringify({ packet: { type: 2, data: ["news", "kept"], nsp: "/" }, opts: { rooms: [room], except: [], flags: {} } });
    await redis.command("XADD", key, "*", "uid", "emitter", "nsp", "/", "type", "3", "data", data);
  };
  return startCluster(redis, `redis-streams://${redis.address}`, key, () => startStreamsNode(redis, { key, version }), { come });
}

describe("streams of Redis", { concurrency: true }, () => {
  for (const version of variants(["0.3", "0.2"])) {
    const listed = version === "0.3" ? 3 : 2;
    describeCluster(`a stream, version ${version}`, () => start(version), { listed, missed: ["kept"] }, (joined) => {
      test("servers stay known to each other while nothing is sent", async (t) => {
        const { sockets } = await people(t, joined().servers);
        // Longer than the ten seconds after which Node servers of the earlier version consider a
        // silent server dead.
        await new Promise((done) => setTimeout(done, 12_000));
        assert.deepEqual(await ask(sockets[0], "server-side-ack", 7), [["b", 7], ["node", 7]]);
        assert.equal((await joined().node.io.serverSideEmitWithAck("question", 7)).length, 2);
      });
    });
  }

  describe("a client that reconnects to another server", { concurrency: true }, () => {
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

    test("continues at another server although it has received no event", async (t) => {
      const link = await startLink(urls.a);
      t.after(() => link.close());
      const room = `room of ${t.name}`;
      const [other, witness] = await Promise.all(["b", "node"].map((at) => connect(t, client, urls[at])));
      const socket = await connect(t, client, link.url, { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
      const [heard, seen] = [[], []];
      socket.on("n", (n) => heard.push(n));
      witness.on("n", (n) => seen.push(n));
      await ask(witness, "join", room);
      other.emit("in", room, "n", "before");
      await until(() => seen.length === 1, "the event before");
      await ask(socket, "join", room);
      const { id } = socket;
      for (const [at, missed] of [["b", []], ["a", []], ["b", [0, 1, 2]]]) {
        const lost = next(socket, "disconnect");
        link.cut();
        await lost;
        await stored(socket);
        for (const n of missed) other.emit("in", room, "n", n);
        await until(() => seen.length === 1 + missed.length, "the events");
        const back = next(socket, "connect");
        link.restore(urls[at]);
        await back;
        assert.deepEqual([socket.recovered, socket.id], [true, id], `at ${at}`);
      }
      other.emit("in", room, "n", 3);
      await until(() => heard.includes(3), "the last event");
      assert.deepEqual(heard, [0, 1, 2, 3]);
    });

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
