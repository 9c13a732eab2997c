// Data that the page retains for its user, whatever happens to the tab, the network and the list of
// conversations.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DESK, LOBBY, client, everywhere, keyed, checkLookEverywhere, make, must, noComplaints, readAll, shared, signIn, tokenOf } from "./page_support.mjs";
import { metric, startServer, until } from "./support.mjs";
import { now, token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

/** Waits until this conversation is in view. */
const isIn = ({ page }, title) => page.getByRole("heading", { name: title }).waitFor();

test("a user added to the open conversation joins it without a reload", async (t) => {
  const bob = await client(t, "bob-absent", "Bob Absent");
  const id = await make(bob, "Closed", [], "for members");
  const ada = await signIn(t, "ada-absent", "Ada Absent");
  await ada.page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.page.getByText("This conversation does not exist, or you are not a member of it.").waitFor();
  await must(bob, "add_member", { conversationId: id, userId: "ada-absent" });
  await isIn(ada, "Closed");
  await ada.message("for members").waitFor();
  await ada.say("in at last");
  await ada.message("in at last", "stored").waitFor();
  noComplaints(ada);
});

test("a draft of one user is not shown to another user of the same browser", async (t) => {
  const ada = await signIn(t, "ada-shared", "Ada Shared");
  const become = async (sub, name) => {
    await ada.page.evaluate(() => sessionStorage.clear());
    await ada.page.reload();
    await ada.giveToken(tokenOf(sub, name));
    await ada.isOnline();
  };
  await isIn(ada, "Lobby");
  await ada.composer.fill("a secret of Ada");
  await become("bob-shared", "Bob Shared");
  await isIn(ada, "Lobby");
  assert.equal(await ada.composer.inputValue(), "");
  await ada.composer.fill("a secret of Bob");
  await become("ada-shared", "Ada Shared");
  assert.equal(await ada.composer.inputValue(), "a secret of Ada");
  // Signing out removes all drafts of the user, and restores none of other users.
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  await ada.giveToken(tokenOf("ada-shared", "Ada Shared"));
  await ada.isOnline();
  assert.equal(await ada.composer.inputValue(), "");
  await become("bob-shared", "Bob Shared");
  assert.equal(await ada.composer.inputValue(), "a secret of Bob");
});

test("a deletion is executed although its tab crashed during the undo time", async (t) => {
  const bob = await client(t, "bob-crash", "Bob Crash");
  const id = await make(bob, "Crash", ["ada-crash"]);
  await must(bob, "join_conversation", id);
  const deleted = [];
  bob.on("message_deleted", ({ deletedBy }) => deleted.push(deletedBy));
  const ada = await signIn(t, "ada-crash", "Ada Crash");
  await isIn(ada, "Crash");
  await ada.say("to be deleted");
  await ada.message("to be deleted", "stored").waitFor();
  // The tab that is about to crash does not execute the deletion before.
  await ada.stretchUndo();
  await ada.page.locator("li.message[tabindex='0']").focus();
  await ada.page.keyboard.press("Delete");
  await ada.page.getByText("Message deleted.", { exact: true }).waitFor();
  const crashed = ada.page.waitForEvent("crash");
  const session = await ada.context.newCDPSession(ada.page);
  session.send("Page.crash").catch(() => {});
  await crashed;
  assert.deepEqual(deleted, []);
  const again = new Visitor(ada.context, await ada.context.newPage(), ada.link);
  await again.page.goto(ada.link.url);
  await again.giveToken(tokenOf("ada-crash", "Ada Crash"));
  await until(() => deleted.length > 0, "the deletion");
  assert.deepEqual(deleted, ["ada-crash"]);
  await again.page.getByText("This message was deleted.").waitFor();
  noComplaints(again);
});

test("read positions of other users survive a reload", async (t) => {
  const bob = await client(t, "bob-receipt", "Bob Receipt");
  const id = await make(bob, "Receipts", ["ada-receipt"]);
  await must(bob, "join_conversation", id);
  const ada = await signIn(t, "ada-receipt", "Ada Receipt");
  await isIn(ada, "Receipts");
  const receipt = (text, words) => ada.page.locator(`li.message[data-receipt="${words}"]`).getByText(text, { exact: true }).waitFor();
  await ada.say("seen");
  await ada.message("seen", "stored").waitFor();
  await must(bob, "mark_read", { conversationId: id, seq: 1 });
  await receipt("seen", "read");
  await ada.page.reload();
  await ada.isOnline();
  await receipt("seen", "read");
  // Later messages are read when a read mark covers them.
  bob.on("message", (_, confirm) => confirm?.());
  await ada.say("not seen yet");
  await receipt("not seen yet", "delivered 1/1");
  await must(bob, "mark_read", { conversationId: id, seq: 2 });
  await receipt("not seen yet", "read");
  noComplaints(ada);
});

test("a text without room in the queue stays in the field, with the reason", async (t) => {
  const ada = await signIn(t, "ada-full", "Ada Full");
  await isIn(ada, "Lobby");
  ada.link.cut();
  await ada.isOffline();
  // 40,000 bytes each, of the 4 MiB that may be queued.
  const text = (index) => `${index} `.padEnd(9_990, "x").replaceAll("x", "😀");
  let index = 0;
  const reason = ada.page.getByText("Not sent. Too many messages are waiting to be sent.");
  while ((await reason.count()) === 0 && index < 200) await ada.say(text((index += 1)));
  await reason.waitFor();
  assert.equal(await ada.composer.inputValue(), text(index));
  await checkLookEverywhere(ada, "queue-full");
  // It is kept like any other draft.
  await ada.composer.fill("shorter");
  await reason.waitFor({ state: "detached" });
  await ada.composer.press("Enter");
  await ada.message("shorter").waitFor();
  noComplaints(ada);
});

test("changes with delayed answers are repeated and never called undone", async (t) => {
  const bob = await client(t, "bob-unsure", "Bob Unsure");
  const id = await make(bob, "Unsure", ["ada-unsure"], "by Bob");
  await must(bob, "join_conversation", id);
  const ada = await signIn(t, "ada-unsure", "Ada Unsure");
  await isIn(ada, "Unsure");
  await ada.isOver("WebSocket");
  await ada.say("before");
  await ada.message("before", "stored").waitFor();
  const edited = new Promise((done) => bob.once("message_edited", ({ content, version }) => done([content, version])));
  ada.link.holdAnswers();
  await ada.composer.press("ArrowUp");
  await ada.composer.fill("after");
  await ada.composer.press("Enter");
  assert.deepEqual(await edited, ["after", 2]);
  await ada.page.getByText("The change is not confirmed yet, trying again…").waitFor();
  assert.equal(await ada.page.getByText("Not changed").count(), 0);
  // Further typing would be lost when the answer arrives, so it is not accepted.
  await ada.page.keyboard.type("wards");
  assert.equal(await ada.composer.inputValue(), "after");
  ada.link.releaseAnswers();
  await ada.message("after", "stored").waitFor();
  await ada.page.getByText("Editing a message").waitFor({ state: "detached" });
  assert.equal(await ada.composer.inputValue(), "");

  // Without a connection a change waits for one.
  ada.link.cut();
  await ada.isOffline();
  await ada.page.getByRole("button", { name: "About this conversation" }).click();
  await ada.page.getByLabel("Notify me of").selectOption("none");
  await ada.page.getByText("There is no connection. The change will be made after the reconnect.").waitFor();
  const other = await client(t, "ada-unsure", "Ada Unsure");
  const newLevel = new Promise((done) => other.once("notification_level", ({ level }) => done(level)));
  ada.link.restore();
  assert.equal(await newLevel, "none");
  assert.equal(await ada.page.getByText("Not changed").count(), 0);
  noComplaints(ada);
});

test("a focused element keeps the focus when the page opens a conversation", async (t) => {
  const ada = await Visitor.open(t, shared.browser, shared.server.url, { path: "/?transport=polling", viewport: DESK });
  let release;
  const held = new Promise((done) => (release = done));
  await ada.context.route(/\/socket\.io\//, async (route) => {
    if (route.request().postData()?.includes('["conversations"')) await held;
    await route.continue();
  });
  await ada.giveToken(tokenOf("ada-elsewhere", "Ada Elsewhere"));
  await ada.page.getByText("Opening your conversations…").waitFor();
  const other = ada.page.getByRole("button", { name: "New conversation" });
  await other.focus();
  release();
  await isIn(ada, "Lobby");
  await ada.isOnline();
  assert.equal(await other.evaluate((node) => node === document.activeElement), true);
  // The conversation that the user chooses takes the focus.
  await make(await client(t, "bob-elsewhere", "Bob Elsewhere"), "Chosen", ["ada-elsewhere"], "hello");
  await ada.conversation("Chosen").press("Enter");
  await isIn(ada, "Chosen");
  assert.equal(await ada.composer.evaluate((node) => node === document.activeElement), true);
  noComplaints(ada);
});

