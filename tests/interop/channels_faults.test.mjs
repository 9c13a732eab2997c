// Clients and services publish to channels, and followers receive their events at two servers, while
// faults happen at random.
//
// Servers are killed, suspended and drained, and so are PostgreSQL and the broker. Traffic between
// them is dropped, and the backend that decides who may follow fails. Publishers repeat an event at
// any server until it is acknowledged. Followers use WebSocket or poll, do not read for a while, join
// in the middle, subscribe again with their position, and recover. Some lose their right meanwhile.
//
// Kinds are removed and brought back, channels are deleted and begin again, a service subscribes
// users, and another one publishes in transactions of PostgreSQL. Some channels have only their newest
// event, and some none. `channel_faults` has what must hold for these.
//
// Afterwards each acknowledged event is stored once. Each follower has received each event of its
// channels once, in the order in which they are stored, and nothing else. A follower that lost its
// right has received nothing that was published later: from the answer on at the called server, and
// after a second at the other one.
//
// FAULTS_SECONDS: duration of the faults with each adapter (default 20, with shorter faults;
// `tests/run faults SECONDS`).
// FAULTS_SEED: seed of the faults; each run prints its own.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SECRET, no, reply, startBackend, yes } from "./channel_backend.mjs";
import { KINDS as DELETED, startDeleted } from "./channel_faults/deleted.mjs";
import { disturb, pick, stories } from "./channel_faults/followers.mjs";
import { GAMES, KINDS as GRANTED, startGranted } from "./channel_faults/granted.mjs";
import { KINDS as LAST, startLast } from "./channel_faults/last.mjs";
import { KINDS as NONE, startNone } from "./channel_faults/none.mjs";
import { KINDS as REMOVED, startRemoved } from "./channel_faults/removed.mjs";
import { assertRows, storedAt } from "./channel_faults/stored.mjs";
import { TransactionPublisher } from "./channel_faults/transactions.mjs";
import { Follower } from "./channel_followers.mjs";
import { Ledger, offsetOf } from "./channel_ledger.mjs";
import { emptyLosses, loseAll } from "./channel_losses.mjs";
import { ClientPublisher, ServicePublisher } from "./channel_publishers.mjs";
import { startLink } from "./link.mjs";
import { Supervised, assertRunning, faultsOf, faultsOfNats, faultsOfPostgres, faultsOfRedis } from "./nemesis.mjs";
import { longOutage, partitions, rage, randomness } from "./nemesis.mjs";
import { keyed } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { roam } from "./roaming.mjs";
import { lastingPort, metricIs, temporary, until } from "./support.mjs";
import { now, token } from "./tokens.mjs";

const seconds = Number(process.env.FAULTS_SECONDS ?? 20);
const isLong = seconds >= 60;
/** Multiplies the times of faults. */
const span = isLong ? 2 : 0.5;
const longestPartition = isLong ? 6000 : 2000;
/** The pause of a publisher between two requests, in milliseconds on average. */
const PACE = isLong ? 150 : 60;

const KINDS = `${LAST}${NONE}${DELETED}${REMOVED}${GRANTED}
[channels.orders]
pattern = "orders:{customer}:{order}"
follow = ["owner:{customer}", "role:staff", "token"]
publish = ["services", "owner:{customer}"]
history = { events = 10000, age = "7days" }

[channels.desks]
pattern = "desks:{n}"
follow = ["ask"]
publish = ["services", "followers"]
history = { events = 10000, age = "7days" }
`;
const CUSTOMERS = ["ann", "bob", "carl", "dora"];
const orders = CUSTOMERS.flatMap((customer) => [1, 2, 3, 4].map((order) => `orders:${customer}:${order}`));
const desks = [1, 2, 3, 4].map((n) => `desks:${n}`);
const channels = [...orders, ...desks];

/** What else must hold, by the property of a kind that it is about. */
const CASES = { last: startLast, none: startNone, deleted: startDeleted, removed: startRemoved, granted: startGranted };

const env = {
  ...keyed,
  ROOMCAST_STORE__CONNECT_TIMEOUT: "1s",
  ROOMCAST_STORE__STATEMENT_TIMEOUT: "1s",
  ROOMCAST_STORE__RETRY_TIMEOUT: "1s",
  ROOMCAST_STORE__HEALTH_INTERVAL: "200ms",
  ROOMCAST_ENGINE__PING_INTERVAL: "1s",
  ROOMCAST_ENGINE__PING_TIMEOUT: "10s",
  ROOMCAST_RECOVERY__ENABLED: "true",
  ROOMCAST_SERVER__DRAIN: "1s",
  ROOMCAST_LIMITS__CONNECTIONS_PER_USER: "0",
  ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0",
  ROOMCAST_ASK__SECRET: SECRET,
  ROOMCAST_ASK__ALLOW_PRIVATE: "true",
};

