// Members chat at three nodes behind HAProxy, while faults happen at random.
//
// HAProxy keeps members at their node, except in the first run. The nodes, HAProxy, their
// PostgreSQL and the broker are killed and suspended. Traffic between two of them is dropped for a
// while. The path to the broker is slow, a replica replaces a Redis, and the broker is down for
// longer than a node's lease. Without session affinity, requests that nodes forward to each other
// are dropped as well. Half of the members use recovery.
//
// Afterwards each acknowledged message is stored once, and each member has received each message
// once and in order. All nodes agree on who is present, and no process has died that was not
// killed.
//
//
// FAULTS_SECONDS: duration of the faults with each adapter (default 8, with shorter faults, and the
// long outage and the failover with only one of them; `tests/run faults SECONDS`).
// FAULTS_MEMBERS: number of members (default 200, or 40 for less than a minute of faults).
// FAULTS_SEED: seed of the faults; each run prints its own.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { agentOf, startHaproxy, startScattering } from "./balancer.mjs";
import { LOBBY, account, enter, identity, recoveryOf, total } from "./crowd.mjs";
import { startLink } from "./link.mjs";
import { Supervised, assertRunning, faultsOf, faultsOfNats, faultsOfPostgres, faultsOfRedis } from "./nemesis.mjs";
import { failover, longOutage, partitions, rage, randomness, slowness } from "./nemesis.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker } from "./processes.mjs";
import { startRedisPair } from "./redis.mjs";
import { ask, connect, lastingPort, metricIs, until } from "./support.mjs";

const seconds = Number(process.env.FAULTS_SECONDS ?? 8);
const isLong = seconds >= 60;
const MEMBERS = Number(process.env.FAULTS_MEMBERS ?? (isLong ? 200 : 40));
/**
 * With many members each writes less often, so that the traffic grows with their number and not
 * with its square.
 */
const pace = Math.max(1, MEMBERS / 40);
/** A short run has short faults, so that each kind happens. */
const span = isLong ? 1 : 0.5;
const longestPartition = isLong ? 6000 : 2000;
const longestSlowness = isLong ? 6000 : 1500;
/** The adapters that have the long outage, and the failover, in a short run. */
const AWAY_FOR_LONG = "redis";
const FAILS_OVER = "redis+sharded";

/**
 * Starts the broker of an adapter other than the store's PostgreSQL, and returns its URL and its
 * faults. `ways` lead to it.
 */
async function startOther(scheme, random, ways) {
  const broker = scheme === "nats" ? await startBroker("nats", "-js") : await startRedisPair("--appendonly yes");
  const all = () => ({
    ...faultsOfRedis(broker, random, span),
    ...((isLong || scheme === FAILS_OVER) && failover("Redis", broker, ways, random, span)),
  });
  const faults = scheme === "nats" ? faultsOfNats(broker, random, span) : all();
  return { ...broker, url: `${scheme}://${broker.address}`, faults };
}

