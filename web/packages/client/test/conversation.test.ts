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

test("the first time the newest page is given", async () => {
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

test("after a reconnect everything that was missed is given, once and in order", async () => {
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

test("who was not let in is, after being made a member", async () => {
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

test("a visit goes on where an earlier one has stopped", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 4; count += 1) server.store();
  const { conversation, seen } = open(server, { since: 2 });
  await conversation.enter();
  assert.deepEqual(seen, { seqs: [3, 4], resets: 0, failures: [] });
  assert.equal(conversation.lastSeq, 4);
});

test("a message whose predecessor is missing waits for it, and it is read", async (context) => {
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

test("messages that overtake each other are given in order, and nobody is asked", async () => {
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

test("when the server has begun a new history, the newest page of it is given", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 3; count += 1) server.store();
  const { conversation, seen } = open(server);
  await conversation.enter();
  server.stored = [message(1, { id: "new-1" })];
  await conversation.enter();
  assert.deepEqual(seen, { seqs: [1], resets: 2, failures: [] });
});

test("who has missed more than ten pages gets the newest one", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation, seen } = open(server);
  await conversation.enter();
  for (let count = 0; count < 50; count += 1) server.store();
  await conversation.enter();
  assert.equal(seen.resets, 2);
  assert.deepEqual(seen.seqs, [49, 50, 51]);
});

test("joining is tried again with pauses, and not where there is nothing to join", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  server.store();
  const { conversation, seen } = open(server);
  const ask = server.ask.bind(server);
  const failures = ["STORE_UNAVAILABLE", "RATE_LIMITED"].map((code) => new RequestError({ code, message: "", retryAfter: 3_000 }));
  server.ask = async (...args) => {
    const failure = failures.shift();
    if (failure !== undefined) throw failure;
    return ask(...args);
  };
  void conversation.enter();
  await settled();
  for (const pause of [2_999, 1, 3_000]) {
    assert.equal(conversation.stage, "entering");
    context.mock.timers.tick(pause);
    await settled();
  }
  assert.equal(conversation.stage, "entered");
  assert.deepEqual(seen, { seqs: [1], resets: 1, failures: ["STORE_UNAVAILABLE", "RATE_LIMITED"] });
  failures.push(new RequestError({ code: "NOT_FOUND", message: "" }));
  await conversation.enter();
  assert.equal(conversation.stage, "absent");
});

test("a conversation that is deleted is absent, and nothing more is asked of it", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  conversation.handleDeleted();
  assert.equal(conversation.stage, "absent");
  conversation.receive(message(5));
  assert.equal(server.requests.length, 2);
});

test("a message that comes in the moment of entering is given, whichever moment that is", async () => {
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

test("what an earlier connection has asked for changes nothing any more", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation, seen } = open(server);
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const ask = server.ask.bind(server);
  server.ask = async (...args) => {
    const answer = await ask(...args);
    await held;
    return answer;
  };
  const first = conversation.enter();
  server.ask = ask;
  await conversation.enter();
  release();
  await first;
  assert.deepEqual(seen, { seqs: [1], resets: 1, failures: [] });
});
