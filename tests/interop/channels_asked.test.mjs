// Channels whose backend is asked who may follow: requests, answers that expire, failures and
// revocations, with the official client.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { checkReceived } from "./catalog.mjs";
import {
  KINDS, MISSING, ORDER, SECRET, YES, asking, configured, event, follow, followLater, must, no, publish, record, reload, reply, revoke, settle, simple,
  startBackend, user, withBackend, yes,
} from "./channel_backend.mjs";
import { QUICK, disconnectLink, startLink } from "./link.mjs";
import { enter, server } from "./people.mjs";
import { ask, command, lastingPort, next, until } from "./support.mjs";
import { token } from "./tokens.mjs";

const OLDER = "the secret before it, of more than thirty-two bytes";
const failing = reply({}, 503);

function assertUnavailable({ success, error }, what) {
  assert.deepEqual([success, error?.code], [false, "BACKEND_UNAVAILABLE"], what);
  assert.ok(Number.isInteger(error.retryAfter) && error.retryAfter > 0, `${what}: ${JSON.stringify(error)}`);
}

describe("channels of a backend that is asked", () => {
  test("request is signed and has the channel, its parts and the user", async (t) => {
    const backend = await startBackend(t);
    const section = `[ask]\nurl = "${backend.url}"\nsecret = "${SECRET}"\nprevious_secret = "${OLDER}"\ntimeout = "30s"\n`;
    const more = `${section}concurrent = 32\ncached = 100000\nallow_private = true\n`;
    const { url } = await server(t, { ROOMCAST_CONFIG: configured(more) });
    await follow(await user(t, url, "7", { name: "Ada" }), ORDER);
    const { socket: guest, session } = await enter(t, url, { auth: { name: "Gus" } });
    await follow(guest, "orders:8:x y");
    const [first, second] = backend.asked;
    assert.deepEqual(first.json, {
      channel: ORDER,
      kind: "orders",
      parts: { customer: "7", order: "42" },
      user: { id: "7", name: "Ada", roles: ["user"], guest: false },
    });
    assert.deepEqual([second.json.channel, second.json.parts], ["orders:8:x y", { customer: "8", order: "x y" }]);
    assert.deepEqual(second.json.user, { id: session.userId, name: "Gus", roles: ["guest"], guest: true });
    for (const { method, url, headers, body } of backend.asked) {
      assert.deepEqual([method, url, headers["content-type"]], ["POST", "/rights", "application/json"]);
      const [, time, ...proofs] = /^t=(\d+),v1=([0-9a-f]{64}),v1=([0-9a-f]{64})$/.exec(headers["roomcast-signature"]);
      const expected = [SECRET, OLDER].map((secret) => createHmac("sha256", secret).update(`${time}.`).update(body).digest("hex"));
      assert.deepEqual(proofs, expected);
      assert.ok(Math.abs(Date.now() / 1000 - Number(time)) <= 300, time);
    }
  });

  test("answer holds for all sockets of a user in a channel until it expires", async (t) => {
    const { url, backend } = await withBackend(t);
    const sockets = await Promise.all(Array.from({ length: 8 }, () => user(t, url, "7")));
    for (const socket of sockets) await follow(socket, ORDER);
    await must(sockets[0], "channel:publish", { channel: ORDER, ...event(1) });
    const { events } = await must(sockets[1], "channel:history", { channel: ORDER });
    assert.deepEqual(events.map(({ data }) => data), [{ n: 1 }]);
    assert.deepEqual(backend.users(ORDER), ["7"]);
    assert.match(backend.asked[0].headers["roomcast-signature"], /^t=\d+,v1=[0-9a-f]{64}$/);
    await follow(await user(t, url, "8"), ORDER);
    assert.deepEqual(backend.users(ORDER), ["7", "8"]);
    const channel = "orders:7:43";
    backend.answer = yes(1);
    const start = performance.now();
    await until(async () => {
      await follow(sockets[0], channel);
      await must(sockets[0], "channel:unsubscribe", { channel });
      return backend.about(channel).length === 2;
    }, "another request");
    // A follower at that moment lets the server ask again after half of the time, for which it looks
    // every 200 ms in advance.
    assert.ok(backend.about(channel)[1].at - start >= 290);
  });

  test("refusal holds until it expires, and equals that of a missing channel", async (t) => {
    const { url, backend } = await withBackend(t);
    const socket = await user(t, url, "7");
    backend.answer = no();
    for (const name of ["subscribe", "history", "publish", "subscribe"]) {
      const request = name === "publish" ? event(1) : {};
      const refused = await ask(socket, `channel:${name}`, { channel: ORDER, ...request });
      assert.equal(refused.error.code, "NOT_FOUND");
      assert.deepEqual(refused, await ask(socket, `channel:${name}`, { channel: MISSING, ...request }));
    }
    assert.deepEqual(backend.asked.map(({ json }) => json.channel), [ORDER]);
    backend.answer = no(1);
    const start = performance.now();
    const channel = "orders:7:43";
    assert.equal((await ask(socket, "channel:subscribe", { channel })).error.code, "NOT_FOUND");
    backend.answer = yes();
    await followLater(socket, { channel });
    assert.equal(backend.about(channel).length, 2);
    assert.ok(backend.about(channel)[1].at - start >= 890);
  });

  test("concurrent subscriptions of a user share one request and its outcome", async (t) => {
    const { url, backend } = await withBackend(t);
    const sockets = await Promise.all(Array.from({ length: 5 }, () => user(t, url, "7")));
    for (const [channel, answer, code] of [[ORDER, yes(), undefined], ["orders:7:43", failing, "BACKEND_UNAVAILABLE"]]) {
      backend.answer = backend.hold;
      const answers = sockets.map((socket) => ask(socket, "channel:subscribe", { channel }));
      // Events start in order, so the server has started the subscriptions.
      for (const socket of sockets) await settle(socket);
      await until(() => backend.held.length > 0, "the request");
      backend.release(answer);
      assert.deepEqual((await Promise.all(answers)).map(({ error }) => error?.code), sockets.map(() => code));
      assert.deepEqual(backend.users(channel), ["7"]);
    }
  });

  test("at most `ask.concurrent` requests are in flight, and the rest wait", async (t) => {
    const { url, backend } = await withBackend(t, { ROOMCAST_ASK__CONCURRENT: "2" });
    const socket = await user(t, url, "7");
    backend.answer = backend.hold;
    const answers = [1, 2, 3, 4, 5].map((n) => must(socket, "channel:history", { channel: `orders:7:${n}` }));
    await settle(socket);
    for (const left of [5, 4, 3, 2, 1]) {
      await until(() => backend.held.length === Math.min(left, 2), () => `requests with ${left} left`);
      yes()(backend.held.shift());
    }
    await Promise.all(answers);
    assert.deepEqual([backend.asked.length, backend.most], [5, 2]);
  });

  test("backend is not asked about users whom another rule allows", async (t) => {
    const { url, backend } = await withBackend(t);
    await follow(await user(t, url, "7"), "shared:7");
    await follow(await user(t, url, "8"), "shared:7");
    assert.deepEqual(backend.users("shared:7"), ["8"]);
  });

  test("invalid answer is BACKEND_UNAVAILABLE, and followers stay", async (t) => {
    const { url, backend } = await withBackend(t);
    const socket = await user(t, url, "7");
    const seen = record(socket);
    await follow(socket, ORDER);
    const wrong = {
      "status 500": reply(YES, 500),
      "status 403": reply(YES, 403),
      "status 201": reply(YES, 201),
      "no body": (response) => response.writeHead(204).end(),
      redirect: reply(YES, 302, { location: "/elsewhere" }),
      "no JSON": reply("yes"),
      "no object": reply([true, 60]),
      "a text": reply({ ...YES, follow: "yes" }),
      "no follow": reply({ expiresIn: 60 }),
      "no expiresIn": reply({ follow: true }),
      "another field": reply({ ...YES, publish: true }),
      "no time": yes(0),
      "an hour and a second": yes(3601),
      "a long time": no(99_999),
      "half a second": yes(0.5),
      "2 MB": reply(" ".repeat(2 << 20) + JSON.stringify(YES)),
      "a lost connection": (response) => response.destroy(),
    };
    for (const [n, [what, answer]] of Object.entries(wrong).entries()) {
      const channel = `orders:wrong:${n}`;
      backend.answer = answer;
      assertUnavailable(await ask(socket, "channel:subscribe", { channel }), what);
      await publish(url, ORDER, n);
      await until(() => seen.length > n, () => `event ${n} after ${what}`);
      // A success in between, so that the circuit breaker stays closed.
      backend.answer = yes();
      await followLater(socket, { channel });
    }
    assert.deepEqual(seen, Object.keys(wrong).map((_, n) => n));
    assert.ok(backend.asked.every(({ url }) => url === "/rights"));
  });

  test("silent, closed or private backend is BACKEND_UNAVAILABLE", async (t) => {
    const backend = await startBackend(t);
    backend.answer = backend.hold;
    const closed = `http://127.0.0.1:${await lastingPort()}/rights`;
    const secure = backend.url.replace("http:", "https:");
    for (const [url, env, connections] of [
      [secure, { ROOMCAST_ASK__ALLOW_PRIVATE: "false" }, 0],
      [secure.replace("127.0.0.1", "localhost"), { ROOMCAST_ASK__ALLOW_PRIVATE: "false" }, 0],
      [closed, {}, 0],
      [backend.url, { ROOMCAST_ASK__TIMEOUT: "500ms" }, 1],
    ]) {
      const started = await server(t, asking(url, env));
      const answer = await ask(await user(t, started.url, "7"), "channel:subscribe", { channel: ORDER });
      assertUnavailable(answer, url);
      assert.equal(backend.connections, connections, url);
    }
  });

  test("server asks again before an answer expires, and `false` ends it", async (t) => {
    const { url, backend } = await withBackend(t);
    const socket = await user(t, url, "7");
    const [received, ended] = [new Set(), new Map()];
    socket.on("changed", (_, { channel }) => received.add(channel));
    socket.on("channel:ended", ({ channel, reason }) => ended.set(channel, reason));
    backend.answer = (response, { channel, parts }) => {
      const later = parts.customer === "stays" ? yes() : no();
      (backend.about(channel).length === 1 ? yes(2) : later)(response);
    };
    let n = 0;
    const attempt = async () => {
      const followed = [];
      for (const what of ["stays", "ends", "stays", "ends"]) {
        const channel = `orders:${what}:${n++}`;
        followed.push({ channel, what, start: performance.now() });
        await follow(socket, channel);
        await sleep(50);
      }
      await sleep(2000); // The first answers expire.
      for (const { channel, what } of followed) {
        if (what === "stays") await publish(url, channel, 1);
        const isDecided = () => ended.has(channel) || received.has(channel);
        await until(isDecided, () => `an event or the end of ${channel}`);
      }
      // A busy machine can be too late for a renewal: then all is repeated.
      if (followed.some(({ channel }) => ended.get(channel) === "interrupted")) return false;
      for (const { channel, what, start } of followed) {
        assert.equal(ended.get(channel), what === "stays" ? undefined : "forbidden");
        const [, { at }] = backend.about(channel);
        assert.ok(at - start >= 790, `${at - start} ms`);
      }
      return true;
    };
    await until(attempt, () => `timely renewals, not ${[...ended.values()]}`);
  });

  test("follower is interrupted if the backend fails until its answer expires", async (t) => {
    const { url, backend } = await withBackend(t);
    const socket = await user(t, url, "7");
    const seen = record(socket);
    for (const [channel, answer] of [[ORDER, failing], ["orders:7:43", backend.hold]]) {
      backend.answer = (response) => {
        backend.answer = answer;
        yes(2)(response);
      };
      const end = next(socket, "channel:ended");
      const start = performance.now();
      const { position } = await follow(socket, channel);
      const [ended] = await end;
      assert.deepEqual(ended, { channel, reason: "interrupted" });
      checkReceived("channel:ended", ended);
      assert.ok(performance.now() - start >= 1990);
      await publish(url, channel, 1);
      backend.release(yes());
      const missed = await followLater(socket, { channel, since: position });
      assert.deepEqual([missed.forgotten, missed.events.map(({ data }) => data.n)], [undefined, [1]]);
    }
    assert.deepEqual(seen, [ORDER, "orders:7:43"].map((channel) => `${channel} interrupted`));
  });

  test("after five failures in a row clients are refused without a request", async (t) => {
    const { url, backend } = await withBackend(t);
    const socket = await user(t, url, "7");
    await follow(socket, ORDER);
    backend.answer = failing;
    let n = 0;
    const attempt = () => ask(socket, "channel:subscribe", { channel: `orders:8:${n++}` });
    await until(async () => {
      const count = backend.asked.length;
      assertUnavailable(await attempt());
      return backend.asked.length === count;
    }, "a refusal without a request");
    assert.ok(backend.asked.length >= 6, `${backend.asked.length}`);
    await follow(await user(t, url, "7"), ORDER);
    backend.answer = yes();
    await until(async () => (await attempt()).success, "the breaker to close");
  });

  test("revocation ends followers by an answer, who are asked about again", async (t) => {
    const { url, backend } = await withBackend(t);
    const channel = "shared:7";
    const sockets = await Promise.all(["7", "8", "8", "9"].map((sub) => user(t, url, sub)));
    const [owner, first, second, other] = sockets;
    for (const socket of sockets) await follow(socket, channel);
    const all = sockets.map(record);
    const interrupted = `${channel} interrupted`;
    const has = async (expected) => {
      await until(() => all.every((seen, n) => seen.length >= expected[n].length), () => JSON.stringify(all));
      for (const socket of sockets) await settle(socket);
      assert.deepEqual(all, expected);
    };
    assert.equal((await revoke(url, channel, { userId: "8" }, simple)).status, 403);
    assert.equal((await revoke(url, channel, { user: "8" })).status, 400);
    await has([[], [], [], []]);
    assert.deepEqual(await revoke(url, channel, { userId: "8" }), { status: 200, body: { ended: 2, missing: 0 } });
    await publish(url, channel, 1);
    await has([[1], [interrupted], [interrupted], [1]]);
    for (const socket of [first, second]) await follow(socket, channel);
    assert.deepEqual(backend.users(channel), ["8", "9", "8"]);
    assert.deepEqual(await revoke(url, channel, {}), { status: 200, body: { ended: 3, missing: 0 } });
    await publish(url, channel, 2);
    await has([[1, 2], [interrupted, interrupted], [interrupted, interrupted], [1, interrupted]]);
    backend.answer = no();
    for (const socket of [first, other]) assert.equal((await ask(socket, "channel:subscribe", { channel })).error.code, "NOT_FOUND");
    assert.deepEqual(backend.users(channel), ["8", "9", "8", "8", "9"]);
  });

  test("backend is asked again about a user whose roles have changed", async (t) => {
    const { url, backend } = await withBackend(t);
    backend.answer = (response, { user }) => (user.roles.includes("staff") ? no() : yes())(response);
    const socket = await user(t, url, "7");
    const [shown, refusals] = [[], []];
    let { position } = await follow(socket, ORDER);
    socket.on("changed", ({ n }, meta) => {
      shown.push(n);
      position = meta.position;
    });
    // As the client of the page, it follows again from its position.
    socket.on("channel:ended", async ({ channel, reason }) => {
      if (reason !== "interrupted") return refusals.push(reason);
      const answer = await ask(socket, "channel:subscribe", { channel, since: position });
      if (!answer.success) return refusals.push(answer.error.code);
      for (const { data } of answer.events) shown.push(data.n);
      position = answer.position;
    });
    const refresh = (...roles) => must(socket, "auth:refresh", { token: token({ sub: "7", roles }) });
    await refresh("user");
    await settle(socket);
    assert.equal(backend.asked.length, 1, "equal roles are no change");
    await refresh("user", "trader");
    await publish(url, ORDER, 1);
    await until(() => shown.length > 0, "the event");
    await refresh("user", "staff");
    await until(() => refusals.length > 0, "the end of the subscription");
    await publish(url, ORDER, 2);
    await settle(socket);
    assert.deepEqual(backend.asked.map(({ json }) => json.user.roles), [["user"], ["user", "trader"], ["user", "staff"]]);
    assert.deepEqual([shown, refusals.length], [[1], 1]);
    assert.match(refusals[0], /^(forbidden|NOT_FOUND)$/);
  });

  test("reload without the rule `ask` ends those who followed by an answer", async (t) => {
    const config = configured();
    const { started, url, backend } = await withBackend(t, { ROOMCAST_CONFIG: config, ROOMCAST_RECOVERY__ENABLED: "true" });
    const link = await startLink(url);
    t.after(() => link.close());
    const auth = { token: token({ sub: "9", roles: ["user"] }) };
    const { socket: away } = await enter(t, link.url, { auth, ...QUICK, transports: ["websocket"] });
    const [owner, other] = [await user(t, url, "7"), await user(t, url, "8")];
    const sockets = [owner, other, away];
    for (const socket of sockets) await follow(socket, "shared:7");
    await follow(owner, ORDER);
    const all = sockets.map(record);
    await disconnectLink({ socket: away, link });
    const without = KINDS.replace('["ask", "owner', '["owner').replace('["ask"]', '["role:staff"]');
    await reload(started, config, without, /INFO.*configuration reloaded.*channels\.orders\.follow/);
    await publish(url, ORDER, 1);
    await publish(url, "shared:7", 2);
    link.restore();
    await until(() => all.every(({ length }) => length > 0), () => JSON.stringify(all));
    assert.ok(away.recovered);
    await publish(url, "shared:7", 3);
    for (const socket of sockets) await settle(socket);
    const [[end, ...events], ...ended] = all;
    assert.match(end, /^orders:7:42 (forbidden|interrupted)$/);
    assert.deepEqual(events, [2, 3]);
    for (const seen of ended) assert.match(seen.join(), /^shared:7 (forbidden|interrupted)$/);
    const count = backend.asked.length;
    for (const [socket, channel] of [[owner, ORDER], [other, "shared:7"], [away, "shared:7"]]) {
      assert.equal((await ask(socket, "channel:subscribe", { channel })).error.code, "NOT_FOUND");
    }
    assert.equal(backend.asked.length, count);
  });

  test("reload with the rule `ask` is refused without a backend", async (t) => {
    const config = configured();
    writeFileSync(config, KINDS.replaceAll('"ask"', '"role:staff"'));
    const started = await server(t, { ROOMCAST_CONFIG: config });
    await reload(started, config, KINDS, /ERROR.*configuration not reloaded.*ask\.url, and restart/);
    const socket = await user(t, started.url, "7");
    assert.equal((await ask(socket, "channel:subscribe", { channel: ORDER })).error.code, "NOT_FOUND");
    await follow(socket, "shared:7");
  });

  test("configuration has defaults, hides the secrets and refuses wrong ones", () => {
    const url = "https://shop.example/rights";
    const given = { ROOMCAST_ASK__URL: url, ROOMCAST_ASK__SECRET: SECRET, ROOMCAST_ASK__PREVIOUS_SECRET: OLDER };
    const printed = command(["print-config"], { ROOMCAST_CONFIG: configured(), ...given });
    assert.ok(!printed.stdout.includes(SECRET) && !printed.stdout.includes(OLDER));
    const [section] = /^\[ask\]\n[^[]*/m.exec(printed.stdout);
    for (const line of ['timeout = "3s"', "concurrent = 32", "cached = 100000", "allow_private = false"]) assert.ok(section.includes(line), section);
    for (const [env, why] of [
      [{}, /`ask`.*ask\.url/s],
      [{ ROOMCAST_ASK__URL: url }, /ask\.secret/],
      [{ ...given, ROOMCAST_ASK__URL: "http://shop.example/rights" }, /ask\.allow_private/],
    ]) {
      const run = command(["check-config"], { ROOMCAST_CONFIG: configured(), ...env });
      assert.notEqual(run.status, 0);
      assert.match(run.stdout + run.stderr, why);
    }
  });
});

/** Returns which secrets have signed a request. */
function signers({ headers, body }) {
  const [time, ...proofs] = headers["roomcast-signature"].split(",");
  const sign = (secret) => createHmac("sha256", secret).update(`${time.slice("t=".length)}.`).update(body).digest("hex");
  return [OLDER, SECRET].filter((secret) => proofs.includes(`v1=${sign(secret)}`));
}

/** Returns an answer that allows what this secret has signed, and refuses other requests. */
const verifying = (backend, secret) => (response) => (signers(backend.asked.at(-1)).includes(secret) ? yes() : reply({}, 401))(response);

/** Starts a backend that knows the older secret, and a server with the same one in its file. */
async function withSecret(t) {
  const backend = await startBackend(t);
  backend.answer = verifying(backend, OLDER);
  const written = (...secrets) => `${KINDS}[ask]\nurl = "${backend.url}"\ntimeout = "30s"\nallow_private = true\n${secrets.join("\n")}\n`;
  const config = configured();
  writeFileSync(config, written(`secret = "${OLDER}"`));
  const started = await server(t, { ROOMCAST_CONFIG: config });
  const socket = await user(t, started.url, "7");
  await follow(socket, ORDER);
  assert.deepEqual(signers(backend.asked[0]), [OLDER]);
  return { backend, config, seen: record(socket), socket, started, written };
}

// The steps of R17 in docs/operations.md.
describe("secret of the backend of channels", () => {
  test("is replaced by a reload, after which followers stay", async (t) => {
    const { backend, config, seen, socket, started, written } = await withSecret(t);
    const channel = "orders:7:43";
    await reload(started, config, written(`secret = "${SECRET}"`), /INFO.*configuration reloaded.*changed="ask\.secret"/);
    assertUnavailable(await ask(socket, "channel:subscribe", { channel }), "before the backend has the new secret");
    assert.deepEqual(signers(backend.asked.at(-1)), [SECRET]);
    await publish(started.url, ORDER, 1);
    backend.answer = verifying(backend, SECRET);
    await followLater(socket, { channel });
    assert.deepEqual(signers(backend.asked.at(-1)), [SECRET]);
    await publish(started.url, channel, 2);
    await until(() => seen.length >= 2, () => JSON.stringify(seen));
    assert.deepEqual(seen, [1, 2]);
    assert.ok(!started.output().includes(OLDER) && !started.output().includes(SECRET));
  });

  test("is replaced without a failed request if both sign in between", async (t) => {
    const { backend, config, seen, socket, started, written } = await withSecret(t);
    const both = written(`secret = "${SECRET}"`, `previous_secret = "${OLDER}"`);
    const changed = (keys) => new RegExp(`INFO.*configuration reloaded.*changed="${keys}"`);
    const follows = async (n, expected) => {
      await follow(socket, `orders:7:${n}`);
      assert.deepEqual(signers(backend.asked.at(-1)), expected);
    };
    await reload(started, config, both, changed("ask.previous_secret, ask.secret"));
    await follows(1, [OLDER, SECRET]);
    backend.answer = verifying(backend, SECRET);
    await follows(2, [OLDER, SECRET]);
    await reload(started, config, written(`secret = "${SECRET}"`), changed("ask.previous_secret"));
    await follows(3, [SECRET]);
    for (const channel of [ORDER, "orders:7:1", "orders:7:2", "orders:7:3"]) await publish(started.url, channel, 1);
    await until(() => seen.length >= 4, () => JSON.stringify(seen));
    assert.deepEqual(seen, [1, 1, 1, 1]);
    assert.equal(backend.asked.length, 4);
    assert.ok(!started.output().includes(OLDER) && !started.output().includes(SECRET));
  });

  test("is not used with a key of its section that needs a restart", async (t) => {
    const { backend, config, socket, started, written } = await withSecret(t);
    const other = written(`secret = "${SECRET}"`).replace("/rights", "/others");
    await reload(started, config, other, /ERROR.*configuration not reloaded.*ask\.url/);
    await follow(socket, "orders:7:43");
    const { url, ...request } = backend.asked.at(-1);
    assert.deepEqual([url, signers(request)], ["/rights", [OLDER]]);
  });
});
