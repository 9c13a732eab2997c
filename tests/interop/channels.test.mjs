// Channels of an application with the official client: the code of docs/channels.md, over a
// connection that is lost, and both parsers.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import parser from "socket.io-msgpack-parser";
import { checkAnswered, checkReceived, checksAll } from "./catalog.mjs";
import { QUICK, disconnectLink, startLink } from "./link.mjs";
import { call, enter, io, server } from "./people.mjs";
import { ask, next, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const page = readFileSync(fileURLToPath(new URL("../../docs/channels.md", import.meta.url)), "utf8");
const [, declared] = /```toml\n(.*?)```/s.exec(page);
const [first, connecting, following] = [...page.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code);
const [, publishing] = /```sh\n(curl .*?)```/s.exec(page);
const service = token({ sub: "backend", roles: ["service"] });
const ORDER = "orders:7:42";
const RECOVERY = { ROOMCAST_RECOVERY__ENABLED: "true" };

/** Returns the list to which the first arguments of later events are added. */
function collect(socket, event) {
  const list = [];
  socket.on(event, (data) => list.push(data));
  return list;
}

async function must(socket, event, request) {
  const answer = await ask(socket, event, request);
  assert.equal(answer.success, true, JSON.stringify(answer));
  return answer;
}

/** Starts a server with the kind of the page. */
function withOrders(t, env = {}) {
  const folder = temporary();
  const schema = join(folder, "order.json");
  writeFileSync(schema, JSON.stringify({ type: "object", properties: { n: { type: "integer" }, status: { type: "string" } } }));
  const config = join(folder, "roomcast.toml");
  writeFileSync(config, declared.replace("schemas/order.json", schema).replace('"role:support"', '"role:support", "token"'));
  return server(t, { ROOMCAST_CONFIG: config, ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0", ...env });
}

async function publish(url, n, channel = ORDER) {
  const event = { event: "order:updated", data: { n }, id: `${n}` };
  const { status, body } = await call(url, "POST", `/api/v1/channels/${channel}/events`, event, `Bearer ${service}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body.position;
}

/**
 * Runs the code of the page that follows channels. `add` returns the list of what a channel shows.
 */
function pageOf(socket) {
  const held = [];
  let holds = false;
  const delayed = (act, delay, ...values) => (holds ? held.push(() => act(...values)) : setTimeout(act, delay, ...values));
  const run = new Function("socket", "setTimeout", `${following}\nreturn { addChannel, follow, channels };`);
  const { addChannel, follow, channels } = run(socket, delayed);
  return {
    add(channel) {
      const shown = [];
      addChannel(channel, (event, { n }) => shown.push(n), () => shown.push("forgotten"));
      return shown;
    },
    one: (channel) => channels.get(channel),
    follow: (channel) => follow(channels.get(channel)),
    held,
    holdTimers: () => (holds = true),
    releaseTimers() {
      holds = false;
      for (const act of held.splice(0)) act();
    },
  };
}

const customer = (t, url, options = {}) => enter(t, url, { auth: { token: token({ sub: "7", roles: ["user"] }) }, ...options });

describe("channels", () => {
  for (const [name, options, env] of [["JSON", {}, {}], ["MessagePack", { parser }, { ROOMCAST_ENGINE__PARSER: "messagepack" }]]) {
    test(`follower receives history and events with ${name}`, async (t) => {
      const { url } = await withOrders(t, env);
      const first = await publish(url, 1);
      const { socket } = await customer(t, url, options);
      const answer = await ask(socket, "channel:subscribe", { channel: ORDER });
      assert.deepEqual(answer.events.map(({ event, data, id }) => [event, data, id]), [["order:updated", { n: 1 }, "1"]]);
      assert.equal(answer.position, first);
      const received = next(socket, "order:updated");
      const position = await publish(url, 2);
      const [data, { timestamp, ...meta }] = await received;
      assert.deepEqual([data, meta], [{ n: 2 }, { channel: ORDER, position, id: "2" }]);
      assert.match(timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    });
  }

  test("the request of the page publishes to what its first code shows", async (t) => {
    const { url } = await withOrders(t);
    const { socket } = await customer(t, url);
    const shown = [];
    const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
    const follow = new AsyncFunction("socket", "show", "position", first);
    await follow(socket, (channel, order) => shown.push([channel, order]));
    const request = publishing.replaceAll("http://localhost:3000", url);
    assert.ok(request.includes(url));
    // The same request again is the same event.
    const run = () => JSON.parse(execFileSync("bash", ["-euc", request], { env: { ...process.env, TOKEN: service }, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
    const { position } = run();
    assert.deepEqual(run(), { position });
    const { events } = await must(socket, "channel:history", { channel: ORDER });
    assert.deepEqual(events.map(({ event, data, id }) => [event, data, id]), [["order:updated", { status: "shipped" }, "42-shipped"]]);
    assert.deepEqual(shown, [[ORDER, { status: "shipped" }]]);
  });

  test("the code of the page shows each order once and in order over lost connections", async (t) => {
    const { url } = await withOrders(t);
    const link = await startLink(url);
    t.after(() => link.close());
    const { socket } = await customer(t, link.url, QUICK);
    const other = "orders:7:43";
    const { add } = pageOf(socket);
    const [shown, shownOfOther] = [add(ORDER), add(other)];
    const isShown = (n) => until(() => shown.at(-1) === n, () => `${n} in ${JSON.stringify(shown)}`);
    for (let n = 1; n <= 90; n++) {
      await publish(url, n);
      if (n % 30 !== 0) continue;
      await isShown(n);
      await publish(url, n, other);
      await disconnectLink({ socket, link });
      await publish(url, ++n);
      link.restore();
      await isShown(n);
    }
    const last = 91;
    await isShown(last);
    assert.deepEqual(shown, Array.from({ length: last }, (_, i) => i + 1));
    await until(() => shownOfOther.length === 3, () => JSON.stringify(shownOfOther));
    assert.deepEqual(shownOfOther, [30, 60, 90]);
  });

  test("the code of the page ignores an answer to a request that the client has kept", async (t) => {
    const { url } = await withOrders(t, RECOVERY);
    const { socket } = await customer(t, url, QUICK);
    const { add, follow } = pageOf(socket);
    const shown = add(ORDER);
    await publish(url, 1);
    await until(() => shown.length === 1, "the first event");
    // The client finds its connection dead when it is to send the request, and keeps it.
    socket.io.engine._pingTimeoutTime = 1;
    const requests = [];
    socket.onAnyOutgoing((event) => requests.push(event));
    follow(ORDER);
    assert.deepEqual(requests, []);
    await publish(url, 2);
    await until(() => requests.length === 2 && socket.recovered, () => `two requests: ${requests}`);
    await until(() => shown.length >= 2, "the second event");
    await ask(socket, "channel:history", { channel: ORDER });
    assert.deepEqual(shown, [1, 2]);
  });

  test("the code of the page sends nothing while offline, and shows history once", async (t) => {
    const { url } = await withOrders(t, { ROOMCAST_LIMITS__CHANNEL_EVENTS_PER_MINUTE: "60" });
    const link = await startLink(url);
    t.after(() => link.close());
    const { socket } = await customer(t, link.url, QUICK);
    await publish(url, 1);
    let error;
    while (!error) ({ error } = await ask(socket, "channel:unsubscribe", { channel: ORDER }));
    assert.equal(error.code, "RATE_LIMITED");
    const page = pageOf(socket);
    page.holdTimers();
    const shown = page.add(ORDER);
    await until(() => page.held.length === 1, "the delay before another attempt");
    await disconnectLink({ socket, link });
    page.releaseTimers();
    assert.deepEqual(socket.sendBuffer, []);
    link.restore();
    await until(() => shown.length === 1, "the history");
    await publish(url, 2);
    await until(() => shown.length === 2, () => JSON.stringify(shown));
    assert.deepEqual(shown, [1, 2]);
  });

  test("the code of the page ignores earlier answers, and events before the answer", async (t) => {
    const { url } = await withOrders(t);
    await publish(url, 1);
    const link = await startLink(url);
    t.after(() => link.close());
    const { socket } = await customer(t, link.url, { transports: ["websocket"] });
    const page = pageOf(socket);
    const shown = page.add(ORDER);
    for (let attempt = 0; attempt < 3; attempt++) page.follow(ORDER);
    await until(() => page.one(ORDER).isFollowing, "the last answer");
    assert.deepEqual(shown, [1]);
    link.holdAnswers();
    await publish(url, 2);
    page.follow(ORDER);
    link.releaseAnswers();
    await until(() => page.one(ORDER).isFollowing, "another answer");
    await publish(url, 3);
    await until(() => shown.at(-1) === 3, () => JSON.stringify(shown));
    assert.deepEqual(shown, [1, 2, 3]);
  });

  test("the code of the page begins again if the channel has not reached its position", async (t) => {
    const { url } = await withOrders(t);
    for (let n = 1; n <= 3; n++) await publish(url, n);
    const { socket } = await customer(t, url);
    const page = pageOf(socket);
    const shown = page.add(ORDER);
    await until(() => shown.length === 3, "the history");
    const one = page.one(ORDER);
    one.position = one.position.replace(".3.", ".30.");
    const { error } = await ask(socket, "channel:subscribe", { channel: ORDER, since: one.position });
    assert.equal(error?.details.field, "since");
    page.follow(ORDER);
    await until(() => shown.length === 7, () => JSON.stringify(shown));
    assert.deepEqual(shown, [1, 2, 3, "forgotten", 1, 2, 3]);
  });

  test("the code of the page connects again with new tokens", async (t) => {
    const { url } = await withOrders(t, { ROOMCAST_AUTH__GUESTS: "false", ROOMCAST_AUTH__EXPIRING_LEAD: "60s" });
    const now = Math.floor(Date.now() / 1000);
    const of = (claims) => token({ sub: "7", ...claims });
    const sent = [undefined, of({ exp: now - 600 }), of({ exp: now + 60 }), of({ exp: now + 3600, jti: "own" }), of({ exp: now + 3600, jti: "last" })];
    let fetched = 0;
    const fetchToken = async () => sent[fetched++] ?? Promise.reject(new Error("the backend is down"));
    const timers = [];
    const values = { io, fetchToken, setTimeout: (act, delay) => timers.push([delay, act]) };
    const socket = new Function(...Object.keys(values), `${connecting.replace("http://localhost:3000", url)}\nreturn socket;`)(...Object.values(values));
    t.after(() => socket.disconnect());
    const refreshes = [];
    socket.onAnyOutgoing((...args) => refreshes.push(args));
    const timer = async (delay) => {
      await until(() => timers.length === 1, () => `a delay after ${fetched} tokens`);
      const [[found, act]] = timers.splice(0);
      assert.equal(found, delay);
      act();
    };
    // The first token was missing, and the second one has expired.
    await timer(10_000);
    await until(() => refreshes.length === 1, "the refresh of the third token");
    assert.deepEqual(refreshes, [["auth:refresh", { token: sent[3] }]]);
    await must(socket, "channel:subscribe", { channel: ORDER });
    const revoked = await call(url, "POST", "/api/v1/revocations", { jti: "own" }, `Bearer ${token({ sub: "root", roles: ["admin"] })}`);
    assert.equal(revoked.status, 200);
    await timer(1000);
    await until(() => socket.connected, "the last connection");
    assert.equal(fetched, sent.length);
  });

  test("the code of the page shows events in order that arrive with the answer", async (t) => {
    const { url } = await withOrders(t);
    await publish(url, 1);
    const link = await startLink(url);
    t.after(() => link.close());
    const { socket } = await customer(t, link.url, { transports: ["polling"] });
    // An event ends the poll of the client, so the server collects what follows for the next poll.
    link.holdAnswers();
    const held = await call(url, "POST", "/api/v1/emit", { event: "held", users: ["7"], args: [] }, `Bearer ${service}`);
    assert.equal(held.status, 200);
    const shown = pageOf(socket).add(ORDER);
    const path = `/api/v1/rooms/channel:${ORDER}`;
    await until(async () => (await call(url, "GET", path, undefined, `Bearer ${service}`)).body.sockets === 1, "the follower");
    for (let n = 2; n <= 4; n++) await publish(url, n);
    link.releaseAnswers();
    await until(() => shown.length === 4, () => JSON.stringify(shown));
    assert.deepEqual(shown, [1, 2, 3, 4]);
  });

  test("customer follows, reads, publishes and leaves, and loses a right in the end", async (t) => {
    const { url } = await withOrders(t, { ROOMCAST_CHANNELS__ORDERS__PUBLISH: "owner:{customer}" });
    const { socket } = await customer(t, url);
    const checked = async (event, request) => {
      const answer = await ask(socket, event, request);
      checkAnswered(event, request, answer);
      return answer;
    };
    const { position } = await checked("channel:publish", { channel: ORDER, event: "order:updated", data: { n: 1 }, id: "1" });
    assert.equal((await checked("channel:history", { channel: ORDER, limit: 1 })).position, position);
    await checked("channel:subscribe", { channel: ORDER, since: position });
    await checked("channel:unsubscribe", { channel: ORDER });
    await checked("channel:publish", { channel: ORDER, event: "order:updated", data: { n: 2 }, id: "2" });
    const missed = await checked("channel:subscribe", { channel: ORDER, since: position });
    assert.deepEqual(missed.events.map(({ data }) => data.n), [2]);
    const rights = { follow: "orders:8:{order}" };
    const short = token({ sub: "7", exp: Math.floor(Date.now() / 1000) + 3, channel: rights });
    const follow = { channel: "orders:8:1", token: short };
    await checked("channel:subscribe", follow);
    const [ended] = await next(socket, "channel:ended");
    assert.deepEqual(ended, { channel: "orders:8:1", reason: "expired" });
    checkReceived("channel:ended", ended);
  });

  test("follower leaves when its token is revoked, also while it is away", async (t) => {
    const { url } = await withOrders(t, RECOVERY);
    const link = await startLink(url);
    t.after(() => link.close());
    const exp = Math.floor(Date.now() / 1000) + 60;
    const follow = (jti) => ({ channel: "orders:8:1", token: token({ sub: "7", jti, exp, channel: { follow: "orders:8:1" } }) });
    const revoke = async (jti) => {
      const admin = `Bearer ${token({ sub: "root", roles: ["admin"] })}`;
      const { status } = await call(url, "POST", "/api/v1/revocations", { jti }, admin);
      assert.equal(status, 200);
      await publish(url, jti.length, "orders:8:1");
    };
    const { socket } = await customer(t, link.url, QUICK);
    const shown = collect(socket, "order:updated");
    await must(socket, "channel:subscribe", follow("a"));
    let ended = next(socket, "channel:ended");
    await revoke("a");
    const expected = { channel: "orders:8:1", reason: "forbidden" };
    assert.deepEqual((await ended)[0], expected);
    await must(socket, "channel:subscribe", follow("bb"));
    await disconnectLink({ socket, link });
    await revoke("bb");
    ended = next(socket, "channel:ended");
    link.restore();
    assert.deepEqual((await ended)[0], expected);
    assert.ok(socket.recovered);
    assert.deepEqual(shown, []);
  });

  test("follower that is recovered without a claim receives nothing that it missed", async (t) => {
    const { url } = await withOrders(t, { ...RECOVERY, ROOMCAST_CHANNELS__ORDERS__FOLLOW: "claim:customers={customer}" });
    const link = await startLink(url);
    t.after(() => link.close());
    const claims = { sub: "9", customers: ["7"] };
    const { socket } = await enter(t, link.url, { auth: (send) => send({ token: token(claims) }), ...QUICK, transports: ["websocket"] });
    const shown = collect(socket, "order:updated");
    await must(socket, "channel:subscribe", { channel: ORDER });
    for (const [n, customers, isRecovered] of [[1, ["7"], true], [2, ["8"], false]]) {
      await disconnectLink({ socket, link });
      claims.customers = customers;
      await publish(url, n);
      const connected = next(socket, "connect");
      link.restore();
      await connected;
      assert.equal(socket.recovered, isRecovered);
    }
    const refused = await ask(socket, "channel:subscribe", { channel: ORDER });
    assert.equal(refused.error.code, "NOT_FOUND");
    assert.deepEqual(shown, [{ n: 1 }]);
  });

  test("follower whose token ends while it is away receives nothing later", async (t) => {
    const { url } = await withOrders(t, RECOVERY);
    const link = await startLink(url);
    t.after(() => link.close());
    const { socket } = await customer(t, link.url, QUICK);
    const short = token({ sub: "7", exp: Math.floor(Date.now() / 1000) + 3, channel: { follow: "orders:8:{order}" } });
    await must(socket, "channel:subscribe", { channel: "orders:8:1", token: short });
    const shown = collect(socket, "order:updated");
    await disconnectLink({ socket, link });
    await sleep(4000);
    await publish(url, 1, "orders:8:1");
    const ended = next(socket, "channel:ended");
    link.restore();
    assert.deepEqual((await ended)[0], { channel: "orders:8:1", reason: "expired" });
    assert.ok(socket.recovered);
    assert.deepEqual(shown, []);
  });

  test("follower that is away learns of removed events although another one follows again", async (t) => {
    const store = join(temporary(), "chat.db");
    const { url } = await withOrders(t, { ...RECOVERY, ROOMCAST_STORE: `sqlite:${store}` });
    const link = await startLink(url);
    t.after(() => link.close());
    const { socket: away } = await customer(t, link.url, QUICK);
    const { socket: present } = await customer(t, url);
    for (const socket of [away, present]) await must(socket, "channel:subscribe", { channel: ORDER });
    const received = next(away, "order:updated");
    const position = await publish(url, 1);
    await received;
    const shown = collect(away, "order:updated");
    await disconnectLink({ socket: away, link });
    const skip = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute(\"UPDATE journals SET revision = revision + 3 WHERE name LIKE 'channel:%'\"); d.commit()";
    execFileSync("python3", ["-c", skip, store]);
    let ended = next(present, "channel:ended");
    await publish(url, 5);
    assert.deepEqual((await ended)[0], { channel: ORDER, reason: "interrupted" });
    const again = await must(present, "channel:subscribe", { channel: ORDER, since: position });
    assert.equal(again.forgotten, true);
    await publish(url, 6);
    ended = next(away, "channel:ended");
    link.restore();
    assert.deepEqual((await ended)[0], { channel: ORDER, reason: "interrupted" });
    assert.ok(away.recovered);
    assert.deepEqual(shown, []);
    const missed = await must(away, "channel:subscribe", { channel: ORDER, since: position });
    assert.deepEqual([missed.forgotten, missed.events.map(({ data }) => data.n)], [true, [1, 5, 6]]);
  });
});

checksAll(import.meta.url);
