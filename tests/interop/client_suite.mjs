// The server for the official client's test suite, made of the official server. `tests/client`
// tests the Rust client against it as against Roomcast. It prints its address, as the examples do.
import { Server } from "socket.io";

const io = new Server(0, {
  pingInterval: 2000,
  connectionStateRecovery: {},
  // Clients with a timeout of 0 ms must time out before they connect.
  allowRequest: (_, callback) => setTimeout(() => callback(null, true), 10),
});
io.httpServer.once("listening", () => console.log(`listening on 127.0.0.1:${io.httpServer.address().port}`));

for (const name of ["/timeout_socket", "/valid", "/asd"]) io.of(name);
// The marks that sockets have sent, and the reasons why those sockets were disconnected.
let notes = { marks: [], reasons: [] };
const takeMarks = (socket) => {
  let isMarked = false;
  socket.on("mark", (number) => {
    isMarked = true;
    notes.marks.push(number);
  });
  socket.on("disconnect", (reason) => isMarked && notes.reasons.push(reason));
};
io.of("/foo").on("connection", (socket) => {
  socket.on("getId", (ack) => ack(socket.id));
  takeMarks(socket);
});
io.of("/abc").on("connection", (socket) => socket.emit("handshake", socket.handshake));
io.of("/no").use((_, next) => next(new Error("Auth failed (custom namespace)")));
io.use((socket, next) => next(socket.request._query.fail ? new Error("Auth failed (main namespace)") : undefined));

const texts = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];
const isGreeting = (object) =>
  object.hello === "lol" && object.goodbye === "gotcha" && Buffer.isBuffer(object.message);

io.on("connection", (socket) => {
  takeMarks(socket);
  socket.on("marks", (ack) => ack(notes));
  socket.on("clear marks", (ack) => {
    notes = { marks: [], reasons: [] };
    ack();
  });
  let hasBuffer = false;
  socket.on("hi", () => socket.emit("hi"));
  socket.on("echo", (value, ack) => ack?.(value));
  socket.on("ack", () =>
    socket.emit("ack", (number, object) => number === 5 && object.test === true && socket.emit("got it")),
  );
  socket.on("getAckDate", (_, ack) => ack(new Date()));
  socket.on("getDate", () => socket.emit("takeDate", new Date()));
  socket.on("getDateObj", () => socket.emit("takeDateObj", { date: new Date() }));
  socket.on("getUtf8", () => texts.forEach((text) => socket.emit("takeUtf8", text)));
  socket.on("false", () => socket.emit("false", false));
  socket.on("doge", () => socket.emit("doge", Buffer.from("asdfasdf")));
  socket.on("buffa", (bytes) => Buffer.isBuffer(bytes) && socket.emit("buffack"));
  socket.on("jsonbuff", (object) => isGreeting(object) && socket.emit("jsonbuff-ack"));
  socket.on("abuff1", (bytes) => (hasBuffer = Buffer.isBuffer(bytes)));
  socket.on("abuff2", () => hasBuffer && socket.emit("abuff2-ack"));
  socket.on("getHandshake", (ack) => ack(socket.handshake));
  socket.on("getId", (ack) => ack(socket.id));
});
