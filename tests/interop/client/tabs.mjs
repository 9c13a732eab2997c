// The client package in real Chromium tabs: offline, frozen, with the clock moved, reloaded,
// closed, two at a time.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { suspend } from "../processes.mjs";
import { startServer } from "../support.mjs";
import { SECRET, now, token } from "../tokens.mjs";
import { launch } from "../visitor.mjs";
import { LOBBY, assertFollow, lasting, stored, texts, until } from "./chatter.mjs";
import { Tab, startSite } from "./tab.mjs";

let browser;
let site;
let server;
before(async () => {
  site = await startSite();
  server = await startServer({ ALLOWED_ORIGINS: site.url, ROOMCAST_AUTH__JWT__SECRET: SECRET, ROOMCAST_AUTH__GUESTS: "true" });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  site?.close();
});

/** Creates a browser profile, and opens tabs in it. */
async function profile(t, user, { chromium = browser, url = server.url } = {}) {
  const context = await chromium.newContext();
  t.after(() => context.close());
  const auth = { token: token({ sub: user }) };
  return {
    context,
    open: (options) => Tab.open(context, site.url, url, auth, { identity: user, ...options }),
    visit: (tab, options) => tab.visit(site.url, url, auth, { identity: user, ...options }),
  };
}

/** Opens a tab that reads along, in a profile of its own. */
async function reader(t) {
  const tab = await (await profile(t, "reader")).open();
  await tab.entered();
  return tab;
}

/** Checks that the server and a reader have these texts, once and in order. */
async function assertStored(t, other, prefix, expected) {
  assert.deepEqual(await other.contents(expected.length, prefix), expected);
  assert.deepEqual((await stored(t, server.url)).filter((text) => text.startsWith(prefix)), expected);
  await other.hasShownTheTruth();
}

