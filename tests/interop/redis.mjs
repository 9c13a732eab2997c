// A private Redis for tests, and Node servers that are connected by it.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { createAdapter as createStreamsAdapterBefore } from "redis-streams-adapter-v0-2";
import { serveNode } from "./cluster.mjs";
import { startBroker, until } from "./processes.mjs";

/** Starts a server with these options. */
export async function startRedis(options = "") {
  const redis = await startBroker("redis", options);
  const cli = (args) => promisify(execFile)("redis-cli", ["-p", redis.address.split(":")[1], ...args]);
  return { ...redis, command: async (...args) => (await cli(args)).stdout.trim() };
}

/**
 * Starts a server with these options and a standby that replicates it.
 *
 * Commands such as kill and pause apply to the current leader. `failOver` makes the standby the
 * leader after an action, and restarts the former leader as its standby.
 */
export async function startRedisPair(options = "") {
  const start = () => startRedis(`${options} --repl-diskless-sync-delay 0`);
  let [leader, standby] = [await start(), await start()];
  const follows = () => standby.command("REPLICAOF", ...leader.address.split(":"));
  const isInStep = async () => /^master_link_status:up/m.test(await standby.command("INFO", "replication"));
  await follows();
  return {
    /** The address of the first leader. */
    address: leader.address,
    isRunning: () => leader.isRunning(),
    start: () => leader.start(),
    kill: () => leader.kill(),
    pause: () => leader.pause(),
    resume: () => leader.resume(),
    command: (...args) => leader.command(...args),
    /** Returns the address of the new leader. */
    async failOver(meanwhile) {
      await until(isInStep, "the standby to be in step");
      await leader.kill();
      await meanwhile();
      [leader, standby] = [standby, leader];
      await leader.command("REPLICAOF", "NO", "ONE");
      await standby.start();
      await follows();
      return leader.address;
    },
    end() {
      for (const one of [leader, standby]) one.end();
    },
  };
}

/** Opens a connection of Node's client, which reconnects when it breaks. */
export async function connectRedis(redis) {
  const client = createClient({ url: `redis://${redis.address}` });
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** Starts a Node server with one of the adapters that use channels. */
export async function startNode(redis, { sharded, key, ...more }) {
  const [pub, sub] = await Promise.all([connectRedis(redis), connectRedis(redis)]);
  const adapter = sharded
    ? createShardedAdapter(pub, sub, { channelPrefix: key, ...more })
    : createAdapter(pub, sub, { key, ...more });
  const node = await serveNode({ adapter }, () => Promise.all([pub, sub].map((client) => client.close())));
  return { ...node, pub };
}

/** Starts a Node server with the streams adapter, in the current version or the version before. */
export async function startStreamsNode(redis, { key, version, recovery, ...more }) {
  const isBefore = version === "0.2";
  // The earlier version does not support the current client library, but this one.
  const [host, port] = redis.address.split(":");
  const pub = isBefore ? new Redis({ host, port }) : await connectRedis(redis);
  if (isBefore) pub.on("error", () => {});
  const create = isBefore ? createStreamsAdapterBefore : createStreamsAdapter;
  const adapter = create(pub, { streamName: key, channelPrefix: key, ...more });
  const connectionStateRecovery = recovery && { maxDisconnectionDuration: recovery };
  const node = await serveNode({ adapter, connectionStateRecovery }, () => (isBefore ? pub.disconnect() : pub.close()));
  return { ...node, pub };
}
