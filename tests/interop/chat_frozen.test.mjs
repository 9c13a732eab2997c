// A server that was suspended while another one revoked a user and removed a member. After it
// resumes, it sends neither of them anything later, and the others everything, once and in order.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { conversation, nothing, person, postgres, startServers } from "./chat_servers.mjs";
import { startLink } from "./link.mjs";
import { call } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { ask, metricIs, until } from "./support.mjs";

/** Time in milliseconds for which a server is suspended, longer than it waits for an answer of a broker. */
const SUSPENDED = 6000;
/** Time in milliseconds in which a server sends a message to its broker. */
const ANSWER = 200;
/** Number of events of each kind before, and of each kind after the revocation. */
const COUNT = 20;

async function must(url, path, body) {
  const { status, body: answer } = await call(url, "POST", `/api/v1/${path}`, body);
  assert.equal(status, 200, JSON.stringify(answer));
}

async function freeze(t, here, there, name, transport, link) {
  const isJoined = link !== undefined;
  const ann = await person(t, here, `ann ${name}`);
  const at = (one) => person(t, there, `${one} ${name}`, { transports: [transport] });
  const [rex, bob, eve] = [await at("rex"), await at("bob"), await at("eve")];
  const conversationId = await conversation([ann, rex, bob, eve]);
  for (const one of [ann, rex, bob, eve]) await one.must("join_conversation", { conversationId });
  const sent = [];
  const send = async (phase) => {
    for (let n = 0; n < COUNT; n++) {
      sent.push((await ann.must("message", { conversationId, content: phase })).message.seq);
      await must(here.url, "emit", { event: "news", args: [{ phase, n }], users: [rex.name, bob.name, eve.name] });
    }
  };
  await send("before");
  const hasAll = (one) => one.all("message").length >= sent.length && (!isJoined || one.all("news").length >= sent.length);
  for (const one of [rex, bob, eve]) await until(() => hasAll(one), `the first events for ${one.name}`);

  // The server waits for an answer of the broker, which arrives while it stands still.
  link?.holdAnswers();
  await eve.must("message", { conversationId: await conversation([eve]), content: "in flight" });
  await sleep(ANSWER);
  await there.pause();
  link?.releaseAnswers();
  // The user's own commands wait as well.
  const { socket } = rex;
  for (let n = 0; n < COUNT; n++) socket.emit("message", { conversationId, content: "revoked" });
  await must(here.url, "revocations", { userId: rex.name });
  await ann.must("remove_member", { conversationId, userId: bob.name });
  await send("after");
  await sleep(SUSPENDED);
  there.resume();

  await until(() => hasAll(eve), () => `all events for Eve, not ${eve.all("message").length}`);
  await until(() => !socket.connected, "the revoked user to be disconnected");
  const { messages } = await eve.must("message_history", { conversationId, limit: 100 });
  const leaks = {
    messagesOfRevoked: rex.all("message").length - COUNT,
    eventsOfRevoked: rex.all("news").length - COUNT,
    messagesOfRemoved: bob.all("message").length - COUNT,
    commandsOfRevoked: messages.filter(({ content }) => content === "revoked").length,
  };
  const none = { messagesOfRevoked: 0, eventsOfRevoked: isJoined ? 0 : -COUNT, messagesOfRemoved: 0, commandsOfRevoked: 0 };
  assert.deepEqual(leaks, none, name);
  assert.deepEqual(eve.all("message").map(({ seq }) => seq), sent, "each once and in order");
  if (isJoined) assert.deepEqual(eve.all("news").slice(COUNT).map(({ n }) => n), [...Array(COUNT).keys()]);
  const errors = rex.all("error").map(({ code }) => code);
  // A connection that closes between two polls does not get the error.
  assert.ok(errors.join() === "TOKEN_REVOKED" || (transport === "polling" && errors.length === 0), errors.join());
  assert.match(there.output(), /this process stood still/);
}

describe("a server that was suspended", { concurrency: true }, () => {
  for (const [name, start, urlOf] of [
    ["Redis", () => startRedis(), (address) => `redis://${address}`],
    ["NATS", () => startBroker("nats", "-js"), (address) => `nats://${address}`],
    ["PostgreSQL", () => ({ address: new URL(postgres.url).host }), (address) => `postgres://roomcast@${address}/postgres`],
    ["nothing", () => {}],
  ]) {
    describe(`joined by ${name}`, () => {
      let broker;
      before(async () => (broker = await start()));
      after(() => broker?.end?.());
      for (const transport of ["websocket", "polling"]) {
        test(`sends revoked and removed users nothing later: ${transport}`, async (t) => {
          const link = broker && (await startLink(`tcp://${broker.address}`));
          t.after(() => link?.close());
          const joined = (url) => (broker ? { ROOMCAST_ADAPTER__URL: urlOf(new URL(url).host), ROOMCAST_ADAPTER__KEY: "chat" } : nothing);
          const [here] = await startServers(t, 1, joined(`tcp://${broker?.address}`));
          const [there] = await startServers(t, 1, joined(link?.url));
          await freeze(t, here, there, `${name}-${transport}`, transport, link);
        });
      }
    });
  }

  test("catches up while commands use all connections to its database", async (t) => {
    const own = await startPostgres();
    t.after(() => own.end());
    const [there] = await startServers(t, 1, nothing, { ROOMCAST_STORE: own.url });
    const people = await Promise.all([...Array(COUNT).keys()].map((n) => person(t, there, `busy ${n}`)));
    // The answers to the queries arrive while the process stands still.
    const release = await own.lock(t, "conversations");
    const answers = people.map((one) => ask(one.socket, "conversations", {}));
    await metricIs(there.url, 'roomcast_events_received_total{event="conversations"}', (count) => count === COUNT);
    await until(() => own.query("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'").length > 0, "a query that waits");
    await there.pause();
    release();
    await sleep(SUSPENDED);
    there.resume();
    // Those that have waited for a connection for too long are answered with an error.
    const all = await Promise.all(answers);
    for (const answer of all) assert.ok("success" in answer, JSON.stringify(answer));
    assert.ok(all.some(({ success }) => success), JSON.stringify(all));
    assert.match(there.output(), /this process stood still/);
    assert.doesNotMatch(there.output(), /could not catch up/);
  });

  test("closes connections if its database does not answer, and serves clients when it does", async (t) => {
    const link = await startLink(postgres.url);
    t.after(() => link.close());
    const ROOMCAST_STORE = `postgres://roomcast@${new URL(link.url).host}/postgres`;
    const [there] = await startServers(t, 1, nothing, { ROOMCAST_STORE });
    const ann = await person(t, there, "ann cut off");
    link.swallow();
    await there.pause();
    // Clients that wait for nothing disconnect when they miss a ping.
    ann.socket.emit("conversations", {});
    await sleep(SUSPENDED);
    there.resume();
    await until(() => !ann.socket.connected, "the connection to be closed");
    link.resume({ isBroken: true });
    await until(() => /caught up after this process stood still/.test(there.output()), "the server to catch up");
    const bob = await person(t, there, "bob cut off");
    await bob.must("create_conversation", { title: "later", memberIds: [] });
  });
});
