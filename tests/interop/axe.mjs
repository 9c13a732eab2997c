// Runs accessibility rules in a page.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Returns the violations of WCAG 2.2 AA and of best practices in a visitor's page. */
export async function violations({ page }) {
  await page.evaluate(axe);
  // Elements that fade in have their final colours only at the end.
  await page.evaluate(() => {
    for (const animation of document.getAnimations()) if (Number.isFinite(animation.effect.getComputedTiming().endTime)) animation.finish();
  });
  const { violations } = await page.evaluate((values) => globalThis.axe.run({ runOnly: values }), tags);
  return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]);
}
