// Clients of Socket.IO 2, which use Engine.IO v3, alone and together with clients of version 4.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { io as v4 } from "socket.io-client";
import v2 from "socket.io-client-v2";
import parser from "socket.io-msgpack-parser-v2";
import v4parser from "socket.io-msgpack-parser";
import { LOBBY, enter, keyed, server as startChat } from "./people.mjs";
import { ask, connect, next, open, startExample, until, within } from "./support.mjs";
import { token } from "./tokens.mjs";
import { launch } from "./visitor.mjs";

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

const ways = [
  ["polling", { transports: ["polling"] }],
  ["polling with base64", { transports: ["polling"], forceBase64: true }],
  ["websocket", { transports: ["websocket"] }],
  ["websocket with base64", { transports: ["websocket"], forceBase64: true }],
  ["an upgrade", {}],
];
const pattern = (size) => Buffer.from(Array.from({ length: size }, (_, i) => i % 256));
/** Waits until a client with both transports has upgraded. */
const upgraded = (socket) =>
  until(() => socket.io.engine.transport.name === "websocket", () => "the upgrade to WebSocket");

for (const [way, options] of ways) {
  describe(`socket.io-client 2 over ${way}`, () => {
    const start = async (t, path = "", more = {}) => {
      const socket = await connect(t, v2, server.url + path, { ...options, ...more });
      if (!options.transports) await upgraded(socket);
      return socket;
    };

    test("connects to / without a request, and reports version 3", async (t) => {
      const socket = await start(t, "/?who=ada");
      const me = await ask(socket, "whoami");
      assert.equal(me.eio, 3);
      assert.equal(me.nsp, "/");
      assert.equal(me.transport, options.transports?.[0] ?? "websocket");
      assert.equal(me.query.who, "ada");
      assert.deepEqual(me.auth, {});
      assert.equal(me.id, socket.id);
    });

    test("has the id that the client computes in each namespace, again after leaving", async (t) => {
      const root = await start(t);
      const observer = await connect(t, v4, `${server.url}/chat`);
      const chat = root.io.socket("/chat");
      await next(chat, "connect");
      assert.equal(root.id, root.io.engine.id);
      assert.equal(chat.id, `/chat#${root.id}`);
      const reached = async () => {
        assert.equal((await ask(chat, "whoami")).id, chat.id);
        const heard = next(chat, "direct");
        observer.emit("to", chat.id, "direct", 7);
        assert.deepEqual(await heard, [7]);
      };
      assert.equal((await ask(root, "whoami")).id, root.id);
      await reached();
      const reason = (expected) =>
        until(async () => (await ask(observer, "last-reason", `/chat#${root.id}`)) === expected, () => `the reason ${expected}`);
      chat.disconnect();
      await reason("client namespace disconnect");
      chat.connect();
      await next(chat, "connect");
      await reached();
      const kicked = next(chat, "disconnect");
      chat.emit("kick", false);
      assert.deepEqual(await kicked, ["io server disconnect"]);
      chat.connect();
      await next(chat, "connect");
      await reason("server namespace disconnect");
      await reached();
    });

    test("gets every acknowledgement between volatile events", async (t) => {
      const socket = await start(t);
      for (let i = 0; i < 100; i++) {
        for (let j = 0; j < i % 4; j++) socket.emit("volatile", "news", j, i % 3 ? "text" : pattern(3));
        assert.equal(await ask(socket, "echo", i), i);
      }
    });

    test("causes the reason of each of its ends", async (t) => {
      const observer = await connect(t, v4, server.url);
      const ends = {
        "client namespace disconnect": (socket) => socket.disconnect(),
        "transport close": (socket) => socket.io.engine.close(),
        "server namespace disconnect": (socket) => socket.emit("kick", false),
        "forced close": (socket) => socket.emit("drop"),
      };
      for (const [reason, end] of Object.entries(ends)) {
        const socket = await start(t, "", { forceNew: true, reconnection: false });
        const { id } = socket;
        assert.equal((await ask(socket, "whoami")).id, id);
        end(socket);
        await until(async () => (await ask(observer, "last-reason", id)) !== null, () => `the end ${reason}`);
        assert.equal(await ask(observer, "last-reason", id), reason);
      }
    });

    test("gets every value back", async (t) => {
      const socket = await start(t);
      const values = ["", "text", "aé€😀".repeat(50), 1, -0.5, true, null, { a: [1, { b: "😀" }] }, "x".repeat(70_000)];
      for (const value of values) assert.deepEqual(await ask(socket, "echo", value), value);
      const [seen] = await ask(socket, "inspect", "é😀");
      assert.equal(seen.n, 6);
    });

    test("carries binary both ways", async (t) => {
      const socket = await start(t);
      for (const size of [0, 1, 125, 126, 300, 70_000]) {
        const data = pattern(size);
        const [seen] = await ask(socket, "inspect", data);
        assert.deepEqual([seen.t, seen.n, seen.sum], ["bin", size, data.reduce((sum, byte) => sum + byte, 0)]);
        assert.deepEqual(Buffer.from(await ask(socket, "bin", size)), data);
      }
      const deep = await ask(socket, "echo", { a: [pattern(3), "😀"], b: pattern(5) });
      assert.deepEqual(Buffer.from(deep.a[0]), pattern(3));
      assert.deepEqual(Buffer.from(deep.b), pattern(5));
      assert.equal(deep.a[1], "😀");
    });

    test("answers the server", async (t) => {
      const socket = await start(t);
      socket.on("double", (n, answer) => answer(n * 2, pattern(2)));
      const [double, data] = await ask(socket, "ask", "double", 21);
      assert.equal(double, 42);
      assert.deepEqual(Buffer.from(data), pattern(2));
      assert.equal(await ask(socket, "ask-timeout", "silent", 50), "timeout");
    });

    test("receives and sends 1,000 events in order", async (t) => {
      const socket = await start(t);
      const seen = [];
      socket.on("item", (i) => seen.push(i));
      const done = next(socket, "done");
      socket.emit("stream", 1000, 100);
      await done;
      assert.deepEqual(seen, Array.from({ length: 1000 }, (_, i) => i));
      const answers = [];
      for (let i = 0; i < 1000; i++) socket.emit("echo", i, (value) => answers.push(value));
      assert.equal(await ask(socket, "echo", "last"), "last");
      assert.deepEqual(answers, Array.from({ length: 1000 }, (_, i) => i));
    });

    test("passes the query of a namespace as the payload", async (t) => {
      const good = await start(t, "/auth?token=good&text=%C3%A9%2C%20x");
      const me = await ask(good, "whoami");
      assert.equal(me.nsp, "/auth");
      assert.deepEqual(me.auth, { token: "good", text: "é, x" });
      const bad = open(t, v2, `${server.url}/auth?token=bad`, options);
      assert.deepEqual(await next(bad, "error"), [{ code: "E_AUTH", retry: 5 }]);
      const missing = open(t, v2, `${server.url}/missing`, options);
      assert.deepEqual(await next(missing, "error"), [{ message: "Invalid namespace" }]);
    });

    test("uses several namespaces on one connection", async (t) => {
      const root = await start(t);
      const chat = root.io.socket("/chat");
      const dynamic = root.io.socket("/dyn-12");
      await Promise.all([next(chat, "connect"), next(dynamic, "connect")]);
      assert.equal((await ask(chat, "whoami")).nsp, "/chat");
      assert.equal((await ask(dynamic, "whoami")).nsp, "/dyn-12");
      chat.disconnect();
      assert.equal(await ask(root, "echo", 1), 1);
      const kicked = next(dynamic, "disconnect");
      dynamic.emit("kick", false);
      assert.deepEqual(await kicked, ["io server disconnect"]);
      assert.equal(await ask(root, "echo", 2), 2);
    });

    test("stays connected through heartbeats", async (t) => {
      const socket = await start(t);
      let pongs = 0;
      await within(new Promise((done) => socket.io.on("pong", () => ++pongs === 3 && done())), "three pongs");
      assert.equal(await ask(socket, "echo", "still here"), "still here");
    });

    test("reconnects after its session was ended", async (t) => {
      const socket = await start(t, "", { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 20 });
      const first = (await ask(socket, "whoami")).id;
      const again = next(socket, "connect");
      socket.emit("drop");
      await again;
      assert.notEqual((await ask(socket, "whoami")).id, first);
    });

    test("shares a room with clients of version 4", async (t) => {
      const room = `room ${way}`;
      const old = [await start(t), await start(t)];
      const recent = [
        await connect(t, v4, server.url, { transports: ["polling"] }),
        await connect(t, v4, server.url, { transports: ["websocket"] }),
      ];
      const all = [...old, ...recent];
      for (const socket of all) assert.deepEqual(await ask(socket, "join", room), [room]);
      for (const sender of all) {
        const heard = all.map((socket) => next(socket, "news"));
        sender.emit("in", room, "news", "é😀", pattern(300), { deep: [pattern(1)] });
        for (const [text, data, { deep }] of await Promise.all(heard)) {
          assert.equal(text, "é😀");
          assert.deepEqual(Buffer.from(data), pattern(300));
          assert.deepEqual(Buffer.from(deep[0]), pattern(1));
        }
      }
      for (const [i, socket] of all.entries()) socket.on("number", (answer) => answer(i));
      const [complete, answers] = await ask(recent[0], "bcast-ack", room, 10_000, "number");
      assert.equal(complete, true);
      assert.deepEqual(answers.sort(), [0, 1, 2, 3]);
      const direct = next(old[0], "direct");
      recent[0].emit("to", old[0].id, "direct", 5);
      assert.deepEqual(await direct, [5]);
    });
  });
}

