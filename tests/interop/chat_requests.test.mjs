// Messages whose text is the body of an HTTP request, and `roomcast stream`: members read the text
// while it arrives, and the message ends with the request.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conversation, gathered, person, postgres, startServers, whatIsThere } from "./chat_servers.mjs";
import { call, keyed, server } from "./people.mjs";
import { ask, metric, program, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const service = token({ sub: "backend", roles: ["service"] });

/** Begins a request whose body is written in pieces. */
function write({ url }, conversationId, query, type = "text/plain; charset=utf-8", headers = {}) {
  const path = `${url}/api/v1/conversations/${conversationId}/messages/stream?${new URLSearchParams(query)}`;
  const out = request(path, {
    method: "POST",
    headers: { authorization: `Bearer ${service}`, "content-type": type, ...headers },
  });
  out.setNoDelay(true);
  out.on("error", () => {}); // The server may answer and close before all is written.
  out.flushHeaders();
  const answer = (async () => {
    const [response] = await once(out, "response");
    const parts = [];
    for await (const part of response) parts.push(part);
    return { status: response.statusCode, headers: response.headers, body: JSON.parse(Buffer.concat(parts)) };
  })();
  answer.catch(() => {});
  return {
    send: (part) => out.write(part),
    end: (part) => (out.end(part), answer),
    cut: () => out.destroy(),
    answer,
  };
}

/** Returns what a reader has of its newest streamed message: the text from events alone. */
function textOf(reader) {
  const { id } = reader.all("message").at(-1);
  let text = "";
  for (const { messageId, offset, text: more } of reader.all("message_appended")) {
    if (messageId !== id) continue;
    assert.equal(offset, [...text].length);
    text += more;
  }
  return text;
}

/** Waits until a reader has this text of its message with this number. */
const has = (reader, text, count = 1) =>
  until(() => reader.all("message").length === count && textOf(reader) === text, `${reader.name} to have ${JSON.stringify(text)}`);
const ended = (reader, count = 1) => until(() => reader.all("message_edited").length === count, "the end");

test("members read the body of a request while it arrives", async (t) => {
  const started = await server(t);
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  const coach = await person(t, started, "coach");
  await bob.must("add_member", { conversationId, userId: "coach" });
  const whole = "Grün €, 😀 \n- a\n";
  const bytes = Buffer.from(whole);
  const out = write(started, conversationId, { userId: "coach", userName: "Coach", type: "ai" });
  for (const byte of bytes.subarray(0, 9)) {
    out.send(Buffer.of(byte)); // Also within a character.
    await sleep(5); // A chunk of its own.
  }
  await has(bob, "Grün €");
  assert.equal(await metric(started.url, "roomcast_streams_open"), 1);
  const { status, body } = await out.end(bytes.subarray(9));
  assert.equal(status, 201, JSON.stringify(body));
  const { message } = body;
  assert.deepEqual([message.content, message.userId, message.userName, message.type], [whole, "coach", "Coach", "ai"]);
  assert.deepEqual([message.version, message.streaming, message.interrupted], [2, undefined, undefined]);
  for (const one of [bob, eve]) {
    await ended(one);
    assert.deepEqual(one.all("message_edited"), [message]);
    assert.deepEqual([one.all("message")[0].streaming, one.all("message")[0].content], [true, ""]);
    assert.ok(whole.startsWith(textOf(one)));
  }
  assert.deepEqual((await coach.must("message_history", { conversationId })).messages.at(-1), message);
  assert.equal(await metric(started.url, "roomcast_streams_open"), 0);
});

test("lines of JSON and the events of a model are written unchanged", async (t) => {
  const started = await server(t);
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  const lines = write(started, conversationId, { userId: "bob" }, "application/x-ndjson");
  lines.send('{"text":"Hel');
  lines.send('lo"}\n{"te');
  await has(eve, "Hello");
  const first = await lines.end('xt":" \\ud83d\\ude00"}\n');
  assert.deepEqual([first.status, first.body.message.content], [201, "Hello 😀"]);

  const event = (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: content }] })}\n\n`;
  const select = "choices.0.delta.content";
  const events = write(started, conversationId, { userId: "bob", select }, "text/event-stream");
  events.send(event({ role: "assistant", content: "" }) + ": still here\n\n" + event({ content: "wo" }));
  await has(eve, "wo", 2);
  events.send(event({ content: "rd" }) + event({}) + 'data: {"choices":[],"usage":{}}\n\n');
  const second = await events.end("data: [DONE]\n\n");
  assert.deepEqual([second.status, second.body.message.content], [201, "word"]);

  const nothing = write(started, conversationId, { userId: "bob", select: "delta" }, "text/event-stream");
  const { status, body } = await nothing.end(event({ content: "lost" }));
  assert.deepEqual([status, body.error.code, body.error.details.field], [400, "INVALID_PAYLOAD", "select"]);
  assert.match(body.error.message, /choices\.0\.delta\.content/);
  await ended(eve, 3);
  assert.deepEqual([eve.all("message_edited")[2].interrupted, eve.all("message_edited")[2].content], [true, ""]);
});

test("a member stops a request, at this server and at another one", async (t) => {
  const servers = await startServers(t, 2, whatIsThere);
  const bob = await person(t, servers[0], "bob");
  const eve = await person(t, servers[1], "eve");
  const conversationId = await conversation([bob, eve]);
  for (const one of [bob, eve]) await one.must("join_conversation", { conversationId });
  for (const [count, one] of [bob, eve].entries()) {
    const out = write(servers[0], conversationId, { userId: "bob" });
    out.send("so far");
    await has(eve, "so far", count + 1);
    const messageId = eve.all("message").at(-1).id;
    await one.must("stop_message", { messageId });
    const { status, body } = await out.answer;
    assert.deepEqual([status, body.error.code, body.error.message], [409, "CONFLICT", `${one.name} has asked to stop`]);
    await ended(eve, count + 1);
    const { content, interrupted, interruptedReason } = eve.all("message_edited").at(-1);
    assert.deepEqual([content, interrupted, interruptedReason], ["so far", true, `stopped by ${one.name}`]);
  }
});

test("a request that ends early or stays silent leaves what it wrote", async (t) => {
  const started = await server(t, { ROOMCAST_CHAT__STREAMS__TIMEOUT: "1s" });
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  let count = 0;
  const begun = async () => {
    const out = write(started, conversationId, { userId: "bob" });
    out.send("so far");
    await has(eve, "so far", (count += 1));
    return out;
  };
  (await begun()).cut();
  await ended(eve, 1);
  const silent = await (await begun()).answer;
  assert.deepEqual([silent.status, silent.body.error.code], [408, "TIMEOUT"]);
  await ended(eve, 2);
  const wrong = await begun();
  const refused = await wrong.end(Buffer.of(0xff));
  assert.deepEqual([refused.status, refused.body.error.message], [400, "the body is not UTF-8"]);
  await ended(eve, 3);
  const control = await (await begun()).end("\u0007");
  assert.deepEqual([control.status, control.body.error.details.field], [400, "text"]);
  await ended(eve, 4);
  const deleted = await begun();
  await bob.must("delete_message", { messageId: eve.all("message").at(-1).id });
  assert.deepEqual([(await deleted.answer).status], [409]);
  const removed = await begun();
  await bob.must("remove_member", { conversationId, userId: "bob" });
  assert.equal((await removed.answer).status, 409);
  for (const { content, interrupted } of eve.all("message_edited").slice(0, 4)) {
    assert.deepEqual([content, interrupted], ["so far", true]);
  }
});

test("a request loses its message when the service or the user is revoked", async (t) => {
  const started = await server(t);
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  assert.equal(bob.name, "bob");
  const out = write(started, conversationId, { userId: "bob" });
  out.send("so far");
  await has(eve, "so far");
  const { status } = await call(started.url, "POST", "/api/v1/revocations", { userId: "bob" });
  assert.ok(status < 300, `${status}`);
  const revoked = await out.answer;
  assert.deepEqual([revoked.status, revoked.body.error.code], [403, "FORBIDDEN"]);
  await ended(eve);
  assert.deepEqual([eve.all("message_edited")[0].content, eve.all("message_edited")[0].interrupted], ["so far", true]);
});

test("a repeated request goes on with its message", async (t) => {
  const [here, there] = await startServers(t, 2, whatIsThere);
  const [bob, eve] = [await person(t, here, "bob"), await person(t, there, "eve")];
  const conversationId = await conversation([bob, eve]);
  for (const one of [bob, eve]) await one.must("join_conversation", { conversationId });
  const query = { userId: "bob", clientMessageId: "answer 1" };
  const first = write(here, conversationId, query);
  first.send("one, ");
  await has(eve, "one, ");
  const again = write(there, conversationId, query);
  again.send("one, two");
  await has(eve, "one, two");
  const done = await again.end("!");
  assert.deepEqual([done.status, done.body.message.content], [201, "one, two!"]);
  const late = await first.end("more");
  assert.equal(late.status, 409, JSON.stringify(late.body));
  const { status, body } = await write(here, conversationId, query).end("one, two!");
  assert.deepEqual([status, body.message], [201, done.body.message]);
  assert.equal(postgres.query("SELECT count(*) FROM messages WHERE client_message_id = 'answer 1'")[0][0], "1");
});

test("a request is not answered with the text of its repetition", async (t) => {
  const [here, there] = await startServers(t, 2, { ...whatIsThere, ROOMCAST_CHAT__STREAMS__PER_USER: "8" });
  const [bob, eve] = [await person(t, here, "bob"), await person(t, there, "eve")];
  const conversationId = await conversation([bob, eve]);
  for (const one of [bob, eve]) await one.must("join_conversation", { conversationId });
  const queries = Array.from({ length: 8 }, (_, n) => ({ userId: "bob", clientMessageId: `late ${n}` }));
  const first = queries.map((query) => write(here, conversationId, query));
  for (const one of first) one.send("one, ");
  const appended = () => eve.all("message_appended").length;
  await until(() => appended() === first.length, () => `the beginnings, of which there are ${appended()}`);
  await here.pause();
  for (const query of queries) {
    const { status, body } = await write(there, conversationId, query).end("one, two!");
    assert.deepEqual([status, body.message.content], [201, "one, two!"]);
  }
  // The server finds the rest of the bodies and the ends of the messages at the same time.
  const late = first.map((one) => one.end("more"));
  here.resume();
  for (const { status, body } of await Promise.all(late)) assert.deepEqual([status, body.error?.code], [409, "CONFLICT"]);
});

test("a request that was repeated no longer ends its message", async (t) => {
  const started = await server(t, { ROOMCAST_CHAT__STREAMS__TIMEOUT: "2s" });
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  assert.equal(bob.name, "bob");
  const query = { userId: "bob", clientMessageId: "again" };
  const first = write(started, conversationId, query);
  first.send("one, ");
  await has(eve, "one, ");
  const again = write(started, conversationId, query);
  assert.equal((await first.answer).status, 409);
  again.send("one, two, ");
  await has(eve, "one, two, ");
  const { status, body } = await again.end("three");
  assert.deepEqual([status, body.message.content, body.message.interrupted], [201, "one, two, three", undefined]);
});

test("a server that shuts down lets the author go on at another one", async (t) => {
  const [here, there] = await startServers(t, 2, whatIsThere);
  const [bob, eve] = [await person(t, there, "bob"), await person(t, there, "eve")];
  const conversationId = await conversation([bob, eve]);
  for (const one of [bob, eve]) await one.must("join_conversation", { conversationId });
  const query = { userId: "bob", clientMessageId: "moved" };
  const out = write(here, conversationId, query);
  out.send("half, ");
  await has(eve, "half, ");
  const stopped = here.stop();
  const { status, headers } = await out.answer;
  assert.deepEqual([status, Number(headers["retry-after"]) > 0], [503, true]);
  await stopped;
  const { body } = await write(there, conversationId, query).end("half, whole");
  assert.deepEqual([body.message.content, body.message.interrupted], ["half, whole", undefined]);
});

test("text that arrives faster than the limits permit waits", async (t) => {
  const started = await server(t, {
    ROOMCAST_CHAT__STREAMS__APPENDS_PER_SECOND: "5",
    ROOMCAST_CHAT__STREAMS__BYTES_PER_SECOND: "40000",
  });
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  assert.equal(bob.name, "bob");
  const words = Array.from({ length: 12_000 }, (_, n) => `word ${n % 10} `);
  const out = write(started, conversationId, { userId: "bob" });
  for (const word of words) out.send(word);
  const { status, body } = await out.end();
  assert.deepEqual([status, body.message.content], [201, words.join("")]);
  await ended(eve);
  const long = await write(started, conversationId, { userId: "bob" }).end("x".repeat(100_001));
  assert.deepEqual([long.status, long.body.error.details.field], [400, "text"]);
  // A line without an end is refused once it is too long, and not held.
  const part = "y".repeat(1 << 16);
  for (const [type, beginning, more] of [
    ["application/x-ndjson", '{"text":"', {}],
    ["text/event-stream", 'data: {"text":"', { select: "text" }],
    ["text/event-stream", ": a comment ", { select: "text" }],
  ]) {
    const huge = write(started, conversationId, { userId: "bob", ...more }, type);
    huge.send(beginning);
    let sent = 0;
    for (let isAnswered = false; !isAnswered; sent += 1) {
      huge.send(part);
      isAnswered = await Promise.race([huge.answer.then(() => true), sleep(2, false)]);
      assert.ok(sent < 160, `10 MB in a line of ${type}`);
    }
    assert.equal((await huge.answer).status, 413, type);
    // The same at once: the server answers without reading to the end.
    const { status } = await write(started, conversationId, { userId: "bob", ...more }, type).end(`${beginning}${"y".repeat(10_000_000)}"}\n\n`);
    assert.equal(status, 413, type);
  }
  assert.ok(eve.all("message_appended").every(({ text }) => !text.includes("yy")));
});

