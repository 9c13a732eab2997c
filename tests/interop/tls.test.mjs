// The stock client over TLS: https for polling, wss for WebSocket, and the upgrade between them.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ask, clients, next, startServer } from "./support.mjs";

const LOBBY = "00000000-0000-4000-8000-000000000001";
const folder = mkdtempSync(join(tmpdir(), "roomcast-tls-"));
const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
let server;

before(async () => {
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", ...kind, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  server = await startServer({ ROOMCAST_SERVER__TLS__CERT_FILE: cert, ROOMCAST_SERVER__TLS__KEY_FILE: key });
  server.url = server.url.replace("http:", "https:");
});

after(async () => {
  assert.equal(await server.stop(), 0);
  rmSync(folder, { recursive: true });
});

for (const [name, io] of clients) {
  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    test(`${name} over TLS by ${transports.join(" and ")}`, async () => {
      const options = { transports, forceNew: true, reconnection: false };
      const socket = io(server.url, { ...options, ca: readFileSync(cert), auth: { name: "Ann" } });
      try {
        await next(socket, "connect");
        const { engine } = socket.io;
        if (engine.transport.name !== transports.at(-1)) await next(engine, "upgrade");
        assert.equal((await ask(socket, "join_conversation", LOBBY)).success, true);
        const content = "x".repeat(9000);
        const sent = await ask(socket, "message", { conversationId: LOBBY, content });
        assert.equal(sent.message.content, content);
        assert.equal(engine.transport.name, transports.at(-1));
      } finally {
        socket.disconnect();
      }
    });
  }

  test(`${name} refuses an untrusted certificate`, async () => {
    const socket = io(server.url, { transports: ["websocket"], forceNew: true, reconnection: false });
    const [error] = await next(socket, "connect_error");
    socket.disconnect();
    // The certificate is the reason, and not an unreachable server.
    const { message } = error.description ?? error;
    assert.match(message, /self-signed certificate/, `${error}`);
  });
}
