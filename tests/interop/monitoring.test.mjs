// The rules and the dashboard in `deploy/`, run by the programs that use them.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { readFileSync, writeFileSync, chmodSync, renameSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { admin, enter, io, keyed, LOBBY, server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { deployed, metricsOfSqlite, rulesOf, startCluster, startPrometheus, startReceiver } from "./prometheus.mjs";
import { ask, metricsOf, open, outcome, startServer, temporary, until } from "./support.mjs";

const promtool = (...args) => {
  const run = spawnSync("promtool", args, { encoding: "utf8" });
  return { status: run.status, output: `${run.stdout}${run.stderr}` };
};

describe("rules of Prometheus", () => {
  const rules = rulesOf();

  test("each fires when it should, not before, and alone", () => {
    for (const args of [["check", "config", deployed("prometheus/prometheus.yml")], ["test", "rules", deployed("prometheus/rules_test.yml")]]) {
      const { status, output } = promtool(...args);
      assert.equal(status, 0, output);
      assert.match(output, /SUCCESS/);
    }
    const tested = readFileSync(deployed("prometheus/rules_test.yml"), "utf8");
    assert.ok(rules.length >= 20, `${rules.length} rules`);
    for (const { name } of rules) assert.match(tested, new RegExp(`exp_samples: \\[\\{labels: '\\{alertname="${name}"`), name);
  });

  test("each has a summary, a cause and a section of the runbooks with symptom, meaning, check and fix", () => {
    const runbooks = readFileSync(deployed("../docs/runbooks.md"), "utf8").split("\n## ").slice(1);
    const sections = new Map(runbooks.map((section) => [section.split("\n")[0], section]));
    for (const { name, text } of rules) {
      for (const key of ["summary", "description", "severity", `runbook_url: docs/runbooks.md#${name.toLowerCase()}$`]) assert.match(text, new RegExp(`\\b${key}`, "m"), name);
      for (const part of ["Symptom", "Meaning", "Check", "Fix"]) assert.match(sections.get(name) ?? "", new RegExp(`^- \\*\\*${part}\\.\\*\\*\\s`, "m"), `${name}: ${part}`);
    }
    assert.deepEqual([...sections.keys()], rules.map(({ name }) => name), "a section for each rule, in their order");
  });

  test("each uses metrics that a server has", async (t) => {
    const cluster = await startCluster(t, { ROOMCAST_ENGINE__PING_INTERVAL: "300ms" });
    const text = (await metricsOf(cluster.url)) + (await metricsOfSqlite(t));
    const metrics = new Set([...text.matchAll(/^([a-z_]+)[{ ]/gm)].map(([, name]) => name));
    for (const { name, text: rule } of rules) {
      const expression = rule.slice(0, rule.indexOf("labels:")).replace(/#.*/g, "");
      const used = [...expression.matchAll(/\b((?:roomcast|process)_[a-z_]+)/g)].map(([, metric]) => metric);
      for (const metric of used) assert.ok(metrics.has(metric), `${name}: ${metric}`);
    }
  });
});

const address = (started) => started.admin.replace("http://", "");

describe("the dashboard", () => {
  test("has queries that a real Prometheus answers, each with data", async (t) => {
    const dashboard = JSON.parse(readFileSync(deployed("grafana/roomcast.json"), "utf8"));
    const queries = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
    for (const { expr } of dashboard.annotations.list) queries.push({ title: "annotations", expr, isRare: true });
    assert.ok(queries.length > 50, `${queries.length} queries`);
    const cluster = await startCluster(t, { ROOMCAST_ENGINE__PING_INTERVAL: "300ms" });
    const prometheus = await startPrometheus(t, { targets: [address(cluster)] });
    const url = cluster.url.replace("http://127.0.0.1", "https://localhost");
    const options = { rejectUnauthorized: false, transports: ["websocket"] };
    const { socket } = await enter(t, url, { ...options, auth: { name: "Ann" } });
    await ask(socket, "join_conversation", { conversationId: LOBBY });
    // Refused, to count a refusal.
    await outcome(open(t, io, url, { ...options, auth: { token: "no token" } }));
    let sent = 0;
    const empty = async () => {
      for (let n = 0; n < 20; n++) await ask(socket, "message", { conversationId: LOBBY, content: `hello ${sent++}` });
      const results = queries.map(async ({ title, expr, isRare }) => {
        const filled = expr.replaceAll("$instance", ".*").replaceAll("$__rate_interval", "10s");
        const found = await prometheus.query(filled);
        return found.length || isRare ? [] : [`${title}: ${filled}`];
      });
      return (await Promise.all(results)).flat();
    };
    let left = [];
    await until(async () => (left = await empty()).length === 0, () => left.join("\n"));
    assert.deepEqual(dashboard.templating.list.map(({ name }) => name), ["datasource", "instance"]);
  });
});

describe("metrics for scrapers on other machines", () => {
  test("need the token of a file, which can be replaced without a restart", async (t) => {
    const [old, other] = ["old", "new"].map((word) => `the ${word} token of scrapers, of enough characters`.replaceAll(" ", "-"));
    const file = join(temporary(), "token");
    const write = (token) => {
      writeFileSync(`${file}.new`, `${token}\n`, { mode: 0o600 });
      renameSync(`${file}.new`, file);
    };
    write(old);
    const started = await server(t, { ROOMCAST_SERVER__METRICS_TOKEN_FILE: file });
    const status = async (token) => {
      const headers = token ? { authorization: `Bearer ${token}` } : {};
      return (await fetch(`${started.url}/metrics`, { headers })).status;
    };
    assert.deepEqual([await status(old), await status(other), await status()], [200, 401, 401]);
    const prometheus = await startPrometheus(t, { targets: [started.url.replace("http://", "")], token: old });
    await until(async () => (await prometheus.query('up{job="roomcast"} == 1')).length === 1, "Prometheus to read the metrics");
    // A file that every user can read is refused, and the token stays.
    write("unused-token-that-every-user-of-the-machine-can-read");
    chmodSync(file, 0o644);
    await until(() => /could not load the changed metrics token/.test(started.output()), "the refusal");
    assert.equal(await status(old), 200);
    write(other);
    await until(async () => (await status(other)) === 200, "the new token");
    assert.equal(await status(old), 401);
    for (const secret of [old, other, "unused-token"]) assert.ok(!started.output().includes(secret), "the log shows no token");
  });
});

describe("alerts of the server", () => {
  /** Returns the alerts that an admin receives, as a list that grows. */
  const watch = async (t, url) => {
    const told = [];
    const socket = open(t, io, `${url}/admin`, { auth: { token: admin() } });
    socket.on("admin:alert", ({ alert, part, state }) => told.push(`${alert} ${part} ${state}`));
    assert.equal(await outcome(socket), undefined);
    return told;
  };

  test("are kept over a crash, and report it", async (t) => {
    const folder = temporary();
    const kill = join(folder, "kill");
    const env = { ...keyed, ROOMCAST_STORE: `sqlite:${join(folder, "chat.db")}`, SUPERVISOR_TEST_KILLS: kill };
    const task = ["unavailable", "ok"].map((state) => `RoomcastTaskDown task ${state}`);
    let started = await startServer(env);
    const live = await watch(t, started.url);
    writeFileSync(kill, "retention");
    await until(() => live.length === 2, () => `${live}`);
    assert.deepEqual(live, task);
    await started.stop();
    started = await startServer(env);
    const after = await watch(t, started.url);
    await until(() => after.length === 1, () => `${after}`);
    await started.stop("SIGKILL");
    started = await startServer(env);
    t.after(() => started.stop());
    const crashed = await watch(t, started.url);
    // An alert that ends while the stored ones are read arrives before them, and perhaps again.
    const distinct = () => [...new Set(crashed)].sort();
    await until(() => crashed.includes("RoomcastRestarting server ok") && distinct().length === 2, () => `${crashed}`);
    // A stop by a signal is no crash.
    assert.deepEqual([after, distinct()], [[task[1]], ["RoomcastRestarting server ok", task[1]]]);
  });

  test("go to the webhook although the store is down, signed and under the names of the rules", async (t) => {
    const postgres = await startPostgres();
    t.after(() => postgres.end());
    const { url: hook, received } = await startReceiver(t);
    const secret = "a secret of webhooks of enough bytes";
    const started = await server(t, {
      ROOMCAST_STORE: postgres.url,
      ROOMCAST_NODE__ID: "chat-1",
      ROOMCAST_WEBHOOKS__URL: hook,
      ROOMCAST_WEBHOOKS__SECRET: secret,
      ROOMCAST_WEBHOOKS__ALLOW_PRIVATE: "true",
      ROOMCAST_WEBHOOKS__EVENTS: "admin:alert",
    });
    const told = () => received.flatMap(({ body }) => body.events).map(({ event, data }) => `${event} ${data.node} ${data.alert} ${data.state}`);
    const isTold = (alert, state) => until(() => told().includes(`admin:alert chat-1 ${alert} ${state}`), () => `${alert} in ${told()}`);
    await postgres.stop();
    await isTold("RoomcastStoreUnavailable", "unavailable");
    assert.ok(!started.output().includes(secret));
    await postgres.start();
    await isTold("RoomcastStoreUnavailable", "ok");
    const names = new Set(rulesOf().map(({ name }) => name));
    for (const { headers, text, body } of received) {
      const [, time, signature] = /^t=(\d+),v1=([0-9a-f]+)$/.exec(headers["roomcast-signature"]);
      assert.equal(signature, createHmac("sha256", secret).update(`${time}.${text}`).digest("hex"));
      for (const { data } of body.events) assert.ok(names.has(data.alert), data.alert);
    }
    // The store has them when it works again.
    const admins = await watch(t, started.url);
    await until(() => admins.includes("RoomcastStoreUnavailable store ok"), () => `${admins}`);
  });
});
