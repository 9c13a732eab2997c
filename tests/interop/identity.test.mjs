// Who gets in, for how long, and what the log says of those who do not: stock clients against the
// server itself.
import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ask, clients, command, connect, next, open, startServer, within } from "./support.mjs";
import { SECRET, forge, now, pair, token } from "./tokens.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const [[, io]] = clients;
const keyed = { ROOMCAST_AUTH__JWT__SECRET: SECRET };
const UNAUTHORIZED = { message: "unauthorized", data: { code: "UNAUTHENTICATED" } };
const admin = (claims = {}) => token({ sub: "root", roles: ["admin"], ...claims });

async function server(t, env = {}) {
  const started = await startServer({ ...keyed, ...env });
  t.after(() => started.stop());
  return started;
}

/** As a page of the server's own: cookies prove nothing without an origin. */
function ownPage(url, options = {}) {
  if (!options.extraHeaders?.cookie) return options;
  return { ...options, extraHeaders: { origin: url, ...options.extraHeaders } };
}

/** A connected socket that knows who it is. */
async function enter(t, url, options) {
  const socket = open(t, io, url, ownPage(url, options));
  const failed = new Promise((_, fail) => socket.once("connect_error", fail));
  const [session] = await Promise.race([next(socket, "session"), failed]);
  return { socket, session };
}

/** Expects the one answer that nobody learns anything from. */
async function refused(t, url, options, what = "") {
  const socket = open(t, io, url, ownPage(url, options));
  const connected = new Promise((_, fail) => socket.once("connect", () => fail(new Error(`${what} was let in`))));
  const [error] = await Promise.race([next(socket, "connect_error"), connected]);
  assert.deepEqual({ message: error.message, data: error.data }, UNAUTHORIZED, what);
}

/** A line of the log, waited for. */
async function logged(started, pattern) {
  const found = async () => {
    while (!pattern.test(started.output())) await sleep(20);
  };
  await within(found(), `${pattern} in\n${started.output()}`);
}

async function call(url, method, path, body, authorization = `Bearer ${admin()}`) {
  const headers = { ...(authorization && { authorization }), ...(body && { "content-type": "application/json" }) };
  const response = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : undefined };
}

/** Everything a socket was told before it went. */
function farewell(socket) {
  const told = [];
  socket.on("error", (error) => told.push(error));
  return within(
    new Promise((done) => socket.once("disconnect", (reason) => done({ told, reason }))),
    "disconnect",
  );
}

describe("credentials", () => {
  test("a token is taken from auth, then from the bearer header, then from the cookie", async (t) => {
    const { url } = await server(t);
    const places = (auth, bearer, cookie) => ({
      ...(auth && { auth: { token: token({ sub: auth }) } }),
      extraHeaders: {
        ...(bearer && { authorization: `Bearer ${token({ sub: bearer })}` }),
        ...(cookie && { cookie: `a=b; roomcast_token=${token({ sub: cookie })}; c=d` }),
      },
    });
    for (const [auth, bearer, cookie, expected] of [
      ["auth", "bearer", "cookie", "auth"],
      [null, "bearer", "cookie", "bearer"],
      [null, null, "cookie", "cookie"],
    ]) {
      for (const transports of [["polling"], ["websocket"]]) {
        const { session } = await enter(t, url, { transports, ...places(auth, bearer, cookie) });
        assert.equal(session.userId, expected);
        assert.equal(session.guest, false);
        assert.deepEqual(session.roles, ["user"]);
      }
    }
  });

  test("the claims of a token are who the user is", async (t) => {
    const { url } = await server(t, { ROOMCAST_AUTH__JWT__ISSUER: "id", ROOMCAST_AUTH__JWT__AUDIENCE: "chat" });
    const exp = now() + 3600;
    const claims = { sub: "ann", name: "Ann", roles: ["coach"], iss: "id", aud: ["x", "chat"], exp };
    const { session } = await enter(t, url, { auth: { token: token(claims) } });
    const expiresAt = new Date(exp * 1000).toISOString();
    assert.deepEqual(session, { userId: "ann", name: "Ann", roles: ["coach"], guest: false, expiresAt });
    await refused(t, url, { auth: { token: token({ iss: "id" }) } }, "no audience");
    await refused(t, url, { auth: { token: token({ aud: "chat", iss: "other" }) } }, "another issuer");
  });

  test("without credentials only guests get in, and a bad token makes nobody a guest", async (t) => {
    const development = await server(t);
    const { session } = await enter(t, development.url, { auth: { name: "Ada" } });
    assert.equal(session.guest, true);
    for (const auth of [{ token: "x" }, { token: "" }, { token: 7 }, { token: {} }, { sessionId: "x" }]) {
      await refused(t, development.url, { auth: { name: "Ada", ...auth } }, JSON.stringify(auth));
    }
    const production = await server(t, { ROOMCAST_PROFILE: "production" });
    await refused(t, production.url, { auth: { name: "Ada" } });
  });

  test("a token in the query counts only if that is switched on", async (t) => {
    const query = { token: token() };
    const off = await server(t, { ROOMCAST_AUTH__GUESTS: "false" });
    await refused(t, off.url, { query });
    const on = await server(t, { ROOMCAST_AUTH__QUERY_TOKEN: "true" });
    assert.equal((await enter(t, on.url, { query })).session.userId, "ann");
  });

  test("at_handshake refuses before there is a session", async (t) => {
    const started = await server(t, { ROOMCAST_AUTH__AT_HANDSHAKE: "true" });
    const { url } = started;
    for (const transport of ["polling", "websocket"]) {
      const socket = open(t, io, url, { transports: [transport], auth: { token: token() } });
      const [error] = await next(socket, "connect_error");
      assert.equal(error.type, "TransportError", transport);
    }
    const answer = await fetch(`${url}/socket.io/?EIO=4&transport=polling`);
    assert.equal(answer.status, 403);
    assert.equal((await answer.json()).code, 4);
    await logged(started, /handshake refused.*no credentials/);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert.match(metrics, /roomcast_sessions_opened_total 0\n/);
    const extraHeaders = { authorization: `Bearer ${token()}` };
    assert.equal((await enter(t, url, { extraHeaders })).session.userId, "ann");
  });
});

