// Attacks on WebSocket handshakes and upgrades, by raw bytes against the server itself, while stock
// clients use it. What exactly each is answered is held by tests/server/hostile/b.rs.
import assert from "node:assert/strict";
import { connect as dial } from "node:net";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, next, open, startServer, within } from "./support.mjs";
import { SECRET, token } from "./tokens.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const OPEN = "/socket.io/?EIO=4&transport=polling";
const UPGRADE = "/socket.io/?EIO=4&transport=websocket";
const [[, io]] = clients;
let server;
let bystanders;

before(async () => {
  server = await startServer({
    ROOMCAST_ENGINE__UPGRADE_TIMEOUT: "6s",
    ROOMCAST_ENGINE__CONNECT_TIMEOUT: "6s",
    ROOMCAST_AUTH__JWT__SECRET: SECRET,
  });
  bystanders = await Promise.all(
    [["polling"], ["websocket"], ["polling", "websocket"]].map(async (transports, n) => {
      const socket = io(server.url, { transports, forceNew: true, reconnection: false, auth: { name: `Ann ${n}` } });
      await next(socket, "session");
      socket.on("disconnect", (reason) => assert.fail(`a bystander was disconnected: ${reason}`));
      assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
      return socket;
    }),
  );
});

after(async () => {
  for (const socket of bystanders) {
    socket.removeAllListeners("disconnect");
    socket.disconnect();
  }
  assert.equal(await server.stop(), 0);
  assert.doesNotMatch(server.output(), /panicked|the grace is over/);
});

/** A connection that sends these bytes; what comes back is kept, also behind its end. */
function raw(bytes) {
  const { hostname, port } = new URL(server.url);
  const socket = dial(Number(port), hostname);
  const connection = { socket, received: Buffer.alloc(0), ended: new Promise((done) => socket.once("close", done)) };
  let looked = () => {};
  socket.on("data", (data) => {
    connection.received = Buffer.concat([connection.received, data]);
    looked();
  });
  socket.on("error", () => {});
  socket.on("close", () => looked());
  socket.write(bytes);
  /** Waits until this has come. */
  connection.until = (part) =>
    within(
      new Promise((done, fail) => {
        looked = () => {
          if (connection.received.includes(part)) done(connection);
          else if (socket.closed) fail(new Error(`closed without ${part}: ${connection.received.toString("latin1")}`));
        };
        looked();
      }),
      `${part} of an attack`,
    );
  connection.closed = () => within(connection.ended, "the end of an attack").then(() => connection);
  return connection;
}

const KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const HEADERS = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY];
const request = (target, headers = HEADERS, line = "GET") =>
  `${line.includes(" ") ? line : `${line} ${target} HTTP/1.1`}\r\nHost: localhost\r\n${headers.join("\r\n")}\r\n\r\n`;

/** A masked frame with this text. */
function frame(text, first = 0x81) {
  const payload = Buffer.from(text);
  const length = payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 255];
  const mask = [1, 2, 3, 4];
  return Buffer.from([first, ...length, ...mask, ...payload.map((byte, n) => byte ^ mask[n % 4])]);
}

