// What the page can do, as a story of two people in real Chromium pages: on a desk and on a phone, in light and in dark,
// by keyboard alone where that is said. Every test has people and conversations of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { LOBBY, client, everywhere, keyed, look, lookEverywhere, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { connect, startServer, until } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

everywhere("two people meet, write, change and find messages by keyboard alone", async (t, { self, options: variant }) => {
  const [ada, bob] = [`ada-${self}`, `bob-${self}`];
  const options = { ...variant, permissions: ["clipboard-read", "clipboard-write"] };
  const a = await signIn(t, ada, `Ada ${self}`, options);
  const b = await signIn(t, bob, `Bob ${self}`, options);
  const { page } = a;
  const key = (...keys) => keys.reduce((before, name) => before.then(() => page.keyboard.press(name)), Promise.resolve());
  const see = (name, visitor = a) => look(visitor, `story-${self}-${name}`);
  await b.say(`hello from ${self}`);
  await a.message(`hello from ${self}`).waitFor();

  // A conversation with Bob, who is found by his name.
  await a.toList();
  await page.getByRole("button", { name: "New conversation" }).press("Enter");
  await page.getByLabel("Title").waitFor();
  await page.keyboard.type(`Plans ${self}`);
  await key("Tab");
  await page.keyboard.type(`Bob ${self}`);
  await page.getByRole("list", { name: "People to add" }).getByText(`Bob ${self}`, { exact: true }).waitFor();
  await key("Enter");
  await page.getByRole("list", { name: "Chosen people" }).getByText(`Bob ${self}`, { exact: true }).waitFor();
  await see("new");
  await page.getByRole("button", { name: "Begin" }).press("Enter");
  await page.getByRole("heading", { name: `Plans ${self}` }).waitFor();
  const { hash } = new URL(page.url());
  assert.match(hash, /^#\/c\/[0-9a-f-]{36}$/);

  // Bob is told, sees what is new in the list, and reads it.
  await b.page.getByText(`You were added to “Plans ${self}”.`).waitFor();
  await page.getByRole("button", { name: "Who is here: 2 people" }).waitFor();
  await a.composer.focus();
  await page.keyboard.type("the **first** one, see https://example.org/a_b.");
  await key("Enter");
  const first = page.locator("li.message.is-own").filter({ hasText: "first" });
  await first.locator("strong").getByText("first", { exact: true }).waitFor();
  assert.equal(await first.locator(".bubble a").getAttribute("href"), "https://example.org/a_b");
  await page.locator("li[data-receipt='delivered 1/1']").waitFor();
  await b.toList();
  await b.conversation(`Plans ${self}`).locator(".count").getByText("1").waitFor();
  await b.conversation(`Plans ${self}`).getByText("the first one").waitFor();
  await see("list", b);
  await b.conversation(`Plans ${self}`).press("Enter");
  await b.page.getByRole("heading", { name: `Plans ${self}` }).waitFor();
  await page.locator("li[data-receipt='read']").waitFor();
  await b.conversation(`Plans ${self}`).locator(".count").waitFor({ state: "detached" });

  // Arrow Up changes the last message; Escape leaves it as it was.
  await a.composer.focus();
  await key("ArrowUp");
  await page.getByText("Changing a message").waitFor();
  await see("edit");
  await key("Escape", "ArrowUp");
  await a.composer.press("End");
  await page.keyboard.type(" And more.");
  await key("Enter");
  await b.page.locator("li.message").filter({ hasText: "And more." }).getByText("edited").waitFor();

  // A deletion can be taken back, by the keys of the message that has the focus.
  await a.say("to be deleted");
  await a.message("to be deleted", "stored").waitFor();
  await page.locator("li.message[tabindex='0']").focus();
  await see("focus");
  await key("Delete");
  await page.getByText("Message deleted.", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Undo" }).press("Enter");
  await a.message("to be deleted", "stored").waitFor();
  await page.locator("li.message[tabindex='0']").focus();
  await key("Delete");
  await see("undo");
  await b.page.getByText("This message was deleted.").waitFor();

  // The link of a message leads to it, also in a page that is opened with it.
  await page.locator("li.message[tabindex='0']").focus();
  await key("ArrowUp", "c");
  await page.getByText("The link is in your clipboard.").waitFor();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(link, /#\/c\/[0-9a-f-]{36}\/1$/);

  // What is found leads to its place.
  await key("Control+k");
  await page.keyboard.type(`${self} hello`);
  await page.getByRole("dialog").getByText("1 message", { exact: true }).waitFor();
  await see("search");
  await key("Enter");
  await page.getByRole("heading", { name: "Lobby" }).waitFor();
  await page.locator("li.message.is-marked").getByText(`hello from ${self}`, { exact: true }).waitFor();

  // The owner gives another title; a member leaves.
  await page.evaluate((address) => (location.hash = address), hash);
  await page.getByRole("heading", { name: `Plans ${self}` }).waitFor();
  await page.getByRole("button", { name: "About this conversation" }).press("Enter");
  await page.getByLabel("Title").fill(`Trip ${self}`);
  await key("Enter");
  await b.page.getByRole("heading", { name: `Trip ${self}` }).waitFor();
  await page.getByText("Members · 2").waitFor();
  await see("about");
  await b.page.getByRole("button", { name: "About this conversation" }).press("Enter");
  await b.page.getByRole("button", { name: "Leave" }).press("Enter");
  await b.page.getByRole("button", { name: "Really leave" }).press("Enter");
  await b.conversation(`Trip ${self}`).waitFor({ state: "detached" });
  await page.getByText("Members · 1").waitFor();
  await key("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "About this conversation");
  await see("end");
  noComplaints(a, b);
});

everywhere("a conversation goes from the list of who is removed, and its owner deletes it for everybody", async (t, { self, isPhone, options }) => {
  const sub = `ada-members-${self}`;
  const ada = await signIn(t, sub, "Ada Members", options);
  const bob = await client(t, "bob-members", "Bob Members");
  const id = await make(bob, `Club ${self}`, [sub], "welcome");
  await ada.toList();
  await ada.conversation(`Club ${self}`).click();
  await ada.message("welcome").waitFor();
  await must(bob, "remove_member", { conversationId: id, userId: sub });
  await ada.page.getByText(`“Club ${self}” is no longer there, or you are no longer a member of it.`).waitFor();
  await look(ada, `removed-${self}`);
  await ada.conversation(`Club ${self}`).waitFor({ state: "detached" });
  // Whoever has room for both is in the conversation with the newest message; a phone shows the list.
  if (!isPhone) await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();

  const eve = `eve-${self}`;
  await ada.toList();
  await ada.page.getByRole("button", { name: "New conversation" }).click();
  await ada.page.getByLabel("Add people").fill(eve);
  await ada.page.getByText(`The user with the id ${eve}`).click();
  await look(ada, `picker-${self}`);
  await ada.page.getByRole("button", { name: "Begin" }).click();
  await ada.page.getByRole("heading", { name: eve }).waitFor();
  await ada.page.getByRole("button", { name: "About this conversation" }).click();
  await ada.page.getByRole("button", { name: `Remove ${eve}` }).click();
  await ada.page.getByText("Members · 1").waitFor();
  await ada.page.getByRole("button", { name: "Delete" }).click();
  await ada.page.getByRole("button", { name: "Really delete it for everybody" }).waitFor();
  await look(ada, `delete-${self}`);
  await ada.page.getByRole("button", { name: "Really delete it for everybody" }).click();
  await ada.page.getByRole("dialog").waitFor({ state: "detached" });
  await ada.conversation(eve).waitFor({ state: "detached" });
  noComplaints(ada);
});

test("a conversation that is begun twice while the server is slow is made once", async (t) => {
  const ada = await signIn(t, "ada-twice", "Ada Twice");
  await ada.isOver("WebSocket");
  await ada.page.getByRole("button", { name: "New conversation" }).click();
  await ada.page.getByLabel("Title").fill("Made once");
  ada.link.holdAnswers();
  // Both presses come before anything is drawn, and one more after that.
  await ada.page.getByLabel("Title").evaluate(({ form }) => {
    form.requestSubmit();
    form.requestSubmit();
  });
  await ada.page.locator("button[type=submit]:disabled").getByText("Begin").waitFor();
  await ada.page.getByLabel("Title").press("Enter");
  ada.link.releaseAnswers();
  await ada.page.getByRole("heading", { name: "Made once" }).waitFor();
  const { conversations } = await must(await client(t, "ada-twice", "Ada Twice"), "conversations", {});
  assert.equal(conversations.filter(({ title }) => title === "Made once").length, 1);
  noComplaints(ada);
});

test("where no guests may enter a token or the address of the login is asked for", async (t) => {
  const closed = await startServer({ ...keyed, ROOMCAST_AUTH__GUESTS: "false" });
  t.after(() => closed.stop());
  const ada = await Visitor.open(t, shared.browser, closed.url);
  await ada.page.getByRole("heading", { name: "Sign in" }).waitFor();
  assert.equal(await ada.page.getByLabel("Your name").count(), 0);
  await ada.giveToken("not.a.token");
  await ada.page.getByRole("alert").getByText(/does not let|not take/).waitFor();
  await lookEverywhere(ada, "entry-refused");
  await ada.giveToken(tokenOf("ada", "Ada Token"));
  await ada.isOnline();
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  await ada.page.getByRole("heading", { name: "Sign in" }).waitFor();

  const led = await startServer({ ...keyed, ROOMCAST_AUTH__GUESTS: "false", ROOMCAST_AUTH__LOGIN_URL: "/login?a=1&b=2" });
  t.after(() => led.stop());
  const bob = await Visitor.open(t, shared.browser, led.url);
  assert.equal(await bob.page.getByRole("link", { name: "Sign in" }).getAttribute("href"), "/login?a=1&b=2");
  await lookEverywhere(bob, "entry-login");
});

test("who comes with a cookie is in without a form", async (t) => {
  const ada = await Visitor.open(t, shared.browser, shared.server.url);
  await ada.page.getByLabel("Your name").waitFor();
  const value = tokenOf("ada-cookie", "Ada Cookie");
  await ada.context.addCookies([{ name: "roomcast_token", value, url: ada.link.url, httpOnly: true, sameSite: "Lax" }]);
  await ada.page.reload();
  await ada.isOnline();
  await ada.page.locator(".self-name").getByText("Ada Cookie", { exact: true }).waitFor();
  noComplaints(ada);
});

everywhere("a guest comes in, changes the name without a reload, and begins no conversation", async (t, { self, isPhone, options }) => {
  const ada = await Visitor.open(t, shared.browser, shared.server.url, options);
  const { page } = ada;
  const name = page.getByRole("textbox", { name: "Your name" });
  await name.fill("x".repeat(41));
  await page.getByText("At most 40 characters, please.").waitFor();
  await look(ada, `entry-${self}`);
  await name.fill(`Before ${self}`);
  await name.press("Enter");
  await ada.isOnline();
  await page.evaluate(() => (globalThis.isSame = true));
  await ada.toList();
  assert.equal(await page.getByRole("button", { name: "New conversation" }).count(), 0);
  await page.getByRole("button", { name: "Change your name" }).press("Enter");
  await page.getByRole("dialog", { name: "Change your name" }).waitFor();
  await look(ada, `name-${self}`);
  await name.fill(`After ${self}`);
  await name.press("Enter");
  await page.locator(".self-name").getByText(`After ${self}`, { exact: true }).waitFor();
  await ada.conversation("Lobby").press("Enter");
  await ada.person(`After ${self}`).waitFor({ state: "attached" });
  assert.equal(await page.evaluate(() => globalThis.isSame), true);

  // Guests are marked, and those who have the same name are told apart.
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
  await look(ada, `same-${self}`);
  noComplaints(ada);
});

everywhere("what is being written stays with its conversation, beyond a reload", async (t, { self, options }) => {
  const sub = `ada-draft-${self}`;
  const ada = await signIn(t, sub, "Ada Draft", options);
  const bob = await client(t, "bob-draft", "Bob Draft");
  await make(bob, "Drafts", [sub], "hello");
  await ada.composer.fill("for the Lobby");
  await ada.toList();
  await ada.conversation("Drafts").click();
  await ada.page.getByRole("heading", { name: "Drafts" }).waitFor();
  assert.equal(await ada.composer.inputValue(), "");
  await ada.composer.fill("for the other");
  await ada.page.reload();
  await ada.isOnline();
  assert.equal(await ada.composer.inputValue(), "for the other");
  await ada.toList();
  await ada.conversation("Lobby").click();
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  assert.equal(await ada.composer.inputValue(), "for the Lobby");
});

everywhere("the newest conversation is opened, with a line above what is unread", async (t, { self, options }) => {
  const sub = `ada-newest-${self}`;
  const bob = await client(t, "bob-newest", "Bob Newest");
  const id = await make(bob, "Old", [sub], "old 1", "old 2");
  const ada = await client(t, sub, "Ada Newest");
  await must(ada, "mark_read", { conversationId: id, seq: 2 });
  await must(bob, "message", { conversationId: id, content: "new 1" });
  const page = await signIn(t, sub, "Ada Newest", options);
  await page.page.getByRole("heading", { name: "Old" }).waitFor();
  await page.message("old 1").waitFor();
  const lines = await page.page.locator("li.unread, li.message .bubble").allTextContents();
  assert.deepEqual(lines, ["old 1", "old 2", "New messages", "new 1"]);
  await look(page, `unread-${self}`);
  noComplaints(page);
});

everywhere("a message in another conversation is told, counted, and one press away", async (t, { self, options }) => {
  const sub = `ada-told-${self}`;
  const bob = await client(t, "bob-told", "Bob Told");
  const id = await make(bob, "Elsewhere", [sub], "first");
  await must(bob, "join_conversation", id);
  const ada = await signIn(t, sub, "Ada Told", options);
  await ada.toList();
  await ada.conversation("Lobby").click();
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  await must(bob, "message", { conversationId: id, content: "look here" });
  const notice = ada.page.getByRole("alert").getByRole("link", { name: "Elsewhere · Bob Told: look here" });
  await notice.waitFor();
  await ada.conversation("Elsewhere").locator(".count").getByText("1").waitFor({ state: "attached" });
  assert.match(await ada.page.title(), /^\(\d+\) Lobby/);
  const reads = [];
  bob.on("message_read", (read) => reads.push(read));
  await notice.press("Enter");
  await ada.page.locator("li.message.is-marked").getByText("look here", { exact: true }).waitFor();
  await until(() => reads.some(({ conversationId, userId, seq }) => conversationId === id && userId === sub && seq === 2), "that it was read");
  // A notice is there for a few seconds, in which a slow machine does little else.
  await ada.toList();
  await ada.conversation("Lobby").press("Enter");
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  await must(bob, "message", { conversationId: id, content: "and here" });
  await ada.page.getByRole("alert").getByRole("link", { name: "Elsewhere · Bob Told: and here" }).waitFor();
  await look(ada, `told-${self}`);
  noComplaints(ada);
});

test("a server that does not answer for a while is called slow until it answers", async (t) => {
  const ada = await Visitor.enter(t, shared.browser, shared.server.url, "Ada Slow");
  await ada.isOver("WebSocket");
  ada.link.holdAnswers();
  await ada.say("answered late");
  await ada.status.getByText("The server is slow…").waitFor();
  await lookEverywhere(ada, "slow");
  ada.link.releaseAnswers();
  await ada.message("answered late", "stored").waitFor();
  await ada.isOver("WebSocket");
});

test("what is sent too fast waits and goes on by itself, in order", async (t) => {
  const limited = await startServer({ ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "10" });
  t.after(() => limited.stop());
  const ada = await Visitor.enter(t, shared.browser, limited.url, "Ada Fast");
  const texts = Array.from({ length: 12 }, (_, index) => `fast ${index}`);
  await ada.say(...texts);
  await ada.page.locator("li.message[data-state=held]").first().waitFor();
  await ada.message("fast 11", "stored").waitFor();
  assert.deepEqual(await ada.texts("fast"), texts);
});
