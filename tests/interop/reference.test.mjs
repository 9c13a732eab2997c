// The generated pages of docs/reference are those of this program, and their requests work.
// `WRITE_GENERATED_FILES=1 node --test tests/interop/reference.test.mjs` writes them.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import Ajv from "ajv/dist/2020.js";
import { admin, keyed, server } from "./people.mjs";
import { rulesOf, startCluster } from "./prometheus.mjs";
import { commands, configuration, errors, http, log, metrics } from "./reference/pages.mjs";
import { logEvents } from "./reference/log_events.mjs";
import { requests } from "./reference/requests.mjs";
import { command, metricsOf, until } from "./support.mjs";

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
    current("metrics", metrics(text, rulesOf()));
    const reasons = [...text.matchAll(/^roomcast_requests_rejected_total\{reason="(\w+)"/gm)].map(([, reason]) => reason);
    current("errors", errors(reasons));
  });

  test("has a request for each route, which the server accepts", async (t) => {
    const { url } = await server(t, keyed);
    const document = await (await fetch(`${url}/api/v1/openapi.json`)).json();
    current("http", http(document));
    const ajv = new Ajv({ strict: false, validateFormats: false });
    ajv.addSchema(document, "api");
    const wrong = [];
    for (const { method, path, target, body, operation } of requests(document)) {
      const route = `${method} ${path}`;
      const reference = operation.requestBody?.content["application/json"]?.schema.$ref;
      if (reference && !ajv.validate({ $ref: `api${reference}` }, body)) wrong.push(`${route}: ${JSON.stringify(body)} ${ajv.errorsText()}`);
      const headers = { authorization: `Bearer ${admin()}`, ...(body && { "content-type": "application/json" }) };
      const stop = new AbortController();
      const answer = await fetch(url + target, { method, headers, body: body && JSON.stringify(body), signal: stop.signal });
      // Conversations, messages and entries of the examples do not exist, and some changes contradict each other.
      const text = answer.headers.get("content-type")?.startsWith("application/json") ? await answer.text() : "";
      stop.abort();
      const isKnown = answer.status !== 404 || text.includes("NOT_FOUND");
      if (!(answer.ok || [404, 409].includes(answer.status)) || !isKnown) wrong.push(`${route} ${target} ${JSON.stringify(body)}: ${answer.status} ${text}`);
    }
    assert.deepEqual(wrong, []);
  });

  test("has all lines of the log", () => {
    const events = logEvents("a.rs", 'fn a() {\n  warn!(broker, error = %why, again_in = ?delay, "connection lost, \\\n     trying \\"again\\"");\n  // info!("comment");\n}\n');
    assert.deepEqual(events, [{ level: "warn", message: 'connection lost, trying "again"', fields: ["broker", "error", "again_in"] }]);
    const text = log();
    assert.ok(text.split("\n| ").length > 100, "more than 100 lines");
    current("log-events", text);
  });
});
