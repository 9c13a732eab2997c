import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation } from "../src/conversation.ts";
import { RequestError } from "../src/failure.ts";
import type { Queue } from "../src/queue/queue.ts";
import type { Message } from "../src/types.ts";
import { FakeServer, settled } from "./fake.ts";
import { message } from "./message.ts";

function open(server: FakeServer, options = {}) {
  const conversation = new Conversation("lobby", { page: 3, ...options }, server, undefined as unknown as Queue, () => {});
  const seen = { seqs: [] as number[], resets: 0, failures: [] as string[] };
  const add = (messages: readonly Message[]) => seen.seqs.push(...messages.map(({ seq }) => seq));
  conversation.on("reset", (newest) => {
    seen.resets += 1;
    seen.seqs = [];
    add(newest);
  });
  conversation.on("messages", add);
  conversation.on("failed", ({ code }) => seen.failures.push(code));
  const say = () => conversation.receive(server.store());
  return { conversation, seen, say };
}

test("the first join emits the newest page", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 7; count += 1) server.store();
  const { conversation, seen } = open(server);
  await conversation.enter();
  assert.equal(conversation.stage, "entered");
  assert.deepEqual(seen.seqs, [5, 6, 7]);
  assert.deepEqual(server.requests, ["join_conversation", "message_history"]);
});

test("a message that arrives while the newest page is on its way is not lost", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation, seen, say } = open(server);
  server.afterReading = say;
  await conversation.enter();
  assert.deepEqual(seen.seqs, [1, 2]);
});

test("after a reconnect all missed messages are emitted once, in order", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation, seen, say } = open(server);
  await conversation.enter();
  for (let count = 0; count < 8; count += 1) server.store();
  server.afterReading = say;
  conversation.wait();
  await conversation.enter();
  assert.deepEqual(seen, { seqs: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], resets: 1, failures: [] });
  assert.deepEqual(server.requests.slice(2), [
    "join_conversation lastSeq=0",
    "message_history afterSeq=3",
    "message_history afterSeq=6",
    "message_history afterSeq=9",
  ]);
});

test("a user who becomes a member joins an absent conversation", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation, seen } = open(server);
  server.refusing = new RequestError({ code: "NOT_FOUND", message: "" });
  await conversation.enter();
  assert.equal(conversation.stage, "absent");
  conversation.handleUpdated();
  await settled();
  assert.deepEqual([conversation.stage, seen.seqs], ["entered", [1]]);
});

test("with since, a visit continues after the last message", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 4; count += 1) server.store();
  const { conversation, seen } = open(server, { since: 2 });
  await conversation.enter();
  assert.deepEqual(seen, { seqs: [3, 4], resets: 0, failures: [] });
  assert.equal(conversation.lastSeq, 4);
});

test("a message waits until its missing predecessor is requested", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  server.store();
  const { conversation, seen, say } = open(server);
  await conversation.enter();
  server.store();
  say();
  assert.deepEqual(seen.seqs, [1]);
  context.mock.timers.tick(1_000);
  await settled();
  assert.deepEqual(seen.seqs, [1, 2, 3]);
});

test("reordered messages are emitted in order, without a request", async () => {
  const server = new FakeServer();
  const { conversation, seen } = open(server);
  await conversation.enter();
  const [one, two, three] = [server.store(), server.store(), server.store()];
  for (const late of [three, two, three, one, one]) conversation.receive(late);
  assert.deepEqual(seen.seqs, [1, 2, 3]);
  assert.equal(server.requests.length, 2);
  conversation.wait();
});

test("a newer message before the reconnect does not hide a missing one", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation, seen, say } = open(server);
  await conversation.enter();
  server.store();
  say();
  conversation.wait();
  await conversation.enter();
  assert.deepEqual(seen.seqs, [1, 2, 3]);
});

test("a new history of the server is emitted from its newest page", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 3; count += 1) server.store();
  const { conversation, seen } = open(server);
  await conversation.enter();
  server.stored = [message(1, { id: "new-1" })];
  await conversation.enter();
  assert.deepEqual(seen, { seqs: [1], resets: 2, failures: [] });
});

test("more than ten missed pages are skipped by a reset", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation, seen } = open(server);
  await conversation.enter();
  for (let count = 0; count < 50; count += 1) server.store();
  await conversation.enter();
  assert.equal(seen.resets, 2);
  assert.deepEqual(seen.seqs, [49, 50, 51]);
});

