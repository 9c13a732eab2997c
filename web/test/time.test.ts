import assert from "node:assert/strict";
import { test } from "node:test";
import { clockTime, dayLabel, exactTime, shortDay, shortMoment } from "../src/words/time.ts";

const NOW = new Date(2026, 0, 6, 15, 0);
const at = (...parts: [number, number, number, number, number, number]) => new Date(...parts).toISOString();

test("all forms of a time are parts of the exact one", () => {
  const time = at(2026, 0, 5, 9, 5, 7);
  assert.equal(exactTime(time), "5 Jan 2026, 09:05:07");
  assert.equal(clockTime(time), "09:05");
  assert.equal(shortDay(time, NOW), "5 Jan");
  assert.equal(shortMoment(time, NOW), "5 Jan, 09:05");
  assert.equal(shortMoment(at(2026, 0, 6, 0, 0, 0), NOW), "00:00");
});

test("a day of another year has its year", () => {
  const time = at(2025, 8, 30, 14, 5, 0);
  assert.deepEqual([dayLabel(time, NOW), shortDay(time, NOW), shortMoment(time, NOW)], ["30 Sep 2025", "30 Sep 2025", "30 Sep 2025, 14:05"]);
});
