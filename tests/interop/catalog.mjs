// What the catalogue of events says that is sent, as `roomcast catalog` prints it.
import assert from "node:assert/strict";
import Ajv from "ajv/dist/2020.js";
import { command } from "./support.mjs";

/** What the command prints. */
export function catalog(format) {
  const { status, stdout, stderr } = command(["catalog", "--format", format]);
  assert.equal(status, 0, stderr);
  return stdout;
}

let schemas;

/** A checker of values of one event; a field that its schema does not name is wrong. */
function checker(direction, event, part) {
  if (schemas === undefined) {
    const document = JSON.parse(catalog("json-schema"));
    for (const type of Object.values(document.$defs)) if (type.properties) type.additionalProperties ??= false;
    // Formats of numbers say how large they may be, which `minimum` says as well.
    schemas = { document, ajv: new Ajv({ strict: false, validateFormats: false }).addSchema(document, "catalog") };
  }
  const { document, ajv } = schemas;
  assert.ok(event in document[direction], `${event} is not in the catalogue`);
  return ajv.getSchema(`catalog#/${direction}/${event.replaceAll("/", "~1")}/${part}`);
}

function check(validate, value, what) {
  assert.ok(validate(value), `${what}: ${JSON.stringify(value)}: ${JSON.stringify(validate.errors)}`);
}

/** That what a client has heard is what the catalogue says. */
export function checkHeard(event, payload) {
  check(checker("serverToClient", event, "payload"), payload, event);
}

/** That what a client sends, and the answer to it, are what the catalogue says. */
export function checkAnswered(event, payload, { success, ...answer }) {
  assert.equal(success, true, event);
  if (typeof payload === "object") check(checker("clientToServer", event, "payload"), payload, event);
  check(checker("clientToServer", event, "answer"), answer, `the answer to ${event}`);
}
