// Presence in channels, channels that store nothing, and both with revocations at two servers that
// share a store, with the official client.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { checkAnswered, checkReceived, checksAll } from "./catalog.mjs";
import {
  KINDS, MISSING, ORDER, TIME, asking, configured, event, follow, followLater, must, no, path, publish, record, reload, revoke, service, settle, simple,
  startBackend, user, withBackend, yes,
} from "./channel_backend.mjs";
import { by, postgres, startServers, whatIsThere } from "./chat_servers.mjs";
import { QUICK, disconnectLink, startLink } from "./link.mjs";
import { call, enter } from "./people.mjs";
import { startRedis } from "./redis.mjs";
import { within } from "./processes.mjs";
import { ask, metricIs, next, until } from "./support.mjs";
import { token } from "./tokens.mjs";

/** Returns who is present, in short. */
const briefly = ({ users, count }) => [count, ...users.map(({ userId, connections }) => `${userId} ${connections}`).sort()].join();

/** Waits until a client and a service read this presence. Returns both answers. */
async function presenceIs(socket, url, channel, expected) {
  const read = async () => {
    const { body } = await call(url, "GET", path(channel, "presence"), undefined, service);
    return [await must(socket, "channel:presence", { channel }), body];
  };
  let answers;
  await until(async () => (answers = await read()).every((answer) => briefly(answer) === expected), () => JSON.stringify(answers));
  return answers;
}

/** Watches a channel until the test ends. Returns the lines so far. */
async function watch(t, url, channel, authorization = service) {
  const end = new AbortController();
  t.after(() => end.abort());
  const response = await fetch(url + path(channel, "live"), { headers: { authorization }, signal: end.signal });
  assert.deepEqual([response.status, response.headers.get("content-type")], [200, "application/x-ndjson"]);
  const lines = [];
  const read = async () => {
    let rest = "";
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      const complete = (rest + text).split("\n");
      rest = complete.pop();
      lines.push(...complete.filter((line) => line !== "").map((line) => JSON.parse(line)));
    }
  };
  read().catch(() => {});
  return lines;
}

/** Returns the listed channels of one kind, without their rates. */
async function listed(url, kind, query = "") {
  const { status, body } = await call(url, "GET", `/api/v1/channels${query}`, undefined, service);
  assert.deepEqual([status, body.missing], [200, 0], JSON.stringify(body));
  return body.channels.filter((one) => one.kind === kind);
}

