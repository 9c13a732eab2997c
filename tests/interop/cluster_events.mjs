// Every event of the contract of the `interop` server, as one node of a cluster of Roomcast
// servers. Between Roomcast servers with any adapter: tests/server/cluster.
import assert from "node:assert/strict";
import { test } from "node:test";
import { io as client } from "socket.io-client";
import parser from "socket.io-msgpack-parser";
import { all, people } from "./cluster.mjs";
import { ARGS } from "./cluster_suite.mjs";
import { ask, connect, next, until } from "./support.mjs";

/**
 * Registers the tests.
 *
 * `joined` returns, when they run, two Roomcast servers, or the same server twice: `{ ours }`.
 * `others` has the names of further servers in the cluster. `asked` is the argument of requests
 * between servers.
 */
export function clusterEvents(joined, { others = [], asked = [7] } = {}) {
  /** Connects clients to both servers; a third connects to the first server, and is in no room. */
  const enter = async (t) => {
    const { ours } = joined();
    const { sockets, heard, room } = await people(t, ours);
    const [a, b] = sockets;
    return { ours, a, b, heard, room, isApart: ours[0] !== ours[1] };
  };
  /**
   * Waits until a last event of the first client has reached both, and returns the events before
   * it.
   */
  const untilEnd = async ({ a, heard, room }) => {
    a.emit("in", room, "news", "the end");
    await until(() => heard.every((list) => list.at(-1)?.[0] === "the end"), "the end");
    return heard.map((list) => list.slice(0, -1));
  };
  const sorted = (texts) => [...texts].sort((one, other) => (one < other ? -1 : 1));

  test("a server returns its name and can send only to its own clients", async (t) => {
    const here = await enter(t);
    const { ours, a, b, room, isApart } = here;
    assert.deepEqual([await ask(a, "whereami"), await ask(b, "whereami")], ours.map(({ name }) => name));
    a.emit("local", room, "news", ...ARGS);
    assert.deepEqual(await untilEnd(here), [[ARGS], isApart ? [] : [ARGS]]);
  });

  test("events for rooms, all others and all sockets reach both servers", async (t) => {
    const here = await enter(t);
    const { ours, a, b, room } = here;
    const stranger = await connect(t, client, ours[0].url);
    const strange = [];
    stranger.on("news", (...args) => strange.push(args));
    await ask(b, "join", `${room} 2`);
    a.emit("in", room, "news", 1, ...ARGS);
    a.emit("in", [room, `${room} 2`], "news", 2);
    a.emit("to", room, "news", 3);
    a.emit("to", [`${room} 3`, `${room} 2`], "news", 4);
    a.emit("except", `${room} 2`, "news", 5);
    a.emit("except", [`${room} 2`, `${room} 3`], "news", 6);
    a.emit("all", "news", 7, ...ARGS);
    assert.deepEqual(await untilEnd(here), [[[1, ...ARGS], [2], [5], [6], [7, ...ARGS]], [[1, ...ARGS], [2], [3], [4], [7, ...ARGS]]]);
    // The answer follows everything that was sent to it.
    await ask(stranger, "echo", 1);
    assert.deepEqual(strange, [[5], [6], [7, ...ARGS]]);
  });

  test("a volatile event reaches the clients of both servers that can take it", async (t) => {
    const { a, b, heard, room } = await enter(t);
    const isHeard = async () => {
      a.emit("volatile-in", room, "news", ...ARGS);
      for (const socket of [a, b]) await ask(socket, "echo", 1);
      return heard.every((list) => list.length > 0);
    };
    await until(isHeard, "an event that may be lost while something else is on its way");
    for (const list of heard) assert.deepEqual(list[0], ARGS);
  });

  test("clients of both servers answer", async (t) => {
    const { a, b, room } = await enter(t);
    const large = "x".repeat(9_000);
    for (const [i, socket] of [a, b].entries()) socket.on("question", (bytes, done) => done({ i, bytes, large }));
    const [isComplete, answers] = await ask(a, "bcast-ack", room, 20_000, "question", Buffer.from([0, 255]));
    assert.ok(isComplete);
    const expected = [0, 1].map((i) => ({ i, bytes: Buffer.from([0, 255]), large }));
    assert.deepEqual(answers.sort((one, other) => one.i - other.i), expected);
    assert.deepEqual(await ask(b, "bcast-ack", `${room} of nobody`, 20_000, "question"), [true, []]);
  });

  test("clients of both servers are found, counted and moved", async (t) => {
    const { a, b, room } = await enter(t);
    const second = `${room} 2`;
    const found = () => ask(b, "fetch", room);
    assert.deepEqual(await found(), sorted([a.id, b.id]).map((id) => ({ id, rooms: [room], data: {} })));
    for (const [i, socket] of [a, b].entries()) {
      socket.emit("set-data", { i, deep: ["é", null, "x".repeat(9_000), Buffer.from([0, 255])] });
      await ask(socket, "echo", 1);
    }
    a.emit("sockets-join", room, second);
    await until(async () => (await ask(b, "count", second)) === 2, "both to join");
    a.emit("sockets-join", second, [`${room} 4`, `${room} 3`]);
    await until(async () => (await ask(b, "count", `${room} 3`)) === 2, "both to join");
    const data = [a, b].map((_, i) => ({ value: { i, deep: ["é", null, "x".repeat(9_000), Buffer.from([0, 255])] } }));
    const rooms = [room, second, `${room} 3`, `${room} 4`];
    const expected = sorted([a.id, b.id]).map((id) => ({ id, rooms, data: data[id === a.id ? 0 : 1] }));
    for (const socket of [a, b]) assert.deepEqual(await ask(socket, "fetch", room), expected);
    b.emit("sockets-leave", room, [second, `${room} 3`]);
    await until(async () => (await ask(a, "count", second)) === 0, "both to leave");
    b.emit("sockets-leave", room, `${room} 4`);
    await until(async () => (await ask(a, "count", `${room} 4`)) === 0, "both to leave");
    assert.deepEqual((await found()).map(({ rooms }) => rooms), [[room], [room]]);
    assert.deepEqual(await ask(a, "fetch", `${room} of nobody`), []);
    assert.equal(await ask(a, "count", room), 2);
  });

  test("clients of both servers are disconnected from a namespace or entirely", async (t) => {
    const { a, b, room } = await enter(t);
    const beside = b.io.socket("/chat");
    t.after(() => beside.disconnect());
    await next(beside, "connect");
    a.emit("sockets-disconnect", b.id, false);
    assert.deepEqual((await next(b, "disconnect"))[0], "io server disconnect");
    assert.equal(await ask(beside, "echo", 1), 1);
    b.connect();
    await next(b, "connect");
    await ask(b, "join", `${room} 2`);
    const ended = next(beside, "disconnect");
    a.emit("sockets-disconnect", `${room} 2`, true);
    await ended;
    await until(async () => (await ask(a, "count", `${room} 2`)) === 0, "it to be gone");
    assert.equal(await ask(a, "count", room), 1);
  });

  test("servers exchange events and requests, and know their number", async (t) => {
    const { ours, a, b, isApart } = await enter(t);
    const noted = [a, b].map((socket) => {
      const list = [];
      socket.on("noted", (...args) => list.push(args));
      return list;
    });
    const names = [...new Set([...ours.map(({ name }) => name), ...others])];
    assert.equal(await ask(a, "servers"), names.length);
    a.emit("server-side", "note", ...asked);
    a.emit("server-side", "unknown", 1);
    if (isApart) await until(() => noted[1].length === 1, "the note");
    for (const one of asked) {
      const answers = await ask(a, "server-side-ack", one, "é");
      assert.deepEqual(answers, sorted(names.filter((name) => name !== ours[0].name)).map((name) => [name, one, "é"]));
    }
    assert.deepEqual(noted, [[], isApart ? [asked] : []]);
  });

  for (const [listener, offset, options] of [["MessagePack", 1, { parser }], ["recovery", 2, {}]]) {
    test(`the listener for ${listener} is a separate cluster`, async (t) => {
      const here = await enter(t);
      const there = ({ url }) => url.replace(/\d+$/, (port) => Number(port) + offset);
      const sockets = await Promise.all(here.ours.map((server) => connect(t, client, there(server), options)));
      const count = new Set(here.ours).size;
      await until(async () => (await ask(sockets[0], "servers")) === count, "its counterpart");
      const heard = sockets.map((socket) => {
        const list = [];
        // A client that can be recovered gets an offset after the arguments.
        socket.on("news", (...args) => list.push(args.slice(0, ARGS.length)));
        return list;
      });
      for (const socket of sockets) await ask(socket, "join", here.room);
      sockets[0].emit("in", here.room, "news", ...ARGS);
      sockets[1].emit("all", "news", ...ARGS);
      await all(heard, 2);
      assert.deepEqual(heard, [[ARGS, ARGS], [ARGS, ARGS]]);
      assert.equal(await ask(sockets[0], "count", here.room), 2);
      assert.deepEqual(await untilEnd(here), [[], []]);
    });
  }
}
