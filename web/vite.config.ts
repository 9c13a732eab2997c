import { type Plugin, defineConfig } from "vite";

const server = process.env["ROOMCAST_URL"] ?? "http://127.0.0.1:3000";

/**
 * Modules of which the chat needs little or nothing: the end of the path and the replacement of
 * each.
 */
const REPLACED: readonly (readonly [path: string, replacement: string])[] = [
  // The server offers no WebTransport.
  ["engine.io-client/build/esm/transports/webtransport.js", "export class WT {}"],
  // The chat sends no binary data. If it receives an event with binary data, the attachments are
  // counted and discarded, and their placeholders stay.
  [
    "engine.io-parser/build/esm/encodePacket.browser.js",
    `import { PACKET_TYPES } from "./commons.js";
    export const encodePacket = ({ type, data }, _, send) => send(PACKET_TYPES[type] + (data || ""));
    export const encodePacketToBinary = encodePacket;`,
  ],
  ["engine.io-parser/build/esm/contrib/base64-arraybuffer.js", "export const decode = () => new ArrayBuffer(0);"],
  ["socket.io-parser/build/esm/is-binary.js", "export const hasBinary = () => false, isBinary = (data) => data instanceof ArrayBuffer;"],
  ["socket.io-parser/build/esm/binary.js", "export const deconstructPacket = (packet) => packet, reconstructPacket = deconstructPacket;"],
  // The only parsed address is the origin of the page.
  [
    "engine.io-client/build/esm/contrib/parseuri.js",
    `export function parse(source) {
      const { protocol, hostname, port } = new URL(source);
      return { source, protocol: protocol.slice(0, -1), host: hostname.replace(/[[\\]]/g, ""), port };
    }`,
  ],
  // All supported browsers send requests to other origins.
  ["engine.io-client/build/esm/contrib/has-cors.js", "export const hasCORS = true;"],
  // Lazy parts import no styles by name, and hints about their scripts are off.
  ["vite/preload-helper.js", "export const __vitePreload = (load) => load();"],
];

/** Removes code and comments that a visitor does not need and that the bundler cannot detect. */
function leaveOutUnused(): Plugin {
  const found = new Set<string>();
  return {
    name: "leave-out-unused",
    apply: "build",
    enforce: "pre",
    load(id) {
      const [path, replacement] = REPLACED.find(([path]) => id.endsWith(path)) ?? [];
      if (path !== undefined) found.add(path);
      return replacement;
    },
    buildEnd() {
      // If a package moves the file, the build would include it unnoticed.
      for (const [path] of REPLACED) if (!found.has(path)) this.warn(`${path} is not imported: remove it from REPLACED or correct its path`);
    },
    transformIndexHtml: (html) => html.replace(/\s*<!--.*?-->/gs, ""),
  };
}

// The chat and the dashboard are built in two runs into one folder, and share no script.
export default defineConfig(({ mode }) => ({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  plugins: mode === "dashboard" ? [] : [leaveOutUnused()],
  build: {
    target: ["chrome123", "firefox121", "safari17.5"],
    // Every file has its own address: the content security policy allows no `data:` scripts or
    // styles.
    assetsInlineLimit: 0,
    // The windows are loaded before they are opened, so that hints about what they import save no time.
    modulePreload: false,
    reportCompressedSize: false,
    ...(mode === "dashboard" && { rollupOptions: { input: "dashboard.html" }, copyPublicDir: false, emptyOutDir: false }),
  },
  server: {
    port: 5173,
    proxy: { "/socket.io": { target: server, ws: true }, "/api": { target: server } },
  },
}));
