import { type Plugin, defineConfig } from "vite";

const server = process.env["ROOMCAST_URL"] ?? "http://127.0.0.1:3000";

/** Modules that the chat imports and never runs, by the end of their path, each with its replacement. */
const UNUSED: readonly (readonly [path: string, replacement: string])[] = [
  // The server offers no WebTransport.
  ["engine.io-client/build/esm/transports/webtransport.js", "export class WT {}"],
];

/** Leaves out what a visitor would load in vain, which a bundler cannot see. */
function leaveOutUnused(): Plugin {
  const found = new Set<string>();
  return {
    name: "leave-out-unused",
    apply: "build",
    enforce: "pre",
    load(id) {
      const [path, replacement] = UNUSED.find(([path]) => id.endsWith(path)) ?? [];
      if (path !== undefined) found.add(path);
      return replacement;
    },
    buildEnd() {
      // A package that has moved a file would bring it back unnoticed.
      for (const [path] of UNUSED) if (!found.has(path)) this.warn(`${path} is not imported: remove it from UNUSED or correct its path`);
    },
    transformIndexHtml: (html) => html.replace(/\s*<!--.*?-->/gs, ""),
  };
}

// The chat and the dashboard are built one after the other into one folder, with no script that both load.
export default defineConfig(({ mode }) => ({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  plugins: mode === "dashboard" ? [] : [leaveOutUnused()],
  build: {
    target: ["chrome123", "firefox121", "safari17.5"],
    // Every file has its own address: the content security policy allows no `data:` scripts or styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    ...(mode === "dashboard" && { rollupOptions: { input: "dashboard.html" }, copyPublicDir: false, emptyOutDir: false }),
  },
  server: {
    port: 5173,
    proxy: { "/socket.io": { target: server, ws: true }, "/api": { target: server } },
  },
}));
