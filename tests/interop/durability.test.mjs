// Acknowledged messages exist after the server was killed.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { io } from "socket.io-client";
import { ask, connect, startServer, temporary, within } from "./support.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";

test("every acknowledged message is there exactly once after SIGKILL in the middle of 1,000", async (t) => {
  const env = { ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}` };
  const first = await startServer(env);
  t.after(() => first.stop("SIGKILL"));

  const senders = await Promise.all([1, 2, 3, 4].map(() => connect(t, io, first.url, { transports: ["websocket"] })));
  const acked = new Map();
  let enough;
  const killed = new Promise((done) => (enough = done)).then(() => first.stop("SIGKILL"));
  let sent = 0;
  const send = () => {
    const i = sent++;
    const command = { conversationId: LOBBY, content: `message ${i}`, clientMessageId: `id-${i}` };
    senders[i % senders.length].emit("message", command, (answer) => {
      assert.equal(answer.success, true, JSON.stringify(answer));
      acked.set(answer.message.id, answer.message);
      if (acked.size === 300) enough();
      if (sent < 1000) send();
    });
  };
  // This many are in flight at any time, but never all: the server is killed before the last of
  // them.
  while (sent < 200) send();
  assert.equal(await within(killed, "300 acknowledgements"), "SIGKILL");
  assert.ok(acked.size < 1000, "killed before all were acknowledged");

  const second = await startServer(env);
  t.after(() => second.stop());
  const reader = await connect(t, io, second.url);
  const { messages } = await ask(reader, "join_conversation", { conversationId: LOBBY, lastSeq: 0 });
  while (messages.length > 0) {
    const afterSeq = messages.at(-1).seq;
    const page = await ask(reader, "message_history", { conversationId: LOBBY, afterSeq, limit: 200 });
    messages.push(...page.messages);
    if (!page.hasMore) break;
  }
  assert.deepEqual(messages.map(({ seq }) => seq), messages.map((_, i) => i + 1));
  const stored = new Map(messages.map((message) => [message.id, message]));
  assert.equal(stored.size, messages.length);
  for (const [id, message] of acked) assert.deepEqual(stored.get(id), message);
  const contents = new Set(messages.map(({ content }) => content));
  assert.equal(contents.size, messages.length);
});
