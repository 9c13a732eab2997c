import type { SocketManager } from "../../packages/client/src/index.ts";
import type { Conversation } from "../conversation.ts";
import { typingLine } from "../typing.ts";
import { Composer } from "./composer.ts";
import { element, setText } from "./dom.ts";
import { icon } from "./icons.ts";
import { Messages } from "./messages.ts";
import { Notices } from "./notices.ts";
import { People } from "./people.ts";
import { StatusView } from "./status.ts";
import { themeToggle } from "./theme.ts";

/** The whole page of a conversation. */
export class Chat {
  readonly node: HTMLElement;
  readonly #manager: SocketManager;
  readonly #conversation: Conversation;
  readonly #messages: Messages;
  readonly #composer: Composer;
  readonly #people = new People();
  readonly #status: StatusView;
  readonly #notices = new Notices();
  readonly #typing = element("p", { class: "typing" });
  readonly #announcer = element("div", { class: "spoken", role: "log", "aria-label": "New messages" });
  readonly #absent = element("div", { class: "absent", hidden: true }, "This server has no Lobby, or does not let you in.");
  #isScheduled = false;
  #typingTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(manager: SocketManager, conversation: Conversation, rename: () => void) {
    this.#manager = manager;
    this.#conversation = conversation;
    this.#messages = new Messages(conversation);
    this.#composer = new Composer({
      send: (content) => {
        conversation.send(content);
        this.#messages.scrollToEnd();
      },
      handleInput: (text) => conversation.handleInput(text),
      handleInputStop: () => conversation.handleInputStop(),
    });
    this.#status = new StatusView(() => manager.retry());
    const name = element("button", { class: "icon-button", type: "button", title: "Change your name", "aria-label": "Change your name" }, icon("pencil"));
    name.addEventListener("click", rename);
    const header = element(
      "header",
      { class: "header" },
      element("img", { class: "logo", src: "/favicon.svg", alt: "", width: "32", height: "32" }),
      element("div", { class: "header-text" }, element("h1", {}, "Lobby"), this.#status.badge),
      element("div", { class: "header-actions" }, name, themeToggle(), this.#people.toggle),
    );
    const main = element(
      "main",
      { class: "main" },
      this.#status.bar,
      this.#absent,
      this.#messages.node,
      this.#typing,
      this.#composer.node,
    );
    this.node = element("div", { class: "chat" }, header, main, this.#people.node, this.#notices.node, this.#announcer);
    this.#messages.scrolled = () => this.#watch();
    document.addEventListener("visibilitychange", () => this.#watch());
  }

  start(): void {
    this.render();
    this.#composer.focus();
  }

  notice(text: string): void {
    this.#notices.show(text);
  }

  /** Has a screen reader say something. */
  announce(text: string): void {
    this.#announcer.append(element("p", {}, text));
    if (this.#announcer.childElementCount > 20) this.#announcer.firstElementChild?.remove();
  }

  /** Draws before the next frame, however many changes there are until then. */
  schedule(): void {
    this.#renderTitle();
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => this.render());
  }

  render(): void {
    this.#isScheduled = false;
    const { users, present, ownId, stage } = this.#conversation;
    this.#status.render(this.#manager.status);
    this.#people.render(users, present, ownId);
    this.#absent.hidden = stage !== "absent";
    this.#messages.render();
    this.#renderTyping();
    this.#watch();
  }

  #renderTyping(): void {
    const now = Date.now();
    const { typists } = this.#conversation;
    setText(this.#typing, typingLine(typists.names(now)));
    clearTimeout(this.#typingTimer);
    const expiry = typists.nextExpiry(now);
    if (expiry !== undefined) this.#typingTimer = setTimeout(() => this.schedule(), expiry - now);
  }

  #renderTitle(): void {
    const { unread } = this.#conversation;
    const title = unread === 0 ? "Lobby · Roomcast" : `(${unread}) Lobby · Roomcast`;
    if (document.title !== title) document.title = title;
  }

  #watch(): void {
    this.#conversation.watch(this.#messages.isAtEnd, document.visibilityState === "visible");
  }
}
