// Clients of the chat that are recovered at another server. Stock clients are redirected from
// server to server by a link. The servers share one PostgreSQL and are connected by it alone or by
// Redis.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { by, conversation, news, nothing, person, present, seqs, startServers, whatIsThere } from "./chat_servers.mjs";
import { QUICK, disconnectLink, move, startLink } from "./link.mjs";
import { call, io, soon } from "./people.mjs";
import { startBroker } from "./processes.mjs";
import { startRedis } from "./redis.mjs";
import { ask, metric, metricIs, next, open, outcome, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { variants } from "./variants.mjs";

/** Long timeouts, so that a slow machine decides neither recovery nor expiry. */
const RECOVERY = { ROOMCAST_RECOVERY__ENABLED: "true", ROOMCAST_RECOVERY__CLAIM_TIMEOUT: "20s", ROOMCAST_PRESENCE__GRACE: "60s" };

/** Waits until all servers know each other. */
async function acquainted(servers) {
  const all = ({ url }) => metricIs(url, "roomcast_nodes", (nodes) => nodes === servers.length);
  await Promise.all(servers.map(all));
}

/** Returns a name for another user in the same test. */
const other = (name, one) => one.name.replace("moving", name);

/** The last byte of a local address that no client has used yet. */
let unused = 2;

let made = 0;
/** Connects a client through a link to a server. */
async function personOverLink(t, server, { localAddress, ...options } = {}) {
  const link = await startLink(server.url, localAddress);
  t.after(() => link.close());
  const quick = { ...QUICK, ...options };
  const one = await person(t, { url: link.url }, `moving ${made++}`, quick);
  return { ...one, link };
}

/** Returns the log lines of these servers about clients that could not be recovered. */
const afresh = (servers) => servers.flatMap((server) => server.output().match(/.*starts a new session.*/g) ?? []).join("\n");

/** Sends and edits messages until stopped, and returns the last version of each. */
function busy(one, conversationId) {
  const sent = new Map();
  let isOver = false;
  const working = (async () => {
    for (let n = 0; !isOver; n++) {
      const { message } = await one.must("message", { conversationId, content: `${n}` });
      sent.set(message.seq, `${n}`);
      if (n % 3 === 0) {
        await one.must("edit_message", { messageId: message.id, content: `edited ${n}` });
        sent.set(message.seq, `edited ${n}`);
      }
      if (n % 5 === 4) {
        await one.must("delete_message", { messageId: message.id });
        sent.set(message.seq, undefined);
      }
    }
    return sent;
  })();
  return { sent, stop: () => ((isOver = true), working) };
}

/** Returns the messages that a client knows from the events it has received. */
function believed(one, conversationId) {
  const messages = new Map();
  for (const [event, payload] of one.heard) {
    if (payload?.conversationId !== conversationId) continue;
    if (event === "message" || event === "message_edited") messages.set(payload.seq, payload.content);
    if (event === "message_deleted") messages.set(payload.seq, undefined);
  }
  return messages;
}

function whatever(servers) {
  for (const transports of [["websocket"], ["polling"]]) {
    test(`a client that moves between busy servers over ${transports} misses nothing`, async (t) => {
      const [here, there, third] = servers();
      const ann = await personOverLink(t, here, { transports });
      const { id } = ann.socket;
      const [bob, carl] = [await person(t, here, other("bob", ann)), await person(t, there, other("carl", ann))];
      const conversationId = await conversation([bob, ann, carl]);
      for (const one of [bob, ann, carl]) await one.must("join_conversation", { conversationId });
      const writing = [busy(bob, conversationId), busy(carl, conversationId)];
      const counted = () => writing.reduce((sum, { sent }) => sum + sent.size, 0);
      for (const to of [there, third, here, third, there]) {
        const before = counted();
        await until(() => counted() > before + 10, "some messages");
        await move(ann, to);
        assert.equal(ann.socket.recovered, true, afresh(servers()) || "recovered");
        assert.equal(ann.socket.id, id);
        // Live messages show that she is in the conversation again.
        const { message } = await bob.must("message", { conversationId, content: "welcome" });
        await until(() => seqs(ann).includes(message.seq), "what is said to her");
        // Answered when her arrival is complete. Before that she would get a new session.
        await ann.must("conversations", {});
      }
      const all = new Map();
      for (const { stop } of writing) for (const [seq, content] of await stop()) all.set(seq, content);
      for (const [seq, content] of believed(bob, conversationId)) if (!all.has(seq)) all.set(seq, content);
      const { message: last } = await bob.must("message", { conversationId, content: "last" });
      all.set(last.seq, "last");
      await until(() => seqs(ann).includes(last.seq), "the last message");
      const expected = Array.from({ length: last.seq }, (_, n) => n + 1);
      assert.deepEqual(seqs(ann), expected);
      const same = () => {
        const mine = believed(ann, conversationId);
        return [...all].every(([seq, content]) => mine.has(seq) && mine.get(seq) === content);
      };
      await until(same, "all edits and deletions");
      const edits = ann.all("message_edited").map(({ seq }) => seq);
      assert.equal(new Set(edits).size, edits.length, "each edit once");
      for (const one of [bob, carl]) {
        // No member was notified that she left.
        for (const event of ["user_left", "user_disconnected"]) {
          const departures = one.all(event).filter(({ userId }) => userId === ann.name);
          assert.deepEqual(departures, [], `${event} at ${one.name}`);
        }
      }
      await until(async () => (await present(bob, conversationId)).length === 3, "all to be there");
    });
  }

  for (const transports of [["websocket"], ["polling"]]) {
    test(`a client that requests more on reconnect over ${transports} gets all once in order`, async (t) => {
      const [here, there, third] = servers();
      const ann = await personOverLink(t, here, { transports });
      const [bob, carl] = [await person(t, here, other("bob", ann)), await person(t, there, other("carl", ann))];
      const [conversationId, quiet] = [await conversation([bob, ann, carl]), await conversation([bob, ann, carl])];
      for (const one of [bob, ann, carl]) {
        for (const id of [conversationId, quiet]) await one.must("join_conversation", { conversationId: id });
      }
      const seqsIn = (id) => ann.all("message").filter(({ conversationId }) => conversationId === id).map(({ seq }) => seq);
      const writing = [busy(bob, conversationId), busy(carl, conversationId)];
      // Their connections end with the test, and pending requests with them.
      t.after(() => writing.forEach(({ stop }) => stop().catch(() => {})));
      const counted = () => writing.reduce((sum, { sent }) => sum + sent.size, 0);
      const own = [];
      for (const to of [there, third, here, there, third, here, third, there]) {
        const before = counted();
        await until(() => counted() > before + 10 && seqsIn(conversationId).length > 0, "some messages");
        const requests = [];
        await move(ann, to, async () => {
          // A stock client buffers these, and sends them before the application learns that it was
          // recovered.
          const lastSeq = Math.max(...seqsIn(conversationId));
          const ask = (event, payload) => requests.push(ann.must(event, payload));
          ask("join_conversation", { conversationId, lastSeq });
          ask("mark_read", { conversationId, seq: lastSeq });
          ask("message", { conversationId, content: "I am back" });
          ask("leave_conversation", { conversationId: quiet });
          ask("join_conversation", { conversationId, lastSeq });
          const enough = counted() + 4;
          await until(() => counted() > enough, "what she misses");
        });
        assert.equal(ann.socket.recovered, true, afresh(servers()) || "recovered");
        const [first, , sentAnswer, , again] = await Promise.all(requests);
        own.push(sentAnswer.message.seq);
        for (const { messages, hasMore } of [first, again]) assert.deepEqual([messages, hasMore], [[], false]);
        // A server may receive the last messages only after she has joined again there.
        const known = seqsIn(quiet);
        // She has left it, although she requested to leave while she was being added to it again.
        for (const one of [bob, carl]) await one.must("message", { conversationId: quiet, content: "not for her" });
        const { message } = await bob.must("message", { conversationId, content: "behind that" });
        await until(() => seqsIn(conversationId).includes(message.seq), "what is said behind that");
        assert.deepEqual(seqsIn(quiet), known);
        await ann.must("join_conversation", { conversationId: quiet });
      }
      for (const { stop } of writing) await stop();
      const { message: last } = await bob.must("message", { conversationId, content: "last" });
      await until(() => seqsIn(conversationId).includes(last.seq), "the last message");
      const expected = Array.from({ length: last.seq }, (_, n) => n + 1).filter((seq) => !own.includes(seq));
      assert.deepEqual(seqsIn(conversationId), expected);
    });
  }

  test("a member removed while moving receives no later events and has left", async (t) => {
    const [here, there] = servers();
    const ann = await personOverLink(t, here);
    const bob = await person(t, there, other("bob", ann));
    const conversationId = await conversation([bob, ann]);
    await ann.must("join_conversation", { conversationId });
    await bob.must("message", { conversationId, content: "before" });
    await until(() => seqs(ann).length === 1, "the first message");
    await move(ann, there, async () => {
      await bob.must("message", { conversationId, content: "while away" });
      await bob.must("remove_member", { conversationId, userId: ann.name });
      await bob.must("message", { conversationId, content: "not for her" });
    });
    assert.equal(ann.socket.recovered, true);
    await bob.must("message", { conversationId, content: "nor this" });
    await until(() => news(ann, conversationId).some((members) => !members.includes(ann.name)), "the removal");
    const refused = await ask(ann.socket, "message_history", { conversationId });
    assert.equal(refused.error.code, "NOT_FOUND");
    assert.deepEqual(seqs(ann), [1, 2]);
    // Her first server records a moment later that she is no longer present.
    await until(async () => (await present(bob, conversationId)).length === 0, "her end at the first server");
  });

  test("a client revoked or blocked while moving is refused and not recovered", async (t) => {
    const [here, there] = servers();
    const localAddress = `127.0.1.${unused++}`;
    const ann = await personOverLink(t, here);
    const [bob, carl] = [await person(t, here, other("bob", ann)), await person(t, there, other("carl", ann))];
    const [dora, eve] = [await personOverLink(t, here), await personOverLink(t, here, { localAddress })];
    const away = [ann, dora, eve];
    const conversationId = await conversation([carl, bob, ...away]);
    for (const one of [carl, bob, ...away]) await one.must("join_conversation", { conversationId });
    await carl.must("message", { conversationId, content: "before" });
    for (const one of away) await until(() => seqs(one).length === 1, "the first message");
    for (const one of away) await disconnectLink(one);
    await bob.must("message", { conversationId, content: "while away" });
    const told = async (server, path, body) => {
      const answer = await call(server.url, "POST", `/api/v1/${path}`, body);
      assert.ok(answer.status < 300, JSON.stringify(answer));
    };
    const end = soon();
    // At the server where she reconnects, and at the server that has her session.
    await told(there, "revocations", { userId: ann.name, until: end.text });
    await told(here, "revocations", { userId: dora.name });
    await told(here, "blocks", { cidr: localAddress, seconds: 3_600, reason: "tests" });
    await carl.must("message", { conversationId, content: "not for them" });
    for (const one of [ann, dora]) {
      const isRefused = async () => {
        const error = await outcome(one.socket);
        if (error) return error.message === "unauthorized";
        // A client that is admitted before the server knows of the revocation is disconnected
        // afterwards.
        assert.equal(one.socket.recovered, false);
        if (one.socket.connected) await next(one.socket, "disconnect");
        one.socket.connect();
        return false;
      };
      const refused = until(isRefused, () => `that ${one.name} is refused`);
      one.link.restore(there.url);
      await refused;
    }
    // Her attempts fail like those of a client without a network.
    const before = eve.link.connections();
    eve.link.restore(there.url);
    await until(() => eve.link.connections() > before + 3, "her to have tried");
    assert.equal(eve.socket.connected, false);
    await end.isOver();
    const isIn = async () => {
      const told = outcome(ann.socket);
      ann.socket.connect();
      return (await told) === undefined;
    };
    await until(isIn, "that she may come again");
    assert.equal(ann.socket.recovered, false);
    await ann.must("conversations", {});
    await carl.must("message", { conversationId, content: "nor this" });
    await until(() => seqs(bob).includes(4), "the last message");
    for (const one of away) assert.deepEqual(one.all("message").map(({ content }) => content), ["before"], one.name);
    assert.deepEqual([dora, eve].map(({ socket }) => socket.connected), [false, false]);
  });

  test("updates of conversations that are not joined reach a moving client", async (t) => {
    const [here, there] = servers();
    const ann = await personOverLink(t, here);
    const bob = await person(t, there, other("bob", ann));
    const known = await conversation([bob, ann], "known");
    await until(() => news(ann, known).length === 1, "the first conversation");
    let fresh;
    await move(ann, there, async () => {
      fresh = await conversation([bob, ann], "fresh");
      await bob.must("remove_member", { conversationId: known, userId: ann.name });
    });
    assert.equal(ann.socket.recovered, true);
    await until(() => news(ann, fresh).length > 0, "the new conversation");
    await until(() => news(ann, known).some((members) => !members.includes(ann.name)), "the removal");
  });

  test("of two connections with one offer, the later replaces the earlier", async (t) => {
    const [here, there, third] = servers();
    const ann = await personOverLink(t, here);
    const conversationId = await conversation([ann]);
    await ann.must("join_conversation", { conversationId });
    await disconnectLink(ann);
    const { _pid: pid, _lastOffset: offset, auth } = ann.socket;
    assert.ok(pid && offset);
    const come = async (server) => (await person(t, server, ann.name, { auth: { ...auth, pid, offset } })).socket;
    const first = await come(there);
    assert.equal(first._pid, pid);
    const second = await come(third);
    await until(() => !first.connected, "the end of the first");
    assert.ok(second.connected);
    // She connects last, to the server of the offset that all of them offer.
    const back = next(ann.socket, "connect");
    ann.link.restore(here.url);
    await back;
    assert.equal(ann.socket.recovered, true, afresh(servers()));
    assert.equal(ann.socket._pid, pid);
    await until(() => !second.connected, "the end of the second");
  });

  test("a client that got nothing at another server recovers at its first one", async (t) => {
    const [here, there] = servers();
    const ann = await personOverLink(t, here);
    const bob = await person(t, there, other("bob", ann));
    const conversationId = await conversation([bob, ann]);
    for (const one of [ann, bob]) await one.must("join_conversation", { conversationId });
    await ann.must("subscribe:notifications", {});
    await bob.must("message", { conversationId, content: "first" });
    await until(() => seqs(ann).length === 1, "the first message");
    const { id, _lastOffset: offset } = ann.socket;
    const subscribed = () => ann.all("notifications:subscribed").length;
    for (const [n, to] of [there, here, there, here].entries()) {
      const before = subscribed();
      // Later events count as missed: a client that received nothing offers this offset.
      await move(ann, to, async () => void (ann.socket._lastOffset = offset));
      assert.equal(ann.socket.recovered, true, afresh(servers()) || `move ${n}`);
      assert.equal(ann.socket.id, id);
      // Events of the previous servers are sent again; this is the server's last step of the
      // arrival.
      await until(() => subscribed() === before + n + 1, "the end of the arrival");
    }
    await bob.must("message", { conversationId, content: "second" });
    await until(() => seqs(ann).includes(2), "the second message");
    assert.deepEqual(seqs(ann), [1, 2]);
  });

  test("simultaneous connections with one offer are both answered, one stays", async (t) => {
    const [here, there, third] = servers();
    const ann = await personOverLink(t, here);
    const conversationId = await conversation([ann]);
    await ann.must("join_conversation", { conversationId });
    await disconnectLink(ann);
    const { _pid: pid, _lastOffset: offset, auth } = ann.socket;
    const come = async ({ url }) => {
      const socket = open(t, io, url, { auth: { ...auth, pid, offset }, transports: ["websocket"] });
      await next(socket, "connect");
      return { socket, isSame: socket._pid === pid };
    };
    const came = await Promise.all([come(there), come(third)]);
    assert.ok(came.some(({ isSame }) => isSame), afresh(servers()));
    const staying = () => came.filter(({ socket, isSame }) => isSame && socket.connected);
    await until(() => staying().length === 1, "the end of the first, if both were she");
  });
}

describe("several servers", { concurrency: 2 }, () => {
  for (const [name, scheme, startsBroker] of variants([
    ["PostgreSQL alone"],
    ["Redis", "redis", () => startRedis()],
    ["sharded Redis", "redis+sharded", () => startRedis()],
    ["a stream of Redis", "redis-streams", () => startRedis()],
    ["NATS", "nats", () => startBroker("nats")],
    ["NATS with JetStream", "nats", () => startBroker("nats", "-js")],
  ])) {
    describe(`with recovery, joined by ${name}`, { concurrency: false }, () => {
      let started;
      let broker;
      const ends = [];
      before(async () => {
        broker = await startsBroker?.();
        const joined = broker ? { ...by(broker), ROOMCAST_ADAPTER__URL: `${scheme}://${broker.address}` } : whatIsThere;
        started = await startServers({ after: (end) => ends.push(end) }, 3, joined, RECOVERY);
        await acquainted(started);
      });
      after(async () => {
        for (const end of ends) await end();
        broker?.end();
      });
      whatever(() => started);
    });
  }
});

test("a client of a killed server catches up by lastSeq in a new session", async (t) => {
  const [here, there] = await startServers(t, 2, whatIsThere, RECOVERY);
  await acquainted([here, there]);
  const ann = await personOverLink(t, here);
  const bob = await person(t, there, other("bob", ann));
  const conversationId = await conversation([bob, ann]);
  await ann.must("join_conversation", { conversationId });
  await bob.must("message", { conversationId, content: "first" });
  await until(() => seqs(ann).length === 1, "the first message");
  await move(ann, there, async () => {
    await here.stop("SIGKILL");
    await bob.must("message", { conversationId, content: "second" });
  });
  assert.equal(ann.socket.recovered, false);
  const { messages } = await ann.must("join_conversation", { conversationId, lastSeq: 1 });
  assert.deepEqual(messages.map(({ seq }) => seq), [2]);
  await bob.must("message", { conversationId, content: "third" });
  await until(() => seqs(ann).includes(3), "what comes live");
  assert.deepEqual(seqs(ann), [1, 3]);
});

test("clients of a drained server are recovered at another server", async (t) => {
  // The client that is disconnected last has a tenth of the window to reach the other server, which
  // a busy machine may need.
  const env = { ...RECOVERY, ROOMCAST_SERVER__DRAIN: "20s" };
  const [here, there] = await startServers(t, 2, whatIsThere, env);
  await acquainted([here, there]);
  const people = await Promise.all(Array.from({ length: 5 }, () => personOverLink(t, here)));
  const bob = await person(t, there, other("bob", people[0]));
  const conversationId = await conversation([bob, ...people]);
  for (const one of [bob, ...people]) await one.must("join_conversation", { conversationId });
  const writing = busy(bob, conversationId);
  const back = people.map((one) => {
    // New connections lead to the other server; existing ones stay.
    one.link.restore(there.url);
    return next(one.socket, "connect");
  });
  const stopped = here.stop();
  await Promise.all(back);
  assert.deepEqual(people.map(({ socket }) => socket.recovered), people.map(() => true), afresh([there]) || undefined);
  assert.equal(await stopped, 0);
  await writing.stop();
  const { message: last } = await bob.must("message", { conversationId, content: "last" });
  const expected = Array.from({ length: last.seq }, (_, n) => n + 1);
  for (const one of people) {
    await until(() => seqs(one).includes(last.seq), "the last message");
    assert.deepEqual(seqs(one), expected, one.name);
  }
});

test("without an adapter a client starts a new session at another server", async (t) => {
  const [here, there] = await startServers(t, 2, nothing, RECOVERY);
  const ann = await personOverLink(t, here);
  const conversationId = await conversation([ann]);
  await ann.must("join_conversation", { conversationId });
  await move(ann, there);
  assert.equal(ann.socket.recovered, false);
  assert.equal(await metric(there.url, 'roomcast_recoveries_total{result="recovered"}'), 0);
});

test("claims that give rights in channels are compared at another server too", async (t) => {
  const kind = { ROOMCAST_CHANNELS__ORDERS__PATTERN: "orders:{customer}", ROOMCAST_CHANNELS__ORDERS__FOLLOW: "claim:customers={customer}" };
  const [here, there] = await startServers(t, 2, whatIsThere, { ...RECOVERY, ...kind });
  await acquainted([here, there]);
  const claims = { sub: "moving claims", customers: ["7"] };
  const ann = await personOverLink(t, here, { auth: (send) => send({ token: token(claims) }) });
  await ann.must("channel:subscribe", { channel: "orders:7" });
  await move(ann, there);
  assert.equal(ann.socket.recovered, true, afresh([there]) || "recovered");
  // Answered when her arrival is complete.
  await ann.must("conversations", {});
  assert.deepEqual(ann.all("channel:ended"), []);
  claims.customers = ["8"];
  await move(ann, here);
  assert.equal(ann.socket.recovered, false);
});

test("a client learns at another server that a channel was deleted meanwhile", async (t) => {
  const kind = { ROOMCAST_CHANNELS__ORDERS__PATTERN: "orders:{customer}", ROOMCAST_CHANNELS__ORDERS__FOLLOW: "users" };
  const [here, there] = await startServers(t, 2, whatIsThere, { ...RECOVERY, ...kind });
  await acquainted([here, there]);
  const ann = await personOverLink(t, here);
  await ann.must("channel:subscribe", { channel: "orders:7" });
  await move(ann, there, async () => {
    const { status, body } = await call(here.url, "DELETE", "/api/v1/channels/orders:7", undefined, `Bearer ${token({ sub: "shop", roles: ["service"] })}`);
    assert.equal(status, 200, JSON.stringify(body));
  });
  assert.equal(ann.socket.recovered, true, afresh([there]) || "recovered");
  // Answered when her arrival is complete.
  await ann.must("conversations", {});
  // The old server has ended the subscription, so that the new one cannot continue it.
  assert.deepEqual(ann.all("channel:ended"), [{ channel: "orders:7", reason: "interrupted" }]);
});
