// Channels that have only their newest event. A follower may miss values, but never receives an
// older value after a newer one, and ends with the newest one that was acknowledged.
import assert from "node:assert/strict";
import { offsetOf } from "../channel_ledger.mjs";
import { ServicePublisher } from "../channel_publishers.mjs";
import { Subscriber } from "../channel_subscribers.mjs";
import { until } from "../support.mjs";
import { disturb, startFollowers, stories } from "./followers.mjs";
import { storedAt } from "./stored.mjs";

export const KINDS = `
[channels.scores]
pattern = "scores:{game}"
follow = ["users"]
history = "last"
`;
const CHANNELS = ["scores:1", "scores:2", "scores:3"];
const USES = ["live", "slow", "polling", "returning", "recovering"];

class ScoreFollower extends Subscriber {
  accept(one, { events, position, forgotten }, { askedAt }) {
    if (events.length > 1) this.blame(`was answered ${events.length} events of ${one.channel}`);
    if (forgotten) this.blame(`was answered that ${one.channel} has forgotten events`);
    const newest = this.#acknowledgedBefore(one.channel, askedAt);
    if (offsetOf(position) < newest) this.blame(`was answered ${position} of ${one.channel} after ${newest} was acknowledged`);
    if (one.position !== undefined && offsetOf(position) < offsetOf(one.position)) this.blame(`was answered ${position} of ${one.channel} after ${one.position}`);
  }

  take(one, name, data, meta) {
    if (this.ledger.received(name, data, meta, this.name) === undefined) return;
    const { id, channel, position } = meta;
    const isNewer = one.position === undefined || offsetOf(position) > offsetOf(one.position);
    if (!isNewer) this.blame(`received ${id} of ${channel} at ${position} after ${one.position}`);
    one.seen = [id];
    one.position = position;
  }

  /** Returns the highest offset that was acknowledged in a channel before a time. */
  #acknowledgedBefore(channel, time) {
    const events = [...this.ledger.events.values()].filter((event) => event.channel === channel && event.acknowledgedAt < time);
    return Math.max(0, ...events.map(({ position }) => offsetOf(position)));
  }
}

/** Starts followers and publishers of such channels. */
export async function startLast(t, scene) {
  const { urls, ledger, random, own } = scene;
  const everyone = await startFollowers(t, scene, "last", USES, (user, options) => new ScoreFollower(user, ledger, CHANNELS, options));
  const followers = everyone.map(({ follower }) => follower);
  const publishers = ["referee", "umpire"].map((name) => new ServicePublisher(urls, name, CHANNELS, ledger, own()));
  return {
    followers,
    publishers,
    acting: (isOver) => everyone.map((one) => disturb(one, own(), isOver)),
    /** Checks the final values, after all publishers have ended. */
    async settle() {
      for (const channel of CHANNELS) {
        const final = publishers[0].create(channel);
        await publishers[0].publishOne(final);
        const lacks = (follower) => !follower.has(final);
        await until(() => !followers.some(lacks), () => `${final.id} to be the value of ${channel} at\n${stories(followers, lacks)}`);
        const acknowledged = [...ledger.events.values()].filter((event) => event.channel === channel && event.isAcknowledged);
        const offsets = acknowledged.map(({ position }) => offsetOf(position));
        assert.equal(offsetOf(final.position), Math.max(...offsets), `the last value of ${channel} has the highest position`);
        assert.equal(new Set(offsets).size, offsets.length, `each value of ${channel} has a position of its own`);
        for (const url of urls) assert.deepEqual((await storedAt(url, channel)).map(({ id }) => id), [final.id], channel);
      }
      for (const { user } of everyone) user.close();
    },
  };
}
