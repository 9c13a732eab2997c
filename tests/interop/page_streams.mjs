// A message whose text grows on the page: what the reader sees of it and where, that it can ask the author to stop,
// and that it is read out once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkLook, client, everywhere, make, must, noComplaints, readAll, signIn } from "./page_support.mjs";
import { ask, until } from "./support.mjs";

everywhere("a message grows while its author writes it, and stops on request", async (t, { self, options }) => {
  const sub = `ada-streams-${self}`;
  const coach = await client(t, "coach", "Coach");
  const stops = [];
  coach.on("message_stop_requested", (request) => stops.push(request));
  const id = await make(coach, `Streams ${self}`, [sub], ...Array.from({ length: 3 }, (_, index) => `before ${index}`));
  const ada = await signIn(t, sub, "Ada", options);
  const { page } = ada;
  await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("before 2").waitFor();

  const { message } = await must(coach, "begin_message", { conversationId: id, clientMessageId: `streamed ${self}` });
  let text = "";
  const append = async (piece) => {
    await must(coach, "append_message", { messageId: message.id, offset: [...text].length, text: piece });
    text += piece;
  };
  const line = page.locator(`li[data-id="${message.id}"]`);
  await line.getByText("Coach is writing…").waitFor();
  await append("Three points 😀:\n\n```\nlet a = 1;\n");
  // A block of code that is still open is one already.
  await until(async () => (await line.locator("pre").textContent()) === "let a = 1;", "the open block of code");
  await append("```\n");
  for (let n = 1; n <= 40; n += 1) await append(`- point ${n}\n`);
  await line.getByText("point 40").waitFor();
  assert.equal(await line.locator("li").count(), 40);
  // It is long, stays open, and the view follows its end.
  assert.equal(await line.getByRole("button", { name: "Show all" }).count(), 0);
  await until(() => line.getByText("point 40").evaluate((node) => node.getBoundingClientRect().bottom < innerHeight), "the end in view");
  await checkLook(ada, `streams-growing-${self}`);

  // A reload in the middle shows what there is, and the text grows on.
  await page.reload();
  await line.getByText("point 40").waitFor();
  await append("- last");
  await line.getByText("last").waitFor();
  const spoken = page.getByRole("log", { name: "New messages" }).getByText("point 40");
  assert.equal(await spoken.count(), 0);
  await line.getByRole("button", { name: "Stop" }).click();
  await until(() => stops.length === 1, "the request to stop");
  assert.deepEqual(stops, [{ conversationId: id, messageId: message.id, userId: sub }]);
  await must(coach, "abort_message", { messageId: message.id, reason: "stopped by a reader" });
  await line.getByText("interrupted").waitFor();
  assert.equal(await line.getByText("is writing").count(), 0);
  assert.equal(await line.locator("li").count(), 41);
  await until(async () => (await spoken.count()) === 1, "the words for screen readers");
  await checkLook(ada, `streams-interrupted-${self}`);
  await ask(coach, "delete_message", { messageId: message.id });
});

test("a growing text looks like a complete one, and its finished parts stay", async (t) => {
  const coach = await client(t, "coach", "Coach");
  const id = await make(coach, "Parts", ["ada-parts", "bob-parts"], "before");
  const [ada, late] = [await signIn(t, "ada-parts", "Ada"), await signIn(t, "bob-parts", "Bob")];
  for (const { page } of [ada, late]) await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
  await ada.message("before").waitFor();
  const { message } = await must(coach, "begin_message", { conversationId: id, clientMessageId: "parts" });
  const bubble = (visitor) => visitor.page.locator(`li[data-id="${message.id}"] .bubble`);
  // The caret of a text that has just grown does not blink yet, and the Tab key reaches only the
  // links of an active message.
  const html = async (visitor) => (await bubble(visitor).innerHTML()).replaceAll(/ is-idle| tabindex="-1"/g, "");
  const kinds = [
    "A paragraph with **bold** words, `code` and a [link](https://example.org/).",
    "- one\n- **two**\n- three",
    "Two lines\nof text.\n\n\nAnd another paragraph 😀.",
    "```js\nlet a = **1**;\n\nlet b;\n```",
    "1. first\n2. second\n> quoted\n> - in *it*",
  ];
  const whole = Array.from({ length: 40 }, (_, n) => kinds[n % kinds.length]).join("\n\n");
  const characters = [...whole];
  let offset = 0;
  // In a bold word, a list, a block of code, a quote, and later parts.
  const ends = [..."bol|- **tw|let a|> - i".split("|").map((text) => [...whole.split(text)[0]].length + text.length), 1_200, characters.length];
  for (const end of ends) {
    while (offset < end) {
      const piece = characters.slice(offset, Math.min(end, offset + 1 + ((offset * 7) % 130)));
      await must(coach, "append_message", { messageId: message.id, offset, text: piece.join("") });
      offset += piece.length;
    }
    await late.page.reload();
    await bubble(late).locator(".caret").waitFor();
    const expected = await html(late);
    await until(async () => (await html(ada)) === expected, `the text of ${end} characters`);
    if (end === ends[1]) {
      await bubble(ada).evaluate((node) => {
        globalThis.finished = node.querySelector("strong");
        getSelection().selectAllChildren(globalThis.finished);
      });
    }
  }
  assert.ok((await bubble(ada).locator(".passage").count()) >= 3);
  await bubble(ada).locator(".caret.is-idle").waitFor();
  await must(coach, "finish_message", { messageId: message.id, offset });
  await bubble(ada).locator(".caret").waitFor({ state: "detached" });
  assert.deepEqual(await ada.page.evaluate(() => [globalThis.finished.isConnected, String(getSelection())]), [true, "bold"]);
  await late.page.reload();
  await late.page.getByRole("button", { name: "Show all" }).click();
  assert.equal(await html(ada), await html(late));
  noComplaints(ada, late);
});

