// One chat on two servers, with every transport of brokers: Redis with sharded channels, a stream
// of Redis, and NATS.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startServers } from "./chat_servers.mjs";
import { joinedChat } from "./chat_whatever.mjs";
import { startBroker } from "./processes.mjs";
import { startNode, startRedis, startStreamsNode } from "./redis.mjs";

/** Starts a Node server on the Redis of the servers. */
const node = (start) => async (t, redis) => {
  const node = await start(redis);
  t.after(() => node.stop());
  return [node.io];
};

const onChannels = node((redis) => startNode(redis, { sharded: true, key: "chat" }));
const onStream = node((redis) => startStreamsNode(redis, { key: "chat" }));
joinedChat({ name: "Redis with sharded channels", scheme: "redis+sharded", start: startRedis, others: onChannels });
joinedChat({ name: "a stream of Redis", scheme: "redis-streams", start: startRedis, others: onStream });
// Node servers do not support NATS.
joinedChat({ name: "NATS", scheme: "nats", start: () => startBroker("nats", "-js") });

test("a server logs once that it cannot receive multi-stream Node servers", async (t) => {
  const redis = await startRedis();
  t.after(() => redis.end());
  const adapter = { ROOMCAST_ADAPTER__URL: `redis-streams://${redis.address}`, ROOMCAST_ADAPTER__STREAM_NAME: "events" };
  const readLog = async () => {
    const [server] = await startServers(t, 1, adapter);
    assert.equal(await server.stop(), 0);
    return server.output().match(/.*streamCount above 1.*/g) ?? [];
  };
  await redis.command("XADD", "events", "*", "uid", "x");
  await redis.command("SET", "events-0", "no stream");
  assert.deepEqual(await readLog(), []);
  await redis.command("XADD", "events-1", "*", "uid", "x");
  const [warning, ...more] = await readLog();
  assert.match(warning, /name="?events-1/);
  assert.deepEqual(more, []);
});
