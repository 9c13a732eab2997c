// The load balancers of deploy/ in front of two nodes, with the real nginx and HAProxy and stock
// clients. Sessions stay at their node by cookie or address, upgrades pass, and a node may be
// drained, killed and restarted.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import { connect as dial } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { agentOf, haproxy, nginx } from "./balancer.mjs";
import { LOBBY } from "./crowd.mjs";
import { io } from "./people.mjs";
import { ask, lastingPort, metric, next, open, startServer, temporary, until } from "./support.mjs";

const OPEN = "/socket.io/?EIO=4&transport=polling";

/**
 * Starts a node at this port; its metrics have its number of clients. Load balancers can notice its
 * shutdown during its drain window.
 */
async function node(t, port) {
  const server = await startServer({
    ROOMCAST_LISTEN: `127.0.0.1:${port}`,
    ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1",
    ROOMCAST_SERVER__DRAIN: "10s",
    ROOMCAST_ENGINE__COOKIE__NAME: "io",
  });
  t.after(() => server.stop("SIGKILL"));
  return server;
}

/** The server configuration in docs/scaling.md, in which this test changes only addresses. */
const written = /^On each server:\n\n```toml\n([^`]*)```$/m.exec(readFileSync(new URL("../../docs/scaling.md", import.meta.url), "utf8"))[1];

/** Starts a node that is configured only by that file. */
async function documented(t) {
  let text = written;
  for (const [from, to] of [["10.0.0.1:3000", "127.0.0.1:0"], ["10.0.0.10", "127.0.0.1"], ["postgres://…", "memory:"]]) {
    assert.ok(text.includes(from), text);
    text = text.replace(from, to);
  }
  const file = join(temporary(), "roomcast.toml");
  writeFileSync(file, text);
  // An undefined variable is unset, so the file decides.
  const server = await startServer({ ROOMCAST_CONFIG: file, ROOMCAST_LISTEN: undefined, ROOMCAST_STORE: undefined });
  t.after(() => server.stop("SIGKILL"));
  return server;
}

const clientsAt = ({ url }) => metric(url, "roomcast_sockets");

/** Each connection comes from a new address: only cookies identify the client. */
class Roaming extends http.Agent {
  #count = 0;

  createConnection(options, connected) {
    return dial({ ...options, localAddress: `127.9.${++this.#count % 200}.${1 + Math.floor(Math.random() * 250)}` }, connected);
  }
}

/** Sends a handshake from an address and returns its status. */
function handshake(url, localAddress) {
  return new Promise((done, fail) => {
    const request = http.get(url + OPEN, { localAddress }, (answer) => {
      answer.resume().on("end", () => done(answer.statusCode));
    });
    request.on("error", fail);
  });
}

/** Connects a client that joins the Lobby and sends a message there. */
async function talk(t, url, options) {
  const socket = open(t, io, url, options);
  const failed = new Promise((_, fail) => socket.once("connect_error", fail));
  await Promise.race([next(socket, "session"), failed]);
  const { engine } = socket.io;
  const last = options.transports.at(-1);
  if (engine.transport.name !== last) await next(engine, "upgrade");
  assert.equal(engine.transport.name, last);
  assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
  for (let n = 0; n < 5; n++) {
    const answer = await ask(socket, "message", { conversationId: LOBBY, content: "x".repeat(1000) });
    assert.equal(answer.success, true, JSON.stringify(answer));
  }
  return socket;
}