test("a body without an end is refused once its text is too long", async (t) => {
  const started = await server(t, { ROOMCAST_CHAT__STREAMS__MAX_CHARS: "1000" });
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  assert.equal(bob.name, "bob");
  const out = write(started, conversationId, { userId: "bob" });
  let isAnswered = false;
  for (let sent = 0; !isAnswered; sent += 1) {
    assert.ok(sent < 1000, "1 MB of a text of 1,000 characters");
    out.send("x".repeat(1000));
    isAnswered = await Promise.race([out.answer.then(() => true), sleep(10, false)]); // The pace of a model.
  }
  const { status, body } = await out.answer;
  assert.deepEqual([status, body.error.details.field], [400, "text"]);
  await ended(eve);
  const [{ content, interrupted }] = eve.all("message_edited");
  assert.deepEqual([interrupted, content.length <= 1000], [true, true]);
});

test("what cannot be a stream is refused before a message begins", async (t) => {
  const started = await server(t);
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  for (const [status, query, type, headers] of [
    [415, { userId: "bob" }, "application/json"],
    [415, { userId: "bob" }, "text/plain; charset=latin1"],
    [400, { userId: "bob" }, "text/event-stream"],
    [400, { userId: "bob", select: "a" }, "text/plain"],
    [400, { userId: "bob", more: "1" }, "text/plain"],
    [400, { userName: "Bob" }, "text/plain"],
    [400, { userId: "bob" }, "text/plain", { "idempotency-key": "k" }],
    [415, { userId: "bob" }, "text/plain", { "content-encoding": "gzip" }],
    [404, { userId: "stranger" }, "text/plain"],
    [401, { userId: "bob" }, "text/plain", { authorization: "Bearer x" }],
    [403, { userId: "bob" }, "text/plain", { authorization: `Bearer ${token({ sub: "bob" })}` }],
  ]) {
    const { status: got, body } = await write(started, conversationId, query, type, headers).end("text");
    assert.equal(got, status, `${JSON.stringify(query)} ${type}: ${JSON.stringify(body)}`);
  }
  const { messages } = await bob.must("message_history", { conversationId });
  assert.deepEqual(messages, []);
  assert.deepEqual(eve.all("message"), []);
  // A text that is empty to its end begins, and is no message.
  assert.equal((await write(started, conversationId, { userId: "bob" }).end("")).status, 400);
});

