// Messages whose text arrives in pieces, with stock clients: what authors are answered, and that
// every reader has a prefix of the text at every moment, and all of it at the end.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { checkAnswered, checkReceived, checksAll } from "./catalog.mjs";
import { conversation, gathered, nothing, person, postgres, startServers, whatIsThere } from "./chat_servers.mjs";
import { startLink } from "./link.mjs";
import { call, server } from "./people.mjs";
import { ask, until } from "./support.mjs";

/**
 * Follows the streamed messages that a person receives, in events and answers. Any event that does
 * not continue what the person has is a violation.
 */
function follow(one, violations) {
  const texts = new Map();
  const known = (message) => {
    const before = texts.get(message.id);
    if (before !== undefined && before.version > message.version) return;
    const { content, version, streaming, interrupted } = message;
    if (streaming && before !== undefined && !content.startsWith(before.text)) {
      violations.push(`${one.name} had ${JSON.stringify(before.text)}, and was answered ${JSON.stringify(content)}`);
    }
    texts.set(message.id, { text: content, version, streaming, interrupted });
  };
  one.socket.on("message", known);
  one.socket.on("message_edited", known);
  one.socket.on("message_appended", ({ messageId, offset, text }) => {
    const before = texts.get(messageId);
    // A client that does not know the message yet is told of it by an answer.
    if (before === undefined) return;
    const length = [...before.text].length;
    if (!before.streaming || offset !== length) {
      violations.push(`${one.name} had ${length} characters, and was sent more at ${offset}`);
    }
    before.text += text;
    before.pieces = (before.pieces ?? 0) + 1;
  });
  const join = async (conversationId, lastSeq) => {
    const joined = await one.must("join_conversation", { conversationId, lastSeq });
    for (const message of [...joined.messages, ...(joined.streaming ?? [])]) known(message);
    return joined;
  };
  const read = async (conversationId) => {
    const page = await one.must("message_history", { conversationId });
    page.messages.forEach(known);
    return page;
  };
  return { ...one, texts, join, read, text: (id) => texts.get(id)?.text };
}

/** Sends an event whose payload and answer are those of the catalogue. */
async function checked(one, event, payload) {
  const answer = await one.must(event, payload);
  checkAnswered(event, payload, answer);
  return answer;
}

const begin = (one, conversationId, more = {}) =>
  checked(one, "begin_message", { conversationId, clientMessageId: randomUUID(), ...more }).then(({ message }) => message);
const length = (text) => [...text].length;

/** Sends a text in random pieces, and returns it. */
async function write(author, messageId, words, pause = 0) {
  let text = "";
  for (const word of words) {
    await checked(author, "append_message", { messageId, offset: length(text), text: word });
    text += word;
    if (pause > 0) await sleep(pause); // The pace of a model.
  }
  return text;
}

const WORDS = Array.from({ length: 60 }, (_, n) => `${["grün", "€", "😀", "\n- item", "word"][n % 5]} ${n} `);

async function refused(one, code, event, payload) {
  const { success, error } = await ask(one.socket, event, payload);
  assert.equal(success, false, `${event} ${JSON.stringify(payload)}`);
  assert.equal(error.code, code, JSON.stringify(error));
  return error;
}

