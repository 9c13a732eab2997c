// Clients whose connection broke continue as the same socket.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io as v4 } from "socket.io-client";
import v3 from "socket.io-client-v3";
import parser from "socket.io-msgpack-parser";
import { ask, connect, next, startExample, until, untilReceived } from "./support.mjs";
import { startLink } from "./link.mjs";

let server, url, packed;
before(async () => {
  server = await startExample("interop", { PACKED_RECOVERY: "1" });
  url = server.url.replace(/\d+$/, (port) => Number(port) + 2);
  packed = server.url.replace(/\d+$/, (port) => Number(port) + 3);
});
after(() => server.stop());

const again = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 };

/** Connects a client in a room through a link that can be cut. */
async function connectWithoutEvent(t, options = {}) {
  const link = await startLink(options.parser ? packed : url);
  t.after(() => link.close());
  const socket = await connect(t, v4, link.url, { ...again, ...options });
  const numbers = [];
  socket.on("n", (n, offset) => {
    assert.equal(typeof offset, "string");
    numbers.push(Buffer.isBuffer(n) ? n.readUInt8() : n);
  });
  await ask(socket, "join", "room");
  return { link, socket, numbers };
}

/** Connects a client likewise, and waits for its first event. */
async function connectOverLink(t, options = {}) {
  const client = await connectWithoutEvent(t, options);
  const first = next(client.socket, "n");
  client.socket.emit("in", "room", "n", 0);
  await first;
  return client;
}

const cases = [["polling"], ["websocket"], ["polling", "websocket"]].flatMap((transports) => [
  ["JSON", { transports }],
  ["MessagePack", { transports, parser }],
]);

/** Breaks the network of a client while something happens, and checks that the client recovers. */
async function continuesAfter(link, socket, happens) {
  const { id } = socket;
  const lost = next(socket, "disconnect");
  link.cut();
  await happens();
  await lost;
  const back = next(socket, "connect");
  link.restore();
  await back;
  assert.equal(socket.recovered, true);
  assert.equal(socket.id, id);
}

