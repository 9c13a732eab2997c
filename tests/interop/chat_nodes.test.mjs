// One chat on several servers: stock clients at each of them, on one PostgreSQL, joined by it alone, by Redis and by nothing.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Emitter as PostgresEmitter } from "@socket.io/postgres-emitter";
import { Emitter } from "@socket.io/redis-emitter";
import pg from "pg";
import {
  acquainted, by, confirmsAcross, conversation, gathered, news, nothing, person, postgres, present, seqs, startServers, typesAcross, whatIsThere,
} from "./chat_servers.mjs";
import { startLink } from "./link.mjs";
import { assertRevoked, call, farewell, io } from "./people.mjs";
import { connectRedis, startNode, startRedis } from "./redis.mjs";
import { ask, metric, metricIs, next, open, until } from "./support.mjs";
import { token } from "./tokens.mjs";

/** A second is promised, also where nothing joins the servers; a machine that has much else to do may take nine more. */
const PROMISED = 1_000 + 9_000;

/** The last byte of an address of this machine that nobody has come from yet. */
let unused = 2;

/** Whatever the servers are joined by. */
function whatever(servers, { isJoined }) {
  test("what all of them send, edit and delete is seen at all in one order, each once", async (t) => {
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
      // An edit comes behind its message.
      const order = one.heard.filter(([event]) => event.startsWith("message"));
      for (const [at, [event, { seq }]] of order.entries()) {
        if (event === "message" || own.has(seq)) continue;
        assert.ok(order.slice(0, at).some(([before, message]) => before === "message" && message.seq === seq));
      }
    }
  });

  test("what a user says is one at all of them, however many tabs there are, and the latest in the end", async (t) => {
    const names = ["ann", "bob", "carl"].map((name) => `${name} of ${isJoined}`);
    const { people, conversationId } = await gathered(t, servers(), names);
    const [ann, bob, carl] = people;
    const tab = await person(t, servers()[1], ann.name);
    const said = await ann.must("set_status", { status: "busy", text: "in a meeting" });
    const { success, ...status } = said;
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

  test("members hear of their conversations without being in them, each time once", async (t) => {
    const [here, there] = servers();
    const ann = await person(t, here, `ann ${isJoined}`);
    const bob = await person(t, there, `bob ${isJoined}`);
    const tab = await person(t, here, bob.name);
    const eve = await person(t, there, `eve ${isJoined}`);
    const id = await conversation([ann, bob], "One");
    const told = async (one, expected) => {
      await until(() => news(one, id).length >= expected.length, `${expected.at(-1)} for ${one.name}`);
      assert.deepEqual(news(one, id), expected);
    };
    const [both, all] = [[ann.name, bob.name], [ann.name, bob.name, eve.name]].map((names) => names.join(" "));
    const expected = [`One of ${both}`];
    for (const one of [bob, tab]) await told(one, expected);
    await ann.must("rename_conversation", { conversationId: id, title: "Two" });
    expected.push(`Two of ${both}`);
    for (const one of [bob, tab]) await told(one, expected);
    await ann.must("add_member", { conversationId: id, userId: eve.name });
    await told(eve, [`Two of ${all}`]);
    await ann.must("remove_member", { conversationId: id, userId: bob.name });
    expected.push(`Two of ${ann.name} ${eve.name}`);
    for (const one of [bob, tab]) await told(one, expected);
    await ann.must("delete_conversation", { conversationId: id });
    await told(eve, [`Two of ${all}`, "deleted"]);
    // What comes later shows that nothing else has.
    const later = await conversation([ann, bob, eve]);
    for (const one of [bob, tab, eve]) await until(() => news(one, later).length > 0, "the next conversation");
    for (const one of [bob, tab]) assert.deepEqual(news(one, id), expected);
    assert.deepEqual(news(eve, id), [`Two of ${all}`, "deleted"]);
    assert.deepEqual(news(ann, id), [], "who does it has the answer");
  });

  test("who is removed at one hears nothing that comes after at another, and nobody hears a deleted conversation", async (t) => {
    const { people, conversationId } = await gathered(t, servers().slice(0, 2), ["ann 2", "bob 2", "carl 2"]);
    const [ann, bob, carl] = people;
    await ann.must("message", { conversationId, content: "before" });
    await until(() => bob.all("message").length === 1, "a message");
    await ann.must("remove_member", { conversationId, userId: bob.name });
    for (let n = 0; n < 10; n++) await ann.must("message", { conversationId, content: "after" });
    await until(() => carl.all("message").length === 11, "all messages");
    // Bob is told of it behind the last message that he gets.
    await until(() => news(bob, conversationId).some((told) => !told.includes("bob")), "the removal");
    const fence = await conversation([ann, bob]);
    await until(() => news(bob, fence).length === 1, "the next conversation");
    assert.deepEqual(bob.all("message").map(({ content }) => content), ["before"]);
    assert.equal((await ask(bob.socket, "presence", { conversationId })).error.code, "NOT_FOUND");
    await until(async () => !(await present(ann, conversationId)).includes(bob.name), "his absence");
    await ann.must("delete_conversation", { conversationId });
    await until(() => carl.all("conversation_deleted").length === 1, "the end");
    assert.equal((await ask(carl.socket, "presence", { conversationId })).error.code, "NOT_FOUND");
  });

  test("who is removed, revoked or shut out at one is out at another within the promised second", async (t) => {
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
    const heard = (one) => one.all("message").length + one.all("typing").length;
    let isOver = false;
    const speaking = (async () => {
      for (let n = 0; !isOver; n++) {
        await ann.must("message", { conversationId, content: `${n}` });
        await ann.must("typing", { conversationId, isTyping: n % 2 === 0 });
        await sleep(50); // The pace of one who speaks without a pause.
      }
    })();
    try {
      for (const one of all.slice(1)) await until(() => heard(one) > 0, `what is said, at ${one.name}`);
      const gone = farewell(revoked.socket);
      await ann.must("remove_member", { conversationId, userId: removed.name });
      const isRemoved = () => news(removed, conversationId).some((told) => !told.includes(removed.name));
      await until(isRemoved, "the removal", PROMISED);
      const revocation = await call(here.url, "POST", "/api/v1/revocations", { userId: revoked.name });
      assert.equal(revocation.status, 200, JSON.stringify(revocation));
      await until(() => !revoked.socket.connected, "the revocation", PROMISED);
      assertRevoked(revoked.socket, await gone);
      const block = await call(here.url, "POST", "/api/v1/blocks", { cidr: localAddress, reason: "tests" });
      assert.equal(block.status, 201, JSON.stringify(block));
      await until(() => !blocked.socket.connected, "the block", PROMISED);
      const out = [removed, revoked, blocked];
      const before = out.map(heard);
      const seen = heard(witness);
      await until(() => heard(witness) >= seen + 10, "what is said after that");
      assert.deepEqual(out.map(heard), before);
      assert.equal((await ask(removed.socket, "presence", { conversationId })).error.code, "NOT_FOUND");
    } finally {
      isOver = true;
      await speaking;
    }
  });

  test("who comes and goes is told at all", async (t) => {
    const names = [`ann 3 ${isJoined}`, `bob 3 ${isJoined}`];
    const { people, conversationId } = await gathered(t, servers().slice(0, 2), names);
    const [ann, bob] = people;
    // From here on each server knows who is at the other.
    await acquainted(people, conversationId);
    const events = ["user_joined", "user_left", "user_disconnected"];
    const heard = () => ann.heard.filter(([event, { userId }]) => events.includes(event) && userId === bob.name);
    const told = [];
    const from = heard().length;
    const tells = async (event) => {
      told.push(event);
      await until(() => heard().length >= from + told.length, event);
      assert.deepEqual(heard().slice(from).map(([event]) => event), told);
    };
    await bob.must("leave_conversation", { conversationId });
    await tells(isJoined ? "user_left" : "user_disconnected");
    await bob.must("join_conversation", { conversationId });
    await tells("user_joined");
    bob.socket.io.engine.close();
    await tells("user_disconnected");
    assert.deepEqual(await present(ann, conversationId), [ann.name]);
  });

  test("how far one has read is the same at all", async (t) => {
    const [here, there] = servers();
    const ann = await person(t, here, `ann 4 ${isJoined}`);
    const [bob, tab] = [await person(t, here, `bob 4 ${isJoined}`), await person(t, there, `bob 4 ${isJoined}`)];
    const conversationId = await conversation([ann, bob]);
    for (let n = 0; n < 3; n++) await ann.must("message", { conversationId, content: `${n}` });
    await bob.must("mark_read", { conversationId, seq: 2 });
    const { conversations } = await tab.must("conversations", {});
    const { readSeq, unread } = conversations.find(({ id }) => id === conversationId);
    assert.deepEqual([readSeq, unread], [2, 1]);
    if (isJoined) {
      await until(() => tab.all("message_read").length === 1, "the mark in the other tab");
      assert.deepEqual(tab.all("message_read"), [{ conversationId, userId: bob.name, seq: 2 }]);
    }
  });
}

describe("two servers that are told of nothing but one PostgreSQL", { concurrency: false }, () => {
  let started;
  const ends = [];
  before(async () => {
    started = await startServers({ after: (end) => ends.push(end) }, 2, whatIsThere);
  });
  after(async () => {
    for (const end of ends) await end();
  });

  whatever(() => started, { isJoined: "by what is there" });

  test("who types is seen at both", (t) => typesAcross(t, started, "by PostgreSQL"));

  test("a message is confirmed by the sockets of both", (t) => confirmsAcross(t, started, ["h1", "h2", "h3"]));

  test("what others emit through PostgreSQL reaches the sockets of both", async (t) => {
    const { people, conversationId } = await gathered(t, started, ["i1", "i2"]);
    const pool = new pg.Pool({ connectionString: postgres.url });
    t.after(() => pool.end());
    const large = { text: "é".repeat(9_000), binary: Buffer.from([0, 255]) };
    new PostgresEmitter(pool).to(`conversation:${conversationId}`).emit("news", "small");
    for (const one of people) await until(() => one.all("news").length === 1, "the small event");
    new PostgresEmitter(pool).to(`conversation:${conversationId}`).emit("news", large);
    for (const one of people) {
      await until(() => one.all("news").length === 2, "the large event");
      assert.deepEqual(one.all("news"), ["small", large]);
    }
  });
});

describe("three servers joined by Redis", { concurrency: false }, () => {
  let redis;
  let started;
  const ends = [];
  before(async () => {
    redis = await startRedis();
    started = await startServers({ after: (end) => ends.push(end) }, 3, by(redis));
  });
  after(async () => {
    for (const end of ends) await end();
    redis?.end();
  });

  whatever(() => started, { isJoined: true });

  test("who types is seen at all", (t) => typesAcross(t, started, "types"));

  test("a message is confirmed by the sockets of all servers", (t) => confirmsAcross(t, started, ["d1", "d2", "d3", "d4", "d5"]));

  test("an emitter reaches the tabs of a user at two servers, whatever these follow or have followed", async (t) => {
    const tabs = [await person(t, started[0], "h1"), await person(t, started[1], "h1")];
    const client = await connectRedis(redis);
    t.after(() => client.close());
    const emitter = new Emitter(client, { key: "chat" });
    const reaches = async (n) => {
      emitter.to("user:h1").emit("news", n);
      for (const tab of tabs) await until(() => tab.all("news").includes(n), `the event ${n}`);
    };
    await reaches(0);
    const followed = { trades: { userId: "h1" }, portfolio: { userId: "h1" }, signals: {}, notifications: {} };
    for (const [n, what] of [[1, "subscribe"], [2, "unsubscribe"]]) {
      for (const tab of tabs) {
        for (const [journal, payload] of Object.entries(followed)) await tab.must(`${what}:${journal}`, payload);
      }
      await reaches(n);
    }
    for (const tab of tabs) assert.deepEqual(tab.all("news"), [0, 1, 2]);
  });

  test("who does not confirm a message at another server is counted as such", async (t) => {
    const env = { ROOMCAST_CHAT__CONFIRM_TIMEOUT: "10s" };
    const own = await startServers(t, 2, by(redis), { ...env, ROOMCAST_ADAPTER__KEY: "confirm" });
    const { people, conversationId } = await gathered(t, own, ["e1", "e2", "e3"]);
    const [ann, , carl] = people;
    carl.socket.on("message", (_, confirm) => confirm?.());
    const report = next(ann.socket, "message_delivered");
    await ann.must("message", { conversationId, content: "hello", confirmDelivery: true });
    const [{ expected, delivered, timedOut }] = await report;
    assert.deepEqual([expected, delivered, timedOut], [2, 1, true]);
  });

  test("a message is confirmed also where it is found in the store before the server is told of it", async (t) => {
    const link = await startLink(`http://${redis.address}`);
    t.after(() => link.close());
    const key = { ROOMCAST_ADAPTER__KEY: "late" };
    const late = { ...key, ROOMCAST_ADAPTER__URL: `redis://${new URL(link.url).host}` };
    const [here] = await startServers(t, 1, by(redis), key);
    const [there] = await startServers(t, 1, late);
    const { people, conversationId } = await gathered(t, [here, there], ["ann late", "bob late"]);
    const [ann, bob] = people;
    bob.socket.on("message", (_, confirm) => confirm?.());
    for (const content of ["small", "large".repeat(1_000)]) {
      const report = next(ann.socket, "message_delivered");
      const seen = bob.all("message").length;
      link.holdAnswers();
      const { message } = await ann.must("message", { conversationId, content, confirmDelivery: true });
      await until(() => bob.all("message").length > seen, "the message from the store");
      link.releaseAnswers();
      const [{ messageId, expected, delivered, timedOut }] = await report;
      assert.deepEqual([messageId, expected, delivered, timedOut], [message.id, 1, 1, false]);
    }
  });

  test("what is revoked at one ends at all", async (t) => {
    const { socket } = await person(t, started[1], "revoked");
    const gone = farewell(socket);
    await call(started[0].url, "POST", "/api/v1/revocations", { userId: "revoked" });
    assertRevoked(socket, await gone);
  });

  test("what others emit into the room of a conversation is a plain event, and moves no sequence", async (t) => {
    const { people, conversationId } = await gathered(t, started, ["f1", "f2", "f3"]);
    const [ann] = people;
    const client = await connectRedis(redis);
    t.after(() => client.close());
    const forged = { conversationId, seq: 99, content: "forged" };
    new Emitter(client, { key: "chat" }).to(`conversation:${conversationId}`).emit("message", forged);
    const node = await startNode(redis, { sharded: false, key: "chat" });
    t.after(() => node.stop());
    node.io.to(`conversation:${conversationId}`).emit("news", { of: "a Node server" });
    for (const one of people) {
      await until(() => one.all("news").length === 1 && one.all("message").length === 1, "both events");
      assert.deepEqual(one.all("message"), [forged]);
    }
    const { message } = await ann.must("message", { conversationId, content: "real" });
    assert.equal(message.seq, 1);
    for (const one of people.slice(1)) {
      await until(() => one.all("message").length === 2, "the real message");
      assert.deepEqual(one.all("message")[1], message);
    }
    const late = await person(t, started[2], "f3");
    const { messages } = await late.must("join_conversation", { conversationId, lastSeq: 0 });
    assert.deepEqual(messages, [message]);
  });

  test("clients do not come into the namespace of the servers, and what is garbage there is counted", async (t) => {
    const intruder = open(t, io, `${started[0].url}/roomcast`, { auth: { token: token({ sub: "g" }) } });
    const [error] = await next(intruder, "connect_error");
    assert.equal(error.message, "Invalid namespace");
    const node = await startNode(redis, { sharded: false, key: "chat" });
    t.after(() => node.stop());
    const row = (result) => `roomcast_announcements_heard_total{result="${result}"}`;
    const store = "00000000-0000-4000-8000-000000000009";
    const told = [
      ["malformed", ["{"]],
      ["malformed", []],
      ["malformed", [{ v: 1 }]],
      ["foreign", [JSON.stringify({ v: 1, store, is: ["changes"] })]],
      ["malformed", ["x".repeat(1 << 20)]],
    ];
    const before = await Promise.all(["malformed", "foreign"].map((result) => metric(started[2].url, row(result))));
    for (const [, args] of told) node.io.of("/roomcast").serverSideEmit("news", ...args);
    await metricIs(started[2].url, row("foreign"), (count) => count === before[1] + 1);
    await metricIs(started[2].url, row("malformed"), (count) => count === before[0] + 4);
    await typesAcross(t, started, "after garbage");
  });
});

describe("two servers without an adapter", { concurrency: false }, () => {
  let started;
  const ends = [];
  before(async () => {
    // Each looks after a third of it who is at the other.
    const env = { ROOMCAST_PRESENCE__LEASE: "9s" };
    started = await startServers({ after: (end) => ends.push(end) }, 2, nothing, env);
  });
  after(async () => {
    for (const end of ends) await end();
  });

  whatever(() => started, { isJoined: false });

  test("who has seen messages at one does not get them again at another that is behind", async (t) => {
    const { people, conversationId } = await gathered(t, started, ["ann", "bob"]);
    const ann = people[0];
    const moved = await person(t, started[1], "bob");
    for (let n = 0; n < 5; n++) await ann.must("message", { conversationId, content: `${n}` });
    const { messages } = await moved.must("join_conversation", { conversationId, lastSeq: 5 });
    assert.deepEqual(messages, []);
    await ann.must("message", { conversationId, content: "the sixth" });
    await until(() => seqs(moved).includes(6), "what comes after");
    assert.deepEqual(seqs(moved), [6]);
  });
});

test("servers of two databases on one Redis have nothing to do with each other", async (t) => {
  const redis = await startRedis();
  t.after(() => redis.end());
  postgres.query("CREATE DATABASE other");
  const other = postgres.url.replace(/[^/]+$/, "other");
  const [[here], [there]] = await Promise.all(
    [postgres.url, other].map((url) => startServers(t, 1, by(redis), { ROOMCAST_STORE: url })),
  );
  const [ann, same] = [await person(t, here, "ann of two"), await person(t, there, "ann of two")];
  const conversationId = await conversation([ann]);
  await ann.must("message", { conversationId, content: "hello" });
  const heard = () => metric(there.url, 'roomcast_announcements_heard_total{result="foreign"}');
  const before = await heard();
  await ann.must("mark_read", { conversationId, seq: 1 });
  await until(async () => (await heard()) > before, "what the other server tells of the mark");
  // What is for all sockets of the user comes behind it.
  const client = await connectRedis(redis);
  t.after(() => client.close());
  new Emitter(client, { key: "chat" }).to("user:ann of two").emit("end");
  await until(() => same.heard.some(([event]) => event === "end"), "the end");
  assert.deepEqual(same.all("message_read"), []);
  // What services ask of the one is not asked of the other, which holds nothing up and counts that it was asked.
  const questions = await heard();
  const { body: listed } = await call(here.url, "GET", "/api/v1/sockets");
  assert.deepEqual([listed.sockets.map(({ userId }) => userId), listed.missing], [[ann.name], 0]);
  const { body: closed } = await call(here.url, "DELETE", `/api/v1/users/${encodeURIComponent(ann.name)}/sockets`);
  assert.deepEqual(closed, { disconnected: 1, missing: 0 });
  await until(() => !ann.socket.connected, "the end of her connection");
  await until(async () => (await heard()) >= questions + 2, "two questions that are left out");
  assert.equal(same.socket.connected, true);
  await same.must("conversations", {});
});
