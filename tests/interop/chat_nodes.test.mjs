// One chat on several servers, with stock clients at each, on one PostgreSQL, connected by it
// alone, by Redis and by nothing.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createAdapter } from "@socket.io/postgres-adapter";
import { Emitter as PostgresEmitter } from "@socket.io/postgres-emitter";
import { Emitter } from "@socket.io/redis-emitter";
import pg from "pg";
import {
  acquainted, by, conversation, gathered, news, nothing, person, postgres, present, seqs, startServers, typesAcross, whatIsThere, withNode,
} from "./chat_servers.mjs";
import { joinedChat, whatever } from "./chat_whatever.mjs";
import { serveNode } from "./cluster.mjs";
import { startLink } from "./link.mjs";
import { call, io } from "./people.mjs";
import { connectRedis, startNode, startRedis } from "./redis.mjs";
import { ask, metric, metricIs, next, open, until } from "./support.mjs";
import { token } from "./tokens.mjs";

/** Node servers and emitters on the servers' PostgreSQL. */
async function onPostgres(t) {
  const pool = new pg.Pool({ connectionString: postgres.url });
  // The adapter does not handle the end of its listening connection.
  pool.on("connect", (connection) => connection.on("error", () => {}));
  const node = await serveNode({ adapter: createAdapter(pool) }, () => pool.end());
  t.after(() => node.stop());
  return [new PostgresEmitter(pool), node.io];
}

