import type { PresentUser } from "../types.ts";
import { avatar } from "./avatar.ts";
import { element, setText } from "./dom.ts";
import { icon } from "./icons.ts";

/** A room may hold thousands; the list shows this many and counts the rest. */
const MAX_SHOWN = 200;

/** The panel that says who is there. On a narrow screen it lies over the conversation. */
export class People {
  readonly node: HTMLElement;
  readonly toggle: HTMLButtonElement;
  readonly #count = element("span", { class: "people-count" });
  readonly #title = element("h2", { id: "people-title" });
  readonly #list = element("ul", { class: "people-list", "aria-labelledby": "people-title" });
  readonly #rest = element("p", { class: "people-rest" });
  #shown: readonly PresentUser[] | undefined;
  #shownCount = 0;

  constructor() {
    const close = element("button", { class: "icon-button people-close", type: "button", "aria-label": "Close" }, icon("close"));
    close.addEventListener("click", () => this.#open(false));
    this.node = element(
      "aside",
      { class: "people", id: "people", "aria-labelledby": "people-title" },
      element("div", { class: "people-head" }, this.#title, close),
      this.#list,
      this.#rest,
    );
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && narrow.matches) this.#open(false);
    });
    document.addEventListener("pointerdown", ({ target }) => {
      const isOutside = target instanceof Node && !this.node.contains(target) && !this.toggle.contains(target);
      if (isOutside && narrow.matches) this.#open(false, false);
    });
    this.toggle = element("button", { class: "icon-button people-toggle", type: "button", "aria-controls": "people" }, icon("people"), this.#count);
    this.toggle.addEventListener("click", () => this.#open(this.node.hidden !== false));
    this.#open(!narrow.matches, false);
    narrow.addEventListener("change", () => this.#open(!narrow.matches, false));
  }

  /** `users` may be fewer than the `count` who are here. */
  render(users: readonly PresentUser[], count: number, ownId: string): void {
    if (users === this.#shown && count === this.#shownCount) return;
    this.#shown = users;
    this.#shownCount = count;
    setText(this.#title, `Here now · ${count}`);
    setText(this.#count, String(count));
    const people = count === 1 ? "1 person" : `${count} people`;
    this.toggle.title = `Who is here: ${people}`;
    this.toggle.setAttribute("aria-label", this.toggle.title);
    const sorted = users.toSorted((one, other) => {
      return Number(other.userId === ownId) - Number(one.userId === ownId) || one.name.localeCompare(other.name);
    });
    const shown = sorted.slice(0, MAX_SHOWN);
    this.#list.replaceChildren(...shown.map((user) => person(user, user.userId === ownId)));
    setText(this.#rest, count > shown.length ? `and ${count - shown.length} more` : "");
  }

  #open(isOpen: boolean, moveFocus = true): void {
    this.node.hidden = !isOpen;
    this.toggle.setAttribute("aria-expanded", String(isOpen));
    if (!moveFocus || !narrow.matches) return;
    const target = isOpen ? this.node.querySelector("button") : this.toggle;
    target?.focus();
  }
}

const narrow = matchMedia("(width < 48rem)");

function person({ userId, name, guest, connections }: PresentUser, isSelf: boolean): HTMLElement {
  return element(
    "li",
    { class: "person", "data-user": userId },
    avatar(userId, name),
    element("span", { class: "person-name" }, name),
    isSelf ? element("span", { class: "tag" }, "you") : undefined,
    guest && !isSelf ? element("span", { class: "tag" }, "guest") : undefined,
    connections > 1 ? element("span", { class: "person-connections", title: `${connections} connections` }, `×${connections}`) : undefined,
  );
}
