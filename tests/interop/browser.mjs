// Two people chat on the page of a real server, in real Chromium pages. `ROOMCAST_URL` names a
// running server; without it one is started. Each test uses its own words, so that the rest of the
// Lobby does not matter.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { violations } from "./axe.mjs";
import { FONTS, familiesOf, launchWith } from "./fonts.mjs";
import { ask, connect, startServer, until } from "./support.mjs";
import { io } from "socket.io-client";
import { SECRET, token } from "./tokens.mjs";
import { Visitor, launch } from "./visitor.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const PHONE = { width: 360, height: 640 };

let browser;
let server;
before(async () => {
  const url = process.env.ROOMCAST_URL;
  server = url === undefined ? await startServer() : { url, stop: () => {} };
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

function enter(t, name, options) {
  return Visitor.enter(t, browser, server.url, name, options);
}

function noComplaints(...visitors) {
  assert.deepEqual(visitors.flatMap(({ complaints }) => complaints), []);
}

/** Fills the Lobby with messages; the author changes every twenty messages. */
async function fill(t, prefix, count) {
  for (let first = 0; first < count; first += 20) {
    const guest = await connect(t, io, server.url, { auth: { name: `${prefix} guest` } });
    for (let index = first; index < Math.min(first + 20, count); index += 1) {
      const answer = await ask(guest, "message", { conversationId: LOBBY, content: `${prefix} ${index}` });
      assert.equal(answer.success, true, JSON.stringify(answer));
    }
    guest.disconnect();
  }
}

test("a guest with the name of a user is shown as a guest", async (t) => {
  const started = await startServer({ ROOMCAST_AUTH__JWT__SECRET: SECRET });
  t.after(() => started.stop());
  const ada = await Visitor.enter(t, browser, started.url, "Ada");
  for (const auth of [{ token: token({ sub: "root", name: "Root" }) }, { name: "Root" }]) {
    const socket = await connect(t, io, started.url, { auth });
    await ask(socket, "join_conversation", LOBBY);
    const content = auth.token ? "from the user" : "from the guest";
    assert.equal((await ask(socket, "message", { conversationId: LOBBY, content })).success, true);
  }
  await ada.message("from the guest").waitFor();
  const tagged = (lines) => lines.filter({ has: ada.page.getByText("guest", { exact: true }) });
  await tagged(ada.person("Root")).waitFor();
  assert.equal(await ada.person("Root").count(), 2);
  assert.equal(await tagged(ada.person("Root")).count(), 1);
  assert.equal(await tagged(ada.message("from the guest")).count(), 1);
  assert.equal(await tagged(ada.message("from the user")).count(), 0);
  noComplaints(ada);
});

test("two users see each other join, type and write", async (t) => {
  const ada = await enter(t, "Ada");
  const bob = await enter(t, "Bob");
  await ada.person("Bob").waitFor();
  await bob.person("Ada").waitFor();
  await ada.line("Bob joined").waitFor();

  await bob.composer.pressSequentially("hello A");
  await ada.saw("typing", "Bob is typing…");
  await bob.composer.press("Shift+Enter");
  await bob.composer.pressSequentially("da");
  await bob.composer.press("Enter");
  await bob.message("hello A\nda", "stored").waitFor();
  await ada.message("hello A\nda").waitFor();
  await ada.page.getByText("Bob is typing…").waitFor({ state: "hidden" });

  await ada.say("good morning, Bob");
  await ada.message("good morning, Bob", "stored").waitFor();
  await bob.message("good morning, Bob").waitFor();
  await ada.isOver("WebSocket");
  noComplaints(ada, bob);
});

test("messages are shown as text, whatever they contain", async (t) => {
  const ada = await enter(t, "<b>Ada</b>");
  const bob = await enter(t, "Bob Text");
  const text = `<img src=x onerror="alert(1)"> & <script>alert(2)</script> 👩‍🚀`;
  await ada.say(text);
  await bob.message(text).waitFor();
  await bob.person("<b>Ada</b>").waitFor();
  assert.equal(await bob.page.locator("li.message :is(img, script, b)").count(), 0);
  noComplaints(ada, bob);
});

// Fonts and their size determine the height of a line, to fractions of a pixel.
for (const family of Object.keys(FONTS)) {
  for (const size of ["16px", "18.9px"]) {
    const name = `scrolling up loads history and keeps the place, with ${family} of ${size}`;
    test(name, (t) => keepsScrollPosition(t, family, size));
  }
}

async function keepsScrollPosition(t, family, size) {
  const prefix = `history ${family} ${size}`;
  await fill(t, prefix, 120);
  const browser = await launchWith(t, family);
  const ada = await Visitor.enter(t, browser, server.url, `Ada ${family} ${size}`);
  await ada.page.evaluate((size) => (document.documentElement.style.fontSize = size), size);
  await ada.message(`${prefix} 119`).waitFor();
  assert.deepEqual(await familiesOf(ada.page, "li.message .bubble"), [family]);
  const atFirst = await ada.texts(prefix);
  assert.ok(atFirst.length < 120, "the whole history came at once");

  const [oldest] = atFirst;
  // In a single step, because the line is rebuilt when its author line moves up.
  const placeOf = (text, scrollTop) =>
    ada.scroller.evaluate(
      (scroller, [text, scrollTop]) => {
        scroller.scrollTo(0, scrollTop ?? scroller.scrollTop);
        const bubbles = [...scroller.querySelectorAll(".bubble")];
        return bubbles.find((bubble) => bubble.textContent === text).getBoundingClientRect().top;
      },
      [text, scrollTop],
    );
  const before = await placeOf(oldest, 150);
  await ada.page.waitForFunction((text) => document.querySelector("li.message .bubble").textContent !== text, oldest);
  // Layout has a resolution of 64ths of a pixel.
  const moved = (await placeOf(oldest)) - before;
  assert.ok(Math.abs(moved) <= 1 / 32, `the messages moved under the reader by ${moved} px`);

  await ada.page.waitForFunction((first) => {
    document.querySelector(".scroller").scrollTo(0, 0);
    return [...document.querySelectorAll("li.message .bubble")].some((bubble) => bubble.textContent === first);
  }, `${prefix} 0`);
  // Only the messages around the view are in the document.
  const seen = new Set(await ada.texts(prefix));
  await until(async () => {
    await ada.scroller.evaluate((node) => node.scrollBy(0, 400));
    for (const text of await ada.texts(prefix)) seen.add(text);
    return seen.has(`${prefix} 119`);
  }, "the newest message");
  assert.deepEqual([...seen], Array.from({ length: 120 }, (_, index) => `${prefix} ${index}`));
}

test("messages below the view are counted and reached with one press", async (t) => {
  await fill(t, "unread", 40);
  const ada = await enter(t, "Ada Above");
  const bob = await enter(t, "Bob Below");
  await ada.message("unread 39").waitFor();
  await ada.scroller.evaluate((node) => node.scrollTo(0, node.scrollHeight / 2));
  await ada.page.getByRole("button", { name: "To the newest" }).waitFor();
  await bob.say("one below", "two below");
  await ada.page.getByRole("button", { name: "2 new messages" }).waitFor();
  assert.match(await ada.page.title(), /^\(2\) /);
  await ada.page.getByRole("button", { name: "2 new messages" }).click();
  await ada.message("two below").waitFor();
  await ada.page.locator("li.unread").waitFor();
  await ada.page.waitForFunction(() => !document.title.startsWith("("));
  await ada.page.getByRole("button", { name: /newest|new message/ }).waitFor({ state: "hidden" });
});

test("no message is missing or doubled after a lost connection", async (t) => {
  const ada = await enter(t, "Ada Line");
  const bob = await enter(t, "Bob Line");
  await ada.say("line 1");
  await bob.message("line 1").waitFor();

  bob.link.cut();
  await bob.isOffline();
  await ada.say("line 2", "line 3", "line 4");
  await ada.message("line 4", "stored").waitFor();
  await bob.say("line 5", "line 6");
  await bob.message("line 6", "waiting").waitFor();
  bob.link.restore();
  await bob.isOnline();
  await bob.message("line 6", "stored").waitFor();
  await ada.message("line 6").waitFor();

  const expected = ["line 1", "line 2", "line 3", "line 4", "line 5", "line 6"];
  assert.deepEqual(await bob.texts("line"), expected);
  assert.deepEqual(await ada.texts("line"), expected);
  noComplaints(ada, bob);
});

test("an unconfirmed message is sent again by itself and stored once", async (t) => {
  const ada = await enter(t, "Ada Once");
  const bob = await enter(t, "Bob Once");
  await bob.isOver("WebSocket");
  bob.link.holdAnswers();
  await bob.say("only once");
  await ada.message("only once").waitFor();
  await bob.saw("message", "unconfirmed: ");
  bob.link.releaseAnswers();
  await bob.message("only once", "stored").waitFor();
  await ada.say("after once");
  await bob.message("after once").waitFor();
  assert.deepEqual(await ada.texts("only once"), ["only once"]);
  assert.deepEqual(await bob.texts("only once"), ["only once"]);
});

test("a visitor stays the same user in a second tab and after a reload", async (t) => {
  const ada = await enter(t, "Ada Tabs");
  const bob = await enter(t, "Bob Tabs");
  const second = await ada.context.newPage();
  await second.goto(ada.link.url);
  await bob.person("Ada Tabs").getByText("×2").waitFor();
  assert.equal(await bob.person("Ada Tabs").count(), 1);

  await ada.say("from the first tab");
  await second.locator("li.message.is-own").getByText("from the first tab", { exact: true }).waitFor();
  await second.close();
  await bob.person("Ada Tabs").getByText("×2").waitFor({ state: "detached" });

  await ada.page.reload();
  await ada.isOnline();
  await ada.message("from the first tab", "stored").waitFor();
});

test("a user who vanishes is shown as disconnected", async (t) => {
  const ada = await enter(t, "Ada Stays");
  const bob = await enter(t, "Bob Goes");
  await ada.person("Bob Goes").waitFor();
  // The server would notice a broken polling connection much later.
  await bob.isOver("WebSocket");
  // The users of other tests have left, so the line after this message has none of them.
  await ada.page.getByRole("button", { name: "Who is here: 2 people" }).waitFor();
  await ada.say("who is here?");
  await ada.message("who is here?", "stored").waitFor();
  bob.link.cut();
  await ada.line("Bob Goes lost the connection").waitFor();
  await ada.person("Bob Goes").waitFor({ state: "detached" });
});

test("polling alone is enough to chat", async (t) => {
  const ada = await enter(t, "Ada Poll", { path: "/?transport=polling" });
  const bob = await enter(t, "Bob Socket", { path: "/?transport=websocket" });
  await ada.isOver("polling");
  await bob.isOver("WebSocket");
  await ada.say("by polling");
  await bob.message("by polling").waitFor();
  await bob.say("by WebSocket");
  await ada.message("by WebSocket").waitFor();
  noComplaints(ada, bob);
});

test("a phone shows everything, in light and in dark", async (t) => {
  const ada = await enter(t, "Ada Phone", { viewport: PHONE, hasTouch: true });
  await ada.say("a longer message from a phone, with aVeryLongWordThatHasNoPlaceToBreakAnywhereInItAtAll");
  for (const width of [320, PHONE.width]) {
    await ada.page.setViewportSize({ ...PHONE, width });
    assert.equal(await ada.page.evaluate(() => document.documentElement.scrollWidth), width);
  }
  const background = () => ada.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await ada.screenshot("phone-light");
  await ada.page.emulateMedia({ colorScheme: "dark" });
  const dark = await background();
  assert.notEqual(dark, light);
  await ada.screenshot("phone-dark");
  await ada.page.getByRole("link", { name: "All conversations" }).click();
  await ada.page.getByRole("button", { name: "Switch to light colours" }).click();
  assert.equal(await background(), light);
  await ada.screenshot("phone-list");
  await ada.conversation("Lobby").click();
  await ada.page.reload();
  await ada.isOnline();
  assert.equal(await background(), light);

  // The focus moves into the panel together with it: a key that is pressed right away acts on what
  // is shown.
  const isInside = await ada.page.evaluate(() => {
    const panel = document.getElementById("people");
    const seen = new Promise((done) => {
      new MutationObserver(() => done(panel.contains(document.activeElement))).observe(panel, { attributeFilter: ["hidden"] });
    });
    document.querySelector(".people-toggle").click();
    return seen;
  });
  assert.ok(isInside);
  await ada.person("Ada Phone").waitFor();
  await ada.page.keyboard.press("Escape");
  await ada.person("Ada Phone").waitFor({ state: "hidden" });
  assert.equal(await ada.page.evaluate(() => document.activeElement.getAttribute("aria-controls")), "people");
});

test("the page is accessible by the rules of WCAG 2.2 AA", async (t) => {
  const visitor = await Visitor.open(t, browser, server.url);
  await visitor.page.getByLabel("Your name").waitFor();
  assert.deepEqual(await violations(visitor), []);
  const bob = await enter(t, "Bob Axe");
  const ada = await enter(t, "Ada Axe");
  await bob.say("a message to look at");
  await ada.message("a message to look at").waitFor();
  await ada.say("and one of my own");
  await ada.message("and one of my own", "stored").waitFor();
  ada.link.cut();
  await ada.isOffline();
  await ada.say("one that waits");
  await ada.message("one that waits", "waiting").waitFor();
  for (const colorScheme of ["light", "dark"]) {
    await ada.page.emulateMedia({ colorScheme });
    assert.deepEqual(await violations(ada), [], colorScheme);
    await ada.screenshot(`desktop-${colorScheme}`);
  }
});
