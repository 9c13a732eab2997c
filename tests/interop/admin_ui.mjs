// The admin UI of the authors of Socket.IO, from its npm package, in a real Chromium.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, extname, join, normalize } from "node:path";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { startServers, whatIsThere } from "./chat_servers.mjs";
import { admin, call, enter } from "./people.mjs";
import { LOBBY, keyed, must } from "./page_support.mjs";
import { ask, command, connect, next, open, startServer, temporary, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { launch, screenshots } from "./visitor.mjs";

const require = createRequire(import.meta.url);
const dist = join(dirname(require.resolve("@socket.io/admin-ui/package.json")), "ui/dist");
const types = { ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".png": "image/png", ".svg": "image/svg+xml" };
const PASSWORD = "a password of operators";
// `PASSWORD` at the lowest permitted cost.
const HASH = "$2b$10$g13WWRwfGVKlRDK3RQngwOChRTBnEGbfpMHNIgBHYte2yaqwhlhfy";
// "another password".
const OTHER_HASH = "$2b$10$sU5/Qk/4p8y4assnEkNM7.ph6kGMNJ2JSmj1ZXDYflCvwo2X6Lj9.";

let browser;
let site;
let served;
before(async () => {
  browser = await launch();
  served = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://site").pathname);
    const file = join(dist, path === "/" ? "index.html" : path);
    const content = await readFile(file).catch(() => undefined);
    response.writeHead(content === undefined ? 404 : 200, { "content-type": types[extname(file)] ?? "text/plain" });
    response.end(content);
  });
  await new Promise((done) => served.listen(0, "127.0.0.1", done));
  site = `http://127.0.0.1:${served.address().port}`;
});
after(async () => {
  await browser?.close();
  served?.close();
});

/** The settings of a server with the admin UI. */
const withUi = () => ({
  ALLOWED_ORIGINS: site,
  ROOMCAST_ADMIN_UI__ENABLED: "true",
  ROOMCAST_ADMIN_UI__USERNAME: "ops",
  ROOMCAST_ADMIN_UI__PASSWORD_HASH: HASH,
});

/** Starts a server with the admin UI and further settings. */
async function start(t, env = {}) {
  const started = await startServer({ ...keyed, ...withUi(), ...env });
  t.after(() => started.stop());
  return started;
}

const development = { ROOMCAST_ADMIN_UI__MODE: "development" };
const writable = { ...development, ROOMCAST_ADMIN_UI__READ_ONLY: "false" };

/** Opens the UI. It loads nothing from the internet. */
async function show(t) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  t.after(() => context.close());
  context.setDefaultTimeout(60_000);
  await context.route((url) => url.hostname !== "127.0.0.1", (route) => route.abort());
  const page = await context.newPage();
  await page.goto(site);
  return page;
}

/** Fills the form of the UI and submits it. */
async function submit(page, url, password) {
  await page.getByLabel("Server URL").fill(url);
  await page.getByLabel("Username").fill("ops");
  await page.getByLabel("Password").fill(password);
  const namespace = page.getByLabel("Admin namespace");
  if (!(await namespace.isVisible())) await page.getByText("Advanced options").click();
  await namespace.fill("/admin-ui");
  await page.getByRole("button", { name: "Connect" }).click();
}

/** Logs in, and waits for the dashboard. */
async function login(t, url) {
  const page = await show(t);
  await submit(page, url, PASSWORD);
  await page.getByLabel("Server URL").waitFor({ state: "hidden" });
  return page;
}

const go = (page, name) => page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
const row = (page, text) => page.locator("tbody tr").filter({ hasText: text });

/** Connects a user of the chat who is in the Lobby. */
async function person(t, url, sub) {
  const { socket } = await enter(t, url, { auth: { token: token({ sub, name: sub }) }, reconnection: false });
  await must(socket, "join_conversation", LOBBY);
  return socket;
}

