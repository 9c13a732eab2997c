// Users who have signed in to a Node application (real express with express-session) are admitted
// by its cookie.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { describe, test } from "node:test";
import express from "express";
import session from "express-session";
import { WebSocket } from "ws";
import { admin, assertRevoked, call, enter, farewell, io, logged, refused, server } from "./people.mjs";
import { command, lastingPort, metric, next, open, outcome, until } from "./support.mjs";

const SECRET = "the secret of the application";

/**
 * Starts a typical application with sessions. Tests can replace `me`, which answers requests for
 * the user; `asked` counts these requests.
 */
async function application(t, { secrets = [SECRET], port = 0 } = {}) {
  const application = { asked: 0, me: (request, response) => response.json(request.session.user) };
  const app = express();
  app.use(session({ secret: secrets, resave: false, saveUninitialized: true }));
  app.post("/login/:user", (request, response) => {
    const { user } = request.params;
    request.session.user = { userId: user, name: user.toUpperCase(), roles: ["user"] };
    response.sendStatus(204);
  });
  app.post("/logout", (request, response) => request.session.destroy(() => response.sendStatus(204)));
  app.get("/me", (request, response) => {
    application.asked += 1;
    if (!request.session.user) return response.sendStatus(401);
    return application.me(request, response);
  });
  const http = app.listen(port, "127.0.0.1");
  await once(http, "listening");
  const stop = () => {
    http.closeAllConnections();
    http.close();
  };
  t.after(stop);
  const url = `http://127.0.0.1:${http.address().port}`;
  const post = async (path, cookie) => {
    const response = await fetch(url + path, { method: "POST", headers: cookie ? { cookie } : {} });
    assert.equal(response.status, 204);
    return response.headers.get("set-cookie")?.split(";")[0];
  };
  return Object.assign(application, {
    url,
    stop,
    port: http.address().port,
    login: (user) => post(`/login/${user}`),
    logout: (cookie) => post("/logout", cookie),
    visit: async () => (await fetch(`${url}/me`)).headers.get("set-cookie").split(";")[0],
  });
}

const backendVariables = (app, env = {}) => ({
  ROOMCAST_AUTH__BACKEND__URL: `${app.url}/me`,
  ROOMCAST_AUTH__BACKEND__SECRETS: SECRET,
  ROOMCAST_AUTH__BACKEND__ALLOW_PRIVATE: "true",
  ROOMCAST_AUTH__BACKEND__RECHECK: "300ms",
  ROOMCAST_AUTH__BACKEND__TIMEOUT: "30s",
  ROOMCAST_AUTH__GUESTS: "true",
  ...env,
});

const by = (cookie) => ({ extraHeaders: { cookie } });

/** Returns the error of a client that is refused. */
async function refusalOf(t, url, cookie) {
  const socket = open(t, io, url, { extraHeaders: { cookie, origin: url } });
  socket.once("connect", () => assert.fail("was let in"));
  const [error] = await next(socket, "connect_error");
  return error.data;
}