const sum = (all, name) => all.reduce((sum, { counts }) => sum + counts[name], 0);

/** How followers use their connections. */
const USES = ["live", "live", "slow", "slow", "polling", "returning", "returning", "recovering", "recovering", "absent"];
/** A follower that recovers, and polls. */
const RECOVERS_POLLING = 8;
/** The maximum number of events in an answer. */
const PAGE = 200;

/** Starts the followers that may follow to the end: by a role, by tokens, and by their user id. */
function enter(t, { urls, random, ledger }) {
  return Promise.all(USES.map(async (use, n) => {
    const right = ["role", "token", "owner"][n % 3];
    const sub = right === "owner" ? pick(random, CUSTOMERS) : `${use} ${n}`;
    const own = orders.filter((channel) => right !== "owner" || channel.split(":")[1] === sub);
    const some = [...own, ...desks];
    // The first channel has the most events, so that an absent follower misses several pages.
    if (use !== "absent") some.sort(() => random() - 0.5);
    const exp = now() + 36_000;
    const rights = { follow: "orders:{customer}:{order}", history: "orders:{customer}:{order}" };
    const proof = (channel) => (right === "token" && channel.startsWith("orders:") ? token({ sub, exp, channel: rights }) : undefined);
    const polls = use === "polling" || n === RECOVERS_POLLING;
    const claims = { sub, exp, roles: right === "role" ? ["user", "staff"] : ["user"] };
    const user = await roam(t, urls, randomness(random() * 2 ** 32), claims, polls ? { transports: ["polling"] } : {});
    user.name = `${use} ${n} by ${right}`;
    return { use, polls, user, follower: new Follower(user, ledger, some.slice(0, 8), { recovers: use === "recovering", token: proof }) };
  }));
}

/** Disconnects a follower until it is over and has missed more events than an answer has. */
async function stayAway({ user, follower }, ledger, isOver) {
  await until(() => follower.isIn(), () => `the absent follower to follow\n${follower.story()}`);
  user.leave();
  const [[first, { position }]] = follower.all;
  // It may have received events that are not acknowledged yet.
  const missed = () => ledger.acknowledgedIn(first).count - offsetOf(position);
  while (!isOver()) await sleep(100); // Poll interval.
  await until(() => missed() > PAGE, "more events than an answer has");
  user.move();
}

/** Followers that connect, follow for a while, and leave, until it is over. */
async function comeAndGo(t, { urls, random, ledger, past }, isOver) {
  for (let n = 0; !isOver(); n++) {
    const user = await roam(t, urls, random, { sub: `visitor ${n}`, roles: ["user", "staff"] });
    const follower = new Follower(user, ledger, channels.toSorted(() => random() - 0.5).slice(0, 6));
    past.push(follower);
    await sleep(500 + random() * 3000); // The visit.
    user.close();
  }
}

/** Breaks the connections of followers that recover, until some were recovered. */
async function recover(recovering) {
  const followers = recovering.map(({ follower }) => follower);
  const before = sum(followers, "recovered");
  for (let tries = 10; tries > 0 && sum(followers, "recovered") === before; tries--) {
    const connections = followers.map(({ counts }) => counts.connections);
    for (const { user } of recovering) user.drop();
    const isBack = (follower, n) => follower.isIn() && follower.counts.connections > connections[n];
    await until(() => followers.every(isBack), () => `all to be back\n${followers.map((one) => one.story()).join("\n")}`);
    await sleep(500); // A client that has received nothing in a session is not recovered.
  }
}

const ADAPTERS = [
  ["PostgreSQL", undefined, undefined],
  ["Redis", "redis", () => startRedis("--appendonly yes")],
  ["Redis with sharded channels", "redis+sharded", () => startRedis("--appendonly yes")],
  ["a stream of Redis", "redis-streams", () => startRedis("--appendonly yes")],
  ["NATS", "nats", () => startBroker("nats", "-js")],
];