test("an operator sees servers, sockets and rooms, and disconnects a socket", async (t) => {
  const { url } = await start(t, writable);
  const [ann, bob] = [await person(t, url, "ann"), await person(t, url, "bob")];
  const page = await show(t);
  await submit(page, url, "a wrong password");
  await page.getByText("Invalid credentials").waitFor();
  await submit(page, url, PASSWORD);
  await page.getByLabel("Server URL").waitFor({ state: "hidden" });

  await go(page, "Servers");
  const server = page.locator("tbody tr").first();
  await server.getByText("Healthy", { exact: true }).waitFor();
  // Two people and the UI. The connection of the refused attempt may still be open.
  await until(async () => Number(await server.locator("td").nth(4).textContent()) >= 3, "the clients of the server");
  await page.screenshot({ path: join(screenshots, "admin-ui-servers.png") });

  await go(page, "Sockets");
  for (const { id } of [ann, bob]) await row(page, id).waitFor();
  await page.screenshot({ path: join(screenshots, "admin-ui-sockets.png") });
  await go(page, "Rooms");
  await row(page, `conversation:${LOBBY}`).getByText("2", { exact: true }).waitFor();
  const carl = await person(t, url, "carl");
  await row(page, `conversation:${LOBBY}`).getByText("3", { exact: true }).waitFor();
  await page.screenshot({ path: join(screenshots, "admin-ui-rooms.png") });

  await must(carl, "message", { conversationId: LOBBY, content: "in the UI of operators" });
  await go(page, "Events");
  const sent = row(page, carl.id).filter({ hasText: "Event received" }).filter({ has: page.getByText("message", { exact: true }) });
  await sent.getByRole("button").click();
  await page.locator("pre").getByText("in the UI of operators").waitFor();
  await page.screenshot({ path: join(screenshots, "admin-ui-events.png") });

  await go(page, "Sockets");
  const { id } = bob;
  const disconnected = next(bob, "disconnect");
  await row(page, id).getByRole("button").click();
  assert.deepEqual((await disconnected)[0], "io server disconnect");
  // The UI also opens the page of the row.
  await go(page, "Sockets");
  await row(page, ann.id).waitFor();
  await until(async () => (await row(page, id).count()) === 0, "the end of the row");
  assert.ok(ann.connected && carl.connected);
  const { body } = await call(url, "GET", "/api/v1/audit", undefined, `Bearer ${admin()}`);
  const { operation, userId, via, request, outcome } = body.entries[0];
  assert.deepEqual([operation, userId, via, outcome], ["admin-ui:disconnect", "admin-ui:ops", "socket", "done"]);
  assert.deepEqual(request, { rooms: [id], type: "leave" });

  // The UI reconnects with its session after a reload.
  await page.reload();
  await row(page, ann.id).waitFor();
});

