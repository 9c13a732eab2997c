// The catalogue of events as documents, checked by what others read them with.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import Ajv from "ajv";
import { catalog } from "./catalog.mjs";
import { command } from "./support.mjs";

const require = createRequire(import.meta.url);
const written = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("the AsyncAPI document is one by the official schema of AsyncAPI 3.0", () => {
  const document = JSON.parse(catalog("asyncapi"));
  assert.equal(document.asyncapi, "3.0.0");
  // It brings the schema of schemas along.
  const validate = new Ajv({ strict: false, validateFormats: false, meta: false, validateSchema: false })
    .compile(require("@asyncapi/specs/schemas/3.0.0.json"));
  assert.ok(validate(document), JSON.stringify(validate.errors, null, 1));
  // The schema takes nearly everything where a reference may stand.
  const broken = structuredClone(document);
  broken.operations["client.message"].action = "take";
  assert.ok(!validate(broken));
});

test("every example in the AsyncAPI document is what its message says", () => {
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

test("every event is in the AsyncAPI document with its direction, and those of clients with their answer", () => {
  const { operations, components, channels } = JSON.parse(catalog("asyncapi"));
  const { clientToServer, serverToClient } = JSON.parse(catalog("json-schema"));
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

test("the command prints what is written in the repository, whatever is configured", () => {
  assert.equal(catalog("markdown"), written("docs/events.md"));
  assert.equal(catalog("typescript"), written("web/packages/client/src/types.ts"));
  assert.equal(command(["catalog"], { ROOMCAST_CONFIG: "/no/such/file" }).stdout, written("docs/events.md"));
  assert.equal(command(["catalog", "--format", "yaml"]).status, 2);
});