test("a user can keep typing while a distant message loads and appears", async (t) => {
  const bob = await client(t, "bob-back", "Bob Back");
  const id = await make(bob, "Back", ["ada-back"], ...Array.from({ length: 120 }, (_, index) => `back ${index + 1}`));
  await readAll(t, "ada-back", "Ada Back", id);
  const ada = await signIn(t, "ada-back", "Ada Back");
  const { page } = ada;
  await isIn(ada, "Back");
  await ada.message("back 120").waitFor();
  await ada.isOver("WebSocket");
  const go = (seq) => page.evaluate((address) => (location.hash = address), `#/c/${id}/${seq}`);
  ada.link.holdAnswers();
  await go(5);
  await page.getByText("Loading messages…").waitFor();
  await ada.composer.pressSequentially("written meanwhile");
  ada.link.releaseAnswers();
  await page.waitForFunction(() => {
    const places = [".scroller", "li.message.is-marked"].map((selector) => document.querySelector(selector)?.getBoundingClientRect());
    const [place, line] = places;
    return line !== undefined && line.top >= place.top && line.bottom <= place.bottom;
  });
  assert.equal(await ada.composer.evaluate((node) => node === document.activeElement), true);
  assert.equal(await ada.composer.inputValue(), "written meanwhile");
  // A user who only waits for the message gets there with the focus as well.
  await go(6);
  await page.locator("li.message.is-marked:focus").getByText("back 6", { exact: true }).waitFor();
  noComplaints(ada);
});

