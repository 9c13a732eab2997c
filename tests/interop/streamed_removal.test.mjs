// Streamed messages, finished and growing, in the export and the erasure of their author, and at
// the end of their retention, on both backends.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { gathered, nothing, postgres, startServers } from "./chat_servers.mjs";
import { call, server } from "./people.mjs";
import { ask, metricIs, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { variants } from "./variants.mjs";

const BACKENDS = [
  { on: "SQLite", start: (t, env) => server(t, env), rows: () => [] },
  {
    on: "PostgreSQL",
    start: async (t, env) => (await startServers(t, 1, nothing, env))[0],
    rows: (id) => postgres.query(`SELECT text FROM message_streams WHERE message_id = '${id}'`),
  },
];

/** Calls the API as a service until the answers have no cursor, and returns them. */
async function pages({ url }, method, path) {
  const authorization = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;
  const answers = [];
  for (let cursor = ""; cursor !== undefined; ) {
    const { status, body } = await call(url, method, path + cursor, undefined, authorization);
    assert.equal(status, 200, JSON.stringify(body));
    answers.push(body);
    cursor = body.cursor && `${path.includes("?") ? "&" : "?"}cursor=${body.cursor}`;
  }
  return answers;
}

/** The messages of a user in the export. */
async function exported(started, { name }) {
  const records = (await pages(started, "GET", `/api/v1/users/${name}/export`)).flatMap(({ records }) => records);
  return records.filter(({ kind }) => kind === "message").map(({ data }) => [data.id, data.content]);
}

/** Two users, and two messages of the first: one that has ended, and one that is being written. */
async function scene(t, started) {
  // An erased user never connects again, and the tests share a database.
  const { people: [ada, bob], conversationId } = await gathered(t, [started], [`ada-${randomUUID()}`, "bob"]);
  const begin = async (text) => {
    const { message } = await ada.must("begin_message", { conversationId, clientMessageId: randomUUID() });
    await ada.must("append_message", { messageId: message.id, offset: 0, text });
    return message.id;
  };
  const [finished, growing] = [await begin("canary, all"), await begin("canary, half")];
  await ada.must("finish_message", { messageId: finished, offset: 11 });
  const stored = async () => (await ada.must("append_message", { messageId: growing, offset: 12, text: "" })).stored;
  await until(async () => (await stored()) === 12, "the text to be stored");
  const read = async () => (await bob.must("message_history", { conversationId })).messages;
  const found = async () => (await bob.must("message_search", { query: "canary", conversationId })).messages.length;
  return { ada, bob, conversationId, finished, growing, read, found };
}

for (const { on, start, rows } of variants(BACKENDS)) {
  for (const texts of ["remove", "anonymize"]) {
    test(`streamed messages are exported and erased (${texts}) on ${on}`, async (t) => {
      const started = await start(t);
      const { ada, bob, conversationId, finished, growing, read, found } = await scene(t, started);
      assert.deepEqual(await exported(started, ada), [[finished, "canary, all"], [growing, "canary, half"]]);
      await until(async () => bob.all("message_appended").some(({ messageId }) => messageId === growing), "the text");
      const answers = await pages(started, "DELETE", `/api/v1/users/${ada.name}?messages=${texts}`);
      assert.equal(answers.at(-1).done, true);
      assert.equal(ada.socket.connected, false);
      const isRemoved = texts === "remove";
      const event = isRemoved ? "message_deleted" : "message_edited";
      const isAbout = (id) => (payload) => (payload.messageId ?? payload.id) === id && (isRemoved || payload.userId === "erased");
      for (const id of [finished, growing]) await until(() => bob.all(event).some(isAbout(id)), `the erasure of ${id}`);
      const left = (await read()).map(({ userId, userName, content, streaming }) => [userId, userName, content, streaming]);
      const contents = isRemoved ? ["", ""] : ["canary, all", "canary, half"];
      assert.deepEqual(left, contents.map((content) => ["erased", "Erased user", content, undefined]));
      assert.equal(await found(), isRemoved ? 0 : 2);
      assert.deepEqual([await exported(started, ada), rows(growing)], [[], []]);
      assert.deepEqual((await bob.must("join_conversation", { conversationId })).streaming ?? [], []);
      const sent = bob.heard.filter(([, { messageId, id }]) => (messageId ?? id) === growing).map(([name]) => name);
      assert.equal(sent.at(-1), event);
      await metricIs(started.url, "roomcast_streams_open", (open) => open === 0);
    });
  }

  test(`streamed messages end with their retention on ${on}`, async (t) => {
    const env = { ROOMCAST_STORE__RETENTION: "2s", ROOMCAST_STORE__RETENTION_INTERVAL: "50ms" };
    const started = await start(t, env);
    const { ada, bob, conversationId, growing, read, found } = await scene(t, started);
    assert.equal((await read()).length, 2);
    await until(async () => (await read()).length === 0, "the end of the retention");
    assert.deepEqual([await found(), rows(growing)], [0, []]);
    assert.deepEqual((await bob.must("join_conversation", { conversationId })).streaming ?? [], []);
    let refused;
    await until(async () => {
      const answer = await ask(ada.socket, "append_message", { messageId: growing, offset: 12, text: "" });
      refused = answer.error;
      return !answer.success;
    }, "the refusal of more text");
    assert.ok(["CONFLICT", "NOT_FOUND"].includes(refused.code), JSON.stringify(refused));
    const end = await ask(ada.socket, "finish_message", { messageId: growing, offset: 12 });
    assert.equal(end.success, false);
    await metricIs(started.url, "roomcast_streams_open", (open) => open === 0);
    const { message } = await ada.must("message", { conversationId, content: "next" });
    assert.equal(message.seq, 3);
  });
}
