// Shared by the tests of the dashboard: an admin in front of it, and what it shows.
import assert from "node:assert/strict";
import { DESK, shared } from "./page_support.mjs";
import { until } from "./support.mjs";
import { token } from "./tokens.mjs";
import { Visitor } from "./visitor.mjs";

export const NARROW = { width: 360, height: 740 };
export const PATH = "/dashboard";
export const admin = (sub = "root") => token({ sub, name: "Root", roles: ["admin"] });

/** Calls the HTTP API as a service or an admin. */
export async function call(url, method, path, body) {
  const headers = { authorization: `Bearer ${admin("backend")}`, "content-type": "application/json" };
  const answer = await fetch(`${url}/api/v1${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  assert.ok(answer.ok, await answer.clone().text());
  return answer.status === 204 ? undefined : answer.json();
}

/** Opens the dashboard for a visitor who types a token. */
export async function watch(t, credentials, { url = shared.server.url, ...options } = {}) {
  const visitor = await Visitor.open(t, shared.browser, url, { path: PATH, viewport: DESK, ...options });
  await visitor.giveToken(credentials);
  return visitor;
}

/** Opens the dashboard of an admin with its first figures. */
export async function live(t, options) {
  const visitor = await watch(t, admin(), options);
  await total(visitor, "Connections").waitFor();
  return visitor;
}

export const total = ({ page }, name) => page.locator(`[data-total="${name}"] .total-value`);
export const section = ({ page }, name) => page.getByRole("region", { name, exact: true });

/** Waits for a figure that matches. */
export async function shows(visitor, name, fits) {
  let shown;
  await until(async () => fits(Number((shown = await total(visitor, name).textContent()).replace(/[,/s]/g, ""))), () => `${name}: ${shown}`);
}

/** Opens a view by keyboard. */
export async function view({ page }, name) {
  await page.getByRole("navigation", { name: "Views" }).getByRole("button", { name, exact: true }).press("Enter");
}

/** Searches sockets by keyboard, and waits until all rows are of these users. */
export async function search({ page }, text, ...names) {
  await page.getByLabel("Search sockets").fill(text);
  await page.getByLabel("Search sockets").press("Enter");
  const rows = page.getByRole("region", { name: "Listed sockets" }).locator("tbody th bdi:first-child");
  let shown;
  await until(async () => String((shown = (await rows.allTextContents()).sort())) === String(names.toSorted()), () => `${text}: ${shown}`);
}

/** Opens the details of the first listed socket. */
export async function details({ page }) {
  await page.getByRole("region", { name: "Listed sockets" }).getByRole("button", { name: /^Details/ }).first().press("Enter");
  const card = page.locator("[data-details]");
  await card.locator('[data-fact="Queue"]').waitFor();
  return card;
}

/** A request for a socket that is no longer connected, which Chromium reports as an error. */
const OF_GONE_SOCKET = /status of 404 .*\/api\/v1\/sockets\//;

/** Asserts that the page has no faults, apart from sockets that are no longer connected. */
export function noFaults({ complaints }) {
  assert.deepEqual(complaints.filter((complaint) => !OF_GONE_SOCKET.test(complaint)), []);
}
