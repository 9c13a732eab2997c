// The fan-out server of `tests/servers/fanout.rs` in Node, with the same events. `DEFLATE` is the
// threshold of permessage-deflate in bytes; without it, compression is off. The server never keeps
// a context, like Roomcast by default.
import { createRequire } from "node:module";

const { Server } = createRequire(process.env.NODE_PACKAGES)("socket.io");
const threshold = process.env.DEFLATE;
const io = new Server(Number(process.env.PORT), {
  transports: ["websocket"],
  pingInterval: Number(process.env.PING_INTERVAL_MS),
  perMessageDeflate:
    threshold === undefined
      ? false
      : {
          threshold: Number(threshold),
          serverNoContextTakeover: true,
          clientNoContextTakeover: true,
          zlibDeflateOptions: { level: 6 },
        },
});
io.on("connection", (socket) => {
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack?.();
  });
  socket.on("bcast", (room, payload) => io.to(room).emit("msg", payload));
});
io.httpServer.on("listening", () => console.log(`listening on 127.0.0.1:${io.httpServer.address().port}`));
