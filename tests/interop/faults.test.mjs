// 50 members of four conversations chat while their server and its database are killed and
// suspended at random. Afterwards each acknowledged message is stored once, `seq` has no gap, and
// each member has received each message once and in order.
//
// FAULTS_SECONDS: duration of the faults (default 20; `tests/run faults` for ten minutes).
// FAULTS_SEED: seed of the faults; each run prints its own.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { io } from "socket.io-client";
import { check, conclude, enter, history, identity } from "./crowd.mjs";
import { Supervised, faultsOf, faultsOfPostgres, rage, randomness } from "./nemesis.mjs";
import { startPostgres } from "./postgres.mjs";
import { connect, lastingPort, temporary } from "./support.mjs";

const MEMBERS = 50;
const seconds = Number(process.env.FAULTS_SECONDS ?? 20);

/** Timeouts shorter than the faults. */
const shortTimeouts = {
  ROOMCAST_STORE__CONNECT_TIMEOUT: "1s",
  ROOMCAST_STORE__STATEMENT_TIMEOUT: "1s",
  ROOMCAST_STORE__RETRY_TIMEOUT: "1s",
  ROOMCAST_STORE__HEALTH_INTERVAL: "200ms",
};

test("nothing is lost or doubled while PostgreSQL and the server fail", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.end());
  const env = { ROOMCAST_STORE: postgres.url, ...shortTimeouts };
  await run(t, env, seconds, (random) => faultsOfPostgres(postgres, random), () => {
    const rows = postgres.query(
      "SELECT c.id, c.last_seq, count(m.seq), coalesce(max(m.seq), 0), count(DISTINCT m.client_message_id) " +
        "FROM conversations c LEFT JOIN messages m ON m.conversation_id = c.id GROUP BY c.id",
    );
    assert.equal(rows.length, 4);
    for (const [id, lastSeq, ...counts] of rows) assert.deepEqual(counts, [lastSeq, lastSeq, lastSeq], id);
  });
});

test("nothing is lost or doubled while a server with SQLite fails", async (t) => {
  // Clients recover their connections as well, unless the server was killed.
  const env = { ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}`, ROOMCAST_RECOVERY__ENABLED: "true" };
  await run(t, env, seconds / 2, () => ({}), () => {});
});

async function run(t, env, seconds, faultsOfDatabase, checkDatabase) {
  const seed = Number(process.env.FAULTS_SEED ?? randomInt(2 ** 32));
  t.diagnostic(`FAULTS_SEED=${seed}`);
  const random = randomness(seed);
  const port = await lastingPort();
  // Guests create the conversations.
  const guests = { ROOMCAST_AUTH__ROLES__GUEST__INHERITS: "user" };
  const server = new Supervised({ ROOMCAST_LISTEN: `127.0.0.1:${port}`, ...guests, ...env });
  const { url } = await server.start();
  t.after(() => server.kill().catch(() => {}));

  const members = await enter(t, url, random, MEMBERS);
  const sending = members.map((member) => member.send(randomness(random() * 2 ** 32)));
  const happened = await rage(seconds, random, [faultsOf("the server", () => server, random), faultsOfDatabase(random)]);
  await sleep(500); // Members continue for a moment after the last fault.
  for (const member of members) member.stop();
  await Promise.all(sending);
  const acked = new Map(members.flatMap((member) => [...member.acked]));
  const unacked = new Set(members.flatMap((member) => [...member.unacked]));
  const total = (name) => members.reduce((sum, { counts }) => sum + counts[name], 0);
  const account = { acknowledged: acked.size, unacknowledged: unacked.size, live: total("live"),
    connections: total("connections"), refused: total("refused"), lost: total("lost"), ...happened };
  t.diagnostic(JSON.stringify(account));

  try {
    // The auditor's connection is new, so it reads what is stored.
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