for (const [name, scheme, start] of ADAPTERS) {
  test(`channels lose and repeat nothing while ${name} and servers fail`, async (t) => {
    const postgres = await startPostgres();
    t.after(() => postgres.end());
    const broker = await start?.();
    t.after(() => broker?.end());
    const ways = { store: [], broker: [] };
    const through = async (links, url) => {
      const link = await startLink(url);
      t.after(() => link.close());
      links.push(link);
      return url.replace(/127\.0\.0\.1:\d+/, new URL(link.url).host);
    };
    const own = async () => ({
      ROOMCAST_STORE: await through(ways.store, postgres.url),
      ...(broker && { ROOMCAST_ADAPTER__URL: await through(ways.broker, `${scheme}://${broker.address}`), ROOMCAST_ADAPTER__KEY: "channels" }),
    });
    await run(t, seconds, [await own(), await own()], {
      postgres,
      faults: (random) => [
        { ...faultsOfPostgres(postgres, random, span), ...(isLong && longOutage("PostgreSQL", postgres, random)) },
        {
          ...(broker && (scheme === "nats" ? faultsOfNats : faultsOfRedis)(broker, random, span)),
          ...(broker && isLong && longOutage(name, broker, random)),
        },
        {
          ...partitions("a server and PostgreSQL", ways.store, random, longestPartition),
          ...(broker && partitions(`a server and ${name}`, ways.broker, random, longestPartition)),
        },
      ],
    });
  });
}

