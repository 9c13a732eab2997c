// The blocks of code in `docs`, in the READMEs and in SECURITY.md, by their language:
//
// - JavaScript and Python are parsed, shell by `bash -n`, JSON and YAML by their parsers.
// - TypeScript is type-checked in strict mode, against the sources of the client package.
// - SQL is executed by PostgreSQL, in a database that `roomcast migrate` has filled.
// - TOML is read by `roomcast print-config`, or names features that the library has.
// - Rust is on pages that `src/lib.rs` includes, whose blocks are compiled as tests of the library,
//   or is an example that `tests/documents/site.rs` compares with its page.
// - `UNCHECKED` lists the languages that nothing here checks, with the reason and the only pages.
//
// `tutorials.mjs` runs the programs of the tutorials.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startPostgres } from "../interop/postgres.mjs";
import { command, temporary } from "../interop/support.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const pg = createRequire(join(root, "tests/interop/package.json"))("pg");
const yaml = createRequire(join(root, "tests/install/package.json"))("yaml");
const folder = temporary();
const read = (name) => readFileSync(join(root, name), "utf8");

const clients = { reason: "neither its compiler nor its client is installed", pages: ["docs/clients.md"] };
const UNCHECKED = {
  text: { reason: "output, files and excerpts in no language of their own" },
  diff: { reason: "tests/documents/site.rs applies them to the sources", pages: ["docs/tutorials/own-event.md"] },
  html: { reason: "tutorials.mjs opens the page in a browser", pages: ["docs/tutorials/first-chat.md"] },
  mermaid: {
    reason: "site.mjs draws the diagrams of these pages",
    pages: ["docs/architecture.md", "docs/scaling.md"],
  },
  java: clients,
  swift: clients,
  dart: clients,
  cpp: clients,
  csharp: clients,
  go: clients,
};

const pages = [
  "README.md",
  "SECURITY.md",
  "benches/README.md",
  "examples/feed/README.md",
  "examples/orders/README.md",
  "fuzz/README.md",
  "protocol/README.md",
  "web/packages/client/README.md",
  ...readdirSync(join(root, "docs"), { recursive: true }).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`),
];

/** Returns all blocks of a page; `attributes` are the words after the language. */
function blocksOf(page) {
  const found = [];
  let open;
  for (const [index, line] of read(page).split("\n").entries()) {
    const [, indent, words] = /^([ >]*)```(.*)$/.exec(line) ?? [];
    if (open) {
      if (words === "") open = undefined;
      else open.lines.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line.trimStart());
    } else if (words !== undefined) {
      const [language, ...attributes] = words.split(",");
      open = { page, where: `${page}:${index + 1}`, indent, language, attributes, lines: [] };
      found.push(open);
    }
  }
  assert.equal(open, undefined, `${open?.where} does not end`);
  return found.map(({ lines, ...block }) => ({ ...block, text: `${lines.join("\n")}\n` }));
}

const all = pages.flatMap(blocksOf);
const checked = new Set();

/** Expects that each block of a language is accepted, and that there are at least so many. */
async function check(language, least, fault) {
  const blocks = all.filter((block) => block.language === language);
  assert.ok(blocks.length >= least, `${blocks.length} blocks of ${language}`);
  const wrong = [];
  for (const block of blocks) {
    const why = await fault(block.text, block);
    if (why) wrong.push(`${block.where}: ${why}`);
  }
  checked.add(language);
  assert.deepEqual(wrong, []);
}

/** Returns the error that a function throws. */
function errorOf(run) {
  try {
    run();
  } catch (error) {
    return error.message;
  }
}

/** Runs a program on a file with this text, and returns its error. */
function refused(name, text, program, ...args) {
  const file = join(folder, name);
  writeFileSync(file, text);
  const run = spawnSync(program, [...args, file], { encoding: "utf8" });
  return run.status === 0 ? undefined : `${run.stdout}${run.stderr}${run.error ?? ""}`.trim();
}

test("blocks in JavaScript are modules", () => check("js", 50, (text) => refused("block.mjs", text, process.execPath, "--check")));

test("blocks of the shell can be parsed", () => check("sh", 100, (text) => refused("block.sh", text, "bash", "-n")));

test("blocks in Python can be parsed", () => {
  const parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
  return check("python", 4, (text) => refused("block.py", text, "python3", "-c", parse));
});

test("blocks in JSON can be parsed", () => check("json", 5, (text) => errorOf(() => JSON.parse(text))));

test("blocks in YAML can be parsed", () => check("yaml", 2, (text) => errorOf(() => yaml.parse(text, { strict: true }))));

/** Names that blocks in TypeScript use and that the application of a reader declares. */
const APPLICATION = `
type Message = import("@roomcast/client").Message;
declare const Server: typeof import("socket.io").Server;
interface ClientEvents { said: (text: string) => void }
declare const url: string;
declare const manager: import("@roomcast/client").SocketManager;
declare const controller: AbortController;
declare const words: AsyncIterable<string>;
declare const conversationId: string;
declare const user: { id: string };
declare const badge: { show(state: string): void };
declare const ticker: { show(symbol: string, price: number): void };
declare const list: {
  mark(id: string, state: string): void;
  show(newest: readonly Message[], hasOlder: boolean): void;
  append(messages: readonly Message[]): void;
};
declare function fetchToken(reason: string): Promise<string>;
`;

