// Followers of channels that lose the right to follow, in each way in which that can happen.
import { setTimeout as sleep } from "node:timers/promises";
import { service } from "./channel_backend.mjs";
import { GAMES, grant } from "./channel_faults/granted.mjs";
import { Follower } from "./channel_followers.mjs";
import { Loss } from "./channel_ledger.mjs";
import { callOnce } from "./channel_publishers.mjs";
import { admin } from "./people.mjs";
import { roam } from "./roaming.mjs";
import { request } from "./streamed_authors.mjs";
import { until } from "./support.mjs";
import { now, token } from "./tokens.mjs";

/** How long a call of the HTTP API may take before it is repeated, in milliseconds. */
const PATIENCE = 5000;

/** Repeats a call at any of these servers until it is answered as expected. Returns the server. */
async function insist(urls, random, path, body, authorization, isDone = () => true, method = "POST") {
  let [url, answer] = [];
  const isAnswered = async () => {
    url = urls[Math.floor(random() * urls.length)];
    answer = await callOnce(url, method, path, body, authorization, PATIENCE);
    if (answer?.status === 200 && isDone(answer.body)) return true;
    await sleep(50); // The server or what it needs may be down.
    return false;
  };
  await until(isAnswered, () => `${path}: ${JSON.stringify(answer)}`);
  return url;
}

/** By an administrator who revokes a user or a token. */
async function revoke({ urls, random }, { follower, channels }, body) {
  const url = await insist(urls, random, "/api/v1/revocations", body, `Bearer ${admin()}`);
  follower.loseAt(channels, Date.now(), url);
}

/** By a backend that takes back its answers. */
async function takeBack({ urls, random, backend }, { user, follower, channels }) {
  backend.denied.add(user.name);
  for (const channel of channels) {
    const path = `/api/v1/channels/${channel}/revoke`;
    const url = await insist(urls, random, path, { userId: user.name }, service, ({ missing }) => missing === 0);
    follower.loseAt([channel], Date.now(), url);
  }
}

/** By a service that ends what it has begun, unless a request to begin may be executed later. */
async function unsubscribe({ urls, random }, { user, follower, channels, isClear }) {
  for (const channel of channels) {
    const path = `/api/v1/channels/${channel}/subscribers/${encodeURIComponent(user.name)}`;
    const url = await insist(urls, random, path, undefined, service, ({ missing }) => missing === 0, "DELETE");
    if (isClear) follower.loseAt([channel], Date.now(), url);
  }
}

/** By new credentials without the role. */
async function degrade(_, { user, follower, channels }) {
  user.claims = { ...user.claims, roles: ["user"] };
  const isDone = async () => {
    const answer = await request(user.socket, "auth:refresh", { token: token(user.claims) }, { patience: 1000 });
    if (answer?.success !== true) await sleep(50); // The server or what it needs may be down.
    return answer?.success === true;
  };
  // A client that is away connects with the new credentials.
  if (!follower.isAway) await until(isDone, "other credentials");
  follower.loseAt(channels, Date.now(), user.server());
}

/** The ways in which a right ends: who has it, to which of the channels, and what ends it. */
const LOSSES = {
  "the user is revoked": { roles: ["user", "staff"], end: (scene, victim) => revoke(scene, victim, { userId: victim.user.name }) },
  "the token is revoked": { hasToken: true, end: (scene, victim) => revoke(scene, victim, { jti: victim.user.name }) },
  "the token expires": { hasToken: true, lifetime: 4 },
  "the role is lost": { roles: ["user", "staff"], end: degrade },
  "the backend revokes": { isAsked: true, end: takeBack },
  "the service unsubscribes": { isGranted: true, end: unsubscribe },
};

/** Returns how often each way has ended a right that a follower had used. */
export const emptyLosses = () => Object.fromEntries(Object.keys(LOSSES).map((way) => [way, 0]));

let made = 0;

/**
 * A follower connects, follows some channels, and loses its right, perhaps while it is away. Then
 * it tries to continue until later events were published in its channels.
 */
export async function lose(t, scene, way) {
  const { urls, random, ledger, orders, desks, past } = scene;
  const { roles = ["user"], hasToken = false, lifetime = 3600, isAsked = false, isGranted = false, end } = LOSSES[way];
  const name = `${way} ${made++}`;
  const possible = isGranted ? GAMES : isAsked ? desks : orders;
  const channels = possible.toSorted(() => random() - 0.5).slice(0, isAsked ? 2 : 4);
  const exp = now() + lifetime;
  const right = token({ sub: name, jti: name, exp, channel: { follow: "orders:{customer}:{order}" } });
  const transports = [random() < 0.3 ? "polling" : "websocket"];
  const user = await roam(t, urls, random, { sub: name, roles }, { transports });
  const options = { recovers: random() < 0.5, isGranted, token: () => (hasToken ? right : undefined) };
  const follower = new Follower(user, ledger, channels, options);
  past.push(follower);
  if (end === undefined) follower.loseAt(channels, exp * 1000);
  const isReady = () => (follower.isIn() && follower.counts.live > 0) || (end === undefined && now() > exp);
  let isClear = true;
  const begin = async () => {
    if (isGranted) isClear = (await grant(scene, follower)) && isClear;
    return isReady();
  };
  await until(begin, () => `events for ${follower.story()}`);
  follower.isAboutToLose = true;
  follower.isAway = random() < 0.3;
  if (follower.isAway) user.leave();
  await end?.(scene, { user, follower, channels, isClear });
  if (!isClear) return user.close();
  const { at } = follower.lost.get(channels.at(-1));
  await until(() => Date.now() > at, "the end of the right");
  if (follower.isAway) (random() < 0.5 ? user.move : user.drop)();
  await until(() => channels.every((channel) => ledger.acknowledgedIn(channel).lastSent > at + 1500), () => `later events in ${channels}`);
  if (follower.counts.live > 0) scene.losses[way] += 1;
  user.close();
}

/** Lets followers lose their rights, one after the other in each way, until it is over. */
export async function loseAll(t, scene, isOver) {
  const isComplete = () => Object.values(scene.losses).every((times) => times > 0);
  while (!isOver() || !isComplete()) {
    for (const way of Object.keys(LOSSES).sort(() => scene.random() - 0.5)) {
      if (isOver() && scene.losses[way] > 0) continue;
      await lose(t, scene, way);
    }
  }
}
