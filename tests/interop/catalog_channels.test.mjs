// The declared channels of a configuration in each format of the catalogue, checked with the tools
// that read them, and what `--check` reports about changes.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv/dist/2020.js";
import { command, temporary } from "./support.mjs";

const web = fileURLToPath(new URL("../../web/", import.meta.url));

/** The same name is another type in each file, and leads to the file itself. */
const SCHEMAS = {
  order: {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    $id: "https://example.com/order",
    description: "An order.",
    type: "object",
    properties: {
      status: { enum: ["open", "shipped"] },
      items: { type: "array", items: { $ref: "#/$defs/item" }, maxItems: 10 },
      parent: { anyOf: [{ $ref: "#" }, { type: "null" }] },
      note: { type: ["string", "null"], maxLength: 100 },
    },
    required: ["status", "items"],
    additionalProperties: false,
    $defs: { item: { type: "object", properties: { price: { type: "number" } }, required: ["price"] } },
  },
  score: {
    $schema: "http://json-schema.org/draft-07/schema#",
    type: "object",
    properties: { points: { $ref: "#/definitions/item" } },
    definitions: { item: { type: "integer", minimum: 0 } },
  },
};

const KINDS = `
[channels.orders]
pattern = "orders:{customer}:{order}"
follow = ["owner:{customer}", "role:support"]
events = { "order:updated" = "FOLDER/order.json", "changed" = "FOLDER/order.json" }
presence = true
max_followers = 5000
publishes_per_second = 50

[channels.match-scores]
pattern = "scores:{match}"
follow = ["anyone"]
history = { events = 10, age = "1h" }
events = { "changed" = "FOLDER/score.json" }

[channels.news]
pattern = "news"
follow = ["anyone"]
history = "last"

[channels.live]
pattern = "live"
follow = ["anyone"]
history = "none"
`;

/**
 * Writes a configuration and its schemas. Returns a function that runs the command with them, and
 * the folder.
 */
function declared(schemas = {}, kinds = KINDS) {
  const folder = temporary();
  for (const [name, schema] of Object.entries({ ...SCHEMAS, ...schemas })) writeFileSync(join(folder, `${name}.json`), JSON.stringify(schema));
  const config = join(folder, "roomcast.toml");
  writeFileSync(config, kinds.replaceAll("FOLDER", folder));
  return { folder, run: (...args) => command(["catalog", "--config", config, ...args]) };
}

/** Returns the catalogue with the declared kinds. */
function catalog(format, ...declaration) {
  const { status, stdout, stderr } = declared(...declaration).run("--format", format);
  assert.equal(status, 0, stderr);
  return stdout;
}

