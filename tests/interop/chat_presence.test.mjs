// Two users join one conversation at two nodes at about the same time: each learns of the other,
// whatever connects the nodes.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { by, conversation, nothing, person, startServers, whatIsThere } from "./chat_servers.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { ask, until } from "./support.mjs";
import { variants } from "./variants.mjs";

const PAIRS = 200;
/** Number of conversations of a user. */
const SHARED = 20;
/** Time within which the members join, in milliseconds. */
const INTERVAL = 300;

/**
 * The present users of a conversation, as far as a client knows from everything it was sent, and
 * events that contradict that.
 */
class Known {
  users = new Set();
  wrong = [];
  log = [];
  /** Events that arrive while the client waits for its answer; they apply on top of it. */
  early = [];

  constructor({ socket, name }, conversationId) {
    this.name = name;
    const on = (event, act) => {
      socket.on(event, (payload) => {
        if (payload.conversationId !== conversationId) return;
        this.log.push(`${event} ${payload.userId}`);
        if (this.early) this.early.push(() => act(payload));
        else act(payload);
      });
    };
    on("user_joined", ({ userId }) => this.users.add(userId));
    for (const event of ["user_left", "user_disconnected"]) {
      on(event, ({ userId }) => {
        if (!this.users.delete(userId)) this.wrong.push(`${event} of ${userId}, who was not there`);
      });
    }
  }

  /** Processes the answer to joining. */
  begin(users) {
    this.users = new Set(users.map(({ userId }) => userId));
    this.log.push(`joined ${[...this.users]}`);
    const early = this.early;
    this.early = undefined;
    for (const act of early) act();
  }

  get list() {
    return `${[...this.users].sort()}`;
  }
}

async function join(one, conversationId) {
  const known = new Known(one, conversationId);
  const { users } = await one.must("join_conversation", { conversationId });
  known.begin(users);
  return known;
}

/** Returns a generator of numbers from 0 to 1 that are the same in every run. */
function random(seed) {
  let state = seed;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}

async function pair([p, q], conversationId, [before, delay]) {
  await sleep(before); // A random start.
  const order = delay < 0 ? [q, p] : [p, q];
  const first = join(order[0], conversationId);
  let isAnswered = false;
  first.then(() => (isAnswered = true));
  await sleep(Math.abs(delay)); // The random interval that is tested.
  const wasAnswered = isAnswered;
  const second = await join(order[1], conversationId);
  if (wasAnswered) assert.ok(second.users.has(order[0].name), `the answer lacks who was there: ${second.log}`);
  // Requested right after the answer.
  const { users } = await order[1].must("presence", { conversationId });
  if (wasAnswered) assert.ok(users.some(({ userId }) => userId === order[0].name), "presence lacks who was there");
  return [await first, second];
}

/** Returns the variables of servers with an adapter of this scheme. */
const joinedBy = (scheme) => (broker) => ({ ROOMCAST_ADAPTER__URL: `${scheme}://${broker.address}`, ROOMCAST_ADAPTER__KEY: "chat" });

for (const [name, start, joined] of variants([
  ["nothing", undefined, () => nothing],
  ["PostgreSQL", undefined, () => whatIsThere],
  ["Redis", () => startRedis(), by],
  ["Redis with sharded channels", () => startRedis(), joinedBy("redis+sharded")],
  ["a stream of Redis", () => startRedis(), joinedBy("redis-streams")],
  ["NATS", () => startBroker("nats", "-js"), joinedBy("nats")],
  ["NATS without JetStream", () => startBroker("nats"), joinedBy("nats")],
], 2)) {
  describe(`two nodes joined by ${name}`, () => {
    let broker;
    let servers;
    const ends = [];
    before(async () => {
      broker = await start?.();
      servers = await startServers({ after: (end) => ends.push(end) }, 2, joined(broker));
    });
    after(async () => {
      for (const end of ends) await end();
      broker?.end();
    });

    test("users joining at two nodes within 300 ms see each other join and leave", async (t) => {
      const next = random(name.length + 1);
      const couples = [];
      for (let n = 0; n < PAIRS / SHARED; n++) {
        const [p, q] = await Promise.all(["p", "q"].map((one, at) => person(t, servers[at], `${one}${n}-${name}`)));
        for (let m = 0; m < SHARED; m++) couples.push({ people: [p, q], conversationId: await conversation([p, q]) });
      }
      const times = couples.map(() => [next() * 5_000, (next() * 2 - 1) * INTERVAL]);
      const joining = couples.map(({ people, conversationId }, n) => pair(people, conversationId, times[n]));
      const all = await Promise.all(joining);
      assert.equal(all.length, PAIRS);
      for (const [n, both] of all.entries()) {
        const names = couples[n].people.map((one) => one.name).sort();
        for (const known of both) {
          await until(() => known.list === `${names}`, () => `${names} for ${known.name} of pair ${n}: ${known.log}`);
        }
      }
      const leaving = couples.map(({ people: [p], conversationId }) => ask(p.socket, "leave_conversation", { conversationId }));
      await Promise.all(leaving);
      for (const [n, both] of all.entries()) {
        const { people: [, q] } = couples[n];
        const known = both.find((one) => one.name === q.name);
        await until(() => known.list === q.name, () => `${q.name} alone in pair ${n}: ${known.log}`);
      }
      assert.deepEqual(all.flat().flatMap(({ wrong }) => wrong), []);
    });

    test("presence is found at a node where no user has joined the conversation", async (t) => {
      const [p, q] = await Promise.all(["p", "q"].map((one, at) => person(t, servers[at], `${one}-alone-${name}`)));
      const conversationId = await conversation([p, q]);
      await p.must("join_conversation", { conversationId });
      const { users, count } = await q.must("presence", { conversationId });
      assert.deepEqual([users.map(({ userId }) => userId), count], [[p.name], 1]);
    });
  });
}
