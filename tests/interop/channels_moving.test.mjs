// Followers of channels that are recovered at another server. Stock clients are redirected from
// server to server by a link. The servers share one PostgreSQL and are connected by it alone or by
// Redis.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { asking, configured, event, follow, must, no, path, publish, reply, service, settle, startBackend, yes } from "./channel_backend.mjs";
import { by, postgres, startServers, whatIsThere } from "./chat_servers.mjs";
import { QUICK, move, startLink } from "./link.mjs";
import { call, enter } from "./people.mjs";
import { startRedis } from "./redis.mjs";
import { metricIs, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { variants } from "./variants.mjs";

const RECOVERY = { ROOMCAST_RECOVERY__ENABLED: "true", ROOMCAST_RECOVERY__CLAIM_TIMEOUT: "20s" };
const MORE = `
[channels.log]
pattern = "log:{n}"
follow = ["users"]

[channels.paid]
pattern = "paid:{n}"
follow = ["token"]
`;
/** The number of events that an answer has. */
const PAGE = 200;

let made = 0;
/** Connects a user through a link, and records the events and the ends of its channels. */
async function follower(t, server, options = {}) {
  const link = await startLink(server.url);
  t.after(() => link.close());
  const name = `mover-${made++}`;
  const auth = { token: token({ sub: name, roles: ["user"] }) };
  const { socket } = await enter(t, link.url, { auth, transports: ["websocket"], ...QUICK, ...options });
  const seen = new Map();
  const of = (channel) => {
    if (!seen.has(channel)) seen.set(channel, []);
    return seen.get(channel);
  };
  const positions = new Map();
  socket.on("changed", ({ n }, meta) => {
    const offset = Number(meta.position.split(".")[1]);
    if (!meta.channel.startsWith("live:")) assert.ok(offset > (positions.get(meta.channel) ?? 0), `${meta.channel}: ${offset} follows ${positions.get(meta.channel)}`);
    assert.equal(meta.id, `${n}`);
    positions.set(meta.channel, offset);
    of(meta.channel).push(n);
  });
  socket.on("channel:ended", ({ channel, reason }) => of(channel).push(reason));
  return { name, socket, link, of };
}

async function publishMany(url, channel, from, count) {
  const events = Array.from({ length: count }, (_, at) => event(from + at));
  const { status, body } = await call(url, "POST", path(channel, "events"), { events }, service);
  assert.equal(status, 200, JSON.stringify(body));
}

async function admin(url, method, at, body) {
  const { status, body: answer } = await call(url, method, `/api/v1${at}`, body, `Bearer ${token({ sub: "root", roles: ["admin", "service"] })}`);
  assert.ok(status < 300, JSON.stringify(answer));
  return answer;
}

const numbers = (from, through) => Array.from({ length: through - from + 1 }, (_, at) => from + at);

/** Moves a client, and waits until it has arrived. */
async function moved(one, to, meanwhile) {
  await move(one, to, meanwhile);
  assert.equal(one.socket.recovered, true, to.output().match(/.*starts a new session.*/g)?.join("\n"));
  await settle(one.socket);
}

function whatever(servers) {
  for (const transports of [["websocket"], ["polling"]]) {
    test(`a moving follower over ${transports} receives each event once, in order`, async (t) => {
      const all = servers();
      const ann = await follower(t, all[0], { transports });
      const channel = (kind) => `${kind}:${ann.name}`;
      const channels = ["log", "shared", "desk", "rooms", "score"].map(channel);
      await follow(ann.socket, channel("log"));
      await follow(ann.socket, channel("shared"));
      const right = token({ sub: ann.name, channel: { follow: channel("desk") } });
      await must(ann.socket, "channel:subscribe", { channel: channel("desk"), token: right });
      await admin(all[1].url, "POST", `/channels/${channel("rooms")}/subscribers`, { userId: ann.name });
      await follow(ann.socket, channel("score"));
      let n = 0;
      let isOver = false;
      const publishing = (async () => {
        let connectedAt = n;
        while (!isOver) {
          n += 1;
          for (const one of channels) await publish(all[n % all.length].url, one, n);
          // While a client is disconnected, no more is published than is kept for it.
          if (ann.socket.connected) connectedAt = n;
          await until(() => isOver || ann.socket.connected || n < connectedAt + 5, "the client to come back");
        }
      })();
      for (const at of [1, 0, 1, 0]) {
        const more = () => {
          const before = n;
          return until(() => n > before + 2, "more to be published");
        };
        await more();
        await moved(ann, all[at], more);
      }
      isOver = true;
      await publishing;
      await until(() => channels.every((one) => ann.of(one).at(-1) === n), () => JSON.stringify(channels.map((one) => [one, n, ann.of(one).slice(-3)])));
      for (const one of channels.slice(0, -1)) assert.deepEqual(ann.of(one), numbers(1, n), one);
    });
  }
}

/** Tests of an old server that cannot read the store, so that the new one sends all missed events. */
function whateverLags(servers, backend, database) {
  /** Moves a client, while the old server cannot read the store. */
  const movedFromLagging = async (one, act) => {
    database().swallow();
    try {
      await moved(one, servers().there, act);
    } finally {
      database().resume({ isBroken: false });
    }
  };
  const request = (method, at, body) => admin(servers().there.url, method, at, body);

  test("missed events arrive once, before later ones", async (t) => {
    const { here, there } = servers();
    const ann = await follower(t, here);
    const [channel, score] = [`log:${ann.name}`, `score:${ann.name}`];
    await follow(ann.socket, channel);
    await follow(ann.socket, score);
    await publish(here.url, channel, 1);
    await until(() => ann.of(channel).length === 1, "the first event");
    await movedFromLagging(ann, async () => {
      await publishMany(there.url, channel, 2, PAGE);
      await publishMany(there.url, score, 1, 3);
    });
    assert.deepEqual(ann.of(channel), numbers(1, PAGE + 1));
    assert.deepEqual(ann.of(score), [3]);
    await publish(here.url, channel, PAGE + 2);
    await until(() => ann.of(channel).length === PAGE + 2, "a later event");
    // The client has the newest value, and no event is sent again.
    await moved(ann, here);
    await publish(there.url, score, 4);
    await until(() => ann.of(score).at(-1) === 4, "a later value");
    assert.deepEqual([ann.of(channel), ann.of(score)], [numbers(1, PAGE + 2), [3, 4]]);
  });

  for (const [what, kind, reason, act] of [
    ["whom the backend refuses", "orders", "forbidden", () => void (backend().answer = no())],
    ["about whom the backend does not answer", "orders", "interrupted", () => void (backend().answer = reply("", 500))],
    ["whose token is revoked", "paid", "forbidden", ({ name }) => request("POST", "/revocations", { jti: name })],
    ["whom a service has unsubscribed", "rooms", "interrupted", ({ name, channel }) => request("DELETE", `/channels/${channel}/subscribers/${name}`)],
    ["of a deleted channel", "log", "deleted", ({ channel }) => request("DELETE", `/channels/${channel}`)],
    ["of a deleted value", "score", "deleted", ({ channel }) => request("DELETE", `/channels/${channel}`)],
    ["that missed more than a page", "log", "interrupted", ({ channel, url }) => publishMany(url, channel, 10, PAGE + 1)],
    ["of events that are not stored", "live", "interrupted", () => {}],
  ]) {
    test(`a moving follower ${what} learns it and receives no event`, async (t) => {
      const { here, there } = servers();
      t.after(() => (backend().answer = yes()));
      const ann = await follower(t, here);
      const channel = kind === "orders" ? `orders:${ann.name}:1` : `${kind}:${ann.name}`;
      const right = { jti: ann.name, sub: ann.name, channel: { follow: channel } };
      if (kind === "rooms") await request("POST", `/channels/${channel}/subscribers`, { userId: ann.name });
      else await must(ann.socket, "channel:subscribe", { channel, ...(kind === "paid" ? { token: token(right) } : {}) });
      await publish(here.url, channel, 1);
      await until(() => ann.of(channel).length === 1, "the first event");
      await movedFromLagging(ann, async () => {
        await act({ name: ann.name, channel, url: there.url });
        if (kind !== "live") await publish(there.url, channel, 2);
      });
      await publish(there.url, channel, 3);
      await settle(ann.socket);
      assert.deepEqual(ann.of(channel), [1, reason]);
    });
  }
}

describe("moving followers", () => {
  for (const [name, startsRedis] of variants([["PostgreSQL alone"], ["Redis", () => startRedis()]])) {
    describe(`joined by ${name}`, () => {
      let started;
      let redis;
      const { group, end, env } = set();
      before(async () => {
        redis = await startsRedis?.();
        started = await startServers(group, 2, redis ? by(redis) : whatIsThere, await env());
        await acquainted(started);
      });
      after(() => end(redis));
      whatever(() => started);
    });
  }

  describe("of a server that cannot read the store", () => {
    let servers;
    let redis;
    let database;
    const { group, end, env, backend } = set();
    before(async () => {
      redis = await startRedis();
      const { hostname, port } = new URL(postgres.url);
      database = await startLink(`http://${hostname}:${port}`);
      const url = postgres.url.replace(`:${port}`, `:${new URL(database.url).port}`);
      const variables = await env();
      const [here] = await startServers(group, 1, by(redis), { ...variables, ROOMCAST_STORE: url });
      const [there] = await startServers(group, 1, by(redis), variables);
      servers = { here, there };
      await acquainted([here, there]);
    });
    after(async () => {
      await end(redis);
      database.close();
    });
    whateverLags(() => servers, backend, () => database);
  });
});

/** Returns what a group of tests starts and ends: a backend, and servers with these variables. */
function set() {
  let backend;
  const ends = [];
  const group = { after: (end) => ends.push(end) };
  return {
    group,
    backend: () => backend,
    async env() {
      backend = await startBackend(group);
      return asking(backend.url, { ...RECOVERY, ROOMCAST_CONFIG: configured(MORE) });
    },
    async end(redis) {
      for (const end of ends) await end();
      redis?.end();
    },
  };
}

/** Waits until all servers know each other. */
async function acquainted(servers) {
  await Promise.all(servers.map(({ url }) => metricIs(url, "roomcast_nodes", (nodes) => nodes === servers.length)));
}
