// Webhooks of the real server, received by a real HTTP server and verified as described in
// docs/webhooks.md.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { LOBBY, admin, call, enter, io, keyed, logged, server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { ask, command, metric, open, startServer, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const SECRET = "a secret of webhooks";
const OLDER = "the secret before it";

/**
 * Starts a receiver that records requests. `answer` takes the number of the request and the
 * response; the default answers 204.
 */
async function receiver(t, answer = (_, response) => response.writeHead(204).end()) {
  const requests = [];
  const http = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      requests.push({ headers: request.headers, body, json: JSON.parse(body), method: request.method });
      answer(requests.length, response);
    });
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  const events = () => requests.flatMap(({ json }) => json.events);
  return { url: `http://127.0.0.1:${http.address().port}/hooks`, requests, events };
}

const hooked = (url, events, env = {}) => ({
  ROOMCAST_WEBHOOKS__URL: url,
  ROOMCAST_WEBHOOKS__SECRET: SECRET,
  ROOMCAST_WEBHOOKS__EVENTS: events,
  ROOMCAST_WEBHOOKS__ALLOW_PRIVATE: "true",
  ROOMCAST_WEBHOOKS__RETRY_DELAY: "20ms",
  ROOMCAST_WEBHOOKS__TIMEOUT: "30s",
  ...env,
});

/** Publishes a signal, which causes a webhook. */
async function publish(url, signalId) {
  const signal = { signalId, providerId: "p", providerName: "P", symbol: "AAPL", action: "buy", confidence: 50 };
  const { status } = await call(url, "POST", "/api/v1/signals", signal);
  assert.equal(status, 200);
}

/** Returns the names of all webhooks that are no client events, from the server's source. */
function serverEvents() {
  const source = readFileSync(new URL("../../server/src/service/hooks/mod.rs", import.meta.url), "utf8");
  const [, list] = /const SERVER_EVENTS: [^=]*= \[([^\]]*)\]/.exec(source);
  return [...list.matchAll(/"([^"]+)"/g)].map(([, event]) => event);
}

const count = (url, row) => metric(url, `roomcast_webhook_${row}`);

