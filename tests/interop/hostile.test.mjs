// Upgrades and refusals as stock clients see them, against the server itself. Responses to raw
// bytes are tested in tests/server/hostile/b.rs.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, next, open, startServer, within } from "./support.mjs";
import { SECRET, token } from "./tokens.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const [[, io]] = clients;
let server;
let bystanders;

before(async () => {
  server = await startServer({ ROOMCAST_AUTH__JWT__SECRET: SECRET });
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
  assert.doesNotMatch(server.output(), /panicked|shutdown grace period is over/);
});

/** Checks that messages of the bystanders reach each other. */
async function chat(title) {
  const [sender, ...others] = bystanders;
  const content = `${title} ${Math.random()}`;
  const receipts = others.map((socket) =>
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
  assert.equal((await ask(sender, "message", { conversationId: LOBBY, content })).success, true);
  await Promise.all(receipts);
}

describe("upgrades of stock clients", () => {
  for (const [name, client] of clients) {
    test(`B11: nothing is lost, doubled or reordered while a client upgrades (${name})`, async () => {
      const requests = [];
      const socket = client(server.url, { forceNew: true, reconnection: false, auth: { name: "Bob" } });
      try {
        await next(socket, "connect");
        const { engine } = socket.io;
        const upgraded = engine.transport.name === "websocket" || next(engine, "upgrade");
        const order = [];
        for (let n = 0; n < 200; n++) {
          requests.push(ask(socket, "presence", n).then(() => order.push(n)));
          if (n % 10 === 0) await new Promise((done) => setImmediate(done));
        }
        await chat(name);
        await upgraded;
        await Promise.all(requests);
        assert.deepEqual(
          order,
          Array.from({ length: 200 }, (_, n) => n),
        );
      } finally {
        socket.disconnect();
      }
    });
  }
});

test("B3: an upgrade refused by the authenticator is answered in plain HTTP", async (t) => {
  const strict = await startServer({ ROOMCAST_AUTH__AT_HANDSHAKE: "true", ROOMCAST_AUTH__JWT__SECRET: SECRET });
  t.after(() => strict.stop());
  const extraHeaders = { authorization: `Bearer ${token()}` };
  const socket = await connect(t, io, strict.url, { extraHeaders });
  const refused = open(t, io, strict.url, { transports: ["websocket"], extraHeaders: { authorization: "Bearer x" } });
  const [error] = await next(refused, "connect_error");
  assert.equal(error.type, "TransportError");
  assert.equal(socket.connected, true);
});

test("a server stops immediately despite refused clients", async (t) => {
  for (let round = 0; round < 12; round++) {
    const started = await startServer({ ROOMCAST_AUTH__JWT__SECRET: SECRET });
    const refused = Array.from({ length: 4 }, async () => {
      const socket = open(t, io, started.url, { auth: { token: "bad" } });
      await next(socket, "connect_error");
    });
    await Promise.all(refused);
    // Their upgrades are in progress, at a different point in each round.
    await new Promise((done) => setTimeout(done, round * 2));
    assert.equal(await started.stop(), 0);
    assert.doesNotMatch(started.output(), /shutdown grace period is over/);
  }
});