for (const [wire, options] of cases) {
  describe(`${wire} over ${options.transports.join(" and ")}`, () => {
    test("a client continues after its network broke", async (t) => {
      const { link, socket, numbers } = await connectOverLink(t, options);
      const other = await connect(t, v4, options.parser ? packed : url, { parser: options.parser });
      await continuesAfter(link, socket, async () => {
        for (let n = 1; n < 10; n++) other.emit("in", "room", "n", n % 3 ? n : Buffer.of(n));
        other.emit("volatile", "n", 99);
        await ask(other, "echo");
      });
      assert.equal((await ask(socket, "whoami")).recovered, true);
      other.emit("in", "room", "n", 10);
      await until(() => numbers.includes(10), "the last event");
      assert.deepEqual(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    });

    test("a client that has received no event continues", async (t) => {
      const { link, socket, numbers } = await connectWithoutEvent(t, options);
      const other = await connect(t, v4, options.parser ? packed : url, { parser: options.parser });
      for (const missed of [[], [], [0, 1, 2]]) {
        await continuesAfter(link, socket, async () => {
          for (const n of missed) other.emit("in", "room", "n", n % 2 ? n : Buffer.of(n));
          await ask(other, "echo");
        });
      }
      assert.equal((await ask(socket, "whoami")).recovered, true);
      other.emit("in", "room", "n", 3);
      await until(() => numbers.includes(3), "the last event");
      assert.deepEqual(numbers, [0, 1, 2, 3]);
    });

    test("a client continues after the server dropped it repeatedly", async (t) => {
      const { socket, numbers } = await connectOverLink(t, options);
      const { id } = socket;
      for (let n = 1; n < 5; n++) {
        const back = next(socket, "connect");
        socket.emit("in", "room", "n", n);
        socket.emit("drop");
        await back;
        assert.equal(socket.recovered, true);
        assert.equal(socket.id, id);
      }
      await until(() => numbers.length === 5, "all events");
      assert.deepEqual(numbers, [0, 1, 2, 3, 4]);
    });
  });
}

test("every namespace of a connection continues", async (t) => {
  const { link, socket } = await connectOverLink(t);
  const chat = socket.io.socket("/chat");
  await next(chat, "connect");
  await ask(chat, "join", "room");
  const first = next(chat, "n");
  chat.emit("in", "room", "n", 1);
  await first;
  const ids = [socket.id, chat.id];
  const back = Promise.all([next(socket, "connect"), next(chat, "connect")]);
  link.cut();
  link.restore();
  await back;
  assert.deepEqual([socket.id, chat.id], ids);
  assert.deepEqual([socket.recovered, chat.recovered], [true, true]);
});

test("a client whose first event is no longer stored starts a new session", async (t) => {
  const { link, socket, numbers } = await connectWithoutEvent(t);
  const other = await connect(t, v4, url);
  const { id } = socket;
  const lost = next(socket, "disconnect");
  link.cut();
  await lost;
  for (let n = 0; n <= 2048; n++) other.emit("in", "room", "n", n);
  await ask(other, "echo");
  const back = next(socket, "connect");
  link.restore();
  await back;
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
  assert.deepEqual(numbers, []);
});

test("a volatile event that ends in a text causes a new session", async (t) => {
  const { socket } = await connectOverLink(t, { transports: ["websocket"] });
  await untilReceived(socket, "blip", "no offset");
  const back = next(socket, "connect");
  socket.emit("drop");
  await back;
  assert.equal(socket.recovered, false);
});

test("a client that disconnected itself starts a new session", async (t) => {
  const { socket } = await connectOverLink(t);
  const { id } = socket;
  socket.disconnect().connect();
  await next(socket, "connect");
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
});

test("a client that the server disconnected starts a new session", async (t) => {
  const { socket } = await connectOverLink(t);
  const lost = next(socket, "disconnect");
  socket.emit("kick", false);
  await lost;
  socket.connect();
  await next(socket, "connect");
  assert.equal(socket.recovered, false);
});

test("a client that returns after the retention starts a new session", async (t) => {
  const { link, socket } = await connectOverLink(t, { transports: ["websocket"] });
  const other = await connect(t, v4, url);
  const { id } = socket;
  const lost = next(socket, "disconnect");
  link.cut();
  await lost;
  await until(async () => (await ask(other, "last-reason", id)) !== null, "the server to miss it");
  await new Promise((done) => setTimeout(done, 11_000)); // Sessions are kept for 10 s.
  const back = next(socket, "connect");
  link.restore();
  await back;
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
});

test("a client without recovery support reconnects as a new client", async (t) => {
  const socket = await connect(t, v3.io, url, again);
  const echoed = next(socket, "echo");
  socket.emit("echo", 1);
  assert.equal((await echoed)[0], 1);
  const { id } = socket;
  const back = next(socket, "connect");
  socket.emit("drop");
  await back;
  assert.notEqual(socket.id, id);
  assert.equal((await ask(socket, "whoami")).recovered, false);
});

test("the offset of a packed event follows its arguments, whatever they are", async (t) => {
  const { link, socket } = await connectOverLink(t, { parser });
  const other = await connect(t, v4, packed, { parser });
  const values = [[], ["text"], [Buffer.of(1, 2)], [new Date(0), null], [{ deep: [Buffer.alloc(300)] }, "text"], Array(20).fill(1)];
  const received = [];
  socket.on("values", (...args) => received.push(args));
  for (const args of values) other.emit("in", "room", "values", ...args);
  await until(() => received.length === values.length, "the values");
  const back = next(socket, "connect");
  link.cut();
  for (const args of values) other.emit("in", "room", "values", ...args);
  await ask(other, "echo");
  link.restore();
  await back;
  assert.equal(socket.recovered, true);
  await until(() => received.length === 2 * values.length, "the missed values");
  const offsets = received.map((args) => args.pop());
  assert.equal(new Set(offsets).size, offsets.length);
  assert.ok(offsets.every((offset) => typeof offset === "string"));
  assert.deepEqual(received, [...values, ...values]);
});

test("acknowledgements carry no offset", async (t) => {
  const { socket } = await connectOverLink(t);
  assert.deepEqual(await ask(socket, "echo", "a", "b"), ["a", "b"]);
  socket.on("sum", (...args) => args.pop()(args));
  assert.deepEqual(await ask(socket, "ask", "sum", 2, 3), [2, 3]);
});
