// What the page costs and how it looks in other circumstances: the first load over a slow line, scrolling, notifications
// of the browser, forced colours. The figures are printed; what is asserted are bounds far from them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, make, must, noComplaints, shared, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";

/**
 * Counts from the first moment what is painted, and what moves without anybody's doing; a button that grows with what it
 * says ("5 new messages") moves its own icon and nothing else.
 */
const watchPage = () => {
  globalThis.shifts = [];
  const isInButton = ({ node }) => (node?.closest ? node : node?.parentElement)?.closest("button");
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries()) {
      if (!hadRecentInput && !sources.every(isInButton)) globalThis.shifts.push({ value, moved: sources.map(({ node }) => node?.className ?? node?.nodeName) });
    }
  }).observe({ type: "layout-shift", buffered: true });
};

test("the first load is painted at once, also over a slow line, and nothing moves", async (t) => {
  const lines = {
    "without a limit": undefined,
    "1.6 Mbit/s, 150 ms": { offline: false, latency: 150, downloadThroughput: 1_600_000 / 8, uploadThroughput: 750_000 / 8 },
  };
  for (const [name, line] of Object.entries(lines)) {
    const context = await shared.browser.newContext({ viewport: { width: 1280, height: 800 } });
    t.after(() => context.close());
    const page = await context.newPage();
    await page.addInitScript(watchPage);
    const session = await context.newCDPSession(page);
    await session.send("Network.enable");
    if (line !== undefined) await session.send("Network.emulateNetworkConditions", line);
    let received = 0;
    session.on("Network.loadingFinished", ({ encodedDataLength }) => (received += encodedDataLength));
    await page.goto(shared.server.url);
    await page.getByLabel("Your name").waitFor();
    const painted = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
    t.diagnostic(`${name}: ${received} bytes over the wire, first contentful paint after ${Math.round(painted)} ms`);
    assert.ok(received > 10_000 && received <= 60 * 1024, `${received} bytes`);
    assert.deepEqual(await page.evaluate(() => globalThis.shifts), []);
  }
});

test("joining, history and messages that come move nothing in view", async (t) => {
  const bob = await client(t, "bob-shift", "Bob Shift");
  const id = await make(bob, "Still", ["ada-shift"], ...Array.from({ length: 120 }, (_, index) => `still ${index}`));
  const ada = await signIn(t, "ada-shift", "Ada Shift");
  await ada.message("still 119").waitFor();
  await ada.page.evaluate(watchPage);
  const isThere = async () => {
    await ada.page.locator(".scroller").evaluate((scroller) => scroller.scrollBy(0, -300));
    return (await ada.message("still 40").count()) > 0;
  };
  await until(isThere, "history");
  for (let index = 0; index < 5; index += 1) await must(bob, "message", { conversationId: id, content: `later ${index}` });
  await ada.page.getByRole("button", { name: "5 new messages" }).waitFor();
  assert.deepEqual(await ada.page.evaluate(() => globalThis.shifts), []);
  noComplaints(ada);
});

/** Frames as the tracing of Chromium has them: how many were presented and how long each took on the main thread. */
async function traced(session, action) {
  const events = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...value));
  await session.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["disabled-by-default-devtools.timeline", "disabled-by-default-devtools.timeline.frame"] } });
  const result = await action();
  const complete = new Promise((done) => session.once("Tracing.tracingComplete", done));
  await session.send("Tracing.end");
  await complete;
  return { events, result };
}

test("ten thousand messages are scrolled through, and the frames are counted", async (t) => {
  const bob = await client(t, "bob-scroll", "Bob Scroll");
  const id = await make(bob, "Scroll", ["ada-scroll"]);
  const writing = Array.from({ length: 10_000 }, (_, index) => index);
  while (writing.length > 0) {
    const content = (index) => `scroll ${index} ${"with **some** words ".repeat(index % 7)}`;
    await Promise.all(writing.splice(0, 100).map((index) => must(bob, "message", { conversationId: id, content: content(index) })));
  }
  const ada = await signIn(t, "ada-scroll", "Ada Scroll");
  await ada.page.getByRole("heading", { name: "Scroll" }).waitFor();
  await ada.page.waitForFunction(() => document.querySelectorAll("li.message").length > 20);
  const session = await ada.context.newCDPSession(ada.page);
  const { events, result: steps } = await traced(session, () =>
    ada.page.evaluate(async () => {
      const scroller = document.querySelector(".scroller");
      const times = [];
      let before = performance.now();
      const isFirst = () => document.querySelector("li.message")?.dataset.seq === "1";
      while (!isFirst() || scroller.scrollTop > 0) {
        scroller.scrollBy(0, -600);
        await new Promise((done) => requestAnimationFrame(done));
        const now = performance.now();
        times.push(now - before);
        before = now;
      }
      return times;
    }),
  );
  const tasks = events.filter(({ name, dur }) => name === "RunTask" && dur > 0).map(({ dur }) => dur / 1_000);
  const named = (wanted) => events.filter(({ name }) => name === wanted).length;
  const frames = steps.toSorted((one, other) => one - other);
  const at = (share) => frames[Math.floor((frames.length - 1) * share)].toFixed(1);
  const late = frames.filter((time) => time > 1_000 / 60 + 1).length;
  t.diagnostic(
    `${frames.length} frames: median ${at(0.5)} ms, 95 % ${at(0.95)} ms, 99 % ${at(0.99)} ms, longest ${at(1)} ms; ${late} later than 60 a second; ` +
      `${named("DrawFrame")} drawn, ${named("DroppedFrame")} dropped; ` +
      `${tasks.filter((time) => time > 50).length} tasks over 50 ms, the longest ${Math.max(0, ...tasks).toFixed(0)} ms`,
  );
  assert.ok(frames.length > 100);
  assert.equal(await ada.page.evaluate(() => document.querySelector("li.message").dataset.seq), "1");
  noComplaints(ada);
});

