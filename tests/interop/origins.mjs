// Pages of other origins, in a real Chromium with the cookies of a signed-in user.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { keyed, logged, server } from "./people.mjs";
import { within } from "./support.mjs";
import { token } from "./tokens.mjs";
import { launch } from "./visitor.mjs";

const require = createRequire(import.meta.url);
const client = readFileSync(join(dirname(require.resolve("socket.io-client/package.json")), "dist/socket.io.min.js"));

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

/** Serves a site with nothing but the stock client; its port makes it another origin. */
async function site(t) {
  const served = createServer((request, response) => {
    const isScript = request.url === "/client.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? client : "<!doctype html><title>site</title><script src=/client.js></script>");
  });
  await new Promise((done) => served.listen(0, "127.0.0.1", done));
  t.after(() => served.close());
  return `http://127.0.0.1:${served.address().port}`;
}

/** Returns the outcome for a page of this origin that connects. */
async function visit(t, origin, url, options, cookies = []) {
  const context = await browser.newContext();
  t.after(() => context.close());
  await context.addCookies(cookies);
  const page = await context.newPage();
  await page.goto(origin);
  const outcome = page.evaluate(
    ([url, options]) =>
      new Promise((done) => {
        const socket = globalThis.io(url, { reconnection: false, ...options });
        socket.on("session", ({ userId }) => done(userId));
        socket.on("connect_error", (error) => done(error.message));
      }),
    [url, options],
  );
  return within(outcome, `an answer to ${origin}`);
}

test("a page of an allowed origin is admitted with cookies, others are not", async (t) => {
  const [friend, stranger] = [await site(t), await site(t)];
  const started = await server(t, { ...keyed, ALLOWED_ORIGINS: friend, ROOMCAST_LOG__LEVEL: "debug" });
  const { url } = started;
  const cookies = [{ name: "roomcast_token", value: token({ sub: "ann" }), url }];
  const polling = { transports: ["polling"], withCredentials: true };
  // An additional header makes the browser send a preflight request.
  const asking = { ...polling, extraHeaders: { "x-own": "1" } };
  const websocket = { transports: ["websocket"] };
  for (const options of [polling, asking, websocket]) {
    const what = JSON.stringify(options);
    assert.equal(await visit(t, friend, url, options, cookies), "ann", what);
    assert.match(await visit(t, stranger, url, options, cookies), /^(xhr poll|websocket) error$/, what);
  }
  // A token of its own does not help: the origin of the page is not allowed.
  const auth = { token: token({ sub: "mallory" }) };
  for (const options of [polling, websocket]) {
    assert.match(await visit(t, stranger, url, { ...options, auth }), /^(xhr poll|websocket) error$/);
  }
  await logged(started, /request refused.*reason="?origin not allowed/);
});

test("own pages need no list, and cookies are sent only with credentials", async (t) => {
  const friend = await site(t);
  const { url } = await server(t, { ALLOWED_ORIGINS: friend });
  const cookies = [{ name: "roomcast_token", value: token({ sub: "ann" }), url }];
  const polling = { transports: ["polling"] };
  const guest = await visit(t, friend, url, { ...polling, auth: { name: "Ada" } }, cookies);
  assert.notEqual(guest, "ann");
  assert.doesNotMatch(guest, /error/);
});
