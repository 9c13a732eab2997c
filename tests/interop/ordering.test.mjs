// Events arrive in the order of emission, in both directions, across the upgrade.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, next, open, startExample, until, within } from "./support.mjs";

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

const numbers = (count) => Array.from({ length: count }, (_, i) => i);

/**
 * Resolves when the connection has upgraded to WebSocket, which may be before the namespace
 * answers.
 */
const upgraded = ({ io: { engine } }) => engine.transport.name === "websocket" || next(engine, "upgrade");

for (const [client, io] of clients) {
  describe(client, () => {
    test("events that the server emits during the upgrade arrive in order", async (t) => {
      const socket = open(t, io, server.url);
      const seen = [];
      socket.on("item", (i) => seen.push(i));
      await next(socket, "connect");
      const upgrade = upgraded(socket);
      const done = next(socket, "done");
      socket.emit("stream", 3000, 50);
      await upgrade;
      await done;
      assert.deepEqual(seen, numbers(3000));
    });

    test("events, binary, acknowledgements and volatile keep their upgrade order", async (t) => {
      const socket = open(t, io, server.url);
      const count = 1500;
      const seen = [];
      const answers = [];
      const finished = within(
        new Promise((done) => {
          socket.on("echo", (i, kind) => {
            seen.push(Buffer.isBuffer(i) ? i.readUInt32BE() : i);
            if (kind === "last") done();
          });
        }),
        "the last event",
      );
      await next(socket, "connect");
      const upgrade = upgraded(socket);
      for (const i of numbers(count)) {
        if (i % 5 === 1) {
          const binary = Buffer.alloc(8);
          binary.writeUInt32BE(i);
          socket.emit("echo", binary);
        } else if (i % 5 === 2) {
          socket.emit("echo", i, (answer) => {
            answers.push(answer);
            // Its place among the events is that of its answer.
            seen.push(answer);
          });
        } else if (i % 5 === 3) {
          socket.emit("volatile", "echo", i);
        } else {
          socket.emit("echo", i);
        }
        // Packets of the upgrade arrive between the events.
        if (i % 100 === 0) await new Promise((done) => setTimeout(done, 1));
      }
      socket.emit("echo", count, "last");
      await upgrade;
      await finished;
      // Volatile events may be lost; nothing else may, and nothing changes its order.
      const sorted = [...seen].sort((a, b) => a - b);
      assert.deepEqual(seen, sorted);
      const reliable = numbers(count).filter((i) => i % 5 !== 3);
      assert.deepEqual(seen.filter((i) => i % 5 !== 3 || i === count), [...reliable, count]);
      assert.equal(answers.length, count / 5);
    });

    test("events of a room arrive in one order at members during upgrades", async (t) => {
      const members = numbers(8).map(() => open(t, io, server.url));
      const seen = members.map(() => []);
      members.forEach((socket, i) => socket.on("n", (...args) => seen[i].push(args.join())));
      await Promise.all(members.map((socket) => next(socket, "connect")));
      const upgrades = Promise.all(members.map(upgraded));
      await Promise.all(members.map((socket) => ask(socket, "join", "order")));
      for (const n of numbers(100)) members.forEach((socket, i) => socket.emit("in", "order", "n", i, n));
      await upgrades;
      await until(() => seen.every((list) => list.length >= 800), "all events");
      for (const list of seen) assert.deepEqual(list, seen[0]);
      // The events of each sender are in order.
      for (const i of numbers(8)) {
        const own = seen[0].filter((text) => text.startsWith(`${i},`));
        assert.deepEqual(own, numbers(100).map((n) => `${i},${n}`));
      }
    });
  });
}
