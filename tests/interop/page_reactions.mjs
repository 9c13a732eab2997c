// Reacting to a message, and its tools: beside it, over no other message, and large enough for a
// finger.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DESK, LOBBY, PHONE, checkLook, client, everywhere, make, must, noComplaints, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";

const tools = ({ page }) => page.getByRole("group", { name: "Message", exact: true });
const popover = ({ page }) => page.getByRole("dialog", { name: "React" });

/** Shows the tools of a message, with a finger or a mouse. */
async function showTools(visitor, text, isPhone) {
  const words = visitor.message(text).getByText(text, { exact: true });
  await (isPhone ? words.tap() : words.hover());
  await visitor.message(text).getByRole("group", { name: "Message", exact: true }).waitFor();
  await until(async () => (await tools(visitor).count()) === 1, "the tools of one message");
}

/** Returns the boxes of the visible elements of a selector. */
const boxes = ({ page }, selector) =>
  page.locator(selector).evaluateAll((all) => all.map((node) => node.getBoundingClientRect()).map(({ x, y, width, height }) => ({ x, y, width, height })));

const overlap = (one, other) => one.x + one.width > other.x + 1 && other.x + other.width > one.x + 1 && one.y + one.height > other.y + 1 && other.y + other.height > one.y + 1;

everywhere("a reaction is chosen beside its message, without a text field", async (t, { self, isPhone, options }) => {
  const sub = `ada-react-${self}`;
  const bob = await client(t, "bob-react", "Bob React");
  const id = await make(bob, `React ${self}`, [sub], ...Array.from({ length: 12 }, (_, index) => `reacted ${index}`));
  const ada = await signIn(t, sub, "Ada React", { ...options, hasTouch: isPhone, isMobile: isPhone });
  const { page } = ada;
  await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("reacted 11").waitFor();
  const act = (locator) => (isPhone ? locator.tap() : locator.click());
  const react = async (text) => {
    await showTools(ada, text, isPhone);
    await act(tools(ada).getByRole("button", { name: "React", exact: true }));
    await popover(ada).waitFor();
  };
  await react("reacted 5");
  assert.deepEqual(await popover(ada).locator(".emoji").allTextContents(), ["👍", "❤️", "😂", "🎉", "😮", "😢"]);
  // It is a small popover next to its message, and the focus opens no keyboard.
  assert.equal(await page.evaluate(() => document.activeElement.matches(".reaction-popover .emoji")), true);
  const [box] = await boxes(ada, ".reaction-popover");
  const [line] = await boxes(ada, "li.message:has(.tools)");
  assert.ok(box.height < 70 && Math.min(Math.abs(box.y - line.y - line.height), Math.abs(line.y - box.y - box.height)) < 60, JSON.stringify([box, line]));
  assert.ok(box.x >= 0 && box.x + box.width <= options.viewport.width);
  if (isPhone) {
    const targets = await boxes(ada, ".reaction-popover button, .tools button");
    assert.deepEqual(targets.filter(({ width, height }) => width < 44 || height < 44), []);
  }
  await checkLook(ada, `reactions-${self}`);
  await act(popover(ada).getByRole("button", { name: "🎉" }));
  await popover(ada).waitFor({ state: "detached" });
  await ada.message("reacted 5").getByRole("button", { name: "🎉 1" }).waitFor();
  // The target is higher than it looks.
  if (isPhone) {
    const [chip] = await boxes(ada, ".reaction");
    const hits = (dx, dy) => page.evaluate(([x, y]) => document.elementFromPoint(x, y).matches(".reaction"), [chip.x + chip.width / 2 + dx, chip.y + chip.height / 2 + dy]);
    for (const [dx, dy] of [[-21, 0], [21, 0], [0, -21], [0, 21]]) assert.equal(await hits(dx, dy), true, `${dx}, ${dy} of ${JSON.stringify(chip)}`);
  }

  // The picker has all emojis, and finds them by their names.
  await react("reacted 7");
  await act(popover(ada).getByRole("button", { name: "More emojis" }));
  await page.locator(".emoji-groups .emoji").first().waitFor();
  assert.ok((await page.locator(".emoji-groups .emoji").count()) > 1_000);
  assert.equal(await page.evaluate(() => document.activeElement.matches("input")), !isPhone);
  const [full] = await boxes(ada, ".reaction-popover");
  assert.ok(full.x >= 0 && full.y >= 0 && full.x + full.width <= options.viewport.width && full.y + full.height <= options.viewport.height, JSON.stringify(full));
  await checkLook(ada, `reactions-picker-${self}`);
  const search = page.getByLabel("Search emojis");
  await search.fill("hedgehog");
  await page.getByRole("button", { name: "hedgehog", exact: true }).waitFor();
  await checkLook(ada, `reactions-found-${self}`);
  await search.press("Enter");
  await ada.message("reacted 7").getByRole("button", { name: "🦔 1" }).waitFor();

  // Chosen emojis come first, also after a reload, until the user signs out.
  await page.reload();
  await ada.isOnline();
  await ada.message("reacted 11").waitFor();
  await react("reacted 9");
  assert.deepEqual(await popover(ada).locator(".emoji").allTextContents(), ["🦔", "🎉", "👍", "❤️", "😂", "😮"]);
  await page.keyboard.press("Escape");
  await popover(ada).waitFor({ state: "detached" });
  await ada.toList();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByText("Sign in with a token instead").or(page.getByLabel("Token")).first().waitFor();
  assert.deepEqual(await page.evaluate(() => Object.keys(localStorage).filter((key) => key.startsWith("roomcast.reactions"))), []);
  noComplaints(ada);
});

