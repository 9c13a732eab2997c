// Clients that follow publications and change servers. Stock clients are redirected from server to
// server by a link. The servers share one PostgreSQL and are connected by it alone or by Redis.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { checkAnswered, checkReceived } from "./catalog.mjs";
import { by, person, startServers, whatIsThere } from "./chat_servers.mjs";
import { QUICK, move, startLink } from "./link.mjs";
import { call } from "./people.mjs";
import { startRedis } from "./redis.mjs";
import { metricIs, next, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { variants } from "./variants.mjs";

const ENV = { ROOMCAST_RECOVERY__ENABLED: "true", ROOMCAST_RECOVERY__CLAIM_TIMEOUT: "20s", ROOMCAST_MARKET__PRICE_INTERVAL: "20ms" };
const service = token({ sub: "backend", roles: ["service"] });
/** A channel whose name is hashed in the name of its room. */
const LONG = "ü".repeat(128);
const CHANNELS = Object.entries({ gold: "gold", long: LONG });
const FOLLOWED = [
  "trades:subscribed", "trade:update", "signals:subscribed", "signal:new", "portfolio:subscribed", "portfolio:update",
  "prices:subscribed", "price:update", "notifications:subscribed", "notification:new", "notification:batch",
];

async function publish({ url }, path, body) {
  const { status, body: answer } = await call(url, "POST", `/api/v1${path}`, body, `Bearer ${service}`);
  assert.equal(status, 200, JSON.stringify(answer));
}

let made = 0;
/** Connects a user through a link, and records the events that it follows. */
async function follower(t, server, options = {}) {
  const link = await startLink(server.url);
  t.after(() => link.close());
  const name = `follower ${made++}`;
  const auth = { token: token({ sub: name, roles: ["user", "reader"] }) };
  const quick = { auth, ...QUICK, ...options };
  const { socket } = await person(t, { url: link.url }, name, quick);
  const events = [];
  for (const event of FOLLOWED) {
    socket.on(event, (body) => {
      checkReceived(event, body);
      events.push([event, body]);
    });
  }
  const must = async (event, payload) => {
    const answer = await socket.timeout(60_000).emitWithAck(event, payload);
    assert.equal(answer.success, true, `${event}: ${JSON.stringify(answer)}`);
    checkAnswered(event, payload, answer);
    return answer;
  };
  return { name, socket, link, events, must };
}

/**
 * Subscribes a user to one of each kind. Notifications come last, also when a server restores the
 * subscriptions.
 */
async function followAll({ name, must }) {
  await must("subscribe:trades", { userId: name });
  await must("subscribe:portfolio", { userId: name });
  for (const [, channelId] of CHANNELS) await must("subscribe:signals", { channelId });
  await must("subscribe:prices", { symbols: ["AAPL", "MSFT"] });
  await must("subscribe:notifications", {});
}

/** Publishes one of each kind for a user; `n` distinguishes them. */
async function publishAll(server, { name }, n) {
  const trade = { tradeId: `${name} ${n}`, userId: name, symbol: "AAPL", status: "executed", executedPrice: 1, quantity: n };
  await publish(server, "/trades", trade);
  const signal = { providerId: "p", providerName: "P", symbol: "ES=F", action: "hold", confidence: 50 };
  for (const [called, channelId] of CHANNELS) {
    await publish(server, "/signals", { ...signal, signalId: `${name} ${n} ${called}`, channelId });
  }
  await publish(server, "/portfolios", { userId: name, totalValue: n, cash: n, positions: [] });
  await publish(server, "/prices", { symbol: "AAPL", price: n });
  const notice = { notificationId: `${name} ${n}`, userId: name, type: "info", priority: "urgent", title: "T", message: "M" };
  await publish(server, "/notifications", notice);
}

/**
 * Checks the events of one kind in order: snapshots, and updates with revisions larger than all
 * before. Each id occurs once.
 */
function account(events, { begun, updateEvent, of, id, isAll }) {
  const known = new Set();
  const updated = new Set();
  let last = 0;
  for (const [event, body] of events) {
    if (event === begun && of(body)) {
      const { revision, ...rest } = body.snapshot;
      assert.ok(revision >= last, `${event} goes back from ${last} to ${revision}`);
      last = revision;
      for (const one of Object.values(rest).flat()) if (typeof one === "object" && one !== null) known.add(id(one));
    }
    const updates = event === updateEvent ? [body] : event === "notification:batch" && updateEvent === "notification:new" ? body.notifications : [];
    for (const update of updates.filter(of)) {
      assert.ok(isAll ? update.revision === last + 1 : update.revision > last, `${event} ${update.revision} follows ${last}`);
      last = update.revision;
      assert.ok(!known.has(id(update)), `${event} ${id(update)} was there`);
      assert.ok(!updated.has(id(update)), `${event} ${id(update)} comes twice`);
      updated.add(id(update));
    }
  }
  return new Set([...known, ...updated]);
}

function whatever(servers) {
  for (const transports of [["websocket"], ["polling"]]) {
    test(`a client over ${transports} follows all data across servers, each once`, async (t) => {
      const all = servers();
      const ann = await follower(t, all[0], { transports });
      await followAll(ann);
      let n = 0;
      let isOver = false;
      const publishing = (async () => {
        let connectedAt = n;
        // Fewer than the limit of a user's open notifications.
        while (!isOver && n < 150) {
          n += 1;
          await publishAll(all[n % all.length], ann, n);
          // While a client is disconnected, no more is published than is kept for it.
          if (ann.socket.connected) connectedAt = n;
          await until(() => isOver || ann.socket.connected || n < connectedAt + 5, "the client to come back");
        }
      })();
      const { id } = ann.socket;
      for (const at of [1, 2, 0, 1]) {
        const before = n;
        await until(() => n > before + 2 || n === 150, "more to be published");
        // The last subscription that this server restores: after it, the events of the other server
        // have been processed.
        const following = next(ann.socket, "notifications:subscribed");
        await move(ann, all[at]);
        assert.equal(ann.socket.recovered, true, all.flatMap((server) => server.output().match(/.*starts a new session.*/g) ?? []).join("\n"));
        assert.equal(ann.socket.id, id);
        await following;
      }
      isOver = true;
      await publishing;
      n += 1;
      await publishAll(all[2], ann, n);
      const numbers = Array.from({ length: n }, (_, at) => `${ann.name} ${at + 1}`);
      const last = (...names) => ann.events.findLast(([event]) => names.includes(event))?.[1];
      const has = (event, isIt) => ann.events.some(([name, body]) => name === event && isIt(body));
      await until(() => has("trade:update", ({ quantity }) => quantity === n), "the last trade");
      await until(() => has("notification:new", ({ notificationId }) => notificationId === numbers.at(-1)), "the last notification");
      await until(() => has("signal:new", ({ signalId }) => signalId === `${numbers.at(-1)} long`), "the last signal");
      await until(() => last("price:update")?.price === n, "the last price");
      await until(() => last("portfolio:update")?.totalValue === n, "the newest portfolio");
      const trades = { begun: "trades:subscribed", updateEvent: "trade:update", of: () => true, id: ({ tradeId }) => tradeId, isAll: true };
      assert.deepEqual([...account(ann.events, trades)].sort(), [...numbers].sort());
      const notifications = { ...trades, begun: "notifications:subscribed", updateEvent: "notification:new", id: (one) => one.notificationId };
      assert.deepEqual([...account(ann.events, notifications)].sort(), [...numbers].sort());
      const rooms = new Set(ann.events.filter(([event]) => event === "signals:subscribed").map(([, { room }]) => room));
      assert.equal(rooms.size, 2);
      for (const [called] of CHANNELS) {
        const of = (body) => (body.room ? body.room === "signals:gold" : body.channelId === "gold") === (called === "gold");
        const signals = { begun: "signals:subscribed", updateEvent: "signal:new", of, id: ({ signalId }) => signalId };
        const own = [...account(ann.events, signals)].filter((known) => known.startsWith(`${ann.name} `));
        assert.deepEqual(own.sort(), numbers.map((number) => `${number} ${called}`).sort());
      }
      const portfolios = { begun: "portfolio:subscribed", updateEvent: "portfolio:update", of: () => true, id: (one) => one.revision };
      account(ann.events.filter(([, body]) => body.revision !== undefined), portfolios);
      // Each server has started with a snapshot of everything.
      for (const event of FOLLOWED.filter((name) => name.endsWith(":subscribed"))) {
        const each = event === "signals:subscribed" ? 2 : 1;
        assert.equal(ann.events.filter(([name]) => name === event).length, 5 * each, event);
      }
    });
  }

  test("subscriptions ended at another server end, and new ones continue", async (t) => {
    const [here, there] = servers();
    const ann = await follower(t, here);
    await followAll(ann);
    const following = next(ann.socket, "notifications:subscribed");
    await move(ann, there, () => publishAll(here, ann, 1));
    await following;
    await ann.must("unsubscribe:signals", { channelId: LONG });
    await ann.must("unsubscribe:prices", { symbols: ["AAPL"] });
    await ann.must("subscribe:signals", { channelId: "silver" });
    const again = next(ann.socket, "notifications:subscribed");
    const from = ann.events.length;
    await move(ann, here);
    await again;
    assert.equal(ann.socket.recovered, true);
    const since = ann.events.slice(from);
    const rooms = since.filter(([event]) => event === "signals:subscribed").map(([, { room }]) => room);
    assert.deepEqual(rooms.sort(), ["signals:gold", "signals:silver"]);
    const prices = since.filter(([event]) => event === "prices:subscribed").map(([, body]) => body.rooms);
    assert.deepEqual(prices, [["prices:MSFT"]]);
    await publishAll(there, ann, 2);
    await until(() => ann.events.some(([event, { quantity }]) => event === "trade:update" && quantity === 2), "a trade");
    await until(() => ann.events.some(([, { notificationId }]) => notificationId === `${ann.name} 2`), "a notification");
    const late = ann.events.slice(from).filter(([event, body]) => event === "price:update" || body.channelId === LONG);
    assert.deepEqual(late, []);
  });

  for (const [what, claims] of [
    ["somebody else", () => ({ sub: "eve", roles: ["user", "reader"] })],
    ["the same user with fewer roles", (name) => ({ sub: name, roles: ["user"] })],
  ]) {
    test(`${what} who offers the client at another server gets a new, empty session`, async (t) => {
      const [here, there] = servers();
      const ann = await follower(t, here);
      await followAll(ann);
      const { id } = ann.socket;
      await move(ann, there, async () => {
        await publishAll(here, ann, 1);
        ann.socket.auth = { token: token(claims(ann.name)) };
        ann.events.length = 0;
      });
      assert.equal(ann.socket.recovered, false);
      assert.notEqual(ann.socket.id, id);
      await publishAll(there, ann, 2);
      // A subscription is answered after everything that arrived before it.
      await ann.must("subscribe:prices", { symbols: ["MSFT"] });
      assert.deepEqual(ann.events.map(([event]) => event), ["prices:subscribed"]);
    });
  }
}

for (const [name, joined] of variants([
  ["PostgreSQL alone", () => whatIsThere],
  ["Redis", (redis) => by(redis)],
])) {
  describe(`followers, joined by ${name}`, () => {
    let started;
    let redis;
    const ends = [];
    before(async () => {
      if (name === "Redis") redis = await startRedis();
      started = await startServers({ after: (end) => ends.push(end) }, 3, joined(redis), ENV);
      const all = ({ url }) => metricIs(url, "roomcast_nodes", (nodes) => nodes === started.length);
      await Promise.all(started.map(all));
    });
    after(async () => {
      for (const end of ends) await end();
      redis?.end();
    });
    whatever(() => started);
  });
}