test("an operator at one server sees and changes the sockets of two", async (t) => {
  const [one, two] = await startServers(t, 2, whatIsThere, { ...withUi(), ...writable });
  const [ann, bob] = [await person(t, one.url, "ann"), await person(t, two.url, "bob")];
  const page = await login(t, one.url);
  await go(page, "Servers");
  await until(async () => (await row(page, "Healthy").count()) === 2, "two healthy servers");
  await page.screenshot({ path: join(screenshots, "admin-ui-two-servers.png") });
  await go(page, "Sockets");
  for (const { id } of [ann, bob]) await row(page, id).waitFor();
  await go(page, "Rooms");
  await row(page, `conversation:${LOBBY}`).getByText("2", { exact: true }).waitFor();

  const operator = await connect(t, io, `${one.url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  const act = (name, ...args) => operator.timeout(10_000).emitWithAck(name, ...args);
  const updates = [];
  operator.on("socket_updated", (update) => updates.push(update));
  // What happens at the other server is shown too: a new socket, and changed data.
  const carl = await person(t, two.url, "carl");
  await go(page, "Sockets");
  await row(page, carl.id).waitFor();
  assert.equal((await ask(carl, "auth:refresh", { token: token({ sub: "carl", name: "Carl the second" }) })).success, true);
  const isData = ({ id, data }) => id === carl.id && data;
  await until(() => updates.some(isData), "the data of a socket");
  const { nsp, data } = updates.find(isData);
  assert.deepEqual([nsp, data.userId, data.name], ["/", "carl", "Carl the second"]);
  const shown = await call(two.url, "GET", `/api/v1/sockets/${carl.id}`, undefined, `Bearer ${admin()}`);
  assert.equal(data.node, shown.body.node);

  // A room reaches sockets of both servers, but no socket gets into the room of another one.
  for (const { id } of [ann, carl]) assert.equal(await act("join", "/", "team", id), undefined);
  await until(async () => {
    const { body } = await call(one.url, "GET", "/api/v1/rooms/team", undefined, `Bearer ${admin()}`);
    return body.sockets === 2;
  }, "both in the room");
  const received = [ann, carl].map((socket) => next(socket, "team news"));
  await act("emit", "/", "team", "team news", 1);
  assert.deepEqual(await Promise.all(received), [[1], [1]]);
  for (const [room, whom] of [[ann.id, carl.id], [carl.id, ann.id], [ann.id, "team"]]) {
    const { success, error } = await act("join", "/", room, whom);
    assert.deepEqual([success, error.code], [false, "INVALID_PAYLOAD"]);
  }
  carl.on("for ann", () => assert.fail("an event for another socket"));
  const forAnn = next(ann, "for ann");
  await act("emit", "/", ann.id, "for ann", 1);
  assert.deepEqual(await forAnn, [1]);

  const { id: gone } = bob;
  const disconnected = next(bob, "disconnect");
  await row(page, gone).getByRole("button").click();
  assert.deepEqual((await disconnected)[0], "io server disconnect");
  await go(page, "Sockets");
  await row(page, carl.id).waitFor();
  await until(async () => (await row(page, gone).count()) === 0, "the end of the row");
  assert.ok(ann.connected && carl.connected);
});

test("a read-only UI offers no acts, and acts sent anyway do nothing", async (t) => {
  const { url } = await start(t, development);
  const ann = await person(t, url, "ann");
  const page = await login(t, url);
  await go(page, "Sockets");
  await row(page, ann.id).waitFor();
  assert.equal(await row(page, ann.id).getByRole("button").count(), 0);
  const operator = await connect(t, io, `${url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  operator.emit("_disconnect", "/", true, ann.id);
  operator.emit("emit", "/", null, "news", "for everyone");
  ann.on("news", () => assert.fail("an event of a read-only UI"));
  // A later refusal of the same connection shows that the acts have been handled.
  await assert.rejects(operator.timeout(2000).emitWithAck("join", "/", "a", ann.id));
  assert.equal((await ask(ann, "conversations", {})).success, true);
});

test("the mode production shows servers, and nothing about sockets", async (t) => {
  const { url } = await start(t);
  const operator = open(t, io, `${url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  const seen = new Set();
  operator.onAny((name) => seen.add(name));
  await next(operator, "server_stats");
  const ann = await person(t, url, "ann");
  await must(ann, "message", { conversationId: LOBBY, content: "private" });
  const [later] = await next(operator, "server_stats");
  assert.deepEqual(Object.keys(later), [
    "serverId", "hostname", "pid", "uptime", "clientsCount", "pollingClientsCount", "aggregatedEvents", "namespaces",
  ]);
  const counted = later.aggregatedEvents.map(({ type }) => type);
  for (const type of ["rawConnection", "packetsIn", "packetsOut", "bytesIn", "bytesOut"]) assert.ok(counted.includes(type), type);
  const sizes = Object.fromEntries(later.namespaces.map(({ name, socketsCount }) => [name, socketsCount]));
  assert.deepEqual([sizes["/"], sizes["/admin-ui"]], [1, 1]);
  assert.deepEqual([...seen].sort(), ["config", "server_stats", "session"]);
  const page = await login(t, url);
  await go(page, "Servers");
  assert.equal(await page.getByRole("link", { name: "Sockets", exact: true }).count(), 0);
});

test("arguments of events are private in the production profile", async (t) => {
  const { url } = await start(t, { ...development, ROOMCAST_PROFILE: "production" });
  const operator = await connect(t, io, `${url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  const { socket: ann } = await enter(t, url, { auth: { token: token({ sub: "ann" }) } });
  const events = [];
  for (const kind of ["event_received", "event_sent"]) operator.on(kind, (...event) => events.push([kind, ...event]));
  await must(ann, "set_status", { status: "busy", text: "a secret text" });
  const isFound = ([kind, , , [name]]) => kind === "event_received" && name === "set_status";
  await until(() => events.some(isFound), "the event");
  const [, nsp, id, args, time] = events.find(isFound);
  assert.deepEqual([nsp, id, args.length], ["/", ann.id, 2]);
  assert.match(args[1], /^\(\d+ bytes\)$/);
  assert.ok(Date.parse(time));
  assert.ok(!JSON.stringify(events).includes("secret"));
});

test("operators emit and change rooms, but not those of the server", async (t) => {
  const started = await start(t, writable);
  const { url } = started;
  const ann = await person(t, url, "ann");
  const operator = await connect(t, io, `${url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  const act = (name, ...args) => operator.timeout(10_000).emitWithAck(name, ...args);
  const news = next(ann, "news");
  await act("emit", "/", null, "news", { a: 1 });
  assert.deepEqual(await news, [{ a: 1 }]);
  await act("join", "/", "team", ann.id);
  const inTeam = next(ann, "team news");
  await act("emit", "/", "team", "team news", 1);
  assert.deepEqual(await inTeam, [1]);
  const bob = await person(t, url, "bob");
  for (const [name, ...args] of [
    ["join", "/", "user:bob", ann.id],
    // Events for one socket are sent to the room of its id.
    ["join", "/", bob.id, ann.id],
    ["join", "/", bob.id, "team"],
    ["join", "/", "AAAAAAAAAAAAAAAAAAAA", ann.id],
    ["leave", "/", ann.id, ann.id],
    ["leave", "/", `conversation:${LOBBY}`],
    ["emit", "/", null, "message", {}],
    ["emit", "/", `conversation:${LOBBY}`, "news"],
    ["_disconnect", "/admin", true, ann.id],
    ["_disconnect", "/", true],
  ]) {
    const { success, error } = await act(name, ...args);
    assert.deepEqual([success, error.code], [false, "INVALID_PAYLOAD"], name);
  }
  ann.on("for bob", () => assert.fail("an event for another socket"));
  const forBob = next(bob, "for bob");
  await act("emit", "/", bob.id, "for bob", 1);
  assert.deepEqual(await forBob, [1]);
  const closed = next(ann, "disconnect");
  await act("_disconnect", "/", true, "team");
  assert.deepEqual((await closed)[0], "io server disconnect");
  const { body } = await call(url, "GET", "/api/v1/audit?userId=admin-ui:ops", undefined, `Bearer ${admin()}`);
  const recorded = body.entries.map(({ operation, outcome }) => `${operation} ${outcome}`);
  assert.equal(recorded.filter((act) => act.endsWith("done")).length, 5, recorded.join());
  assert.ok(!JSON.stringify(body).includes(PASSWORD));
});

test("a role without permissions cannot act, and without admin not enter", async (t) => {
  const roles = { ROOMCAST_AUTH__ROLES__WATCHER__PERMISSIONS: "admin" };
  const { url } = await start(t, { ...writable, ...roles, ROOMCAST_ADMIN_UI__ROLE: "watcher" });
  const ann = await person(t, url, "ann");
  const operator = await connect(t, io, `${url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  const { error } = await operator.timeout(10_000).emitWithAck("_disconnect", "/", true, ann.id);
  assert.equal(error.code, "FORBIDDEN");
  const other = await start(t, { ROOMCAST_ADMIN_UI__ROLE: "user" });
  const refused = open(t, io, `${other.url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  assert.equal((await next(refused, "connect_error"))[0].message, "not allowed");
});

for (const revoked of [{ userId: "admin-ui:ops" }, { role: "watcher" }]) {
  test(`a revocation of ${Object.keys(revoked)} ends the UI, and refuses its login and session`, async (t) => {
    const roles = { ROOMCAST_AUTH__ROLES__WATCHER__PERMISSIONS: "admin" };
    const { url } = await start(t, { ...roles, ROOMCAST_ADMIN_UI__ROLE: "watcher" });
    const operator = open(t, io, `${url}/admin-ui`, { auth: { username: "ops", password: PASSWORD }, reconnection: false });
    const [sessionId] = await next(operator, "session");
    const closed = next(operator, "disconnect");
    const { status } = await call(url, "POST", "/api/v1/revocations", revoked);
    assert.equal(status, 200);
    assert.equal((await closed)[0], "io server disconnect");
    for (const auth of [{ username: "ops", password: PASSWORD }, { sessionId }]) {
      const refused = open(t, io, `${url}/admin-ui`, { auth, reconnection: false });
      assert.equal((await next(refused, "connect_error"))[0].message, "invalid credentials");
    }
  });
}

test("an address that guesses passwords has to wait, sessions are random", async (t) => {
  const { url } = await start(t);
  const attempt = async (auth) => {
    const socket = open(t, io, `${url}/admin-ui`, { auth, reconnection: false });
    const [error] = await next(socket, "connect_error");
    return error.message;
  };
  for (const auth of [{}, { sessionId: "0".repeat(32) }, { sessionId: null }, { username: "ops" }, { username: 7, password: [] }, { token: admin() }]) {
    assert.equal(await attempt(auth), "invalid credentials", JSON.stringify(auth));
  }
  for (let count = 0; count < 10; count += 1) {
    assert.equal(await attempt({ username: "ops", password: `${count}` }), "invalid credentials");
  }
  for (const password of ["wrong", PASSWORD]) {
    assert.match(await attempt({ username: "ops", password }), /too many attempts/);
  }
});

test("a replaced password is refused after a restart, and its sessions too", async (t) => {
  const first = await start(t);
  const operator = open(t, io, `${first.url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  const [sessionId] = await next(operator, "session");
  const again = await connect(t, io, `${first.url}/admin-ui`, { auth: { sessionId } });
  again.disconnect();
  const second = await start(t, { ROOMCAST_ADMIN_UI__PASSWORD_HASH: OTHER_HASH });
  for (const auth of [{ username: "ops", password: PASSWORD }, { sessionId }]) {
    const refused = open(t, io, `${second.url}/admin-ui`, { auth });
    assert.equal((await next(refused, "connect_error"))[0].message, "invalid credentials");
  }
  await connect(t, io, `${second.url}/admin-ui`, { auth: { username: "ops", password: "another password" } });
});

test("a replaced password is refused after a reload, and its sessions end", async (t) => {
  const file = join(temporary(), "roomcast.env");
  const write = (hash, username = "ops") => writeFile(file, `ROOMCAST_ADMIN_UI__USERNAME=${username}\nROOMCAST_ADMIN_UI__PASSWORD_HASH=${hash}\n`);
  await write(HASH);
  const started = await start(t, { ROOMCAST_ENV_FILE: file });
  const { url } = started;
  const reload = async (line) => {
    const found = started.found((text) => line.test(text) || undefined, `${line}`);
    started.kill("SIGHUP");
    await found;
  };
  const ann = await person(t, url, "ann");
  const operator = open(t, io, `${url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  const [sessionId] = await next(operator, "session");

  // A name needs a restart, and the new password does not apply to the old name.
  await write(OTHER_HASH, "root");
  await reload(/configuration not reloaded.*admin_ui\.username/);
  assert.ok(operator.connected);
  const ended = next(operator, "disconnect");
  await write(OTHER_HASH);
  await reload(/configuration reloaded.*admin_ui\.password_hash/);
  assert.equal((await ended)[0], "io server disconnect");
  for (const auth of [{ username: "ops", password: PASSWORD }, { sessionId }]) {
    const refused = open(t, io, `${url}/admin-ui`, { auth });
    assert.equal((await next(refused, "connect_error"))[0].message, "invalid credentials");
  }
  const again = open(t, io, `${url}/admin-ui`, { auth: { username: "ops", password: "another password" } });
  const [other] = await next(again, "session");
  await connect(t, io, `${url}/admin-ui`, { auth: { sessionId: other } });
  // A reload with the same password ends nothing, and users stay connected in any case.
  await reload(/configuration reloaded.*changed=""/);
  assert.ok(again.connected && ann.connected);
  assert.equal((await ask(ann, "conversations", {})).success, true);
});

test("the admin UI is off by default, and bad hashes are refused at start", async (t) => {
  const server = await startServer(keyed);
  t.after(() => server.stop());
  const socket = open(t, io, `${server.url}/admin-ui`, { auth: { username: "ops", password: PASSWORD } });
  assert.equal((await next(socket, "connect_error"))[0].message, "Invalid namespace");
  const enabled = { ROOMCAST_ADMIN_UI__ENABLED: "true" };
  for (const [env, reason] of [
    [enabled, /set admin_ui\.password_hash/],
    [{ ...enabled, ROOMCAST_ADMIN_UI__PASSWORD_HASH: PASSWORD }, /admin_ui\.password_hash is not a bcrypt hash/],
    [{ ...enabled, ROOMCAST_ADMIN_UI__PASSWORD_HASH: HASH.replace("$10$", "$04$") }, /has the cost 4/],
    [{ ...enabled, ROOMCAST_ADMIN_UI__PASSWORD_HASH: HASH, ROOMCAST_ADMIN_UI__NAMESPACE: "/admin" }, /namespace of admins/],
  ]) {
    const { status, stderr } = command(["check-config"], env);
    assert.equal(status, 2, stderr);
    assert.match(stderr, reason);
    assert.ok(!stderr.includes(PASSWORD) && !stderr.includes(HASH));
  }
  const shown = command(["print-config"], { ...enabled, ROOMCAST_ADMIN_UI__PASSWORD_HASH: HASH });
  assert.equal(shown.status, 0, shown.stderr);
  assert.ok(!shown.stdout.includes(HASH));
});
