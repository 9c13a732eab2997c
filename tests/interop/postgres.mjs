// A private PostgreSQL for tests of stock clients, which can be killed, crashed, suspended and
// restarted.
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { startBroker, suspend, until } from "./processes.mjs";

/** Creates and starts a server, which ends with the process of the test in any case. */
export async function startPostgres() {
  const broker = await startBroker("postgres");
  const port = broker.address.split(":")[1];

  /** The processes of the server, including its first. */
  const processes = () => [broker.pid(), ...children(broker.pid())];
  const signal = (pids, name) => {
    for (const one of pids) {
      try {
        process.kill(one, name);
      } catch (error) {
        // The process may have ended in the meantime.
        if (error.code !== "ESRCH") throw error;
      }
    }
  };
  /** The processes that serve Roomcast's connections. */
  const backends = () => children(broker.pid()).filter((one) => commandLine(one).includes("roomcast"));

  return {
    url: `postgres://roomcast@127.0.0.1:${port}/postgres`,
    start: broker.start,
    /** Returns whether its first process is running. */
    isRunning: broker.isRunning,
    /** Kills all its processes, as a crash of the machine would. */
    async kill() {
      // Suspended first, so that it starts no new processes. Its children would otherwise continue
      // for a moment.
      await suspend(broker.pid());
      signal(children(broker.pid()), "SIGKILL");
      await broker.kill();
    },
    /** Stops it immediately (fast shutdown). */
    stop: broker.stop,
    /** Suspends all its processes: connections stay open, nothing answers. */
    async pause() {
      // The first is suspended first, so that it starts no new processes.
      await suspend(broker.pid());
      await suspend(...children(broker.pid()));
    },
    resume: () => signal(processes(), "SIGCONT"),
    backends,
    /** Kills the process of one connection: PostgreSQL then ends all others and recovers. */
    crash: (backend) => signal([backend], "SIGKILL"),
    /** Ends connections, as `pg_terminate_backend` does. */
    disconnect: (some) => signal(some, "SIGTERM"),
    /** Returns the rows of a query, each as a list of texts. */
    query(sql) {
      const args = ["-X", "-q", "-A", "-t", "-F", "\t", "-h", "127.0.0.1", "-p", String(port), "-U", "roomcast"];
      const run = spawnSync("psql", [...args, "-d", "postgres", "-c", sql], { encoding: "utf8", maxBuffer: 1 << 28 });
      if (run.status !== 0) throw new Error(`psql: ${run.stderr ?? run.error}`);
      return run.stdout.split("\n").filter(Boolean).map((line) => line.split("\t"));
    },
    /** Locks a table. Returns the function that ends the lock. */
    async lock(test, table) {
      const blocker = spawn("psql", ["-X", "-h", "127.0.0.1", "-p", String(port), "-U", "roomcast", "-d", "postgres"], { stdio: ["pipe", "pipe", "ignore"] });
      test.after(() => blocker.kill());
      let output = "";
      blocker.stdout.on("data", (data) => (output += data));
      blocker.stdin.write(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE;\n`);
      await until(() => output.includes("LOCK TABLE"), "the lock");
      return () => blocker.stdin.end("COMMIT;\n");
    },
    async end() {
      signal(processes(), "SIGCONT");
      await broker.end();
    },
  };
}

/** Returns the child processes of a process. */
function children(parent) {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      // The name, in parentheses, can contain any character.
      const rest = read(`/proc/${name}/stat`).split(") ").at(-1);
      return rest.split(" ")[1] === String(parent);
    })
    .map(Number);
}

function commandLine(pid) {
  return read(`/proc/${pid}/cmdline`).replaceAll("\0", " ");
}

/** Reads a file of a process that may have ended in the meantime. */
function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
