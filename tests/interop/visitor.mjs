// A person in front of the chat page, with a separate browser profile and network link.
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { startLink } from "./link.mjs";
import { until } from "./support.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
export const screenshots = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "screenshots");
const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const options =
  "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking " +
  "--disable-component-update --disable-sync";

/**
 * Decides only how long a failing test waits, in milliseconds. A browser next to a busy test may be
 * slow.
 */
const TIMEOUT = 60_000;

/**
 * Starts Chromium, with a separate environment if one is given; `CHROMIUM` in the environment names
 * another browser.
 */
export async function launch(env) {
  const executablePath = process.env.CHROMIUM ?? places.find((place) => existsSync(place));
  if (executablePath === undefined) throw new Error(`no Chromium at ${places.join(", ")}; CHROMIUM may name one`);
  await mkdir(screenshots, { recursive: true });
  return chromium.launch({ executablePath, headless: true, args: options.split(" "), env, timeout: 2 * TIMEOUT });
}

/** Returns the Engine.IO session of a request. */
const sessionOf = (address) => (URL.canParse(address) ? new URL(address).searchParams.get("sid") : null);

/**
 * Runs in a page before its own scripts. Whatever is shown for a few seconds must not depend on a
 * slow machine. Notices stay for a minute. Deletions can be undone for a minute where a test
 * requests it. Short-lived content is recorded.
 */
export function stretchTime() {
  const later = globalThis.setTimeout;
  globalThis.setTimeout = (act, pause, ...rest) => {
    const isNotice = pause === 8_000;
    const isUndo = globalThis.isUndoLong === true && pause > 5_000 && pause <= 6_000;
    return later(act, isNotice || isUndo ? 60_000 : pause, ...rest);
  };
  const shown = (globalThis.glimpsed = { typing: [], message: [], status: [] });
  const note = (element) => {
    if (element?.matches("li.message[data-state]")) shown.message.push(`${element.dataset.state}: ${element.textContent}`);
    else if (element?.closest(".status")) shown.status.push(element.closest(".status").textContent);
    else if (element?.closest(".typing")) shown.typing.push(element.closest(".typing").textContent);
  };
  const observer = new MutationObserver((changes) => {
    for (const { target, addedNodes } of changes) for (const node of [target, ...addedNodes]) note(node instanceof Element ? node : node.parentElement);
  });
  observer.observe(document, { subtree: true, childList: true, characterData: true, attributeFilter: ["data-state"] });
}

export class Visitor {
  /** Faults of the page: script errors and violations of the security policy. */
  complaints = [];
  /** The Engine.IO sessions that the page has closed over polling. */
  #closed = new Set();
  /** The parts of the page that are being loaded. */
  #loading = new Set();

