// One chat on several servers connected by a Redis that accepts only TLS: behind a sentinel, and as
// a cluster.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { vouched } from "./certificates.mjs";
import { postgres, startServers, typesAcross } from "./chat_servers.mjs";
import { logged, server } from "./people.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { lastingPort, metric, metricIs, until } from "./support.mjs";

/** Creates the files of Redis's certificate, and of a certificate by another authority. */
const certificates = () => [vouched("DNS:localhost,IP:127.0.0.1"), vouched("DNS:localhost")];

/** Returns the TLS options of Redis for a certificate, each with this prefix. */
const tlsOptions = ({ cert, key, ca }, before, more) =>
  Object.entries({ "cert-file": cert, "key-file": key, "ca-cert-file": ca, "auth-clients": "no", ...more })
    .map(([name, value]) => `${before}tls-${name} ${value}`);

/** Starts a Redis that is reached only over TLS, at `port`. */
async function startSecure(t, files, options = "", more = {}) {
  const [port, bus] = [await lastingPort(), await lastingPort()];
  const own = tlsOptions(files, "--", { port, replication: "yes", ...more });
  const redis = await startRedis([...own, options.replace("BUS", bus)].join(" "));
  t.after(() => redis.end());
  // The port without TLS was only for detecting its start.
  await redis.command("config", "set", "port", "0");
  return { ...redis, port };
}

/** Runs a command of `redis-cli` over TLS. */
const cli = async ({ ca }, ...args) => (await promisify(execFile)("redis-cli", ["--tls", "--cacert", ca, ...args])).stdout.trim();

/**
 * A server that trusts another authority logs once why it is not connected, and works without the
 * broker.
 */
async function isRefused(t, url, { ca }) {
  const one = await server(t, { ROOMCAST_STORE: postgres.url, ROOMCAST_ADAPTER__URL: url, SSL_CERT_FILE: ca });
  await logged(one, /ERROR.* TLS/);
  assert.equal((await (await fetch(`${one.url}/health/ready`)).json()).adapter, "unavailable");
  await one.stop();
  assert.equal(one.output().match(/ERROR/g).length, 1, one.output());
}

test("a sentinel over TLS names a Redis over TLS, and another after failover", async (t) => {
  const [files, others] = certificates();
  const master = await startSecure(t, files);
  const replica = await startSecure(t, files, `--replicaof 127.0.0.1 ${master.port}`);
  const port = await lastingPort();
  const sentinel = await startBroker("sentinel", [master.port, ...tlsOptions(files, "", { port, replication: "yes" })].join("\n"));
  t.after(() => sentinel.end());
  const url = `rediss+sentinel://127.0.0.1:${port}/main`;
  const servers = await startServers(t, 2, { ROOMCAST_ADAPTER__URL: url, SSL_CERT_FILE: files.ca });
  await typesAcross(t, servers, "behind a sentinel");
  const downs = () => Promise.all(servers.map(({ url }) => metric(url, 'roomcast_adapter_transitions_total{to="down"}')));
  const before = await downs();
  assert.equal(await cli(files, "-p", `${port}`, "sentinel", "set", "main", "down-after-milliseconds", "1000"), "OK");
  await master.kill();
  await until(async () => (await downs()).every((count, n) => count > before[n]), "the master to be missed");
  await Promise.all(servers.map(({ url }) => metricIs(url, "roomcast_adapter_up", (up) => up === 1)));
  assert.match(await cli(files, "-p", `${replica.port}`, "role"), /^master/);
  await typesAcross(t, servers, "behind another one");
  await isRefused(t, url, others);
});

test("a Redis cluster over TLS joins servers in classic and sharded form", async (t) => {
  const [files, others] = certificates();
  const options = "--cluster-enabled yes --cluster-port BUS";
  const nodes = await Promise.all([1, 2, 3].map(() => startSecure(t, files, options, { cluster: "yes" })));
  const hosts = nodes.map(({ port }) => `127.0.0.1:${port}`);
  await cli(files, "--cluster", "create", ...hosts, "--cluster-yes");
  for (const scheme of ["rediss+cluster", "rediss+cluster+sharded"]) {
    const env = { ROOMCAST_ADAPTER__URL: `${scheme}://${hosts}`, SSL_CERT_FILE: files.ca };
    const servers = await startServers(t, 2, env);
    await typesAcross(t, servers, scheme);
    await Promise.all(servers.map((one) => one.stop()));
  }
  await isRefused(t, `rediss+cluster://${hosts}`, others);
});
