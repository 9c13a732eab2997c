// Service levels while faults happen: what clients see of two servers behind HAProxy, on one
// PostgreSQL, connected by one Redis, while every minute a part of them is killed, stopped,
// suspended or cut off.
//
//     cargo build --profile dist -p roomcast-server --features dist
//     node benches/levels/faults.mjs target/dist/roomcast [MINUTES (60)] [CLIENTS (200)] [SECONDS BETWEEN FAULTS (60)]
//
// Stock clients with the delays of their defaults send messages to conversations of five, and
// account for each message. Prints a line each minute on the error output, and the tables at the
// end.
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "../../tests/interop/node_modules/socket.io-client/build/esm/index.js";
import { startHaproxy } from "../../tests/interop/balancer.mjs";
import { account, identity } from "../../tests/interop/crowd.mjs";
import { Member } from "../../tests/interop/member.mjs";
import { randomness } from "../../tests/interop/nemesis.mjs";
import { startPostgres } from "../../tests/interop/postgres.mjs";
import { startRedis } from "../../tests/interop/redis.mjs";
import { ask, lastingPort, metricIs, next, startServer, until } from "../../tests/interop/support.mjs";
import { Levels, percent, quantile } from "./figures.mjs";

const [program, ...numbers] = process.argv.slice(2);
const [minutes = 60, clients = 200, interval = 60] = numbers.map(Number);
/** The members of a conversation. */
const MEMBERS = 5;
/** The mean time between two messages of a client is 0.6 s times this. */
const PACE = 15;

const cleanups = [];
const context = { after: (cleanup) => cleanups.push(cleanup) };

/** A server at one port, restarted by a supervisor that tries again every half second. */
class Node {
  constructor(env, port) {
    this.env = { ...env, ROOMCAST_LISTEN: `127.0.0.1:${port}` };
  }

  async start() {
    for (let tries = 200; ; tries--) {
      try {
        this.running = await startServer(this.env, program);
        return this.running;
      } catch (error) {
        if (tries === 0) throw error;
        await sleep(500); // Restart delay of a supervisor.
      }
    }
  }
}

const postgres = await startPostgres();
const redis = await startRedis();
const env = {
  ROOMCAST_STORE: postgres.url,
  ROOMCAST_ADAPTER__URL: `redis://${redis.address}`,
  ROOMCAST_ADAPTER__KEY: "bench",
  ROOMCAST_SERVER__ADMIN_LISTEN: "127.0.0.1:0",
  ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1",
  ROOMCAST_SERVER__DRAIN: "20s",
  ROOMCAST_ENGINE__COOKIE__NAME: "io",
  ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
};
const nodes = [new Node(env, await lastingPort()), new Node(env, await lastingPort())];
for (const node of nodes) await node.start();
for (const { running } of nodes) await metricIs(running.url, "roomcast_adapter_up", (up) => up === 1);
const proxy = await startHaproxy(context, nodes.map(({ running }) => running.url));

/**
 * The faults in their order. `server` is each server in turn. After faults that leave all clients
 * at one server follow faults after which they are balanced again.
 */
const faults = {
  async "a server is killed, restarted after 2 s"(server) {
    await server.running.stop("SIGKILL");
    await sleep(2000); // Duration of the outage.
    await server.start();
  },
  async "HAProxy is killed: all connections break"() {
    await proxy.kill();
    await proxy.start();
  },
  async "Redis is killed for 5 s"() {
    await redis.kill();
    await sleep(5000); // Duration of the outage.
    await redis.start();
  },
  async "a server is drained (20 s) and restarted"(server) {
    await server.running.stop();
    await server.start();
  },
  async "both servers are killed and restarted"() {
    for (const { running } of nodes) await running.stop("SIGKILL");
    await Promise.all(nodes.map((node) => node.start()));
  },
  async "PostgreSQL is killed for 3 s"() {
    await postgres.kill();
    await sleep(3000); // Duration of the outage.
    await postgres.start();
  },
  async "a server is suspended for 5 s"(server) {
    await server.running.pause();
    await sleep(5000); // Duration of the suspension.
    server.running.resume();
  },
  async "Redis is suspended for 5 s"() {
    await redis.pause();
    await sleep(5000); // Duration of the suspension.
    await redis.resume();
  },
  async "PostgreSQL is suspended for 5 s"() {
    await postgres.pause();
    await sleep(5000); // Duration of the suspension.
    postgres.resume();
  },
  async "connections to Redis are cut"() {
    for (const kind of ["normal", "pubsub"]) await redis.command("CLIENT", "KILL", "TYPE", kind);
  },
  async "connections to PostgreSQL are ended"() {
    postgres.disconnect(postgres.backends());
  },
  async "PostgreSQL is stopped for 3 s"() {
    await postgres.stop();
    await sleep(3000); // Duration of the outage.
    await postgres.start();
  },
};

