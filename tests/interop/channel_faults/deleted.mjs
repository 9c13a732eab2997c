// Channels that a service deletes and begins again. A follower is told of the deletion, or learns of
// it from the answer if it was absent. It then receives nothing, until it subscribes to the new
// channel, of which it receives the new events only.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { service } from "../channel_backend.mjs";
import { offsetOf } from "../channel_ledger.mjs";
import { callOnce } from "../channel_publishers.mjs";
import { Subscriber } from "../channel_subscribers.mjs";
import { until } from "../support.mjs";
import { pick, startFollowers, stories } from "./followers.mjs";

export const KINDS = `
[channels.rounds]
pattern = "rounds:{n}"
follow = ["users"]
`;
const USES = ["live", "polling", "returning", "recovering"];
/** How often the same channel is begun again. */
const LIVES = 3;
const PATIENCE = 3000;

class RoundFollower extends Subscriber {
  accept(one, { forgotten }, { since }) {
    const { round, channel } = one;
    if (!forgotten && since !== undefined && one.positionLife < one.life) this.blame(`was not answered that ${channel} has forgotten events since ${since}`);
    if (forgotten && round.deleted <= one.positionLife) this.blame(`was answered that ${channel} has forgotten events since ${since}`);
    if (forgotten && one.life < round.deleted) {
      one.life = round.deleted;
      one.seen.length = 0;
      this.counts.absent = (this.counts.absent ?? 0) + 1;
    }
    one.positionLife = one.life;
  }

  take(one, name, data, meta, { isFirst = false }) {
    const event = this.ledger.received(name, data, meta, this.name);
    if (event === undefined) return;
    const { id, channel, position } = meta;
    if (event.life !== one.life) this.blame(`received ${id} of life ${event.life} of ${channel} in life ${one.life}`);
    if (one.seen.includes(id)) this.blame(`received ${id} of ${channel} twice`);
    const before = one.position === undefined ? 0 : offsetOf(one.position);
    if (!isFirst && offsetOf(position) !== before + 1) this.blame(`received ${id} of ${channel} at ${position} after ${one.position}`);
    one.seen.push(id);
    one.position = position;
  }

  lose(one, reason) {
    // A deletion that was repeated may be executed twice.
    const isRepeated = one.round.deleted <= one.life && !one.round.isUnclear;
    if (reason !== "deleted" || isRepeated) return super.lose(one, reason);
    one.life = one.round.deleted;
    one.wasTold = true;
    this.counts.deleted = (this.counts.deleted ?? 0) + 1;
    // Until `begin`, it does not subscribe, also after a lost connection.
    one.phase = "idle";
    return undefined;
  }

  /** Follows a channel from now on, as in its first life or with the position of an earlier one. */
  begin(round, { isAnew }) {
    const one = this.all.get(round.channel) ?? Object.assign(this.add(round.channel), { life: round.deleted, positionLife: round.deleted });
    one.round = round;
    one.seen.length = 0;
    if (isAnew) one.position = undefined;
    this.follow(one);
  }

  /** Ends to follow a channel. */
  leave({ channel }) {
    this.all.get(channel).phase = "left";
    this.user.socket.emit("channel:unsubscribe", { channel });
  }
}

/** A channel, of which some lives are `deleted`. */
class Round {
  deleted = 0;
  /** Whether the server may still execute an earlier request: it has not answered it. */
  isUnclear = false;
  #scene;

  constructor(channel, scene) {
    this.channel = channel;
    this.#scene = scene;
  }

  /** Repeats a request at any server until it is answered. */
  async #insist(method, path, body) {
    const { urls, random } = this.#scene;
    for (;;) {
      const answer = await callOnce(pick(random, urls), method, `/api/v1/channels/${this.channel}${path}`, body, service, PATIENCE);
      if (answer?.status === 200) return answer.body;
      assert.ok(answer === undefined || answer.status >= 500, `${method} ${this.channel}: ${JSON.stringify(answer)}`);
      this.isUnclear = true;
      await sleep(100); // The server or what it needs may be down.
    }
  }

  async publish() {
    const { ledger, random } = this.#scene;
    const event = Object.assign(ledger.create("rounds", this.channel, random), { life: this.deleted, sentAt: Date.now() });
    const { event: name, data, id } = event;
    const { position } = await this.#insist("POST", "/events", { event: name, data, id });
    ledger.acknowledge(event, position);
    return event;
  }

  async delete() {
    this.deleted += 1;
    await this.#insist("DELETE", "");
  }
}

/** Starts followers of such channels. The service that publishes and deletes is part of `acting`. */
export async function startDeleted(t, scene) {
  const { ledger, random } = scene;
  const everyone = await startFollowers(t, scene, "rounds", USES, (user, options) => new RoundFollower(user, ledger, [], options));
  const followers = everyone.map(({ follower }) => follower);
  const counts = { channels: 0, deletions: 0, renewals: 0 };

  /** Waits until this is true of what each of some followers has of a channel. */
  const all = (some, { channel }, isTrue, what) =>
    until(() => some.every((one) => isTrue(one.all.get(channel))), () => `${what} in ${channel} by\n${stories(some, (one) => !isTrue(one.all.get(channel)))}`);
  const have = (some, round, { id }) => all(some, round, ({ seen }) => seen.at(-1) === id, id);
  const follow = (some, round) => all(some, round, ({ phase }) => phase === "following", "to follow");
  /** Interferes with some connections. */
  const interfere = () => {
    for (const { use, user } of everyone) {
      if (random() < 0.5) continue;
      if (use === "returning") user.move();
      if (use === "recovering") (random() < 0.5 ? user.drop : user.move)();
    }
  };

  /** Lets a channel begin, be deleted, and begin again. */
  async function play() {
    const round = new Round(`rounds:${counts.channels++}`, scene);
    for (const one of followers) one.begin(round, { isAnew: true });
    for (let life = 0; life < LIVES; life++) {
      await follow(followers, round);
      await round.publish();
      await have(followers, round, await round.publish());
      if (random() < 0.5) interfere();
      // A request that is executed later stores an event, or deletes the channel once more.
      if (round.isUnclear) break;
      await round.delete();
      counts.deletions += 1;
      await all(followers, round, (one) => one.life === round.deleted, "to learn of the deletion");
      if (round.isUnclear) break;
      // Some subscribe again. Others receive nothing, although the channel has new events.
      const told = followers.filter((one) => one.all.get(round.channel).wasTold);
      const early = told.filter(() => random() < 0.5);
      const first = await round.publish();
      for (const one of early) one.begin(round, { isAnew: true });
      for (const one of followers) one.all.get(round.channel).wasTold = false;
      const active = followers.filter((one) => !told.includes(one) || early.includes(one));
      await have(active, round, first);
      if (round.isUnclear) break;
      const second = await round.publish();
      await have(active, round, second);
      for (const one of told) if (!early.includes(one)) one.begin(round, { isAnew: false });
      await have(followers, round, second);
      const expected = [first, second].map(({ id }) => id);
      for (const one of followers) assert.deepEqual(one.all.get(round.channel).seen, expected, one.story());
      counts.renewals += 1;
    }
    for (const one of followers) one.leave(round);
  }

  return {
    followers,
    publishers: [],
    counts,
    acting: (isOver) => [(async () => {
      while (!isOver() || counts.renewals < 2) await play();
      assert.ok(followers.some(({ counts }) => counts.deleted > 0), "followers were told of deletions");
      for (const { user } of everyone) user.close();
    })()],
    async settle() {},
  };
}
