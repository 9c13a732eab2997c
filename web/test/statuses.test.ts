import assert from "node:assert/strict";
import { test } from "node:test";
import { Statuses } from "../src/status/statuses.ts";
import type { UserStatus } from "../src/types.ts";

test("the latest status of a user counts, and absent users are offline", () => {
  const update = (status: UserStatus["status"], timestamp: string, text?: string): UserStatus => ({ userId: "bob", status, timestamp, ...(text !== undefined && { text }) });
  const statuses = new Statuses();
  assert.deepEqual(statuses.shown("bob", true), { status: "online", text: "" });
  statuses.take(update("busy", "2026-01-01T00:00:02.000Z", "in a meeting"));
  assert.equal(statuses.take(update("away", "2026-01-01T00:00:01.000Z")), false);
  assert.equal(statuses.take(update("away", "2026-01-01T00:00:02.000Z")), false);
  assert.deepEqual(statuses.shown("bob", true), { status: "busy", text: "in a meeting" });
  assert.deepEqual(statuses.shown("bob", false), { status: "offline", text: "in a meeting" });
});
