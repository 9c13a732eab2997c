import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { RequestError } from "../packages/client/src/index.ts";
import { Queue } from "../packages/client/src/queue/queue.ts";
import { memoryStorage } from "../packages/client/src/queue/storage.ts";
import { Tabs } from "../packages/client/src/queue/tabs.ts";
import { settled } from "../packages/client/test/fake.ts";
import { Deletions, UNDO_FOR } from "../src/model/deletions.ts";
import { browser } from "../src/model/storage.ts";

/** A tab of a user. All tabs of this process share the storage. */
async function open(t: TestContext, userId: string) {
  const requested: unknown[] = [];
  const emitted: unknown[] = [];
  const refusals: string[] = [];
  const server = { failure: undefined as RequestError | undefined };
  const queue = new Queue({
    storage: memoryStorage(),
    tabs: new Tabs(undefined),
    limits: { entries: 100, bytes: 10_000 },
    idField: "clientMessageId",
    request: async (_, payload) => {
      requested.push((payload as { messageId: string }).messageId);
      if (server.failure !== undefined) throw server.failure;
      return { message: {} };
    },
    changed: () => {},
    note: () => {},
  });
  const manager = {
    session: { userId },
    queue,
    send: (event: string, payload: object) => queue.add(event, payload as Record<string, unknown>),
    emit: (_: string, payload: { messageId: string }) => emitted.push(payload.messageId),
  };
  const deletions = new Deletions(manager as never, { changed: () => {}, done: () => {}, refused: ({ code }) => refusals.push(code) });
  t.after(() => browser.remove(`roomcast.deletions.${userId}`));
  return { deletions, queue, requested, emitted, refusals, server, begin: () => queue.begin(userId, userId) };
}

test("a deletion is sent to the server unless it is undone", async (t) => {
  const { deletions, requested, begin } = await open(t, "ada-undo");
  await begin();
  t.mock.timers.enable({ apis: ["setTimeout"] });
  deletions.add("one");
  deletions.add("two");
  assert.equal(deletions.has("one"), true);
  deletions.undo("one");
  t.mock.timers.tick(UNDO_FOR);
  await settled();
  assert.deepEqual([requested, deletions.has("two")], [["two"], false]);
});

test("a closed page sends deletions, and the user's next session repeats them", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const before = await open(t, "ada-gone");
  before.deletions.add("one");
  before.deletions.flush();
  assert.deepEqual(before.emitted, ["one"]);
  for (const [user, expected] of [["bob-gone", []], ["ada-gone", ["one"]], ["ada-gone", []]] as const) {
    const next = await open(t, user);
    await next.begin();
    next.deletions.resume();
    t.mock.timers.tick(0);
    await settled();
    assert.deepEqual(next.requested, expected, user);
  }
});

test("a deletion of a crashed tab is sent after the undo time", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const before = await open(t, "ada-dead");
  before.deletions.add("one");
  const next = await open(t, "ada-dead");
  await next.begin();
  next.deletions.resume();
  t.mock.timers.tick(UNDO_FOR - 1);
  await settled();
  assert.deepEqual(next.requested, []);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual(next.requested, ["one"]);
});

test("an offline deletion waits for a connection and can be undone until then", async (t) => {
  const { deletions, requested, begin } = await open(t, "ada-away");
  t.mock.timers.enable({ apis: ["setTimeout"] });
  deletions.add("one");
  deletions.add("two");
  t.mock.timers.tick(UNDO_FOR);
  await settled();
  assert.deepEqual([requested, deletions.has("one")], [[], true]);
  deletions.undo("one");
  await begin();
  await settled();
  assert.deepEqual(requested, ["two"]);
});

test("a refused deletion is dropped and its reason shown", async (t) => {
  const { deletions, queue, refusals, server, begin } = await open(t, "ada-refused");
  await begin();
  server.failure = new RequestError({ code: "FORBIDDEN", message: "" });
  t.mock.timers.enable({ apis: ["setTimeout"] });
  deletions.add("one");
  t.mock.timers.tick(UNDO_FOR);
  await settled();
  assert.deepEqual([refusals, queue.entries, deletions.has("one")], [["FORBIDDEN"], [], false]);
});

test("a discarded deletion is sent neither now nor in the next session", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const before = await open(t, "ada-discards");
  before.deletions.add("queued");
  t.mock.timers.tick(UNDO_FOR);
  before.deletions.add("undoable");
  assert.equal(before.deletions.unknown(false), 2);
  before.deletions.discard();
  await before.queue.forget();
  await settled();
  assert.equal(before.deletions.unknown(false), 0);
  before.deletions.flush();
  await before.begin();
  const next = await open(t, "ada-discards");
  await next.begin();
  next.deletions.resume();
  t.mock.timers.tick(UNDO_FOR);
  await settled();
  assert.deepEqual([before.requested, before.emitted, next.requested], [[], [], []]);
});
