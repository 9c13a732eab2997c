// The page by keyboard alone, in Chromium and in Firefox, and what empty lists say.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browsers, fill } from "./page_browsers.mjs";
import { DESK, PHONE, checkLookEverywhere, client, keyed, make, must, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { startServer } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

const focused = `(document.activeElement.ariaLabel ?? document.activeElement.textContent.trim())`;
const region = `document.activeElement.closest(".sidebar, .header, .messages, .composer-area, .people")?.className.split(" ")[0]`;

/** Presses Tab until an expression is true. Returns the number of presses. */
async function tabTo(page, expression, limit = 60) {
  for (let steps = 0; steps < limit; steps += 1) {
    if (await page.evaluate(`Boolean(${expression})`)) return steps;
    await page.press("Tab");
  }
  assert.fail(`${expression} is not reached by Tab`);
}

for (const [browser, open] of Object.entries(browsers)) {
  test(`a reply is sent by keyboard alone from the start, in ${browser}`, async (t) => {
    const sub = `ada-reply-${browser.toLowerCase()}`;
    const { ids } = await fill(t, sub, 300, 0);
    const page = await open(t, { hash: `#/c/${ids[299]}` });
    await page.sees(`document.querySelector("#name")`);
    await tabTo(page, `${focused} === "Sign in with a token instead"`);
    await page.press("Enter");
    await tabTo(page, `document.activeElement.id === "token"`);
    await page.type(tokenOf(sub, "Ada Reply"));
    await page.press("Enter");
    await page.sees(`document.querySelectorAll("a.conversation").length > 300 && document.querySelector(".scroller[aria-busy=false]") && document.querySelector(".skip")`);

    // The skip link is the first stop, and the list is a single one.
    assert.equal(await page.evaluate(`document.querySelector("a[href], button, input, textarea, [tabindex='0']").className`), "skip spoken");
    await page.evaluate(`document.querySelector(".skip").focus()`);
    assert.equal(await page.evaluate(focused), "Skip to the message field");
    const steps = await tabTo(page, `document.activeElement.id === "composer"`);
    assert.ok(steps < 20, `${steps} stops`);
    await page.evaluate(`document.querySelector(".skip").focus()`);
    await page.press("Enter");
    assert.equal(await page.evaluate("document.activeElement.id"), "composer");

    // F6 goes through the regions; arrow keys go through the list.
    const regions = [];
    for (let step = 0; step < 5; step += 1) {
      await page.press("F6");
      regions.push(await page.evaluate(region));
    }
    assert.deepEqual(regions, ["people", "sidebar", "header", "messages", "composer-area"]);
    await page.press("F6", "F6");
    assert.equal(await page.evaluate(region), "sidebar");
    const title = `document.activeElement.querySelector(".conversation-title")?.textContent`;
    assert.equal(await page.evaluate(title), "room-300");
    await page.press("End");
    const last = await page.evaluate(`[...document.querySelectorAll("a.conversation")].at(-1) === document.activeElement`);
    assert.equal(last, true);
    await page.press("Home", "ArrowDown", "ArrowDown", "ArrowUp");
    const chosen = await page.evaluate(title);
    assert.equal(chosen, await page.evaluate(`document.querySelectorAll(".conversation-title")[${await page.evaluate(`document.querySelector(".to-trading") === null`) ? 1 : 2}].textContent`));
    await page.press("Enter");
    await page.sees(`document.querySelector("h1").textContent === ${JSON.stringify(chosen)} && document.querySelector(".scroller[aria-busy=false]") && document.querySelector("li.message")`);
    // A browser without a mouse does not focus the field by itself.
    for (let step = 0; step < 6 && (await page.evaluate(region)) !== "composer-area"; step += 1) await page.press("F6");
    assert.equal(await page.evaluate("document.activeElement.id"), "composer");
    await page.press("Shift+F6");
    await page.sees(`document.activeElement.matches("li.message")`);
    await page.press("r");
    await page.sees(`document.activeElement.id === "composer"`);
    await page.type("by keyboard");
    await page.press("Enter");
    await page.sees(`[...document.querySelectorAll("li.message[data-state=stored]")].some((line) => line.querySelector(".quoted") && line.textContent.includes("by keyboard"))`);

    // A question mark outside of a field shows the keys.
    await page.press("Shift+F6", "?");
    await page.sees(`document.querySelector("dialog[open] h2")?.textContent === "Keyboard shortcuts"`);
    await page.look("shortcuts");
    await page.press("Escape");
    await page.sees(`document.querySelector("dialog") === null`);
    await page.sees(`document.activeElement.matches("li.message")`);
    await page.press("F6", "?");
    assert.equal(await page.evaluate(`document.querySelector("#composer").value`), "?");
    noComplaints(page.visitor);
  });
}

test("the controls of messages are no stops until Enter moves to them", async (t) => {
  const bob = await client(t, "bob-stops", "Bob Stops");
  await make(bob, "Stops", ["ada-stops"], ...Array.from({ length: 30 }, (_, index) => `see https://example.org/${index}`));
  const ada = await signIn(t, "ada-stops", "Ada Stops");
  // The title is there before the messages, and the field for a message is no stop until then.
  await ada.page.locator(".scroller[aria-busy=false]").waitFor();
  await ada.message("see https://example.org/29").waitFor();
  const page = { evaluate: (expression) => ada.page.evaluate(expression), press: (key) => ada.page.keyboard.press(key) };
  // The view is at the first unread message. At the end, the button to the newest is no stop.
  await ada.scroller.press("End");
  await ada.page.locator(".jump").waitFor({ state: "hidden" });
  await ada.scroller.focus();
  assert.ok((await tabTo(page, `document.activeElement.id === "composer"`)) <= 2);
  await ada.page.locator("li.message").last().focus();
  await page.press("Enter");
  assert.ok((await tabTo(page, `document.activeElement.matches(".tools [aria-label='Copy link']")`)) <= 5);
  await page.press("Escape");
  assert.equal(await page.evaluate("document.activeElement.matches('li.message')"), true);
  noComplaints(ada);
});

test("a focused conversation keeps the focus when the list is reordered", async (t) => {
  const { bob, ids } = await fill(t, "ada-moved", 5, 0);
  const ada = await signIn(t, "ada-moved", "Ada Moved");
  await ada.conversation("room-2").focus();
  await must(bob, "message", { conversationId: ids[1], content: "moves it" });
  await ada.page.waitForFunction(() => document.querySelector("a.conversation .conversation-title").textContent === "room-2");
  await ada.page.waitForFunction(() => document.activeElement.textContent.includes("room-2"));
  noComplaints(ada);
});

test("one of 1,000 members is found by name, and one of many present users", async (t) => {
  const bob = await client(t, "bob-many", "Bob Many");
  const members = Array.from({ length: 999 }, (_, index) => `many-${String(index).padStart(3, "0")}`);
  const id = await make(bob, "Many", members, "hello");
  for (const member of members.slice(0, 30)) await must(await client(t, member, `Present ${member}`), "join_conversation", { conversationId: id });
  await must(bob, "join_conversation", { conversationId: id });
  const ada = await signIn(t, members[0], "Ada Many", { path: `/#/c/${id}` });
  await ada.page.getByRole("button", { name: "About this conversation" }).press("Enter");
  const list = ada.page.getByRole("list", { name: /^Members · 1000/ });
  await list.getByRole("listitem").first().waitFor();
  assert.equal(await list.getByRole("listitem").count(), 100);
  await checkLookEverywhere(ada, "members");
  await ada.page.getByLabel("Find by name or id").fill("many-99");
  await ada.page.getByText("9 found").waitFor();
  assert.equal(await list.getByRole("listitem").count(), 9);
  await ada.page.getByLabel("Find by name or id").fill("nobody at all");
  await ada.page.getByText("No name or id contains this.").waitFor();
  await ada.page.keyboard.press("Escape");
  await ada.page.getByRole("button", { name: "Find among all 31" }).press("Enter");
  const present = ada.page.getByRole("dialog", { name: "Who is here" });
  await present.getByLabel("Find by name or id").fill("many-017");
  await present.getByText("1 found").waitFor();
  await present.getByText("Present many-017").waitFor();
  await checkLookEverywhere(ada, "present");
  noComplaints(ada);
});

test("the first user of a production server reads what to do next", async (t) => {
  const server = await startServer({ ...keyed, ROOMCAST_PROFILE: "production" });
  t.after(() => server.stop());
  for (const [where, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
    const ada = await Visitor.open(t, shared.browser, server.url, { viewport });
    await ada.giveToken(tokenOf(`first-${where}`, "First User"));
    await ada.page.getByRole("heading", { name: "You have no conversations yet" }).waitFor();
    await ada.page.getByText(`first-${where}`, { exact: true }).filter({ visible: true }).first().waitFor();
    assert.equal(await ada.page.getByText("Choose a conversation.").count(), 0);
    await checkLookEverywhere(ada, `first-${where}`);
    await ada.page.getByRole("button", { name: "Start a conversation" }).filter({ visible: true }).first().press("Enter");
    const dialog = ada.page.getByRole("dialog", { name: "New conversation" });
    await dialog.getByText("Enter the id of a user").waitFor();
    await dialog.getByLabel("Title").fill("The first one");
    await ada.page.keyboard.press("Enter");
    await ada.page.getByRole("heading", { name: "The first one" }).waitFor();
    noComplaints(ada);
  }
});

test("empty lists say what to do next", async (t) => {
  const bob = await client(t, "bob-empty", "Bob Empty");
  await make(bob, "Empty", ["ada-empty"]);
  const ada = await signIn(t, "ada-empty", "Ada Empty");
  await ada.page.getByRole("heading", { name: "Empty" }).waitFor();
  await ada.page.getByText("Only you are here now. Others read your messages when they return.").waitFor();
  await ada.page.locator(".sidebar .bell").press("Enter");
  await ada.page.getByText("Messages that mention you appear here.").waitFor();
  await ada.page.keyboard.press("Escape");
  await ada.page.keyboard.press("Control+k");
  await ada.page.getByRole("searchbox").fill("nothinglikethis");
  await ada.page.getByText("No conversation and no message matches.").waitFor();
  noComplaints(ada);
});
