import assert from "node:assert/strict";
import { test } from "node:test";
import { JoinPacer } from "../src/join_pacer.ts";

test("twenty items start immediately, the rest one every two seconds, and an urgent item before them", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let time = 0;
  t.mock.method(performance, "now", () => time);
  const pass = (turns: number) => {
    for (let turn = 0; turn < turns; turn += 1) {
      time += 2_000;
      t.mock.timers.tick(2_000);
    }
  };
  const started: number[] = [];
  const pacer = new JoinPacer<number>((item) => started.push(item));
  for (let item = 0; item < 24; item += 1) pacer.take(item);
  assert.equal(started.length, 20);
  pacer.hurry(23);
  pacer.drop(20);
  pass(1);
  assert.deepEqual(started.slice(20), [23, 21]);
  pass(2);
  assert.deepEqual(started.slice(20), [23, 21, 22]);
  // Unused starts accumulate, up to the size of a burst.
  pass(100);
  for (let item = 100; item < 130; item += 1) pacer.take(item);
  assert.equal(started.length, 43);
  pacer.clear();
  pass(100);
  assert.equal(started.length, 43);
});
