// Followers whose connections suffer while servers and networks fail.
import { setTimeout as sleep } from "node:timers/promises";
import { randomness } from "../nemesis.mjs";
import { roam } from "../roaming.mjs";

/**
 * Connects a user for each of these uses of a connection. `create` makes the follower of a user,
 * with options for it.
 */
export function startFollowers(t, { urls, random }, name, uses, create) {
  return Promise.all(uses.map(async (use, n) => {
    const polls = use === "polling";
    const claims = { sub: `${name} ${use} ${n}`, roles: ["user"] };
    const user = await roam(t, urls, randomness(random() * 2 ** 32), claims, polls ? { transports: ["polling"] } : {});
    return { use, polls, user, follower: create(user, { recovers: use === "recovering" }) };
  }));
}

/** Interferes with a follower until it is over, as befits its use. */
export async function disturb({ use, user: { socket, link, move, drop }, follower }, random, isOver) {
  while (!isOver()) {
    await sleep(200 + random() * 1300); // Pace of a follower.
    if (use === "returning" || use === "recovering") {
      // A session is recovered at the same server or at the other one.
      const go = use === "recovering" && random() < 0.5 ? drop : move;
      if (random() < 0.6) go();
    } else if (use === "slow") {
      // Large answers fill the buffers of the kernel, so that events wait at the server.
      for (let n = 0; n < 4; n++) follower.read(pick(random, [...follower.all.keys()]), 200);
      await sleep(20); // The requests pass the link.
      link.swallow();
      await sleep(random() * 2500); // The follower does not read.
      link.resume({ isBroken: random() < 0.2 && socket.connected });
    }
  }
}

export const pick = (random, list) => list[Math.floor(random() * list.length)];

/** Returns the stories of the followers of whom this is true, for diagnosing failures. */
export const stories = (followers, isMeant) => followers.filter(isMeant).map((one) => one.story()).join("\n");
