// The generated pages of docs/reference, each from what the program, its sources or its answers
// state.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { alerting } from "./alerting.mjs";
import { logEvents } from "./log_events.mjs";
import { requests } from "./requests.mjs";

const root = fileURLToPath(new URL("../../..", import.meta.url));
export const read = (path) => readFileSync(join(root, path), "utf8");
const page = (title, about, parts) => `# ${title}\n\n${about}\n\n${parts.join("\n\n")}\n`;
const generated = "This page is generated: `tests/generate` writes it, and a test compares it with the program.";
const code = (text) => `\`${text}\``;
/** A cell of a table must not end early. */
const cell = (text) => text.replaceAll("|", "\\|").replace(/\s+/g, " ").trim();

/** Formats a number as readers expect it, and other defaults as in a configuration file. */
function shown(value) {
  if (value === null || value === undefined) return "unset";
  return code(JSON.stringify(value));
}

/** All keys, from `roomcast print-config --commented --json`. */
export function configuration(keys) {
  const sections = [...new Set(keys.map(({ key }) => key.split(".")[0]))];
  const parts = sections.map((section) => {
    const own = keys.filter(({ key }) => key.split(".")[0] === section);
    const entries = own.map(({ key, description, type, unit, default: preset, variables, reload }) => {
      const rows = [
        `- Type: ${type}${unit ? ` (${unit})` : ""}`,
        `- Default: ${preset === null && /\bDefault\b/.test(description) ? "see above" : shown(preset)}`,
        `- Variable: ${variables.map(code).join(" or ")}`,
        `- Reload: ${reload ? "a change applies at a reload" : "a change needs a restart"}`,
      ];
      return `### ${code(key)}\n\n${description.replace(/\s+/g, " ")}\n\n${rows.join("\n")}`;
    });
    return `## ${code(`[${section}]`)}\n\n${entries.join("\n\n")}`;
  });
  const about = `This page is for operators. It lists all ${keys.length} keys of the configuration. \`roomcast print-config --commented\` prints the same as a file, [the command line](../command-line.md#all-keys) describes files, variables and flags, and [operations](../operations.md#reloading-the-configuration) a reload: \`systemctl reload roomcast\`, or SIGHUP. ${generated}`;
  return page("Configuration keys", about, parts);
}

/** Labels whose values depend on the machine, the build or the cluster. */
const open = ["node", "version", "commit", "rustc", "le", "address"];

