// The schemas of the catalogue against the server: values that they allow are accepted, and values
// that they forbid are refused.
import assert from "node:assert/strict";
import { test } from "node:test";
import Ajv from "ajv/dist/2020.js";
import { catalog, checkAnswered, checkReceived, eventsOf, schemaOf, strict } from "./catalog.mjs";
import { admin, call, io, server } from "./people.mjs";
import { ask, next, open, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { maker } from "./values.mjs";

const document = JSON.parse(catalog("json-schema"));

/** Returns validators for schemas of the document, or of the document with this name in `ajv`. */
function checks(ajv = strict(document).ajv) {
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
  // A keyword without its type is an error only in this mode.
  assert.throws(() => new Ajv({ strict: true }).compile({ minLength: 1 }), /strict mode/);
});

/** Refusals that depend on stored data, and not on the form of the argument. */
const STATEFUL = /is not a message of the conversation|is not a member of the conversation|is a position in another channel|token is not valid/;
/**
 * A valid block could shut this test out, so only harmless networks are sent; invalid values are
 * all sent.
 */
const HARMLESS = { "admin:block": ({ cidr }) => /^(192\.0\.2\.|2001:db8:)/.test(cidr) };
/** Maximum number of values sent for one event: more would take too long. */
const MOST = 400;

/** Returns some of many values, evenly distributed. */
const some = (values, most = MOST) => (values.length <= most ? values : Array.from({ length: most }, (_, n) => values[Math.floor((n * values.length) / most)]));

/** What is sent together at most, in bytes: a server closes the connection of a client that sends too much at once. */
const MOST_BYTES = 256 * 1024;

/** Sends values together, but not too much of them. Returns what `send` returns. */
async function inBatches(values, send) {
  const done = [];
  let [batch, bytes] = [[], 0];
  for (const value of values) {
    batch.push(send(value));
    bytes += Buffer.byteLength(JSON.stringify(value) ?? "");
    if (bytes > MOST_BYTES) {
      done.push(...(await Promise.all(batch)));
      [batch, bytes] = [[], 0];
    }
  }
  return [...done, ...(await Promise.all(batch))];
}

test("values that a schema allows are accepted, and others are refused", async (t) => {
  const check = checks();
  const { valid, invalid } = maker(document, check);
  const isRefusal = check({ $ref: "#/$defs/Refused" });
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
    const accepted = await inBatches(allowed, send);
    const malformed = accepted.filter(({ answer: { error } }) => error?.code === "INVALID_PAYLOAD" && !STATEFUL.test(error.message));
    assert.deepEqual(malformed.slice(0, 5).map(shown), [], "allowed by the schema, and refused");
    const refused = await inBatches(forbidden, send);
    const taken = refused.filter(({ answer: { error } }) => error?.code !== "INVALID_PAYLOAD");
    assert.deepEqual(taken.slice(0, 5).map(shown), [], "forbidden by the schema, and accepted");
    for (const one of [...accepted, ...refused]) {
      if (one.answer.success) checkAnswered(event, undefined, one.answer);
      else assert.ok(isRefusal(one.answer), shown(one));
    }
    assert.ok(socket.connected, event);
  }
});