describe("presence in channels", () => {
  test("each user is listed once with the number of sockets, and leaves", async (t) => {
    const { url } = await withBackend(t);
    const channel = "desk:1";
    const [first, second] = [await user(t, url, "7", { name: "Ada" }), await user(t, url, "7", { name: "Ada" })];
    const { socket: guest, session } = await enter(t, url, { auth: { name: "Gus" } });
    for (const socket of [first, second, guest]) {
      const { presence } = await follow(socket, channel);
      assert.deepEqual([Object.keys(presence).sort(), presence.users.length], [["count", "users"], presence.count]);
    }
    const reader = await user(t, url, "8");
    const expected = [2, "7 2", `${session.userId} 1`].join();
    const [{ success, ...answer }, body] = await presenceIs(reader, url, channel, expected);
    checkAnswered("channel:presence", { channel }, { success, ...answer });
    for (const { users, ...others } of [answer, body]) {
      assert.deepEqual(others, { channel, count: 2 });
      for (const { since } of users) assert.match(since, TIME);
      const [ada, gus] = users.toSorted((one, other) => (one.userId < other.userId ? -1 : 1)).map(({ since, ...rest }) => rest);
      assert.deepEqual(ada, { userId: "7", name: "Ada", connections: 2 });
      assert.deepEqual(gus, { userId: session.userId, name: "Gus", guest: true, connections: 1 });
    }
    await until(async () => briefly((await follow(first, channel)).presence) === expected, "the answer to a follower");
    await must(second, "channel:unsubscribe", { channel });
    guest.disconnect();
    await presenceIs(reader, url, channel, "1,7 1");
    await must(first, "channel:unsubscribe", { channel });
    await presenceIs(reader, url, channel, "0");
  });

  test("only clients that may follow read it, of kinds that have presence", async (t) => {
    const { url, backend } = await withBackend(t);
    const channel = "desk:1";
    backend.answer = (response, { user }) => (user.id === "9" ? no() : yes())(response);
    const [allowed, other] = [await user(t, url, "7"), await user(t, url, "9")];
    const refused = await ask(other, "channel:presence", { channel });
    assert.equal(refused.error.code, "NOT_FOUND");
    assert.deepEqual(refused, await ask(other, "channel:presence", { channel: MISSING }));
    const right = token({ sub: "9", channel: { follow: channel } });
    await must(other, "channel:presence", { channel, token: right });
    assert.equal("presence" in (await follow(allowed, ORDER)), false);
    assert.equal((await ask(allowed, "channel:presence", { channel: ORDER })).error.code, "CONFLICT");
    const get = async (name, caller) => {
      const { status, body } = await call(url, "GET", path(name, "presence"), undefined, caller);
      return [status, body.error.code];
    };
    assert.deepEqual(await get(ORDER, service), [409, "CONFLICT"]);
    assert.deepEqual(await get(MISSING, service), [404, "NOT_FOUND"]);
    assert.deepEqual(await get(channel, simple), [403, "FORBIDDEN"]);
  });

  test("reload without `presence` ends the lists, and followers stay", async (t) => {
    const config = configured();
    const { started, url } = await withBackend(t, { ROOMCAST_CONFIG: config });
    const channel = "desk:1";
    const socket = await user(t, url, "7");
    assert.equal((await follow(socket, channel)).presence.count, 1);
    const seen = record(socket);
    const changed = /INFO.*configuration reloaded.*channels\.desk\.presence/;
    await reload(started, config, KINDS.replace("presence = true\n", ""), changed);
    assert.equal((await ask(socket, "channel:presence", { channel })).error.code, "CONFLICT");
    assert.equal((await call(url, "GET", path(channel, "presence"), undefined, service)).status, 409);
    assert.equal("presence" in (await follow(socket, channel)), false);
    await publish(url, channel, 1);
    await until(() => seen.length > 0, "the event");
    await reload(started, config, KINDS, changed);
    assert.equal((await must(socket, "channel:presence", { channel })).count, 1);
    await settle(socket);
    assert.deepEqual(seen, [1]);
  });
});

/** Checks that followers at all servers receive events that no server stores. */
async function followsLive(t, servers, channel) {
  const sockets = await Promise.all(servers.map(({ url }, n) => user(t, url, `${n}`)));
  const all = sockets.map((socket) => {
    const received = [];
    socket.on("changed", (...args) => received.push(args));
    return received;
  });
  const answers = await Promise.all(sockets.map((socket) => follow(socket, channel)));
  const [{ position }] = answers;
  const nothing = { success: true, position, events: [], hasMore: false };
  for (const answer of answers) assert.deepEqual(answer, nothing);
  const arrive = (count) => until(() => all.every(({ length }) => length === count), () => `${count} events: ${JSON.stringify(all)}`);
  const own = await must(sockets[0], "channel:publish", { channel, ...event(1) });
  await arrive(1);
  const { url } = servers.at(-1);
  const { body } = await call(url, "POST", path(channel, "events"), { events: [event(2), event(3)] }, service);
  await arrive(3);
  assert.deepEqual([own.position, ...body.positions, await publish(url, channel, 4)], Array(4).fill(position));
  await arrive(4);
  for (const received of all) {
    assert.deepEqual(received.map(([data]) => data), [1, 2, 3, 4].map((n) => ({ n })));
    for (const [{ n }, { timestamp, ...meta }] of received) {
      assert.deepEqual(meta, { channel, position, id: `${n}` });
      assert.match(timestamp, TIME);
    }
  }
  const late = await user(t, url, "late");
  assert.deepEqual(await follow(late, channel), nothing);
  for (const socket of [late, ...sockets]) {
    assert.deepEqual(await must(socket, "channel:history", { channel }), nothing);
    const since = { channel, since: position };
    assert.deepEqual(await must(socket, "channel:subscribe", since), { ...nothing, forgotten: true });
  }
  const history = await call(url, "GET", path(channel, "history"), undefined, service);
  assert.deepEqual(history, { status: 200, body: { position, events: [], hasMore: false } });
  const received = next(late, "changed");
  await publish(servers[0].url, channel, 5);
  assert.deepEqual((await received)[0], { n: 5 });
  await arrive(5);
}

test("channel without a history sends events live and stores nothing", async (t) => {
  await followsLive(t, [await withBackend(t)], "live:2");
});

