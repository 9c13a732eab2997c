// A Redis of its own for tests, and Node servers that are joined by it.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { lastingPort, within } from "./support.mjs";

const script = fileURLToPath(new URL("../support/redis.sh", import.meta.url));

/** Starts one; it ends with the process of the test, however that comes about. */
export async function startRedis() {
  const port = await lastingPort();
  const supervisor = spawn(script, [String(port)], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: supervisor.stdout })[Symbol.asyncIterator]();
  const tell = async (command, expected) => {
    supervisor.stdin.write(`${command}\n`);
    const { value } = await within(lines.next(), `Redis to ${command}`);
    if (!expected.test(value)) throw new Error(`Redis does not ${command}: ${value}`);
  };
  const start = () => tell("start", /^ready /);
  await start();
  return {
    address: `127.0.0.1:${port}`,
    start,
    kill: () => tell("kill", /^killed/),
    pause: () => tell("pause", /^paused/),
    resume: () => tell("resume", /^resumed/),
    end: () => supervisor.stdin.end(),
  };
}

/** A connection of Node's client, made again when it breaks. */
export async function connectRedis(redis) {
  const client = createClient({ url: `redis://${redis.address}` });
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** A Node server with the adapter that is served by all who use it. */
export async function startNode(redis, { sharded, key }) {
  const [pub, sub] = await Promise.all([connectRedis(redis), connectRedis(redis)]);
  const http = createServer();
  const adapter = sharded
    ? createShardedAdapter(pub, sub, { channelPrefix: key })
    : createAdapter(pub, sub, { key });
  const io = new Server(http, { adapter });
  io.on("connection", (socket) => {
    socket.on("join", async (room, done) => {
      await socket.join(room);
      done([...socket.rooms].filter((room) => room !== socket.id).sort());
    });
    socket.on("to", (room, name, ...rest) => socket.to(room).emit(name, ...rest));
    socket.on("set-data", (value) => (socket.data.value = value));
    socket.on("echo", (...args) => args.pop()(...args));
  });
  io.on("note", (...rest) => io.local.emit("noted", ...rest));
  io.on("question", (...rest) => rest.pop()(["node", ...rest]));
  await new Promise((done) => http.listen(0, "127.0.0.1", done));
  const stop = async () => {
    await io.close();
    await Promise.all([pub, sub].map((client) => client.close()));
  };
  return { io, pub, url: `http://127.0.0.1:${http.address().port}`, stop };
}
