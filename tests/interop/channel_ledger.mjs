// All events that publishers publish to channels, and what must hold for everything that is stored
// and seen of them.
import assert from "node:assert/strict";

/** The names under which events are published. */
export const NAMES = ["order:updated", "order:shipped"];

/** Codes after which a request is repeated. */
export const PASSING = new Set(["STORE_UNAVAILABLE", "BACKEND_UNAVAILABLE", "RATE_LIMITED", "SERVER_BUSY"]);

/** How long an event may reach followers at other servers after a right was lost, in milliseconds. */
const ELSEWHERE = 1000;

export class Ledger {
  /** By id: each event, whose `position` an acknowledgement or a follower has brought. */
  events = new Map();
  /** Everything that contradicts the promises. */
  wrong = [];
  /** By channel: the number of acknowledged events, and when the last of them was first sent. */
  #acknowledged = new Map();
  counts = { acknowledged: 0, repeated: 0 };
  #made = 0;

  /** Creates the next event of a publisher. */
  create(publisher, channel, random) {
    const n = this.#made++;
    const text = "x".repeat(Math.floor(random() ** 3 * 1500));
    const event = { id: `${publisher}-${n}`, channel, publisher, n, event: NAMES[n % NAMES.length], data: { n, publisher, channel, text } };
    this.events.set(event.id, event);
    return event;
  }

  /** Notes the position in an acknowledgement: each one of an event has the same. */
  acknowledge(event, position) {
    this.counts[event.isAcknowledged ? "repeated" : "acknowledged"] += 1;
    if (!event.isAcknowledged) {
      const { count, lastSent } = this.acknowledgedIn(event.channel);
      this.#acknowledged.set(event.channel, { count: count + 1, lastSent: Math.max(lastSent, event.sentAt) });
    }
    event.isAcknowledged = true;
    event.acknowledgedAt ??= Date.now();
    // A transaction that is committed has no position yet.
    if (position !== undefined) this.#place(event, position, event.publisher);
  }

  /** Returns how many events of a channel are acknowledged, and when the last was first sent. */
  acknowledgedIn(channel) {
    return this.#acknowledged.get(channel) ?? { count: 0, lastSent: 0 };
  }

  /** Returns the event that was received, or nothing if it is none that was published there. */
  received(name, data, { channel, position, id }, by) {
    const event = this.events.get(id);
    if (event?.sentAt === undefined || event.channel !== channel || event.event !== name || !isEqual(event.data, data)) {
      this.blame(by, `received in ${channel} ${name} ${JSON.stringify(data)} under ${id}, which was not published`);
      return undefined;
    }
    this.#place(event, position, by);
    return event;
  }

  #place(event, position, by) {
    event.position ??= position;
    if (event.position !== position) this.blame(by, `has ${event.id} of ${event.channel} at ${position}, which is at ${event.position}`);
  }

  blame(by, what) {
    this.wrong.push(`${new Date().toISOString()} ${by} ${what}`);
  }

  /** Asserts that exactly what was acknowledged is stored in a channel, once and in order. */
  assertStored(channel, stored) {
    const ids = stored.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, `each event of ${channel} is stored once`);
    const newest = new Map();
    for (const { id, event: name, data, position } of stored) {
      const event = this.received(name, data, { channel, position, id }, "the store");
      if (event === undefined) continue;
      const before = newest.get(event.publisher) ?? -1;
      if (event.n < before) this.blame("the store", `has ${id} of ${channel} after ${before}`);
      newest.set(event.publisher, event.n);
    }
    const known = new Set(ids);
    const missing = [...this.events.values()].filter((event) => event.channel === channel && event.isAcknowledged && !known.has(event.id));
    assert.deepEqual(missing.map(({ id }) => id), [], `acknowledged events of ${channel} are stored`);
  }
}

/** Returns the place of a position in its channel, to report gaps when they happen. */
export const offsetOf = (position) => Number(position.split(".")[1]);

/**
 * A right that a follower has lost, at a time and by a call to one server. `connections` is how
 * often the follower had connected.
 */
export class Loss {
  constructor(at, { url, connections } = {}) {
    Object.assign(this, { at, url, connections });
  }

  /** Returns how long after the end of the right something was published or requested. */
  overdue(sentAt, { server, connections }) {
    const isThere = this.url === server && this.connections === connections;
    return sentAt - this.at - (isThere ? 0 : ELSEWHERE);
  }
}

function isEqual(one, other) {
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => one[key] === other[key]);
}
