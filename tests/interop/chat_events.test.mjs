// Every event of the chat with every field, as stock clients see them.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { checkAnswered, checkReceived, checksAll } from "./catalog.mjs";
import { ask, clients, next, open, startServer, until, within } from "./support.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

let server;
before(async () => {
  server = await startServer({
    ROOMCAST_PRESENCE__GRACE: "300ms",
    ROOMCAST_CHAT__CONFIRM_TIMEOUT: "10s",
    ROOMCAST_LIMITS__CONNECTIONS_PER_USER: "0",
    ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user",
  });
});
after(async () => assert.equal(await server.stop(), 0));

let users = 0;

/** Connects a guest with a permanent id; more tabs use the same key. */
async function guest(t, io, name, options = {}, key = `key of user ${++users} ${process.pid}`.padEnd(20, ".")) {
  const socket = open(t, io, server.url, { auth: { name, guestKey: key }, ...options });
  const events = [];
  // All events from the start, in order.
  for (const event of EVENTS) {
    socket.on(event, (...args) => {
      checkReceived(event, args[0]);
      events.push([event, ...args]);
    });
  }
  const [session] = await next(socket, "session");
  /** Returns the next event of a name that matches, including events that have arrived already. */
  const event = async (name, fits = () => true) => {
    for (;;) {
      const at = events.findIndex(([event, payload]) => event === name && fits(payload));
      if (at >= 0) return events.splice(at, 1)[0][1];
      await next(socket, name);
    }
  };
  return { socket, session, userId: session.userId, key, events, event, tab: (more) => guest(t, io, name, more, key) };
}

const EVENTS = [
  "message", "message_edited", "message_deleted", "message_delivered", "user_joined", "user_left",
  "message_reaction", "message_pinned", "message_unpinned", "notification_level",
  "message_read", "session", "user_disconnected", "typing", "presence", "status", "conversation_updated", "conversation_deleted", "error",
];

async function must({ socket }, name, ...args) {
  const answer = await ask(socket, name, ...args);
  assert.equal(answer.success, true, `${name} ${JSON.stringify(args)}: ${JSON.stringify(answer)}`);
  checkAnswered(name, args[0], answer);
  return answer;
}

async function refused({ socket }, code, name, ...args) {
  const answer = await ask(socket, name, ...args);
  assert.deepEqual(Object.keys(answer).sort(), ["error", "success"]);
  assert.equal(answer.success, false, name);
  assert.equal(answer.error.code, code, `${name} ${JSON.stringify(args)}: ${JSON.stringify(answer)}`);
  assert.equal(typeof answer.error.message, "string");
}

const keys = (object, expected) => assert.deepEqual(Object.keys(object).sort(), [...expected].sort());

const MESSAGE = ["id", "conversationId", "seq", "userId", "userName", "content", "type", "metadata", "version", "createdAt"];
const CONVERSATION = ["id", "title", "ownerId", "memberIds", "createdAt", "updatedAt"];
const SYSTEM = ["type", "conversationId", "userId", "name", "timestamp"];

/** Tests that wait for timeouts, collected so that they wait concurrently. */
const confirmations = [];

