// The limits of messages whose text arrives in pieces: each is exact, has a metric, and refuses
// nothing that it must not refuse.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { gathered, person } from "./chat_servers.mjs";
import { server } from "./people.mjs";
import { ask, metric } from "./support.mjs";

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