test("readers have a prefix at every moment, and the text at the end", async (t) => {
  const started = await server(t, { ROOMCAST_LIMITS__CONNECTIONS_PER_USER: "0" });
  const violations = [];
  const ada = await person(t, started, "ada");
  const tab = follow(await person(t, started, "ada"), violations);
  const bob = follow(await person(t, started, "bob"), violations);
  const eve = follow(await person(t, started, "eve", { transports: ["polling"] }), violations);
  const conversationId = await conversation([ada, bob, eve]);
  for (const one of [tab, bob, eve]) await one.join(conversationId);
  await ada.must("join_conversation", { conversationId });
  await bob.must("subscribe:notifications", {});

  const message = await begin(ada, conversationId, { type: "user", mentions: ["bob"] });
  assert.deepEqual([message.seq, message.content, message.streaming, message.version], [1, "", true, 1]);
  let joins = 0;
  const late = (async () => {
    // Clients that join, read and rejoin while the text grows.
    for (let n = 0; n < 12; n++) {
      const one = follow(await person(t, started, "bob"), violations);
      await one.join(conversationId, n % 2 === 0 ? 0 : undefined);
      await one.read(conversationId);
      joins += 1;
      await one.join(conversationId, 1);
      await sleep(20 * n);
      await one.read(conversationId);
      await until(() => !one.texts.get(message.id).streaming, "the end for one who joined late");
      assert.equal(one.text(message.id), WORDS.join(""));
    }
  })();
  const text = await write(ada, message.id, WORDS, 25);
  await until(() => joins > 0, "a client that joins in the middle");
  const notifications = () => bob.heard.filter(([event]) => event.startsWith("notification:"));
  assert.deepEqual(notifications(), []);
  const { message: end } = await checked(ada, "finish_message", { messageId: message.id, offset: length(text) });
  assert.deepEqual([end.content, end.version, end.editedAt, end.streaming], [text, 2, undefined, undefined]);
  for (const one of [tab, bob, eve]) {
    await until(() => one.texts.get(message.id)?.version === 2, `the end for ${one.name}`);
    assert.equal(one.text(message.id), text);
    assert.deepEqual(one.all("message_edited"), [end]);
  }
  assert.deepEqual(ada.all("message_appended"), []);
  for (const appended of bob.all("message_appended")) checkReceived("message_appended", appended);
  await late;
  assert.deepEqual(violations, []);
  // Several pieces arrive together: 60 pieces within 1.5 s, at most one event every 40 ms.
  assert.ok(bob.all("message_appended").length > 5 && bob.all("message_appended").length < 60);
  const { messages } = await bob.must("message_search", { query: "grün", conversationId });
  assert.deepEqual(messages, [end]);
  assert.deepEqual((await bob.read(conversationId)).messages, [end]);
  // The end is one change, the beginning one message, and growing is neither.
  const again = await ada.must("finish_message", { messageId: message.id, offset: length(text) });
  assert.deepEqual(again.message, end);
  // A mention notifies once, at the end. The next mention shows that the repeated end caused none.
  await ada.must("message", { conversationId, content: "plain", mentions: ["bob"] });
  const links = () => notifications().flatMap(([, event]) => event.notifications ?? [event]).map(({ actionUrl }) => actionUrl);
  await until(() => links().length >= 2, "the notifications");
  assert.deepEqual(links(), [1, 2].map((seq) => `/#/c/${conversationId}/${seq}`));
});

test("repeated pieces are accepted, and gaps and other texts are told where to go on", async (t) => {
  const started = await server(t);
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const payload = { conversationId, clientMessageId: "once" };
  const { message } = await ada.must("begin_message", payload);
  const messageId = message.id;
  const append = (offset, text) => ada.must("append_message", { messageId, offset, text });
  assert.equal((await append(0, "one 😀 ")).offset, 6);
  assert.equal((await append(0, "one ")).offset, 6);
  assert.equal((await append(4, "😀 two")).offset, 9);
  assert.equal((await append(9, "")).offset, 9);
  for (const [offset, text] of [[10, "x"], [2 ** 53, "x"], [4, "two"]]) {
    const { details } = await refused(ada, "CONFLICT", "append_message", { messageId, offset, text });
    assert.deepEqual(details, { offset: 9 });
  }
  const { details } = await refused(ada, "CONFLICT", "finish_message", { messageId, offset: 8 });
  assert.deepEqual(details, { offset: 9 });
  await until(async () => (await append(9, "")).stored === 9, "the text to be stored");
  const begun = await ada.must("begin_message", payload);
  assert.deepEqual([begun.offset, begun.message.content, begun.message.id], [9, "one 😀 two", messageId]);

  for (const offset of [-1, 0.5, "0", null]) {
    await refused(ada, "INVALID_PAYLOAD", "append_message", { messageId, offset, text: "x" });
  }
  for (const text of ["\u0007", "\ud800", 7, null]) {
    await refused(ada, "INVALID_PAYLOAD", "append_message", { messageId, offset: 9, text });
  }
  await refused(ada, "INVALID_PAYLOAD", "append_message", { messageId, offset: 9, text: "x".repeat(100_000) });
  await refused(bob, "NOT_FOUND", "append_message", { messageId, offset: 9, text: "x" });
  await refused(bob, "NOT_FOUND", "finish_message", { messageId, offset: 9 });
  await refused(bob, "NOT_FOUND", "abort_message", { messageId });
  await refused(ada, "NOT_FOUND", "append_message", { messageId: randomUUID(), offset: 0, text: "x" });
  await refused(ada, "CONFLICT", "edit_message", { messageId, content: "edited" });
  // A text that another one replaces is sent only as far as the interval permits.
  await until(() => bob.all("message_appended").map(({ text }) => text).join("") === "one 😀 two", "the text");
  const finished = await ada.must("finish_message", { messageId, offset: 9, content: "corrected", metadata: { of: 1 } });
  assert.deepEqual([finished.message.content, finished.message.metadata], ["corrected", { of: 1 }]);
  await refused(ada, "CONFLICT", "append_message", { messageId, offset: 9, text: "x" });
  await refused(ada, "CONFLICT", "append_message", { messageId: (await ada.must("message", { conversationId, content: "plain" })).message.id, offset: 5, text: "x" });
  await until(() => bob.all("message_edited").length === 1, "the end");
});