/** All families, from the metrics of a server that has a database, a broker and TLS. */
export function metrics(text, rules) {
  const families = [...text.matchAll(/^# HELP (\S+) (.+)\n# TYPE \S+ (\S+)$/gm)].map(([, name, help, type]) => ({ name, help, type }));
  const rows = text.split("\n").filter((line) => line && !line.startsWith("#"));
  const parts = families.map(({ name, help, type }) => {
    const labels = new Map();
    for (const row of rows) {
      const [, of, list] = /^([a-z_]+?)(?:\{(.*)\})? /.exec(row) ?? [];
      if (!list || ![name, `${name}_bucket`, `${name}_count`].includes(of)) continue;
      for (const [, label, value] of list.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) labels.set(label, (labels.get(label) ?? new Set()).add(value));
    }
    labels.delete("le");
    const described = [...labels].map(([label, values]) => {
      const isListed = !open.includes(label) && values.size <= 24;
      return code(label) + (isListed ? `: ${[...values].sort().map(code).join(", ")}` : "");
    });
    const alerts = rules.filter((rule) => new RegExp(`\\b${name}(_bucket|_count|_sum)?\\b`).test(rule.text.slice(0, rule.text.indexOf("labels:"))));
    const links = alerts.map((rule) => `[${rule.name}](../runbooks.md#${rule.name.toLowerCase()})`);
    const list = [`- Type: ${type}`];
    if (described.length) list.push(`- Labels: ${described.join("; ")}`);
    if (links.length && alerting[name]) throw new Error(`tests/interop/reference/alerting.mjs: ${name} has an alert`);
    list.push(`- Alerts: ${links.join(", ") || "none"}`);
    if (alerting[name]) list.push(`- How to alert: ${code(alerting[name][0])}: ${alerting[name][1]}.`);
    return `### ${code(name)}\n\n${help}\n\n${list.join("\n")}`;
  });
  const about = `This page is for operators. It lists all ${families.length} families of metrics of a server, with the alerts of \`deploy/prometheus/rules.yml\` that use them. [Monitoring](../monitoring.md) sets up Prometheus, and [the runbooks](../runbooks.md) have a section for each alert. ${generated}`;
  const how = [
    "## How to alert on a metric",
    "- **counter**: on its growth, `increase(NAME[5m]) > N`, or `rate(NAME[5m])` for the events per second. A restart sets counters to zero, which both functions handle.",
    "- **gauge**: on its value for some minutes, `NAME > N` with `for: 2m`. Divide it by its maximum where one exists (`roomcast_connections / roomcast_connections_max`).",
    "- **histogram**: on a percentile, `histogram_quantile(0.99, sum by (instance, le) (rate(NAME_bucket[5m]))) > SECONDS`.",
    "",
    `An alert is a rule of \`deploy/prometheus/rules.yml\`. ${Object.keys(alerting).length} other metrics have an expression below. Choose its threshold by your traffic. The remaining metrics measure load or explain others.`,
  ];
  return page("Metrics and alerts", about, [how[0], how.slice(1).join("\n"), "## All metrics", ...parts]);
}

/**
 * Returns the runbooks with the rule of each alert below its heading: expression, duration and
 * severity.
 */
export function withRules(runbooks, rules) {
  const [about, ...sections] = runbooks.split("\n## ");
  const filled = sections.map((section) => {
    const [name, ...lines] = section.split("\n");
    const rule = rules.find((one) => one.name === name);
    if (!rule) throw new Error(`docs/runbooks.md: there is no rule ${name}`);
    const keys = rule.text.slice(0, rule.text.indexOf("annotations:")).trimEnd().split("\n").slice(1);
    const block = ["```yaml", ...keys.map((line) => line.replace(/^ {8}/, "")), "```"];
    const rest = lines.join("\n").replace(/^\n```yaml\n[^]*?\n```\n/, "");
    return `${name}\n\n${block.join("\n")}\n${rest}`;
  });
  return [about, ...filled].join("\n## ");
}

/** All commands with their arguments, from `--help`. */
export function commands(helps) {
  const parts = helps.map(({ name, help }) => `## ${code(name)}\n\n\`\`\`text\n${help.trimEnd()}\n\`\`\``);
  const about = `This page is for operators. It has the help of each command. [The command line](../command-line.md) describes exit codes, output and mistakes in the configuration. ${generated}`;
  return page("All commands", about, parts);
}

/** All requests of the HTTP API, from its OpenAPI document. */
export function http(document) {
  const parts = requests(document).map(({ method, path, operation, curl, query, answer }) => {
    const lines = [operation.summary, `Permission: ${code(operation["x-permission"])}.`, `\`\`\`sh\n${curl}\n\`\`\``];
    if (query.length) lines.push(query.map(({ name, description }) => `- ${code(name)}: ${description}`).join("\n"));
    lines.push(answer);
    return `### ${method} ${path.replace("/api/v1", "")}\n\n${lines.join("\n\n")}`;
  });
  const about = `This page is for authors of services. It has a request with \`curl\` for each route of the HTTP API. [The HTTP API](../http-api.md) describes permissions, repetition, pages and errors. ${generated}`;
  const setup = "Set the variables `URL` and `TOKEN` first, and replace the ids in paths and bodies. `Idempotency-Key` makes a request safe to repeat.\n\n```sh\nURL=http://localhost:3000\nTOKEN=$(roomcast token --sub backend --role service)\n```";
  return page("All requests", about, [setup, "## Requests", ...parts]);
}

/** Returns the rows of the table below a heading, as cells. */
function table(path, heading, text = read(path)) {
  const section = text.split(`\n## ${heading}\n`)[1].split("\n## ")[0];
  const rows = section.split("\n").filter((line) => line.startsWith("| "));
  return rows.slice(1).map((row) => row.slice(2, -2).split(" | ")).filter(([first]) => !first.startsWith("---"));
}

/** All codes and reasons, from the sources and the tables that tests hold to them. */
export function errors(reasons) {
  const source = read("server/src/gateway/errors.rs");
  const rows = source.matchAll(/code: "(\w+)",\s+kind: "(\w+)",\s+status: (\d+),\s+counter: (None)?/g);
  const codes = [...rows].map(([, name, kind, status, uncounted]) => ({ name, kind, status, uncounted }));
  const chat = new Map(table("docs/chat.md", "Errors").map(([, name, , when, remedy]) => [name.replaceAll("`", ""), { when, remedy }]));
  const counted = ({ name, uncounted }) => (uncounted ? "not counted" : `counted as \`roomcast_errors_total{code="${name.toLowerCase()}"}\``);
  const events = codes.map(({ name, kind, status, uncounted }) => `### ${code(name)}\n\n${cell(`Status ${status}, type \`${kind}\`, ${counted({ name, uncounted })}.`)}\n\n- When: ${chat.get(name).when}\n- What to do: ${chat.get(name).remedy}`);
  const api = table("docs/http-api.md", "Errors").map(([status, name, meaning]) => `| ${status} | ${name} | ${meaning} |`);
  const refusals = read("src/engine/http/message/refusal.rs");
  const engine = new Map([...refusals.matchAll(/\((\d), "([^"]+)",/g)].map(([, number, text]) => [`${number} ${text}`, [number, text]]));
  const handshake = [...engine.values()].sort(([a], [b]) => a - b).map(([number, text]) => {
    if (!handshakes[text]) throw new Error(`tests/interop/reference/pages.mjs does not describe ${text}`);
    return `| ${number} | ${text} | ${handshakes[text]} |`;
  });
  const types = read("src/socket/types/reason.rs");
  const disconnects = [...types.matchAll(/((?: {4}\/\/\/ .*\n)+) {4}#\[serde\(rename = "([^"]+)"\)\]/g)].map(([, doc, name]) => {
    const text = doc.replace(/ {4}\/\/\/ /g, "").replace(/\[(`[^`]+`)\]\([^)]*\)/g, "$1").replace(/\s+/g, " ");
    return `| ${code(name)} | ${cell(text)} |`;
  });
  const about = `This page is for developers and operators. It lists the codes of refused events and requests, the codes of refused handshakes, and the reasons of disconnects. ${generated}`;
  return page("Error codes", about, [
    "## Events",
    "An acknowledgement has `{success: false, error: {code, message, retryAfter?, details?}}`. An event without an acknowledgement gets the event `error {type, code, message, event?, retryAfter?, details?, status}`. `retryAfter` is in milliseconds. [What clients send](../limits.md#what-clients-send) lists the limits that cause `RATE_LIMITED`.",
    ...events,
    "## HTTP API",
    "The body is `{error: {code, message, retryAfter?, details?}}`, and the header `Retry-After` is in seconds.",
    `| status | code | meaning |\n|---|---|---|\n${api.join("\n")}`,
    "## Handshakes and polls",
    "The body is `{code, message}`, with the numbers of the official server.",
    `| code | message | when |\n|---|---|---|\n${handshake.join("\n")}`,
    "`roomcast_requests_rejected_total` counts refused requests by reason: " + `${reasons.map(code).join(", ")}.`,
    "## `connect_error`",
    "A refusal of a namespace reaches the client as `connect_error` with `message` and `data.code`. The chat server sends `UNAUTHENTICATED` for missing or invalid credentials, and `RATE_LIMITED` with `retryAfter` above a limit ([limits](../limits.md#joining-namespaces)). Middleware of the library chooses its own codes ([middleware and errors](../guide.md#middleware-and-errors)).",
    "## Disconnects",
    "Handlers of `disconnect` and the log have these reasons. `roomcast_sessions_closed_total` counts sessions by reason.",
    `| reason | meaning |\n|---|---|\n${disconnects.join("\n")}`,
  ]);
}

