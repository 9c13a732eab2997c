import assert from "node:assert/strict";
import { test } from "node:test";
import { Timeline } from "../src/model/timeline.ts";
import { message } from "../packages/client/test/message.ts";

function timelineOf(...seqs: number[]): Timeline {
  const timeline = new Timeline();
  timeline.merge(seqs.map((seq) => message(seq)));
  return timeline;
}

function seqs(timeline: Timeline): number[] {
  return timeline.messages.map(({ seq }) => seq);
}

test("messages are ordered by number, in any order of arrival", () => {
  const timeline = timelineOf(5, 3, 4);
  timeline.merge([message(7), message(1), message(6), message(2)]);
  assert.deepEqual(seqs(timeline), [1, 2, 3, 4, 5, 6, 7]);
});

test("a repeated message is listed once and new only the first time", () => {
  const timeline = timelineOf(1, 2);
  const added = timeline.merge([message(2), message(3), message(3)]);
  assert.deepEqual(added.map(({ seq }) => seq), [3]);
  assert.deepEqual(seqs(timeline), [1, 2, 3]);
});

test("an older page is prepended", () => {
  const timeline = timelineOf(51, 52);
  timeline.merge([message(49), message(50)]);
  assert.deepEqual(seqs(timeline), [49, 50, 51, 52]);
});

test("a newer version replaces the message, an older one does not", () => {
  const timeline = timelineOf(1);
  timeline.merge([message(1, { content: "edited", version: 2 })]);
  timeline.merge([message(1, { content: "late", version: 1 })]);
  assert.deepEqual(timeline.messages.map(({ content }) => content), ["edited"]);
});

test("a deleted message retains its place and loses its text", () => {
  const timeline = timelineOf(1, 2);
  const deletedAt = "2026-01-05T13:00:00.000Z";
  timeline.markDeleted({ conversationId: "lobby", messageId: "id-1", seq: 1, deletedAt, deletedBy: "ada" });
  assert.deepEqual(seqs(timeline), [1, 2]);
  assert.equal(timeline.first?.content, "");
  assert.equal(timeline.first?.deletedAt, deletedAt);
});

test("deleting an unknown message changes nothing", () => {
  const timeline = timelineOf(1);
  timeline.markDeleted({ conversationId: "lobby", messageId: "other", seq: 9, deletedAt: "x", deletedBy: "ada" });
  assert.deepEqual(timeline.messages, [message(1)]);
});

test("an overlong timeline retains only the newest messages", () => {
  const timeline = timelineOf(1, 2, 3, 4);
  assert.equal(timeline.keepNewest(4), false);
  assert.equal(timeline.keepNewest(2), true);
  assert.deepEqual(seqs(timeline), [3, 4]);
});
