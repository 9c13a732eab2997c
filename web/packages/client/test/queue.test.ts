import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { DISCONNECTED, RequestError, TIMED_OUT } from "../src/failure.ts";
import { type Entry, Queue } from "../src/queue/queue.ts";
import { type QueueStorage, memoryStorage } from "../src/queue/storage.ts";
import { Tabs } from "../src/queue/tabs.ts";
import { FakeServer, settled } from "./fake.ts";

interface Options {
  storage?: QueueStorage;
  tabs?: Tabs;
  entries?: number;
  bytes?: number;
}

function open(server: FakeServer, { storage = memoryStorage(), tabs = new Tabs(undefined), entries = 100, bytes = 10_000 }: Options = {}) {
  const states: string[] = [];
  const notes: string[] = [];
  const queue = new Queue({
    storage,
    tabs,
    limits: { entries, bytes },
    idField: "clientMessageId",
    request: (event, payload) => server.request(event, payload as never),
    changed: ({ payload, state }) => states.push(`${payload["content"]} ${state}`),
    note: (what) => notes.push(what),
  });
  const send = (content: string) => queue.add("message", { conversationId: "lobby", content });
  return { queue, send, states, notes, storage };
}

/** Mocks the time of timers and of the clock that measures delays. */
function mockTime(context: TestContext) {
  let time = 0;
  context.mock.timers.enable({ apis: ["setTimeout"] });
  context.mock.method(performance, "now", () => time);
  return async (milliseconds: number) => {
    time += milliseconds;
    context.mock.timers.tick(milliseconds);
    await settled();
  };
}

const states = (queue: Queue) => queue.entries.map(({ state }) => state);
const contents = (server: FakeServer) => server.stored.map(({ content }) => content);
const refusal = (code: string, retryAfter?: number) => () => {
  return new RequestError({ code, message: "", ...(retryAfter !== undefined && { retryAfter }) });
};

test("entries are sent one at a time, in the order of writing", async () => {
  const server = new FakeServer();
  const { queue, send, states } = open(server);
  await queue.begin("me", "me");
  for (const content of ["one", "two"]) send(content);
  await settled();
  assert.deepEqual(contents(server), ["one", "two"]);
  assert.deepEqual(states, ["one queued", "one sending", "two queued", "one stored", "two sending", "two stored"]);
});

test("entries written without a session are sent in order once it starts", async () => {
  const server = new FakeServer();
  const { queue, send } = open(server);
  for (const content of ["one", "two", "three"]) send(content);
  await settled();
  assert.deepEqual(server.sent, []);
  await queue.begin("me", "me");
  await settled();
  assert.deepEqual(contents(server), ["one", "two", "three"]);
  assert.deepEqual(queue.entries, []);
});

for (const code of [TIMED_OUT, "STORE_UNAVAILABLE", "INTERNAL"]) {
  test(`an entry that ${code} left open is sent again by itself, as the same and before later ones`, async (context) => {
    const pass = mockTime(context);
    const server = new FakeServer();
    const { queue, send } = open(server);
    await queue.begin("me", "me");
    server.failing = refusal(code);
    const { answered } = send("hello");
    send("later");
    await settled();
    assert.deepEqual(states(queue), ["sending", "queued"]);
    assert.equal(queue.entries[0]?.failure?.code, code);
    await pass(1_000);
    assert.equal(server.sent[0], server.sent[1]);
    assert.equal(server.sent.length, 3);
    assert.deepEqual(contents(server), ["hello", "later"]);
    assert.equal(((await answered) as { message: { content: string } }).message.content, "hello");
  });
}

