import assert from "node:assert/strict";
import { test } from "node:test";
import { excerptAround, wordsOf } from "../src/words/excerpt.ts";

/** Returns an excerpt as text, with its matches in brackets. */
function marked(content: string, query: string): string {
  return excerptAround(content, query)
    .map(({ text, isMatch }) => (isMatch ? `[${text}]` : text))
    .join("");
}

test("words are runs of letters and digits in lower case", () => {
  assert.deepEqual(wordsOf("Hello, WORLD-2! a.b_c"), ["hello", "world", "2", "a", "b", "c"]);
  assert.deepEqual(wordsOf("ÄRGER हिन्दी"), ["ärger", "हिन्दी"]);
  assert.deepEqual(wordsOf(" *:'\"()-^😀 "), []);
});

test("whole words match, and words that begin with the last word", () => {
  assert.equal(marked("Hello hell shell, HELLO!", "hell"), "[Hello] [hell] shell, [HELLO]!");
  assert.equal(marked("hello world, hell or work", "hell wor"), "hello [world], [hell] or [work]");
  assert.equal(marked("Größe 128", "128 GRÖ"), "[Größe] [128]");
  assert.equal(marked("İstanbul and more", "mo"), "İstanbul and [more]");
  assert.equal(marked("你好世界", "你"), "[你好世界]");
  assert.equal(marked("cafe\u0301 au lait", "cafe"), "[cafe\u0301] au lait");
});

test("operators and HTML in a query or a message are text", () => {
  assert.equal(marked("<b>hello</b> & $& (hello)", "\"hello\" OR <b"), "<[b]>[hello]</[b]> & $& ([hello])");
  assert.equal(marked(".* hello \\d", "hel.*"), ".* [hello] \\d");
  assert.equal(marked("hello", "!"), "hello");
  assert.equal(marked("hello", ""), "hello");
});

test("the excerpt is around the matches, far into the message", () => {
  const far = `${"word ".repeat(1000)}before the needle after ${"more ".repeat(1000)}`;
  const excerpt = marked(far, "need");
  assert.match(excerpt, /^…word .*before the \[needle\] after more .*…$/);
  assert.ok(excerpt.length < 180, excerpt);
  assert.ok(excerpt.indexOf("[needle]") < 60, excerpt);
});

test("the excerpt is where most of the words are", () => {
  const content = `alpha ${"and then ".repeat(50)}alpha with omega, ${"and so on ".repeat(50)}omega`;
  assert.match(marked(content, "alpha ome"), /^….*\[alpha\] with \[omega\], and so on .*…$/);
});

test("a message without a match is shown from its beginning", () => {
  assert.equal(marked("nothing here", "else"), "nothing here");
  assert.equal(marked("x ".repeat(200), "else"), `${"x ".repeat(80).trim()}…`);
});

test("a short message has no ellipsis", () => {
  assert.equal(marked(`${"a".repeat(155)} end`, "end"), `…${"a".repeat(39)} [end]`);
  assert.equal(marked(`hello ${"b".repeat(154)}`, "hello"), `[hello] ${"b".repeat(154)}`);
  assert.equal(marked(`hello ${"b".repeat(155)}`, "hello"), `[hello] ${"b".repeat(154)}…`);
});

test("Markdown marks are removed unless the match is within them", () => {
  assert.equal(marked("**bold** and\n> a `quote`", "quo"), "bold and a [quote]");
  assert.equal(marked("see [the page](https://example.org/hidden)", "page"), "see the [page]");
  assert.equal(marked("see [the page](https://example.org/hidden)", "hidden"), "see [the page](https://example.org/[hidden])");
});

test("an excerpt does not begin within a character", () => {
  for (const lead of ["", "x"]) {
    const content = `${lead}${"😀".repeat(100)}needle`;
    const excerpt = marked(content, "needle");
    assert.ok(excerpt.isWellFormed(), excerpt);
    assert.ok(excerpt.endsWith("😀[needle]"), excerpt);
  }
});

test("an excerpt of a hostile message is short and computed quickly", () => {
  const begin = performance.now();
  for (const content of ["*a ".repeat(3333), "`a ".repeat(3333), "[a](".repeat(2500), "a ".repeat(5000), "(".repeat(10_000)]) {
    assert.ok(marked(content, "a").length < 600);
  }
  assert.ok(performance.now() - begin < 2000);
});