test("a failed join is retried with delays, unless the conversation is absent", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  server.store();
  const { conversation, seen } = open(server);
  const request = server.request.bind(server);
  const failures = ["STORE_UNAVAILABLE", "RATE_LIMITED"].map((code) => new RequestError({ code, message: "", retryAfter: 3_000 }));
  server.request = async (...args) => {
    const failure = failures.shift();
    if (failure !== undefined) throw failure;
    return request(...args);
  };
  void conversation.enter();
  await settled();
  for (const delay of [2_999, 1, 3_000]) {
    assert.equal(conversation.stage, "entering");
    context.mock.timers.tick(delay);
    await settled();
  }
  assert.equal(conversation.stage, "entered");
  assert.deepEqual(seen, { seqs: [1], resets: 1, failures: ["STORE_UNAVAILABLE", "RATE_LIMITED"] });
  failures.push(new RequestError({ code: "NOT_FOUND", message: "" }));
  await conversation.enter();
  assert.equal(conversation.stage, "absent");
});

test("a deleted conversation is absent and causes no further request", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  conversation.handleDeleted();
  assert.equal(conversation.stage, "absent");
  conversation.receive(message(5));
  assert.equal(server.requests.length, 2);
});

test("a message that arrives during the join is emitted", async () => {
  for (let moment = 0; moment < 20; moment += 1) {
    const server = new FakeServer();
    server.store();
    const { conversation, seen } = open(server, { since: 0 });
    const entering = conversation.enter();
    for (let passed = 0; passed < moment; passed += 1) await Promise.resolve();
    conversation.receive(message(2));
    await entering;
    assert.deepEqual(seen.seqs, [1, 2], `after ${moment} turns`);
  }
});

test("answers of an earlier connection are ignored", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation, seen } = open(server);
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const request = server.request.bind(server);
  server.request = async (...args) => {
    const answer = await request(...args);
    await held;
    return answer;
  };
  const first = conversation.enter();
  server.request = request;
  await conversation.enter();
  release();
  await first;
  assert.deepEqual(seen, { seqs: [1], resets: 1, failures: [] });
});

/** Returns what a listener receives that is added now. */
function late(conversation: Conversation) {
  const seen = { resets: [] as [contents: string[], hasOlder: boolean][], messages: [] as number[][] };
  const ends = [
    conversation.on("reset", (newest, hasOlder) => seen.resets.push([newest.map(({ content }) => content), hasOlder])),
    conversation.on("messages", (messages) => seen.messages.push(messages.map(({ seq }) => seq))),
  ];
  return { seen, remove: () => ends.forEach((end) => end()) };
}

test("a listener that is added later gets the content, and then what follows", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 4; count += 1) server.store({ content: `text ${count + 1}` });
  const { conversation, say } = open(server);
  await conversation.enter();
  const first = late(conversation);
  assert.deepEqual(first.seen, { resets: [[["text 2", "text 3", "text 4"], true]], messages: [] });
  first.remove();
  say();
  const second = late(conversation);
  assert.equal(second.seen.resets[0]?.[0].length, 4);
  say();
  assert.deepEqual([first.seen.messages, second.seen.messages], [[], [[6]]]);
  conversation.wait();
  assert.deepEqual(late(conversation).seen.resets[0]?.[0].length, 5, "also without a connection");
  assert.deepEqual(server.requests.length, 2, "nothing is read again");
});

test("a listener that throws when it is added later does not disturb the caller", async (context) => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  const thrown: unknown[] = [];
  context.mock.method(globalThis, "queueMicrotask", (report: () => void) => {
    assert.throws(report, /mistake/);
    thrown.push(report);
  });
  conversation.on("reset", () => {
    throw new Error("a mistake of the application");
  });
  assert.equal(thrown.length, 1);
});

test("listeners added later get the present users and the latest answer", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  const ann = { userId: "ann", name: "Ann", connections: 1, since: "2025-01-31T12:00:00.000Z" };
  conversation.handlePresence({ conversationId: "lobby", count: 1, users: [ann] });
  const seen: unknown[] = [];
  conversation.on("users", (users) => seen.push(users));
  conversation.on("joined", ({ hasMore }) => seen.push(hasMore));
  assert.deepEqual(seen, [[ann], false]);
  conversation.wait();
  conversation.on("users", () => assert.fail("without a connection it is not known who is there"));
});

test("retained messages are edited and deleted as live ones are", async () => {
  const server = new FakeServer();
  const [one, two] = [server.store({ content: "one" }), server.store({ content: "two" }), server.store({ content: "three" })];
  const { conversation } = open(server);
  await conversation.enter();
  server.request = async () => {
    throw new RequestError({ code: "STORE_UNAVAILABLE", message: "" });
  };
  conversation.handleChange({ ...one, content: "1", version: 2 });
  conversation.handleChange({ ...one, content: "older", version: 1 });
  conversation.handleChange({ conversationId: "lobby", messageId: two.id, deletedAt: "2025-01-31T12:00:00.000Z", deletedBy: "me", seq: 2 });
  conversation.handleChange({ ...two, version: 9 });
  assert.deepEqual(late(conversation).seen.resets, [[["1", "", "three"], false]]);
  await settled();
});

