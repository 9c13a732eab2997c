// The server mounted in another: nested in axum, as a layer there, in hyper alone, and over a
// stream that is not TCP.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ask, clients, connect, next, startExample, within } from "./support.mjs";

const CLIENT_PACKAGE = fileURLToPath(new URL("node_modules/socket.io-client", import.meta.url));

for (const mount of ["nested", "layer", "hyper", "buffered"]) {
  describe(mount, () => {
    let server;
    before(async () => (server = await startExample("interop", { MOUNT: mount, CLIENT_PACKAGE })));
    after(async () => assert.equal(await server.stop(), 0));

    for (const [client, io] of clients) {
      for (const transport of ["polling", "websocket"]) {
        test(`${client} talks over ${transport}`, async (t) => {
          const socket = await connect(t, io, server.url, { transports: [transport] });
          const me = await ask(socket, "whoami");
          assert.equal(me.transport, transport);
          assert.equal(await ask(socket, "echo", "Ä"), "Ä");
          const bytes = Buffer.from([0, 1, 254, 255]);
          assert.deepEqual(await ask(socket, "echo", bytes), bytes);
          const big = "x".repeat(900_000);
          assert.equal(await ask(socket, "echo", big), big);
        });
      }

      test(`${client} is upgraded and loses nothing`, async (t) => {
        const socket = await connect(t, io, server.url, {});
        const seen = [];
        socket.on("item", (i) => seen.push(i));
        const done = next(socket, "done");
        socket.emit("stream", 2000, 50);
        await done;
        assert.deepEqual(seen, Array.from({ length: 2000 }, (_, i) => i));
        const { engine } = socket.io;
        if (engine.transport.name !== "websocket") await next(engine, "upgrade");
        assert.equal((await ask(socket, "whoami")).transport, "websocket");
      });

      test(`${client} reconnects after a disconnect`, async (t) => {
        const socket = await connect(t, io, server.url, { reconnection: true, reconnectionDelay: 10 });
        const before = socket.id;
        const again = next(socket, "connect");
        socket.emit("drop");
        await again;
        assert.notEqual(socket.id, before);
        assert.equal(await ask(socket, "echo", 1), 1);
      });
    }

    test("heartbeats continue", async (t) => {
      const socket = await connect(t, clients[0][1], server.url, { transports: ["websocket"] });
      let pings = 0;
      await within(
        new Promise((done) => socket.io.engine.on("packet", ({ type }) => type === "ping" && ++pings === 2 && done())),
        "two pings",
      );
      assert.equal(await ask(socket, "echo", "still here"), "still here");
    });

    test("the client is served", async () => {
      const file = await fetch(`${server.url}/socket.io/socket.io.min.js`);
      assert.equal(file.status, 200);
      assert.match(await file.text(), /^\/\*!\s+\* Socket\.IO v4/);
    });
  });
}