describe("bad input", () => {
  test("F2, F3: bad tokens have one answer for the client and a reason in the log", async (t) => {
    const rsa = pair("RS256", "rsa");
    const folder = mkdtempSync(join(tmpdir(), "roomcast-keys-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const twice = { kty: "oct", kid: "twice", k: "AAAA" };
    writeFileSync(join(folder, "keys.json"), JSON.stringify({ keys: [rsa.jwk, twice, twice] }));
    const started = await server(t, { ROOMCAST_AUTH__JWT__KEYS_FILE: join(folder, "keys.json") });
    assert.equal((await enter(t, started.url, { auth: { token: rsa.token() } })).session.userId, "ann");
    const pem = rsa.publicKey.export({ type: "spki", format: "pem" });
    const unsigned = `${forge({ alg: "none" }, { sub: "ann", exp: now() + 60 }).replace(/[^.]*$/, "")}`;
    const cases = [
      [unsigned, "algorithm not supported"],
      [forge({ alg: "none" }, { sub: "ann", exp: now() + 60 }), "algorithm not supported"],
      [token({}, pem, { kid: "rsa" }), "algorithm is not the key's"],
      [token({}, rsa.jwk.n, { kid: "rsa" }), "algorithm is not the key's"],
      [token({}, SECRET, { kid: "unknown" }), "unknown kid"],
      [token({}, SECRET, { kid: "twice" }), "duplicated kid"],
      [token({}, SECRET, { crit: ["exp"] }), "critical header parameters not supported"],
      [token({}, "another secret"), "wrong signature"],
      [rsa.token().replace(/\.[^.]*\./, `.${Buffer.from('{"sub":"bob"}').toString("base64url")}.`), "wrong signature"],
      [token({ exp: now() - 60 }), "expired"],
      [token({ exp: undefined }), "no exp"],
      [token({ exp: "never" }), "exp or nbf is not a number"],
      [token({ sub: "krishna", nbf: "99999999999", exp: 10_000_000_000 }), "exp or nbf is not a number"],
      [token({ nbf: now() + 600 }), "not yet valid"],
      [token({ sub: "" }), "no usable sub"],
      [token({ sub: "a\nb" }), "no usable sub"],
      [token({ roles: "admin" }), "malformed claims"],
      [token({ padding: "x".repeat(100_000) }), "token too long"],
      ["x".repeat(100_000), "token too long"],
      ["not a token", "not a token"],
      [`${token()}.x`, "not a token"],
    ];
    for (const [bad, reason] of cases) {
      await refused(t, started.url, { auth: { token: bad } }, reason);
      await logged(started, new RegExp(`refused.*reason="?${reason}`));
    }
    const metrics = await (await fetch(`${started.url}/metrics`)).text();
    assert.match(metrics, /roomcast_auth_refused_total\{reason="signature"\} 2\n/);
  });

  test("F4: addresses in a token are not fetched", async (t) => {
    let asked = 0;
    const trap = createServer((_, response) => {
      asked += 1;
      response.end("{}");
    });
    await new Promise((done) => trap.listen(0, "127.0.0.1", done));
    t.after(() => trap.close());
    const address = `http://127.0.0.1:${trap.address().port}/`;
    const { url } = await server(t);
    const header = { jku: address, x5u: address, jwk: pair("RS256", "own").jwk, kid: "own" };
    await refused(t, url, { auth: { token: token({ iss: address }, SECRET, header) } });
    assert.equal(asked, 0);
  });

  test("no token and no session id is ever in the log", async (t) => {
    const env = { ROOMCAST_LOG__LEVEL: "trace", ROOMCAST_AUTH__QUERY_TOKEN: "true", ROOMCAST_AUTH__GUESTS: "false" };
    const started = await server(t, env);
    const { url } = started;
    const secrets = [SECRET];
    const secret = (text) => {
      secrets.push(text);
      return text;
    };
    const good = secret(token({ jti: "canary-jti" }));
    const bad = secret(token({}, "another secret"));
    const transports = ["websocket"];
    for (const offered of [good, bad]) {
      for (const options of [
        { auth: { token: offered } },
        { extraHeaders: { authorization: `Bearer ${offered}` } },
        { extraHeaders: { cookie: `roomcast_token=${offered}` } },
        { query: { token: offered } },
        { query: { token: offered }, transports },
      ]) {
        if (offered === good) await enter(t, url, options);
        else await refused(t, url, options);
      }
    }
    const caller = secret(admin());
    const authorization = `Bearer ${caller}`;
    const made = await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 60 }, authorization);
    const sessionId = secret(made.body.sessionId);
    const { socket } = await enter(t, url, { auth: { sessionId } });
    await ask(socket, "auth:refresh", { token: secret(token({ sub: "eve" })) });
    await ask(socket, "auth:refresh", { token: secret(token({ sub: "mallory" })) });
    await ask(socket, "auth:refresh", { token: secret("canary-of-a-refresh") });
    await enter(t, url, { extraHeaders: { cookie: `roomcast_session=${sessionId}` } });
    await refused(t, url, { auth: { sessionId: secret("canary-of-a-session") } });
    await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, `Bearer ${bad}`);
    await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, authorization);
    await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, authorization);
    await call(url, "POST", "/api/v1/revocations", { sessionId }, authorization);
    await call(url, "POST", "/api/v1/sessions", { sessionId, token: good }, authorization);
    await logged(started, /api call refused/);
    const output = started.output();
    assert.ok(output.includes("expelled") && output.includes("DEBUG"), "the log has all levels");
    for (const text of secrets) {
      // Nor its signature alone.
      for (const piece of [text, text.split(".").at(-1)]) assert.ok(!output.includes(piece), `${text} is in the log`);
    }
  });
});

