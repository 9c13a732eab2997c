// Members chat at three nodes behind HAProxy, which keeps them at their node or, in the first of the turns, does not, while the nodes,
// HAProxy, their PostgreSQL and the broker that joins them are killed and paused, and whatever goes between two of them is
// swallowed for a while, all at random; where HAProxy does not keep them, also what the nodes hand on to each other. Afterwards what was acknowledged is stored once, everybody has seen each message once
// and in order, all nodes agree who is there, and no process has died that was not killed.
//
// FAULTS_SECONDS: how long it rages with each adapter (default 8, with shorter faults; `tests/run faults SECONDS`).
// FAULTS_MEMBERS: how many there are (default 200, or 40 if it rages for less than a minute).
// FAULTS_SEED: what happens when; each run says its own.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { agentOf, startHaproxy, startScattering } from "./balancer.mjs";
import { LOBBY, account, enter, identity } from "./crowd.mjs";
import { startLink } from "./link.mjs";
import { Supervised, assertRunning, faultsOf, faultsOfNats, faultsOfPostgres, faultsOfRedis, partitions, rage, randomness } from "./nemesis.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker, startRedis } from "./redis.mjs";
import { ask, connect, lastingPort, metricIs, until } from "./support.mjs";

const seconds = Number(process.env.FAULTS_SECONDS ?? 8);
const isLong = seconds >= 60;
const MEMBERS = Number(process.env.FAULTS_MEMBERS ?? (isLong ? 200 : 40));
/** Each of many writes less often, so that what all are sent grows with their number and not with its square. */
const pace = Math.max(1, MEMBERS / 40);
/** A short run has short faults, since each has to come. */
const span = isLong ? 1 : 0.5;
const longestPartition = isLong ? 6000 : 2000;

/** The broker of an adapter that is not the PostgreSQL of the store, its URL and what can happen to it. */
async function startOther(scheme, random) {
  const broker = scheme === "nats" ? await startBroker("nats", "-js") : await startRedis("--appendonly yes");
  const faults = scheme === "nats" ? faultsOfNats(broker, random, span) : faultsOfRedis(broker, random, span);
  return { ...broker, url: `${scheme}://${broker.address}`, faults };
}

/** What can happen to PostgreSQL: in a short run no more than that it is killed and paused, unless it is the broker as well. */
function faultsOfStore(postgres, isBroker, random) {
  const all = Object.entries(faultsOfPostgres(postgres, random, span));
  const isChosen = ([name]) => isLong || isBroker || /killed|paused/.test(name);
  return Object.fromEntries(all.filter(isChosen));
}

