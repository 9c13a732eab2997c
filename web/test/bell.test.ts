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

/**
 * A connection whose events and answers the test controls. Held answers are given when the test
 * requests it.
 */
function fake() {
  const listeners = new Map<string, (payload: never) => void>();
  const requests: string[] = [];
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
      requests.push(payload.notificationId ?? [name, payload.revision].join(" ").trim());
      const failure = failures.shift();
      if (failure !== undefined) throw failure;
      return {};
    },
  };
  const bell = new Bell(connection as never, () => {}, ({ notificationId }) => rung.push(notificationId));
  const receive = (name: string, payload?: unknown) => listeners.get(name)?.(payload as never);
  const snapshot = (revision: number, hasMore: boolean, ...notifications: Notification[]) => receive("notifications:subscribed", { room: "", snapshot: { revision, hasMore, notifications, unread: notifications.length + (hasMore ? 50 : 0) } });
  return { bell, requests, failures, rung, receive, snapshot };
}

const settled = () => new Promise((done) => setImmediate(done));
const ids = (bell: Bell) => bell.list(NOW).map(({ notificationId }) => notificationId);

test("repeated, late and reordered notifications are listed once", () => {
  const { bell, rung, receive, snapshot } = fake();
  receive("notification:new", { ...note("early"), revision: 1 });
  snapshot(3, false, note("one"), note("three"));
  // Urgent notifications overtake others.
  receive("notification:new", { ...note("urgent"), revision: 5 });
  receive("notification:batch", { notifications: [{ ...note("four"), revision: 4 }, { ...note("three"), revision: 3 }, { ...note("gone"), revision: 2 }] });
  receive("notification:new", { ...note("urgent"), revision: 5 });
  assert.deepEqual(ids(bell), ["four", "urgent", "three", "one"]);
  assert.deepEqual(rung, ["urgent", "four"]);
  assert.equal(bell.unread(NOW), 4);
});

test("notifications read in another tab or expired do not count", () => {
  const { bell, receive, snapshot } = fake();
  snapshot(3, false, note("one"), note("two"), note("ended", "2025-01-01T00:00:00.000Z"));
  receive("notification:acked", { notificationId: "one", timestamp: FUTURE });
  assert.deepEqual([ids(bell), bell.unread(NOW)], [["two", "one"], 1]);
  bell.sweep();
  assert.deepEqual(ids(bell), ["two"]);
});

test("acknowledgements are sent one by one, and repeated after failures", async () => {
  const { bell, requests, failures, receive, snapshot } = fake();
  snapshot(3, false, note("one"), note("two"), note("three"));
  failures.push(new RequestError({ code: "RATE_LIMITED", message: "", retryAfter: 1 }));
  bell.read("one");
  bell.read("one");
  while (requests.length < 2) await settled();
  assert.deepEqual(requests, ["one", "one"]);
  failures.push(new RequestError({ code: "DISCONNECTED", message: "" }));
  bell.read("two");
  await settled();
  // A snapshot that still contains it does not make it unread.
  snapshot(4, false, note("two"), note("three"));
  assert.equal(bell.unread(NOW), 1);
  failures.push(new RequestError({ code: "NOT_FOUND", message: "" }));
  receive("session");
  await settled();
  bell.read("three");
  await settled();
  assert.deepEqual(requests, ["one", "one", "two", "two", "three"]);
});

test("older notifications are requested after the loaded ones were read", async () => {
  const { bell, requests, snapshot } = fake();
  snapshot(9, true, note("one"), note("two"));
  bell.read("one");
  await settled();
  bell.read("two");
  while (requests.length < 3) await settled();
  assert.deepEqual(requests, ["one", "two", "subscribe:notifications"]);
});

test("all notifications are acknowledged by one request, which is repeated", async () => {
  const { bell, requests, failures, receive, snapshot } = fake();
  snapshot(3, true, note("one"), note("two"));
  assert.equal(bell.unread(NOW), 52);
  receive("notification:new", { ...note("four"), revision: 4 });
  // The urgent notification has overtaken others, which were not seen.
  receive("notification:new", { ...note("urgent"), priority: "urgent", revision: 6 });
  receive("notifications:unread", { unread: 55, revision: 6 });
  receive("notifications:unread", { unread: 1, revision: 5 });
  assert.equal(bell.unread(NOW), 55);
  failures.push(new RequestError({ code: "DISCONNECTED", message: "" }));
  bell.readAll();
  assert.equal(bell.unread(NOW), 0);
  await settled();
  receive("session");
  while (requests.length < 4) await settled();
  assert.deepEqual(requests, ["notification:ack_all 4", "notification:ack_all 4", "urgent", "subscribe:notifications"]);
});

test("notifications acknowledged together are read, withdrawn ones removed", () => {
  const { bell, receive, snapshot } = fake();
  snapshot(3, false, note("one"), note("two"), note("three"));
  receive("notifications:acked", { notificationIds: ["one", "two"], timestamp: FUTURE });
  assert.deepEqual([ids(bell), bell.unread(NOW)], [["three", "two", "one"], 1]);
  receive("notification:withdrawn", { notificationId: "three", reason: "withdrawn", timestamp: FUTURE });
  assert.deepEqual([ids(bell), bell.unread(NOW)], [["two", "one"], 0]);
});

test("an action leads only to a web address or a place in this page", () => {
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
