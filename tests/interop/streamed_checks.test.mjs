// The checks of readers and authors of growing texts find what they are for. Each case breaks one
// promise, in a conversation whose events and answers are made up.
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { Author } from "./streamed_authors.mjs";
import { Reader } from "./streamed_readers.mjs";
import { Texts } from "./streamed_texts.mjs";
import { until } from "./support.mjs";

const conversationId = "of the texts";

/** A reader of a text of 100 characters, of which 80 were sent, and 60 are stored. */
async function reading({ fate = "finish", sent = 80, stored = 60, leastSilence = 0 } = {}) {
  const texts = new Texts({ leastSilence });
  const text = texts.create(conversationId, () => 0.2, { fate });
  text.characters = [..."a😀e\u0301 ".repeat(20)];
  text.whole = text.characters.join("");
  text.content = fate === "correct" ? "corrected" : text.whole;
  Object.assign(text, { sent, stored });
  const socket = Object.assign(new EventEmitter(), { connected: true, id: "socket", disconnect() {} });
  const answers = [];
  const emit = socket.emit.bind(socket);
  // A request has a callback, and all other events come from the server.
  socket.emit = (name, payload, done) => (typeof done === "function" ? answers.push({ name, payload, done }) : emit(name, payload));
  const reader = new Reader({ socket, name: "reader" }, texts, [conversationId]);
  const message = (more) => ({ id: "id", conversationId, seq: 1, metadata: { text: 0 }, version: 1, streaming: true, content: "", ...more });
  const grown = (length, more) => message({ content: text.slice(0, length), ...more });
  const ended = (content, more) => message({ content, version: 2, streaming: undefined, ...more });
  const piece = (from, to, more) => ({ conversationId, messageId: "id", seq: 1, offset: from, text: text.slice(from, to), ...more });
  const answer = async (messages) => {
    await until(() => answers.length > 0, "a request");
    answers.shift().done({ success: true, messages, streaming: [], hasMore: false });
  };
  await answer([]);
  return { texts, text, socket, reader, message, grown, ended, piece, answer };
}

/** What each case does, and what the reader must say; nothing if all is well. */
const CASES = {
  "a text that grows to its end": [undefined, ({ text, socket, message, piece, ended }) => {
    text.isFinishSent = true;
    socket.emit("message", message());
    socket.emit("message_appended", piece(0, 30));
    socket.emit("message_appended", piece(30, 80));
    socket.emit("message_edited", ended(text.whole));
  }],
  "a piece that is missing": [/had 0 characters, and got 10 characters at 30/, ({ socket, message, piece }) => {
    socket.emit("message", message());
    socket.emit("message_appended", piece(30, 40));
  }],
  "a piece that comes twice": [/had 30 characters, and got 30 characters at 0/, ({ socket, message, piece }) => {
    socket.emit("message", message());
    socket.emit("message_appended", piece(0, 30));
    socket.emit("message_appended", piece(0, 30));
  }],
  "a piece of another text": [/which the author did not write/, ({ socket, message, piece }) => {
    socket.emit("message", message());
    socket.emit("message_appended", piece(0, 30, { text: "x".repeat(30) }));
  }],
  "a piece with nothing": [/got 0 characters/, ({ socket, message, piece }) => {
    socket.emit("message", message());
    socket.emit("message_appended", piece(0, 0));
  }],
  "a piece of another message": [/which is 1/, ({ socket, message, piece }) => {
    socket.emit("message", message());
    socket.emit("message_appended", piece(0, 30, { seq: 2 }));
  }],
  "more than was sent": [/of which 80 were sent/, ({ socket, message, piece }) => {
    socket.emit("message", message());
    socket.emit("message_appended", piece(0, 90));
  }],
  "a beginning with more than was sent": [/of which 80 were sent/, ({ socket, grown }) => socket.emit("message", grown(90))],
  "a beginning of another text": [/is no beginning/, ({ socket, message }) => socket.emit("message", message({ content: "b" }))],
  "a piece after the end": [/after its end/, ({ text, socket, grown, piece, ended }) => {
    text.isFinishSent = true;
    socket.emit("message", grown(50));
    socket.emit("message_edited", ended(text.whole));
    socket.emit("message_appended", piece(50, 60));
  }],
  "a message that comes twice": [/twice/, ({ socket, message }) => {
    socket.emit("message", message());
    socket.emit("message", message());
  }],
  "an end that comes twice": [/the end of 1 twice/, ({ text, socket, ended }) => {
    text.isFinishSent = true;
    socket.emit("message_edited", ended(text.whole));
    socket.emit("message_edited", ended(text.whole));
  }],
  "an end that grows": [/that grows/, ({ socket, grown }) => socket.emit("message_edited", grown(50))],
  "an end without all of the text": [/was not finished as/, ({ text, socket, ended }) => {
    text.isFinishSent = true;
    socket.emit("message_edited", ended(text.slice(0, 99)));
  }],
  "an end that nobody asked for": [/finished by somebody else/, ({ text, socket, ended }) => socket.emit("message_edited", ended(text.whole))],
  "an end of the first version": [/in version 1/, ({ text, socket, ended }) => socket.emit("message_edited", ended(text.whole, { version: 1 }))],
  "two ends": [/two ends/, async ({ socket, text, ended, reader, answer }) => {
    socket.emit("message_edited", ended(text.slice(0, 70), { interrupted: true }));
    reader.read(conversationId, 1);
    await answer([ended(text.slice(0, 71), { interrupted: true })]);
  }],
  "an interruption before what is stored": [/60 were stored/, ({ socket, text, ended }) => socket.emit("message_edited", ended(text.slice(0, 59), { interrupted: true }))],
  "an interruption with other text": [/is interrupted, and no beginning/, ({ socket, ended }) => socket.emit("message_edited", ended("x".repeat(70), { interrupted: true }))],
  "an interruption of an author who writes": [/ms after its author/, { leastSilence: 60_000 }, ({ socket, text, ended }) => {
    text.touchedAt = Date.now();
    socket.emit("message_edited", ended(text.slice(0, 70), { interrupted: true }));
  }],
  "an answer with less": [/had 70 characters of 1, 60 were stored, and it was answered 59/, async ({ socket, grown, reader, answer }) => {
    socket.emit("message", grown(70));
    reader.read(conversationId, 1);
    await answer([grown(59)]);
  }],
  "a piece that does not continue an answer": [/had 65 characters, and got 10 characters at 70/, async ({ socket, grown, piece, reader, answer }) => {
    socket.emit("message", grown(70));
    reader.read(conversationId, 1);
    await answer([grown(65)]);
    socket.emit("message_appended", piece(70, 80));
  }],
};

