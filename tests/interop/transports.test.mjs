// Each transport alone, and the upgrade from one to the other.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, next, startExample, within } from "./support.mjs";

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

for (const [client, io] of clients) {
  describe(client, () => {
    for (const transport of ["polling", "websocket"]) {
      test(`talks over ${transport} only`, async (t) => {
        const socket = await connect(t, io, server.url, { transports: [transport] });
        const me = await ask(socket, "whoami");
        assert.equal(me.transport, transport);
        assert.equal(me.id, socket.id);
        assert.equal(me.nsp, "/");
        assert.equal(me.eio, 4);
        assert.equal(me.recovered, false);
        assert.equal(await ask(socket, "echo", "hello"), "hello");
      });

      test(`stays connected through heartbeats over ${transport}`, async (t) => {
        const socket = await connect(t, io, server.url, { transports: [transport] });
        const { engine } = socket.io;
        let pings = 0;
        const third = new Promise((done) => {
          engine.on("packet", ({ type }) => type === "ping" && ++pings === 3 && done());
        });
        await within(third, "three pings"); // 3 s at this server's interval of 1 s
        assert.equal(socket.connected, true);
        assert.equal(await ask(socket, "echo", "still here"), "still here");
      });

      test(`receives 2,000 events in order over ${transport}`, async (t) => {
        const socket = await connect(t, io, server.url, { transports: [transport] });
        const seen = [];
        socket.on("item", (i, text) => seen.push([i, text.length]));
        const done = next(socket, "done");
        socket.emit("stream", 2000, 100);
        assert.deepEqual(await done, [2000]);
        assert.deepEqual(seen, Array.from({ length: 2000 }, (_, i) => [i, 100]));
      });

      test(`sends 2,000 events in order over ${transport}`, async (t) => {
        const socket = await connect(t, io, server.url, { transports: [transport] });
        const answers = [];
        for (let i = 0; i < 2000; i++) socket.emit("echo", i, (value) => answers.push(value));
        assert.equal(await ask(socket, "echo", "last"), "last");
        assert.deepEqual(answers, Array.from({ length: 2000 }, (_, i) => i));
      });

      test(`carries text beyond the basic plane over ${transport}`, async (t) => {
        const socket = await connect(t, io, server.url, { transports: [transport] });
        const text = "\u0000\u001e\u2028 ÄЖ语 🦀 \\\" </script>";
        assert.equal(await ask(socket, "echo", text), text);
        const [seen] = await ask(socket, "inspect", text);
        assert.equal(seen.n, Buffer.byteLength(text));
      });
    }

    test("upgrades from polling to websocket", async (t) => {
      const socket = await connect(t, io, server.url);
      const { engine } = socket.io;
      assert.equal((await ask(socket, "whoami")).id, socket.id);
      if (engine.transport.name !== "websocket") await next(engine, "upgrade");
      assert.equal((await ask(socket, "whoami")).transport, "websocket");
    });

    test("loses and doubles nothing during the upgrade", async (t) => {
      const socket = await connect(t, io, server.url);
      const received = [];
      socket.on("echo", (i) => received.push(i));
      let sent = 0;
      const { engine } = socket.io;
      const upgraded = engine.transport.name === "websocket" ? Promise.resolve() : next(engine, "upgrade");
      let over = false;
      upgraded.then(() => (over = true));
      while (!over) {
        // Limits what is in flight, however long the upgrade takes.
        if (sent - received.length < 2000) for (let i = 0; i < 20; i++) socket.emit("echo", sent++);
        await new Promise(setImmediate);
      }
      for (let i = 0; i < 20; i++) socket.emit("echo", sent++);
      assert.equal(await ask(socket, "echo", "last"), "last");
      assert.deepEqual(received, Array.from({ length: sent }, (_, i) => i));
    });

    test("learns the reason when it leaves, as the server does", async (t) => {
      const observer = await connect(t, io, server.url);
      const socket = await connect(t, io, server.url);
      const { id } = socket;
      const reason = next(socket, "disconnect");
      socket.disconnect();
      assert.equal((await reason)[0], "io client disconnect");
      let seen = null;
      while (seen === null) seen = await ask(observer, "last-reason", id);
      assert.equal(seen, "client namespace disconnect");
    });
  });
}