for (const transport of ["polling", "websocket"]) {
  test(`messagepack of that time works over ${transport}`, async (t) => {
    const url = server.url.replace(/\d+$/, (port) => Number(port) + 1);
    const socket = await connect(t, v2, url, { parser, transports: [transport] });
    assert.equal((await ask(socket, "whoami")).eio, 3);
    for (const value of ["é😀", 1, -1.5, null, { a: [true, "b"] }]) {
      assert.deepEqual(await ask(socket, "echo", value), value);
    }
    assert.deepEqual(Buffer.from(await ask(socket, "echo", pattern(300))), pattern(300));
    const chat = socket.io.socket("/auth", { query: "token=good" });
    await next(chat, "connect");
    assert.deepEqual((await ask(chat, "whoami")).auth, { token: "good" });
    const other = await connect(t, v4, url, { parser: v4parser, transports: ["websocket"] });
    for (const member of [socket, other]) await ask(member, "join", "packed");
    const heard = [socket, other].map((member) => next(member, "news"));
    other.emit("in", "packed", "news", pattern(3));
    for (const [data] of await Promise.all(heard)) assert.deepEqual(Buffer.from(data), pattern(3));
    chat.disconnect();
    assert.equal(await ask(socket, "echo", 2), 2);
  });
}

test("a client that sends no pings is closed in time", async (t) => {
  const own = await startExample("interop", { PING_TIMEOUT_MS: "500" });
  t.after(() => own.stop());
  const socket = await connect(t, v2, own.url, { transports: ["websocket"] });
  const { id } = await ask(socket, "whoami");
  const watcher = await connect(t, v4, own.url);
  // The client sends its pings with this function.
  socket.io.engine.ping = () => {};
  const closed = next(socket, "disconnect");
  clearTimeout(socket.io.engine.pingIntervalTimer);
  clearTimeout(socket.io.engine.pingTimeoutTimer);
  assert.equal((await closed)[0], "transport close");
  await until(async () => (await ask(watcher, "last-reason", id)) === "ping timeout", () => "the reason");
});