test("a message ends early: aborted, deleted, or because its author is gone", async (t) => {
  const started = await server(t, { ROOMCAST_CHAT__STREAMS__TIMEOUT: "2s" });
  const { people: [ada, bob, cyd], conversationId } = await gathered(t, [started], ["ada", "bob", "cyd"]);
  // An author that repeats what is there is not gone.
  const repeated = await begin(cyd, conversationId);
  const repeating = (async () => {
    for (let n = 0; n < 14; n += 1) {
      await cyd.must("append_message", { messageId: repeated.id, offset: 0, text: "again" });
      await sleep(500);
    }
    return cyd.must("finish_message", { messageId: repeated.id, offset: 5 });
  })();
  const ended = (id) => until(() => bob.all("message_edited").some((message) => message.id === id), "the end");
  const last = (id) => bob.all("message_edited").filter((message) => message.id === id);
  const aborted = await begin(ada, conversationId);
  await write(ada, aborted.id, ["half"]);
  for (const reason of ["", " ", "\n", "x".repeat(201)]) await refused(ada, "INVALID_PAYLOAD", "abort_message", { messageId: aborted.id, reason });
  const answer = await checked(ada, "abort_message", { messageId: aborted.id, reason: "the model failed" });
  const { content, interrupted, interruptedReason } = answer.message;
  assert.deepEqual([content, interrupted, interruptedReason], ["half", true, "the model failed"]);
  await ended(aborted.id);
  assert.deepEqual(last(aborted.id), [answer.message]);

  const deleted = await begin(ada, conversationId);
  await write(ada, deleted.id, ["half"]);
  await ada.must("delete_message", { messageId: deleted.id });
  await refused(ada, "NOT_FOUND", "append_message", { messageId: deleted.id, offset: 4, text: "x" });
  await until(() => bob.all("message_deleted").length === 1, "the deletion");

  const left = await begin(ada, conversationId);
  await write(ada, left.id, ["half"]);
  ada.socket.disconnect();
  // Its author may go on within the time of the stream.
  const back = await person(t, started, "ada");
  const { offset } = await back.must("append_message", { messageId: left.id, offset: 4, text: " more" });
  assert.equal(offset, 9);
  await ended(left.id);
  assert.deepEqual(last(left.id).map(({ content, interrupted }) => [content, interrupted]), [["half more", true]]);

  const removed = await begin(back, conversationId);
  await write(back, removed.id, ["half"]);
  const owner = await person(t, started, "ada");
  const mine = await conversation([bob, back]);
  await bob.must("join_conversation", { conversationId: mine });
  const elsewhere = await begin(back, mine);
  await write(back, elsewhere.id, ["half"]);
  await bob.must("remove_member", { conversationId: mine, userId: "ada" });
  await ended(elsewhere.id);
  assert.deepEqual(last(elsewhere.id).map(({ content, interrupted }) => [content, interrupted]), [["half", true]]);
  await refused(back, "CONFLICT", "append_message", { messageId: elsewhere.id, offset: 4, text: "x" });
  // A revoked author's message ends at once.
  assert.equal((await call(started.url, "POST", "/api/v1/revocations", { userId: "ada" })).status, 200);
  await ended(removed.id);
  assert.equal(owner.socket.connected, false);
  const { message: whole } = await repeating;
  assert.deepEqual([whole.content, whole.interrupted], ["again", undefined]);
});