describe("keys", () => {
  test("keys of every kind in a file, replaced without a restart", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "roomcast-keys-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const path = join(folder, "keys.json");
    const write = (text) => {
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
    };
    const pairs = ["RS256", "PS384", "ES256", "EdDSA"].map((algorithm) => pair(algorithm, algorithm));
    write(JSON.stringify({ keys: pairs.map(({ jwk }) => jwk) }));
    const started = await server(t, { ROOMCAST_AUTH__JWT__SECRET: SECRET, ROOMCAST_AUTH__JWT__KEYS_FILE: path });
    const { url } = started;
    for (const { token } of pairs) await enter(t, url, { auth: { token: token() } });
    const { socket } = await enter(t, url, { auth: { token: pairs[0].token() } });
    const fresh = pair("ES256", "fresh");
    write(JSON.stringify({ keys: [fresh.jwk] }));
    await logged(started, /the file with keys was read again/);
    assert.equal((await enter(t, url, { auth: { token: fresh.token() } })).session.userId, "ann");
    await refused(t, url, { auth: { token: pairs[0].token() } });
    assert.equal(socket.connected, true, "who is in stays in");
    write("{");
    await logged(started, /has changed and cannot be used/);
    await enter(t, url, { auth: { token: fresh.token() } });
    await enter(t, url, { auth: { token: token() } });
  });

  /** A server of key sets whose answer is what `answer` says now. */
  async function keyServer(t) {
    const state = { asked: 0, answer: (response) => response.end("{}"), waiting: 0, most: 0 };
    const web = createServer(async (_, response) => {
      state.asked += 1;
      state.waiting += 1;
      state.most = Math.max(state.most, state.waiting);
      response.once("close", () => (state.waiting -= 1));
      await state.answer(response);
    });
    await new Promise((done) => web.listen(0, "127.0.0.1", done));
    t.after(() => {
      web.closeAllConnections();
      web.close();
    });
    state.url = `http://127.0.0.1:${web.address().port}/jwks`;
    state.serve = (...pairs) => {
      state.answer = (response) => response.end(JSON.stringify({ keys: pairs.map(({ jwk }) => jwk) }));
    };
    return state;
  }

  test("a key set is fetched once for many, again for an unknown kid, and secrets in it do not count", async (t) => {
    const keys = await keyServer(t);
    const first = pair("ES256", "first");
    keys.answer = async (response) => {
      await sleep(300);
      const secret = { kty: "oct", kid: "oct", k: Buffer.from(SECRET).toString("base64url") };
      response.end(JSON.stringify({ keys: [first.jwk, secret] }));
    };
    const env = { ROOMCAST_AUTH__JWT__SECRET: undefined, ROOMCAST_AUTH__JWT__JWKS_URL: keys.url };
    const { url } = await server(t, env);
    const options = { auth: { token: first.token() }, transports: ["websocket"] };
    await Promise.all(Array.from({ length: 20 }, () => enter(t, url, options)));
    assert.equal(keys.asked, 1);
    await refused(t, url, { auth: { token: token({}, SECRET, { kid: "oct" }) } }, "a secret from the network");
    for (let n = 0; n < 20; n += 1) {
      await refused(t, url, { auth: { token: first.token({}, { kid: `unknown ${n}` }) } });
    }
    assert.ok(keys.asked <= 3, `${keys.asked} fetches`);
    assert.equal(keys.most, 1);
  });

  test("a key set that is down, broken, huge or slow leaves the last good one in force", async (t) => {
    const keys = await keyServer(t);
    const first = pair("ES256", "first");
    keys.serve(first);
    const started = await server(t, {
      ROOMCAST_AUTH__JWT__SECRET: undefined,
      ROOMCAST_AUTH__JWT__JWKS_URL: keys.url,
      ROOMCAST_AUTH__JWT__JWKS_REFRESH_S: "1",
      ROOMCAST_AUTH__JWT__JWKS_TIMEOUT_S: "1",
    });
    const { url } = started;
    await enter(t, url, { auth: { token: first.token() } });
    const huge = "x".repeat(1 << 20);
    for (const [answer, reason] of [
      [(response) => response.writeHead(500).end(), "answered 500"],
      [(response) => response.end("<html>"), "not a JWK set"],
      [(response) => response.end(`{"keys":[],"x":"${huge}"}`), "more than 262144 bytes"],
      [(response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(), "answered 302"],
    ].slice(0, 2)) {
      keys.answer = answer;
      await logged(started, new RegExp(`could not be fetched.*reason="?${reason}`));
      await enter(t, url, { auth: { token: first.token() } });
    }
  });

  for (const [what, answer, reason] of [
    ["huge", (response) => response.end(`{"keys":[],"x":"${"x".repeat(1 << 20)}"}`), "more than 262144 bytes"],
    ["slow", () => {}, "took too long"],
    ["elsewhere", (response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(), "answered 302"],
  ]) {
    test(`a key set that is ${what} lets nobody in and keeps nobody waiting`, async (t) => {
      const keys = await keyServer(t);
      keys.answer = answer;
      const started = await server(t, {
        ROOMCAST_AUTH__JWT__JWKS_URL: keys.url,
        ROOMCAST_AUTH__JWT__JWKS_TIMEOUT_S: "1",
      });
      await refused(t, started.url, { auth: { token: pair("ES256", "any").token() } });
      await logged(started, new RegExp(`could not be fetched.*reason="?${reason}`));
      assert.equal((await enter(t, started.url, { auth: { token: token() } })).session.userId, "ann");
    });
  }

  test("a key set that is down at start is fetched later", async (t) => {
    const keys = await keyServer(t);
    const first = pair("EdDSA", "first");
    keys.answer = (response) => response.destroy();
    const started = await server(t, { ROOMCAST_AUTH__JWT__JWKS_URL: keys.url });
    await logged(started, /could not be fetched/);
    keys.serve(first);
    const socket = open(t, io, started.url, { auth: { token: first.token() }, reconnection: false });
    socket.on("connect_error", async () => {
      await sleep(500);
      socket.connect();
    });
    const [session] = await next(socket, "session");
    assert.equal(session.userId, "ann");
  });
});

describe("live connections", () => {
  test("a token that ends is announced, refreshed with an acknowledgement, and its end is told first", async (t) => {
    const { url } = await server(t, { ROOMCAST_AUTH__EXPIRING_LEAD_S: "60", ROOMCAST_AUTH__GRACE_S: "1" });
    const exp = now() + 2;
    const socket = open(t, io, url, { auth: { token: token({ exp }) }, reconnection: true });
    // Its lead is longer than its life: it comes at once.
    const [expiring] = await next(socket, "auth:expiring");
    assert.equal(expiring.expiresAt, new Date(exp * 1000).toISOString());
    for (const [offer, code] of [
      [{ token: token({ sub: "bob" }) }, "FORBIDDEN"],
      [{ token: token({}, "another secret") }, "UNAUTHENTICATED"],
      [{ token: "x" }, "UNAUTHENTICATED"],
      [{ token: 7 }, "INVALID_PAYLOAD"],
      [{}, "UNAUTHENTICATED"],
      ["x", "INVALID_PAYLOAD"],
    ]) {
      const answer = await ask(socket, "auth:refresh", offer);
      assert.equal(answer.success, false);
      assert.equal(answer.error.code, code, JSON.stringify(offer));
    }
    const later = now() + 4;
    const warned = next(socket, "auth:expiring");
    const refreshed = await ask(socket, "auth:refresh", { token: token({ exp: later, roles: ["coach"] }) });
    assert.deepEqual(refreshed, { success: true, expiresAt: new Date(later * 1000).toISOString() });
    await warned;
    const { told, reason } = await farewell(socket);
    assert.ok(Date.now() / 1000 >= later + 1, "not before its end and the grace");
    assert.deepEqual(told, [
      { type: "auth", code: "TOKEN_EXPIRED", message: "the credentials have expired", status: 401 },
    ]);
    assert.equal(reason, "io server disconnect");
    assert.equal(socket.active, false, "it does not come back by itself");
  });

  test("the claims of now decide, not those of the handshake", async (t) => {
    const { url } = await server(t);
    const { socket } = await enter(t, url, { auth: { token: token({ roles: ["user"] }) } });
    const say = (type) => ask(socket, "message", { conversationId: LOBBY, content: "hi", type });
    assert.equal((await say("ai")).error.code, "FORBIDDEN");
    await ask(socket, "auth:refresh", { token: token({ roles: ["ai"] }) });
    assert.equal((await say("ai")).success, true);
    await ask(socket, "auth:refresh", { token: token({ roles: [] }) });
    assert.equal((await say("user")).error.code, "FORBIDDEN");
    assert.equal((await ask(socket, "join_conversation", LOBBY)).error.code, "FORBIDDEN");
  });

  test("what is revoked is told so, does not come back, and stays out after a restart", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "roomcast-revoked-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const env = { ROOMCAST_STORE: `sqlite:${join(folder, "chat.db")}` };
    const before = await startServer({ ...keyed, ...env });
    const people = {
      jti: ["t1", token({ sub: "a", jti: "t1" })],
      sessionId: ["s1", token({ sub: "b", sid: "s1" })],
      userId: ["c", token({ sub: "c" })],
      role: ["tester", token({ sub: "d", roles: ["user", "tester"] })],
    };
    try {
      const bystander = await enter(t, before.url, { auth: { token: token({ sub: "e", jti: "t2" }) } });
      for (const [kind, [value, own]] of Object.entries(people)) {
        const { socket } = await enter(t, before.url, { auth: { token: own }, reconnection: true });
        const gone = farewell(socket);
        const start = Date.now();
        const answer = await call(before.url, "POST", "/api/v1/revocations", { [kind]: value });
        assert.equal(answer.status, 200, JSON.stringify(answer));
        const { told, reason } = await gone;
        assert.ok(Date.now() - start < 1000, kind);
        assert.deepEqual(
          told.map(({ type, code, status }) => ({ type, code, status })),
          [{ type: "auth", code: "TOKEN_REVOKED", status: 401 }],
        );
        assert.equal(reason, "io server disconnect");
        assert.equal(socket.active, false);
        await refused(t, before.url, { auth: { token: own } }, kind);
      }
      assert.equal(bystander.socket.connected, true);
    } finally {
      assert.equal(await before.stop("SIGKILL"), "SIGKILL");
    }
    const after = await server(t, env);
    for (const [kind, [, own]] of Object.entries(people)) {
      await refused(t, after.url, { auth: { token: own } }, kind);
    }
    await enter(t, after.url, { auth: { token: token({ sub: "e", jti: "t2" }) } });
  });

  test("a revocation ends at its time", async (t) => {
    const { url } = await server(t);
    const until = new Date(Date.now() + 1500).toISOString();
    await call(url, "POST", "/api/v1/revocations", { userId: "ann", until });
    await refused(t, url, { auth: { token: token() } });
    await sleep(1600);
    await enter(t, url, { auth: { token: token() } });
  });

  test("a user that is revoked while its connection is broken does not recover", async (t) => {
    const { url } = await server(t);
    const options = { auth: { token: token() }, reconnection: true, reconnectionDelay: 200, transports: ["websocket"] };
    const { socket } = await enter(t, url, options);
    socket.once("disconnect", () => {});
    socket.io.engine.close();
    const answer = await call(url, "POST", "/api/v1/revocations", { userId: "ann" });
    assert.equal(answer.status, 200);
    const outcome = new Promise((done) => {
      socket.once("connect", () => done("connected"));
      socket.once("connect_error", (error) => done(error.message));
    });
    assert.equal(await within(outcome, "an answer"), "unauthorized");
    assert.notEqual(socket.recovered, true);
  });

  test("a shutdown is no farewell: the client comes back by itself", async (t) => {
    const started = await startServer(keyed);
    const { socket } = await enter(t, started.url, { auth: { token: token() }, reconnection: true });
    const gone = farewell(socket);
    assert.equal(await started.stop(), 0);
    const { told, reason } = await gone;
    assert.deepEqual(told, []);
    assert.match(reason, /^transport (close|error)$/);
    assert.equal(socket.active, true);
  });
});

