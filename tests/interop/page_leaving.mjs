// Signing out with unsent messages: what happens to them, in this tab and in others.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DESK, client, checkLookEverywhere, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

/** Returns the number of queue entries that a browser stores, for all users. */
const queuedCount = ({ page }) => page.evaluate(async () => {
  const database = await new Promise((done, fail) => {
    const opening = indexedDB.open("roomcast");
    opening.onsuccess = () => done(opening.result);
    opening.onerror = () => fail(opening.error);
  });
  const count = await new Promise((done) => {
    const counting = database.transaction("queue").objectStore("queue").count();
    counting.onsuccess = () => done(counting.result);
  });
  database.close();
  return count;
});

test("signing out with unsent messages is confirmed and deletes guest data", async (t) => {
  const guest = await Visitor.enter(t, shared.browser, shared.server.url, "Guest Leaving");
  const second = new Visitor(guest.context, await guest.context.newPage(), guest.link);
  await second.page.goto(guest.link.url);
  await second.isOnline();
  await guest.say("to be deleted by a guest");
  await guest.message("to be deleted by a guest", "stored").waitFor();
  guest.link.cut();
  await Promise.all([guest.isOffline(), second.isOffline()]);
  await guest.say("a secret of the guest", "another secret");
  await second.say("a secret of the other tab");
  await until(async () => (await queuedCount(guest)) === 3, "the queue to be kept");
  await guest.page.locator("li.message[data-state=stored]").filter({ hasText: "to be deleted by a guest" }).focus();
  await guest.page.keyboard.press("Delete");
  const dialog = ({ page }) => page.getByRole("dialog", { name: "Sign out" });
  await guest.page.getByRole("button", { name: "Sign out" }).click();
  await dialog(guest).getByText("2 messages and 1 change are not sent yet.").waitFor();
  await checkLookEverywhere(guest, "sign-out");
  await dialog(guest).getByRole("button", { name: "Wait" }).click();
  await dialog(guest).waitFor({ state: "detached" });
  await guest.message("another secret", "waiting").waitFor();

  await guest.page.getByRole("button", { name: "Sign out" }).click();
  await dialog(guest).getByRole("button", { name: "Discard and sign out" }).click();
  await guest.page.getByLabel("Your name").waitFor();
  // The other tab belongs to the same guest, and asks about its own messages.
  await dialog(second).getByText("1 message is not sent yet.").waitFor();
  await dialog(second).getByRole("button", { name: "Discard and sign out" }).click();
  await second.page.getByLabel("Your name").waitFor();
  await until(async () => (await queuedCount(guest)) === 0, "nothing to be kept");
  assert.deepEqual(await guest.page.evaluate(() => Object.keys(localStorage).filter((key) => key !== "roomcast.theme")), []);

  // The next guest is another user, and sends none of it.
  guest.link.restore();
  await guest.page.getByLabel("Your name").fill("Guest Next");
  await guest.page.getByRole("button", { name: "Join the chat" }).click();
  await guest.isOnline();
  await guest.say("by the next guest");
  await guest.message("by the next guest", "stored").waitFor();
  assert.equal(await guest.page.getByText("secret").count(), 0);
  noComplaints(guest, second);
});

test("a tab of a signed-out guest leaves nothing when closed without answer", async (t) => {
  const guest = await Visitor.enter(t, shared.browser, shared.server.url, "Guest Gone");
  const second = new Visitor(guest.context, await guest.context.newPage(), guest.link);
  await second.page.goto(guest.link.url);
  await second.isOnline();
  await second.say("to be deleted by the second tab");
  await second.message("to be deleted by the second tab", "stored").waitFor();
  guest.link.cut();
  await Promise.all([guest.isOffline(), second.isOffline()]);
  await second.page.locator("li.message[data-state=stored]").filter({ hasText: "to be deleted by the second tab" }).focus();
  await second.page.keyboard.press("Delete");
  await second.say("a secret of the second tab");
  await until(async () => (await queuedCount(guest)) >= 1, "the queue to be kept");
  await guest.page.getByRole("button", { name: "Sign out" }).click();
  await guest.page.getByLabel("Your name").waitFor();
  const dialog = second.page.getByRole("dialog", { name: "Sign out" });
  await dialog.getByText("1 message and 1 change are not sent yet.").waitFor();
  await dialog.getByText("You have signed out in another tab: unsent entries are lost when this tab is closed.").waitFor();
  await checkLookEverywhere(second, "signed-out-elsewhere");
  await dialog.getByRole("button", { name: "Wait" }).click();
  await dialog.waitFor({ state: "detached" });
  // The user may continue to write in the waiting tab; that is not kept either.
  await second.say("another secret");
  await second.message("another secret", "waiting").waitFor();
  await second.composer.fill("begun");
  await guest.page.getByLabel("Your name").fill("Guest After");
  await guest.page.getByRole("button", { name: "Join the chat" }).click();
  const names = () => guest.page.evaluate(() => Object.keys(localStorage).sort());
  await until(async () => (await names()).includes("roomcast.guestKey"), "the next guest");
  await second.page.close({ runBeforeUnload: true });
  await until(() => second.page.isClosed(), "the end of the tab");
  await until(async () => (await queuedCount(guest)) === 0, "nothing to be kept");
  assert.deepEqual(await names(), ["roomcast.guestKey", "roomcast.name"]);
  guest.link.restore();
  await guest.isOnline();
  assert.equal(await guest.page.getByText("secret").count(), 0);
  noComplaints(guest, second);
});