for (const [client, io] of clients) {
  describe(client, () => {
    for (const transport of ["polling", "websocket"]) {
      const options = { transports: [transport] };

      test(`the life of a conversation over ${transport}`, async (t) => {
        const ada = await guest(t, io, "Ada", options);
        const bob = await guest(t, io, "Bob", options);
        const eve = await guest(t, io, "Eve", options);
        const made = await must(ada, "create_conversation", { title: "Plans", memberIds: [bob.userId] });
        keys(made, ["success", "conversation"]);
        const { conversation } = made;
        keys(conversation, CONVERSATION);
        const conversationId = conversation.id;
        assert.match(conversationId, UUID);
        assert.match(conversation.createdAt, TIME);
        assert.equal(conversation.updatedAt, conversation.createdAt);
        assert.equal(conversation.title, "Plans");
        assert.equal(conversation.ownerId, ada.userId);
        assert.deepEqual(conversation.memberIds, [ada.userId, bob.userId].sort());
        const news = await bob.event("conversation_updated");
        keys(news, ["conversation", "timestamp"]);
        assert.match(news.timestamp, TIME);
        assert.deepEqual(news.conversation, conversation);

        const joined = await must(ada, "join_conversation", conversationId);
        keys(joined, ["success", "conversation", "users", "statuses", "messages", "hasMore", "pins", "notificationLevel"]);
        assert.deepEqual(joined.conversation, conversation);
        assert.deepEqual([joined.messages, joined.hasMore], [[], false]);
        assert.equal(joined.users.length, 1);
        keys(joined.users[0], ["userId", "name", "guest", "connections", "since"]);
        await must(bob, "join_conversation", { conversationId, lastSeq: 0 });
        const came = await ada.event("user_joined", ({ userId }) => userId === bob.userId);
        keys(came, SYSTEM);
        assert.deepEqual({ ...came, timestamp: "" }, { type: "system", conversationId, userId: bob.userId, name: "Bob", timestamp: "" });
        assert.match(came.timestamp, TIME);

        for (const [event, payload] of [
          ["join_conversation", conversationId],
          ["message", { conversationId, content: "x" }],
          ["message_history", { conversationId }],
          ["presence", { conversationId }],
          ["statuses", { conversationId }],
          ["typing", { conversationId, isTyping: true }],
          ["mark_read", { conversationId, seq: 1 }],
          ["leave_conversation", conversationId],
          ["message_search", { conversationId, query: "x" }],
          ["add_member", { conversationId, userId: eve.userId }],
          ["remove_member", { conversationId, userId: bob.userId }],
          ["delete_conversation", { conversationId }],
        ]) await refused(eve, "NOT_FOUND", event, payload);
        await refused(bob, "FORBIDDEN", "add_member", { conversationId, userId: eve.userId });

        const statusAnswer = await must(bob, "set_status", { status: "away", text: "at lunch \u{1f957}" });
        keys(statusAnswer, ["success", "userId", "status", "text", "timestamp"]);
        assert.match(statusAnswer.timestamp, TIME);
        const { success: _, ...status } = statusAnswer;
        assert.deepEqual(status, { userId: bob.userId, status: "away", text: "at lunch \u{1f957}", timestamp: statusAnswer.timestamp });
        assert.deepEqual(await ada.event("status"), status);
        assert.deepEqual(await must(ada, "statuses", { conversationId }), { success: true, conversationId, statuses: [status] });
        const tab = await bob.tab(options);
        assert.deepEqual(tab.session.status, status);
        keys(await must(tab, "set_status", { status: "online" }), ["success", "userId", "status", "timestamp"]);
        for (const one of [ada, bob]) assert.equal((await one.event("status")).status, "online");
        tab.socket.disconnect();

        const metadata = { imageUrl: "https://example.org/a.png", timestamp: "2025-01-31T12:00:00Z", own: [1, null] };
        const sent = await must(bob, "message", { conversationId, content: "first", metadata, clientMessageId: "c1" });
        keys(sent, ["success", "message"]);
        keys(sent.message, MESSAGE);
        assert.deepEqual(
          { ...sent.message, id: "", createdAt: "" },
          { id: "", conversationId, seq: 1, userId: bob.userId, userName: "Bob", content: "first", type: "user", metadata, version: 1, createdAt: "" },
        );
        assert.deepEqual(await ada.event("message"), sent.message);
        const messageId = sent.message.id;

        const edited = await must(bob, "edit_message", { messageId, content: "second", version: 1 });
        keys(edited, ["success", "message"]);
        keys(edited.message, [...MESSAGE, "editedAt"]);
        assert.deepEqual([edited.message.content, edited.message.version], ["second", 2]);
        assert.match(edited.message.editedAt, TIME);
        assert.deepEqual(await ada.event("message_edited"), edited.message);
        await refused(bob, "CONFLICT", "edit_message", { messageId, content: "third", version: 1 });
        await refused(ada, "FORBIDDEN", "edit_message", { messageId, content: "mine" });
        await refused(eve, "NOT_FOUND", "edit_message", { messageId, content: "mine" });
        await refused(ada, "FORBIDDEN", "delete_message", { messageId });

        const read = await must(ada, "mark_read", { conversationId, seq: 0 });
        assert.deepEqual(read, { success: true, seq: 0, unread: 1 });
        assert.deepEqual(await must(ada, "mark_read", { conversationId, seq: 9 }), { success: true, seq: 1, unread: 0 });
        assert.deepEqual(await must(ada, "mark_read", { conversationId, seq: 0 }), { success: true, seq: 1, unread: 0 });
        const list = await must(bob, "conversations", {});
        keys(list, ["success", "conversations", "hasMore"]);
        const listed = list.conversations.find(({ id }) => id === conversationId);
        keys(listed, [...CONVERSATION, "lastSeq", "readSeq", "unread", "notificationLevel", "lastMessage"]);
        const { id, seq, userId, userName, content: excerpt, createdAt, editedAt } = edited.message;
        assert.deepEqual(listed.lastMessage, { id, seq, userId, userName, excerpt, createdAt, editedAt });
        assert.deepEqual([listed.lastSeq, listed.readSeq, listed.unread], [1, 0, 0], "one's own messages are read");

        const found = await must(ada, "message_search", { query: "SECOND", conversationId });
        assert.deepEqual(found, { success: true, messages: [edited.message], hasMore: false });
        const nothing = await must(eve, "message_search", { query: "second" });
        assert.ok(nothing.messages.every((message) => message.conversationId !== conversationId), "members only");

        const deleted = await must(bob, "delete_message", { messageId });
        keys(deleted.message, [...MESSAGE, "editedAt", "deletedAt"]);
        assert.deepEqual([deleted.message.content, deleted.message.metadata], ["", {}]);
        const deletion = await ada.event("message_deleted");
        assert.deepEqual(deletion, { conversationId, messageId, seq: 1, deletedAt: deleted.message.deletedAt, deletedBy: bob.userId });
        const history = await must(ada, "message_history", { conversationId });
        assert.deepEqual(history, { success: true, messages: [deleted.message], hasMore: false });
        await refused(bob, "NOT_FOUND", "edit_message", { messageId, content: "x" });

        const added = await must(ada, "add_member", { conversationId, userId: eve.userId });
        keys(added, ["success", "conversation"]);
        assert.deepEqual(added.conversation.memberIds, [ada.userId, bob.userId, eve.userId].sort());
        assert.ok(added.conversation.updatedAt >= conversation.updatedAt);
        for (const one of [bob, eve]) {
          const received = await one.event("conversation_updated", (news) => news.conversation.memberIds.length === 3);
          assert.deepEqual(received.conversation, added.conversation);
        }
        const removed = await must(ada, "remove_member", { conversationId, userId: bob.userId });
        await bob.event("conversation_updated", (news) => !news.conversation.memberIds.includes(bob.userId));
        const left = await ada.event("user_left");
        keys(left, SYSTEM);
        assert.equal(left.userId, bob.userId);
        await refused(bob, "NOT_FOUND", "message", { conversationId, content: "x" });
        assert.deepEqual(await must(ada, "remove_member", { conversationId, userId: bob.userId }), removed, "twice is once");

        await refused(eve, "FORBIDDEN", "delete_conversation", { conversationId });
        const { success, ...ended } = await must(ada, "delete_conversation", { conversationId });
        keys(ended, ["conversationId", "deletedAt", "deletedBy"]);
        assert.match(ended.deletedAt, TIME);
        assert.deepEqual([success, ended.conversationId, ended.deletedBy], [true, conversationId, ada.userId]);
        assert.deepEqual(await eve.event("conversation_deleted"), ended, "who is a member and elsewhere");
        assert.deepEqual(await must(ada, "delete_conversation", { conversationId }), { success, ...ended }, "twice is once");
        await refused(eve, "NOT_FOUND", "delete_conversation", { conversationId });
        await refused(ada, "NOT_FOUND", "join_conversation", conversationId);
        await refused(ada, "NOT_FOUND", "message", { conversationId, content: "x", clientMessageId: "c2" });
        // The owner of a conversation leaves it to the other member, who is then the last.
        const other = (await must(ada, "create_conversation", { memberIds: [eve.userId] })).conversation.id;
        await refused(eve, "FORBIDDEN", "remove_member", { conversationId: other, userId: ada.userId });
        const handed = await must(ada, "remove_member", { conversationId: other, userId: ada.userId });
        assert.deepEqual([handed.conversation.ownerId, handed.conversation.memberIds], [eve.userId, [eve.userId]]);
        await refused(eve, "CONFLICT", "remove_member", { conversationId: other, userId: eve.userId });
        for (const one of [ada, bob, eve]) assert.deepEqual(one.events.filter(([name]) => name === "error"), []);
      });

      confirmations.push([`confirmed delivery to ${client} over ${transport}`, async (t) => {
        const ada = await guest(t, io, "Ada", options);
        const bob = await guest(t, io, "Bob", options);
        const tab = await bob.tab(options);
        const silent = await guest(t, io, "Eve", options);
        const members = [bob.userId, silent.userId];
        const { conversation } = await must(ada, "create_conversation", { memberIds: members });
        const conversationId = conversation.id;
        for (const one of [ada, bob, tab]) await must(one, "join_conversation", conversationId);
        const confirm = (message, done) => done();
        for (const one of [bob, tab]) one.socket.on("message", confirm);
        const all = await must(ada, "message", { conversationId, content: "x", confirmDelivery: true });
        assert.deepEqual(await ada.event("message_delivered"), {
          conversationId, messageId: all.message.id, expected: 2, delivered: 2, timedOut: false,
        });
        await must(silent, "join_conversation", conversationId);
        const some = await must(ada, "message", { conversationId, content: "y", confirmDelivery: true });
        assert.deepEqual(await ada.event("message_delivered"), {
          conversationId, messageId: some.message.id, expected: 3, delivered: 2, timedOut: true,
        });
        const plain = next(bob.socket, "message");
        for (const one of [bob, tab]) one.socket.off("message", confirm);
        await must(ada, "message", { conversationId, content: "z" });
        assert.equal((await plain).length, 1, "no acknowledgement is asked for");
        for (const one of [bob, tab, silent]) assert.ok(one.events.every(([name]) => name !== "message_delivered"));
      }]);

      test(`presence does not flap over ${transport}`, async (t) => {
        const ada = await guest(t, io, "Ada", options);
        const bob = await guest(t, io, "Bob", options);
        const { conversation } = await must(ada, "create_conversation", { memberIds: [bob.userId] });
        const conversationId = conversation.id;
        for (const one of [ada, bob]) await must(one, "join_conversation", conversationId);
        const tab = await bob.tab(options);
        await must(tab, "join_conversation", conversationId);
        // Both connections break and return, one after the other, repeatedly.
        let tabs = [bob, tab];
        for (let i = 0; i < 6; i++) {
          const back = await bob.tab(options);
          await must(back, "join_conversation", conversationId);
          tabs[0].socket.io.engine.close();
          tabs = [tabs[1], back];
        }
        const names = () => ada.events.filter(([name]) => /^user_/.test(name)).map(([name]) => name);
        /**
         * Waits until the server has noticed closed connections, and Ada has been sent this number
         * of Bob's connections.
         */
        const has = async (count) => {
          const connections = (users) => users.find(({ userId }) => userId === bob.userId)?.connections;
          const isSo = async () => connections((await must(ada, "presence", { conversationId })).users) === count;
          await until(isSo, `${count} connections of Bob`);
          await ada.event("presence", ({ users }) => connections(users) === count);
        };
        await has(2);
        assert.deepEqual(names(), ["user_joined"]);
        tabs[0].socket.disconnect();
        await has(1);
        assert.deepEqual(names(), ["user_joined"]);
        tabs[1].socket.io.engine.close();
        const lost = await ada.event("user_disconnected");
        keys(lost, SYSTEM);
        assert.equal(lost.userId, bob.userId);
        const here = await must(ada, "presence", { conversationId });
        keys(here, ["success", "conversationId", "users", "count"]);
        assert.deepEqual([here.conversationId, here.count, here.users.length], [conversationId, 1, 1]);

        const again = await bob.tab(options);
        await must(again, "join_conversation", conversationId);
        await ada.event("user_joined", ({ userId, timestamp }) => userId === bob.userId && timestamp > lost.timestamp);
        await must(again, "leave_conversation", conversationId);
        assert.equal((await ada.event("user_left")).userId, bob.userId);
        await must(again, "join_conversation", conversationId);
        // Ada is not told of a user who leaves before she was told that the user has joined.
        assert.equal((await ada.event("user_joined")).userId, bob.userId);
        again.socket.disconnect();
        assert.equal((await ada.event("user_left")).userId, bob.userId);
      });

      test(`replies, mentions, reactions, pins and levels over ${transport}`, async (t) => {
        const ada = await guest(t, io, "Ada", options);
        const bob = await guest(t, io, "Bob", options);
        const tab = await bob.tab(options);
        const { conversation } = await must(ada, "create_conversation", { title: "Plans", memberIds: [bob.userId] });
        const conversationId = conversation.id;
        for (const one of [ada, bob]) await must(one, "join_conversation", conversationId);
        const { message: first } = await must(ada, "message", { conversationId, content: "who comes?" });
        const received = new Promise((done) => bob.socket.once("notification:new", done));
        await must(bob, "subscribe:notifications", {});
        const { message: reply } = await must(ada, "message", {
          conversationId, content: "you?", replyTo: first.id, mentions: [bob.userId],
        });
        keys(reply, [...MESSAGE, "replyTo", "mentions"]);
        assert.deepEqual(reply.replyTo, { id: first.id, seq: 1, userId: ada.userId, userName: "Ada", excerpt: "who comes?" });
        assert.deepEqual(await bob.event("message", ({ seq }) => seq === 2), reply);
        const notification = await within(received, "a notification");
        checkReceived("notification:new", notification);
        assert.equal(notification.actionUrl, `/#/c/${conversationId}/2`);

        const emoji = "\u{1F469}\u{200D}\u{1F680}";
        const { success, ...reacted } = await must(bob, "add_reaction", { messageId: reply.id, emoji });
        assert.ok(success);
        keys(reacted, ["conversationId", "messageId", "seq", "emoji", "userId", "added", "count", "timestamp"]);
        assert.deepEqual(await ada.event("message_reaction"), reacted);
        const { messages } = await must(bob, "message_history", { conversationId, limit: 1 });
        assert.deepEqual(messages[0].reactions, [{ emoji, count: 1, userIds: [bob.userId], own: true }]);
        await must(bob, "remove_reaction", { messageId: reply.id, emoji });
        assert.deepEqual([(await ada.event("message_reaction")).count], [0]);
        await refused(bob, "INVALID_PAYLOAD", "add_reaction", { messageId: reply.id, emoji: ":)" });

        const { pin } = await must(ada, "pin_message", { messageId: first.id });
        keys(pin, ["message", "pinnedBy", "pinnedAt"]);
        assert.deepEqual(await bob.event("message_pinned"), { conversationId, pin });
        await refused(bob, "FORBIDDEN", "pin_message", { messageId: reply.id });
        const again = await must(bob, "join_conversation", conversationId);
        assert.deepEqual([again.pins, again.notificationLevel], [[pin], "all"]);
        await must(ada, "unpin_message", { messageId: first.id });
        assert.equal((await bob.event("message_unpinned")).messageId, first.id);

        await must(bob, "set_notification_level", { conversationId, level: "none" });
        assert.deepEqual(await tab.event("notification_level"), { conversationId, level: "none" });
        const { conversations } = await must(tab, "conversations", {});
        assert.equal(conversations.find(({ id }) => id === conversationId).notificationLevel, "none");
      });

      test(`an invitation admits users until used up or revoked, over ${transport}`, async (t) => {
        const ada = await guest(t, io, "Ada", options);
        const bob = await guest(t, io, "Bob", options);
        const eve = await guest(t, io, "Eve", options);
        const { conversation } = await must(ada, "create_conversation", { title: "Before", memberIds: [] });
        const conversationId = conversation.id;
        await must(ada, "join_conversation", conversationId);
        const renamed = await must(ada, "rename_conversation", { conversationId, title: "After" });
        assert.equal(renamed.conversation.title, "After");
        const { token, expiresAt } = await must(ada, "create_invite", { conversationId, expiresIn: 3600, uses: 1 });
        assert.match(expiresAt, TIME);
        const preview = await must(bob, "preview_invite", { token });
        const { id, title, memberCount } = preview.conversation;
        assert.deepEqual([id, title, memberCount], [conversationId, "After", 1]);
        assert.deepEqual([preview.isMember, preview.expiresAt], [false, expiresAt]);
        const joined = await must(bob, "join_invite", { token });
        assert.deepEqual(joined.conversation.memberIds.toSorted(), [ada.userId, bob.userId].toSorted());
        const received = await ada.event("conversation_updated", ({ conversation }) => conversation.memberIds.length === 2);
        assert.equal(received.conversation.id, conversationId);
        await refused(eve, "NOT_FOUND", "join_invite", { token });
        const other = await must(ada, "create_invite", { conversationId });
        assert.ok((await must(ada, "revoke_invites", { conversationId })).revoked >= 1);
        for (const event of ["preview_invite", "join_invite"]) await refused(eve, "NOT_FOUND", event, { token: other.token });
      });

      test(`errors without an acknowledgement over ${transport}`, async (t) => {
        const ada = await guest(t, io, "Ada", options);
        for (const [event, payload, expected] of [
          ["message", { conversationId: LOBBY, content: "" }, { type: "payload", code: "INVALID_PAYLOAD", status: 400 }],
          ["typing", undefined, { type: "payload", code: "INVALID_PAYLOAD", status: 400 }],
          ["message", { conversationId: LOBBY, content: "x", type: "ai" }, { type: "auth", code: "FORBIDDEN", status: 403 }],
          ["presence", { conversationId: crypto.randomUUID() }, { type: "subscription", code: "NOT_FOUND", status: 404 }],
        ]) {
          ada.socket.emit(event, ...(payload === undefined ? [] : [payload]));
          const error = await ada.event("error");
          const { details, ...rest } = error;
          keys(rest, ["type", "code", "message", "event", "status"]);
          assert.deepEqual({ ...rest, message: "" }, { ...expected, event, message: "" });
          assert.equal(typeof details?.field, expected.code === "INVALID_PAYLOAD" ? "string" : "undefined");
        }
      });
    }

    test("a polling client receives typing of both conversations, and its end", async (t) => {
      const ada = await guest(t, io, "Ada", { transports: ["polling"] });
      const bob = await guest(t, io, "Bob", { transports: ["websocket"] });
      const { conversation } = await must(ada, "create_conversation", { memberIds: [bob.userId] });
      const both = [LOBBY, conversation.id];
      for (const id of both) await must(ada, "join_conversation", id);
      for (let i = 0; i < 5; i++) {
        for (const conversationId of both) await must(bob, "typing", { conversationId, isTyping: true });
      }
      for (const id of both) {
        const typing = await ada.event("typing", ({ conversationId }) => conversationId === id);
        keys(typing, ["conversationId", "userId", "name", "isTyping", "timestamp"]);
        assert.deepEqual([typing.userId, typing.name, typing.isTyping], [bob.userId, "Bob", true]);
        assert.match(typing.timestamp, TIME);
      }
      for (const id of both) {
        const end = ({ conversationId, isTyping }) => conversationId === id && !isTyping;
        assert.equal((await ada.event("typing", end)).userId, bob.userId);
      }
    });
  });
}

describe("while a client does not confirm", { concurrency: true }, () => {
  for (const [title, run] of confirmations) test(title, run);
});

test("html is sanitised for clients that insert it", async (t) => {
  const html = await startServer({ ROOMCAST_CHAT__CONTENT: "html" });
  t.after(() => html.stop());
  const socket = open(t, clients[0][1], html.url);
  await within(new Promise((done) => socket.once("session", done)), "session");
  const content = "<b onclick=x>bold</b><script>alert(1)</script> & <a href=https://example.org>link</a>";
  const { message } = await ask(socket, "message", { conversationId: LOBBY, content });
  assert.equal(
    message.content,
    '<b>bold</b> &amp; <a href="https://example.org" rel="noopener noreferrer nofollow">link</a>',
  );
});

checksAll(import.meta.url);
