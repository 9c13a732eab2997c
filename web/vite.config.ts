import { type Plugin, defineConfig } from "vite";

const server = process.env["ROOMCAST_URL"] ?? "http://127.0.0.1:3000";

/**
 * Modules of which the chat runs nothing: the end of the path and the replacement of each.
 */
const UNUSED: readonly (readonly [path: string, replacement: string])[] = [
  // The server offers no WebTransport.
  ["engine.io-client/build/esm/transports/webtransport.js", "export class WT {}"],
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
      const [path, replacement] = UNUSED.find(([path]) => id.endsWith(path)) ?? [];
      if (path !== undefined) found.add(path);
      return replacement;
    },
    buildEnd() {
      // If a package moves the file, the build would include it unnoticed.
      for (const [path] of UNUSED) if (!found.has(path)) this.warn(`${path} is not imported: remove it from UNUSED or correct its path`);
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
