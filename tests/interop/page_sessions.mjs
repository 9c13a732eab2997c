// The end of a session: what the page says, what the user can do, and that nothing private stays;
// further tabs of a session; a browser without a network.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { FirefoxVisitor, launchFirefox } from "./firefox.mjs";
import { DESK, LOBBY, checkLook, checkLookEverywhere, everywhere, keyed, make, noComplaints, shared, signIn, tokenOf } from "./page_support.mjs";
import { connect, startServer, until } from "./support.mjs";
import { now, token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

/** Decides only how long a failing test waits, in milliseconds. */
const TIMEOUT = 60_000;

let firefox;
/** A server that warns shortly before a session ends. */
let brief;
before(async () => {
  brief = await startServer({ ...keyed, ROOMCAST_AUTH__EXPIRING_LEAD: "40s", ROOMCAST_AUTH__GRACE: "1s" });
  firefox = await launchFirefox();
});
after(async () => {
  await firefox?.close();
  await brief?.stop();
});

const text = (words, selector = "body") => `document.querySelector(${JSON.stringify(selector)})?.textContent.includes(${JSON.stringify(words)})`;

/** The two kinds of visitors, with the same steps: conditions are expressions in the page. */
const BROWSERS = {
  Chromium: async (t, url) => {
    const visitor = await Visitor.open(t, shared.browser, url, { viewport: DESK });
    const { page } = visitor;
    return {
      visitor,
      sees: (expression) => until(() => page.evaluate(`Boolean(${expression})`), expression, TIMEOUT),
      evaluate: (expression) => page.evaluate(expression),
      signIn: (token) => visitor.giveToken(token),
      write: (draft) => visitor.composer.fill(draft),
      reload: () => page.reload(),
    };
  },
  Firefox: async (t, url) => {
    const visitor = await FirefoxVisitor.open(t, firefox, url, DESK);
    return {
      visitor,
      sees: (expression) => visitor.sees(expression),
      evaluate: (expression) => visitor.evaluate(expression),
      signIn: async (token) => {
        const isAsked = "document.querySelector('#token')";
        await visitor.sees(`${isAsked} || ${text("with a token instead")}`);
        if (!(await visitor.evaluate(`Boolean(${isAsked})`))) await visitor.click("button", "Sign in with a token instead");
        await visitor.focus("#token");
        await visitor.type(token, "Enter");
      },
      write: async (draft) => {
        await visitor.focus("#composer");
        await visitor.type(draft);
      },
      reload: () => visitor.reload(),
    };
  },
};

/** Asserts that neither the document nor its address, title and fields contain a word. */
async function assertEmptied(person, word) {
  const fields = "[...document.querySelectorAll('input, textarea')].map(({ value }) => value)";
  const all = await person.evaluate(`[document.title, document.documentElement.outerHTML, ...${fields}].join(" ").toLowerCase()`);
  const at = all.indexOf(word);
  assert.equal(at, -1, all.slice(Math.max(at - 200, 0), at + 100));
}

async function revoke(url, body) {
  const headers = { authorization: `Bearer ${token({ sub: "root", roles: ["admin"] })}`, "content-type": "application/json" };
  const answer = await fetch(`${url}/api/v1/revocations`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.ok(answer.ok, await answer.text());
}

for (const [name, open] of Object.entries(BROWSERS)) {
  const browser = name.toLowerCase();

  test(`an expiring session is announced, and continues after a sign-in, in ${name}`, async (t) => {
    const [sub, claims] = [`ada-over-${browser}`, { sub: `ada-over-${browser}`, name: "Ada Over" }];
    const bob = await connect(t, io, brief.url, { auth: { token: token({ sub: "bob-over", name: "Bob Over" }) } });
    await make(bob, "Secret plans", [sub], "a secret message");
    const ada = await open(t, brief.url);
    await ada.sees(text("with a token instead"));
    await ada.signIn(token({ ...claims, exp: now() + 20 }));
    await ada.sees(text("a secret message", ".scroller"));
    await ada.sees("document.querySelector('#composer:enabled')");
    await ada.write("a secret draft");
    await ada.sees(text("Your session ends at", ".bar"));
    await ada.sees(text("Sign in", ".bar button"));
    await ada.sees(text("Your session has expired. Sign in again to continue: what you wrote is kept.", "[role=alert]"));
    await assertEmptied(ada, "secret");
    assert.equal(await ada.evaluate("sessionStorage.length"), 0);
    // The form for a token is open, because that is what the user had.
    await ada.sees("document.querySelector('#token')");
    await ada.visitor.screenshot(`session-expired-${browser}`);
    await ada.signIn(token(claims));
    await ada.sees(text("a secret message", ".scroller"));
    await ada.sees("document.querySelector('#composer')?.value === 'a secret draft'");
    assert.deepEqual(ada.visitor.complaints, []);
  });

  test(`a revoked user is told so, and leaves nothing in view, in ${name}`, async (t) => {
    const sub = `ada-ended-${browser}`;
    const { url } = shared.server;
    const bob = await connect(t, io, url, { auth: { token: tokenOf("bob-ended", "Bob Ended") } });
    await make(bob, "Secret club", [sub], "a secret of the club");
    const ada = await open(t, url);
    await ada.signIn(tokenOf(sub, "Ada Ended"));
    await ada.sees(text("a secret of the club", ".scroller"));
    await revoke(url, { userId: sub });
    await ada.sees(text("Your access was revoked. Sign in again, or ask the operator of this server.", "[role=alert]"));
    await assertEmptied(ada, "secret");
    assert.equal(await ada.evaluate("sessionStorage.length"), 0);
    await ada.visitor.screenshot(`session-revoked-${browser}`);
    // The same user is not admitted again, and reads why.
    await ada.signIn(tokenOf(sub, "Ada Ended"));
    await ada.sees(text("This server did not accept your credentials.", "[role=alert]"));
    await assertEmptied(ada, "secret");
    await ada.reload();
    await ada.sees("document.querySelector('#name')");
    await assertEmptied(ada, "secret");
  });
}

everywhere("a token that expires is replaced without a new connection", async (t, { self, options }) => {
  const claims = { sub: `ada-renews-${self}`, name: "Ada Renews" };
  const ada = await Visitor.open(t, shared.browser, brief.url, options);
  const { page } = ada;
  await page.getByRole("button", { name: "Sign in with a token instead" }).waitFor();
  await ada.giveToken(token({ ...claims, exp: now() + 45 }));
  await ada.isOnline();
  const second = new Visitor(ada.context, await ada.context.newPage(), ada.link);
  await second.page.goto(`${ada.link.url}/#/c/${LOBBY}`);
  await page.evaluate((address) => (location.hash = address), `#/c/${LOBBY}`);
  const barOf = ({ page }) => page.getByRole("alert").filter({ hasText: "Your session ends at" });
  const bar = barOf(ada);
  await Promise.all([bar.waitFor(), barOf(second).waitFor()]);
  await checkLook(ada, `session-ending-${self}`);
  await bar.getByRole("button", { name: "Sign in" }).press("Enter");
  const dialog = page.getByRole("dialog", { name: "Stay signed in" });
  await dialog.getByLabel("Token").fill(token({ sub: "eve-renews", name: "Eve" }));
  await dialog.getByLabel("Token").press("Enter");
  await dialog.getByText("This token belongs to another user.").waitFor();
  await checkLook(ada, `session-renew-${self}`);
  await dialog.getByLabel("Token").fill(token({ ...claims, exp: now() + 3600 }));
  await dialog.getByLabel("Token").press("Enter");
  await dialog.waitFor({ state: "detached" });
  await page.getByText("You stay signed in.").waitFor();
  // The other tab has the new token as well.
  await Promise.all([ada, second].map((tab) => barOf(tab).waitFor({ state: "hidden" })));
  // The new token is used for the next connection and after a reload.
  ada.link.cut();
  await ada.isOffline();
  ada.link.restore();
  await ada.isOnline();
  await page.reload();
  await ada.isOnline();
  assert.equal(await page.locator(".self-name").textContent(), "Ada Renews");
  noComplaints(ada, second);
});

test("a user who returns with an expired token reads that it has expired", async (t) => {
  const ada = await signIn(t, "ada-returns", "Ada Returns");
  await ada.page.evaluate((token) => sessionStorage.setItem("roomcast.token", token), token({ sub: "ada-returns", name: "Ädä", exp: now() - 60 }));
  await ada.page.reload();
  await ada.page.getByRole("alert").getByText("Your session has expired.").waitFor();
  await ada.page.getByLabel("Token").waitFor();
  await checkLookEverywhere(ada, "session-returned");
  // A user who signs out reads that, and no reason to worry.
  await ada.giveToken(tokenOf("ada-returns", "Ada Returns"));
  await ada.isOnline();
  await ada.page.getByRole("button", { name: "Sign out" }).click();
  await ada.page.getByText("You are signed out.").waitFor();
  noComplaints(ada);
});

test("a second tab uses the token of the first, and both are signed out", async (t) => {
  const closed = await startServer({ ...keyed, ROOMCAST_AUTH__GUESTS: "false" });
  t.after(() => closed.stop());
  const ada = await signIn(t, "ada-second", "Ada Second", { url: closed.url });
  const second = new Visitor(ada.context, await ada.context.newPage(), ada.link);
  await second.page.goto(ada.link.url);
  await second.isOnline();
  assert.equal(await second.page.locator(".self-name").textContent(), "Ada Second");
  // The token stays out of storage that outlives the tabs.
  assert.deepEqual(await second.page.evaluate(() => Object.values(localStorage).filter((value) => value.includes("."))), []);
  await second.page.getByRole("button", { name: "Sign out" }).click();
  for (const { page } of [second, ada]) {
    await page.getByText("You are signed out.").waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  }
  // Nobody is left who could answer a further tab.
  const third = new Visitor(ada.context, await ada.context.newPage(), ada.link);
  await third.page.goto(ada.link.url);
  await third.page.getByLabel("Token").waitFor();
  noComplaints(ada, second, third);
});

test("a browser without a network is told apart from a server that is unreachable", async (t) => {
  const ada = await signIn(t, "ada-offline", "Ada Offline");
  const bar = (text) => ada.page.getByRole("alert").filter({ hasText: text });
  ada.link.cut();
  await bar("The server is unreachable. What you write will be sent after the reconnect.").waitFor();
  await ada.context.setOffline(true);
  await bar("Your browser is offline. What you write will be sent after the reconnect.").waitFor();
  assert.equal(await ada.status.textContent(), "Offline");
  assert.equal(await bar("Your browser is offline").getByRole("button").count(), 0);
  await checkLookEverywhere(ada, "session-offline");
  ada.link.restore();
  await ada.context.setOffline(false);
  await ada.isOnline();
  noComplaints(ada);
});

test("a reload without a network shows a page of its own until it returns", async (t) => {
  const ada = await signIn(t, "ada-away", "Ada Away");
  const { page } = ada;
  await page.evaluate(() => navigator.serviceWorker.ready.then(({ active }) => active.scriptURL));
  await ada.composer.fill("begun before");
  const hash = await page.evaluate(() => location.hash);
  await ada.context.setOffline(true);
  ada.link.cut();
  await page.reload();
  await page.getByRole("heading", { name: "You are offline" }).waitFor();
  await checkLookEverywhere(ada, "session-offline-page");
  assert.equal(await page.getByText("Ada Away").count(), 0);
  // The worker stores nothing, and leaves all other addresses to the network.
  assert.deepEqual(await page.evaluate(() => caches.keys()), []);
  await ada.context.setOffline(false);
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("heading", { name: "The server is unreachable" }).waitFor();
  for (const path of ["/socket.io/?EIO=4&transport=polling", "/api/v1/openapi.json", "/offline.js"]) {
    const outcome = await page.evaluate((path) => fetch(path).then(({ status }) => status, () => "failed"), path);
    assert.equal(outcome, "failed", path);
  }
  // The page opens by itself, where it was.
  ada.link.restore();
  await ada.isOnline();
  assert.equal(await page.evaluate(() => location.hash), hash);
  assert.equal(await ada.composer.inputValue(), "begun before");
  await until(async () => (await page.evaluate(() => performance.getEntriesByType("navigation")[0].workerStart)) > 0, "the worker to load the page");
  // Chromium reports the status of the page that the worker answers.
  assert.deepEqual(ada.complaints.filter((complaint) => !complaint.includes("status of 503")), []);
});