/**
 * Connects a client. Half of them use the default transports of the stock client, half WebSocket
 * only.
 */
async function enter(levels, n) {
  const name = `member ${n}`;
  const transports = n % 2 ? ["websocket"] : ["polling", "websocket"];
  const socket = io(proxy.url, { forceNew: true, auth: identity(name), retries: 3, ackTimeout: 5000, transports });
  levels.watch(socket);
  const member = new Member(socket, name);
  await next(socket, "session");
  return member;
}

const levels = new Levels();
const random = randomness(1);
const members = [];
for (let n = 0; n < clients; n++) members.push(await enter(levels, n));
const creator = io(proxy.url, { forceNew: true, auth: identity("auditor"), transports: ["websocket"] });
await next(creator, "session");
for (let n = 0; n < clients; n += MEMBERS) {
  const group = members.slice(n, n + MEMBERS);
  const { conversation } = await ask(creator, "create_conversation", { memberIds: group.map(({ userId }) => userId) });
  for (const member of group) member.join([conversation.id]);
}
creator.disconnect();
await until(() => members.every((member) => member.isIn()), "all members to join");

levels.begin();
const writing = members.map((member) => member.send(randomness(random() * 2 ** 32), PACE));
const newcomers = setInterval(() => {
  const transports = levels.second() % 2 ? ["websocket"] : ["polling", "websocket"];
  levels.welcome(io(proxy.url, { forceNew: true, reconnection: false, auth: identity("newcomer"), transports }));
}, 1000);
const end = performance.now() + minutes * 60_000;
const rows = [];
await sleep(10_000); // A while without a fault.
for (let round = 0; performance.now() < end - interval * 1000; round++) {
  for (const [name, happen] of Object.entries(faults)) {
    if (performance.now() > end - interval * 1000) break;
    const due = performance.now() + interval * 1000;
    const from = levels.second();
    await happen(nodes[round % nodes.length]);
    await sleep(Math.max(0, due - performance.now())); // The next fault is due.
    const window = levels.window(from, levels.second());
    rows.push([name, window]);
    console.error(new Date().toISOString(), name, JSON.stringify(window));
  }
}
await sleep(Math.max(0, end - performance.now())); // The stated duration.
levels.end();
clearInterval(newcomers);

let audit = "nothing lost, doubled, out of order or stored differently";
let counts = { acked: new Set(), unacked: new Set() };
try {
  counts = await account(context, proxy.url, members, writing);
} catch (error) {
  audit = `FAULT: ${error.message}`;
}
const blamed = members.flatMap(({ wrong }) => wrong.map((text) => text.split("\n")[0]));
const stored = Number(postgres.query("SELECT count(*) FROM messages")[0][0]);
const doubled = Number(postgres.query("SELECT count(*) - count(DISTINCT client_message_id) FROM messages")[0][0]);

const all = levels.summary();
console.log(`${minutes} minutes, ${clients} clients, ${rows.length} faults, one every ${interval} s`);
console.log("| figure | value |\n|---|---|");
for (const [name, value] of Object.entries(all)) console.log(`| ${name} | ${value} |`);
console.log(`| messages acknowledged, given up without an acknowledgement, stored | ${counts.acked.size}, ${counts.unacked.size}, ${stored} |`);
console.log(`| stored twice | ${doubled} |`);
console.log(`| audit of all messages | ${audit.slice(0, 500)} |`);
console.log(`| violations that clients saw | ${blamed.length} |`);
for (const text of blamed.slice(0, 10)) console.log(`<!-- ${text} -->`);

console.log("\n| fault | times | longest time without a write s | seconds without a write or delivery | answered with an error, given up | connections lost, the longest until it returned s |");
console.log("|---|---|---|---|---|---|");
for (const name of Object.keys(faults)) {
  const windows = rows.filter(([other]) => other === name).map(([, window]) => window);
  if (windows.length === 0) continue;
  const sum = (key) => windows.reduce((total, window) => total + window[key], 0);
  const most = (key) => Math.max(...windows.map((window) => window[key]));
  console.log(
    `| ${name} | ${windows.length} | ${most("longestWithoutWrite")} | ${sum("unavailable")} of ${sum("seconds")} (${percent(1 - sum("unavailable") / sum("seconds"))} available) | ${sum("refused")}, ${sum("givenUp")} | ${sum("disconnects")}, ${(most("longestReturn") / 1000).toFixed(1)} |`,
  );
}
console.log(`\nreconnections: p50 ${quantile(levels.returns, 0.5)} ms, p99 ${quantile(levels.returns, 0.99)} ms`);
for (const cleanup of cleanups) await cleanup();
for (const { running } of nodes) await running.stop("SIGKILL");
await redis.end();
await postgres.end();
process.exit(0);