describe("sessions", () => {
  test("a service makes a session, its owner gets in, and its end is the end of the sockets", async (t) => {
    const { url } = await server(t);
    const service = `Bearer ${token({ sub: "svc", roles: ["service"] })}`;
    const body = { userId: "eve", roles: ["coach"], ttlSeconds: 60, data: { name: "Eve", plan: 1 } };
    const made = await call(url, "POST", "/api/v1/sessions", body, service);
    assert.equal(made.status, 201, JSON.stringify(made));
    assert.deepEqual(Object.keys(made.body).sort(), ["expiresAt", "sessionId"]);
    const { sessionId } = made.body;
    assert.match(sessionId, /^[\w-]{43}$/);
    const viaAuth = await enter(t, url, { auth: { sessionId } });
    const { expiresAt, ...session } = viaAuth.session;
    assert.deepEqual(session, { userId: "eve", name: "Eve", roles: ["coach"], guest: false });
    assert.ok(Date.parse(expiresAt) > Date.now());
    const viaCookie = await enter(t, url, { extraHeaders: { cookie: `roomcast_session=${sessionId}` } });
    assert.equal(viaCookie.session.userId, "eve");
    const gone = Promise.all([farewell(viaAuth.socket), farewell(viaCookie.socket)]);
    assert.equal((await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, service)).status, 204);
    for (const { told, reason } of await gone) {
      assert.equal(told[0].code, "TOKEN_REVOKED");
      assert.equal(reason, "io server disconnect");
    }
    await refused(t, url, { auth: { sessionId } });
    assert.equal((await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, service)).status, 404);
  });

  test("a session that is used goes on, one that is not ends", async (t) => {
    const { url } = await server(t, { ROOMCAST_AUTH__GRACE_S: "0" });
    const made = await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 2 });
    const { sessionId } = made.body;
    const { socket } = await enter(t, url, { auth: { sessionId } });
    await sleep(1200);
    const refreshed = await ask(socket, "auth:refresh", {});
    assert.ok(Date.parse(refreshed.expiresAt) > Date.parse(made.body.expiresAt), JSON.stringify(refreshed));
    await sleep(1200);
    await enter(t, url, { auth: { sessionId } });
    const { told } = await farewell(socket);
    assert.equal(told[0].code, "TOKEN_EXPIRED");
    await sleep(2000);
    await refused(t, url, { auth: { sessionId } });
  });

  test("F12: an id that somebody else has chosen opens nothing, and two cookies are none", async (t) => {
    const { url } = await server(t);
    const { sessionId } = (await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 60 })).body;
    const fixed = "A".repeat(43);
    await refused(t, url, { auth: { sessionId: fixed } });
    await refused(t, url, { extraHeaders: { cookie: `roomcast_session=${fixed}` } });
    await refused(t, url, { extraHeaders: { cookie: `roomcast_session=${sessionId}; roomcast_session=${fixed}` } });
    const chosen = await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 60, sessionId: fixed });
    assert.notEqual(chosen.body.sessionId, fixed);
    await refused(t, url, { auth: { sessionId: fixed } });
    const { session } = await enter(t, url, { query: { sessionId } });
    assert.equal(session.guest, true, "a session's id in the query is nobody's");
  });

  test("what is wrong with a call is said in JSON", async (t) => {
    const { url } = await server(t);
    const sessions = "/api/v1/sessions";
    const good = { userId: "eve", roles: ["user"], ttlSeconds: 60 };
    for (const [body, authorization, status, code] of [
      [good, null, 401, "UNAUTHENTICATED"],
      [good, `Bearer ${token({}, "another secret")}`, 401, "UNAUTHENTICATED"],
      [good, `Bearer ${token()}`, 403, "FORBIDDEN"],
      [{ ...good, userId: "" }, undefined, 400, "INVALID_PAYLOAD"],
      [{ ...good, ttlSeconds: 0 }, undefined, 400, "INVALID_PAYLOAD"],
      [{ ...good, ttlSeconds: 1e12 }, undefined, 400, "INVALID_PAYLOAD"],
      [{ ...good, data: [] }, undefined, 400, "INVALID_PAYLOAD"],
      [{ ...good, data: { x: "x".repeat(5000) } }, undefined, 400, "INVALID_PAYLOAD"],
      [{ ...good, data: { x: "x".repeat(100_000) } }, undefined, 413, "INVALID_PAYLOAD"],
      [{ userId: "eve" }, undefined, 400, "INVALID_PAYLOAD"],
    ]) {
      const answer = await call(url, "POST", sessions, body, authorization);
      assert.deepEqual([answer.status, answer.body.error.code], [status, code], JSON.stringify(body).slice(0, 80));
    }
    for (const body of [{}, { jti: "a", userId: "b" }, { userId: "a", until: "yesterday" }, { userId: "a", until: "2001-01-01T00:00:00Z" }]) {
      assert.equal((await call(url, "POST", "/api/v1/revocations", body)).status, 400, JSON.stringify(body));
    }
  });
});

