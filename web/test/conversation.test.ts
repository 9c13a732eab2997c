import assert from "node:assert/strict";
import { test } from "node:test";
import type { Connection } from "../src/connection.ts";
import { Conversation } from "../src/conversation.ts";
import { DISCONNECTED, RequestError, TIMED_OUT } from "../src/failure.ts";
import type { Draft } from "../src/outbox.ts";
import type { Message, Requests } from "../src/types.ts";
import { message } from "./message.ts";

type History = Requests["message_history"]["payload"];

/** A server with one conversation, behind the face of a connection. Pages hold at most `pageSize`. */
class FakeServer {
  stored: Message[] = [];
  pageSize = 3;
  isOnline = true;
  requests: string[] = [];
  sent: string[] = [];
  /** What happens to the next `message` request, before and instead of its answer. */
  failing: ((content: string) => RequestError | undefined) | undefined;
  /** Each message is stored, and none is confirmed in time. */
  isSlow = false;
  /** Happens after the next page was read, before it arrives. */
  afterReading: (() => void) | undefined;
  readonly session = { userId: "me" };
  readonly #listeners = new Map<string, (payload: unknown) => void>();

  on(name: string, listener: (payload: never) => void): void {
    this.#listeners.set(name, listener as (payload: unknown) => void);
  }

  emit(name: string, payload: unknown): void {
    this.#listeners.get(name)?.(payload);
  }

  store(fields: Partial<Message> = {}): Message {
    const stored = message(this.stored.length + 1, { conversationId: "lobby", ...fields });
    this.stored.push(stored);
    return stored;
  }

  say(): void {
    this.emit("message", this.store());
  }

  sendTyping(): void {}

  async request(name: string, payload: never): Promise<unknown> {
    this.requests.push(`${name} ${describe(payload)}`.trim());
    if (!this.isOnline) throw new RequestError({ code: DISCONNECTED, message: "" });
    switch (name) {
      case "join_conversation":
        return { users: [], ...this.#pageAfterJoin(payload) };
      case "message_history": {
        const page = this.#page(payload);
        this.afterReading?.();
        this.afterReading = undefined;
        return page;
      }
      default:
        return { message: this.#take(payload) };
    }
  }

  #pageAfterJoin({ lastSeq }: { lastSeq?: number }) {
    return lastSeq === undefined ? { messages: [], hasMore: false } : this.#page({ conversationId: "lobby", afterSeq: lastSeq });
  }

  #page({ afterSeq, beforeSeq }: History) {
    const range = this.stored.filter(({ seq }) => seq > (afterSeq ?? 0) && seq < (beforeSeq ?? Number.POSITIVE_INFINITY));
    const messages = afterSeq === undefined ? range.slice(-this.pageSize) : range.slice(0, this.pageSize);
    return { messages, hasMore: range.length > messages.length };
  }

  #take({ content, clientMessageId, metadata }: Requests["message"]["payload"]): Message {
    this.sent.push(clientMessageId);
    const failure = this.failing?.(content);
    this.failing = undefined;
    if (failure !== undefined) throw failure;
    const id = `own-${clientMessageId}`;
    const stored = this.stored.find((known) => known.id === id) ?? this.store({ id, userId: "me", content, metadata });
    if (this.isSlow) throw new RequestError({ code: TIMED_OUT, message: "" });
    return stored;
  }
}

function describe({ lastSeq, afterSeq, beforeSeq }: History & { lastSeq?: number }): string {
  const bounds = Object.entries({ lastSeq, afterSeq, beforeSeq }).filter(([, seq]) => seq !== undefined);
  return bounds.map(([name, seq]) => `${name}=${seq}`).join(" ");
}

function open(server: FakeServer, drafts: Draft[] = []) {
  const announced: string[] = [];
  const surroundings = {
    changed: () => {},
    announce: (text: string) => void announced.push(text),
    notice: (text: string) => assert.fail(text),
    keep: () => {},
  };
  const conversation = new Conversation("lobby", server as unknown as Connection, drafts, surroundings);
  return { conversation, announced };
}

function deliveries(conversation: Conversation): string[] {
  return conversation.outbox.drafts.map(({ delivery }) => delivery.state);
}

function seqs(conversation: Conversation): number[] {
  return conversation.timeline.messages.map(({ seq }) => seq);
}

