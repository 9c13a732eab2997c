// Rooms: their members, the events that members receive, and leaving.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, startExample, untilReceived } from "./support.mjs";

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

/** Connects three sockets that record the events `news`. */
async function trio(t, io) {
  const sockets = await Promise.all(
    ["polling", "websocket", "websocket"].map((transport) => connect(t, io, server.url, { transports: [transport] })),
  );
  const received = sockets.map((socket) => {
    const list = [];
    socket.on("news", (text) => list.push(text));
    return list;
  });
  // The first round of answers shows that the server has processed what was sent. The second shows
  // that all sockets have received the resulting events.
  const settle = async () => {
    for (const socket of [...sockets, ...sockets]) await ask(socket, "echo", 0);
  };
  return { sockets, received, settle };
}

for (const [client, io] of clients) {
  describe(client, () => {
    test("join and leave return the remaining rooms", async (t) => {
      const socket = await connect(t, io, server.url);
      assert.deepEqual(await ask(socket, "join", "b"), ["b"]);
      assert.deepEqual(await ask(socket, "join", "a"), ["a", "b"]);
      assert.deepEqual(await ask(socket, "join", "a"), ["a", "b"]);
      assert.deepEqual(await ask(socket, "leave", "b"), ["a"]);
      assert.deepEqual(await ask(socket, "leave", "never joined"), ["a"]);
    });

    test("`in` reaches all members, `to` all but the sender, `except` the others", async (t) => {
      const { sockets, received, settle } = await trio(t, io);
      const room = `room of ${sockets[0].id}`;
      await ask(sockets[0], "join", room);
      await ask(sockets[1], "join", room);
      sockets[0].emit("in", room, "news", "in");
      await settle();
      sockets[0].emit("to", room, "news", "to");
      await settle();
      sockets[2].emit("to", room, "news", "from outside");
      await settle();
      assert.deepEqual(received, [["in", "from outside"], ["in", "to", "from outside"], []]);
    });

    test("`except` reaches the namespace without the members", async (t) => {
      const { sockets, received, settle } = await trio(t, io);
      const room = `room of ${sockets[0].id}`;
      await ask(sockets[1], "join", room);
      sockets[0].emit("except", room, "news", "others");
      await settle();
      assert.deepEqual(received, [["others"], [], ["others"]]);
    });

    test("a socket is in the room of its own id", async (t) => {
      const { sockets, received, settle } = await trio(t, io);
      sockets[0].emit("to", sockets[1].id, "news", "private");
      await settle();
      assert.deepEqual(received, [[], ["private"], []]);
    });

    test("a socket receives nothing from a room that it has left", async (t) => {
      const { sockets, received, settle } = await trio(t, io);
      const room = `room of ${sockets[0].id}`;
      await ask(sockets[1], "join", room);
      await ask(sockets[1], "leave", room);
      await ask(sockets[2], "join", room);
      sockets[0].emit("in", room, "news", 1);
      await settle();
      assert.deepEqual(received, [[], [], [1]]);
    });

    test("a disconnected socket is in no room", async (t) => {
      const { sockets } = await trio(t, io);
      const room = `room of ${sockets[0].id}`;
      sockets[1].on("vote", (answer) => answer("left"));
      sockets[2].on("vote", (answer) => answer("here"));
      await ask(sockets[1], "join", room);
      await ask(sockets[2], "join", room);
      const { id } = sockets[1];
      sockets[1].disconnect();
      while ((await ask(sockets[0], "last-reason", id)) === null);
      assert.deepEqual(await ask(sockets[0], "bcast-ack", room, 20_000, "vote"), [true, ["here"]]);
    });

    test("all members see one order of concurrent senders", async (t) => {
      const { sockets, received, settle } = await trio(t, io);
      const room = `room of ${sockets[0].id}`;
      for (const socket of sockets) await ask(socket, "join", room);
      for (let i = 0; i < 200; i++) sockets.forEach((socket, s) => socket.emit("in", room, "news", `${s}:${i}`));
      await settle();
      assert.equal(received[0].length, 600);
      assert.deepEqual(received[1], received[0]);
      assert.deepEqual(received[2], received[0]);
    });

    test("volatile events arrive if nothing delays them", async (t) => {
      const socket = await connect(t, io, server.url, { transports: ["websocket"] });
      assert.deepEqual(await untilReceived(socket, "blip", 7), [7]);
    });
  });
}
