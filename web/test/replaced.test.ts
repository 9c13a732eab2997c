import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "engine.io-client";
import { build } from "vite";
import config from "../vite.config.ts";

const ENTRY = `
export { parse } from "engine.io-client";
export { decodePayload, encodePayload } from "engine.io-parser";
export { Decoder, Encoder } from "socket.io-parser";
`;

interface Packet {
  type: number;
  nsp: string;
  id?: number;
  data: unknown;
}

/** The parts of the packages that the chat is built with. */
interface Parts {
  parse: (source: string) => Record<string, unknown>;
  encodePayload: (packets: object[], done: (payload: string) => void) => void;
  decodePayload: (payload: string) => { type: string; data: string | ArrayBuffer }[];
  Encoder: new () => { encode(packet: Packet): string[] };
  Decoder: new () => { on(event: "decoded", listener: (packet: Packet) => void): void; add(data: string | ArrayBuffer): void };
}

/** Builds the packages as the build of the chat does. */
async function buildParts(): Promise<Parts> {
  const { plugins } = config({ mode: "production", command: "build" });
  const id = `${process.cwd()}/entry.js`;
  const entry = { name: "entry", enforce: "pre" as const, resolveId: (source: string) => (source === id ? id : null), load: (path: string) => (path === id ? ENTRY : null) };
  const options = { write: false, lib: { entry: id, formats: ["es" as const] } };
  const [built] = [await build({ configFile: false, logLevel: "error", plugins: [entry, plugins], build: options })].flat();
  assert.ok(built !== undefined && "output" in built);
  const [{ code }] = built.output;
  return import(`data:text/javascript,${encodeURIComponent(code)}`);
}

const parts = await buildParts();

test("replaced address parser returns what the original returns", () => {
  for (const source of ["http://localhost", "http://127.0.0.1:3000", "https://chat.example.org:8443", "http://[::1]:3000", "https://[2001:db8::1]"]) {
    const { protocol, host, port } = parse(source) as unknown as Record<string, unknown>;
    assert.deepEqual(parts.parse(source), { source, protocol, host, port });
  }
});

test("events reach the parser unchanged without binary support", () => {
  const sent: Packet = { type: 2, nsp: "/", id: 7, data: ["message", { content: "“hello” 🎉", list: [1, null] }] };
  const received: Packet[] = [];
  const decoder = new parts.Decoder();
  decoder.on("decoded", (packet) => received.push(packet));
  const packets = new parts.Encoder().encode(sent).map((data) => ({ type: "message", data }));
  parts.encodePayload([...packets, { type: "ping" }], (payload) => {
    const [message, ping] = parts.decodePayload(payload);
    decoder.add(message?.data ?? "");
    assert.deepEqual(ping, { type: "ping" });
  });
  assert.deepEqual(received, [sent]);
});

test("events with binary data do not disturb the events after them", () => {
  const received: unknown[] = [];
  const decoder = new parts.Decoder();
  decoder.on("decoded", ({ data }) => received.push(data));
  const event = '451-["file",{"_placeholder":true,"num":0}]';
  // Long polling transports the attachment as base64, WebSocket as bytes.
  const [header, attachment] = parts.decodePayload(`${event}\u001ebAQID`);
  for (const data of [header?.data, attachment?.data, event.slice(1), Uint8Array.of(1, 2, 3).buffer, '2["next"]']) decoder.add(data ?? "");
  const file = ["file", { _placeholder: true, num: 0 }];
  assert.deepEqual(received, [file, file, ["next"]]);
});
