// Prometheus and Alertmanager, the programs of Debian, for tests of metrics and alerts.
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { vouched } from "./certificates.mjs";
import { server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { lastingPort, launch, until } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { metricsOf, temporary } from "./support.mjs";

/** Returns the path of a file in `deploy/`. */
export const deployed = (path) => fileURLToPath(new URL(`../../deploy/${path}`, import.meta.url));

/**
 * Starts a server with TLS, a key file, a database and a broker, so that it has all metrics but
 * those of SQLite.
 */
export async function startCluster(t, env = {}) {
  const postgres = await startPostgres();
  t.after(() => postgres.end());
  const redis = await startRedis();
  t.after(() => redis.end());
  const { cert, key } = vouched("DNS:localhost,IP:127.0.0.1");
  const keys = join(temporary(), "keys.json");
  writeFileSync(keys, '{"keys": []}');
  return server(t, {
    ROOMCAST_AUTH__JWT__KEYS_FILE: keys,
    ROOMCAST_STORE: postgres.url,
    ROOMCAST_ADAPTER__URL: `redis://${redis.address}`,
    ROOMCAST_RECOVERY__ENABLED: "true",
    ROOMCAST_SERVER__TLS__CERT_FILE: cert,
    ROOMCAST_SERVER__TLS__KEY_FILE: key,
    ...env,
  });
}

/** Returns the metrics of a server with SQLite. */
export async function metricsOfSqlite(t) {
  const { url } = await server(t, { ROOMCAST_STORE__MAX_BYTES: "100000000" });
  return metricsOf(url);
}

/** Starts a program until its address is ready, and ends it with the test. */
async function run(t, command, args, url) {
  const program = launch(command, args);
  t.after(() => program.stop("SIGKILL"));
  const isReady = async () => {
    if (!program.isRunning()) throw new Error(`${command} ended with ${await program.ended}\n${program.output()}`);
    return fetch(`${url}/-/ready`).then((response) => response.ok, () => false);
  };
  await until(isReady, () => `${command} to start\n${program.output()}`);
}

/**
 * Starts a Prometheus that reads these servers (`host:port`) every `interval`. `rules` is the text
 * of a file of rules, and `alertmanager` an address. Returns functions for its HTTP API.
 */
export async function startPrometheus(t, { targets, interval = "1s", rules, alertmanager, token }) {
  const folder = temporary();
  const address = `127.0.0.1:${await lastingPort()}`;
  const list = join(folder, "targets.json");
  const setTargets = (targets) => writeFileSync(list, JSON.stringify([{ targets }]));
  setTargets(targets);
  if (rules) writeFileSync(join(folder, "rules.yml"), rules);
  if (token) writeFileSync(join(folder, "token"), token);
  const config = {
    global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
    rule_files: rules ? ["rules.yml"] : [],
    alerting: { alertmanagers: alertmanager ? [{ static_configs: [{ targets: [alertmanager] }] }] : [] },
    scrape_configs: [
      {
        job_name: "roomcast",
        ...(token && { authorization: { credentials_file: "token" } }),
        file_sd_configs: [{ files: [list], refresh_interval: "1s" }],
      },
    ],
  };
  // JSON is YAML.
  const file = join(folder, "prometheus.yml");
  writeFileSync(file, JSON.stringify(config));
  const flags = [`--config.file=${file}`, `--storage.tsdb.path=${join(folder, "data")}`, `--web.listen-address=${address}`];
  const url = `http://${address}`;
  await run(t, "prometheus", flags, url);
  const get = async (path) => {
    const answer = await (await fetch(`${url}/api/v1/${path}`)).json();
    if (answer.status !== "success") throw new Error(`${path}: ${answer.errorType}: ${answer.error}`);
    return answer.data;
  };
  return {
    url,
    setTargets,
    /** Returns the series of a query. */
    query: async (text) => (await get(`query?query=${encodeURIComponent(text)}`)).result,
    /** Returns the state of each target. */
    targets: async () => (await get("targets")).activeTargets,
    /** Returns the pending and firing alerts. */
    alerts: async () => (await get("alerts")).alerts,
  };
}

/** Starts an Alertmanager that sends every alert to a webhook immediately. Returns its address. */
export async function startAlertmanager(t, webhook) {
  const folder = temporary();
  const address = `127.0.0.1:${await lastingPort()}`;
  const config = {
    route: { receiver: "test", group_by: ["alertname", "instance"], group_wait: "0s", group_interval: "1s" },
    receivers: [{ name: "test", webhook_configs: [{ url: webhook, send_resolved: true }] }],
  };
  const file = join(folder, "alertmanager.yml");
  writeFileSync(file, JSON.stringify(config));
  const flags = [`--config.file=${file}`, `--storage.path=${join(folder, "data")}`, `--web.listen-address=${address}`];
  await run(t, "prometheus-alertmanager", [...flags, "--cluster.listen-address="], `http://${address}`);
  return address;
}

/** Starts a receiver of webhooks, and returns its URL and the bodies that it got. */
export async function startReceiver(t) {
  const received = [];
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const part of request) text += part;
    received.push({ headers: request.headers, text, body: JSON.parse(text) });
    response.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${server.address().port}/`, received };
}

/** Returns the alerts of the rules, with their texts. The file has one key for each line. */
export function rulesOf(text = readFileSync(deployed("prometheus/rules.yml"), "utf8")) {
  return text.split("\n      - alert: ").slice(1).map((part) => ({ name: part.split("\n")[0], text: part }));
}
