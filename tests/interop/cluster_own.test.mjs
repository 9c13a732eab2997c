// Clusters that Node servers cannot join: servers connected by NATS, and a server without an
// adapter.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io as client } from "socket.io-client";
import { all, people } from "./cluster.mjs";
import { areMissed, goesAway } from "./cluster_away.mjs";
import { clusterEvents } from "./cluster_events.mjs";
import { startBroker } from "./redis.mjs";
import { ask, connect, lastingPort, next, startExample, startNamed, until } from "./support.mjs";

describe("a server without an adapter", () => {
  let alone;
  before(async () => (alone = await startNamed("alone")));
  after(() => alone.stop());

  clusterEvents(() => ({ ours: [alone, alone] }), { asked: [7, Buffer.from([0, 255])] });

  test("is called by its port if it has no name", async (t) => {
    const port = `${await lastingPort()}`;
    const server = await startExample("interop", { PORT: port });
    t.after(() => server.stop());
    const socket = await connect(t, client, server.url);
    assert.deepEqual([await ask(socket, "whereami"), new URL(server.url).port], [port, port]);
  });
});

for (const [name, options] of [["NATS", ""], ["NATS with JetStream", "-js"]]) {
  describe(`servers that ${name} joins`, () => {
    const ADAPTER_KEY = "key *1";
    let nats;
    let env;
    let ours;
    before(async () => {
      nats = await startBroker("nats", options);
      env = { ADAPTER: `nats://${nats.address}`, ADAPTER_KEY };
      ours = await Promise.all(["a", "b"].map((name) => startNamed(name, env)));
      const socket = await connect({ after() {} }, client, ours[0].url);
      await until(async () => (await ask(socket, "servers")) === 2, "both servers");
      socket.disconnect();
    });
    after(async () => {
      await Promise.all(ours.map((server) => server.stop()));
      nats.end();
    });
    const servers = (socket, count) => until(async () => (await ask(socket, "servers")) === count, () => `${count} servers`);

    clusterEvents(() => ({ ours }), { asked: [7, "x".repeat(9_000), Buffer.from([0, 255]), [{ deep: Buffer.from("x") }]] });

    test("namespaces made on demand are joined as well", async (t) => {
      const [a, b] = await Promise.all(ours.map(({ url }) => connect(t, client, `${url}/dyn-7`)));
      const told = next(b, "news");
      await servers(a, 2);
      a.emit("all", "news", 1, Buffer.from("x"));
      assert.deepEqual(await told, [1, Buffer.from("x")]);
    });

    test("events of one client arrive in order, whatever their size and target", async (t) => {
      const { sockets, heard, room } = await people(t, ours);
      const numbers = Array.from({ length: 200 }, (_, n) => n);
      for (const n of numbers) {
        const load = [0, "x".repeat(20_000), Buffer.alloc(1)][n % 3];
        if (n % 2) sockets[0].emit("all", "news", n, load);
        else sockets[0].emit("in", room, "news", n, load);
      }
      await all(heard, numbers.length);
      for (const list of heard) assert.deepEqual(list.map(([n]) => n), numbers);
    });

    test("without NATS servers go on by themselves, and are joined again when it is back", async (t) => {
      const { sockets, heard, room } = await people(t, ours);
      await goesAway({ sockets, heard, room }, ["b"], nats.kill, nats.start);
      for (const [i, socket] of sockets.entries()) {
        socket.emit("in", room, "news", i);
        await until(() => heard.every((list) => list.at(-1)?.[0] === i), `event ${i}`);
      }
      assert.ok(heard[1].filter(([text]) => text === "alone").length <= 1);
      assert.deepEqual(heard.map((list) => list.flat().filter((text) => text !== "alone")), [[0, 1], [0, 1]]);
    });

    test("a server that was killed is counted no more after a while, and one that stops at once", (t) => {
      return areMissed(t, ours, ["b"], (name) => startNamed(name, env));
    });
  });
}

test("an adapter that finds no NATS waits for it", async (t) => {
  const nats = await startBroker("nats");
  await nats.kill();
  const env = { ADAPTER: `nats://${nats.address}` };
  const servers = await Promise.all(["a", "b"].map((name) => startNamed(name, env)));
  t.after(() => Promise.all(servers.map((server) => server.stop())).then(() => nats.end()));
  const [a, b] = await Promise.all(servers.map(({ url }) => connect(t, client, url)));
  a.emit("all", "news", "alone");
  assert.deepEqual(await next(a, "news"), ["alone"]);
  await nats.start();
  for (const one of [a, b]) await until(async () => (await ask(one, "servers")) === 2, "both");
  const told = next(b, "news");
  a.emit("all", "news", "joined");
  assert.deepEqual(await told, ["joined"]);
});
