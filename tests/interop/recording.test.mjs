// Records stock clients of the real server, and replays them against it and against Node servers.
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { join } from "node:path";
import { test } from "node:test";
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { vouched } from "./certificates.mjs";
import { launch } from "./processes.mjs";
import { ask, command, next, open, program, startServer, temporary, until } from "./support.mjs";
import { SECRET } from "./tokens.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
/** Guests may do what users may, so that no test needs tokens. */
const SERVER = { ROOMCAST_AUTH__JWT__SECRET: SECRET, ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user" };
/** The credentials of a replay: each recorded user is a guest. */
const AUTH = ["--auth", '{"name":"{user}"}'];
const TEXT = "The canary sings at 10:45";
const NAME = "Ada Canary";
const PASSWORD = "canary-password-7";

/** Starts to record, and returns the path of the file. */
async function record(t, server, ...options) {
  const file = join(temporary(), "traffic.ndjson");
  const recorder = launch(program, ["record", file, "--url", server.url, ...options], { env: SERVER });
  t.after(() => recorder.kill());
  const isStarted = () => !recorder.isRunning() || lines(file).length > 0;
  await until(isStarted, () => `the recording\n${recorder.output()}`);
  return { file, recorder };
}

function lines(file) {
  try {
    return readFileSync(file, "utf8").trim().split("\n").filter(Boolean);
  } catch {
    return [];
  }
}

/** Writes a recording with these lines, and returns its path. */
function written(lines) {
  const file = join(temporary(), "traffic.ndjson");
  const recording = { version: 1, startedAt: "x", server: "0", node: "n", selection: "everyone", masked: true };
  writeFileSync(file, [{ recording }, ...lines].map((line) => `${JSON.stringify(line)}\n`).join(""));
  return file;
}

/** Returns the content of all lines of a kind. */
const parsed = (file, kind) => lines(file).map((line) => JSON.parse(line)[kind]).filter(Boolean);

/** Two users talk. Returns how many events they sent. */
async function talk(t, server) {
  const secret = { guestKey: "canary-key-of-a-guest-1234567890" };
  const ada = open(t, io, server.url, { auth: { name: NAME, ...secret } });
  const bob = open(t, io, server.url, { auth: { name: "Bob" }, transports: ["websocket"] });
  await Promise.all([next(ada, "session"), next(bob, "session")]);
  for (const user of [ada, bob]) assert.equal((await ask(user, "join_conversation", LOBBY)).success, true);
  const received = next(bob, "message");
  const sent = await ask(ada, "message", { conversationId: LOBBY, content: TEXT, confirmDelivery: true });
  assert.equal(sent.success, true);
  const [message, confirm] = await received;
  assert.equal(message.content, TEXT);
  confirm?.();
  const { id } = sent.message;
  assert.equal((await ask(ada, "edit_message", { messageId: id, content: `${TEXT}!` })).success, true);
  bob.emit("typing", { conversationId: LOBBY, isTyping: true });
  const refused = await ask(bob, "message", { conversationId: LOBBY, content: "", password: PASSWORD });
  assert.equal(refused.error.code, "INVALID_PAYLOAD");
  assert.equal((await ask(bob, "canary of an event")).success, false);
  for (const user of [ada, bob]) user.disconnect();
  return 7;
}

/** Waits until a recording has the ends of this many connections, and ends it. */
async function finish({ file, recorder }, connections) {
  await until(() => parsed(file, "close").length === connections, () => readFileSync(file, "utf8"));
  assert.equal(await recorder.stop("SIGINT"), 0, recorder.output());
}

/** Starts a Node server with this handler of connections, and returns its port. */
async function startNode(t, http, connected) {
  const server = new Server(http);
  t.after(() => server.close());
  server.on("connection", connected);
  await new Promise((done) => http.listen(0, "127.0.0.1", done));
  return http.address().port;
}

function replay(file, url, ...options) {
  const done = command(["replay", file, url, "--json", ...options]);
  const report = done.stdout ? JSON.parse(done.stdout) : undefined;
  return { code: done.status, report, output: `${done.stdout}\n${done.stderr}` };
}

test("a masked recording has no texts, and a fresh server answers its replay equally", async (t) => {
  const [server, fresh] = await Promise.all([startServer(SERVER), startServer(SERVER)]);
  t.after(() => Promise.all([server.stop(), fresh.stop()]));
  const recording = await record(t, server, "--everyone");
  const sent = await talk(t, server);
  await finish(recording, 2);
  const { file } = recording;
  const text = readFileSync(file, "utf8");
  for (const canary of [/canary/i, /Ada/, /Bob/, /sings/, /127\.0\.0\.1/, /guest:/]) assert.doesNotMatch(text, canary);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const header = parsed(file, "recording")[0];
  assert.deepEqual([header.version, header.masked, header.selection], [1, true, "everyone"]);
  const opened = parsed(file, "open");
  assert.deepEqual(new Set(opened.map(({ transport }) => transport)), new Set(["polling", "websocket"]));
  assert.equal(new Set(opened.map(({ user }) => user)).size, 2);
  const events = parsed(file, "event");
  assert.equal(events.length, sent, text);
  const message = events.find(({ event }) => event === "message").args[0];
  assert.deepEqual(message, { conversationId: LOBBY, content: "Xxx xxxxxx xxxxx xx 00:00", confirmDelivery: true });
  const answers = parsed(file, "answer");
  assert.equal(answers.length, sent - 1);
  for (const { latencyMs } of answers) assert.ok(latencyMs > 0 && latencyMs < 60_000);
  assert.equal(parsed(file, "end")[0].reason, "interrupted");

  const same = replay(file, fresh.url, "--speed", "3", "--in-order", ...AUTH);
  assert.equal(same.code, 0, same.output);
  assert.deepEqual(same.report.connections, { recorded: 2, opened: 2 });
  assert.deepEqual(same.report.events, { recorded: sent, sent, unsent: 0 });
  const expected = sent - 1;
  assert.deepEqual(same.report.answers, { expected, equal: expected, different: 0, unanswered: 0, unexpected: 0 });
  assert.equal(same.report.latencyMs.replayed.count, expected);
  assert.equal(same.report.recording.complete, true);
  const page = command(["replay", file, fresh.url, "--in-order", ...AUTH]);
  assert.equal(page.status, 0, page.stdout + page.stderr);
  assert.match(page.stdout, new RegExp(`answers +${expected} expected, ${expected} equal`));

  const again = command(["record", file, "--url", server.url, "--everyone"], SERVER);
  assert.equal(again.status, 1);
  assert.match(again.stderr, /exists/);
});

test("replays report what another server answers differently or not at all", async (t) => {
  const server = await startServer(SERVER);
  t.after(() => server.stop());
  const recording = await record(t, server, "--everyone", "--consent", "the test agreed");
  await talk(t, server);
  await finish(recording, 2);
  const { file } = recording;
  // With consent, texts are kept. Secrets and the payload of CONNECT are not.
  const text = readFileSync(file, "utf8");
  assert.match(text, /The canary sings at 10:45/);
  assert.ok(!text.includes(PASSWORD) && !text.includes("canary-key"));
  assert.ok(!JSON.stringify(parsed(file, "event")).includes(NAME));

  const credentials = [];
  const port = await startNode(t, createServer(), (socket) => {
    credentials.push(socket.handshake.auth);
    socket.on("join_conversation", (id, answer) => answer({ success: true, other: `canary ${id}` }));
    socket.on("edit_message", (_, answer) => answer());
    for (const name of ["message", "canary of an event"]) socket.on(name, () => {});
  });
  const url = `http://127.0.0.1:${port}`;
  const done = launch(program, ["replay", file, url, "--json", "--speed", "10", "--answer-timeout", "3s", ...AUTH]);
  assert.equal(await done.ended, 3, done.output());
  const report = JSON.parse(done.output());
  assert.deepEqual(report.answers, { expected: 6, equal: 0, different: 3, unanswered: 3, unexpected: 0 });
  const [joined] = report.differences.filter(({ event }) => event === "join_conversation");
  assert.ok(joined.at.length === 5 && joined.at.every(({ replayed }) => replayed === "(absent)"), done.output());
  const [edited] = report.differences.filter(({ event }) => event === "edit_message");
  assert.deepEqual(edited.at, [{ path: "", recorded: "1 values", replayed: "0 values" }]);
  // The report has no text of either side.
  assert.doesNotMatch(done.output().replaceAll("canary of an event", ""), /canary/);
  assert.equal(credentials.length, 2);
  assert.equal(new Set(credentials.map(({ name }) => name)).size, 2);

  // A Node server that answers as the recorded one, over TLS.
  const recorded = parsed(file, "answer");
  const { cert, key, ca } = vouched("IP:127.0.0.1");
  const secure = createSecureServer({ cert: readFileSync(cert), key: readFileSync(key) });
  const securePort = await startNode(t, secure, (socket) => {
    socket.onAny((_, ...args) => typeof args.at(-1) === "function" && args.at(-1)(...recorded.shift().args));
  });
  const options = ["--json", "--speed", "10", "--in-order", ...AUTH];
  const env = { SSL_CERT_FILE: ca };
  const equal = launch(program, ["replay", file, `https://127.0.0.1:${securePort}`, ...options], { env });
  assert.equal(await equal.ended, 0, equal.output());
  assert.equal(JSON.parse(equal.output()).answers.equal, 6);

  const unreachable = replay(file, "http://127.0.0.1:9", ...AUTH);
  assert.equal(unreachable.code, 1);
  assert.match(unreachable.output, /127\.0\.0\.1:9/);
});

test("a replay keeps the order and the distances of events, divided by its speed", async (t) => {
  // Event n has the number n. Two connections take turns.
  const times = [1_000, 11_000, 31_000, 41_000];
  const connections = [1, 2].map((connection) => ({ atMs: 0, connection }));
  const file = written([
    ...connections.map((one) => ({ open: { ...one, namespace: "/", transport: "websocket", user: "ann", before: false } })),
    ...times.map((atMs, n) => ({ event: { atMs, connection: 1 + (n % 2), event: "message", args: [n] } })),
    ...connections.map((one) => ({ close: { ...one, atMs: 42_000, reason: "transport close" } })),
    { end: { atMs: 42_000, reason: "interrupted" } },
  ]);
  const play = async (speed) => {
    const arrived = [];
    const port = await startNode(t, createServer(), (socket) => socket.on("message", (n) => arrived.push({ n, at: performance.now() })));
    const done = launch(program, ["replay", file, `http://127.0.0.1:${port}`, "--json", "--speed", `${speed}`, ...AUTH]);
    t.after(() => done.kill());
    assert.equal(await done.ended, 0, done.output());
    assert.deepEqual(arrived.map(({ n }) => n), [0, 1, 2, 3]);
    const distances = arrived.slice(1).map(({ at }, n) => at - arrived[n].at);
    for (const [n, distance] of distances.entries()) {
      const due = (times[n + 1] - times[n]) / speed;
      // At least half: a busy machine receives an event late, and so nearer to the next one.
      assert.ok(distance > due / 2, `at ${speed}: ${distances}, not ${due}`);
    }
    return arrived[3].at - arrived[0].at;
  };
  const [slow, fast] = await Promise.all([play(5), play(10)]);
  // The recording has 40 s.
  assert.ok(fast < 0.75 * slow && slow < 30_000, `${fast} and ${slow} ms`);
});

test("a malformed recording is refused with its line", async () => {
  const event = { atMs: 1, connection: 1, event: "message", args: [] };
  const file = written([{ event }]);
  const refused = replay(file, "http://127.0.0.1:9");
  assert.equal(refused.code, 1);
  assert.match(refused.output, /traffic\.ndjson: line 2: connection 1 is not open/);
  for (const options of [["--speed", "0"], ["--auth", "[]"], ["--answer-timeout", "0s"]]) {
    assert.equal(command(["replay", file, "http://127.0.0.1:9", ...options]).status, 2, options.join(" "));
  }
});
