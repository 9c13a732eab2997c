import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation as Feed } from "../packages/client/src/conversation.ts";
import { Emitter } from "../packages/client/src/emitter.ts";
import { type ConversationOptions, DISCONNECTED, RequestError, TIMED_OUT } from "../packages/client/src/index.ts";
import { Queue } from "../packages/client/src/queue/queue.ts";
import { memoryStorage } from "../packages/client/src/queue/storage.ts";
import { Tabs } from "../packages/client/src/queue/tabs.ts";
import { FakeServer, settled } from "../packages/client/test/fake.ts";
import { type Connection, Conversation } from "../src/model/conversation.ts";
import type { Metadata } from "../src/types.ts";
import { message } from "../packages/client/test/message.ts";

type Listeners = Record<string, (...args: never[]) => void>;

/** A connection as the page has it, of the real parts of the client package, to a server that is none. */
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
      ask: (event, payload) => this.server.ask(event, payload as never),
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

  on(name: string, listener: (...args: never[]) => void): () => void {
    return this.#events.on(name, listener);
  }

  watch(name: string, listener: (...args: never[]) => void): () => void {
    return this.#watchers.on(name, listener);
  }

  told: string[] = [];

  tell(name: string): void {
    this.told.push(name);
  }

  request(name: string, payload: unknown): Promise<unknown> {
    return this.server.ask(name, payload as never);
  }

  conversation(id: string, options: ConversationOptions): Feed {
    this.#feed = new Feed(id, options, this.server, this.queue, () => {});
    return this.#feed;
  }

  /** A session begins. */
  async enter(): Promise<void> {
    this.server.isReady = true;
    await this.#feed?.enter();
    await this.queue.begin("me", "me");
    await settled();
  }

  lose(): void {
    this.server.isReady = false;
    this.#feed?.wait();
    this.queue.end();
  }

  emit(name: string, payload: unknown): void {
    const { conversationId } = payload as { conversationId: string };
    if (name === "message" && conversationId === this.#feed?.id) this.#feed.receive(payload as never);
    else this.#events.emit(name, payload as never);
  }

  say(): void {
    this.emit("message", this.server.store());
  }
}

