// Every block of code in the documentation is valid in its language. Blocks in Rust are compiled by the tests of the
// library, and the programs of the tutorials run in `tutorials.mjs`.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { command, temporary } from "../interop/support.mjs";

const docs = fileURLToPath(new URL("../../docs", import.meta.url));
const folder = temporary();

/** Returns all blocks of a language, with where they are. */
function blocks(language) {
  const pages = readdirSync(docs, { recursive: true }).filter((name) => name.endsWith(".md"));
  return pages.flatMap((name) => {
    const text = readFileSync(join(docs, name), "utf8");
    const found = text.matchAll(new RegExp(`^( *)\`\`\`${language}\\n([\\s\\S]*?)^ *\`\`\`$`, "gm"));
    return [...found].map((block) => ({
      where: `${name}:${text.slice(0, block.index).split("\n").length}`,
      text: block[2].replaceAll(new RegExp(`^${block[1]}`, "gm"), ""),
    }));
  });
}

/** Expects that each block of a language is accepted, and that there are at least so many. */
function check(language, least, fault) {
  const all = blocks(language);
  assert.ok(all.length >= least, `${all.length} blocks of ${language}`);
  const wrong = all.flatMap((block) => {
    const why = fault(block.text);
    return why ? [`${block.where}: ${why}`] : [];
  });
  assert.deepEqual(wrong, []);
}

/** Runs a program on a file with this text, and returns its error. */
function refused(name, text, program, ...args) {
  const file = join(folder, name);
  writeFileSync(file, text);
  const run = spawnSync(program, [...args, file], { encoding: "utf8" });
  return run.status === 0 ? undefined : `${run.stderr}${run.error ?? ""}`.trim();
}

test("blocks in JavaScript are modules", () => check("js", 50, (text) => refused("block.mjs", text, process.execPath, "--check")));

test("blocks of the shell can be parsed", () => check("sh", 80, (text) => refused("block.sh", text, "bash", "-n")));

test("blocks in Python can be parsed", () => {
  const parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
  check("python", 3, (text) => refused("block.py", text, "python3", "-c", parse));
});

test("blocks in JSON can be parsed", () => {
  check("json", 300, (text) => {
    try {
      JSON.parse(text);
    } catch (error) {
      return error.message;
    }
  });
});

test("blocks of settings have known keys and valid values", () => {
  check("toml", 20, (text) => {
    if (text.includes("[dependencies]") || text.startsWith("roomcast = ")) return undefined;
    const file = join(folder, "roomcast.toml");
    writeFileSync(file, text);
    const { status, stderr } = command(["print-config", "--config", file]);
    return status === 0 ? undefined : stderr.trim();
  });
});
