// Official clients with custom parsers, and a server with the same formats.
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { after, before, describe, test } from "node:test";
import { ask, clients, connect, next, startExample } from "./support.mjs";

let server, bundlesUrl;
before(async () => {
  server = await startExample("custom_parser");
  bundlesUrl = server.url.replace(/\d+$/, (port) => Number(port) + 1);
});
after(() => server.stop());

/** Does the same as `socket.io-json-parser`. */
const objects = {
  protocol: 5,
  Encoder: class {
    encode(packet) {
      return [JSON.stringify(packet)];
    }
  },
  Decoder: class extends EventEmitter {
    add(chunk) {
      const packet = JSON.parse(chunk);
      if (!Number.isInteger(packet.type) || typeof packet.nsp !== "string") throw new Error("invalid format");
      this.emit("decoded", packet);
    }
    destroy() {}
  },
};

const place = "$binary";

/** Replaces binary values by their index among the following messages. */
function take(value, binary) {
  if (value instanceof Uint8Array) return { [place]: binary.push(value) - 1 };
  if (Array.isArray(value)) return value.map((item) => take(item, binary));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, take(item, binary)]));
}

function give(value, binary) {
  if (Array.isArray(value)) return value.map((item) => give(item, binary));
  if (value === null || typeof value !== "object") return value;
  if (place in value) return binary[value[place]];
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, give(item, binary)]));
}

/** A JSON object, followed by the binary values of the packet. */
const bundles = {
  protocol: 5,
  Encoder: class {
    encode({ type, nsp, id, data }) {
      const binary = [];
      const head = { type, nsp, id, data: take(data, binary) };
      return [JSON.stringify({ ...head, binary: binary.length }), ...binary];
    }
  },
  Decoder: class extends EventEmitter {
    add(chunk) {
      if (typeof chunk === "string") {
        this.head = JSON.parse(chunk);
        this.binary = [];
      } else {
        this.binary.push(chunk);
      }
      const { binary: count = 0, data, ...head } = this.head;
      if (this.binary.length === count) this.emit("decoded", { ...head, data: give(data, this.binary) });
    }
    destroy() {}
  },
};

for (const [client, io] of clients) {
  describe(client, () => {
    for (const transport of ["polling", "websocket"]) {
      const transports = [transport];

      test(`events, acknowledgements and refusals have the format of socket.io-json-parser over ${transport}`, async (t) => {
        const socket = await connect(t, io, server.url, { parser: objects, transports });
        const values = [1, -0.5, "é", null, true, { a: [{ b: [] }] }];
        const echoed = next(socket, "echoed");
        assert.deepEqual(await ask(socket, "echo", ...values), values);
        assert.deepEqual(await echoed, values);
        socket.on("question", (number, answer) => answer(number + 1, "x"));
        assert.deepEqual(await ask(socket, "ask", 1), [2, "x"]);
        await assert.rejects(connect(t, io, `${server.url}/no`, { parser: objects, transports }), (error) => {
          assert.equal(error.message, "members only");
          assert.deepEqual(error.data, { code: "NO", retry: 5 });
          return true;
        });
      });

      test(`a parser with binary support sends and receives it over ${transport}`, async (t) => {
        const socket = await connect(t, io, bundlesUrl, { parser: bundles, transports });
        const other = await connect(t, io, bundlesUrl, { parser: bundles, transports });
        const bytes = (...values) => Buffer.from(values);
        const values = [bytes(1, 2, 255), { list: [bytes(), "text", bytes(0)] }];
        assert.deepEqual(await ask(socket, "echo", ...values), values);
        const events = [next(socket, "told"), next(other, "told")];
        socket.emit("all", ...values);
        for (const event of events) assert.deepEqual(await event, values);
      });
    }
  });
}
