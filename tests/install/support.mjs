// Runs programs for the tests of the installation, and listens as a service manager does.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { until as eventually } from "../interop/processes.mjs";

export const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
export const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");

/** Decides only how long a failing test waits. */
const DEADLINE = 120_000;

/** Returns the text of a file of the repository. */
export const read = (path) => readFileSync(join(root, path), "utf8");

/** Runs a program to its end. */
export function run(command, args, options = {}) {
  const { status, signal, error, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 28, ...options });
  if (error) throw error;
  return { status: status ?? signal, stdout, stderr, output: stdout + stderr };
}

/** Runs a program that must succeed, and returns its standard output. */
export function must(command, args, options) {
  const { status, stdout, output } = run(command, args, options);
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${output}`);
  return stdout.trim();
}

/** Waits until a condition holds. */
export const until = (holds, what) => eventually(holds, what, DEADLINE);

/** Prints each notification that it receives at a path. Node has no datagrams on such sockets. */
const LISTENER = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
print("bound", flush=True)
while True:
    print(s.recv(4096).decode().split("\\n")[0], flush=True)
`;

/** Listens at a path as systemd does. */
export async function serviceManager(t, path) {
  const child = spawn("python3", ["-c", LISTENER, path], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const states = [];
  createInterface({ input: child.stdout }).on("line", (line) => states.push(line));
  await until(() => states.includes("bound"), "a socket for notifications");
  return {
    /** Waits for a notification. */
    receives: (state, output = () => "") => until(() => states.includes(state), () => `${state}: ${states}\n${output()}`),
    states,
  };
}

/** Starts a program whose output is kept, and which is killed at the end of the test. */
export function start(t, command, args, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data));
  const ended = once(child, "close");
  t.after(() => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    // A program that was started by the child would survive it.
    process.kill(innermost(child.pid), "SIGKILL");
    child.kill("SIGKILL");
  });
  return { pid: child.pid, output: () => output, ended: async () => ((await ended), child.exitCode ?? child.signalCode) };
}

/** Returns the process that `pid` was started for: its first child without children. */
export function innermost(pid) {
  for (;;) {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    if (!children) return pid;
    pid = Number(children.split(" ")[0]);
  }
}

/** The unit: all values of each key, by section. */
export function unit() {
  const sections = {};
  let section;
  for (const line of read("deploy/systemd/roomcast.service").split("\n")) {
    const name = /^\[(\w+)\]$/.exec(line)?.[1];
    if (name) section = sections[name] = {};
    const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (key) (section[key] ??= []).push(value);
  }
  return sections;
}

/** The built program: the one that is shipped if it exists. */
export const shipped = () => {
  const path = join(target, "shipped/roomcast");
  assert.ok(existsSync(path), `${path} does not exist: run deploy/dist`);
  return path;
};
