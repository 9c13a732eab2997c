import assert from "node:assert/strict";
import { test } from "node:test";
import { Outbox, parseDrafts } from "../src/outbox.ts";
import { message } from "./message.ts";

const WRITTEN = "2026-01-05T12:00:00.000Z";

function outboxOf(...ids: string[]): Outbox {
  const outbox = new Outbox();
  for (const id of ids) outbox.add({ clientMessageId: id, content: `text of ${id}`, writtenAt: WRITTEN });
  return outbox;
}

function next(outbox: Outbox): string | undefined {
  return outbox.next?.clientMessageId;
}

function states(outbox: Outbox): string[] {
  return outbox.drafts.map(({ clientMessageId, delivery }) => `${clientMessageId} ${delivery.state}`);
}

test("messages are sent one at a time, in the order of writing", () => {
  const outbox = outboxOf("a", "b");
  assert.equal(next(outbox), "a");
  outbox.mark("a", { state: "sending" });
  assert.equal(next(outbox), undefined);
  outbox.mark("a", { state: "unconfirmed" });
  assert.equal(next(outbox), undefined);
  outbox.remove("a");
  assert.equal(next(outbox), "b");
});

test("a failed message does not hold up the next one", () => {
  const outbox = outboxOf("a", "b");
  outbox.mark("a", { state: "failed", reason: "no answer" });
  assert.equal(next(outbox), "b");
});

test("sending a failed message again keeps its id and its text", () => {
  const outbox = outboxOf("a");
  const [before] = outbox.drafts;
  outbox.mark("a", { state: "failed", reason: "no answer" });
  outbox.mark("a", { state: "waiting" });
  assert.deepEqual(outbox.drafts, [before]);
  assert.equal(next(outbox), "a");
});

test("a message that the server has stored after all leaves the outbox", () => {
  const outbox = outboxOf("a", "b");
  const stored = message(9, { userId: "me", content: "text of a", metadata: { timestamp: WRITTEN } });
  outbox.settle([stored], "me");
  assert.deepEqual(states(outbox), ["b waiting"]);
});

test("a message with the same words by somebody else, or from another time, settles nothing", () => {
  const outbox = outboxOf("a");
  const theirs = message(9, { userId: "other", content: "text of a", metadata: { timestamp: WRITTEN } });
  const earlier = message(8, { userId: "me", content: "text of a", metadata: { timestamp: "2026-01-05T11:59:00.000Z" } });
  const plain = message(7, { userId: "me", content: "text of a", metadata: null });
  outbox.settle([theirs, earlier, plain], "me");
  assert.deepEqual(states(outbox), ["a waiting"]);
});

test("what was being sent when the page was closed is sent again", () => {
  const outbox = outboxOf("a", "b", "c");
  outbox.mark("a", { state: "sending" });
  outbox.mark("b", { state: "failed", reason: "no answer" });
  outbox.mark("c", { state: "unconfirmed" });
  const restored = new Outbox(parseDrafts(JSON.stringify(outbox.drafts)));
  assert.deepEqual(states(restored), ["a waiting", "b failed", "c waiting"]);
});

test("nothing but drafts is restored", () => {
  assert.deepEqual(parseDrafts(undefined), []);
  assert.deepEqual(parseDrafts("{"), []);
  assert.deepEqual(parseDrafts('{"a":1}'), []);
  assert.deepEqual(parseDrafts('[null,1,{"clientMessageId":"a"}]'), []);
});
