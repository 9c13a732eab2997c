import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation as Feed } from "../packages/client/src/conversation.ts";
import { Emitter } from "../packages/client/src/emitter.ts";
import { type ConversationOptions, DISCONNECTED, RequestError, TIMED_OUT } from "../packages/client/src/index.ts";
import { type Entry, Queue } from "../packages/client/src/queue/queue.ts";
import { memoryStorage } from "../packages/client/src/queue/storage.ts";
import { Tabs } from "../packages/client/src/queue/tabs.ts";
import { FakeServer, settled } from "../packages/client/test/fake.ts";
import { reasonOf } from "../src/model/draft.ts";
import { waitingNotice } from "../src/model/change_request.ts";
import { Conversation } from "../src/model/conversation.ts";
import type { Connection } from "../src/model/callbacks.ts";
import type { Metadata } from "../src/types.ts";
import { message } from "../packages/client/test/message.ts";

type Listeners = Record<string, (...args: never[]) => void>;

/**
 * A connection as the page has it, made of the real parts of the client package, with a fake
 * server.
 */
class FakeConnection {
  readonly server = new FakeServer();
  readonly queue: Queue;
  readonly #events = new Emitter<Listeners>();
  readonly #watchers = new Emitter<Listeners>();
  #feed: Feed | undefined;

  constructor() {
    this.queue = new Queue({
      storage: memoryStorage(),
      tabs: new Tabs(undefined),
      limits: { entries: 100, bytes: 10_000 },
      idField: "clientMessageId",
      request: (event, payload) => this.server.request(event, payload as never),
      changed: (entry) => {
        const { message } = (entry.answer ?? {}) as { message?: never };
        if (message !== undefined) this.#feed?.receive(message);
        this.#watchers.emit("entry");
      },
      note: () => {},
    });
  }

  get session() {
    return this.server.session;
  }

  isReady = false;

  on(name: string, listener: (...args: never[]) => void): () => void {
    return this.#events.on(name, listener);
  }

  watch(name: string, listener: (...args: never[]) => void): () => void {
    return this.#watchers.on(name, listener);
  }

  emitted: string[] = [];

  emit(name: string): void {
    this.emitted.push(name);
  }

  request(name: string, payload: unknown): Promise<unknown> {
    return this.server.request(name, payload as never);
  }

  send(event: string, payload: Record<string, unknown>): unknown {
    return this.queue.add(event, payload);
  }

  conversation(id: string, options: ConversationOptions): Feed {
    this.#feed = new Feed(id, options, this.server, this.queue, () => {});
    return this.#feed;
  }

  /** A session begins. */
  async enter(): Promise<void> {
    this.server.isReady = this.isReady = true;
    await this.#feed?.enter();
    await this.queue.begin("me", "me");
    await settled();
  }

  lose(): void {
    this.server.isReady = this.isReady = false;
    this.#feed?.wait();
    this.queue.end();
  }

