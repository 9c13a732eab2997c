// Kinds of channels, a service that publishes to them, and programs that follow a channel through
// the client package.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { channel } from "../../../web/packages/client/dist/channels.js";
import { QUICK, startLink } from "../link.mjs";
import { call } from "../people.mjs";
import { temporary, until } from "../support.mjs";
import { token } from "../tokens.mjs";
import { manager } from "./chatter.mjs";

export const ORDER = "orders:7:42";

const KINDS = `[channels.orders]
pattern = "orders:{customer}:{order}"
follow = ["owner:{customer}", "token"]
publish = ["services", "owner:{customer}"]
history = { events = 1000 }

[channels.halls]
pattern = "halls:{hall}"
follow = ["users"]
presence = true
`;

/** Returns the settings of a server that has the kinds. */
export function withOrders(env = {}) {
  const config = join(temporary(), "roomcast.toml");
  writeFileSync(config, KINDS);
  return { ROOMCAST_CONFIG: config, ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0", ...env };
}

const service = token({ sub: "backend", roles: ["service"] });

/** Publishes events with these numbers, in one call. */
export async function publish(url, numbers, { name = ORDER, event = "order:updated" } = {}) {
  const events = numbers.map((n) => ({ event, data: { n }, id: `${n}` }));
  const { status, body } = await call(url, "POST", `/api/v1/channels/${name}/events`, { events }, `Bearer ${service}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body.positions;
}

/** Returns the numbers from one to another. */
export const numbers = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

/** Connects a customer over a link that a test can cut. */
export async function customer(t, url, { user = "7", ...options } = {}) {
  const link = await startLink(url);
  t.after(() => link.close());
  const auth = { token: token({ sub: user, roles: ["user"] }) };
  const made = manager(t, link.url, { auth, socket: QUICK, ...options });
  made.open();
  return { manager: made, link };
}

/** Follows a channel, and records what listeners receive: numbers, and the lengths of resets. */
export function follow(t, manager, { name = ORDER, ...options } = {}) {
  const followed = channel(manager, name, options);
  t.after(() => followed.close());
  const seen = [];
  const ends = [];
  const metas = [];
  followed.on("order:updated", ({ n }, meta) => {
    seen.push(n);
    metas.push(meta);
  });
  followed.watch("reset", (newest) => seen.push(`reset ${newest.length}`));
  followed.watch("ended", (end) => ends.push(end));
  const has = (expected) => until(() => seen.length >= expected.length && followed.isFollowing, () => `${expected} in ${JSON.stringify([seen, ends, manager.log])}`).then(() => assert.deepEqual(seen, expected));
  return { channel: followed, seen, ends, metas, has };
}

/** A storage of positions that survives its program. */
export function positions() {
  const stored = new Map();
  return {
    stored,
    load: async (user, name) => stored.get(`${user} ${name}`),
    save: async (user, name, position) => void stored.set(`${user} ${name}`, position),
  };
}
