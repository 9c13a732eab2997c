// Several processes on one PostgreSQL: what is revoked or blocked at one holds at all. Stock clients
// against the server itself.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assertRevoked, call, enter, farewell, io, refused, server } from "./people.mjs";
import { startPostgres } from "./postgres.mjs";
import { DEADLINE, next, open, until, within } from "./support.mjs";
import { token } from "./tokens.mjs";

let postgres;
before(async () => (postgres = await startPostgres()));
after(() => postgres?.close());

/** Two servers on one database. */
const servers = (t, env = {}) =>
  Promise.all([1, 2].map(() => server(t, { ROOMCAST_STORE: postgres.url, ROOMCAST_STORE__RETRY_TIMEOUT: "1s", ...env })));

/** Tries until it is let in. */
async function admitted(t, url, options) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const socket = open(t, io, url, options);
    const refusal = new Promise((done) => socket.once("connect_error", done));
    const error = await Promise.race([next(socket, "session").then(() => undefined), refusal]);
    socket.disconnect();
    if (!error) return;
    if (Date.now() > end) throw error;
    await sleep(100); // The pace of a client that tries again.
  }
}

describe("several servers on one database", { concurrency: false }, () => {
  test("what is revoked at one is told, disconnected and refused at the other", async (t) => {
    const [here, there] = await servers(t);
    const people = {
      jti: ["n1", token({ sub: "a", jti: "n1" })],
      sessionId: ["s1", token({ sub: "b", sid: "s1" })],
      userId: ["c", token({ sub: "c" })],
      role: ["tester", token({ sub: "d", roles: ["user", "tester"] })],
    };
    const bystander = await enter(t, there.url, { auth: { token: token({ sub: "e", jti: "n2" }) } });
    for (const [n, [kind, [value, own]]] of Object.entries(people).entries()) {
      const transports = [["polling"], ["websocket"]][n % 2];
      const { socket } = await enter(t, there.url, { auth: { token: own }, reconnection: true, transports });
      const gone = farewell(socket);
      const answer = await call(here.url, "POST", "/api/v1/revocations", { [kind]: value });
      assert.equal(answer.status, 200, JSON.stringify(answer));
      assert.equal(answer.body.disconnected, 0, "nobody of them is here");
      assertRevoked(socket, await gone);
      await refused(t, there.url, { auth: { token: own } }, kind);
    }
    assert.equal(bystander.socket.connected, true);
  });

  test("the end of a session at one is the end of its sockets at the other", async (t) => {
    const [here, there] = await servers(t);
    const made = await call(here.url, "POST", "/api/v1/sessions", { userId: "f", roles: ["user"], ttlSeconds: 60 });
    const { sessionId } = made.body;
    const { socket } = await enter(t, there.url, { auth: { sessionId } });
    const gone = farewell(socket);
    const ended = await call(here.url, "DELETE", `/api/v1/sessions/${sessionId}`);
    assert.equal(ended.status, 204);
    const { told, reason } = await gone;
    assert.deepEqual([told.map(({ code }) => code), reason], [["TOKEN_REVOKED"], "io server disconnect"]);
    await refused(t, there.url, { auth: { sessionId } });
  });

  test("one that is taken back at the other ends at both", async (t) => {
    const [here, there] = await servers(t);
    const own = { auth: { token: token({ sub: "g" }) } };
    const { socket } = await enter(t, there.url, own);
    const gone = farewell(socket);
    await call(here.url, "POST", "/api/v1/revocations", { userId: "g" });
    await gone;
    await refused(t, here.url, own);
    const until = new Date(Date.now() + 300).toISOString();
    const answer = await call(there.url, "POST", "/api/v1/revocations", { userId: "g", until });
    assert.equal(answer.status, 200, JSON.stringify(answer));
    await admitted(t, there.url, own);
    await admitted(t, here.url, own);
  });

  test("what is revoked after the database was away is taken over too", async (t) => {
    const [here, there] = await servers(t);
    const { socket } = await enter(t, there.url, { auth: { token: token({ sub: "h" }) } });
    const gone = farewell(socket);
    await postgres.stop();
    const refusal = await call(here.url, "POST", "/api/v1/revocations", { userId: "h" });
    assert.equal(refusal.status, 503, "nothing is promised that is not stored");
    assert.equal(socket.connected, true);
    await postgres.start();
    const stored = async () => (await call(here.url, "POST", "/api/v1/revocations", { userId: "h" })).status === 200;
    await until(stored, "the revocation");
    assert.deepEqual((await gone).told.map(({ code }) => code), ["TOKEN_REVOKED"]);
  });

  test("a network that is blocked at one is disconnected and shut out at the other, until it is unblocked", async (t) => {
    const [here, there] = await servers(t);
    const own = { auth: { token: token({ sub: "j" }) } };
    const { socket } = await enter(t, there.url, own);
    const gone = new Promise((done) => socket.once("disconnect", done));
    const blocked = await call(here.url, "POST", "/api/v1/blocks", { cidr: "127.0.0.1", reason: "tests" });
    assert.equal(blocked.status, 201, JSON.stringify(blocked));
    await within(gone, "disconnect");
    const shut = await fetch(`${there.url}/socket.io/?EIO=4&transport=polling`);
    assert.equal(shut.status, 403);
    const listed = await call(there.url, "GET", "/api/v1/blocks");
    assert.deepEqual(listed.body.blocks.map(({ id }) => id), [blocked.body.id]);
    const freed = await call(there.url, "DELETE", `/api/v1/blocks/${blocked.body.id}`);
    assert.equal(freed.status, 204);
    await admitted(t, there.url, own);
    await admitted(t, here.url, own);
    // Taken away before the server that made it has looked for it.
    const made = await call(here.url, "POST", "/api/v1/blocks", { cidr: "192.0.2.0/24", reason: "tests" });
    postgres.query("DELETE FROM blocks");
    const blocks = async () => (await call(here.url, "GET", "/api/v1/blocks")).body.blocks;
    await until(async () => (await blocks()).every(({ id }) => id !== made.body.id), "the end of the block");
  });
});