test("a server that answers no pings is given up", async (t) => {
  const own = await startExample("interop", { PING_TIMEOUT_MS: "500" });
  t.after(() => own.stop());
  const socket = await connect(t, v2, own.url, { transports: ["websocket"] });
  const closed = next(socket, "disconnect");
  await own.pause();
  assert.equal((await closed)[0], "ping timeout");
  own.resume();
});

test("script polling is refused with its reason", async () => {
  const answer = await fetch(`${server.url}/socket.io/?EIO=3&transport=polling&j=0`);
  assert.equal(answer.status, 400);
  const { code, message } = await answer.json();
  assert.equal(code, 3);
  assert.match(message, /JSONP/);
});

test("a server without the option refuses version 3", async (t) => {
  const own = await startExample("interop", { ALLOW_EIO3: "0" });
  t.after(() => own.stop());
  for (const query of ["EIO=3&transport=polling", "transport=polling"]) {
    const answer = await fetch(`${own.url}/socket.io/?${query}`);
    assert.equal(answer.status, 400);
    assert.deepEqual(await answer.json(), { code: 5, message: "Unsupported protocol version" });
  }
  const socket = open(t, v2, own.url, { transports: ["polling"] });
  assert.ok(await next(socket, "connect_error"));
});

describe("literal requests of version 3", () => {
  const polling = () => `${server.url}/socket.io/?EIO=3&transport=polling`;
  const post = (url, body, type = "text/plain;charset=UTF-8") =>
    fetch(url, { method: "POST", body, headers: { "content-type": type } });
  const octets = "application/octet-stream";
  const text = async (answer) => (await answer).text();

  /** Opens a session, reads the CONNECT of `/`, and returns the URL of the session. */
  async function session(query = "") {
    const answer = await fetch(polling() + query);
    assert.match(answer.headers.get("content-type"), /^text\/plain/);
    const body = await answer.text();
    const [, length, open] = /^(\d+):0(.*)$/.exec(body);
    assert.equal(Number(length), open.length + 1);
    const { sid, upgrades } = JSON.parse(open);
    assert.deepEqual(upgrades, ["websocket"]);
    const url = `${polling()}&sid=${sid}`;
    assert.equal(await text(fetch(url)), "2:40");
    return url;
  }

  test("packets have lengths in UTF-16 units", async () => {
    const url = await session();
    assert.equal(await text(post(url, '1:2')), "ok");
    assert.equal(await text(fetch(url)), "1:3");
    assert.equal(await text(post(url, '17:421["echo","é😀"]1:2')), "ok");
    assert.equal(await text(fetch(url)), '10:431["é😀"]1:3');
    assert.equal(await text(post(url, "1:1")), "ok");
    assert.equal((await fetch(url)).status, 400);
  });

  test("binary packets are octets, or base64 on request", async () => {
    const event = '451-2["echo",{"_placeholder":true,"num":0}]';
    const answer = '461-2[{"_placeholder":true,"num":0}]';
    const base64 = await session("&b64=1");
    assert.equal(await text(post(base64, `${event.length}:${event}6:b4AQID`)), "ok");
    const response = await fetch(base64);
    assert.match(response.headers.get("content-type"), /^text\/plain/);
    assert.equal(await response.text(), `${answer.length}:${answer}6:b4AQID`);
    const digits = (length) => [...String(length)].map(Number);
    const payload = (text) => Buffer.from([0, ...digits(text.length), 255, ...Buffer.from(text), 1, 4, 255, 4, 1, 2, 3]);
    const binary = await session();
    assert.equal(await text(post(binary, payload(event), octets)), "ok");
    const octet = await fetch(binary);
    assert.equal(octet.headers.get("content-type"), octets);
    assert.deepEqual(Buffer.from(await octet.arrayBuffer()), payload(answer));
  });

  test("invalid payloads end only their session", async () => {
    const other = await session();
    const bad = [
      "", "4", ":4", "NaN:4", "1e1:4", "-1:4", "2:4", "01:4", "2:4😀", "1:7", "3:b4!", "Infinity:4",
      "99999999999999999999:4", "999999999999:4", "2:b5",
    ].map((body) => [body]);
    const many = Buffer.alloc(310, 9);
    many[0] = 0;
    for (const body of [[], [0], [0, 255, 52], [0, 1, 255], [2, 1, 255, 52], [1, 1, 255, 2], [0, 10, 255, 52], many]) {
      bad.push([Buffer.from(body), octets]);
    }
    for (const [body, type] of bad) {
      const url = await session();
      assert.equal((await post(url, body, type)).status, 400, String(body));
      assert.deepEqual(await (await fetch(url)).json(), { code: 1, message: "Session ID unknown" });
    }
    assert.equal(await text(post(other, "1:2")), "ok");
    assert.equal(await text(fetch(other)), "1:3");
  });

  test("empty packets and pings in any number are read", async () => {
    const url = await session();
    assert.equal(await text(post(url, "0:".repeat(100_000))), "ok");
    assert.equal(await text(post(url, "1:2".repeat(1000))), "ok");
    assert.equal(await text(fetch(url)), "1:3".repeat(1000));
  });

  test("a client that reads no pongs is closed at its budget", async (t) => {
    const own = await startExample("interop", { OUTBOX_BYTES: `${2 ** 20}` });
    t.after(() => own.stop());
    const open = await text(fetch(`${own.url}/socket.io/?EIO=3&transport=polling`));
    const url = `${own.url}/socket.io/?EIO=3&transport=polling&sid=${JSON.parse(open.slice(open.indexOf("{"))).sid}`;
    // 1 MiB has room for 4080 pongs of 257 bytes: one of data, and 256 for each packet.
    for (let i = 0; i < 4; i++) assert.equal((await post(url, "1:2".repeat(1000))).status, 200);
    assert.equal((await post(url, "1:2".repeat(1000))).status, 400);
  });

  test("version 4 still refuses bodies of version 3", async () => {
    const open = await text(fetch(`${server.url}/socket.io/?EIO=4&transport=polling`));
    const url = `${server.url}/socket.io/?EIO=4&transport=polling&sid=${JSON.parse(open.slice(1)).sid}`;
    assert.equal((await post(url, Buffer.from([0, 1, 255, 50]), octets)).status, 400);
  });
});

