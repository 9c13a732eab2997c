// What goes wrong, by a seed: servers and what they need are killed, crashed and paused, and what joins them swallows everything.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { isAlive, startServer } from "./support.mjs";

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
export function randomness(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A server that somebody starts again whenever it has ended. */
export class Supervised {
  #env;
  #running;
  /** What it said before it was last started. */
  #before = "";

  constructor(env) {
    this.#env = env;
  }

  /** Starts it, however often that takes: without its database it gives up. */
  async start() {
    this.#before = this.output();
    this.#running = undefined;
    for (let tries = 30; ; tries--) {
      try {
        this.#running = await startServer(this.#env);
        return this.#running;
      } catch (error) {
        this.#before += error.message;
        if (tries === 0) throw error;
        await sleep(100); // The pace of a supervisor that tries again.
      }
    }
  }

  async kill() {
    await this.#running.stop("SIGKILL");
  }

  /** On purpose, so that it says goodbye. */
  async stop() {
    return this.#running.stop();
  }

  pause() {
    process.kill(this.#running.pid, "SIGSTOP");
  }

  goOn() {
    process.kill(this.#running.pid, "SIGCONT");
  }

  /** Whether it has not ended since it was started. */
  isRunning() {
    return isAlive(this.#running?.pid);
  }

  /** All that it has said, whenever it was started. */
  output() {
    return this.#before + (this.#running?.output() ?? "");
  }
}

/** Fails if something has ended that should be running. */
export function assertRunning(name, part) {
  assert.ok(part.isRunning(), `${name} has ended, and nobody had killed it\n${part.output?.().slice(-4000)}`);
}

/**
 * What can happen to whatever `choose` chooses, a process that can be killed, started, paused and goes on: each ends with
 * everything running again. `span` is what the times are multiplied by.
 */
export function faultsOf(name, choose, random, span = 1) {
  const chosen = () => {
    const part = choose();
    assertRunning(name, part);
    return part;
  };
  return {
    async [`${name} is killed`]() {
      const part = chosen();
      await part.kill();
      await sleep(random() * 1500 * span); // How long it is away.
      await part.start();
    },
    async [`${name} is paused`]() {
      const part = chosen();
      await part.pause();
      await sleep((200 + random() * 4000) * span); // How long it stands still.
      await part.goOn();
    },
  };
}

/** What can happen to a Redis. */
export function faultsOfRedis(redis, random, span = 1) {
  return {
    ...faultsOf("Redis", () => ({ ...redis, goOn: redis.resume }), random, span),
    async "connections to Redis are cut"() {
      for (const kind of ["normal", "pubsub"]) await redis.command("CLIENT", "KILL", "TYPE", kind);
      await sleep(200); // Some of them are made again before the next fault.
    },
  };
}

/** What can happen to a NATS. */
export function faultsOfNats(nats, random, span = 1) {
  return faultsOf("NATS", () => ({ ...nats, goOn: nats.resume }), random, span);
}

/**
 * One of these links swallows everything for a while, for `longest` milliseconds at most. What was on its way arrives then, or
 * the connections are broken.
 */
export function partitions(name, links, random, longest) {
  return {
    async [`${name} are partitioned`]() {
      const link = links[Math.floor(random() * links.length)];
      link.swallow();
      await sleep(200 + random() * (longest - 200)); // How long it lasts.
      link.goOn({ isBroken: random() < 0.5 });
    },
  };
}

/** All of these links are slow for a while, half of `longest` milliseconds at least: each chunk takes from 200 to 500 ms. */
export function slowness(name, links, random, longest) {
  return {
    async [`${name} are far apart`]() {
      const delay = 200 + random() * 300;
      for (const link of links) link.slow(delay);
      await sleep(((1 + random()) * longest) / 2); // How long it lasts.
      for (const link of links) link.slow(0);
    },
  };
}

/** The standby of a broker takes its place, to which these links lead from then on. */
export function failover(name, broker, links, random, span = 1) {
  return {
    async [`${name} fails over`]() {
      assertRunning(name, broker);
      const address = await broker.failOver(async () => {
        await sleep(random() * 1500 * span); // How long it takes until somebody notices.
      });
      for (const link of links) link.restore(`http://${address}`);
    },
  };
}

/** Something is away for longer than nodes are silent until others take them for gone, which is ten seconds. */
export function longOutage(name, part, random) {
  return {
    async [`${name} is away for long`]() {
      assertRunning(name, part);
      await part.kill();
      await sleep(10_500 + random() * 1500); // How long it is away.
      await part.start();
    },
  };
}

/** What can happen to its database. */
export function faultsOfPostgres(postgres, random, span = 1) {
  const some = () => postgres.backends().filter(() => random() < 0.6);
  return {
    ...faultsOf("PostgreSQL", () => postgres, random, span),
    async "PostgreSQL is stopped"() {
      await postgres.stop();
      await sleep(random() * 1500 * span); // How long it is away.
      await postgres.start();
    },
    async "a process of PostgreSQL crashes"() {
      const [backend] = postgres.backends().sort(() => random() - 0.5);
      if (backend) postgres.crash(backend);
      await sleep(500); // PostgreSQL ends all its processes and recovers meanwhile.
    },
    async "connections are ended"() {
      postgres.disconnect(some());
      await sleep(200); // Some of them are made again before the next fault.
    },
  };
}

/**
 * Lets things happen for some seconds, each kind once before any comes again, sometimes two at once, which are of different
 * groups: each of `groups` is what can happen to one part. Returns how often each happened.
 */
export async function rage(seconds, random, groups, span = 1) {
  const end = Date.now() + seconds * 1000;
  const all = Object.assign({}, ...groups);
  const happened = Object.fromEntries(Object.keys(all).map((name) => [name, 0]));
  const happen = (name) => {
    happened[name] += 1;
    return all[name]();
  };
  const groupOf = (name) => groups.findIndex((group) => name in group);
  let deck = [];
  // In a short time more comes at once.
  const together = span < 1 ? 0.5 : 0.3;
  const isComplete = () => Object.values(happened).every((times) => times > 0);
  while (Date.now() < end || !isComplete()) {
    if (deck.length === 0) deck = Object.keys(all).sort(() => random() - 0.5);
    const first = deck.pop();
    const other = random() < together ? deck.findLastIndex((name) => groupOf(name) !== groupOf(first)) : -1;
    // The second fault begins somewhere within the first.
    const [second] = other === -1 ? [] : deck.splice(other, 1);
    const meanwhile = second && sleep(random() * 1000 * span).then(() => happen(second)); // How far the first has come.
    // What has begun ends, so that nothing is started behind a test that has failed.
    const outcomes = await Promise.allSettled([happen(first), meanwhile]);
    for (const { status, reason } of outcomes) if (status === "rejected") throw reason;
    await sleep((300 + random() * 1200) * span); // The members recover, or do not quite.
  }
  return happened;
}