test("an unanswered entry is retried without limit and stored once", async (context) => {
  const pass = mockTime(context);
  const server = new FakeServer();
  const { queue, send } = open(server);
  await queue.begin("me", "me");
  server.isSlow = true;
  send("hello");
  await settled();
  for (const delay of [1_000, 2_000, 4_000, 8_000, 8_000, 8_000]) {
    assert.deepEqual(states(queue), ["sending"]);
    await pass(delay);
  }
  assert.equal(server.sent.length, 7);
  server.isSlow = false;
  await pass(8_000);
  assert.deepEqual(queue.entries, []);
  assert.equal(new Set(server.sent).size, 1);
  assert.deepEqual(contents(server), ["hello"]);
});

test("an entry with five INTERNAL errors is refused and blocks no other", async (context) => {
  const pass = mockTime(context);
  const server = new FakeServer();
  const { queue, send } = open(server);
  await queue.begin("me", "me");
  server.failing = refusal("INTERNAL");
  const { id, answered } = send("poison");
  send("later");
  for (let fault = 1; fault < 5; fault += 1) {
    await settled();
    server.failing = refusal("INTERNAL");
    await pass(8_000);
  }
  await assert.rejects(answered, { code: "INTERNAL" });
  assert.deepEqual(states(queue), ["refused"]);
  await pass(8_000);
  assert.deepEqual(contents(server), ["later"]);
  queue.again(id);
  await settled();
  assert.deepEqual(contents(server), ["later", "poison"]);
  assert.equal(server.sent.at(-1), id);
});

test("a refused entry retains the details of the server's error", async () => {
  const server = new FakeServer();
  const { queue, send } = open(server);
  const details = { field: "replyTo" };
  await queue.begin("me", "me");
  server.failing = () => new RequestError({ code: "INVALID_PAYLOAD", message: "gone", details });
  await assert.rejects(send("hello").answered, { details });
  assert.deepEqual(queue.entries[0]?.failure, { code: "INVALID_PAYLOAD", message: "gone", details });
});

test("a refused entry is not retried automatically and can be discarded", async () => {
  const server = new FakeServer();
  const { queue, send, storage } = open(server);
  await queue.begin("me", "me");
  server.failing = refusal("FORBIDDEN");
  const { id, answered } = send("hello");
  await assert.rejects(answered, { code: "FORBIDDEN" });
  assert.equal(queue.entries[0]?.failure?.code, "FORBIDDEN");
  queue.discard(id);
  assert.deepEqual(queue.entries, []);
  assert.deepEqual(await storage.load("me"), []);
  assert.equal(server.sent.length, 1);
});

test("the queue waits for retryAfter, also across a lost connection", async (context) => {
  const pass = mockTime(context);
  const server = new FakeServer();
  const { queue, send } = open(server);
  await queue.begin("me", "me");
  server.failing = refusal("RATE_LIMITED", 20_000);
  for (const content of ["one", "two"]) send(content);
  await settled();
  assert.equal(queue.isHeld, true);
  assert.deepEqual(states(queue), ["queued", "queued"]);
  queue.end();
  await queue.begin("me", "me");
  await pass(19_999);
  assert.equal(server.sent.length, 1);
  await pass(1);
  assert.deepEqual(contents(server), ["one", "two"]);
  assert.equal(queue.isHeld, false);
});

test("an entry in flight at a disconnect is sent again under its id", async () => {
  const server = new FakeServer();
  const { queue, send } = open(server);
  await queue.begin("me", "me");
  server.failing = () => {
    server.isReady = false;
    queue.end();
    return new RequestError({ code: DISCONNECTED, message: "" });
  };
  send("hello");
  await settled();
  assert.deepEqual(states(queue), ["queued"]);
  server.isReady = true;
  await queue.begin("me", "me");
  await settled();
  assert.equal(new Set(server.sent).size, 1);
  assert.deepEqual(contents(server), ["hello"]);
});

