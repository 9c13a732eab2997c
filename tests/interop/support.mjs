// Starts our servers for tests of stock clients, and waits for events with a deadline.
import { spawn, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { io as v4 } from "socket.io-client";
import v3 from "socket.io-client-v3";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const built = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug");

/** Only decides how long a failing test waits: longer than a busy machine stands still, and shorter than a test may take. */
export const DEADLINE = 60_000;

/** The majors of the official client that speak the server's revision. */
export const clients = [
  ["socket.io-client 4", v4],
  ["socket.io-client 3", v3.io],
];

/** Runs a program until it says where it listens: until `address` finds that in a line. */
async function start(command, args, env, address) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const ended = new Promise((done) => child.once("close", done));
  child.stderr.on("data", (data) => (output += data));
  const url = await within(
    new Promise((done, fail) => {
      child.once("error", fail);
      ended.then(() => fail(new Error(`${command} ended\n${output}`)));
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on("line", (line) => {
          output += `${line}\n`;
          const found = address(line);
          if (found) done(`http://${found}`);
        });
      }
    }),
    () => `${command} to listen\n${output}`,
  ).catch((error) => {
    child.kill("SIGKILL");
    throw error;
  });
  /** Ends the process and returns its exit code, or the signal that killed it. */
  const stop = async (signal = "SIGTERM") => {
    child.kill(signal);
    await within(ended, () => `${command} to stop\n${output}`);
    return child.exitCode ?? child.signalCode;
  };
  return { url, stop, output: () => output, pid: child.pid };
}

/** Where an example was built. */
export const example = (name) => join(built, "examples", name);

/** What tests ask of a server beyond its contract: its listeners have names, and clients on a busy machine have time for a pong. */
const beyond = { LISTENER_NAMES: "1" };
const patient = { ...beyond, PING_TIMEOUT_MS: "20000" };

/** One of the contract servers; `TEST_SERVER_<NAME>` in the environment names another to compare with. */
export function startExample(name, env = {}) {
  const line = process.env[`TEST_SERVER_${name.toUpperCase()}`] ?? example(name);
  const [command, ...args] = line.split(" ");
  const others = new Set();
  const main = (text) => {
    const [, name, address] = /^(.+) on (127\.0\.0\.1:\d+)$/.exec(text) ?? [];
    if (name === "listening") return others.has(address) ? undefined : address;
    others.add(address);
    return undefined;
  };
  return start(command, args, { PORT: "0", ...(name === "interop" ? patient : beyond), ...env }, main);
}

/** A server `interop` of this name, as one node of a cluster. */
export async function startNamed(name, env) {
  return { name, ...(await startExample("interop", { NODE_NAME: name, ...env })) };
}

/** How many lasting ports this process has looked at. */
let looked = 0;

/** Whether this process has a port to itself until it ends: it holds the UDP port of that number, which no server uses. */
function claim(port) {
  const holder = createSocket({ type: "udp4", exclusive: true });
  holder.unref();
  return new Promise((done) => {
    holder.once("error", () => holder.close(() => done(false)));
    holder.bind({ port, address: "127.0.0.1", exclusive: true }, () => done(true));
  });
}

/**
 * A free port that stays free while a server restarts: below those that others are given who ask for any. Each
 * process begins with others, gives none twice, and none that another test holds whose server is down at the moment.
 */
export async function lastingPort() {
  for (;;) {
    const port = 20_000 + (((process.pid % 500) * 20 + looked++) % 10_000);
    if (!(await claim(port))) continue;
    const server = createServer();
    const free = await new Promise((done) => {
      server.once("error", () => done(false));
      server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
    });
    if (free) return port;
  }
}

/** Tests act faster than people do. */
const unlimited = {
  ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "0",
  ROOMCAST_LIMITS__TYPING_PER_SECOND: "0",
  ROOMCAST_LIMITS__CHANGES_PER_MINUTE: "0",
  ROOMCAST_LIMITS__REQUESTS_PER_SECOND: "0",
  ROOMCAST_LIMITS__JOINS_PER_ADDRESS: "0",
  ROOMCAST_LIMITS__JOINS_PER_USER: "0",
  ROOMCAST_ENGINE__JOINS_PER_MINUTE: "0",
};

/** What tests of this process write; it ends with the process, when no server writes there any more. */
const folders = mkdtempSync(join(tmpdir(), "roomcast-tests-"));
process.on("exit", () => rmSync(folders, { recursive: true, force: true, maxRetries: 5 }));

/** A folder of its own, which ends with the process: a server that is still there may write to it. */
export const temporary = () => mkdtempSync(join(folders, "own-"));

/** Where the development key of the servers under test is, and nothing else's. */
const state = temporary();

/** The server's program. */
const roomcast = join(built, "roomcast");

/** Where the servers of this process serve their metrics, by where they listen. */
const admins = new Map();

