// The network between two programs: a browser and the server, or a node and its database. A test
// can cut it, hold back answers, make it slow, and make it drop everything silently.
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { next } from "./support.mjs";

/**
 * Listens on a port of its own and forwards everything to `url`, from this local address if one is
 * given.
 */
export async function startLink(url, localAddress) {
  let { hostname, port } = new URL(url);
  const ends = new Set();
  let isCut = false;
  /** While answers are held back: the actions that release them. */
  let held;
  /** While everything is swallowed: the actions to run afterwards. */
  let waiting;
  /** While the link is slow: the delay of each chunk, before which the next chunk is not read. */
  let delay = 0;
  /** The ends whose next chunk waits for a delayed chunk. */
  const slowed = new Set();
  let connections = 0;
  /** The URL to which the newest connection is forwarded. */
  let newest = url;
  const whenOpen = (act) => (waiting ? waiting.push(act) : act());
  const keep = (socket) => {
    ends.add(socket);
    socket.on("close", () => ends.delete(socket));
    // Breaking connections is what this is for.
    socket.on("error", () => {});
  };
  /** Forwards the data of one end to the other. */
  const pass = (from, write) =>
    from.on("data", (data) => {
      if (delay === 0) return write(data);
      from.pause();
      slowed.add(from);
      const arrive = () => {
        write(data);
        from.resume();
      };
      // The duration of the transport.
      setTimeout(() => {
        slowed.delete(from);
        whenOpen(arrive);
      }, delay);
    });
  const dial = (client) => {
    if (client.destroyed) return;
    const upstream = connect({ host: hostname, port: Number(port), localAddress });
    connections += 1;
    newest = `http://${hostname}:${port}`;
    keep(upstream);
    pass(client, (data) => upstream.write(data));
    client.on("end", () => upstream.end());
    // The end of an answer is held back with it, and arrives after it.
    const answer = (act) => (held ? held.push(act) : act());
    pass(upstream, (data) => answer(() => client.write(data)));
    upstream.on("close", () => whenOpen(() => answer(() => client.destroySoon())));
    client.on("close", () => whenOpen(() => upstream.destroy()));
    client.resume();
  };
  const server = createServer({ pauseOnConnect: true }, (client) => {
    if (isCut) return client.destroy();
    keep(client);
    whenOpen(() => dial(client));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** Breaks all connections and refuses new connections. */
    cut() {
      isCut = true;
      for (const end of ends) end.destroy();
    },
    /** Accepts connections again, for another server if one is given. */
    restore(to = url) {
      ({ hostname, port } = new URL(to));
      isCut = false;
    },
    /** Holds back data from the server; data from the browser arrives. */
    holdAnswers() {
      held = [];
    },
    releaseAnswers() {
      const waiting = held ?? [];
      held = undefined;
      for (const release of waiting) release();
    },
    /**
     * Delays each chunk of at most 64 KiB by this many milliseconds from now on; 0 ends the delay.
     */
    slow(milliseconds) {
      delay = milliseconds;
    },
    /**
     * Stops both directions without notice: what is sent waits in flight, and so does the end of a
     * connection.
     */
    swallow() {
      waiting ??= [];
      for (const end of ends) end.pause();
    },
    /**
     * Resumes both directions. Data in flight arrives, or its connections are broken for both
     * sides.
     */
    resume({ isBroken }) {
      const acts = waiting ?? [];
      waiting = undefined;
      for (const end of ends) {
        if (isBroken) end.destroy();
        else if (!slowed.has(end)) end.resume();
      }
      for (const act of acts) act();
    },
    /** The number of forwarded connections. */
    connections: () => connections,
    /** The URL to which the newest connection is forwarded. */
    newest: () => newest,
    /** The URL to which further connections are forwarded. */
    target: () => `http://${hostname}:${port}`,
    close() {
      this.cut();
      server.close();
    },
  };
}

/** Makes a client reconnect soon after its link is cut. */
export const QUICK = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 };

/** Cuts the link of a client, and waits until the client has noticed. */
export async function disconnectLink({ socket, link }) {
  const lost = next(socket, "disconnect");
  link.cut();
  await lost;
}

/** Cuts the link of a client, and reconnects it at another server after an action. */
export async function move(one, to, meanwhile = async () => {}) {
  await disconnectLink(one);
  await meanwhile();
  const back = next(one.socket, "connect");
  one.link.restore(to.url);
  await back;
}
