// Tables A and F of the attacks, thrown at the server itself while a stock client goes on working. What
// each byte is answered is checked closer by tests/server/hostile; here it is that nobody else notices,
// nothing stays, and the log is fit to be read.
import assert from "node:assert/strict";
import { connect as dial } from "node:net";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LOBBY, call, enter, io, keyed, logged, server } from "./people.mjs";
import { ask, metricIs, next, open, startServer, within } from "./support.mjs";
import { token } from "./tokens.mjs";

const PATH = "/socket.io/?EIO=4&transport=polling";
const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

let started;
let url;
let bystander;

before(async () => {
  started = await startServer({
    ...keyed,
    ROOMCAST_LOG__LEVEL: "trace",
    // Longer than the 4 s for which fetch keeps a connection that nobody uses: it must not take one up again that is being closed.
    ROOMCAST_ENGINE__HEADER_TIMEOUT: "6s",
    ROOMCAST_ENGINE__BODY_TIMEOUT: "1s",
    ROOMCAST_ENGINE__THROTTLE_TIMEOUT: "1s",
    ROOMCAST_ENGINE__PING_INTERVAL: "2s",
    ROOMCAST_ENGINE__PING_TIMEOUT: "4s",
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

// Somebody else's attack is nobody's business.
afterEach(async () => {
  const said = await ask(bystander, "message", { conversationId: LOBBY, content: "still here" });
  assert.equal(said.success, true, JSON.stringify(said));
});

after(async () => {
  bystander.disconnect();
  assert.equal(await started.stop(), 0);
});

/** Sends bytes, piece by piece, and returns all that is answered until the server closes. */
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

/** The status of an answer, and the code of the error in it. */
function read(answer) {
  const status = Number(/^HTTP\/1\.1 (\d+) /.exec(answer)?.[1]);
  const code = /"code":(\d)/.exec(answer)?.[1];
  return [status, code && Number(code)];
}

/** A polling session of somebody who has joined the namespace. */
async function session() {
  const handshake = await (await fetch(url + PATH)).text();
  const target = `${PATH}&sid=${JSON.parse(handshake.slice(1)).sid}`;
  const post = (body, headers = {}) => fetch(url + target, { method: "POST", body, headers });
  await post(`40${JSON.stringify({ token: token({ sub: "mallory" }) })}`);
  const poll = () => fetch(url + target);
  assert.match(await (await poll()).text(), /^40\{/);
  return { target, post, poll };
}

/** How many requests wait for something. */
const waiting = (what) => `roomcast_requests_waiting{for="${what}"}`;

/** Expects that a session ends: its polls are refused before long. */
async function gone({ poll }) {
  const ended = async () => {
    while ((await poll()).status !== 400) await sleep(20); // The pace of asking.
  };
  await within(ended(), "the end of a session");
}

describe("table A", () => {
  test("A1: a wrong protocol version", async () => {
    for (const query of ["transport=polling", "EIO=abc&transport=polling", "EIO=3&transport=polling"]) {
      assert.deepEqual(read(await request("GET", `/socket.io/?${query}`)), [400, 5]);
    }
  });

  test("A2: a transport that is none", async () => {
    const names = ["__proto__", "constructor", "toString", "", "abc", "webtransport", "polling&transport=websocket"];
    for (const name of [...names.map((name) => `transport=${name}`), "transport[]=polling"]) {
      assert.deepEqual(read(await request("GET", `/socket.io/?EIO=4&${name}`)), [400, 0], name);
    }
  });

  test("A3: other methods", async () => {
    for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
      assert.deepEqual(read(await request(method, PATH, "Content-Length: 0\r\n")), [400, 2], method);
    }
    assert.equal(read(await request("HEAD", PATH))[0], 400);
    const asked = "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    const preflight = await request("OPTIONS", PATH, asked);
    assert.equal(read(preflight)[0], 204);
    assert.doesNotMatch(preflight, /access-control-allow-origin/i);
  });

  test("A4: a session id that is markup, a line break, or long is said again nowhere", async () => {
    const ids = ["__proto__", "%00", "%3Cscript%3Ealert(1)%3C/script%3E", "%0d%0aX-Canary:1", "canary".repeat(17_000)];
    for (const id of ids) {
      const answer = await request("GET", `${PATH}&sid=${id}`);
      assert.ok([400, 414, 431].includes(read(answer)[0]), answer);
      assert.doesNotMatch(answer, /canary|script/i);
    }
    assert.doesNotMatch(started.output(), /canary|<script|%3Cscript/i);
  });

  test("A5: a request that does not fit its transport leaves the session alone", async () => {
    assert.deepEqual(read(await request("GET", "/socket.io/?EIO=4&transport=websocket")), [400, 3]);
    const own = `${PATH}&sid=${bystander.io.engine.id}`;
    assert.deepEqual(read(await request("GET", own)), [400, 3]);
    assert.deepEqual(read(await request("POST", own, "Content-Length: 1\r\n", "1")), [400, 3]);
  });

  test("A6: origins that are foreign, none, or two", async () => {
    for (const [origin, expected] of [
      ["Origin: null", [403, 4]],
      ["Origin: https://evil.example", [403, 4]],
      ["Origin: https://app.example.evil.example", [403, 4]],
      ["Origin: https://app.example\r\nOrigin: https://evil.example", [400, 3]],
      ["Origin: https://evil.example\r\nOrigin: https://app.example", [403, 4]],
      ["Origin: https://a\x01b", [400, undefined]],
    ]) {
      assert.deepEqual(read(await request("GET", PATH, `${origin}\r\n`)), expected, origin);
      const upgrade = await raw(`GET ${PATH.replace("polling", "websocket")} HTTP/1.1\r\nHost: localhost\r\n${origin}\r\n${UPGRADE}\r\n`);
      assert.ok([400, 403].includes(read(upgrade)[0]), upgrade);
    }
  });

  test("A7, A9: two polls or two posts at once, and half a post", async () => {
    const first = await session();
    await metricIs(url, waiting("packets"), (polls) => polls === 0);
    const parked = first.poll();
    await metricIs(url, waiting("packets"), (polls) => polls === 1);
    assert.equal((await first.poll()).status, 400);
    assert.equal((await parked).status, 200);
    await gone(first);
    const second = await session();
    const half = raw(`POST ${second.target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n42["e`);
    await metricIs(url, waiting("body"), (posts) => posts === 1);
    assert.equal((await second.post("3")).status, 400);
    await gone(second);
    await half;
  });

  test("A8: a hundred megabytes, announced or not", async () => {
    const { target } = await session();
    assert.equal(read(await request("POST", target, "Content-Length: 100000000\r\n"))[0], 413);
    const chunk = `10000\r\n${"x".repeat(0x10000)}\r\n`;
    const head = `POST ${target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n`;
    // The answer may be lost when the rest of what was sent is thrown away.
    const answer = await raw(head, ...Array(100).fill(chunk));
    assert.ok(answer === "" || read(answer)[0] === 413, answer.slice(0, 80));
  });

  test("A10: an octet stream", async () => {
    for (const rest of ["Content-Length: 0", "Content-Length: 5", "Transfer-Encoding: chunked"]) {
      const attacked = await session();
      const head = `Content-Type: application/octet-stream\r\n${rest}\r\n`;
      assert.equal(read(await request("POST", attacked.target, head))[0], 400);
      await gone(attacked);
    }
  });

  test("A11, A13, A14: packets that are none, or are not for clients to send", async () => {
    for (const body of ["abc", "", "\xff\xfe", '42["x"]\x1e', "\x1e\x1e", "b!!!!", "bA", "b====", "2", "2probe", "7", "9"]) {
      const attacked = await session();
      const { status } = await attacked.post(Buffer.from(body, "latin1"), { "content-type": "text/plain" });
      assert.ok([200, 400].includes(status), `${status} for ${body}`);
      await gone(attacked);
    }
    const harmless = await session();
    for (const body of ["5", "6", "0{}", "3"]) assert.equal((await harmless.post(body)).status, 200, body);
  });

  test("A12, A15: half a million packets in one request", async () => {
    for (const body of ["\x1e".repeat(1_000_000), "6\x1e".repeat(499_999), "3\x1e".repeat(300_000)]) {
      const attacked = await session();
      await attacked.post(body).catch(() => {});
      await gone(attacked);
    }
  });

  test("A16, A17: JSON that is deep, huge or strange", async () => {
    for (const open of ["[", '{"a":']) {
      const attacked = await session();
      await attacked.post(`42["message",${open.repeat(100_000)}`);
      await gone(attacked);
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

  test("A18, A19, A20: addresses and headers without end", async () => {
    const long = await request("GET", `${PATH}&x=${"a".repeat(100_000)}`);
    assert.ok([400, 414, 431].includes(read(long)[0]), long);
    assert.deepEqual(read(await request("GET", PATH + "&a=b".repeat(5000))), [400, 3]);
    const many = Array.from({ length: 2000 }, (_, n) => `x${n}: 1\r\n`).join("");
    assert.equal(read(await request("GET", PATH, many + UPGRADE))[0], 431);
    const piece = "a".repeat(1 << 16);
    const answer = await raw(`GET ${PATH} HTTP/1.1\r\nHost: localhost\r\nX: `, ...Array(320).fill(piece));
    assert.ok(answer === "" || read(answer)[0] === 431, answer);
  });

  test("A21: requests that never end", async () => {
    const { target } = await session();
    const slow = [
      [],
      [`GET ${PATH} HTTP/1.1\r\nX: `],
      [`POST ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n4`],
    ];
    for (const pieces of slow) await raw(...pieces);
  });

  test("A22: framing that could be read in two ways", async () => {
    const smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (const headers of [
      "Content-Length: 4\r\nContent-Length: 5",
      "Content-Length: +4",
      "Content-Length: -1",
      "Content-Length: 99999999999999999999",
      "Transfer-Encoding: chunked, identity",
      "Transfer-Encoding: xchunked",
      "Content-Length : 4",
      "Content-Length: 4\r\n folded: 1",
      "X: a\0b\r\nContent-Length: 4",
    ]) {
      const answer = await raw(`POST ${PATH} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n\r\n6\x1e66${smuggled}`);
      assert.equal(read(answer)[0], 400, headers);
      assert.equal(answer.match(/HTTP\/1\.1 /g).length, 1, `${headers} is answered twice`);
    }
  });

  test("A23, A24: a thousand requests at once, and JSONP", async () => {
    const asked = `GET /socket.io/?EIO=4&transport=abc HTTP/1.1\r\nHost: localhost\r\n\r\n`;
    const last = "GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    const answer = await raw(asked.repeat(1000) + last);
    assert.equal(answer.match(/HTTP\/1\.1 400 /g).length, 1000);
    assert.equal(answer.match(/HTTP\/1\.1 404 /g).length, 1);
    const jsonp = await request("GET", `${PATH}&j=%3Cscript%3E`);
    assert.match(jsonp, /\r\n\r\n0\{/);
    assert.doesNotMatch(jsonp, /script/);
  });

  test("A25: handshakes that nobody polls are forgotten", async () => {
    const pipelined = `GET ${PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n`.repeat(500);
    const last = "GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert.equal((await raw(pipelined + last)).match(/"sid"/g).length, 500);
    // Nor is anything left of those who were thrown out before.
    await metricIs(url, 'roomcast_sessions{transport="polling"}', (sessions) => sessions === 0);
  });
});

describe("table F", () => {
  test("F6: rooms that are not for everybody are refused and noted", async (t) => {
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

  test("F8: what a client says begins no line of the log and colours none", async (t) => {
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

  test("F5: who was demoted meanwhile comes back with the roles of now", async (t) => {
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

  test("F11: the API is for whoever shows a token, and for nobody by a cookie", async (t) => {
    const { url } = await server(t);
    for (const path of ["/api/v1/explain?user=a&event=message", "/api/v1/blocks", "/api/v1/nothing"]) {
      const cookie = `roomcast_token=${token({ roles: ["admin"] })}`;
      const answer = await fetch(url + path, { headers: { cookie, origin: url } });
      assert.equal(answer.status, 401, path);
      assert.equal((await call(url, "GET", path, undefined, `Bearer ${token()}`)).status, 403, path);
    }
  });
});