test("blocks in TypeScript have correct types", async () => {
  const project = join(folder, "typescript");
  mkdirSync(project);
  const compilerOptions = {
    strict: true,
    noEmit: true,
    target: "es2022",
    lib: ["es2023", "dom"],
    module: "esnext",
    moduleResolution: "bundler",
    moduleDetection: "force",
    allowImportingTsExtensions: true,
    skipLibCheck: true,
    types: [],
    paths: {
      "@roomcast/client": [join(root, "web/packages/client/src/index.ts")],
      "@roomcast/client/channels": [join(root, "web/packages/client/src/channels.ts")],
      "@roomcast/client/share": [join(root, "web/packages/client/src/share.ts")],
      "@roomcast/client/streams": [join(root, "web/packages/client/src/streams.ts")],
      "socket.io": [join(root, "tests/interop/node_modules/socket.io")],
    },
  };
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["application.d.ts", "block.ts"] }));
  writeFileSync(join(project, "application.d.ts"), APPLICATION);
  const fault = (text) => {
    writeFileSync(join(project, "block.ts"), text);
    const run = spawnSync(join(root, "web/node_modules/.bin/tsc"), ["-p", project], { encoding: "utf8" });
    return run.status === 0 ? undefined : `${run.stdout}${run.error ?? ""}`.trim();
  };
  await check("ts", 5, fault);
  // Types are checked, and not replaced by `any`, in the package and in the official server.
  const using = 'import { SocketManager } from "@roomcast/client";\nnew SocketManager(url, ';
  assert.match(fault(`${using}{ identity: 7 });`), /TS2322/);
  assert.match(fault('new Server<ClientEvents, { typing: (who: string) => void }>().emit("typing", 7);'), /TS2345/);
});

test("blocks in SQL are executed by PostgreSQL", async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.end());
  const at = (database) => postgres.url.replace(/\/postgres$/, `/${database}`);
  postgres.query("CREATE ROLE chat; CREATE ROLE shop");
  postgres.query("CREATE DATABASE chat");
  const migrated = command(["migrate"], { ROOMCAST_STORE: at("chat") });
  assert.equal(migrated.status, 0, migrated.stderr);
  const execute = async (database, sql) => {
    const client = new pg.Client({ connectionString: at(database) });
    await client.connect();
    try {
      return await client.query(sql);
    } finally {
      await client.end();
    }
  };
  await execute("chat", "CREATE TABLE orders (id int PRIMARY KEY, state text); INSERT INTO orders VALUES (4711, 'paid')");
  let count = 0;
  // Each block has a database of its own, because blocks of several pages create the same tables.
  const fault = async (text) => {
    const database = `block${(count += 1)}`;
    postgres.query(`CREATE DATABASE ${database} TEMPLATE chat`);
    return execute(database, text).then(() => undefined, (error) => error.message);
  };
  await check("sql", 8, fault);
  assert.match(await fault("GRANT SELECT ON mesages TO chat;"), /"mesages" does not exist/);
});

/** Returns what is wrong with an entry for the library in a manifest of Cargo. */
function faultOfManifest(text) {
  const parse = "import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], 'rb'))))";
  const file = join(folder, "Cargo.toml");
  writeFileSync(file, text);
  const run = spawnSync("python3", ["-c", parse, file], { encoding: "utf8" });
  if (run.status !== 0) return run.stderr.trim();
  const manifest = JSON.parse(run.stdout);
  const { roomcast } = manifest.dependencies ?? manifest;
  const library = read("Cargo.toml").split("[package]")[1];
  const features = library.split("\n[features]\n")[1].split("\n[")[0];
  const version = /^version = "(.*)"$/m.exec(library)[1];
  const unknown = (roomcast.features ?? []).filter((name) => !new RegExp(`^${name} = `, "m").test(features));
  if (unknown.length > 0) return `the library has no feature ${unknown}`;
  if (roomcast.version && !version.startsWith(`${roomcast.version}.`)) return `the library has version ${version}`;
  return roomcast.version || roomcast.path ? undefined : "neither a version nor a path";
}

const isManifest = (text) => text.includes("[dependencies]") || text.startsWith("roomcast = ");

test("blocks of settings have known keys and valid values", () =>
  check("toml", 25, (text) => {
    if (isManifest(text)) return faultOfManifest(text);
    const file = join(folder, "roomcast.toml");
    writeFileSync(file, text);
    const { status, stderr } = command(["print-config", "--config", file]);
    return status === 0 ? undefined : stderr.trim();
  }));

test("blocks in Rust are compiled by the tests of the library", async () => {
  const included = [...read("src/lib.rs").matchAll(/^#!?\[doc = include_str!\("\.\.\/(.*)"\)\]$/gm)].map(([, page]) => page);
  const compared = [...read("tests/documents/site.rs").matchAll(/\("(docs\/tutorials\/.*)", "examples\/.*"\)/g)].map(([, page]) => page);
  assert.ok(included.length >= 9 && compared.length >= 2, `${included} ${compared}`);
  const fault = (_, { page, attributes }) => {
    const unknown = attributes.filter((word) => word !== "no_run");
    if (unknown.length > 0) return `is not compiled: ${unknown}`;
    return [...included, ...compared].includes(page) ? undefined : `src/lib.rs does not include ${page}`;
  };
  await check("rust", 50, fault);
});

test("every language is checked, or is known not to be", () => {
  const used = new Set(all.map(({ language }) => language));
  assert.deepEqual([...checked].filter((language) => language in UNCHECKED), []);
  assert.deepEqual(Object.keys(UNCHECKED).filter((language) => !used.has(language)), []);
  const wrong = all.filter(({ language, page }) => {
    const { pages = [page] } = UNCHECKED[language] ?? { pages: [] };
    return !checked.has(language) && !pages.includes(page);
  });
  assert.deepEqual(wrong.map(({ where, language }) => `${where}: ${language || "no language"}`), []);
});