/** The server itself, as a user starts it, in development profile, without limits on events. `admin` is where it serves its metrics. */
export async function startServer(env = {}, program = roomcast) {
  const listening = { ROOMCAST_LISTEN: "127.0.0.1:0", ROOMCAST_STORE: "memory:", NO_COLOR: "1" };
  // An earlier version does not know this key.
  if (program === roomcast) listening.ROOMCAST_SERVER__ADMIN_LISTEN = "127.0.0.1:0";
  const variables = { ...listening, XDG_STATE_HOME: state, ...unlimited, ...env };
  let admin;
  const started = await start(program, [], variables, (line) => {
    admin ??= /admin listener ready.*?(http:\/\/127\.0\.0\.1:\d+)/.exec(line)?.[1];
    return /listening.*?(127\.0\.0\.1:\d+)/.exec(line)?.[1];
  });
  admins.set(started.url, admin);
  return { ...started, admin };
}

/** Runs a command of the server's program to its end. */
export function command(args, env = {}) {
  const variables = { ...process.env, XDG_STATE_HOME: state, NO_COLOR: "1", ...env };
  const options = { env: variables, encoding: "utf8", timeout: DEADLINE };
  return spawnSync(join(built, "roomcast"), args, options);
}

/** Whether a process has not ended; one that has, and of which nobody has taken note yet, is a zombie. */
export function isAlive(pid) {
  try {
    // The name, in parentheses, may have anything in it.
    const state = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)[0];
    return state !== "Z" && state !== "X";
  } catch {
    return false;
  }
}

/**
 * Fails when `promise` takes longer than anything takes that is going to happen. `what` says what was waited for: a text, or a
 * function that makes one when the wait has failed.
 */
export function within(promise, what, deadline = DEADLINE) {
  let timer;
  const late = new Promise((_, fail) => {
    const isLate = () => fail(new Error(`waited in vain for ${typeof what === "function" ? what() : what}`));
    timer = setTimeout(isLate, deadline); // The deadline of what is waited for.
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until something is so that no event tells. */
export function until(isSo, what, deadline = DEADLINE) {
  let isOver = false;
  const asking = async () => {
    while (!isOver && !(await isSo())) await sleep(10); // The pace of asking.
  };
  return within(asking(), what, deadline).finally(() => (isOver = true));
}

/** The metrics of a server that listens at this address. */
export async function metricsOf(url) {
  return (await fetch(`${admins.get(url) ?? url}/metrics`)).text();
}

/** The value of a row of a server's metrics. */
export async function metric(url, row) {
  const metrics = await metricsOf(url);
  const line = metrics.split("\n").find((line) => line.startsWith(`${row} `));
  return line === undefined ? undefined : Number(line.slice(row.length));
}

/** Waits until a row of a server's metrics has a value that is expected. */
export function metricIs(url, row, isExpected) {
  let value;
  return until(async () => isExpected((value = await metric(url, row))), () => `${row}, which is ${value}`);
}

/** The arguments of the next `name` event of a socket or manager. */
export function next(emitter, name) {
  return within(new Promise((done) => emitter.once(name, (...args) => done(args))), `event ${name}`);
}

/**
 * Has the `interop` server send an event that may be lost to the socket that asks for it, again and again until one comes: it is lost
 * where something else is on its way, as a ping may be. The arguments that have come.
 */
export async function untilHeard(socket, name, ...args) {
  let heard;
  socket.once(name, (...values) => (heard = values));
  await until(async () => {
    socket.emit("volatile", name, ...args);
    await ask(socket, "echo", 0);
    return heard !== undefined;
  }, `an event ${name} that may be lost`);
  return heard;
}

/** What comes of an attempt to connect: nothing if it succeeds, or the error. */
export function outcome(socket) {
  const told = new Promise((done) => {
    socket.once("connect", () => done(undefined));
    socket.once("connect_error", done);
  });
  return within(told, "connect or a refusal");
}

/** Emits and waits for the acknowledgement: its only argument, or the list of them. */
export function ask(socket, name, ...args) {
  const answered = new Promise((done) => socket.emit(name, ...args, (...values) => done(values)));
  return within(answered, `the answer to ${name}`).then((values) => (values.length > 1 ? values : values[0]));
}

/**
 * Connects and waits for it. The socket ends with the test; it never shares a connection unless
 * `options.forceNew` says so, and does not connect again unless `options.reconnection` does.
 */
export async function connect(test, io, url, options = {}) {
  const socket = open(test, io, url, options);
  const error = await outcome(socket);
  if (error) throw error;
  return socket;
}

/** Starts to connect. */
export function open(test, io, url, options = {}) {
  const socket = io(url, { forceNew: true, reconnection: false, ...options });
  test.after(() => {
    socket.disconnect();
    // Other namespaces of the connection would bring it back for ever.
    socket.io.reconnection(false);
  });
  return socket;
}