for (const [name, scheme, startBalancer] of [
  ["Redis", "redis", startScattering],
  ["Redis with sharded channels", "redis+sharded", startHaproxy],
  ["a stream of Redis", "redis-streams", startHaproxy],
  ["NATS", "nats", startHaproxy],
  ["their PostgreSQL", undefined, startHaproxy],
]) {
  test(`nothing is lost or doubled while three nodes and ${name}, which joins them, are killed, paused and cut off`, async (t) => {
    const seed = Number(process.env.FAULTS_SEED ?? randomInt(2 ** 32));
    t.diagnostic(`FAULTS_SEED=${seed}`);
    const random = randomness(seed);
    const links = [];
    /** A way of its own to what is at the address of a URL, as a URL. */
    const through = async (url) => {
      const link = await startLink(url);
      t.after(() => link.close());
      links.push(link);
      return [link, url.replace(/127\.0\.0\.1:\d+/, new URL(link.url).host)];
    };
    const postgres = await startPostgres();
    t.after(() => postgres.close());
    const broker = scheme && (await startOther(scheme, random));
    t.after(() => broker?.end());
    const env = {
      ROOMCAST_STORE__CONNECT_TIMEOUT: "1s",
      ROOMCAST_STORE__STATEMENT_TIMEOUT: "1s",
      ROOMCAST_STORE__RETRY_TIMEOUT: "1s",
      ROOMCAST_STORE__HEALTH_INTERVAL: "200ms",
      ROOMCAST_PRESENCE__LEASE: "3s",
      // A session that polls and whose client has come back under another is gone after both together.
      ROOMCAST_ENGINE__PING_INTERVAL: isLong ? "5s" : "1s",
      ROOMCAST_ENGINE__PING_TIMEOUT: "10s",
      ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
      ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1",
      ROOMCAST_ENGINE__COOKIE__NAME: "io",
    };
    const nodes = [];
    const urls = [];
    const ways = { store: [], broker: [], clients: [], others: [] };
    const isScattered = startBalancer === startScattering;
    for (let n = 0; n < 3; n++) {
      const at = `127.0.0.1:${await lastingPort()}`;
      const own = { ROOMCAST_LISTEN: at };
      // The other nodes reach it where it says, and so by a way that can be cut.
      if (isScattered) [ways.others[n], own.ROOMCAST_NODE__ADDRESS] = await through(`http://${at}`);
      [ways.store[n], own.ROOMCAST_STORE] = await through(postgres.url);
      if (broker) [ways.broker[n], own.ROOMCAST_ADAPTER__URL] = await through(broker.url);
      const node = new Supervised({ ...env, ...own });
      urls.push((await node.start()).url);
      t.after(() => node.kill().catch(() => {}));
      nodes.push(node);
    }
    const joined = () => Promise.all(urls.map((url) => metricIs(url, "roomcast_adapter_up", (up) => up === 1)));
    await joined();
    const fronts = await Promise.all(urls.map(through));
    ways.clients = fronts.map(([link]) => link);
    const balancer = await startBalancer(t, fronts.map(([, url]) => url));
    try {
      // Where requests are handed on some members poll for as long as they are there, and the others until they have a WebSocket.
      const polls = (n) => isScattered && n % 4 === 0 && { transports: ["polling"] };
      const members = await enter(t, balancer.url, random, MEMBERS, (n) => ({ agent: agentOf(t, n), ...polls(n) }));
      const sending = members.map((member) => member.send(randomness(random() * 2 ** 32), pace));
      const happened = await rage(seconds, random, [
        faultsOf("a node", () => nodes[Math.floor(random() * nodes.length)], random, span),
        faultsOf("HAProxy", () => balancer, random, span),
        faultsOfStore(postgres, !broker, random),
        broker?.faults ?? {},
        {
          ...partitions("a node and PostgreSQL", ways.store, random, longestPartition),
          ...(broker && partitions("a node and its broker", ways.broker, random, longestPartition)),
          ...partitions("a node and HAProxy", ways.clients, random, longestPartition),
          ...(isScattered && partitions("a node and the others", ways.others, random, longestPartition)),
        },
      ], span);
      await joined();
      await sleep(500); // They go on for a moment after the last fault.
      const { acked } = await account(t, urls[0], members, sending);
      const total = (name) => members.reduce((sum, { counts }) => sum + counts[name], 0);
      const counts = { members: MEMBERS, acknowledged: acked.size, live: total("live"), connections: total("connections"), refused: total("refused") };
      t.diagnostic(JSON.stringify({ ...counts, ...happened }));
      assert.ok(acked.size > MEMBERS, "there was something to lose");
      assert.ok(links.every((link) => link.connections() > 0), "what was swallowed had been on its way");
      // Each node counts from when it was last started, and members poll to the end.
      const handsOn = (result) => urls.map((url) => metricIs(url, `roomcast_requests_forwarded_total{result="${result}"}`, (count) => count > 0));
      if (isScattered) await Promise.all(["done", "received"].flatMap(handsOn));

      // A node looks who is in a conversation where somebody of its own is.
      const observers = await Promise.all(urls.map((url) => connect(t, io, url, { auth: identity("observer") })));
      const joins = await Promise.all(observers.map((one) => ask(one, "join_conversation", { conversationId: LOBBY, lastSeq: acked.size })));
      assert.ok(joins.every(({ success }) => success));
      let lists = [];
      const agree = async (others) => {
        lists = await Promise.all(observers.map((one) => ask(one, "presence", { conversationId: LOBBY })));
        return lists.every(({ users }) => users.length === others.length + 1 && others.every((id) => users.some(({ userId }) => userId === id)));
      };
      const converge = (others, what) =>
        until(() => agree(others), what, 60_000).catch((error) => {
          throw new Error(`${error.message}: ${lists.map(({ users }) => users.length)}`);
        });
      await converge(members.map(({ userId }) => userId), "all nodes to know who is there");
      for (const { socket } of members) socket.disconnect();
      await converge([], "all nodes to know that nobody else is there");
      for (const [what, part] of Object.entries({ HAProxy: balancer, PostgreSQL: postgres, [name]: broker ?? postgres })) assertRunning(what, part);
      for (const node of nodes) {
        assertRunning("a node", node);
        assert.doesNotMatch(node.output(), /panicked/);
        assert.equal(await node.stop(), 0);
      }
    } catch (error) {
      const said = nodes.map((node) => node.output().split("\n").slice(-400).join("\n"));
      console.error(`FAULTS_SEED=${seed}\n${said.join("\n---\n")}`);
      throw error;
    }
  });
}