test("channels lose and repeat nothing while a server with SQLite fails", async (t) => {
  await run(t, seconds / 2, [{ ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}` }], { faults: () => [] });
});

/** Runs servers with these variables, and everything that uses them, for some seconds of faults. */
async function run(t, seconds, variables, { postgres, faults }) {
  const seed = Number(process.env.FAULTS_SEED ?? randomInt(2 ** 32));
  t.diagnostic(`FAULTS_SEED=${seed}`);
  const random = randomness(seed);
  const own = () => randomness(random() * 2 ** 32);
  const config = join(temporary(), "roomcast.toml");
  writeFileSync(config, KINDS);
  const backend = await startBackend(t);
  backend.denied = new Set();
  const deciding = own();
  const decide = (response, { user }) => (backend.denied.has(user.id) ? no() : yes(5 + Math.floor(deciding() * 60)))(response);
  backend.answer = decide;
  const servers = [];
  for (const one of variables) {
    const at = { ROOMCAST_CONFIG: config, ROOMCAST_ASK__URL: backend.url, ROOMCAST_LISTEN: `127.0.0.1:${await lastingPort()}` };
    const server = new Supervised({ ...env, ...at, ...one });
    servers.push({ server, url: (await server.start()).url });
    t.after(() => server.kill().catch(() => {}));
  }
  const urls = servers.map(({ url }) => url);
  const areJoined = () => Promise.all(urls.map((url) => postgres && metricIs(url, "roomcast_adapter_up", (up) => up === 1)));
  await areJoined();

  const ledger = new Ledger();
  const scene = { urls, servers, random: own(), own, ledger, backend, config, kinds: KINDS, orders, desks, losses: emptyLosses(), past: [] };
  const publishers = [new ServicePublisher(urls, "shop", channels, ledger, own()), new ServicePublisher(urls, "depot", channels, ledger, own())];
  for (const customer of CUSTOMERS) {
    const user = await roam(t, urls, own(), { sub: customer });
    const mine = orders.filter((channel) => channel.split(":")[1] === customer);
    publishers.push(new ClientPublisher(user, [...mine, ...desks], ledger, own()));
  }
  publishers.push(new ServicePublisher(urls, "arena", GAMES, ledger, own()));
  const transactions = postgres && new TransactionPublisher(postgres, "ledger", [...channels, ...GAMES], ledger, own());
  if (transactions) publishers.push(transactions);
  const staying = await enter(t, scene);
  const cases = {};
  for (const [name, start] of Object.entries(CASES)) cases[name] = await start(t, { ...scene, random: own() });
  const { removed, granted } = cases;
  publishers.push(...Object.values(cases).flatMap(({ publishers }) => publishers));
  const followers = [...staying.map(({ follower }) => follower), ...removed.followers, ...granted.followers];
  const everyone = [...followers, ...Object.values(cases).flatMap(({ followers }) => followers)];
  const away = () => stories(everyone, (one) => !one.isIn());
  let isOver = false;
  try {
    const over = () => isOver;
    const publishing = publishers.map((publisher) => publisher.publish(PACE));
    const acting = [
      ...staying.map((one) => (one.use === "absent" ? stayAway(one, ledger, over) : disturb(one, own(), over))),
      comeAndGo(t, { ...scene, random: own() }, over),
      ...Array.from({ length: 3 }, () => loseAll(t, { ...scene, random: own() }, over)),
      ...Object.values(cases).flatMap(({ acting }) => acting(over)),
    ];
    const happened = await rage(seconds, random, [
      {
        ...faultsOf("a server", () => pick(random, servers).server, random, span),
        async "a server is drained"() {
          const { server } = pick(random, servers);
          assertRunning("a server", server);
          assert.equal(await server.stop(), 0);
          await server.start();
        },
        // No server starts meanwhile, which ends if it gets the signal too early.
        ...removed.faults,
      },
      ...faults(random),
      {
        async "the backend fails"() {
          backend.answer = reply({}, 503);
          await sleep(random() * 2000 * span); // Duration of the outage.
          backend.answer = decide;
        },
      },
    ], span);
    t.diagnostic(JSON.stringify(happened));
    isOver = true;
    await Promise.all(acting);
    await areJoined();
    const areIn = () => [...followers, ...cases.last.followers, ...cases.none.followers].every((one) => one.isIn());
    await until(areIn, () => `all followers to follow\n${away()}`);
    await recover(staying.filter(({ use, polls }) => use === "recovering" && !polls));
    for (const publisher of publishers) publisher.stop();
    await Promise.all(publishing);

    await transactions?.settle();

    // Now that everything works, each follower receives the last event of each of its channels.
    const checked = [...channels, ...GAMES, ...removed.channels];
    for (const channel of checked) {
      const last = publishers[0].create(channel);
      await publishers[0].publishOne(last);
      const lagging = () => followers.filter((one) => one.all.has(channel) && !one.has(last));
      await until(() => lagging().length === 0, () => `${last.id} in ${channel} at\n${lagging().map((one) => one.story()).join("\n")}`);
    }
    for (const { settle } of Object.values(cases)) await settle();
    const [stored, ...others] = await Promise.all(urls.map(async (url) => {
      const all = await Promise.all(checked.map(async (channel) => [channel, await storedAt(url, channel)]));
      return new Map(all);
    }));
    for (const other of others) assert.deepEqual(other, stored, "all servers have the same events");
    for (const channel of checked) {
      ledger.assertStored(channel, stored.get(channel));
      if (postgres) assertRows(postgres, channel, stored.get(channel));
    }
    for (const one of followers) one.assertSaw(stored, { isWhole: true });
    for (const one of scene.past) one.assertSaw(stored, { isWhole: false });
    assert.deepEqual(ledger.wrong.map((story) => story.split("\n")[0]), []);
    assert.equal(sum([...followers, ...scene.past], "forgotten"), 0, "the history was long enough");
    assert.ok(sum(followers, "live") > 20 * followers.length, "there was something to see");
    assert.ok(ledger.counts.repeated > 0 && sum(publishers, "unanswered") > 0, "events were repeated");
    assert.ok(sum(followers, "recovered") > 0, "some followers were recovered");
    assert.ok(sum(followers, "pages") > 0, "a follower had missed several pages");
    for (const { server } of servers) {
      assert.doesNotMatch(server.output(), /panicked/);
      assert.equal(await server.stop(), 0);
    }
  } catch (error) {
    const said = servers.map(({ server }) => server.output().split("\n").slice(-200).join("\n"));
    console.error(`FAULTS_SEED=${seed}\n${ledger.wrong.slice(0, 5).join("\n\n")}\n${said.join("\n---\n")}`);
    throw error;
  } finally {
    isOver = true;
    for (const publisher of publishers) publisher.stop();
    const of = (all, names) => Object.fromEntries(names.map((name) => [name, sum(all, name)]));
    const kept = [...followers, ...scene.past];
    for (const [name, { followers, counts }] of Object.entries(cases)) {
      const names = [...new Set(followers.flatMap(({ counts }) => Object.keys(counts)))];
      const all = names.map((name) => [name, followers.reduce((sum, { counts }) => sum + (counts[name] ?? 0), 0)]);
      t.diagnostic(`${name}: ${JSON.stringify({ followers: followers.length, ...Object.fromEntries(all), ...counts })}`);
    }
    t.diagnostic(JSON.stringify({ ...ledger.counts, most: Math.max(...channels.map((channel) => ledger.acknowledgedIn(channel).count)), ...of(publishers, ["unanswered", "refused"]), ...(transactions && { rolledBack: transactions.counts.rolledBack }), followers: kept.length,
      ...of(kept, ["live", "answered", "ignored", "connections", "recovered", "subscriptions", "pages", "interrupted", "refused", "forgotten"]), ...scene.losses }));
    for (const { user } of staying) user.close();
  }
}
