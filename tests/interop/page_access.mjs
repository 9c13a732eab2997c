// Accessibility of the page: keyboard operation, announcements, both directions of writing, reduced
// motion, and the rules of WCAG in states that a quiet conversation never has.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FaultyServer, message } from "./faulty.mjs";
import { DESK, LOBBY, client, everywhere, keyed, checkLook, checkLookEverywhere, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { startServer, until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

/** Opens the page as a guest, on a server whose faults the test decides. */
async function meet(t, prepare = () => {}) {
  const server = await FaultyServer.start(t, shared.server.url);
  server.stored = [message(1)];
  prepare(server);
  const ada = await Visitor.open(t, shared.browser, server.url, { path: `/#/c/${LOBBY}` });
  await ada.page.getByLabel("Your name").fill("Ada");
  await ada.page.getByRole("button", { name: "Join the chat" }).press("Enter");
  return { server, ada };
}

test("messages that are sent, failed, held or waiting are accessible", async (t) => {
  const { server, ada } = await meet(t);
  await ada.isOnline();
  let release;
  server.faults.message = (give) => (release = give);
  await ada.say("under way");
  await ada.message("under way", "sending").waitFor();
  await checkLook(ada, "access-sending");
  await until(() => release !== undefined, "the message");
  server.faults = {};
  release();
  await ada.message("under way", "stored").waitFor();
  const failing = (code, retryAfter) => (give) => give({ success: false, error: { type: "message", code, message: "no", ...(retryAfter && { retryAfter }) } });
  server.faults.message = failing("FORBIDDEN");
  await ada.say("refused");
  await ada.message("refused", "failed").waitFor();
  const log = ada.page.getByRole("log", { name: "New messages" });
  await log.getByText("refused: Not sent. You are not allowed to do that.").waitFor();
  await checkLookEverywhere(ada, "access-failed");
  server.faults.message = failing("STORE_UNAVAILABLE", 60_000);
  await ada.say("unconfirmed");
  await ada.message("unconfirmed", "unconfirmed").waitFor();
  await checkLookEverywhere(ada, "access-unconfirmed");
  const other = await meet(t, (server) => (server.faults.message = failing("RATE_LIMITED", 60_000)));
  await other.ada.isOnline();
  await other.ada.say("held");
  await other.ada.message("held", "held").waitFor();
  await checkLookEverywhere(other.ada, "access-held");
  other.ada.link.cut();
  await other.ada.isOffline();
  await other.ada.say("written offline");
  await other.ada.message("written offline", "waiting").waitFor();
  await other.ada.page.getByText("The server is unreachable. What you write will be sent after the reconnect.").waitFor();
  await checkLookEverywhere(other.ada, "access-offline");
  noComplaints(ada, other.ada);
});

test("a disabled field shows the reason, and an accessible bar the remedy", async (t) => {
  const { server, ada } = await meet(t);
  await ada.isOnline();
  server.isSilent = true;
  await ada.page.reload();
  const off = async (reason) => {
    await ada.page.locator(`#composer:disabled[placeholder="${reason}"]`).waitFor();
    assert.equal(await ada.page.getByRole("button", { name: "Send" }).isDisabled(), true);
  };
  await off("Connecting…");
  await checkLookEverywhere(ada, "access-connecting");
  server.isSilent = false;
  server.drop();
  await ada.isOnline();
  assert.equal(await ada.composer.isEnabled(), true);

  server.dismiss();
  const bar = (text) => ada.page.getByRole("alert").filter({ hasText: text });
  await bar("The server closed this connection.").waitFor();
  await off("You are not connected");
  await checkLookEverywhere(ada, "access-closed");
  server.refusing = "FORBIDDEN";
  await bar("The server closed").getByRole("button", { name: "Connect again" }).press("Enter");
  await bar("You are not allowed to do that.").waitFor();
  await off("You are not connected");
  await checkLookEverywhere(ada, "access-refused");
  server.refusing = undefined;
  await bar("You are not allowed").getByRole("button", { name: "Try again" }).press("Enter");
  await ada.isOnline();
  await ada.composer.fill("in again");
  await ada.composer.press("Enter");
  await ada.message("in again", "stored").waitFor();
  noComplaints(ada);
});

test("an unknown conversation is reported and accessible", async (t) => {
  const ada = await signIn(t, "ada-none", "Ada None");
  await ada.page.evaluate(() => (location.hash = "#/c/00000000-0000-4000-8000-00000000dead"));
  await ada.page.getByText("This conversation does not exist, or you are not a member of it.").waitFor();
  await ada.page.locator('#composer:disabled[placeholder="You cannot write here"]').waitFor();
  await checkLookEverywhere(ada, "access-absent");
  noComplaints(ada);
});

test("an undo, the form for a token and an invitation are accessible", async (t) => {
  const bob = await client(t, "bob-rules", "Bob Rules");
  const id = await make(bob, "Rules", ["ada-rules"]);
  const { token: invite } = await must(bob, "create_invite", { conversationId: id });
  const ada = await Visitor.open(t, shared.browser, shared.server.url, { viewport: DESK });
  await ada.page.getByRole("button", { name: "Sign in with a token instead" }).press("Enter");
  await ada.page.getByLabel("Token").fill("no");
  await ada.page.getByLabel("Token").press("Enter");
  await ada.page.getByText("This does not look like a token.").waitFor();
  await ada.page.getByRole("heading", { name: "Sign in" }).waitFor();
  await checkLookEverywhere(ada, "access-token");
  await ada.page.getByLabel("Token").fill(tokenOf("ada-rules", "Ada Rules"));
  await ada.page.getByLabel("Token").press("Enter");
  await ada.isOnline();
  await ada.page.getByRole("heading", { name: "Rules" }).waitFor();
  await ada.say("to be taken back");
  await ada.message("to be taken back", "stored").waitFor();
  await ada.stretchUndo();
  await ada.page.locator("li.message[tabindex='0']").press("Delete");
  await ada.page.getByRole("button", { name: "Undo" }).waitFor();
  // Undo is available for a few seconds; on a slow machine the message may be deleted by the last
  // check.
  await checkLookEverywhere(ada, "access-undo");
  await ada.page.evaluate((address) => (location.hash = address), `#/i/${invite}`);
  await ada.page.getByRole("dialog", { name: "Invitation" }).getByText("You are already a member.").waitFor();
  await checkLookEverywhere(ada, "access-invitation");
  noComplaints(ada);
});

everywhere("users are invited, added and removed, and sign out, by keyboard alone", async (t, { self, isPhone, options }) => {
  const [sub, other] = [`ada-keys-${self}`, `eve-keys-${self}`];
  const name = `Eve ${self}`;
  const ada = await signIn(t, sub, "Ada Keys", { ...options, permissions: ["clipboard-read", "clipboard-write"] });
  const { page } = ada;
  const see = (what) => checkLook(ada, `keys-${self}-${what}`);
  const key = async (...names) => {
    for (const name of names) await page.keyboard.press(name);
  };
  /** Presses Tab until an element has the focus. */
  const reach = async (locator) => {
    for (let steps = 0; steps < 60; steps += 1) {
      if (await locator.evaluateAll((nodes) => nodes.includes(document.activeElement))) return;
      await key("Tab");
    }
    assert.fail(`${locator} is not reached by Tab`);
  };
  const press = async (name) => {
    await reach(page.getByRole("button", { name }));
    await key("Enter");
  };
  await client(t, other, name).then((socket) => must(socket, "join_conversation", LOBBY));
  await ada.person(name).waitFor({ state: "attached" });
  await ada.toList();
  await press("New conversation");
  await page.getByLabel("Title").waitFor();
  await page.keyboard.type("By keys");
  await key("Enter");
  await page.getByRole("heading", { name: "By keys" }).waitFor();

  await press("About this conversation");
  await reach(page.getByLabel("Add people"));
  await page.keyboard.type(name);
  await page.getByRole("list", { name: "People to add" }).getByText(name, { exact: true }).waitFor();
  await see("picker");
  await key("Enter");
  await page.getByText("Members · 2").waitFor();
  await page.getByRole("list", { name: "Members" }).getByText(name, { exact: true }).waitFor();
  assert.equal(await page.getByLabel("Add people").inputValue(), "");
  await press("Invite by link");
  await page.getByText("The invitation link was copied.").waitFor();
  const invite = new URL(await page.evaluate(() => navigator.clipboard.readText())).hash;
  await see("members");
  // A list is one stop of the Tab key; its last control removes the last member.
  await reach(page.getByRole("list", { name: "Members" }).getByRole("button"));
  await key("End");
  assert.equal(await page.getByRole("button", { name: `Remove ${name}` }).evaluate((node) => node === document.activeElement), true);
  await key("Enter");
  await page.getByText("Members · 1").waitFor();
  await key("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });

  // An invited user joins.
  const eve = await signIn(t, other, name, options);
  await eve.page.evaluate((address) => (location.hash = address), invite);
  await eve.page.getByRole("dialog", { name: "Invitation" }).getByText("By keys").waitFor();
  for (let steps = 0; steps < 5 && (await eve.page.evaluate(() => document.activeElement.textContent)) !== "Join"; steps += 1) await eve.page.keyboard.press("Tab");
  await eve.page.keyboard.press("Enter");
  await eve.page.getByRole("heading", { name: "By keys" }).waitFor();

  await ada.toList();
  await press("Sign out");
  await page.getByRole("button", { name: "Join the chat" }).waitFor();
  await reach(page.getByLabel("Your name"));
  await page.keyboard.type("Guest Keys");
  await see("entry");
  await key("Enter");
  // A conversation that is opened beside the list takes the focus.
  if (!isPhone) await ada.isOnline();
  await ada.toList();
  await press("Change your name");
  await page.getByRole("dialog").waitFor();
  await key("Control+a");
  await page.keyboard.type("Guest Renamed");
  await key("Enter");
  await page.locator(".self-name").getByText("Guest Renamed", { exact: true }).waitFor();
  noComplaints(ada, eve);
});

test("a session of the login signs in by its cookie, and out when it ends", async (t) => {
  const login = await startServer({ ...keyed, ROOMCAST_AUTH__GUESTS: "false", ROOMCAST_AUTH__LOGIN_URL: "/login", ROOMCAST_AUTH__LOGOUT_URL: "/logout" });
  t.after(() => login.stop());
  const headers = { authorization: `Bearer ${token({ sub: "root", roles: ["admin"] })}`, "content-type": "application/json" };
  const post = async (path, body) => (await fetch(login.url + path, { method: "POST", headers, body: JSON.stringify(body) })).json();
  const { sessionId } = await post("/api/v1/sessions", { userId: "ada-session", ttlSeconds: 600, data: { name: "Ada Session" } });
  const ada = await Visitor.open(t, shared.browser, login.url);
  await ada.page.getByRole("link", { name: "Sign in" }).waitFor();
  await ada.context.addCookies([{ name: "roomcast_session", value: sessionId, url: ada.link.url, httpOnly: true, sameSite: "Lax" }]);
  await ada.page.reload();
  await ada.isOnline();
  assert.equal(await ada.page.getByLabel("Your name").count(), 0);
  await ada.say("by the cookie of a session");
  await ada.message("by the cookie of a session", "stored").waitFor();
  await post("/api/v1/revocations", { sessionId });
  await ada.page.getByRole("alert").getByText("Your access was revoked.").waitFor();
  await ada.page.getByRole("link", { name: "Sign in" }).waitFor();
});

test("each text follows the direction of its letters, also in the field", async (t) => {
  const bob = await client(t, "bob-dir", "Bob Dir");
  const [right, left] = ["\u05e9\u05dc\u05d5\u05dd, world", "hello, \u05e9\u05dc\u05d5\u05dd"];
  await make(bob, "Directions", ["ada-dir"], right, left, `- ${right}`);
  const ada = await signIn(t, "ada-dir", "Ada Dir");
  await ada.page.getByRole("heading", { name: "Directions" }).waitFor();
  const direction = (locator) => locator.evaluate((node) => getComputedStyle(node).direction);
  assert.equal(await direction(ada.page.locator("li.message").first().getByText(right)), "rtl");
  assert.equal(await direction(ada.page.locator("li.message").nth(1).getByText(left)), "ltr");
  assert.equal(await direction(ada.page.locator("li.message li").getByText(right)), "rtl");
  await ada.composer.fill(right);
  assert.equal(await direction(ada.composer), "rtl");
  await ada.composer.fill(left);
  assert.equal(await direction(ada.composer), "ltr");
  noComplaints(ada);
});

test("a long message expands and collapses by keyboard", async (t) => {
  const bob = await client(t, "bob-long", "Bob Long");
  await make(bob, "Long", ["ada-long"], Array.from({ length: 60 }, (_, index) => `line ${index}.`).join("\n"));
  const ada = await signIn(t, "ada-long", "Ada Long");
  await ada.page.getByRole("heading", { name: "Long" }).waitFor();
  const line = ada.page.locator("li.message");
  await line.focus();
  await ada.page.keyboard.press("Enter");
  const more = ada.page.getByRole("button", { name: "Show all" });
  assert.equal(await more.evaluate((node) => node === document.activeElement), true);
  assert.equal(await more.getAttribute("aria-expanded"), "false");
  assert.equal(await line.getByText("line 59.").count(), 0);
  await ada.page.keyboard.press("Enter");
  await line.getByText("line 59.").waitFor();
  const less = ada.page.getByRole("button", { name: "Show less" });
  assert.equal(await less.evaluate((node) => node === document.activeElement), true);
  assert.equal(await less.getAttribute("aria-expanded"), "true");
  await ada.page.keyboard.press("Enter");
  await line.getByText("line 59.").waitFor({ state: "detached" });
  noComplaints(ada);
});

test("nothing moves by itself with reduced motion", async (t) => {
  const { server, ada } = await meet(t);
  await ada.isOnline();
  const animations = () => ada.page.evaluate(() => document.getAnimations().map(({ animationName }) => animationName));
  server.refusing = "RATE_LIMITED";
  ada.link.cut();
  await ada.isOffline();
  assert.deepEqual(await animations(), ["pulse"]);
  await ada.page.emulateMedia({ reducedMotion: "reduce" });
  assert.deepEqual(await animations(), []);
  // A notice appears without motion as well.
  await ada.page.keyboard.press("ControlOrMeta+k");
  assert.deepEqual(await animations(), []);
});
