// permessage-deflate with the stock client, `ws`, Chromium and `websockets` of Python.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import WebSocket from "ws";
import { echoed } from "./echoed.mjs";
import { ask, clients, connect, next, startExample, within } from "./support.mjs";
import { launch } from "./visitor.mjs";

const ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const LONG = "the same words again and again, ".repeat(500);

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

const address = (url = server.url) => `${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`;

/** Returns how many bytes arrive on the connection of a stock client until an event arrives. */
async function received(socket, name, ...args) {
  const stream = socket.io.engine.transport.ws._socket;
  const before = stream.bytesRead;
  const arrived = next(socket, "sized");
  socket.emit(name, "sized", ...args);
  assert.deepEqual(await arrived, args);
  return stream.bytesRead - before;
}

for (const [client, io] of clients) {
  describe(client, () => {
    test("the stock client compresses in both directions", async (t) => {
      const options = { transports: ["websocket"], perMessageDeflate: { threshold: 0 } };
      const socket = await connect(t, io, server.url, options);
      const { ws } = socket.io.engine.transport;
      assert.equal(ws.extensions, "permessage-deflate");
      const before = ws._socket.bytesWritten;
      assert.equal(await ask(socket, "echo", LONG), LONG);
      assert.ok(ws._socket.bytesWritten - before < 1000);
      assert.ok((await received(socket, "packed", LONG)) < 1000);
      assert.ok((await received(socket, "plain", LONG)) > LONG.length);
      assert.ok((await received(socket, "packed", Buffer.from(LONG))) < 1000);
      const noise = randomBytes(10_000);
      assert.ok((await received(socket, "packed", noise)) < 11_000);
    });

    test("an upgraded client compresses", async (t) => {
      const socket = await connect(t, io, server.url, { perMessageDeflate: { threshold: 0 } });
      const { engine } = socket.io;
      if (engine.transport.name !== "websocket") await within(once(engine, "upgrade"), "the upgrade");
      assert.equal(engine.transport.ws.extensions, "permessage-deflate");
      assert.ok((await received(socket, "packed", LONG)) < 1000);
    });
  });
}

/** Opens a WebSocket of `ws` that has joined `/`. */
async function open(t, perMessageDeflate, url) {
  const ws = new WebSocket(address(url), { perMessageDeflate });
  t.after(() => ws.terminate());
  const answered = once(ws, "upgrade");
  const messages = [];
  const waiting = [];
  ws.on("message", (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    if (message === "2") return ws.send("3");
    const waiter = waiting.shift();
    if (waiter) waiter(message);
    else messages.push(message);
  });
  ws.message = () => (messages.length > 0 ? messages.shift() : within(new Promise((done) => waiting.push(done)), "a message"));
  const [{ headers }] = await within(answered, "the handshake");
  ws.answer = headers["sec-websocket-extensions"];
  assert.match(await ws.message(), /^0\{/);
  ws.send("40");
  assert.match(await ws.message(), /^40\{/);
  return ws;
}

for (const [options, more] of [
  [{}, ""],
  [{ serverNoContextTakeover: true, clientNoContextTakeover: true }, ""],
  [{ serverMaxWindowBits: 9 }, "; server_max_window_bits=9"],
  [{ serverMaxWindowBits: 15, clientMaxWindowBits: 9 }, "; server_max_window_bits=15; client_max_window_bits=9"],
]) {
  test(`ws agrees with ${JSON.stringify(options)}`, async (t) => {
    const ws = await open(t, { threshold: 0, ...options });
    assert.equal(ws.answer, ANSWER + more);
    for (const content of ["", "short", LONG, randomBytes(50_000).toString("hex")]) {
      ws.send(`421${JSON.stringify(["echo", content])}`);
      assert.equal(await ws.message(), `431${JSON.stringify([content])}`);
    }
  });
}

test("a server window of 8 bits is declined", async (t) => {
  const ws = await open(t, { serverMaxWindowBits: 8 });
  assert.equal(ws.answer, undefined);
  assert.equal(ws.extensions, "");
});

test("a message of the largest size is accepted, and one byte more is not", async (t) => {
  const ws = await open(t, { threshold: 0 });
  const whole = (bytes) => `4${"x".repeat(bytes - 1)}`;
  const noise = randomBytes(1_000_000);
  // Neither is a packet of Socket.IO, but only the first error is one of the WebSocket.
  for (const [message, code] of [[whole(1_000_001), 1009], [randomBytes(1_000_001), 1009], [whole(1_000_000), 1000], [noise, 1000]]) {
    const other = await open(t, { threshold: 0 });
    const closed = once(other, "close");
    other.send(message);
    assert.equal((await within(closed, "the close frame"))[0], code);
  }
  ws.send('421["echo","alive"]');
  assert.equal(await ws.message(), '431["alive"]');
});

test("clients with and without compression receive the same broadcast", async (t) => {
  const all = await Promise.all([{}, { serverMaxWindowBits: 9 }, false].map((options) => open(t, options)));
  for (const ws of all) {
    ws.send('421["join","mixed"]');
    assert.match(await ws.message(), /^431/);
  }
  all[0].send(`42${JSON.stringify(["in", "mixed", "news", LONG])}`);
  for (const ws of all) assert.equal(await ws.message(), `42${JSON.stringify(["news", LONG])}`);
});

test("Chromium compresses in both directions", async () => {
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const seen = await page.evaluate(echoed, [address(), LONG]);
    assert.equal(seen.extensions, ANSWER);
    assert.equal(seen.last, `431${JSON.stringify([LONG])}`);
  } finally {
    await browser.close();
  }
});

test("PER_MESSAGE_DEFLATE=0 switches compression off", async (t) => {
  const plain = await startExample("interop", { PER_MESSAGE_DEFLATE: "0" });
  t.after(() => plain.stop());
  const ws = await open(t, {}, plain.url);
  assert.equal(ws.extensions, "");
});
