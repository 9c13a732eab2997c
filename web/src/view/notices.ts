import { element } from "./dom.ts";
import { icon } from "./icons.ts";

const SHOWN_FOR = 8_000;
const MAX_SHOWN = 3;

/** Short notes about what failed, which leave by themselves. */
export class Notices {
  readonly node = element("div", { class: "notices", role: "alert" });

  show(text: string): void {
    if ([...this.node.children].some((notice) => notice.querySelector("span")?.textContent === text)) return;
    const close = element("button", { class: "icon-button", type: "button", "aria-label": "Dismiss" }, icon("close"));
    const notice = element("p", { class: "notice" }, icon("alert"), element("span", {}, text), close);
    close.addEventListener("click", () => notice.remove());
    setTimeout(() => notice.remove(), SHOWN_FOR);
    this.node.append(notice);
    if (this.node.childElementCount > MAX_SHOWN) this.node.firstElementChild?.remove();
  }
}
