// Admission, its duration, and the log lines about refused clients: stock clients against the
// server itself.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { checkAnswered, checkReceived, checksAll } from "./catalog.mjs";
import { LOBBY, admin, call, enter, farewell, io, keyed, logged, refused, server } from "./people.mjs";
import { ask, metricsOf, next, open, startServer, temporary, within } from "./support.mjs";
import { SECRET, forge, now, pair, token } from "./tokens.mjs";

/** The permissions of the role `coach`, some inherited from `user`. */
const granted = ["chat:read", "chat:send", "chat:manage", "chat:type"];

describe("credentials", () => {
  test("a token is taken from auth, then the bearer header, then the cookie", async (t) => {
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

  test("the first credentials decide, and invalid ones are not skipped", async (t) => {
    const { url } = await server(t);
    const session = async (userId) =>
      (await call(url, "POST", "/api/v1/sessions", { userId, ttlSeconds: 60 })).body.sessionId;
    const [auth, cookie] = [await session("auth"), await session("cookie")];
    const sessionCookie = `roomcast_session=${cookie}`;
    const tokenCookie = `roomcast_token=${token({ sub: "token" })}`;
    const bearer = { authorization: `Bearer ${token({ sub: "bearer" })}` };
    for (const [expected, options] of [
      ["cookie", { extraHeaders: { cookie: sessionCookie } }],
      ["auth", { auth: { sessionId: auth }, extraHeaders: { cookie: sessionCookie } }],
      ["token", { auth: { sessionId: auth }, extraHeaders: { cookie: `${sessionCookie}; ${tokenCookie}` } }],
      ["bearer", { auth: { sessionId: auth }, extraHeaders: { cookie: tokenCookie, ...bearer } }],
    ]) {
      assert.equal((await enter(t, url, options)).session.userId, expected);
    }
    for (const options of [
      { auth: { token: "bad" }, extraHeaders: bearer },
      { extraHeaders: { authorization: "Bearer bad", cookie: tokenCookie } },
      { auth: { sessionId: auth }, extraHeaders: { cookie: "roomcast_token=bad" } },
      { auth: { sessionId: "bad" }, extraHeaders: { cookie: sessionCookie } },
    ]) {
      await refused(t, url, options, JSON.stringify(options));
    }
  });

  test("the claims of a token identify the user", async (t) => {
    const started = await server(t, { ROOMCAST_AUTH__JWT__ISSUER: "id", ROOMCAST_AUTH__JWT__AUDIENCE: "chat" });
    const { url } = started;
    const exp = now() + 3600;
    const claims = { sub: "ann", name: "Ann", roles: ["coach"], iss: "id", aud: ["x", "chat"], exp };
    const { session } = await enter(t, url, { auth: { token: token(claims) } });
    const expiresAt = new Date(exp * 1000).toISOString();
    assert.deepEqual(session, { userId: "ann", name: "Ann", roles: ["coach"], permissions: granted, guest: false, expiresAt });
    for (const [wrong, reason] of [
      [{ iss: "id" }, "wrong audience"],
      [{ iss: "id", aud: ["x"] }, "wrong audience"],
      [{ iss: "id", aud: "chat.example" }, "wrong audience"],
      [{ aud: "chat" }, "wrong issuer"],
      [{ aud: "chat", iss: "other" }, "wrong issuer"],
      [{ aud: "chat", iss: ["id"] }, "wrong issuer"],
    ]) {
      const before = started.output().length;
      await refused(t, url, { auth: { token: token(wrong) } }, JSON.stringify(wrong));
      await logged({ output: () => started.output().slice(before) }, new RegExp(`refused.*reason="?${reason}`));
    }
  });

  test("settings of tokens take effect under their names", async (t) => {
    const late = (auth) => ({ auth: { token: auth } });
    const standard = await server(t);
    await enter(t, standard.url, late(token({ exp: now() - 10 })));
    await enter(t, standard.url, late(token({ nbf: now() + 10 })));
    // A time out of range counts as the maximum time.
    const endless = await enter(t, standard.url, late(token({ exp: 1e300 })));
    assert.match(endless.session.expiresAt, /^9999-12-30T/);
    const strict = await server(t, {
      ROOMCAST_AUTH__JWT__LEEWAY: "0s",
      ROOMCAST_AUTH__JWT__ALGORITHM: "HS512",
      ROOMCAST_AUTH__GUESTS: "false",
    });
    const sign = (claims) => forge({ alg: "HS512" }, { sub: "ann", exp: now() + 60, ...claims }, SECRET, "sha512");
    assert.equal((await enter(t, strict.url, late(sign()))).session.userId, "ann");
    for (const [bad, reason] of [
      [sign({ exp: now() - 2 }), "expired"],
      [sign({ nbf: now() + 20 }), "not yet valid"],
      [token(), "algorithm is not the key's"],
      [undefined, "no credentials"],
    ]) {
      await refused(t, strict.url, late(bad), reason);
      await logged(strict, new RegExp(`refused.*reason="?${reason}`));
    }
  });

  test("without credentials only guests are admitted, never with a bad token", async (t) => {
    const development = await server(t);
    const { session } = await enter(t, development.url, { auth: { name: "Ada" } });
    assert.equal(session.guest, true);
    for (const auth of [{ token: "x" }, { token: "" }, { token: 7 }, { token: {} }, { sessionId: "x" }]) {
      await refused(t, development.url, { auth: { name: "Ada", ...auth } }, JSON.stringify(auth));
    }
    const production = await server(t, { ROOMCAST_PROFILE: "production" });
    await refused(t, production.url, { auth: { name: "Ada" } });
  });

  test("a token in the query counts only if that is enabled", async (t) => {
    const query = { token: token() };
    const off = await server(t, { ROOMCAST_AUTH__GUESTS: "false" });
    await refused(t, off.url, { query });
    const on = await server(t, { ROOMCAST_AUTH__QUERY_TOKEN: "true" });
    assert.equal((await enter(t, on.url, { query })).session.userId, "ann");
  });

  test("at_handshake refuses before a session exists", async (t) => {
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
    const metrics = await metricsOf(url);
    assert.match(metrics, /roomcast_sessions_opened_total 0\n/);
    const extraHeaders = { authorization: `Bearer ${token()}` };
    assert.equal((await enter(t, url, { extraHeaders })).session.userId, "ann");
  });

  test("at_handshake accepts the cookie only from permitted pages", async (t) => {
    const env = { ROOMCAST_AUTH__AT_HANDSHAKE: "true", ALLOWED_ORIGINS: "https://app.example" };
    const started = await server(t, env);
    const { url } = started;
    const cookie = `roomcast_token=${token()}`;
    const opened = async (headers) => {
      const socket = open(t, io, url, { transports: ["websocket"], extraHeaders: { cookie, ...headers } });
      const outcome = new Promise((done) => {
        socket.once("connect", () => done("connected"));
        socket.once("connect_error", (error) => done(error.type ?? error.message));
      });
      return within(outcome, "an answer");
    };
    for (const headers of [{}, { origin: "https://evil.example" }, { "sec-fetch-site": "cross-site" }]) {
      assert.equal(await opened(headers), "TransportError", JSON.stringify(headers));
    }
    await logged(started, /handshake refused.*cookie of an origin that is not allowed/);
    for (const headers of [{ origin: "https://app.example" }, { origin: url }, { "sec-fetch-site": "same-origin" }]) {
      assert.equal(await opened(headers), "connected", JSON.stringify(headers));
    }
  });
});

describe("bad input", () => {
  test("F2, F3: bad tokens get one answer, and the log has the reason", async (t) => {
    const rsa = pair("RS256", "rsa");
    const folder = temporary();
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
      [token({ sub: 7 }), "no usable sub"],
      [token({ roles: "admin" }), "malformed claim roles"],
      [token({ padding: "x".repeat(100_000) }), "token too long"],
      ["x".repeat(100_000), "token too long"],
      ["not a token", "not a token"],
      [`${token()}.x`, "not a token"],
    ];
    for (const [bad, reason] of cases) {
      await refused(t, started.url, { auth: { token: bad } }, reason);
      await logged(started, new RegExp(`refused.*reason="?${reason}`));
    }
    const metrics = await metricsOf(started.url);
    assert.match(metrics, /roomcast_auth_refused_total\{reason="signature"\} 2\n/);
  });

  test("F4: addresses in a token are not fetched", async (t) => {
    let requests = 0;
    const trap = createServer((_, response) => {
      requests += 1;
      response.end("{}");
    });
    await new Promise((done) => trap.listen(0, "127.0.0.1", done));
    t.after(() => trap.close());
    const address = `http://127.0.0.1:${trap.address().port}/`;
    const { url } = await server(t);
    const header = { jku: address, x5u: address, jwk: pair("RS256", "own").jwk, kid: "own" };
    await refused(t, url, { auth: { token: token({ iss: address }, SECRET, header) } });
    assert.equal(requests, 0);
  });

  test("no token and no session id is ever in the log", async (t) => {
    const env = { ROOMCAST_LOG__LEVEL: "trace", ROOMCAST_AUTH__QUERY_TOKEN: "true", ROOMCAST_AUTH__GUESTS: "false", ROOMCAST_RECOVERY__ENABLED: "true" };
    const started = await server(t, env);
    const { url } = started;
    const secrets = [SECRET, "canary-jti"];
    const secret = (text) => {
      secrets.push(text);
      return text;
    };
    // A client with the id of a connection could read its data or continue it.
    const seen = ({ socket }) => [socket.io.engine.id, socket._pid].filter(Boolean).forEach(secret);
    const good = secret(token({ jti: "canary-jti", sid: secret("canary-sid") }));
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
        if (offered === good) seen(await enter(t, url, options));
        else await refused(t, url, options);
      }
    }
    const caller = secret(admin());
    const authorization = `Bearer ${caller}`;
    const made = await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 60 }, authorization);
    const sessionId = secret(made.body.sessionId);
    const { socket } = await enter(t, url, { auth: { sessionId } });
    seen({ socket });
    await ask(socket, "auth:refresh", { token: secret(token({ sub: "eve" })) });
    await ask(socket, "auth:refresh", { token: secret(token({ sub: "mallory" })) });
    await ask(socket, "auth:refresh", { token: secret("canary-of-a-refresh") });
    await enter(t, url, { extraHeaders: { cookie: `roomcast_session=${sessionId}` } });
    await refused(t, url, { auth: { sessionId: secret("canary-of-a-session") } });
    await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, `Bearer ${bad}`);
    await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, authorization);
    await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, authorization);
    await call(url, "POST", "/api/v1/revocations", { sessionId }, authorization);
    await call(url, "POST", "/api/v1/revocations", { jti: "canary-jti" }, authorization);
    await call(url, "GET", `/api/v1/${sessionId}`, undefined, authorization);
    await fetch(`${url}/${sessionId}`);
    const poll = `${url}/socket.io/?EIO=4&transport=polling`;
    for (const place of [`&sid=${secret("canary-of-a-connection")}`, `&token=${bad}`, `&j=${sessionId}`]) await fetch(poll + place);
    await call(url, "POST", "/api/v1/sessions", { sessionId, token: good }, authorization);
    await logged(started, /api call refused/);
    const output = started.output();
    assert.ok(output.includes("expelled") && output.includes("DEBUG"), "the log has all levels");
    for (const text of secrets) {
      // Not even its signature alone.
      for (const piece of [text, text.split(".").at(-1)]) assert.ok(!output.includes(piece), `${text} is in the log`);
    }
  });
});