describe("why", () => {
  test("explain names the rule, over HTTP and on the command line", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "roomcast-explain-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const env = { ROOMCAST_STORE: `sqlite:${join(folder, "chat.db")}` };
    const { url } = await server(t, env);
    const why = async (user, event, room) => {
      const query = new URLSearchParams({ user, event, ...(room && { room }) });
      const answer = await call(url, "GET", `/api/v1/explain?${query}`);
      assert.equal(answer.status, 200, JSON.stringify(answer));
      return answer.body;
    };
    await enter(t, url, { auth: { token: token({ sub: "nobody", roles: ["visitor"] }) } });
    const allowed = await why("ann", "message", `conversation:${LOBBY}`);
    assert.equal(allowed.allowed, true);
    assert.match(allowed.rule, /^auth\.roles\.user\.permissions: chat:send; and members of the conversation/);
    const stranger = await why("ann", "message", "conversation:00000000-0000-4000-8000-00000000ffff");
    assert.equal(stranger.allowed, false);
    assert.match(stranger.rule, /members of the conversation/);
    const powerless = await why("nobody", "message");
    assert.deepEqual([powerless.allowed, powerless.roles], [false, ["visitor"]]);
    assert.match(powerless.rule, /none of the roles grants chat:send; these do: admin, ai, coach, guest, service, user/);
    assert.match((await why("ann", "nonsense")).rule, /no such event/);
    await call(url, "POST", "/api/v1/revocations", { userId: "bob" });
    assert.match((await why("bob", "message")).rule, /the user is revoked/);
    const args = ["explain", "--user", "bob", "--event", "message"];
    const revoked = command(args, { ...keyed, ...env });
    assert.equal(revoked.status, 0, revoked.stderr);
    assert.match(revoked.stdout, /^refused: the user is revoked\n/);
    const asked = ["explain", "--user", "ann", "--event", "message", "--room", LOBBY, "--role", "coach"];
    const own = command(asked, { ...keyed, ...env });
    assert.match(own.stdout, /^allowed: auth\.roles\.user\.permissions: chat:send/, own.stderr);
    assert.equal((await call(url, "GET", "/api/v1/explain?user=ann")).status, 400);
  });

  test("roles are configuration", async (t) => {
    const env = {
      ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "",
      ROOMCAST_AUTH__ROLES__GUEST__PERMISSIONS: "chat:read",
      ROOMCAST_AUTH__ROLES__OPERATOR__INHERITS: "service",
    };
    const { url } = await server(t, env);
    const { socket } = await enter(t, url, { auth: { name: "Ada" } });
    const said = await ask(socket, "message", { conversationId: LOBBY, content: "hi" });
    assert.equal(said.error.code, "FORBIDDEN");
    assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
    const operator = `Bearer ${token({ roles: ["operator"] })}`;
    assert.equal((await call(url, "POST", "/api/v1/sessions", { userId: "x", ttlSeconds: 9 }, operator)).status, 201);
    for (const wrong of [
      { ROOMCAST_AUTH__ROLES__A__INHERITS: "b" },
      { ROOMCAST_AUTH__ROLES__USER__PERMISSIONS: "chat:sing" },
    ]) {
      const checked = command(["check-config"], wrong);
      assert.equal(checked.status, 2);
      assert.match(checked.stderr, /roles make no sense: .*(inherits `b`|chat:sing)/);
    }
  });
});

