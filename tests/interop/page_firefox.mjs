// The main paths of the page in Firefox.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { io } from "socket.io-client";
import { echoed } from "./echoed.mjs";
import { FirefoxVisitor, launchFirefox } from "./firefox.mjs";
import { ask, connect, startExample, startServer } from "./support.mjs";
import { SECRET, token } from "./tokens.mjs";

let firefox;
let server;
before(async () => {
  server = await startServer({ ROOMCAST_AUTH__JWT__SECRET: SECRET });
  firefox = await launchFirefox();
});
after(async () => {
  await firefox?.close();
  await server?.stop();
});

async function signIn(t, name, viewport) {
  const visitor = await FirefoxVisitor.open(t, firefox, server.url, viewport);
  await visitor.signIn(token({ sub: name.toLowerCase(), name }));
  return visitor;
}

test("Firefox users write, change and delete messages without loss", async (t) => {
  const ada = await signIn(t, "Ada");
  const bob = await signIn(t, "Bob", { width: 390, height: 844 });
  await ada.say("hello **Bob**, see https://example.org/a");
  await bob.hears("hello Bob, see https://example.org/a");
  await bob.sees("document.querySelector('.bubble strong')?.textContent === 'Bob'");
  await bob.sees("document.querySelector('.bubble a')?.href === 'https://example.org/a'");
  await bob.say("hello Ada");
  await ada.hears("hello Ada");

  // Arrow Up edits the last message; Delete removes it, and Undo restores it.
  await ada.focus("#composer");
  await ada.type("ArrowUp");
  await ada.reads(".composer-edit", "Editing a message");
  await ada.type(" Edited.", "Enter");
  await bob.reads("li.message .bubble", "hello Bob, see https://example.org/a Edited.");
  await ada.sees("!document.querySelector('.composer-edit')", "the change to be made");
  await ada.say("to be deleted");
  await ada.hears("to be deleted");
  await bob.hears("to be deleted");
  await ada.sees("document.querySelector('li.message[tabindex=\"0\"]')");
  await ada.stretchUndo();
  await ada.focus("li.message[tabindex='0']");
  await ada.type("Delete");
  await ada.click("button", "Undo");
  await ada.stretchUndo(false);
  await ada.hears("to be deleted");
  await ada.focus("li.message[tabindex='0']");
  await ada.type("Delete");
  await bob.sees("document.body.textContent.includes('This message was deleted.')", "the deletion");

  // A message written without a connection is sent once when there is one.
  ada.link.cut();
  await ada.sees("document.querySelector('.status[data-state=offline]')");
  await ada.say("written offline");
  ada.link.restore();
  // Unless the page has already retried by itself.
  await ada.evaluate(`[...document.querySelectorAll(".bar button")].find((button) => button.textContent === "Try now")?.click()`);
  await ada.hears("written offline");
  await bob.hears("written offline");
  await ada.focus("#composer");
  await ada.type("not sent yet");
  await ada.reload();
  await ada.isOnline();
  await ada.sees("document.querySelector('#composer')?.value === 'not sent yet'");
  const texts = await bob.evaluate("[...document.querySelectorAll('li.message .bubble')].map((node) => node.textContent)");
  assert.equal(texts.filter((text) => text === "written offline").length, 1);
  assert.equal(await bob.evaluate("document.documentElement.scrollWidth"), 390);
  await ada.screenshot("desk");
  await bob.screenshot("phone");
  assert.deepEqual([ada.complaints, bob.complaints], [[], []]);
});

test("Firefox scrolls through history and opens a distant message by address", async (t) => {
  const socket = await connect(t, io, server.url, { auth: { token: token({ sub: "carl", name: "Carl" }) } });
  const made = await ask(socket, "create_conversation", { title: "Long", memberIds: ["dora"] });
  const { id } = made.conversation;
  for (let index = 0; index < 300; index += 1) await ask(socket, "message", { conversationId: id, content: `long ${index}` });
  const own = await connect(t, io, server.url, { auth: { token: token({ sub: "dora", name: "Dora" }) } });
  await ask(own, "mark_read", { conversationId: id, seq: 300 });
  const dora = await signIn(t, "Dora");
  await dora.evaluate(`void (location.hash = "#/c/${id}")`);
  await dora.hears("long 299");
  await dora.evaluate(`(async () => {
    const scroller = document.querySelector(".scroller");
    const isThere = () => [...document.querySelectorAll(".bubble")].some((node) => node.textContent === "long 0");
    while (!isThere()) {
      scroller.scrollBy(0, -800);
      await new Promise((done) => requestAnimationFrame(done));
    }
  })()`);
  await dora.hears("long 0");
  const seqs = await dora.evaluate("[...document.querySelectorAll('li.message')].map((line) => Number(line.dataset.seq))");
  assert.ok(seqs.every((seq, index) => index === 0 || seq === seqs[index - 1] + 1), `a hole in ${seqs}`);
  await dora.evaluate(`void (location.hash = "#/c/${id}/20")`);
  await dora.sees("document.querySelector('li.message.is-marked .bubble')?.textContent === 'long 19'", "the message");
  await dora.click("button", "To the newest");
  await dora.hears("long 299");
  assert.deepEqual(dora.complaints, []);
});

test("Firefox compresses in both directions", async (t) => {
  const example = await startExample("interop");
  t.after(() => example.stop());
  const visitor = await FirefoxVisitor.open(t, firefox, `${example.url}/`);
  const url = `${visitor.link.url.replace("http", "ws").replace(/\/$/, "")}/socket.io/?EIO=4&transport=websocket`;
  const text = "the same words again and again, ".repeat(500);
  await visitor.evaluate(`void (${echoed})([${JSON.stringify(url)}, ${JSON.stringify(text)}]).then((value) => (globalThis.seen = value))`);
  await visitor.sees("globalThis.seen", "the echo");
  const seen = await visitor.evaluate("globalThis.seen");
  assert.match(seen.extensions, /^permessage-deflate/);
  assert.equal(seen.last, `431${JSON.stringify([text])}`);
});
