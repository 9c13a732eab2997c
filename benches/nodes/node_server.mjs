// The contract server on the official packages, joined to others by Redis: what
// `tests/servers/fanout.rs` is for ours.
import { createServer } from "node:http";
import { createRequire } from "node:module";

// They are those of the tests with official clients.
const require = createRequire(new URL("../../tests/interop/package.json", import.meta.url));
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");

const [pub, sub] = [0, 1].map(() => createClient({ url: process.env.ADAPTER }));
await Promise.all([pub.connect(), sub.connect()]);
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(pub, sub),
  serveClient: false,
  perMessageDeflate: false,
  pingInterval: Number(process.env.PING_INTERVAL_MS ?? 25_000),
});
io.on("connection", (socket) => {
  socket.on("join", async (room, done) => {
    await socket.join(room);
    done();
  });
  socket.on("bcast", (room, payload) => io.to(room).emit("msg", payload));
});
http.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`listening on 127.0.0.1:${http.address().port}`);
});
