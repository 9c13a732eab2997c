// A private PostgreSQL for tests of stock clients, which can be killed, crashed, suspended and
// restarted.
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { DEADLINE, isAlive, lastingPort, within } from "./support.mjs";

const script = fileURLToPath(new URL("../support/postgres.sh", import.meta.url));

/** Creates and starts a server, which ends with the process of the test in any case. */
export async function startPostgres() {
  const port = await lastingPort();
  const supervisor = spawn(script, [String(port)], { stdio: ["pipe", "pipe", "pipe"] });
  const lines = createInterface({ input: supervisor.stdout })[Symbol.asyncIterator]();
  let errors = "";
  supervisor.stderr.on("data", (data) => (errors += data));
  const ended = new Promise((done) => supervisor.once("close", done));
  const tell = async (command) => {
    supervisor.stdin.write(`${command}\n`);
    // The time to create a database depends on the disk.
    const { value } = await within(lines.next(), () => `PostgreSQL to ${command}\n${errors}`, 3 * DEADLINE);
    return value ?? `nothing\n${errors}`;
  };

  let pid = 0;
  const start = async () => {
    const answer = await tell("start");
    pid = Number(/^ready (\d+)$/.exec(answer)?.[1]);
    if (!pid) throw new Error(`PostgreSQL does not start: ${answer}`);
  };
  await start();

  /** The processes of the server, including its first. */
  const processes = () => [pid, ...children(pid)];
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
  const backends = () => children(pid).filter((one) => commandLine(one).includes("roomcast"));

  return {
    url: `postgres://roomcast@127.0.0.1:${port}/postgres`,
    start,
    /** Returns whether its first process is running. */
    isRunning: () => isAlive(pid),
    /** Kills all its processes, as a crash of the machine would. */
    async kill() {
      // Suspended first, so that it starts no new processes. Its children would otherwise continue
      // for a moment.
      signal([pid], "SIGSTOP");
      signal(children(pid), "SIGKILL");
      await tell("kill");
    },
    /** Stops it immediately (fast shutdown). */
    stop: () => tell("stop"),
    /** Suspends all its processes: connections stay open, nothing answers. */
    pause: () => signal(processes(), "SIGSTOP"),
    goOn: () => signal(processes(), "SIGCONT"),
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
    async close() {
      signal(processes(), "SIGCONT");
      supervisor.stdin.end();
      await within(ended, () => `PostgreSQL to end\n${errors}`);
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