describe("the catalogue with declared channels", () => {
  test("JSON Schema accepts and refuses data as the files do", () => {
    const document = JSON.parse(catalog("json-schema"));
    const { orders, news, live, ...others } = document.properties.channels.properties;
    assert.deepEqual(Object.keys(others), ["match-scores"]);
    const { events, ...constants } = orders.properties;
    assert.deepEqual(Object.fromEntries(Object.entries(constants).map(([key, schema]) => [key, schema.const])), {
      pattern: "orders:{customer}:{order}",
      follow: ["owner:{customer}", "role:support"],
      publish: ["services"],
      history: { events: 200, age: "7days" },
      presence: true,
      maxBytes: 16384,
      maxFollowers: 5000,
      publishesPerSecond: 50,
      maxStoredEvents: 10_000_000,
      maxStoredBytes: 8_589_934_592,
    });
    assert.equal(news.properties.presence.const, false);
    assert.deepEqual(news.properties.history.const, { last: true, age: "366days" });
    assert.deepEqual(live.properties.history.const, { none: true });
    assert.equal(events.additionalProperties, false);
    assert.deepEqual(news.properties.events.additionalProperties.properties.data, {});
    const ajv = new Ajv({ strict: true, allowUnionTypes: true }).addSchema(document, "catalog");
    const check = (kind, event, part) =>
      ajv.getSchema(`catalog#/properties/channels/properties/${kind}/properties/events/properties/${event}/properties/${part}`);
    const order = check("orders", "order:updated", "data");
    const nested = { status: "open", items: [{ price: 1.5 }], parent: { status: "shipped", items: [], parent: null } };
    assert.ok(order(nested), JSON.stringify(order.errors));
    nested.parent.items.push({});
    assert.ok(!order(nested) && !order({ status: "lost", items: [] }) && !order({ status: "open", items: [], more: 1 }));
    const score = check("match-scores", "changed", "data");
    assert.ok(score({ points: 7 }) && !score({ points: { price: 1 } }) && !score({ points: -1 }));
    const meta = check("orders", "changed", "meta");
    const received = { channel: "orders:7:42", position: "5f1d03ab.7.9e107d9d.0190b0e0", id: "1", timestamp: "2026-01-31T12:00:00.000Z" };
    assert.ok(meta(received) && !meta({ ...received, position: 7 }), JSON.stringify(meta.errors));
  });

  test("the official parser accepts the AsyncAPI document with a channel for each kind", async () => {
    const document = JSON.parse(catalog("asyncapi"));
    const { channels, operations, components } = document;
    // The parser takes seconds for the events of the server, which another test checks.
    for (const entries of [channels, operations, components.messages]) {
      for (const name of Object.keys(entries)) if (!name.startsWith("channel.")) delete entries[name];
    }
    const faults = (await new Parser().validate(JSON.stringify(document))).filter(({ severity }) => severity === 0);
    assert.deepEqual(faults, []);
    const { address, parameters, messages, ...orders } = channels["channel.orders"];
    assert.equal(address, "orders:{customer}:{order}");
    assert.deepEqual(Object.keys(parameters), ["customer", "order"]);
    assert.deepEqual(orders["x-follow"], ["owner:{customer}", "role:support"]);
    assert.deepEqual([orders["x-publish"], orders["x-history"], orders["x-max-bytes"]], [["services"], { events: 200, age: "7days" }, 16384]);
    assert.deepEqual([orders["x-presence"], orders["x-max-followers"], orders["x-publishes-per-second"]], [true, 5000, 50]);
    assert.deepEqual([orders["x-max-stored-events"], orders["x-max-stored-bytes"]], [10_000_000, 8_589_934_592]);
    const ids = Object.keys(messages);
    assert.deepEqual(ids.map((id) => components.messages[id].name), ["changed", "order:updated"]);
    for (const id of ids) {
      const { payload, headers } = components.messages[id];
      assert.ok(components.schemas[payload.$ref.split("/").at(-1)].properties.status, id);
      assert.equal(headers.$ref, "#/components/schemas/EventMeta");
    }
    assert.equal(operations["channel.orders"].action, "send");
    assert.equal(operations["channel.orders"].messages.length, 2);
    assert.equal(Object.values(channels["channel.news"].messages).length, 1);
  });

  test("the TypeScript types hold for stock clients and the client package", (t) => {
    const folder = temporary();
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(join(web, "node_modules/socket.io-client"), join(folder, "node_modules/socket.io-client"));
    const strict = { strict: true, exactOptionalPropertyTypes: true, noUnusedLocals: true, noEmit: true, skipLibCheck: true };
    const paths = { "@roomcast/client/*": [join(web, "packages/client/src/*.ts")] };
    const options = { ...strict, target: "es2023", module: "esnext", moduleResolution: "bundler", types: [], lib: ["es2023", "dom", "dom.iterable"] };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: { ...options, allowImportingTsExtensions: true, paths }, files: ["sample.ts"] }));
    const awkward = {
      description: "Ends a comment */ export const broken = ;",
      allOf: [{ properties: { "a-b": { type: "array", prefixItems: [{ type: "string" }], items: false } } }, { additionalProperties: { $ref: "#" } }],
      type: ["object", "null"],
    };
    const kinds = `${KINDS}[channels.2nd]\npattern = "second"\nfollow = ["anyone"]\nevents = { "a \\"b\\" */" = "FOLDER/awkward.json", "ü" = "FOLDER/tree.json" }\n`;
    const tree = { type: "object", additionalProperties: { $ref: "#" } };
    writeFileSync(join(folder, "events.ts"), catalog("typescript", { awkward, tree }, kinds));
    const sample = `
import { type Socket, io } from "socket.io-client";
import { channel } from "@roomcast/client/channels";
import type { SocketManager } from "@roomcast/client/manager";
import type { ClientToServerEvents, EventMeta, Kind2ndEvents, MatchScoresEvents, NewsEvents, OrdersEvents, ServerToClientEvents } from "./events.ts";

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io();
socket.on("order:updated", (order, meta) => {
  const status: "open" | "shipped" = order.status;
  const note: string | null | undefined = order.note;
  const prices: number[] = order.items.map(({ price }) => price);
  const parent: "open" | "shipped" | undefined = order.parent?.status;
  const { channel, position, id, timestamp }: EventMeta = meta;
  console.log(status, note, prices, parent, channel, position, id, timestamp);
  // @ts-expect-error There is no such field.
  console.log(order.total);
  // @ts-expect-error It may be null.
  console.log(order.note.length);
});
socket.on("changed", (data) => console.log("status" in data ? data.items : data.points));
// @ts-expect-error There is no such event.
socket.on("order:created", () => {});

declare const manager: SocketManager;
const orders = channel<OrdersEvents>(manager, "orders:7:42");
orders.on("order:updated", (order, { position }) => console.log(order.status, position));
// @ts-expect-error It belongs to another kind.
orders.on("scored", () => {});
channel<MatchScoresEvents>(manager, "scores:1").on("changed", ({ points }) => console.log(points?.toFixed()));
channel<NewsEvents>(manager, "news").on("anything", (data: unknown) => console.log(data));
channel<Kind2ndEvents>(manager, "second").on("ü", (tree) => console.log(tree["a"]?.["b"]));
`;
    const compiler = join(web, "node_modules/.bin/tsc");
    const compile = () => execFileSync(compiler, ["-p", "."], { cwd: folder, encoding: "utf8" });
    writeFileSync(join(folder, "sample.ts"), sample);
    try {
      compile();
    } catch ({ stdout }) {
      assert.fail(stdout);
    }
    writeFileSync(join(folder, "sample.ts"), `${sample}export const wrong: OrdersEvents = 7;\n`);
    assert.throws(compile, ({ stdout }) => /TS2322/.test(stdout));
  });

  test("OpenAPI has the bodies that publish the events of each kind", () => {
    const { openapi, components, paths } = JSON.parse(catalog("openapi"));
    assert.deepEqual([openapi, paths], ["3.1.0", undefined]);
    const ajv = new Ajv({ strict: false, validateFormats: false }).addSchema({ components }, "document");
    const validate = (name) => ajv.getSchema(`document#/components/schemas/${name}`);
    const data = { status: "open", items: [] };
    const orders = validate("OrdersEvents");
    assert.ok(orders({ event: "order:updated", data, id: "1" }), JSON.stringify(orders.errors));
    assert.ok(!orders({ event: "order:created", data, id: "1" }) && !orders({ event: "changed", data: {}, id: "1" }) && !orders({ event: "changed", data }));
    assert.ok(validate("NewsEvents")({ event: "anything", data: [], id: "1" }));
    assert.ok(components.schemas.OrdersOrderUpdated.properties.status);
  });

  test("Markdown has each kind with its rules, and each event with its types", () => {
    const page = catalog("markdown");
    for (const line of [
      "| `orders` | `orders:{customer}:{order}` | `owner:{customer}`, `role:support` | `services` | 200 events, 7days | yes | 16384 bytes of data, 5000 followers of a channel at a server, 50 events a second at a server, 10000000 events stored, 8589934592 bytes stored |",
      "| `live` | `live` | `anyone` | `services` | none | no | 16384 bytes of data, 100000 followers of a channel at a server |",
      "| `orders` | `order:updated` | [`OrdersOrderUpdated`](#ordersorderupdated) | [`EventMeta`](#eventmeta) |",
      "| `news` | any event | any JSON | [`EventMeta`](#eventmeta) |",
      "### `OrdersOrderUpdatedItem`",
    ]) {
      assert.ok(page.split("\n").includes(line), line);
    }
  });

  test("documents without declared channels do not mention them", () => {
    for (const format of ["markdown", "asyncapi", "typescript", "json-schema", "openapi"]) {
      const { status, stdout } = command(["catalog", "--format", format]);
      assert.equal(status, 0);
      assert.doesNotMatch(stdout, /EventMeta|channel\.orders|OrdersEvents/, format);
      assert.equal(catalog(format, {}, ""), stdout, format);
    }
  });

  test("a wrong declaration is refused with its reason", () => {
    const missing = declared({}, KINDS.replace("FOLDER/score.json", "/no/such/file.json")).run();
    assert.equal(missing.status, 2);
    assert.match(missing.stderr, /channels\.match-scores\.events has `changed`: \/no\/such\/file\.json cannot be read.*roomcast\.toml: line 14/);
    const list = declared({ score: { ...SCHEMAS.score, items: [true] } }).run();
    assert.equal(list.status, 2);
    assert.match(list.stderr, /channels\.match-scores\.events has `changed`: `\/items` has another meaning in JSON Schema 2020-12/);
    assert.equal(missing.stdout + list.stdout, "");
  });
});