  constructor(context, page, link) {
    this.context = context;
    this.page = page;
    this.link = link;
    page.on("request", (request) => {
      const session = sessionOf(request.url());
      // The packet of type `close`, which is always the last of a payload.
      if (session !== null && /(^|\x1e)1$/.test(request.postData() ?? "")) this.#closed.add(session);
    });
    page.on("request", (request) => {
      if (request.isNavigationRequest()) this.#loading.clear();
      else if (request.url().includes("/assets/")) this.#loading.add(request);
    });
    for (const end of ["requestfinished", "requestfailed"]) page.on(end, (request) => this.#loading.delete(request));
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("console", (message) => {
      // A cut link is no fault of the page; Chromium reports every request that it breaks.
      const isNetwork = /net::ERR_|WebSocket connection to/.test(message.text());
      // A client that closes its session sends that next to the poll that it has just started. If
      // they cross in flight, the poll belongs to a closed session.
      const isOfClosed = this.#closed.has(sessionOf(message.location().url));
      if (message.type() === "error" && !isNetwork && !isOfClosed) this.complaints.push(`${message.text()} (${message.location().url})`);
    });
  }

  /** Opens the page; the visitor ends with the test. */
  static async open(test, browser, url, { path = "/", ...options } = {}) {
    const link = await startLink(url);
    const context = await browser.newContext({ viewport: { width: 1100, height: 700 }, ...options });
    context.setDefaultTimeout(TIMEOUT);
    await context.addInitScript(stretchTime);
    const visitor = new Visitor(context, await context.newPage(), link);
    test.after(async () => {
      await context.close();
      link.close();
    });
    await visitor.page.goto(link.url.replace("http:", new URL(url).protocol) + path);
    return visitor;
  }

  /** Opens the page, picks a name and waits for the Lobby. */
  static async enter(test, browser, url, name, options) {
    const visitor = await Visitor.open(test, browser, url, options);
    await visitor.page.getByLabel("Your name").fill(name);
    await visitor.page.getByRole("button", { name: "Join the chat" }).click();
    await visitor.isOnline();
    await visitor.person(name).waitFor({ state: "attached" });
    return visitor;
  }

  /** Opens the page, signs in with a token and waits for a conversation. */
  static async signIn(test, browser, url, token, options) {
    const visitor = await Visitor.open(test, browser, url, options);
    await visitor.giveToken(token);
    await visitor.isOnline();
    return visitor;
  }

  async giveToken(token) {
    const other = this.page.getByRole("button", { name: "Sign in with a token instead" });
    await this.page.getByLabel("Token").or(other).waitFor();
    if (await other.isVisible()) await other.press("Enter");
    await this.page.getByLabel("Token").fill(token);
    await this.page.getByLabel("Token").press("Enter");
  }

  get composer() {
    return this.page.getByRole("textbox", { name: "Message" });
  }

  get scroller() {
    return this.page.getByRole("region", { name: "Messages" });
  }

  get status() {
    return this.page.getByRole("status", { name: "Connection" });
  }

  /**
   * Waits until the page is connected, has everything that was missed, and has loaded the windows
   * that are needed even if the network is cut next.
   */
  async isOnline() {
    await this.page.locator(".status[data-state=online]").waitFor();
    await this.page.locator(".scroller[aria-busy=false]").waitFor();
    const hasWindows = () => this.page.evaluate(() => performance.getEntriesByType("resource").some(({ name }) => name.includes("/assets/out-")));
    await until(hasWindows, "the windows of the page to be requested", TIMEOUT);
    await until(() => this.#loading.size === 0, "the windows of the page", TIMEOUT);
  }

  /**
   * Waits for content that is shown for a while: `typing`, a `message` by its state, or the
   * `status`. It may have disappeared by now.
   */
  async saw(kind, text) {
    const isThere = ([kind, text]) => globalThis.glimpsed[kind].some((one) => one.includes(text));
    await this.page.waitForFunction(isThere, [kind, text]).catch(async (error) => {
      error.message += ` ${text}\n${await this.page.evaluate(() => JSON.stringify(globalThis.glimpsed)).catch(String)}`;
      throw error;
    });
  }

  /** Extends the time for undoing deletions from six seconds to a minute, or resets it. */
  async stretchUndo(isLong = true) {
    await this.page.evaluate((isLong) => (globalThis.isUndoLong = isLong), isLong);
  }

  /** Waits for a connection over this transport, WebSocket or polling; the tooltip shows it. */
  async isOver(transport) {
    await this.page.locator(`.status[title="Connected over ${transport}"]`).waitFor();
  }

  async isOffline() {
    await this.page.locator(".status[data-state=offline]").waitFor();
  }

  async say(...texts) {
    for (const text of texts) {
      await this.composer.fill(text);
      await this.composer.press("Enter");
    }
  }

  /** Goes to the list of conversations by keyboard; on a phone it is a screen of its own. */
  async toList() {
    const back = this.page.getByRole("link", { name: "All conversations" });
    const self = this.page.locator(".self");
    await back.or(self).filter({ visible: true }).first().waitFor();
    if (await back.isVisible()) await back.press("Enter");
    // A key for a hidden element would go to the focused element.
    await self.waitFor();
  }

  /**
   * The message with exactly this text, in one of the states waiting, sending, unconfirmed, failed,
   * stored.
   */
  message(text, state) {
    const line = this.page.locator(state === undefined ? "li.message" : `li.message[data-state=${state}]`);
    return line.filter({ has: this.page.getByText(text, { exact: true }) });
  }

  /** A conversation of the list. */
  conversation(title) {
    return this.page.locator("a.conversation").filter({ has: this.page.getByText(title, { exact: true }) });
  }

  /** A shown line about users who join or leave. */
  line(text) {
    return this.page.locator("li.system").filter({ hasText: text });
  }

  /** The entry of a user in the list of present users. */
  person(name) {
    return this.page.locator("li.person").filter({ has: this.page.getByText(name, { exact: true }) });
  }

  /** Returns the texts of all messages, or those with a prefix. */
  async texts(prefix = "") {
    const all = await this.page.locator("li.message .bubble").allTextContents();
    return all.filter((text) => text.startsWith(prefix));
  }

  async screenshot(name) {
    await this.page.screenshot({ path: join(screenshots, `${name}.png`) });
  }
}
