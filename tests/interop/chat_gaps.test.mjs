// Removals and revocations at a server that has lost its database while its adapter works. Later
// messages reach neither the removed nor the revoked user. The members that stay receive all of
// them, once and in order.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { checkReceived, checksAll } from "./catalog.mjs";
import { by, conversation, news, nothing, person, postgres, startServers } from "./chat_servers.mjs";
import { QUICK, disconnectLink, startLink } from "./link.mjs";
import { call } from "./people.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { ask, next, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { SocketManager } from "../../web/packages/client/dist/index.js";

/**
 * The server gives up waiting for its database after this many seconds, or with `MOST` pending
 * steps.
 */
const BOUND = 30;
const MOST = 1024;
const OUTAGES = [
  { seconds: 5, isSwallowed: false },
  { seconds: 10, isSwallowed: true },
  { seconds: 10, isSwallowed: false, burst: MOST + 100 },
  { seconds: 40, isSwallowed: true },
  { seconds: 60, isSwallowed: false },
];
/** Maximum time for an outage and the recovery of a breaker on a slow machine. */
const TIMEOUT = 120_000;

/** Starts a server whose path to its database can be broken. */
async function startApart(t, joined, { pooler, ...env } = {}) {
  const target = pooler ? `http://${pooler.address}` : postgres.url;
  const link = await startLink(target);
  t.after(() => link.close());
  const [server] = await startServers(t, 1, joined, { ...env, ROOMCAST_STORE: `postgres://roomcast@${new URL(link.url).host}/postgres` });
  return { ...server, link };
}

/** Sends a message every 100 ms while `goesOn` returns true, and records the `seq` of each. */
async function sendWhile(ann, conversationId, sent, isRunning) {
  while (isRunning()) {
    const { message } = await ann.must("message", { conversationId, content: `number ${sent.length}` });
    sent.push(message.seq);
    await sleep(100); // Send interval.
  }
}

/** Connects a member with the client package, and records the messages of a conversation. */
async function follow(t, { url }, name, id) {
  const manager = new SocketManager(url, { auth: { token: token({ sub: name, name }) } });
  t.after(() => manager.leave());
  const feed = manager.conversation(id);
  const seqs = [];
  const shown = [];
  feed.on("messages", (messages) => seqs.push(...messages.map(({ seq }) => seq)));
  feed.on("interrupted", (isInterrupted) => shown.push(isInterrupted));
  manager.open();
  await until(() => feed.stage === "entered", "the client package to enter");
  return { feed, seqs, shown };
}

async function outage(t, here, there, { seconds, isSwallowed, burst = 0 }, name) {
  const [ann, bob, rex, eve] = [
    await person(t, here, `ann ${name}`),
    ...(await Promise.all(["bob", "rex", "eve"].map((one) => person(t, there, `${one} ${name}`)))),
  ];
  const fay = `fay ${name}`;
  const conversationId = await conversation([ann, bob, rex, eve, { name: fay }]);
  for (const one of [ann, bob, rex, eve]) await one.must("join_conversation", { conversationId });
  const packaged = await follow(t, there, fay, conversationId);
  const sent = [];
  let steps = 5;
  await sendWhile(ann, conversationId, sent, () => steps-- > 0);
  for (const one of [bob, rex, eve]) await until(() => one.all("message").length === 5, `the first messages for ${one.name}`);

  const ended = Date.now() + seconds * 1000;
  if (isSwallowed) there.link.swallow();
  else there.link.cut();
  steps = 5;
  await sendWhile(ann, conversationId, sent, () => steps-- > 0);
  await ann.must("remove_member", { conversationId, userId: bob.name });
  const { status } = await call(here.url, "POST", "/api/v1/revocations", { userId: rex.name });
  assert.equal(status, 200);
  const allowed = sent.length;
  // This needs only the membership, and the server cannot read its database instead.
  const isOut = async (one) => (await ask(one.socket, "presence", { conversationId })).success === false;
  await until(() => isOut(bob), "the sockets to leave behind the gap", TIMEOUT);
  // The revocation arrives through the adapter: the database is still unreachable.
  await until(() => !rex.socket.connected, "the revoked user to be disconnected", TIMEOUT);
  await ann.must("typing", { conversationId, isTyping: true });
  while (sent.length < burst) {
    const some = Array.from({ length: 100 }, (_, n) => ann.must("message", { conversationId, content: `burst ${n}` }));
    sent.push(...(await Promise.all(some)).map(({ message }) => message.seq).sort((a, b) => a - b));
  }
  await sendWhile(ann, conversationId, sent, () => Date.now() < ended);
  if (isSwallowed) there.link.resume({ isBroken: true });
  else there.link.restore();

  await until(() => eve.all("message").length >= sent.length, () => `${sent.length} messages, not ${eve.all("message").length}`, TIMEOUT);
  assert.deepEqual(eve.all("message").map(({ seq }) => seq), sent, "each once and in order");
  const isLong = seconds > BOUND || burst > MOST;
  assert.deepEqual(eve.all("conversation:interrupted"), isLong ? [{ conversationId }] : []);
  if (isLong) checkReceived("conversation:interrupted", eve.all("conversation:interrupted")[0]);
  await until(() => packaged.seqs.length >= sent.length && !packaged.feed.isInterrupted, "the client package", TIMEOUT);
  assert.deepEqual(packaged.seqs, sent, "the client package: each once and in order");
  assert.deepEqual(packaged.shown, isLong ? [true, false] : []);
  let retained;
  packaged.feed.on("reset", (messages) => (retained = messages.map(({ seq }) => seq)));
  assert.deepEqual(retained, sent.slice(-1000), "a listener that is added later");
  for (const one of [bob, rex]) {
    const seqs = one.all("message").map(({ seq }) => seq);
    assert.ok(seqs.length <= allowed, `${one.name} got ${seqs.length - allowed} messages too many`);
    assert.deepEqual(seqs, sent.slice(0, seqs.length));
    assert.deepEqual(one.all("conversation:interrupted"), [], "gone before");
  }
  assert.deepEqual(bob.all("typing"), [], "the sockets have left behind the gap");
  await until(() => eve.all("user_left").some(({ userId }) => userId === bob.name), "the announcement of the removal");
  await until(() => news(bob, conversationId).length > 0, "the removed user to be notified");
  assert.equal(rex.socket.connected, false);
}