describe("webhooks", () => {
  test("report connections, rooms, events of clients and publications", async (t) => {
    const hook = await receiver(t);
    const events = "connect,disconnect,room:occupied,room:vacated,message,signal:new";
    const { url } = await server(t, hooked(hook.url, events, { ROOMCAST_WEBHOOKS__ROOMS: "conversation:*" }));
    const { socket } = await enter(t, url, { auth: { name: "Ann" } });
    await ask(socket, "join_conversation", { conversationId: LOBBY });
    const sent = await ask(socket, "message", { conversationId: LOBBY, content: "hello" });
    const refused = await ask(socket, "message", { conversationId: LOBBY, content: "" });
    assert.deepEqual([sent.success, refused.success], [true, false]);
    await publish(url, "s1");
    const { id } = socket;
    socket.disconnect();
    await until(() => hook.events().length >= 6, "six events");
    const reported = Object.fromEntries(hook.events().map(({ event, data }) => [event, data]));
    assert.deepEqual(Object.keys(reported).sort(), events.split(",").sort());
    assert.deepEqual([reported.connect.socketId, reported.connect.guest, reported.connect.recovered], [id, true, false]);
    assert.deepEqual([reported.disconnect.socketId, reported.disconnect.reason], [id, "client namespace disconnect"]);
    assert.deepEqual(reported["room:occupied"], { room: `conversation:${LOBBY}` });
    assert.deepEqual(reported["room:vacated"], { room: `conversation:${LOBBY}` });
    const { success, ...answer } = sent;
    assert.deepEqual([reported.message.payload.content, reported.message.answer], ["hello", answer]);
    assert.deepEqual([reported["signal:new"].signalId, reported["signal:new"].revision], ["s1", 1]);
    for (const { headers, json, method } of hook.requests) {
      assert.equal(method, "POST");
      assert.match(json.id, /^[0-9a-f-]{36}$/);
      assert.equal(headers["roomcast-delivery"], json.id);
      assert.equal(headers["idempotency-key"], json.id);
      assert.ok(json.node);
    }
    assert.equal(new Set(hook.events().map(({ id }) => id)).size, 6);
  });

  test("report that a member asks the author of a message to stop", async (t) => {
    const hook = await receiver(t);
    const { url } = await server(t, hooked(hook.url, "stop_message"));
    const { socket } = await enter(t, url, { auth: { token: token({ sub: "ann", roles: ["user"] }) } });
    const { conversation } = await ask(socket, "create_conversation", { title: "Engines", memberIds: [] });
    const begun = await ask(socket, "begin_message", { conversationId: conversation.id, clientMessageId: "m1" });
    const messageId = begun.message.id;
    assert.equal((await ask(socket, "stop_message", { messageId })).success, true);
    await until(() => hook.events().length === 1, "the event");
    const [{ event, data }] = hook.events();
    assert.deepEqual([event, data.userId, data.payload], ["stop_message", "ann", { messageId }]);
  });

  test("report all other changes, and notifications also of mentions", async (t) => {
    const hook = await receiver(t);
    const { url } = await server(t, hooked(hook.url, serverEvents().join()));
    const auth = { token: token({ sub: "ann", roles: ["user"] }) };
    const { socket } = await enter(t, url, { auth });
    const { conversation } = await ask(socket, "create_conversation", { title: "Engines", memberIds: ["bob", "carl"] });
    await ask(socket, "join_conversation", { conversationId: conversation.id });
    const mention = { conversationId: conversation.id, content: "look", mentions: ["bob", "carl"], clientMessageId: "m1" };
    const sent = await ask(socket, "message", mention);
    // The repeated message stores nothing more.
    assert.equal((await ask(socket, "message", mention)).message.id, sent.message.id);
    const trade = { tradeId: "t1", userId: "ann", symbol: "AAPL", side: "sell", status: "executed", executedPrice: 7, quantity: 2 };
    const notice = { notificationId: "n1", userId: "ann", type: "info", priority: "low", title: "T", message: "M" };
    for (const [path, body] of [
      ["/trades", trade],
      ["/portfolios", { userId: "ann", totalValue: 5, cash: 5, positions: [] }],
      ["/notifications", notice],
    ]) {
      // A repeated publication causes no second webhook.
      for (let times = 0; times < (path === "/portfolios" ? 1 : 2); times += 1) {
        const { status, body: answer } = await call(url, "POST", `/api/v1${path}`, body);
        assert.equal(status, 200, JSON.stringify(answer));
      }
    }
    await publish(url, "s1");
    socket.disconnect();
    const reported = (event) => hook.events().filter((one) => one.event === event).map(({ data }) => data);
    await until(() => reported("disconnect").length > 0, () => JSON.stringify(hook.events()));
    assert.deepEqual([reported("connect")[0].userId, reported("disconnect")[0].userId], ["ann", "ann"]);
    const room = `conversation:${conversation.id}`;
    for (const event of ["room:occupied", "room:vacated"]) assert.ok(reported(event).some((data) => data.room === room), event);
    const [{ timestamp, ...update }, ...more] = reported("trade:update");
    assert.match(timestamp, /Z$/);
    assert.deepEqual([update, more], [{ ...trade, revision: 1 }, []]);
    const [{ userId, totalValue, positions, revision }] = reported("portfolio:update");
    assert.deepEqual([userId, totalValue, positions, revision], ["ann", 5, [], 1]);
    assert.deepEqual(reported("signal:new").map(({ signalId }) => signalId), ["s1"]);
    const mentioned = `mention:${sent.message.id}`;
    await until(() => reported("notification:new").length >= 3, () => JSON.stringify(hook.events()));
    assert.deepEqual(
      reported("notification:new").map((one) => [one.userId, one.notificationId, one.title, one.revision]).sort(),
      [
        ["ann", "n1", "T", 1],
        ["bob", mentioned, "ann mentioned you", 1],
        ["carl", mentioned, "ann mentioned you", 1],
      ],
    );
    // Withdrawals, each of which is repeated and causes one webhook.
    await call(url, "POST", "/api/v1/trades", { ...trade, tradeId: "t2", status: "failed", executedPrice: null });
    await call(url, "POST", "/api/v1/notifications", { ...notice, notificationId: "n2" });
    for (const [method, path, body] of [
      ["DELETE", "/trades/t2", undefined],
      ["DELETE", "/signals/s1", undefined],
      ["POST", "/notifications/withdraw", { notificationId: "n2", userId: "ann" }],
    ]) {
      const place = path.startsWith("/trades") ? `/users/ann${path}` : path;
      for (let times = 0; times < 2; times += 1) {
        const { status, body: answer } = await call(url, method, `/api/v1${place}`, body);
        assert.equal(status, 200, JSON.stringify(answer));
      }
    }
    await until(() => serverEvents().every((event) => reported(event).length > 0), () => JSON.stringify(hook.events()));
    assert.deepEqual(reported("trade:withdrawn").map(({ tradeId }) => tradeId), ["t2"]);
    assert.deepEqual(reported("signal:withdrawn").map(({ signalId }) => signalId), ["s1"]);
    assert.deepEqual(reported("notification:withdrawn").map((one) => [one.userId, one.notificationId, one.reason]), [["ann", "n2", "withdrawn"]]);
  });

  test("pass the documented verification examples with either of two secrets", async (t) => {
    const folder = temporary();
    const text = readFileSync(new URL("../../docs/webhooks.md", import.meta.url), "utf8");
    const example = (language) => new RegExp(`\`\`\`${language}\n((?:import|export)[^]*?)\`\`\``).exec(text)[1];
    writeFileSync(join(folder, "verify.mjs"), example("js"));
    writeFileSync(join(folder, "verify.py"), example("python"));
    const { verify } = await import(join(folder, "verify.mjs"));
    const inPython = (secret, signature, body, now) => {
      const program = [
        "import sys, verify",
        "secret, signature, now = sys.argv[1:]",
        "print(verify.verify(secret, signature, sys.stdin.buffer.read(), float(now)))",
      ].join("\n");
      const run = spawnSync("python3", ["-c", program, secret, signature, String(now)], { cwd: folder, input: body });
      assert.equal(run.status, 0, String(run.stderr));
      return String(run.stdout).trim() === "True";
    };
    const hook = await receiver(t);
    const { url } = await server(t, hooked(hook.url, "signal:new", { ROOMCAST_WEBHOOKS__PREVIOUS_SECRET: OLDER }));
    await publish(url, "ü");
    await until(() => hook.requests.length > 0, "a delivery");
    const [{ headers, body }] = hook.requests;
    const signature = headers["roomcast-signature"];
    const now = Date.now() / 1000;
    assert.match(signature, /^t=\d+,v1=[0-9a-f]{64},v1=[0-9a-f]{64}$/);
    const other = Buffer.concat([body, Buffer.from(" ")]);
    for (const [secret, given, what, time, expected] of [
      [SECRET, signature, body, now, true],
      [OLDER, signature, body, now, true],
      ["somebody else's", signature, body, now, false],
      [SECRET, signature, other, now, false],
      [SECRET, signature, body, now + 600, false],
      [SECRET, signature.replace(/^t=\d/, "t=2"), body, now, false],
      [SECRET, "", body, now, false],
      [SECRET, "v1=,t=", body, now, false],
    ]) {
      assert.equal(verify(secret, given, what, time), expected, `${secret} ${given}`);
      assert.equal(inPython(secret, given, what, time), expected, `${secret} ${given}, in Python`);
    }
  });

  test("are sent again under the same id until a 2xx answer, not after 410", async (t) => {
    const elsewhere = await receiver(t);
    const answers = [
      (response) => response.writeHead(500).end(),
      (response) => response.writeHead(302, { location: elsewhere.url }).end(),
      (response) => response.writeHead(307, { location: "/hooks" }).end(), // To itself, for ever.
      (response) => response.writeHead(404).end(),
      (response) => response.destroy(),
      (response) => response.socket.end("what?\r\n\r\n"),
      () => {}, // Never answers.
      (response) => response.write("a header that never ends") && response.socket.write("x"),
    ];
    const hook = await receiver(t, (n, response) => {
      if (answers[n - 1]) return answers[n - 1](response);
      // A response without an end: its status counts.
      response.writeHead(200);
      const pour = () => response.write("x".repeat(1 << 16), () => response.destroyed || pour());
      pour();
    });
    const { url } = await server(t, hooked(hook.url, "signal:new", { ROOMCAST_WEBHOOKS__TIMEOUT: "5s" }));
    await publish(url, "s1");
    await until(async () => (await count(url, 'deliveries_total{result="delivered"}')) === 1, "a delivery");
    assert.equal(elsewhere.requests.length, 0);
    // The last response started with status 200, which suffices.
    assert.equal(hook.requests.length, answers.length);
    assert.equal(new Set(hook.requests.map(({ json }) => json.id)).size, 1);
    assert.equal(await count(url, 'deliveries_total{result="repeated"}'), answers.length - 1);

    const gone = await receiver(t, (_, response) => response.writeHead(410).end());
    const second = await server(t, hooked(gone.url, "signal:new"));
    await publish(second.url, "s1");
    await until(async () => (await count(second.url, 'deliveries_total{result="gone"}')) === 1, "410 to be counted");
    await publish(second.url, "s2");
    await until(async () => (await count(second.url, 'deliveries_total{result="gone"}')) === 2, "410 to be counted");
    assert.deepEqual(gone.events().map(({ data }) => data.signalId), ["s1", "s2"]);
  });

  test("survive a restart, and are dropped when they are too old", async (t) => {
    let isUp = false;
    const hook = await receiver(t, (_, response) => response.writeHead(isUp ? 204 : 503).end());
    const store = `sqlite:${join(temporary(), "chat.db")}`;
    const env = { ...keyed, ROOMCAST_STORE: store, ...hooked(hook.url, "signal:new,disconnect") };
    const first = await startServer(env);
    const { socket } = await enter(t, first.url, { auth: { name: "Ann" }, reconnection: false });
    await publish(first.url, "s1");
    await until(() => hook.requests.length > 0, "an attempt");
    const [{ json: tried }] = hook.requests;
    await first.stop();
    isUp = true;
    const second = await startServer(env);
    t.after(() => second.stop());
    await until(() => hook.events().some(({ event }) => event === "disconnect"), "what was told by a server that stops");
    await until(() => hook.requests.filter(({ json }) => json.id === tried.id).length > 1, "the same delivery");
    assert.ok(!socket.connected);

    isUp = false;
    const third = await server(t, hooked(hook.url, "signal:new", { ROOMCAST_WEBHOOKS__MAX_AGE: "50ms" }));
    await publish(third.url, "s2");
    await until(async () => (await count(third.url, 'deliveries_total{result="expired"}')) === 1, "one to expire");
  });

  test("that are too many or too large are counted and not sent", async (t) => {
    const hook = await receiver(t, () => {});
    const env = { ROOMCAST_WEBHOOKS__QUEUE: "2", ROOMCAST_WEBHOOKS__BATCH: "1", ROOMCAST_CHAT__CONTENT_CHARS: "100000" };
    const { url } = await server(t, hooked(hook.url, "signal:new,message", env));
    for (const id of ["s1", "s2", "s3", "s4"]) await publish(url, id);
    const dropped = 'events_total{result="dropped"}';
    await until(async () => (await count(url, dropped)) === 2, "two to be dropped");
    assert.equal(await count(url, 'events_total{result="queued"}'), 2);
    // An event of more than 64 KiB is not sent: this one has 80,000 bytes.
    const { socket } = await enter(t, url, { auth: { name: "Ann" } });
    await ask(socket, "join_conversation", { conversationId: LOBBY });
    const sent = await ask(socket, "message", { conversationId: LOBBY, content: "ü".repeat(40_000) });
    assert.equal(sent.success, true);
    await until(async () => (await count(url, 'events_total{result="too_large"}')) === 1, "one too large");
    assert.equal(await count(url, dropped), 2);
    assert.ok(hook.events().every(({ event }) => event === "signal:new"));
  });

  test("do not go to private addresses unless that is allowed", async (t) => {
    const hook = await receiver(t);
    const to = hook.url.replace("http:", "https:");
    for (const host of ["127.0.0.1", "localhost", "169.254.169.254", "[::1]"]) {
      const env = hooked(to.replace("127.0.0.1", host), "signal:new", { ROOMCAST_WEBHOOKS__ALLOW_PRIVATE: "false" });
      const started = await server(t, env);
      await publish(started.url, "s1");
      await logged(started, /a webhook was not accepted.*its address is not on the public internet/);
    }
    assert.equal(hook.requests.length, 0);
  });

  test("with invalid settings are refused at startup", () => {
    const url = "https://app.example/";
    for (const [env, why] of [
      [hooked(url, "conect"), /unknown event `conect`/],
      [hooked(url, "join_invite"), /secrets/],
      [hooked("http://app.example/", "connect", { ROOMCAST_WEBHOOKS__ALLOW_PRIVATE: "false" }), /webhooks\.allow_private/],
      [{ ROOMCAST_WEBHOOKS__URL: url }, /webhooks\.secret/],
    ]) {
      const run = command(["check-config"], env);
      assert.notEqual(run.status, 0);
      assert.match(run.stdout + run.stderr, why);
    }
  });
});

