// Users whom a service subscribes, again whenever they have come back.
import { setTimeout as sleep } from "node:timers/promises";
import { service } from "../channel_backend.mjs";
import { Follower } from "../channel_followers.mjs";
import { callOnce } from "../channel_publishers.mjs";
import { disturb, pick, startFollowers } from "./followers.mjs";

export const KINDS = `
[channels.games]
pattern = "games:{n}"
follow = ["services"]
history = { events = 10000, age = "7days" }
`;
export const GAMES = ["games:1", "games:2"];
const USES = ["live", "polling", "returning", "recovering"];
const PATIENCE = 3000;

/**
 * Subscribes a user to those of its channels that it does not follow. Returns whether each request
 * was answered: one that was not may be executed later.
 */
export async function grant({ urls, random }, follower) {
  let isClear = true;
  for (const { channel, phase } of follower.all.values()) {
    if (phase === "following") continue;
    const path = `/api/v1/channels/${channel}/subscribers`;
    const answer = await callOnce(pick(random, urls), "POST", path, { userId: follower.name }, service, PATIENCE);
    isClear &&= answer !== undefined && answer.body.missing === 0;
    const isRight = answer === undefined || answer.status === 200 || answer.status >= 500;
    if (!isRight) follower.blame(`was not subscribed by a service: ${JSON.stringify(answer.body)}`);
    await sleep(50); // The server or what it needs may be down.
  }
  return isClear;
}

/** Starts such users, and the service that subscribes them. */
export async function startGranted(t, scene) {
  const { ledger, own } = scene;
  const everyone = await startFollowers(t, scene, "games", USES, (user, options) => new Follower(user, ledger, GAMES, { ...options, isGranted: true }));
  const followers = everyone.map(({ follower }) => follower);
  let isOver = false;
  const serving = followers.map(async (follower) => {
    while (!isOver) {
      await grant(scene, follower);
      await sleep(100); // Pace of the service.
    }
  });
  return {
    followers,
    publishers: [],
    acting: (isOver) => everyone.map((one) => disturb(one, own(), isOver)),
    async settle() {
      isOver = true;
      await Promise.all(serving);
      for (const { user } of everyone) user.close();
    },
  };
}
