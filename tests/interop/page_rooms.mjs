// A user with 300 conversations, in Chromium and in Firefox: the document never scrolls, and the
// list shows what is important.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browsers, fill } from "./page_browsers.mjs";
import { DESK, PHONE, must, noComplaints, shared, tokenOf } from "./page_support.mjs";
import { metric } from "./support.mjs";

const ROOMS = 300;

/** Tries to scroll the document, and checks that it is as large as the window. */
async function checkSize(page, what) {
  const size = await page.evaluate(`(() => {
    const root = document.documentElement;
    root.scrollTo(100, 1000);
    document.body.scrollTo(100, 1000);
    return [root.scrollWidth - innerWidth, root.scrollHeight - innerHeight, scrollX, scrollY, document.querySelector(".chat")?.getBoundingClientRect().top];
  })()`);
  assert.deepEqual(size, [0, 0, 0, 0, 0], what);
}

for (const [browser, open] of Object.entries(browsers)) {
  test(`the document never scrolls in any view with 300 rooms, in ${browser}`, async (t) => {
    const sub = `ada-size-${browser.toLowerCase()}`;
    const { ids } = await fill(t, sub, ROOMS, 100);
    const page = await open(t, { token: tokenOf(sub, "Ada Size") });
    await page.sees(`document.querySelectorAll("a.conversation").length > ${ROOMS}`);
    for (const viewport of [DESK, PHONE]) {
      await page.resize(viewport);
      for (const hash of ["#/", `#/c/${ids[0]}`, `#/c/${ids[ROOMS - 1]}`, "#/trading"]) {
        await page.go(hash);
        await page.sees(`location.hash === ${JSON.stringify(hash)} || ${hash === "#/"}`);
        await checkSize(page, `${hash} at ${viewport.width}`);
      }
      await page.go(`#/c/${ids[0]}`);
      await page.sees(`document.querySelector("h1")?.textContent === "room-1"`);
      // Each window takes the focus, and returns it when it is closed.
      for (const [selector, title] of [[".header [aria-label^=About]", "About"], [".bell", "Notifications"], [".people-toggle", ""]]) {
        await page.evaluate(`[...document.querySelectorAll(${JSON.stringify(selector)})].find((node) => node.checkVisibility()).click()`);
        if (title !== "") await page.sees(`document.querySelector("dialog[open] h2")?.textContent.startsWith(${JSON.stringify(title)})`);
        await checkSize(page, `${selector} at ${viewport.width}`);
        if (title !== "") await page.evaluate(`document.querySelector("dialog[open] [aria-label=Close]").click()`);
        await checkSize(page, `after ${selector} at ${viewport.width}`);
      }
    }
    noComplaints(page.visitor);
  });
}

test("a mouse wheel over the header scrolls nothing", async (t) => {
  await fill(t, "ada-wheel", 20, 20);
  const { visitor, sees, evaluate } = await browsers.Chromium(t, { token: tokenOf("ada-wheel", "Ada Wheel") });
  await sees(`document.querySelectorAll("a.conversation").length > 20`);
  await visitor.page.mouse.move(700, 20);
  await visitor.page.mouse.wheel(0, 2_000);
  // The wheel is handled with a frame of its own.
  await evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
  await checkSize({ evaluate }, "after the wheel");
  noComplaints(visitor);
});

for (const [browser, open] of Object.entries(browsers)) {
  test(`300 rooms are ordered by importance and show their news, in ${browser}`, async (t) => {
    const sub = `ada-order-${browser.toLowerCase()}`;
    const { bob, user, ids } = await fill(t, sub, ROOMS, 100);
    // A room that was not changed last has the newest message, which has been read.
    const { message } = await must(bob, "message", { conversationId: ids[289], content: "the newest of all" });
    await must(user, "mark_read", { conversationId: ids[289], seq: message.seq });
    await must(bob, "message", { conversationId: ids[49], content: "hello", mentions: [sub] });
    await must(user, "set_notification_level", { conversationId: ids[59], level: "none" });
    const pagesRead = async () => (await metric(shared.server.url, 'roomcast_events_received_total{event="message_history"}')) ?? 0;
    const before = await pagesRead();
    const page = await open(t, { token: tokenOf(sub, "Ada Order"), hash: `#/c/${ids[199]}` });
    const rows = `[...document.querySelectorAll("a.conversation")].map((row) => row.querySelector(".conversation-title").textContent)`;
    const unread = Array.from({ length: 100 }, (_, index) => `room-${100 - index}`).filter((name) => name !== "room-50" && name !== "room-60");
    await page.sees(`JSON.stringify(${rows}.slice(0, 99)) === ${JSON.stringify(JSON.stringify(["room-50", ...unread]))}`);
    // The rest is ordered by the newest message.
    await page.sees(`${rows}[99] === "room-290"`);
    assert.match(await page.evaluate("document.title"), /^\(100\) room-200 /);

    // Read, unread, mentioned and muted rooms look different without their words.
    const look = (name) =>
      page.evaluate(`(() => {
        const row = [...document.querySelectorAll("a.conversation")].find((row) => row.querySelector(".conversation-title").textContent === "${name}");
        const [title, count] = [row.querySelector(".conversation-title"), row.querySelector(".count")];
        return [getComputedStyle(title).fontWeight, getComputedStyle(title).color, count && getComputedStyle(count).backgroundColor, row.querySelectorAll(".conversation-top svg").length].join();
      })()`);
    const looks = await Promise.all(["room-50", "room-100", "room-60", "room-300"].map(look));
    assert.equal(new Set(looks).size, 4, looks.join(" | "));
    const avatars = await page.evaluate(`[...document.querySelectorAll("a.conversation")].filter((row) => /^room-(1|11|12|111)$/.test(row.querySelector(".conversation-title").textContent)).map((row) => row.querySelector(".avatar").textContent).sort()`);
    assert.deepEqual(avatars, ["111", "R1", "R11", "R12"]);

    // Every room that comes into view shows its newest message and the time of that.
    await page.evaluate(`document.querySelector(".conversations").scrollTo(0, 1e6)`);
    await page.sees(`[...document.querySelectorAll("a.conversation")].slice(-12).every((row) => /message of|No messages/.test(row.textContent))`);
    assert.equal(await page.evaluate(`[...document.querySelectorAll("a.conversation")].slice(-12).filter((row) => row.querySelector("time") !== null).length >= 11`), true);
    await page.look("rooms");
    // The server lists the newest messages, so the page reads none for the list.
    assert.ok((await pagesRead()) - before <= 3);

    // An opened room keeps its place until another one is opened.
    await page.go(`#/c/${ids[94]}`);
    await page.sees(`document.title.startsWith("(99) room-95 ")`);
    assert.equal(await page.evaluate(`${rows}[6]`), "room-95");
    await page.go(`#/c/${ids[199]}`);
    await page.sees(`!${rows}.slice(0, 98).includes("room-95")`);
    noComplaints(page.visitor);
  });
}
