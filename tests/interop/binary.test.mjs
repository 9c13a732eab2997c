// Binary attachments: nested, many, empty, large, in events and acknowledgements.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, next, startExample } from "./support.mjs";

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

const pattern = (size) => Buffer.from(Array.from({ length: size }, (_, i) => i % 256));
const sum = (buffer) => buffer.reduce((total, byte) => total + byte, 0);

for (const [client, io] of clients) {
  for (const transport of ["polling", "websocket"]) {
    describe(`${client} over ${transport}`, () => {
      const options = { transports: [transport] };

      test("the server understands attachments at any depth", async (t) => {
        const socket = await connect(t, io, server.url, options);
        const seen = await ask(socket, "inspect", pattern(300), { deep: [{ er: Uint8Array.of(1, 2) }] }, "b");
        assert.deepEqual(seen, [
          { t: "bin", n: 300, sum: sum(pattern(300)) },
          { t: "obj", v: { deep: { t: "arr", v: [{ t: "obj", v: { er: { t: "bin", n: 2, sum: 3 } } }] } } },
          { t: "str", n: 1, sum: 98 },
        ]);
      });

      test("attachments return at their original positions", async (t) => {
        const socket = await connect(t, io, server.url, options);
        const value = { a: pattern(3), b: [Buffer.alloc(0), { c: pattern(70_000) }], d: null };
        assert.deepEqual(await ask(socket, "echo", value), value);
        const echoed = next(socket, "echo");
        socket.emit("echo", pattern(1), "between", pattern(2));
        assert.deepEqual(await echoed, [pattern(1), "between", pattern(2)]);
      });

      for (const size of [0, 1, 125, 126, 65_535, 65_536, 700_000]) {
        test(`sends ${size} bytes`, async (t) => {
          const socket = await connect(t, io, server.url, options);
          assert.deepEqual(await ask(socket, "bin", size), pattern(size));
        });
      }

      test("accepts ten attachments and refuses eleven", async (t) => {
        const socket = await connect(t, io, server.url, options);
        const parts = (count) => Array.from({ length: count }, (_, i) => Buffer.of(i));
        assert.deepEqual(await ask(socket, "echo", parts(10)), parts(10));
        const closed = next(socket, "disconnect");
        socket.emit("echo", parts(11));
        assert.match((await closed)[0], /^transport (close|error)$/);
        const other = await connect(t, io, server.url, options);
        assert.equal(await ask(other, "echo", 1), 1);
      });

      test("binary answers reach the server", async (t) => {
        const socket = await connect(t, io, server.url, options);
        socket.on("photo", (request, answer) => answer({ of: request, data: pattern(9) }));
        assert.deepEqual(await ask(socket, "ask", "photo", pattern(2)), { of: pattern(2), data: pattern(9) });
      });

      test("a binary event reaches a room", async (t) => {
        const [sender, member] = await Promise.all([1, 2].map(() => connect(t, io, server.url, options)));
        await ask(member, "join", "pictures");
        const picture = next(member, "picture");
        sender.emit("to", "pictures", "picture", pattern(1000), { tag: "x" });
        assert.deepEqual(await picture, [pattern(1000), { tag: "x" }]);
      });
    });
  }

  test(`${client}: a packet at the limit is accepted, a larger one ends its session`, async (t) => {
    const options = { transports: ["websocket"] };
    const [socket, other] = await Promise.all([1, 2].map(() => connect(t, io, server.url, options)));
    const overhead = '421["inspect",""]'.length; // the first acknowledgement of `socket` is 0, this one 1
    assert.equal(await ask(socket, "echo", 0), 0);
    const [seen] = await ask(socket, "inspect", "x".repeat(1_000_000 - overhead));
    assert.equal(seen.n, 1_000_000 - overhead);
    const closed = next(socket, "disconnect");
    socket.emit("inspect", "x".repeat(1_000_001 - overhead), () => {});
    assert.match((await closed)[0], /^transport (close|error)$/);
    assert.equal(await ask(other, "echo", 1), 1);
  });
}
