// Revocations: they apply to live sockets immediately, after a restart, and for as long as the
// revoked credentials could be accepted. Stock clients against the server itself.
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LOBBY, assertRevoked, call, enter, farewell, keyed, logged, refused, server, soon } from "./people.mjs";
import { ask, command, next, outcome, startServer, temporary, until, within } from "./support.mjs";
import { now, token } from "./tokens.mjs";

const YEAR_S = 366 * 86_400;
const revoke = async (url, body) => {
  const answer = await call(url, "POST", "/api/v1/revocations", body);
  assert.equal(answer.status, 200, JSON.stringify(answer));
  return answer.body;
};

describe("revocations", () => {
  test("a revoked user is notified and stays out, also after a restart", async (t) => {
    const env = { ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}` };
    const before = await startServer({ ...keyed, ...env });
    const people = {
      jti: ["t1", token({ sub: "a", jti: "t1" })],
      sessionId: ["s1", token({ sub: "b", sid: "s1" })],
      userId: ["c", token({ sub: "c" })],
      role: ["tester", token({ sub: "d", roles: ["user", "tester"] })],
    };
    try {
      const bystander = await enter(t, before.url, { auth: { token: token({ sub: "e", jti: "t2" }) } });
      for (const [n, [kind, [value, own]]] of Object.entries(people).entries()) {
        const transports = [["polling"], ["websocket"]][n % 2];
        const { socket } = await enter(t, before.url, { auth: { token: own }, reconnection: true, transports });
        const disconnects = farewell(socket);
        const answer = await call(before.url, "POST", "/api/v1/revocations", { [kind]: value });
        assert.equal(answer.status, 200, JSON.stringify(answer));
        assertRevoked(socket, await disconnects);
        await refused(t, before.url, { auth: { token: own } }, kind);
      }
      assert.equal(bystander.socket.connected, true);
    } finally {
      assert.equal(await before.stop("SIGKILL"), "SIGKILL");
    }
    const after = await server(t, env);
    for (const [kind, [, own]] of Object.entries(people)) {
      await refused(t, after.url, { auth: { token: own } }, kind);
    }
    await enter(t, after.url, { auth: { token: token({ sub: "e", jti: "t2" }) } });
  });

  test("revoked or blocked users receive nothing that is sent after the answer", async (t) => {
    const { url } = await server(t);
    const { socket: ann } = await enter(t, url, { auth: { token: token() } });
    await ask(ann, "join_conversation", { conversationId: LOBBY });
    /** The current text, and how many such messages were sent. */
    let [marker, count, isOver] = ["at first", 0, false];
    // Several at a time, so that some are always in flight.
    const speaking = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        const content = marker;
        assert.equal((await ask(ann, "message", { conversationId: LOBBY, content })).success, true);
        if (content === marker) count += 1;
      }
    });
    /** Connects a user until `shutOut` has been answered. */
    const receivesUntil = async (name, options, shutOut) => {
      const { socket } = await enter(t, url, options);
      const disconnects = farewell(socket);
      const contents = [];
      socket.on("message", ({ content }) => contents.push(content));
      await ask(socket, "join_conversation", { conversationId: LOBBY });
      [marker, count] = [`before the end of ${name}`, 0];
      await until(() => contents.includes(marker), `what is said to ${name}`);
      await shutOut();
      [marker, count] = [`after the end of ${name}`, 0];
      await disconnects;
      await until(() => count >= 20, "what is said after that");
      assert.ok(!contents.includes(marker), name);
    };
    try {
      for (const transport of ["polling", "websocket"]) {
        const claims = {
          jti: (jti) => ({ jti }),
          sessionId: (sid) => ({ sid }),
          userId: (sub) => ({ sub }),
          role: (role) => ({ roles: ["user", role] }),
        };
        for (const [kind, having] of Object.entries(claims)) {
          const name = `${kind}-${transport}`;
          const options = { auth: { token: token({ sub: `who has ${name}`, ...having(name) }) }, transports: [transport] };
          await receivesUntil(name, options, () => revoke(url, { [kind]: name }));
        }
      }
      const elsewhere = { auth: { token: token({ sub: "bob" }) }, transports: ["websocket"], localAddress: "127.0.0.2" };
      await receivesUntil("a network", elsewhere, async () => {
        const answer = await call(url, "POST", "/api/v1/blocks", { cidr: "127.0.0.2", reason: "tests" });
        assert.equal(answer.status, 201, JSON.stringify(answer));
      });
    } finally {
      isOver = true;
      await Promise.all(speaking);
    }
  });

  test("the role guest covers all guests: they are notified and kept out", async (t) => {
    const env = { ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}`, ROOMCAST_AUTH__GUESTS: "true" };
    const { url } = await server(t, env);
    const guest = { auth: { name: "Gil", guestKey: "0123456789abcdef" }, reconnection: true };
    const { socket, session } = await enter(t, url, guest);
    const member = await enter(t, url, { auth: { token: token() } });
    const disconnects = farewell(socket);
    const answer = await revoke(url, { role: "guest" });
    assert.deepEqual([answer.until, answer.disconnected], [null, 1]);
    assertRevoked(socket, await disconnects);
    await refused(t, url, { auth: { name: "Gil" } });
    assert.equal(member.socket.connected, true);
    const query = new URLSearchParams({ user: session.userId, event: "message", room: `conversation:${LOBBY}` });
    const why = (await call(url, "GET", `/api/v1/explain?${query}`)).body;
    assert.deepEqual([why.allowed, why.rule], [false, "the role `guest` is revoked"]);
    const output = command(["explain", "--user", session.userId, "--event", "message"], { ...keyed, ...env });
    assert.match(output.stdout, /^refused: the role `guest` is revoked\n/, output.stderr);
    await revoke(url, { role: "guest", until: soon().text });
    const back = async () => {
      while ((await call(url, "GET", `/api/v1/explain?${query}`)).body.allowed === false) {
        await sleep(20); // Poll interval.
      }
    };
    await within(back(), "the end of the revocation");
    await enter(t, url, guest);
  });

  test("a revocation ends at its time", async (t) => {
    const { url } = await server(t);
    const end = soon();
    await revoke(url, { userId: "ann", until: end.text });
    await refused(t, url, { auth: { token: token() } });
    await end.isOver();
    await enter(t, url, { auth: { token: token() } });
  });

  test("a user that is revoked while its connection is broken does not recover", async (t) => {
    const { url } = await server(t, { ROOMCAST_RECOVERY__ENABLED: "true" });
    const options = { auth: { token: token() }, reconnection: true, transports: ["websocket"] };
    const { socket } = await enter(t, url, options);
    const lost = next(socket, "disconnect");
    // The client does not reconnect until it is allowed to.
    socket.io.skipReconnect = true;
    socket.io.engine.close();
    await lost;
    await revoke(url, { userId: "ann" });
    const refusal = outcome(socket);
    socket.io.skipReconnect = false;
    socket.connect();
    assert.equal((await refusal)?.message, "unauthorized");
    assert.notEqual(socket.recovered, true);
  });

  test("a user with fewer rights or a past revocation gets nothing replayed", async (t) => {
    const env = { ROOMCAST_RECOVERY__ENABLED: "true", ROOMCAST_RECOVERY__WINDOW: "60s" };
    const { url } = await server(t, env);
    const rights = { roles: ["user", "coach"] };
    /**
     * Reconnects after `meanwhile`, and returns whether it was recovered and which events of the
     * Lobby it received.
     */
    const away = async (sub, claims, meanwhile) => {
      let own = token({ sub, ...rights });
      const auth = (give) => give({ token: own });
      const options = { auth, reconnection: true, reconnectionDelay: 50, transports: ["websocket"] };
      const { socket } = await enter(t, url, options);
      assert.equal((await ask(socket, "join_conversation", { conversationId: LOBBY })).success, true);
      const other = await enter(t, url, { auth: { token: token({ sub: "other" }) } });
      assert.equal((await ask(other.socket, "join_conversation", { conversationId: LOBBY })).success, true);
      // The received event gives it an offset for its return.
      const first = next(socket, "message");
      await ask(other.socket, "message", { conversationId: LOBBY, content: "before" });
      await first;
      const received = [];
      socket.on("message", ({ message }) => received.push(message?.content));
      const lost = next(socket, "disconnect");
      socket.io.skipReconnect = true;
      socket.io.engine.close();
      await lost;
      await ask(other.socket, "message", { conversationId: LOBBY, content: "secret" });
      await meanwhile();
      own = token({ sub, ...rights, ...claims });
      const back = next(socket, "session");
      socket.io.skipReconnect = false;
      socket.connect();
      await back;
      assert.equal((await ask(socket, "conversations", {})).success, true, "everything before it has come");
      return [socket.recovered, received.length];
    };
    assert.deepEqual(await away("ann", {}, () => {}), [true, 1], "with the same rights it goes on");
    assert.deepEqual(await away("bob", { roles: ["user"] }, () => {}), [false, 0]);
    const passing = async () => {
      const end = soon();
      await revoke(url, { userId: "carl", until: end.text });
      await end.isOver();
    };
    assert.deepEqual(await away("carl", {}, passing), [false, 0]);
  });

  test("a revocation without an end holds for the longest life of a token", async (t) => {
    const env = { ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}` };
    const before = await startServer({ ...keyed, ...env });
    const exp = now() + 20 * YEAR_S;
    const people = {
      jti: ["t1", token({ sub: "a", jti: "t1", exp })],
      sessionId: ["s1", token({ sub: "b", sid: "s1", exp })],
      userId: ["c", token({ sub: "c", exp })],
      role: ["tester", token({ sub: "d", roles: ["tester"], exp })],
    };
    const known = token({ sub: "e", jti: "t2", exp: now() + 3600 });
    try {
      for (const [kind, [value, own]] of Object.entries(people)) {
        const { until } = await revoke(before.url, { [kind]: value });
        assert.equal(until, null, `${kind} for ever`);
        await refused(t, before.url, { auth: { token: own } }, kind);
      }
      // The token with which a socket has connected is known to expire.
      await enter(t, before.url, { auth: { token: known } });
      const { until } = await revoke(before.url, { jti: "t2" });
      const left = Date.parse(until) - Date.now();
      assert.ok(left > 3600_000 && left < 3 * 3600_000, `${left} ms`);
    } finally {
      await before.stop();
    }
    const after = await server(t, env);
    for (const [kind, [, own]] of Object.entries(people)) {
      await refused(t, after.url, { auth: { token: own } }, kind);
    }
    await refused(t, after.url, { auth: { token: known } });
  });

  test("with a maximum token lifetime, revocations end after all tokens", async (t) => {
    const started = await server(t, {
      ROOMCAST_AUTH__JWT__MAX_LIFETIME: "12s",
      ROOMCAST_AUTH__JWT__LEEWAY: "0s",
      ROOMCAST_AUTH__SESSION_MAX_TTL: "2s",
      ROOMCAST_AUTH__GRACE: "0s",
    });
    const { url } = started;
    for (const [claims, reason] of [
      [{}, "no iat"],
      [{ iat: "now" }, "no iat"],
      [{ iat: now(), exp: now() + 60 }, "valid for longer than allowed"],
      [{ iat: now() + 60, exp: now() + 62 }, "valid for longer than allowed"],
    ]) {
      await refused(t, url, { auth: { token: token(claims) } }, reason);
      await logged(started, new RegExp(`refused.*reason="?${reason}`));
    }
    const lasting = (sub) => token({ sub, iat: now(), exp: now() + 12 });
    // The caller's own credentials are short-lived as well.
    const root = () => `Bearer ${token({ sub: "root", roles: ["admin"], iat: now(), exp: now() + 12 })}`;
    const own = lasting("ann");
    await enter(t, url, { auth: { token: own } });
    const answer = await call(url, "POST", "/api/v1/revocations", { userId: "ann" }, root());
    assert.equal(answer.status, 200, JSON.stringify(answer));
    const until = Date.parse(answer.body.until);
    assert.ok(until >= Date.now() && until < Date.now() + 60_000, answer.body.until);
    while (Date.now() < until + 1000) {
      await refused(t, url, { auth: { token: own } });
      await sleep(100); // Retry interval of a client.
    }
    await enter(t, url, { auth: { token: lasting("ann") } });
  });

  test("repeated attempts do not extend a session of a revoked user", async (t) => {
    const { url } = await server(t);
    const made = await call(url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 2 });
    const { sessionId } = made.body;
    const end = soon();
    await revoke(url, { userId: "eve", until: end.text });
    while (Date.now() < end.time + 500) {
      await refused(t, url, { auth: { sessionId } });
      await sleep(200); // Retry interval of a client.
    }
  });

  test("a permanently revoked session no longer exists", async (t) => {
    const env = { ROOMCAST_STORE: `sqlite:${join(temporary(), "chat.db")}` };
    const before = await startServer({ ...keyed, ...env });
    let sessionId;
    try {
      const made = await call(before.url, "POST", "/api/v1/sessions", { userId: "eve", ttlSeconds: 3600 });
      ({ sessionId } = made.body);
      const { socket } = await enter(t, before.url, { auth: { sessionId } });
      const disconnects = farewell(socket);
      const { until, disconnected } = await revoke(before.url, { sessionId });
      assert.ok(Date.parse(until) >= Date.parse(made.body.expiresAt) && disconnected === 1);
      assert.equal((await disconnects).told[0].code, "TOKEN_REVOKED");
      await refused(t, before.url, { auth: { sessionId } });
      // A later revocation with an earlier end does not restore the session.
      const end = soon();
      await revoke(before.url, { sessionId, until: end.text });
      await end.isOver();
      await refused(t, before.url, { auth: { sessionId } });
      assert.equal((await call(before.url, "DELETE", `/api/v1/sessions/${sessionId}`)).status, 404);
    } finally {
      await before.stop();
    }
    const after = await server(t, env);
    await refused(t, after.url, { auth: { sessionId } });
  });

  test("a revoked token is refused by a refresh", async (t) => {
    const { url } = await server(t);
    const { socket } = await enter(t, url, { auth: { token: token({ jti: "first" }) } });
    await revoke(url, { jti: "second" });
    const answer = await ask(socket, "auth:refresh", { token: token({ jti: "second" }) });
    assert.deepEqual([answer.success, answer.error.code], [false, "UNAUTHENTICATED"]);
    assert.equal(socket.connected, true);
  });
});