for (const [name, balancer] of [["HAProxy", haproxy], ["nginx", nginx]]) {
  describe(name, () => {
    test("sessions stay at their node, and both nodes have sessions", async (t) => {
      const nodes = [await documented(t), await documented(t)];
      const url = await balancer(t, nodes.map(({ url }) => url));
      const kinds = [["polling"], ["websocket"], ["polling", "websocket"]];
      const talking = Array.from({ length: 24 }, (_, n) => talk(t, url, { transports: kinds[n % 3], agent: agentOf(t, n) }));
      const sockets = await Promise.all(talking);
      const counts = await Promise.all(nodes.map(clientsAt));
      assert.equal(counts[0] + counts[1], sockets.length);
      assert.ok(counts.every((count) => count > 0), `${counts}`);
    });

    test("a client with cookies stays at its node from any address", async (t) => {
      const nodes = [await node(t, 0), await node(t, 0)];
      const url = await balancer(t, nodes.map(({ url }) => url));
      for (const transports of [["polling"], ["polling", "websocket"]]) {
        const agent = new Roaming({ keepAlive: false });
        const talking = Array.from({ length: 6 }, () => talk(t, url, { transports, agent, withCredentials: true }));
        const sockets = await Promise.all(talking);
        assert.ok(sockets.every(({ connected }) => connected));
      }
    });

    test("no handshake fails while a node drains, and its clients move", async (t) => {
      const port = await lastingPort();
      const nodes = [await node(t, port), await node(t, 0)];
      const [leaving, staying] = nodes;
      const url = await balancer(t, nodes.map(({ url }) => url));
      const kinds = [["polling"], ["websocket"], ["polling", "websocket"]];
      const options = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 100 };
      const sockets = await Promise.all(
        Array.from({ length: 24 }, (_, n) => talk(t, url, { ...options, transports: kinds[n % 3], agent: agentOf(t, n) })),
      );
      const before = await clientsAt(leaving);
      assert.ok(before > 0 && before < sockets.length);
      const reasons = [];
      const [failures, unexpected] = [[], []];
      for (const socket of sockets) {
        const transport = () => socket.io.engine.transport.name;
        socket.on("disconnect", (reason, details) => {
          reasons.push(reason);
          if (reason !== "transport close") unexpected.push({ reason, transport: transport(), details, status: details?.context?.status });
        });
        socket.io.on("reconnect_error", (error) => failures.push(error.message));
      }
      let isOver = false;
      const stopped = leaving.stop().finally(() => (isOver = true));
      const statuses = new Set();
      for (let n = 0; !isOver; n++) {
        statuses.add(await handshake(url, `127.8.0.${1 + (n % 250)}`));
        await sleep(5); // Pace of arriving clients.
      }
      assert.equal(await stopped, 0);
      assert.deepEqual([...statuses], [200]);
      await until(async () => sockets.every(({ connected }) => connected), "all to be back");
      assert.equal(reasons.length, before, `each has moved once: ${JSON.stringify(unexpected)}`);
      // A client that polls at the end of the window finds no connection.
      assert.ok(reasons.every((reason) => /^transport (close|error)$/.test(reason)), "they come back by themselves");
      assert.deepEqual(failures, []);
      assert.ok((await clientsAt(staying)) >= sockets.length);

      const again = await node(t, port);
      // HAProxy checks once a second.
      const isUsed = async () => {
        for (let n = 0; n < 20; n++) await handshake(url, `127.7.0.${1 + n}`);
        return (await metric(again.url, "roomcast_sessions_opened_total")) > 0;
      };
      await until(isUsed, "clients at the node that is back");
    });

    test("clients of a killed node reconnect to the other node", async (t) => {
      const nodes = [await node(t, 0), await node(t, 0)];
      const [dying] = nodes;
      const url = await balancer(t, nodes.map(({ url }) => url));
      const kinds = [["polling"], ["websocket"], ["polling", "websocket"]];
      const options = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 100 };
      // The client repeats a request whose kept connection was reset, but xmlhttprequest-ssl 2.1.2
      // does not end the second request. The client would learn of the death by `pingTimeout` only.
      const agent = (n) => agentOf(t, n, { keepAlive: false });
      const sockets = await Promise.all(
        Array.from({ length: 12 }, (_, n) => talk(t, url, { ...options, transports: kinds[n % 3], agent: agent(n) })),
      );
      const affected = await clientsAt(dying);
      const early = sockets.filter(({ connected }) => !connected).length;
      assert.deepEqual([early, affected + (await clientsAt(nodes[1]))], [0, sockets.length], "each is connected once");
      const disconnected = new Set();
      for (const socket of sockets) socket.on("disconnect", () => disconnected.add(socket));
      assert.equal(await dying.stop("SIGKILL"), "SIGKILL");
      const left = () => sockets.filter((socket) => !disconnected.has(socket)).map(({ io, connected }) => `${io.engine.transport.name} ${connected}`);
      await until(() => disconnected.size >= affected, () => `the end of its clients: ${disconnected.size} of ${affected}, not ${left()}`);
      await until(() => sockets.every(({ connected }) => connected), "all to be back");
      assert.equal(disconnected.size, affected, "the others stay");
    });
  });
}
