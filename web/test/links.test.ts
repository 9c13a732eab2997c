import assert from "node:assert/strict";
import { test } from "node:test";
import { hiddenHost } from "../src/words/links.ts";
import { parseMarkdown } from "../src/words/markdown.ts";

const EVIL = "https://evil.example/bank.example";

test("label that looks like another host reveals the target", () => {
  const labels = [
    "bank.example",
    "Bank.Example",
    "www.evil.example.bank.example",
    "evil.example.com",
    "notevil.example",
    "evil.example:8443",
    "your bank (bank.example)",
    "see https://bank.example/evil.example now",
    "HTTPS://BANK.EXAMPLE",
    "https://localhost",
    "http:bank.example",
    "ftp://bank.example",
    "//bank.example",
    "1https://localhost",
    "...bank.example",
    ".bank.example",
    "-bank.example",
    "https:\\\\bank.example",
    "192.0.2.7",
    "https://[2001:db8::1]/",
    "evil.example bank.example",
    "evil.example, bank.example",
    "bank.example/evil.example",
    // With a user that is no host.
    "https://bank.example@evil.example",
    "https://evil.example@bank.example",
    "bank.example@evil.example",
    // In ASCII and in other letters.
    "xn--bnk-5cd.example",
    "b\u0430nk.example",
    "evil.ex\u0430mple",
    "https://evil.ex\u0430mple",
    "\u{1f170}ank.example",
    // With characters that look like a dot, a slash, a colon, or like none.
    "bank\u3002example",
    "bank\u2024example",
    "bank\uff0eexample",
    "bank\ua4f8example",
    "bank\u0660example",
    "ba\u200bnk.exa\u00admple",
    "bank\u200a.\u200aexample",
    "bank.\u2060example",
    "https:\u2215\u2215bank.example",
    "https\uff1a\uff0f\uff0flocalhost",
    "https\ua789\u2044\u2044localhost",
    "evil.example\u0000bank.example",
    "\u202eelpmaxe.knab",
    "\uff42\uff41\uff4e\uff4b.example",
  ];
  for (const label of labels) assert.equal(hiddenHost(label, EVIL), "evil.example", label);
});

test("label that names its target or no host reveals nothing", () => {
  const labels = ["evil.example", "EVIL.example", "evil.example.", "https://evil.example", "https://evil.example:443/bank.example", "evil.example/bank.example", "(evil.example)", "mail@evil.example", "the bank", "Version 1.2.3", "3.5 %", "Read this. Now", "a...b", "Note: std::vec", "", "...", "\u{1f600}"];
  for (const label of labels) assert.equal(hiddenHost(label, EVIL), undefined, label);
  assert.equal(hiddenHost("192.0.2.7:8080", "http://192.0.2.7:8080/"), undefined);
  assert.equal(hiddenHost("http://[2001:db8::1]:80", "http://[2001:db8::1]/"), undefined);
  assert.equal(hiddenHost("http://localhost:3000/x", "http://localhost:3000/y"), undefined);
});

test("host in other letters is revealed in ASCII", () => {
  assert.equal(hiddenHost("https://b\u00fccher.example", "https://xn--bcher-kva.example/"), "xn--bcher-kva.example");
  assert.equal(hiddenHost("xn--bcher-kva.example", "https://xn--bcher-kva.example/"), undefined);
  const [block] = parseMarkdown("https://b\u00fccher.example");
  assert.equal(block?.kind === "text" && block.children[0]?.kind === "link" && block.children[0].host, "xn--bcher-kva.example");
});

test("long labels are read in linear time", () => {
  for (const part of ["a.", "a", "://", "https:", "a:", "..", "\u0660", "a@"]) {
    const label = part.repeat(100_000);
    const before = performance.now();
    hiddenHost(label, EVIL);
    // A pattern that backtracks takes minutes.
    assert.ok(performance.now() - before < 5_000, part);
  }
});
