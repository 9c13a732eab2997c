// Three nodes behind HAProxy without session affinity: each request reaches the next node, which
// forwards it. Stock clients poll, and upgrade to a WebSocket, which reaches another node as well.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { scattering } from "./balancer.mjs";
import { LOBBY, account, enter } from "./crowd.mjs";
import { randomness } from "./nemesis.mjs";
import { io } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { startRedis } from "./redis.mjs";
import { ask, lastingPort, metric, metricIs, metricsOf, next, open, startServer, until } from "./support.mjs";
import { variants } from "./variants.mjs";

const FORWARDED = 'roomcast_requests_forwarded_total{result="done"}';
/** The reasons for which the session of a request can be unknown. */
const UNKNOWN = [
  "session_id_unknown", "session_id_malformed", "session_over", "session_of_no_known_server", "session_not_reached", "session_of_a_third_server",
];
const RECEIVED = 'roomcast_requests_forwarded_total{result="received"}';

let postgres;
let redis;
let clusters = 0;
before(async () => {
  [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
});
after(async () => {
  await postgres?.end();
  redis?.end();
});

/** Starts three nodes that know each other, and the load balancer in front of them. */
async function cluster(t, adapter, store = postgres, { broker = redis, ...more } = {}) {
  const key = `forwarding-${(clusters += 1)}`;
  const ports = [await lastingPort(), await lastingPort(), await lastingPort()];
  const env = {
    ROOMCAST_STORE: store.url,
    ROOMCAST_SERVER__TRUSTED_PROXIES: "127.0.0.1",
    ROOMCAST_SERVER__DRAIN: "2s",
    ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
    ROOMCAST_ADAPTER__KEY: key,
    ...(adapter === "redis" && { ROOMCAST_ADAPTER__URL: `redis://${broker.address}` }),
    ...more,
  };
  const nodes = await Promise.all(
    ports.map(async (port) => {
      const at = `127.0.0.1:${port}`;
      const server = await startServer({ ...env, ROOMCAST_LISTEN: at, ROOMCAST_NODE__ADDRESS: `http://${at}` });
      t.after(() => server.stop("SIGKILL"));
      return server;
    }),
  );
  for (const { url } of nodes) await metricIs(url, "roomcast_nodes", (count) => count === 3);
  return { nodes, url: await scattering(t, nodes.map(({ url }) => url)) };
}

const sum = async (nodes, row) => {
  const all = await Promise.all(nodes.map(({ url }) => metric(url, row)));
  return all.reduce((one, other) => one + other, 0);
};

/** Connects a client in the Lobby, and waits until it uses the last of these transports. */
async function come(t, url, transports) {
  const reconnecting = { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 100 };
  const socket = open(t, io, url, { ...reconnecting, transports });
  const failed = new Promise((_, fail) => socket.once("connect_error", fail));
  await Promise.race([next(socket, "session"), failed]);
  const { engine } = socket.io;
  const last = transports.at(-1);
  if (engine.transport.name !== last) await next(engine, "upgrade");
  assert.equal(engine.transport.name, last);
  assert.equal(engine.id.length, 28);
  assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
  return socket;
}

const say = async (socket, content) => {
  const answer = await ask(socket, "message", { conversationId: LOBBY, content });
  assert.equal(answer.success, true, JSON.stringify(answer));
};

for (const adapter of variants(["postgres", "redis"])) {
  describe(`without sticky sessions, joined by ${adapter}`, { concurrency: false }, () => {
    test("clients that poll, and that upgrade, stay connected and miss nothing", async (t) => {
      const { nodes, url } = await cluster(t, adapter);
      const kinds = [["polling"], ["polling", "websocket"], ["websocket"]];
      // So many upgrade that it is unlikely that each reaches its own node by chance.
      const sockets = await Promise.all(Array.from({ length: 30 }, (_, n) => come(t, url, kinds[[0, 1, 1, 1, 2][n % 5]])));
      let disconnects = 0;
      const messages = sockets.map((socket) => {
        const contents = [];
        socket.on("disconnect", () => (disconnects += 1));
        socket.on("message", ({ content }) => contents.push(content));
        return contents;
      });
      const large = "x".repeat(3000);
      for (let n = 0; n < 5; n += 1) await Promise.all(sockets.map((socket, from) => say(socket, `${n} of ${from} ${large}`)));
      const others = (sockets.length - 1) * 5;
      await until(() => messages.every(({ length }) => length >= others), "all that was said");
      for (const contents of messages) assert.equal(new Set(contents).size, contents.length, "nothing comes twice");
      assert.equal(disconnects, 0, "nobody was disconnected");
      assert.ok((await sum(nodes, FORWARDED)) > 0);
      const received = await Promise.all(nodes.map(({ url }) => metric(url, RECEIVED)));
      assert.ok(received.every((count) => count > 0), `each is handed some: ${received}`);
      assert.ok((await sum(nodes, "roomcast_tunnels")) > 0, "some WebSockets go through another node");
      assert.equal(await sum(nodes, "roomcast_sockets"), sockets.length);
      for (const reason of UNKNOWN) assert.equal(await sum(nodes, `roomcast_requests_rejected_total{reason="${reason}"}`), 0, reason);
    });

    test("clients of a killed node reconnect to the others", async (t) => {
      const { nodes, url } = await cluster(t, adapter);
      const [dying, ...staying] = nodes;
      const sockets = await Promise.all(Array.from({ length: 12 }, (_, n) => come(t, url, [["polling"], ["polling", "websocket"]][n % 2])));
      assert.equal(await dying.stop("SIGKILL"), "SIGKILL");
      const areBack = async () => sockets.every(({ connected }) => connected) && (await sum(staying, "roomcast_sockets")) >= sockets.length;
      await until(areBack, "all to be back");
      // A client that has not noticed the death loses its message, so the test sends it again if no
      // acknowledgement arrives.
      const says = (socket) => async () => {
        const answer = await socket.timeout(2_000).emitWithAck("message", { conversationId: LOBBY, content: "here" }).catch(() => undefined);
        return answer?.success === true;
      };
      for (const socket of sockets) await until(says(socket), "a message to be stored");
    });
  });
}

/** Connects a client in the Lobby, polling or upgrading, and counts its disconnects. */
async function enduring(t, url, transports) {
  const socket = open(t, io, url, { reconnection: true, reconnectionDelay: 10, reconnectionDelayMax: 100, transports });
  const failed = new Promise((_, fail) => socket.once("connect_error", fail));
  await Promise.race([next(socket, "session"), failed]);
  const client = { socket, disconnects: 0, messages: [] };
  socket.on("disconnect", () => (client.disconnects += 1));
  socket.on("message", ({ content }) => client.messages.push(content));
  assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
  return client;
}

test("no client is disconnected if all forwarding slots are in use", async (t) => {
  const bounds = { ROOMCAST_NODE__MAX_FORWARDED: "4", ROOMCAST_NODE__MAX_TUNNELS: "2" };
  const { nodes, url } = await cluster(t, "redis", postgres, bounds);
  const kinds = [["polling"], ["polling", "websocket"]];
  const clients = await Promise.all(Array.from({ length: 60 }, (_, n) => enduring(t, url, kinds[n % 2])));
  for (let n = 0; n < 3; n += 1) await Promise.all(clients.map(({ socket }, from) => say(socket, `${n} of ${from}`)));
  const others = (clients.length - 1) * 3;
  await until(() => clients.every(({ messages }) => messages.length >= others), "all that was said");
  for (const { messages } of clients) assert.equal(new Set(messages).size, messages.length, "nothing comes twice");
  const disconnects = clients.reduce((count, client) => count + client.disconnects, 0);
  assert.equal(disconnects, 0, "nobody was disconnected");
  assert.ok((await sum(nodes, "roomcast_tunnels_refused_total")) > 0, "some WebSockets found no room");
  assert.equal(await sum(nodes, 'roomcast_requests_forwarded_total{result="full"}'), 0);
});

test("polling clients stay connected while the broker is down past the lease", async (t) => {
  const broker = await startRedis();
  t.after(() => broker.end());
  const { nodes, url } = await cluster(t, "redis", postgres, { broker });
  const clients = await Promise.all(Array.from({ length: 12 }, () => enduring(t, url, ["polling"])));
  const stay = async (until) => {
    await Promise.all(clients.map(({ socket }, n) => say(socket, `${until} ${n}`)));
    assert.equal(clients.reduce((count, { disconnects }) => count + disconnects, 0), 0, until);
    assert.equal(await sum(nodes, 'roomcast_requests_rejected_total{reason="session_of_no_known_server"}'), 0, until);
  };
  const others = (is) => async () => {
    const scraped = await Promise.all(nodes.map(({ url }) => metricsOf(url)));
    // The heartbeat age of the queried node itself is always zero; the others are all silent or all
    // not.
    return scraped.every((text) => {
      const ages = [...text.matchAll(/^roomcast_node_heartbeat_age_seconds\{.*\} (.*)$/gm)].map(([, seconds]) => Number(seconds));
      return ages.length === nodes.length && ages.sort((a, b) => a - b).slice(1).every(is);
    });
  };
  await stay("before");
  const text = await metricsOf(nodes[0].url);
  const families = [...text.matchAll(/^# TYPE (\w+) /gm)].map(([, family]) => family);
  const helped = [...text.matchAll(/^# HELP (\w+) \S.*\.\n# TYPE \1 /gm)].map(([, family]) => family);
  assert.deepEqual(helped, families);
  assert.ok(families.includes("roomcast_node_connections"));
  assert.doesNotMatch(text, /^\w+\{(?!node=)[^}]* [^}]*\}/m);
  await broker.pause();
  // The lease is ten seconds.
  await until(others((seconds) => seconds > 13), "a silence that is longer than the lease");
  await stay("meanwhile");
  await broker.resume();
  await until(others((seconds) => seconds < 5), "that they hear each other again");
  await stay("afterwards");
});

test("polling members miss nothing while two of three nodes are drained and stopped", async (t) => {
  // `account` accepts no messages of others, so this test has a store of its own.
  const store = await startPostgres();
  t.after(() => store.end());
  const { nodes, url } = await cluster(t, "redis", store);
  const members = await enter(t, url, randomness(7), 12, () => ({ transports: ["polling"] }));
  const sending = members.map((member, n) => member.send(randomness(n)));
  for (const node of nodes.slice(0, 2)) assert.equal(await node.stop(), 0);
  const { acked } = await account(t, nodes[2].url, members, sending);
  assert.ok(acked.size > members.length);
});
