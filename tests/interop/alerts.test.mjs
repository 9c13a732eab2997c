// Each alert of `deploy/prometheus/rules.yml` arrives at the webhook of a real Alertmanager when a
// part of a running server is broken.
//
// The rules are a copy with shorter times. Thresholds are those of the file, except that of memory
// and processors: no test may use up those of the machine.
import assert from "node:assert/strict";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { vouched } from "./certificates.mjs";
import { call, enter, io, keyed, LOBBY } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { suspend } from "./processes.mjs";
import { deployed, rulesOf, startAlertmanager, startPrometheus, startReceiver } from "./prometheus.mjs";
import { startRedis } from "./redis.mjs";
import { ask, connect, lastingPort, metric, next, open, outcome, program, startServer, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";

/** How long an alert may take to arrive. Followers lag by 30 s before they are reported. */
const LATEST = 150_000;

/** The rules with shorter times, and `memory` as the share of the memory that is too much. */
const shortened = (memory) => readFileSync(deployed("prometheus/rules.yml"), "utf8")
  .replace(/for: \d+[sm]/g, "for: 1s")
  .replace("interval: 15s", "interval: 1s")
  .replaceAll("[15m]", "[60s]")
  .replaceAll("[5m]", "[10s]")
  .replaceAll("offset 5m", "offset 8s")
  .replace(/(?<=roomcast_memory_limit_bytes\S* > )0\.9/, memory)
  .replace(/(?<=roomcast_processors\S* > )0\.9/, "0.15");
/** How much more memory than an idle server is too much, in bytes. */
const TOO_MUCH = 25_000_000;

const fired = new Set();
let rules;
let receiver;
let alertmanager;
let prometheus;
let targets = [];

const stack = [];
const lasting = { after: (end) => stack.unshift(end) };
before(async () => {
  const { url, stop } = await startServer(keyed);
  const [idle, limit] = [await metric(url, "process_resident_memory_bytes"), await metric(url, "roomcast_memory_limit_bytes")];
  await stop();
  rules = shortened((idle + TOO_MUCH) / limit);
  assert.match(rules, new RegExp(`${(idle + TOO_MUCH) / limit}[^]*0\\.15`), "both thresholds are replaced");
  receiver = await startReceiver(lasting);
  alertmanager = await startAlertmanager(lasting, receiver.url);
  prometheus = await startPrometheus(lasting, { targets, rules, alertmanager });
});
after(async () => {
  for (const end of stack) await end();
});

const websocket = { transports: ["websocket"] };
/** A client may send as fast as it can. */
const unpaced = { ROOMCAST_ENGINE__BYTES_PER_SECOND: "1000000000", ROOMCAST_ENGINE__PACKETS_PER_SECOND: "1000000" };
const address = (started) => started.admin.replace("http://", "");

/** Starts a server that Prometheus reads. */
async function watched(t, env = {}, program) {
  const limits = { ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS: "100000", ROOMCAST_LIMITS__CONNECTS: "100000" };
  const started = await startServer({ ...keyed, ...limits, ROOMCAST_SERVER__ADMIN_LISTEN: "127.0.0.1:0", ...env }, program);
  t.after(() => started.stop("SIGKILL"));
  prometheus.setTargets((targets = [...targets, address(started)]));
  await until(async () => (await prometheus.query(`up{instance="${address(started)}"} == 1`)).length === 1, "the first scrape");
  return started;
}

/** Starts a program with the server as its last argument, such as one that limits it. */
function wrapped(command) {
  const file = join(temporary(), "roomcast");
  writeFileSync(file, `#!/bin/sh\n${command} ${program} "$@"\n`);
  chmodSync(file, 0o755);
  return file;
}

/**
 * Waits until the alert of an instance arrives, and checks its texts. Repeats an action until then.
 */
async function fires(name, instance, action = () => sleep(100)) {
  let found;
  const end = Date.now() + LATEST;
  const matches = ({ status, labels }) => status === "firing" && labels.alertname === name && (!instance || labels.instance === instance);
  do {
    assert.ok(Date.now() < end, `${name} did not arrive: ${JSON.stringify(await prometheus.alerts(), null, 1)}`);
    await action();
    found = receiver.received.flatMap(({ body }) => body.alerts).find(matches);
  } while (!found);
  for (const key of ["summary", "description"]) {
    assert.ok(found.annotations[key], `${name}: ${key}`);
    assert.doesNotMatch(found.annotations[key], /error|<no value>|\{\{/, `${name}: ${found.annotations[key]}`);
  }
  assert.equal(found.annotations.runbook_url, `docs/runbooks.md#${name.toLowerCase()}`);
  fired.add(name);
}

/** Waits until the end of an alert arrives. */
function ends(name, instance) {
  const matches = ({ status, labels }) => status === "resolved" && labels.alertname === name && labels.instance === instance;
  return until(() => receiver.received.some(({ body }) => body.alerts.some(matches)), `the end of ${name}`, LATEST);
}

async function member(t, url, name) {
  const { socket } = await enter(t, url, { ...websocket, auth: { name } });
  await ask(socket, "join_conversation", { conversationId: LOBBY });
  return socket;
}

const message = (content = "hello") => ["message", { conversationId: LOBBY, content }];

/** Fills the queue of the store for four seconds: another session locks the table of messages. */
async function fillQueue(t, postgres, sender) {
  const release = await postgres.lock(t, "messages");
  const answers = Array.from({ length: 20 }, () => ask(sender, ...message()));
  await sleep(4_000); // Longer than a message may take to store, shorter than a statement may.
  release();
  // Those for which the queue had no place are refused.
  await Promise.allSettled(answers);
}

describe("alerts", { concurrency: true }, () => {
  test("a slow store, then none, a lost broker", async (t) => {
    const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    t.after(() => postgres.end());
    t.after(() => redis.end());
    const started = await watched(t, {
      ROOMCAST_STORE: postgres.url,
      ROOMCAST_STORE__QUEUE: "20",
      ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "100000",
      ROOMCAST_ADAPTER__URL: `redis://${redis.address}`,
    });
    const instance = address(started);
    const ann = await member(t, started.url, "Ann");
    await ask(ann, ...message());
    await Promise.all([
      fires("RoomcastStoreQueueFull", instance, () => fillQueue(t, postgres, ann)),
      fires("RoomcastStoringSlow", instance),
    ]);
    await redis.kill();
    await fires("RoomcastAdapterUnavailable", instance);
    await redis.start();
    await ends("RoomcastAdapterUnavailable", instance);
    await fires("RoomcastClusterLoss", instance);
    await postgres.stop();
    const failing = async () => ask(ann, ...message());
    await Promise.all([
      fires("RoomcastErrorRate", instance, failing),
      ...["RoomcastStoreUnavailable", "RoomcastPublicationsUnavailable", "RoomcastFollowerLag"].map((name) => fires(name, instance)),
    ]);
    await postgres.start();
    await ends("RoomcastStoreUnavailable", instance);
  });

  test("a full server and refused clients", async (t) => {
    const started = await watched(t, { ROOMCAST_LIMITS__CONNECTIONS: "10", ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS: "10" });
    for (let n = 0; n < 10; n++) await enter(t, started.url, { ...websocket, auth: { name: `user ${n}` } });
    await Promise.all([
      fires("RoomcastConnectionsFull", address(started)),
      fires("RoomcastConnectionsFailing", address(started), () => outcome(open(t, io, started.url, { ...websocket, auth: { name: "late" } }))),
    ]);
  });

  test("a database without space", async (t) => {
    const size = 2_000_000;
    const started = await watched(t, { ...unpaced, ROOMCAST_STORE__MAX_BYTES: `${size}`, ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "100000" });
    assert.equal(await metric(started.url, "roomcast_store_max_bytes"), size);
    assert.ok((await metric(started.url, "roomcast_store_disk_free_bytes")) > size);
    const ann = await member(t, started.url, "Ann");
    // Messages for which there is no space are refused.
    const fill = () => Promise.allSettled(Array.from({ length: 50 }, () => ask(ann, ...message("x".repeat(3_000)))));
    await fires("RoomcastStoreSpaceLow", address(started), fill);
    assert.ok((await metric(started.url, "roomcast_store_bytes")) <= size);
  });

  test("too few descriptors", async (t) => {
    const started = await watched(t, {}, wrapped("ulimit -n 100; exec"));
    while ((await metric(started.url, "process_open_fds")) <= 82) await connect(t, io, started.url, { ...websocket, auth: { name: "Ann" } });
    await fires("RoomcastDescriptorsExhausted", address(started));
  });

  test("connections that come and go", async (t) => {
    // The connections of other tests do not count here.
    const own = await startPrometheus(t, { targets: [], rules, alertmanager });
    const started = await watched(t);
    own.setTargets([address(started)]);
    const sockets = [await connect(t, io, started.url, websocket)];
    await until(async () => (await own.query("roomcast_connections offset 8s")).length > 0, "connections of the past");
    const more = Array.from({ length: 150 }, () => connect(t, io, started.url, websocket));
    sockets.push(...(await Promise.all(more)));
    await fires("RoomcastConnectionsSpike");
    await sleep(9_000); // The connections of the past.
    for (const socket of sockets) socket.disconnect();
    await fires("RoomcastConnectionsDropped");
  });

  test("a certificate that expires tomorrow", async (t) => {
    const { cert, key } = vouched("DNS:localhost");
    const started = await watched(t, { ROOMCAST_SERVER__TLS__CERT_FILE: cert, ROOMCAST_SERVER__TLS__KEY_FILE: key });
    await fires("RoomcastCertificateExpires", address(started));
  });

  test("a server that restarts again and again, then not", async (t) => {
    const admin = `127.0.0.1:${await lastingPort()}`;
    const env = { ROOMCAST_SERVER__ADMIN_LISTEN: admin };
    let started = await watched(t, env);
    for (let n = 0; n < 3; n++) {
      await started.stop("SIGKILL");
      started = await watched(t, env);
      await sleep(2_500); // Each start is scraped.
    }
    await fires("RoomcastRestarting", admin);
    await started.stop("SIGKILL");
    await fires("RoomcastNotScraped", admin);
  });

  test("a task that ends", async (t) => {
    const file = join(temporary(), "kill");
    const started = await watched(t, { SUPERVISOR_TEST_KILLS: file });
    writeFileSync(file, "retention");
    await fires("RoomcastTaskDown", address(started));
  });

  test("a client that does not read", async (t) => {
    const size = "64000000";
    const started = await watched(t, {
      ...unpaced,
      ROOMCAST_ENGINE__TOTAL_OUTBOX_BYTES: size,
      ROOMCAST_ENGINE__OUTBOX_BYTES: size,
      ROOMCAST_CHAT__CONTENT_CHARS: "60000",
    });
    const [ann, bob] = await Promise.all(["Ann", "Bob"].map((name) => member(t, started.url, name)));
    bob.io.engine.transport.ws._socket.pause();
    // Each message differs, as those of people do.
    let sent = 0;
    const content = () => `${sent++} ${"x".repeat(59_000)}`;
    while ((await metric(started.url, "roomcast_outbox_bytes")) < 0.85 * size) {
      await Promise.all(Array.from({ length: 20 }, () => ask(ann, ...message(content()))));
    }
    await Promise.all(["RoomcastOutboxFull", "RoomcastMemoryHigh"].map((name) => fires(name, address(started))));
  });

  test("more work than a processor should do", async (t) => {
    const started = await watched(t, unpaced, wrapped("exec taskset -c 0"));
    const members = await Promise.all(["Ann", "Bob", "Carl", "Dora"].map((name) => member(t, started.url, name)));
    // Refused when it is parsed, which costs the server more than the client.
    const content = Array.from({ length: 200 }, () => ({}));
    const busy = () => Promise.all(members.flatMap((socket) => Array.from({ length: 50 }, () => ask(socket, ...message(content)))));
    await fires("RoomcastProcessorBusy", address(started), busy);
  });

  test("deliveries that wait for the database", async (t) => {
    const postgres = await startPostgres();
    t.after(() => postgres.end());
    const started = await watched(t, { ROOMCAST_STORE: postgres.url });
    const ann = await member(t, started.url, "Ann");
    // A server that stood still writes nothing until it has read what others changed meanwhile. It
    // measures one round of writes in sixteen.
    const wait = async () => {
      const release = await postgres.lock(t, "changes");
      await suspend(started.pid);
      await sleep(1_100);
      started.resume();
      const received = next(ann, "news");
      const { status } = await call(started.url, "POST", "/api/v1/emit", { event: "news", everyone: true });
      assert.equal(status, 200);
      await sleep(1_100);
      release();
      await received;
    };
    await fires("RoomcastDeliverySlow", address(started), wait);
  });

  test("clients that reconnect, and a receiver of webhooks that is down", async (t) => {
    const started = await watched(t, {
      ROOMCAST_WEBHOOKS__URL: "http://127.0.0.1:9/",
      ROOMCAST_WEBHOOKS__SECRET: "a secret of more than thirty-two bytes",
      ROOMCAST_WEBHOOKS__ALLOW_PRIVATE: "true",
      ROOMCAST_WEBHOOKS__QUEUE: "1",
    });
    const options = { ...websocket, reconnection: true, reconnectionDelay: 50, auth: { token: token() } };
    const socket = await connect(t, io, started.url, options);
    const lose = async () => {
      socket.io.engine?.close();
      await until(() => socket.connected, "the client to return");
      await sleep(200);
    };
    await Promise.all([fires("RoomcastReconnections", address(started), lose), fires("RoomcastWebhooksDropped", address(started))]);
  });
});

test("every rule has fired", () => {
  assert.deepEqual([...fired].sort(), rulesOf().map(({ name }) => name).sort());
});
