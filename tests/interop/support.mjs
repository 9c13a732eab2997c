// Starts Roomcast servers for tests of stock clients, and waits for events with a deadline.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { io as v4 } from "socket.io-client";
import v3 from "socket.io-client-v3";
import { DEADLINE, launch, until, within } from "./processes.mjs";

export { lastingPort, until, within } from "./processes.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const built = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug");

/** The major versions of the official client that use the server's protocol revision. */
export const clients = [
  ["socket.io-client 4", v4],
  ["socket.io-client 3", v3.io],
];

/** Runs a program until it prints its address, which `address` finds in a line. */
async function start(command, args, env, address) {
  const program = launch(command, args, { env });
  const found = program.found(address, "listen").catch((error) => {
    program.kill();
    throw error;
  });
  return { ...program, url: `http://${await found}` };
}

/** Returns the path of a built example. */
export const example = (name) => join(built, "examples", name);

/**
 * Settings that tests need beyond the contract of a server: its listeners have names, and clients
 * on a busy machine have time for a pong.
 */
const beyond = { LISTENER_NAMES: "1" };
const patient = { ...beyond, PING_TIMEOUT_MS: "20000" };

/**
 * Starts a contract server; `TEST_SERVER_<NAME>` in the environment names another to compare with.
 */
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

/** Starts an `interop` server of this name, as one node of a cluster. */
export async function startNamed(name, env) {
  return { name, ...(await startExample("interop", { NODE_NAME: name, ...env })) };
}

/** Tests act faster than people do. */
const unlimited = {
  ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "0",
  ROOMCAST_LIMITS__TYPING_PER_SECOND: "0",
  ROOMCAST_LIMITS__CHANGES_PER_MINUTE: "0",
  ROOMCAST_LIMITS__CHANNEL_EVENTS_PER_MINUTE: "0",
  ROOMCAST_LIMITS__REQUESTS_PER_SECOND: "0",
  ROOMCAST_LIMITS__JOINS_PER_ADDRESS: "0",
  ROOMCAST_LIMITS__JOINS_PER_USER: "0",
  ROOMCAST_ENGINE__JOINS_PER_MINUTE: "0",
};

/** The files of this process, removed when it ends, when no server writes there any more. */
const folders = mkdtempSync(join(tmpdir(), "roomcast-tests-"));
process.on("exit", () => rmSync(folders, { recursive: true, force: true, maxRetries: 5 }));

/**
 * Creates a folder, removed when the process ends: a server that is still running may write to it.
 */
export const temporary = () => mkdtempSync(join(folders, "own-"));

/** The folder of only the development key of the servers under test. */
const state = temporary();

/** The server's program. */
const roomcast = join(built, "roomcast");
export { roomcast as program };

/** The addresses of metrics, by the addresses of the servers of this process. */
const admins = new Map();

/**
 * Starts the server as a user would, in the development profile, without limits on events. `admin`
 * is the address of its metrics.
 */
export async function startServer(env = {}, program = roomcast) {
  const listening = { ROOMCAST_LISTEN: "127.0.0.1:0", ROOMCAST_SERVER__ADMIN_LISTEN: "127.0.0.1:0", ROOMCAST_STORE: "memory:", NO_COLOR: "1" };
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
  return spawnSync(roomcast, args, options);
}

/** Returns the metrics of the server at this address. */
export async function metricsOf(url) {
  return (await fetch(`${admins.get(url) ?? url}/metrics`)).text();
}

/** Returns the value of a row of a server's metrics. */
export async function metric(url, row) {
  const metrics = await metricsOf(url);
  const line = metrics.split("\n").find((line) => line.startsWith(`${row} `));
  return line === undefined ? undefined : Number(line.slice(row.length));
}

/** Waits until a row of a server's metrics has an expected value. */
export function metricIs(url, row, isExpected) {
  let value;
  return until(async () => isExpected((value = await metric(url, row))), () => `${row}, which is ${value}`);
}

/** Returns the arguments of the next `name` event of a socket or manager. */
export function next(emitter, name) {
  return within(new Promise((done) => emitter.once(name, (...args) => done(args))), `event ${name}`);
}

/**
 * Makes the `interop` server send a volatile event to the requesting socket, repeatedly until one
 * arrives. It is lost if another packet is in flight, such as a ping. Returns its arguments.
 */
export async function untilReceived(socket, name, ...args) {
  let received;
  socket.once(name, (...values) => (received = values));
  await until(async () => {
    socket.emit("volatile", name, ...args);
    await ask(socket, "echo", 0);
    return received !== undefined;
  }, `an event ${name} that may be lost`);
  return received;
}

/** Returns the outcome of an attempt to connect: nothing if it succeeds, or the error. */
export function outcome(socket) {
  const connected = new Promise((done) => {
    socket.once("connect", () => done(undefined));
    socket.once("connect_error", done);
  });
  return within(connected, "connect or a refusal");
}

/** Emits and waits for the acknowledgement: its only argument, or the list of arguments. */
export function ask(socket, name, ...args) {
  const answered = new Promise((done) => socket.emit(name, ...args, (...values) => done(values)));
  return within(answered, `the answer to ${name}`).then((values) => (values.length > 1 ? values : values[0]));
}

/**
 * Connects and waits for the connection. The socket ends with the test. It never shares a
 * connection unless `options.forceNew` is false, and reconnects only with `options.reconnection`.
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
    // Other namespaces of the connection would reconnect it forever.
    socket.io.reconnection(false);
  });
  return socket;
}
