import assert from "node:assert/strict";
import { test } from "node:test";
import { Emitter } from "../packages/client/src/emitter.ts";
import { DISCONNECTED, RequestError, TIMED_OUT } from "../packages/client/src/failure.ts";
import { settled } from "../packages/client/test/fake.ts";
import { message } from "../packages/client/test/message.ts";
import { Inbox } from "../src/model/inbox.ts";
import { People } from "../src/model/people.ts";
import type { ConversationInfo, ListedConversation } from "../src/types.ts";

function info(id: string, memberIds = ["me"]): ConversationInfo {
  return { id, title: id, ownerId: "bob", memberIds, createdAt: "", updatedAt: "" };
}

/** An id of the form `name unread level time` sets what the server lists. */
const listed = (id: string): ListedConversation => {
  const [, unread = "0", level = "all", createdAt] = id.split(" ");
  const last = createdAt !== undefined && { lastMessage: { id: "9", seq: 9, userId: "bob", userName: "Bob", excerpt: "the newest", createdAt } };
  return { ...info(id), lastSeq: 9, readSeq: 1, unread: Number(unread), notificationLevel: level as "all", ...last };
};

/** A list with a server that answers when the test requests it. */
function open() {
  const events = new Emitter<Record<string, (...args: never[]) => void>>();
  const answers: ((ids: string[] | RequestError) => void)[] = [];
  const lost: string[] = [];
  const notices: string[] = [];
  const mentions = new Set<string>();
  /** The events of each joined conversation. */
  const feeds = new Map<string, Emitter<Record<string, (...args: never[]) => void>>>();
  const manager = {
    session: { userId: "me" },
    isReady: true,
    queue: { entries: [] },
    on: (name: string, listener: (...args: never[]) => void) => events.on(name, listener),
    watch: () => () => {},
    conversation: (id: string) => {
      const feed = new Emitter<Record<string, (...args: never[]) => void>>();
      feeds.set(id, feed);
      return { on: (name: string, listener: (...args: never[]) => void) => feed.on(name, listener), history: async () => ({ messages: [], hasMore: false }) };
    },
    leaveConversation: () => {},
    request: () =>
      new Promise((resolve, reject) => answers.push((ids) => (ids instanceof RequestError ? reject(ids) : resolve({ conversations: ids.map(listed), hasMore: false })))),
  };
  const nothing = () => {};
  const callbacks = { changed: nothing, grown: nothing, announce: nothing, notice: (text: string) => notices.push(text), arrived: nothing, userSeen: nothing, statusReceived: nothing, lost: (id: string) => lost.push(id), mentions: () => mentions };
  const inbox = new Inbox(manager as never, new People(), callbacks);
  const receive = (name: string, payload: unknown) => events.emit(name, payload as never);
  const ids = () => inbox.items.map(({ id }) => id).sort();
  return { inbox, manager, answers, receive, ids, lost, notices, feeds, mentions };
}

test("changes that arrive during a list request override its answer", async () => {
  const { inbox, answers, receive, ids, lost } = open();
  const loading = inbox.load();
  inbox.update(info("made"));
  receive("conversation_updated", { conversation: info("got") });
  receive("conversation_updated", { conversation: info("removed", ["bob"]) });
  receive("conversation_deleted", { conversationId: "deleted" });
  answers.shift()?.(["old", "removed", "deleted"]);
  await loading;
  assert.deepEqual([ids(), lost], [["got", "made", "old"], []]);
});

test("the answer to a list request of a lost connection is ignored", async () => {
  const { inbox, answers, ids, lost } = open();
  const before = inbox.load();
  const after = inbox.load();
  answers[1]?.(["one", "two"]);
  answers[0]?.(["one"]);
  await Promise.all([before, after]);
  await settled();
  assert.deepEqual([ids(), lost], [["one", "two"], []]);
  const last = inbox.load();
  answers[2]?.(["one"]);
  await last;
  assert.deepEqual([ids(), lost], [["one"], ["two"]]);
});

