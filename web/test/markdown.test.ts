import assert from "node:assert/strict";
import { test } from "node:test";
import { closed, type Block, type Inline, excerptOf, parseMarkdown } from "../src/words/markdown.ts";

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
  for (const text of ["2 * 3 * 4 = 24", "a*b*c", "snake_case_name", "**", "`", "[x](", "  indented\n\n\ntext ", "-no list", "1.no", "```\nnever closed", ""]) plain(text);
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