test("what is not an own message is refused, and readers see nothing of it", async (t) => {
  const started = await server(t);
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const cyd = await person(t, started, "cyd");
  const elsewhere = await conversation([bob, cyd]);
  const foreign = await begin(cyd, elsewhere);
  const clientMessageId = "mine";
  for (const id of [elsewhere, randomUUID()]) {
    await refused(ada, "NOT_FOUND", "begin_message", { conversationId: id, clientMessageId });
  }
  await refused(ada, "INVALID_PAYLOAD", "begin_message", { conversationId, clientMessageId, replyTo: foreign.id });
  const { id: messageId } = await begin(ada, conversationId);
  for (const other of [foreign.id, conversationId, elsewhere]) {
    await refused(ada, "NOT_FOUND", "append_message", { messageId: other, offset: 0, text: "x" });
    await refused(ada, "NOT_FOUND", "finish_message", { messageId: other, offset: 0, content: "x" });
    await refused(ada, "NOT_FOUND", "abort_message", { messageId: other });
    await refused(ada, "NOT_FOUND", "stop_message", { messageId: other });
  }
  await write(ada, messageId, ["mine"]);
  for (const content of ["\u0007", "\ud800", "", "x".repeat(100_001), 7]) {
    await refused(ada, "INVALID_PAYLOAD", "finish_message", { messageId, offset: 4, content });
  }
  await refused(ada, "INVALID_PAYLOAD", "append_message", { messageId, offset: 4, text: "x".repeat(900_000) });
  // With 1 MB, the packet is longer than the connection may carry.
  const tab = await person(t, started, "ada");
  tab.socket.emit("append_message", { messageId, offset: 4, text: "x".repeat(1_000_000) });
  await until(() => !tab.socket.connected, "the end of the connection");
  const { message } = await ada.must("finish_message", { messageId, offset: 4 });
  assert.equal(message.content, "mine");
  await until(() => bob.all("message_edited").length === 1, "the end");
  assert.ok("mine".startsWith(bob.all("message_appended").map(({ text }) => text).join("")));
});

test("a text of 1 MB is refused where packets may be longer", async (t) => {
  const started = await server(t, { ROOMCAST_ENGINE__MAX_PAYLOAD: "4000000" });
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const { id: messageId } = await begin(ada, conversationId);
  for (const text of ["x".repeat(1_000_000), "😀".repeat(250_000)]) {
    await refused(ada, "INVALID_PAYLOAD", "append_message", { messageId, offset: 0, text });
    await refused(ada, "INVALID_PAYLOAD", "finish_message", { messageId, offset: 0, content: text });
  }
  await write(ada, messageId, ["mine"]);
  const { message } = await ada.must("finish_message", { messageId, offset: 4 });
  assert.equal(message.content, "mine");
  await until(() => bob.all("message_edited").length === 1, "the end");
  assert.ok("mine".startsWith(bob.all("message_appended").map(({ text }) => text).join("")));
});