/** A polling session that is in `/`: what is behind the path in its requests. */
async function session() {
  const body = await (await fetch(server.url + OPEN)).text();
  const { sid } = JSON.parse(body.slice(1));
  const target = `${server.url}${OPEN}&sid=${sid}`;
  assert.equal(await (await fetch(target, { method: "POST", body: '40{"name":"Eve"}' })).text(), "ok");
  assert.match(await (await fetch(target)).text(), /^40\{"sid":/);
  return { target, upgrade: `${UPGRADE}&sid=${sid}` };
}

/** It still polls. */
async function polls({ target }) {
  const body = '4277["join_conversation",7]';
  assert.equal((await fetch(target, { method: "POST", body })).status, 200);
  const heard = [];
  while (!heard.join("").includes("4377[")) {
    const answer = await fetch(target);
    assert.equal(answer.status, 200);
    heard.push(await answer.text());
  }
  assert.equal(await (await fetch(target, { method: "POST", body: "1" })).text(), "ok");
}

/** An attack, and stock clients that chat before, during and after it. */
function attack(title, act) {
  test(title, async () => {
    const chat = async () => {
      const [teller, ...others] = bystanders;
      const content = `${title} ${Math.random()}`;
      const heard = others.map((socket) =>
        within(
          new Promise((done) => {
            const listen = (message) => {
              if (message.content !== content) return;
              socket.off("message", listen);
              done();
            };
            socket.on("message", listen);
          }),
          `${content} at a bystander`,
        ),
      );
      assert.equal((await ask(teller, "message", { conversationId: LOBBY, content })).success, true);
      await Promise.all(heard);
    };
    await chat();
    await Promise.all([act(), chat()]);
    await chat();
  });
}

describe("websocket handshakes and upgrades", () => {
  attack("B1: bytes behind the handshake end that WebSocket only", async () => {
    const fresh = raw(request(UPGRADE) + "test");
    await fresh.until(Buffer.from([0x88, 2, 0x03, 0xea]));
    fresh.socket.destroy();
    const polling = await session();
    const candidate = await raw(request(polling.upgrade) + "test").closed();
    assert.match(candidate.received.toString("latin1"), /^HTTP\/1\.1 101 /);
    await polls(polling);
  });

  attack("B2: another upgrade, another path and a reset are no WebSocket", async () => {
    const h2c = HEADERS.map((line) => (line.startsWith("Upgrade") ? "Upgrade: h2c" : line));
    await raw(request(UPGRADE, h2c)).until("HTTP/1.1 400 ");
    await raw(request("/elsewhere")).until("HTTP/1.1 404 ");
    for (let n = 0; n < 30; n++) {
      const reset = await raw(request(UPGRADE)).until("101 ");
      reset.socket.resetAndDestroy();
      await reset.closed();
    }
  });

  attack("B3: a refused upgrade is answered in plain HTTP and closed", async () => {
    const evil = [...HEADERS, "Origin: http://evil.example"];
    for (const [query, headers, status] of [
      ["EIO=4&transport=__proto__", HEADERS, 400],
      ["EIO=3&transport=websocket", HEADERS, 400],
      ["EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA", HEADERS, 400],
      ["EIO=4&transport=websocket", evil, 403],
    ]) {
      const { received } = await raw(request(`/socket.io/?${query}`, headers)).closed();
      const answer = received.toString("latin1");
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), query);
      assert.match(answer, /connection: close/i);
    }
  });

  attack("B4: a malformed handshake is refused", async () => {
    for (const [headers, line, status] of [
      [HEADERS.slice(0, 3), "GET", 400],
      [[...HEADERS.slice(0, 3), "Sec-WebSocket-Key: c2hvcnQ="], "GET", 400],
      [HEADERS.map((header) => header.replace("13", "12")), "GET", 426],
      [HEADERS, "POST", 400],
      [HEADERS, `GET ${UPGRADE} HTTP/1.0`, 400],
    ]) {
      const { received } = await raw(request(UPGRADE, headers, line)).closed();
      assert.match(received.toString("latin1"), new RegExp(`^HTTP/1\\.[01] ${status} `));
      if (status === 426) assert.match(received.toString("latin1"), /sec-websocket-version: 13/i);
    }
  });

  attack("B5: extensions that nobody knows are declined", async () => {
    for (const offer of [
      "constructor",
      "permessage-deflate; x=toString",
      "permessage-deflate; server_max_window_bits=99",
      `permessage-deflate${"; x=1".repeat(3000)}`,
      "permessage-deflate, permessage-deflate, permessage-deflate",
    ]) {
      const answer = await raw(request(UPGRADE, [...HEADERS, `Sec-WebSocket-Extensions: ${offer}`])).until("0{");
      assert.doesNotMatch(answer.received.toString("latin1"), /sec-websocket-extensions/i);
      answer.socket.destroy();
    }
  });

  attack("B6: a subprotocol is never echoed, however long the offer", async () => {
    for (const offer of ["chat, superchat", `b${" ".repeat(20_000)}x`]) {
      const answer = await raw(request(UPGRADE, [...HEADERS, `Sec-WebSocket-Protocol: ${offer}`])).until("0{");
      assert.doesNotMatch(answer.received.toString("latin1"), /sec-websocket-protocol/i);
      answer.socket.destroy();
    }
  });

  attack("B7: a second WebSocket of a session is closed and the first goes on", async () => {
    const polling = await session();
    const first = await raw(request(polling.upgrade)).until("101 ");
    first.socket.write(frame("2probe"));
    await first.until("3probe");
    await Promise.all(Array.from({ length: 200 }, () => raw(request(polling.upgrade)).closed()));
    first.socket.write(frame("5"));
    first.socket.write(frame('4277["join_conversation",7]'));
    await first.until("4377[");
    first.socket.destroy();
  });

  attack("B8: an upgrade without a probe ends and polling goes on", async () => {
    const polling = await session();
    await raw(request(polling.upgrade)).closed();
    await polls(polling);
  });

  attack("B9: a flood of probes is slowed down and cut", async () => {
    const polling = await session();
    const flood = await raw(request(polling.upgrade)).until("101 ");
    const probes = Buffer.concat(Array.from({ length: 1000 }, () => frame("2probe")));
    // A thousand a second and as many again at once are let through; who goes on for ten seconds is cut.
    const sending = setInterval(() => flood.socket.write(probes), 100);
    await flood.closed().finally(() => clearInterval(sending));
  });

  attack("B10: anything but a probe drops the candidate only", async () => {
    const polling = await session();
    for (const packet of ["4hello", "3probe", "2x", "5", "1", "x", ""]) {
      const candidate = await raw(request(polling.upgrade)).until("101 ");
      candidate.socket.write(frame(packet));
      await candidate.closed();
    }
    const binary = await raw(request(polling.upgrade)).until("101 ");
    binary.socket.write(frame("\u0001\u0002", 0x82));
    await binary.closed();
    await polls(polling);
  });

  for (const [name, client] of clients) {
    attack(`B11: nothing is lost, doubled or reordered while a client upgrades (${name})`, async () => {
      const asked = [];
      const socket = client(server.url, { forceNew: true, reconnection: false, auth: { name: "Bob" } });
      try {
        await next(socket, "connect");
        const { engine } = socket.io;
        const upgraded = engine.transport.name === "websocket" || next(engine, "upgrade");
        const order = [];
        for (let n = 0; n < 200; n++) {
          asked.push(ask(socket, "presence", n).then(() => order.push(n)));
          if (n % 10 === 0) await new Promise((done) => setImmediate(done));
        }
        await upgraded;
        await Promise.all(asked);
        assert.deepEqual(
          order,
          Array.from({ length: 200 }, (_, n) => n),
        );
      } finally {
        socket.disconnect();
      }
    });
  }

  attack("B12: a connection that joins nothing is closed", async () => {
    const idle = Array.from({ length: 300 }, () => raw(request(UPGRADE)).closed());
    for (const { received } of await Promise.all(idle)) assert.match(received.toString("latin1"), /^HTTP\/1\.1 101 /);
  });

  attack("B13: webtransport and its first packet mean nothing", async () => {
    const answer = await fetch(`${server.url}/socket.io/?EIO=4&transport=webtransport`);
    assert.deepEqual([answer.status, await answer.json()], [400, { code: 0, message: "Transport unknown" }]);
    const opened = await raw(request(UPGRADE)).until("0{");
    opened.socket.write(frame('0{"sid":"__proto__"}'));
    opened.socket.write(frame('40{"name":"Eve"}'));
    await opened.until("40{");
    opened.socket.destroy();
  });
});

