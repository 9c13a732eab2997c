// The search window in real Chromium pages: what it finds, how it shows that, and that all of it
// can be reached by keyboard.
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkLook, client, everywhere, make, must, noComplaints, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";

const NOTHING = "No conversation and no message matches. Check the spelling, or search for fewer words.";

/** Opens the search with a query; returns the window. */
async function search({ page }, query) {
  const dialog = page.getByRole("dialog", { name: "Search" });
  if (!(await dialog.isVisible())) await page.keyboard.press("Control+k");
  await dialog.getByLabel("Search words").fill(query);
  return dialog;
}

/** Waits until the window shows this summary, and nothing else. */
async function summarized(dialog, text) {
  const status = dialog.getByRole("status");
  await until(async () => (await status.textContent()) === text, `the summary ${text}`);
}

const press = async ({ page }, ...keys) => {
  for (const key of keys) await page.keyboard.press(key);
};
const focused = ({ page }) => page.evaluate(() => document.activeElement.textContent);
const times = (count, key) => Array.from({ length: count }, () => key);

everywhere("the beginning of a word finds messages, shown in context", async (t, { self, options }) => {
  const bob = await client(t, `bob-found-${self}`, "Bob Found");
  const far = `# Minutes\n${"We went through the list once more. ".repeat(30)}Then **Hello${self}** was said, and ${"so on. ".repeat(50)}`;
  const id = await make(bob, `Context ${self}`, [`ada-found-${self}`], far, `hello${self} and goodbye`, "shello");
  const ada = await signIn(t, `ada-found-${self}`, "Ada Found", options);
  const dialog = await search(ada, `  HELLO${self.slice(0, -2)}`);
  await summarized(dialog, "2 messages");
  const hits = dialog.getByRole("list", { name: "Messages" }).getByRole("listitem");
  // Newest first, each with its author, conversation and time, and the matched words marked.
  const [newer, older] = await hits.allTextContents();
  assert.match(newer, new RegExp(`Bob Foundin Context ${self}.*\\d.*hello${self} and goodbye$`));
  assert.match(older, new RegExp(`Bob Foundin Context ${self}.*\\d.*…\\w.* once more\\. Then Hello${self} was said, and so on\\..*…$`));
  assert.deepEqual(await hits.locator("mark").allTextContents(), [`hello${self.split("-")[0]}`, self.split("-")[1], `Hello${self.split("-")[0]}`, self.split("-")[1]]);
  for (const mark of await hits.locator("mark").all()) {
    // All of it is within the lines that are shown.
    assert.ok(await mark.evaluate((node) => node.getBoundingClientRect().bottom <= node.parentElement.getBoundingClientRect().bottom + 1));
  }
  const time = await hits.first().locator("time").getAttribute("datetime");
  assert.ok(Math.abs(Date.now() - Date.parse(time)) < 600_000, time);
  await checkLook(ada, `search-${self}-messages`);
  await press(ada, "ArrowDown", "ArrowDown", "Enter");
  await ada.page.locator("li.message.is-marked").getByText(`Hello${self}`).waitFor();
  assert.match(ada.page.url(), new RegExp(`#/c/${id}/1$`));
  noComplaints(ada);
});

everywhere("all matching conversations can be reached by keyboard", async (t, { self, options }) => {
  const bob = await client(t, `bob-rooms-${self}`, "Bob Rooms");
  for (let number = 1; number <= 12; number += 1) await make(bob, `Harbour ${self} ${number}`, [`ada-rooms-${self}`], number === 1 ? `the harbour ${self}` : "x");
  const ada = await signIn(t, `ada-rooms-${self}`, "Ada Rooms", options);
  const { page } = ada;
  const dialog = await search(ada, `harbour ${self}`);
  await summarized(dialog, "12 conversations, 1 message");
  const rooms = dialog.getByRole("list", { name: "Conversations" }).getByRole("listitem");
  assert.equal(await rooms.count(), 5);
  await press(ada, "ArrowDown");
  assert.ok((await focused(ada)).endsWith(await rooms.first().locator(".found-title").textContent()));
  assert.equal(await dialog.locator(".found").evaluate((node) => node.scrollTop), 0, "the heading stays visible");
  await press(ada, ...times(5, "ArrowDown"));
  assert.equal(await focused(ada), "Show all 12 conversations");
  await checkLook(ada, `search-${self}-conversations`);
  await press(ada, "Enter");
  await until(async () => (await rooms.count()) === 12, "all conversations");
  const titles = await rooms.locator(".found-title").allTextContents();
  assert.deepEqual(new Set(titles), new Set(Array.from({ length: 12 }, (_, index) => `Harbour ${self} ${index + 1}`)));
  assert.ok((await focused(ada)).endsWith(titles[5]), "the focus is on the first further conversation");
  await checkLook(ada, `search-${self}-all-conversations`);
  // The message follows the last conversation.
  await press(ada, ...times(7, "ArrowDown"));
  assert.match(await focused(ada), /Bob Rooms.*the harbour/);
  await press(ada, "ArrowUp");
  const button = page.locator(".found button:focus");
  assert.ok(await button.evaluate((node) => node.getBoundingClientRect().bottom <= node.closest(".found").getBoundingClientRect().bottom + 1), "visible");
  await press(ada, "Enter");
  await page.getByRole("heading", { name: titles[11], exact: true }).waitFor();
  // Another query begins with the first conversations again.
  await summarized(await search(ada, `harbour ${self} 1`), "4 conversations");
  await summarized(await search(ada, `harbour ${self}`), "12 conversations, 1 message");
  assert.equal(await rooms.count(), 5);
  noComplaints(ada);
});