test("a retry delay ends with a new session", async (context) => {
  const pass = mockTime(context);
  const server = new FakeServer();
  const { queue, send } = open(server);
  await queue.begin("me", "me");
  server.failing = refusal(TIMED_OUT);
  send("hello");
  await settled();
  queue.end();
  await settled();
  assert.deepEqual(states(queue), ["queued"]);
  await queue.begin("me", "me");
  await settled();
  assert.deepEqual(contents(server), ["hello"]);
  await pass(60_000);
  assert.equal(server.sent.length, 2);
});

test("stored entries are sent by the user's next program, before new ones", async () => {
  const server = new FakeServer();
  const storage = memoryStorage();
  const earlier = open(server, { storage });
  await earlier.queue.open("me");
  for (const content of ["one", "two", "three"]) earlier.send(content);
  const later = open(server, { storage });
  const opened = later.queue.open("me");
  later.send("four");
  await opened;
  await later.queue.begin("me", "me");
  await settled();
  assert.deepEqual(contents(server), ["one", "two", "three", "four"]);
  assert.deepEqual(await storage.load("me"), []);
});

test("entries of one user are never sent as another user", async () => {
  const server = new FakeServer();
  const { queue, send } = open(server);
  await queue.begin("ada", "ada");
  queue.end();
  send("by Ada, who is away");
  await queue.begin("bob", "bob");
  await settled();
  assert.deepEqual([server.sent, queue.entries], [[], []]);
  send("by Bob");
  await settled();
  queue.end();
  await queue.begin("ada", "ada");
  await settled();
  assert.deepEqual(contents(server), ["by Bob", "by Ada, who is away"]);
});

test("two users under one identity have separate entries", async () => {
  const server = new FakeServer();
  const { queue, send } = open(server);
  await queue.open("we");
  await queue.begin("we", "ada");
  queue.end();
  send("by Ada");
  await queue.begin("we", "bob");
  await settled();
  assert.deepEqual([server.sent, queue.entries], [[], []]);
  queue.end();
  await queue.begin("we", "ada");
  await settled();
  assert.deepEqual(contents(server), ["by Ada"]);
});

test("a full queue refuses new entries and drops none", async () => {
  const server = new FakeServer();
  const { queue, send } = open(server, { entries: 3, bytes: 150 });
  send("one");
  assert.throws(() => send("x".repeat(150)), { code: "QUEUE_FULL" });
  send("two");
  send("three");
  assert.throws(() => send("four"), { code: "QUEUE_FULL" });
  await queue.begin("me", "me");
  await settled();
  assert.deepEqual(contents(server), ["one", "two", "three"]);
  send("five");
});

test("entries that cannot be stored are sent", async () => {
  const server = new FakeServer();
  const failing = async () => {
    throw new Error("no room on this disk");
  };
  const { queue, send, notes } = open(server, { storage: { load: failing, save: failing, remove: failing } });
  send("hello");
  await queue.begin("me", "me");
  await settled();
  assert.deepEqual(contents(server), ["hello"]);
  assert.ok(notes.includes("storage"));
});

test("an entry that is answered while the storage is read is not sent again", async () => {
  const server = new FakeServer();
  const storage = memoryStorage();
  const request = server.request.bind(server);
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  server.request = (...args) => held.then(() => request(...args));
  let loads = 0;
  const slow: QueueStorage = {
    ...storage,
    load: async (owner) => {
      loads += 1;
      const stored = await storage.load(owner);
      if (loads === 4) release();
      await settled();
      return stored;
    },
  };
  const { queue, send } = open(server, { storage: slow });
  send("hello");
  await queue.begin("me", "me");
  await settled();
  assert.equal(loads, 4);
  assert.equal(server.sent.length, 1);
  assert.deepEqual(queue.entries, []);
});

test("entries of another owner are not listed", async () => {
  const { queue, send } = open(new FakeServer());
  await queue.open("ada");
  send("by Ada");
  await queue.open("bob");
  assert.deepEqual(queue.entries, []);
  await queue.open("ada");
  assert.deepEqual(states(queue), ["queued"]);
});