test("a tab of a signed-out guest sends its queue and admits the next guest", async (t) => {
  const guest = await Visitor.enter(t, shared.browser, shared.server.url, "Guest Waiting");
  const second = new Visitor(guest.context, await guest.context.newPage(), guest.link);
  await second.page.goto(guest.link.url);
  await second.isOnline();
  await second.say("gone in the end");
  await second.message("gone in the end", "stored").waitFor();
  guest.link.cut();
  await Promise.all([guest.isOffline(), second.isOffline()]);
  await second.page.locator("li.message[data-state=stored]").filter({ hasText: "gone in the end" }).focus();
  await second.page.keyboard.press("Delete");
  await second.say("sent in the end");
  await guest.page.getByRole("button", { name: "Sign out" }).click();
  const dialog = second.page.getByRole("dialog", { name: "Sign out" });
  await dialog.getByText("1 message and 1 change are not sent yet.").waitFor();
  // It reconnects while no user is stored in the browser, and continues as its own user.
  guest.link.restore();
  await dialog.getByText("Everything is sent.").waitFor();
  await guest.page.getByLabel("Your name").fill("Guest Following");
  await guest.page.getByRole("button", { name: "Join the chat" }).click();
  await guest.isOnline();
  await guest.message("sent in the end").waitFor();
  await guest.message("gone in the end").waitFor({ state: "detached" });
  await dialog.getByRole("button", { name: "Sign out", exact: true }).click();
  await second.page.getByLabel("Your name").waitFor();
  // This signs out no other user.
  await guest.say("still here");
  await guest.message("still here", "stored").waitFor();
  await until(async () => (await queuedCount(guest)) === 0, "nothing to be kept");
  noComplaints(guest, second);
});

test("a user who waits at sign-out is notified when everything is sent", async (t) => {
  const ada = await signIn(t, "ada-waits", "Ada Waits");
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  ada.link.cut();
  await ada.isOffline();
  await ada.say("sent before leaving");
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  const dialog = ada.page.getByRole("dialog", { name: "Sign out" });
  await dialog.getByText("1 message is not sent yet.").waitFor();
  ada.link.restore();
  await dialog.getByText("Everything is sent.").waitFor();
  await dialog.getByRole("button", { name: "Sign out", exact: true }).click();
  await ada.page.getByRole("button", { name: "Sign in with a token instead" }).waitFor();
  await ada.giveToken(tokenOf("ada-waits", "Ada Waits"));
  await ada.isOnline();
  await ada.message("sent before leaving", "stored").waitFor();
  noComplaints(ada);
});

test("a discarded deletion is not sent when the user signs in again", async (t) => {
  const ada = await signIn(t, "ada-discards", "Ada Discards");
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  await ada.say("not deleted after all");
  await ada.message("not deleted after all", "stored").waitFor();
  await ada.stretchUndo();
  ada.link.cut();
  await ada.isOffline();
  await ada.page.locator("li.message[data-state=stored]").filter({ hasText: "not deleted after all" }).focus();
  await ada.page.keyboard.press("Delete");
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  const dialog = ada.page.getByRole("dialog", { name: "Sign out" });
  await dialog.getByText("1 change is not sent yet.").waitFor();
  await dialog.getByRole("button", { name: "Discard and sign out" }).click();
  await ada.page.getByRole("button", { name: "Sign in with a token instead" }).waitFor();
  // A deletion that stays stored is sent by the next session.
  assert.deepEqual(await ada.page.evaluate(() => Object.keys(localStorage).filter((key) => key.includes("deletions"))), []);
  ada.link.restore();
  await ada.giveToken(tokenOf("ada-discards", "Ada Discards"));
  await ada.isOnline();
  await ada.message("not deleted after all", "stored").waitFor();
  noComplaints(ada);
});

/** Returns all text of the document: texts, attributes, fields and its title. */
const documentOf = (page) =>
  page.evaluate(() => {
    const fields = [...document.querySelectorAll("input, textarea")].map(({ value }) => value);
    return [document.title, document.documentElement.outerHTML, ...fields].join("\n");
  });

