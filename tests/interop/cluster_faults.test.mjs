// 40 members chat at three nodes behind HAProxy, which keeps them at their node or, in one of the turns, does not, while nodes and what joins them are killed and paused and their
// connections cut at random. Afterwards what was acknowledged is stored once, everybody has seen each message once and in
// order, all nodes agree who is there, and no process has died that was not killed.
//
// FAULTS_SECONDS: how long it rages with each adapter (default 8; `tests/run faults SECONDS`).
// FAULTS_SEED: what happens when; each run says its own.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { agentOf, haproxy, scattering } from "./balancer.mjs";
import { LOBBY, account, enter, identity } from "./crowd.mjs";
import { Supervised, faultsOfPostgres, faultsOfServer, rage, randomness } from "./nemesis.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker, startRedis } from "./redis.mjs";
import { ask, connect, lastingPort, metricIs, until } from "./support.mjs";

const MEMBERS = 40;
const seconds = Number(process.env.FAULTS_SECONDS ?? 8);

/** What can happen to a Redis. */
function faultsOfRedis(redis, random) {
  return {
    async "Redis is killed"() {
      await redis.kill();
      await sleep(random() * 2000); // How long it is away.
      await redis.start();
    },
    async "Redis is paused"() {
      await redis.pause();
      await sleep(200 + random() * 4000); // How long it stands still.
      await redis.resume();
    },
    async "connections to Redis are cut"() {
      for (const kind of ["normal", "pubsub"]) await redis.command("CLIENT", "KILL", "TYPE", kind);
      await sleep(200); // Some of them are made again before the next fault.
    },
  };
}

/** What can happen to a NATS. */
function faultsOfNats(nats, random) {
  return {
    async "NATS is killed"() {
      await nats.kill();
      await sleep(random() * 2000); // How long it is away.
      await nats.start();
    },
    async "NATS is paused"() {
      await nats.pause();
      await sleep(200 + random() * 4000); // How long it stands still.
      await nats.resume();
    },
  };
}

/** The broker of an adapter that is not the PostgreSQL of the store, its URL and what can happen to it. */
async function startOther(adapter, random) {
  if (adapter === "nats") {
    const nats = await startBroker("nats", "-js");
    return { end: nats.end, url: `nats://${nats.address}`, faults: faultsOfNats(nats, random) };
  }
  const redis = await startRedis("--appendonly yes");
  return { end: redis.end, url: `${adapter}://${redis.address}`, faults: faultsOfRedis(redis, random) };
}

/** What happens to any of these, one at a time. */
function faultsOfAny(nodes, random) {
  const any = () => nodes[Math.floor(random() * nodes.length)];
  const names = Object.keys(faultsOfServer(nodes[0], random));
  return Object.fromEntries(
    names.map((name) => [
      name.replace("the server", "a node"),
      () => {
        const node = any();
        assert.ok(node.isRunning(), `a node has died that nobody had killed\n${node.output().slice(-4000)}`);
        return faultsOfServer(node, random)[name]();
      },
    ]),
  );
}

for (const [name, adapter, balancer] of [
  ["Redis", "redis", scattering],
  ["a stream of Redis", "redis-streams", haproxy],
  ["NATS", "nats", haproxy],
  ["their PostgreSQL", undefined, haproxy],
]) {
  test(`nothing is lost or doubled while three nodes and ${name}, which joins them, are killed, paused and cut off`, async (t) => {
    const seed = Number(process.env.FAULTS_SEED ?? randomInt(2 ** 32));
    t.diagnostic(`FAULTS_SEED=${seed}`);
    const random = randomness(seed);
    const postgres = await startPostgres();
    t.after(() => postgres.close());
    const broker = adapter && (await startOther(adapter, random));
    t.after(() => broker?.end());
    const env = {
      ROOMCAST_STORE: postgres.url,
      ROOMCAST_STORE__CONNECT_TIMEOUT: "1s",
      ROOMCAST_STORE__STATEMENT_TIMEOUT: "1s",
      ROOMCAST_STORE__RETRY_TIMEOUT: "1s",
      ROOMCAST_STORE__HEALTH_INTERVAL: "200ms",
      ROOMCAST_PRESENCE__LEASE: "3s",
      ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
      ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1",
      ROOMCAST_ENGINE__COOKIE__NAME: "io",
      ...(broker && { ROOMCAST_ADAPTER__URL: broker.url }),
    };
    const nodes = [];
    const urls = [];
    for (let n = 0; n < 3; n++) {
      const at = `127.0.0.1:${await lastingPort()}`;
      const own = { ROOMCAST_LISTEN: at, ...(balancer === scattering && { ROOMCAST_NODE__ADDRESS: `http://${at}` }) };
      const node = new Supervised({ ...env, ...own });
      urls.push((await node.start()).url);
      t.after(() => node.kill().catch(() => {}));
      nodes.push(node);
    }
    const joined = () => Promise.all(urls.map((url) => metricIs(url, "roomcast_adapter_up", (up) => up === 1)));
    await joined();
    const url = await balancer(t, urls);
    try {
      const members = await enter(t, url, random, MEMBERS, (n) => ({ agent: agentOf(t, n) }));
      const sending = members.map((member) => member.send(randomness(random() * 2 ** 32)));
      const ofBroker = broker?.faults ?? faultsOfPostgres(postgres, random);
      const happened = await rage(seconds, random, faultsOfAny(nodes, random), ofBroker);
      await joined();
      await sleep(500); // They go on for a moment after the last fault.
      const { acked } = await account(t, urls[0], members, sending);
      t.diagnostic(JSON.stringify({ acknowledged: acked.size, ...happened }));
      assert.ok(acked.size > MEMBERS, "there was something to lose");

      // A node looks who is in a conversation where somebody of its own is.
      const observers = await Promise.all(urls.map((url) => connect(t, io, url, { auth: identity("observer") })));
      const joins = await Promise.all(observers.map((one) => ask(one, "join_conversation", { conversationId: LOBBY, lastSeq: acked.size })));
      assert.ok(joins.every(({ success }) => success));
      let lists = [];
      const agree = async (others) => {
        lists = await Promise.all(observers.map((one) => ask(one, "presence", { conversationId: LOBBY })));
        return lists.every(({ users }) => users.length === others.length + 1 && others.every((id) => users.some(({ userId }) => userId === id)));
      };
      const counted = () => `${lists.map(({ users }) => users.length)}`;
      await until(() => agree(members.map(({ userId }) => userId)), "all nodes to know who is there", 60_000).catch((error) => {
        throw new Error(`${error.message}: ${counted()}`);
      });
      for (const { socket } of members) socket.disconnect();
      await until(() => agree([]), "all nodes to know that nobody else is there", 60_000);
      for (const node of nodes) {
        assert.ok(node.isRunning(), "no node has died");
        assert.doesNotMatch(node.output(), /panicked/);
        assert.equal(await node.stop(), 0);
      }
    } catch (error) {
      const said = nodes.map((node) => node.output().split("\n").slice(-40).join("\n"));
      console.error(`FAULTS_SEED=${seed}\n${said.join("\n---\n")}`);
      throw error;
    }
  });
}
