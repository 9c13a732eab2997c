// The network between one browser and the server, which can be cut and made to hold back answers.
import { connect, createServer } from "node:net";
import { once } from "node:events";

/** Listens on a port of its own and passes everything on to `url`. */
export async function startLink(url) {
  let { hostname, port } = new URL(url);
  const ends = new Set();
  let isCut = false;
  /** While answers are held back: what to do to let them go. */
  let held;
  const keep = (socket) => {
    ends.add(socket);
    socket.on("close", () => ends.delete(socket));
    // A broken connection is what this is for.
    socket.on("error", () => {});
  };
  const server = createServer((client) => {
    if (isCut) return client.destroy();
    const upstream = connect({ host: hostname, port: Number(port) });
    keep(client);
    keep(upstream);
    client.pipe(upstream);
    upstream.on("data", (data) => (held ? held.push(() => client.write(data)) : client.write(data)));
    upstream.on("close", () => client.destroy());
    client.on("close", () => upstream.destroy());
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
    close() {
      this.cut();
      server.close();
    },
  };
}
