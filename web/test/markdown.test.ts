import assert from "node:assert/strict";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { closed, type Block, type Inline, InlineCache, excerptOf, isSameBlock, parseMarkdown } from "../src/words/markdown.ts";

/** Returns parsed Markdown in a short notation. */
function written(text: string): string {
  return parseMarkdown(text).map(block).join("|");
}

function block(piece: Block): string {
  switch (piece.kind) {
    case "text":
      return piece.children.map(inline).join("");
    case "code":
      return `pre(${piece.text})`;
    case "quote":
      return `quote(${piece.children.map(block).join("|")})`;
    case "list":
      return `list${piece.start ?? ""}(${piece.items.map((item) => item.map(inline).join("")).join("|")})`;
  }
}

function inline(piece: Inline): string {
  switch (piece.kind) {
    case "text":
      return piece.text;
    case "code":
      return `code(${piece.text})`;
    case "link":
      return `a(${piece.href} ${piece.children.map(inline).join("")})`;
    case "strong":
    case "emphasis":
      return `${piece.kind}(${piece.children.map(inline).join("")})`;
  }
}

/** Asserts that a text is parsed as plain text, with its marks. */
function plain(text: string): void {
  assert.deepEqual(parseMarkdown(text), [{ kind: "text", children: [{ kind: "text", text }] }], text);
}

test("bold, italic, code and links follow Markdown", () => {
  assert.equal(written("**bold** and *italic* and _too_ and `code`"), "strong(bold) and emphasis(italic) and emphasis(too) and code(code)");
  assert.equal(written("**bold *and italic* in it**"), "strong(bold emphasis(and italic) in it)");
  assert.equal(written("`**no** bold`"), "code(**no** bold)");
  assert.equal(written("[text](https://example.org/a)"), "a(https://example.org/a text)");
});

test("lists, quotes and code blocks are made of whole lines", () => {
  assert.equal(written("before\n- one\n- **two**\nafter"), "before|list(one|strong(two))|after");
  assert.equal(written("3. three\n4. four"), "list3(three|four)");
  assert.equal(written("> quoted\n> - in it\nafter"), "quote(quoted|list(in it))|after");
  assert.equal(written("```js\nlet x = **1**;\n\n```\nafter"), "pre(let x = **1**;\n)|after");
});

test("an address in a sentence is a link without the punctuation around it", () => {
  assert.equal(written("see https://example.org/a_b_c, or (https://example.org/(x))."), "see a(https://example.org/a_b_c https://example.org/a_b_c), or (a(https://example.org/(x) https://example.org/(x))).");
  assert.equal(written("https://example.org/?q=*a*"), "a(https://example.org/?q=*a https://example.org/?q=*a)*");
});

test("text without marks is preserved with its spaces and lines", () => {
  for (const text of ["2 * 3 * 4 = 24", "a*b*c", "snake_case_name", "**", "`", "[x](", "  indented\ntext ", "\n\nafter lines", "before lines\n \n", "-no list", "1.no", "```\nnever closed", ""]) plain(text);
});

test("each paragraph is a block that includes the blank lines after it", () => {
  assert.equal(written("  one\ntwo\n \n\n three"), "  one\ntwo\n \n\n| three");
  assert.equal(written("one\n\n- item\n\ntwo\n\nthree"), "one\n|list(item)|\ntwo\n\n|three");
  assert.equal(written("**one\n\ntwo** *three*"), "**one\n\n|two** emphasis(three)");
  assert.deepEqual(parseMarkdown("one\n\ntwo\n- item\nthree").map((piece) => "isNext" in piece), [false, true, false, false]);
});

test("addresses that run code or pretend to be others are no links", () => {
  for (const text of ["[x](javascript:alert(1))", "[x](data:text/html,x)", "javascript:alert(1)", "[x](//evil.example)", "https://bank.example@evil.example/", "[x](https://user:word@evil.example)"]) {
    assert.ok(!written(text).includes("a("), text);
  }
});

test("ten thousand marks of any kind are parsed in linear time", () => {
  for (const mark of ["*", "**", "_", "`", "[", "> ", "- ", "1. ", "**a ", "*a ", "[a](", "```\n", "https://a "]) {
    const text = mark.repeat(10_000 / mark.length);
    assert.ok(parseMarkdown(text).length > 0, mark);
  }
  const address = `http://a/${".".repeat(5000)}a`;
  assert.equal(written(`${address}${").".repeat(2500)}`), `a(${address} ${address})${").".repeat(2500)}`);
});

test("an excerpt is one line of what is shown, without marks", () => {
  assert.equal(excerptOf("Then **we _ship_** today:\n- `p99`\n- [notes](https://example.org/)\n> and 2 * 3"), "Then we ship today: p99 notes and 2 * 3");
  assert.equal(excerptOf(`**${"a".repeat(300)}**`), "a".repeat(120));
  assert.equal(excerptOf("```\nlet x;\n```"), "let x;");
  assert.ok(excerptOf("> ".repeat(5_000)).length <= 120);
});

test("a block of code that is still being written is closed", () => {
  assert.equal(closed("a\n```\nlet a"), "a\n```\nlet a\n```");
  assert.equal(closed("```js\nlet a\n"), "```js\nlet a\n```");
  for (const whole of ["", "a ``` b", "```\nlet a\n```", "```\nlet a\n```\n- b"]) assert.equal(closed(whole), whole);
});

test("each prefix of a growing text is parsed as by itself", () => {
  const paragraph = "A paragraph with **bold** words, `code` and a [link](https://example.org/) to *read*.";
  const kinds = [`${paragraph}\n${paragraph}\n\n\n${paragraph}`, "- one\n- **two**\n- one\n", "3. three\n4. four", "> quoted\n>\n> - in it\n> - **two**", "```js\nlet a = **1**;\n\nlet b;\n```", paragraph];
  const text = [...kinds, ...kinds.toReversed()].join("\n\n");
  const cache = new InlineCache();
  let before: Block[] = [];
  let drawnAgain = 0;
  for (let end = 0; end <= text.length; end += 1) {
    const prefix = closed(text.slice(0, end));
    cache.advance();
    const blocks = parseMarkdown(prefix, 0, cache.parse);
    assert.deepEqual(blocks, parseMarkdown(prefix), prefix);
    // A block is drawn again if, and only if, it has changed.
    const areSame = blocks.map((piece, index) => before[index] !== undefined && isSameBlock(piece, before[index]));
    assert.deepEqual(areSame, blocks.map((piece, index) => isDeepStrictEqual(piece, before[index])), prefix);
    drawnAgain += areSame.filter((isSame) => !isSame).length;
    before = blocks;
  }
  assert.ok(drawnAgain < text.length * 1.1, `${drawnAgain} blocks drawn for ${text.length} characters`);
});
