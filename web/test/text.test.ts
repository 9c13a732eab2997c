import assert from "node:assert/strict";
import { test } from "node:test";
import { cleanContent, cleanName, hue, initials, isPicture, scalarCount, webAddress } from "../src/words/text.ts";

test("characters are counted as Unicode scalar values", () => {
  assert.equal(scalarCount(""), 0);
  assert.equal(scalarCount("häuser"), 6);
  assert.equal(scalarCount("😀😀"), 2);
  assert.equal(scalarCount("👩‍🚀"), 3);
  assert.equal(scalarCount("\ud83d"), 1);
  assert.equal(scalarCount("\ude00\ud83d😀"), 3);
});

test("content retains its lines and loses characters the server refuses", () => {
  assert.equal(cleanContent("one\r\ntwo\tthree"), "one\ntwo\tthree");
  assert.equal(cleanContent("a\u0000b\u001bc\u007fd\u0085e"), "abcde");
  assert.equal(cleanContent("\ud83dx"), "\ufffdx");
});

test("content is trimmed but retains the indent of its first line", () => {
  assert.equal(cleanContent("\n \n  indented\nlast \n\n"), "  indented\nlast");
  assert.equal(cleanContent(" \n\t"), "");
});

test("a name is one line of words", () => {
  assert.equal(cleanName("  Ada\n\tLovelace "), "Ada Lovelace");
  assert.equal(cleanName("\u0000"), "");
  assert.equal(cleanName("\ufeffA\u200bd\u202ea\u2028 \u{e0041}L"), "Ada L");
  assert.equal(cleanName("\u2764\ufe0f"), "\u2764\ufe0f");
});

test("initials are of the first and the last word", () => {
  assert.equal(initials("Ada King Lovelace"), "AL");
  assert.equal(initials("bob"), "B");
  assert.equal(initials("😀 x"), "😀X");
  assert.equal(initials("---"), "?");
});

test("names that differ by their number have different initials", () => {
  const names = ["room-1", "room-11", "room-12", "room-111", "Room 2026", "42", "7", "x7"];
  assert.deepEqual(names.map(initials), ["R1", "R11", "R12", "111", "R26", "42", "7", "X7"]);
});

test("a user's hue is stable and within the color wheel", () => {
  assert.equal(hue("guest:1"), hue("guest:1"));
  assert.notEqual(hue("guest:1"), hue("guest:2"));
  assert.ok(hue("guest:1") >= 0 && hue("guest:1") < 360);
});

test("only web addresses become links", () => {
  assert.equal(webAddress("https://example.com/a.png"), "https://example.com/a.png");
  assert.equal(webAddress("javascript:alert(1)"), undefined);
  assert.equal(webAddress("data:image/png;base64,AA"), undefined);
  assert.equal(webAddress("//example.com"), undefined);
  assert.equal(webAddress(7), undefined);
});

test("a picture is shown only if its address literally has a listed origin", () => {
  const origins = ["https://img.example.org", "http://127.0.0.1:9000"];
  for (const url of ["https://img.example.org/", "https://img.example.org/a.png?b#c", "https://img.example.org/@evil.example", "http://127.0.0.1:9000/a"]) {
    assert.equal(isPicture(url, origins), true, url);
    assert.equal(isPicture(url, []), false, url);
    assert.equal(isPicture(url, [""]), false, url);
  }
  const hostile = [
    "javascript:https://img.example.org/",
    "JaVaScRiPt://img.example.org/%0aalert(1)",
    "data:image/png;base64,AA",
    "blob:https://img.example.org/0f8fad5b-d9cb-469f-a165-70867728950e",
    "https://user@img.example.org/a.png",
    "https://user:word@img.example.org/a.png",
    "https://img.example.org@evil.example/a.png",
    "https://img.example.org\\@evil.example/a.png",
    "https://img.example.org:8443/a.png",
    "https://img.example.org:443/a.png",
    "http://img.example.org/a.png",
    "https://img.example.org.evil.example/a.png",
    "https://img.example.organisation/a.png",
    "https://evil.example/https://img.example.org/a.png",
    "https://img.example.org./a.png",
    "https://IMG.example.org/a.png",
    "HTTPS://img.example.org/a.png",
    "https://img\u3002example\u3002org/a.png",
    "https://\u0456mg.example.org/a.png",
    "https:img.example.org/a.png",
    "https:\\\\img.example.org/a.png",
    "https:///img.example.org/a.png",
    "//img.example.org/a.png",
    " https://img.example.org/a.png",
    "ht\ntps://img.example.org/a.png",
    "https://img.exa\tmple.org/a.png",
    "https://img.example.org",
    "https://img.example.org?a",
    "https://img.example.org#a",
    "http://127.1:9000/a",
    "http://2130706433:9000/a",
    "http://[::ffff:127.0.0.1]:9000/a",
    "/a.png",
    "",
    undefined,
    null,
    7,
    ["https://img.example.org/a.png"],
    { toString: () => "https://img.example.org/a.png" },
  ];
  for (const url of hostile) assert.equal(isPicture(url, origins), false, String(url));
});
