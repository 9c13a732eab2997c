import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestError } from "../packages/client/src/index.ts";
import { Bell, actionOf } from "../src/notifications/bell.ts";
import type { Notification } from "../src/types.ts";

const FUTURE = "2100-01-01T00:00:00.000Z";
const NOW = Date.parse("2026-01-01T00:00:00.000Z");

const note = (notificationId: string, expiresAt = FUTURE): Notification => {
  return { notificationId, type: "info", priority: "normal", title: notificationId, message: "", actionUrl: null, timestamp: FUTURE, expiresAt };
};

/** A connection whose events and answers the test makes up; answers that are held are given when it says so. */
function fake() {
  const listeners = new Map<string, (payload: never) => void>();
  const asked: string[] = [];
  const failures: RequestError[] = [];
  const rung: string[] = [];
  const connection = {
    on: (name: string, listener: (payload: never) => void) => {
      listeners.set(name, listener);
      return () => {};
    },
    watch: (name: string, listener: () => void) => {
      listeners.set(name, listener);
      return () => {};
    },
    subscribe: () => () => {},
    request: async (name: string, payload: { notificationId?: string; revision?: number }) => {
      asked.push(payload.notificationId ?? [name, payload.revision].join(" ").trim());
      const failure = failures.shift();
      if (failure !== undefined) throw failure;
      return {};
    },
  };
  const bell = new Bell(connection as never, () => {}, ({ notificationId }) => rung.push(notificationId));
  const tell = (name: string, payload?: unknown) => listeners.get(name)?.(payload as never);
  const snapshot = (revision: number, hasMore: boolean, ...notifications: Notification[]) => tell("notifications:subscribed", { room: "", snapshot: { revision, hasMore, notifications, unread: notifications.length + (hasMore ? 50 : 0) } });
  return { bell, asked, failures, rung, tell, snapshot };
}

const settled = () => new Promise((done) => setImmediate(done));
const ids = (bell: Bell) => bell.list(NOW).map(({ notificationId }) => notificationId);

test("what comes twice, late or out of order is there once", () => {
  const { bell, rung, tell, snapshot } = fake();
  tell("notification:new", { ...note("early"), revision: 1 });
  snapshot(3, false, note("one"), note("three"));
  // What is urgent overtakes what waits.
  tell("notification:new", { ...note("urgent"), revision: 5 });
  tell("notification:batch", { notifications: [{ ...note("four"), revision: 4 }, { ...note("three"), revision: 3 }, { ...note("gone"), revision: 2 }] });
  tell("notification:new", { ...note("urgent"), revision: 5 });
  assert.deepEqual(ids(bell), ["four", "urgent", "three", "one"]);
  assert.deepEqual(rung, ["urgent", "four"]);
  assert.equal(bell.unread(NOW), 4);
});

test("what another tab has read counts no more, and what has ended is not shown", () => {
  const { bell, tell, snapshot } = fake();
  snapshot(3, false, note("one"), note("two"), note("ended", "2025-01-01T00:00:00.000Z"));
  tell("notification:acked", { notificationId: "one", timestamp: FUTURE });
  assert.deepEqual([ids(bell), bell.unread(NOW)], [["two", "one"], 1]);
  bell.sweep();
  assert.deepEqual(ids(bell), ["two"]);
});

test("what was read is told one by one, again after a passing failure, and after the next connect", async () => {
  const { bell, asked, failures, tell, snapshot } = fake();
  snapshot(3, false, note("one"), note("two"), note("three"));
  failures.push(new RequestError({ code: "RATE_LIMITED", message: "", retryAfter: 1 }));
  bell.read("one");
  bell.read("one");
  while (asked.length < 2) await settled();
  assert.deepEqual(asked, ["one", "one"]);
  failures.push(new RequestError({ code: "DISCONNECTED", message: "" }));
  bell.read("two");
  await settled();
  // A snapshot that still has it does not make it new.
  snapshot(4, false, note("two"), note("three"));
  assert.equal(bell.unread(NOW), 1);
  failures.push(new RequestError({ code: "NOT_FOUND", message: "" }));
  tell("session");
  await settled();
  bell.read("three");
  await settled();
  assert.deepEqual(asked, ["one", "one", "two", "two", "three"]);
});

test("older ones are asked for when those that there are were read", async () => {
  const { bell, asked, snapshot } = fake();
  snapshot(9, true, note("one"), note("two"));
  bell.read("one");
  await settled();
  bell.read("two");
  while (asked.length < 3) await settled();
  assert.deepEqual(asked, ["one", "two", "subscribe:notifications"]);
});

test("all that has come is read by one request, and again after a failure", async () => {
  const { bell, asked, failures, tell, snapshot } = fake();
  snapshot(3, true, note("one"), note("two"));
  assert.equal(bell.unread(NOW), 52);
  tell("notification:new", { ...note("four"), revision: 4 });
  // What is urgent has overtaken what waits, which was not seen.
  tell("notification:new", { ...note("urgent"), priority: "urgent", revision: 6 });
  tell("notifications:unread", { unread: 55, revision: 6 });
  tell("notifications:unread", { unread: 1, revision: 5 });
  assert.equal(bell.unread(NOW), 55);
  failures.push(new RequestError({ code: "DISCONNECTED", message: "" }));
  bell.readAll();
  assert.equal(bell.unread(NOW), 0);
  await settled();
  tell("session");
  while (asked.length < 4) await settled();
  assert.deepEqual(asked, ["notification:ack_all 4", "notification:ack_all 4", "urgent", "subscribe:notifications"]);
});

test("what is acknowledged together is read, and what is withdrawn is not there", () => {
  const { bell, tell, snapshot } = fake();
  snapshot(3, false, note("one"), note("two"), note("three"));
  tell("notifications:acked", { notificationIds: ["one", "two"], timestamp: FUTURE });
  assert.deepEqual([ids(bell), bell.unread(NOW)], [["three", "two", "one"], 1]);
  tell("notification:withdrawn", { notificationId: "three", reason: "withdrawn", timestamp: FUTURE });
  assert.deepEqual([ids(bell), bell.unread(NOW)], [["two", "one"], 0]);
});

test("an action leads to a web address or to a place in this page, and nowhere else", () => {
  const base = "https://chat.example/#/c/1";
  assert.deepEqual(actionOf("/#/trading", base), { href: "#/trading", isHere: true });
  assert.deepEqual(actionOf("https://chat.example/#/c/2", base), { href: "#/c/2", isHere: true });
  assert.deepEqual(actionOf("/orders/7", base), { href: "https://chat.example/orders/7", isHere: false });
  assert.deepEqual(actionOf("https://example.org/a", base), { href: "https://example.org/a", isHere: false });
  for (const url of [null, "javascript:alert(1)", "data:text/html,x", "https://a@example.org/", "http://", "\u0000"]) {
    const action = actionOf(url, base);
    assert.ok(action === undefined || action.href.startsWith("https://chat.example/"), String(url));
  }
});
