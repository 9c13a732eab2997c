// The service worker of the chat page. If the page cannot be loaded, it answers with a static page.
// It handles only the address of the page, stores nothing, and so serves no earlier code or data.

addEventListener("install", () => skipWaiting());

addEventListener("activate", (event) => event.waitUntil(registration.navigationPreload?.enable()));

addEventListener("fetch", (event) => {
  const isPage = event.request.mode === "navigate" && new URL(event.request.url).pathname === "/";
  if (isPage && event.request.method === "GET") event.respondWith(load(event));
});

/** Loads the page from the server. The browser has begun to do that while this worker started. */
async function load({ preloadResponse, request }) {
  try {
    return (await preloadResponse) ?? (await fetch(request));
  } catch {
    return offlinePage();
  }
}

function offlinePage() {
  const nonce = crypto.randomUUID();
  const [title, text] = navigator.onLine
    ? ["The server is unreachable", "This page opens as soon as the server answers."]
    : ["You are offline", "This page opens as soon as your browser is online."];
  const headers = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "content-security-policy":
      `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; connect-src 'self'; ` +
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
  };
  return new Response(pageOf(nonce, title, text), { status: 503, headers });
}

// The colours are those of `src/style/base.css`.
const pageOf = (nonce, title, text) => `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>${title} · Roomcast</title>
    <style nonce="${nonce}">
      :root {
        color-scheme: light dark;
        --page: light-dark(#f5f6f4, #14181a);
        --text: light-dark(#1a211f, #e7ecea);
        --accent: light-dark(#0f766e, #5fd0c1);
        --on-accent: light-dark(#ffffff, #0b201d);
      }
      [data-theme=light] { color-scheme: light; }
      [data-theme=dark] { color-scheme: dark; }
      body {
        display: grid;
        place-content: center;
        min-height: 100dvh;
        margin: 0;
        padding: 0 1.5rem;
        box-sizing: border-box;
        background: var(--page);
        color: var(--text);
        font: 1rem/1.5 system-ui, sans-serif;
      }
      h1 { margin: 0; font-size: 1.6rem; line-height: 1.2; }
      p { max-width: 26rem; }
      button {
        justify-self: start;
        min-height: 2.75rem;
        padding: 0 1.1rem;
        border: 0;
        border-radius: 12px;
        background: var(--accent);
        color: var(--on-accent);
        font: inherit;
        font-weight: 600;
        cursor: pointer;
      }
      @media (forced-colors: active) { button { forced-color-adjust: none; background: Highlight; color: HighlightText; } }
      :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
    </style>
  </head>
  <body>
    <main>
      <h1>${title}</h1>
      <p>${text} What you wrote is kept in this browser.</p>
      <button>Try again</button>
    </main>
    <script nonce="${nonce}">
      try {
        document.documentElement.dataset.theme = localStorage.getItem("roomcast.theme") ?? "";
      } catch {}
      const again = () => location.reload();
      document.querySelector("button").addEventListener("click", again);
      addEventListener("online", again);
      // A reload before the server answers would only interrupt the reader.
      const check = () => fetch("/offline.js", { method: "HEAD", cache: "no-store" }).then(({ ok }) => ok && again(), () => {});
      setInterval(check, 5000);
    </script>
  </body>
</html>
`;
