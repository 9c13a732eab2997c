// A stock client in a process of its own, which a test can suspend. It joins a room and counts its
// events.
import { io } from "socket.io-client";

const [url, room] = process.argv.slice(2);
const socket = io(url, { transports: ["websocket"], reconnection: false });
let expected = 0;
let faults = 0;
socket.on("item", (n) => {
  if (n !== expected) faults += 1;
  expected = n + 1;
});
socket.on("disconnect", (reason) => {
  console.log(JSON.stringify({ reason, got: expected, faults }));
  process.exit(0);
});
socket.on("connect", () => socket.emit("join", room, () => console.log("joined")));