  receive(name: string, payload: unknown): void {
    const { conversationId } = payload as { conversationId: string };
    if (name === "message" && conversationId === this.#feed?.id) this.#feed.receive(payload as never);
    else this.#events.emit(name, payload as never);
  }

  say(): void {
    this.receive("message", this.server.store());
  }
}

function open(notices?: string[]) {
  const announced: string[] = [];
  const callbacks = {
    changed: () => {},
    grown: () => {},
    announce: (text: string) => void announced.push(text),
    notice: (text: string) => (notices === undefined ? assert.fail(text) : void notices.push(text)),
    arrived: () => {},
    userSeen: () => {}, statusReceived: () => {},
  };
  const connection = new FakeConnection();
  const conversation = new Conversation("lobby", connection as unknown as Connection, callbacks);
  conversation.handleListed();
  return { server: connection.server, connection, conversation, announced };
}

function deliveries(conversation: Conversation): string[] {
  return conversation.drafts.map(({ content, delivery }) => `${content} ${delivery.state}`);
}

function seqs(conversation: Conversation): number[] {
  return conversation.timeline.messages.map(({ seq }) => seq);
}

test("the first time the newest page is loaded, and older ones by scrolling", async () => {
  const { server, connection, conversation } = open();
  for (let count = 0; count < 7; count += 1) server.store();
  await connection.enter();
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

test("an interruption is shown until something of the conversation arrives, or it is joined again", async () => {
  const { connection, conversation } = open();
  await connection.enter();
  connection.receive("conversation:interrupted", { conversationId: "another" });
  assert.equal(conversation.isInterrupted, false);
  const updated = { conversation: { id: "lobby" } };
  for (const end of [() => connection.say(), () => connection.receive("conversation_updated", updated), () => connection.lose()]) {
    connection.receive("conversation:interrupted", { conversationId: "lobby" });
    assert.equal(conversation.isInterrupted, true);
    end();
    assert.equal(conversation.isInterrupted, false);
  }
});

test("missed messages are shown after a reconnect, but not announced", async () => {
  const { server, connection, conversation, announced } = open();
  server.store();
  await connection.enter();
  connection.lose();
  for (let count = 0; count < 8; count += 1) server.store();
  await connection.enter();
  assert.deepEqual(seqs(conversation), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(announced, []);
});

test("a new history of the server replaces the old one", async () => {
  const { server, connection, conversation } = open();
  for (let count = 0; count < 3; count += 1) server.store();
  await connection.enter();
  server.stored = [message(1, { id: "new-1" })];
  await connection.enter();
  assert.deepEqual(conversation.timeline.messages.map(({ id }) => id), ["new-1"]);
});

test("own messages are shown while in flight, and once when stored", async () => {
  const { server, connection, conversation } = open();
  conversation.send("early");
  assert.deepEqual(deliveries(conversation), ["early waiting"]);
  await connection.enter();
  assert.deepEqual(deliveries(conversation), []);
  server.failing = () => new RequestError({ code: "RATE_LIMITED", message: "" });
  conversation.send("fast");
  await settled();
  assert.deepEqual(deliveries(conversation), ["fast held"]);
  connection.lose();
  assert.deepEqual(conversation.timeline.messages.map(({ content }) => content), ["early"]);
});

test("messages after a rate-limited message are shown as held", async () => {
  const { server, connection, conversation } = open();
  await connection.enter();
  server.failing = () => new RequestError({ code: "RATE_LIMITED", message: "", retryAfter: 60_000 });
  for (const text of ["one", "two"]) conversation.send(text);
  await settled();
  assert.deepEqual(deliveries(conversation), ["one held", "two held"]);
  connection.lose();
  assert.deepEqual(deliveries(conversation), ["one waiting", "two waiting"]);
});

test("only a waiting message can be edited in place and withdrawn", async () => {
  const notices: string[] = [];
  const { server, connection, conversation } = open(notices);
  for (const text of ["one", "two", "three"]) conversation.send(text, { mentions: ["bob"] });
  const [one, two] = conversation.drafts;
  assert.deepEqual(conversation.drafts.map(({ isUnsent }) => isUnsent), [true, true, true]);
  assert.deepEqual(conversation.lastOwn, conversation.drafts[2]);
  assert.equal(await conversation.edit(two!, "second", ["carol"]), true);
  assert.deepEqual(deliveries(conversation), ["one waiting", "second waiting", "three waiting"]);
  assert.deepEqual(connection.queue.entries.map(({ payload }) => payload["mentions"]), [["bob"], ["carol"], ["bob"]]);
  conversation.withdraw(one!.clientMessageId);
  assert.deepEqual(deliveries(conversation), ["second waiting", "three waiting"]);
  await connection.enter();
  assert.deepEqual(server.stored.map(({ content }) => content), ["second", "three"]);

  // A message without an answer may be stored: it cannot be withdrawn or changed.
  connection.lose();
  conversation.send("four");
  const [four] = conversation.drafts;
  let release = () => {};
  const request = server.request.bind(server);
  server.request = async (name: string, payload: never) => {
    if (name !== "message") return request(name, payload);
    await new Promise<void>((done) => (release = done));
    const { message } = (await request(name, payload)) as { message: { metadata: object } };
    message.metadata = payload["metadata"];
    return { message };
  };
  await connection.enter();
  assert.deepEqual(conversation.drafts.map(({ isUnsent }) => isUnsent), [false]);
  conversation.withdraw(four!.clientMessageId);
  assert.equal(await conversation.edit(four!, "fourth"), false);
  assert.deepEqual(notices, ["This message is being sent. You can delete it once it is stored.", "This message is being sent. You can change it once it is stored."]);
  release();
  await settled();
  assert.deepEqual(server.stored.map(({ content }) => content), ["second", "three", "four"]);
  // If the message is stored in the meantime, the change becomes an edit of the stored message.
  void conversation.edit(four!, "fourth");
  const [change] = connection.queue.entries;
  assert.deepEqual([change?.event, change?.payload["content"]], ["edit_message", "fourth"]);
});

test("no user is listed as present until the connection is restored", async () => {
  const { connection, conversation } = open();
  assert.equal(conversation.isPresenceKnown, false);
  await connection.enter();
  assert.equal(conversation.isPresenceKnown, true);
  connection.lose();
  assert.equal(conversation.isPresenceKnown, false);
  await connection.enter();
  assert.equal(conversation.isPresenceKnown, true);
});

test("an unconfirmed message is marked until its stored version replaces it", async () => {
  const { server, connection, conversation } = open();
  await connection.enter();
  server.failing = (content) => {
    const [entry] = connection.queue.entries;
    server.store({ userId: "me", content, metadata: (entry?.payload as { metadata: Metadata }).metadata });
    return new RequestError({ code: TIMED_OUT, message: "" });
  };
  conversation.send("hello");
  await settled();
  assert.deepEqual(deliveries(conversation), ["hello unconfirmed"]);
  connection.lose();
  server.failing = () => new RequestError({ code: DISCONNECTED, message: "" });
  await connection.enter();
  assert.deepEqual(conversation.timeline.messages.map(({ content }) => content), ["hello"]);
  assert.deepEqual(deliveries(conversation), []);
  connection.lose();
});

test("a refused message shows the reason and is sent again only on request", async () => {
  const { server, connection, conversation } = open();
  await connection.enter();
  server.failing = () => new RequestError({ code: "FORBIDDEN", message: "" });
  conversation.send("hello");
  await settled();
  const [draft] = conversation.drafts;
  assert.deepEqual(draft?.delivery, { state: "failed", reason: "Not sent. You are not allowed to do that." });
  conversation.sendAgain(draft?.clientMessageId ?? "");
  await settled();
  assert.deepEqual(conversation.drafts, []);
  assert.equal(new Set(server.sent).size, 1);
});

test("messages out of view are unread until the end is visible", async () => {
  const { server, connection, conversation } = open();
  server.store();
  await connection.enter();
  connection.say();
  assert.equal(conversation.unread, 0);
  conversation.watch(true, false);
  connection.say();
  connection.say();
  conversation.watch(true, true);
  assert.equal(conversation.unread, 2);
  assert.deepEqual(conversation.reading.divider, { seq: 3, count: 2, isTarget: true });
  conversation.see(1, 3);
  assert.equal(conversation.unread, 0);
  assert.equal(conversation.reading.divider?.seq, 3);
});

test("own messages from another tab are shown, neither unread nor announced", async () => {
  const { server, connection, conversation, announced } = open();
  await connection.enter();
  conversation.watch(false, true);
  connection.receive("message", server.store({ userId: "me" }));
  connection.receive("message", server.store({ userId: "bob", userName: "Bob", content: "hi" }));
  assert.deepEqual(seqs(conversation), [1, 2]);
  assert.equal(conversation.unread, 1);
  assert.deepEqual(announced, ["Bob: hi"]);
});

test("a message that is being written grows, and is announced at its end", async () => {
  const { server, connection, conversation, announced } = open();
  await connection.enter();
  conversation.watch(true, true);
  const begun = server.store({ userId: "bob", userName: "Bob", content: "", streaming: true });
  const text = () => conversation.timeline.messages.map(({ content }) => content).join();
  const append = (offset: number, text: string) =>
    connection.receive("message_appended", { conversationId: "lobby", messageId: begun.id, seq: begun.seq, offset, text });
  connection.receive("message", begun);
  append(0, "one 😀");
  append(5, " two");
  // What does not continue the text is for another client, or comes with an answer.
  append(5, " two");
  append(20, "?");
  append(9, "");
  assert.equal(text(), "one 😀 two");
  assert.deepEqual(announced, []);
  connection.receive("message_edited", { ...begun, content: "one 😀 two three", streaming: undefined, version: 2 });
  append(9, " late");
  assert.equal(text(), "one 😀 two three");
  assert.deepEqual(announced, ["Bob: one 😀 two three"]);
});

test("a jump shows the messages around a place, and reading on from there leads to the newest", async () => {
  const { server, connection, conversation } = open();
  for (let count = 0; count < 60; count += 1) server.store();
  await connection.enter();
  server.pageSize = 30;
  assert.equal(await conversation.jump(10), true);
  assert.deepEqual([seqs(conversation)[0], seqs(conversation).at(-1), conversation.hasNewer], [5, 34, true]);
  // New messages are not shown together with old ones.
  connection.say();
  assert.equal(conversation.timeline.newest?.seq, 34);
  await conversation.loadNewer();
  assert.equal(conversation.hasNewer, false);
  assert.deepEqual(seqs(conversation), Array.from({ length: 57 }, (_, index) => index + 5));
  assert.equal(await conversation.jump(1_000), false);
});

/** A conversation of the list with messages of other users, four of them unless stated. */
function listed(readSeq: number, unread: number, { lastSeq = 4, memberIds = [] as string[] } = {}) {
  const connection = new FakeConnection();
  const known = { id: "lobby", title: null, ownerId: null, memberIds, createdAt: "", updatedAt: "", lastSeq, readSeq, unread, notificationLevel: "all" as const };
  const callbacks = { changed: () => {}, grown: () => {}, announce: () => {}, notice: assert.fail, arrived: () => {}, userSeen: () => {}, statusReceived: () => {} };
  for (let count = 0; count < lastSeq; count += 1) connection.server.store();
  return { connection, conversation: new Conversation("lobby", connection as unknown as Connection, callbacks, known) };
}

test("a conversation opens at the divider, and messages on screen are read", async () => {
  const { connection, conversation } = listed(2, 2);
  await connection.enter();
  // The list only reads the newest message.
  assert.deepEqual([seqs(conversation), conversation.unread, conversation.hasOlder], [[4], 2, true]);
  conversation.watch(true, true);
  await settled();
  assert.deepEqual([seqs(conversation), conversation.isOpening, conversation.reading.divider], [[1, 2, 3, 4], false, { seq: 3, count: 2, isTarget: true }]);
  conversation.watch(false, true);
  conversation.see(4, 4);
  assert.equal(conversation.unread, 2, "an unread message is above");
  conversation.see(2, 3);
  assert.equal(conversation.unread, 1);
  connection.say();
  assert.deepEqual([conversation.unread, conversation.reading.divider?.count], [2, 3]);
  conversation.watch(true, true);
  conversation.see(5, 5);
  assert.equal(conversation.unread, 0, "the end is in view");
});

test("a conversation with more unread messages than a page opens at their page", async () => {
  const { connection, conversation } = listed(100, 100, { lastSeq: 200, memberIds: ["me", "bob"] });
  connection.server.pageSize = 50;
  await connection.enter();
  conversation.watch(true, true);
  assert.equal(conversation.isOpening, true);
  await settled();
  assert.deepEqual([seqs(conversation)[0], seqs(conversation).at(-1), conversation.hasOlder, conversation.hasNewer], [92, 141, true, true]);
  conversation.watch(false, true);
  conversation.see(95, 110);
  assert.equal(conversation.unread, 90);
  await conversation.loadNewer();
  await conversation.loadNewer();
  assert.equal(conversation.hasNewer, false);
  conversation.see(105, 150);
  assert.equal(conversation.unread, 50);
});

test("a conversation opened by its address waits for the position in the list", async () => {
  const connection = new FakeConnection();
  const callbacks = { changed: () => {}, grown: () => {}, announce: () => {}, notice: assert.fail, arrived: () => {}, userSeen: () => {}, statusReceived: () => {} };
  const conversation = new Conversation("lobby", connection as unknown as Connection, callbacks);
  connection.server.pageSize = 50;
  for (let count = 0; count < 60; count += 1) connection.server.store();
  await connection.enter();
  conversation.watch(true, true);
  connection.say();
  assert.deepEqual([conversation.isOpening, conversation.unread], [true, 0]);
  conversation.handleListed({ readSeq: 5, unread: 55, lastSeq: 60 });
  conversation.watch(true, true);
  await settled();
  assert.deepEqual([conversation.isOpening, conversation.unread, conversation.reading.divider], [false, 56, { seq: 6, count: 56, isTarget: true }]);
});

test("messages missed without a connection are below a divider", async () => {
  const { server, connection, conversation } = open();
  server.store();
  await connection.enter();
  connection.lose();
  for (let count = 0; count < 3; count += 1) server.store();
  await connection.enter();
  assert.deepEqual([conversation.unread, conversation.reading.divider], [3, { seq: 2, count: 3, isTarget: true }]);
});

test("the history of an open conversation is not new to a user who never read it", async () => {
  const { connection, conversation } = listed(0, 4);
  await connection.enter();
  connection.say();
  assert.equal(conversation.unread, 5);
  conversation.watch(true, true);
  assert.deepEqual([conversation.unread, conversation.reading.divider], [0, undefined]);

  const member = listed(0, 4, { memberIds: ["me", "bob"] });
  await member.connection.enter();
  member.conversation.watch(true, true);
  assert.deepEqual(member.conversation.reading.divider, { seq: 1, count: 4, isTarget: true });
});

test("members who only open or close a conversation cause no line", async () => {
  const { connection, conversation } = listed(4, 0, { memberIds: ["me", "bob"] });
  await connection.enter();
  const receive = (name: string, userId: string) => connection.receive(name, { type: "system", conversationId: "lobby", userId, name: userId, timestamp: "" });
  const texts = () => conversation.activity.lines.map(({ text }) => text.replace(/[\u2068\u2069]/g, ""));
  for (const name of ["user_joined", "user_left"]) receive(name, "bob");
  assert.deepEqual(texts(), []);
  const { info } = conversation;
  assert.ok(info !== undefined);
  // A new member is shown once, and one that was removed.
  conversation.info = { ...info, memberIds: ["me", "bob", "eve"] };
  for (const name of ["user_joined", "user_left"]) receive(name, "eve");
  assert.deepEqual(texts(), ["eve joined"]);
  conversation.info = { ...info, memberIds: ["me", "eve"] };
  receive("user_left", "bob");
  assert.deepEqual(texts(), ["eve joined · bob left"]);
});

test("a listed conversation opens with a full page, or with cached content", async () => {
  const { connection, conversation } = listed(4, 0);
  conversation.watch(true, true);
  await connection.enter();
  assert.deepEqual([seqs(conversation), conversation.isOpening], [[4], true]);
  conversation.watch(true, true);
  await settled();
  assert.deepEqual([seqs(conversation), conversation.isOpening], [[1, 2, 3, 4], false]);

  const away = listed(4, 0);
  await away.connection.enter();
  away.connection.lose();
  away.conversation.watch(true, true);
  await settled();
  assert.deepEqual([seqs(away.conversation), away.conversation.isOpening], [[4], false]);

  const written = listed(4, 0);
  await written.connection.enter();
  written.conversation.send("hello");
  assert.equal(written.conversation.isOpening, false);
});

test("events of other conversations are ignored", async () => {
  const { connection, conversation } = open();
  await connection.enter();
  connection.receive("message", message(1, { conversationId: "other" }));
  connection.receive("presence", { conversationId: "other", users: [{}], count: 1 });
  connection.receive("user_joined", { conversationId: "other", userId: "bob", name: "Bob", timestamp: "" });
  assert.deepEqual([seqs(conversation), conversation.users, conversation.activity.lines], [[], [], []]);
});

test("a truncated user list still counts all present users", async () => {
  const { connection, conversation } = open();
  await connection.enter();
  const bob = { userId: "bob", name: "Bob", connections: 1, since: "" };
  connection.receive("presence", { conversationId: "lobby", users: [bob], count: 1000 });
  assert.deepEqual([conversation.users, conversation.present], [[bob], 1000]);
});

test("a long visit evicts the oldest messages, and scrolling loads them again", async () => {
  const { connection, conversation } = open();
  await connection.enter();
  for (let count = 0; count < 601; count += 1) connection.say();
  assert.equal(conversation.timeline.messages.length, 400);
  assert.equal(conversation.timeline.first?.seq, 202);
  await conversation.loadOlder();
  assert.equal(conversation.timeline.first?.seq, 199);
});

/** A server that processes these changes with the given functions, and everything else as usual. */
function changing(server: FakeServer, carryOut: (name: string, payload: { content: string; version: number }) => unknown): void {
  const usual = server.request.bind(server);
  server.request = async (name, payload) => (/^(edit|add|remove|pin|unpin|set)_/.test(name) ? carryOut(name, payload as never) : usual(name, payload));
}

for (const code of [TIMED_OUT, DISCONNECTED, "STORE_UNAVAILABLE", "INTERNAL"]) {
  test(`an edit whose answer is ${code} is made again, and found to be done`, async (context) => {
    const { server, connection, conversation } = open();
    await connection.enter();
    connection.receive("message", server.store({ userId: "me", content: "before" }));
    const requested: number[] = [];
    changing(server, (_, { content, version }) => {
      requested.push(version);
      const [stored] = server.stored;
      assert.ok(stored !== undefined);
      if (version !== stored.version) throw new RequestError({ code: "CONFLICT", message: "" });
      // The change is made, but the answer is lost.
      server.stored = [{ ...stored, content, version: version + 1 }];
      throw new RequestError({ code, message: "" });
    });
    context.mock.timers.enable({ apis: ["setTimeout"] });
    const [message] = conversation.timeline.messages;
    assert.ok(message !== undefined);
    const editing = conversation.edit(message, "after");
    await settled();
    context.mock.timers.tick(1_000);
    await settled();
    assert.equal(await editing, true);
    assert.deepEqual(requested, [1, 1]);
    assert.deepEqual(conversation.timeline.messages.map(({ content, version }) => [content, version]), [["after", 2]]);
  });
}

test("a conflicting edit is not made, and the newer text is shown", async () => {
  const notices: string[] = [];
  const { server, connection, conversation } = open(notices);
  await connection.enter();
  const stored = server.store({ userId: "me", content: "before" });
  connection.receive("message", stored);
  server.stored = [{ ...stored, content: "by a moderator", version: 2 }];
  changing(server, () => {
    throw new RequestError({ code: "CONFLICT", message: "the message has another version by now" });
  });
  assert.equal(await conversation.edit(stored, "after"), false);
  assert.deepEqual(notices, ["Not changed. the message has another version by now"]);
  assert.deepEqual(conversation.timeline.messages.map(({ content }) => content), ["by a moderator"]);
});

test("a change with five INTERNAL errors is reported as not confirmed", async (context) => {
  const notices: string[] = [];
  const { server, connection, conversation } = open(notices);
  await connection.enter();
  let requested = 0;
  changing(server, () => {
    requested += 1;
    throw new RequestError({ code: "INTERNAL", message: "" });
  });
  context.mock.timers.enable({ apis: ["setTimeout"] });
  for (const change of [() => conversation.setLevel("none"), () => conversation.pin("one"), () => conversation.unpin("one")]) {
    const changing = change();
    for (const delay of [1_000, 2_000, 4_000, 8_000]) {
      await settled();
      context.mock.timers.tick(delay);
    }
    await changing;
  }
  assert.equal(requested, 15);
  assert.deepEqual([...new Set(notices)], ["Not confirmed, it may have been done. The server had an internal error. Please try again."]);
});

test("an offline reaction is sent after reconnect, and a refusal is shown", async () => {
  const notices: string[] = [];
  const { server, connection, conversation } = open(notices);
  await connection.enter();
  const stored = server.store({ content: "hello" });
  connection.receive("message", stored);
  connection.lose();
  const reacting = conversation.react(stored, "👍");
  let refusal: RequestError | undefined;
  changing(server, () => {
    if (refusal !== undefined) throw refusal;
    return { conversationId: "lobby", messageId: stored.id, emoji: "👍", userId: "me", added: true, count: 1 };
  });
  await connection.enter();
  await reacting;
  assert.deepEqual(conversation.timeline.messages[0]?.reactions?.map(({ emoji, own }) => [emoji, own]), [["👍", true]]);
  refusal = new RequestError({ code: "FORBIDDEN", message: "" });
  await conversation.react(stored, "🎉");
  assert.deepEqual(notices, ["Your reaction was not saved. You are not allowed to do that."]);
});

test("the failure of a message is announced with the text of its line", async (context) => {
  const { server, connection, conversation } = open();
  await connection.enter();
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const fail = () => (server.failing = () => new RequestError({ code: "INTERNAL", message: "" }));
  fail();
  conversation.send("hello");
  for (const delay of [1_000, 2_000, 4_000, 8_000]) {
    await settled();
    fail();
    context.mock.timers.tick(delay);
  }
  await settled();
  const [entry] = connection.queue.entries;
  const [draft] = conversation.drafts;
  assert.deepEqual(draft?.delivery, { state: "failed", reason: reasonOf(entry?.failure) });
  assert.match(reasonOf(entry?.failure), /^Not confirmed, it may have arrived\. The server had an internal error\./);
});

test("a change that waits or is not confirmed causes one notice", () => {
  const entry: Entry = { id: "1", event: "pin_message", payload: {}, writtenAt: "", state: "queued", attempts: 0, faults: 0 };
  const failure = { code: TIMED_OUT, message: "" };
  assert.match(waitingNotice(entry, false) ?? "", /^There is no connection/);
  assert.equal(waitingNotice(entry, true), undefined);
  assert.match(waitingNotice({ ...entry, state: "sending", attempts: 1, failure }, true) ?? "", /not confirmed yet/);
  assert.equal(waitingNotice({ ...entry, state: "sending", attempts: 2, failure }, true), undefined);
  assert.match(waitingNotice({ ...entry, attempts: 1, failure }, true) ?? "", /^You are sending too fast/);
  assert.equal(waitingNotice({ ...entry, event: "message" }, false), undefined);
});
