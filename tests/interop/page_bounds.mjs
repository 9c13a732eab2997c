// Hostile, long, old and large contents in the page.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";
import { DESK, LOBBY, PHONE, client, keyed, checkLookEverywhere, make, must, noComplaints, readAll, shared, signIn, watchPage } from "./page_support.mjs";
import { ask, startServer, until } from "./support.mjs";
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
    assert.ok(await ada.page.getByRole("button", { name: "Show all" }).count() >= 2);
    // Names that look alike are distinguished.
    await ada.message("last of the hostile").waitFor();
    await ada.page.locator(".mark").getByText("#tile", { exact: true }).first().waitFor({ state: "attached" });
    await ada.screenshot(`hostile-${viewport.width}`);
    noComplaints(ada);
  }
});

/** A picture of 192 by 192 pixels. */
const PNG = readFileSync(new URL("../../web/public/icon-192.png", import.meta.url));

/**
 * Starts a server of pictures: a real picture at `/real.png`, which is sent when it is released,
 * and an address that redirects to `elsewhere`.
 */
async function pictures(t, elsewhere) {
  const requests = [];
  let release;
  const released = new Promise((done) => (release = done));
  const server = createServer(async ({ url, headers }, response) => {
    requests.push({ url, headers });
    if (url === "/away") return response.writeHead(302, { location: elsewhere }).end();
    if (url !== "/real.png") return response.writeHead(404).end();
    await released;
    return response.writeHead(200, { "content-type": "image/png" }).end(PNG);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address();
  return { requests, port, origin: `http://127.0.0.1:${port}`, release };
}

test("pictures of a listed origin are shown at their size, others are links", async (t) => {
  const other = await pictures(t);
  const listed = await pictures(t, `${other.origin}/real.png`);
  const { port } = listed;
  const { url, stop } = await startServer({ ...keyed, ROOMCAST_PAGE__IMAGES: listed.origin });
  t.after(() => stop());
  const bob = await client(t, "bob-picture", "Bob Picture", url);
  const id = await make(bob, "Pictures", ["ada-picture"]);
  const say = (content, imageUrl) => must(bob, "message", { conversationId: id, content, metadata: { imageUrl } });
  const linked = {
    "not listed": `${other.origin}/real.png`,
    "another port": `http://127.0.0.1:${other.port}/real.png`,
    "another name": `http://localhost:${port}/real.png`,
    "a dot behind": `http://127.0.0.1.:${port}/real.png`,
    "upper case": `HTTP://127.0.0.1:${port}/real.png`,
    "this server": `${url}/favicon.svg`,
  };
  for (const [content, imageUrl] of Object.entries(linked)) await say(content, imageUrl);
  // The server accepts no others; `web/test/text.test.ts` tests the page with them.
  for (const imageUrl of ["javascript:alert(1)", "data:image/png;base64,AA", `http://ada@127.0.0.1:${port}/real.png`, "/favicon.svg"]) {
    const { error } = await ask(bob, "message", { conversationId: id, content: "refused", metadata: { imageUrl } });
    assert.equal(error?.code, "INVALID_PAYLOAD", imageUrl);
  }
  await say("broken", `${listed.origin}/none.png`);
  await say("away", `${listed.origin}/away`);
  await say("real", `${listed.origin}/real.png`);
  await say("below", undefined);
  // So that the page opens at the newest message.
  await must(await client(t, "ada-picture", "Ada Picture", url), "mark_read", { conversationId: id, seq: 1_000_000 });
  const ada = await signIn(t, "ada-picture", "Ada Picture", { url });
  const { page } = ada;
  await page.addInitScript(watchPage);
  await page.goto(ada.link.url);
  const box = (content) => ada.message(content).locator("a.image-link.has-picture");
  const real = box("real").locator("img");
  const isLoaded = () => real.evaluate(({ complete, naturalWidth }) => complete && naturalWidth > 0);
  await until(() => listed.requests.some((request) => request.url === "/real.png"), "the question for the picture");
  const { x, y, width, height } = await box("real").boundingBox();
  assert.equal(await isLoaded(), false);
  assert.equal(height, 192);
  listed.release();
  await until(isLoaded, "the picture");
  assert.deepEqual(await box("real").boundingBox(), { x, y, width, height });
  assert.deepEqual(await page.evaluate(() => globalThis.shifts), []);
  assert.equal(await real.evaluate((image) => getComputedStyle(image).objectFit), "contain");
  const attributes = (locator) => locator.evaluate(({ attributes }) => Object.fromEntries([...attributes].map(({ name, value }) => [name, value])));
  const address = `${listed.origin}/real.png`;
  const alt = `Image on 127.0.0.1:${port}`;
  assert.deepEqual(await attributes(real), { src: address, alt, loading: "lazy", decoding: "async", referrerpolicy: "no-referrer" });
  const { href, target, rel } = await attributes(box("real"));
  assert.deepEqual({ href, target, rel }, { href: address, target: "_blank", rel: "noopener noreferrer nofollow" });
  await page.getByRole("link", { name: `${alt} (opens in a new tab)` }).last().waitFor();

  // A picture that cannot be loaded is a link in the same place, also if it redirects to an
  // unlisted origin.
  for (const content of ["broken", "away"]) {
    await box(content).getByText(alt).waitFor();
    assert.equal((await box(content).boundingBox()).height, 192, content);
  }
  assert.equal(await page.locator(".bubble img").count(), 1);
  for (const [content, imageUrl] of Object.entries(linked)) {
    const link = ada.message(content).locator("a.image-link:not(.has-picture)");
    assert.equal(await link.getAttribute("href"), new URL(imageUrl).href, content);
  }
  // The policy refuses requests that the page itself would not send.
  const refused = await page.evaluate(
    (src) =>
      new Promise((done) => {
        document.addEventListener("securitypolicyviolation", ({ blockedURI, effectiveDirective }) => blockedURI === src && done(effectiveDirective));
        new Image().src = src;
      }),
    `${other.origin}/refused.png`,
  );
  assert.equal(refused, "img-src");
  assert.deepEqual(other.requests, []);
  assert.deepEqual(listed.requests.filter(({ headers }) => headers.referer !== undefined), []);
  assert.deepEqual(await page.evaluate(() => globalThis.shifts), []);
  await checkLookEverywhere(ada, "pictures");
  const expected = /Content Security Policy|status of 404/;
  assert.deepEqual(ada.complaints.filter((complaint) => !expected.test(complaint)), []);
});

test("no picture is loaded if no origin is listed", async (t) => {
  const server = await pictures(t);
  const bob = await client(t, "bob-unlisted", "Bob Unlisted");
  const id = await make(bob, "Unlisted", ["ada-unlisted"]);
  const metadata = { imageUrl: `${server.origin}/real.png` };
  await must(bob, "message", { conversationId: id, content: "a picture", metadata });
  // The requests of a service worker cannot be changed.
  const ada = await signIn(t, "ada-unlisted", "Ada Unlisted", { serviceWorkers: "block" });
  await ada.message("a picture").locator("a.image-link").getByText(`Image on 127.0.0.1:${server.port}`).waitFor();
  assert.equal(await ada.page.locator(".bubble img, .has-picture").count(), 0);
  assert.deepEqual(server.requests, []);

  // The page shows no pictures of its own server, whatever the server sends.
  const own = ada.link.url;
  await must(bob, "message", { conversationId: id, content: "of the server", metadata: { imageUrl: `${own}/icon-192.png` } });
  await ada.page.route(`${own}/`, async (route) => {
    const response = await route.fetch();
    const body = (await response.text()).replace('name="images" content=""', `name="images" content="${own}"`);
    await route.fulfill({ response, body });
  });
  await ada.page.reload();
  await ada.message("of the server").locator("a.image-link").getByText(`Image on ${new URL(own).host}`).waitFor();
  assert.equal(await ada.page.locator("meta[name=images]").getAttribute("content"), own);
  assert.equal(await ada.page.locator(".bubble img, .has-picture").count(), 0);
  noComplaints(ada);
});

/**
 * The longest names and titles that the server accepts, which break lines: no place to break,
 * stacked marks, right-to-left letters.
 */
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
      await readAll(t, `ada-${self}`, `Ada ${self}`, id);
      const ada = await signIn(t, `ada-${self}`, `Ada ${self}`, { viewport });
      const { page } = ada;
      await page.evaluate((address) => (location.hash = address), `#/c/${id}`);
      await ada.message("line 29").waitFor();
      await must(eve, "join_conversation", id);
      // A sign of typing is shown for a few seconds, so it is sent repeatedly, and all is measured
      // in one step.
      const typing = setInterval(() => eve.emit("typing", { conversationId: id, isTyping: true }), 500);
      t.after(() => clearInterval(typing));
      await page.locator(".typing bdi").waitFor();

      /**
       * Checks that an element ends within the window and is not higher than `most`. Overflow of
       * the part is clipped by its parents.
       */
      const fits = async (selector, most, part) => {
        const measure = ([selector, part]) => {
          const [node, inner] = [document.querySelector(selector), document.querySelector(`${selector} ${part}`)];
          const { left, right, height } = node?.getBoundingClientRect() ?? {};
          return inner !== null && height > 0 && { left, right, height, overflow: getComputedStyle(inner).overflow };
        };
        const { left, right, height, overflow } = await page.waitForFunction(measure, [selector, part]).then((handle) => handle.jsonValue());
        assert.ok(left >= 0 && right <= viewport.width, `${selector} is at ${left} to ${right}`);
        assert.ok(height <= most, `${selector} is ${height} high`);
        assert.match(overflow, /^(clip|hidden)/, `${selector} ${part}`);
      };
      await fits(".typing", 28, "bdi");
      // The text after the name is visible, however long the name is.
      const measured = await page.waitForFunction(() => {
        const line = document.querySelector(".typing");
        if (line.querySelector("bdi") === null) return undefined;
        const range = document.createRange();
        range.selectNodeContents(line.lastChild);
        return { text: range.toString(), right: range.getBoundingClientRect().right };
      });
      const measurement = await measured.jsonValue();
      clearInterval(typing);
      assert.deepEqual([measurement.text, measurement.right <= viewport.width], [" is typing…", true]);
      await fits(".header", 80, "h1");
      await fits(".message .head", 28, ".author");
      await ada.scroller.evaluate((node) => node.scrollBy(0, -150));
      await page.locator(".place:not([hidden])").waitFor();
      await fits(".place", 28, "bdi");
      await ada.screenshot(`names-${self}`);

      // A message elsewhere causes a notice, and so does a title from which the user was removed.
      await page.evaluate(() => (location.hash = "#/c/00000000-0000-4000-8000-000000000001"));
      await page.getByRole("heading", { name: "Lobby" }).waitFor();
      // Where every user may join, joins are shown.
      await must(eve, "join_conversation", "00000000-0000-4000-8000-000000000001");
      await page.locator("li.system").waitFor();
      // A line has the names of up to three users.
      await fits("li.system", 60, "bdi");
      await must(eve, "message", { conversationId: id, content: "told in a notice" });
      await page.locator(".notice").filter({ hasText: "told in a notice" }).waitFor();
      await must(eve, "remove_member", { conversationId: other, userId: `ada-${self}` });
      await page.locator(".notice").filter({ hasText: "was deleted, or you are no longer" }).waitFor();
      await fits(".notice", 130, "bdi");
      const rect = await page.getByText("told in a notice", { exact: true }).last().boundingBox();
      assert.ok(rect.x + rect.width <= viewport.width, JSON.stringify(rect));
      if (where === "phone") await page.evaluate(() => (location.hash = "#/"));
      await fits(".conversation", 64, ".conversation-title");
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), viewport.width);
      await ada.screenshot(`titles-${self}`);
      assert.deepEqual(await page.locator(".notice").evaluateAll((nodes) => nodes.filter((node) => /[\u2066-\u2069\u202a-\u202e]/.test(node.textContent))), []);
      noComplaints(ada);
    });
  }
}

test("a focused message on a phone shows its exact time and all actions", async (t) => {
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

test("only messages in view are in the document, none missing or doubled", async (t) => {
  const bob = await client(t, "bob-many", "Bob Many");
  const id = await make(bob, "Many", ["ada-many"]);
  const writing = Array.from({ length: 10_000 }, (_, index) => index);
  while (writing.length > 0) {
    await Promise.all(writing.splice(0, 100).map((index) => must(bob, "message", { conversationId: id, content: `many ${index}` })));
  }
  await readAll(t, "ada-many", "Ada Many", id);
  const ada = await signIn(t, "ada-many", "Ada Many", { path: `/#/c/${id}` });
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

test("an address leads to a message far back, and from there to the newest", async (t) => {
  const bob = await client(t, "bob-far", "Bob Far");
  const contents = Array.from({ length: 300 }, (_, index) => `far ${index}`);
  const id = await make(bob, "Far", ["ada-far"], ...contents);
  await readAll(t, "ada-far", "Ada Far", id);
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
