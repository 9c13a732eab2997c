// The page in Chromium and in Firefox, for journeys that are the same in both.
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FirefoxVisitor, launchFirefox } from "./firefox.mjs";
import { DESK, checkLook, client, make, must, shared } from "./page_support.mjs";
import { until } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

let firefox;
before(async () => {
  firefox = await launchFirefox();
});
after(async () => {
  await firefox?.close();
});

/** Opens the page in each browser, as a page that evaluates expressions and presses keys. */
export const browsers = {
  async Chromium(t, { url = shared.server.url, hash = "", token }) {
    const visitor = await Visitor.open(t, shared.browser, url, { viewport: DESK, path: `/${hash}` });
    const { page } = visitor;
    if (token !== undefined) {
      await visitor.giveToken(token);
      await page.locator(".status[data-state=online]").waitFor();
    }
    return {
      visitor,
      evaluate: (expression) => page.evaluate(expression),
      sees: (expression) => until(() => page.evaluate(`Boolean(${expression})`), expression, 60_000),
      async press(...keys) {
        for (const key of keys) await page.keyboard.press(key);
      },
      type: (text) => page.keyboard.type(text),
      go: (hash) => page.evaluate((hash) => void (location.hash = hash), hash),
      resize: (viewport) => page.setViewportSize(viewport),
      look: (name) => checkLook(visitor, name),
    };
  },
  async Firefox(t, { url = shared.server.url, hash = "", token }) {
    const visitor = await FirefoxVisitor.open(t, firefox, url, DESK);
    const go = (hash) => visitor.evaluate(`void (location.hash = ${JSON.stringify(hash)})`);
    await go(hash);
    if (token !== undefined) {
      const isByName = "document.querySelector('#name')";
      await visitor.sees(`${isByName} ?? document.querySelector('#token')`);
      if (await visitor.evaluate(`Boolean(${isByName})`)) await visitor.click("button", "Sign in with a token instead");
      await visitor.focus("#token");
      await visitor.type(token, "Enter");
      await visitor.sees("document.querySelector('.status[data-state=online]')");
    }
    return {
      visitor,
      evaluate: (expression) => visitor.evaluate(expression),
      sees: (expression) => visitor.sees(expression),
      press: (...keys) => visitor.type(...keys),
      type: (text) => visitor.type(text),
      go,
      resize: (viewport) => firefox.command("browsingContext.setViewport", { context: visitor.context, viewport }),
      look: (name) => visitor.screenshot(`firefox-${name}`),
    };
  },
};

/** Creates the conversations of a user, who has read all of them but the first. */
export async function fill(t, sub, count, unread) {
  const [bob, user] = [await client(t, `bob-${sub}`, "Bob Rooms"), await client(t, sub, sub)];
  const ids = [];
  for (let index = 1; index <= count; index += 1) {
    const conversationId = await make(bob, `room-${index}`, [sub], `message of ${index}`);
    ids.push(conversationId);
    if (index > unread) await must(user, "mark_read", { conversationId, seq: 1 });
    // Rooms whose messages are of the same millisecond have no order.
    for (const filled = Date.now(); Date.now() === filled; ) await sleep(1);
  }
  return { bob, user, ids };
}
