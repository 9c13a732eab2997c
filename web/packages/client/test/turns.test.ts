import assert from "node:assert/strict";
import { test } from "node:test";
import { Turns } from "../src/turns.ts";

test("twenty go at once, the others one every two seconds, and who is asked for goes before them", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let time = 0;
  t.mock.method(performance, "now", () => time);
  const pass = (turns: number) => {
    for (let turn = 0; turn < turns; turn += 1) {
      time += 2_000;
      t.mock.timers.tick(2_000);
    }
  };
  const gone: number[] = [];
  const turns = new Turns<number>((item) => gone.push(item));
  for (let item = 0; item < 24; item += 1) turns.take(item);
  assert.equal(gone.length, 20);
  turns.hurry(23);
  turns.drop(20);
  pass(1);
  assert.deepEqual(gone.slice(20), [23, 21]);
  pass(2);
  assert.deepEqual(gone.slice(20), [23, 21, 22]);
  // What was not needed meanwhile may go at once again, up to the same number.
  pass(100);
  for (let item = 100; item < 130; item += 1) turns.take(item);
  assert.equal(gone.length, 43);
  turns.clear();
  pass(100);
  assert.equal(gone.length, 43);
});
