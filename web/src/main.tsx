import { render } from "preact";
import { App } from "./app.ts";
import { Pace } from "./pace.ts";
import { Page } from "./view/page.tsx";
import { applyTheme } from "./view/theme.tsx";

function meta(name: string): string {
  return document.querySelector<HTMLMetaElement>(`meta[name=${name}]`)?.content ?? "";
}

const app = new App({
  socketPath: meta("socket-path"),
  guests: meta("guests") !== "false",
  loginUrl: meta("login-url"),
  logoutUrl: meta("logout-url"),
  market: meta("market") === "true",
  // A message must not make its readers' browsers send authenticated requests to this server.
  images: meta("images").split(" ").filter((origin) => origin !== location.origin),
});
const root = document.querySelector("#app");
const pace = new Pace();
let isScheduled = false;
/** The timer of growing text that is not drawn yet. */
let growth: ReturnType<typeof setTimeout> | undefined;

function draw(): void {
  isScheduled = false;
  clearTimeout(growth);
  growth = undefined;
  if (root !== null) render(<Page app={app} />, root);
}

function drawFrame(): void {
  const start = performance.now();
  draw();
  // This runs after the frame, whose layout and painting count.
  setTimeout(() => pace.note(start, performance.now()));
}

/**
 * Returns the page title, which is set immediately: hidden pages get no frames, but their title is
 * visible.
 */
function title(): string {
  const unread = app.inbox?.unread ?? 0;
  const name = app.place.isTrading ? "Trading · " : app.current === undefined ? "" : `${app.inbox?.titleOf(app.current.id)} · `;
  return `${unread === 0 ? "" : `(${unread > 999 ? "999+" : unread}) `}${app.phase === "in" ? name : ""}Roomcast`;
}

// Draws once per frame, regardless of the number of changes.
app.changed = (isUrgent = false) => {
  const text = title();
  if (document.title !== text) document.title = text;
  if (isUrgent) return draw();
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(drawFrame);
};
app.grown = () => {
  if (!isScheduled) growth ??= setTimeout(() => app.changed(), pace.pause(performance.now()));
};
applyTheme();
app.start();
draw();
