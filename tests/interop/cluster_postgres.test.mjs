// Servers of ours and a Node server share rooms through PostgreSQL, on the wire of Node's adapter.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createAdapter } from "@socket.io/postgres-adapter";
import { Emitter } from "@socket.io/postgres-emitter";
import pg from "pg";
import { io as client } from "socket.io-client";
import { all, people, serveNode } from "./cluster.mjs";
import { startPostgres } from "./postgres.mjs";
import { ask, connect, next, startExample, until, within } from "./support.mjs";

const key = "key *1";

/** Connections of Node's client, made again when they break. */
function connectPool(postgres) {
  const pool = new pg.Pool({ connectionString: postgres.url });
  pool.on("error", () => {});
  // The adapter leaves the end of the connection that it listens on to nobody.
  pool.on("connect", (connection) => connection.on("error", () => {}));
  return pool;
}

/** Two servers of ours and one of Node. */
async function startCluster() {
  const postgres = await startPostgres();
  const pool = connectPool(postgres);
  const start = (NODE_NAME) =>
    startExample("interop", { ADAPTER: postgres.url, ADAPTER_KEY: key, NODE_NAME });
  const [a, b] = await Promise.all([start("a"), start("b")]);
  const node = await serveNode(createAdapter(pool, { channelPrefix: key }));
  const stop = async () => {
    await Promise.all([a.stop(), b.stop(), node.io.close()]);
    // Node's adapter never gives back a connection that broke, so that this may have no end.
    pool.end();
    await postgres.close();
  };
  return { postgres, pool, a, b, node, servers: [a, b, node], stop };
}

