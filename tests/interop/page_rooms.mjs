// A user with 300 conversations, in Chromium and in Firefox: the document never scrolls, and the
// list shows what is important.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { FirefoxVisitor, launchFirefox } from "./firefox.mjs";
import { DESK, PHONE, checkLook, client, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";

const ROOMS = 300;

let firefox;
before(async () => {
  firefox = await launchFirefox();
});
after(async () => {
  await firefox?.close();
});

/** Opens the page in each browser, as a page that evaluates expressions and presses keys. */
const browsers = {
  async Chromium(t, sub, name, viewport = DESK) {
    const visitor = await signIn(t, sub, name, { viewport });
    return {
      visitor,
      evaluate: (expression) => visitor.page.evaluate(expression),
      sees: (expression) => visitor.page.waitForFunction(expression),
      go: (hash) => visitor.page.evaluate((hash) => void (location.hash = hash), hash),
      resize: (viewport) => visitor.page.setViewportSize(viewport),
      look: (name) => checkLook(visitor, name),
    };
  },
  async Firefox(t, sub, name, viewport = DESK) {
    const visitor = await FirefoxVisitor.open(t, firefox, shared.server.url, viewport);
    await visitor.signIn(tokenOf(sub, name));
    return {
      visitor,
      evaluate: (expression) => visitor.evaluate(expression),
      sees: (expression) => visitor.sees(expression),
      go: (hash) => visitor.evaluate(`void (location.hash = ${JSON.stringify(hash)})`),
      resize: (viewport) => firefox.command("browsingContext.setViewport", { context: visitor.context, viewport }),
      look: (name) => visitor.screenshot(name),
    };
  },
};

/** Creates the conversations of a user; the first ones have an unread message. */
async function fill(t, sub, count, unread) {
  const bob = await client(t, `bob-${sub}`, "Bob Rooms");
  const ids = [];
  for (let index = 1; index <= count; index += 1) ids.push(await make(bob, `room-${index}`, [sub], ...(index <= unread ? [`message of ${index}`] : [])));
  return { bob, ids };
}

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
    const page = await open(t, sub, "Ada Size");
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
  const { visitor, sees, evaluate } = await browsers.Chromium(t, "ada-wheel", "Ada Wheel");
  await sees(`document.querySelectorAll("a.conversation").length > 20`);
  await visitor.page.mouse.move(700, 20);
  await visitor.page.mouse.wheel(0, 2_000);
  // The wheel is handled with a frame of its own.
  await evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
  await checkSize({ evaluate }, "after the wheel");
  noComplaints(visitor);
});
