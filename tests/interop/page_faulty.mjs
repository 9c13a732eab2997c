// The real page on a faulty server: whatever arrives late, twice, out of order, with gaps or in an
// older version, everything is shown once, in order, in its current state.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FaultyServer, message } from "./faulty.mjs";
import { noComplaints, shared } from "./page_support.mjs";
import { until } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

const edited = { editedAt: "2026-01-02T00:00:00.000Z" };

/** Opens the page as a guest of a faulty server with these messages. */
async function enter(t, stored, faults = {}) {
  const server = await FaultyServer.start(t, shared.server.url);
  Object.assign(server, { stored, faults });
  const ada = await Visitor.open(t, shared.browser, server.url);
  await ada.page.getByLabel("Your name").fill("Ada");
  await ada.page.getByRole("button", { name: "Join the chat" }).click();
  await ada.isOnline();
  return { server, ada };
}

/** Checks the messages shown, after they match or the deadline has passed. */
async function shows(ada, expected) {
  const isSo = async () => JSON.stringify(await ada.texts()) === JSON.stringify(expected);
  await until(isSo, "the messages").catch(() => {});
  assert.deepEqual(await ada.texts(), expected);
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => message(from + index));
const textsOf = (messages) => messages.map(({ content }) => content);

test("history with gaps, duplicates and disorder is shown once in order", async (t) => {
  const stored = range(1, 140).filter(({ seq }) => (seq <= 30 || seq > 40) && seq !== 77 && seq !== 139);
  const shuffled = (give, _, answer) => {
    const messages = [...answer.messages.slice(20), ...answer.messages.slice(0, 20).reverse(), ...answer.messages.slice(0, 5)];
    setTimeout(give, 300, { ...answer, messages }); // The answer is late.
  };
  const { server, ada } = await enter(t, stored, { message_history: shuffled });
  server.isDoubling = true;
  await ada.message("text 140").waitFor();
  await until(async () => {
    await ada.scroller.evaluate((node) => node.scrollTo(0, 0));
    return (await ada.message("text 1").count()) === 1;
  }, "the first message");
  // The document has only the messages near the view: each time a part without gaps, until the last.
  const seqs = stored.map(({ seq }) => seq);
  let read = 0;
  await until(async () => {
    const shown = await ada.page
      .locator("li.message")
      .evaluateAll((lines) => lines.map((line) => [Number(line.dataset.seq), line.querySelector(".text").textContent]));
    const start = seqs.indexOf(shown[0][0]);
    assert.deepEqual(shown, stored.slice(start, start + shown.length).map(({ seq, content }) => [seq, content]));
    assert.ok(start <= read, `${shown[0][0]} follows ${seqs[read - 1]}`);
    read = Math.max(read, start + shown.length);
    await ada.scroller.evaluate((node) => node.scrollBy(0, node.clientHeight / 2));
    return read === seqs.length;
  }, () => `the last message: ${read} of ${seqs.length}`);
  noComplaints(ada);
});

test("messages with gaps, duplicates and disorder are shown once in order", async (t) => {
  const { server, ada } = await enter(t, range(1, 3));
  await shows(ada, textsOf(range(1, 3)));
  // The gap is read after a second.
  server.stored.push(...range(4, 9));
  for (const seq of [6, 5, 6, 9, 8, 5]) server.emit("message", message(seq));
  await shows(ada, textsOf(range(1, 9)));
  // A message that cannot be found is left out, and delays nothing.
  server.stored.push(message(11));
  server.emit("message", message(11));
  server.emit("message", message(3));
  await shows(ada, textsOf([...range(1, 9), message(11)]));
  noComplaints(ada);
});

test("own messages with late or lost answers are stored and shown once", async (t) => {
  const waiting = [];
  const { server, ada } = await enter(t, range(1, 1));
  server.isDoubling = true;
  // The first answer is held back for longer than the page waits; the repeat is answered before it.
  server.faults.message = (give) => waiting.push(give);
  await ada.say("one", "two");
  await until(() => waiting.length === 2, "the repeat");
  server.faults = {};
  // The server also sends the event, as another tab would receive it.
  server.emit("message", server.stored.at(-1));
  waiting[1]();
  waiting[0]();
  await ada.message("two", "stored").waitFor();
  await shows(ada, ["text 1", "one", "two"]);
  assert.deepEqual(textsOf(server.stored), ["text 1", "one", "two"]);
  assert.equal(await ada.page.locator("li.message:not([data-state=stored]).is-own").count(), 0);
  noComplaints(ada);
});

test("an older version of a message from any source changes nothing", async (t) => {
  const { server, ada } = await enter(t, range(1, 4));
  await shows(ada, textsOf(range(1, 4)));
  server.emit("message_edited", message(2, { version: 3, content: "newest of 2", ...edited }));
  server.emit("message_edited", message(2, { version: 2, content: "older of 2", ...edited }));
  server.emit("message", message(2));
  server.emit("message_deleted", { conversationId: message(3).conversationId, messageId: message(3).id, seq: 3, deletedAt: edited.editedAt, deletedBy: "bob" });
  server.emit("message_edited", message(3, { version: 2, content: "late of 3", ...edited }));
  server.emit("message", message(5, { content: "after all" }));
  server.stored.push(message(5, { content: "after all" }));
  const expected = ["text 1", "newest of 2edited", "This message was deleted.", "text 4", "after all"];
  await shows(ada, expected);
  // Data that is read after a reconnect is just as old, and changes nothing either.
  const joins = server.asked.filter((name) => name === "message_history").length;
  ada.link.cut();
  await ada.isOffline();
  ada.link.restore();
  await ada.isOnline();
  await until(() => server.asked.filter((name) => name === "message_history").length > joins, "the newest messages to be read again");
  server.emit("message", message(6, { content: "at last" }));
  await shows(ada, [...expected, "at last"]);
  noComplaints(ada);
});