joinedChat({ name: "PostgreSQL", others: onPostgres }, (joined) => {
  test("events of an external PostgreSQL emitter reach sockets of both servers", async (t) => {
    const { people, conversationId } = await gathered(t, joined().shared, ["i1", "i2"]);
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

  // A commit that notifies holds a lock of the whole database until it is complete.
  test("no transaction of a message, edit, deletion or member change notifies", async (t) => {
    const { people, conversationId } = await gathered(t, joined().started, ["n1", "n2"]);
    const log = await logged(t);
    const [one, other] = people;
    const send = (one, n) => one.must("message", { conversationId, content: `number ${n}` });
    const sent = await Promise.all(Array.from({ length: 20 }, (_, n) => send(people[n % 2], n)));
    await one.must("edit_message", { messageId: sent[0].message.id, content: "changed" });
    await one.must("delete_message", { messageId: sent[2].message.id });
    await one.must("add_member", { conversationId, userId: "n3" });
    await one.must("remove_member", { conversationId, userId: "n3" });
    for (const one of people) await until(() => one.all("message").length === 10, "the messages of the other");
    await until(() => other.all("message_edited").length === 1 && other.all("message_deleted").length === 1, "both changes");
    await until(() => news(other, conversationId).at(-1)?.endsWith(" of n1 n2"), "the members");
    const transactions = [...log().values()];
    assert.ok(transactions.some((statements) => statements.includes("pg_notify")), transactions.join("\n"));
    for (const [text, count] of [
      ["INSERT INTO messages ", 1],
      // An edit and a deletion.
      ["UPDATE messages ", 2],
      ["INSERT INTO members ", 1],
      ["DELETE FROM members ", 1],
    ]) {
      const stored = transactions.filter((statements) => statements.includes(text));
      assert.ok(stored.length >= count, `${text} in\n${transactions.join("\n")}`);
      for (const statements of stored) assert.doesNotMatch(statements, /notify/i);
    }
  });
});

/**
 * Makes PostgreSQL log its statements from now on. Returns a function that returns the statements
 * of each transaction.
 */
async function logged(t) {
  const set = (changes) => {
    for (const change of changes) postgres.query(`ALTER SYSTEM ${change}`);
    postgres.query("SELECT pg_reload_conf()");
  };
  t.after(() => set(["RESET log_statement", "RESET log_line_prefix"]));
  set(["SET log_line_prefix = '#%v#'", "SET log_statement = 'all'"]);
  // The first process of PostgreSQL reads its configuration some time after `pg_reload_conf`. New
  // connections show when, and it has signalled all others by then.
  await until(() => postgres.query("SHOW log_statement")[0][0] === "all", "the new configuration");
  return () => {
    const transactions = new Map();
    let transaction;
    for (const cells of postgres.query("SELECT pg_read_file(current_setting('data_directory') || '/../log')")) {
      const line = cells.join("\t");
      // Continuation lines of a statement have no prefix.
      transaction = /^#(\d+\/\d+)#/.exec(line)?.[1] ?? transaction;
      transactions.set(transaction, `${transactions.get(transaction) ?? ""}${line}\n`);
    }
    return transactions;
  };
}

/** Node servers and emitters on a Redis. */
async function onRedis(t, redis) {
  const client = await connectRedis(redis);
  t.after(() => client.close());
  const node = await startNode(redis, { sharded: false, key: "chat" });
  t.after(() => node.stop());
  return [new Emitter(client, { key: "chat" }), node.io];
}

joinedChat({ name: "Redis", count: 3, scheme: "redis", start: startRedis, others: onRedis }, (joined) => {
  test("an emitter reaches a user's tabs at two servers, whatever they follow", async (t) => {
    const tabs = [await person(t, joined().shared[0], "h1"), await person(t, joined().shared[1], "h1")];
    const client = await connectRedis(joined().broker);
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

  test("a missing confirmation at another server is counted", async (t) => {
    const env = { ROOMCAST_CHAT__CONFIRM_TIMEOUT: "3s" };
    const own = await startServers(t, 2, by(joined().broker), { ...env, ROOMCAST_ADAPTER__KEY: "confirm" });
    const { people, conversationId } = await gathered(t, own, ["e1", "e2", "e3"]);
    const [ann, , carl] = people;
    carl.socket.on("message", (_, confirm) => confirm?.());
    const report = next(ann.socket, "message_delivered");
    await ann.must("message", { conversationId, content: "hello", confirmDelivery: true });
    const [{ expected, delivered, timedOut }] = await report;
    assert.deepEqual([expected, delivered, timedOut], [2, 1, true]);
  });

  test("a message read from the store before its announcement is confirmed", async (t) => {
    const link = await startLink(`http://${joined().broker.address}`);
    t.after(() => link.close());
    const key = { ROOMCAST_ADAPTER__KEY: "late" };
    const late = { ...key, ROOMCAST_ADAPTER__URL: `redis://${new URL(link.url).host}` };
    const [here] = await startServers(t, 1, by(joined().broker), key);
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

  test("clients cannot enter the server namespace, and garbage is counted", async (t) => {
    const intruder = open(t, io, `${joined().shared[0].url}/roomcast`, { auth: { token: token({ sub: "g" }) } });
    const [error] = await next(intruder, "connect_error");
    assert.equal(error.message, "Invalid namespace");
    const node = await startNode(joined().broker, { sharded: false, key: "chat" });
    t.after(() => node.stop());
    const row = (result) => `roomcast_announcements_received_total{result="${result}"}`;
    const store = "00000000-0000-4000-8000-000000000009";
    const told = [
      ["malformed", ["{"]],
      ["malformed", []],
      ["malformed", [{ v: 1 }]],
      ["foreign", [JSON.stringify({ v: 1, store, is: ["changes"] })]],
      ["malformed", ["x".repeat(1 << 20)]],
    ];
    const before = await Promise.all(["malformed", "foreign"].map((result) => metric(joined().shared[2].url, row(result))));
    for (const [, args] of told) node.io.of("/roomcast").serverSideEmit("news", ...args);
    await metricIs(joined().shared[2].url, row("foreign"), (count) => count === before[1] + 1);
    await metricIs(joined().shared[2].url, row("malformed"), (count) => count === before[0] + 4);
    await typesAcross(t, joined().shared, "after garbage");
  });
});

describe("two servers without an adapter", { concurrency: false }, () => {
  let started;
  const ends = [];
  before(async () => {
    // Each server checks the presence of its peers at a third of this interval.
    const env = { ROOMCAST_PRESENCE__LEASE: "4500ms" };
    started = await startServers({ after: (end) => ends.push(end) }, 2, nothing, env);
  });
  after(async () => {
    for (const end of ends) await end();
  });

  whatever(() => started, { isJoined: false });

  test("a client gets no duplicates at a server that lags behind", async (t) => {
    const { people, conversationId } = await gathered(t, started, ["ann", "bob"]);
    const ann = people[0];
    const moved = await person(t, started[1], "bob");
    for (let n = 0; n < 5; n++) await ann.must("message", { conversationId, content: `${n}` });
    // Refused with a retry time as long as this server lags too far behind.
    let answer;
    await until(async () => (answer = await ask(moved.socket, "join_conversation", { conversationId, lastSeq: 5 })).success, "that it may join");
    assert.deepEqual(answer.messages, []);
    await ann.must("message", { conversationId, content: "the sixth" });
    await until(() => seqs(moved).includes(6), "what comes after");
    assert.deepEqual(seqs(moved), [6]);
  });
});

describe("a killed server", { concurrency: true }, () => {
  for (const [name, joined] of [["joined by PostgreSQL", whatIsThere], ["without an adapter", nothing]]) {
    test(`users of a killed server leave after its lease and the grace, ${name}`, async (t) => {
      const [lease, grace] = [8_000, 500];
      const env = { ROOMCAST_PRESENCE__LEASE: `${lease}ms`, ROOMCAST_PRESENCE__GRACE: `${grace}ms` };
      const started = await startServers(t, 3, joined, env);
      const { people, conversationId } = await gathered(t, started, [`ann ${name}`, `bob ${name}`, `carl ${name}`]);
      const [ann, bob, carl] = people;
      await acquainted(people, conversationId);
      for (const [server, gone, staying] of [[started[2], carl, [ann, bob]], [started[1], bob, [ann]]]) {
        const told = (one) => one.all("user_disconnected").filter(({ userId }) => userId === gone.name).length;
        const before = new Map(staying.map((one) => [one, told(one)]));
        const killed = Date.now();
        await server.stop("SIGKILL");
        const isTold = (one) => told(one) === before.get(one) + 1;
        await until(() => staying.every(isTold), `the end of ${gone.name}`);
        const took = Date.now() - killed;
        // More than promised, for a slow machine, but less than if the lease were counted twice.
        assert.ok(took <= lease + grace + 6_000, `${took} ms`);
        for (const one of staying) assert.ok(!(await present(one, conversationId)).includes(gone.name));
      }
    });
  }
});

test("servers of two databases on one Redis do not affect each other", async (t) => {
  const redis = await startRedis();
  t.after(() => redis.end());
  postgres.query("CREATE DATABASE other");
  const other = postgres.url.replace(/[^/]+$/, "other");
  const [[here], [there]] = await Promise.all(
    [postgres.url, other].map((url) => startServers(t, 1, { ...by(redis), ...withNode }, { ROOMCAST_STORE: url })),
  );
  const [ann, same] = [await person(t, here, "ann of two"), await person(t, there, "ann of two")];
  const conversationId = await conversation([ann]);
  await ann.must("message", { conversationId, content: "hello" });
  const heard = () => metric(there.url, 'roomcast_announcements_received_total{result="foreign"}');
  const before = await heard();
  await ann.must("mark_read", { conversationId, seq: 1 });
  await until(async () => (await heard()) > before, "what the other server tells of the mark");
  // An event for all sockets of the user follows it.
  const client = await connectRedis(redis);
  t.after(() => client.close());
  new Emitter(client, { key: "chat" }).to("user:ann of two").emit("end");
  await until(() => same.heard.some(([event]) => event === "end"), "the end");
  assert.deepEqual(same.all("message_read"), []);
  // No socket on the other server could confirm anything.
  const bob = await person(t, here, "bob of two");
  await ann.must("add_member", { conversationId, userId: bob.name });
  for (const one of [ann, bob]) await one.must("join_conversation", { conversationId });
  bob.socket.on("message", (_, confirm) => confirm?.());
  const report = next(ann.socket, "message_delivered");
  await ann.must("message", { conversationId, content: "confirmed", confirmDelivery: true });
  const [{ expected, delivered, timedOut }] = await report;
  assert.deepEqual([expected, delivered, timedOut], [1, 1, false]);
  bob.socket.disconnect();
  // Requests of services reach only one of the clusters. They are not delayed, and the other
  // cluster counts them.
  const questions = await heard();
  const { body: listed } = await call(here.url, "GET", "/api/v1/sockets");
  assert.equal(listed.missing, 0);
  assert.ok(listed.sockets.some(({ userId }) => userId === ann.name));
  for (const { userId, id } of listed.sockets) assert.ok([ann.name, bob.name].includes(userId) && id !== same.socket.id, userId);
  const { body: closed } = await call(here.url, "DELETE", `/api/v1/users/${encodeURIComponent(ann.name)}/sockets`);
  assert.deepEqual(closed, { disconnected: 1, missing: 0 });
  await until(() => !ann.socket.connected, "the end of her connection");
  await until(async () => (await heard()) >= questions + 2, "two questions that are left out");
  assert.equal(same.socket.connected, true);
  await same.must("conversations", {});
});
