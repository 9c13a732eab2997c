// What goes wrong: a server and its database that are killed, crashed and paused, by a seed.
import { setTimeout as sleep } from "node:timers/promises";
import { startServer } from "./support.mjs";

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

  constructor(env) {
    this.#env = env;
  }

  /** Starts it, however often that takes: without its database it gives up. */
  async start() {
    for (let tries = 30; ; tries--) {
      try {
        this.#running = await startServer(this.#env);
        return this.#running;
      } catch (error) {
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
    try {
      return process.kill(this.#running.pid, 0);
    } catch {
      return false;
    }
  }

  output() {
    return this.#running?.output() ?? "";
  }
}

/** What can happen to a server: each ends with everything running again. */
export function faultsOfServer(server, random) {
  return {
    async "the server is killed"() {
      await server.kill();
      await sleep(random() * 1000); // How long it is away.
      await server.start();
    },
    async "the server is paused"() {
      server.pause();
      await sleep(200 + random() * 3500); // How long it stands still.
      server.goOn();
    },
  };
}

/** What can happen to its database. */
export function faultsOfPostgres(postgres, random) {
  const some = () => postgres.backends().filter(() => random() < 0.6);
  return {
    async "PostgreSQL is killed"() {
      await postgres.kill();
      await sleep(random() * 1500); // How long it is away.
      await postgres.start();
    },
    async "PostgreSQL is stopped"() {
      await postgres.stop();
      await sleep(random() * 1500); // How long it is away.
      await postgres.start();
    },
    async "PostgreSQL is paused"() {
      postgres.pause();
      await sleep(200 + random() * 4000); // How long it stands still.
      postgres.goOn();
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
 * Lets things happen for some seconds, each kind once before any comes again, sometimes one to the server
 * and one to the database at once. Returns how often each happened.
 */
export async function rage(seconds, random, ofServer, ofDatabase) {
  const end = Date.now() + seconds * 1000;
  const all = { ...ofServer, ...ofDatabase };
  const happened = Object.fromEntries(Object.keys(all).map((name) => [name, 0]));
  const happen = (name) => {
    happened[name] += 1;
    return all[name]();
  };
  const pick = (names) => names[Math.floor(random() * names.length)];
  let deck = [];
  const isComplete = () => Object.values(happened).every((times) => times > 0);
  while (Date.now() < end || !isComplete()) {
    if (deck.length === 0) deck = Object.keys(all).sort(() => random() - 0.5);
    const name = deck.pop();
    const others = Object.keys(name in ofServer ? ofDatabase : ofServer);
    const both = others.length > 0 && random() < 0.25;
    // The second fault begins somewhere within the first.
    const second = both && sleep(random() * 1000).then(() => happen(pick(others)));
    await Promise.all([happen(name), second]);
    await sleep(300 + random() * 1200); // The members recover, or do not quite.
  }
  return happened;
}
