import assert from "node:assert/strict";
import { test } from "node:test";
import { Activity } from "../src/model/activity.ts";
import type { Draft } from "../src/model/draft.ts";
import { type Row, type RowSource, rowsOf } from "../src/model/rows.ts";
import { message } from "../packages/client/test/message.ts";
import { partsOf } from "../src/words/text.ts";

const NOW = new Date(2026, 0, 6, 15, 0);

function rows(source: Partial<RowSource>): Row[] {
  return rowsOf({ messages: [], lines: [], drafts: [], ownId: "me", divider: undefined, now: NOW, ...source });
}

function keys(source: Partial<RowSource>): string[] {
  return rows(source).map(({ key }) => key);
}

function at(day: number, hour: number, minute = 0): { createdAt: string } {
  return { createdAt: new Date(2026, 0, day, hour, minute).toISOString() };
}

function draft(clientMessageId: string): Draft {
  return { clientMessageId, content: "text", replyTo: undefined, writtenAt: NOW.toISOString(), delivery: { state: "waiting" }, isUnsent: true };
}

function joined(userId: string) {
  return { type: "system" as const, conversationId: "lobby", userId, name: userId, timestamp: NOW.toISOString() };
}

test("a separator stands before the first message of each day", () => {
  const messages = [message(1, at(4, 9)), message(2, at(5, 23, 59)), message(3, at(6, 0)), message(4, at(6, 1))];
  const found = rows({ messages });
  const labels = found.map((row) => (row.kind === "day" ? row.label : row.key));
  assert.deepEqual(labels, ["Sunday 4 Jan", "id-1", "Yesterday", "id-2", "Today", "id-3", "id-4"]);
});

test("messages of one author within five minutes are one group", () => {
  const messages = [message(1, at(6, 9, 0)), message(2, at(6, 9, 4)), message(3, at(6, 9, 9)), message(4, { ...at(6, 9, 10), userId: "me" })];
  const groups = rows({ messages }).flatMap((row) => {
    return row.kind === "message" ? [[row.message.seq, row.startsGroup, row.endsGroup, row.isOwn]] : [];
  });
  assert.deepEqual(groups, [
    [1, true, false, false],
    [2, false, true, false],
    [3, true, true, false],
    [4, true, true, true],
  ]);
});

test("unread messages begin after a divider", () => {
  const messages = [message(1, at(6, 9)), message(2, { ...at(6, 9, 1), userId: "me" }), message(3, at(6, 9, 2)), message(4, at(6, 9, 3))];
  const divided = (seq: number) => rows({ messages, divider: { seq, count: 2, isTarget: false } });
  assert.deepEqual(divided(2).map(({ key }) => key), ["day:2026-1-6", "id-1", "id-2", "unread", "id-3", "id-4"]);
  assert.deepEqual(divided(2).flatMap((row) => (row.kind === "unread" ? [row.label] : [])), ["2 new since 09:02"]);
  // The first unread message is not loaded.
  assert.deepEqual(divided(0).map(({ key }) => key), ["day:2026-1-6", "id-1", "id-2", "id-3", "id-4"]);
});

test("a join line follows the message that was the newest then", () => {
  const activity = new Activity();
  activity.add("joined", joined("bob"), 1);
  activity.add("joined", joined("eve"), 2);
  const messages = [message(1, at(6, 9)), message(2, at(6, 9, 1))];
  const { lines } = activity;
  assert.deepEqual(keys({ messages, lines }), ["day:2026-1-6", "id-1", lines[0]?.key, "id-2", lines[1]?.key]);
});

test("a join before the oldest loaded message is not shown", () => {
  const activity = new Activity();
  activity.add("joined", joined("bob"), 3);
  assert.deepEqual(keys({ messages: [message(9, at(6, 9))], lines: activity.lines }), ["day:2026-1-6", "id-9"]);
});

/** The words of each line, with the message that it follows. */
function linesOf({ lines }: Activity): string[] {
  return lines.map(({ text, afterSeq }) => `${partsOf(text).join("")} ${afterSeq}`);
}

test("joins and departures of a user without messages are one line", () => {
  const activity = new Activity();
  activity.add("joined", joined("bob"), 4);
  activity.add("disconnected", joined("bob"), 4);
  activity.add("joined", joined("bob"), 4);
  activity.add("left", joined("bob"), 5);
  assert.deepEqual(linesOf(activity), ["bob joined 4", "bob left 5"]);
});

test("joins and departures without a message between them are one line", () => {
  const activity = new Activity();
  activity.add("left", joined("ada"), 1);
  for (let index = 0; index < 100; index += 1) activity.add("joined", joined(`guest ${index}`), 1);
  const [line] = activity.lines;
  assert.deepEqual(linesOf(activity), ["guest 0, guest 1 and 98 others joined · ada left 1"]);
  for (let index = 3; index < 100; index += 1) activity.add("left", joined(`guest ${index}`), 1);
  activity.add("joined", joined("ada"), 1);
  activity.add("disconnected", joined("guest 2"), 1);
  assert.deepEqual(linesOf(activity), ["guest 0 and guest 1 joined · ada came back · guest 3, guest 4 and 95 others joined and left · guest 2 lost the connection 1"]);
  assert.equal(activity.lines[0], line);
});

test("own messages in flight are last", () => {
  const messages = [message(1, { ...at(6, 9), userId: "me" })];
  const found = rows({ messages, drafts: [draft("a"), draft("b")] });
  assert.deepEqual(found.map(({ key }) => key), ["day:2026-1-6", "id-1", "a", "b"]);
  assert.deepEqual(found.flatMap((row) => (row.kind === "draft" ? [row.startsGroup] : [])), [false, false]);
});
