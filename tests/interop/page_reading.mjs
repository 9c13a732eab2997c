// What a user has read, and what buries the messages: the divider, the newest message, and crowds
// that join and leave; in Chromium and Firefox.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { FirefoxVisitor, launchFirefox } from "./firefox.mjs";
import { DESK, LOBBY, PHONE, checkLook, checkLookEverywhere, client, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { until } from "./support.mjs";

let firefox;
before(async () => {
  firefox = await launchFirefox();
});
after(async () => firefox?.close());

/** A user in front of the page in one of the browsers, with what these tests need. */
const BROWSERS = {
  Chromium: async (t, sub, name, viewport = DESK) => {
    const visitor = await signIn(t, sub, name, { viewport });
    const evaluate = (expression) => visitor.page.evaluate(expression);
    return { visitor, evaluate, press: (button) => visitor.page.getByRole("button", { name: button }).click() };
  },
  Firefox: async (t, sub, name, viewport = DESK) => {
    const visitor = await FirefoxVisitor.open(t, firefox, shared.server.url, viewport);
    await visitor.signIn(tokenOf(sub, name));
    return { visitor, evaluate: (expression) => visitor.evaluate(expression), press: (button) => visitor.click("button", button) };
  },
};

/** Returns the texts in view, top to bottom: messages, dividers, and lines about users. */
const VISIBLE = `(() => {
  const list = document.querySelector(".scroller").getBoundingClientRect();
  return [...document.querySelectorAll("li.unread, li.system, li.message .bubble")]
    .filter((node) => { const { top, bottom } = node.getBoundingClientRect(); return bottom > list.top && top < list.bottom; })
    .map((node) => node.textContent);
})()`;
const TEXT = (selector) => `(document.querySelector(${JSON.stringify(selector)})?.textContent ?? "")`;
const scrollBy = (distance) => `document.querySelector(".scroller").scrollBy(0, ${distance})`;

/** What the server counts as unread for a user. */
async function unreadOf(socket, id) {
  const { conversations } = await must(socket, "conversations", { limit: 50 });
  return conversations.find((conversation) => conversation.id === id).unread;
}

for (const [browser, open] of Object.entries(BROWSERS)) {
  test(`a room with 60 new messages opens at its divider in ${browser}`, async (t) => {
    const sub = `ada-sixty-${browser}`;
    const bob = await client(t, "bob-sixty", "Bob Sixty");
    const own = await client(t, sub, "Ada Sixty");
    const id = await make(bob, "Sixty", [sub], ...Array.from({ length: 40 }, (_, index) => `old ${index}`));
    await must(own, "mark_read", { conversationId: id, seq: 40 });
    for (let index = 0; index < 60; index += 1) await must(bob, "message", { conversationId: id, content: `new ${index}` });
    const { visitor, evaluate, press } = await open(t, sub, "Ada Sixty");
    await until(async () => /^60 new since \d\d:\d\d$/.test(await evaluate(TEXT("li.unread"))), "the divider");
    const visible = await evaluate(VISIBLE);
    const at = visible.findIndex((text) => text.startsWith("60 new"));
    assert.deepEqual(visible.slice(at - 1, at + 2), ["old 39", visible[at], "new 0"]);
    assert.ok(!visible.includes("new 59"));

    // What is on screen is read, and nothing else.
    const seen = visible.filter((text) => text.startsWith("new ")).length;
    await until(async () => (await unreadOf(own, id)) < 60, "the first messages to be read");
    await new Promise((done) => setTimeout(done, 1_500));
    const left = await unreadOf(own, id);
    assert.ok(left >= 60 - seen && left <= 60 - seen + 1, `${left} are unread, ${seen} are on screen`);
    await until(async () => (await evaluate(TEXT(".jump"))) === `${left} new messages`, "the button with the count");

    // Scrolling reads on. The divider stays where it is.
    for (let step = 0; step < 4; step += 1) {
      await evaluate(scrollBy(200));
      await evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))");
    }
    await until(async () => (await unreadOf(own, id)) <= left - 10, "the next messages to be read");
    assert.ok((await unreadOf(own, id)) > 0);
    assert.match(await evaluate(TEXT("li.unread")), /^60 new since/);

    // A scroll past unread messages does not read them; a message that arrives is counted.
    await must(bob, "message", { conversationId: id, content: "new 60" });
    await until(async () => /^61 new since/.test(await evaluate(TEXT("li.unread"))), "the count of the divider");
    await press(`${await unreadOf(own, id)} new messages`);
    await until(async () => (await evaluate(VISIBLE)).includes("new 60"), "the newest message");
    await until(async () => (await unreadOf(own, id)) === 0, "all messages to be read");
    await visitor.screenshot(`reading-end-${browser}`);
    assert.deepEqual(visitor.complaints, []);
  });

  test(`a hundred guests who come and go are one line in ${browser}`, async (t) => {
    const sub = `ada-crowd-${browser}`;
    const own = await client(t, sub, "Ada Crowd");
    await must(own, "join_conversation", LOBBY);
    for (let index = 0; index < 12; index += 1) await must(own, "message", { conversationId: LOBBY, content: `talk ${browser} ${index}` });
    const { visitor, evaluate } = await open(t, `bob-crowd-${browser}`, "Bob Crowd");
    await evaluate(`void (location.hash = "#/c/${LOBBY}")`);
    await until(async () => (await evaluate(VISIBLE)).includes(`talk ${browser} 11`), "the Lobby");
    const guests = await Promise.all(Array.from({ length: 100 }, (_, index) => client(t, `guest-${browser}-${index}`, `Guest ${index}`)));
    for (const guest of guests) await must(guest, "join_conversation", LOBBY);
    const line = (words) => until(async () => (await evaluate(TEXT("li.system"))).includes(words), words);
    await line("98 others joined");
    await visitor.screenshot(`reading-crowd-${browser}`);
    for (const guest of guests.slice(0, 90)) guest.emit("leave_conversation", { conversationId: LOBBY });
    await line("88 others joined and left");
    assert.match(await evaluate(TEXT("li.system")), /^Guest \d+, Guest \d+ and 8 others joined · Guest \d+, Guest \d+ and 88 others joined and left/);
    assert.equal(await evaluate(`document.querySelectorAll("li.system").length`), 1);
    if (browser === "Chromium") await checkLookEverywhere(visitor, "reading-crowd");
    const visible = await evaluate(VISIBLE);
    assert.deepEqual(visible.filter((text) => text.startsWith("talk")).slice(-5), Array.from({ length: 5 }, (_, index) => `talk ${browser} ${index + 7}`));
    assert.deepEqual(visitor.complaints, []);
  });
}

