// Starts the programs of the tests, reads what they print, and ends them.
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

/**
 * Decides only how long a failing test waits: longer than a busy machine stalls, and shorter than a
 * test may take.
 */
export const DEADLINE = 60_000;

/**
 * Fails when `promise` takes longer than anything that is going to happen. `what` describes it: a
 * text, or a function that returns one when the wait has failed.
 */
export function within(promise, what, deadline = DEADLINE) {
  let timer;
  const late = new Promise((_, fail) => {
    const isLate = () => fail(new Error(`waited in vain for ${typeof what === "function" ? what() : what}`));
    timer = setTimeout(isLate, deadline); // The deadline of the wait.
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until a condition holds that no event reports. */
export function until(isSo, what, deadline = DEADLINE) {
  let isOver = false;
  const asking = async () => {
    while (!isOver && !(await isSo())) await sleep(10); // Poll interval.
  };
  return within(asking(), what, deadline).finally(() => (isOver = true));
}

/**
 * Suspends processes, and waits until the system reports all their threads as stopped: they run
 * until the thread that gets the signal is scheduled. A process that has ended counts as stopped.
 */
export async function suspend(...pids) {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGSTOP");
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
  }
  const running = () => pids.flatMap(runningThreads);
  await until(() => running().length === 0, () => `these threads to stop: ${running()}`);
}

/** Returns the threads of a process that are neither stopped nor ended. */
function runningThreads(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`).filter((thread) => !"TtZX".includes(stateOf(`${pid}/task/${thread}`)));
  } catch (error) {
    if (error.code !== "ENOENT" && error.code !== "ESRCH") throw error;
    return [];
  }
}

/** Returns the state of a process or thread in proc(5), or `X` if it does not exist. */
function stateOf(id) {
  try {
    // The name, in parentheses, can contain any character.
    return readFileSync(`/proc/${id}/stat`, "utf8").split(") ").at(-1)[0];
  } catch (error) {
    if (error.code !== "ENOENT" && error.code !== "ESRCH") throw error;
    return "X";
  }
}

/**
 * Starts a program. `options` are those of `spawn`, whose `env` is added to that of this process,
 * and `input`, which the program reads from its standard input.
 */
export function launch(command, args, { env, input, isInteractive = input !== undefined, ...options } = {}) {
  const stdio = [isInteractive ? "pipe" : "ignore", "pipe", "pipe"];
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio, ...options });
  if (input !== undefined) child.stdin.end(input);
  let output = "";
  /** Lines of standard output that no test has read yet. */
  const unread = [];
  const readers = new Set();
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      output += `${line}\n`;
      if (stream === child.stdout) unread.push(line);
      for (const read of readers) read(line);
    });
  }
  child.once("error", (error) => (output += error));
  const ended = new Promise((done) => child.once("close", () => done(child.exitCode ?? child.signalCode)));
  const shown = (what) => () => `${command} to ${what}\n${output}`;
  /**
   * Waits for a value that `find` returns for a line, now or in future. Fails if the program ends.
   */
  const found = (find, what, deadline) => {
    let read;
    const waiting = new Promise((done, fail) => {
      read = (line) => {
        const value = find(line);
        if (value !== undefined) done(value);
      };
      readers.add(read);
      ended.then((code) => fail(new Error(`${command} ended with ${code}\n${output}`)));
    });
    return within(waiting, shown(what), deadline).finally(() => readers.delete(read));
  };
  return {
    pid: child.pid,
    found,
    /** Resolves to the exit code, or the signal that killed the program. */
    ended,
    output: () => output,
    /** Returns the next line of standard output. */
    async line(what = "print a line", deadline = DEADLINE) {
      if (unread.length === 0) await found(() => unread[0], what, deadline);
      return unread.shift();
    },
    write: (text) => child.stdin.write(text),
    closeInput: () => child.stdin.end(),
    isRunning: () => child.exitCode === null && child.signalCode === null,
    kill: (signal = "SIGKILL") => child.kill(signal),
    pause: () => suspend(child.pid),
    resume: () => child.kill("SIGCONT"),
    /** Ends the program, and returns its exit code or the signal that killed it. */
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      // A suspended process handles the signal only after it resumes.
      child.kill("SIGCONT");
      return within(ended, shown("stop"));
    },
  };
}

/** How many lasting ports this process has tried. */
let triedPorts = 0;

/**
 * Reserves a port for this process until it ends: it binds the UDP port of that number, which no
 * server uses.
 */
function claim(port) {
  const holder = createSocket({ type: "udp4", exclusive: true });
  holder.unref();
  return new Promise((done) => {
    holder.once("error", () => holder.close(() => done(false)));
    holder.bind({ port, address: "127.0.0.1", exclusive: true }, () => done(true));
  });
}

/**
 * Returns a free port that stays free while a server restarts.
 *
 * It is below the range from which the kernel assigns ports. Each process starts elsewhere, returns
 * no port twice, and none that another test has reserved for a server that is down.
 */
export async function lastingPort() {
  for (;;) {
    const port = 20_000 + (((process.pid % 500) * 20 + triedPorts++) % 10_000);
    if (!(await claim(port))) continue;
    const server = createServer();
    const free = await new Promise((done) => {
      server.once("error", () => done(false));
      server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
    });
    if (free) return port;
  }
}

/**
 * Returns whether a process is running. An ended process is a zombie until its parent has waited
 * for it.
 */
function isAlive(pid) {
  return !"ZX".includes(stateOf(pid));
}

/**
 * Starts a private server of `tests/support`, which ends with the process of the test in any case.
 * `OPTIONS` are more options of its command line.
 */
export async function startBroker(name, OPTIONS = "") {
  const script = fileURLToPath(new URL(`../support/${name}.sh`, import.meta.url));
  const port = await lastingPort();
  const supervisor = launch(script, [String(port)], { env: { OPTIONS }, isInteractive: true });
  const tell = async (command, expected) => {
    supervisor.write(`${command}\n`);
    // The time to create a database depends on the disk.
    const answer = await supervisor.line(command, 3 * DEADLINE);
    if (!expected.test(answer)) throw new Error(`${name} does not ${command}: ${answer}`);
    return answer;
  };
  let pid = 0;
  const start = async () => {
    pid = Number((await tell("start", /^ready \d+$/)).split(" ")[1]);
  };
  await start();
  return {
    address: `127.0.0.1:${port}`,
    start,
    pid: () => pid,
    kill: () => tell("kill", /^killed/),
    stop: () => tell("stop", /^stopped/),
    pause: () => suspend(pid),
    resume: () => tell("resume", /^resumed/),
    isRunning: () => isAlive(pid),
    end() {
      supervisor.closeInput();
      return within(supervisor.ended, `${name} to end`);
    },
  };
}
