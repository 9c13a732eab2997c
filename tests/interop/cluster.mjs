// Node servers for tests of several servers as one, and clients of all of them.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { io as client } from "socket.io-client";
import { ask, connect, until } from "./support.mjs";

/**
 * Starts a Node server with these options and the events of contract servers. `close` is called
 * last when it stops.
 */
export async function serveNode(options, close = () => {}) {
  const http = createServer();
  const io = new Server(http, options);
  io.on("connection", (socket) => {
    socket.on("join", async (room, done) => {
      await socket.join(room);
      done([...socket.rooms].filter((room) => room !== socket.id).sort());
    });
    socket.on("to", (room, name, ...rest) => socket.to(room).emit(name, ...rest));
    socket.on("set-data", (value) => (socket.data.value = value));
    socket.on("echo", (...args) => args.pop()(...args));
  });
  io.on("note", (...rest) => io.local.emit("noted", ...rest));
  io.on("question", (...rest) => rest.pop()(["node", ...rest]));
  await new Promise((done) => http.listen(0, "127.0.0.1", done));
  const stop = async () => {
    await io.close();
    await close();
  };
  return { io, stop, url: `http://127.0.0.1:${http.address().port}` };
}

/**
 * Connects a client to each server, in a room of its own name and in a common room. It records the
 * events `news`.
 */
export async function people(t, servers) {
  const room = `room of ${t.name}`;
  const sockets = await Promise.all(
    servers.map(({ url }) => connect(t, client, url, { transports: ["websocket"] })),
  );
  const heard = sockets.map((socket) => {
    const list = [];
    socket.on("news", (...args) => list.push(args));
    return list;
  });
  for (const socket of sockets) await ask(socket, "join", room);
  return { sockets, heard, room };
}

export const all = (heard, expected) =>
  until(() => heard.every((list) => list.length >= expected), () => `${expected} events: ${heard.map(({ length }) => length)}`);
