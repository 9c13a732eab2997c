// What the page does with what is hostile, long, far back or large.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DESK, LOBBY, PHONE, client, make, must, noComplaints, shared, signIn } from "./page_support.mjs";
import { until } from "./support.mjs";
import { Visitor } from "./visitor.mjs";

test("hostile messages and names neither run nor break the page", async (t) => {
  const eve = await client(t, "eve-hostile", "Еvе");
  await client(t, "eve-other", "Eve").then((socket) => must(socket, "join_conversation", LOBBY));
  await must(eve, "join_conversation", LOBBY);
  const hostile = [
    `Z${"\u0300".repeat(9_000)}`,
    Array.from({ length: 1_000 }, (_, index) => `line ${index}`).join("\n"),
    "\u202Eright to left\u2066 forever",
    "W".repeat(9_000),
    "[click](javascript:alert(1)) [or](data:text/html,x) <javascript:alert(1)> https://bank.example@evil.example/ end",
    "*".repeat(5_000) + "`".repeat(2_000) + "[".repeat(2_000) + "> ".repeat(400),
    "last of the hostile",
  ];
  for (const content of hostile) await must(eve, "message", { conversationId: LOBBY, content });
  for (const viewport of [DESK, PHONE]) {
    const ada = await signIn(t, "ada-hostile", "Ada Hostile", { viewport });
    await ada.page.evaluate(() => (location.hash = "#/c/00000000-0000-4000-8000-000000000001"));
    await ada.message("last of the hostile").waitFor();
    assert.equal(await ada.page.evaluate(() => document.documentElement.scrollWidth), viewport.width);
    assert.equal(await ada.page.evaluate(() => document.querySelector(".scroller").scrollWidth <= document.querySelector(".scroller").clientWidth), true);
    const links = await ada.page.locator(".bubble a").evaluateAll((nodes) => nodes.map(({ href }) => href));
    assert.deepEqual(links.filter((href) => !href.startsWith("https://example.org/")), []);
    assert.ok(await ada.page.getByRole("button", { name: "Show all of it" }).count() >= 2);
    // Names that look alike are told apart.
    await ada.message("last of the hostile").waitFor();
    assert.ok((await ada.page.locator(".mark").getByText("#tile", { exact: true }).count()) > 0);
    await ada.screenshot(`hostile-${viewport.width}`);
    noComplaints(ada);
  }
});

/** The longest names and titles that the server takes, of what breaks lines: no place to break, marks above marks, letters from right to left. */
const LONG = {
  wide: (length) => "W".repeat(length),
  marked: (length) => `Z${"\u0300".repeat(length - 1)}`,
  right: (length) => "\u05d0\u05d1 ".repeat(length / 3).padEnd(length, "\u05d2"),
};

for (const [kind, long] of Object.entries(LONG)) {
  for (const [where, viewport] of Object.entries({ desk: DESK, phone: { width: 320, height: 640 } })) {
    test(`the longest names and titles, ${kind}, stay within their places at a ${where}`, async (t) => {
      const self = `${kind}-${where}`;
      const title = long(200);
      const eve = await client(t, `eve-${self}`, long(256));
      const id = await make(eve, title, [`ada-${self}`], ...Array.from({ length: 30 }, (_, index) => `line ${index}\n\n\n`));
      const other = await make(eve, `${title.slice(0, 199)}!`, [`ada-${self}`], "elsewhere");
      const ada = await signIn(t, `ada-${self}`, `Ada ${self}`, { viewport });
      const { page } = ada;
      await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
      await ada.message("line 29").waitFor();
      await must(eve, "join_conversation", id);
      await page.locator("li.system").waitFor();
      eve.emit("typing", { conversationId: id, isTyping: true });
      await page.locator(".typing bdi").waitFor();

      /** Something ends within the window and is not higher than that; what is painted beyond the part by others is cut off. */
      const fits = async (selector, most, part) => {
        const { left, right, height } = await page.locator(selector).first().evaluate((node) => node.getBoundingClientRect().toJSON());
        assert.ok(left >= 0 && right <= viewport.width, `${selector} is at ${left} to ${right}`);
        assert.ok(height > 0 && height <= most, `${selector} is ${height} high`);
        const overflow = await page.locator(`${selector} ${part}`).first().evaluate((node) => getComputedStyle(node).overflow);
        assert.match(overflow, /^(clip|hidden)/, `${selector} ${part}`);
      };
      await fits(".header", 80, "h1");
      await fits(".message .head", 28, ".author");
      await fits("li.system", 45, "bdi");
      await fits(".typing", 28, "bdi");
      // What is said of the name is there, however long it is.
      const said = await page.locator(".typing").evaluate((line) => {
        const range = document.createRange();
        range.selectNodeContents(line.lastChild);
        return { text: range.toString(), right: range.getBoundingClientRect().right };
      });
      assert.deepEqual([said.text, said.right <= viewport.width], [" is typing…", true]);
      await ada.scroller.evaluate((node) => node.scrollBy(0, -150));
      await page.locator(".place:not([hidden])").waitFor();
      await fits(".place", 28, "bdi");
      await ada.screenshot(`names-${self}`);

      // A message elsewhere is told; a title of which one is removed as well.
      await page.evaluate(() => (location.hash = "#/c/00000000-0000-4000-8000-000000000001"));
      await page.getByRole("heading", { name: "Lobby" }).waitFor();
      await must(eve, "message", { conversationId: id, content: "told in a notice" });
      await page.locator(".notice").filter({ hasText: "told in a notice" }).waitFor();
      await must(eve, "remove_member", { conversationId: other, userId: `ada-${self}` });
      await page.locator(".notice").filter({ hasText: "is no longer there" }).waitFor();
      await fits(".notice", 130, "bdi");
      const told = await page.getByText("told in a notice", { exact: true }).last().boundingBox();
      assert.ok(told.x + told.width <= viewport.width, JSON.stringify(told));
      if (where === "phone") await page.evaluate(() => (location.hash = "#/"));
      await fits(".conversation", 64, ".conversation-title");
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), viewport.width);
      await ada.screenshot(`titles-${self}`);
      assert.deepEqual(await page.locator(".notice").evaluateAll((nodes) => nodes.filter((node) => /[\u2066-\u2069\u202a-\u202e]/.test(node.textContent))), []);
      noComplaints(ada);
    });
  }
}

