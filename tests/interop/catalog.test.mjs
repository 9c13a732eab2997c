// The catalogue of events as documents, checked with the tools that read them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Parser } from "@asyncapi/parser";
import Ajv from "ajv";
import { CHECKED, catalog, eventsOf } from "./catalog.mjs";
import { command } from "./support.mjs";

const written = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("the official parser accepts the AsyncAPI document", async () => {
  const document = JSON.parse(catalog("asyncapi"));
  assert.equal(document.asyncapi, "3.0.0");
  const parser = new Parser();
  const errors = async (document) => (await parser.validate(JSON.stringify(document))).filter(({ severity }) => severity === 0);
  assert.deepEqual(await errors(document), []);
  // The whole document takes the parser seconds, so only one operation of it gets faults.
  const small = structuredClone(document);
  const keep = (entries, ...names) => {
    for (const name of Object.keys(entries)) if (!names.includes(name)) delete entries[name];
  };
  keep(small.operations, "client.message");
  for (const { messages } of [small.components, ...Object.values(small.channels)]) keep(messages, "client.message", "answer.message");
  assert.deepEqual(await errors(small), []);
  const broken = (change) => {
    const copy = structuredClone(small);
    change(copy);
    return errors(copy);
  };
  assert.notDeepEqual(await broken(({ operations }) => (operations["client.message"].action = "take")), []);
  assert.notDeepEqual(await broken(({ components }) => (components.messages["client.message"].payload = 7)), []);
  assert.notDeepEqual(await broken(({ operations }) => (operations["client.message"].messages[0].$ref = "#/channels/chat/messages/none")), []);
});

test("every example in the AsyncAPI document matches its message", () => {
  const document = JSON.parse(catalog("asyncapi"));
  const ajv = new Ajv({ strict: false, validateFormats: false }).addSchema(document, "document");
  const messages = Object.entries(document.components.messages);
  assert.ok(messages.length > 40, `${messages.length}`);
  for (const [id, message] of messages) {
    assert.equal(message.examples.length, 1, id);
    const validate = ajv.getSchema(`document#/components/messages/${id}/payload`);
    assert.ok(validate(message.examples[0].payload), `${id}: ${JSON.stringify(validate.errors)}`);
    assert.ok(!validate(7), id);
  }
});

test("the AsyncAPI document has every event, its direction and its answer", () => {
  const { operations, components, channels } = JSON.parse(catalog("asyncapi"));
  const document = JSON.parse(catalog("json-schema"));
  const [clientToServer, serverToClient] = ["clientToServer", "serverToClient"].map((direction) => eventsOf(document, direction));
  const id = (event) => event.replaceAll(":", ".");
  const channel = (event) => (event.startsWith("admin:") ? "admin" : "chat");
  for (const event of Object.keys(clientToServer)) {
    const operation = operations[`client.${id(event)}`];
    assert.equal(operation.action, "receive", event);
    assert.deepEqual(operation.reply.messages, [{ $ref: `#/channels/${channel(event)}/messages/answer.${id(event)}` }]);
    assert.equal(components.messages[`client.${id(event)}`].name, event);
  }
  for (const event of Object.keys(serverToClient)) {
    assert.equal(operations[`server.${id(event)}`].action, "send", event);
    assert.equal(components.messages[`server.${id(event)}`].name, event);
  }
  assert.equal(Object.keys(operations).length, Object.keys(clientToServer).length + Object.keys(serverToClient).length);
  const messages = Object.values(channels).flatMap((channel) => Object.keys(channel.messages));
  assert.deepEqual(messages.toSorted(), Object.keys(components.messages).toSorted());
});

test("the TypeScript types compile alone in strict mode", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "roomcast-types-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "events.ts");
  const compiler = new URL("../../web/node_modules/.bin/tsc", import.meta.url).pathname;
  const compile = () => execFileSync(compiler, ["--strict", "--noEmit", "--module", "esnext", "--target", "es2022", file], { encoding: "utf8", cwd: folder });
  writeFileSync(file, catalog("typescript"));
  compile();
  // Shows that the compiler checks at all.
  writeFileSync(file, `${catalog("typescript")}export const wrong: Failure = 7;\n`);
  assert.throws(compile, ({ stdout }) => /TS2322/.test(stdout));
});

test("every event is in a test with a stock client", () => {
  const document = JSON.parse(catalog("json-schema"));
  const [clientToServer, serverToClient] = ["clientToServer", "serverToClient"].map((direction) => eventsOf(document, direction));
  for (const [direction, events] of Object.entries({ clientToServer, serverToClient })) {
    const checked = Object.values(CHECKED).flatMap((file) => file[direction]);
    assert.deepEqual(checked.toSorted(), Object.keys(events).toSorted());
  }
  // Each file fails if its checks have not seen all its events.
  for (const name of Object.keys(CHECKED)) {
    assert.match(written(`tests/interop/${name}`), /^checksAll\(import\.meta\.url\);$/m, name);
  }
});

test("the command prints the types of the client package, and refuses a wrong configuration", () => {
  assert.equal(catalog("typescript"), written("web/packages/client/src/types.ts"));
  assert.equal(command(["catalog"], { ROOMCAST_CONFIG: "/no/such/file" }).status, 2);
  assert.equal(command(["catalog", "--format", "yaml"]).status, 2);
});
