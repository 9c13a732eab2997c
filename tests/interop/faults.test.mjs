// 50 members of four conversations chat while their server and its database are killed and paused at
// random. Afterwards it is counted: what was acknowledged is stored once, `seq` has no gap, and everybody
// has seen each message once and in order.
//
// FAULTS_SECONDS: how long it rages (default 20; `tests/run faults` for ten minutes).
// FAULTS_SEED: what happens when; each run says its own.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { Member } from "./member.mjs";
import { Supervised, faultsOfPostgres, faultsOfServer, rage, randomness } from "./nemesis.mjs";
import { startPostgres } from "./postgres.mjs";
import { DEADLINE, ask, connect, lastingPort, open } from "./support.mjs";

const MEMBERS = 50;
const LOBBY = "00000000-0000-4000-8000-000000000001";
const seconds = Number(process.env.FAULTS_SECONDS ?? 20);

/** Nobody waits for longer than a fault lasts. */
const impatient = {
  ROOMCAST_STORE__CONNECT_TIMEOUT: "1s",
  ROOMCAST_STORE__STATEMENT_TIMEOUT: "1s",
  ROOMCAST_STORE__RETRY_TIMEOUT: "1s",
  ROOMCAST_STORE__HEALTH_INTERVAL: "200ms",
};

test("nothing is lost or doubled while PostgreSQL and the server are killed and paused", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.close());
  const env = { ROOMCAST_STORE: postgres.url, ...impatient };
  await run(t, env, seconds, (random) => faultsOfPostgres(postgres, random), () => {
    const rows = postgres.query(
      "SELECT c.id, c.last_seq, count(m.seq), coalesce(max(m.seq), 0), count(DISTINCT m.client_message_id) " +
        "FROM conversations c LEFT JOIN messages m ON m.conversation_id = c.id GROUP BY c.id",
    );
    assert.equal(rows.length, 4);
    for (const [id, lastSeq, ...counts] of rows) assert.deepEqual(counts, [lastSeq, lastSeq, lastSeq], id);
  });
});

test("nothing is lost or doubled while a server with SQLite is killed and paused", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "roomcast-"));
  t.after(() => rm(folder, { recursive: true }));
  // Here clients recover their connections too, where the server has not been killed.
  const env = { ROOMCAST_STORE: `sqlite:${join(folder, "chat.db")}`, ROOMCAST_RECOVERY__ENABLED: "true" };
  await run(t, env, seconds / 2, () => ({}), () => {});
});

