// Signing in by a name, a token, a login or a cookie, and the resulting identity.
import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { LOBBY, everywhere, keyed, checkLook, checkLookEverywhere, must, noComplaints, shared, tokenOf } from "./page_support.mjs";
import { connect, startServer } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

test("without guests, a token or the address of the login is requested", async (t) => {
  const closed = await startServer({ ...keyed, ROOMCAST_AUTH__GUESTS: "false" });
  t.after(() => closed.stop());
  const ada = await Visitor.open(t, shared.browser, closed.url);
  await ada.page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await ada.page.getByLabel("Your name").count(), 0);
  await ada.giveToken("not.a.token");
  await ada.page.getByRole("alert").getByText(/did not accept your credentials/).waitFor();
  await checkLookEverywhere(ada, "entry-refused");
  await ada.giveToken(tokenOf("ada", "Ada Token"));
  await ada.isOnline();
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  await ada.page.getByRole("heading", { name: "Sign in" }).waitFor();

  const led = await startServer({ ...keyed, ROOMCAST_AUTH__GUESTS: "false", ROOMCAST_AUTH__LOGIN_URL: "/login?a=1&b=2" });
  t.after(() => led.stop());
  const bob = await Visitor.open(t, shared.browser, led.url);
  assert.equal(await bob.page.getByRole("link", { name: "Sign in" }).getAttribute("href"), "/login?a=1&b=2");
  await checkLookEverywhere(bob, "entry-login");
});

test("a user with a cookie is signed in without a form", async (t) => {
  const ada = await Visitor.open(t, shared.browser, shared.server.url);
  await ada.page.getByLabel("Your name").waitFor();
  const value = tokenOf("ada-cookie", "Ada Cookie");
  await ada.context.addCookies([{ name: "roomcast_token", value, url: ada.link.url, httpOnly: true, sameSite: "Lax" }]);
  await ada.page.reload();
  await ada.isOnline();
  await ada.page.locator(".self-name").getByText("Ada Cookie", { exact: true }).waitFor();
  noComplaints(ada);
});

everywhere("a guest enters and changes the name, and creates no conversation", async (t, { self, isPhone, options }) => {
  const ada = await Visitor.open(t, shared.browser, shared.server.url, options);
  const { page } = ada;
  const name = page.getByRole("textbox", { name: "Your name" });
  await name.fill("x".repeat(41));
  await page.getByText("At most 40 characters, please.").waitFor();
  await checkLook(ada, `entry-${self}`);
  await name.fill(`Before ${self}`);
  await name.press("Enter");
  await ada.isOnline();
  await page.evaluate(() => (globalThis.isSame = true));
  await ada.toList();
  assert.equal(await page.getByRole("button", { name: "New conversation" }).count(), 0);
  await page.getByRole("button", { name: "Change your name" }).press("Enter");
  await page.getByRole("dialog", { name: "Change your name" }).waitFor();
  await checkLook(ada, `name-${self}`);
  await name.fill(`After ${self}`);
  await name.press("Enter");
  await page.locator(".self-name").getByText(`After ${self}`, { exact: true }).waitFor();
  await ada.conversation("Lobby").press("Enter");
  await ada.person(`After ${self}`).waitFor({ state: "attached" });
  assert.equal(await page.evaluate(() => globalThis.isSame), true);

  // Guests are marked, and users with the same name are distinguished.
  const same = `Robin ${self}`;
  for (const auth of [{ token: tokenOf(`robin-${self}`, same) }, { name: same }]) {
    const socket = await connect(t, io, shared.server.url, { auth });
    await must(socket, "join_conversation", LOBBY);
    await must(socket, "message", { conversationId: LOBBY, content: `${auth.token ? "a user" : "a guest"} of ${self}` });
  }
  const line = (who) => page.locator("li.message").filter({ hasText: `${who} of ${self}` });
  await line("a guest").locator(".tag").getByText("guest", { exact: true }).waitFor();
  assert.equal(await line("a user").locator(".tag").count(), 0);
  for (const who of ["a user", "a guest"]) await line(who).locator(".mark").waitFor();
  const shown = await page.locator(".mark:visible").allTextContents();
  assert.ok(shown.length >= 2 && new Set(shown).size > 1, `${shown}`);
  if (isPhone) await page.getByRole("button", { name: /^Who is here/ }).press("Enter");
  await ada.person(same).first().waitFor();
  await checkLook(ada, `same-${self}`);
  noComplaints(ada);
});
