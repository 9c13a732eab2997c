import assert from "node:assert/strict";
import { test } from "node:test";
import { completionsOf, mentionAt, mentionedIn, piecesOf } from "../src/marks/mentions.ts";
import { Pins, mayPin, quoteOf, withOwn, withReaction } from "../src/marks/marks.ts";
import { Timeline } from "../src/model/timeline.ts";
import { emojiOf } from "../src/marks/emoji.ts";
import type { Message, MessageReaction, Pin } from "../src/types.ts";

const message = (seq: number, more: Partial<Message> = {}): Message => {
  return { id: `m${seq}`, conversationId: "c", seq, userId: "bob", userName: "Bob", type: "user", content: `text ${seq}`, metadata: {}, version: 1, createdAt: "2026-01-01T00:00:00.000Z", ...more };
};
const reaction = (emoji: string, userId: string, count: number, added = true): MessageReaction => {
  return { conversationId: "c", messageId: "m1", seq: 1, emoji, userId, added, count, timestamp: "2026-01-01T00:00:00.000Z" };
};
const shown = ({ reactions = [] }: Message) => reactions.map(({ emoji, count, own }) => `${emoji}${count}${own ? " own" : ""}`);

test("reactions show the server's count and mark the user's own", () => {
  let one = withReaction(message(1), reaction("👍", "eve", 1), "me");
  one = withReaction(one, reaction("👍", "me", 2), "me");
  one = withReaction(one, reaction("🎉", "eve", 12), "me");
  assert.deepEqual(shown(one), ["👍2 own", "🎉12"]);
  // A repeated event changes nothing.
  assert.deepEqual(shown(withReaction(one, reaction("👍", "me", 2), "me")), ["👍2 own", "🎉12"]);
  one = withReaction(one, reaction("👍", "me", 1, false), "me");
  assert.deepEqual([shown(one), one.reactions?.[0]?.userIds], [["👍1", "🎉12"], ["eve"]]);
  assert.deepEqual(shown(withReaction(one, reaction("🎉", "eve", 0, false), "me")), ["👍1"]);
  // An edit is the same event for all users.
  const mine = withReaction(message(1), reaction("👍", "me", 1), "me");
  assert.deepEqual(shown(withOwn(message(1, { version: 2, reactions: [{ emoji: "👍", count: 3, userIds: ["me"] }] }), mine)), ["👍3 own"]);
});

test("quotes show the current text of their original", () => {
  const timeline = new Timeline();
  timeline.merge([message(1), message(2, { replyTo: quoteOf(message(1)) })]);
  timeline.change("m1", (known) => ({ ...known, content: "other words", version: 2 }));
  assert.equal(timeline.messages[1]?.replyTo?.excerpt, "other words");
  timeline.markDeleted({ conversationId: "c", messageId: "m1", seq: 1, deletedAt: "now", deletedBy: "bob" });
  assert.deepEqual([timeline.messages[1]?.replyTo?.excerpt, timeline.messages[1]?.replyTo?.deletedAt], ["", "now"]);
  // Also if the original is not loaded.
  timeline.merge([message(9, { replyTo: quoteOf(message(7)) })]);
  timeline.forgetQuoted("m7", "then");
  assert.equal(timeline.messages[2]?.replyTo?.deletedAt, "then");
  assert.equal([...quoteOf(message(1, { content: "😀".repeat(300) })).excerpt].length, 200);
});

test("pin events that arrive during a join are applied to its answer", () => {
  const pin = (seq: number): Pin => ({ message: quoteOf(message(seq)), pinnedBy: "bob", pinnedAt: "" });
  const pins = new Pins();
  pins.wait();
  pins.add(pin(3));
  pins.remove("m1");
  pins.begin([pin(2), pin(1)]);
  assert.deepEqual(pins.all.map(({ message }) => message.id), ["m3", "m2"]);
  pins.add(pin(2));
  assert.deepEqual(pins.all.map(({ message }) => message.id), ["m2", "m3"]);
  const info = { id: "c", title: null, ownerId: "me", memberIds: [], createdAt: "", updatedAt: "" };
  assert.deepEqual([mayPin(info, "me", ["chat:manage"]), mayPin(info, "me"), mayPin(info, "eve", ["chat:manage"]), mayPin(info, "eve", ["chat:manage", "chat:moderate"])], [true, false, false, true]);
});

test("only exactly one emoji is accepted", () => {
  for (const emoji of ["👍", "❤️", "👍🏽", "👨‍👩‍👧", "🇩🇪", "1️⃣", " 🎉 "]) assert.equal(emojiOf(emoji), emoji.trim(), emoji);
  for (const wrong of ["", "a", "1", "👍👍", "👍a", ":)", "\u202E", `👨${"\u200D👩".repeat(30)}`, `👍${"\u0300".repeat(50)}`]) assert.equal(emojiOf(wrong), undefined, wrong);
});

test("text after an @ is completed by names, also of other scripts", () => {
  const people = [{ userId: "1", name: "Ann" }, { userId: "2", name: "Anna Bell" }, { userId: "3", name: "Hannah" }, { userId: "4", name: "דנה" }];
  assert.deepEqual(mentionAt("hello @an", 9), { from: 6, query: "an" });
  assert.deepEqual(mentionAt("@", 1), { from: 0, query: "" });
  assert.deepEqual(mentionAt("hi @Anna Be", 11), { from: 3, query: "Anna Be" });
  assert.equal(mentionAt("ada@example", 11), undefined);
  assert.deepEqual(completionsOf(people, "an", 6).map(({ userId }) => userId), ["1", "2", "3"]);
  assert.deepEqual(completionsOf(people, "דנ", 6).map(({ userId }) => userId), ["4"]);
});

test("whole names are mentions, and equal names need a choice", () => {
  const people = [{ userId: "1", name: "Ann" }, { userId: "2", name: "Anna" }, { userId: "3", name: "Sam" }, { userId: "4", name: "Sam" }, { userId: "5", name: "א\u05D1*[" }];
  const none = new Set<string>();
  assert.deepEqual(mentionedIn("@Anna and @Annabel, @Ann!", people, none), ["2", "1"]);
  assert.deepEqual(mentionedIn("@Sam", people, none), []);
  assert.deepEqual(mentionedIn("@Sam @Sam", people, new Set(["4"])), ["4"]);
  assert.deepEqual(mentionedIn("mail@Ann @א\u05D1*[ @", people, none), ["5"]);
  assert.deepEqual(piecesOf("a @Ann b", people).map(({ text }) => text), ["a ", "@Ann", " b"]);
  assert.equal(piecesOf("@".repeat(10_000), people).length, 1);
});