test("a user with an expiring token is notified and continues with another", async (t) => {
  const brief = await startServer({ ...keyed, ROOMCAST_AUTH__EXPIRING_LEAD: "2s", ROOMCAST_AUTH__GRACE: "1s" });
  t.after(() => brief.stop());
  const claims = { sub: "ada-brief", name: "Ada Brief" };
  const ada = await Visitor.open(t, shared.browser, brief.url, { viewport: DESK });
  // The token is issued late, so that its life is not spent on anything but the server.
  await ada.page.getByRole("button", { name: "Sign in with a token instead" }).waitFor();
  await ada.giveToken(token({ ...claims, exp: now() + 40 }));
  await ada.isOnline();
  await isIn(ada, "Lobby");
  await ada.composer.fill("begun before the end");
  await ada.page.getByRole("alert").getByText("Your session has expired.").waitFor();
  assert.equal(await ada.page.evaluate(() => sessionStorage.length), 0);
  await ada.giveToken(token(claims));
  await ada.isOnline();
  await isIn(ada, "Lobby");
  assert.equal(await ada.composer.inputValue(), "begun before the end");
  noComplaints(ada);
});

test("four tabs of a user keep to the server's limits, also on reconnect", async (t) => {
  const limited = await startServer({ ...keyed, ROOMCAST_LIMITS__CHANGES_PER_MINUTE: "120" });
  t.after(() => limited.stop());
  const bob = await client(t, "bob-tabs", "Bob Tabs", limited.url);
  const ids = [];
  for (let index = 0; index < 35; index += 1) ids.push(await make(bob, `Talk ${index}`, ["ada-tabs"]));
  const first = await Visitor.open(t, shared.browser, limited.url);
  const value = tokenOf("ada-tabs", "Ada Tabs");
  await first.context.addCookies([{ name: "roomcast_token", value, url: first.link.url, httpOnly: true, sameSite: "Lax" }]);
  const others = await Promise.all([1, 2, 3].map(() => first.context.newPage()));
  const tabs = [first, ...others.map((page) => new Visitor(first.context, page, first.link))];
  await Promise.all(tabs.map(({ page }) => page.goto(first.link.url)));
  await Promise.all(tabs.map((tab) => tab.isOnline()));
  // The server would notice a broken polling connection much later.
  await Promise.all(tabs.map((tab) => tab.isOver("WebSocket")));
  first.link.cut();
  await Promise.all(tabs.map((tab) => tab.isOffline()));
  first.link.restore();
  await Promise.all(tabs.map((tab) => tab.isOnline()));
  const isJoined = async (conversationId) => {
    const { users } = await must(bob, "presence", { conversationId });
    return users.some(({ userId, connections }) => userId === "ada-tabs" && connections === 4);
  };
  // The remaining conversations follow one by one.
  const isUnderWay = async () => (await Promise.all(ids.map(isJoined))).filter(Boolean).length >= 8;
  await until(isUnderWay, "conversations to be joined", 90_000);
  assert.equal((await metric(limited.url, 'roomcast_events_limited_total{class="changes"}')) ?? 0, 0);
  // The limit leaves room for actions of the user.
  await tabs[0].page.evaluate((address) => (location.hash = address), `#/c/${LOBBY}`);
  await isIn(tabs[0], "Lobby");
  await tabs[0].page.getByRole("button", { name: "New conversation" }).click();
  await tabs[0].page.getByLabel("Title").fill("One more");
  await tabs[0].page.getByRole("button", { name: "Create" }).click();
  await isIn(tabs[0], "One more");
  noComplaints(...tabs);
});

