// Symptoms of docs/troubleshooting.md that clients cause or report, each with the stock client.
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { QUICK } from "./link.mjs";
import { LOBBY, call, enter, io, logged, server } from "./people.mjs";
import { launch } from "./processes.mjs";
import { ask, metric, next, open, until } from "./support.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const FORBIDDEN = 'roomcast_requests_rejected_total{reason="forbidden"}';

const join = async (socket) => assert.equal((await ask(socket, "join_conversation", { conversationId: LOBBY })).success, true);

/** Sends a message, and returns it as it was stored. */
async function say(socket, content) {
  const answer = await ask(socket, "message", { conversationId: LOBBY, content });
  assert.equal(answer.success, true);
  return answer.message;
}

/** Returns the messages of the lobby as the HTTP API lists them. */
async function stored(url, count) {
  const { status, body } = await call(url, "GET", `/api/v1/conversations/${LOBBY}/messages?limit=${count}`);
  assert.equal(status, 200);
  return body.messages;
}

describe("symptoms", { concurrency: true }, () => {
  test("a refused client prints nothing; its debug lines name the error", async (t) => {
    const started = await server(t);
    const options = { extraHeaders: { origin: "https://other.example" }, transports: ["polling"], reconnectionDelay: 20, reconnectionDelayMax: 50 };
    const page = `import { io } from "socket.io-client"; io(${JSON.stringify(started.url)}, ${JSON.stringify(options)});`;
    const run = (DEBUG) => {
      const program = launch(process.execPath, ["--input-type=module", "--eval", page], { env: { DEBUG }, cwd: here });
      t.after(() => program.kill());
      return program;
    };
    const silent = run("");
    // It retries again and again.
    await until(async () => (await metric(started.url, FORBIDDEN)) >= 3, "three refused attempts");
    assert.ok(silent.isRunning());
    silent.kill();
    await silent.ended;
    assert.equal(silent.output(), "");
    await logged(started, /request refused.*origin not allowed/);

    const before = await metric(started.url, FORBIDDEN);
    const debugged = run("socket.io-client:*,engine.io-client:*");
    const error = await debugged.found((line) => /engine\.io-client:socket socket error (.*)/.exec(line)?.[1], "name the error");
    const { type, description, context } = JSON.parse(error);
    assert.deepEqual([type, description, context.responseText], ["TransportError", 403, '{"code":4,"message":"Forbidden"}']);
    await debugged.found((line) => /socket\.io-client:manager will wait \d+ms before reconnect attempt/.exec(line)?.[0], "retry");
    assert.ok((await metric(started.url, FORBIDDEN)) > before);
  });

  test("a client that its namespace refused retries only after connect()", async (t) => {
    const { url } = await server(t);
    const attempts = (socket) => {
      const seen = [];
      socket.io.on("reconnect_attempt", (n) => seen.push(n));
      return seen;
    };
    const socket = open(t, io, url, { ...QUICK, auth: { token: "expired" } });
    const repeated = attempts(socket);
    const [error] = await next(socket, "connect_error");
    assert.equal(error.message, "unauthorized");
    assert.equal(socket.active, false);
    // A client that reaches no server retries in the same time.
    const other = open(t, io, "http://127.0.0.1:9", QUICK);
    const tried = attempts(other);
    await next(other, "connect_error");
    assert.equal(other.active, true);
    await until(() => tried.length >= 10, () => `ten attempts after ${tried.length}`);
    assert.deepEqual(repeated, []);
    const counted = () => Promise.all(['roomcast_auth_refused_total{reason="malformed"}', "roomcast_sockets_refused_total", "roomcast_sockets_connected_total"].map((row) => metric(url, row)));
    assert.deepEqual(await counted(), [1, 1, 0]);
    socket.auth = { name: "Ann" };
    socket.connect();
    await next(socket, "session");
    assert.deepEqual(await counted(), [1, 1, 1]);
  });

  test("a client that gets no ping disconnects with ping timeout", async (t) => {
    const [interval, timeout] = [500, 3_000];
    const started = await server(t, { ROOMCAST_ENGINE__PING_INTERVAL: `${interval}ms`, ROOMCAST_ENGINE__PING_TIMEOUT: `${timeout}ms` });
    const clients = await Promise.all(
      ["polling", "websocket"].map(async (transport) => {
        const { socket } = await enter(t, started.url, { ...QUICK, auth: { name: transport }, transports: [transport] });
        const client = { socket, pinged: 0, disconnects: [] };
        socket.on("disconnect", (reason) => client.disconnects.push(reason));
        socket.io.on("ping", () => (client.pinged = Date.now()));
        for (let n = 0; n < 3; n++) await next(socket.io, "ping");
        return client;
      }),
    );
    assert.deepEqual(clients.flatMap(({ disconnects }) => disconnects), []);
    const lost = clients.map(({ socket }) => next(socket, "disconnect"));
    await started.pause();
    t.after(() => started.resume());
    for (const [n, { pinged }] of clients.entries()) {
      const [reason] = await lost[n];
      assert.equal(reason, "ping timeout");
      assert.ok(Date.now() - pinged >= interval + timeout - 50, `${Date.now() - pinged} ms`);
    }
    const back = clients.map(({ socket }) => next(socket, "connect"));
    started.resume();
    await Promise.all(back);
  });

  test("an answer can arrive after later events; sorting by seq mends it", async (t) => {
    const { url } = await server(t);
    const [ann, bob] = await Promise.all(["Ann", "Bob"].map(async (name) => (await enter(t, url, { auth: { name }, transports: ["websocket"] })).socket));
    await join(ann);
    await join(bob);
    /** What Ann's page shows, in order of arrival: own messages when they are acknowledged. */
    const shown = [];
    const events = [];
    ann.on("message", ({ seq }) => {
      shown.push(seq);
      events.push(seq);
    });
    const ascending = (list) => list.every((seq, n) => n === 0 || seq > list[n - 1]);
    let sent = 0;
    const talk = async () => {
      const turn = async (n) => Promise.all([say(ann, `ann ${n}`).then(({ seq }) => shown.push(seq)), say(bob, `bob ${n}`)]);
      await Promise.all(Array.from({ length: 50 }, (_, n) => turn(n)));
      sent += 100;
      await until(() => shown.length === sent, () => `${shown.length} of ${sent} messages`);
      return !ascending(shown);
    };
    await until(talk, "a message that is shown above an earlier one");
    assert.ok(ascending(events));
    const order = Array.from({ length: sent }, (_, n) => n + 1);
    assert.notDeepEqual(shown, order);
    assert.deepEqual(shown.toSorted((a, b) => a - b), order);
    // The history has the right order.
    const last = (await stored(url, 50)).map(({ seq }) => seq);
    assert.deepEqual(last, order.slice(-50));
  });

  test("a handler registered in connect runs twice after a reconnect", async (t) => {
    const { url } = await server(t);
    const socket = open(t, io, url, { ...QUICK, auth: { name: "Ann" } });
    const inside = [];
    const outside = [];
    socket.on("connect", () => socket.on("message", ({ id }) => inside.push(id)));
    socket.on("message", ({ id }) => outside.push(id));
    await next(socket, "session");
    await join(socket);
    const { socket: bob } = await enter(t, url, { auth: { name: "Bob" } });
    await join(bob);
    const receive = async (content) => {
      const received = next(socket, "message");
      const { id } = await say(bob, content);
      await received;
      return id;
    };
    const first = await receive("one");
    assert.deepEqual(inside, [first]);
    const back = next(socket, "session");
    socket.io.engine.close();
    await back;
    await join(socket);
    const second = await receive("two");
    assert.deepEqual(inside, [first, second, second]);
    assert.deepEqual(outside, [first, second]);
    // One row shown twice is the client.
    assert.deepEqual((await stored(url, 50)).map(({ id }) => id), [first, second]);
  });
});
