// Who gets in, for how long, and what the log says of those who do not: stock clients against the
// server itself.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { checkAnswered, checkHeard } from "./catalog.mjs";
import { LOBBY, admin, call, enter, farewell, io, keyed, logged, refused, server, temporary } from "./people.mjs";
import { ask, command, next, open, startServer, within } from "./support.mjs";
import { SECRET, forge, now, pair, token } from "./tokens.mjs";

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

  test("what comes first decides: a session is no token, and nothing bad is overlooked", async (t) => {
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

  test("the claims of a token are who the user is", async (t) => {
    const started = await server(t, { ROOMCAST_AUTH__JWT__ISSUER: "id", ROOMCAST_AUTH__JWT__AUDIENCE: "chat" });
    const { url } = started;
    const exp = now() + 3600;
    const claims = { sub: "ann", name: "Ann", roles: ["coach"], iss: "id", aud: ["x", "chat"], exp };
    const { session } = await enter(t, url, { auth: { token: token(claims) } });
    const expiresAt = new Date(exp * 1000).toISOString();
    assert.deepEqual(session, { userId: "ann", name: "Ann", roles: ["coach"], guest: false, expiresAt });
    for (const [wrong, reason] of [
      [{ iss: "id" }, "wrong audience"],
      [{ iss: "id", aud: ["x"] }, "wrong audience"],
      [{ iss: "id", aud: "chat.example" }, "wrong audience"],
      [{ aud: "chat" }, "wrong issuer"],
      [{ aud: "chat", iss: "other" }, "wrong issuer"],
      [{ aud: "chat", iss: ["id"] }, "malformed claims"],
    ]) {
      const before = started.output().length;
      await refused(t, url, { auth: { token: token(wrong) } }, JSON.stringify(wrong));
      await logged({ output: () => started.output().slice(before) }, new RegExp(`refused.*reason="?${reason}`));
    }
  });

  test("the settings of tokens have the names they have", async (t) => {
    const late = (auth) => ({ auth: { token: auth } });
    const standard = await server(t);
    await enter(t, standard.url, late(token({ exp: now() - 10 })));
    await enter(t, standard.url, late(token({ nbf: now() + 10 })));
    // A time beyond all times is the end of them.
    const endless = await enter(t, standard.url, late(token({ exp: 1e300 })));
    assert.match(endless.session.expiresAt, /^9999-12-30T/);
    const strict = await server(t, {
      ROOMCAST_AUTH__JWT__LEEWAY_S: "0",
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

  test("at_handshake takes a cookie from pages that may use it, and from no others", async (t) => {
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
  test("F2, F3: bad tokens have one answer for the client and a reason in the log", async (t) => {
    const rsa = pair("RS256", "rsa");
    const folder = temporary(t);
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
    const env = { ROOMCAST_LOG__LEVEL: "trace", ROOMCAST_AUTH__QUERY_TOKEN: "true", ROOMCAST_AUTH__GUESTS: "false", ROOMCAST_RECOVERY__ENABLED: "true" };
    const started = await server(t, env);
    const { url } = started;
    const secrets = [SECRET, "canary-jti"];
    const secret = (text) => {
      secrets.push(text);
      return text;
    };
    // Whoever has the id of a connection could read what comes to it, or go on with it.
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
      // Nor its signature alone.
      for (const piece of [text, text.split(".").at(-1)]) assert.ok(!output.includes(piece), `${text} is in the log`);
    }
  });
});

describe("live connections", () => {
  test("a token that ends is announced, refreshed with an acknowledgement, and its end is told first", async (t) => {
    const { url } = await server(t, { ROOMCAST_AUTH__EXPIRING_LEAD_S: "60", ROOMCAST_AUTH__GRACE_S: "1" });
    const exp = now() + 2;
    const socket = open(t, io, url, { auth: { token: token({ exp }) }, reconnection: true });
    // Its lead is longer than its life: it comes at once.
    const [expiring] = await next(socket, "auth:expiring");
    checkHeard("auth:expiring", expiring);
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
    const offer = { token: token({ exp: later, roles: ["coach"] }) };
    const refreshed = await ask(socket, "auth:refresh", offer);
    checkAnswered("auth:refresh", offer, refreshed);
    assert.deepEqual(refreshed, { success: true, expiresAt: new Date(later * 1000).toISOString() });
    await warned;
    const { told, reason } = await farewell(socket);
    assert.ok(Date.now() / 1000 >= later + 1, "not before its end and the grace");
    checkHeard("error", told[0]);
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

  test("who loses the right to read by a refresh is out of its conversations, and hears nothing more", async (t) => {
    const { url } = await server(t);
    const ann = (await enter(t, url, { auth: { token: token() } })).socket;
    const bob = (await enter(t, url, { auth: { token: token({ sub: "bob" }) } })).socket;
    for (const socket of [ann, bob]) assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
    const heard = [];
    ann.on("message", ({ content }) => heard.push(content));
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
    assert.deepEqual(heard, ["before", "after"]);
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

  test("a session has a name and an id that can be told apart from those of others", async (t) => {
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

  test("a session may do no more than who makes it, unless a permission says so", async (t) => {
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

  test("a session that is used goes on, one that is not ends", async (t) => {
    const started = await server(t, { ROOMCAST_AUTH__GRACE_S: "0" });
    const { url } = started;
    const made = await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 2 });
    const { sessionId } = made.body;
    const { socket } = await enter(t, url, { auth: { sessionId } });
    const end = Date.parse(made.body.expiresAt);
    for (let refreshed = end; Date.now() <= end || refreshed <= end; ) {
      await sleep(300); // The pace of one who uses it.
      const answer = await ask(socket, "auth:refresh", {});
      assert.equal(answer.success, true, JSON.stringify(answer));
      refreshed = Date.parse(answer.expiresAt);
    }
    const { session } = await enter(t, url, { auth: { sessionId } });
    const { told } = await farewell(socket);
    assert.equal(told[0].code, "TOKEN_EXPIRED");
    // What is waited for is time itself.
    while (Date.now() <= Date.parse(session.expiresAt)) await sleep(20);
    await refused(t, url, { auth: { sessionId } });
    // Swept every minute; until then it is known that there was one.
    await logged(started, /refused.*reason="?(session expired|unknown session)/);
  });

  test("F12: an id that somebody else has chosen opens nothing, and two cookies are none", async (t) => {
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
    const env = { ROOMCAST_STORE: `sqlite:${join(temporary(t), "chat.db")}` };
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

  test("explain looks up who wrote a message, over HTTP and on the command line", async (t) => {
    const env = { ROOMCAST_STORE: `sqlite:${join(temporary(t), "chat.db")}` };
    const { url } = await server(t, env);
    const { socket } = await enter(t, url, { auth: { token: token() } });
    const { conversation } = await ask(socket, "create_conversation", { memberIds: ["bob"] });
    const said = await ask(socket, "message", { conversationId: conversation.id, content: "hi" });
    const message = said.message.id;
    await enter(t, url, { auth: { token: token({ sub: "mod", roles: ["admin"] }) } });
    const why = async (user, event, more = {}) => {
      const query = new URLSearchParams({ user, event, message, ...more });
      const answer = await call(url, "GET", `/api/v1/explain?${query}`);
      assert.equal(answer.status, 200, JSON.stringify(answer));
      return [answer.body.allowed, answer.body.rule];
    };
    const elsewhere = { room: `conversation:${LOBBY}` };
    for (const [user, event, more, allowed, rule] of [
      ["ann", "edit_message", {}, true, /^auth\.roles\.user\.permissions: chat:send; and the message's author.*: the user wrote it$/],
      ["ann", "delete_message", { room: conversation.id }, true, /the user wrote it$/],
      ["bob", "edit_message", {}, false, /the message's author, and `chat:moderate`: `ann` wrote it$/],
      ["bob", "delete_message", {}, false, /`ann` wrote it$/],
      ["carl", "edit_message", {}, false, /the user is none, or there is no such conversation$/],
      ["mod", "delete_message", {}, true, /`ann` wrote it, and the user has chat:moderate$/],
      ["ann", "edit_message", elsewhere, false, /the message is in another conversation$/],
      ["ann", "edit_message", { message: LOBBY }, false, /there is no such message$/],
      ["bob", "mark_read", {}, true, /members of the conversation: the user is one$/],
      ["bob", "add_member", {}, false, /the conversation's owner, and `chat:moderate`: the user is not$/],
      ["mod", "add_member", {}, true, /the user has chat:moderate$/],
      ["bob", "remove_member", {}, true, /the user may remove itself, and nobody else$/],
      ["ann", "remove_member", {}, true, /the user is the owner, who never leaves$/],
      ["mod", "remove_member", {}, true, /the user has chat:moderate$/],
      ["carl", "remove_member", {}, false, /the user is none, or there is no such conversation$/],
    ]) {
      const answer = await why(user, event, more);
      assert.equal(answer[0], allowed, `${user} ${event}: ${answer[1]}`);
      assert.match(answer[1], rule, `${user} ${event}`);
    }
    const open = await call(url, "GET", `/api/v1/explain?user=mod&event=delete_conversation&room=${LOBBY}`);
    assert.equal(open.body.allowed, false);
    assert.match(open.body.rule, /a conversation that is open to everyone is not deleted$/);
    const asked = (...more) => command(["explain", "--event", "edit_message", ...more], { ...keyed, ...env }).stdout;
    assert.match(asked("--user", "bob", "--message", message), /^refused: the message's author.*`ann` wrote it\n/);
    assert.match(asked("--user", "ann", "--message", message), /^allowed: .*the user wrote it\n/);
    const offered = await ask(socket, "delete_message", { messageId: message });
    assert.equal(offered.success, true, JSON.stringify(offered));
    assert.deepEqual((await why("ann", "edit_message"))[0], false, "a deleted message is not edited");
    assert.match((await why("ann", "edit_message"))[1], /the message is deleted$/);
    assert.equal((await call(url, "GET", "/api/v1/explain?user=a&event=edit_message&message=7")).status, 400);
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
    await logged(started, /no token is accepted, since no key is configured: set ROOMCAST_AUTH__JWT__SECRET/);
  });

  test("token refuses what no server would accept, and says what to do", (t) => {
    const folder = temporary(t);
    const keys = join(folder, "keys.json");
    writeFileSync(keys, JSON.stringify({ keys: [pair("RS256", "rsa").jwk] }));
    const exposed = join(folder, "roomcast");
    mkdirSync(exposed);
    writeFileSync(join(exposed, "development.key"), "x".repeat(48));
    chmodSync(join(exposed, "development.key"), 0o644);
    const jwt = (name) => `ROOMCAST_AUTH__JWT__${name}`;
    const production = { ROOMCAST_PROFILE: "production" };
    const shortLived = { ...keyed, [jwt("MAX_LIFETIME_S")]: "600" };
    const ann = ["--sub", "ann"];
    for (const [args, env, message] of [
      [[], keyed, /--sub/],
      [["--sub", ""], keyed, /--sub must have 1 to 128 characters/],
      [["--sub", "a\nb"], keyed, /--sub must have 1 to 128 characters/],
      [["--sub", "x".repeat(129)], keyed, /--sub must have 1 to 128 characters/],
      [[...ann, "--name", "a\nb"], keyed, /servers would refuse this token: malformed claims/],
      [[...ann, "--ttl", "0s"], keyed, /from one second to ten years/],
      [[...ann, "--ttl", "11years"], keyed, /from one second to ten years/],
      [[...ann, "--ttl", "1h"], shortLived, /lets tokens live 600 s: give a shorter --ttl/],
      [ann, production, /set ROOMCAST_AUTH__JWT__SECRET/],
      [ann, { ROOMCAST_LISTEN: "0.0.0.0:3000" }, /set ROOMCAST_AUTH__JWT__SECRET/],
      [ann, { ROOMCAST_LISTEN: "0.0.0.0:3000", ROOMCAST_PROFILE: "development" }, /loopback/],
      [ann, { ...production, [jwt("JWKS_URL")]: "https://id.example/jwks" }, /no key that signs/],
      [ann, { [jwt("JWKS_URL")]: "https://id.example/jwks" }, /no key that signs/],
      [ann, { [jwt("KEYS_FILE")]: keys }, /no key that signs/],
      [ann, { [jwt("KEYS_FILE")]: join(folder, "none.json") }, /keys_file: .*none\.json: /],
      [ann, { ...keyed, [jwt("ALGORITHM")]: "RS256" }, /a secret is for HS256, HS384 or HS512/],
      [ann, { ...keyed, [jwt("ALGORITHM")]: "none" }, /a secret is for HS256, HS384 or HS512/],
      [ann, { XDG_STATE_HOME: folder }, /development\.key: others can read it; mend it, or set/],
      [ann, { XDG_STATE_HOME: "", HOME: "" }, /no home folder for a development key: set/],
    ]) {
      const minted = command(["token", ...args], env);
      assert.equal(minted.status, 2, `${args} ${JSON.stringify(env)}`);
      assert.equal(minted.stdout, "");
      assert.match(minted.stderr, message);
    }
    const secret = { kty: "oct", kid: "own", k: Buffer.from(SECRET).toString("base64url") };
    writeFileSync(keys, JSON.stringify({ keys: [secret] }));
    const warned = [
      [{ ...production, [jwt("KEYS_FILE")]: keys }, /^$/],
      [{ ...production, [jwt("SECRET")]: "short" }, /can be guessed: HS256 wants 32 random bytes/],
      [{ ...keyed, [jwt("ALGORITHM")]: "HS512" }, /can be guessed: HS512 wants 64 random bytes/],
      [shortLived, /^$/, "--ttl", "10m"],
      [keyed, /no role `boss` is configured; there are admin, ai, coach, guest, service, user/, "--role", "boss"],
    ];
    for (const [env, message, ...args] of warned) {
      const minted = command(["token", ...ann, ...args], env);
      assert.equal(minted.status, 0, minted.stderr);
      assert.match(minted.stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
      assert.match(minted.stderr, message);
    }
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

  test("no command shows what is secret in the address of keys or of the store", () => {
    const printed = command(["print-config"], {
      ROOMCAST_AUTH__JWT__JWKS_URL: "https://id.example/jwks?key=canary",
      ROOMCAST_STORE: "postgres://u:canary@db.example/chat?sslpassword=canary",
    });
    assert.equal(printed.status, 0, printed.stderr);
    assert.ok(!printed.stdout.includes("canary"), printed.stdout);
    assert.match(printed.stdout, /jwks_url = "https:\/\/id\.example\/jwks\?\*\*\*"/);
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