test("the newest of a hundred long queued messages is in view once sent", async (t) => {
  const bob = await client(t, "bob-waited", "Bob Waited");
  await make(bob, "Waited", ["ada-waited"], "before");
  const ada = await signIn(t, "ada-waited", "Ada Waited");
  await isIn(ada, "Waited");
  await ada.message("before").waitFor();
  ada.link.cut();
  await ada.isOffline();
  const long = (index) => `${index} ${"a long line of a message that waits ".repeat(20)}\n`.repeat(index % 5 === 0 ? 12 : 3);
  for (let index = 1; index <= 100; index += 1) await ada.say(long(index));
  await ada.page.evaluate(() => {
    globalThis.farthest = 0;
    const scroller = document.querySelector(".scroller");
    const checkLook = () => {
      globalThis.farthest = Math.max(globalThis.farthest, scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight);
      requestAnimationFrame(checkLook);
    };
    checkLook();
  });
  ada.link.restore();
  await ada.page.locator("li.message[data-state=stored][data-seq='101']").waitFor();
  await until(async () => (await ada.page.locator("li.message[data-state=stored]").count()) === 100, "all to be stored");
  const below = await ada.page.evaluate(() => {
    const { scrollHeight, scrollTop, clientHeight } = document.querySelector(".scroller");
    return scrollHeight - scrollTop - clientHeight;
  });
  assert.ok(below < 2, `the end is ${below} pixels below`);
  assert.equal(await ada.page.locator(".jump").isHidden(), true);
  t.diagnostic(`farthest from the end: ${await ada.page.evaluate(() => globalThis.farthest)} pixels`);
  noComplaints(ada);
});

everywhere("the newest message stays in view when the field shrinks and grows", async (t, { self, options }) => {
  const bob = await client(t, "bob-field", "Bob Field");
  const id = await make(bob, "Field", [`ada-field-${self}`], ...Array.from({ length: 40 }, (_, index) => `field ${index}`));
  await readAll(t, `ada-field-${self}`, "Ada Field", id);
  const ada = await signIn(t, `ada-field-${self}`, "Ada Field", options);
  await ada.message("field 39").waitFor();
  const long = "a line\n".repeat(12);
  await ada.composer.fill(long);
  const below = await ada.page.evaluate(async (long) => {
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const text = document.querySelector("#composer");
    const scroller = document.querySelector(".scroller");
    // Two frames later all effects of a change have happened.
    const settle = async () => {
      await frame();
      await frame();
      return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    };
    const seen = [await settle()];
    for (const value of ["", long]) {
      text.value = value;
      text.dispatchEvent(new InputEvent("input", { bubbles: true }));
      // It is drawn before the next frame.
      for (let turn = 0; turn < 10; turn += 1) await undefined;
      seen.push(scroller.clientHeight);
    }
    return { small: seen[2], large: seen[1], pixels: [seen[0], await settle()] };
  }, long);
  assert.ok(below.small < below.large, JSON.stringify(below));
  assert.ok(Math.max(...below.pixels) < 2, JSON.stringify(below));
  noComplaints(ada);
});

test("a user who writes while reading far above sees the newest message", async (t) => {
  const bob = await client(t, "bob-above", "Bob Above");
  const id = await make(bob, "Above", ["ada-above"], ...Array.from({ length: 40 }, (_, index) => `above ${index}`));
  await readAll(t, "ada-above", "Ada Above", id);
  const ada = await signIn(t, "ada-above", "Ada Above");
  await ada.message("above 39").waitFor();
  await ada.scroller.evaluate((scroller) => scroller.scrollTo(0, 0));
  await ada.page.getByRole("button", { name: "To the newest" }).waitFor();
  await ada.say("from above");
  await ada.message("from above", "stored").waitFor();
  await ada.page.locator(".jump").waitFor({ state: "hidden" });
  noComplaints(ada);
});
