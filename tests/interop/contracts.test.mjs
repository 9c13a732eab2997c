// The schemas of the catalogue against the server: what they allow is accepted, what they forbid is refused.
import assert from "node:assert/strict";
import { test } from "node:test";
import Ajv from "ajv/dist/2020.js";
import { catalog, eventsOf, schemaOf, strict } from "./catalog.mjs";
import { admin, io, server } from "./people.mjs";
import { ask, next, open } from "./support.mjs";
import { maker } from "./values.mjs";

const document = JSON.parse(catalog("json-schema"));

/** Checkers of schemas of the document. */
function checks() {
  const { ajv } = strict(document);
  const known = new Map();
  return (schema) => {
    const key = JSON.stringify(schema);
    if (!known.has(key)) known.set(key, ajv.compile(JSON.parse(key.replaceAll('"#/$defs/', '"catalog#/$defs/'))));
    return known.get(key);
  };
}

test("ajv compiles every schema of the catalogue in strict mode", () => {
  new Ajv({ strict: true }).compile(document);
  const { schemas, messages } = JSON.parse(catalog("asyncapi").replaceAll("#/components/schemas/", "#/$defs/")).components;
  const payloads = Object.fromEntries(Object.entries(messages).map(([id, { payload }]) => [id, payload]));
  new Ajv({ strict: true }).compile({ type: "object", properties: payloads, $defs: schemas });
  // A keyword without its type is an error in this mode, and none otherwise.
  assert.throws(() => new Ajv({ strict: true }).compile({ minLength: 1 }), /strict mode/);
});

/** What is refused for what is stored, and not for the form of the argument. */
const STATEFUL = /is no message of the conversation|is not a member of the conversation/;
/** Sent as it is, a block would shut this test out; what is forbidden is sent all the same. */
const HARMLESS = { "admin:block": ({ cidr }) => /^(192\.0\.2\.|2001:db8:)/.test(cidr) };
/** How many values of one event are sent: more of these would take longer than they are worth. */
const MOST = 400;

/** Some of many values, evenly. */
const some = (values) => (values.length <= MOST ? values : Array.from({ length: MOST }, (_, n) => values[Math.floor((n * values.length) / MOST)]));

test("values that a schema allows are accepted, and others are refused", async (t) => {
  const { valid, invalid } = maker(document, checks());
  const { url } = await server(t);
  const connected = async (namespace) => {
    const socket = open(t, io, url + namespace, { auth: { token: admin() } });
    await next(socket, "connect");
    return socket;
  };
  const sockets = { "/": await connected("/"), "/admin": await connected("/admin") };
  for (const [event, { properties }] of Object.entries(eventsOf(document, "clientToServer"))) {
    const schema = schemaOf(document, "clientToServer", event, "payload");
    const socket = sockets[properties.namespace.const];
    const allowed = some(valid(schema).filter(HARMLESS[event] ?? (() => true)));
    const forbidden = some(invalid(schema));
    assert.ok(allowed.length > 0 && forbidden.length >= 5, `${event}: ${allowed.length} and ${forbidden.length} values`);
    const send = async (payload) => ({ payload, answer: await ask(socket, event, payload) });
    const shown = ({ payload, answer }) => `${event} ${JSON.stringify(payload)?.slice(0, 300)}: ${JSON.stringify(answer)?.slice(0, 300)}`;
    const accepted = await Promise.all(allowed.map(send));
    const malformed = accepted.filter(({ answer: { error } }) => error?.code === "INVALID_PAYLOAD" && !STATEFUL.test(error.message));
    assert.deepEqual(malformed.slice(0, 5).map(shown), [], "allowed by the schema, and refused");
    const refused = await Promise.all(forbidden.map(send));
    const taken = refused.filter(({ answer: { error } }) => error?.code !== "INVALID_PAYLOAD");
    assert.deepEqual(taken.slice(0, 5).map(shown), [], "forbidden by the schema, and accepted");
    assert.ok(socket.connected, event);
  }
});

test("an argument may be left out only where the schema allows it", async (t) => {
  const { url } = await server(t);
  const sockets = {};
  for (const namespace of ["/", "/admin"]) {
    sockets[namespace] = open(t, io, url + namespace, { auth: { token: admin() } });
    await next(sockets[namespace], "connect");
  }
  let optional = 0;
  for (const [event, { properties, required }] of Object.entries(eventsOf(document, "clientToServer"))) {
    const { error } = await ask(sockets[properties.namespace.const], event);
    const isNeeded = required.includes("payload");
    assert.equal(error?.code === "INVALID_PAYLOAD", isNeeded, `${event}: ${JSON.stringify(error)}`);
    optional += isNeeded ? 0 : 1;
  }
  assert.ok(optional >= 5, `${optional}`);
});

test("the schema of every event of the server allows and forbids values", () => {
  const check = checks();
  const { valid, invalid } = maker(document, check);
  for (const [event, schema] of Object.entries(eventsOf(document, "serverToClient"))) {
    const { payload } = schema.properties;
    assert.ok(valid(payload).length > 0, event);
    assert.ok(invalid(payload).length >= 5, event);
    assert.ok(valid(payload).every((value) => check(payload)(JSON.parse(JSON.stringify(value)))), event);
  }
});
