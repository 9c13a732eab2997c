// Users who connect to the server, with credentials or without, and the outcome.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { clients, next, open, startServer, until, within } from "./support.mjs";
import { SECRET, token } from "./tokens.mjs";

export const LOBBY = "00000000-0000-4000-8000-000000000001";
export const [[, io]] = clients;
export const keyed = { ROOMCAST_AUTH__JWT__SECRET: SECRET };
const UNAUTHORIZED = { message: "unauthorized", data: { code: "UNAUTHENTICATED" } };
export const admin = (claims = {}) => token({ sub: "root", roles: ["admin"], ...claims });

export async function server(t, env = {}) {
  const started = await startServer({ ...keyed, ...env });
  t.after(async () => {
    await started.stop();
    // What the server logged says why it did not do what a test waited for.
    if (t.error) for (const line of started.output().split("\n").slice(-20)) t.diagnostic(line);
  });
  return started;
}

/** Adds the server's own origin: a cookie is ignored without an origin. */
function ownPage(url, options = {}) {
  if (!options.extraHeaders?.cookie) return options;
  return { ...options, extraHeaders: { origin: url, ...options.extraHeaders } };
}

/** Connects a socket and waits for its session. */
export async function enter(t, url, options) {
  const socket = open(t, io, url, ownPage(url, options));
  const failed = new Promise((_, fail) => socket.once("connect_error", fail));
  const [session] = await Promise.race([next(socket, "session"), failed]);
  return { socket, session };
}

/** Expects the single answer to bad credentials, which reveals nothing. */
export async function refused(t, url, options, what = "") {
  const socket = open(t, io, url, ownPage(url, options));
  const connected = new Promise((_, fail) => socket.once("connect", () => fail(new Error(`${what} was let in`))));
  const [error] = await Promise.race([next(socket, "connect_error"), connected]);
  assert.deepEqual({ message: error.message, data: error.data }, UNAUTHORIZED, what);
}

/** Waits for a line of the log. */
export async function logged(started, pattern) {
  await until(() => pattern.test(started.output()), () => `${pattern} in\n${started.output()}`);
}

export async function call(url, method, path, body, authorization = `Bearer ${admin()}`) {
  const headers = { ...(authorization && { authorization }), ...(body && { "content-type": "application/json" }) };
  const response = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : undefined };
}

/** Returns everything that a socket was sent before its disconnect. */
export function farewell(socket) {
  const told = [];
  socket.on("error", (error) => told.push(error));
  return within(
    new Promise((done) => socket.once("disconnect", (reason) => done({ told, reason }))),
    () => `disconnect, after ${JSON.stringify(told)}`,
  );
}

/** Returns a time that is in the future when a server reads it, and that a test can wait for. */
export function soon() {
  const time = Date.now() + 8_000;
  const isOver = async () => {
    while (Date.now() <= time) await sleep(20); // The test waits for time itself.
  };
  return { time, text: new Date(time).toISOString(), isOver };
}

/** Asserts that a client was sent the reason once, and does not reconnect by itself. */
export function assertRevoked(socket, { told, reason }) {
  assert.deepEqual(
    told.map(({ type, code, status }) => ({ type, code, status })),
    [{ type: "auth", code: "TOKEN_REVOKED", status: 401 }],
  );
  assert.equal(reason, "io server disconnect");
  assert.equal(socket.active, false);
}
