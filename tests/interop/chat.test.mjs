// The server with its chat, as stock clients see it.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ask, clients, next, open, startServer, until } from "./support.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

let server;
before(async () => (server = await startServer()));
after(async () => assert.equal(await server.stop(), 0));

/** Connects a guest who joins the Lobby, and returns its session as well. */
async function guest(t, io, name, options = {}) {
  const socket = open(t, io, server.url, { auth: { name }, ...options });
  const [session] = await next(socket, "session");
  const joined = await ask(socket, "join_conversation", LOBBY);
  assert.equal(joined.success, true, JSON.stringify(joined));
  return { socket, session, joined };
}

for (const [client, io] of clients) {
  describe(client, () => {
    for (const transport of ["polling", "websocket"]) {
      test(`a message is stored, acknowledged and received over ${transport}`, async (t) => {
        const ada = await guest(t, io, "Ada", { transports: [transport] });
        const bob = await guest(t, io, "Bob", { transports: [transport] });
        const received = next(bob.socket, "message");
        ada.socket.on("message", () => assert.fail("the sending socket hears itself"));
        const content = "hello <b>Bob</b>\n🦀";
        const answer = await ask(ada.socket, "message", { conversationId: LOBBY, content });
        assert.equal(answer.success, true, JSON.stringify(answer));
        const { message } = answer;
        assert.match(message.id, UUID);
        assert.match(message.createdAt, TIME);
        assert.equal(message.conversationId, LOBBY);
        assert.equal(message.content, content);
        assert.equal(message.userId, ada.session.userId);
        assert.equal(message.userName, "Ada");
        assert.equal(message.type, "user");
        assert.ok(message.seq >= 1);
        assert.deepEqual(await received, [message]);
      });
    }

    test("the session event has the identity of the client", async (t) => {
      const { session } = await guest(t, io, "Ada");
      assert.equal(session.name, "Ada");
      assert.equal(session.guest, true);
      assert.match(session.userId, /^guest:[0-9a-f]{16}$/);
      assert.ok(Array.isArray(session.roles));
    });

    test("a guest key gives the same user again", async (t) => {
      const auth = { name: "Ada", guestKey: "0123456789abcdef" };
      const ids = [];
      for (let i = 0; i < 2; i++) {
        const socket = open(t, io, server.url, { auth });
        ids.push((await next(socket, "session"))[0].userId);
      }
      assert.equal(ids[0], ids[1]);
      assert.equal(ids[0], "guest:9f9f5111f7b27a78");
    });

    test("history has all messages, in order and in pages", async (t) => {
      const { socket } = await guest(t, io, "Ada");
      const sent = [];
      for (let i = 0; i < 5; i++) {
        sent.push((await ask(socket, "message", { conversationId: LOBBY, content: `entry ${i}` })).message);
      }
      const newest = await ask(socket, "message_history", { conversationId: LOBBY, limit: 3 });
      assert.deepEqual(newest, { success: true, messages: sent.slice(2), hasMore: true });
      const before = { conversationId: LOBBY, beforeSeq: sent[2].seq, limit: 2 };
      assert.deepEqual((await ask(socket, "message_history", before)).messages, sent.slice(0, 2));
      const after = { conversationId: LOBBY, afterSeq: sent[1].seq };
      assert.deepEqual((await ask(socket, "message_history", after)).messages, sent.slice(2));
      const both = await ask(socket, "message_history", { ...after, beforeSeq: 9 });
      assert.equal(both.success, false);
      assert.equal(both.error.code, "INVALID_PAYLOAD");
    });

    test("joining with the last seq returns the missed messages", async (t) => {
      const ada = await guest(t, io, "Ada");
      const first = (await ask(ada.socket, "message", { conversationId: LOBBY, content: "seen" })).message;
      const second = (await ask(ada.socket, "message", { conversationId: LOBBY, content: "missed" })).message;
      const bob = open(t, io, server.url);
      await next(bob, "session");
      const joined = await ask(bob, "join_conversation", { conversationId: LOBBY, lastSeq: first.seq });
      assert.equal(joined.success, true);
      assert.deepEqual(joined.messages, [second]);
      assert.equal(joined.hasMore, false);
      assert.equal(joined.conversation.id, LOBBY);
      assert.deepEqual(ada.joined.messages, []);
    });

    test("the same client message id is stored once", async (t) => {
      const { socket } = await guest(t, io, "Ada");
      const command = { conversationId: LOBBY, content: "once", clientMessageId: `${socket.id}-1` };
      const first = await ask(socket, "message", command);
      assert.deepEqual(await ask(socket, "message", command), first);
      const page = await ask(socket, "message_history", { conversationId: LOBBY, limit: 200 });
      assert.equal(page.messages.filter(({ id }) => id === first.message.id).length, 1);
    });

    test("other users receive typing", async (t) => {
      const ada = await guest(t, io, "Ada");
      const bob = await guest(t, io, "Bob", { transports: ["websocket"] });
      const received = next(bob.socket, "typing");
      assert.deepEqual(await ask(ada.socket, "typing", { conversationId: LOBBY, isTyping: true }), { success: true });
      const [typing] = await received;
      assert.match(typing.timestamp, TIME);
      assert.equal(typing.userId, ada.session.userId);
      assert.equal(typing.name, "Ada");
      assert.equal(typing.isTyping, true);
      assert.equal(typing.conversationId, LOBBY);
    });

    test("joins and departures are announced, and presence lists the users", async (t) => {
      const ada = await guest(t, io, "Ada");
      const announced = [];
      // Clients of earlier tests may still be leaving.
      for (const event of ["user_joined", "user_left"]) ada.socket.on(event, (news) => announced.push([event, news]));
      const news = async (event, { session }) => {
        const of = () => announced.find(([name, { userId }]) => name === event && userId === session.userId);
        await until(of, () => `${event} of ${session.userId}: ${JSON.stringify(announced)}`);
        return of()[1];
      };
      const bob = await guest(t, io, "Bob");
      const arrival = await news("user_joined", bob);
      assert.equal(arrival.type, "system");
      assert.equal(arrival.userId, bob.session.userId);
      assert.equal(arrival.name, "Bob");
      const present = await ask(ada.socket, "presence", { conversationId: LOBBY });
      assert.equal(present.success, true);
      const entry = present.users.find(({ userId }) => userId === bob.session.userId);
      assert.equal(entry.name, "Bob");
      assert.equal(entry.connections, 1);
      assert.deepEqual(await ask(bob.socket, "leave_conversation", LOBBY), { success: true });
      await news("user_left", bob);
    });

    test("an invalid request is answered with a code, and the socket stays", async (t) => {
      const { socket } = await guest(t, io, "Ada");
      const wrong = [
        [{ conversationId: LOBBY, content: "" }, "INVALID_PAYLOAD"],
        [{ conversationId: LOBBY, content: "x".repeat(10_001) }, "INVALID_PAYLOAD"],
        [{ conversationId: LOBBY, content: "bell \u0007" }, "INVALID_PAYLOAD"],
        [{ conversationId: "lobby", content: "x" }, "INVALID_PAYLOAD"],
        [{ content: "x" }, "INVALID_PAYLOAD"],
        ["text", "INVALID_PAYLOAD"],
        [{ conversationId: LOBBY, content: "x", type: "ai" }, "FORBIDDEN"],
        [{ conversationId: "00000000-0000-4000-8000-00000000ffff", content: "x" }, "NOT_FOUND"],
      ];
      for (const [command, code] of wrong) {
        const answer = await ask(socket, "message", command);
        assert.equal(answer.success, false, JSON.stringify(command));
        assert.equal(answer.error.code, code, JSON.stringify(command));
      }
      const failed = next(socket, "error");
      socket.emit("message", { conversationId: LOBBY, content: "" });
      const [error] = await failed;
      assert.equal(error.type, "payload");
      assert.equal(error.code, "INVALID_PAYLOAD");
      assert.equal(error.event, "message");
      assert.equal(error.status, 400);
      assert.equal((await ask(socket, "presence", { conversationId: LOBBY })).success, true);
    });
  });
}

test("an unknown namespace is refused", async (t) => {
  const socket = open(t, clients[0][1], `${server.url}/nowhere`);
  assert.equal((await next(socket, "connect_error"))[0].message, "Invalid namespace");
});

test("the live and ready endpoints respond", async () => {
  for (const path of ["/health/live", "/health/ready"]) {
    assert.equal((await fetch(server.url + path)).status, 200);
  }
});

test("production without an authenticator refuses guests", async (t) => {
  const production = await startServer({ ROOMCAST_PROFILE: "production" });
  t.after(() => production.stop());
  const socket = await open(t, clients[0][1], production.url, { auth: { name: "Ada" } });
  const [error] = await next(socket, "connect_error");
  assert.notEqual(error.message, "");
  assert.equal(socket.connected, false);
});
