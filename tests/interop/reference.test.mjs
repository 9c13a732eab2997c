// The generated pages of docs/reference are those of this program, and their requests work.
// `WRITE_GENERATED_FILES=1 node --test tests/interop/reference.test.mjs` writes them.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import Ajv from "ajv/dist/2020.js";
import { admin, keyed, server } from "./people.mjs";
import { metricsOfSqlite, rulesOf, startCluster } from "./prometheus.mjs";
import { alerting } from "./reference/alerting.mjs";
import { commands, configuration, errors, http, log, metrics, withRules } from "./reference/pages.mjs";
import { logEvents } from "./reference/log_events.mjs";
import { requests } from "./reference/requests.mjs";
import { launch } from "./processes.mjs";
import { command, metricsOf, temporary, until, within } from "./support.mjs";

/** Compares a page with the program, or writes it. */
function current(name, text) {
  const path = fileURLToPath(new URL(`../../docs/reference/${name}.md`, import.meta.url));
  if (process.env.WRITE_GENERATED_FILES) writeFileSync(path, text);
  assert.ok(readFileSync(path, "utf8") === text, `docs/reference/${name}.md is out of date: run tests/generate`);
}

/** Returns the output of a command. */
function output(args) {
  const { status, stdout, stderr } = command(args);
  assert.equal(status, 0, stderr);
  return stdout;
}

/**
 * Returns what is wrong with the expressions of `alerting`, if these are the metrics of a server.
 */
function faultsOf(text) {
  const rules = Object.entries(alerting).map(([alert, [expr]]) => ({ alert, expr }));
  assert.ok(rules.length >= 50, `${rules.length} expressions`);
  const file = join(temporary(), "rules.yml");
  // JSON is YAML.
  writeFileSync(file, JSON.stringify({ groups: [{ name: "reference", rules }] }));
  const checked = spawnSync("promtool", ["check", "rules", file], { encoding: "utf8" });
  const wrong = checked.status === 0 ? [] : [`${checked.stdout}${checked.stderr}${checked.error ?? ""}`];
  for (const { alert, expr } of rules) {
    const selectors = [...expr.matchAll(/\b(roomcast_[a-z_]+)(?:\{([^}]*)\})?/g)].map(([, name, labels = ""]) => ({ name, labels }));
    if (!selectors.some(({ name }) => [alert, `${alert}_bucket`].includes(name))) wrong.push(`${alert}: ${expr} does not use it`);
    for (const { name, labels } of selectors) {
      const rows = text.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
      if (!rows.length) wrong.push(`${alert}: there is no ${name}`);
      for (const [, label, values] of labels.matchAll(/(\w+)!?=~?"([^"]*)"/g)) {
        for (const value of values.split("|")) if (!rows.some((row) => row.includes(`${label}="${value}"`))) wrong.push(`${alert}: no ${name} has ${label}="${value}"`);
      }
    }
  }
  return wrong;
}

/** Exit codes of curl: the status is an error, and the time is over. */
const [REFUSED, TIMED_OUT] = [22, 28];

/**
 * Returns the commands of the page of requests, by `METHOD /path`. Each has its own
 * `Idempotency-Key`.
 */
function printedRequests() {
  const page = readFileSync(new URL("../../docs/reference/http.md", import.meta.url), "utf8");
  const sections = page.split("\n### ").slice(1);
  return new Map(sections.map((section, n) => [section.split("\n")[0], section.split("```sh\n")[1].split("```")[0].replace("example-1", `example-${n}`)]));
}

/**
 * Runs a command with bash, and returns the exit code of curl, the status, the content type and the
 * body.
 */
async function run(text, env) {
  const curl = `curl() { command curl --silent --show-error --max-time 5 --write-out '\n%{http_code} %{content_type}' "$@"; }`;
  const program = launch("bash", ["-euo", "pipefail", "-c", `${curl}\n${text}`], { env });
  const code = await within(program.ended, text);
  const lines = program.output().trimEnd().split("\n");
  const [, status, type] = /^(\d{3}) (.*)$/.exec(lines.find((line) => /^\d{3} /.test(line)) ?? "000 ");
  return { code, status: Number(status), type, text: lines.join("\n") };
}