describe("two servers of ours and one of Node", () => {
  let cluster;
  before(async () => {
    cluster = await startCluster();
    const socket = await connect({ after() {} }, client, cluster.a.url);
    await until(async () => (await ask(socket, "servers")) === 3, "all servers");
    socket.disconnect();
  });
  after(() => cluster.stop());

  test("what one server sends reaches the members of a room on all, large and with binary in it", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    const args = [1, "é", { deep: [Buffer.from([0, 255]), null, 2.5, -1] }, Buffer.from("x")];
    const large = [1, "é".repeat(9_000), [2 ** 53 + 2]];
    let count = 0;
    for (const told of [args, large, ["small"]]) {
      const senders = [
        () => sockets[0].emit("in", room, "news", ...told),
        () => sockets[1].emit("in", room, "news", ...told),
        () => cluster.node.io.to(room).emit("news", ...told),
        () => cluster.node.io.to([room, "another"]).emit("news", ...told),
        () => cluster.node.io.emit("news", ...told),
        () => sockets[0].emit("all", "news", ...told),
      ];
      for (const [i, send] of senders.entries()) {
        send();
        await all(heard, ++count);
        for (const list of heard) assert.deepEqual(list.at(-1), told, `sender ${i}`);
      }
    }
    assert.ok(heard.every((list) => list.length === count));
  });

  test("an event of every length about the longest notification arrives at all", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    const lengths = Array.from({ length: 300 }, (_, i) => 7_700 + i);
    // Whatever stands around the text, one of them is 8,000 bytes long.
    for (const length of lengths) sockets[0].emit("in", room, "news", "x".repeat(length));
    await all(heard, lengths.length);
    assert.deepEqual(heard[1].map(([text]) => text.length), lengths);
    assert.deepEqual(heard[2].map(([text]) => text.length).sort((a, b) => a - b), lengths);
  });

  test("small events do not overtake large ones between servers of ours", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    for (let n = 0; n < 200; n++) {
      sockets[0].emit("in", room, "news", n, n % 3 === 0 ? "x".repeat(20_000) : n % 3 === 1 ? Buffer.alloc(1) : 0);
    }
    await all(heard, 200);
    assert.deepEqual(heard[1].map(([n]) => n), Array.from({ length: 200 }, (_, n) => n));
  });

  test("whoever sends and whoever is excepted hears nothing, on any server", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    for (const [i, socket] of sockets.entries()) {
      socket.emit("to", room, "news", i);
      await until(() => heard.every((list, j) => i === j || list.at(-1)?.[0] === i), `event ${i}`);
    }
    await ask(sockets[1], "join", `${room} 2`);
    cluster.node.io.to(room).except(`${room} 2`).emit("news", "except");
    await until(() => heard[0].at(-1)[0] === "except" && heard[2].at(-1)[0] === "except", "those who are not excepted");
    cluster.node.io.to(sockets[0].id).emit("news", "own");
    cluster.node.io.to(sockets[1].id).emit("news", "end");
    await until(() => heard[0].at(-1)[0] === "own" && heard[1].at(-1)[0] === "end", "the end");
    assert.deepEqual(heard.flat(2), [1, 2, "except", "own", 0, 2, "end", 0, 1, "except"]);
  });

  test("clients of all servers acknowledge what any server asks", async (t) => {
    const { sockets, room } = await people(t, cluster.servers);
    const large = "x".repeat(9_000);
    for (const [i, socket] of sockets.entries()) socket.on("question", (x, done) => done({ i, x, large }));
    const expected = [0, 1, 2].map((i) => ({ i, x: Buffer.from("x"), large }));
    const sorted = (answers) => answers.sort((a, b) => a.i - b.i);
    for (const socket of sockets.slice(0, 2)) {
      const [isComplete, answers] = await ask(socket, "bcast-ack", room, 10_000, "question", Buffer.from("x"));
      assert.ok(isComplete);
      assert.deepEqual(sorted(answers), expected);
    }
    const answers = await cluster.node.io.to(room).timeout(10_000).emitWithAck("question", Buffer.from("x"));
    assert.deepEqual(sorted(answers), expected);
    const nobody = await cluster.node.io.to("nobody").timeout(1_000).emitWithAck("question", 1);
    assert.deepEqual(nobody, []);
    sockets[2].off("question");
    const [isComplete, some] = await ask(sockets[0], "bcast-ack", room, 500, "question", 1);
    assert.ok(!isComplete);
    assert.equal(some.length, 2);
  });

  test("the sockets of all servers are found from any", async (t) => {
    const { sockets, room } = await people(t, cluster.servers);
    const note = "x".repeat(9_000);
    for (const [i, socket] of sockets.entries()) socket.emit("set-data", { i, note });
    for (const socket of sockets) await ask(socket, "echo", 1);
    const expected = sockets
      .map((socket, i) => ({ id: socket.id, rooms: [room], data: { value: { i, note } } }))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    for (const socket of sockets.slice(0, 2)) {
      assert.deepEqual(await ask(socket, "fetch", room), expected);
      assert.equal(await ask(socket, "count", room), 3);
      assert.deepEqual(await ask(socket, "fetch", "nobody"), []);
    }
    const found = await cluster.node.io.in(room).fetchSockets();
    const told = found.map(({ id, rooms, data, handshake }) => {
      assert.equal(typeof handshake.address, "string");
      assert.ok(rooms.has(id));
      return { id, rooms: [...rooms].filter((room) => room !== id), data };
    });
    assert.deepEqual(told.sort((a, b) => (a.id < b.id ? -1 : 1)), expected);
  });

  test("sockets of all servers join, leave and are disconnected from any", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    cluster.node.io.in(room).socketsJoin(`${room} 2`);
    await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 3, "all to join");
    sockets[0].emit("sockets-join", room, [`${room} 3`]);
    await until(async () => (await cluster.node.io.in(`${room} 3`).fetchSockets()).length === 3, "all to join");
    cluster.node.io.in(room).except(sockets[2].id).socketsLeave(`${room} 2`);
    await until(async () => (await ask(sockets[1], "count", `${room} 2`)) === 1, "two to leave");
    sockets[1].emit("sockets-leave", room, `${room} 3`);
    await until(async () => (await cluster.node.io.in(`${room} 3`).fetchSockets()).length === 0, "all to leave");
    cluster.node.io.in(sockets[0].id).disconnectSockets(true);
    await next(sockets[0], "disconnect");
    sockets[1].emit("sockets-disconnect", sockets[2].id, false);
    assert.deepEqual((await next(sockets[2], "disconnect"))[0], "io server disconnect");
    sockets[1].emit("in", room, "news", "still here");
    await all(heard.slice(1, 2), 1);
  });

  test("servers tell and ask each other", async (t) => {
    const { sockets } = await people(t, cluster.servers);
    const noted = sockets.map((socket) => {
      const list = [];
      socket.on("noted", (...args) => list.push(args));
      return list;
    });
    sockets[0].emit("server-side", "note", 1, { a: "é" });
    await until(() => noted[1].length === 1 && noted[2].length === 1, "notes");
    cluster.node.io.serverSideEmit("note", 2);
    await until(() => noted[0].length === 1 && noted[1].length === 2, "notes of Node");
    assert.deepEqual(noted, [[[2]], [[1, { a: "é" }], [2]], [[1, { a: "é" }]]]);
    for (const asked of [7, "x".repeat(9_000), Buffer.from([0, 255])]) {
      assert.deepEqual(await ask(sockets[0], "server-side-ack", asked), [["b", asked], ["node", asked]]);
      const answers = await cluster.node.io.serverSideEmitWithAck("question", asked);
      assert.deepEqual(answers.sort(), [["a", asked], ["b", asked]]);
    }
  });

  test("namespaces made on demand are joined as well", async (t) => {
    cluster.node.io.of("/dyn-7").on("question", (done) => done(["node"]));
    const [a, b] = await Promise.all(
      [cluster.a, cluster.b].map(({ url }) => connect(t, client, `${url}/dyn-7`)),
    );
    const told = next(b, "news");
    await until(async () => (await ask(a, "servers")) === 3, "the other servers");
    a.emit("all", "news", 1);
    assert.deepEqual(await told, [1]);
    const again = next(a, "news");
    cluster.node.io.of("/dyn-7").emit("news", 2);
    assert.deepEqual(await again, [2]);
  });

  test("what Node's emitter sends reaches the clients of our servers", async (t) => {
    const { sockets, heard, room } = await people(t, [cluster.a, cluster.b]);
    const emitter = new Emitter(cluster.pool, "/", { channelPrefix: key });
    const sent = [1, Buffer.from("x"), "x".repeat(9_000)];
    for (const [i, one] of sent.entries()) {
      emitter.to(room).emit("news", one);
      await all(heard, i + 1);
    }
    emitter.to([room, "other"]).except(sockets[0].id).emit("news", 2);
    await all(heard.slice(1), 4);
    emitter.in(room).socketsJoin(`${room} 2`);
    await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 2, "all to join");
    emitter.in(`${room} 2`).volatile.compress(false).emit("news", 3);
    await all(heard.slice(1), 5);
    emitter.in(room).socketsLeave(`${room} 2`);
    await until(async () => (await ask(sockets[0], "count", `${room} 2`)) === 0, "all to leave");
    assert.deepEqual(heard[0].map((args) => args[0]), [...sent, 3]);
    const noted = next(sockets[1], "noted");
    emitter.serverSideEmit("note", 4);
    assert.deepEqual(await noted, [4]);
    emitter.in(sockets[0].id).disconnectSockets();
    await next(sockets[0], "disconnect");
    // It is no server, so nobody waits for it.
    assert.equal(await ask(sockets[1], "servers"), 3);
  });

  test("garbage on the channels is ignored", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    const garbage = ["{", "{}", "[1,2]", '{"type":3}', '{"type":99}', '{"attachmentId":"x"}', '{"attachmentId":"999999"}'];
    for (const text of garbage) {
      await cluster.pool.query("SELECT pg_notify($1, $2)", [`${key}#/`, text]);
    }
    for (const payload of ["", "\xc1", "\x80", "x"]) {
      const bytes = Buffer.from(payload, "latin1");
      const stored = await cluster.pool.query("INSERT INTO socket_io_attachments (payload) VALUES ($1) RETURNING id", [bytes]);
      const header = JSON.stringify({ uid: "x", type: 3, attachmentId: stored.rows[0].id });
      await cluster.pool.query("SELECT pg_notify($1, $2)", [`${key}#/`, header]);
    }
    for (const [i, socket] of sockets.entries()) {
      socket.emit("to", room, "news", i);
      await until(() => heard.every((list, j) => i === j || list.at(-1)?.[0] === i), `event ${i}`);
    }
    assert.deepEqual(heard, [[[1], [2]], [[0], [2]], [[0], [1]]]);
  });

  test("without PostgreSQL servers go on by themselves, and are joined again when it is back", async (t) => {
    const { sockets, heard, room } = await people(t, cluster.servers);
    await cluster.postgres.kill();
    sockets[0].emit("in", room, "news", "alone");
    await all(heard.slice(0, 1), 1);
    const started = Date.now();
    const [isComplete] = await ask(sockets[0], "bcast-ack", room, 300, "question", 1);
    assert.ok(!isComplete);
    const found = await within(ask(sockets[0], "fetch", room), "what is known", 6500);
    assert.equal(found, "timeout");
    assert.ok(Date.now() - started < 20_000);
    await cluster.postgres.start();
    const joined = async () => (await ask(sockets[0], "servers")) === 3;
    await within(until(joined, "all servers"), "all servers", 10_000);
    for (const [i, socket] of sockets.slice(0, 2).entries()) {
      socket.emit("in", room, "news", i);
      await until(() => heard.every((list) => list.at(-1)?.[0] === i), `event ${i}`);
    }
    assert.ok(heard[1].filter(([text]) => text === "alone").length <= 1);
  });

  test("a server that was killed is counted no more after a while, and one that stops at once", async (t) => {
    const start = () => startExample("interop", { ADAPTER: cluster.postgres.url, ADAPTER_KEY: key });
    const [killed, stopped] = await Promise.all([start(), start()]);
    const { sockets } = await people(t, [cluster.a]);
    const servers = (count) => async () => (await ask(sockets[0], "servers")) === count;
    await until(servers(5), "all servers");
    await stopped.stop();
    await within(until(servers(4), "one to stop"), "one to stop", 6_000);
    await killed.stop("SIGKILL");
    await within(until(servers(3), "one to be missed"), "one to be missed", 15_000);
    const { adapter } = cluster.node.io.of("/");
    await until(async () => (await adapter.serverCount()) === 3, "Node to miss it");
    assert.equal((await cluster.node.io.serverSideEmitWithAck("question", 1)).length, 2);
  });
});

test("an adapter that finds no PostgreSQL waits for it", async (t) => {
  const postgres = await startPostgres();
  await postgres.kill();
  const env = { ADAPTER: postgres.url };
  const servers = await Promise.all([startExample("interop", env), startExample("interop", env)]);
  t.after(() => Promise.all(servers.map((server) => server.stop())).then(() => postgres.close()));
  const [a, b] = await Promise.all(servers.map(({ url }) => connect(t, client, url)));
  a.emit("all", "news", "alone");
  assert.deepEqual(await next(a, "news"), ["alone"]);
  await postgres.start();
  await within(until(async () => (await ask(b, "servers")) === 2, "both"), "both", 10_000);
  const pool = connectPool(postgres);
  const told = Promise.all([a, b].map((socket) => next(socket, "end")));
  new Emitter(pool).emit("end");
  await told;
  await pool.end();
});
