// Faults chosen by a seed: servers and what they need are killed, crashed and suspended, and the
// network between them drops everything.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { startServer, until } from "./support.mjs";

/** Returns a generator of numbers from 0 to 1, determined by a seed (mulberry32). */
export function randomness(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A server that is restarted whenever it has ended. */
export class Supervised {
  #env;
  #running;
  /** Its output before its last start. */
  #before = "";

  constructor(env) {
    this.#env = env;
  }

  /** Starts it, repeatedly if needed: without its database it gives up. */
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
        await sleep(100); // Retry interval of a supervisor.
      }
    }
  }

  async kill() {
    await this.#running.stop("SIGKILL");
  }

  /** Stops it regularly, so that it closes its connections. */
  async stop() {
    return this.#running.stop();
  }

  /** Makes it read its configuration again, and waits until it has. */
  async reload() {
    const start = this.#running.output().length;
    this.#running.kill("SIGHUP");
    const log = () => this.#running.output().slice(start);
    await until(() => /configuration reloaded|nothing has changed/.test(log()), () => `a reload in\n${log()}`);
  }

  pause() {
    return this.#running.pause();
  }

  resume() {
    this.#running.resume();
  }

  /** Returns whether it has not ended since it was started. */
  isRunning() {
    return this.#running?.isRunning() ?? false;
  }

  /** Returns its output since its first start. */
  output() {
    return this.#before + (this.#running?.output() ?? "");
  }
}

/** Fails if a part that should be running has ended. */
export function assertRunning(name, part) {
  assert.ok(part.isRunning(), `${name} has ended, and nobody had killed it\n${part.output?.().slice(-4000)}`);
}

/**
 * Returns the faults of a process chosen by `choose`, which can be killed, started, suspended and
 * resumed. After each fault everything runs again. `span` multiplies the times.
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
      await sleep(random() * 1500 * span); // Duration of the outage.
      await part.start();
    },
    async [`${name} is paused`]() {
      const part = chosen();
      await part.pause();
      await sleep((200 + random() * 4000) * span); // Duration of the suspension.
      await part.resume();
    },
  };
}

/** Returns the faults of a Redis. */
export function faultsOfRedis(redis, random, span = 1) {
  return {
    ...faultsOf("Redis", () => redis, random, span),
    async "connections to Redis are cut"() {
      for (const kind of ["normal", "pubsub"]) await redis.command("CLIENT", "KILL", "TYPE", kind);
      await sleep(200); // Some connections are made again before the next fault.
    },
  };
}

/** Returns the faults of a NATS server. */
export function faultsOfNats(nats, random, span = 1) {
  return faultsOf("NATS", () => nats, random, span);
}

/**
 * Makes one of these links drop everything for at most `longest` milliseconds. Afterwards data in
 * flight arrives, or the connections are broken.
 */
export function partitions(name, links, random, longest) {
  return {
    async [`${name} are partitioned`]() {
      const link = links[Math.floor(random() * links.length)];
      link.swallow();
      await sleep(200 + random() * (longest - 200)); // Duration of the fault.
      link.resume({ isBroken: random() < 0.5 });
    },
  };
}

/**
 * Makes all of these links slow for half of `longest` milliseconds at least: each chunk takes from
 * 200 to 500 ms.
 */
export function slowness(name, links, random, longest) {
  return {
    async [`${name} are far apart`]() {
      const delay = 200 + random() * 300;
      for (const link of links) link.slow(delay);
      await sleep(((1 + random()) * longest) / 2); // Duration of the fault.
      for (const link of links) link.slow(0);
    },
  };
}

/** Makes the standby of a broker replace it, and redirects these links to the standby. */
export function failover(name, broker, links, random, span = 1) {
  return {
    async [`${name} fails over`]() {
      assertRunning(name, broker);
      const address = await broker.failOver(async () => {
        await sleep(random() * 1500 * span); // Time until the failure is noticed.
      });
      for (const link of links) link.restore(`http://${address}`);
    },
  };
}

/**
 * Takes a part down for longer than the ten seconds after which nodes consider each other expired.
 */
export function longOutage(name, part, random) {
  return {
    async [`${name} is away for long`]() {
      assertRunning(name, part);
      await part.kill();
      await sleep(10_500 + random() * 1500); // Duration of the outage.
      await part.start();
    },
  };
}

/** Returns the faults of the server's database. */
export function faultsOfPostgres(postgres, random, span = 1) {
  const some = () => postgres.backends().filter(() => random() < 0.6);
  return {
    ...faultsOf("PostgreSQL", () => postgres, random, span),
    async "PostgreSQL is stopped"() {
      await postgres.stop();
      await sleep(random() * 1500 * span); // Duration of the outage.
      await postgres.start();
    },
    async "a process of PostgreSQL crashes"() {
      const [backend] = postgres.backends().sort(() => random() - 0.5);
      if (backend) postgres.crash(backend);
      await sleep(500); // PostgreSQL ends all its processes and recovers.
    },
    async "connections are ended"() {
      postgres.disconnect(some());
      await sleep(200); // Some connections are made again before the next fault.
    },
  };
}

/**
 * Causes faults for some seconds: each kind once before any is repeated, sometimes two at the same
 * time from different groups. Each of `groups` has the faults of one part. Returns how often each
 * fault happened.
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
  // In a short run more faults coincide.
  const together = span < 1 ? 0.5 : 0.3;
  const isComplete = () => Object.values(happened).every((times) => times > 0);
  while (Date.now() < end || !isComplete()) {
    if (deck.length === 0) deck = Object.keys(all).sort(() => random() - 0.5);
    const first = deck.pop();
    const other = random() < together ? deck.findLastIndex((name) => groupOf(name) !== groupOf(first)) : -1;
    // The second fault starts at some time within the first.
    const [second] = other === -1 ? [] : deck.splice(other, 1);
    const meanwhile = second && sleep(random() * 1000 * span).then(() => happen(second)); // Into the first fault.
    // All faults end, so that nothing is started after a test that has failed.
    const outcomes = await Promise.allSettled([happen(first), meanwhile]);
    for (const { status, reason } of outcomes) if (status === "rejected") throw reason;
    await sleep((300 + random() * 1200) * span); // The members recover, maybe not completely.
  }
  return happened;
}
