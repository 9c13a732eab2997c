// The tutorials, as a reader follows them: the programs and commands of the pages run unchanged,
// except for the address of the server, and print what the pages say.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch as start, lastingPort } from "../interop/processes.mjs";
import { example, program, startServer, temporary, until, within } from "../interop/support.mjs";
import { launch } from "../interop/visitor.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const modules = join(root, "tests/interop/node_modules");

/** Returns the code blocks of a tutorial in their order, with their languages. */
function blocksOf(name) {
  const page = readFileSync(join(root, `docs/tutorials/${name}.md`), "utf8");
  return [...page.matchAll(/^ *```(\w+)\n([\s\S]*?)^ *```$/gm)].map(([, language, text]) => ({ language, text }));
}

/** Returns the only block of a language that contains a text. */
function block(blocks, language, part) {
  const found = blocks.filter((one) => one.language === language && one.text.includes(part));
  assert.equal(found.length, 1, `blocks of ${language} with ${part}`);
  return found[0].text;
}

const here = (text, url) => text.replaceAll("http://localhost:3000", url);

/** Creates the folder of a reader, with the client installed, and the program on the path. */
function reader(t, url) {
  const folder = mkdtempSync(join(tmpdir(), "roomcast-reader-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(modules, join(folder, "node_modules"));
  // Later commands of the reader use the key of the server that runs.
  const env = { PATH: `${dirname(program)}:${process.env.PATH}`, XDG_STATE_HOME: state, ROOMCAST_SERVER__ADMIN_LISTEN: "off" };
  const run = (command, args) => {
    const started = start(command, args, { env, cwd: folder });
    t.after(() => started.stop("SIGKILL"));
    return started;
  };
  return {
    folder,
    save: (name, text) => writeFileSync(join(folder, name), here(text, url)),
    node: (name) => run(process.execPath, [join(folder, name)]),
    shell: (text) => run("bash", ["-euo", "pipefail", "-c", `cd ${folder}\n${here(text, url)}`]),
  };
}

const state = temporary();
const prints = (started, text) => until(() => started.output().includes(text), () => `${JSON.stringify(text)} in\n${started.output()}`);

/** Waits for the end of a program without an error. */
async function succeeds(started) {
  assert.equal(await within(started.ended, "the end"), 0, started.output());
  return started.output();
}

let browser;
after(() => browser?.close());

describe("the tutorials", { concurrency: true }, () => {
  test("first chat: a message of one program is printed by another, and by a page", async (t) => {
    const blocks = blocksOf("first-chat");
    const port = await lastingPort();
    const origin = `http://127.0.0.1:${port}`;
    const { url, stop } = await startServer({ XDG_STATE_HOME: state, ALLOWED_ORIGINS: origin });
    t.after(() => stop());
    const own = reader(t, url);
    assert.match(await succeeds(own.shell(block(blocks, "sh", "health/ready"))), /\{"status":"ok"/);
    own.save("bob.mjs", block(blocks, "js", "Bob has joined"));
    own.save("ann.mjs", block(blocks, "js", "the message is stored"));
    const [joined, stored, received] = blocks.filter(({ language }) => language === "text").map(({ text }) => text);
    const bob = own.node("bob.mjs");
    await prints(bob, joined);
    assert.equal(await succeeds(own.node("ann.mjs")), stored);
    await prints(bob, received);

    const page = here(block(blocks, "html", "socket.io.js"), url);
    const served = createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end(page));
    await new Promise((done) => served.listen(port, "127.0.0.1", done));
    t.after(() => served.close());
    browser ??= await launch();
    const visitor = await browser.newPage();
    await visitor.goto(`${origin}/chat.html`);
    await until(async () => {
      await succeeds(own.node("ann.mjs"));
      return (await visitor.locator("li").allInnerTexts()).includes("Ann: hello");
    }, () => "the page to show a message");
    await visitor.locator("input").fill("from the page");
    await visitor.locator("button").click();
    await visitor.getByText("Page: from the page").waitFor();
    await prints(bob, "Page: from the page");
  });

  test("from Node: the client prints the same with the server in Rust", async (t) => {
    const blocks = blocksOf("from-node");
    const expected = block(blocks, "text", "joined lobby");
    const port = await lastingPort();
    const url = `http://127.0.0.1:${port}`;
    const own = reader(t, url);
    own.save("server.mjs", block(blocks, "js", "new Server()").replace("3000", String(port)));
    own.save("client.mjs", block(blocks, "js", "emitWithAck"));
    const old = own.node("server.mjs");
    assert.equal(await succeeds(own.node("client.mjs")), expected);
    await old.stop("SIGKILL");
    const started = start(example("from_node"), [`127.0.0.1:${port}`], {});
    t.after(() => started.stop("SIGKILL"));
    assert.equal(await succeeds(own.node("client.mjs")), expected);
  });

  test("a backend: curl, Python and JavaScript send events to a user", async (t) => {
    const blocks = blocksOf("backend");
    const { url, stop } = await startServer({ XDG_STATE_HOME: state });
    t.after(() => stop());
    const own = reader(t, url);
    own.save("listen.mjs", block(blocks, "js", "order:shipped\", ({"));
    own.save("send.mjs", block(blocks, "js", "fetch("));
    own.save("send.py", block(blocks, "python", "urllib"));
    const ann = own.shell(block(blocks, "sh", "node listen.mjs"));
    await prints(ann, "listening as ann\n");
    assert.match(await succeeds(own.shell(block(blocks, "sh", "curl"))), /\{"queued":1\}/);
    const [curl, python] = blocks.filter(({ language }) => language === "text").map(({ text }) => text);
    await prints(ann, curl);
    assert.match(await succeeds(own.shell(block(blocks, "sh", "send.py"))), /'queued': 1/);
    await prints(ann, python);
    assert.match(await succeeds(own.shell(block(blocks, "sh", "node send.mjs"))), /200 \{ queued: 1 \}/);
    await prints(ann, "order 4713 is on its way\n");
  });

  test("a backend in production: its own program signs the token", async (t) => {
    const blocks = blocksOf("backend");
    const secret = "the shared secret of this test, of enough bytes";
    const role = join(temporary(), "roomcast.toml");
    writeFileSync(role, block(blocks, "toml", "publisher"));
    const { url, stop } = await startServer({ ROOMCAST_AUTH__JWT__SECRET: secret, ROOMCAST_PROFILE: "production", ROOMCAST_CONFIG: role });
    t.after(() => stop());
    const own = reader(t, url);
    const sign = block(blocks, "js", "createHmac");
    own.save("send.mjs", block(blocks, "js", "fetch("));
    const sent = async (text) => {
      own.save("sign.mjs", text);
      return succeeds(own.shell(`export SECRET='${secret}'\n${block(blocks, "sh", "sign.mjs")}node send.mjs`));
    };
    assert.match(await sent(sign), /200 \{ queued: 0 \}/);
    assert.match(await sent(sign.replace('"service"', '"publisher"')), /200 \{ queued: 0 \}/);
    assert.match(await sent(sign.replace('roles: ["service"], ', "")), /^403 /);
    assert.match(await sent(sign.replace("process.env.SECRET", '"another secret"')), /^401 /);
  });

  test("axum: a posted order is printed by the client, and Ctrl+C stops the program", async (t) => {
    const blocks = blocksOf("axum");
    const port = await lastingPort();
    const own = reader(t, `http://127.0.0.1:${port}`);
    const started = start(example("beside_axum"), [`127.0.0.1:${port}`], {});
    t.after(() => started.stop("SIGKILL"));
    own.save("watch.mjs", block(blocks, "js", "emitWithAck"));
    const watcher = own.node("watch.mjs");
    await prints(watcher, "watching\n");
    assert.equal(await succeeds(own.shell(block(blocks, "sh", "/orders"))), "ordered\n");
    await prints(watcher, block(blocks, "text", "tea"));
    assert.equal(await started.stop("SIGINT"), 0);
  });
});
