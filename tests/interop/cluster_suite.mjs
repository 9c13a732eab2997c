// Scenarios of connected servers, whatever connects them: two Roomcast servers and a Node server.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io as client } from "socket.io-client";
import { all, people } from "./cluster.mjs";
import { areMissed, goesAway } from "./cluster_away.mjs";
import { ask, connect, next, startNamed, until } from "./support.mjs";

/** One argument of each kind. */
export const ARGS = [1, "é", { deep: [Buffer.from([0, 255]), null, 2.5, -1] }, Buffer.from("x")];

/**
 * Registers the tests of a cluster that `start` starts: two Roomcast servers and a Node server.
 *
 * `start` returns `{ a, b, node, ours, servers, startMore, leave, come, stop }`, see
 * `startCluster`. `sent` are the lists of arguments that clients receive. `dated` has the arguments
 * before a date. `asked` is the argument of requests between servers, `listed` the number of
 * servers with a namespace created on demand. `missed` are the events of an outage that arrive
 * afterwards. `own` registers the tests of only this adapter.
 */
export function describeCluster(name, start, options = {}, own = () => {}) {
  const { sent = [ARGS], dated = ["plain"], asked = [7], listed = 3, missed = [], hasEmitter = false } = options;
  describe(`joined by ${name}`, { concurrency: false }, () => {
    let cluster;
    const joined = () => cluster;
    before(async () => {
      cluster = await start();
      await known(cluster);
    });
    after(() => cluster?.stop());
    scenarios(joined, { sent, dated, asked, listed, missed, hasEmitter });
    own(joined);
  });
}

/** Waits until all servers know each other and have subscribed. */
export async function known({ a, node }) {
  const socket = await connect({ after() {} }, client, a.url);
  await until(async () => (await ask(socket, "servers")) === 3, "all servers");
  await until(async () => (await node.io.serverSideEmitWithAck("question", 7)).length === 2, "both Roomcast servers");
  socket.disconnect();
}

/**
 * Starts two Roomcast servers at this URL of a broker, and a Node server with `startNode`. `leave`
 * and `come` take the broker down and up; `more` overrides them.
 */
export async function startCluster(broker, ADAPTER, ADAPTER_KEY, startNode, more = {}) {
  const startMore = (name) => startNamed(name, { ADAPTER, ADAPTER_KEY });
  const [a, b, node] = await Promise.all([startMore("a"), startMore("b"), startNode()]);
  const stop = async () => {
    await Promise.all([a.stop(), b.stop(), node.stop()]);
    await broker.end();
  };
  const cluster = { broker, key: ADAPTER_KEY, a, b, node, ours: [a, b], servers: [a, b, node], startMore };
  return { ...cluster, leave: () => broker.kill(), come: () => broker.start(), stop, ...more };
}