test("B3: an upgrade that the authenticator refuses is answered in plain HTTP", async (t) => {
  const strict = await startServer({ ROOMCAST_AUTH__AT_HANDSHAKE: "true", ROOMCAST_AUTH__JWT__SECRET: SECRET });
  t.after(() => strict.stop());
  const extraHeaders = { authorization: `Bearer ${token()}` };
  const socket = await connect(t, io, strict.url, { extraHeaders });
  const refused = open(t, io, strict.url, { transports: ["websocket"], extraHeaders: { authorization: "Bearer x" } });
  const [error] = await next(refused, "connect_error");
  assert.equal(error.type, "TransportError");
  assert.equal(socket.connected, true);
});

test("a server stops at once whatever refused clients are doing", async (t) => {
  for (let round = 0; round < 12; round++) {
    const started = await startServer({ ROOMCAST_AUTH__JWT__SECRET: SECRET });
    const refused = Array.from({ length: 4 }, async () => {
      const socket = open(t, io, started.url, { auth: { token: "bad" } });
      await next(socket, "connect_error");
    });
    await Promise.all(refused);
    // Their upgrades are under way, at another point in each round.
    await new Promise((done) => setTimeout(done, round * 2));
    assert.equal(await started.stop(), 0);
    assert.doesNotMatch(started.output(), /the grace is over/);
  }
});