// An outage is mostly waiting, so all of them run concurrently.
describe("a server that loses its database while its adapter works", { concurrency: true }, () => {
  for (const [name, start, joined] of [
    ["Redis", () => startRedis(), by],
    ["NATS", () => startBroker("nats", "-js"), (nats) => ({ ROOMCAST_ADAPTER__URL: `nats://${nats.address}`, ROOMCAST_ADAPTER__KEY: "chat" })],
    // The adapter listens on the database itself, as it must.
    ["PostgreSQL behind a pooler", () => startBroker("pgbouncer", new URL(postgres.url).port), () => ({ ROOMCAST_ADAPTER__URL: postgres.url })],
  ]) {
    describe(`joined by ${name}`, { concurrency: true }, () => {
      let broker;
      let here;
      const ends = [];
      before(async () => {
        broker = await start();
        [here] = await startServers({ after: (end) => ends.push(end) }, 1, joined(broker));
      });
      after(async () => {
        for (const end of ends) await end();
        broker?.end();
      });

      for (const one of OUTAGES) {
        const how = `${one.isSwallowed ? "swallowed" : "refused"} for ${one.seconds} s${one.burst ? ", with more messages than may wait" : ""}`;
        test(`shows removed and revoked users nothing later: ${how}`, async (t) => {
          const there = await startApart(t, joined(broker), { pooler: name.startsWith("PostgreSQL") ? broker : undefined });
          await outage(t, here, there, one, `${name} ${how}`.replace(/\W+/g, "-"));
        });
      }
    });
  }
});

test("a server without an adapter shows a removed user nothing later", async (t) => {
  const [here] = await startServers(t, 1, nothing);
  const there = await startApart(t, nothing);
  const [ann, bob, eve] = [await person(t, here, "ann apart"), await person(t, there, "bob apart"), await person(t, there, "eve apart")];
  const conversationId = await conversation([ann, bob, eve]);
  for (const one of [ann, bob, eve]) await one.must("join_conversation", { conversationId });
  there.link.cut();
  const sent = [];
  let steps = 5;
  await sendWhile(ann, conversationId, sent, () => steps-- > 0);
  await ann.must("remove_member", { conversationId, userId: bob.name });
  steps = 20;
  await sendWhile(ann, conversationId, sent, () => steps-- > 0);
  there.link.restore();
  await until(() => eve.all("message").length === sent.length, "all messages", TIMEOUT);
  assert.ok(bob.all("message").length <= 5);
});

test("a removed, disconnected user gets nothing later, even after pruning", async (t) => {
  const env = { ROOMCAST_RECOVERY__ENABLED: "true" };
  const [here] = await startServers(t, 1, nothing, env);
  const there = await startApart(t, nothing, env);
  const link = await startLink(there.url);
  t.after(() => link.close());
  const [ann, eve] = [await person(t, here, "ann away"), await person(t, there, "eve away")];
  const bob = { ...(await person(t, { url: link.url }, "bob away", QUICK)), link };
  const conversationId = await conversation([ann, bob, eve]);
  for (const one of [ann, bob, eve]) await one.must("join_conversation", { conversationId });
  const sent = [];
  let steps = 3;
  await sendWhile(ann, conversationId, sent, () => steps-- > 0);
  for (const one of [bob, eve]) await until(() => one.all("message").length === 3, `the first messages for ${one.name}`);
  await disconnectLink(bob);
  // He can be recovered as the same socket for longer than that.
  await until(() => eve.all("user_disconnected").some(({ userId }) => userId === bob.name), "the end of the grace");
  there.link.cut();
  await ann.must("remove_member", { conversationId, userId: bob.name });
  postgres.query(`DELETE FROM conversation_changes WHERE conversation_id = '${conversationId}'`);
  steps = 5;
  await sendWhile(ann, conversationId, sent, () => steps-- > 0);
  there.link.restore();
  await until(() => eve.all("message").length === sent.length, "all messages", TIMEOUT);
  const back = next(bob.socket, "connect");
  link.restore();
  await back;
  assert.equal(bob.socket.recovered, true);
  const refused = await bob.socket.emitWithAck("message_history", { conversationId });
  assert.equal(refused.error.code, "NOT_FOUND");
  assert.deepEqual(bob.all("message").map(({ seq }) => seq), sent.slice(0, 3));
});

checksAll(import.meta.url);