test("a room that was never read opens at its first message, also by address", async (t) => {
  const bob = await client(t, "bob-never", "Bob Never");
  const own = await client(t, "ada-never", "Ada Never");
  const id = await make(bob, "Never", ["ada-never"], ...Array.from({ length: 130 }, (_, index) => `never ${index}`));
  for (const viewport of [DESK, PHONE]) {
    const ada = await signIn(t, "ada-never", "Ada Never", { viewport, path: `/#/c/${id}` });
    await ada.page.locator("li.unread").waitFor();
    const visible = await ada.page.evaluate(VISIBLE);
    const at = visible.findIndex((text) => text.includes("new since"));
    const [divider, first] = visible.slice(at);
    const left = Number(/^(\d+) new since \d\d:\d\d$/.exec(divider)?.[1]);
    // On the second visit, the messages that were on screen on the first one are read.
    if (viewport === DESK) assert.deepEqual([left, first], [130, "never 0"]);
    else assert.ok(left > 90 && left < 130, divider);
    await checkLook(ada, `reading-never-${viewport.width}`);
    await until(async () => (await unreadOf(own, id)) < left, "the first messages to be read");
    assert.ok((await unreadOf(own, id)) > 80);
    noComplaints(ada);
  }
});

test("messages that a hidden tab or a lost connection missed are below a divider", async (t) => {
  const bob = await client(t, "bob-missed", "Bob Missed");
  const id = await make(bob, "Missed", ["ada-missed"], "before");
  const ada = await signIn(t, "ada-missed", "Ada Missed");
  await ada.message("before").waitFor();
  const hide = (state) =>
    ada.page.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  const write = async (text, count) => {
    for (let index = 0; index < count; index += 1) await must(bob, "message", { conversationId: id, content: `${text} ${index}` });
  };
  const seesDivider = async (text, count) => {
    await until(async () => (await ada.page.evaluate(VISIBLE)).some((line) => line.startsWith(`${count} new since`)), text);
    assert.ok((await ada.page.evaluate(VISIBLE)).includes(`${text} 0`));
  };
  await hide("hidden");
  await write("hidden", 40);
  await ada.message("hidden 39").waitFor();
  await hide("visible");
  await seesDivider("hidden", 40);
  await ada.page.locator(".jump").click();
  await ada.page.locator(".jump").waitFor({ state: "hidden" });
  ada.link.cut();
  await ada.isOffline();
  await write("offline", 40);
  ada.link.restore();
  await seesDivider("offline", 40);
  noComplaints(ada);
});

test("a room that is opened shows no notices about its own messages", async (t) => {
  const bob = await client(t, "bob-notice", "Bob Notice");
  const id = await make(bob, "Noticed", ["ada-notice"], "first");
  const ada = await signIn(t, "ada-notice", "Ada Notice");
  const other = await make(bob, "Other", ["ada-notice"], "other");
  await ada.page.evaluate((address) => (location.hash = address), `#/c/${other}`);
  await ada.message("other").waitFor();
  await must(bob, "message", { conversationId: id, content: "look here" });
  await ada.page.getByRole("alert").getByText("Noticed · Bob Notice: look here").waitFor();
  await ada.page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("look here").waitFor();
  assert.equal(await ada.page.locator(".notice").filter({ hasText: "look here" }).count(), 0);
  await must(bob, "message", { conversationId: id, content: "and here" });
  await ada.message("and here").waitFor();
  assert.equal(await ada.page.locator(".notice").filter({ hasText: "here" }).count(), 0);
  noComplaints(ada);
});

test("an address of a message precedes the divider and reads nothing above", async (t) => {
  const bob = await client(t, "bob-address", "Bob Address");
  const own = await client(t, "ada-address", "Ada Address");
  const id = await make(bob, "Address", ["ada-address"], ...Array.from({ length: 130 }, (_, index) => `address ${index}`));
  const ada = await signIn(t, "ada-address", "Ada Address");
  // By the list, and without it.
  for (const open of [(address) => ada.page.evaluate((address) => (location.hash = address), address), () => ada.page.reload()]) {
    await open(`#/c/${id}/80`);
    await ada.page.locator("li.message.is-marked").getByText("address 79", { exact: true }).waitFor();
    await ada.isOnline();
    await new Promise((done) => setTimeout(done, 1_500));
    assert.ok((await ada.page.evaluate(VISIBLE)).includes("address 79"));
    assert.ok((await unreadOf(own, id)) > 100);
  }
  noComplaints(ada);
});