/**
 * Returns the faults of PostgreSQL. In a short run it is only killed and suspended, unless it is
 * also the broker.
 */
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
  test(`nothing is lost or doubled while three nodes and ${name} fail`, async (t) => {
    const seed = Number(process.env.FAULTS_SEED ?? randomInt(2 ** 32));
    t.diagnostic(`FAULTS_SEED=${seed}`);
    const random = randomness(seed);
    const links = [];
    /** Returns a URL with its own link to the address of a URL. */
    const through = async (url) => {
      const link = await startLink(url);
      t.after(() => link.close());
      links.push(link);
      return [link, url.replace(/127\.0\.0\.1:\d+/, new URL(link.url).host)];
    };
    const postgres = await startPostgres();
    t.after(() => postgres.end());
    const ways = { store: [], broker: [], clients: [], others: [] };
    const broker = scheme && (await startOther(scheme, random, ways.broker));
    t.after(() => broker?.end());
    const env = {
      ROOMCAST_STORE__CONNECT_TIMEOUT: "1s",
      ROOMCAST_STORE__STATEMENT_TIMEOUT: "1s",
      ROOMCAST_STORE__RETRY_TIMEOUT: "1s",
      ROOMCAST_STORE__HEALTH_INTERVAL: "200ms",
      ROOMCAST_PRESENCE__LEASE: "3s",
      // A polling session whose client has reconnected under another is closed after both times
      // together.
      ROOMCAST_ENGINE__PING_INTERVAL: isLong ? "5s" : "1s",
      ROOMCAST_ENGINE__PING_TIMEOUT: "10s",
      ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
      ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1",
      ROOMCAST_ENGINE__COOKIE__NAME: "io",
      ROOMCAST_RECOVERY__ENABLED: "true",
    };
    const nodes = [];
    const urls = [];
    const isScattered = startBalancer === startScattering;
    for (let n = 0; n < 3; n++) {
      const at = `127.0.0.1:${await lastingPort()}`;
      const own = { ROOMCAST_LISTEN: at };
      // The other nodes reach it at its announced address, through a link that can be cut.
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
      // With forwarded requests, some members poll throughout, and the rest until they have a
      // WebSocket. Members that poll use recovery: otherwise each reconnection would leave a
      // session until its ping timeout, for which the end would wait.
      const polls = (n) => isScattered && n % 4 === 0 && { transports: ["polling"], recovery: "used" };
      const members = await enter(t, balancer.url, random, MEMBERS, (n) => ({ agent: agentOf(t, n), recovery: recoveryOf(n), ...polls(n) }));
      const sending = members.map((member) => member.send(randomness(random() * 2 ** 32), pace));
      const absence = isLong || scheme === AWAY_FOR_LONG ? longOutage(name, broker ?? postgres, random) : {};
      const happened = await rage(seconds, random, [
        faultsOf("a node", () => nodes[Math.floor(random() * nodes.length)], random, span),
        faultsOf("HAProxy", () => balancer, random, span),
        { ...faultsOfStore(postgres, !broker, random), ...(!broker && absence) },
        { ...broker?.faults, ...(broker && absence) },
        {
          ...partitions("a node and PostgreSQL", ways.store, random, longestPartition),
          ...(broker && partitions("a node and its broker", ways.broker, random, longestPartition)),
          ...partitions("a node and HAProxy", ways.clients, random, longestPartition),
          ...slowness(`nodes and ${name}`, broker ? ways.broker : ways.store, random, longestSlowness),
          ...(isScattered && partitions("a node and the others", ways.others, random, longestPartition)),
        },
      ], span);
      await joined();
      const areIn = () => members.every((member) => member.socket.connected && member.isIn());
      await until(areIn, "all to be in their conversations");
      await sleep(500); // Members continue for a moment after the last fault.
      // Now that everything works, members that use recovery reconnect at any node. A member that
      // has received nothing since a node detected a loss gets a new session. A node may detect it
      // by the next heartbeat of another node: then the members reconnect once more.
      let recovered = 0;
      for (let tries = 5; recovered < MEMBERS / 10 && tries > 0; tries--) {
        const before = total(members, "recovered");
        const cameBefore = members.map(({ counts }) => counts.connections);
        await balancer.kill();
        await balancer.start();
        const haveComeBack = () => members.every(({ counts }, n) => counts.connections > cameBefore[n]);
        await until(() => haveComeBack() && areIn(), "all to be back");
        recovered = total(members, "recovered") - before;
        await sleep(500); // Members continue for a moment.
      }
      const { acked } = await account(t, urls[0], members, sending);
      const counted = ["live", "connections", "recovered", "refused"].map((name) => [name, total(members, name)]);
      const counts = { members: MEMBERS, acknowledged: acked.size, ...Object.fromEntries(counted), "recovered at last": recovered };
      t.diagnostic(JSON.stringify({ ...counts, ...happened }));
      assert.ok(recovered >= MEMBERS / 10, "those that use recovery were recovered");
      assert.ok(acked.size > MEMBERS, "there was something to lose");
      assert.ok(links.every((link) => link.connections() > 0), "what was swallowed had been on its way");
      // Each node counts from its last start, and members poll to the end.
      const handsOn = (result) => urls.map((url) => metricIs(url, `roomcast_requests_forwarded_total{result="${result}"}`, (count) => count > 0));
      if (isScattered) await Promise.all(["done", "received"].flatMap(handsOn));

      // A node reads the presence of a conversation only if it has a member in it.
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
