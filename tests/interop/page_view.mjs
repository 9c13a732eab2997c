// The page during other actions: nothing covers what is read, one Escape closes one
// window, and what is stated is true.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FaultyServer, message } from "./faulty.mjs";
import { DESK, LOBBY, PHONE, client, everywhere, checkLook, checkLookEverywhere, make, must, noComplaints, shared, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

/** Returns whether two boxes share more than an edge. */
const overlap = (one, other) =>
  one.x + one.width > other.x + 1 && other.x + other.width > one.x + 1 && one.y + one.height > other.y + 1 && other.y + other.height > one.y + 1;

/**
 * Returns what a part of the page covers: the visible elements of a selector that neither contain
 * it nor are inside it.
 */
async function covered(part, selector) {
  // Both are measured at once, because lines move when tools appear and disappear.
  const { box, others } = await part.evaluate((node, selector) => {
    const all = [...document.querySelectorAll(selector)].filter((other) => !other.contains(node) && !node.contains(other) && other.checkVisibility());
    // Elements that are scrolled out of their list are not visible.
    const others = all.map((other) => {
      const { left, right, top, bottom } = other.getBoundingClientRect();
      const list = (other.parentElement.closest(".scroller, .conversations, .trading, .dialog-body") ?? document.documentElement).getBoundingClientRect();
      const [y, end] = [Math.max(top, list.top), Math.min(bottom, list.bottom)];
      return { text: other.textContent.slice(0, 40), x: left, width: right - left, y, height: Math.max(0, end - y) };
    });
    const { x, y, width, height } = node.getBoundingClientRect();
    return { box: { x, y, width, height }, others };
  }, selector);
  assert.ok(others.length > 0, `there is nothing to cover: ${selector}`);
  return others.filter((other) => other.height > 0 && overlap(box, other)).map(({ text }) => text);
}

const READ = "li.message .bubble, li.message .head, .header h1, .typing, #composer, a.conversation, .person";

for (const hasTouch of [true, false]) {
  test(`on a phone the tools of a message cover no other message, with a ${hasTouch ? "finger" : "mouse"}`, async (t) => {
    for (const viewport of [PHONE, { width: 320, height: 640 }]) {
      const sub = `ada-tools-${viewport.width}-${hasTouch}`;
      const bob = await client(t, "bob-tools", "Bob Tools");
      const id = await make(bob, "Tools", [sub], ...Array.from({ length: 30 }, (_, index) => `tools ${index}`));
      const ada = await signIn(t, sub, "Ada Tools", { viewport, hasTouch, isMobile: hasTouch });
      await ada.page.evaluate((address) => (location.hash = address), `#/c/${id}`);
      await ada.message("tools 29").waitFor();
      await ada.say("own tools");
      await ada.message("own tools", "stored").waitFor();
      const tools = ada.page.getByRole("group", { name: "Message", exact: true });
      for (const text of ["own tools", "tools 25", "tools 29", "tools 27"]) {
        const line = ada.message(text);
        const words = line.getByText(text, { exact: true });
        if (hasTouch) await words.tap();
        else {
          // At the end of the list, lines move when the tools of another message disappear.
          await ada.page.mouse.move(5, 5);
          await tools.waitFor({ state: "detached" });
          await words.hover();
        }
        await line.getByRole("group", { name: "Message", exact: true }).waitFor();
        // With touch, the tools of the previous message disappear a moment later.
        await until(async () => (await tools.count()) === 1, "the tools of one message");
        assert.deepEqual(await covered(tools, "li.message"), [], text);
        await until(async () => {
          const { y, height } = await tools.boundingBox();
          const list = await ada.scroller.boundingBox();
          return text !== "own tools" || y + height <= list.y + list.height;
        }, "the tools of the newest message to be in view");
      }
      await checkLook(ada, `tools-${viewport.width}-${hasTouch ? "finger" : "mouse"}`);
      noComplaints(ada);
    }
  });
}

test("a tap on a link follows it while another message shows its tools", async (t) => {
  const bob = await client(t, "bob-tap", "Bob Tap");
  const id = await make(bob, "Tap", ["ada-tap"], "above", "[a link](https://example.org/tapped)", "below");
  const ada = await signIn(t, "ada-tap", "Ada Tap", { viewport: PHONE, hasTouch: true, isMobile: true });
  await ada.context.route("https://example.org/**", (route) => route.fulfill({ body: "tapped" }));
  await ada.page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("above").getByText("above").tap();
  await ada.page.getByRole("group", { name: "Message", exact: true }).waitFor();
  const opened = ada.context.waitForEvent("page");
  await ada.page.getByRole("link", { name: "a link" }).tap();
  assert.equal((await opened).url(), "https://example.org/tapped");
  noComplaints(ada);
});

everywhere("notices cover no conversation, list, window or trading content", async (t, { self, isPhone, options }) => {
  const sub = `ada-notices-${self}`;
  const bob = await client(t, "bob-notices", "Bob Notices");
  const id = await make(bob, `Notices ${self}`, [sub], ...Array.from({ length: 40 }, (_, index) => `to be read ${index}`));
  const ada = await Visitor.signIn(t, shared.browser, shared.server.url, token({ sub, name: "Ada Notices", roles: ["admin"] }), options);
  const { page } = ada;
  const notice = page.locator(".notice");
  const none = async (selector, what) => {
    await notice.first().waitFor();
    assert.deepEqual(await covered(page.locator(".notices:visible").filter({ has: notice }), selector), [], what);
    await checkLook(ada, `notices-${what}-${self}`);
    for (let count = await notice.count(); count > 0; count -= 1) await page.getByRole("button", { name: "Dismiss" }).first().click();
    await notice.waitFor({ state: "detached" });
  };
  await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("to be read 39").waitFor();
  await ada.isOnline();
  const add = (title) => make(bob, `${title} ${self}`, [sub]);
  await add("Added");
  await none(READ, "conversation");
  // A reader further up keeps the same lines. The mouse moves away, because the tools of a message
  // under it would be scrolled into view.
  await page.mouse.move(5, 5);
  await ada.scroller.evaluate((scroller) => scroller.scrollTo(0, 300));
  const place = () => page.locator("li.message").first().evaluate((line) => line.getBoundingClientRect().top);
  const before = await place();
  await add("Added while reading");
  await notice.waitFor();
  assert.equal(await place(), before);
  await none(READ, "reading");

  await ada.toList();
  await add("Added to the list");
  await none(isPhone ? "a.conversation, .self" : READ, "list");
  await page.evaluate(() => (location.hash = "#/trading"));
  await page.getByText("There is no portfolio yet.").waitFor();
  await add("Added beside trading");
  await none(".trading section, .header h1", "trading");
  await page.keyboard.press("Control+k");
  await page.getByRole("dialog", { name: "Search" }).waitFor();
  await page.getByPlaceholder("Words of a message, or a title").fill("Notices");
  await page.locator(".found button").first().waitFor();
  await add("Added over a window");
  await page.getByRole("dialog").locator(".notice").waitFor();
  await none(".found button, #search, .dialog h2", "window");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  noComplaints(ada);
});

test("one Escape closes only the top window, also from a field with a text", async (t) => {
  const bob = await client(t, "bob-escape", "Bob Escape");
  const id = await make(bob, "Escape", ["ada-escape"], "pinned");
  const ada = await signIn(t, "ada-escape", "Ada Escape", { viewport: { width: 900, height: 700 } });
  const { page } = ada;
  await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("pinned").waitFor();
  const closes = async (name, { page } = ada) => {
    await page.getByRole("dialog", { name }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  };
  await page.keyboard.press("Control+k");
  await page.getByPlaceholder("Words of a message, or a title").fill("some words");
  await closes("Search");
  for (const [button, name] of [
    ["New conversation", "New conversation"],
    ["About this conversation", "About this conversation"],
    ["Notifications", "Notifications"],
    [/your status/, "Your status"],
  ]) {
    // The second time nothing is done in the window before.
    for (let time = 0; time < 2; time += 1) {
      await page.getByRole("button", { name: button }).filter({ visible: true }).first().click();
      await closes(name);
    }
  }
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByLabel("Add people").fill("x");
  await closes("New conversation");
  const { message } = await must(bob, "message", { conversationId: id, content: "to react to" });
  await must(bob, "pin_message", { messageId: message.id });
  await page.locator(".pin-bar .link-button").press("Enter");
  await closes("Pinned messages");
  await ada.message("to react to").focus();
  await page.keyboard.press("+");
  await page.getByRole("button", { name: "More emojis" }).press("Enter");
  await page.getByLabel("Search emojis").fill("no emoji");
  await closes("React");
  // In a narrow window the list of people covers the conversation, wherever the focus is.
  const people = page.getByRole("complementary");
  await page.getByRole("button", { name: /^Who is here/ }).click();
  await people.waitFor();
  await page.keyboard.press("Control+k");
  await closes("Search");
  await people.waitFor();
  await ada.composer.focus();
  await page.keyboard.press("Escape");
  await people.waitFor({ state: "hidden" });

  const { token: invite } = await must(bob, "create_invite", { conversationId: id });
  await page.evaluate((address) => (location.hash = address), `#/i/${invite}`);
  await page.getByRole("dialog", { name: "Invitation" }).getByText("You are already a member.").waitFor();
  await closes("Invitation");
  await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("to react to").waitFor();
  ada.link.cut();
  await ada.isOffline();
  await ada.say("not sent yet");
  await page.getByRole("button", { name: "Sign out" }).click();
  await closes("Sign out");
  await ada.message("not sent yet", "waiting").waitFor();

  const guest = await Visitor.enter(t, shared.browser, shared.server.url, "Guest Escape");
  await guest.page.getByRole("button", { name: "Change your name" }).press("Enter");
  await guest.page.getByRole("textbox", { name: "Your name" }).fill("Another name");
  await closes("Change your name", guest);
  await guest.page.locator(".self-name").getByText("Guest Escape", { exact: true }).waitFor();
  noComplaints(ada, guest);
});

test("files that are pasted or dropped are refused, and texts are accepted", async (t) => {
  const ada = await signIn(t, "ada-files", "Ada Files");
  const { page } = ada;
  await ada.composer.waitFor();
  const give = (type, target, parts) =>
    page.locator(target).first().evaluate(
      (node, [type, parts]) => {
        const data = new DataTransfer();
        for (const part of parts) {
          if (part === "file") data.items.add(new File(["x"], "picture.png", { type: "image/png" }));
          else data.setData("text/plain", part);
        }
        const event = type === "paste" ? new ClipboardEvent(type, { clipboardData: data, bubbles: true, cancelable: true }) : new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
        return !node.dispatchEvent(event);
      },
      [type, parts],
    );
  const reason = page.getByRole("alert").getByText("Files cannot be sent here yet, only text. You can send a link to the file instead.");
  for (const [type, target] of [["paste", "#composer"], ["drop", "#composer"], ["drop", ".scroller"], ["drop", ".sidebar"]]) {
    if (type === "drop") assert.equal(await give("dragover", target, ["file"]), true, "the browser would go to the file");
    assert.equal(await give(type, target, ["file"]), true, `${type} on ${target}`);
    await reason.waitFor();
    if (target === "#composer") await checkLookEverywhere(ada, `files-${type}`);
    await page.getByRole("button", { name: "Dismiss" }).click();
    await reason.waitFor({ state: "detached" });
  }
  for (const parts of [["a text"], ["a text", "file"]]) {
    assert.equal(await give("paste", "#composer", parts), false);
    assert.equal(await page.locator(".notice").count(), 0);
  }
  noComplaints(ada);
});

everywhere("offline, no user is present and a queued message can be changed", async (t, { self, isPhone, options }) => {
  const sub = `ada-offline-${self}`;
  const bob = await client(t, `bob-offline-${self}`, "Bob Offline");
  const id = await make(bob, `Offline ${self}`, [sub], "before");
  await must(bob, "join_conversation", id);
  const ada = await signIn(t, sub, "Ada Offline", options);
  const { page } = ada;
  await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.person("Bob Offline").waitFor({ state: "attached" });
  await page.getByRole("button", { name: "Who is here: 2 people" }).waitFor();
  ada.link.cut();
  await ada.isOffline();
  await page.getByRole("button", { name: "Who is here: unknown" }).waitFor();
  await page.locator(".people .person").waitFor({ state: "detached" });
  await page.getByText("Unknown without a connection.").waitFor({ state: "attached" });
  // Neither in the list nor as the user's own status.
  assert.deepEqual(await page.locator(".user-status:not(.is-offline)").evaluateAll((nodes) => nodes.map(({ outerHTML }) => outerHTML)), []);

  await ada.say("first", "secnd", "third", "withdrawn");
  await ada.message("withdrawn", "waiting").waitFor();
  await checkLook(ada, `waiting-${self}`);
  await ada.message("withdrawn").getByRole("button", { name: "Withdraw" }).click();
  await ada.message("withdrawn").waitFor({ state: "detached" });
  await ada.message("secnd").getByRole("button", { name: "Edit" }).click();
  await page.getByText("Editing a message").waitFor();
  assert.equal(await ada.composer.inputValue(), "secnd");
  await ada.composer.fill("second");
  await checkLook(ada, `changing-${self}`);
  await ada.composer.press("Enter");
  await ada.message("second", "waiting").waitFor();
  assert.deepEqual((await ada.texts()).slice(-3), ["first", "second", "third"]);
  // In the empty field, Arrow Up edits the newest message.
  await ada.composer.press("ArrowUp");
  await page.getByText("Editing a message").waitFor();
  await ada.composer.fill("third and last");
  await ada.composer.press("Enter");
  // The queue keeps the message in its current version.
  await ada.message("third and last", "waiting").waitFor();
  ada.link.restore();
  await ada.message("third and last", "stored").waitFor();
  const { messages } = await must(bob, "message_history", { conversationId: id });
  assert.deepEqual(messages.map(({ content }) => content), ["before", "first", "second", "third and last"]);
  await page.getByRole("button", { name: "Who is here: 2 people" }).waitFor();
  await page.locator(".self .user-status.is-online").waitFor({ state: "attached" });
  noComplaints(ada);
});

test("messages sent too fast show this and can be changed and withdrawn", async (t) => {
  const server = await FaultyServer.start(t, shared.server.url);
  server.stored = [message(1)];
  server.faults.message = (give) => give({ success: false, error: { type: "rateLimit", code: "RATE_LIMITED", message: "no", retryAfter: 60_000 } });
  const ada = await Visitor.open(t, shared.browser, server.url, { path: `/#/c/${LOBBY}`, viewport: DESK });
  await ada.page.getByLabel("Your name").fill("Ada");
  await ada.page.getByLabel("Your name").press("Enter");
  await ada.isOnline();
  await ada.say("fast one", "fast two", "fast three");
  for (const text of ["fast one", "fast two", "fast three"]) await ada.message(text, "held").getByText("You are sending too fast").waitFor();
  assert.equal(await ada.page.getByText("Waiting for the connection").count(), 0);
  await checkLookEverywhere(ada, "too-fast");
  await ada.message("fast one").getByRole("button", { name: "Withdraw" }).click();
  await ada.message("fast one").waitFor({ state: "detached" });
  noComplaints(ada);
});
