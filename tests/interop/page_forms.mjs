// Forms and windows of the page: typed people, cards of users, what guests can do, drafts in two
// tabs, and confirmations that end with their window.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LOBBY, checkLook, client, everywhere, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { until } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

const isIn = (visitor, title) => visitor.page.getByRole("heading", { name: title, exact: true }).waitFor();

/** Opens a conversation by its address, at any size. */
const goTo = ({ page }, id) => page.evaluate((address) => (location.hash = address), `#/c/${id}`);

everywhere("a typed person is added or refused when a conversation is created", async (t, { self, options }) => {
  const [sub, bob, carl] = ["ada", "bob", "carl"].map((name) => `${name}-typed-${self}`);
  const other = await client(t, bob, `Bob ${self}`);
  const twin = await client(t, `twin-${self}`, `Twin ${self}`);
  const id = await make(other, `Met ${self}`, [sub, `twin-${self}`], "hello");
  await must(twin, "message", { conversationId: id, content: "hello too" });
  const ada = await signIn(t, sub, "Ada", options);
  const { page } = ada;
  await goTo(ada, id);
  await ada.message("hello too").waitFor();
  const dialog = page.getByRole("dialog", { name: "New conversation" });
  const field = dialog.getByLabel("Add people");
  const create = dialog.getByRole("button", { name: "Create" });
  const begin = async (title) => {
    await ada.toList();
    await page.getByRole("button", { name: "New conversation" }).press("Enter");
    await dialog.getByLabel("Title").fill(title);
  };
  const members = async (title) => {
    const { conversations } = await must(await client(t, sub, "Ada"), "conversations", {});
    return conversations.find((conversation) => conversation.title === title)?.memberIds;
  };

  // Part of a name is refused, and the conversation is not created without the person.
  await begin(`Typed ${self}`);
  await field.fill("bo");
  await create.click();
  await dialog.getByRole("alert").getByText("bo is not added yet. Choose a person, or empty this field.").waitFor();
  assert.equal(await field.evaluate((node) => node === document.activeElement), true);
  assert.equal(await field.getAttribute("aria-invalid"), "true");
  await checkLook(ada, `typed-refused-${self}`);
  assert.equal(await members(`Typed ${self}`), undefined);
  // The name of one known user is added, in any case of letters.
  await field.fill(`bob ${self}`);
  await create.click();
  await isIn(ada, `Typed ${self}`);
  assert.deepEqual((await members(`Typed ${self}`)).sort(), [sub, bob].sort());

  // The id of an unknown user is confirmed first, as it is with Enter.
  await begin(`Unknown ${self}`);
  await field.fill(carl);
  await create.click();
  await dialog.getByText(`This page does not know a user named ${carl}.`).waitFor();
  assert.equal(await members(`Unknown ${self}`), undefined);
  await checkLook(ada, `typed-unknown-${self}`);
  await dialog.getByRole("button", { name: "Add this id" }).press("Enter");
  // A person who is already chosen is no reason to refuse.
  await field.fill(carl);
  await create.click();
  await isIn(ada, `Unknown ${self}`);
  assert.deepEqual((await members(`Unknown ${self}`)).sort(), [sub, carl].sort());

  // A name that two users could have is never chosen by the page.
  const same = await client(t, `same-${self}`, `Twin  ${self}`);
  await must(same, "message", { conversationId: await make(same, `Same ${self}`, [sub]), content: "I am the other" });
  await page.locator("body").getByText("I am the other").first().waitFor({ state: "attached" });
  await begin(`Twins ${self}`);
  await field.fill(`Twin ${self}`);
  await create.click();
  await dialog.getByRole("alert").getByText(/is not added yet/).waitFor();
  assert.equal(await members(`Twins ${self}`), undefined);
  noComplaints(ada);
});

everywhere("the name of a user opens a card, with a way to write to the user", async (t, { self, isPhone, options }) => {
  const [sub, bobId] = [`ada-card-${self}`, `bob-card-${self}`];
  const bob = await client(t, bobId, `Bob Card ${self}`);
  await must(bob, "set_status", { status: "busy", text: "in a meeting" });
  const id = await make(bob, `Cards ${self}`, [sub], "read my card");
  await must(bob, "join_conversation", id);
  const ada = await signIn(t, sub, "Ada Card", options);
  const { page } = ada;
  await goTo(ada, id);
  await ada.message("read my card").waitFor();
  // By keyboard from the message.
  await page.locator("li.message[tabindex='0']").focus();
  const author = page.locator("li.message button.author");
  if (isPhone) assert.ok((await author.boundingBox()).height >= 44, "too low for a finger");
  await author.press("Enter");
  const dialog = page.getByRole("dialog", { name: "About this person" });
  await dialog.getByText(`Bob Card ${self}`).first().waitFor();
  await dialog.getByText("busy · in a meeting").waitFor();
  await dialog.getByText(bobId, { exact: true }).waitFor();
  await dialog.getByRole("list", { name: "Conversations with you" }).getByText(`Cards ${self}`).waitFor();
  await checkLook(ada, `card-${self}`);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.equal(await author.evaluate((node) => node === document.activeElement), true);

  // A message opens a conversation of two, the same the second time.
  if (isPhone) await page.getByRole("button", { name: /^Who is here/ }).click();
  await ada.person(`Bob Card ${self}`).getByRole("button", { name: `Bob Card ${self}` }).click();
  await checkLook(ada, `card-panel-${self}`);
  await dialog.getByRole("button", { name: "Message" }).click();
  await isIn(ada, `Bob Card ${self}`);
  await ada.say("only for you");
  await ada.message("only for you", "stored").waitFor();
  await goTo(ada, id);
  await isIn(ada, `Cards ${self}`);
  await page.getByRole("button", { name: "About this conversation" }).click();
  await page.getByRole("dialog", { name: "About this conversation" }).getByRole("button", { name: `Bob Card ${self}` }).click();
  await dialog.getByRole("button", { name: "Message" }).click();
  await ada.message("only for you", "stored").waitFor();
  const { conversations } = await must(bob, "conversations", {});
  assert.equal(conversations.filter(({ title }) => title === null).length, 1);
  noComplaints(ada);
});

