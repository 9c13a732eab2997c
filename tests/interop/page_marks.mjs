// Replies, reactions, mentions, pins and notification levels of a conversation, in real Chromium
// pages.
import assert from "node:assert/strict";
import { test } from "node:test";
import { violations } from "./axe.mjs";
import { DESK, LOBBY, PHONE, client, make, must, noComplaints, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";

const bubble = ({ page }, text) => page.locator("li.message").filter({ has: page.locator(".bubble > .text", { hasText: text }) });

for (const [where, viewport] of Object.entries({ desk: DESK, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    test(`replies, reactions, mentions and pins work by keyboard, at a ${where} in ${colorScheme}`, async (t) => {
      const self = `${where}-${colorScheme}`;
      const [sub, other] = [`ada-marks-${self}`, `bob-marks-${self}`];
      const bob = await client(t, other, "Bob Marks");
      const own = await client(t, sub, "Ada Marks");
      const id = await make(own, `Marks ${self}`, [other]);
      await must(bob, "join_conversation", id);
      const { message: question } = await must(bob, "message", { conversationId: id, content: "Who brings the cake?" });
      const ada = await signIn(t, sub, "Ada Marks", { viewport, colorScheme });
      const { page } = ada;
      const key = async (...names) => {
        for (const name of names) await page.keyboard.press(name);
      };
      const checkLook = async (name) => {
        assert.deepEqual(await violations(ada), [], name);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), viewport.width);
        await ada.screenshot(`marks-${self}-${name}`);
      };
      await bubble(ada, "Who brings the cake?").focus();
      await key("r");
      await page.getByText("Reply to").waitFor();
      await page.keyboard.type("I do, with @bo");
      await page.getByRole("option", { name: "Bob Marks" }).waitFor();
      await checkLook("completion");
      await key("Enter");
      await page.keyboard.type("and Eve");
      const received = new Promise((done) => bob.once("message", (message) => done(message)));
      await key("Enter");
      const answer = await received;
      assert.deepEqual([answer.content, answer.replyTo.id, answer.mentions], ["I do, with @Bob Marks and Eve", question.id, [other]]);
      await page.locator(".quoted").getByText("Who brings the cake?").waitFor();
      await page.locator(".mention").getByText("@Bob Marks").waitFor();

      // Reactions: a common emoji, a custom emoji, and a removal.
      await bubble(ada, "Who brings the cake?").focus();
      await key("+");
      await page.getByRole("dialog", { name: "React" }).waitFor();
      await page.getByRole("button", { name: "More emojis" }).press("Enter");
      // The list has nothing to scroll to, also before the browser has drawn it.
      const isScrolling = await page.getByLabel("Search emojis").evaluate(async (input) => {
        const groups = input.parentElement.querySelector(".emoji-groups");
        const changed = new Promise((done) => {
          new MutationObserver(() => done(groups.scrollHeight > groups.clientHeight)).observe(groups, { childList: true, subtree: true });
        });
        input.value = "no emoji";
        input.dispatchEvent(new InputEvent("input", { bubbles: true }));
        return changed;
      });
      assert.equal(isScrolling, false);
      await page.getByText("No emoji has this name.").waitFor();
      await checkLook("picker");
      await page.getByLabel("Search emojis").fill("🎂");
      await key("Enter");
      const cake = page.getByRole("button", { name: "🎂 1" });
      await cake.and(page.locator("[aria-pressed=true]")).waitFor();
      await must(bob, "add_reaction", { messageId: question.id, emoji: "🎂" });
      await page.getByRole("button", { name: "🎂 2" }).waitFor();
      await must(bob, "add_reaction", { messageId: question.id, emoji: "👍" });
      await page.getByRole("button", { name: "👍 1" }).waitFor();
      await page.getByRole("button", { name: "🎂 2" }).press("Enter");
      await page.getByRole("button", { name: "🎂 1" }).and(page.locator("[aria-pressed=false]")).waitFor();

      // The owner pins a message; the pin bar leads to it.
      await bubble(ada, "Who brings the cake?").focus();
      await key("p");
      await page.locator(".pin-bar").getByText("Who brings the cake?").waitFor();
      await checkLook("marks");
      await page.reload();
      await ada.isOnline();
      await page.getByRole("button", { name: "👍 1" }).waitFor();
      await page.locator(".pin-newest").press("Enter");
      await page.locator("li.message.is-marked").getByText("Who brings the cake?", { exact: true }).waitFor();
      await page.locator(".pin-bar .link-button").press("Enter");
      await page.getByRole("dialog", { name: "Pinned messages" }).waitFor();
      await checkLook("pins");
      await page.getByRole("button", { name: "Unpin the message of Bob Marks" }).press("Enter");
      await page.getByText("No message is pinned.").waitFor();
      await key("Escape");

      // The original of a reply is edited and deleted.
      await must(bob, "edit_message", { messageId: question.id, content: "Who brings the pie?" });
      await page.locator(".quoted").getByText("Who brings the pie?").waitFor();
      await must(bob, "delete_message", { messageId: question.id });
      await page.locator(".quoted").getByText("Message deleted").waitFor();
      assert.equal(await page.locator(".reaction").count(), 0);
      await page.locator(".quoted").press("Enter");
      await page.locator("li.message.is-marked").getByText("This message was deleted.").waitFor();
      noComplaints(ada);
    });
  }
}

