// Firefox, driven by WebDriver BiDi, which it supports natively: neither a driver nor a patched
// browser is needed.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { startLink } from "./link.mjs";
import { launch, until, within } from "./processes.mjs";
import { stretchTime } from "./visitor.mjs";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const screenshots = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "screenshots");
const places = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
/**
 * Decides only how long a failing test waits, in milliseconds. A browser next to a busy test may be
 * slow.
 */
const TIMEOUT = 60_000;
const PREFERENCES = { "remote.active-protocols": 1, "datareporting.policy.dataSubmissionEnabled": false, "app.update.enabled": false, "browser.shell.checkDefaultBrowser": false };

/** Keys that are no characters, as WebDriver encodes them. */
export const KEYS = {
  Enter: "\uE007",
  Escape: "\uE00C",
  ArrowUp: "\uE013",
  ArrowDown: "\uE015",
  Home: "\uE011",
  End: "\uE010",
  Delete: "\uE017",
  Tab: "\uE004",
  F6: "\uE036",
  Shift: "\uE008",
};

/**
 * Starts Firefox without a window. `FIREFOX` in the environment names a program other than the
 * system's.
 */
export async function launchFirefox() {
  const program = process.env.FIREFOX ?? places.find((place) => existsSync(place));
  if (program === undefined) throw new Error(`no Firefox at ${places.join(", ")}; FIREFOX may name one`);
  await mkdir(screenshots, { recursive: true });
  const profile = mkdtempSync(join(tmpdir(), "roomcast-firefox-"));
  writeFileSync(join(profile, "user.js"), Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${value});`).join("\n"));
  const firefox = launch(program, ["--headless", "--profile", profile, "--remote-debugging-port", "0"]);
  const address = await firefox.found((line) => /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1], "listen", 2 * TIMEOUT);
  const socket = new WebSocket(`${address}/session`);
  await within(new Promise((done) => socket.once("open", done)), "WebDriver BiDi", TIMEOUT);
  const answers = new Map();
  const listeners = new Set();
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (message.type === "event") for (const listener of listeners) listener(message);
    else answers.get(message.id)?.(message);
  });
  let count = 0;
  const command = async (method, params = {}) => {
    const id = (count += 1);
    const answered = new Promise((done) => answers.set(id, done));
    socket.send(JSON.stringify({ id, method, params }));
    const answer = await within(answered, method, TIMEOUT);
    answers.delete(id);
    if (answer.type === "error") throw new Error(`${method}: ${answer.error}: ${answer.message}`);
    return answer.result;
  };
  await command("session.new", { capabilities: {} });
  await command("session.subscribe", { events: ["log.entryAdded"] });
  const close = async () => {
    await command("browser.close").catch(() => firefox.kill("SIGTERM"));
    await within(firefox.ended, "Firefox to end").catch(() => firefox.kill());
    rmSync(profile, { recursive: true, force: true });
  };
  return { command, listeners, close };
}

/** A person in front of the page in Firefox, with separate cookies, storage and network link. */
export class FirefoxVisitor {
  /** Script errors and violations of the security policy. */
  complaints = [];

  static async open(test, firefox, url, { width = 1280, height = 800 } = {}) {
    const visitor = new FirefoxVisitor();
    visitor.firefox = firefox;
    visitor.link = await startLink(url);
    const { userContext } = await firefox.command("browser.createUserContext");
    // A background tab gets no frames; a separate window does.
    const { context } = await firefox.command("browsingContext.create", { type: "window", userContext });
    visitor.context = context;
    const listen = ({ method, params }) => {
      const isOwn = method === "log.entryAdded" && params.source?.context === context && params.level === "error";
      // A cut link is no fault of the page.
      if (isOwn && !/can.t establish a connection|was interrupted|NetworkError/.test(params.text)) visitor.complaints.push(params.text);
    };
    firefox.listeners.add(listen);
    test.after(async () => {
      firefox.listeners.delete(listen);
      await firefox.command("browsingContext.close", { context });
      await firefox.command("browser.removeUserContext", { userContext });
      visitor.link.close();
    });
    await firefox.command("browsingContext.setViewport", { context, viewport: { width, height } });
    await visitor.go(visitor.link.url);
    return visitor;
  }

  async go(url) {
    await this.firefox.command("browsingContext.navigate", { context: this.context, url, wait: "complete" });
  }

  async reload() {
    await this.firefox.command("browsingContext.reload", { context: this.context, wait: "complete" });
  }

  /** Evaluates an expression in the page and returns its value as JSON. */
  async evaluate(expression) {
    const params = { expression: `JSON.stringify(${expression}) ?? "null"`, target: { context: this.context }, awaitPromise: true };
    const { result, exceptionDetails } = await this.firefox.command("script.evaluate", params);
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${exceptionDetails.text}`);
    return JSON.parse(result.value);
  }

  /** Waits for an expression to be true. */
  async sees(expression, what = expression) {
    await until(() => this.evaluate(`Boolean(${expression})`), what, TIMEOUT);
  }

  /** Waits for an element with this text, or whose text starts with it. */
  async reads(selector, text) {
    await this.sees(`[...document.querySelectorAll(${JSON.stringify(selector)})].some((node) => node.textContent.trim().startsWith(${JSON.stringify(text)}))`, text);
  }

  /** Clicks a button or link by its name. */
  async click(selector, name) {
    const find = `[...document.querySelectorAll(${JSON.stringify(selector)})].find((node) => (node.ariaLabel ?? node.textContent).trim().startsWith(${JSON.stringify(name)}))`;
    await this.sees(find, `${selector} ${name}`);
    const { x, y } = await this.evaluate(`(({ left, top, width, height }) => ({ x: left + width / 2, y: top + height / 2 }))(${find}.getBoundingClientRect())`);
    const actions = [{ type: "pointerMove", x: Math.round(x), y: Math.round(y) }, { type: "pointerDown", button: 0 }, { type: "pointerUp", button: 0 }];
    await this.firefox.command("input.performActions", { context: this.context, actions: [{ type: "pointer", id: "mouse", actions }] });
  }

  /** Types on the keyboard, into the focused element. `Shift+F6` holds Shift. */
  async type(...texts) {
    const press = (value) => [{ type: "keyDown", value }, { type: "keyUp", value }];
    const actions = texts.flatMap((text) => {
      const [, key] = /^Shift\+(\w+)$/.exec(text) ?? [];
      if (key !== undefined) return press(KEYS.Shift).toSpliced(1, 0, ...press(KEYS[key]));
      return KEYS[text] === undefined ? [...text].flatMap(press) : press(KEYS[text]);
    });
    await this.firefox.command("input.performActions", { context: this.context, actions: [{ type: "key", id: "keyboard", actions }] });
  }

  /** Focuses an element when it can be focused. */
  async focus(selector) {
    const node = `document.querySelector(${JSON.stringify(selector)})`;
    await this.sees(`${node} && !${node}.disabled`, selector);
    await this.evaluate(`${node}.focus()`);
  }

  /** Extends the time for undoing deletions from six seconds to a minute, or resets it. */
  async stretchUndo(isLong = true) {
    await this.evaluate(`(globalThis.glimpsed ?? (${stretchTime})(), globalThis.isUndoLong = ${isLong})`);
  }

  async signIn(token) {
    await this.click("button", "Sign in with a token instead");
    await this.focus("#token");
    await this.type(token, "Enter");
    await this.isOnline();
  }

  async isOnline() {
    await this.sees("document.querySelector('.status[data-state=online]') && document.querySelector('.scroller[aria-busy=false]')", "the connection");
  }

  async say(text) {
    await this.focus("#composer");
    await this.type(text, "Enter");
  }

  /** Waits for a message with exactly this text, which is stored if it is the visitor's own. */
  async hears(text) {
    const lines = `[...document.querySelectorAll("li.message:not([data-state]) .bubble, li.message[data-state=stored] .bubble")]`;
    await this.sees(`${lines}.some((node) => node.textContent === ${JSON.stringify(text)})`, text);
  }

  async screenshot(name) {
    const { data } = await this.firefox.command("browsingContext.captureScreenshot", { context: this.context });
    await writeFile(join(screenshots, `firefox-${name}.png`), Buffer.from(data, "base64"));
  }
}
