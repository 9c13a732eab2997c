// Attacks on the server itself: its log, its chat, its API. A stock client must keep working.
// Responses to raw bytes over HTTP and polling are tested in tests/server/hostile/a.
import assert from "node:assert/strict";
import { connect as dial } from "node:net";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LOBBY, call, enter, io, keyed, logged, server } from "./people.mjs";
import { ask, next, open, startServer, within } from "./support.mjs";
import { token } from "./tokens.mjs";

const PATH = "/socket.io/?EIO=4&transport=polling";
let started;
let url;
let bystander;

before(async () => {
  started = await startServer({
    ...keyed,
    ROOMCAST_LOG__LEVEL: "trace",
    ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS: "0",
    ROOMCAST_LIMITS__CONNECTIONS_PER_USER: "0",
    ROOMCAST_LIMITS__BLOCK_AFTER: "0",
    ROOMCAST_RECOVERY__ENABLED: "true",
    ALLOWED_ORIGINS: "https://app.example",
  });
  url = started.url;
  bystander = io(url, { forceNew: true, reconnection: false, transports: ["websocket"], auth: { token: token() } });
  await next(bystander, "session");
  await ask(bystander, "join_conversation", LOBBY);
});

// A bystander is not affected by the attack.
afterEach(async () => {
  const answer = await ask(bystander, "message", { conversationId: LOBBY, content: "still here" });
  assert.equal(answer.success, true, JSON.stringify(answer));
});

after(async () => {
  bystander.disconnect();
  assert.equal(await started.stop(), 0);
});

/** Sends bytes in pieces, and returns everything that is answered until the server closes. */
function raw(...pieces) {
  const { hostname, port } = new URL(url);
  const answered = new Promise((done) => {
    const socket = dial(Number(port), hostname);
    let answer = "";
    socket.setEncoding("latin1");
    socket.on("data", (data) => (answer += data));
    socket.on("error", () => {});
    socket.on("close", () => done(answer));
    for (const piece of pieces) socket.write(piece, "latin1");
  });
  return within(answered, `the end of ${String(pieces[0]).slice(0, 80)}`);
}

const request = (method, target, headers = "", body = "") =>
  raw(`${method} ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n${body}`);

/** Returns the status of an answer, and the code of its error. */
function read(answer) {
  const status = Number(/^HTTP\/1\.1 (\d+) /.exec(answer)?.[1]);
  const code = /"code":(\d)/.exec(answer)?.[1];
  return [status, code && Number(code)];
}