test("a mentioned user is notified unless the conversation's level is none", async (t) => {
  const bob = await client(t, "bob-level", "Bob Level");
  const id = await make(bob, "Level", ["ada-level"], "hello");
  await must(bob, "join_conversation", id);
  const ada = await signIn(t, "ada-level", "Ada Level");
  await ada.page.getByRole("heading", { name: "Level" }).waitFor();
  await ada.page.getByRole("button", { name: "About this conversation" }).click();
  const level = ada.page.getByLabel("Notify me of");
  await level.selectOption("mentions");
  // When opened again it shows the server's answer, and not the choice.
  await ada.page.keyboard.press("Escape");
  await ada.page.getByRole("button", { name: "About this conversation" }).click();
  await until(async () => (await level.inputValue()) === "mentions", "the level");
  assert.deepEqual(await violations(ada), []);
  await ada.page.keyboard.press("Escape");
  await ada.conversation("Lobby").click();
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  await must(bob, "message", { conversationId: id, content: "for all" });
  await must(bob, "message", { conversationId: id, content: "@Ada Level for you", mentions: ["ada-level"] });
  await ada.page.getByRole("alert").getByText("Level · Bob Level: @Ada Level for you").waitFor();
  assert.equal(await ada.page.getByRole("alert").getByText("for all").count(), 0);
  await ada.page.getByRole("button", { name: "Notifications, 1 new" }).first().click();
  await ada.page.getByRole("link", { name: "Open “Bob Level mentioned you”" }).click();
  await ada.page.locator("li.message.is-meant.is-marked").waitFor();
  await ada.screenshot("marks-mentioned");
  noComplaints(ada);
});

test("a reply to a deleted message waits and can be sent on its own", async (t) => {
  const bob = await client(t, "bob-gone", "Bob Gone");
  const id = await make(bob, "Gone", ["ada-gone"]);
  const { message } = await must(bob, "message", { conversationId: id, content: "soon gone" });
  const ada = await signIn(t, "ada-gone", "Ada Gone");
  await bubble(ada, "soon gone").focus();
  await ada.page.keyboard.press("r");
  ada.link.cut();
  await ada.isOffline();
  await must(bob, "delete_message", { messageId: message.id });
  await ada.say("an answer");
  ada.link.restore();
  await ada.page.locator("li.message .foot").getByText("The message that this replies to was deleted.").waitFor();
  await ada.page.getByRole("button", { name: "Send without the quote" }).click();
  await ada.message("an answer", "stored").waitFor();
  await ada.page.getByText("This message was deleted.").waitFor();
  noComplaints(ada);
});

test("hostile emojis, names and quotes stay in their places", async (t) => {
  const eve = await client(t, "eve-marks", "\u05d0\u05d1\u05d2 *_`[");
  const bob = await client(t, "bob-marks-hostile", "W".repeat(40));
  for (const socket of [eve, bob]) await must(socket, "join_conversation", LOBBY);
  const { message } = await must(eve, "message", { conversationId: LOBBY, content: `${"W".repeat(3_000)} hostile marks` });
  for (const emoji of ["👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇩🇪", "1️⃣", "👍🏽", "❤️", "👍", "👎", "🎉", "👀"]) await must(bob, "add_reaction", { messageId: message.id, emoji });
  await must(bob, "message", { conversationId: LOBBY, content: "@\u05d0\u05d1\u05d2 *_`[ look **here** @W", mentions: ["eve-marks"], replyTo: message.id });
  for (const viewport of [DESK, PHONE]) {
    const ada = await signIn(t, "ada-marks-hostile", "Ada Hostile", { viewport });
    await ada.page.evaluate((address) => (location.hash = address), `#/c/${LOBBY}`);
    await ada.page.locator(".quoted").first().waitFor();
    assert.equal(await ada.page.locator(".reaction").count(), 10);
    assert.equal(await ada.page.evaluate(() => document.documentElement.scrollWidth), viewport.width);
    assert.equal(await ada.page.evaluate(() => document.querySelector(".scroller").scrollWidth <= document.querySelector(".scroller").clientWidth), true);
    assert.deepEqual(await violations(ada), []);
    await ada.screenshot(`marks-hostile-${viewport.width}`);
    noComplaints(ada);
  }
});
