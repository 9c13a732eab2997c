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
/** Whether text has grown and is not drawn yet, and the timer of its drawing. */
let hasGrown = false;
let growth: ReturnType<typeof setTimeout> | undefined;
/** Whether growing text is drawn, but its frame is not painted yet. */
let isPainting = false;

function draw(): void {
  isScheduled = hasGrown = false;
  clearTimeout(growth);
  growth = undefined;
  if (root !== null) render(<Page app={app} />, root);
}

/**
 * Draws growing text before its frame, not in it: the list scrolls to its new end, and browsers
 * would need a second frame for the event of a scroll that happens in a frame.
 */
function drawGrowth(): void {
  const start = performance.now();
  draw();
  const drawn = performance.now() - start;
  isPainting = true;
  requestAnimationFrame(() => {
    const frame = performance.now();
    // This runs after the frame, whose layout and painting count.
    setTimeout(() => {
      const end = performance.now();
      pace.note(end, drawn + end - frame);
      isPainting = false;
      planGrowth();
    });
  });
}

function planGrowth(): void {
  if (hasGrown && !isScheduled && !isPainting) growth ??= setTimeout(drawGrowth, pace.pause(performance.now()));
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
  requestAnimationFrame(draw);
};
app.grown = () => {
  hasGrown = true;
  planGrowth();
};
applyTheme();
app.start();
draw();