test("a failed list request is repeated on the same connection", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { inbox, manager, answers, ids, notices } = open();
  const fail = async (code: string, retryAfter?: number) => {
    answers.pop()?.(new RequestError({ code, message: "", ...(retryAfter !== undefined && { retryAfter }) }));
    await settled();
  };
  const wait = async (milliseconds: number) => {
    t.mock.timers.tick(milliseconds);
    await settled();
    return answers.length;
  };
  const loading = inbox.load();
  await fail(TIMED_OUT);
  assert.deepEqual([await wait(999), await wait(1)], [0, 1]);
  await fail("RATE_LIMITED", 5_000);
  assert.deepEqual([await wait(4_999), await wait(1)], [0, 1]);
  assert.deepEqual([inbox.isReady, notices.length], [false, 2]);
  answers.pop()?.(["one"]);
  await loading;
  assert.deepEqual([inbox.isReady, ids()], [false, ["one"]]);

  // The next connection lists the conversations itself.
  void inbox.load();
  manager.isReady = false;
  await fail(DISCONNECTED);
  assert.equal(await wait(3_600_000), 0);
  manager.isReady = true;
  void inbox.load();
  await fail(TIMED_OUT);
  inbox.close();
  assert.equal(await wait(3_600_000), 0);
  assert.equal(notices.length, 3);
});

test("only an entered conversation without messages counts as empty", async () => {
  const { inbox, answers, feeds } = open();
  const loading = inbox.load();
  // More than are joined.
  const listed = Array.from({ length: 40 }, (_, index) => `c${index}`);
  answers.shift()?.(listed);
  await loading;
  const empty = () => inbox.items.filter(({ isEmpty }) => isEmpty).map(({ id }) => id).sort();
  assert.ok(feeds.size > 3 && feeds.size < listed.length, `${feeds.size} of ${listed.length} joined`);
  assert.deepEqual(empty(), []);
  const [first = "", second = "", third = ""] = feeds.keys();
  for (const id of [first, second]) feeds.get(id)?.emit("stage", "entering" as never);
  feeds.get(second)?.emit("messages", [message(1, { conversationId: second })] as never);
  feeds.get(third)?.emit("stage", "absent" as never);
  assert.deepEqual(empty(), []);
  for (const id of [first, second]) feeds.get(id)?.emit("stage", "entered" as never);
  assert.deepEqual(empty(), [first]);
  feeds.get(first)?.emit("messages", [message(1, { conversationId: first })] as never);
  assert.deepEqual(empty(), []);
});

test("mentioned and unread conversations are listed first, except muted ones", async () => {
  const { inbox, answers, mentions } = open();
  const loading = inbox.load();
  const unread = Array.from({ length: 40 }, (_, index) => `unread${index} 1`);
  answers.shift()?.(["read", "muted 5 none", ...unread, "meant 1"]);
  await loading;
  mentions.add("meant 1");
  const order = () => inbox.items.map(({ id }) => id.split(" ")[0]?.replace(/\d/g, ""));
  assert.deepEqual(order(), ["meant", ...unread.map(() => "unread"), "read", "muted"]);
  // Most of them are not joined.
  assert.equal(inbox.unread, 41);
  // An opened conversation keeps its place until another one is opened.
  inbox.open("meant 1");
  Object.assign(inbox.known("meant 1") ?? {}, { unread: 0 });
  mentions.clear();
  assert.equal(order()[0], "meant");
  inbox.open("read");
  assert.equal(order()[0], "unread");
});

test("conversations that are not joined have the message that the server lists", async () => {
  const { inbox, answers, receive } = open();
  const loading = inbox.load();
  const late = "late 0 all 2026-01-01T00:00:00.000Z";
  answers.shift()?.([...Array.from({ length: 35 }, (_, index) => `c${index} 1`), late, "none"]);
  await loading;
  const item = (id: string) => inbox.items.find((item) => item.id === id);
  assert.deepEqual([item(late)?.newest?.content, item(late)?.time], ["the newest", "2026-01-01T00:00:00.000Z"]);
  assert.deepEqual([item("none")?.newest, item("none")?.isEmpty], [undefined, false]);
  receive("notification_level", { conversationId: "none", level: "none" });
  assert.equal(item("none")?.isMuted, true);
  for (const [userId, seq, unread] of [["bob", 9, 1], ["me", 8, 1], ["me", 9, 0]]) {
    receive("message_read", { conversationId: "c34 1", userId, seq });
    assert.equal(item("c34 1")?.unread, unread);
  }
});