test("no unstored event precedes the answer of a subscription", async (t) => {
  const { url } = await withBackend(t);
  const channel = "live:6";
  const socket = await user(t, url, "6");
  let [early, isFollowing, rounds] = [0, true, 0];
  socket.on("changed", () => (early += isFollowing ? 0 : 1));
  const publishing = (async () => {
    while (rounds < 100) {
      const events = Array.from({ length: 1_000 }, (_, n) => event(n));
      await call(url, "POST", path(channel, "events"), { events }, service);
    }
  })();
  for (; rounds < 100; rounds += 1) {
    await must(socket, "channel:unsubscribe", { channel });
    isFollowing = false;
    // A callback, because a promise resolves after the events next to the answer.
    await within(new Promise((done) => socket.emit("channel:subscribe", { channel }, () => done((isFollowing = true)))), "the answer");
  }
  await publishing;
  assert.equal(early, 0);
});

test("names that nobody follows leave nothing behind", async (t) => {
  const { started, url } = await withBackend(t);
  const HELD = ["followed journals", "rooms of journals", "snapshots of journals", "due journals", "channels with old events", "stored events of kinds"];
  const held = async () => {
    const { held } = await (await fetch(`${started.admin}/debug/inventory`)).json();
    return HELD.map((name) => [name, held.find((one) => one.name === name).count]);
  };
  const socket = await user(t, url, "7");
  const before = await held();
  for (let n = 0; n < 100; n += 1) {
    const channel = `score:${n}`;
    await must(socket, "channel:history", { channel });
    const { body } = await call(url, "GET", path(channel, "history"), undefined, service);
    assert.deepEqual(body.events, []);
    const { error } = await ask(socket, "channel:subscribe", { channel: `unknown:${n}` });
    assert.equal(error.code, "NOT_FOUND");
  }
  assert.deepEqual(await held(), before);
  await follow(socket, "score:1");
  const [[name, count]] = await held();
  assert.deepEqual([name, count], ["followed journals", before[0][1] + 1]);
});

test("recovered follower of unstored events gets what it missed once", async (t) => {
  const { url } = await withBackend(t, { ROOMCAST_RECOVERY__ENABLED: "true" });
  const channel = "live:3";
  for (const transports of [["websocket"], ["polling"]]) {
    const link = await startLink(url);
    t.after(() => link.close());
    const auth = { token: token({ sub: "7", roles: ["user"] }) };
    const { socket } = await enter(t, link.url, { auth, ...QUICK, transports });
    const present = await user(t, url, "8");
    const all = [socket, present].map(record);
    const has = (count) => until(() => all.every(({ length }) => length >= count), () => JSON.stringify(all));
    for (const one of [socket, present]) await follow(one, channel);
    await publish(url, channel, 1);
    await has(1);
    await disconnectLink({ socket, link });
    await publish(url, channel, 2);
    await must(present, "channel:publish", { channel, ...event(3) });
    await call(url, "POST", path(channel, "events"), { events: [event(4), event(5)] }, service);
    link.restore();
    await has(5);
    assert.ok(socket.recovered);
    await publish(url, channel, 6);
    await has(6);
    for (const one of [socket, present]) await settle(one);
    assert.deepEqual(all, Array(2).fill([1, 2, 3, 4, 5, 6]), transports[0]);
    for (const one of [socket, present]) await must(one, "channel:unsubscribe", { channel });
  }
});

test("recovered follower of newest events gets only the newest that it missed", async (t) => {
  const { url } = await withBackend(t, { ROOMCAST_RECOVERY__ENABLED: "true" });
  const [channel, other] = ["score:1", "live:5"];
  for (const transports of [["websocket"], ["polling"]]) {
    const link = await startLink(url);
    t.after(() => link.close());
    const auth = { token: token({ sub: "7", roles: ["user"] }) };
    const { socket } = await enter(t, link.url, { auth, ...QUICK, transports });
    const seen = record(socket);
    const has = (count) => until(() => seen.length >= count, () => JSON.stringify(seen));
    for (const one of [channel, other]) await follow(socket, one);
    await publish(url, channel, `${transports} 1`);
    await has(1);
    await disconnectLink({ socket, link });
    for (let n = 2; n < 6; n += 1) {
      await publish(url, channel, `${transports} ${n}`);
      await publish(url, other, `${transports} other ${n}`);
    }
    link.restore();
    await has(6);
    assert.ok(socket.recovered);
    await publish(url, channel, `${transports} 6`);
    await has(7);
    await settle(socket);
    const missed = ["other 2", "other 3", "other 4", "5", "other 5"];
    assert.deepEqual(seen, ["1", ...missed, "6"].map((one) => `${transports} ${one}`));
    for (const one of [channel, other]) await must(socket, "channel:unsubscribe", { channel: one });
  }
});