test("unstored entries of a user survive the session of another user", async () => {
  const server = new FakeServer();
  const failing = async () => {
    throw new Error("no room on this disk");
  };
  const { queue, send } = open(server, { storage: { load: failing, save: failing, remove: failing } });
  await queue.begin("ada", "ada");
  queue.end();
  send("by Ada");
  await queue.begin("bob", "bob");
  queue.end();
  await queue.begin("ada", "ada");
  await settled();
  assert.deepEqual(contents(server), ["by Ada"]);
});

/** A lock manager like that of browsers; all tabs of a test share one. */
class Locks {
  readonly #held = new Set<string>();
  readonly #waiting: { name: string; run: () => void }[] = [];

  request = async (name: string, ...rest: unknown[]): Promise<unknown> => {
    const callback = rest.at(-1) as (lock: object | null) => Promise<unknown>;
    const { ifAvailable = false } = (rest.length > 1 ? rest[0] : {}) as LockOptions;
    if (this.#held.has(name) && ifAvailable) return callback(null);
    while (this.#held.has(name)) await new Promise<void>((run) => this.#waiting.push({ name, run }));
    this.#held.add(name);
    return Promise.resolve(callback({})).finally(() => {
      this.#held.delete(name);
      for (const { run } of this.#waiting.splice(0)) run();
    });
  };
}

test("a tab sends the entries of closed tabs, and not those of open tabs", async () => {
  const server = new FakeServer();
  const storage = memoryStorage();
  const locks = new Locks() as unknown as LockManager;
  const [closed, here, next] = [new Tabs(locks), new Tabs(locks), new Tabs(locks)];
  const [first, second, third] = [closed, here, next].map((tabs) => open(server, { storage, tabs }));
  assert.ok(first && second && third);
  await second.queue.open("me");
  await first.queue.open("me");
  first.send("left one");
  first.send("left two");
  second.send("still here");
  await third.queue.begin("me", "me");
  await settled();
  assert.deepEqual(contents(server), []);
  closed.leave();
  await settled();
  assert.deepEqual(contents(server), ["left one", "left two"]);
  await second.queue.begin("me", "me");
  await settled();
  assert.deepEqual(contents(server), ["left one", "left two", "still here"]);
  assert.equal(new Set(server.sent).size, 3);
  const stored: Entry[] = (await storage.load("me")).map(({ entry }) => entry);
  assert.deepEqual(stored, []);
});

test("forgotten entries are deleted everywhere, those of other users stay", async () => {
  const server = new FakeServer();
  const { queue, send, storage } = open(server);
  await queue.begin("me", "me");
  queue.end();
  const { answered } = send("mine");
  const entry: Entry = { id: "left", event: "message", payload: { content: "left by another tab" }, writtenAt: "", state: "queued", attempts: 0, faults: 0, userId: "me" };
  await storage.save({ id: "left", owner: "me", tab: "another", order: 1, entry });
  await storage.save({ id: "theirs", owner: "you", tab: "another", order: 1, entry: { ...entry, id: "theirs", userId: "you" } });
  await queue.forget();
  await assert.rejects(answered, { code: "DISCARDED" });
  assert.deepEqual([queue.entries, await storage.load("me")], [[], []]);
  await queue.begin("me", "me");
  await settled();
  assert.deepEqual(server.sent, []);
  assert.deepEqual((await storage.load("you")).map(({ id }) => id), ["theirs"]);
});

test("forget resolves if the storage does not answer", async (context) => {
  const pass = mockTime(context);
  const server = new FakeServer();
  const stuck: QueueStorage = { ...memoryStorage(), load: () => new Promise(() => {}) };
  const { queue, send, notes } = open(server, { storage: stuck });
  void queue.begin("me", "me");
  send("mine");
  const forgetting = queue.forget();
  await settled();
  await pass(5_000);
  await forgetting;
  assert.deepEqual(queue.entries, []);
  assert.ok(notes.includes("storage"));
});