describe("roomcast catalog --check", () => {
  const before = declared();
  const old = join(before.folder, "old.json");
  writeFileSync(old, before.run("--format", "json-schema").stdout);
  const check = (...declaration) => declared(...declaration).run("--check", old);
  /** Returns a schema of orders with a change. */
  const order = (change) => {
    const copy = structuredClone(SCHEMAS.order);
    change(copy.properties, copy);
    return { order: copy };
  };

  test("an equal catalogue, and one with more fields and events, break nothing", () => {
    const more = order((fields) => (fields.total = { type: "number" }));
    const created = KINDS.replace('"changed" = "FOLDER/order.json"', '"changed" = "FOLDER/order.json", "created" = "FOLDER/order.json"');
    for (const declaration of [[], [more], [{}, created], [order((fields) => (fields.note.maxLength = 200))]]) {
      const { status, stdout, stderr } = check(...declaration);
      assert.deepEqual([status, stdout, stderr], [0, "", ""]);
    }
  });

  for (const [what, earlier, expected, ...declaration] of [
    ["removed field", '"note": {', "orders.events.order:updated.data.note: the field is removed", order((fields) => delete fields.note)],
    ["narrowed type", '"type": [', "orders.events.order:updated.data.note: the type `null` is no longer accepted", order((fields) => (fields.note.type = "string"))],
    ["widened type", '"type": "array"', "orders.events.order:updated.data.items: the type `null` is new", order((fields) => (fields.items.type = ["array", "null"]))],
    ["lowered bound", '"maxItems": 10,', "orders.events.order:updated.data.items: `maxItems` is 9 instead of 10", order((fields) => (fields.items.maxItems = 9))],
    ["removed value", '"open",', 'orders.events.order:updated.data.status: the value `"open"` is no longer accepted', order((fields) => fields.status.enum.shift())],
    ["added value", '"enum": [', 'orders.events.order:updated.data.status: the value `"lost"` is new', order((fields) => fields.status.enum.push("lost"))],
    ["required field", '"note": {', "orders.events.order:updated.data.note: the field is required", order((_, schema) => schema.required.push("note"))],
    ["optional field", '"items"', "orders.events.order:updated.data.items: the field is no longer always there", order((_, schema) => schema.required.pop())],
    ["unknown keyword", '"OrdersOrderUpdated": {', "orders.events.order:updated.data: `not` changed, cannot be compared", order((_, schema) => (schema.not = { required: ["note"] }))],
    ["removed event", '"order:updated": {', "orders.events.order:updated: is removed", {}, KINDS.replace('"order:updated" = "FOLDER/order.json", ', "")],
    ["removed rule", '"role:support"', 'orders.follow: the rule "role:support" is removed', {}, KINDS.replace(', "role:support"', "")],
    ["removed presence", '"const": true', "orders.presence: is removed", {}, KINDS.replace("presence = true", "")],
    ["history of fewer events", '"events": 10', "match-scores.history.events: is 9 instead of 10", {}, KINDS.replace("events = 10,", "events = 9,")],
    ["shorter history", '"age": "1h",', 'match-scores.history.age: is "59m" instead of "1h"', {}, KINDS.replace('"1h"', '"59m"')],
    ["history that is removed", '"const": {', "news.history: is `none`: no event is stored any longer", {}, KINDS.replace('"last"', '"none"')],
    ["history of one event", '"const": {', "orders.history: is `last`: a channel has only its newest event", {}, KINDS.replace("presence = true", 'presence = true\nhistory = "last"')],
    ["removed kind", '"news": {', "news: is removed", {}, KINDS.split("[channels.news]")[0]],
  ]) {
    test(`${what} breaks clients`, () => {
      const { status, stdout, stderr } = check(...declaration);
      assert.equal(status, 1, stderr);
      // Both events of the kind have the same schema.
      const lines = stdout.trimEnd().split("\n");
      const line = lines.find((line) => line.endsWith(`: channels.${expected}`));
      assert.ok(line && lines.length <= 2 && lines.every((line) => line.startsWith(`${old}:`)), stdout);
      const number = Number(line.slice(old.length + 1).split(":")[0]);
      assert.equal(readFileSync(old, "utf8").split("\n")[number - 1].trim(), earlier, `line ${number}`);
    });
  }

  test("what is removed from the catalogue of the server breaks clients", () => {
    const file = join(temporary(), "old.json");
    const document = JSON.parse(command(["catalog", "--format", "json-schema"]).stdout);
    document.properties.serverToClient.properties.farewell = { properties: { payload: { $ref: "#/$defs/Message" } } };
    document.$defs.SendMessage.properties.color = { type: "string" };
    document.$defs.Message.required.push("color");
    const text = JSON.stringify(document, null, 2);
    writeFileSync(file, text);
    const { status, stdout } = command(["catalog", "--check", file]);
    const lines = text.split("\n");
    const lineOf = (found) => lines.findIndex(found) + 1;
    const required = lines.findIndex((line) => line.trim() === '"color"');
    assert.equal(status, 1);
    assert.deepEqual(stdout.trimEnd().split("\n").toSorted(), [
      `${file}:${lineOf((line) => line.startsWith('        "farewell": {'))}: serverToClient.farewell: is removed`,
      `${file}:${lineOf((line) => line.startsWith('        "color": {'))}: clientToServer.message.payload.color: the field is removed`,
      `${file}:${required + 1}: serverToClient.message.payload.color: the field is no longer always there`,
    ].toSorted());
  });

  test("files that are no earlier catalogue are refused with the format to write", () => {
    const folder = temporary();
    for (const [name, text, expected] of [
      ["events.md", catalog("markdown"), /it is not JSON/],
      ["asyncapi.json", catalog("asyncapi"), /it is not a catalogue of events in the format `json-schema`: write it with `roomcast catalog --format json-schema`/],
      ["missing.json", undefined, /cannot be read/],
    ]) {
      const file = join(folder, name);
      if (text !== undefined) writeFileSync(file, text);
      const { status, stdout, stderr } = command(["catalog", "--check", file]);
      assert.deepEqual([status, stdout], [2, ""]);
      assert.match(stderr, expected);
      assert.ok(stderr.includes(file));
    }
    assert.equal(command(["catalog", "--check", old, "--format", "markdown"]).status, 2);
  });
});
