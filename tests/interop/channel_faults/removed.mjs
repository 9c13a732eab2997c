// Kinds that a reload removes and brings back. Followers of the removed kind are told, and receive
// nothing until it is back. Then they continue without a gap, as do those of kinds that stay.
import assert from "node:assert/strict";
import { renameSync, writeFileSync } from "node:fs";
import { service } from "../channel_backend.mjs";
import { Follower } from "../channel_followers.mjs";
import { ServicePublisher, callOnce } from "../channel_publishers.mjs";
import { until } from "../support.mjs";
import { disturb, startFollowers, stories } from "./followers.mjs";

export const KINDS = `
[channels.passing]
pattern = "passing:{n}"
follow = ["users"]
history = { events = 10000, age = "7days" }
`;
const CHANNELS = ["passing:1", "passing:2"];
const USES = ["live", "slow", "returning", "recovering"];
/** How long after a change a request may still be answered as before it, in milliseconds. */
const LATE = 5000;

/** Whether the kind is removed, or was a moment ago. */
class Removal {
  #isRemoved = false;
  #endedAt = -Infinity;

  begin() {
    this.#isRemoved = true;
  }

  end() {
    this.#isRemoved = false;
    this.#endedAt = Date.now();
  }

  isRecent() {
    return this.#isRemoved || Date.now() - this.#endedAt < LATE;
  }
}

class PassingFollower extends Follower {
  removal;

  isPassing(one, code) {
    return super.isPassing(one, code) || (code === "NOT_FOUND" && this.removal.isRecent());
  }

  lose(one, reason) {
    if (reason !== "removed" || !this.removal.isRecent()) return super.lose(one, reason);
    this.counts.removed = (this.counts.removed ?? 0) + 1;
    return undefined;
  }

  /** Subscribes again to the channels whose kind was removed. */
  resume() {
    for (const one of this.all.values()) if (one.phase === "ended") this.follow(one);
  }
}

class PassingPublisher extends ServicePublisher {
  removal;

  refused(code, message, isPassing, retryAfter) {
    const isOfRemoved = ["NOT_FOUND", "CONFLICT"].includes(code) && this.removal.isRecent();
    return super.refused(code, message, isPassing || isOfRemoved, retryAfter);
  }
}

/** Starts followers and publishers of such channels. `faults` has the reload. */
export async function startRemoved(t, scene) {
  const { urls, servers, ledger, own, config, kinds } = scene;
  const removal = new Removal();
  const create = (user, options) => Object.assign(new PassingFollower(user, ledger, CHANNELS, options), { removal });
  const everyone = await startFollowers(t, scene, "passing", USES, create);
  const followers = everyone.map(({ follower }) => follower);
  const publisher = Object.assign(new PassingPublisher(urls, "courier", CHANNELS, ledger, own()), { removal });

  /** Replaces the kinds at all servers. */
  const reload = async (text) => {
    writeFileSync(`${config}.new`, text);
    renameSync(`${config}.new`, config);
    await Promise.all(servers.map(({ server }) => server.reload()));
  };
  const follows = (follower) => [...follower.all.values()].some(({ phase }) => phase === "following");
  return {
    followers,
    publishers: [publisher],
    channels: CHANNELS,
    acting: (isOver) => everyone.map((one) => disturb(one, own(), isOver)),
    faults: {
      async "a kind is removed"() {
        // Otherwise no follower would be told.
        await until(() => followers.some(follows), () => `a follower of the kind\n${stories(followers, () => true)}`);
        removal.begin();
        // A kind that stays is changed as well.
        await reload(kinds.replace(KINDS, "").replace("[channels.orders]", "[channels.orders]\npresence = true"));
        await until(() => !followers.some(follows), () => `the end of the removed kind for\n${stories(followers, follows)}`);
        for (const url of urls) {
          // The database may be away, but not the kinds.
          const answer = await callOnce(url, "POST", `/api/v1/channels/${CHANNELS[0]}/events`, { event: "order:updated", data: {}, id: "removed" }, service, LATE);
          if (answer !== undefined) assert.equal(answer.status, 404, JSON.stringify(answer.body));
        }
        await reload(kinds);
        removal.end();
        for (const one of followers) one.resume();
      },
    },
    async settle() {
      assert.ok(followers.some(({ counts }) => counts.removed > 0), "followers were told of the removal");
      for (const { user } of everyone) user.close();
    },
  };
}
