// The events of the load generators' contract on `socket.io` over `https`.
// Usage: node node_server.cjs REPOSITORY, in the folder of cert.pem and key.pem.
const fs = require("node:fs");
const https = require("node:https");
const { Server } = require(`${process.argv[2]}/tests/interop/node_modules/socket.io`);

const server = https.createServer({
  cert: fs.readFileSync("cert.pem"),
  key: fs.readFileSync("key.pem"),
});
const io = new Server(server, { pingInterval: 3_600_000, transports: ["websocket"] });
io.on("connection", (socket) => {
  socket.on("join", (room, answer) => {
    socket.join(room);
    answer();
  });
  socket.on("bcast", (room, payload) => io.to(room).emit("msg", payload));
  socket.on("echo", (payload, answer) => answer(payload));
});
server.listen(0, "127.0.0.1", () => {
  console.log(`127.0.0.1:${server.address().port}`);
});
