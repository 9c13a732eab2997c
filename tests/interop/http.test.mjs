// HTTP as browsers and proxies see it: headers, limits, cross-origin rules.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExample } from "./support.mjs";
import { launch } from "./visitor.mjs";

let server;
before(async () => (server = await startExample("interop")));
after(() => server.stop());

const ALLOWED = { origin: "http://allowed.example" };
const url = (query) => `${server.url}/socket.io/?EIO=4&transport=polling${query ?? ""}`;

/** Opens a polling session that has joined `/`. */
async function open() {
  const body = await (await fetch(url())).text();
  const target = url(`&sid=${JSON.parse(body.slice(1)).sid}`);
  assert.equal(await (await fetch(target, { method: "POST", body: "40" })).text(), "ok");
  assert.match((await poll(target))[1], /^40\{"sid":"[\w-]{20}"\}$/);
  return target;
}

/** Polls until there is a message, and returns the response and the message without heartbeats. */
async function poll(target, init) {
  for (;;) {
    const answer = await fetch(target, init);
    const packets = (await answer.text()).split("\x1e");
    const messages = packets.filter((packet) => packet !== "2");
    if (messages.length < packets.length) await fetch(target, { method: "POST", body: "3" });
    if (messages.length > 0) return [answer, messages.join("\x1e")];
  }
}

test("responses have a content type and are not stored", async () => {
  const target = await open();
  const posted = await fetch(target, { method: "POST", body: '42["echo","Ä"]' });
  assert.equal(posted.status, 200);
  assert.match(posted.headers.get("content-type"), /^text\//);
  assert.equal(await posted.text(), "ok");
  const [polled, text] = await poll(target);
  assert.equal(polled.status, 200);
  assert.equal(polled.headers.get("content-type"), "text/plain; charset=UTF-8");
  assert.equal(polled.headers.get("cache-control"), "no-store");
  assert.equal(text, '42["echo","Ä"]');
  assert.equal((await fetch(target, { method: "POST", body: "1" })).status, 200);
});

test("a body over the limit is refused, one at the limit is not", async () => {
  const target = await open();
  const body = `42["echo","${"x".repeat(1_000_000 - 13)}"]`;
  assert.equal(body.length, 1_000_000);
  assert.equal((await fetch(target, { method: "POST", body })).status, 200);
  assert.equal((await poll(target))[1], body);
  const over = await fetch(await open(), { method: "POST", body: `${body} ` });
  assert.equal(over.status, 413);
  const other = await open();
  assert.equal((await fetch(other, { method: "POST", body: "1" })).status, 200);
});

test("long answers are compressed unless their event disables compression", async () => {
  for (const [event, bytes, encoding, accepted = "gzip, deflate"] of [
    ["packed", 2000, "gzip"],
    ["packed", 2000, "deflate", "deflate"],
    ["packed", 200_000, "gzip", "gzip, deflate, br, zstd"],
    ["packed", 2000, null, "br, zstd"],
    ["packed", 100, null],
    ["plain", 2000, null],
    ["plain", 2000, null, "gzip, deflate, br"],
  ]) {
    const target = await open();
    const text = "x".repeat(bytes);
    await fetch(target, { method: "POST", body: `42["${event}","n","${text}"]` });
    const [polled, message] = await poll(target, { headers: { "accept-encoding": accepted } });
    assert.equal(polled.headers.get("content-encoding"), encoding);
    // fetch() decodes the content.
    assert.equal(message, `42["n","${text}"]`);
  }
});

test("Chromium accepts gzip for long answers and decodes them", async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const page = await browser.newPage();
  // Any page of the server may read its answers.
  await page.goto(url());
  const text = "gzip ".repeat(20_000);
  const [encoding, message] = await page.evaluate(
    async ([address, text]) => {
      const { sid } = JSON.parse((await (await fetch(address)).text()).slice(1));
      const target = `${address}&sid=${sid}`;
      await fetch(target, { method: "POST", body: "40" });
      await (await fetch(target)).text();
      await fetch(target, { method: "POST", body: `42["packed","n","${text}"]` });
      const polled = await fetch(target);
      return [polled.headers.get("content-encoding"), await polled.text()];
    },
    [url(), text],
  );
  assert.equal(encoding, "gzip");
  assert.equal(message, `42["n","${text}"]`);
});

test("an allowed origin may read the answer with credentials", async () => {
  const answer = await fetch(url(), { headers: ALLOWED });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("access-control-allow-origin"), ALLOWED.origin);
  assert.equal(answer.headers.get("access-control-allow-credentials"), "true");
  assert.match(answer.headers.get("vary"), /origin/i);
});

test("any other origin may not", async () => {
  for (const origin of ["http://other.example", "http://allowed.example.evil.example", "null"]) {
    const answer = await fetch(url(), { headers: { origin } });
    assert.notEqual(answer.headers.get("access-control-allow-origin"), origin);
    assert.notEqual(answer.headers.get("access-control-allow-origin"), "*");
  }
});

test("a preflight is answered", async () => {
  const headers = {
    ...ALLOWED,
    "access-control-request-method": "POST",
    "access-control-request-headers": "x-one,content-type",
  };
  const answer = await fetch(url(), { method: "OPTIONS", headers });
  assert.ok([200, 204].includes(answer.status));
  assert.equal(answer.headers.get("access-control-allow-origin"), ALLOWED.origin);
  assert.equal(answer.headers.get("access-control-allow-credentials"), "true");
  assert.match(answer.headers.get("access-control-allow-methods"), /POST/);
  assert.equal(answer.headers.get("access-control-allow-headers"), "x-one,content-type");
});

test("everything else is not found", async () => {
  assert.equal((await fetch(`${server.url}/`)).status, 404);
  assert.equal((await fetch(`${server.url}/socket.iox/?EIO=4&transport=polling`)).status, 404);
});