test("changes during an outage are read for a listener added later", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 5; count += 1) server.store({ content: "as it was" });
  const { conversation, say, seen } = open(server);
  await conversation.enter();
  conversation.wait();
  server.stored = server.stored.map((stored) => (stored.seq === 4 ? { ...stored, content: "edited", version: 2 } : stored));
  await conversation.enter();
  server.afterReading = say;
  const { seen: later } = late(conversation);
  const { seen: second } = late(conversation);
  const removed = late(conversation);
  removed.remove();
  await settled();
  assert.equal(server.requests.length, 4, "one request for all of them");
  assert.deepEqual(second.resets[1], later.resets[1]);
  const [before, after, ...rest] = later.resets;
  assert.deepEqual(before, [["as it was", "as it was", "as it was"], true]);
  assert.deepEqual(after, [["as it was", "edited", "as it was", "message 6"], true], "with the message that came during the request");
  assert.deepEqual([rest, removed.seen.resets.length, seen.resets], [[], 1, 1]);
  const requests = server.requests.length;
  late(conversation);
  assert.equal(server.requests.length, requests, "nothing has changed since");
});

test("with since, a later listener of messages gets all since then", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 4; count += 1) server.store();
  const { conversation } = open(server, { since: 2 });
  await conversation.enter();
  assert.deepEqual(late(conversation).seen, { resets: [], messages: [[3, 4]] });
});

test("the newest 1,000 messages are retained, and a reset begins with them", async () => {
  const server = new FakeServer();
  const { conversation } = open(server, { since: 0 });
  await conversation.enter();
  for (let seq = 1; seq <= 1_001; seq += 1) conversation.receive(message(seq));
  const { seen } = late(conversation);
  assert.deepEqual([seen.messages, seen.resets[0]?.[0].length, seen.resets[0]?.[1]], [[], 1_000, true]);
});

test("later listeners get nothing of deleted conversations or other users", async () => {
  const server = new FakeServer();
  server.store({ content: "read by one user" });
  const { conversation, seen } = open(server);
  await conversation.enter();
  conversation.wait();
  conversation.forget(true);
  assert.deepEqual(late(conversation).seen, { resets: [], messages: [] });
  await conversation.enter();
  assert.equal(seen.resets, 2, "the next user begins with the newest page");
  assert.equal(late(conversation).seen.resets.length, 1);
  conversation.handleDeleted();
  conversation.handleChange({ ...message(1), version: 2 });
  assert.deepEqual(late(conversation).seen, { resets: [], messages: [] });
});

test("content discarded during a reload is not emitted", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation } = open(server);
  await conversation.enter();
  await conversation.enter();
  const { seen } = late(conversation);
  conversation.handleDeleted();
  await settled();
  assert.equal(seen.resets.length, 1);
});

test("an interruption is shown and missing messages requested until it ends", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  server.store();
  const { conversation, seen } = open(server);
  await conversation.enter();
  const shown: boolean[] = [];
  conversation.on("interrupted", (isInterrupted) => shown.push(isInterrupted));
  const request = server.request.bind(server);
  server.request = async () => {
    throw new RequestError({ code: "STORE_UNAVAILABLE", message: "" });
  };
  server.store();
  conversation.handleInterrupted();
  await settled();
  assert.deepEqual([shown, conversation.isInterrupted, seen.seqs], [[true], true, [1]]);
  server.request = request;
  context.mock.timers.tick(1_000);
  await settled();
  assert.deepEqual(seen.seqs, [1, 2], "what the server can read by now");
  assert.equal(conversation.isInterrupted, true, "live messages may still be missing");
  server.store();
  context.mock.timers.tick(1_000);
  await settled();
  assert.deepEqual(seen.seqs, [1, 2, 3]);
  server.store();
  conversation.handleUpdated();
  await settled();
  assert.deepEqual([shown, seen.seqs], [[true, false], [1, 2, 3, 4]]);
  const requests = server.requests.length;
  context.mock.timers.tick(10_000);
  await settled();
  assert.equal(server.requests.length, requests, "nothing more is asked");
  conversation.handleInterrupted();
  conversation.wait();
  assert.deepEqual(shown, [true, false, true, false], "a lost connection ends it");
});
