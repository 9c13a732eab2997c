// One chat on several servers whose broker is killed, returns, or admits no server. Also a server
// behind a pooler that drops its notifications.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect as dial, createServer as createPlainServer } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createServer } from "node:tls";
import pg from "pg";
import { vouched } from "./certificates.mjs";
import { by, gathered, news, person, postgres, seqs, startServers, typesAcross } from "./chat_servers.mjs";
import { startLink } from "./link.mjs";
import { logged, server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker } from "./processes.mjs";
import { connectRedis, startRedis } from "./redis.mjs";
import { lastingPort, metric, metricIs, next, temporary, until } from "./support.mjs";

/** Creates a self-signed certificate. */
function certificate(t) {
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(temporary(), name));
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
  const args = ["req", "-x509", ...kind, "-keyout", key, "-out", cert, "-subj", "/CN=localhost"];
  execFileSync("openssl", args, { stdio: "ignore" });
  return { cert: readFileSync(cert), key: readFileSync(key) };
}

describe("a Redis that fails", { concurrency: false }, () => {
  const adapter = async ({ url }) => (await (await fetch(`${url}/health/ready`)).json()).adapter;
  const transitions = (servers, to) => Promise.all(servers.map(({ url }) => metric(url, `roomcast_adapter_transitions_total{to="${to}"}`)));

  test("does not affect sending and reading, and is used again when it is back", async (t) => {
    const redis = await startRedis();
    t.after(() => redis.end());
    const servers = await startServers(t, 2, by(redis), { ROOMCAST_CHAT__CONFIRM_TIMEOUT: "1s" });
    const { people, conversationId } = await typesAcross(t, servers, "before");
    const [ann, , carl] = people;
    const dora = await person(t, servers[1], "dora");
    const before = [ann, carl].map((one) => one.all("message").length);
    const [downs, ups] = [await transitions(servers, "down"), await transitions(servers, "up")];
    /** How often a server has logged that it is connected: once at its start. */
    const joined = (one) => one.output().match(/the adapter works, other servers receive changes immediately/g)?.length ?? 0;
    for (const one of servers) await until(() => joined(one) > 0, "that it says so");
    const said = servers.map(joined);
    await redis.kill();
    for (const [n, one] of servers.entries()) {
      await until(async () => (await adapter(one)) === "unavailable", "the loss");
      assert.equal((await fetch(`${one.url}/health/ready`)).status, 200);
      await until(async () => (await transitions(servers, "down"))[n] > downs[n], "that it is counted");
      await logged(one, /the adapter is unavailable/);
    }
    await ann.must("add_member", { conversationId, userId: dora.name });
    await until(() => news(dora, conversationId).length === 1, "news from the feed");
    await dora.must("join_conversation", { conversationId });
    for (let n = 0; n < 5; n++) {
      await ann.must("message", { conversationId, content: `${n}` });
      await dora.must("message", { conversationId, content: `${n}` });
    }
    await until(() => seqs(carl).length === before[1] + 10, "messages from the store");
    await until(() => seqs(dora).length === 5 && seqs(ann).length === before[0] + 5, "messages from the store");
    assert.deepEqual(seqs(carl).slice(-10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // Members at unreachable servers may be present.
    const report = next(ann.socket, "message_delivered");
    await ann.must("message", { conversationId, content: "confirm", confirmDelivery: true });
    const [{ timedOut }] = await report;
    assert.equal(timedOut, true);
    await redis.start();
    for (const [n, one] of servers.entries()) {
      await until(async () => (await adapter(one)) === "ok", "its return");
      await until(async () => (await transitions(servers, "up"))[n] > ups[n], "that it is counted");
      await until(() => joined(one) > said[n], "that it is told");
      assert.equal(await metric(one.url, "roomcast_adapter_up"), 1);
    }
    await typesAcross(t, servers, "again");
  });

  test("is reported once and clearly if it requires a missing password", async (t) => {
    const redis = await startRedis();
    t.after(() => redis.end());
    const client = await connectRedis(redis);
    await client.configSet("requirepass", "canary");
    await client.close();
    const env = { ROOMCAST_STORE: postgres.url };
    const [none, wrong, right] = await Promise.all(
      ["", ":wrong@", ":canary@"].map((user) =>
        server(t, { ...env, ROOMCAST_ADAPTER__URL: `redis://${user}${redis.address}` }),
      ),
    );
    await metricIs(right.url, "roomcast_adapter_up", (up) => up === 1);
    for (const one of [none, wrong]) {
      await logged(one, /requires a valid user and password/);
      assert.equal(await adapter(one), "unavailable");
      assert.doesNotMatch(one.output(), /wrong@|canary/);
      assert.equal(one.output().match(/ERROR/g).length, 1, one.output());
    }
    // Both servers work without the broker.
    await gathered(t, [none, wrong], ["h1", "h2"]);
  });

  test("is used over TLS if its certificate is trusted, else reported once", async (t) => {
    const [files, others] = [vouched(), vouched()];
    const port = await lastingPort();
    const own = `--tls-cert-file ${files.cert} --tls-key-file ${files.key} --tls-ca-cert-file ${files.ca}`;
    const redis = await startRedis(`--tls-port ${port} --tls-auth-clients no ${own}`);
    t.after(() => redis.end());
    const at = (host, ca) => ({ ROOMCAST_ADAPTER__URL: `rediss://${host}:${port}`, SSL_CERT_FILE: ca });
    const joined = await startServers(t, 2, at("localhost", files.ca), { ROOMCAST_ADAPTER__KEY: "tls" });
    await typesAcross(t, joined, "over TLS");
    const env = { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__KEY: "tls" };
    // Another authority has signed its certificate, or the name is another.
    for (const variables of [at("localhost", others.ca), at("127.0.0.1", files.ca)]) {
      const one = await server(t, { ...env, ...variables });
      await logged(one, /ERROR.* TLS/);
      assert.equal(await adapter(one), "unavailable");
      await one.stop();
      assert.equal(one.output().match(/ERROR/g).length, 1, one.output());
    }
  });

  test("is reported once and clearly if it requires TLS and does not get it", async (t) => {
    const broker = createServer(certificate(t));
    broker.on("tlsClientError", () => {});
    await new Promise((done) => broker.listen(0, "127.0.0.1", done));
    t.after(() => broker.close());
    const adapter = (scheme) => `${scheme}://localhost:${broker.address().port}`;
    for (const scheme of ["redis", "rediss"]) {
      const one = await server(t, { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: adapter(scheme) });
      await logged(one, /ERROR.* TLS/);
      await one.stop();
      assert.equal(one.output().match(/ERROR/g).length, 1, one.output());
    }
  });
});

describe("a broker that requires authentication", { concurrency: true }, () => {
  /**
   * Checks that a server that this broker refuses retries, logs the reason once, and logs no
   * password.
   */
  async function isToldOnce(t, url, expected, env = {}) {
    const link = await startLink(url);
    t.after(() => link.close());
    const behind = Object.assign(new URL(url), { host: new URL(link.url).host });
    const one = await server(t, { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: `${behind}`, ...env });
    await logged(one, expected);
    const tries = link.connections();
    // More connections than an adapter holds at a time.
    await until(() => link.connections() > tries + 3, "further tries");
    const ready = await fetch(`${one.url}/health/ready`);
    assert.deepEqual([ready.status, (await ready.json()).adapter], [200, "unavailable"]);
    await one.stop();
    const errors = one.output().match(/.*ERROR.*/g);
    assert.equal(errors.length, 1, one.output());
    assert.match(errors[0], expected);
    assert.doesNotMatch(one.output(), /mistaken|canary/);
  }

  const isJoined = async (t, url, env = {}) => {
    const one = await server(t, { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: url, ...env });
    await metricIs(one.url, "roomcast_adapter_up", (up) => up === 1);
    assert.doesNotMatch(one.output(), /ERROR/);
  };

  test("is reported once if PostgreSQL requires a missing password or TLS", async (t) => {
    const guarded = await startPostgres();
    t.after(() => guarded.end());
    const at = (user) => guarded.url.replace("roomcast", user);
    for (const user of ["known", "secured"]) guarded.query(`CREATE ROLE ${user} SUPERUSER LOGIN PASSWORD 'canary'`);
    const rules = ["host all known all scram-sha-256", "hostnossl all secured all reject", "host all all all trust"];
    guarded.query(`COPY (VALUES ${rules.map((rule) => `('${rule}')`)}) TO '${guarded.query("SHOW hba_file")}'`);
    guarded.query("SELECT pg_reload_conf()");
    const isShut = async () => {
      const client = new pg.Client({ connectionString: at("secured") });
      const error = await client.connect().catch((error) => error);
      await client.end();
      return error !== undefined;
    };
    await until(isShut, "the rules to hold");
    await Promise.all([
      isToldOnce(t, at("known"), /ERROR.*requires a valid user and password/),
      isToldOnce(t, at("known:mistaken"), /ERROR.*requires a valid user and password/),
      isToldOnce(t, at("secured:canary"), /ERROR.* TLS/),
      isJoined(t, at("known:canary")),
    ]);
  });

  test("is reported once and clearly if NATS requires a missing password", async (t) => {
    const nats = await startBroker("nats", "--user known --pass canary");
    t.after(() => nats.end());
    await Promise.all([
      isToldOnce(t, `nats://${nats.address}`, /ERROR.*requires a valid user and password/),
      isToldOnce(t, `nats://known:mistaken@${nats.address}`, /ERROR.*requires a valid user and password/),
      isJoined(t, `nats://known:canary@${nats.address}`),
    ]);
  });

  test("is reported once if the TLS certificate of NATS is not trusted", async (t) => {
    const [files, others] = [vouched("IP:127.0.0.1"), vouched("IP:127.0.0.1")];
    const nats = await startBroker("nats", `--tls --tlscert ${files.cert} --tlskey ${files.key}`);
    t.after(() => nats.end());
    await Promise.all([
      isToldOnce(t, `nats://${nats.address}`, /ERROR.* TLS/),
      isToldOnce(t, `nats+tls://${nats.address}`, /ERROR.* TLS/, { SSL_CERT_FILE: others.ca }),
      isJoined(t, `nats://${nats.address}`, { SSL_CERT_FILE: files.ca }),
      isJoined(t, `nats+tls://${nats.address}`, { SSL_CERT_FILE: files.ca }),
    ]);
  });
});

/**
 * Starts a proxy that acts like a pooler in transaction mode: it forwards what PostgreSQL sends,
 * except notifications.
 */
async function startPooler(t) {
  const { hostname, port } = new URL(postgres.url);
  const ends = new Set();
  const pooler = createPlainServer((client) => {
    const upstream = dial({ host: hostname, port: Number(port) });
    let rest = Buffer.alloc(0);
    upstream.on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      // The type of a message, and its length without the type.
      while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
        const length = 1 + rest.readUInt32BE(1);
        if (rest[0] !== "A".charCodeAt(0)) client.write(rest.subarray(0, length));
        rest = rest.subarray(length);
      }
    });
    client.on("data", (data) => upstream.write(data));
    for (const [one, other] of [[client, upstream], [upstream, client]]) {
      ends.add(one);
      one.on("close", () => other.destroy());
      // The other end notices a broken connection.
      one.on("error", () => {});
    }
  });
  await once(pooler.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    for (const end of ends) end.destroy();
    pooler.close();
  });
  return postgres.url.replace(`:${port}`, `:${pooler.address().port}`);
}

test("a server isolated by a pooler logs it and reads changes from the store", async (t) => {
  const [here] = await startServers(t, 1, {});
  const there = await server(t, { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: await startPooler(t) });
  await logged(there, /pooler in transaction mode/);
  await metricIs(there.url, "roomcast_adapter_up", (up) => up === 0);
  const ready = await fetch(`${there.url}/health/ready`);
  assert.deepEqual([ready.status, (await ready.json()).adapter], [200, "unavailable"]);
  const { people, conversationId } = await gathered(t, [here, there], ["ann pooled", "bob pooled"]);
  const [ann, bob] = people;
  for (let n = 0; n < 5; n++) {
    await ann.must("message", { conversationId, content: `${n}` });
    await bob.must("message", { conversationId, content: `${n}` });
  }
  for (const one of people) await until(() => seqs(one).length === 5, `what the other one says, at ${one.name}`);
  for (const one of people) assert.deepEqual([...seqs(one)].sort((a, b) => a - b), seqs(one));
  await ann.must("rename_conversation", { conversationId, title: "Renamed" });
  await until(() => news(bob, conversationId).some((told) => told.startsWith("Renamed")), "the new title");
});