/** Lets everything that waits for an answer of the fake go on. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test("the first time the newest page is loaded, and older ones by scrolling", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 7; count += 1) server.store();
  const { conversation } = open(server);
  await conversation.enter();
  assert.deepEqual(seqs(conversation), [5, 6, 7]);
  assert.equal(conversation.hasOlder, true);
  await conversation.loadOlder();
  await conversation.loadOlder();
  assert.deepEqual(seqs(conversation), [1, 2, 3, 4, 5, 6, 7]);
  assert.equal(conversation.hasOlder, false);
  await conversation.loadOlder();
  assert.deepEqual(server.requests, [
    "join_conversation",
    "message_history",
    "message_history beforeSeq=5",
    "message_history beforeSeq=2",
  ]);
});

test("a message that arrives while the newest page is on its way is not lost", async () => {
  const server = new FakeServer();
  server.store();
  server.afterReading = () => server.say();
  const { conversation } = open(server);
  await conversation.enter();
  assert.deepEqual(seqs(conversation), [1, 2]);
});

test("after a reconnect everything that was missed is there, once and in order", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation } = open(server);
  await conversation.enter();
  for (let count = 0; count < 8; count += 1) server.store();
  server.afterReading = () => server.say();
  await conversation.enter();
  assert.deepEqual(seqs(conversation), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.deepEqual(server.requests.slice(2), [
    "join_conversation lastSeq=0",
    "message_history afterSeq=3",
    "message_history afterSeq=6",
    "message_history afterSeq=10",
  ]);
});

test("a newer message before the reconnect does not hide a missing one", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation } = open(server);
  await conversation.enter();
  server.store();
  server.say();
  assert.deepEqual(seqs(conversation), [1, 3]);
  await conversation.enter();
  assert.deepEqual(seqs(conversation), [1, 2, 3]);
});

test("a hole is filled without a reconnect", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  server.store();
  const { conversation } = open(server);
  await conversation.enter();
  server.store();
  server.say();
  context.mock.timers.tick(1_000);
  await settled();
  assert.deepEqual(seqs(conversation), [1, 2, 3]);
});

test("when the server has begun a new history, the old one is dropped", async () => {
  const server = new FakeServer();
  for (let count = 0; count < 3; count += 1) server.store();
  const { conversation } = open(server);
  await conversation.enter();
  server.stored = [message(1, { id: "new-1" })];
  await conversation.enter();
  assert.deepEqual(conversation.timeline.messages.map(({ id }) => id), ["new-1"]);
});

for (const code of [TIMED_OUT, "STORE_UNAVAILABLE", "INTERNAL"]) {
  test(`a message that ${code} left unconfirmed is sent again by itself, as the same message and before later ones`, async (context) => {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    const server = new FakeServer();
    const { conversation } = open(server);
    await conversation.enter();
    server.failing = () => new RequestError({ code, message: "" });
    conversation.send("hello");
    conversation.send("later");
    await settled();
    assert.deepEqual(deliveries(conversation), ["unconfirmed", "waiting"]);
    context.mock.timers.tick(1_000);
    await settled();
    const [first, second] = server.sent;
    assert.equal(first, second);
    assert.equal(server.sent.length, 3);
    assert.deepEqual(conversation.outbox.drafts, []);
    assert.deepEqual(conversation.timeline.messages.map(({ content }) => content), ["hello", "later"]);
  });
}

test("a message that is never confirmed is said to be unknown, not unsent, and can be sent once more", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  server.isSlow = true;
  conversation.send("hello");
  await settled();
  for (const pause of [1_000, 2_000, 4_000, 8_000]) {
    assert.deepEqual(deliveries(conversation), ["unconfirmed"]);
    context.mock.timers.tick(pause);
    await settled();
  }
  const [draft] = conversation.outbox.drafts;
  const reason = "Not confirmed, it may have arrived. The server did not answer in time.";
  assert.deepEqual(draft?.delivery, { state: "failed", reason });
  server.isSlow = false;
  conversation.sendAgain(draft?.clientMessageId ?? "");
  await settled();
  assert.deepEqual(conversation.outbox.drafts, []);
  assert.equal(new Set(server.sent).size, 1);
  assert.deepEqual(conversation.timeline.messages.map(({ content }) => content), ["hello"]);
});

test("a refused message is not sent again by itself", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  server.failing = () => new RequestError({ code: "FORBIDDEN", message: "" });
  conversation.send("hello");
  await settled();
  assert.deepEqual(conversation.outbox.drafts[0]?.delivery, { state: "failed", reason: "Not sent. You are not allowed to do that." });
});

test("an unconfirmed message waits for the connection that was lost meanwhile", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  server.failing = () => new RequestError({ code: TIMED_OUT, message: "" });
  conversation.send("hello");
  await settled();
  server.isOnline = false;
  context.mock.timers.tick(1_000);
  await settled();
  assert.deepEqual(deliveries(conversation), ["waiting"]);
  server.isOnline = true;
  await conversation.enter();
  await settled();
  assert.deepEqual(conversation.outbox.drafts, []);
  assert.equal(new Set(server.sent).size, 1);
});

test("an unconfirmed message that is found among those caught up on is not sent again", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  server.isSlow = true;
  conversation.send("hello");
  await settled();
  await conversation.enter();
  assert.deepEqual(conversation.outbox.drafts, []);
  context.mock.timers.tick(1_000);
  await settled();
  assert.equal(server.sent.length, 1);
});

test("a stored message whose answer got lost with the connection is not shown as waiting as well", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  server.failing = (content) => {
    const [draft] = conversation.outbox.drafts;
    server.store({ userId: "me", content, metadata: { timestamp: draft?.writtenAt ?? "" } });
    server.isOnline = false;
    return new RequestError({ code: DISCONNECTED, message: "" });
  };
  conversation.send("hello");
  await settled();
  assert.equal(conversation.outbox.drafts[0]?.delivery.state, "waiting");
  server.isOnline = true;
  await conversation.enter();
  await settled();
  assert.deepEqual(conversation.outbox.drafts, []);
  assert.deepEqual(conversation.timeline.messages.map(({ content }) => content), ["hello"]);
  assert.equal(server.sent.length, 1);
});

test("what is written without a connection is sent in order after it is back", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  server.isOnline = false;
  for (const content of ["one", "two", "three"]) conversation.send(content);
  await settled();
  assert.equal(server.sent.length, 0);
  server.isOnline = true;
  await conversation.enter();
  await settled();
  assert.deepEqual(server.stored.map(({ content }) => content), ["one", "two", "three"]);
});

test("messages out of sight are unread until the end is looked at", async () => {
  const server = new FakeServer();
  server.store();
  const { conversation } = open(server);
  await conversation.enter();
  server.say();
  assert.equal(conversation.unread, 0);
  conversation.watch(true, false);
  server.say();
  server.say();
  assert.equal(conversation.unread, 2);
  assert.equal(conversation.firstUnread, 3);
  conversation.watch(true, true);
  assert.equal(conversation.unread, 0);
  assert.equal(conversation.firstUnread, 3);
});

test("own messages from another tab are shown, and neither unread nor read out", async () => {
  const server = new FakeServer();
  const { conversation, announced } = open(server);
  await conversation.enter();
  conversation.watch(false, true);
  server.emit("message", server.store({ userId: "me" }));
  server.emit("message", server.store({ userId: "bob", userName: "Bob", content: "hi" }));
  assert.deepEqual(seqs(conversation), [1, 2]);
  assert.equal(conversation.unread, 1);
  assert.deepEqual(announced, ["Bob: hi"]);
});

test("events of other conversations are not ours", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  server.emit("message", message(1, { conversationId: "other" }));
  server.emit("presence", { conversationId: "other", users: [{}], count: 1 });
  server.emit("user_joined", { conversationId: "other", userId: "bob", name: "Bob", timestamp: "" });
  assert.deepEqual([seqs(conversation), conversation.users, conversation.activity.lines], [[], [], []]);
});

test("a list that names some of those present counts them all", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  const bob = { userId: "bob", name: "Bob", connections: 1, since: "" };
  server.emit("presence", { conversationId: "lobby", users: [bob], count: 1000 });
  assert.deepEqual([conversation.users, conversation.present], [[bob], 1000]);
});

test("a long visit forgets its oldest messages, which scrolling brings back", async () => {
  const server = new FakeServer();
  const { conversation } = open(server);
  await conversation.enter();
  for (let count = 0; count < 601; count += 1) server.say();
  assert.equal(conversation.timeline.messages.length, 400);
  assert.equal(conversation.timeline.first?.seq, 202);
  await conversation.loadOlder();
  assert.equal(conversation.timeline.first?.seq, 199);
});