test("the chat admits clients of version 2 with a token in the header", async (t) => {
  const { url } = await startChat(t, { ...keyed, ROOMCAST_ENGINE__ALLOW_EIO3: "true", ROOMCAST_AUTH__GUESTS: "false" });
  const extraHeaders = { authorization: `Bearer ${token({ sub: "old" })}` };
  const old = open(t, v2, url, { transports: ["websocket"], extraHeaders });
  const [session] = await next(old, "session");
  assert.equal(session.userId, "old");
  const { socket: recent } = await enter(t, url, { auth: { token: token({ sub: "new" }) } });
  for (const socket of [old, recent]) assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
  const heard = next(recent, "message");
  const { message } = await ask(old, "message", { conversationId: LOBBY, content: "héllo" });
  assert.deepEqual((await heard)[0], message);
  const answer = next(old, "message");
  await ask(recent, "message", { conversationId: LOBBY, content: "hi" });
  assert.equal((await answer)[0].content, "hi");
  const stranger = open(t, v2, url, { transports: ["websocket"] });
  assert.equal((await next(stranger, "error"))[0].code, "UNAUTHENTICATED");
});

test("socket.io-client 2 in Chromium connects, upgrades and carries binary", async () => {
  const folder = dirname(createRequire(import.meta.url).resolve("socket.io-client-v2/package.json"));
  const browser = await launch();
  try {
    const page = await browser.newPage();
    await page.goto(`${server.url}/socket.io/`);
    await page.addScriptTag({ path: join(folder, "dist/socket.io.js") });
    for (const [way, options] of ways) {
      const seen = await page.evaluate(async (options) => {
        const socket = io({ ...options, forceNew: true });
        const ask = (...args) => new Promise((done) => socket.emit(...args, done));
        await new Promise((done, failed) => {
          socket.once("connect", done);
          socket.once("connect_error", failed);
        });
        const { engine } = socket.io;
        if (!options.transports && engine.transport.name !== "websocket") await new Promise((done) => engine.once("upgrade", done));
        const me = await ask("whoami");
        const text = await ask("echo", "aé€😀");
        const binary = new Uint8Array(await ask("echo", Uint8Array.of(0, 128, 255).buffer));
        socket.close();
        return { eio: me.eio, transport: engine.transport.name, text, binary: [...binary] };
      }, options);
      const transport = options.transports?.[0] ?? "websocket";
      assert.deepEqual(seen, { eio: 3, transport, text: "aé€😀", binary: [0, 128, 255] }, way);
    }
  } finally {
    await browser.close();
  }
});
