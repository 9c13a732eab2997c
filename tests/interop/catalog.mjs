// Checks events against the catalogue that `roomcast catalog` prints.
import assert from "node:assert/strict";
import { basename } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import Ajv from "ajv/dist/2020.js";
import { command } from "./support.mjs";

/** Returns the output of the command. */
export function catalog(format) {
  const { status, stdout, stderr } = command(["catalog", "--format", format]);
  assert.equal(status, 0, stderr);
  return stdout;
}

/**
 * Which test file checks which events with a stock client: events that it sends, with their
 * answers, and events that it receives.
 */
export const CHECKED = {
  "admin.test.mjs": {
    clientToServer: ["admin:kick", "admin:block", "admin:stats"],
    serverToClient: ["admin:refusals", "admin:alert", "admin:node"],
  },
  "channels_live.test.mjs": { clientToServer: ["channel:presence"], serverToClient: ["channel:subscribed"] },
  "channels.test.mjs": {
    clientToServer: ["channel:subscribe", "channel:unsubscribe", "channel:history", "channel:publish"],
    serverToClient: ["channel:ended"],
  },
  "chat_events.test.mjs": {
    clientToServer: [
      "message", "edit_message", "delete_message", "add_reaction", "remove_reaction", "pin_message", "unpin_message", "join_conversation",
      "leave_conversation", "typing", "presence", "set_status", "statuses", "message_history", "mark_read", "message_search", "create_conversation",
      "rename_conversation", "delete_conversation", "conversations", "add_member", "remove_member", "set_notification_level", "create_invite",
      "preview_invite", "join_invite", "revoke_invites",
    ],
    serverToClient: [
      "message", "message_edited", "message_deleted", "message_delivered", "message_read", "message_reaction", "message_pinned", "message_unpinned",
      "user_joined", "user_left", "user_disconnected", "presence", "typing", "status", "conversation_updated", "conversation_deleted",
      "notification_level", "session", "error",
    ],
  },
  "chat_gaps.test.mjs": {
    clientToServer: [],
    serverToClient: ["conversation:interrupted"],
  },
  "chat_streams.test.mjs": {
    clientToServer: ["begin_message", "append_message", "finish_message", "abort_message", "stop_message"],
    serverToClient: ["message_appended", "message_stop_requested"],
  },
  "identity.test.mjs": {
    clientToServer: ["auth:refresh"],
    serverToClient: ["auth:expiring"],
  },
  "market.test.mjs": {
    clientToServer: [
      "subscribe:trades", "unsubscribe:trades", "execute:trade", "subscribe:signals", "unsubscribe:signals", "subscribe:portfolio",
      "unsubscribe:portfolio", "subscribe:prices", "unsubscribe:prices", "subscribe:notifications", "unsubscribe:notifications", "notification:ack",
      "notification:ack_all", "notifications:history", "trades:history", "signals:history",
    ],
    serverToClient: [
      "trades:subscribed", "trades:unsubscribed", "trade:update", "trade:executed", "trade:error", "signals:subscribed", "signals:unsubscribed",
      "signal:new", "portfolio:subscribed", "portfolio:unsubscribed", "portfolio:update", "prices:subscribed", "prices:unsubscribed", "price:update", "price:withdrawn",
      "signal:withdrawn", "trade:withdrawn",
      "notifications:subscribed", "notifications:unsubscribed", "notification:new", "notification:batch", "notification:acked",
      "notifications:acked", "notifications:unread", "notification:withdrawn",
    ],
  },
};

/** The events that the checks of this process have seen. */
const seen = { clientToServer: new Set(), serverToClient: new Set() };

/**
 * Fails a test file whose checks have not seen all its events. Called after all other tests of the
 * file.
 */
export function checksAll(url) {
  // A run of only some tests sees only some events.
  if (process.execArgv.some((flag) => flag.startsWith("--test-name-pattern"))) return;
  const checked = CHECKED[basename(fileURLToPath(url))];
  test("the checks of this file have covered all of its events", () => {
    for (const [direction, events] of Object.entries(checked)) {
      assert.deepEqual(events.filter((event) => !seen[direction].has(event)), [], `${direction}: no check has seen these`);
    }
  });
}

/**
 * Compiles a document of schemas in strict mode: unknown keywords and impossible schemas are
 * errors.
 */
export function strict(document) {
  return { document, ajv: new Ajv({ strict: true }).addSchema(document, "catalog") };
}

/** The path of a part of an event in the document. The part is `payload` or `answer`. */
const pathOf = (direction, event, part) => `#/properties/${direction}/properties/${event.replaceAll("/", "~1")}/properties/${part}`;

/** Returns the schema of a part of an event. */
export const schemaOf = (document, direction, event, part) => document.properties[direction].properties[event].properties[part];

/** Returns the events of a direction, with their schemas. */
export const eventsOf = (document, direction) => document.properties[direction].properties;

let schemas;

/** Returns a validator for values of one event; fields that the schema does not name are errors. */
function checker(direction, event, part) {
  if (schemas === undefined) {
    const document = JSON.parse(catalog("json-schema"));
    for (const type of Object.values(document.$defs)) if (type.properties) type.additionalProperties ??= false;
    schemas = strict(document);
  }
  const { document, ajv } = schemas;
  assert.ok(event in eventsOf(document, direction), `${event} is not in the catalogue`);
  return ajv.getSchema(`catalog${pathOf(direction, event, part)}`);
}

function check(validate, value, what) {
  assert.ok(validate(value), `${what}: ${JSON.stringify(value)}: ${JSON.stringify(validate.errors)}`);
}

/** Checks that a received event matches the catalogue. */
export function checkReceived(event, payload) {
  check(checker("serverToClient", event, "payload"), payload, event);
  seen.serverToClient.add(event);
}

/** Checks that a sent event and its answer match the catalogue. */
export function checkAnswered(event, payload, { success, ...answer }) {
  assert.equal(success, true, event);
  if (typeof payload === "object") check(checker("clientToServer", event, "payload"), payload, event);
  check(checker("clientToServer", event, "answer"), answer, `the answer to ${event}`);
  seen.clientToServer.add(event);
}
