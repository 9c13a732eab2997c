import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { SharedLine } from "../src/line/shared.ts";
import type { SocketLine } from "../src/line/socket.ts";
import type { Requests } from "../src/types.ts";
import { settled } from "./fake.ts";
import { message } from "./message.ts";

const CHECK_INTERVAL = 2_000;

/** Channels of the same name receive each other's messages immediately. */
class Channel {
  static readonly all = new Set<Channel>();
  onmessage: ((event: { data: unknown }) => void) | undefined;

  constructor() {
    Channel.all.add(this);
  }

  postMessage(data: unknown): void {
    for (const other of Channel.all) if (other !== this) other.onmessage?.({ data });
  }

  close(): void {
    Channel.all.delete(this);
  }
}

/** A tab and a leader that the test plays. */
function follow(t: TestContext) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  let time = 0;
  t.mock.method(performance, "now", () => time);
  let taken = 0;
  const request = (name: string, ...rest: unknown[]): Promise<unknown> => {
    const { steal = false } = (rest.length > 1 ? rest[0] : {}) as LockOptions;
    // The leader holds its lock; the locks of tabs are free.
    if (name.startsWith("roomcast:leader:") && !steal) return new Promise(() => {});
    taken += Number(steal);
    return (rest.at(-1) as (lock: object) => Promise<unknown>)({});
  };
  const globals = { navigator: { locks: { request } }, BroadcastChannel: Channel };
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => (before === undefined ? Reflect.deleteProperty(globalThis, name) : Object.defineProperty(globalThis, name, before)));
  }
  const own = {
    status: { state: "connecting" },
    session: undefined as { userId: string } | undefined,
    isReady: false,
    onAny: () => {},
    watch: () => {},
    open: () => {},
    close: () => {},
    request: async (_name: string): Promise<unknown> => undefined,
  };
  Object.defineProperty(own, "state", { get: () => ({ status: own.status, session: own.session, isReady: own.isReady }) });
  const line = new SharedLine("test", () => own as unknown as SocketLine, () => {});
  line.open();
  t.after(() => line.close());
  const leader = new Channel();
  t.after(() => leader.close());
  return {
    line,
    /** The tab's own connection, once it leads. */
    own,
    taken: () => taken,
    /** The leader announces its state. */
    say: () => leader.postMessage({ kind: "state", from: "leader", status: { state: "online", transport: "websocket" }, session: undefined, isReady: true }),
    /** The time passes and the timer fires once, as in a tab that was frozen. */
    pass: (milliseconds: number) => {
      time += milliseconds;
      t.mock.timers.tick(CHECK_INTERVAL);
    },
  };
}

test("a tab that was frozen does not replace a healthy leader", (t) => {
  const { line, taken, say, pass } = follow(t);
  say();
  assert.equal(line.isReady, true);
  for (let times = 0; times < 5; times += 1) {
    // Messages of the leader from the meantime arrive after the timer.
    pass(3_600_000);
    say();
  }
  assert.deepEqual([taken(), line.isLeader, line.isReady], [0, false, true]);
});

test("a leader that is silent for three checks is replaced", (t) => {
  const { line, taken, say, pass } = follow(t);
  say();
  pass(CHECK_INTERVAL);
  pass(CHECK_INTERVAL);
  assert.deepEqual([taken(), line.isLeader], [0, false]);
  pass(CHECK_INTERVAL);
  assert.deepEqual([taken(), line.isLeader], [1, true]);
});

const conversation = { id: "lobby", title: "Lobby", ownerId: "me", memberIds: ["me"], createdAt: "", updatedAt: "2026-01-05T12:00:00Z" };
const reaction = { added: true, conversationId: "lobby", count: 1, emoji: "👍", messageId: "id-1", seq: 1, timestamp: "now", userId: "me" };
const pin = { message: { id: "id-1", seq: 1, userId: "ada", userName: "Ada", excerpt: "" }, pinnedAt: "now", pinnedBy: "me" };
const unpinned = { conversationId: "lobby", messageId: "id-1", seq: 1, timestamp: "now", unpinnedBy: "me" };
const deleted = message(1, { deletedAt: "2026-01-05T13:00:00Z" });
const updated = ["conversation_updated", { conversation, timestamp: conversation.updatedAt }];

