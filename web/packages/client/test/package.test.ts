// What would be published: which files, their size, their types in somebody's strict project, and that the catalogue
// of events is the server's.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "vite";

// The tests are started in `web`.
const web = process.cwd();
const client = resolve("packages/client");
const tsc = resolve("node_modules/.bin/tsc");
const project = mkdtempSync(join(tmpdir(), "roomcast-client-"));
const installed = join(project, "node_modules/@roomcast/client");
let files: string[];

before(() => {
  const options = { cwd: client, encoding: "utf8", env: { ...process.env, npm_config_loglevel: "error" } } as const;
  rmSync(join(client, "dist"), { recursive: true, force: true });
  execFileSync(tsc, ["-p", "tsconfig.json"], options);
  const [packed] = JSON.parse(execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", project], options));
  files = packed.files.map(({ path }: { path: string }) => path);
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", join(project, packed.filename), "-C", installed, "--strip-components=1"]);
  symlinkSync(join(web, "node_modules/socket.io-client"), join(project, "node_modules/socket.io-client"));
});
after(() => rmSync(project, { recursive: true }));

test("the package has its code, its types, its licences and its page, and nothing else", () => {
  const sources = readdirSync(join(client, "src"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  const modules = sources.map((name) => name.replace(/\.ts$/, ""));
  const expected = [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "package.json",
    ...modules.flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.js`]),
  ];
  assert.deepEqual(files.toSorted(), expected.toSorted());
  for (const name of ["LICENSE-APACHE", "LICENSE-MIT"]) {
    assert.equal(readFileSync(join(installed, name), "utf8"), readFileSync(join(web, "..", name), "utf8"), name);
  }
});

test("the package has at most 8 KiB, compressed and without the official client", async () => {
  const input = join(installed, "dist/index.js");
  const built = await build({
    configFile: false,
    logLevel: "error",
    root: project,
    build: { write: false, rollupOptions: { input, external: ["socket.io-client"], preserveEntrySignatures: "strict" } },
  });
  const [bundle] = [built].flat();
  assert.ok(bundle !== undefined && "output" in bundle);
  const [chunk] = bundle.output;
  assert.match(chunk.code, /from ?["'`]socket\.io-client["'`]/);
  assert.match(chunk.code, /as SocketManager/);
  const size = gzipSync(chunk.code, { level: 9 }).length;
  assert.ok(size <= 8 * 1024, `${size} bytes`);
});

/** Compiles what somebody would write, as strictly as there is, and resolves modules as Node or as a bundler does. */
function compile(name: string, source: string): void {
  for (const [module, moduleResolution] of [["nodenext", "nodenext"], ["esnext", "bundler"]]) {
    const folder = join(project, `${name}-${module}`);
    mkdirSync(folder);
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    writeFileSync(join(folder, "sample.ts"), source);
    const compilerOptions = { strict: true, exactOptionalPropertyTypes: true, noEmit: true, target: "es2022", types: [], module, moduleResolution, lib: ["es2022", "dom"] };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["sample.ts"] }));
    try {
      execFileSync(tsc, ["-p", folder], { encoding: "utf8", stdio: "pipe" });
    } catch (error) {
      assert.fail(`${module}: ${(error as { stdout: string }).stdout}`);
    }
  }
}

test("its types hold in a strict project", () => {
  compile("types", readFileSync(join(client, "test/sample.ts"), "utf8"));
});

interface Schema {
  type?: string | string[];
  enum?: string[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean;
}

/** The server's schema as a type; `null` means what leaving out means. */
function typeOf(schema: Schema): string {
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const [type] = [schema.type ?? "unknown"].flat().filter((name) => name !== "null");
  if (type === "integer") return "number";
  if (type === "array") return `${typeOf(schema.items ?? {})}[]`;
  if (type !== "object") return type ?? "unknown";
  if (schema.properties === undefined) return "{ [name: string]: unknown }";
  const fields = Object.entries(schema.properties).map(([name, field]) => {
    return `${name}${schema.required?.includes(name) ? "" : "?"}: ${typeOf(field)}`;
  });
  return `{ ${fields.join("; ")} }`;
}

test("the catalogue has exactly the events and payloads that the server takes", () => {
  const document = readFileSync(join(web, "../docs/events.md"), "utf8");
  const schemas = [...document.matchAll(/^## `([^`]+)`\n\n```json\n([\s\S]*?)\n```$/gm)].map(([, name, json]) => {
    return [name ?? "", typeOf(JSON.parse(json ?? "") as Schema)] as const;
  });
  assert.ok(schemas.length > 10);
  const payloads = schemas.map(([name, type]) => `  ${JSON.stringify(name)}: ${type};`);
  compile(
    "catalogue",
    `import type { Requests } from "@roomcast/client";
interface Server {
${payloads.join("\n")}
}
type Same<One, Other> = [One] extends [Other] ? ([Other] extends [One] ? ([keyof One] extends [keyof Other] ? true : never) : never) : never;
type Fields<Type> = { [Name in keyof Type as string extends Name ? never : number extends Name ? never : Name]-?: true };
export const events: Same<keyof Requests, keyof Server> = true;
export const fields: { [Name in keyof Server]: Same<Fields<Requests[Name]["payload"]>, Fields<Server[Name]>> } = {
${schemas.map(([name]) => `  ${JSON.stringify(name)}: true,`).join("\n")}
};
export const payloads: { [Name in keyof Server]: Same<Requests[Name]["payload"], Server[Name]> } = {
${schemas.map(([name]) => `  ${JSON.stringify(name)}: true,`).join("\n")}
};
`,
  );
});

test("the catalogue has exactly the events that the server sends", () => {
  const document = readFileSync(join(web, "../docs/chat.md"), "utf8");
  const table = document.split("## What the server sends\n\n")[1]?.split("\n\n")[0] ?? "";
  const named = [...table.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name);
  const source = readFileSync(join(client, "src/types.ts"), "utf8");
  const events = source.split("export interface ServerEvents {")[1] ?? "";
  const typed = [...events.matchAll(/^ {2}"?([\w:]+)"?: \(/gm)].map(([, name]) => name);
  assert.ok(named.length > 10);
  assert.deepEqual(typed.toSorted(), named.toSorted());
});