test("an argument can be omitted only if the schema allows it", async (t) => {
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

test("the schema of every server event accepts and refuses values", () => {
  const check = checks();
  const { valid, invalid } = maker(document, check);
  for (const [event, schema] of Object.entries(eventsOf(document, "serverToClient"))) {
    const { payload } = schema.properties;
    assert.ok(valid(payload).length > 0, event);
    assert.ok(invalid(payload).length >= 5, event);
    assert.ok(valid(payload).every((value) => check(payload)(JSON.parse(JSON.stringify(value)))), event);
  }
});

/**
 * Connects a user, and collects the names of all events that it receives, and those events that
 * break their schemas.
 */
async function observer(t, url, auth) {
  const socket = open(t, io, url, { auth: { token: auth } });
  const seen = { socket, events: new Set(), wrong: [] };
  socket.onAny((event, payload) => {
    seen.events.add(event);
    try {
      checkReceived(event, payload);
    } catch (error) {
      seen.wrong.push(error.message.slice(0, 500));
    }
  });
  await next(socket, "connect");
  return seen;
}

/**
 * Waits until observers have received these events, and checks that no event has broken its schema.
 */
async function received(observers, expected) {
  const missing = () => expected.filter((event) => !observers.some(({ events }) => events.has(event)));
  await until(() => missing().length === 0, () => `the events ${missing()}`);
  // An answer follows all events that the server sent before.
  for (const { socket } of observers) await ask(socket, "conversations", {});
  assert.deepEqual(observers.flatMap(({ wrong }) => wrong).slice(0, 5), []);
}

/**
 * Events of the chat that make the server send events to the members of a conversation, in an order
 * in which they succeed.
 */
const CHAT = [
  "join_conversation", "message", "edit_message", "add_reaction", "remove_reaction", "pin_message", "unpin_message", "typing", "set_status",
  "mark_read", "set_notification_level", "message_history", "message_search", "presence", "statuses", "rename_conversation", "create_conversation",
];

test("events after generated chat commands match their schemas", async (t) => {
  const { valid } = maker(document, checks());
  const { url } = await server(t);
  const ann = await observer(t, url, admin({ sub: "ann" }));
  const bob = await observer(t, url, token({ sub: "bob", roles: ["user"] }));
  const must = async ({ socket }, event, payload) => {
    const answer = await ask(socket, event, payload);
    assert.equal(answer.success, true, `${event}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const { conversation } = await must(ann, "create_conversation", { title: "Generated", memberIds: ["bob"] });
  await must(bob, "join_conversation", conversation.id);
  const { message } = await must(ann, "message", { conversationId: conversation.id, content: "x" });
  const real = { conversationId: conversation.id, messageId: message.id };
  const about = (payload) => {
    if (typeof payload === "string") return conversation.id;
    return Object.fromEntries(Object.entries(payload ?? {}).map(([name, value]) => [name, value === null ? value : (real[name] ?? value)]));
  };
  for (const event of CHAT) {
    const payloads = some(valid(schemaOf(document, "clientToServer", event, "payload")), 100).map(about);
    const answers = [];
    // One after the other: a hundred pages of history at once are more than may wait for a client.
    for (const payload of payloads) answers.push(await ask(ann.socket, event, payload));
    const accepted = answers.filter(({ success }) => success);
    assert.ok(accepted.length > 0, `${event}: ${JSON.stringify(answers[0])}`);
    for (const answer of accepted) checkAnswered(event, undefined, answer);
  }
  await received([ann, bob], [
    "message", "message_edited", "message_reaction", "message_pinned", "message_unpinned", "status", "conversation_updated",
  ]);
});

/**
 * Items that services publish, with the fields that name an entry, and the event that followers
 * receive.
 */
const PUBLISHED = [
  ["/prices", undefined, "price:update"],
  ["/trades", "tradeId", "trade:update"],
  ["/signals", "signalId", "signal:new"],
  ["/portfolios", undefined, "portfolio:update"],
  ["/notifications", "notificationId", "notification:new"],
];

test("events after generated publications match their schemas", async (t) => {
  const { url } = await server(t, { ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0", ROOMCAST_NOTIFICATIONS__WINDOW: "0s" });
  const { paths, components } = await (await fetch(`${url}/api/v1/openapi.json`)).json();
  const api = JSON.parse(JSON.stringify({ $defs: components.schemas }).replaceAll("#/components/schemas/", "#/$defs/"));
  // The keywords and formats of OpenAPI are unknown to the strict mode.
  const { valid } = maker(api, checks(new Ajv({ strict: false, validateFormats: false }).addSchema(api, "catalog")));
  const ann = await observer(t, url, token({ sub: "ann", roles: ["user"] }));
  for (const [event, payload] of [
    ["subscribe:prices", { symbols: ["AAPL"] }],
    ["subscribe:trades", { userId: "ann" }],
    ["subscribe:signals", {}],
    ["subscribe:portfolio", { userId: "ann" }],
    ["subscribe:notifications", {}],
  ]) {
    const answer = await ask(ann.socket, event, payload);
    checkAnswered(event, payload, answer);
  }
  // Names the user and the symbol that are followed.
  const followed = (body) => ({ ...body, ...(body.userId && { userId: "ann" }), ...(body.symbol && { symbol: "AAPL" }) });
  const service = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;
  for (const [path, id] of PUBLISHED) {
    const { schema } = paths[`/api/v1${path}`].post.requestBody.content["application/json"];
    const made = some(valid(JSON.parse(JSON.stringify(schema).replaceAll("#/components/schemas/", "#/$defs/"))), 150);
    // Each body as it is, and with the followed user and an id of its own.
    const bodies = made.flatMap((body, n) => {
      const own = { ...followed(body), ...(id && { [id]: `generated ${n}` }) };
      return [body, body.prices ? { prices: body.prices.map(followed) } : own];
    });
    const statuses = [];
    // A busy machine does not accept hundreds of connections within the timeout of `fetch`.
    while (bodies.length > 0) {
      const calls = bodies.splice(0, 25).map((body) => call(url, "POST", `/api/v1${path}`, body, service));
      statuses.push(...(await Promise.all(calls)).map(({ status }) => status));
    }
    assert.ok(statuses.includes(200), `${path}: ${statuses}`);
    assert.ok(statuses.every((status) => status < 500), `${path}: ${statuses}`);
  }
  await received([ann], PUBLISHED.map(([, , event]) => event));
});