describe("webhooks of two servers of one database", () => {
  let postgres;
  before(async () => (postgres = await startPostgres()));
  after(() => postgres?.end());

  test("are each sent by one server, also if the other one left them pending", async (t) => {
    // No request is answered before both servers have sent one, so that neither has sent everything
    // before the other starts.
    const held = [];
    const hook = await receiver(t, (_, response) => {
      held.push(response);
      if (new Set(hook.requests.map(({ json }) => json.node)).size === 2) for (const one of held.splice(0)) one.writeHead(204).end();
    });
    const env = { ROOMCAST_STORE: postgres.url, ...hooked(hook.url, "connect,signal:new", { ROOMCAST_WEBHOOKS__BATCH: "1" }) };
    const servers = [await server(t, env), await server(t, env)];
    const ids = [];
    for (let i = 0; i < 40; i++) ids.push(`s${i}`);
    await Promise.all(ids.map((id, i) => publish(servers[i % 2].url, id)));
    for (const { url } of servers) open(t, io, url, { auth: { name: "Ann" } });
    await until(() => hook.events().length >= 42, "all of them");
    const signals = hook.events().filter(({ event }) => event === "signal:new");
    assert.deepEqual(signals.map(({ data }) => data.signalId).sort(), [...ids].sort());
    assert.equal(hook.events().length, 42);
    assert.equal(new Set(hook.requests.map(({ json }) => json.id)).size, 42);
    assert.equal(new Set(hook.requests.map(({ json }) => json.node)).size, 2);

    // A server is killed during its request: its lease expires, and the other continues.
    const first = [];
    const slow = await receiver(t, (n, response) => {
      first.push(n);
      if (n > 1) response.writeHead(204).end();
    });
    // Its lease is ten seconds longer than its timeout.
    const other = { ...env, ...hooked(slow.url, "signal:new", { ROOMCAST_WEBHOOKS__TIMEOUT: "1s" }) };
    const killed = await startServer({ ...keyed, ...other });
    await publish(killed.url, "killed");
    await until(() => slow.requests.length === 1, "an attempt");
    await killed.stop("SIGKILL");
    const left = await server(t, other);
    await until(() => slow.requests.length === 2 || hook.events().some(({ data }) => data.signalId === "killed"), "another attempt");
    assert.ok(left.url);
  });
});