everywhere("a guest reads who can invite, and shares the link of the Lobby", async (t, { self, options }) => {
  const guest = await Visitor.open(t, shared.browser, shared.server.url, { ...options, permissions: ["clipboard-read", "clipboard-write"] });
  const { page } = guest;
  await page.getByLabel("Your name").fill(`Guest ${self}`);
  await page.getByRole("button", { name: "Join the chat" }).press("Enter");
  await guest.isOnline();
  await goTo(guest, LOBBY);
  await isIn(guest, "Lobby");
  const about = page.getByRole("dialog", { name: "About this conversation" });
  const open = () => page.getByRole("button", { name: "About this conversation" }).click();
  await open();
  await about.getByText("To invite people, share the link of this conversation.").waitFor();
  await about.getByRole("button", { name: "Copy link" }).click();
  await about.getByText("The link was copied. It opens this conversation for all users of this server.").waitFor();
  await checkLook(guest, `guest-link-${self}`);
  // The confirmation belongs to this window, and is not in the next.
  await page.keyboard.press("Escape");
  assert.equal(await page.getByText("The link was copied.").count(), 0);
  await open();
  await about.waitFor();
  assert.equal(await page.getByText("The link was copied.").count(), 0);
  await page.keyboard.press("Escape");

  // The link admits a visitor without an account, after a name.
  const address = await page.evaluate(() => navigator.clipboard.readText());
  const next = await Visitor.open(t, shared.browser, shared.server.url, { ...options, path: address.slice(address.indexOf("/#")) });
  await next.page.getByLabel("Your name").fill(`Next ${self}`);
  await next.page.getByRole("button", { name: "Join the chat" }).press("Enter");
  await isIn(next, "Lobby");

  // In a conversation of others, a guest reads who can invite, and so does the owner as a guest.
  const bob = await client(t, `bob-guests-${self}`, `Bob ${self}`);
  const guestId = await page.evaluate(() => document.querySelector("#people .person[data-user^='guest:']:has(.tag)")?.dataset.user);
  assert.match(guestId ?? "", /^guest:/);
  const own = await must(bob, "presence", { conversationId: LOBBY });
  const { userId } = own.users.find(({ name }) => name === `Guest ${self}`);
  const id = await make(bob, `Hosted ${self}`, [userId], "welcome");
  await goTo(guest, id);
  await guest.message("welcome").waitFor();
  await open();
  await about.getByText(`Only the owner can invite people: Bob ${self}.`).waitFor();
  await checkLook(guest, `guest-about-${self}`);
  await page.keyboard.press("Escape");
  await must(bob, "remove_member", { conversationId: id, userId: `bob-guests-${self}` });
  await until(async () => {
    await open();
    const isThere = (await about.getByText("Guests cannot invite people. Sign in to do that.").count()) > 0;
    await page.keyboard.press("Escape");
    await about.waitFor({ state: "detached" });
    return isThere;
  }, "the guest to be the owner");
  noComplaints(guest, next);
});

test("a draft is the same in two tabs, and neither overwrites the other", async (t) => {
  const ada = await signIn(t, "ada-tabs-draft", "Ada Tabs");
  const second = new Visitor(ada.context, await ada.context.newPage(), ada.link);
  await second.page.goto(ada.link.url);
  await second.isOnline();
  const has = (tab, value) => tab.page.waitForFunction((value) => document.querySelector("#composer").value === value, value);
  await ada.composer.pressSequentially("one");
  await has(second, "one");
  await second.composer.press("End");
  await second.composer.pressSequentially(" two");
  await has(ada, "one two");
  // An edit in one tab is no draft, and does not disturb the other.
  await ada.say("sent");
  await ada.message("sent", "stored").waitFor();
  await has(second, "");
  await ada.composer.press("ArrowUp");
  await has(ada, "sent");
  await second.composer.fill("three");
  await has(second, "three");
  assert.equal(await ada.composer.inputValue(), "sent");
  await ada.composer.press("Escape");
  await has(ada, "three");
  await ada.page.reload();
  await ada.isOnline();
  await has(ada, "three");
  noComplaints(ada, second);
});

test("a link that could not be copied is not reported as copied", async (t) => {
  const ada = await signIn(t, "ada-copy", "Ada Copy");
  await ada.page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await ada.page.getByRole("button", { name: "About this conversation" }).click();
  await ada.page.getByRole("button", { name: "Copy link" }).click();
  await ada.page.getByText("Your browser does not let this page copy. Copy the address of the page instead.").waitFor();
  assert.equal(await ada.page.getByText("The link was copied.").count(), 0);
  noComplaints(ada);
});
