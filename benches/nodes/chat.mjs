// Two servers of one chat on one PostgreSQL: how much later than at the sender's server a message
// is with a member at the other one, through each adapter and without any.
//
//     cargo build --profile dist -p roomcast-server --features dist
//     node benches/nodes/chat.mjs target/dist/roomcast [MESSAGES PER SECOND] [SECONDS] [ADAPTER...]
//
// The servers have the first core; PostgreSQL, the broker and the clients, which are those of
// Socket.IO, have the second one.
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "../../tests/interop/node_modules/socket.io-client/build/esm/index.js";
import { keyed } from "../../tests/interop/people.mjs";
import { startPostgres } from "../../tests/interop/postgres.mjs";
import { startBroker } from "../../tests/interop/redis.mjs";
import { ask, metricIs, next, startServer } from "../../tests/interop/support.mjs";
import { token } from "../../tests/interop/tokens.mjs";

const CONVERSATIONS = 20;
const ADAPTERS = ["none", "postgres", "redis", "redis-sharded", "redis-streams", "nats"];
const [program, ...words] = process.argv.slice(2);
const [rate = 1000, seconds = 20] = words.map(Number).filter((word) => word > 0);
const named = ADAPTERS.filter((name) => words.includes(name));

const pin = (pid, core) => spawnSync("taskset", ["-acp", String(core), String(pid)]);

/** What joins the servers, as variables, and how it ends. */
async function joined(adapter) {
  const key = { ROOMCAST_ADAPTER__KEY: "bench" };
  if (adapter === "none") return [{ ROOMCAST_ADAPTER__URL: "none" }, () => {}];
  if (adapter === "postgres") return [key, () => {}];
  const broker = await startBroker(adapter === "nats" ? "nats" : "redis");
  const scheme = adapter.replace("redis-sharded", "redis+sharded");
  return [{ ...key, ROOMCAST_ADAPTER__URL: `${scheme}://${broker.address}` }, () => broker.end()];
}

async function person({ url }, name) {
  const socket = io(url, { forceNew: true, auth: { token: token({ sub: name, name }) }, transports: ["websocket"] });
  await next(socket, "session");
  const must = async (event, payload) => {
    const answer = await ask(socket, event, payload);
    if (!answer.success) throw new Error(`${event}: ${JSON.stringify(answer)}`);
    return answer;
  };
  return { name, socket, must };
}

/** A conversation of three: who sends, a member at the same server, and one at the other. */
async function conversation([here, there], number) {
  const places = [here, here, there];
  const people = await Promise.all(places.map((server, n) => person(server, `person ${number} ${n}`)));
  const [owner, ...others] = people;
  const { conversation } = await owner.must("create_conversation", {
    title: `number ${number}`,
    memberIds: others.map(({ name }) => name),
  });
  for (const one of people) await one.must("join_conversation", { conversationId: conversation.id });
  const arrived = others.map(() => new Map());
  for (const [n, { socket }] of others.entries()) {
    socket.on("message", ({ seq }) => {
      if (arrived[n].has(seq)) throw new Error(`${seq} has come twice`);
      arrived[n].set(seq, performance.now());
    });
  }
  return { id: conversation.id, people, sender: owner.socket, arrived, sent: new Map() };
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
const told = (list) => {
  const sorted = list.sort((a, b) => a - b);
  return [0.5, 0.99].map((share) => quantile(sorted, share).toFixed(2)).join(", ");
};

async function measure(adapter) {
  const database = await startPostgres();
  const [variables, end] = await joined(adapter);
  const env = { ...keyed, ROOMCAST_STORE: database.url, ROOMCAST_LOG: "warn", ...variables };
  const servers = await Promise.all([0, 1].map(() => startServer(env, program)));
  for (const { pid } of servers) pin(pid, 0);
  if (adapter !== "none") await Promise.all(servers.map(({ url }) => metricIs(url, "roomcast_adapter_up", (up) => up === 1)));
  const all = [];
  for (let n = 0; n < CONVERSATIONS; n++) all.push(await conversation(servers, n));
  const total = rate * seconds;
  const begin = performance.now();
  for (let n = 0; n < total; ) {
    const due = Math.min(total, ((performance.now() - begin) * rate) / 1000);
    for (; n < due; n++) {
      const one = all[n % all.length];
      const at = performance.now();
      one.sender.emit("message", { conversationId: one.id, content: "x".repeat(128) }, ({ message }) => one.sent.set(message.seq, at));
    }
    await sleep(1);
  }
  const count = (of) => all.reduce((sum, one) => sum + of(one).size, 0);
  const isDone = () => [({ sent }) => sent, ({ arrived }) => arrived[0], ({ arrived }) => arrived[1]].every((of) => count(of) === total);
  for (let n = 0; n < 1000 && !isDone(); n++) await sleep(10);
  if (!isDone()) throw new Error(`${adapter}: ${total} sent, ${count(({ arrived }) => arrived[1])} have arrived at the other server`);
  const times = all.flatMap(({ sent, arrived: [here, there] }) =>
    [...sent].map(([seq, at]) => ({ here: here.get(seq) - at, there: there.get(seq) - at, above: there.get(seq) - here.get(seq) })),
  );
  const row = ["here", "there", "above"].map((name) => told(times.map((time) => time[name])));
  console.log(`| ${adapter} | ${row.join(" | ")} |`);
  for (const { people } of all) for (const { socket } of people) socket.disconnect();
  for (const server of servers) await server.stop();
  await end();
  await database.close();
}

pin(process.pid, 1);
console.log(`${rate} messages a second for ${seconds} s; p50, p99 in ms`);
console.log("| adapter | at the sender's server | at the other one | above |\n|---|---|---|---|");
for (const adapter of named.length ? named : ADAPTERS) await measure(adapter);
process.exit(0);