/** When the server refuses a handshake or a poll, by message. */
const handshakes = {
  "Transport unknown": "The query has no `transport`, or one that the server does not offer.",
  "Session ID unknown": "The session has ended or belongs to another server ([troubleshooting](../troubleshooting.md#400-session-id-unknown)).",
  "Bad handshake method": "A handshake with a method other than GET.",
  "Bad request": "The request does not fit its session or its transport, or a header is invalid.",
  Forbidden: "The origin or the address is refused, or the hook `allow_request` refused the request (its message is then in place of this one).",
  "Too many requests": "The server is busy. Try again after `Retry-After`.",
  "Too many connections": "A limit of the address or the server, or too many handshakes per second ([limits](../limits.md)).",
  "Server is stopping": "The server drains. A load balancer sends the client to another server.",
  "Unsupported protocol version": "The client uses Engine.IO 3 (socket.io-client 2 or older), and `engine.allow_eio3` is not set.",
};

/** Returns all sources in Rust of a folder. */
function sources(folder) {
  const entries = readdirSync(join(root, folder), { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  return entries.flatMap(({ name, ...entry }) => {
    const path = `${folder}/${name}`;
    if (readdirSync(join(root, folder), { withFileTypes: true }).find((one) => one.name === name).isDirectory()) return sources(path);
    return name.endsWith(".rs") ? [path] : [];
  });
}

/** All lines of the log from level `debug` on, from the sources. */
export function log() {
  const events = ["src", "server/src"].flatMap((folder) => sources(folder)).flatMap((path) => logEvents(path, read(path)));
  const titles = { error: "Errors", warn: "Warnings", info: "Information", debug: "Debug" };
  const parts = Object.entries(titles).map(([level, title]) => {
    const own = new Map();
    for (const event of events.filter((one) => one.level === level)) {
      const fields = own.get(event.message) ?? new Map();
      for (const field of event.fields) fields.set(field, true);
      own.set(event.message, fields);
    }
    const rows = [...own].sort(([a], [b]) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1)).map(([message, fields]) => `| ${cell(message)} | ${[...fields.keys()].map(code).join(", ")} |`);
    return `## ${title}\n\n| message | fields |\n|---|---|\n${rows.join("\n")}`;
  });
  const about = `This page is for operators. It lists the messages of the log at the levels \`error\`, \`warn\`, \`info\` and \`debug\`, with their fields. Braces stand for values. [Logs](../logs.md) describes formats, the fields of connections, and the limits of repeated lines. ${generated}`;
  return page("Log events", about, parts);
}
