// The network between one program and another, a browser and the server or a node and its database, which can be cut, made to
// hold back answers, made slow, and made to swallow everything without a word.
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { next } from "./support.mjs";

/** Listens on a port of its own and passes everything on to `url`, from this address of the machine if one is given. */
export async function startLink(url, localAddress) {
  let { hostname, port } = new URL(url);
  const ends = new Set();
  let isCut = false;
  /** While answers are held back: what to do to let them go. */
  let held;
  /** While everything is swallowed: what is to be done when it no longer is. */
  let waiting;
  /** While it is slow: how long each chunk takes, and the next one does not set out before. */
  let delay = 0;
  /** The ends whose next chunk waits behind such a one. */
  const slowed = new Set();
  let connections = 0;
  const whenOpen = (act) => (waiting ? waiting.push(act) : act());
  const keep = (socket) => {
    ends.add(socket);
    socket.on("close", () => ends.delete(socket));
    // A broken connection is what this is for.
    socket.on("error", () => {});
  };
  /** Passes what comes from one end on to the other. */
  const pass = (from, write) =>
    from.on("data", (data) => {
      if (delay === 0) return write(data);
      from.pause();
      slowed.add(from);
      const arrive = () => {
        write(data);
        from.resume();
      };
      // How long it is on its way.
      setTimeout(() => {
        slowed.delete(from);
        whenOpen(arrive);
      }, delay);
    });
  const dial = (client) => {
    if (client.destroyed) return;
    const upstream = connect({ host: hostname, port: Number(port), localAddress });
    connections += 1;
    keep(upstream);
    pass(client, (data) => upstream.write(data));
    client.on("end", () => upstream.end());
    // The end of an answer is held back with it, and arrives behind it.
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
    /** Breaks what is connected and lets nothing through. */
    cut() {
      isCut = true;
      for (const end of ends) end.destroy();
    },
    /** Lets everything through again, to another server if one is given. */
    restore(to = url) {
      ({ hostname, port } = new URL(to));
      isCut = false;
    },
    /** What the server says arrives later; what the browser says arrives. */
    holdAnswers() {
      held = [];
    },
    releaseAnswers() {
      const waiting = held ?? [];
      held = undefined;
      for (const release of waiting) release();
    },
    /** Each chunk, of 64 KiB at most, is on its way for so many milliseconds from now on; 0: none is any more. */
    slow(milliseconds) {
      delay = milliseconds;
    },
    /** Lets nothing through in either direction and tells nobody: what is sent waits on its way, and so does an end. */
    swallow() {
      waiting ??= [];
      for (const end of ends) end.pause();
    },
    /** Lets everything through again. What was on its way arrives, or its connections are broken for both sides. */
    goOn({ isBroken }) {
      const acts = waiting ?? [];
      waiting = undefined;
      for (const end of ends) {
        if (isBroken) end.destroy();
        else if (!slowed.has(end)) end.resume();
      }
      for (const act of acts) act();
    },
    /** How many connections went through. */
    connections: () => connections,
    close() {
      this.cut();
      server.close();
    },
  };
}

/** Has a client come back soon after its link is cut. */
export const QUICK = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 };

/** Cuts somebody behind a link off, who knows it when this returns. */
export async function cutOff({ socket, link }) {
  const lost = next(socket, "disconnect");
  link.cut();
  await lost;
}

/** Cuts somebody off, and lets it come back at another server after something was done. */
export async function move(one, to, meanwhile = async () => {}) {
  await cutOff(one);
  await meanwhile();
  const back = next(one.socket, "connect");
  one.link.restore(to.url);
  await back;
}
