// Clients that reconnect at any of several servers, each over a link of its own that a test breaks.
import { startLink } from "./link.mjs";
import { io } from "./people.mjs";
import { open } from "./support.mjs";
import { token } from "./tokens.mjs";

const QUICK = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 300, timeout: 3000 };

/**
 * Connects a user with these claims at one of the servers, and again whenever the connection ends.
 *
 * `link` is the network to the server, and `server()` returns the address of the server of its newest
 * connection.
 */
export async function roam(t, urls, random, claims, options = {}) {
  const choose = () => urls[Math.floor(random() * urls.length)];
  const link = await startLink(choose());
  t.after(() => link.close());
  const user = { claims };
  const auth = (send) => send({ token: token(user.claims) });
  const socket = open(t, io, link.url, { auth, transports: ["websocket"], ...QUICK, ...options });
  let stays = false;
  let isAway = false;
  let isOver = false;
  const again = () => {
    if (!stays && !isAway) link.restore(choose());
    // A client that was refused or dismissed does not reconnect by itself.
    if (!socket.active && !isOver) setTimeout(() => isOver || socket.connect(), 100); // Delay of a client.
  };
  socket.on("disconnect", (reason) => reason !== "io client disconnect" && again());
  socket.on("connect_error", again);
  return Object.assign(user, {
    name: claims.sub,
    socket,
    link,
    // A client that was refused connects again over the same connection.
    server: () => link.newest(),
    /** Breaks the connection until `move` or `drop` is called. */
    leave() {
      isAway = true;
      link.cut();
    },
    /** Breaks the connection; the next one is at the same server, until `move` is called. */
    drop() {
      [stays, isAway] = [true, false];
      link.cut();
      link.restore(link.newest());
    },
    /** Breaks the connection; the next one may be at another server. */
    move() {
      [stays, isAway] = [false, false];
      link.cut();
      link.restore(choose());
    },
    close() {
      isOver = true;
      socket.disconnect();
      link.close();
    },
  });
}