test("readers are sent nothing of a removed author's text after the removal", async (t) => {
  const started = await server(t, { ROOMCAST_CHAT__STREAMS__INTERVAL: "200ms" });
  const { people: [ada, bob, eve], conversationId } = await gathered(t, [started], ["ada", "bob", "eve"]);
  const { id: messageId } = await begin(bob, conversationId);
  await write(bob, messageId, ["sent "]);
  await until(() => ada.all("message_appended").length === 1, "the first text");
  // The interval has not passed.
  await bob.must("append_message", { messageId, offset: 5, text: "waits" });
  await ada.must("remove_member", { conversationId, userId: "bob" });
  await refused(bob, "CONFLICT", "append_message", { messageId, offset: 10, text: "more" });
  for (const one of [ada, eve]) {
    await until(() => one.all("message_edited").length === 1, "the end");
    const [{ content, interrupted }] = one.all("message_edited");
    assert.deepEqual([content, interrupted], ["sent waits", true]);
    assert.deepEqual(one.all("message_appended").map(({ text }) => text), ["sent "], one.name);
  }
});

test("a removed author at another server is silent for readers, and ends", async (t) => {
  const [here, there] = await startServers(t, 2, whatIsThere);
  const { people: [ada, bob], conversationId } = await gathered(t, [here, there], ["ada", "bob"]);
  const { id: messageId } = await begin(bob, conversationId);
  await write(bob, messageId, ["before "]);
  await until(() => ada.all("message_appended").length === 1, "the text");
  const tab = await person(t, here, "bob");
  await ada.must("remove_member", { conversationId, userId: "bob" });
  // Nor does the author end it as finished.
  await refused(tab, "CONFLICT", "finish_message", { messageId, offset: 7 });
  let text = "before ";
  for (let answer = { success: true }; answer.success; ) {
    answer = await ask(bob.socket, "append_message", { messageId, offset: text.length, text: "more " });
    if (answer.success) text += "more ";
    else assert.equal(answer.error.code, "CONFLICT", JSON.stringify(answer));
    await sleep(30); // The pace of a model.
  }
  await until(() => ada.all("message_edited").length === 1, "the end");
  const [{ content, interrupted }] = ada.all("message_edited");
  assert.equal(interrupted, true);
  assert.ok(text.startsWith(content), content);
  assert.equal(ada.all("message_appended").length, 1);
});

test("the message of an author who is revoked while disconnected ends", async (t) => {
  const started = await server(t, { ROOMCAST_CHAT__STREAMS__TIMEOUT: "5m" });
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const { id: messageId } = await begin(bob, conversationId);
  await write(bob, messageId, ["half"]);
  bob.socket.disconnect();
  await until(() => ada.all("user_left").length === 1, "the disconnection");
  assert.equal(ada.all("message_edited").length, 0);
  assert.equal((await call(started.url, "POST", "/api/v1/revocations", { userId: "bob" })).status, 200);
  await until(() => ada.all("message_edited").length === 1, "the end");
  const [{ content, interrupted }] = ada.all("message_edited");
  assert.deepEqual([content, interrupted], ["half", true]);
});

test("members ask an author to stop, and limits are kept", async (t) => {
  const started = await server(t, {
    ROOMCAST_CHAT__STREAMS__PER_USER: "2",
    ROOMCAST_CHAT__STREAMS__APPENDS_PER_SECOND: "10",
    ROOMCAST_CHAT__STREAMS__MAX_CHARS: "20",
  });
  const { people: [ada, bob, eve], conversationId } = await gathered(t, [started], ["ada", "bob", "eve"]);
  const stranger = await person(t, started, "stranger");
  const message = await begin(ada, conversationId);
  const second = await begin(ada, conversationId);
  const { retryAfter } = await refused(ada, "RATE_LIMITED", "begin_message", { conversationId, clientMessageId: "third" });
  assert.ok(retryAfter > 0);
  await checked(bob, "stop_message", { messageId: message.id });
  await until(() => ada.all("message_stop_requested").length === 1, "the request");
  assert.deepEqual(ada.all("message_stop_requested"), [{ conversationId, messageId: message.id, userId: "bob" }]);
  checkReceived("message_stop_requested", ada.all("message_stop_requested")[0]);
  assert.deepEqual(eve.all("message_stop_requested"), []);
  await refused(stranger, "NOT_FOUND", "stop_message", { messageId: message.id });
  await refused(ada, "INVALID_PAYLOAD", "append_message", { messageId: message.id, offset: 0, text: "x".repeat(21) });
  const answers = await Promise.all(
    Array.from({ length: 12 }, () => ask(ada.socket, "append_message", { messageId: second.id, offset: 0, text: "" })),
  );
  assert.ok(answers.some(({ error }) => error?.code === "RATE_LIMITED"));
  await ada.must("abort_message", { messageId: message.id });
  await refused(bob, "NOT_FOUND", "stop_message", { messageId: message.id });
  await begin(ada, conversationId);
});

