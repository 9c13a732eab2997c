// Checks the published package: its files, their size, and their types in a strict project.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "vite";

// The working directory of the tests is `web`.
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

test("the package has its code, types, source maps, licences and README only", () => {
  const sources = readdirSync(join(client, "src"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  const modules = sources.map((name) => name.replace(/\.ts$/, ""));
  const expected = [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "package.json",
    ...modules.flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.js`, `dist/${name}.js.map`]),
  ];
  assert.deepEqual(files.toSorted(), expected.toSorted());
  for (const name of ["LICENSE-APACHE", "LICENSE-MIT"]) {
    assert.equal(readFileSync(join(installed, name), "utf8"), readFileSync(join(web, "..", name), "utf8"), name);
  }
});

test("source maps contain the sources and resolve stack traces", () => {
  for (const name of ["index", "conversation", "line/socket"]) {
    const map = JSON.parse(readFileSync(join(installed, `dist/${name}.js.map`), "utf8"));
    assert.deepEqual(map.sourcesContent, [readFileSync(join(client, `src/${name}.ts`), "utf8")]);
  }
  const program = `import { RequestError } from "@roomcast/client";
    console.log(new RequestError({ code: "X", get message() { return new Error("here").stack; } }).message);`;
  const stack = execFileSync("node", ["--enable-source-maps", "--input-type=module", "--eval", program], { cwd: project, encoding: "utf8" });
  const line = readFileSync(join(client, "src/failure.ts"), "utf8").split("\n").findIndex((text) => text.includes("constructor({")) + 1;
  assert.match(stack, new RegExp(`new RequestError \\(.*src/failure\\.ts:${line}:`));
});

/**
 * Bundles the exports of these modules, without `socket.io-client`. Returns the code of the first
 * and the compressed sizes of all.
 */
async function bundle(...names: string[]): Promise<{ code: string; sizes: number[] }> {
  const input = names.map((name) => join(installed, `dist/${name}.js`));
  const built = await build({
    configFile: false,
    logLevel: "error",
    root: project,
    build: { write: false, rollupOptions: { input, external: ["socket.io-client"], preserveEntrySignatures: "strict" } },
  });
  const [made] = [built].flat();
  assert.ok(made !== undefined && "output" in made);
  const chunks = made.output.filter((chunk) => chunk.type === "chunk");
  return { code: chunks[0]?.code ?? "", sizes: chunks.map(({ code }) => gzipSync(code, { level: 9 }).length) };
}

test("the package has at most 8 KiB, compressed and without the official client", async () => {
  const { code, sizes } = await bundle("index");
  assert.match(code, /from ?["'`]socket\.io-client["'`]/);
  assert.match(code, /as SocketManager/);
  const [size = 0, ...others] = sizes;
  assert.ok(size <= 8 * 1024, `${size} bytes`);
  assert.deepEqual(others, [], "nothing is loaded later");
});

test("share, streams and channels have at most 2.5, 2 and 2.75 KiB more", async () => {
  const alone = await bundle("index");
  assert.doesNotMatch(alone.code, /BroadcastChannel|append_message|channel:subscribe/);
  const sum = (sizes: number[]) => sizes.reduce((total, size) => total + size, 0);
  for (const [name, most] of [["share", 2.5], ["streams", 2], ["channels", 2.75]] as const) {
    const both = await bundle("index", name);
    const more = sum(both.sizes) - sum(alone.sizes);
    assert.ok(more > 0 && more <= most * 1024, `${name}: ${more} bytes`);
  }
});

test("the packed package can be installed and imported", () => {
  const folder = join(project, "installed");
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), '{"type":"module","private":true}');
  const [tarball] = readdirSync(project).filter((name) => name.endsWith(".tgz"));
  // Nothing is downloaded: the dependencies of the package are linked from here.
  const options = ["--offline", "--omit=peer", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  execFileSync("npm", ["install", ...options, join(project, tarball ?? "")], { cwd: folder, encoding: "utf8", stdio: "pipe" });
  symlinkSync(join(web, "node_modules/socket.io-client"), join(folder, "node_modules/socket.io-client"));
  const program = `import { SocketManager, memoryStorage } from "@roomcast/client";
    const manager = new SocketManager("http://127.0.0.1:9", { storage: memoryStorage(), identity: "ada" });
    manager.conversation("0f8fad5b-d9cb-469f-a165-70867728950e").send("hello");
    console.log(manager.status.state, manager.queue.entries.map(({ event, state }) => event + " " + state).join());`;
  const output = execFileSync("node", ["--input-type=module", "--eval", program], { cwd: folder, encoding: "utf8", timeout: 20_000 });
  assert.equal(output.trim(), "idle message queued");
  const manifest = JSON.parse(readFileSync(join(folder, "node_modules/@roomcast/client/package.json"), "utf8"));
  assert.deepEqual(manifest.publishConfig, { access: "public" });
  assert.equal(manifest.private, undefined);
});

/** Compiles application code in strict mode, with the module resolution of Node or of a bundler. */
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

test("the examples of the README compile, and its commands are those that build", () => {
  const readme = readFileSync(join(installed, "README.md"), "utf8");
  const examples = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code);
  assert.ok(examples.length >= 2);
  const surroundings = `declare function fetchToken(reason: string): Promise<string>;
declare const user: { id: string };
declare const badge: { show(state: string): void };
declare const list: Record<"mark" | "show" | "append", (...args: unknown[]) => void>;
declare const ticker: { show(symbol: string, price: number): void };
`;
  const program = examples.join("\n").replaceAll(/^import .*$/gm, "");
  const imports = examples.flatMap((code) => code?.match(/^import .*$/gm) ?? []);
  compile("readme", [...new Set(imports), surroundings, program].join("\n"));
  const commands = readme.match(/```sh\n(.*?)```/s)?.[1] ?? "";
  const { version } = JSON.parse(readFileSync(join(client, "package.json"), "utf8"));
  assert.ok(commands.includes(`roomcast-client-${version}.tgz`), "the name of what npm packs");
  const { scripts } = JSON.parse(readFileSync(join(web, "package.json"), "utf8"));
  for (const [, script] of commands.matchAll(/npm run (\w+)/g)) assert.ok(script !== undefined && script in scripts, script);
  assert.doesNotMatch(commands, /npm install @roomcast/, "it is in no registry");
});

test("the types compile in a strict project", () => {
  compile("types", readFileSync(join(client, "test/sample.ts"), "utf8"));
});

test("a client that uses every event of the catalogue compiles, as examples of the server have them", () => {
  compile("events", readFileSync(join(client, "test/events.ts"), "utf8"));
});

test("events and fields outside the catalogue do not compile", () => {
  compile(
    "mistakes",
    `import type { AcknowledgedEvents, ClientToServerEvents, ServerToClientEvents, UnacknowledgedEmit } from "@roomcast/client";
import { type Socket, io } from "socket.io-client";
const socket: Socket<ServerToClientEvents, AcknowledgedEvents> & UnacknowledgedEmit = io();
const plain: Socket<ServerToClientEvents, ClientToServerEvents> = io();
const conversationId = "0f8fad5b-d9cb-469f-a165-70867728950e";
export async function mistakes(): Promise<void> {
  // @ts-expect-error There is no such event.
  socket.on("mesage", () => {});
  // @ts-expect-error Nor one to send.
  await socket.emitWithAck("mesage", {});
  // @ts-expect-error A message has a text.
  await socket.emitWithAck("message", { conversationId });
  // @ts-expect-error It is a text.
  await socket.emitWithAck("message", { conversationId, content: 7 });
  // @ts-expect-error There is no such field.
  await socket.emitWithAck("message", { conversationId, content: "hello", contents: "hello" });
  // @ts-expect-error What is not there is left out.
  await socket.emitWithAck("message", { conversationId, content: "hello", clientMessageId: undefined });
  // @ts-expect-error There is no such type.
  await socket.emitWithAck("message", { conversationId, content: "hello", type: "robot" });
${["socket", "plain"].map(
  (some) => `
  // @ts-expect-error A message has a payload.
  ${some}.emit("message");
  // @ts-expect-error Its content is a text, also without an acknowledgement.
  ${some}.emit("message", { conversationId, content: 7 });
  // @ts-expect-error An id alone stands for no message.
  ${some}.emit("message", conversationId);
  // @ts-expect-error An id is a text.
  ${some}.emit("join_conversation", 7);
  // @ts-expect-error The symbols are needed.
  ${some}.emit("subscribe:prices");`,
).join("")}
  plain.emit("message", { conversationId, content: "hello" }, (answer) => {
    // @ts-expect-error It may have been refused.
    console.log(answer.message);
  });
  const answer = await socket.emitWithAck("message", { conversationId, content: "hello" });
  // @ts-expect-error It may have been refused.
  console.log(answer.message);
  // @ts-expect-error A message has no such field.
  socket.on("message", ({ text }) => console.log(text));
  // @ts-expect-error That event has no confirmation.
  socket.on("message_edited", (_, confirm) => confirm?.());
}
`,
  );
});