async function run(t, env, seconds, faultsOfDatabase, checkDatabase) {
  const seed = Number(process.env.FAULTS_SEED ?? randomInt(2 ** 32));
  t.diagnostic(`FAULTS_SEED=${seed}`);
  const random = randomness(seed);
  const port = await lastingPort();
  // Guests make the conversations.
  const guests = { ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user" };
  const server = new Supervised({ ROOMCAST_LISTEN: `127.0.0.1:${port}`, ...guests, ...env });
  const { url } = await server.start();
  t.after(() => server.kill().catch(() => {}));

  const members = await enter(t, url, random);
  const sending = members.map((member) => member.send(randomness(random() * 2 ** 32)));
  const happened = await rage(seconds, random, faultsOfServer(server, random), faultsOfDatabase(random));
  await sleep(500); // They go on for a moment after the last fault.
  for (const member of members) member.stop();
  await Promise.all(sending);
  const acked = new Map(members.flatMap((member) => [...member.acked]));
  const unacked = new Set(members.flatMap((member) => [...member.unacked]));
  const total = (name) => members.reduce((sum, { counts }) => sum + counts[name], 0);
  const account = { acknowledged: acked.size, unacknowledged: unacked.size, live: total("live"),
    connections: total("connections"), refused: total("refused"), lost: total("lost"), ...happened };
  t.diagnostic(JSON.stringify(account));

  try {
    // The auditor's connection is new: what it reads is what is stored.
    const auditor = await connect(t, io, url, { auth: identity("auditor") });
    const conversations = new Set(members.flatMap(({ timelines }) => [...timelines.keys()]));
    for (const id of conversations) {
      const last = await conclude(auditor, id, members);
      acked.set(last.content, last);
      const stored = await history(auditor, id);
      const present = members.filter((member) => member.timelines.has(id));
      await Promise.all(present.map((member) => member.catchUp(id, stored.length)));
      check(id, stored, present, acked, unacked);
    }
    checkDatabase();
    for (const member of members) member.socket.disconnect();
    assert.deepEqual(members.flatMap(({ wrong }) => wrong), []);
    assert.ok(acked.size >= MEMBERS / 5 && total("live") > acked.size, "there was something to lose");
    assert.ok(total("connections") > MEMBERS, "connections broke");
    assert.deepEqual(await server.stop(), 0);
  } catch (error) {
    console.error(`FAULTS_SEED=${seed}\n${server.output().split("\n").slice(-60).join("\n")}`);
    throw error;
  }
}

/** Everybody in the Lobby, and three conversations that every third one is a member of. */
async function enter(t, url, random) {
  const members = Array.from({ length: MEMBERS }, (_, n) => {
    const name = `member ${n}`;
    const socket = open(t, io, url, {
      auth: identity(name),
      retries: 3,
      ackTimeout: 3000,
      timeout: 3000,
      reconnection: true,
      reconnectionDelay: 50,
      reconnectionDelayMax: 500,
      transports: random() < 0.7 ? ["websocket"] : ["polling", "websocket"],
    });
    return new Member(socket, name);
  });
  const here = members.map(({ socket }) => new Promise((done) => socket.once("session", done)));
  await Promise.all(here);
  const auditor = await connect(t, io, url, { auth: identity("auditor") });
  const rooms = [0, 1, 2].map(async (third) => {
    const memberIds = members.filter((_, n) => n % 3 === third).map(({ userId }) => userId);
    const { conversation } = await ask(auditor, "create_conversation", { memberIds });
    return conversation.id;
  });
  const ids = await Promise.all(rooms);
  auditor.disconnect();
  members.forEach((member, n) => member.join([LOBBY, ids[n % 3]]));
  return members;
}

/** One more message: whoever is there gets it, and whatever has not come by before it. */
async function conclude(auditor, conversationId, members) {
  const content = `the last one of ${conversationId}`;
  const { message } = await ask(auditor, "message", { conversationId, content, clientMessageId: content });
  const without = () =>
    members.filter(({ timelines }) => timelines.has(conversationId) && !timelines.get(conversationId).has(message.seq));
  for (const end = Date.now() + DEADLINE; without().length > 0; await sleep(20)) { // The pace of asking.
    assert.ok(Date.now() < end, `${message.seq} does not reach ${without().map((member) => member.describe(conversationId))}`);
  }
  return message;
}

/** A guest who is the same after each reconnection. */
function identity(name) {
  return { name, guestKey: `the key of ${name}`.padEnd(20, "-") };
}

/** All that is stored in a conversation. */
async function history(auditor, conversationId) {
  const stored = [];
  for (let hasMore = true; hasMore; ) {
    const afterSeq = stored.at(-1)?.seq ?? 0;
    const page = await ask(auditor, "message_history", { conversationId, afterSeq, limit: 200 });
    assert.equal(page.success, true, JSON.stringify(page));
    stored.push(...page.messages);
    ({ hasMore } = page);
  }
  return stored;
}

function check(id, stored, present, acked, unacked) {
  assert.deepEqual(stored.map(({ seq }) => seq), stored.map((_, i) => i + 1), "no gap and no double");
  // The content of each message is the client's id for it.
  const contents = new Set(stored.map(({ content }) => content));
  assert.equal(contents.size, stored.length, "each is stored once");
  for (const { content } of stored) assert.ok(acked.has(content) || unacked.has(content), content);
  for (const message of acked.values()) {
    if (message.conversationId !== id) continue;
    assert.deepEqual(stored[message.seq - 1], message, "what was acknowledged is what is stored");
  }
  for (const member of present) {
    const timeline = member.timelines.get(id);
    member.close();
    assert.equal(timeline.last, stored.length, `${member.name} has seen all`);
    for (const { seq, id } of stored) assert.equal(timeline.seen.get(seq), id, `${member.name} at ${seq}`);
    // What a connection did not bring is what its own member had sent, and the acknowledgement got lost.
    const missing = [...timeline.missing].filter((seq) => !timeline.live.has(seq));
    const foreign = missing.filter((seq) => stored[seq - 1].userId !== member.userId);
    assert.deepEqual(foreign, [], `${member.name} was there and did not get them`);
  }
}
