// Followers of channels with a history: they have each event once and in order, and nothing after
// they have lost their right.
import assert from "node:assert/strict";
import { Loss, PASSING, offsetOf } from "./channel_ledger.mjs";
import { Subscriber } from "./channel_subscribers.mjs";

export class Follower extends Subscriber {
  /** The rights that it has lost, by the channel. */
  lost = new Map();
  /** Whether its right may end at any moment, and whether it is away then. */
  isAboutToLose = false;
  isAway = false;
  #known = new Set();

  isLost(channel) {
    return this.lost.has(channel);
  }

  isPassing(_, code) {
    return PASSING.has(code) || this.isAboutToLose;
  }

  /** Notes that the right to follow these channels ends at a time, perhaps by a call to a server. */
  loseAt(channels, at, url) {
    const { connections } = this.counts;
    for (const channel of channels) this.lost.set(channel, new Loss(at, { url, connections }));
    this.tell(`has no right to ${channels} from ${new Date(at).toISOString()} on, at ${url ?? "any server"}${this.isAway ? ", and is away" : ""}`);
  }

  /** Asserts that it has a part of what is stored: without a gap, each event once, in order. */
  assertSaw(stored, { isWhole }) {
    for (const { channel, seen, forgotten, isWhole: hasBeginning } of this.all.values()) {
      if (forgotten > 0) continue;
      const ids = stored.get(channel).map(({ id }) => id);
      const start = (hasBeginning && !this.isGranted) || seen.length === 0 ? 0 : ids.indexOf(seen[0]);
      const end = isWhole && !this.lost.has(channel) ? ids.length : start + seen.length;
      const expected = ids.slice(start, end);
      const n = expected.findIndex((id, n) => seen[n] !== id);
      const isEqual = n === -1 && seen.length === expected.length;
      const around = (list, at) => list.slice(Math.max(0, at - 3), at + 3);
      assert.ok(isEqual, `${this.name} has ${seen.length} of ${expected.length} events of ${channel}, and at ${n} ${around(seen, n)} instead of ${around(expected, n)}`);
    }
  }

  accept({ channel }, _, { askedAt }) {
    const overdue = this.#overdue(channel, askedAt);
    if (overdue > 0) this.blame(`follows ${channel}, to which it had lost the right ${overdue} ms before`);
    if (this.isGranted) this.#known.clear();
  }

  /** Notes an event. Only the first one of all may have any place. */
  take(one, name, data, meta, { isFirst = false }) {
    const event = this.ledger.received(name, data, meta, this.name);
    if (event === undefined) return;
    const { id, channel, position } = meta;
    const overdue = this.#overdue(channel, event.sentAt);
    if (overdue > 0) this.blame(`received ${id} of ${channel}, which was published ${overdue} ms after the end of its right`);
    if (this.#known.has(id)) this.blame(`received ${id} of ${channel} twice`);
    const before = one.position === undefined ? 0 : offsetOf(one.position);
    if (!isFirst && offsetOf(position) !== before + 1) this.blame(`received ${id} of ${channel} at ${position} after ${one.position}`);
    this.#known.add(id);
    one.seen.push(id);
    one.position = position;
  }

  /** Returns how long after the end of its right something was published or requested. */
  #overdue(channel, time) {
    const { connections } = this.counts;
    return this.lost.get(channel)?.overdue(time, { server: this.user.server(), connections }) ?? 0;
  }

  lose(one, reason) {
    if (!this.isAboutToLose && !this.lost.has(one.channel)) super.lose(one, reason);
  }
}
