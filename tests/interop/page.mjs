// What the page can do, as a story of two people in real Chromium pages: on a desk and on a phone, in light and in dark,
// by keyboard alone where that is said. Every test has people and conversations of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { violations } from "./axe.mjs";
import { DESK, PHONE, client, keyed, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { startServer, until } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

for (const [where, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`two people meet, write, change and find messages at a ${where} in ${colorScheme}, by keyboard alone`, (t) => story(t, where, viewport, colorScheme));
  }
}

async function story(t, where, viewport, colorScheme) {
  const self = `${where}-${colorScheme}`;
  const isPhone = where === "phone";
  const [ada, bob] = [`ada-${self}`, `bob-${self}`];
  const options = { viewport, colorScheme, permissions: ["clipboard-read", "clipboard-write"] };
  const a = await signIn(t, ada, `Ada ${self}`, options);
  const b = await signIn(t, bob, `Bob ${self}`, options);
  const { page } = a;
  const key = (...keys) => keys.reduce((before, name) => before.then(() => page.keyboard.press(name)), Promise.resolve());
  const look = async (name) => {
    assert.deepEqual(await violations(a), [], `${self} ${name}`);
    await a.screenshot(`${self}-${name}`);
  };
  await b.say(`hello from ${self}`);
  await a.message(`hello from ${self}`).waitFor();

  // A conversation with Bob, who is found by his name.
  if (isPhone) await page.getByRole("link", { name: "All conversations" }).press("Enter");
  await page.getByRole("button", { name: "New conversation" }).press("Enter");
  await page.getByLabel("Title").waitFor();
  await page.keyboard.type(`Plans ${self}`);
  await key("Tab");
  await page.keyboard.type(`Bob ${self}`);
  await page.getByRole("list", { name: "People to add" }).getByText(`Bob ${self}`, { exact: true }).waitFor();
  await key("Enter");
  await page.getByRole("list", { name: "Chosen people" }).getByText(`Bob ${self}`, { exact: true }).waitFor();
  await look("new");
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
  if (isPhone) await b.page.getByRole("link", { name: "All conversations" }).press("Enter");
  await b.conversation(`Plans ${self}`).locator(".count").getByText("1").waitFor();
  await b.conversation(`Plans ${self}`).getByText("the first one").waitFor();
  await b.screenshot(`${self}-list`);
  await b.conversation(`Plans ${self}`).press("Enter");
  await b.page.getByRole("heading", { name: `Plans ${self}` }).waitFor();
  await page.locator("li[data-receipt='read']").waitFor();
  await b.conversation(`Plans ${self}`).locator(".count").waitFor({ state: "detached" });

  // Arrow Up changes the last message; Escape leaves it as it was.
  await a.composer.focus();
  await key("ArrowUp");
  await page.getByText("Changing a message").waitFor();
  await look("edit");
  await key("Escape", "ArrowUp");
  await a.composer.press("End");
  await page.keyboard.type(" And more.");
  await key("Enter");
  await b.page.locator("li.message").filter({ hasText: "And more." }).getByText("edited").waitFor();

  // A deletion can be taken back, by the keys of the message that has the focus.
  await a.stretchUndo();
  await a.say("to be deleted");
  await a.message("to be deleted", "stored").waitFor();
  await page.locator("li.message[tabindex='0']").focus();
  await look("focus");
  await key("Delete");
  await page.getByText("Message deleted.", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Undo" }).press("Enter");
  await a.stretchUndo(false);
  await a.message("to be deleted", "stored").waitFor();
  await page.locator("li.message[tabindex='0']").focus();
  await key("Delete");
  await b.page.getByText("This message was deleted.").waitFor();

  // The link of a message leads to it, also in a page that is opened with it.
  await page.locator("li.message[tabindex='0']").focus();
  await key("ArrowUp", "c");
  await page.getByText("The link is in your clipboard.").waitFor();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(link, /#\/c\/[0-9a-f-]{36}\/1$/);

  // What is found leads to its place.
  await key("Control+k");
  await page.getByRole("dialog", { name: "Search" }).waitFor();
  await page.keyboard.type(`${self} hello`);
  await page.getByRole("dialog").getByText("1 message", { exact: true }).waitFor();
  await look("search");
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
  await look("about");
  await b.page.getByRole("button", { name: "About this conversation" }).press("Enter");
  await b.page.getByRole("button", { name: "Leave" }).press("Enter");
  await b.page.getByRole("button", { name: "Really leave" }).press("Enter");
  await b.conversation(`Trip ${self}`).waitFor({ state: "detached" });
  await page.getByText("Members · 1").waitFor();
  await key("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "About this conversation");
  await look("end");
  noComplaints(a, b);
}

test("the owner adds and removes people, and the conversation goes from the list of who is removed", async (t) => {
  const ada = await signIn(t, "ada-members", "Ada Members");
  const bob = await client(t, "bob-members", "Bob Members");
  const id = await make(bob, "Club", ["ada-members"], "welcome");
  await ada.conversation("Club").click();
  await ada.message("welcome").waitFor();
  await must(bob, "remove_member", { conversationId: id, userId: "ada-members" });
  await ada.conversation("Club").waitFor({ state: "detached" });
  await ada.page.getByText("“Club” is no longer there, or you are no longer a member of it.").waitFor();
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();

  await ada.page.getByRole("button", { name: "New conversation" }).click();
  await ada.page.getByLabel("Add people").fill("eve-members");
  await ada.page.getByText("The user with the id eve-members").click();
  await ada.page.getByRole("button", { name: "Begin" }).click();
  await ada.page.getByRole("heading", { name: "eve-members" }).waitFor();
  await ada.page.getByRole("button", { name: "About this conversation" }).click();
  await ada.page.getByRole("button", { name: "Remove eve-members" }).click();
  await ada.page.getByText("Members · 1").waitFor();
  await ada.page.getByRole("button", { name: "Delete" }).click();
  await ada.page.getByRole("button", { name: "Really delete it for everybody" }).click();
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
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
  await ada.giveToken(tokenOf("ada", "Ada Token"));
  await ada.isOnline();
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  await ada.page.getByRole("heading", { name: "Sign in" }).waitFor();

  const led = await startServer({ ...keyed, ROOMCAST_AUTH__GUESTS: "false", ROOMCAST_AUTH__LOGIN_URL: "/login?a=1&b=2" });
  t.after(() => led.stop());
  const bob = await Visitor.open(t, shared.browser, led.url);
  assert.equal(await bob.page.getByRole("link", { name: "Sign in" }).getAttribute("href"), "/login?a=1&b=2");
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

test("a guest changes the name without a reload, and begins no conversation", async (t) => {
  const ada = await Visitor.enter(t, shared.browser, shared.server.url, "Ada Before");
  await ada.page.evaluate(() => (globalThis.isSame = true));
  assert.equal(await ada.page.getByRole("button", { name: "New conversation" }).count(), 0);
  await ada.page.getByRole("button", { name: "Change your name" }).click();
  const name = ada.page.getByRole("textbox", { name: "Your name" });
  await name.fill("Ada After");
  await name.press("Enter");
  await ada.person("Ada After").waitFor();
  assert.equal(await ada.page.evaluate(() => globalThis.isSame), true);
  noComplaints(ada);
});

test("what is being written stays with its conversation, beyond a reload", async (t) => {
  const ada = await signIn(t, "ada-draft", "Ada Draft");
  const bob = await client(t, "bob-draft", "Bob Draft");
  await make(bob, "Drafts", ["ada-draft"], "hello");
  await ada.composer.fill("for the Lobby");
  await ada.conversation("Drafts").click();
  await ada.page.getByRole("heading", { name: "Drafts" }).waitFor();
  assert.equal(await ada.composer.inputValue(), "");
  await ada.composer.fill("for the other");
  await ada.page.reload();
  await ada.isOnline();
  assert.equal(await ada.composer.inputValue(), "for the other");
  await ada.conversation("Lobby").click();
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  assert.equal(await ada.composer.inputValue(), "for the Lobby");
});

test("the newest conversation is opened, with a line above what is unread", async (t) => {
  const bob = await client(t, "bob-newest", "Bob Newest");
  const id = await make(bob, "Old", ["ada-newest"], "old 1", "old 2");
  const ada = await client(t, "ada-newest", "Ada Newest");
  await must(ada, "mark_read", { conversationId: id, seq: 2 });
  await must(bob, "message", { conversationId: id, content: "new 1" });
  const page = await signIn(t, "ada-newest", "Ada Newest");
  await page.page.getByRole("heading", { name: "Old" }).waitFor();
  await page.message("old 1").waitFor();
  const lines = await page.page.locator("li.unread, li.message .bubble").allTextContents();
  assert.deepEqual(lines, ["old 1", "old 2", "New messages", "new 1"]);
});

test("a message in another conversation is told, counted, and one press away", async (t) => {
  const bob = await client(t, "bob-told", "Bob Told");
  const id = await make(bob, "Elsewhere", ["ada-told"], "first");
  await must(bob, "join_conversation", id);
  const ada = await signIn(t, "ada-told", "Ada Told");
  await ada.conversation("Lobby").click();
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  await must(bob, "message", { conversationId: id, content: "look here" });
  const notice = ada.page.getByRole("alert").getByRole("link", { name: "Elsewhere · Bob Told: look here" });
  await notice.waitFor();
  await ada.conversation("Elsewhere").locator(".count").getByText("1").waitFor();
  assert.match(await ada.page.title(), /^\(\d+\) Lobby/);
  const reads = [];
  bob.on("message_read", (read) => reads.push(read));
  await notice.click();
  await ada.page.locator("li.message.is-marked").getByText("look here", { exact: true }).waitFor();
  await until(() => reads.some(({ conversationId, userId, seq }) => conversationId === id && userId === "ada-told" && seq === 2), "that it was read");
  noComplaints(ada);
});

test("a server that does not answer for a while is called slow until it answers", async (t) => {
  const ada = await Visitor.enter(t, shared.browser, shared.server.url, "Ada Slow");
  await ada.isOver("WebSocket");
  ada.link.holdAnswers();
  await ada.say("answered late");
  await ada.status.getByText("The server is slow…").waitFor();
  ada.link.releaseAnswers();
  await ada.message("answered late", "stored").waitFor();
  await ada.isOver("WebSocket");
});

test("what is sent too fast waits and goes on by itself, in order", async (t) => {
  const limited = await startServer({ ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "10" });
  t.after(() => limited.stop());
  const ada = await Visitor.enter(t, shared.browser, limited.url, "Ada Fast");
  const texts = Array.from({ length: 12 }, (_, index) => `fast ${index}`);
  // They are sent at once by the page, however slow it is to write them.
  ada.link.cut();
  await ada.isOffline();
  await ada.say(...texts);
  ada.link.restore();
  await ada.saw("message", "held: ");
  await ada.message("fast 11", "stored").waitFor();
  assert.deepEqual(await ada.texts("fast"), texts);
});