test("the popover works by keyboard, and closes with Escape or a press elsewhere", async (t) => {
  const bob = await client(t, "bob-keys", "Bob Keys");
  const id = await make(bob, "Keys", ["ada-keys"], "one", "two");
  const ada = await signIn(t, "ada-keys", "Ada Keys");
  const { page } = ada;
  await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  const isOnLine = () => page.evaluate(() => document.activeElement.matches("li.message"));
  await ada.message("two").focus();
  await page.keyboard.press("+");
  await popover(ada).waitFor();
  await page.keyboard.press("Escape");
  await popover(ada).waitFor({ state: "detached" });
  assert.equal(await isOnLine(), true);
  await page.keyboard.press("+");
  await popover(ada).waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await ada.message("two").getByRole("button", { name: "❤️ 1" }).waitFor();
  assert.equal(await isOnLine(), true);

  // Arrow keys move between the emojis of the picker.
  await page.keyboard.press("+");
  await popover(ada).getByRole("button", { name: "More emojis" }).press("Enter");
  await page.getByLabel("Search emojis").fill("no emoji at all");
  await page.getByText("No emoji has this name.").waitFor();
  await page.getByLabel("Search emojis").fill("cat");
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowRight");
  const name = await page.evaluate(() => document.activeElement.title);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  assert.equal(await page.evaluate(() => document.activeElement.title), name);
  // An emoji of another keyboard is taken as it is.
  await page.getByLabel("Search emojis").fill("👍🏽");
  await page.keyboard.press("Enter");
  await ada.message("two").getByRole("button", { name: "👍🏽 1" }).waitFor();
  await page.keyboard.press("+");
  await popover(ada).waitFor();
  await ada.composer.click();
  await popover(ada).waitFor({ state: "detached" });
  noComplaints(ada);
});

test("the tools of a message lie over that message alone", async (t) => {
  const bob = await client(t, "bob-over", "Bob Over");
  const long = "a message that is as wide as the list ".repeat(4).trim();
  const id = await make(bob, "Over", ["ada-over"], ...Array.from({ length: 8 }, (_, index) => `over ${index}`), long, "after it");
  for (const viewport of [DESK, { width: 800, height: 600 }]) {
    const ada = await signIn(t, "ada-over", "Ada Over", { viewport });
    await ada.page.evaluate((address) => (location.hash = address), `#/c/${id}`);
    await ada.say("my own", `${long} of mine`);
    await ada.message("my own", "stored").last().waitFor();
    for (const line of (await ada.page.locator("li.message").all()).slice(-6)) {
      await line.locator(".bubble").hover();
      await line.getByRole("group", { name: "Message", exact: true }).waitFor();
      await until(async () => (await tools(ada).count()) === 1, "the tools of one message");
      const [own] = await boxes(ada, ".tools");
      const others = await boxes(ada, "li.message:not(:has(.tools)) :is(.bubble, .head, .foot), li.day, li.system");
      assert.deepEqual(others.filter((other) => overlap(own, other)), [], await line.textContent());
    }
    await ada.page.getByText(long, { exact: true }).hover();
    await checkLook(ada, `reactions-tools-${viewport.width}`);
    noComplaints(ada);
  }
});

test("the stored reactions of a user are bounded and checked", async (t) => {
  const bob = await client(t, "bob-stored", "Bob Stored");
  const id = await make(bob, "Stored", ["ada-stored"], "hello");
  const ada = await signIn(t, "ada-stored", "Ada Stored", { viewport: PHONE });
  const { page } = ada;
  await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  const offered = async (stored) => {
    await page.evaluate((stored) => localStorage.setItem("roomcast.reactions.ada-stored", stored), stored);
    await ada.message("hello").focus();
    await page.keyboard.press("+");
    await popover(ada).waitFor();
    const emojis = await popover(ada).locator(".emoji").allTextContents();
    await page.keyboard.press("Escape");
    await popover(ada).waitFor({ state: "detached" });
    return emojis;
  };
  const defaults = ["👍", "❤️", "😂", "🎉", "😮", "😢"];
  for (const stored of ["no JSON", "{}", JSON.stringify(["<b>", 7, "ab"])]) assert.deepEqual(await offered(stored), defaults, stored);
  assert.deepEqual(await offered(JSON.stringify(["🦔", "😢", "🎂", "🦔"])), ["🦔", "🎂", "😢", "👍", "❤️", "😂"]);
  await offered(JSON.stringify(Array.from({ length: 500 }, () => "🦔")));
  await ada.message("hello").focus();
  await page.keyboard.press("+");
  await popover(ada).getByRole("button", { name: "👍" }).press("Enter");
  await page.getByRole("button", { name: "👍 1" }).waitFor();
  const { length } = await page.evaluate(() => JSON.parse(localStorage.getItem("roomcast.reactions.ada-stored")));
  assert.ok(length <= 60, `${length} stored`);
  assert.notEqual(id, LOBBY);
  noComplaints(ada);
});