/** The scenarios, in an order: the last have further servers, and take the broker down. */
function scenarios(joined, { sent, dated, asked, listed, missed, hasEmitter }) {
  test("room events with binary reach the members on all servers", async (t) => {
    const { sockets, heard, room } = await people(t, joined().servers);
    let count = 0;
    for (const told of sent) {
      const senders = [
        () => sockets[0].emit("in", room, "news", ...told),
        () => sockets[1].emit("in", room, "news", ...told),
        () => joined().node.io.to(room).emit("news", ...told),
        () => joined().node.io.to([room, "another"]).emit("news", ...told),
        () => joined().node.io.emit("news", ...told),
        () => sockets[0].emit("all", "news", ...told),
      ];
      for (const [i, send] of senders.entries()) {
        send();
        await all(heard, ++count);
        for (const list of heard) assert.deepEqual(list.at(-1), told, `sender ${i}`);
      }
    }
    joined().node.io.to([room, "another"]).emit("news", ...dated, { date: new Date(0) });
    await all(heard, ++count);
    for (const list of heard) assert.deepEqual([list.length, list.at(-1)], [count, [...dated, { date: "1970-01-01T00:00:00.000Z" }]]);
  });

  test("the sender and excepted sockets receive nothing, on any server", async (t) => {
    const { sockets, heard, room } = await people(t, joined().servers);
    for (const [i, socket] of sockets.entries()) {
      socket.emit("to", room, "news", i);
      await until(() => heard.every((list, j) => i === j || list.at(-1)?.[0] === i), `event ${i}`);
    }
    await ask(sockets[1], "join", `${room} 2`);
    joined().node.io.to(room).except(`${room} 2`).emit("news", "except");
    await until(() => heard[0].at(-1)[0] === "except" && heard[2].at(-1)[0] === "except", "those who are not excepted");
    joined().node.io.to(sockets[0].id).emit("news", "own");
    joined().node.io.to(sockets[1].id).emit("news", "end");
    await until(() => heard[0].at(-1)[0] === "own" && heard[1].at(-1)[0] === "end", "the end");
    assert.deepEqual(heard.flat(2), [1, 2, "except", "own", 0, 2, "end", 0, 1, "except"]);
  });

  test("clients of all servers acknowledge requests of any server", async (t) => {
    const { sockets, room } = await people(t, joined().servers);
    const large = "x".repeat(9_000);
    for (const [i, socket] of sockets.entries()) socket.on("question", (x, done) => done({ i, x, large }));
    const expected = [0, 1, 2].map((i) => ({ i, x: Buffer.from("x"), large }));
    const sorted = (answers) => answers.sort((a, b) => a.i - b.i);
    for (const socket of sockets.slice(0, 2)) {
      const [isComplete, answers] = await ask(socket, "bcast-ack", room, 10_000, "question", Buffer.from("x"));
      assert.ok(isComplete);
      assert.deepEqual(sorted(answers), expected);
    }
    const answers = await joined().node.io.to(room).timeout(10_000).emitWithAck("question", Buffer.from("x"));
    assert.deepEqual(sorted(answers), expected);
    const nobody = await joined().node.io.to("nobody").timeout(10_000).emitWithAck("question", 1);
    assert.deepEqual(nobody, []);
    sockets[2].off("question");
    const [isComplete, some] = await ask(sockets[0], "bcast-ack", room, 2_000, "question", 1);
    assert.ok(!isComplete);
    assert.equal(some.length, 2);
  });

  test("any server finds the sockets of all servers", async (t) => {
    const { sockets, room } = await people(t, joined().servers);
    const note = "x".repeat(9_000);
    const bytes = Buffer.from([0, 255]);
    for (const [i, socket] of sockets.entries()) socket.emit("set-data", { i, note, bytes });
    for (const socket of sockets) await ask(socket, "echo", 1);
    // The format decides whether binary stays binary between a Node server and another; in JSON it
    // is as Node writes it.
    const plain = (list) => JSON.parse(JSON.stringify(list)).sort((a, b) => (a.id < b.id ? -1 : 1));
    const all = sockets.map((socket, i) => ({ id: socket.id, rooms: [room], data: { value: { i, note, bytes } } }));
    const expected = plain(all);
    for (const socket of sockets.slice(0, 2)) {
      const found = await ask(socket, "fetch", room);
      assert.deepEqual(plain(found), expected);
      for (const own of all.slice(0, 2)) assert.deepEqual(found.find(({ id }) => id === own.id), own);
      assert.equal(await ask(socket, "count", room), 3);
      assert.deepEqual(await ask(socket, "fetch", "nobody"), []);
    }
    const found = await joined().node.io.in(room).fetchSockets();
    const told = found.map(({ id, rooms, data, handshake }) => {
      assert.equal(typeof handshake.address, "string");
      assert.ok(rooms.has(id));
      return { id, rooms: [...rooms].filter((room) => room !== id), data };
    });
    assert.deepEqual(plain(told), expected);
  });

  test("sockets of all servers join, leave and are disconnected from any", async (t) => {
    const { sockets, heard, room } = await people(t, joined().servers);
    joined().node.io.in(room).socketsJoin(`${room} 2`);
    await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 3, "all to join");
    sockets[0].emit("sockets-join", room, [`${room} 3`]);
    await until(async () => (await joined().node.io.in(`${room} 3`).fetchSockets()).length === 3, "all to join");
    joined().node.io.in(room).except(sockets[2].id).socketsLeave(`${room} 2`);
    await until(async () => (await ask(sockets[1], "count", `${room} 2`)) === 1, "two to leave");
    sockets[1].emit("sockets-leave", room, `${room} 3`);
    await until(async () => (await joined().node.io.in(`${room} 3`).fetchSockets()).length === 0, "all to leave");
    joined().node.io.in(sockets[0].id).disconnectSockets(true);
    await next(sockets[0], "disconnect");
    sockets[1].emit("sockets-disconnect", sockets[2].id, false);
    assert.deepEqual((await next(sockets[2], "disconnect"))[0], "io server disconnect");
    sockets[1].emit("in", room, "news", "still here");
    await all(heard.slice(1, 2), 1);
  });

  test("a socket added to a room from another server gets the next event once", async (t) => {
    const { sockets, heard, room } = await people(t, joined().servers);
    const numbers = Array.from({ length: 200 }, (_, n) => n);
    for (const n of numbers) {
      sockets[0].emit("sockets-join", room, [`${room} ${n}`]);
      sockets[0].emit("in", `${room} ${n}`, "news", n);
    }
    sockets[0].emit("in", room, "news", "end");
    await until(() => heard.every((list) => list.at(-1)?.[0] === "end"), "the end");
    for (const list of heard) assert.deepEqual(list.flat(), [...numbers, "end"]);
  });

  test("servers send each other events and requests", async (t) => {
    const { sockets } = await people(t, joined().servers);
    const noted = sockets.map((socket) => {
      const list = [];
      socket.on("noted", (...args) => list.push(args));
      return list;
    });
    sockets[0].emit("server-side", "note", 1, { a: "é" });
    await until(() => noted[1].length === 1 && noted[2].length === 1, "notes");
    joined().node.io.serverSideEmit("note", 2);
    await until(() => noted[0].length === 1 && noted[1].length === 2, "notes of Node");
    assert.deepEqual(noted, [[[2]], [[1, { a: "é" }], [2]], [[1, { a: "é" }]]]);
    for (const one of asked) {
      assert.deepEqual(await ask(sockets[0], "server-side-ack", one), [["b", one], ["node", one]]);
      const answers = await joined().node.io.serverSideEmitWithAck("question", one);
      assert.deepEqual(answers.sort(), [["a", one], ["b", one]]);
    }
  });

  test("namespaces created on demand are joined as well", async (t) => {
    joined().node.io.of("/dyn-7").on("question", (done) => done(["node"]));
    const [a, b] = await Promise.all(
      [joined().a, joined().b].map(({ url }) => connect(t, client, `${url}/dyn-7`)),
    );
    const told = next(b, "news");
    await until(async () => (await ask(a, "servers")) >= listed, "the other servers");
    a.emit("all", "news", 1);
    assert.deepEqual(await told, [1]);
    const again = next(a, "news");
    joined().node.io.of("/dyn-7").emit("news", 2);
    assert.deepEqual(await again, [2]);
  });

  if (hasEmitter) {
    test("events of Node's emitter reach all clients", async (t) => {
      const { emitter, listening } = joined();
      const { sockets, heard, room } = await people(t, listening);
      const events = [1, Buffer.from("x"), "x".repeat(9_000)];
      for (const [i, one] of events.entries()) {
        emitter.to(room).emit("news", one);
        await all(heard, i + 1);
      }
      emitter.to([room, "other"]).except(sockets[0].id).emit("news", 2);
      await all(heard.slice(1), 4);
      emitter.in(room).socketsJoin(`${room} 2`);
      await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === sockets.length, "all to join");
      const volatile = async () => {
        emitter.in(`${room} 2`).volatile.compress(false).emit("news", 3);
        for (const socket of sockets) await ask(socket, "echo", 1);
        return heard.every((list) => list.at(-1)[0] === 3);
      };
      await until(volatile, "an event that may be lost while something else is on its way");
      emitter.in(room).socketsLeave(`${room} 2`);
      await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 0, "all to leave");
      assert.deepEqual(heard[0].map((args) => args[0]).filter((one) => one !== 3), events);
      const noted = next(sockets[1], "noted");
      emitter.serverSideEmit("note", 4);
      assert.deepEqual(await noted, [4]);
      emitter.in(sockets[0].id).disconnectSockets();
      await next(sockets[0], "disconnect");
      // The emitter is no server, so servers expect no answers from it.
      assert.equal(await ask(sockets[1], "servers"), 3);
    });
  }

  test("a killed server expires later, a stopped server leaves immediately", (t) => {
    return areMissed(t, joined().servers, ["b", "node"], joined().startMore);
  });

  test("servers work without their broker and join again when it is back", async (t) => {
    const { servers, leave, come } = joined();
    const { sockets, heard, room } = await people(t, servers);
    await goesAway({ sockets, heard, room }, ["b", "node"], () => leave(room), () => come(room));
    const ours = heard.slice(0, 2);
    for (const [i, socket] of sockets.slice(0, 2).entries()) {
      socket.emit("in", room, "news", i);
      await until(() => ours.every((list) => list.at(-1)?.[0] === i), `event ${i}`);
    }
    for (const list of ours) {
      assert.deepEqual(list.flat().filter((text) => text !== "alone"), [...missed, 0, 1]);
      assert.ok(list.flat().filter((text) => text === "alone").length <= 1);
    }
  });
}
