// Scenarios of a chat on several servers, whatever connects them.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  acquainted, confirmsAcross, conversation, emitsAcross, gathered, news, person, plainAcross, postgres, present, seqs, startServers, typesAcross,
  whatIsThere, withNode,
} from "./chat_servers.mjs";
import { assertRevoked, call, farewell } from "./people.mjs";
import { ask, until } from "./support.mjs";

/** The promise is one second, also without an adapter; a busy machine may take nine more. */
const PROMISED = 1_000 + 9_000;

/** The last byte of a local address that no client has used yet. */
let unused = 2;

/**
 * Registers the tests of servers that an adapter joins: `count` servers that seal, and as many that
 * Node servers can join.
 *
 * `start` starts the broker, which `scheme` connects to. Without it the servers share only
 * PostgreSQL. `others(t, broker)` returns Node servers and emitters. `own` registers the tests of
 * only this adapter.
 */
export function joinedChat({ name, count = 2, scheme, start, others = () => [] }, own = () => {}) {
  describe(`${count} servers joined by ${name}`, { concurrency: false }, () => {
    let servers;
    const joined = () => servers;
    const ends = [];
    before(async () => {
      const broker = await start?.();
      const t = { after: (end) => ends.push(end) };
      const url = broker && `${scheme}://${broker.address}`;
      const adapter = url ? { ROOMCAST_ADAPTER__URL: url } : whatIsThere;
      const started = await startServers(t, count, { ...adapter, ROOMCAST_ADAPTER__KEY: "sealed" });
      const key = url && { ROOMCAST_ADAPTER__KEY: "chat" };
      servers = { broker, url, started, shared: await startServers(t, count, { ...adapter, ...key, ...withNode }) };
      t.after(() => broker?.end());
    });
    after(async () => {
      for (const end of ends) await end();
    });

    whatever(() => servers.started, { isJoined: name });

    test("typing is visible at all servers", (t) => typesAcross(t, servers.started, `types ${name}`));

    test("sockets of all servers confirm a message", (t) => {
      return confirmsAcross(t, servers.started, Array.from({ length: count + 2 }, (_, n) => `confirms ${n} ${name}`));
    });

    if (start) {
      test("`roomcast emit --adapter` reaches the tabs of a user at all servers", (t) => {
        return emitsAcross(t, servers.started, servers.url, `tabs ${name}`, "sealed");
      });
    }

    test("an event emitted into a conversation room does not move its sequence", async (t) => {
      const { broker, shared, url } = servers;
      const library = url ? { ADAPTER: url, ADAPTER_KEY: "chat" } : { ADAPTER: postgres.url };
      const senders = await others(t, broker);
      await plainAcross(t, shared, `plain ${name}`, library, senders.map((one) => (room, ...args) => one.to(room).emit(...args)));
    });

    own(joined);
  });
}

