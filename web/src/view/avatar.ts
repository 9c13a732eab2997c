import { hue, initials } from "../text.ts";
import { element } from "./dom.ts";

/** The initials of a user on the user's own colour. */
export function avatar(userId: string, name: string): HTMLElement {
  const node = element("span", { class: "avatar", "aria-hidden": "true" }, initials(name));
  node.style.setProperty("--hue", String(hue(userId)));
  return node;
}