function open() {
  const announced: string[] = [];
  const surroundings = {
    changed: () => {},
    announce: (text: string) => void announced.push(text),
    notice: (text: string) => assert.fail(text),
    arrived: () => {},
    met: () => {}, said: () => {},
  };
  const connection = new FakeConnection();
  const conversation = new Conversation("lobby", connection as unknown as Connection, surroundings);
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

test("after a reconnect what was missed is there, and nothing of it is read out", async () => {
  const { server, connection, conversation, announced } = open();
  server.store();
  await connection.enter();
  connection.lose();
  for (let count = 0; count < 8; count += 1) server.store();
  await connection.enter();
  assert.deepEqual(seqs(conversation), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(announced, []);
});

test("when the server has begun a new history, the old one is dropped", async () => {
  const { server, connection, conversation } = open();
  for (let count = 0; count < 3; count += 1) server.store();
  await connection.enter();
  server.stored = [message(1, { id: "new-1" })];
  await connection.enter();
  assert.deepEqual(conversation.timeline.messages.map(({ id }) => id), ["new-1"]);
});

test("own messages are shown on their way, and once when they are stored", async () => {
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

test("a message that was not confirmed is shown as such, and not beside the stored one", async () => {
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

test("a refused message says why, and is sent again only when that is wanted", async () => {
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

test("messages out of sight are unread until the end is looked at", async () => {
  const { server, connection, conversation } = open();
  server.store();
  await connection.enter();
  connection.say();
  assert.equal(conversation.unread, 0);
  conversation.watch(true, false);
  connection.say();
  connection.say();
  assert.equal(conversation.unread, 2);
  assert.equal(conversation.firstUnread, 3);
  conversation.watch(true, true);
  assert.equal(conversation.unread, 0);
  assert.equal(conversation.firstUnread, 3);
});

test("own messages from another tab are shown, and neither unread nor read out", async () => {
  const { server, connection, conversation, announced } = open();
  await connection.enter();
  conversation.watch(false, true);
  connection.emit("message", server.store({ userId: "me" }));
  connection.emit("message", server.store({ userId: "bob", userName: "Bob", content: "hi" }));
  assert.deepEqual(seqs(conversation), [1, 2]);
  assert.equal(conversation.unread, 1);
  assert.deepEqual(announced, ["Bob: hi"]);
});

test("a jump shows the messages around a place, and reading on from there leads to the newest", async () => {
  const { server, connection, conversation } = open();
  for (let count = 0; count < 60; count += 1) server.store();
  await connection.enter();
  server.pageSize = 30;
  assert.equal(await conversation.jump(10), true);
  assert.deepEqual([seqs(conversation)[0], seqs(conversation).at(-1), conversation.hasNewer], [5, 34, true]);
  // What comes in meanwhile is not shown beside what is far back.
  connection.say();
  assert.equal(conversation.timeline.newest?.seq, 34);
  await conversation.loadNewer();
  assert.equal(conversation.hasNewer, false);
  assert.deepEqual(seqs(conversation), Array.from({ length: 57 }, (_, index) => index + 5));
  assert.equal(await conversation.jump(1_000), false);
});

/** A conversation of the list, with four messages. */
function listed(readSeq: number, unread: number) {
  const connection = new FakeConnection();
  const known = { id: "lobby", title: null, ownerId: null, memberIds: [], createdAt: "", updatedAt: "", lastSeq: 4, readSeq, unread, notificationLevel: "all" as const };
  const surroundings = { changed: () => {}, announce: () => {}, notice: assert.fail, arrived: () => {}, met: () => {}, said: () => {} };
  for (let count = 0; count < 4; count += 1) connection.server.store();
  return { connection, conversation: new Conversation("lobby", connection as unknown as Connection, surroundings, known) };
}

test("how far was read is what the server lists, and a line stands above what is new", async () => {
  const { connection, conversation } = listed(2, 2);
  await connection.enter();
  // The newest message alone is read for the list.
  assert.deepEqual([seqs(conversation), conversation.unread, conversation.hasOlder], [[4], 2, true]);
  conversation.watch(true, true);
  assert.deepEqual([conversation.unread, conversation.firstUnread], [0, 3]);
});

test("of a conversation where nothing was read yet no single message is called new", async () => {
  const { connection, conversation } = listed(0, 4);
  await connection.enter();
  assert.deepEqual([conversation.unread, conversation.firstUnread], [4, undefined]);
  connection.say();
  assert.deepEqual([conversation.unread, conversation.firstUnread], [5, 5]);
});

test("a conversation of the list is opened with a whole page, or with what is known when there is none", async () => {
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

test("events of other conversations are not ours", async () => {
  const { connection, conversation } = open();
  await connection.enter();
  connection.emit("message", message(1, { conversationId: "other" }));
  connection.emit("presence", { conversationId: "other", users: [{}], count: 1 });
  connection.emit("user_joined", { conversationId: "other", userId: "bob", name: "Bob", timestamp: "" });
  assert.deepEqual([seqs(conversation), conversation.users, conversation.activity.lines], [[], [], []]);
});

test("a list that names some of those present counts them all", async () => {
  const { connection, conversation } = open();
  await connection.enter();
  const bob = { userId: "bob", name: "Bob", connections: 1, since: "" };
  connection.emit("presence", { conversationId: "lobby", users: [bob], count: 1000 });
  assert.deepEqual([conversation.users, conversation.present], [[bob], 1000]);
});

test("a long visit forgets its oldest messages, which scrolling brings back", async () => {
  const { connection, conversation } = open();
  await connection.enter();
  for (let count = 0; count < 601; count += 1) connection.say();
  assert.equal(conversation.timeline.messages.length, 400);
  assert.equal(conversation.timeline.first?.seq, 202);
  await conversation.loadOlder();
  assert.equal(conversation.timeline.first?.seq, 199);
});