/**
 * Asserts that a document has nothing of a user. A failure shows matches with their surroundings.
 */
async function assertEmptied(page, words = "private|discreet") {
  const found = (await documentOf(page)).match(new RegExp(`.{0,200}(?:${words}).{0,50}`, "gi")) ?? [];
  assert.deepEqual(found, []);
}

/**
 * Fills a page with data that only its user may read: messages, people, a notice, the log, a title,
 * a started reply.
 */
async function readPrivately(t, ada, sub) {
  const bob = await client(t, `private-bob-${sub}`, "Private Bob");
  const id = await make(bob, "Private plans", [sub], "a private message", "to be answered in private");
  const other = await make(bob, "Private club", [sub]);
  await must(bob, "join_conversation", id);
  await ada.page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("a private message").waitFor();
  await ada.person("Private Bob").waitFor({ state: "attached" });
  await must(bob, "message", { conversationId: id, content: "read out in private" });
  await ada.page.getByRole("log").getByText("Private Bob: read out in private").waitFor({ state: "attached" });
  await must(bob, "message", { conversationId: other, content: "told in private" });
  await ada.page.locator(".notice").filter({ hasText: "told in private" }).waitFor();
  await ada.message("to be answered in private").focus();
  await ada.page.keyboard.press("r");
  await ada.page.getByRole("button", { name: "Cancel the reply" }).waitFor();
  await until(async () => (await ada.page.title()).includes("Private plans"), "the title");
  assert.match(await documentOf(ada.page), /private/i);
  return id;
}

test("nothing private is in the document after the user signs out", async (t) => {
  const ada = await signIn(t, "ada-discreet", "Ada Discreet");
  await readPrivately(t, ada, "ada-discreet");
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  await ada.page.getByRole("button", { name: "Join the chat" }).waitFor();
  await assertEmptied(ada.page);
  await ada.giveToken(tokenOf("eve-next", "Eve Next"));
  await ada.isOnline();
  await ada.page.getByRole("button", { name: "New conversation" }).click();
  await ada.page.getByLabel("Add people").fill("private");
  await ada.page.getByText("The user with the id private").waitFor();
  assert.equal(await ada.page.getByRole("list", { name: "People to add" }).getByText("Private Bob").count(), 0);
  noComplaints(ada);
});

test("nothing private is in the document after the user is revoked", async (t) => {
  const ada = await signIn(t, "ada-revoked", "Ada Discreet");
  await readPrivately(t, ada, "ada-revoked");
  await ada.page.keyboard.press("Control+k");
  await ada.page.getByRole("dialog", { name: "Search" }).getByRole("searchbox").fill("private");
  await ada.page.locator(".found").getByText("a private message").waitFor();
  // A page out of view gets no frames.
  await ada.page.evaluate(() => (globalThis.requestAnimationFrame = () => 0));
  const headers = { authorization: `Bearer ${token({ sub: "root", roles: ["admin"] })}`, "content-type": "application/json" };
  const answer = await fetch(`${shared.server.url}/api/v1/revocations`, { method: "POST", headers, body: JSON.stringify({ userId: "ada-revoked" }) });
  assert.ok(answer.ok, await answer.text());
  await ada.page.getByRole("alert").getByText("Your access was revoked.").waitFor();
  await assertEmptied(ada.page);
});

test("nothing private is in the document after the cookie names another user", async (t) => {
  const ada = await Visitor.open(t, shared.browser, shared.server.url, { viewport: DESK });
  const become = (sub, name) => ada.context.addCookies([{ name: "roomcast_token", value: tokenOf(sub, name), url: ada.link.url, httpOnly: true, sameSite: "Lax" }]);
  await become("ada-changed", "Ada Discreet");
  await ada.page.reload();
  await ada.isOnline();
  const id = await readPrivately(t, ada, "ada-changed");
  // A reload leads to the same conversation.
  await ada.page.reload();
  await ada.message("a private message").waitFor();
  assert.equal(new URL(ada.page.url()).hash, `#/c/${id}`);
  await ada.message("to be answered in private").focus();
  await ada.page.keyboard.press("r");
  await ada.composer.fill("begun in private");
  await become("eve-changed", "Eve Next");
  ada.link.cut();
  await ada.isOffline();
  ada.link.restore();
  await ada.page.locator(".self-name").getByText("Eve Next", { exact: true }).waitFor();
  await ada.isOnline();
  // The document may list the former user, who counts as present in the Lobby until its connection
  // has timed out. It may also list users of other tests, so their ids and names must not contain
  // the word.
  await assertEmptied(ada.page, "private");
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  await ada.say("by the next user");
  await ada.message("by the next user", "stored").waitFor();
  noComplaints(ada);
});