describe("sessions of a Node backend", () => {
  test("a user of the backend is the same user here until logout", async (t) => {
    const app = await application(t);
    const { url } = await server(t, backendVariables(app));
    const [ann, bob] = [await app.login("ann"), await app.login("bob")];
    const { socket, session } = await enter(t, url, by(ann));
    assert.deepEqual(session, {
      userId: "ann",
      name: "ANN",
      roles: ["user"],
      permissions: ["chat:read", "chat:send", "chat:manage", "chat:type"],
      guest: false,
    });
    const other = await enter(t, url, by(`theme=dark; ${bob}; x=y`));
    assert.equal(other.session.userId, "bob");
    const disconnected = farewell(socket);
    await app.logout(ann);
    assertRevoked(socket, await disconnected);
    await refused(t, url, by(ann), "a session that has ended");
    assert.ok(other.socket.connected);
  });

  test("a session whose user or roles change is disconnected", async (t) => {
    const app = await application(t);
    const { url } = await server(t, backendVariables(app));
    const cookie = await app.login("ann");
    const { socket } = await enter(t, url, by(cookie));
    const disconnected = farewell(socket);
    app.me = (_, response) => response.json({ userId: "ann", roles: ["coach"] });
    assertRevoked(socket, await disconnected);
    // An answer counts for a moment before the application is queried again.
    const { session } = await enter(t, url, by(cookie));
    assert.deepEqual(session.roles, ["coach"]);
  });

  test("an unsigned cookie is refused without a request and makes no guest", async (t) => {
    const app = await application(t);
    const { url } = await server(t, backendVariables(app, { ROOMCAST_AUTH__BACKEND__RECHECK: "1m" }));
    const cookie = await app.login("ann");
    const id = decodeURIComponent(cookie).slice("connect.sid=s:".length).split(".")[0];
    const sign = (secret) => createHmac("sha256", secret).update(id).digest("base64").replace(/=+$/, "");
    app.asked = 0;
    for (const value of [
      `s:${id}`,
      id,
      "",
      `s:${id}.${sign("another secret")}`,
      `s:${id}x.${sign(SECRET)}`,
      `s:${id}.${sign(SECRET)}=`,
      `j:{"id":"${id}"}`,
    ]) {
      await refused(t, url, by(`connect.sid=${encodeURIComponent(value)}`), value);
    }
    await refused(t, url, by(`${cookie}; ${cookie}`), "two of them");
    assert.equal(app.asked, 0);
    await enter(t, url, by(`connect.sid=s:${id}.${sign(SECRET)}`));
    assert.equal(app.asked, 1);
  });

  test("a session without a user is refused, and the answer is cached", async (t) => {
    const app = await application(t);
    const { url } = await server(t, backendVariables(app, { ROOMCAST_AUTH__BACKEND__NEGATIVE_CACHE: "1m" }));
    const cookie = await app.visit();
    app.asked = 0;
    for (let i = 0; i < 5; i++) await refused(t, url, by(cookie), "a visitor");
    assert.equal(app.asked, 1);
  });

  test("clients of one session cause one request, also with old secrets", async (t) => {
    const app = await application(t, { secrets: ["the older secret"] });
    let answer;
    const held = new Promise((done) => (answer = done));
    app.me = async (request, response) => response.json((await held, request.session.user));
    const env = {
      ROOMCAST_AUTH__BACKEND__SECRETS: `${SECRET},the older secret`,
      ROOMCAST_AUTH__BACKEND__RECHECK: "1m",
      ROOMCAST_AUTH__BACKEND__CACHE: "1m",
    };
    const { url } = await server(t, backendVariables(app, env));
    const cookie = await app.login("ann");
    const all = Array.from({ length: 20 }, () => enter(t, url, by(cookie)));
    await until(() => app.asked === 1, "the question");
    answer();
    const sessions = await Promise.all(all);
    assert.ok(sessions.every(({ session }) => session.userId === "ann"));
    assert.equal(app.asked, 1);
  });

  test("the cookie is refused from a page of another origin", async (t) => {
    const app = await application(t);
    const { url } = await server(t, backendVariables(app, { ALLOWED_ORIGINS: "https://app.example", ROOMCAST_AUTH__BACKEND__RECHECK: "1m" }));
    const cookie = await app.login("ann");
    // A stock client in Node sends no origin, and neither does a form in an old browser.
    for (const headers of [{}, { "sec-fetch-site": "cross-site" }]) {
      const data = await new Promise((done, fail) => {
        const socket = open(t, io, url, { extraHeaders: { cookie, ...headers } });
        socket.once("connect", () => fail(new Error("was let in")));
        socket.once("connect_error", (error) => done(error.data));
      });
      assert.equal(data.code, "UNAUTHENTICATED");
    }
    const hijacked = new WebSocket(`${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`, {
      headers: { cookie, origin: "https://evil.example" },
    });
    const [, response] = await once(hijacked, "unexpected-response");
    assert.equal(response.statusCode, 403);
    app.asked = 0;
    await enter(t, url, { extraHeaders: { cookie, origin: "https://app.example" } });
    assert.equal(app.asked, 1);
  });

  test("an invalid user record is refused, and other users are admitted", async (t) => {
    const app = await application(t);
    const started = await server(t, backendVariables(app));
    const { url } = started;
    const invalid = [
      { userId: "bob", name: "Bob\u0007" },
      { userId: "bob\n" },
      { userId: "guest:1" },
      { userId: 7 },
      { userId: "bob", roles: ["us\u0000er"] },
    ];
    const me = app.me;
    // More failures than a breaker tolerates: the backend works throughout.
    for (const record of [...invalid, ...invalid, ...invalid]) {
      app.me = (_, response) => response.json(record);
      await refused(t, url, by(await app.login("bob")), JSON.stringify(record));
    }
    await logged(started, /the backend has an invalid user record.*correct the record/);
    app.me = me;
    const { session } = await enter(t, url, by(await app.login("ann")));
    assert.equal(session.userId, "ann");
  });

  test("during a backend outage new users are refused and others stay a while", async (t) => {
    const app = await application(t, { port: await lastingPort() });
    const env = { ROOMCAST_AUTH__BACKEND__TIMEOUT: "5s", ROOMCAST_AUTH__BACKEND__CACHE: "1ms", ROOMCAST_AUTH__BACKEND__OUTAGE_GRACE: "3s" };
    const started = await server(t, backendVariables(app, env));
    const { url } = started;
    const [ann, bob] = [await app.login("ann"), await app.login("bob")];
    const { socket } = await enter(t, url, by(ann));
    const disconnected = farewell(socket);
    const unavailable = { code: "STORE_UNAVAILABLE", retryAfter: 2000 };
    const answers = [
      (_, response) => response.sendStatus(500),
      (_, response) => response.redirect("/login"),
      (_, response) => response.json([]),
      (_, response) => response.send("x".repeat(100_000)),
      () => {}, // Never answers.
    ];
    for (const answer of answers) {
      app.me = answer;
      assert.deepEqual(await refusalOf(t, url, bob), unavailable, String(answer));
    }
    app.stop();
    assert.deepEqual(await refusalOf(t, url, bob), unavailable);
    await logged(started, /could not look up a session at the auth backend/);
    // After this time without an answer it is unknown whether Ann has signed out.
    const { told } = await disconnected;
    assert.equal(told[0].code, "TOKEN_EXPIRED");
    assert.ok((await metric(url, 'roomcast_auth_refused_total{reason="unavailable"}')) >= answers.length);
    const again = await application(t, { port: app.port });
    const cookie = await again.login("ann");
    const back = async () => !(await outcome(open(t, io, url, { extraHeaders: { cookie, origin: url } })));
    await until(back, "the backend to be asked again");
  });

  test("with a full session cache, new users are refused without a request", async (t) => {
    const app = await application(t);
    const env = { ROOMCAST_AUTH__BACKEND__SESSIONS: "2", ROOMCAST_AUTH__BACKEND__RECHECK: "1m", ROOMCAST_AUTH__BACKEND__NEGATIVE_CACHE: "1m" };
    const { url } = await server(t, backendVariables(app, env));
    for (let n = 0; n < 5; n++) await refused(t, url, by(await app.visit()), "a visitor");
    const [ann, bob, carl] = [await app.login("ann"), await app.login("bob"), await app.login("carl")];
    const first = await enter(t, url, by(ann));
    for (let n = 0; n < 5; n++) await refused(t, url, by(await app.visit()), "a visitor beside ann");
    const second = await enter(t, url, by(bob));
    app.asked = 0;
    const unavailable = { code: "STORE_UNAVAILABLE", retryAfter: 2000 };
    for (const cookie of [carl, await app.visit()]) {
      const asked = app.asked;
      assert.deepEqual(await refusalOf(t, url, cookie), unavailable);
      assert.equal(app.asked, asked, "nobody is asked");
    }
    // Known users can open another tab, and stay connected.
    for (const [cookie, user] of [[ann, "ann"], [bob, "bob"]]) {
      assert.equal((await enter(t, url, by(cookie))).session.userId, user);
    }
    assert.ok(first.socket.connected && second.socket.connected);
    assert.equal(await metric(url, 'roomcast_auth_refused_total{reason="unavailable"}'), 2);
  });

  test("at most 64 backend requests are in flight, and the rest are queued", async (t) => {
    const MOST = 64;
    const app = await application(t);
    let [underWay, most] = [0, 0];
    const held = [];
    app.me = (request, response) => {
      underWay += 1;
      most = Math.max(most, underWay);
      held.push(() => {
        underWay -= 1;
        response.json(request.session.user);
      });
    };
    const env = { ROOMCAST_AUTH__BACKEND__TIMEOUT: "1m", ROOMCAST_AUTH__BACKEND__RECHECK: "1h", ROOMCAST_LIMITS__CONNECTIONS_PER_USER: "0" };
    const { url } = await server(t, backendVariables(app, env));
    const users = Array.from({ length: MOST + 6 }, (_, n) => `user${n}`);
    const cookies = await Promise.all(users.map((user) => app.login(user)));
    const entering = Promise.all(cookies.map((cookie) => enter(t, url, by(cookie))));
    await until(() => held.length === MOST, "so many questions");
    // Each answered request makes room for one more.
    held.shift()();
    await until(() => held.length === MOST, "the next question");
    const answering = (async () => {
      while (app.asked < users.length || held.length > 0) {
        await until(() => held.length > 0, "a question");
        held.shift()();
      }
    })();
    const sessions = (await entering).map(({ session }) => session.userId);
    await answering;
    assert.deepEqual(sessions, users);
    assert.deepEqual([app.asked, most], [users.length, MOST]);
  });

  test("clients queued after unanswered requests are refused, later admitted", async (t) => {
    const app = await application(t);
    const me = app.me;
    app.me = () => {}; // Never answers.
    const env = { ROOMCAST_AUTH__BACKEND__TIMEOUT: "2s", ROOMCAST_AUTH__BACKEND__RECHECK: "1h", ROOMCAST_AUTH__BACKEND__CACHE: "1h" };
    const { url } = await server(t, backendVariables(app, env));
    const cookies = await Promise.all(Array.from({ length: 70 }, (_, n) => app.login(`user${n}`)));
    const unavailable = { code: "STORE_UNAVAILABLE", retryAfter: 2000 };
    const answers = await Promise.all(cookies.map((cookie) => refusalOf(t, url, cookie)));
    assert.deepEqual(answers, cookies.map(() => unavailable));
    // Requests after the first time out together, not one after another.
    assert.ok(app.asked < cookies.length, `${app.asked}`);
    assert.equal(await metric(url, 'roomcast_auth_refused_total{reason="unavailable"}'), cookies.length);
    app.me = me;
    const back = async () => {
      const socket = io(url, { forceNew: true, reconnection: false, extraHeaders: { cookie: cookies.at(-1), origin: url } });
      t.after(() => socket.disconnect());
      return new Promise((done) => {
        socket.once("connect", () => done(true));
        socket.once("connect_error", () => done(false));
      });
    };
    await until(back, "the backend to be asked again");
  });

  test("a user revoked here is refused despite a valid backend session", async (t) => {
    const app = await application(t);
    const { url } = await server(t, backendVariables(app));
    const cookie = await app.login("ann");
    const { socket } = await enter(t, url, by(cookie));
    const disconnected = farewell(socket);
    const id = decodeURIComponent(cookie).slice("connect.sid=s:".length).split(".")[0];
    const { status } = await call(url, "POST", "/api/v1/revocations", { sessionId: id }, `Bearer ${admin()}`);
    assert.ok(status < 300, String(status));
    assertRevoked(socket, await disconnected);
    await refused(t, url, by(cookie), "a session that was revoked");
  });

  test("invalid settings are refused at startup", () => {
    const url = "https://app.example/me";
    for (const [env, why] of [
      [{ ROOMCAST_AUTH__BACKEND__URL: url }, /auth\.backend\.secrets/],
      [{ ROOMCAST_AUTH__BACKEND__URL: "http://app.example/me", ROOMCAST_AUTH__BACKEND__SECRETS: "x" }, /auth\.backend\.allow_private/],
    ]) {
      const run = command(["check-config"], env);
      assert.notEqual(run.status, 0);
      assert.match(run.stdout + run.stderr, why);
    }
  });
});