/** Opens a polling session that has joined the namespace. */
async function session() {
  const handshake = await (await fetch(url + PATH)).text();
  const target = `${PATH}&sid=${JSON.parse(handshake.slice(1)).sid}`;
  const post = (body, headers = {}) => fetch(url + target, { method: "POST", body, headers });
  await post(`40${JSON.stringify({ token: token({ sub: "mallory" }) })}`);
  const poll = () => fetch(url + target);
  assert.match(await (await poll()).text(), /^40\{/);
  return { target, post, poll };
}

/** Expects that a session ends: its polls are refused before long. */
async function untilSessionEnds({ poll }) {
  const ended = async () => {
    while ((await poll()).status !== 400) await sleep(20); // Poll interval.
  };
  await within(ended(), "the end of a session");
}

describe("table A", () => {
  test("A4: a hostile session id is never repeated in an answer", async () => {
    const ids = ["__proto__", "%00", "%3Cscript%3Ealert(1)%3C/script%3E", "%0d%0aX-Canary:1", "canary".repeat(17_000)];
    for (const id of ids) {
      const answer = await request("GET", `${PATH}&sid=${id}`);
      assert.ok([400, 414, 431].includes(read(answer)[0]), answer);
      assert.doesNotMatch(answer, /canary|script/i);
    }
    assert.doesNotMatch(started.output(), /canary|<script|%3Cscript/i);
  });

  test("A16, A17: deep, huge or unusual JSON does no harm", async () => {
    for (const open of ["[", '{"a":']) {
      const attacked = await session();
      await attacked.post(`42["message",${open.repeat(100_000)}`);
      await untilSessionEnds(attacked);
    }
    const id = `"conversationId":"${LOBBY}","content":"x"`;
    const keys = Array.from({ length: 20_000 }, (_, n) => `"k${n}":0`).join(",");
    for (const value of ["1e999", "-0", "9007199254740993", "9".repeat(100_000), '"\\ud800"', '{"a":1,"a":2}', `{${keys}}`]) {
      const attacked = await session();
      const { status } = await attacked.post(`421["message",{${id},"metadata":{"x":${value}}}]`);
      assert.equal(status, 200);
      const answered = async () => {
        while (!/431\[\{"success":(true|false)/.test(await (await attacked.poll()).text()));
      };
      await within(answered(), `the answer to ${value.slice(0, 20)}`);
    }
  });
});

describe("table F", () => {
  test("F6: joining restricted rooms is refused and logged", async (t) => {
    const { socket } = await enter(t, url, { auth: { token: token({ sub: "mallory" }) } });
    const { conversation } = await ask(bystander, "create_conversation", { memberIds: [] });
    for (const room of ["admin", "user:ann", "__internal", "__proto__", "*", "", `conversation:${conversation.id}`]) {
      for (const target of [room, { conversationId: room }]) {
        const answer = await ask(socket, "join_conversation", target);
        assert.equal(answer.error?.code, "INVALID_PAYLOAD", JSON.stringify(target));
      }
    }
    for (const [event, command] of [
      ["join_conversation", conversation.id],
      ["message", { conversationId: conversation.id, content: "hi" }],
      ["message_history", { conversationId: conversation.id }],
      ["presence", { conversationId: conversation.id }],
      ["typing", { conversationId: conversation.id, isTyping: true }],
      ["add_member", { conversationId: conversation.id, userId: "mallory" }],
    ]) {
      const answer = await ask(socket, event, command);
      const unknown = await ask(socket, event, JSON.parse(JSON.stringify(command).replace(conversation.id, conversation.id.replace(/..$/, "00"))));
      assert.equal(answer.error?.code, "NOT_FOUND", event);
      assert.deepEqual(answer, unknown, "what is foreign looks like what is unknown");
    }
    await logged(started, new RegExp(`denied.*user="?mallory.*conversation="?${conversation.id}`));
  });

  test("F8: client input neither starts nor colours a line of the log", async (t) => {
    const forged = "evil\n1999-01-01T00:00:00Z  INFO roomcast: forged \x1b[31m\u2028\u202e";
    const extraHeaders = { "user-agent": "evil\\n2026 INFO forged" };
    const { socket } = await enter(t, url, { auth: { token: token({ sub: "mallory" }) }, extraHeaders });
    socket.emit(forged, forged);
    await ask(socket, "message", { conversationId: forged, content: forged });
    await ask(socket, "join_conversation", forged);
    await ask(socket, "auth:refresh", { token: forged });
    const stranger = open(t, io, url, { auth: { name: forged } });
    await next(stranger, "connect_error");
    const foreign = open(t, io, url, { auth: { token: token({ sub: forged }) } });
    await next(foreign, "connect_error");
    const nowhere = open(t, io, `${url}/${encodeURIComponent(forged)}`);
    await next(nowhere, "connect_error");
    await logged(started, /no usable sub/);
    assert.ok(!started.output().includes("\x1b") && !started.output().includes("\u2028"));
    assert.doesNotMatch(started.output(), /^1999-01-01T00:00:00Z/m);
  });

  test("F5: a demoted user reconnects with the current roles", async (t) => {
    const options = { auth: { token: token({ roles: ["ai"] }) }, reconnection: true, reconnectionDelay: 100 };
    const { socket } = await enter(t, url, { ...options, transports: ["websocket"] });
    const say = () => ask(socket, "message", { conversationId: LOBBY, content: "hi", type: "ai" });
    assert.equal((await say()).success, true);
    socket.auth = { token: token({ roles: ["user"] }) };
    const back = next(socket, "connect");
    socket.io.engine.close();
    await back;
    assert.equal((await say()).error.code, "FORBIDDEN");
  });

  test("F11: the API accepts tokens and no cookies", async (t) => {
    const { url } = await server(t);
    for (const path of ["/api/v1/explain?user=a&event=message", "/api/v1/blocks", "/api/v1/nothing"]) {
      const cookie = `roomcast_token=${token({ roles: ["admin"] })}`;
      const answer = await fetch(url + path, { headers: { cookie, origin: url } });
      assert.equal(answer.status, 401, path);
      assert.equal((await call(url, "GET", path, undefined, `Bearer ${token()}`)).status, 403, path);
    }
  });
});