test("an author goes on at another server, and readers are at both", async (t) => {
  const servers = await startServers(t, 2, whatIsThere, { ROOMCAST_CHAT__STREAMS__TIMEOUT: "3s" });
  const violations = [];
  const [here, there] = servers;
  const ada = await person(t, here, "ada");
  const [bob, eve] = [follow(await person(t, here, "bob"), violations), follow(await person(t, there, "eve"), violations)];
  const conversationId = await conversation([ada, bob, eve]);
  for (const one of [bob, eve]) await one.join(conversationId);
  const message = await begin(ada, conversationId);
  const first = await write(ada, message.id, WORDS.slice(0, 30), 25);
  for (const one of [bob, eve]) await until(() => one.text(message.id) === first, `the text for ${one.name}`);
  assert.ok(eve.texts.get(message.id).pieces > 3);
  // One who joins at the other server in the middle.
  const late = follow(await person(t, there, "bob"), violations);
  await late.join(conversationId, 0);
  ada.socket.disconnect();
  const moved = await person(t, there, "ada");
  const known = await ask(moved.socket, "append_message", { messageId: message.id, offset: length(first), text: "" });
  const from = known.success ? known.offset : known.error.details.offset;
  const rest = [...first].slice(from).join("");
  let text = [...first].slice(0, from).join("");
  for (const word of [rest, ...WORDS.slice(30)]) {
    await moved.must("append_message", { messageId: message.id, offset: length(text), text: word });
    text += word;
    await sleep(25); // The pace of a model.
  }
  await moved.must("finish_message", { messageId: message.id, offset: length(text) });
  for (const one of [bob, eve, late]) {
    await until(() => one.texts.get(message.id)?.version === 2, `the end for ${one.name}`);
    assert.equal(one.text(message.id), WORDS.join(""));
  }
  assert.deepEqual(violations, []);

  // A server that dies leaves a message that another one ends.
  const lost = await begin(moved, conversationId);
  await write(moved, lost.id, ["half"]);
  await until(async () => postgres.query(`SELECT text FROM message_streams WHERE message_id = '${lost.id}'`)[0]?.[0] === "half", "the text to be stored");
  await there.kill();
  await until(() => bob.texts.get(lost.id)?.interrupted === true, "the end");
  assert.equal(bob.text(lost.id), "half");
  assert.deepEqual(violations, []);
});

test("late text of the server that an author has left is not added", async (t) => {
  const link = await startLink(postgres.url);
  t.after(() => link.close());
  const url = new URL(postgres.url);
  url.port = new URL(link.url).port;
  const [former] = await startServers(t, 1, whatIsThere);
  const [present] = await startServers(t, 1, { ROOMCAST_ADAPTER__URL: `${url}` });
  const violations = [];
  const ada = await person(t, former, "ada");
  const [bob, eve] = [await person(t, former, "bob"), follow(await person(t, present, "eve"), violations)];
  const conversationId = await conversation([ada, bob, eve]);
  for (const one of [bob, eve]) await one.must("join_conversation", { conversationId });
  const { id: messageId } = await begin(ada, conversationId);
  const append = (one, offset, text) => checked(one, "append_message", { messageId, offset, text });
  await append(ada, 0, "one ");
  await until(async () => (await append(ada, 4, "")).stored === 4, "the text to be stored");
  await until(() => eve.text(messageId) === "one ", "the text at the other server");
  // The author leaves with text that is not stored, and that the other server receives late.
  postgres.query("CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$");
  postgres.query("CREATE TRIGGER skipped BEFORE UPDATE ON message_streams FOR EACH ROW WHEN (OLD.chars <> NEW.chars) EXECUTE FUNCTION skip()");
  link.holdAnswers();
  await append(ada, 4, "two more");
  await bob.must("typing", { conversationId, isTyping: true });
  const moved = await person(t, present, "ada");
  assert.equal((await append(moved, 4, "two ")).offset, 8);
  link.releaseAnswers();
  await until(() => eve.all("typing").length > 0, "what was sent after the late text");
  assert.equal((await append(moved, 8, "three")).offset, 13);
  postgres.query("DROP TRIGGER skipped ON message_streams");
  const { message: end } = await moved.must("finish_message", { messageId, offset: 13 });
  assert.equal(end.content, "one two three");
  await until(() => eve.texts.get(messageId).version === 2, "the end");
  assert.deepEqual([eve.text(messageId), violations], [end.content, []]);
});

