import assert from "node:assert/strict";
import { test } from "node:test";
import { People, skeletonOf } from "../src/model/people.ts";

test("names that look alike have the same skeleton", () => {
  for (const other of ["Bоb", "BOB", "bob ", "B\u00f3b", "𝐁𝐨𝐛"]) assert.equal(skeletonOf(other), skeletonOf("Bob"), other);
  assert.equal(skeletonOf("Iris"), skeletonOf("lris"));
  assert.notEqual(skeletonOf("Bob"), skeletonOf("Rob"));
});

test("users with similar names are marked by the end of their id", () => {
  const people = new People();
  people.learn("user-1111", "Ada");
  assert.equal(people.markOf("user-1111", "Ada"), undefined);
  people.learn("guest:2222", "Аda");
  assert.equal(people.markOf("user-1111", "Ada"), "1111");
  assert.equal(people.markOf("guest:2222", "Аda"), "2222");
  people.learn("guest:2222", "Eve");
  assert.equal(people.markOf("user-1111", "Ada"), undefined);
  // A message keeps its author's name at that time.
  assert.equal(people.markOf("guest:2222", "Ada"), "2222");
});

test("people are found by parts of names and ids, and their number is limited", () => {
  const people = new People();
  for (let index = 0; index < 6_000; index += 1) people.learn(`user-${index}`, `Name ${index}`);
  assert.equal(people.nameOf("user-0"), undefined);
  assert.equal(people.nameOf("user-5999"), "Name 5999");
  assert.deepEqual(people.find("name 5998", 5), [{ userId: "user-5998", name: "Name 5998" }]);
  assert.equal(people.find("USER-59", 5).length, 5);
});
