import { render } from "preact";
import { applyTheme } from "../view/theme.tsx";
import { Desk } from "./desk.ts";
import { Page } from "./page.tsx";

const desk = new Desk(document.querySelector<HTMLMetaElement>("meta[name=socket-path]")?.content ?? "");
const root = document.querySelector("#app");
let isScheduled = false;

function draw(): void {
  isScheduled = false;
  if (root !== null) render(<Page desk={desk} />, root);
}

// Draws once per frame, regardless of the number of changes.
desk.changed = (isUrgent = false) => {
  if (isUrgent) return draw();
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(draw);
};
applyTheme();
desk.start();
draw();
