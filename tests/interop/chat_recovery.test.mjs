// The chat with connection state recovery. Official clients follow their documentation: they join
// again only if they were not recovered.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { io as v4 } from "socket.io-client";
import { ask, next, open, startServer, until, within } from "./support.mjs";
import { startLink } from "./link.mjs";

let server;
before(async () => {
  server = await startServer({
    ROOMCAST_RECOVERY__ENABLED: "true",
    // Guests create conversations here.
    ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
    ROOMCAST_PRESENCE__GRACE: "20ms",
    // A polling client that is disconnected is detected by its missing pong. Pongs of all other
    // clients arrive in time.
    ROOMCAST_ENGINE__PING_INTERVAL: "500ms",
    ROOMCAST_ENGINE__PING_TIMEOUT: "10s",
  });
});
after(async () => assert.equal(await server.stop(), 0));

/** Sends a request and expects success. */
async function must(socket, event, payload) {
  const answer = await ask(socket, event, payload);
  assert.equal(answer.success, true, `${event}: ${JSON.stringify(answer)}`);
  return answer;
}

/** Connects a guest who has the same id in every test of this name. */
async function guest(t, name, url, options = {}) {
  const auth = { name, guestKey: `the key of ${name}`.padEnd(16, ".") };
  const socket = open(t, v4, url, { auth, reconnectionDelay: 20, reconnectionDelayMax: 50, ...options });
  const [session] = await next(socket, "session");
  return { socket, userId: session.userId };
}

/** Connects Ann through a link, in a conversation of Bob, who has not joined it. */
async function conversation(t, options) {
  const link = await startLink(server.url);
  t.after(() => link.close());
  const bob = await guest(t, "Bob", server.url);
  const ann = await guest(t, "Ann", link.url, { ...options, reconnection: true });
  const made = await must(bob.socket, "create_conversation", { memberIds: [ann.userId] });
  const conversationId = made.conversation.id;
  await must(ann.socket, "join_conversation", { conversationId });
  const received = [];
  ann.socket.on("message", (message) => received.push(message.seq));
  return { link, ann, bob, conversationId, received };
}

/** Waits until a conversation has no present users. */
async function untilEmpty(socket, conversationId) {
  const empty = async () => {
    while ((await must(socket, "presence", { conversationId })).count > 0);
  };
  await within(empty(), "everybody to have gone");
}

const send = (socket, conversationId, content) => must(socket, "message", { conversationId, content });

for (const transports of [["websocket"], ["polling"]]) {
  describe(`with recovery, over ${transports}`, () => {
    test("a recovered client has missed nothing and is in its conversations", async (t) => {
      const { link, ann, bob, conversationId, received } = await conversation(t, { transports });
      const { id } = ann.socket;
      await send(bob.socket, conversationId, "before");
      const lost = next(ann.socket, "disconnect");
      link.cut();
      await lost;
      await untilEmpty(bob.socket, conversationId);
      await send(bob.socket, conversationId, "while away");
      const report = next(bob.socket, "message_delivered");
      await must(bob.socket, "message", { conversationId, content: "confirmed", confirmDelivery: true });
      const [{ delivered, timedOut }] = await report;
      assert.deepEqual([delivered, timedOut], [0, true]);
      const back = next(ann.socket, "connect");
      link.restore();
      await back;
      assert.equal(ann.socket.recovered, true);
      assert.equal(ann.socket.id, id);
      await send(bob.socket, conversationId, "afterwards");
      while (received.length < 4) await next(ann.socket, "message");
      assert.deepEqual(received, [1, 2, 3, 4]);
      const { users } = await must(bob.socket, "presence", { conversationId });
      assert.deepEqual(users.map(({ userId, connections }) => [userId, connections]), [[ann.userId, 1]]);
    });

    test("a client that joins before it knows of its recovery gets all once", async (t) => {
      const { link, ann, bob, conversationId, received } = await conversation(t, { transports });
      await send(bob.socket, conversationId, "before");
      while (received.length < 1) await next(ann.socket, "message");
      const lost = next(ann.socket, "disconnect");
      link.cut();
      await lost;
      // The stock client buffers it with the number that it knows by now.
      const joined = must(ann.socket, "join_conversation", { conversationId, lastSeq: 1 });
      for (const content of ["while", "away"]) await send(bob.socket, conversationId, content);
      link.restore();
      const { messages, hasMore } = await joined;
      assert.equal(ann.socket.recovered, true);
      assert.deepEqual([messages, hasMore], [[], false]);
      await send(bob.socket, conversationId, "afterwards");
      while (received.length < 4) await next(ann.socket, "message");
      assert.deepEqual(received, [1, 2, 3, 4]);
    });

    test("a client that missed the join answer gets earlier messages on a retry", async (t) => {
      const { link, ann, bob, conversationId, received } = await conversation(t, { transports });
      await must(ann.socket, "leave_conversation", conversationId);
      for (const content of ["one", "two"]) await send(bob.socket, conversationId, content);
      // While the answer to a pong is held, the client sends nothing further by polling.
      await until(() => ann.socket.io.engine.transport.writable, "the answers to all requests");
      link.holdAnswers();
      ann.socket.emit("join_conversation", { conversationId, lastSeq: 0 });
      const isIn = async () => (await must(bob.socket, "presence", { conversationId })).count === 1;
      await until(isIn, "the join at the server");
      await send(bob.socket, conversationId, "three");
      const lost = next(ann.socket, "disconnect");
      link.cut();
      link.releaseAnswers();
      await lost;
      const joined = must(ann.socket, "join_conversation", { conversationId, lastSeq: 0 });
      link.restore();
      const { messages } = await joined;
      assert.equal(ann.socket.recovered, true);
      assert.deepEqual(messages.map(({ seq }) => seq), [1, 2]);
      while (received.length < 1) await next(ann.socket, "message");
      assert.deepEqual(received, [3]);
    });

    test("a recovered client gets nothing of a conversation it was removed from", async (t) => {
      const { link, ann, bob, conversationId, received } = await conversation(t, { transports });
      await send(bob.socket, conversationId, "before");
      const lost = next(ann.socket, "disconnect");
      link.cut();
      await lost;
      await untilEmpty(bob.socket, conversationId);
      await must(bob.socket, "remove_member", { conversationId, userId: ann.userId });
      await send(bob.socket, conversationId, "not for her");
      const back = next(ann.socket, "connect");
      link.restore();
      await back;
      await send(bob.socket, conversationId, "nor this");
      const refused = await ask(ann.socket, "message_history", { conversationId });
      assert.equal(refused.error.code, "NOT_FOUND");
      assert.deepEqual(received, [1]);
      assert.equal((await must(bob.socket, "presence", { conversationId })).count, 0);
    });
  });
}
