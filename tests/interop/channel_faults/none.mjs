// Channels that store nothing. Publishers send each event once and never repeat it. From an answer to
// `channel:subscribe` to the next one, a follower receives each event at most once, and those of a
// publisher at one server in order. Between two events that a publisher has sent at the follower's
// server, no acknowledged one is missing; from another server, an event may be lost or late while a
// fault lasts. Without faults, none is lost.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { service } from "../channel_backend.mjs";
import { PASSING } from "../channel_ledger.mjs";
import { callOnce } from "../channel_publishers.mjs";
import { Subscriber } from "../channel_subscribers.mjs";
import { roam } from "../roaming.mjs";
import { request } from "../streamed_authors.mjs";
import { until } from "../support.mjs";
import { disturb, pick, startFollowers, stories } from "./followers.mjs";
import { storedAt } from "./stored.mjs";

export const KINDS = `
[channels.cursors]
pattern = "cursors:{board}"
follow = ["users"]
publish = ["services", "followers"]
history = "none"
`;
const CHANNELS = ["cursors:1", "cursors:2"];
const USES = ["live", "slow", "polling", "returning", "recovering"];
/** The time after which a publisher gives an event up. */
const PATIENCE = 3000;
/** The number of events for each channel and server after the faults. */
const CALM = 20;

class CursorFollower extends Subscriber {
  known = new Set();
  /** By channel, what it has received since the last answer: ids, and the newest of each publisher. */
  #session = new Map();

  accept(one, { events }) {
    if (events.length > 0) this.blame(`was answered ${events.length} events of ${one.channel}, which stores none`);
    this.#session.set(one.channel, { ids: new Set(), newest: new Map() });
  }

  take(one, name, data, meta) {
    const event = this.ledger.received(name, data, meta, this.name);
    if (event === undefined) return;
    const { id, channel } = meta;
    const { publisher, url } = event;
    const { ids, newest } = this.#session.get(channel);
    if (ids.has(id)) this.blame(`received ${id} of ${channel} twice`);
    // Another server has sent it late, to the server to which the follower has moved.
    else if (this.known.has(id)) this.counts.repeated = (this.counts.repeated ?? 0) + 1;
    this.known.add(id);
    ids.add(id);
    // The publisher knew that this event was published before it sent the newer one.
    const of = `${publisher} ${url}`;
    const newer = newest.get(of);
    if (event.acknowledgedAt < newer?.sentAt) this.blame(`received ${id} of ${channel} after ${newer.id}, both of ${url}`);
    if (event.n < newer?.n) return;
    newest.set(of, event);
    if (newer !== undefined && url === this.url) this.#checkGap(newer, event);
  }

  /** Checks that no event of a publisher at this server is missing between two others. */
  #checkGap(before, event) {
    const { publisher, channel } = event;
    const isHere = ({ url, acknowledgedAt }) => url === this.url && acknowledgedAt < event.sentAt;
    for (let n = before.n + 1; n < event.n; n++) {
      const missing = this.ledger.events.get(`${publisher}-${n}`);
      if (missing?.channel !== channel || !isHere(missing) || this.known.has(missing.id)) continue;
      this.blame(`has not received ${missing.id} of ${channel}, which is between ${before.id} and ${event.id}`);
    }
  }
}

/** Publishes events, each once: `send` returns the answer of the server, if there is one. */
class OncePublisher {
  counts = { published: 0, unanswered: 0, refused: 0 };
  #isOver = false;

  constructor(name, scene, send) {
    Object.assign(this, { name, scene, send });
  }

  stop() {
    this.#isOver = true;
  }

  async publish(pause) {
    const { random } = this.scene;
    while (!this.#isOver) {
      await this.publishOne(pick(random, CHANNELS));
      await sleep(random() * 2 * pause); // Pace of a publisher.
    }
  }

  /** Returns the event, which may not be published. */
  async publishOne(channel, url) {
    const { ledger, random } = this.scene;
    const event = ledger.create(this.name, channel, random);
    const answer = await this.send(event, url);
    this.counts.published += 1;
    if (answer === undefined) this.counts.unanswered += 1;
    else if (answer.error === undefined) ledger.acknowledge(event, answer.position);
    else {
      this.counts.refused += 1;
      const { code, message } = answer.error;
      if (!PASSING.has(code)) ledger.blame(this.name, `was refused: ${code} ${message}`);
    }
    return event;
  }
}

/** Returns a publisher with the HTTP API, which stays at a server until it gets no answer. */
function serviceOf(name, scene) {
  let own = pick(scene.random, scene.urls);
  return new OncePublisher(name, scene, async (event, url = own) => {
    const { channel, event: name, data, id } = event;
    Object.assign(event, { url, sentAt: Date.now() });
    const answer = await callOnce(url, "POST", `/api/v1/channels/${channel}/events`, { event: name, data, id }, service, PATIENCE);
    if (answer === undefined) {
      own = pick(scene.random, scene.urls);
      await sleep(50); // The server may be down.
    }
    return answer?.body;
  });
}

/** Returns a user who publishes, and moves if it gets no answer. */
async function userOf(t, name, scene) {
  const user = await roam(t, scene.urls, scene.own(), { sub: name });
  return new OncePublisher(name, scene, async (event) => {
    if (!user.socket.connected) await new Promise((done) => user.socket.once("connect", done));
    Object.assign(event, { url: user.server(), sentAt: Date.now() });
    const { channel, event: name, data, id } = event;
    const answer = await request(user.socket, "channel:publish", { channel, event: name, data, id }, { patience: PATIENCE });
    if (answer === undefined && user.socket.connected) user.move();
    return answer;
  });
}

/** Starts followers and publishers of such channels. */
export async function startNone(t, scene) {
  const { urls, ledger, own } = scene;
  const everyone = await startFollowers(t, scene, "none", USES, (user, options) => new CursorFollower(user, ledger, CHANNELS, options));
  const followers = everyone.map(({ follower }) => follower);
  const calm = serviceOf("calm", scene);
  const publishers = [serviceOf("plotter", scene), serviceOf("mouse", scene), await userOf(t, "painter", scene)];

  /** Publishes an event at a server, and waits until all followers have it. */
  const reaches = async (channel, url) => {
    const event = await calm.publishOne(channel, url);
    const isThere = () => followers.every(({ known }) => known.has(event.id));
    return event.isAcknowledged && until(isThere, event.id, 1000).then(() => true, () => false);
  };
  return {
    followers,
    publishers,
    acting: (isOver) => everyone.map((one) => disturb(one, own(), isOver)),
    /** Checks that nothing is lost without faults. */
    async settle() {
      for (const url of urls) {
        for (const channel of CHANNELS) await until(() => reaches(channel, url), () => `${channel} to reach from ${url}\n${stories(followers, () => true)}`);
      }
      const connections = followers.map(({ counts }) => counts.connections);
      const events = [];
      for (let n = 0; n < CALM; n++) {
        for (const url of urls) for (const channel of CHANNELS) events.push(await calm.publishOne(channel, url));
      }
      assert.deepEqual(events.filter(({ isAcknowledged }) => !isAcknowledged), [], "every event is acknowledged without faults");
      const lacks = ({ known }) => events.some(({ id }) => !known.has(id));
      await until(() => !followers.some(lacks), () => `events without faults at\n${stories(followers, lacks)}`);
      assert.deepEqual(followers.map(({ counts }) => counts.connections), connections, "all stay connected without faults");
      for (const url of urls) for (const channel of CHANNELS) assert.deepEqual(await storedAt(url, channel), []);
      for (const { user } of everyone) user.close();
    },
  };
}