test("recovered socket keeps its subscription by a service unless that has ended", async (t) => {
  const { url } = await withBackend(t, { ROOMCAST_RECOVERY__ENABLED: "true" });
  const channel = "rooms:1";
  const link = await startLink(url);
  t.after(() => link.close());
  const auth = { token: token({ sub: "7", roles: ["user"] }) };
  const { socket } = await enter(t, link.url, { auth, ...QUICK, transports: ["websocket"] });
  const seen = record(socket);
  await call(url, "POST", path(channel, "subscribers"), { userId: "7" }, service);
  await disconnectLink({ socket, link });
  await publish(url, channel, 1);
  link.restore();
  await until(() => seen.length === 1, () => JSON.stringify(seen));
  assert.ok(socket.recovered);
  await publish(url, channel, 2);
  await until(() => seen.length === 2, () => JSON.stringify(seen));
  await disconnectLink({ socket, link });
  // A server that does not know of the cut yet would end the subscription of a connected socket.
  await metricIs(url, "roomcast_recovery_sessions", (disconnected) => disconnected === 1);
  await call(url, "DELETE", path(channel, "subscribers/7"), undefined, service);
  await publish(url, channel, 3);
  link.restore();
  await until(() => seen.length === 3, () => JSON.stringify(seen));
  await publish(url, channel, 4);
  await settle(socket);
  assert.deepEqual(seen, [1, 2, `${channel} interrupted`]);
});

test("reload that lets a kind store its events interrupts followers once", async (t) => {
  const config = configured();
  const { started, url } = await withBackend(t, { ROOMCAST_CONFIG: config });
  const channel = "live:4";
  const socket = await user(t, url, "7");
  const seen = record(socket);
  await follow(socket, channel);
  const stored = KINDS.replace('history = "none"\n', "");
  await reload(started, config, stored, /INFO.*configuration reloaded.*channels\.live\.history/);
  await until(() => seen.length > 0, "the end of the subscription");
  await follow(socket, channel);
  const position = await publish(url, channel, 1);
  await until(() => seen.length > 1, "the event");
  const { events } = await must(socket, "channel:history", { channel });
  assert.deepEqual(events.map(({ data, position }) => [data, position]), [[{ n: 1 }, position]]);
  await reload(started, config, KINDS, /INFO.*configuration reloaded.*channels\.live\.history/);
  await publish(url, channel, 2);
  await until(() => seen.length > 2, "the event that is not stored");
  assert.deepEqual((await must(socket, "channel:history", { channel })).events, []);
  assert.deepEqual(seen, [`${channel} interrupted`, 1, 2]);
});

