// Shared by the tests of the page: a server and a browser, users, and conversations for them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { violations } from "./axe.mjs";
import { ask, connect, startServer } from "./support.mjs";
import { SECRET, token } from "./tokens.mjs";
import { variants } from "./variants.mjs";
import { Visitor, launch } from "./visitor.mjs";

export const LOBBY = "00000000-0000-4000-8000-000000000001";
export const DESK = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };
/** All sizes and colour schemes: whatever can look or work differently is tested in each. */
export const VARIANTS = Object.entries({ desk: DESK, phone: PHONE }).flatMap(([where, viewport]) =>
  ["light", "dark"].map((colorScheme) => ({ where, isPhone: where === "phone", self: `${where}-${colorScheme}`, options: { viewport, colorScheme } })),
);
export const keyed = { ROOMCAST_AUTH__JWT__SECRET: SECRET };

/** Shared by all tests of this process; available before the first of them. */
export const shared = {};
before(async () => {
  // Confirmations of delivery are awaited however long a busy browser takes.
  shared.server = await startServer({ ...keyed, ROOMCAST_LIMITS__API_CALLS_PER_SECOND: "0", ROOMCAST_CHAT__CONFIRM_TIMEOUT: "60s" });
  shared.browser = await launch();
});
after(async () => {
  await shared.browser?.close();
  await shared.server?.stop();
});

export const tokenOf = (sub, name) => token({ sub, name });

/** Opens the page of a signed-in user. */
export function signIn(t, sub, name, { url = shared.server.url, ...options } = {}) {
  return Visitor.signIn(t, shared.browser, url, tokenOf(sub, name), { viewport: DESK, ...options });
}

/** Defines one test for each size and colour scheme. */
export function everywhere(what, act) {
  for (const variant of variants(VARIANTS)) test(`${what}, at a ${variant.where} in ${variant.options.colorScheme}`, (t) => act(t, variant));
}

/**
 * Checks that the page breaks no rule of WCAG and is no wider than the window, and no higher in the
 * chat, whose lists scroll by themselves. Saves a screenshot for people.
 */
export async function checkLook(visitor, name) {
  assert.deepEqual(await violations(visitor), [], name);
  const { width, height } = visitor.page.viewportSize();
  const size = await visitor.page.evaluate(() => {
    const { scrollWidth, scrollHeight } = document.documentElement;
    return [scrollWidth, document.querySelector(".chat") === null ? undefined : scrollHeight];
  });
  assert.deepEqual(size, [width, size[1] === undefined ? undefined : height], name);
  await visitor.screenshot(name);
}

/**
 * Checks a state that no key press of the visitor causes, in each size and colour scheme, including
 * the system's.
 */
export async function checkLookEverywhere(visitor, name) {
  const { page } = visitor;
  const before = page.viewportSize();
  const isDark = await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches);
  const forced = [DESK, PHONE].map((viewport) => ({ self: `forced-${viewport.width}`, options: { viewport, colorScheme: "dark", forcedColors: "active" } }));
  for (const { self, options } of [...VARIANTS, ...forced]) {
    const { viewport, forcedColors = "none", colorScheme } = options;
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme, forcedColors });
    await checkLook(visitor, `${name}-${self}`);
  }
  await page.setViewportSize(before);
  await page.emulateMedia({ colorScheme: isDark ? "dark" : "light", forcedColors: "none" });
}

/** Connects a stock client of a user. */
export function client(t, sub, name, url = shared.server.url) {
  return connect(t, io, url, { auth: { token: tokenOf(sub, name) } });
}

export async function must(socket, event, payload) {
  const answer = await ask(socket, event, payload);
  assert.equal(answer.success, true, JSON.stringify(answer));
  return answer;
}

/** Creates a conversation with a stock client, with messages. */
export async function make(socket, title, memberIds, ...contents) {
  const { conversation } = await must(socket, "create_conversation", { title, memberIds });
  for (const content of contents) await must(socket, "message", { conversationId: conversation.id, content });
  return conversation.id;
}

/** Marks the messages of a conversation as read, so that it opens at its newest message. */
export async function readAll(t, sub, name, conversationId) {
  await must(await client(t, sub, name), "mark_read", { conversationId, seq: 1_000_000 });
}

export function noComplaints(...visitors) {
  assert.deepEqual(visitors.flatMap(({ complaints }) => complaints), []);
}

/**
 * Records paints and layout shifts from the start, except those the user causes. A button that
 * grows with its text ("5 new messages") moves its own icon and nothing else.
 */
export const watchPage = () => {
  globalThis.shifts = [];
  const elementOf = ({ node }) => (node?.closest ? node : node?.parentElement);
  const isInButton = (source) => elementOf(source)?.closest("button");
  const formatRect = ({ x, y, width, height }) => [x, y, width, height].join(" ");
  const describe = (source) => `${elementOf(source)?.outerHTML.slice(0, 100)} from ${formatRect(source.previousRect)} to ${formatRect(source.currentRect)}`;
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries()) {
      if (!hadRecentInput && !sources.every(isInButton)) globalThis.shifts.push({ value, moved: sources.map(describe) });
    }
  }).observe({ type: "layout-shift", buffered: true });
};
