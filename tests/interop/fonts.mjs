// Fonts for tests, so that a page looks the same on every machine.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { launch } from "./visitor.mjs";

const require = createRequire(import.meta.url);

/** The font families, and the packages with their files. */
export const FONTS = { Lato: "@expo-google-fonts/lato", "Open Sans": "@expo-google-fonts/open-sans" };

/** Starts a browser with the fonts of only one family; it ends with the test. */
export async function launchWith(test, family) {
  const folder = await mkdtemp(join(tmpdir(), "roomcast-fonts-"));
  const file = join(folder, "fonts.conf");
  const fonts = dirname(require.resolve(FONTS[family]));
  const rows = `<dir>${fonts}</dir><cachedir>${join(folder, "cache")}</cachedir>`;
  await writeFile(file, `<?xml version="1.0"?><fontconfig>${rows}</fontconfig>`);
  const browser = await launch({ ...process.env, FONTCONFIG_FILE: file });
  test.after(async () => {
    await browser.close();
    await rm(folder, { recursive: true });
  });
  return browser;
}

/** Returns the families in which the text of an element is rendered. */
export async function familiesOf(page, selector) {
  const session = await page.context().newCDPSession(page);
  await session.send("DOM.enable");
  await session.send("CSS.enable");
  const { root } = await session.send("DOM.getDocument");
  const { nodeId } = await session.send("DOM.querySelector", { nodeId: root.nodeId, selector });
  const { fonts } = await session.send("CSS.getPlatformFontsForNode", { nodeId });
  await session.detach();
  return fonts.map(({ familyName }) => familyName);
}