/** Runs a command whose standard error is a terminal, and passes on what it shows there. */
const IN_TERMINAL = `
import os, pty, subprocess, sys
terminal, end = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stderr=end)
os.close(end)
try:
    while data := os.read(terminal, 1024):
        os.write(2, data)
except OSError:
    pass  # Linux reports the end of a terminal so.
sys.exit(child.wait())
`;

/** Returns a function that runs \`roomcast stream\` for Bob. */
function commands({ url }, conversationId) {
  return (more, [command, ...before] = [program]) => {
    const line = [...before, "stream", "--url", url, "--conversation", conversationId, "--user", "bob", ...more];
    const { NO_COLOR, ...env } = { ...process.env, ...keyed, TERM: "xterm" };
    const child = spawn(command, line, { env, stdio: ["pipe", "pipe", "pipe"] });
    const text = { out: "", err: "" };
    child.stdout.on("data", (part) => (text.out += part));
    child.stderr.on("data", (part) => (text.err += part));
    return { child, text, exit: once(child, "close").then(([code]) => ({ code, ...text })) };
  };
}

test("a command sends what a model writes to standard output", async (t) => {
  const started = await server(t);
  const { people: [bob, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  const run = commands(started, conversationId);
  const { child, exit } = run(["--name", "Bob", "--ai"]);
  child.stdin.write("Hello");
  await has(eve, "Hello");
  child.stdin.end(" there");
  const { code, out, err } = await exit;
  assert.deepEqual([code, err], [0, ""]);
  assert.deepEqual([JSON.parse(out).message.content, JSON.parse(out).message.type], ["Hello there", "ai"]);
  const stopped = run(["--lines"]);
  stopped.child.stdin.write('{"text":"so far"}\n');
  await has(eve, "so far", 2);
  assert.equal((await ask(bob.socket, "stop_message", { messageId: eve.all("message").at(-1).id })).success, true);
  const refused = await stopped.exit;
  assert.equal(refused.code, 1);
  assert.match(refused.err, /409 Conflict: bob has asked to stop/);
});

test("a command shows its progress on a terminal only", async (t) => {
  const started = await server(t);
  const { people: [, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  const run = commands(started, conversationId);
  const { child, text, exit } = run([], ["python3", "-c", IN_TERMINAL, program]);
  child.stdin.write("Hello");
  await until(() => text.err.includes("bytes sent: 5"), () => `the progress: ${text.err}`);
  child.stdin.write(" there");
  await until(() => text.err.includes("bytes sent: 11"), () => `more progress: ${text.err}`);
  await has(eve, "Hello there");
  assert.equal(text.out, "");
  child.stdin.end();
  const { code, out, err } = await exit;
  assert.deepEqual([code, JSON.parse(out).message.content], [0, "Hello there"]);
  // The line of the progress is erased at the end.
  assert.match(err, /\r\x1b\[2?K[^a-z]*$/);
});

test("a command sends the events of a model, and goes on if repeated", async (t) => {
  const started = await server(t);
  const { people: [, eve], conversationId } = await gathered(t, [started], ["bob", "eve"]);
  const run = commands(started, conversationId);
  const place = ["--select", "choices.0.delta.content"];
  const events = ["Grün ", "😀"].map((content) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
  const select = run(place);
  select.child.stdin.write(events[0]);
  await has(eve, "Grün ");
  select.child.stdin.end(`${events[1]}data: [DONE]\n\n`);
  const selected = await select.exit;
  assert.deepEqual([selected.code, selected.err], [0, ""]);
  assert.equal(JSON.parse(selected.out).message.content, "Grün 😀");
  const nothing = run(place);
  nothing.child.stdin.end('data: {"text":"elsewhere"}\n\n');
  const refused = await nothing.exit;
  assert.equal(refused.code, 1);
  assert.match(refused.err, /400 Bad Request/);
  const both = run([...place, "--lines"]);
  assert.equal((await both.exit).code, 2);

  // A repeated command goes on with the message, whose first command then fails.
  const before = eve.all("message").length;
  const id = ["--client-id", "once"];
  const first = run(id);
  first.child.stdin.write("one, ");
  await has(eve, "one, ", before + 1);
  const second = run(id);
  second.child.stdin.end("one, two");
  const { code, out } = await second.exit;
  assert.deepEqual([code, JSON.parse(out).message.content], [0, "one, two"]);
  first.child.stdin.end("more");
  const late = await first.exit;
  assert.equal(late.code, 1);
  assert.match(late.err, /409 Conflict/);
  const again = run(id);
  again.child.stdin.end("one, two");
  assert.equal((await again.exit).out, out);
  assert.equal(eve.all("message").length, before + 1);
});
