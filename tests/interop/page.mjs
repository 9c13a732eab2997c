// The features of the page, as a story of two people in real Chromium pages: on a desk and on a
// phone, in light and in dark, by keyboard alone where stated. Each test has its own users and
// conversations.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, everywhere, checkLook, checkLookEverywhere, make, must, noComplaints, shared, signIn } from "./page_support.mjs";
import { startServer } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

everywhere("two users write, change and find messages by keyboard alone", async (t, { self, options: variant }) => {
  const [ada, bob] = [`ada-${self}`, `bob-${self}`];
  const options = { ...variant, permissions: ["clipboard-read", "clipboard-write"] };
  const a = await signIn(t, ada, `Ada ${self}`, options);
  const b = await signIn(t, bob, `Bob ${self}`, options);
  const { page } = a;
  const key = (...keys) => keys.reduce((before, name) => before.then(() => page.keyboard.press(name)), Promise.resolve());
  const see = (name, visitor = a) => checkLook(visitor, `story-${self}-${name}`);
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
  await page.getByRole("button", { name: "Create" }).press("Enter");
  await page.getByRole("heading", { name: `Plans ${self}` }).waitFor();
  const { hash } = new URL(page.url());
  assert.match(hash, /^#\/c\/[0-9a-f-]{36}$/);

  // Bob is notified, sees what is new in the list, and reads it.
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

  // Arrow Up edits the last message; Escape leaves it unchanged.
  await a.composer.focus();
  await key("ArrowUp");
  await page.getByText("Editing a message").waitFor();
  await see("edit");
  await key("Escape", "ArrowUp");
  await a.composer.press("End");
  await page.keyboard.type(" And more.");
  await key("Enter");
  await b.page.locator("li.message").filter({ hasText: "And more." }).getByText("edited").waitFor();
  await page.getByText("Editing a message").waitFor({ state: "detached" });

  // A deletion can be undone, with the keys of the focused message.
  await a.stretchUndo();
  await a.say("to be deleted");
  await a.message("to be deleted", "stored").waitFor();
  await page.locator("li.message[tabindex='0']").focus();
  await see("focus");
  await key("Delete");
  await page.getByText("Message deleted.", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Undo" }).press("Enter");
  await a.stretchUndo(false);
  await a.message("to be deleted", "stored").waitFor();
  await page.locator("li.message[tabindex='0']").focus();
  await key("Delete");
  await see("undo");
  await b.page.getByText("This message was deleted.").waitFor();

  // The link of a message leads to it, also when a page is opened with it.
  await page.locator("li.message[tabindex='0']").focus();
  await key("ArrowUp", "c");
  await page.getByText("The link was copied.").waitFor();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(link, /#\/c\/[0-9a-f-]{36}\/1$/);

  // A search result leads to its message.
  await key("Control+k");
  await page.getByRole("dialog", { name: "Search" }).waitFor();
  await page.keyboard.type(`${self} hello`);
  await page.getByRole("dialog").getByText("1 message", { exact: true }).waitFor();
  await see("search");
  await key("Enter");
  await page.getByRole("heading", { name: "Lobby" }).waitFor();
  await page.locator("li.message.is-marked").getByText(`hello from ${self}`, { exact: true }).waitFor();

  // The owner changes the title; a member leaves.
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

everywhere("a removed or deleted conversation leaves the lists of its users", async (t, { self, isPhone, options }) => {
  const sub = `ada-members-${self}`;
  const ada = await signIn(t, sub, "Ada Members", options);
  const bob = await client(t, "bob-members", "Bob Members");
  const id = await make(bob, `Club ${self}`, [sub], "welcome");
  await ada.toList();
  await ada.conversation(`Club ${self}`).click();
  await ada.message("welcome").waitFor();
  await must(bob, "remove_member", { conversationId: id, userId: sub });
  await ada.page.getByText(`“Club ${self}” was deleted, or you are no longer a member of it.`).waitFor();
  await ada.conversation("Lobby").waitFor();
  // Notices cover nothing that the user would use next.
  const isFree = (link) => {
    const { x, y, width, height } = link.getBoundingClientRect();
    return link.contains(document.elementFromPoint(x + width / 2, y + height / 2));
  };
  assert.equal(await ada.conversation("Lobby").evaluate(isFree), true);
  await checkLook(ada, `removed-${self}`);
  await ada.conversation(`Club ${self}`).waitFor({ state: "detached" });
  // A wide window shows the conversation with the newest message; a phone shows the list.
  if (!isPhone) await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();

  const eve = `eve-${self}`;
  await ada.toList();
  await ada.page.getByRole("button", { name: "New conversation" }).click();
  await ada.page.getByLabel("Add people").fill(eve);
  await ada.page.getByText(`The user with the id ${eve}`).click();
  // The page does not know this user: no user is added without an answer, and a repeated key press
  // is no answer.
  const question = ada.page.getByRole("alert").filter({ hasText: `This page does not know a user named ${eve}.` });
  await question.waitFor();
  await checkLook(ada, `picker-${self}`);
  const chosen = ada.page.getByRole("list", { name: "Chosen people" }).getByRole("listitem");
  await question.getByRole("button", { name: "Cancel" }).click();
  await question.waitFor({ state: "detached" });
  for (let time = 0; time < 2; time += 1) await ada.page.getByLabel("Add people").press("Enter");
  await question.waitFor();
  assert.equal(await chosen.count(), 0);
  await question.getByRole("button", { name: "Add this id" }).click();
  await chosen.getByText(eve).waitFor();
  await ada.page.getByRole("button", { name: "Create" }).click();
  await ada.page.getByRole("heading", { name: eve }).waitFor();
  // The error is shown once: the answer to a later request has arrived.
  assert.equal(await ada.page.getByText("This conversation does not exist").count(), 0);
  await ada.page.getByRole("button", { name: "About this conversation" }).click();
  await ada.page.getByRole("button", { name: `Remove ${eve}` }).click();
  await ada.page.getByText("Members · 1").waitFor();
  await ada.page.getByRole("button", { name: "Delete" }).click();
  await ada.page.getByRole("button", { name: "Really delete for all members" }).waitFor();
  await checkLook(ada, `delete-${self}`);
  await ada.page.getByRole("button", { name: "Really delete for all members" }).click();
  await ada.page.getByRole("dialog").waitFor({ state: "detached" });
  await ada.conversation(eve).waitFor({ state: "detached" });
  noComplaints(ada);
});

test("Enter does not open results of another query", async (t) => {
  const bob = await client(t, "bob-words", "Bob Words");
  await make(bob, "Animals", ["ada-words"], "an aardvark", "a buffalo");
  const ada = await signIn(t, "ada-words", "Ada Words");
  const { page } = ada;
  await page.getByRole("heading", { name: "Animals" }).waitFor();
  await ada.isOver("WebSocket");
  await page.keyboard.press("Control+k");
  const search = page.getByRole("dialog", { name: "Search" }).getByLabel("Search words");
  await search.fill("aardvark");
  await page.locator(".found").getByText("an aardvark").waitFor();
  const hash = () => page.evaluate(() => location.hash);
  const before = await hash();
  ada.link.holdAnswers();
  await search.fill("buffalo");
  await search.press("Enter");
  assert.equal(await hash(), before);
  ada.link.releaseAnswers();
  await page.locator(".found").getByText("a buffalo").waitFor();
  await search.press("Enter");
  await page.locator("li.message.is-marked").getByText("a buffalo", { exact: true }).waitFor();
  noComplaints(ada);
});

test("a conversation created twice on a slow server is created once", async (t) => {
  const ada = await signIn(t, "ada-twice", "Ada Twice");
  await ada.isOver("WebSocket");
  await ada.page.getByRole("button", { name: "New conversation" }).click();
  await ada.page.getByLabel("Title").fill("Made once");
  ada.link.holdAnswers();
  // Both submissions happen before anything is drawn, and one more afterwards.
  await ada.page.getByLabel("Title").evaluate(({ form }) => {
    form.requestSubmit();
    form.requestSubmit();
  });
  await ada.page.locator("button[type=submit]:disabled").getByText("Create").waitFor();
  await ada.page.getByLabel("Title").press("Enter");
  ada.link.releaseAnswers();
  await ada.page.getByRole("heading", { name: "Made once" }).waitFor();
  const { conversations } = await must(await client(t, "ada-twice", "Ada Twice"), "conversations", {});
  assert.equal(conversations.filter(({ title }) => title === "Made once").length, 1);
  noComplaints(ada);
});

test("a server that does not answer is called slow until it answers", async (t) => {
  const ada = await Visitor.enter(t, shared.browser, shared.server.url, "Ada Slow");
  await ada.isOver("WebSocket");
  ada.link.holdAnswers();
  await ada.say("answered late");
  await ada.saw("status", "The server is slow…");
  await checkLookEverywhere(ada, "slow");
  ada.link.releaseAnswers();
  await ada.message("answered late", "stored").waitFor();
  await ada.isOver("WebSocket");
});

test("messages sent too fast wait and continue by themselves, in order", async (t) => {
  const limited = await startServer({ ROOMCAST_LIMITS__MESSAGES_PER_MINUTE: "10" });
  t.after(() => limited.stop());
  const ada = await Visitor.enter(t, shared.browser, limited.url, "Ada Fast");
  const texts = Array.from({ length: 12 }, (_, index) => `fast ${index}`);
  // The page sends them together, however slowly they are typed.
  ada.link.cut();
  await ada.isOffline();
  await ada.say(...texts);
  ada.link.restore();
  await ada.saw("message", "held: ");
  await ada.message("fast 11", "stored").waitFor();
  assert.deepEqual(await ada.texts("fast"), texts);
});
