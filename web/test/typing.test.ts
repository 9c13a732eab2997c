import assert from "node:assert/strict";
import { test } from "node:test";
import { OwnTyping, Typists, typingLine } from "../src/model/typing.ts";
import { partsOf } from "../src/words/text.ts";

function typing(userId: string, isTyping = true) {
  return { conversationId: "lobby", userId, name: userId, isTyping, timestamp: "" };
}

test("a typing user expires without further events", () => {
  const typists = new Typists();
  typists.handle(typing("ada"), 0);
  typists.handle(typing("bob"), 2_000);
  assert.deepEqual(typists.names(6_999), ["ada", "bob"]);
  assert.equal(typists.nextExpiry(6_999), 7_000);
  assert.deepEqual(typists.names(7_000), ["bob"]);
  assert.equal(typists.nextExpiry(9_000), undefined);
});

test("typing ends on a stop event or a message", () => {
  const typists = new Typists();
  typists.handle(typing("ada"), 0);
  typists.handle(typing("bob"), 0);
  typists.handle(typing("ada", false), 10);
  typists.remove("bob");
  assert.deepEqual(typists.names(20), []);
});

test("own typing is sent immediately, then at most every three seconds, and ends once", () => {
  const own = new OwnTyping();
  const reported = [own.handleInput("h", 0), own.handleInput("he", 100), own.handleInput("hel", 3_000), own.handleInput("hell", 5_999)];
  assert.deepEqual(reported, [true, undefined, true, undefined]);
  assert.equal(own.handleStop(), false);
  assert.equal(own.handleStop(), undefined);
});

test("emptying the field ends typing", () => {
  const own = new OwnTyping();
  assert.equal(own.handleInput("  ", 0), undefined);
  assert.equal(own.handleInput("a", 0), true);
  assert.equal(own.handleInput("", 10), false);
});

test("the typing line names two users and counts the rest", () => {
  assert.deepEqual(partsOf(typingLine([])), [""]);
  assert.deepEqual(partsOf(typingLine(["Ada"])), ["", "Ada", " is typing…"]);
  assert.deepEqual(partsOf(typingLine(["Ada", "Bob"])), ["", "Ada", " and ", "Bob", " are typing…"]);
  assert.deepEqual(partsOf(typingLine(["Ada", "Bob", "Eve", "Zoe"])), ["", "Ada", ", ", "Bob", " and 2 more are typing…"]);
  // The Unicode isolate characters of a name are removed, so it cannot end the isolate around it.
  assert.deepEqual(partsOf(typingLine(["A\u2069da"])), ["", "Ada", " is typing…"]);
});