describe("docs/reference", { concurrency: true }, () => {
  test("has all keys of the configuration", () => {
    const keys = JSON.parse(output(["print-config", "--commented", "--json"]));
    assert.ok(keys.length > 170, `${keys.length} keys`);
    current("configuration", configuration(keys));
  });

  test("has all commands", () => {
    const help = output(["--help"]);
    const names = [...help.split("Commands:\n")[1].split("\n\n")[0].matchAll(/^ {2}([a-z-]+) /gm)].map(([, name]) => name);
    const listed = names.filter((name) => name !== "help");
    assert.ok(listed.length > 20, `${listed}`);
    const helps = listed.map((name) => ({ name: `roomcast ${name}`, help: output([name, "--help"]) }));
    current("commands", commands([{ name: "roomcast", help }, ...helps]));
  });

  test("has all metrics with their alerts, and all reasons of refusals", async (t) => {
    const cluster = await startCluster(t);
    let text = "";
    // Some families appear with the first probe of the broker.
    await until(async () => (text = await metricsOf(cluster.url)).includes("roomcast_adapter_lag_seconds"), "the first probe");
    // The servers of a cluster use PostgreSQL. Families that only SQLite has follow those of the
    // store.
    const of = (part) => /^# HELP (\S+)/.exec(part)?.[1];
    const parts = (all) => all.split(/^(?=# HELP )/m);
    const known = new Set(parts(text).map(of));
    const own = parts(await metricsOfSqlite(t)).filter((part) => !known.has(of(part)));
    const merged = parts(text).flatMap((part) => (of(part) === "roomcast_store_changes_max" ? [part, ...own] : [part]));
    assert.ok(own.length >= 3, `${own.map(of)}`);
    const all = merged.join("");
    current("metrics", metrics(all, rulesOf()));
    assert.deepEqual(faultsOf(all), []);
    const reasons = [...text.matchAll(/^roomcast_requests_rejected_total\{reason="(\w+)"/gm)].map(([, reason]) => reason);
    current("errors", errors(reasons));
  });

  test("has the rule of each alert in its runbook", () => {
    const path = fileURLToPath(new URL("../../docs/runbooks.md", import.meta.url));
    const text = withRules(readFileSync(path, "utf8"), rulesOf());
    if (process.env.WRITE_GENERATED_FILES) writeFileSync(path, text);
    assert.ok(readFileSync(path, "utf8") === text, "docs/runbooks.md has other rules than deploy/prometheus/rules.yml: run tests/generate");
  });

  test("has a request for each route, which the server accepts", async (t) => {
    const { url } = await server(t, keyed);
    const document = await (await fetch(`${url}/api/v1/openapi.json`)).json();
    current("http", http(document));
    const ajv = new Ajv({ strict: false, validateFormats: false });
    ajv.addSchema(document, "api");
    const printed = printedRequests();
    const wrong = [];
    for (const { method, path, target, body, operation } of requests(document)) {
      const route = `${method} ${path}`;
      const reference = operation.requestBody?.content["application/json"]?.schema.$ref;
      if (reference && !ajv.validate({ $ref: `api${reference}` }, body)) wrong.push(`${route}: ${JSON.stringify(body)} ${ajv.errorsText()}`);
      const { code, status, type, text } = await run(printed.get(route.replace("/api/v1", "")), { URL: url, TOKEN: admin() });
      const isOk = status >= 200 && status < 300;
      // A trace goes on until the time limit of curl.
      const expected = type.startsWith("application/x-ndjson") ? [0, TIMED_OUT] : isOk ? [0] : [REFUSED];
      // Conversations, messages and entries of the examples do not exist, and some changes
      // contradict each other.
      const isKnown = status !== 404 || text.includes("NOT_FOUND");
      if (!(isOk || [404, 409].includes(status)) || !isKnown || !expected.includes(code)) wrong.push(`${route} ${target} ${JSON.stringify(body)}: ${code} ${status} ${text}`);
    }
    assert.deepEqual(wrong, []);
  });

  test("has all lines of the log", () => {
    const events = logEvents("a.rs", 'fn a() {\n  warn!(broker, error = %why, again_in = ?delay, "connection lost, \\\n     trying \\"again\\"");\n  // info!("comment");\n}\n');
    assert.deepEqual(events, [{ level: "warn", message: 'connection lost, trying "again"', fields: ["broker", "error", "again_in"] }]);
    const throttled = logEvents("b.rs", 'fn b() {\n  throttled_log!(info, act, "refused");\n}\n');
    assert.deepEqual(throttled, [{ level: "info", message: "refused", fields: ["more", "act"] }]);
    const text = log();
    assert.ok(text.split("\n| ").length > 100, "more than 100 lines");
    current("log-events", text);
  });
});
