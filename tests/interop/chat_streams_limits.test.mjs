// The limits of messages whose text arrives in pieces: each is exact, has a metric, and refuses
// nothing that it must not refuse.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { gathered, person } from "./chat_servers.mjs";
import { server } from "./people.mjs";
import { ask, metric, until } from "./support.mjs";

const PREFIX = "ROOMCAST_CHAT__STREAMS__";
const limited = ({ url }, limit) => metric(url, `roomcast_streams_limited_total{limit="${limit}"}`);
const start = (one, conversationId, clientMessageId = randomUUID()) =>
  ask(one.socket, "begin_message", { conversationId, clientMessageId });
/** Divides answers into those that were accepted, and the codes of the others. */
function sorted(answers) {
  const isAccepted = ({ success }) => success;
  const refused = answers.filter((answer) => !isAccepted(answer));
  return { accepted: answers.filter(isAccepted), codes: refused.map(({ error }) => error.code) };
}

test("messages that begin at the same time are counted exactly", async (t) => {
  const started = await server(t, {
    [`${PREFIX}PER_USER`]: "3",
    [`${PREFIX}MAX`]: "5",
    ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "100000",
  });
  const { people: [ada, bob, eve], conversationId } = await gathered(t, [started], ["ada", "bob", "eve"]);
  const tab = await person(t, started, "ada");
  const ids = Array.from({ length: 12 }, () => randomUUID());
  const both = ids.map((id, n) => start(n % 2 === 0 ? ada : tab, conversationId, id));
  const answers = await Promise.all(both);
  const { accepted, codes } = sorted(answers);
  assert.equal(accepted.length, 3);
  assert.deepEqual(new Set(codes), new Set(["RATE_LIMITED"]));
  assert.equal(await limited(started, "per_user"), 9);
  // A repetition is no further message, at the limit too.
  const [{ message }] = accepted;
  const id = ids[answers.findIndex(({ success }) => success)];
  const again = ids.map(() => start(tab, conversationId, id));
  for (const answer of await Promise.all(again)) assert.equal(answer.message?.id, message.id, JSON.stringify(answer));
  assert.equal(await limited(started, "per_user"), 9);

  // Of all users, the server takes two more.
  const others = ids.slice(6).map((_, n) => start(n % 2 === 0 ? bob : eve, conversationId));
  const of = sorted(await Promise.all(others));
  assert.deepEqual([of.accepted.length, of.codes], [2, Array(4).fill("RATE_LIMITED")]);
  assert.equal(await limited(started, "max"), 4);
  assert.equal(await metric(started.url, "roomcast_streams_open"), 5);
  await ada.must("abort_message", { messageId: message.id });
  assert.equal((await start(eve, conversationId)).success, true);
});

for (const [limit, bound, text] of [["appends_per_second", "4", ""], ["bytes_per_second", "100", "€".repeat(20)]]) {
  test(`pieces beyond ${limit} are refused and counted`, async (t) => {
    const started = await server(t, { [`${PREFIX}${limit.toUpperCase()}`]: bound });
    const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
    const { message: { id: messageId } } = await start(ada, conversationId);
    // At most two seconds share them.
    const pieces = Array.from({ length: 20 }, () => ask(ada.socket, "append_message", { messageId, offset: 0, text }));
    const { accepted, codes } = sorted(await Promise.all(pieces));
    assert.ok(accepted.length > 0 && codes.length > 0, `${accepted.length} accepted, ${codes.length} refused`);
    assert.deepEqual(new Set(codes), new Set(["RATE_LIMITED"]));
    assert.equal(await limited(started, limit), codes.length);
    const others = ["per_user", "max", "max_chars", "appends_per_second", "bytes_per_second"].filter((other) => other !== limit);
    for (const other of others) assert.equal(await limited(started, other), 0, other);
    await ada.must("finish_message", { messageId, offset: text.length, content: text || "end" });
    await until(() => bob.all("message_edited").length === 1, "the end");
  });
}

test("a text that is too long is refused and counted", async (t) => {
  const started = await server(t, { [`${PREFIX}MAX_CHARS`]: "20" });
  const { people: [ada], conversationId } = await gathered(t, [started], ["ada"]);
  const { message: { id: messageId } } = await start(ada, conversationId);
  for (const [event, payload] of [
    ["append_message", { offset: 0, text: "€".repeat(21) }],
    ["append_message", { offset: 19, text: "€€" }],
    ["finish_message", { offset: 19, content: "€".repeat(21) }],
  ]) {
    if (payload.offset === 19) await ada.must("append_message", { messageId, offset: 0, text: "€".repeat(19) });
    const { error } = await ask(ada.socket, event, { messageId, ...payload });
    assert.equal(error?.code, "INVALID_PAYLOAD", JSON.stringify(error));
  }
  assert.equal(await limited(started, "max_chars"), 3);
  const { message } = await ada.must("finish_message", { messageId, offset: 19 });
  assert.equal(message.content, "€".repeat(19));
});

test("a join has as many growing texts as fit, and the history has the others", async (t) => {
  const started = await server(t, { [`${PREFIX}BYTES_PER_SECOND`]: "10000000" });
  const { people: [ada, bob], conversationId } = await gathered(t, [started], ["ada", "bob"]);
  const texts = new Map();
  const add = async (messageId, text) => {
    const before = texts.get(messageId) ?? "";
    await ada.must("append_message", { messageId, offset: [...before].length, text });
    texts.set(messageId, before + text);
  };
  for (let n = 0; n < 3; n += 1) {
    const { message } = await start(ada, conversationId);
    await add(message.id, `${n}${"€".repeat(60_000)}`); // 180,000 bytes
  }
  const isStored = async ([messageId, text]) => {
    const { stored } = await ada.must("append_message", { messageId, offset: [...text].length, text: "" });
    return stored === [...text].length;
  };
  for (const one of texts) await until(() => isStored(one), "the text to be stored");

  const late = await person(t, started, "bob");
  const joined = await late.must("join_conversation", { conversationId });
  const [first, ...others] = [...texts.keys()];
  assert.deepEqual(joined.streaming.map(({ id }) => id), [first]);
  assert.equal(joined.streaming[0].content, texts.get(first));
  const received = (one, id) => one.all("message_appended").filter(({ messageId }) => messageId === id).map(({ offset, text }) => [offset, text]);
  for (const id of texts.keys()) await add(id, "more");
  // Bob's first tab has all, the second only that whose beginning it has.
  for (const id of texts.keys()) await until(() => received(bob, id).at(-1)?.[1] === "more", "the text in the first tab");
  await until(() => received(late, first).length === 1, "the text in the second tab");
  assert.deepEqual([first, ...others].map((id) => received(late, id)), [[[60_001, "more"]], [], []]);

  const has = new Map();
  for (let before; has.size < 3; ) {
    const page = await late.must("message_history", { conversationId, beforeSeq: before });
    for (const { id, content, seq } of page.messages) {
      has.set(id, content);
      before = Math.min(before ?? seq, seq);
    }
  }
  for (const id of texts.keys()) assert.equal(has.get(id), texts.get(id));
  for (const id of texts.keys()) await add(id, "!");
  for (const id of texts.keys()) await until(() => received(late, id).at(-1)?.[1] === "!", "the text after the history");
  for (const id of others) assert.deepEqual(received(late, id), [[60_005, "!"]]);
});
