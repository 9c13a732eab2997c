import { defineConfig } from "vite";

const server = process.env["ROOMCAST_URL"] ?? "http://127.0.0.1:3000";

// The chat and the dashboard are built one after the other into one folder, with no script that both load.
export default defineConfig(({ mode }) => ({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
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