// The tests share one server, so each uses its own words.
describe("the client package in Chromium", { concurrency: true }, () => {
  test("keeps messages written offline, and reads missed messages", async (t) => {
    const { context, open } = await profile(t, "offline");
    const other = await reader(t);
    const tab = await open();
    await tab.entered();
    await tab.say("offline 1");
    await tab.contents(1, "offline");
    await context.setOffline(true);
    await tab.hasState("offline");
    await tab.say("offline 2", "offline 3");
    await tab.is(`manager.queue.entries.map(({ state }) => state).join() === "queued,queued"`);
    await other.say("missed 1");
    await other.contents(1, "missed");
    await context.setOffline(false);
    await tab.hasState("online");
    const expected = texts("offline", 3);
    assert.deepEqual(await tab.contents(3, "offline"), expected);
    assert.deepEqual(await tab.contents(1, "missed"), ["missed 1"]);
    await assertStored(t, other, "offline", expected);
    assert.deepEqual(await tab.settled(), ["online", "offline", "online"]);
  });

  test("continues after its server was killed, and after a stop of 20 s", async (t) => {
    const own = await lasting(t, { ALLOWED_ORIGINS: site.url });
    const { open } = await profile(t, "server", own);
    const tab = await open();
    await tab.entered();
    await tab.say(...texts("server", 20));
    await own.kill();
    await tab.hasState("offline");
    await tab.say("server 21");
    await own.start();
    await tab.hasState("online");
    assert.deepEqual(await tab.contents(21), texts("server", 21));
    await own.pause();
    const stopped = sleep(20_000); // Duration of the suspension.
    await tab.say("server 22", "server 23");
    await tab.hasState("unresponsive");
    await stopped;
    own.resume();
    assert.deepEqual(await tab.contents(23), texts("server", 23));
    assert.deepEqual(await stored(t, own.url), texts("server", 23));
    assert.deepEqual((await tab.seen()).states, ["connecting", "online", "offline", "online", "unresponsive", "online"]);
  });

  test("reconnects with a new token after its own expired while disconnected", async (t) => {
    const own = await lasting(t, { ALLOWED_ORIGINS: site.url });
    const { context, open } = await profile(t, "late", own);
    const tab = await open();
    await tab.entered();
    // The application does not notice the end itself: it returns the old token until that is
    // refused.
    const tokens = { old: token({ sub: "late", exp: now() - 60 }), fresh: token({ sub: "late" }) };
    await context.setOffline(true);
    await tab.hasState("offline");
    await tab.say("late 1", "late 2");
    await tab.page.evaluate(({ old, fresh }) => {
      const reasons = [];
      const give = (reason) => (reasons.push(reason), { token: reason === "refused" ? fresh : old });
      Object.assign(window, { give, reasons });
    }, tokens);
    await context.setOffline(false);
    await tab.hasState("online");
    assert.deepEqual((await tab.page.evaluate(() => reasons)).filter((reason) => reason !== "connect"), ["refused"]);
    assert.deepEqual(await tab.contents(2), texts("late", 2));
    assert.deepEqual(await stored(t, own.url), texts("late", 2));
    assert.deepEqual(await tab.settled(), ["online", "offline", "online"]);
  });

  test("keeps messages written offline after a reload", async (t) => {
    const { context, open, visit } = await profile(t, "reload");
    const other = await reader(t);
    const tab = await open();
    await tab.entered();
    await context.setOffline(true);
    await tab.hasState("offline");
    await tab.say(...texts("reload", 5));
    assert.deepEqual(await tab.settled(), ["online", "offline"]);
    // Written to disk, as `stored` in IndexedDB.
    await tab.is(`client.indexedDbStorage().load("reload").then((stored) => stored.length === 5)`);
    // The page can be loaded again while the server is still unreachable.
    await context.route(`${server.url}/**`, (route) => route.abort());
    await context.setOffline(false);
    await visit(tab);
    await tab.is(`manager.queue.entries.length === 5`);
    await tab.say("reload 6");
    await context.unroute(`${server.url}/**`);
    const expected = texts("reload", 6);
    assert.deepEqual(await tab.contents(6, "reload"), expected);
    await assertStored(t, other, "reload", expected);
    await tab.is(`client.indexedDbStorage().load("reload").then((stored) => stored.length === 0)`);
    assert.deepEqual(await tab.settled(), ["offline", "online"]);
  });

  test("sends the entries of a closed tab from another tab", async (t) => {
    const { context, open } = await profile(t, "closed");
    const other = await reader(t);
    const [first, second] = [await open(), await open()];
    await Promise.all([first.entered(), second.entered()]);
    await context.setOffline(true);
    await first.hasState("offline");
    await second.hasState("offline");
    await first.say(...texts("closed", 3));
    await second.is(`client.indexedDbStorage().load("closed").then((stored) => stored.length === 3)`);
    await first.page.close();
    await context.setOffline(false);
    const expected = texts("closed", 3);
    assert.deepEqual(await second.contents(3, "closed"), expected);
    await assertStored(t, other, "closed", expected);
    assert.deepEqual(await second.settled(), ["online", "offline", "online"]);
  });

  test("continues after its tab was frozen", async (t) => {
    const other = await reader(t);
    // A separate browser, whose only tab this is. Chromium does not freeze visible tabs, and
    // without a screen all tabs are visible. The operating system can freeze the process of any
    // tab.
    const own = await launch();
    t.after(() => own.close());
    const { open } = await profile(t, "frozen", { chromium: own });
    const tab = await open();
    await tab.entered();
    await tab.say(...texts("frozen", 3));
    const { processInfo } = await (await own.newBrowserCDPSession()).send("SystemInfo.getProcessInfo");
    const renderers = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
    await suspend(...renderers);
    await other.say(...texts("thawed", 3));
    await sleep(12_000); // Longer than an answer may take.
    resume(renderers);
    await tab.say(...texts("frozen", 5).slice(3));
    const expected = texts("frozen", 5);
    assert.deepEqual(await tab.contents(5, "frozen"), expected);
    assert.deepEqual(await tab.contents(3, "thawed"), texts("thawed", 3));
    await assertStored(t, other, "frozen", expected);
    await tab.hasShownTheTruth();
  });

  test("continues after its tab was frozen beyond the server's timeout", async (t) => {
    const own = await lasting(t, { ALLOWED_ORIGINS: site.url, ROOMCAST_ENGINE__PING_INTERVAL: "1s", ROOMCAST_ENGINE__PING_TIMEOUT: "12s" });
    const freezer = await launch();
    t.after(() => freezer.close());
    const tab = await (await profile(t, "cold", { chromium: freezer, url: own.url })).open();
    const other = await (await profile(t, "reader", own)).open();
    await Promise.all([tab.entered(), other.entered()]);
    const there = () => other.page.evaluate((conversationId) => manager.request("presence", { conversationId }).then(({ users }) => users.some(({ userId }) => userId === "cold")), LOBBY);
    await tab.say(...texts("cold", 3));
    const { processInfo } = await (await freezer.newBrowserCDPSession()).send("SystemInfo.getProcessInfo");
    const renderers = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
    await tab.contents(3, "cold");
    await suspend(...renderers);
    await until(async () => !(await there()), "the server to give the tab up", 60_000);
    await other.say(...texts("missed", 3));
    resume(renderers);
    // It may be back before this checks.
    await tab.is(`seen.states.includes("offline")`);
    await tab.say(...texts("cold", 5).slice(3));
    await tab.hasState("online");
    assert.deepEqual(await tab.contents(5, "cold"), texts("cold", 5));
    assert.deepEqual(await tab.contents(3, "missed"), texts("missed", 3));
    assert.deepEqual((await stored(t, own.url)).filter((text) => text.startsWith("cold")), texts("cold", 5));
    assert.deepEqual(await tab.settled(), ["online", "offline", "online"]);
  });

  test("stops at a debugger beyond the answer timeout and continues", async (t) => {
    const { open } = await profile(t, "paused");
    const other = await reader(t);
    const tab = await open();
    await tab.entered();
    await tab.say(...texts("paused", 4));
    const goOn = await tab.stop();
    await sleep(11_000); // Longer than an answer may take.
    await goOn();
    const expected = texts("paused", 4);
    assert.deepEqual(await tab.contents(4, "paused"), expected);
    await assertStored(t, other, "paused", expected);
    await tab.hasShownTheTruth();
  });

  for (const hours of [-2, 2]) {
    test(`works with a clock that is moved by ${hours} hours`, async (t) => {
      const prefix = `clock ${hours}:`;
      const { context, open } = await profile(t, `clock${hours}`);
      const other = await reader(t);
      const tab = await open();
      await tab.entered();
      await tab.say(`${prefix} 1`);
      await tab.page.evaluate((moved) => {
        const Original = Date;
        globalThis.Date = class extends Original {
          constructor(...parts) {
            super(...(parts.length === 0 ? [Original.now() + moved] : parts));
          }
          static now() {
            return Original.now() + moved;
          }
        };
      }, hours * 3_600_000);
      const away = await tab.page.evaluate(() => [Date.now(), new Date().getTime(), Date.parse(new Date().toISOString())]);
      for (const time of away) assert.ok(Math.abs(time - Date.now() - hours * 3_600_000) < 60_000, `${new Date(time)}`);
      await tab.say(`${prefix} 2`);
      await tab.contents(2, prefix);
      await tab.hasState("online");
      await context.setOffline(true);
      await tab.hasState("offline");
      await tab.say(`${prefix} 3`);
      await context.setOffline(false);
      await tab.hasState("online");
      await tab.say(`${prefix} 4`);
      assert.deepEqual(await tab.contents(4, prefix), texts(prefix, 4));
      await assertStored(t, other, prefix, texts(prefix, 4));
      assertFollow((await tab.seen()).states);
      // The official client takes a clock that moved forward for an overdue heartbeat, unless a
      // heartbeat arrives first.
      const settled = await tab.settled();
      const isOverdue = hours > 0 && settled.length === 5;
      assert.deepEqual(settled, isOverdue ? ["online", "offline", "online", "offline", "online"] : ["online", "offline", "online"]);
    });
  }

  test("reports a refused page origin, and connects when it is allowed", async (t) => {
    const own = await lasting(t, { ALLOWED_ORIGINS: "http://elsewhere.example" });
    const { open } = await profile(t, "cors", own);
    const polling = await open();
    const websocket = await open({ socket: { transports: ["websocket"] } });
    for (const tab of [polling, websocket]) {
      await tab.is(`manager.status.failure?.code === "CORS_REFUSED"`);
      const { state, failure } = await tab.page.evaluate(() => manager.status);
      assert.equal(state, "offline");
      assert.equal(failure.message, `${own.url} does not allow requests from ${site.url}`);
    }
    await own.kill();
    // An unreachable server is not reported as refusing the origin.
    await polling.is(`manager.status.failure?.code === ""`);
    await own.start({ ALLOWED_ORIGINS: site.url });
    for (const tab of [polling, websocket]) {
      await tab.entered();
      assert.equal(await tab.page.evaluate(() => manager.status.failure), undefined);
    }
  });

  test("shares one connection between tabs and moves it if the leader closes", async (t) => {
    const { open } = await profile(t, "shared");
    const other = await reader(t);
    const first = await open({ share: "test" });
    await first.entered();
    const second = await open({ share: "test" });
    await second.entered();
    // On a busy machine it may be either tab.
    await until(async () => (await isLeader(first)) !== (await isLeader(second)), "one leader");
    const [leader, follower] = (await isLeader(first)) ? [first, second] : [second, first];
    await first.say("shared 1");
    await first.contents(1, "shared");
    await second.say("shared 2");
    for (const tab of [first, second]) assert.deepEqual(await tab.contents(2, "shared"), texts("shared", 2));
    await leader.page.close();
    await follower.say("shared 3");
    await until(() => isLeader(follower), "another leader");
    await follower.hasState("online");
    assert.deepEqual(await follower.contents(3, "shared"), texts("shared", 3));
    await assertStored(t, other, "shared", texts("shared", 3));
    // The tab changes connections without a lost connection in between.
    assert.deepEqual(await follower.settled(), ["online"]);
    await follower.hasShownTheTruth({ isShared: true });
  });

  test("repeats changes of one tab to the tabs that share its connection", async (t) => {
    const { open } = await profile(t, "echo");
    const other = await reader(t);
    const shared = [await open({ share: "echo" }), await open({ share: "echo" })];
    // The server sends the events to this tab, which has its own connection.
    const apart = await open();
    const all = [...shared, apart];
    await Promise.all(all.map((tab) => tab.entered()));
    const ask = (tab, name, payload) => tab.page.evaluate(([name, payload]) => manager.request(name, payload), [name, payload]);
    for (const tab of all) {
      await tab.page.evaluate((lobby) => {
        const names = ["message", "message_edited", "message_deleted", "message_reaction", "message_pinned", "message_unpinned"];
        const others = ["message_read", "status", "notification_level", "conversation_updated", "conversation_deleted"];
        window.events = [];
        // Other tests write in the Lobby.
        for (const name of [...names, ...others]) manager.on(name, (event) => event.conversationId === lobby || events.push([name, event]));
      }, LOBBY);
    }
    for (const [tab, sibling] of [shared, shared.toReversed()]) {
      /** Makes a request in one tab. The others must receive the same event. */
      const change = async (name, payload) => {
        await sibling.page.evaluate(() => (events.length = 0));
        await apart.page.evaluate(() => (events.length = 0));
        const answer = await ask(tab, name, payload);
        for (const one of [sibling, apart]) await one.is("events.length > 0");
        const [repeated, sent] = await Promise.all([sibling, apart].map((one) => one.page.evaluate(() => events)));
        // This server's time of sending is in no answer.
        if (name.endsWith("_conversation") && name !== "delete_conversation") sent[0][1].timestamp = sent[0][1].conversation.updatedAt;
        assert.deepEqual(repeated, sent, name);
        return answer;
      };
      const { conversation } = await change("create_conversation", { title: "Echo", memberIds: ["reader"] });
      const conversationId = conversation.id;
      for (const one of all) await one.page.evaluate((id) => manager.request("join_conversation", { conversationId: id }), conversationId);
      const { message } = await change("message", { conversationId, content: "echo" });
      const messageId = message.id;
      await change("edit_message", { messageId, content: "echoed", version: message.version });
      await change("add_reaction", { messageId, emoji: "👍" });
      await change("remove_reaction", { messageId, emoji: "👍" });
      await change("pin_message", { messageId });
      await change("unpin_message", { messageId });
      await change("delete_message", { messageId });
      const foreign = await ask(other, "message", { conversationId, content: "of another user" });
      for (const one of [sibling, apart]) await one.is(`events.some(([, event]) => event.id === ${JSON.stringify(foreign.message.id)})`);
      await change("mark_read", { conversationId, seq: foreign.message.seq });
      await change("set_notification_level", { conversationId, level: "none" });
      await change("set_status", { status: "away", text: tab === shared[0] ? "first" : "second" });
      await change("rename_conversation", { conversationId, title: "Echo 2" });
      await change("delete_conversation", { conversationId });
    }
  });

  test("leaves a conversation only if no other open tab needs it", async (t) => {
    const { context, open } = await profile(t, "gone");
    const other = await reader(t);
    const isThere = () => other.page.evaluate((conversationId) => manager.request("presence", { conversationId }).then(({ users }) => users.some(({ userId }) => userId === "gone")), LOBBY);
    const first = await open({ share: "gone" });
    await first.entered();
    const [second, third] = [await open({ share: "gone" }), await open({ share: "gone" })];
    await Promise.all([second.entered(), third.entered()]);
    const leave = (tab) => tab.page.evaluate((id) => manager.leaveConversation(id), LOBBY);
    const enter = (tab) => tab.page.evaluate((id) => Object.assign(window, { conversation: manager.conversation(id) }), LOBBY);
    // Other tabs still use it.
    await leave(first);
    await first.page.evaluate((conversationId) => manager.request("presence", { conversationId }), LOBBY);
    assert.equal(await isThere(), true);
    await enter(first);
    await first.entered();
    // One tab is closed, the other crashes.
    await second.page.close();
    const crashed = third.page.waitForEvent("crash");
    (await context.newCDPSession(third.page)).send("Page.crash").catch(() => {});
    await crashed;
    // The tab itself holds two locks: one for its queue and one for the connection that it shares.
    const locks = async () => (await first.page.evaluate(() => navigator.locks.query())).held.filter(({ name }) => name.startsWith("roomcast:tab:")).length;
    await until(async () => (await locks()) === 2, "the locks of the others to be free");
    await leave(first);
    await until(async () => !(await isThere()), "the conversation to be left");
    for (const tab of [first, other]) await tab.hasShownTheTruth({ isShared: true });
  });

  test("takes the connection from an unresponsive leader", async (t) => {
    const { open } = await profile(t, "icy");
    const other = await reader(t);
    const [first, second] = [await open({ share: "test" }), await open({ share: "test" })];
    await Promise.all([first.entered(), second.entered()]);
    const leader = (await isLeader(first)) ? first : second;
    const follower = leader === first ? second : first;
    const goOn = await leader.stop();
    await follower.say("icy 1");
    await until(() => isLeader(follower), "another leader", 60_000);
    assert.deepEqual(await follower.contents(1, "icy"), ["icy 1"]);
    await goOn();
    await until(async () => !(await isLeader(leader)), "the former leader to notice");
    await leader.entered();
    await leader.say("icy 2");
    for (const tab of [first, second]) assert.deepEqual(await tab.contents(2, "icy"), texts("icy", 2));
    await assertStored(t, other, "icy", texts("icy", 2));
    for (const tab of [first, second]) await tab.hasShownTheTruth({ isShared: true });
  });
});

/** Resumes processes that were suspended. */
function resume(pids) {
  for (const pid of pids) process.kill(pid, "SIGCONT");
}

function isLeader(tab) {
  return tab.page.evaluate(() => manager.isLeader);
}