for (const [name, start, joined] of [["PostgreSQL", undefined, () => whatIsThere], ["Redis", () => startRedis(), by]]) {
  describe(`channels of two servers joined by ${name}`, () => {
    const ends = [];
    let backend;
    let servers;
    before(async () => {
      const broker = await start?.();
      if (broker) ends.push(() => broker.end());
      const starting = { after: (end) => ends.unshift(end) };
      backend = await startBackend(starting);
      servers = await startServers(starting, 2, joined(broker), asking(backend.url));
      for (const { url } of servers) {
        const nodes = async () => (await call(url, "GET", "/api/v1/nodes", undefined, service)).body.nodes;
        await until(async () => (await nodes()).length === 2, "both to know of each other");
      }
    });
    after(async () => {
      for (const end of ends) await end();
    });

    test("revocation at one server ends followers and answers at both", async (t) => {
      const [here, there] = servers;
      const channel = `shared:${name}`;
      let isRefused = true;
      backend.answer = (response, { user }) => (user.id === "9" && isRefused ? no() : yes())(response);
      const [owner, near, far] = [await user(t, there.url, name), await user(t, here.url, "8"), await user(t, there.url, "8")];
      for (const socket of [owner, near, far]) await follow(socket, channel);
      const [kept, ...ended] = [owner, near, far].map(record);
      const { status, body } = await revoke(here.url, channel, { userId: "8" });
      assert.ok(status === 200 && body.ended >= 1, JSON.stringify(body));
      await until(() => ended.every(({ length }) => length > 0), () => JSON.stringify(ended));
      await publish(here.url, channel, 1);
      await until(() => kept.length > 0, "the event");
      for (const socket of [near, far]) await settle(socket);
      assert.deepEqual([kept, ...ended], [[1], [`${channel} interrupted`], [`${channel} interrupted`]]);
      const before = backend.about(channel).length;
      await follow(far, channel);
      assert.equal(backend.about(channel).length, before + 1);
      // Without a user, the refusals that another server stores are also forgotten.
      const other = await user(t, there.url, "9");
      assert.equal((await ask(other, "channel:subscribe", { channel })).error.code, "NOT_FOUND");
      isRefused = false;
      assert.equal((await ask(other, "channel:subscribe", { channel })).error.code, "NOT_FOUND");
      await revoke(here.url, channel, {});
      await followLater(other, { channel });
      await publish(here.url, channel, 2);
      await until(() => kept.length > 1, "the second event");
      assert.deepEqual(kept, [1, 2]);
    });

    test("server that gets no request learns from the store that a right has ended", async (t) => {
      const channel = `rooms:stored ${name}`;
      const [here, there] = servers.map(({ url }) => url);
      const sockets = [await user(t, here, "stored"), await user(t, there, "stored")];
      const all = sockets.map(record);
      await call(here, "POST", path(encodeURIComponent(channel), "subscribers"), { userId: "stored" }, service);
      const request = { unsubscribe: { channel, user: "stored" } };
      const once = JSON.stringify({ once: { id: "0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11", request } });
      for (let n = 0; n < 2; n += 1) {
        postgres.query(`INSERT INTO changes (topic, key) VALUES ('channel_ends', '${once}')`);
        await until(() => all.every(({ length }) => length === 1), () => JSON.stringify(all));
        assert.deepEqual(all, Array(2).fill([`${channel} unsubscribed`]));
      }
    });

    if (!start) test("follower that a service subscribed stays when the tables of the feed are read again", async (t) => {
      const channel = "rooms:again";
      const [here, there] = servers.map(({ url }) => url);
      const followed = await user(t, there, "again");
      const seen = record(followed);
      await call(here, "POST", path(channel, "subscribers"), { userId: "again" }, service);
      // More networks than a server blocks, so that the tables are read again every few seconds.
      t.after(() => postgres.query("DELETE FROM blocks WHERE reason = 'many'"));
      postgres.query(`INSERT INTO blocks SELECT gen_random_uuid(), '10.1.' || n / 250 || '.' || n % 250 || '/32', 'many', 'admin', now()
        FROM generate_series(0, 10000) n`);
      for (const name of ["once", "twice"]) {
        const revoked = await user(t, there, name);
        // The feed does not have this row.
        postgres.query(`SET session_replication_role = replica; INSERT INTO revocations
          VALUES ('user', '${name}', now() + interval '1 hour', now())`);
        await until(() => !revoked.connected, () => "the tables are not read again", 30_000);
      }
      await publish(here, channel, 1);
      await until(() => seen.length > 0, () => JSON.stringify(seen));
      assert.deepEqual(seen, [1]);
    });

    test("presence at each server has the followers of both", async (t) => {
      const channel = `desk:${name}`;
      backend.answer = yes();
      const [here, there] = servers.map(({ url }) => url);
      const sockets = [await user(t, here, "7"), await user(t, there, "7"), await user(t, there, "8")];
      for (const socket of sockets) await follow(socket, channel);
      await presenceIs(sockets[0], here, channel, "2,7 2,8 1");
      await presenceIs(sockets[1], there, channel, "2,7 2,8 1");
      sockets[1].disconnect();
      await presenceIs(sockets[0], here, channel, "2,7 1,8 1");
      await presenceIs(sockets[2], there, channel, "2,7 1,8 1");
    });

    test("service subscribes and unsubscribes the sockets of a user at both", async (t) => {
      const channel = `rooms:${name}`;
      const [here, there] = servers.map(({ url }) => url);
      const sockets = [await user(t, here, "7"), await user(t, there, "7"), await user(t, there, "8")];
      const all = sockets.map(record);
      const subscribed = Promise.all(sockets.slice(0, 2).map((socket) => next(socket, "channel:subscribed")));
      const added = await call(here, "POST", path(channel, "subscribers"), { userId: "7" }, service);
      assert.deepEqual(added, { status: 200, body: { subscribed: 2, missing: 0 } });
      for (const [answer] of await subscribed) {
        checkReceived("channel:subscribed", answer);
        assert.deepEqual([answer.channel, answer.events, answer.hasMore], [channel, [], false]);
      }
      const present = async () => briefly((await call(there, "GET", path(channel, "presence"), undefined, service)).body);
      await until(async () => (await present()) === "1,7 2", "both sockets in the list, which may be a second old");
      await publish(here, channel, 1);
      await until(() => all[0].length + all[1].length === 2, () => JSON.stringify(all));
      const removed = await call(there, "DELETE", path(channel, "subscribers/7"), undefined, service);
      assert.deepEqual(removed, { status: 200, body: { ended: 2, missing: 0 } });
      await until(() => all[0].length + all[1].length === 4, () => JSON.stringify(all));
      await publish(here, channel, 2);
      for (const socket of sockets) await settle(socket);
      assert.deepEqual(all, [[1, `${channel} unsubscribed`], [1, `${channel} unsubscribed`], []]);
    });

    test("list of channels adds up the figures of both", async (t) => {
      backend.answer = yes();
      const [here, there] = servers.map(({ url }) => url);
      const [channel, other] = [`shared:list-${name}`, `shared:other-${name}`];
      const followers = [[here, "20"], [there, "21"], [there, "22"]];
      for (const [url, sub] of followers) await follow(await user(t, url, sub), channel);
      await publish(there, channel, 1);
      await publish(here, channel, 2);
      await publish(there, other, 1);
      const bytes = JSON.stringify({ event: "changed", data: { n: 1 } }).length;
      const ours = ({ channel: listed }) => [channel, other].includes(listed);
      for (const url of [here, there]) {
        const [first, second] = (await listed(url, "shared", "?sort=bytes&limit=200")).filter(ours);
        const { eventsPerSecond, ...figures } = first;
        assert.deepEqual(figures, { channel, kind: "shared", room: `channel:${channel}`, followers: 3, history: { events: 2, bytes: 2 * bytes } });
        assert.deepEqual([second.channel, second.followers, second.history.events], [other, 0, 1]);
        assert.ok(eventsPerSecond > second.eventsPerSecond && second.eventsPerSecond > 0, JSON.stringify([first, second]));
        assert.deepEqual((await listed(url, "shared", "?sort=followers")).filter(ours).map(({ channel }) => channel), [channel, other]);
      }
    });

    test("events of a channel at both are watched until the right ends", async (t) => {
      const [here, there] = servers.map(({ url }) => url);
      const jti = `watcher-${name}`;
      const lines = await watch(t, here, `live:watched-${name}`, `Bearer ${token({ sub: "watcher", roles: ["service"], jti })}`);
      const stored = await watch(t, there, `shared:watched-${name}`);
      const steps = (of, step) => of.filter((line) => line.step === step);
      // Both servers take part from here on.
      for (const of of [lines, stored]) await until(() => steps(of, "tracing").length === 2, () => JSON.stringify(of));
      for (const [n, url] of [here, there].entries()) {
        await publish(url, `live:watched-${name}`, n);
        await publish(url, `live:another-${name}`, n);
        const position = await publish(url, `shared:watched-${name}`, n);
        await until(() => steps(stored, "published").length === n + 1, () => JSON.stringify(stored));
        const { at, node, ...line } = steps(stored, "published").at(-1);
        assert.deepEqual(line, { step: "published", channel: `shared:watched-${name}`, position, ...event(n) });
      }
      await until(() => steps(lines, "published").length === 2, () => JSON.stringify(lines));
      assert.deepEqual(steps(lines, "published").map(({ data }) => data.n).sort(), [0, 1]);
      assert.equal(new Set(steps(lines, "published").map(({ node }) => node)).size, 2);
      await call(here, "POST", "/api/v1/revocations", { jti }, service);
      await until(() => steps(lines, "ended").length === 1, () => JSON.stringify(lines));
      assert.match(steps(lines, "ended")[0].reason, /revoked/);
    });

    test("channel without a history sends events to followers of both", (t) => followsLive(t, servers, `live:${name}`));
  });
}

checksAll(import.meta.url);
