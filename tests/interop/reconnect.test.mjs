// Clients that lose their connection reconnect by themselves.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, lastingPort, next, startExample, until } from "./support.mjs";

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

const again = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };

for (const [client, io] of clients) {
  for (const transport of ["polling", "websocket"]) {
    describe(`${client} over ${transport}`, () => {
      const options = { ...again, transports: [transport] };

      test("reconnects after the server closed the session", async (t) => {
        const socket = await connect(t, io, server.url, options);
        const { id } = socket;
        const lost = next(socket, "disconnect");
        const back = next(socket, "connect");
        socket.emit("drop");
        assert.match((await lost)[0], /^transport (close|error)$/);
        await back;
        assert.notEqual(socket.id, id);
        assert.equal(await ask(socket, "echo", 1), 1);
        let reason;
        await until(async () => (reason = await ask(socket, "last-reason", id)) !== null, "the reason");
        assert.equal(reason, "forced close");
      });

      test("reconnects after its own transport broke", async (t) => {
        const socket = await connect(t, io, server.url, options);
        const { id } = socket;
        const back = next(socket, "connect");
        socket.io.engine.close();
        await back;
        assert.notEqual(socket.id, id);
        assert.deepEqual(await ask(socket, "join", "x"), ["x"]);
      });

      test("sends events that were emitted while disconnected", async (t) => {
        const socket = await connect(t, io, server.url, options);
        const lost = next(socket, "disconnect");
        socket.emit("drop");
        await lost;
        const answers = [1, 2, 3].map((i) => ask(socket, "echo", i));
        assert.deepEqual(await Promise.all(answers), [1, 2, 3]);
      });

      test("can leave and reconnect immediately", async (t) => {
        const socket = await connect(t, io, server.url, options);
        const { id } = socket;
        socket.disconnect().connect();
        await next(socket, "connect");
        assert.notEqual(socket.id, id);
        assert.equal(await ask(socket, "echo", 1), 1);
      });
    });
  }

  test(`${client}: reconnects when a stopped server is back`, async (t) => {
    const port = await lastingPort();
    const first = await startExample("interop", { PORT: port });
    const socket = await connect(t, io, first.url, again);
    const lost = next(socket, "disconnect");
    const back = next(socket, "connect");
    assert.equal(await first.stop(), 0);
    await lost;
    const second = await startExample("interop", { PORT: port });
    t.after(() => second.stop());
    await back;
    assert.equal(await ask(socket, "echo", 1), 1);
  });
}