everywhere("a reader who has scrolled up stays there while a text grows", async (t, { self, options }) => {
  const sub = `ada-above-${self}`;
  const coach = await client(t, "coach", "Coach");
  const id = await make(coach, `Above ${self}`, [sub], ...Array.from({ length: 30 }, (_, index) => `before ${index}`));
  await readAll(t, sub, "Ada", id);
  const ada = await signIn(t, sub, "Ada", { ...options, path: `/#/c/${id}` });
  const { page } = ada;
  await ada.message("before 29").waitFor();
  const { message } = await must(coach, "begin_message", { conversationId: id, clientMessageId: `above ${self}` });
  let offset = 0;
  const point = (n) => page.locator(`li[data-id="${message.id}"]`).getByText(`point ${n}`, { exact: true });
  const grow = async (from, to) => {
    for (let n = from; n <= to; n += 5) {
      const text = Array.from({ length: 5 }, (_, more) => `- point ${n + more}\n`).join("");
      await must(coach, "append_message", { messageId: message.id, offset, text });
      offset += text.length;
    }
    await point(to).waitFor();
  };
  const isInView = (node) => node.evaluate((element) => {
    const [{ top, bottom }, view] = [element, element.closest(".scroller")].map((one) => one.getBoundingClientRect());
    return top > view.top && bottom <= view.bottom;
  });
  await grow(1, 20);
  await until(() => isInView(point(20)), "the end in view");
  /** Scrolls up until a place is in view, and returns what checks that it stays there. */
  const scrollTo = async (place) => {
    const topOf = () => place.evaluate((element) => element.getBoundingClientRect().top);
    await page.locator(".scroller").hover();
    for (let before = await topOf(); !(await isInView(place)); before = await topOf()) {
      await page.mouse.wheel(0, -200);
      await until(async () => (await topOf()) > before, "the list to scroll");
    }
    const before = await topOf();
    return async () => assert.equal(await topOf(), before);
  };
  const stays = await scrollTo(ada.message("before 20"));
  await grow(21, 60);
  await must(coach, "message", { conversationId: id, content: "meanwhile" });
  await ada.message("meanwhile").waitFor();
  await grow(61, 80);
  await stays();
  assert.equal(await isInView(point(80)), false);
  // At the end again, the view follows the text.
  await page.locator(".jump").click();
  await until(() => isInView(ada.message("meanwhile")), "the end");
  await grow(81, 120);
  await until(() => isInView(point(120)), "the end in view again");
  // The same within the text, and also when it ends.
  const staysWithin = await scrollTo(point(70));
  await grow(121, 160);
  await staysWithin();
  await must(coach, "finish_message", { messageId: message.id, offset });
  await page.locator(`li[data-id="${message.id}"] .caret`).waitFor({ state: "detached" });
  await staysWithin();
  noComplaints(ada);
});

test("the caret of a growing text stands still with reduced motion", async (t) => {
  const coach = await client(t, "coach", "Coach");
  const id = await make(coach, "Still", ["ada-still"]);
  const ada = await signIn(t, "ada-still", "Ada", { path: `/#/c/${id}` });
  const { message } = await must(coach, "begin_message", { conversationId: id, clientMessageId: "still" });
  await must(coach, "append_message", { messageId: message.id, offset: 0, text: "A growing text" });
  const caret = ada.page.locator(`li[data-id="${message.id}"] .caret.is-idle`);
  const animations = () => caret.evaluate((node) => node.getAnimations({ subtree: true }).map(({ animationName }) => animationName));
  await caret.getByText("A growing text").waitFor();
  assert.deepEqual(await animations(), ["pulse"]);
  await ada.page.emulateMedia({ reducedMotion: "reduce" });
  assert.deepEqual(await animations(), []);
  const content = await caret.evaluate((node) => getComputedStyle(node, "::after").content);
  assert.notEqual(content, "none", "the caret is shown");
  noComplaints(ada);
});
