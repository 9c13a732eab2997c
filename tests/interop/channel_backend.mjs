// Kinds of channels, a backend that decides who may follow them, and clients and a service that use
// them.
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { call, enter, server } from "./people.mjs";
import { ask, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";

export const KINDS = `
[channels.orders]
pattern = "orders:{customer}:{order}"
follow = ["ask"]
publish = ["services", "followers"]

[channels.shared]
pattern = "shared:{customer}"
follow = ["ask", "owner:{customer}"]

[channels.desk]
pattern = "desk:{n}"
follow = ["ask", "token"]
presence = true

[channels.rooms]
pattern = "rooms:{n}"
follow = ["services"]
presence = true

[channels.live]
pattern = "live:{n}"
follow = ["anyone"]
publish = ["services", "followers"]
history = "none"

[channels.score]
pattern = "score:{n}"
follow = ["anyone"]
history = "last"
`;
export const SECRET = "a secret of a backend, of more than thirty-two bytes";
export const ORDER = "orders:7:42";
export const MISSING = "nothing:1";
export const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
export const service = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;
export const simple = `Bearer ${token({ sub: "7", roles: ["user"] })}`;

export const YES = { follow: true, expiresIn: 3600 };
/** Returns an answer of the backend: a function that sends it. */
export const reply = (body, status = 200, headers = {}) => (response) =>
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(typeof body === "string" ? body : JSON.stringify(body));
export const yes = (expiresIn = 3600) => reply({ follow: true, expiresIn });
export const no = (expiresIn = 3600) => reply({ follow: false, expiresIn });

/**
 * Starts a backend that records requests. Tests replace `answer`, which takes the response and the
 * body of the request. As an answer, `hold` retains the response until `release` answers it.
 */
export async function startBackend(t) {
  const backend = { asked: [], held: [], most: 0, connections: 0, answer: yes() };
  const http = createServer((request, response) => {
    const [at, chunks] = [performance.now(), []];
    // The server closes the connection during a body that is too large.
    response.on("error", () => {});
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const { method, url, headers } = request;
      const body = Buffer.concat(chunks);
      const json = JSON.parse(String(body) || "{}");
      backend.asked.push({ at, method, url, headers, body, json });
      backend.answer(response, json);
    });
  });
  http.on("connection", () => (backend.connections += 1));
  await once(http.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    http.closeAllConnections();
    http.close();
  });
  return Object.assign(backend, {
    url: `http://127.0.0.1:${http.address().port}/rights`,
    hold: (response) => (backend.most = Math.max(backend.most, backend.held.push(response))),
    release(answer) {
      backend.answer = answer;
      for (const response of backend.held.splice(0)) answer(response);
    },
    about: (channel) => backend.asked.filter(({ json }) => json.channel === channel),
    /** Returns the users about whom requests for a channel were. */
    users: (channel) => backend.about(channel).map(({ json }) => json.user.id),
  });
}

/** Writes a configuration with the kinds. Returns its path. */
export function configured(more = "") {
  const config = join(temporary(), "roomcast.toml");
  writeFileSync(config, KINDS + more);
  return config;
}

export const asking = (url, env = {}) => ({
  ROOMCAST_CONFIG: configured(),
  ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0",
  ROOMCAST_ASK__URL: url,
  ROOMCAST_ASK__SECRET: SECRET,
  ROOMCAST_ASK__ALLOW_PRIVATE: "true",
  ROOMCAST_ASK__TIMEOUT: "30s",
  ...env,
});

/** Starts a backend and a server that asks it. */
export async function withBackend(t, env) {
  const backend = await startBackend(t);
  const started = await server(t, asking(backend.url, env));
  return { backend, started, url: started.url };
}

/** Replaces a configuration, lets a server read it again, and waits for a line of its log. */
export async function reload(started, config, text, expected) {
  const start = started.output().length;
  writeFileSync(config, text);
  started.kill("SIGHUP");
  const log = () => started.output().slice(start);
  await until(() => expected.test(log()), () => `${expected} in\n${log()}`);
}

export async function user(t, url, sub, claims = {}) {
  const auth = { token: token({ sub, roles: ["user"], ...claims }) };
  return (await enter(t, url, { auth, transports: ["websocket"] })).socket;
}

export async function must(socket, event, request) {
  const answer = await ask(socket, event, request);
  assert.equal(answer.success, true, `${event}: ${JSON.stringify(answer)}`);
  return answer;
}

export const follow = (socket, channel) => must(socket, "channel:subscribe", { channel });

/** Repeats a subscription until it succeeds. */
export async function followLater(socket, request) {
  let answer;
  await until(async () => (answer = await ask(socket, "channel:subscribe", request)).success, () => JSON.stringify(answer));
  return answer;
}

/** Returns the list of what a socket receives later: numbers of events, and ends of channels. */
export function record(socket) {
  const seen = [];
  socket.on("changed", ({ n }) => seen.push(n));
  socket.on("channel:ended", ({ channel, reason }) => seen.push(`${channel} ${reason}`));
  return seen;
}

/** Waits for an answer, which follows everything that was sent to the socket before. */
export const settle = (socket) => must(socket, "channel:history", { channel: "live:1" });

export const event = (n) => ({ event: "changed", data: { n }, id: `${n}` });
export const path = (channel, what) => `/api/v1/channels/${channel}/${what}`;
export const revoke = (url, channel, body, caller = service) => call(url, "POST", path(channel, "revoke"), body, caller);

export async function publish(url, channel, n) {
  const { status, body } = await call(url, "POST", path(channel, "events"), event(n), service);
  assert.equal(status, 200, JSON.stringify(body));
  return body.position;
}