test("messages beyond the first page can be reached by keyboard", async (t) => {
  const bob = await client(t, "bob-pages", "Bob Pages");
  const numbers = Array.from({ length: 64 }, (_, index) => `lighthouse ${index + 1}`);
  await make(bob, "Pages", ["ada-pages"], ...numbers);
  const ada = await signIn(t, "ada-pages", "Ada Pages");
  const dialog = await search(ada, "light");
  const hits = dialog.getByRole("list", { name: "Messages" }).getByRole("listitem");
  const more = dialog.getByRole("button", { name: "Show older messages" });
  for (const [count, next] of [
    [30, "lighthouse 34"],
    [60, "lighthouse 4"],
  ]) {
    await summarized(dialog, `the newest ${count} messages`);
    await more.press("Enter");
    await until(async () => (await focused(ada)).endsWith(next), `the focus on ${next}`);
  }
  await summarized(dialog, "64 messages");
  assert.deepEqual(await hits.locator(".found-content").allTextContents(), numbers.toReversed());
  assert.equal(await more.count(), 0);
  noComplaints(ada);
});

test("the empty text appears only if nothing matches", async (t) => {
  const bob = await client(t, "bob-empty", "Bob Empty");
  await make(bob, "Observatory", ["ada-empty"], "a telescope");
  const ada = await signIn(t, "ada-empty", "Ada Empty");
  await ada.isOver("WebSocket");
  let dialog = await search(ada, "");
  await summarized(dialog, "Finds conversations by title and messages by their words. The last word can be incomplete.");
  await summarized(await search(ada, "observ"), "1 conversation");
  assert.equal(await dialog.getByText(/No .* matches/).count(), 0);
  await summarized(await search(ada, "nowhere"), NOTHING);
  await checkLook(ada, "search-nothing");
  // A query without words finds titles at most.
  await summarized(await search(ada, "?!"), NOTHING);
  await summarized(await search(ada, "telescope"), "1 message");
  // Until the server has answered, the page does not know.
  ada.link.holdAnswers();
  await summarized(await search(ada, "nowhere else"), "Searching…");
  await summarized(await search(ada, "tele"), "Searching…");
  ada.link.releaseAnswers();
  await summarized(dialog, "1 message");
  noComplaints(ada);
});

test("a failed search keeps the conversations and can be repeated", async (t) => {
  const bob = await client(t, "bob-failed", "Bob Failed");
  await make(bob, "Lantern room", ["ada-failed"], "a lantern");
  const ada = await signIn(t, "ada-failed", "Ada Failed");
  ada.link.cut();
  await ada.isOffline();
  const dialog = await search(ada, "lantern");
  await dialog.getByRole("status").getByText("Messages could not be searched. The connection was lost.").waitFor();
  assert.equal(await dialog.getByRole("list", { name: "Conversations" }).getByRole("listitem").count(), 1);
  ada.link.restore();
  await ada.isOnline();
  await search(ada, "lanter");
  await summarized(dialog, "1 conversation, 1 message");
  noComplaints(ada);
});

test("operators, quotes and HTML in a query are searched as text", async (t) => {
  const bob = await client(t, "bob-syntax", "Bob Syntax");
  const content = `"Zeppelin" OR *balloon* <img src=x onerror=alert(1)>`;
  const id = await make(bob, "Syntax", ["ada-syntax"], content, "a balloon");
  const ada = await signIn(t, "ada-syntax", "Ada Syntax");
  const dialog = await search(ada, `"zep*`);
  for (const [query, marks] of [
    [`"zep*`, ["Zeppelin"]],
    ["zeppelin OR ballo:*", ["Zeppelin", "OR", "balloon"]],
    ["') OR zeppel", ["Zeppelin", "OR"]],
    ["<img src=x oner", ["img", "src", "x", "onerror"]],
    [`\\zeppelin & !"(balloon)" | `, ["Zeppelin", "balloon"]],
  ]) {
    await summarized(await search(ada, query), "1 message");
    assert.deepEqual(await dialog.locator("mark").allTextContents(), marks, query);
  }
  assert.equal(await dialog.locator("img").count(), 0);
  await summarized(await search(ada, "zeppelin NOT balloon"), NOTHING);
  // A page of the server's limits: sixteen words, two hundred characters.
  await must(bob, "message", { conversationId: id, content: "y".repeat(300) });
  await summarized(await search(ada, "y".repeat(200)), "1 message");
  await search(ada, "y ".repeat(17));
  await dialog.getByRole("status").getByText(/^Messages could not be searched. The server did not accept this: .*16 words/).waitFor();
  noComplaints(ada);
});
