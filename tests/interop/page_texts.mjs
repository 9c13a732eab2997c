// The display of texts, their authors, typing and new messages, in every size and
// colour scheme.
import assert from "node:assert/strict";
import { client, everywhere, checkLook, make, must, noComplaints, readAll, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";

const MARKDOWN = [
  "**bold**, *italic*, `code` and [a link](https://example.org/a_b).",
  "- one\n- two",
  "1. first\n2. second",
  "> quoted",
  `\`\`\`\nlet answer = 42; ${"// a long line of code ".repeat(6)}\n\`\`\``,
].join("\n\n");
const RIGHT = "\u05e9\u05dc\u05d5\u05dd, world";
const LONG = Array.from({ length: 60 }, (_, index) => `line ${index}.`).join("\n");

everywhere("texts of every kind are formatted and navigable by keyboard", async (t, { self, options }) => {
  const sub = `ada-texts-${self}`;
  const bob = await client(t, "bob-texts", "Bob Texts");
  const id = await make(bob, `Texts ${self}`, [sub], MARKDOWN, RIGHT, LONG);
  await must(bob, "message", { conversationId: id, content: "a picture", metadata: { imageUrl: "https://pictures.example/a.png" } });
  const ada = await signIn(t, sub, "Ada Texts", options);
  const { page } = ada;
  const see = (name) => checkLook(ada, `texts-${self}-${name}`);
  const key = async (...names) => {
    for (const name of names) await page.keyboard.press(name);
  };
  /** Checks that the exact time, shown on focus, is in view and not covered. */
  const hasTime = async (line) => {
    const time = line.getByRole("group", { name: "Message" }).locator("time");
    assert.match(await time.textContent(), /\d{1,2}:\d{2}:\d{2}/);
    const isShown = (node) => {
      const { x, y, width, height } = node.getBoundingClientRect();
      return [x + 1, x + width - 1].every((left) => document.elementFromPoint(left, y + height / 2) === node);
    };
    await until(() => time.evaluate(isShown), "the exact time in view");
  };
  const hasFocus = (locator) => until(() => locator.evaluate((node) => node === document.activeElement), "the focus");
  await page.getByRole("heading", { name: `Texts ${self}` }).waitFor();
  await ada.message("a picture").locator("a.image-link").getByText("Image on pictures.example").waitFor();
  assert.equal(await page.locator(".bubble img").count(), 0);

  // A long text is shown in part, and completely on request.
  const long = page.locator("li.message").filter({ hasText: "line 0." });
  await page.locator("li.message[tabindex='0']").focus();
  await key("ArrowUp");
  await hasFocus(long);
  await hasTime(long);
  await see("part");
  await key("Enter");
  await hasFocus(page.getByRole("button", { name: "Show all" }));
  await key("Enter");
  await long.getByText("line 59.").waitFor();
  await hasFocus(page.getByRole("button", { name: "Show less" }));
  await see("whole");
  await key("Enter");
  await long.getByText("line 59.").waitFor({ state: "detached" });

  // The focus shows the exact time and the actions.
  await key("Escape", "ArrowUp");
  const right = page.locator("li.message").filter({ hasText: RIGHT });
  await hasFocus(right);
  assert.equal(await right.getByText(RIGHT).evaluate((node) => getComputedStyle(node).direction), "rtl");
  await hasTime(right);
  await see("time");
  await key("ArrowUp");
  const marked = page.locator("li.message").filter({ hasText: "bold" });
  await hasFocus(marked);
  const text = (selector) => marked.locator(selector).allTextContents();
  assert.deepEqual(
    [await text(".text strong"), await text(".text em"), await text(".text code"), await text("ul li"), await text("ol li"), await text("blockquote")],
    [["bold"], ["italic"], ["code"], ["one", "two"], ["first", "second"], ["quoted"]],
  );
  assert.match((await text("pre code")).join(), /^let answer = 42;/);
  assert.equal(await marked.getByRole("link", { name: "a link" }).getAttribute("href"), "https://example.org/a_b");
  await hasTime(marked);
  await see("markdown");
  // The pointer shows the actions, and the exact time as the title of the text.
  await page.locator("h1").hover();
  await page.locator("#composer").focus();
  await page.getByRole("group", { name: "Message" }).waitFor({ state: "detached" });
  await right.hover();
  await right.getByRole("group", { name: "Message" }).getByRole("button", { name: "Reply" }).waitFor();
  assert.match(await right.locator(".bubble").getAttribute("title"), /, \d{2}:\d{2}:\d{2}$/);
  noComplaints(ada);
});

everywhere("a link with a label like another host shows its destination", async (t, { self, options }) => {
  const sub = `ada-links-${self}`;
  const evil = "https://evil.example/bank.example";
  const misleading = ["bank.example", "https://bank.example/login", "https://bank.example@evil.example", "b\u0430nk.example", "bank\u3002example", "https:\u2215\u2215bank.example", "\u202eelpmaxe.knab"];
  const honest = ["evil.example", "https://evil.example/else", "your bank", "EVIL.example:443"];
  const shown = (label) => `[${label}](${evil})`;
  const bob = await client(t, "bob-links", "Bob Links");
  await make(bob, `Links ${self}`, [sub], misleading.map(shown).join("\n"), honest.map(shown).join("\n"), "see https://b\u00fccher.example/");
  const ada = await signIn(t, sub, "Ada Links", options);
  const { page } = ada;
  await page.getByRole("heading", { name: `Links ${self}` }).waitFor();
  const links = page.locator("li.message a");
  const count = misleading.length + honest.length + 1;
  await until(async () => (await links.count()) === count, "all links");
  const hosts = await links.evaluateAll((all) => all.map((link) => link.querySelector(".link-host bdi")?.textContent ?? ""));
  assert.deepEqual(hosts, [...misleading.map(() => "evil.example"), ...honest.map(() => ""), "xn--bcher-kva.example"]);
  // The host is visible after its label, and a label with right-to-left text does not reverse it.
  for (const link of (await links.all()).slice(0, misleading.length)) {
    const host = link.locator(".link-host");
    assert.equal(await host.isVisible(), true);
    assert.equal(await host.locator("bdi").evaluate((node) => getComputedStyle(node).direction), "ltr");
  }
  await page.getByRole("link", { name: "bank.example leads to evil.example", exact: true }).first().waitFor();
  await page.locator("#composer").fill(shown("https://bank.example"));
  await page.locator("#composer").press("Enter");
  await page.locator(".is-own .link-host").waitFor();
  await checkLook(ada, `links-${self}`);
  noComplaints(ada);
});

everywhere("author and day of a long group and the newest message stay in view", async (t, { self, options }) => {
  const sub = `ada-group-${self}`;
  const bob = await client(t, "bob-group", "Bob Group");
  const id = await make(bob, `Group ${self}`, [sub], ...Array.from({ length: 40 }, (_, index) => `group ${index}`));
  await must(bob, "join_conversation", id);
  await readAll(t, sub, "Ada Group", id);
  const ada = await signIn(t, sub, "Ada Group", options);
  const { page } = ada;
  await ada.message("group 39").waitFor();
  await ada.scroller.evaluate((scroller) => scroller.scrollTo(0, scroller.scrollHeight / 2));
  await page.locator(".place:not([hidden])").getByText("Bob Group").waitFor();
  assert.match(await page.locator(".place").textContent(), /^(Today|Yesterday) · Bob Group$/);
  await page.getByRole("button", { name: "To the newest" }).waitFor();
  await checkLook(ada, `group-${self}`);

  await page.getByRole("button", { name: "To the newest" }).press("Enter");
  await page.locator(".jump").waitFor({ state: "hidden" });
  const isInView = () =>
    ada.message("group 39").evaluate((line) => {
      const { bottom } = line.getBoundingClientRect();
      return bottom <= document.querySelector(".scroller").getBoundingClientRect().bottom;
    });
  await until(isInView, "the newest message");
  bob.emit("typing", { conversationId: id, isTyping: true });
  await ada.saw("typing", "Bob Group is typing…");
  await ada.composer.fill("a line\n".repeat(12));
  await until(isInView, "the newest message over a field of twelve lines");
  assert.equal(await page.locator(".jump").isHidden(), true);
  await checkLook(ada, `composer-${self}`);
  noComplaints(ada);
});

everywhere("a draft stays with its conversation and survives a reload", async (t, { self, options }) => {
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

everywhere("the newest conversation opens with a line above unread messages", async (t, { self, options }) => {
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
  assert.match(lines[2], /^1 new since \d\d:\d\d$/);
  assert.deepEqual(lines.toSpliced(2, 1), ["old 1", "old 2", "new 1"]);
  await checkLook(page, `unread-${self}`);
  noComplaints(page);
});

everywhere("a message in another conversation is announced, counted and linked", async (t, { self, options }) => {
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
  // A notice is shown for a few seconds, in which a slow machine does little else.
  await ada.toList();
  await ada.conversation("Lobby").press("Enter");
  await ada.page.getByRole("heading", { name: "Lobby" }).waitFor();
  await must(bob, "message", { conversationId: id, content: "and here" });
  await ada.page.getByRole("alert").getByRole("link", { name: "Elsewhere · Bob Told: and here" }).waitFor();
  await checkLook(ada, `told-${self}`);
  noComplaints(ada);
});
