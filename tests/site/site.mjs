// The documentation site as it is released: links, anchors, versions, search, colours and diagrams.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, extname, join, relative } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { server } from "../interop/people.mjs";
import { until } from "../interop/support.mjs";
import { launch } from "../interop/visitor.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const screenshots = join(target, "screenshots");
const folder = mkdtempSync(join(tmpdir(), "roomcast-site-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Returns all files below a folder. */
const files = (path) => readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
const unescaped = (text) => text.replaceAll("&amp;", "&").replaceAll("&quot;", '"').replaceAll("&#x27;", "'");

let browser;
let served;
let site;
before(async () => {
  const built = spawnSync(join(root, "deploy/site/build"), [folder], { encoding: "utf8" });
  assert.equal(built.status, 0, built.stdout + built.stderr);
  const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".txt": "text/plain" };
  served = createServer((request, response) => {
    const path = join(folder, decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    const file = existsSync(path) && statSync(path).isDirectory() ? join(path, "index.html") : path;
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" }).end(readFileSync(file));
  });
  await new Promise((done) => served.listen(0, "127.0.0.1", done));
  site = `http://127.0.0.1:${served.address().port}`;
  browser = await launch();
});
after(async () => {
  await browser?.close();
  served?.close();
});

/** Words that a new reader searches for, and the page with the answer. */
const ANSWERS = [
  ["first chat", "tutorials/first-chat"],
  ["virtual machine", "install"],
  ["limits.connections", "reference/configuration"],
  ["certificate renewal", "install"],
  ["memory per connection", "scaling"],
  ["roomcast_store_up", "reference/metrics"],
  ["session id unknown", "troubleshooting"],
  ["backup restore", "backup"],
  ["upgrading", "upgrading"],
  ["data lost", "troubleshooting"],
  ["web page bundler", "tutorials/first-chat"],
  ["moving a node backend", "migrating-from-node"],
  ["send with curl", "tutorials/backend"],
  ["embed axum", "tutorials/axum"],
  ["RATE_LIMITED", "reference/errors"],
  ["middleware order", "guide"],
  ["effectively once", "delivery"],
  ["transport close", "troubleshooting"],
  ["client away", "architecture"],
  ["event of your own", "tutorials/own-event"],
];

/** The links to what a search has found. */
const RESULTS = "#mdbook-searchresults li a[href]";

/** Opens a page without access to other hosts, and collects what fails. */
async function open(t, path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  t.after(() => context.close());
  const faults = [];
  await context.route(/^(?!http:\/\/127\.0\.0\.1[:/]|data:)/, (route) => {
    faults.push(`another host: ${route.request().url()}`);
    return route.abort();
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`${path}: ${error}`));
  page.on("console", (line) => line.type() === "error" && faults.push(`${path}: ${line.text()}`));
  await page.goto(`${site}/${path}`, { waitUntil: "load" });
  return { page, faults };
}

describe("the documentation site", () => {
  test("has no broken link or anchor, and loads nothing from other hosts", () => {
    const pages = files(folder).filter((file) => file.endsWith(".html"));
    assert.ok(pages.length > 50, `${pages.length} pages`);
    const ids = new Map(pages.map((file) => [file, new Set([...readFileSync(file, "utf8").matchAll(/\sid="([^"]*)"/g)].map(([, id]) => unescaped(id)))]));
    const wrong = [];
    let checked = 0;
    for (const file of pages) {
      const html = readFileSync(file, "utf8").replace(/<pre\b[\s\S]*?<\/pre>/g, "");
      const name = relative(folder, file);
      for (const [, tag, link] of html.matchAll(/<(a|link|script|img|iframe)\b[^>]*?\s(?:href|src)="([^"]*)"/g)) {
        checked += 1;
        const to = unescaped(link);
        if (/^[a-z]+:/i.test(to)) {
          if (tag !== "a" && !to.startsWith("data:")) wrong.push(`${name}: loads ${to}`);
          continue;
        }
        const [path, anchor] = to.split("#");
        // The page for missing pages is served at any path.
        if (name === "404.html") continue;
        let found = path ? join(dirname(file), decodeURIComponent(path)) : file;
        if (existsSync(found) && statSync(found).isDirectory()) found = join(found, "index.html");
        if (!existsSync(found)) wrong.push(`${name}: ${to}`);
        else if (anchor && ids.has(found) && !ids.get(found).has(decodeURIComponent(anchor))) wrong.push(`${name}: ${to} has no such heading`);
      }
    }
    assert.ok(checked > 3_000, `${checked} links`);
    assert.deepEqual(wrong, []);
  });

  test("states version, date and commit on each page, once", () => {
    const [, version] = /^version = "(.+)"$/m.exec(readFileSync(join(root, "server/Cargo.toml"), "utf8"));
    const line = new RegExp(`<p class="version">Roomcast ${version.replaceAll(".", "\\.")}, \\d{4}-\\d\\d-\\d\\d, commit ([0-9a-f]{12}|unknown)(, with changes)?</p>`, "g");
    const pages = files(folder).filter((file) => file.endsWith(".html") && !/\/(404|toc)\.html$/.test(file));
    for (const file of pages) assert.equal([...readFileSync(file, "utf8").matchAll(line)].length, 1, file);
  });

  test("leaves no Markdown or links of rustdoc in the pages of the library", () => {
    for (const name of ["guide", "migrating-from-node", "rust-client"]) {
      const html = readFileSync(join(folder, `${name}.html`), "utf8").replace(/<pre\b[\s\S]*?<\/pre>/g, "");
      const text = html.slice(html.indexOf("<main"), html.indexOf("</main"));
      assert.deepEqual(text.match(/.{0,40}(\[<code|\]\[|\]\().{0,40}/g) ?? [], [], name);
    }
  });

  test("finds a configuration key, a metric, an error and a symptom by search", async (t) => {
    const { page, faults } = await open(t, "index.html");
    for (const [words, title] of [
      ["limits.connections", /limits\.connections/],
      ["roomcast_store_up", /roomcast_store_up/],
      ["RATE_LIMITED", /RATE_LIMITED/],
      ["session id unknown", /400 Session ID unknown/i],
      ["ping timeout", /ping timeout/],
    ]) {
      await page.goto(`${site}/index.html?search=${encodeURIComponent(words)}`);
      const first = page.locator(RESULTS);
      await first.first().waitFor();
      const titles = await first.allInnerTexts();
      assert.ok(titles.slice(0, 5).some((text) => title.test(text)), `${words}: ${titles.slice(0, 5).join("\n")}`);
    }
    await page.screenshot({ path: join(screenshots, "site-search.png") });
    assert.deepEqual(faults, []);
  });

  test("finds the answers to questions of new readers by their words", async (t) => {
    const { page } = await open(t, "index.html");
    const lost = [];
    for (const [words, path] of ANSWERS) {
      await page.goto(`${site}/index.html?search=${encodeURIComponent(words)}`);
      const results = page.locator(RESULTS);
      await results.first().waitFor();
      const found = await results.evaluateAll((all) => all.slice(0, 8).map((link) => new URL(link.href).pathname.slice(1).replace(".html", "")));
      if (!found.includes(path)) lost.push(`${words}: ${found} and not ${path}`);
    }
    assert.deepEqual(lost, []);
  });

  test("follows the colours of the system, and a reader can choose dark", async (t) => {
    const background = (page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const lightness = (colour) => colour.match(/\d+(\.\d+)?/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
    const light = await open(t, "architecture.html", { colorScheme: "light" });
    const dark = await open(t, "architecture.html", { colorScheme: "dark" });
    assert.ok(lightness(await background(light.page)) > 200, await background(light.page));
    assert.ok(lightness(await background(dark.page)) < 80, await background(dark.page));
    for (const [name, { page }] of Object.entries({ light, dark })) {
      await page.locator("pre.mermaid svg").first().waitFor();
      await page.screenshot({ path: join(screenshots, `site-${name}.png`), fullPage: false });
    }
    await light.page.evaluate(() => localStorage.setItem("mdbook-theme", "navy"));
    await light.page.reload();
    assert.ok(lightness(await background(light.page)) < 80);
    assert.deepEqual([...light.faults, ...dark.faults], []);
  });

  test("draws every diagram without other hosts, also on a phone", async (t) => {
    const drawn = [];
    for (const path of ["architecture.html", "scaling.html"]) {
      const { page, faults } = await open(t, path, { viewport: { width: 360, height: 640 } });
      const count = await page.locator("pre.mermaid").count();
      await until(async () => (await page.locator("pre.mermaid svg").count()) === count, () => `the diagrams of ${path}`);
      assert.equal(await page.getByText("Syntax error").count(), 0, path);
      drawn.push(count);
      // A wide table scrolls within itself.
      const { width, shown } = await page.evaluate(() => ({ width: document.documentElement.scrollWidth, shown: innerWidth }));
      assert.ok(width <= shown + 1, `${path} is ${width} wide`);
      await page.screenshot({ path: join(screenshots, `site-phone-${path.replace(".html", "")}.png`) });
      assert.deepEqual(faults, []);
    }
    assert.ok(drawn.every((count) => count > 0), `${drawn}`);
  });
});

test("localStorage.debug shows the packets of the client", async (t) => {
  const { url } = await server(t);
  // A page of the server without scripts of its own, whose policy admits none.
  const context = await browser.newContext({ bypassCSP: true });
  t.after(() => context.close());
  const page = await context.newPage();
  const lines = [];
  page.on("console", (line) => lines.push(line.text()));
  await page.goto(`${url}/health/live`);
  await page.evaluate(() => localStorage.setItem("debug", "socket.io-client:*,engine.io-client:*"));
  await page.reload();
  await page.addScriptTag({ url: `${url}/socket.io/socket.io.js` });
  await page.evaluate(() => void globalThis.io({ auth: { name: "Ann" } }));
  await until(() => lines.some((line) => line.includes("socket.io-client") && line.includes("packet")), () => lines.join("\n"));
});
