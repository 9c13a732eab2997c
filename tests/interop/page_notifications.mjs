// Notifications: the bell with its count, and the list in which they are read.
import assert from "node:assert/strict";
import { test } from "node:test";
import { violations } from "./axe.mjs";
import { DESK, PHONE, client, make, must, noComplaints, shared, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";
import { token } from "./tokens.mjs";

const service = `Bearer ${token({ sub: "backend", roles: ["service"] })}`;

async function notify(userId, notificationId, more = {}) {
  const body = { userId, notificationId, type: "info", title: `Title ${notificationId}`, message: `Message ${notificationId}`, ...more };
  const answer = await fetch(`${shared.server.url}/api/v1/notifications`, {
    method: "POST",
    headers: { authorization: service, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}

const bell = ({ page }, count) => page.getByRole("button", { name: count === undefined ? "Notifications" : `Notifications, ${count} new`, exact: true });
const item = ({ page }, id) => page.locator(`[data-notification="${id}"]`);
/** Returns the notifications that the server still has for a user. */
const storedIds = async (socket) => (await must(socket, "subscribe:notifications", {})).snapshot.notifications.map(({ notificationId }) => notificationId);

for (const [where, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`notifications are read and acknowledged by keyboard, at a ${where} in ${colorScheme}`, async (t) => {
      const sub = `note-${where}-${colorScheme}`;
      const other = await client(t, sub, "Same User");
      await notify(sub, `${sub}-1`, { type: "success", title: "Your report is ready", message: "It has 12 pages.", actionUrl: "https://example.org/report" });
      const ada = await signIn(t, sub, "Ada Note", { viewport, colorScheme });
      await bell(ada, 1).first().waitFor();
      await notify(sub, `${sub}-2`, { type: "error", priority: "urgent", title: "Payment failed", message: "The card was declined.", actionUrl: "/#/trading" });
      await ada.page.getByRole("alert").getByText("Payment failed: The card was declined.").waitFor();
      await ada.page.locator(".bell:visible", { hasText: "2" }).press("Enter");
      await ada.page.getByRole("dialog", { name: "Notifications" }).waitFor();
      assert.deepEqual(await violations(ada), []);
      await ada.screenshot(`${sub}-new`);
      await until(async () => (await storedIds(other)).length === 0, "both to be acknowledged");
      await item(ada, `${sub}-1`).and(ada.page.locator(".is-read")).waitFor();
      const report = item(ada, `${sub}-1`).getByRole("link", { name: "Open example.org “Your report is ready”", exact: true });
      assert.equal(await report.getAttribute("rel"), "noopener noreferrer");
      assert.deepEqual(await violations(ada), []);
      await ada.screenshot(`${sub}-read`);
      await item(ada, `${sub}-2`).getByRole("link").press("Enter");
      await ada.page.getByRole("heading", { name: "Trading" }).waitFor();
      await ada.page.getByRole("dialog").waitFor({ state: "detached" });
      await ada.page.locator(".bell:visible").press("Enter");
      await ada.page.getByText("There are no new notifications.").waitFor();
      await ada.page.keyboard.press("Escape");
      assert.equal(await ada.page.evaluate(() => document.activeElement.classList.contains("bell")), true);
      noComplaints(ada);
    });
  }
}

test("read notifications leave other tabs, and offline ones are sent later", async (t) => {
  const sub = "note-tabs";
  const ada = await signIn(t, sub, "Ada Tabs");
  const second = await signIn(t, sub, "Ada Tabs");
  await notify(sub, "tabs-1");
  await bell(ada, 1).first().waitFor();
  await bell(second, 1).first().waitFor();
  ada.link.cut();
  await ada.isOffline();
  await bell(ada, 1).first().click();
  await item(ada, "tabs-1").and(ada.page.locator(".is-read")).waitFor();
  await bell(second, 1).first().waitFor();
  ada.link.restore();
  await bell(second).first().waitFor();
  await bell(ada).first().waitFor();
  noComplaints(ada, second);
});

for (const [where, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
  test(`all are read by one press and listed as earlier, at a ${where}`, async (t) => {
    const sub = `note-earlier-${where}`;
    const other = await client(t, sub, "Same User");
    for (let index = 0; index < 60; index += 1) await notify(sub, `early-${index}`, { message: "It has happened." });
    const ada = await signIn(t, sub, "Ada Earlier", { viewport });
    await bell(ada, 60).first().waitFor();
    await ada.page.locator(".bell:visible").press("Enter");
    const dialog = ada.page.getByRole("dialog", { name: "Notifications" });
    const everything = dialog.getByRole("button", { name: "Mark all as read" });
    const acked = new Promise((done) => other.once("notifications:acked", done));
    await must(other, "subscribe:notifications", {});
    await everything.press("Enter");
    // The first of 60 requests would have caused an event of its own.
    await acked;
    await until(async () => (await storedIds(other)).length === 0, "all to be acknowledged");
    await ada.page.keyboard.press("Escape");
    await bell(ada).first().waitFor();
    await ada.page.locator(".bell:visible").press("Enter");
    await dialog.getByText("There are no new notifications.").waitFor();
    await dialog.getByRole("button", { name: "Show earlier notifications" }).press("Enter");
    const earlier = dialog.getByRole("list", { name: "Earlier notifications" }).getByRole("listitem");
    await until(async () => (await earlier.count()) === 50, "the first page");
    await until(() => dialog.getByRole("heading", { name: "Earlier" }).evaluate((node) => node === document.activeElement), "the focus");
    assert.deepEqual(await violations(ada), []);
    await ada.screenshot(`${sub}-first`);
    await dialog.getByRole("button", { name: "Show more" }).press("Enter");
    await until(async () => (await earlier.count()) === 60, "all of them");
    await dialog.getByRole("button", { name: "Show more" }).waitFor({ state: "detached" });
    assert.equal(await ada.page.evaluate(() => document.documentElement.scrollWidth), viewport.width);
    noComplaints(ada);
  });
}

test("a mention is no longer new once its message was read, in every tab", async (t) => {
  const sub = "note-mention";
  const bob = await client(t, "bob-mention", "Bob Mention");
  const id = await make(bob, "Mentions", [sub], "first");
  const ada = await signIn(t, sub, "Ada Mention");
  const second = await signIn(t, sub, "Ada Mention");
  for (const one of [ada, second]) {
    await one.toList();
    await one.conversation("Lobby").click();
    await one.page.getByRole("heading", { name: "Lobby" }).waitFor();
  }
  await must(bob, "message", { conversationId: id, content: "look here", mentions: [sub] });
  await bell(ada, 1).first().waitFor();
  await bell(second, 1).first().waitFor();
  await ada.toList();
  await ada.conversation("Mentions").click();
  await ada.message("look here").waitFor();
  await bell(ada).first().waitFor();
  await bell(second).first().waitFor();
  noComplaints(ada, second);
});

test("a notification that the service withdraws leaves the list", async (t) => {
  const sub = "note-withdrawn";
  const ada = await signIn(t, sub, "Ada Withdrawn");
  await notify(sub, "wrong");
  await bell(ada, 1).first().waitFor();
  const answer = await fetch(`${shared.server.url}/api/v1/notifications/withdraw`, {
    method: "POST",
    headers: { authorization: service, "content-type": "application/json" },
    body: JSON.stringify({ notificationId: "wrong", userId: sub }),
  });
  assert.equal(answer.status, 200);
  await bell(ada).first().waitFor();
  noComplaints(ada);
});

test("two hundred notifications and hostile ones stay within the list", async (t) => {
  const sub = "note-hostile";
  const ada = await signIn(t, sub, "Ada Many", { viewport: PHONE });
  await notify(sub, "hostile", { title: "<b>\u05d0</b> ".padEnd(200, "W"), message: "W".repeat(2_000) });
  for (let index = 0; index < 150; index += 1) await notify(sub, `many-${index}`);
  await ada.page.locator(".bell:visible", { hasText: "99+" }).click();
  await until(async () => (await ada.page.locator("[data-notification]").count()) >= 151, "all of them");
  assert.equal(await ada.page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
  assert.equal(await ada.page.locator(".notification-title b").count(), 0);
  assert.deepEqual(await ada.page.locator("[data-notification] a").count(), 0);
  await ada.screenshot("notifications-many");
  const other = await client(t, sub, "Same User");
  await ada.page.getByRole("button", { name: "Mark all as read" }).click();
  await until(async () => (await storedIds(other)).length === 0, "all to be acknowledged", 60_000);
  noComplaints(ada);
});