test("the browser notifies of messages while the page is out of view, if that was allowed", async (t) => {
  const bob = await client(t, "bob-notify", "Bob Notify");
  const id = await make(bob, "Bell", ["ada-notify"], "before");
  const ada = await signIn(t, "ada-notify", "Ada Notify", { permissions: ["notifications"] });
  await ada.page.getByRole("heading", { name: "Bell" }).waitFor();
  // What the page asks the browser to show; nobody sees it where there is no desktop.
  await ada.page.evaluate(() => {
    globalThis.shown = [];
    globalThis.Notification = class extends Notification {
      constructor(title, options) {
        super(title, options);
        globalThis.shown.push({ title, body: options.body, tag: options.tag, notification: this });
      }
    };
  });
  const bell = ada.page.getByRole("button", { name: "Notify me when this page is not in view" });
  assert.equal(await ada.page.evaluate(() => Notification.permission), "granted");
  await bell.click();
  await ada.page.getByRole("button", { name: "Notifications are on" }).waitFor();
  await ada.screenshot("notifications-on");
  const hide = (state) =>
    ada.page.evaluate((state) => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, state);
  const shown = () => ada.page.evaluate(() => globalThis.shown.map(({ title, body, tag }) => ({ title, body, tag })));
  await must(bob, "message", { conversationId: id, content: "in view" });
  await ada.message("in view").waitFor();
  assert.deepEqual(await shown(), []);
  await hide("hidden");
  await must(bob, "message", { conversationId: id, content: "out of **view**" });
  await until(async () => (await shown()).length > 0, "the notification");
  const [told] = await shown();
  assert.deepEqual([told.title, told.tag], ["Bell", id]);
  assert.match(told.body, /^Bob Notify: out of/);
  // It leads to the message.
  await ada.page.evaluate(() => (location.hash = "#/c/00000000-0000-4000-8000-000000000001"));
  await hide("visible");
  await ada.page.evaluate(() => globalThis.shown[0].notification.dispatchEvent(new Event("click")));
  await ada.page.locator("li.message.is-marked").waitFor();
  assert.equal(new URL(ada.page.url()).hash, `#/c/${id}/3`);
  noComplaints(ada);
});

test("with forced colours everything can be told apart", async (t) => {
  const bob = await client(t, "bob-forced", "Bob Forced");
  const id = await make(bob, "Forced", ["ada-forced"], "hello **Ada**, see https://example.org and `code`");
  await must(bob, "join_conversation", id);
  for (const colorScheme of ["light", "dark"]) {
    const ada = await signIn(t, "ada-forced", "Ada Forced", { colorScheme, forcedColors: "active" });
    await ada.page.getByRole("heading", { name: "Forced" }).waitFor();
    await ada.say(`written in ${colorScheme}`);
    await ada.message(`written in ${colorScheme}`, "stored").waitFor();
    assert.equal(await ada.page.evaluate(() => matchMedia("(forced-colors: active)").matches), true);
    // Colours of our own are gone; bubbles, the chosen conversation and the state of the connection need something else.
    const styleOf = (selector) => ada.page.locator(selector).first().evaluate((node) => {
      const { borderTopWidth, borderTopStyle, outlineStyle, outlineWidth, forcedColorAdjust } = getComputedStyle(node);
      return { border: borderTopStyle !== "none" && borderTopWidth !== "0px", outline: outlineStyle !== "none" && outlineWidth !== "0px", forcedColorAdjust };
    });
    for (const selector of ["li.message.is-own .bubble", "li.message:not(.is-own) .bubble", "a.conversation[aria-current=page]", ".composer"]) {
      const { border, outline } = await styleOf(selector);
      assert.ok(border || outline, `${selector} has no edge`);
    }
    await ada.page.locator("li.message[tabindex='0']").focus();
    await ada.screenshot(`forced-${colorScheme}`);
    noComplaints(ada);
  }
});
