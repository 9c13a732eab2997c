import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Reading } from "../src/model/reading.ts";
import { message } from "../packages/client/test/message.ts";

function begin() {
  mock.timers.enable({ apis: ["setTimeout"] });
  const reported: number[] = [];
  const reading = new Reading(
    async (seq) => void reported.push(seq),
    () => {},
  );
  return { reading, reported };
}

async function pass(milliseconds: number): Promise<void> {
  mock.timers.tick(milliseconds);
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}

test("unread messages are those counted by the server and those since", () => {
  const reading = new Reading(async () => {}, () => {});
  reading.begin(2, 7, 10);
  assert.equal(reading.unread([message(10), message(11), message(12, { userId: "me" })], "me"), 8);
  reading.see(12, false);
  assert.equal(reading.unread([message(10), message(11), message(12)], "me"), 0);
  assert.equal(reading.unread([message(13), message(14, { deletedAt: "2026-01-05T12:00:00.000Z" })], "me"), 1);
});

test("the read position is sent at most once a second", async (t) => {
  const { reading, reported } = begin();
  t.after(() => mock.timers.reset());
  reading.see(3, true);
  reading.see(4, true);
  await pass(1_000);
  assert.deepEqual(reported, [4]);
  reading.see(4, true);
  await pass(1_000);
  assert.deepEqual(reported, [4]);
  reading.seeElsewhere(9);
  reading.see(9, true);
  await pass(1_000);
  assert.deepEqual(reported, [4]);
});

test("messages seen while a report is sent are reported as well", async (t) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  t.after(() => mock.timers.reset());
  const reports: { seq: number; done: () => void }[] = [];
  const reading = new Reading((seq) => new Promise<void>((done) => reports.push({ seq, done })), () => {});
  reading.see(1, true);
  await pass(1_000);
  reading.see(2, true);
  reports[0]!.done();
  await pass(0);
  await pass(1_000);
  assert.deepEqual(reports.map(({ seq }) => seq), [1, 2]);
  reports[1]!.done();
  await pass(2_000);
  assert.equal(reports.length, 2);
});

test("a message is read by users whose read position includes it", () => {
  const reading = new Reading(async () => {}, () => {});
  reading.noteOther("bob", 4);
  reading.noteOther("bob", 3);
  reading.noteOther("eve", 2);
  assert.deepEqual([message(2), message(3), message(5)].map((each) => reading.readersOf(each)), [2, 1, 0]);
});

test("messages that others read before the join stay read", () => {
  const reading = new Reading(async () => {}, () => {});
  assert.equal(reading.wasRead(message(1)), false);
  reading.noteOthers(3);
  reading.noteOther("bob", 5);
  assert.deepEqual([message(1), message(3), message(4)].map((each) => reading.wasRead(each)), [true, true, false]);
  assert.equal(reading.readersOf(message(4)), 1);
  reading.noteOthers(0);
  assert.equal(reading.wasRead(message(1)), false, "of another history");
});
