import { MAX_CONTENT, cleanContent, scalarCount } from "../text.ts";
import { element, setAttribute, setText } from "./dom.ts";
import { icon } from "./icons.ts";

/** So close to the limit the characters left are shown. */
const COUNT_FROM = 500;

export interface ComposerActions {
  send(content: string): void;
  handleInput(text: string): void;
  handleInputStop(): void;
}

/** Where a message is written. Enter sends it, Shift+Enter begins a new line. */
export class Composer {
  readonly node: HTMLElement;
  readonly #actions: ComposerActions;
  readonly #text = element("textarea", {
    id: "composer",
    rows: "1",
    placeholder: "Write a message",
    autocomplete: "off",
    enterkeyhint: "send",
    "aria-describedby": "composer-help",
  });
  readonly #count = element("p", { class: "composer-count", "aria-live": "polite" });
  readonly #send = element("button", { class: "button button-primary composer-send", type: "submit", "aria-label": "Send", title: "Send" }, icon("send"));

  constructor(actions: ComposerActions) {
    this.#actions = actions;
    const form = element(
      "form",
      { class: "composer" },
      element("label", { class: "spoken", for: "composer" }, "Message"),
      this.#text,
      this.#send,
    );
    const help = element(
      "p",
      { class: "composer-help", id: "composer-help" },
      element("kbd", {}, "Enter"),
      " sends, ",
      element("kbd", {}, "Shift"),
      " + ",
      element("kbd", {}, "Enter"),
      " starts a new line",
    );
    this.node = element("div", { class: "composer-area" }, form, element("div", { class: "composer-foot" }, help, this.#count));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("keydown", (event) => {
      // While an input method composes, Enter belongs to it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("input", () => {
      this.#update();
      this.#actions.handleInput(this.#text.value);
    });
    this.#text.addEventListener("blur", () => this.#actions.handleInputStop());
    this.#update();
  }

  focus(): void {
    this.#text.focus();
  }

  #submit(): void {
    const content = cleanContent(this.#text.value);
    if (!isContent(content)) return;
    this.#text.value = "";
    this.#update();
    this.#actions.send(content);
    this.#text.focus();
  }

  #update(): void {
    const content = cleanContent(this.#text.value);
    const left = MAX_CONTENT - scalarCount(content);
    this.#send.disabled = !isContent(content);
    setAttribute(this.#text, "aria-invalid", left < 0 ? "true" : undefined);
    this.#count.classList.toggle("is-wrong", left < 0);
    setText(this.#count, left < 0 ? `${-left} characters too long` : left < COUNT_FROM ? `${left} characters left` : "");
    // Grows with its text, up to the height that the style sheet allows.
    this.#text.style.height = "auto";
    if (content !== "") this.#text.style.height = `${this.#text.scrollHeight}px`;
  }
}

function isContent(content: string): boolean {
  return content !== "" && scalarCount(content) <= MAX_CONTENT;
}