for (const [name, [expected, ...rest]] of Object.entries(CASES)) {
  test(`readers ${expected ? "refuse" : "accept"} ${name}`, async () => {
    const [options, act] = rest.length > 1 ? rest : [{}, rest[0]];
    const one = await reading(options);
    await act(one);
    if (expected === undefined) assert.deepEqual(one.texts.wrong, []);
    else assert.match(one.texts.wrong.join("\n"), expected);
  });
}

/** What a server answers to an author, after the beginning of a text. */
const ANSWERS = {
  "a piece that is not there": [/has 0 characters after those from 0/, { append_message: () => ({ offset: 0, stored: 0 }) }],
  "more text than there is": [/characters, and \d+ are stored/, { append_message: ({ offset, text }) => ({ offset: offset + [...text].length, stored: 1e6 }) }],
  "a text that began with other text": [/begins at 5, with 0 characters/, { begin_message: ({ message }) => ({ message, offset: 5 }) }],
  "an unknown message": [/append_message was refused/, { append_message: () => ({ success: false, error: { code: "NOT_FOUND" } }) }],
  "an end with less": [/was not finished as/, { finish_message: ({ message }) => ({ message: { ...message, content: "a" } }) }],
};

for (const [name, [expected, answers]] of Object.entries(ANSWERS)) {
  test(`authors refuse ${name}`, async () => {
    const texts = new Texts();
    const text = texts.create(conversationId, () => 0.2, { fate: "finish" });
    const socket = Object.assign(new EventEmitter(), { connected: true });
    const begun = { id: "id", conversationId, seq: 1, metadata: { text: 0 }, version: 1, streaming: true, content: "" };
    const usual = {
      begin_message: ({ message }) => ({ message, offset: 0 }),
      append_message: ({ offset, text }) => ({ offset: offset + [...text].length, stored: 0 }),
      finish_message: ({ message }) => ({ message }),
    };
    const ended = { ...begun, version: 2, streaming: undefined, content: text.whole };
    socket.emit = (event, payload, done) => {
      const message = event === "finish_message" ? ended : begun;
      // The unusual answer comes once.
      const answer = (answers[event] ?? usual[event])({ ...payload, message });
      delete answers[event];
      setImmediate(() => done({ success: true, ...answer }));
    };
    await new Author({ socket, name: "author" }, texts, () => 0.2).writeOne(text);
    assert.match(texts.wrong.join("\n"), expected);
  });
}