describe("commands", () => {
  test("token prints a token and nothing else, and it opens the door", async (t) => {
    const { url } = await server(t);
    const minted = command(["token", "--sub", "ann", "--role", "coach", "--role", "user", "--ttl", "2h"], keyed);
    assert.equal(minted.status, 0, minted.stderr);
    assert.equal(minted.stderr, "");
    assert.match(minted.stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const { session } = await enter(t, url, { auth: { token: minted.stdout.trim() } });
    assert.deepEqual([session.userId, session.roles], ["ann", ["coach", "user"]]);
    const hours = (Date.parse(session.expiresAt) - Date.now()) / 3_600_000;
    assert.ok(hours > 1.9 && hours <= 2, `${hours} hours`);
    assert.equal(command(["token", "--sub", "ann", "--ttl", "soon"], keyed).status, 2);
  });

  test("in development the key of this machine's user will do, in production it will not", async (t) => {
    const development = await startServer();
    t.after(() => development.stop());
    const minted = command(["token", "--sub", "ann"]);
    assert.equal(minted.status, 0, minted.stderr);
    const { session } = await enter(t, development.url, { auth: { token: minted.stdout.trim() } });
    assert.deepEqual(session.roles, ["user"]);
    const production = command(["token", "--sub", "ann", "--profile", "production"]);
    assert.equal(production.status, 2);
    assert.equal(production.stdout, "");
    assert.match(production.stderr, /ROOMCAST_AUTH__JWT__SECRET/);
    const started = await startServer({ ROOMCAST_PROFILE: "production" });
    t.after(() => started.stop());
    await refused(t, started.url, { auth: { token: minted.stdout.trim() } });
  });

  test("on an address that others reach it does not start without keys, and says what to set", () => {
    for (const [env, message] of [
      [{ ROOMCAST_LISTEN: "0.0.0.0:0" }, /ROOMCAST_AUTH__JWT__SECRET/],
      [{ ROOMCAST_LISTEN: "[::]:0", ROOMCAST_AUTH__GUESTS: "true" }, /ROOMCAST_AUTH__JWT__SECRET/],
      [{ ROOMCAST_LISTEN: "0.0.0.0:0", ROOMCAST_PROFILE: "development", ...keyed }, /loopback/],
      [{ ROOMCAST_LISTEN: "0.0.0.0:0", ROOMCAST_PROFILE: "production" }, /ROOMCAST_AUTH__JWT__KEYS_FILE/],
    ]) {
      const served = command(["serve"], { ROOMCAST_STORE: "memory:", ...env });
      assert.notEqual(served.status, 0);
      assert.match(served.stdout + served.stderr, message);
      assert.equal(command(["check-config"], env).status, 2);
    }
    assert.equal(command(["check-config"], { ROOMCAST_LISTEN: "0.0.0.0:0", ...keyed }).status, 0);
  });

  test("no command shows the secret", () => {
    const printed = command(["print-config"], keyed);
    assert.equal(printed.status, 0);
    assert.ok(!printed.stdout.includes(SECRET) && printed.stdout.includes("(hidden)"));
    for (const secret of ["-----BEGIN PUBLIC KEY-----\ncanary", ""]) {
      const checked = command(["check-config"], { ROOMCAST_AUTH__JWT__SECRET: secret });
      assert.equal(checked.status, 2);
      assert.ok(!checked.stderr.includes("canary"));
    }
  });
});