/** Registers the tests for servers with any adapter. */
export function whatever(servers, { isJoined }) {
  test("all servers show messages, edits and deletions once and in one order", async (t) => {
    const names = ["a1", "b1", "c1", "a2", "b2", "c2"].map((name) => `${name} ${isJoined}`);
    const { people, conversationId } = await gathered(t, servers(), names);
    const sent = await Promise.all(
      people.map(async (one) => {
        const own = [];
        for (let n = 0; n < 20; n++) {
          const { message } = await one.must("message", { conversationId, content: `${one.name} ${n}` });
          own.push(message.seq);
          if (n % 5 === 0) await one.must("edit_message", { messageId: message.id, content: `edited ${message.seq}` });
          if (n % 5 === 1) await one.must("delete_message", { messageId: message.id });
        }
        return own;
      }),
    );
    const { message: last } = await people[0].must("message", { conversationId, content: "last" });
    const all = sent.flat().concat(last.seq).sort((a, b) => a - b);
    assert.deepEqual(all, Array.from({ length: 121 }, (_, n) => n + 1));
    for (const [n, one] of people.entries()) {
      const own = new Set(n === 0 ? [...sent[n], last.seq] : sent[n]);
      const expected = all.filter((seq) => !own.has(seq));
      await until(() => seqs(one).length >= expected.length, `all messages at ${one.name}`);
      assert.deepEqual(seqs(one), expected, one.name);
      await until(() => one.all("message_edited").length >= 20, `all edits at ${one.name}`);
      const edited = one.all("message_edited");
      assert.equal(new Set(edited.map(({ seq }) => seq)).size, edited.length, "each once");
      for (const { seq, content } of edited) assert.equal(content, `edited ${seq}`);
      await until(() => one.all("message_deleted").length >= 20, `all deletions at ${one.name}`);
      assert.equal(new Set(one.all("message_deleted").map(({ seq }) => seq)).size, 20, "each once");
      // An edit follows its message.
      const order = one.heard.filter(([event]) => event.startsWith("message"));
      for (const [at, [event, { seq }]] of order.entries()) {
        if (event === "message" || own.has(seq)) continue;
        assert.ok(order.slice(0, at).some(([before, message]) => before === "message" && message.seq === seq));
      }
    }
  });

  // Without an adapter: tests/gateways/status.rs.
  if (isJoined) {
    test("all servers have the same status of a user, and the latest wins", async (t) => {
      const names = ["ann", "bob", "carl"].map((name) => `${name} of ${isJoined}`);
      const { people, conversationId } = await gathered(t, servers(), names);
      const [ann, bob, carl] = people;
      const tab = await person(t, servers()[1], ann.name);
      const answer = await ann.must("set_status", { status: "busy", text: "in a meeting" });
      const { success, ...status } = answer;
      assert.deepEqual([success, status.userId, status.status, status.text], [true, ann.name, "busy", "in a meeting"]);
      for (const one of [bob, carl, tab]) {
        await until(() => one.all("status").length >= 1, `the status at ${one.name}`);
        assert.deepEqual(one.all("status"), [status]);
      }
      assert.deepEqual(ann.all("status"), []);
      // From two servers at the same time.
      const texts = Array.from({ length: 10 }, (_, n) => `${n}`);
      const answers = await Promise.all(
        texts.flatMap((text) => [ann, tab].map((one) => one.must("set_status", { status: "away", text: `${text} ${one === tab}` }))),
      );
      const last = answers.map(({ timestamp }) => timestamp).sort().at(-1);
      assert.equal(new Set(answers.map(({ timestamp }) => timestamp)).size, answers.length, "each has a time of its own");
      for (const one of [bob, carl]) {
        await until(() => one.all("status").at(-1).timestamp === last, `the latest at ${one.name}`);
        const times = one.all("status").map(({ timestamp }) => timestamp);
        assert.deepEqual(times, [...new Set(times)].sort(), "in their order, each once");
      }
      const { statuses } = await bob.must("statuses", { conversationId });
      assert.deepEqual(statuses.map(({ timestamp }) => timestamp), [last]);
      const back = await person(t, servers().at(-1), ann.name);
      const joined = await back.must("join_conversation", { conversationId });
      assert.deepEqual(joined.statuses, statuses);
      await back.must("set_status", { status: "online" });
    });
  }

  test("a status reaches members of shared conversations once, no other users", async (t) => {
    const [ann, dora, far, eve] = await Promise.all(
      ["ann", "dora", "far", "eve"].map((name, n) => person(t, servers()[n % servers().length], `${name} apart ${isJoined}`)),
    );
    const tab = await person(t, servers()[0], dora.name);
    const shared = [await conversation([ann, dora]), await conversation([dora, ann])];
    // In a larger conversation, only members who have joined it are notified.
    const crowd = Array.from({ length: 99 }, (_, n) => ({ name: `${n} apart ${isJoined}` }));
    const large = await conversation([ann, far, ...crowd]);
    await tab.must("join_conversation", { conversationId: shared[0] });
    const { success, ...away } = await ann.must("set_status", { status: "away", text: "at lunch" });
    assert.ok(success);
    for (const one of [dora, tab]) {
      await until(() => one.all("status").length >= 1, `the status at ${one.name}`);
      assert.deepEqual(one.all("status"), [away]);
    }
    // A member who has just connected can request it without joining.
    const back = await person(t, servers().at(-1), dora.name);
    for (const conversationId of shared) {
      assert.deepEqual((await back.must("statuses", { conversationId })).statuses, [away]);
    }
    await far.must("join_conversation", { conversationId: large });
    const { timestamp } = await ann.must("set_status", { status: "online" });
    for (const one of [dora, tab, back, far]) {
      await until(() => one.all("status").at(-1)?.timestamp === timestamp, `the next status at ${one.name}`);
    }
    assert.equal(far.all("status").length, 1, "not told before it had joined");
    assert.deepEqual(eve.all("status"), []);
  });

  test("members get updates of conversations they have not joined, once", async (t) => {
    const [here, there] = servers();
    const ann = await person(t, here, `ann ${isJoined}`);
    const bob = await person(t, there, `bob ${isJoined}`);
    const tab = await person(t, here, bob.name);
    const eve = await person(t, there, `eve ${isJoined}`);
    const id = await conversation([ann, bob], "One");
    const expectNews = async (one, expected) => {
      await until(() => news(one, id).length >= expected.length, `${expected.at(-1)} for ${one.name}`);
      assert.deepEqual(news(one, id), expected);
    };
    const [both, all] = [[ann.name, bob.name], [ann.name, bob.name, eve.name]].map((names) => names.join(" "));
    const expected = [`One of ${both}`];
    for (const one of [bob, tab]) await expectNews(one, expected);
    await ann.must("rename_conversation", { conversationId: id, title: "Two" });
    expected.push(`Two of ${both}`);
    for (const one of [bob, tab]) await expectNews(one, expected);
    await ann.must("add_member", { conversationId: id, userId: eve.name });
    await expectNews(eve, [`Two of ${all}`]);
    await ann.must("remove_member", { conversationId: id, userId: bob.name });
    expected.push(`Two of ${ann.name} ${eve.name}`);
    for (const one of [bob, tab]) await expectNews(one, expected);
    await ann.must("delete_conversation", { conversationId: id });
    await expectNews(eve, [`Two of ${all}`, "deleted"]);
    // A later event shows that no other has arrived.
    const later = await conversation([ann, bob, eve]);
    for (const one of [bob, tab, eve]) await until(() => news(one, later).length > 0, "the next conversation");
    for (const one of [bob, tab]) assert.deepEqual(news(one, id), expected);
    assert.deepEqual(news(eve, id), [`Two of ${all}`, "deleted"]);
    assert.deepEqual(news(ann, id), [], "who does it has the answer");
  });

  test("removed members and members of deleted conversations get nothing later", async (t) => {
    const { people, conversationId } = await gathered(t, servers().slice(0, 2), ["ann 2", "bob 2", "carl 2"].map((name) => `${name} ${isJoined}`));
    const [ann, bob, carl] = people;
    await ann.must("message", { conversationId, content: "before" });
    await until(() => bob.all("message").length === 1, "a message");
    await ann.must("remove_member", { conversationId, userId: bob.name });
    for (let n = 0; n < 10; n++) await ann.must("message", { conversationId, content: "after" });
    await until(() => carl.all("message").length === 11, "all messages");
    // Bob is notified of the removal after the last message that he gets.
    await until(() => news(bob, conversationId).some((members) => !members.includes(bob.name)), "the removal");
    const fence = await conversation([ann, bob]);
    await until(() => news(bob, fence).length === 1, "the next conversation");
    assert.deepEqual(bob.all("message").map(({ content }) => content), ["before"]);
    assert.equal((await ask(bob.socket, "presence", { conversationId })).error.code, "NOT_FOUND");
    await until(async () => !(await present(ann, conversationId)).includes(bob.name), "his absence");
    await ann.must("delete_conversation", { conversationId });
    await until(() => carl.all("conversation_deleted").length === 1, "the end");
    assert.equal((await ask(carl.socket, "presence", { conversationId })).error.code, "NOT_FOUND");
  });

  test("users removed, revoked or blocked are out at other servers in a second", async (t) => {
    const [here, there] = servers();
    const localAddress = `127.0.0.${unused++}`;
    const ann = await person(t, here, `ann 5 ${isJoined}`);
    const witness = await person(t, there, `witness ${isJoined}`);
    const removed = await person(t, there, `removed ${isJoined}`);
    const revoked = await person(t, there, `revoked ${isJoined}`);
    const blocked = await person(t, there, `blocked ${isJoined}`, { localAddress });
    const all = [ann, witness, removed, revoked, blocked];
    const conversationId = await conversation(all);
    for (const one of all) await one.must("join_conversation", { conversationId });
    const received = (one) => one.all("message").length + one.all("typing").length;
    let isOver = false;
    const speaking = (async () => {
      for (let n = 0; !isOver; n++) {
        await ann.must("message", { conversationId, content: `${n}` });
        await ann.must("typing", { conversationId, isTyping: n % 2 === 0 });
        await sleep(50); // Pace of a user who types without pauses.
      }
    })();
    try {
      for (const one of all.slice(1)) await until(() => received(one) > 0, `what is said, at ${one.name}`);
      const disconnected = farewell(revoked.socket);
      await ann.must("remove_member", { conversationId, userId: removed.name });
      const isRemoved = () => news(removed, conversationId).some((members) => !members.includes(removed.name));
      await until(isRemoved, "the removal", PROMISED);
      const revocation = await call(here.url, "POST", "/api/v1/revocations", { userId: revoked.name });
      assert.equal(revocation.status, 200, JSON.stringify(revocation));
      await until(() => !revoked.socket.connected, "the revocation", PROMISED);
      assertRevoked(revoked.socket, await disconnected);
      const block = await call(here.url, "POST", "/api/v1/blocks", { cidr: localAddress, reason: "tests" });
      assert.equal(block.status, 201, JSON.stringify(block));
      await until(() => !blocked.socket.connected, "the block", PROMISED);
      const out = [removed, revoked, blocked];
      const before = out.map(received);
      const seen = received(witness);
      await until(() => received(witness) >= seen + 10, "what is said after that");
      assert.deepEqual(out.map(received), before);
      assert.equal((await ask(removed.socket, "presence", { conversationId })).error.code, "NOT_FOUND");
    } finally {
      isOver = true;
      await speaking;
    }
  });

  test("joins and departures are announced at all servers", async (t) => {
    const names = [`ann 3 ${isJoined}`, `bob 3 ${isJoined}`];
    const { people, conversationId } = await gathered(t, servers().slice(0, 2), names);
    const [ann, bob] = people;
    // From here on each server knows the users at the other.
    await acquainted(people, conversationId);
    const events = ["user_joined", "user_left", "user_disconnected"];
    const presenceEvents = () => ann.heard.filter(([event, { userId }]) => events.includes(event) && userId === bob.name);
    const order = [];
    const from = presenceEvents().length;
    const tells = async (event) => {
      order.push(event);
      await until(() => presenceEvents().length >= from + order.length, event);
      assert.deepEqual(presenceEvents().slice(from).map(([event]) => event), order);
    };
    await bob.must("leave_conversation", { conversationId });
    await tells(isJoined ? "user_left" : "user_disconnected");
    await bob.must("join_conversation", { conversationId });
    await tells("user_joined");
    bob.socket.io.engine.close();
    await tells("user_disconnected");
    assert.deepEqual(await present(ann, conversationId), [ann.name]);
  });

  test("all servers have the same read position", async (t) => {
    const [here, there] = servers();
    const ann = await person(t, here, `ann 4 ${isJoined}`);
    const [bob, tab] = [await person(t, here, `bob 4 ${isJoined}`), await person(t, there, `bob 4 ${isJoined}`)];
    const conversationId = await conversation([ann, bob]);
    for (let n = 0; n < 3; n++) await ann.must("message", { conversationId, content: `${n}` });
    // The users in the conversation are notified at all servers, and so are the user's other tabs.
    const eve = await person(t, there, `eve 4 ${isJoined}`);
    await ann.must("add_member", { conversationId, userId: eve.name });
    for (const one of [ann, bob, eve]) {
      const isIn = async () => (await ask(one.socket, "join_conversation", { conversationId })).success;
      await until(isIn, `${one.name} in the conversation`);
    }
    await bob.must("mark_read", { conversationId, seq: 2 });
    const { conversations } = await tab.must("conversations", {});
    const { readSeq, unread } = conversations.find(({ id }) => id === conversationId);
    assert.deepEqual([readSeq, unread], [2, 1]);
    await bob.must("set_notification_level", { conversationId, level: "none" });
    if (isJoined) {
      for (const one of [tab, eve, ann]) {
        await until(() => one.all("message_read").length === 1, `the mark at ${one.name}`);
        assert.deepEqual(one.all("message_read"), [{ conversationId, userId: bob.name, seq: 2 }]);
      }
      await until(() => tab.all("notification_level").length === 1, "the level in the other tab");
      assert.deepEqual(tab.all("notification_level"), [{ conversationId, level: "none" }]);
      for (const one of [ann, eve]) assert.deepEqual(one.all("notification_level"), []);
    }
  });
}
