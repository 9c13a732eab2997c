// One chat on two servers, with every transport of brokers: Redis with sharded channels, a stream
// of Redis, and NATS.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { confirmsAcross, emitsAcross, plainAcross, startServers, typesAcross, withNode } from "./chat_servers.mjs";
import { whatever } from "./chat_whatever.mjs";
import { startBroker } from "./processes.mjs";
import { startNode, startRedis, startStreamsNode } from "./redis.mjs";

const KEY = { ROOMCAST_ADAPTER__KEY: "chat" };

for (const [name, scheme, startOne, startOther] of [
  ["Redis with sharded channels", "redis+sharded", startRedis, (redis) => startNode(redis, { sharded: true, key: "chat" })],
  ["a stream of Redis", "redis-streams", startRedis, (redis) => startStreamsNode(redis, { key: "chat" })],
  // Node servers do not support NATS.
  ["NATS", "nats", () => startBroker("nats", "-js")],
]) {
  describe(`two servers joined by ${name}`, { concurrency: false }, () => {
    let broker;
    let url;
    let started;
    let shared;
    const ends = [];
    before(async () => {
      broker = await startOne();
      url = `${scheme}://${broker.address}`;
      const t = { after: (end) => ends.push(end) };
      started = await startServers(t, 2, { ROOMCAST_ADAPTER__URL: url, ROOMCAST_ADAPTER__KEY: "sealed" });
      shared = await startServers(t, 2, { ROOMCAST_ADAPTER__URL: url, ...KEY, ...withNode });
    });
    after(async () => {
      for (const end of ends) await end();
      broker?.end();
    });

    whatever(() => started, { isJoined: scheme });

    test("typing is visible at both servers", (t) => typesAcross(t, started, `types ${scheme}`));

    test("sockets of both servers confirm a message", (t) => {
      return confirmsAcross(t, started, ["a", "b", "c", "d"].map((one) => `${one} ${scheme}`));
    });

    test("`roomcast emit --adapter` reaches the tabs of a user at both servers", (t) => emitsAcross(t, started, url, `tabs ${scheme}`, "sealed"));

    test("an event emitted into a conversation room does not move its sequence", async (t) => {
      const node = await startOther?.(broker);
      t.after(() => node?.stop());
      const others = node ? [(room, ...args) => node.io.to(room).emit(...args)] : [];
      await plainAcross(t, shared, scheme, { ADAPTER: url, ADAPTER_KEY: "chat" }, others);
    });
  });
}

test("a server logs once that it cannot receive multi-stream Node servers", async (t) => {
  const redis = await startRedis();
  t.after(() => redis.end());
  const adapter = { ROOMCAST_ADAPTER__URL: `redis-streams://${redis.address}`, ROOMCAST_ADAPTER__STREAM_NAME: "events" };
  const said = async () => {
    const [server] = await startServers(t, 1, adapter);
    assert.equal(await server.stop(), 0);
    return server.output().match(/.*streamCount above 1.*/g) ?? [];
  };
  await redis.command("XADD", "events", "*", "uid", "x");
  await redis.command("SET", "events-0", "no stream");
  assert.deepEqual(await said(), []);
  await redis.command("XADD", "events-1", "*", "uid", "x");
  const [warning, ...more] = await said();
  assert.match(warning, /name="?events-1/);
  assert.deepEqual(more, []);
});