test("text that waits for the store is refused if another tab has gone on", async (t) => {
  const [started] = await startServers(t, 1, nothing);
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const tab = await person(t, started, "ada");
  const { id: messageId } = await begin(ada, conversationId);
  await write(ada, messageId, ["one "]);
  const release = await postgres.lock(t, "members");
  // Text after a gap may continue what another server has stored, which is read first.
  const late = ask(ada.socket, "append_message", { messageId, offset: 8, text: "late" });
  // The server itself reads the holders too.
  const waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT message_id, holder%'";
  await until(() => postgres.query(waiting)[0][0] === "2", "the text to wait");
  assert.equal((await checked(tab, "append_message", { messageId, offset: 4, text: "two " })).offset, 8);
  release();
  const { error } = await late;
  assert.deepEqual([error?.code, error?.details], ["CONFLICT", { offset: 8 }]);
  await checked(tab, "append_message", { messageId, offset: 8, text: "three" });
  const { message } = await tab.must("finish_message", { messageId, offset: 13 });
  assert.equal(message.content, "one two three");
  await until(() => bob.all("message_edited").length === 1, "the end");
});

test("text is stored on after the answer about a transaction was lost", async (t) => {
  const link = await startLink(postgres.url);
  t.after(() => link.close());
  const url = new URL(postgres.url);
  url.port = new URL(link.url).port;
  const times = { CONNECT_TIMEOUT: "1s", STATEMENT_TIMEOUT: "2s", RETRY_TIMEOUT: "1s", HEALTH_INTERVAL: "200ms" };
  const started = await server(t, {
    ROOMCAST_STORE: `${url}`,
    ROOMCAST_ADAPTER__URL: "none",
    ROOMCAST_CHAT__STREAMS__TIMEOUT: "3s",
    ...Object.fromEntries(Object.entries(times).map(([name, value]) => [`ROOMCAST_STORE__${name}`, value])),
  });
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const message = await begin(ada, conversationId);
  let text = "";
  let stored = 0;
  const add = async (piece) => {
    ({ stored } = await ada.must("append_message", { messageId: message.id, offset: length(text), text: piece }));
    text += piece;
  };
  const isStored = async () => {
    await add("");
    return stored === length(text);
  };
  await add("before ");
  await until(isStored, "the text to be stored");
  // The answer to the next transaction, which takes a second, is lost.
  postgres.query("CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$");
  postgres.query("CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON message_streams DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION take_long()");
  await add("in doubt ");
  await until(() => postgres.query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")[0][0] === "1", "the transaction");
  link.holdAnswers();
  const doubtful = text;
  await until(() => postgres.query(`SELECT text FROM message_streams WHERE message_id = '${message.id}'`)[0][0] === doubtful, "its end");
  postgres.query("DROP TRIGGER slow ON message_streams");
  await add("meanwhile ");
  await sleep(3500); // Longer than all of the server's timeouts.
  link.releaseAnswers();
  // Longer than the time after which a text that does not grow in the store ends.
  for (let n = 0; n < 14; n += 1) {
    await add(`word ${n} `);
    await sleep(500);
  }
  await until(isStored, "all to be stored");
  const { message: end } = await ada.must("finish_message", { messageId: message.id, offset: length(text) });
  assert.deepEqual([end.content, end.interrupted], [text, undefined]);
  await until(() => bob.all("message_edited").length === 1, "the end");
});

checksAll(import.meta.url);