/** The answer to each request that changes something, and the event that other sockets receive. */
const CHANGES: { [Name in keyof Requests]?: [answer: Requests[Name]["answer"], ...event: unknown[]] } = {
  message: [{ message: message(1) }, "message", message(1)],
  edit_message: [{ message: message(1) }, "message_edited", message(1)],
  // A moderator may delete the messages of others.
  delete_message: [{ message: deleted }, "message_deleted", { conversationId: "lobby", messageId: "id-1", seq: 1, deletedAt: deleted.deletedAt, deletedBy: "me" }],
  add_reaction: [reaction, "message_reaction", reaction],
  remove_reaction: [{ ...reaction, added: false }, "message_reaction", { ...reaction, added: false }],
  pin_message: [{ conversationId: "lobby", pin }, "message_pinned", { conversationId: "lobby", pin }],
  unpin_message: [unpinned, "message_unpinned", unpinned],
  // The user has read further before.
  mark_read: [{ seq: 9, unread: 0 }, "message_read", { conversationId: "lobby", userId: "me", seq: 9 }],
  set_status: [{ userId: "me", status: "away", timestamp: "now" }, "status", { userId: "me", status: "away", timestamp: "now" }],
  create_conversation: [{ conversation }, ...updated],
  rename_conversation: [{ conversation }, ...updated],
  add_member: [{ conversation }, ...updated],
  remove_member: [{ conversation }, ...updated],
  join_invite: [{ conversation }, ...updated],
  delete_conversation: [{ conversationId: "lobby", deletedAt: "now", deletedBy: "me" }, "conversation_deleted", { conversationId: "lobby", deletedAt: "now", deletedBy: "me" }],
  set_notification_level: [{ conversationId: "lobby", level: "none" }, "notification_level", { conversationId: "lobby", level: "none" }],
  "notification:ack": [{ notificationId: "one", timestamp: "now" }, "notification:acked", { notificationId: "one", timestamp: "now" }],
};

/** Makes the tab the leader of another tab, and records what either of them receives. */
function lead(t: TestContext) {
  const { line, own, pass } = follow(t);
  for (let times = 0; times < 3; times += 1) pass(CHECK_INTERVAL);
  own.session = { userId: "me" };
  own.isReady = true;
  line["become"]({ session: own.session as never, isReady: true });
  const received = { leader: [] as unknown[], follower: [] as unknown[] };
  for (const name of new Set(Object.values(CHANGES).map(([, event]) => event as string))) {
    line.on(name, (...args: unknown[]) => received.leader.push([name, ...args]));
  }
  const other = new Channel();
  t.after(() => other.close());
  const answers: unknown[] = [];
  other.onmessage = ({ data }) => {
    const { kind, except, name, args, answer } = data as Record<string, unknown>;
    if (kind === "event" && except !== "follower") received.follower.push([name, ...(args as unknown[])]);
    if (kind === "answer") answers.push(answer);
  };
  return {
    line,
    own,
    received,
    answers,
    /** The other tab makes a request. */
    ask: (name: string, payload: unknown) => other.postMessage({ kind: "ask", from: "follower", id: "1", name, payload, timeout: undefined }),
  };
}

for (const [name, [answer, ...event]] of Object.entries(CHANGES)) {
  test(`another tab receives ${event[0]} after ${name}`, async (t) => {
    const { line, own, received, answers, ask } = lead(t);
    const full = { success: true, ...answer };
    own.request = async () => full;
    const payload = { conversationId: "lobby", seq: 1 };
    assert.equal(await line.request(name, payload), full);
    assert.deepEqual(received, { leader: [], follower: [event] });
    ask(name, payload);
    await settled();
    assert.deepEqual(received, { leader: [event], follower: [event] });
    assert.deepEqual(answers, [full]);
  });
}

test("a request that changes nothing, or an unknown answer, is not repeated", async (t) => {
  const { line, own, received } = lead(t);
  for (const [name, answer] of [["presence", { success: true, users: [] }], ["typing", { success: true }], ["message", undefined], ["add_reaction", undefined], ["mark_read", { success: true }], ["rename_conversation", { success: true }]] as const) {
    own.request = async () => answer;
    assert.equal(await line.request(name, {}), answer);
  }
  assert.deepEqual(received, { leader: [], follower: [] });
});

test("every event withheld from the sending socket is repeated or exempt", () => {
  // The working directory of the tests is `web`.
  const rows = readFileSync("packages/client/test/events.ts", "utf8").matchAll(/^ {2}\/\/ To (.*)\.\n {2}"([^"]+)": /gm);
  const withheld = [...rows].filter(([, to]) => /except the \w+ socket|not the sending socket|the user's other sockets/.test(to ?? "")).map(([, , name]) => name);
  // The leader receives the outcome of a trade, and posts it to all tabs. docs/clients.md names the
  // others.
  const exceptions = ["typing", "notifications:acked", "trade:executed", "trade:error"];
  const repeated = new Set(Object.values(CHANGES).map(([, event]) => event));
  assert.deepEqual(withheld.toSorted(), [...repeated, ...exceptions].toSorted());
});