test("with the focus on a message a phone shows its exact time and all that can be done with it", async (t) => {
  for (const viewport of [PHONE, { width: 320, height: 640 }]) {
    const ada = await signIn(t, `ada-exact-${viewport.width}`, "Ada Exact", { viewport, hasTouch: true, isMobile: true });
    const bob = await client(t, "bob-exact", "Bob Exact");
    const id = await make(bob, "Exact", [`ada-exact-${viewport.width}`], "before", "when was this?");
    await ada.page.evaluate((address) => (location.hash = address), `#/c/${id}`);
    await ada.message("when was this?").tap();
    await ada.page.locator("li.message:focus").waitFor();
    const tools = ada.page.getByRole("group", { name: "Message" });
    const time = tools.locator("time");
    await time.waitFor();
    assert.match(await time.textContent(), /\d{1,2}:\d{2}:\d{2}/);
    for (const part of [tools, time, ...(await tools.getByRole("button").all())]) {
      const { x, width } = await part.boundingBox();
      assert.ok(x >= 0 && x + width <= viewport.width, `${await part.innerHTML()} is at ${x} to ${x + width}`);
    }
    await ada.screenshot(`exact-time-${viewport.width}`);
    await ada.page.locator("li.message[tabindex='0']").press("Escape");
    noComplaints(ada);
  }
});

test("of ten thousand messages those in view are in the document, and none is missing or there twice", async (t) => {
  const bob = await client(t, "bob-many", "Bob Many");
  const id = await make(bob, "Many", ["ada-many"]);
  const writing = Array.from({ length: 10_000 }, (_, index) => index);
  while (writing.length > 0) {
    await Promise.all(writing.splice(0, 100).map((index) => must(bob, "message", { conversationId: id, content: `many ${index}` })));
  }
  const ada = await signIn(t, "ada-many", "Ada Many");
  await ada.page.getByRole("heading", { name: "Many" }).waitFor();
  await ada.page.waitForFunction(() => document.querySelectorAll("li.message").length > 20);
  const seen = await ada.page.evaluate(async () => {
    const scroller = document.querySelector(".scroller");
    const seqs = new Set();
    let most = 0;
    const take = () => {
      const lines = [...document.querySelectorAll("li.message")].map((line) => Number(line.dataset.seq));
      most = Math.max(most, lines.length);
      const isOrdered = lines.every((seq, index) => index === 0 || seq === lines[index - 1] + 1);
      if (!isOrdered) throw new Error(`a hole in ${lines}`);
      for (const seq of lines) seqs.add(seq);
    };
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    for (take(); !seqs.has(1); take()) {
      scroller.scrollBy(0, -2_000);
      await frame();
    }
    for (let step = 0; step < 200; step += 1) {
      scroller.scrollBy(0, 2_000);
      await frame();
      take();
    }
    return { count: seqs.size, most };
  });
  assert.equal(seen.count, 10_000);
  assert.ok(seen.most <= 600, `${seen.most} messages in the document`);
  await ada.page.getByRole("button", { name: /newest|new message/ }).click();
  await until(() => ada.message("many 9999").count(), "the newest message");
  noComplaints(ada);
});

test("an address leads to a message far back, and on from there to the newest", async (t) => {
  const bob = await client(t, "bob-far", "Bob Far");
  const contents = Array.from({ length: 300 }, (_, index) => `far ${index}`);
  const id = await make(bob, "Far", ["ada-far"], ...contents);
  const ada = await signIn(t, "ada-far", "Ada Far");
  await ada.page.evaluate((address) => (location.hash = address), `#/c/${id}/20`);
  await ada.page.locator("li.message.is-marked").getByText("far 19", { exact: true }).waitFor();
  await ada.message("far 299").waitFor({ state: "detached" });
  await ada.page.getByRole("button", { name: "To the newest" }).click();
  await ada.message("far 299").waitFor();
  noComplaints(ada);
});

test("the page can be installed, and its first load is small and quick", async (t) => {
  const ada = await Visitor.open(t, shared.browser, shared.server.url);
  const session = await ada.context.newCDPSession(ada.page);
  const { errors } = await session.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  const bytes = await ada.page.evaluate(() => {
    const loads = [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")];
    return loads.filter(({ name }) => !name.includes("socket.io")).reduce((sum, { transferSize }) => sum + transferSize, 0);
  });
  assert.ok(bytes > 10_000 && bytes <= 60 * 1024, `${bytes} bytes`);
});