describe("live connections", () => {
  test("an expiring token is announced, refreshed, and its end reported first", async (t) => {
    const { url } = await server(t, { ROOMCAST_AUTH__EXPIRING_LEAD: "60s", ROOMCAST_AUTH__GRACE: "1s" });
    const exp = now() + 15;
    const socket = open(t, io, url, { auth: { token: token({ exp }) }, reconnection: true });
    // Its warning time is longer than its life, so it is sent immediately.
    const [expiring] = await next(socket, "auth:expiring");
    checkReceived("auth:expiring", expiring);
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
    const later = exp + 1;
    const warned = next(socket, "auth:expiring");
    const offer = { token: token({ exp: later, roles: ["coach"] }) };
    const refreshed = await ask(socket, "auth:refresh", offer);
    checkAnswered("auth:refresh", offer, refreshed);
    assert.deepEqual(refreshed, { success: true, expiresAt: new Date(later * 1000).toISOString() });
    await warned;
    const { told, reason } = await farewell(socket);
    assert.ok(Date.now() / 1000 >= later + 1, "not before its end and the grace");
    checkReceived("error", told[0]);
    assert.deepEqual(told, [
      { type: "auth", code: "TOKEN_EXPIRED", message: "the credentials have expired", status: 401 },
    ]);
    assert.equal(reason, "io server disconnect");
    assert.equal(socket.active, false, "it does not come back by itself");
  });

  test("the current claims decide, not the claims of the handshake", async (t) => {
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

  test("a refresh without read permission removes the user from conversations", async (t) => {
    const { url } = await server(t);
    const ann = (await enter(t, url, { auth: { token: token() } })).socket;
    const bob = (await enter(t, url, { auth: { token: token({ sub: "bob" }) } })).socket;
    for (const socket of [ann, bob]) assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
    const received = [];
    ann.on("message", ({ content }) => received.push(content));
    const say = (content) => ask(bob, "message", { conversationId: LOBBY, content });
    await say("before");
    const left = next(bob, "user_left");
    assert.equal((await ask(ann, "auth:refresh", { token: token({ roles: ["visitor"] }) })).success, true);
    assert.equal((await within(left, "the news that she has left"))[0].userId, "ann");
    await say("meanwhile");
    await ask(ann, "auth:refresh", { token: token() });
    assert.equal((await ask(ann, "join_conversation", LOBBY)).success, true);
    const last = new Promise((done) => ann.on("message", ({ content }) => content === "after" && done()));
    await say("after");
    await within(last, "the last message");
    assert.deepEqual(received, ["before", "after"]);
  });

  test("a flood of refreshes is limited like any other event", async (t) => {
    const { url } = await server(t, { ROOMCAST_LIMITS__REQUESTS_PER_SECOND: "1" });
    const { socket } = await enter(t, url, { auth: { token: token() } });
    const answers = [];
    while (answers.at(-1)?.success !== false) {
      assert.ok(answers.length < 1000, "refreshes are not limited");
      answers.push(await ask(socket, "auth:refresh", { token: token() }));
    }
    const { code, retryAfter } = answers.at(-1).error;
    assert.equal(code, "RATE_LIMITED");
    assert.ok(retryAfter > 0 && retryAfter <= 1000, `${retryAfter} ms`);
    assert.equal(socket.connected, true);
  });

  test("a client reconnects by itself after a shutdown of the server", async (t) => {
    const started = await startServer(keyed);
    const { socket } = await enter(t, started.url, { auth: { token: token() }, reconnection: true });
    const disconnected = farewell(socket);
    assert.equal(await started.stop(), 0);
    const { told, reason } = await disconnected;
    assert.deepEqual(told, []);
    assert.match(reason, /^transport (close|error)$/);
    assert.equal(socket.active, true);
  });
});

describe("sessions", () => {
  test("a service creates a session, and ending it disconnects its sockets", async (t) => {
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
    assert.deepEqual(session, { userId: "eve", name: "Eve", roles: ["coach"], permissions: granted, guest: false });
    assert.ok(Date.parse(expiresAt) > Date.now());
    const viaCookie = await enter(t, url, { extraHeaders: { cookie: `roomcast_session=${sessionId}` } });
    assert.equal(viaCookie.session.userId, "eve");
    const disconnected = Promise.all([farewell(viaAuth.socket), farewell(viaCookie.socket)]);
    assert.equal((await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, service)).status, 204);
    for (const { told, reason } of await disconnected) {
      assert.equal(told[0].code, "TOKEN_REVOKED");
      assert.equal(reason, "io server disconnect");
    }
    await refused(t, url, { auth: { sessionId } });
    assert.equal((await call(url, "DELETE", `/api/v1/sessions/${sessionId}`, undefined, service)).status, 404);
  });

  test("a session or token with an ambiguous name or id is refused", async (t) => {
    const { url } = await server(t);
    for (const [body, field] of [
      [{ userId: "an\u200bn" }, "userId"],
      [{ userId: "\u202enna" }, "userId"],
      [{ userId: "guest:0123456789abcdef" }, "userId"],
      [{ userId: "ann", data: { name: "ro\ufeffot" } }, "data.name"],
      [{ userId: "ann", data: { name: " " } }, "data.name"],
      [{ userId: "ann", data: { name: "root\u2029" } }, "data.name"],
    ]) {
      const made = await call(url, "POST", "/api/v1/sessions", { ttlSeconds: 9, ...body });
      assert.equal(made.status, 400, JSON.stringify(body));
      assert.ok(made.body.error.message.startsWith(`${field} must`), made.body.error.message);
    }
    for (const claims of [{ sub: "a\u200bnn" }, { sub: "guest:0123456789abcdef" }, { name: "ro\u202eot" }]) {
      await refused(t, url, { auth: { token: token(claims) } }, JSON.stringify(claims));
    }
  });

  test("a session gets no more rights than its creator without a permission", async (t) => {
    const env = { ROOMCAST_AUTH__ROLES__REGISTRAR__PERMISSIONS: "api:sessions,roles:grant" };
    const { url } = await server(t, env);
    const make = async (by, roles) => {
      const own = `Bearer ${token({ sub: by, roles: [by] })}`;
      return call(url, "POST", "/api/v1/sessions", { userId: "ann", roles, ttlSeconds: 60 }, own);
    };
    for (const roles of [["user"], ["coach", "ai"], ["service"], []]) {
      assert.equal((await make("service", roles)).status, 201, JSON.stringify(roles));
    }
    for (const roles of [["admin"], ["user", "admin"], ["registrar"]]) {
      const { status, body } = await make("service", roles);
      assert.deepEqual([status, body.error.code], [403, "FORBIDDEN"], JSON.stringify(roles));
    }
    assert.equal((await make("registrar", ["admin"])).status, 201);
    assert.equal((await make("admin", ["admin"])).status, 201);
  });

  test("a used session is extended, and an unused session expires", async (t) => {
    const started = await server(t, { ROOMCAST_AUTH__GRACE: "0s" });
    const { url } = started;
    const made = await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 10 });
    const { sessionId } = made.body;
    const { socket } = await enter(t, url, { auth: { sessionId } });
    const end = Date.parse(made.body.expiresAt);
    for (let refreshed = end; Date.now() <= end || refreshed <= end; ) {
      await sleep(300); // Pace of an active user.
      const answer = await ask(socket, "auth:refresh", {});
      assert.equal(answer.success, true, JSON.stringify(answer));
      refreshed = Date.parse(answer.expiresAt);
    }
    const { session } = await enter(t, url, { auth: { sessionId } });
    const { told } = await farewell(socket);
    assert.equal(told[0].code, "TOKEN_EXPIRED");
    // The test waits for time itself.
    while (Date.now() <= Date.parse(session.expiresAt)) await sleep(20);
    await refused(t, url, { auth: { sessionId } });
    // Expired sessions are deleted once a minute; until then the server knows that the session
    // existed.
    await logged(started, /refused.*reason="?(session expired|unknown session)/);
  });

  test("F12: a chosen session id opens nothing, and two cookies count as none", async (t) => {
    const started = await server(t);
    const { url } = started;
    const { sessionId } = (await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 60 })).body;
    const fixed = "A".repeat(43);
    await refused(t, url, { auth: { sessionId: fixed } });
    await logged(started, /refused.*reason="?unknown session/);
    await refused(t, url, { extraHeaders: { cookie: `roomcast_session=${fixed}` } });
    await refused(t, url, { extraHeaders: { cookie: `roomcast_session=${sessionId}; roomcast_session=${fixed}` } });
    await logged(started, /refused.*reason="?malformed credentials/);
    const chosen = await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 60, sessionId: fixed });
    assert.notEqual(chosen.body.sessionId, fixed);
    await refused(t, url, { auth: { sessionId: fixed } });
    const { session } = await enter(t, url, { query: { sessionId } });
    assert.equal(session.guest, true, "a session's id in the query is nobody's");
  });

  test("refusals are no-store, and a malformed address is refused in JSON", async (t) => {
    const { url } = await server(t);
    const as = (roles) => ({ headers: { authorization: `Bearer ${token({ roles })}` } });
    const blocks = `${url}/api/v1/blocks`;
    for (const [address, options, status, code] of [
      [blocks, {}, 401, "UNAUTHENTICATED"],
      [blocks, as(["user"]), 403, "FORBIDDEN"],
      [`${url}/api/v1/sessions/%FF`, { method: "DELETE", ...as(["admin"]) }, 400, "INVALID_PAYLOAD"],
      [`${url}/api/v1/users/%E4/presence`, as(["admin"]), 400, "INVALID_PAYLOAD"],
      [`${url}/api/v1/explain?user=%FF&event=message`, as(["admin"]), 400, "INVALID_PAYLOAD"],
    ]) {
      const answer = await fetch(address, options);
      assert.equal(answer.status, status, address);
      assert.equal(answer.headers.get("cache-control"), "no-store", address);
      assert.equal((await answer.json()).error.code, code, address);
    }
    const long = { cidr: "192.0.2.0/24", reason: "x".repeat(201) };
    assert.equal((await call(url, "POST", "/api/v1/blocks", long)).status, 400);
    assert.equal((await call(url, "POST", "/api/v1/blocks", { ...long, reason: "x".repeat(200) })).status, 201);
  });

  test("errors of calls are reported in JSON", async (t) => {
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
    for (const body of [{}, { jti: "a", userId: "b" }, { userId: "a", until: "yesterday" }]) {
      assert.equal((await call(url, "POST", "/api/v1/revocations", body)).status, 400, JSON.stringify(body));
    }
    const past = await call(url, "POST", "/api/v1/revocations", { userId: "a", until: "2001-01-01T00:00:00Z" });
    assert.deepEqual([past.status, past.body.error.code, past.body.error.details], [409, "CONFLICT", { field: "until" }]);
  });
});

checksAll(import.meta.url);
