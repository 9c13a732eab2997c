// Which variants of a test run. Tests are repeated on several backends, or at several sizes of a
// page. `tests/run` sets `TEST_VARIANTS`.

/**
 * Returns the variants of `all` to run: the first `count` in the default tier
 * (`TEST_VARIANTS=first`), the others in the tier `full` (`others`), and all if a file is run by
 * itself.
 */
export function variants(all, count = 1) {
  const which = process.env.TEST_VARIANTS ?? "all";
  const chosen = { all, first: all.slice(0, count), others: all.slice(count) }[which];
  if (!chosen) throw new Error(`TEST_VARIANTS is \`${which}\`, not \`first\`, \`others\` or \`all\``);
  return chosen;
}
