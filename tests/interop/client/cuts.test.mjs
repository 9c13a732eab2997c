// The client package over connections and servers that fail, in Node against the real server. In
// each case every message arrives once and in order, and the state that is shown is true.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { writeMessage } from "../../../web/packages/client/dist/streams.js";
import { startLink } from "../link.mjs";
import { now, token } from "../tokens.mjs";
import { Chatter, LOBBY, lasting, manager, shownBy, stored, texts, until, within } from "./chatter.mjs";

const as = (user) => ({ auth: { token: token({ sub: user }) } });

async function linked(t, url) {
  const link = await startLink(url);
  t.after(() => link.close());
  return link;
}

describe("the client package", { concurrency: true }, () => {
  test("continues after its server was killed during a burst", async (t) => {
    const server = await lasting(t);
    const ada = await new Chatter(t, server.url, as("ada")).entered();
    const bob = await new Chatter(t, server.url, as("bob")).entered();
    const [before, during, after] = [texts("before", 40), texts("during", 20), texts("after", 5)];
    const sent = ada.say(...before);
    await within(sent[10].answered, "the first answers");
    await server.kill();
    await ada.is("offline");
    await bob.is("offline");
    ada.say(...during);
    assert.ok(ada.manager.queue.entries.every(({ state }) => state === "queued"));
    await server.start();
    await ada.is("online");
    ada.say(...after);
    const all = [...before, ...during, ...after];
    await ada.has(all);
    await bob.has(all);
    assert.deepEqual(await stored(t, server.url), all);
    for (const { states } of [ada, bob]) assert.deepEqual(states, ["connecting", "online", "offline", "online"]);
  });

  test("writes a message in pieces over a cut connection and a killed server", async (t) => {
    const server = await lasting(t);
    const link = await linked(t, server.url);
    const ada = await new Chatter(t, link.url, as("ada")).entered();
    const bob = await new Chatter(t, server.url, as("bob")).entered();
    const asked = [];
    const written = writeMessage(ada.manager, { conversationId: LOBBY }, { stopRequested: ({ userId }) => asked.push(userId) });
    const words = texts("grün 😀", 90).map((word) => `${word} `);
    const spoken = async function* () {
      for (const [n, word] of words.entries()) {
        yield word;
        await sleep(20); // The pace of a model.
        if (n === 30) link.cut();
        if (n === 45) link.restore();
        if (n === 60) await server.kill();
        if (n === 75) await server.start();
        if (n === 45 || n === 75) ada.manager.retry();
      }
    };
    await within(written.appendFrom(spoken()), "the words");
    await bob.is("online");
    await bob.manager.request("stop_message", { messageId: written.message.id });
    await until(() => asked.length === 1, "the request to stop");
    const { content, interrupted } = await within(written.finish(), "the end");
    assert.deepEqual([content, interrupted, asked], [words.join(""), undefined, ["bob"]]);
    assert.deepEqual(await stored(t, server.url), [words.join("")]);
  });

  test("reports that a stopped server does not answer, continues after 30 s", async (t) => {
    // Long enough that clients do not give up while the server is suspended.
    const server = await lasting(t, { ROOMCAST_ENGINE__PING_TIMEOUT: "60s" });
    const ada = await new Chatter(t, server.url, as("ada")).entered();
    const bob = await new Chatter(t, server.url, as("bob")).entered();
    await Promise.all(ada.say("before").map(({ answered }) => answered));
    await server.pause();
    const stopped = sleep(30_000); // Duration of the suspension.
    ada.say(...texts("during", 3));
    await ada.is("unresponsive");
    const [first, ...others] = ada.manager.queue.entries;
    assert.equal(first.state, "sending");
    assert.equal(first.failure.code, "TIMED_OUT");
    assert.deepEqual(others.map(({ state }) => state), ["queued", "queued"]);
    await stopped;
    server.resume();
    await ada.is("online");
    const all = ["before", ...texts("during", 3)];
    await ada.has(all);
    await bob.has(all);
    assert.deepEqual(await stored(t, server.url), all);
    assert.deepEqual(ada.states, ["connecting", "online", "unresponsive", "online"]);
    assert.deepEqual(bob.states, ["connecting", "online"]);
  });

  test("continues after repeated network failures and reads missed messages", async (t) => {
    const server = await lasting(t);
    const link = await linked(t, server.url);
    const ada = await new Chatter(t, link.url, as("ada")).entered();
    const bob = await new Chatter(t, server.url, as("bob")).entered();
    for (let cut = 0; cut < 3; cut += 1) {
      ada.say(...texts(`cut ${cut} before`, 10));
      link.cut();
      await ada.is("offline");
      ada.say(...texts(`cut ${cut} during`, 10));
      bob.say(...texts(`cut ${cut} others`, 3));
      link.restore();
      ada.manager.retry();
      await ada.entered();
    }
    await until(() => ada.messages.length === 69 && bob.messages.length === 69, "all messages");
    const all = await stored(t, server.url);
    assert.equal(new Set(all).size, 69);
    await ada.has(all);
    await bob.has(all);
    const own = (text) => all.filter((content) => content.includes(text));
    assert.deepEqual(own("before"), [0, 1, 2].flatMap((cut) => texts(`cut ${cut} before`, 10)));
    assert.deepEqual(own("during"), [0, 1, 2].flatMap((cut) => texts(`cut ${cut} during`, 10)));
    assert.equal(ada.resets, 1);
    const cut = ["offline", "connecting", "online"];
    assert.deepEqual(ada.states, ["connecting", "online", ...cut, ...cut, ...cut]);
    assert.deepEqual(bob.states, ["connecting", "online"]);
  });

  test("sends a message again under the same id if its answer is delayed", async (t) => {
    const server = await lasting(t);
    const link = await linked(t, server.url);
    const ada = await new Chatter(t, link.url, as("ada")).entered();
    link.holdAnswers();
    ada.say("once", "after");
    await ada.is("unresponsive");
    assert.deepEqual(ada.manager.queue.entries.map(({ state }) => state), ["sending", "queued"]);
    link.releaseAnswers();
    await ada.has(["once", "after"]);
    assert.deepEqual(await stored(t, server.url), ["once", "after"]);
    assert.deepEqual(ada.states, ["connecting", "online", "unresponsive", "online"]);
  });

  test("replaces an expiring token on the same connection", async (t) => {
    const server = await lasting(t, { ROOMCAST_AUTH__EXPIRING_LEAD: "20s", ROOMCAST_AUTH__GRACE: "1s" });
    const reasons = [];
    const end = now() + 24;
    const auth = (reason) => {
      reasons.push(reason);
      return { token: token({ sub: "ada", exp: reasons.length === 1 ? end : now() + 3600 }) };
    };
    const ada = await new Chatter(t, server.url, { auth }).entered();
    await until(() => ada.manager.log.some(({ what }) => what === "refreshed"), "the refresh");
    await sleep((end + 2) * 1_000 - Date.now()); // Past the end of the first token and its grace.
    ada.say("still here");
    await ada.has(["still here"]);
    assert.deepEqual(reasons, ["connect", "expiring"]);
    assert.deepEqual(ada.states, ["connecting", "online"]);
  });

  test("reconnects with a new token after its own expired while disconnected", async (t) => {
    const server = await lasting(t);
    const link = await linked(t, server.url);
    let exp = now() + 3600;
    // The application does not notice the end itself: it returns the old token until that is
    // refused.
    let fresh = false;
    const auth = (reason) => {
      fresh ||= reason === "refused";
      return { token: token({ sub: "ada", exp: fresh ? now() + 3600 : exp }) };
    };
    const env = { auth, identity: "ada" };
    const ada = await new Chatter(t, link.url, env).entered();
    link.cut();
    await ada.is("offline");
    ada.say(...texts("away", 3));
    exp = now() - 60;
    link.restore();
    await ada.has(texts("away", 3));
    assert.ok(fresh);
    assert.deepEqual(ada.states, ["connecting", "online", "offline", "online"]);
  });

  test("reconnects by itself with the next token after its token ended", async (t) => {
    const server = await lasting(t, { ROOMCAST_AUTH__EXPIRING_LEAD: "2s", ROOMCAST_AUTH__GRACE: "1s" });
    let hasEnded = false;
    // No other token is available before the end.
    const auth = (reason) => {
      if (reason !== "connect" && !hasEnded) throw new Error("not yet");
      return { token: token({ sub: "ada", exp: reason === "connect" ? now() + 15 : now() + 3600 }) };
    };
    const ada = new Chatter(t, server.url, { auth });
    const failures = [];
    ada.manager.watch("status", ({ state, failure }) => {
      hasEnded ||= state === "offline";
      if (failure !== undefined) failures.push(failure.code);
    });
    await ada.entered();
    await ada.is("offline");
    ada.say("after the end");
    await ada.has(["after the end"]);
    assert.deepEqual(failures, ["TOKEN_EXPIRED"]);
    assert.deepEqual(ada.states, ["connecting", "online", "offline", "online"]);
  });

  test("is closed when a token ends without a replacement, with the reason", async (t) => {
    const server = await lasting(t, { ROOMCAST_AUTH__EXPIRING_LEAD: "2s", ROOMCAST_AUTH__GRACE: "1s" });
    const ada = await new Chatter(t, server.url, { auth: { token: token({ sub: "ada", exp: now() + 15 }) } }).entered();
    await ada.is("closed");
    assert.equal(ada.manager.status.failure.code, "TOKEN_EXPIRED");
    ada.say("kept");
    assert.deepEqual(ada.manager.queue.entries.map(({ state }) => state), ["queued"]);
    assert.deepEqual(ada.states, ["connecting", "online", "closed"]);
  });

  test("is refused if new credentials are no better, and connects on request", async (t) => {
    const server = await lasting(t);
    let isGood = false;
    const auth = () => ({ token: isGood ? token({ sub: "ada" }) : "nonsense" });
    const ada = new Chatter(t, server.url, { auth });
    await ada.is("refused");
    assert.equal(ada.manager.status.failure.code, "UNAUTHENTICATED");
    ada.say("waits");
    isGood = true;
    ada.manager.retry();
    await ada.has(["waits"]);
    assert.deepEqual(ada.states, ["connecting", "offline", "refused", "connecting", "online"]);
  });

  test("is closed when its user is revoked, and does not reconnect by itself", async (t) => {
    const server = await lasting(t);
    const ada = await new Chatter(t, server.url, as("ada")).entered();
    const headers = { authorization: `Bearer ${token({ sub: "root", roles: ["admin"] })}`, "content-type": "application/json" };
    const body = JSON.stringify({ userId: "ada" });
    assert.ok((await fetch(`${server.url}/api/v1/revocations`, { method: "POST", headers, body })).ok);
    await ada.is("closed");
    assert.equal(ada.manager.status.failure.code, "TOKEN_REVOKED");
    ada.say("too late");
    assert.deepEqual(ada.manager.queue.entries.map(({ state }) => state), ["queued"]);
    assert.deepEqual(ada.states, ["connecting", "online", "closed"]);
  });

  test("holds its queue for as long as the server requests", async (t) => {
    // One more every 30 s: the first two are stored before that.
    const server = await lasting(t, { ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "2" });
    const ada = await new Chatter(t, server.url, as("ada")).entered();
    const all = texts("fast", 3);
    ada.say(...all);
    await until(() => ada.manager.queue.isHeld, "the limit");
    const [first] = ada.manager.queue.entries;
    assert.equal(first.state, "queued");
    assert.equal(first.failure.code, "RATE_LIMITED");
    await ada.has(all);
    const refused = ada.manager.log.filter(({ what, detail }) => what === "not answered" && detail.endsWith("RATE_LIMITED"));
    assert.equal(refused.length, 1, "attempts for one message over the limit");
    assert.deepEqual(await stored(t, server.url), all);
    assert.deepEqual(ada.states, ["connecting", "online"]);
  });

  test("gives a listener that is added later the current messages", async (t) => {
    const server = await lasting(t);
    const ada = await new Chatter(t, server.url, as("ada")).entered();
    const bob = await new Chatter(t, server.url, as("bob")).entered();
    const sent = bob.say("edited", "deleted", "liked").map(({ answered }) => answered);
    const [edited, deleted, liked] = (await within(Promise.all(sent), "the answers")).map(({ message }) => message.id);
    await ada.has(["edited", "deleted", "liked"]);
    const mark = (messages) => messages.map(({ content, reactions = [] }) => [content, ...reactions.map(({ emoji }) => emoji)].join(" "));
    const listen = () => {
      const seen = [];
      t.after(ada.conversation.on("reset", (messages) => seen.push(mark(messages))));
      return seen;
    };
    assert.deepEqual(listen(), [["edited", "deleted", "liked"]], "as after a remount");
    const changed = new Promise((done) => ada.manager.on("message_reaction", done));
    await bob.manager.request("edit_message", { messageId: edited, content: "has changed" });
    await bob.manager.request("delete_message", { messageId: deleted });
    await bob.manager.request("add_reaction", { messageId: liked, emoji: "👍" });
    await within(changed, "the reaction");
    const seen = listen();
    assert.deepEqual(seen, [["has changed", "", "liked"]]);
    await until(() => seen.length === 2, "what the server has");
    assert.deepEqual(seen[1], ["has changed", "", "liked 👍"]);
  });

  test("continues as a guest that is another user after a reconnect", async (t) => {
    const server = await lasting(t);
    const link = await linked(t, server.url);
    const guest = await new Chatter(t, link.url, { auth: { name: "Guest" } }).entered();
    const bob = await new Chatter(t, server.url, as("bob")).entered();
    bob.say("before");
    await guest.has(["before"]);
    const { userId } = guest.manager.session;
    link.cut();
    await guest.is("offline");
    bob.say("during");
    link.restore();
    guest.manager.retry();
    await guest.has(["before", "during"]);
    assert.notEqual(guest.manager.session.userId, userId);
    assert.equal(guest.resets, 1);
    const seen = [];
    guest.conversation.on("reset", (messages) => seen.push(messages.map(({ content }) => content)));
    assert.deepEqual(seen[0], ["before", "during"]);
  });

  test("sends entries of one user never as another user", async (t) => {
    const server = await lasting(t);
    const link = await linked(t, server.url);
    let user = "ada";
    const auth = () => ({ token: token({ sub: user }) });
    const chatter = await new Chatter(t, link.url, { auth }).entered();
    link.cut();
    await chatter.is("offline");
    const [secret] = chatter.say("a secret of Ada");
    user = "bob";
    link.restore();
    chatter.manager.retry();
    await until(() => chatter.manager.session.userId === "bob", "Bob");
    await chatter.entered();
    chatter.say("by Bob");
    await chatter.has(["by Bob"]);
    user = "ada";
    link.cut();
    await chatter.is("offline");
    link.restore();
    chatter.manager.retry();
    const { message } = await within(secret.answered, "the message of Ada");
    assert.equal(message.userId, "ada");
    assert.deepEqual(await stored(t, server.url), ["by Bob", "a secret of Ada"]);
    const cut = ["offline", "connecting", "online"];
    assert.deepEqual(chatter.states, ["connecting", "online", ...cut, ...cut]);
  });

  test("reports how many clients received a message", async (t) => {
    const server = await lasting(t, { ROOMCAST_CHAT__CONFIRM_TIMEOUT: "30s" });
    const ada = await new Chatter(t, server.url, as("ada")).entered();
    const bob = await new Chatter(t, server.url, as("bob")).entered();
    const reported = new Promise((done) => ada.manager.watch("delivered", (entry, report) => done({ entry, report })));
    const { id } = ada.conversation.send("confirm this", { confirmDelivery: true });
    const { entry, report } = await within(reported, "the report");
    assert.deepEqual([entry.id, entry.state, report.expected, report.delivered], [id, "delivered", 1, 1]);
    for (const { states } of [ada, bob]) assert.deepEqual(states, ["connecting", "online"]);
  });

  test("refuses entries beyond the limit, and drops none", async (t) => {
    const server = await lasting(t);
    const ada = manager(t, server.url, { ...as("ada"), limits: { entries: 2 } });
    const states = shownBy(ada);
    const send = (content) => ada.send("message", { conversationId: LOBBY, content });
    const [first] = [send("one"), send("two")];
    assert.throws(() => send("three"), { code: "QUEUE_FULL" });
    ada.open();
    await within(first.answered, "room");
    send("four");
    await until(() => ada.queue.entries.length === 0, "an empty queue");
    assert.deepEqual(await stored(t, server.url), ["one", "two", "four"]);
    assert.deepEqual(states, ["connecting", "online"]);
  });

  test("starts with the newest page if it missed more than it reads", async (t) => {
    const server = await lasting(t);
    const link = await linked(t, server.url);
    const ada = await new Chatter(t, link.url, as("ada")).entered();
    const bob = await new Chatter(t, server.url, as("bob")).entered();
    bob.say("seen");
    await ada.has(["seen"]);
    link.cut();
    await ada.is("offline");
    for (let part = 0; part < 11; part += 1) {
      bob.say(...texts(`missed ${part}`, 200));
      await until(() => bob.manager.queue.entries.length === 0, "room in the queue", 90_000);
    }
    link.restore();
    ada.manager.retry();
    await until(() => ada.resets === 2, "the newest page");
    assert.deepEqual(ada.contents, texts("missed 10", 200).slice(-50));
    assert.deepEqual(ada.states, ["connecting", "online", "offline", "connecting", "online"]);
    assert.deepEqual(bob.states, ["connecting", "online"]);
  });
});
