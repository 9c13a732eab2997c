import assert from "node:assert/strict";
import { test } from "node:test";
import { Pace } from "../src/pace.ts";

test("growing text is drawn in an eighth of the time", () => {
  const pace = new Pace();
  assert.equal(pace.pause(0), 0);
  pace.note(110, 10);
  assert.equal(pace.pause(110), 70);
  assert.equal(pace.pause(150), 30);
  assert.equal(pace.pause(180), 0);
  assert.equal(pace.pause(1_000), 0);
});

test("growing text is drawn four times a second if a drawing takes long", () => {
  const pace = new Pace();
  pace.note(900, 900);
  assert.equal(pace.pause(900), 250);
});
