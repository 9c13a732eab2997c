import type { Conversation } from "../conversation.ts";
import { element, setText } from "./dom.ts";
import { icon } from "./icons.ts";
import { type LineActions, appearance, line } from "./line.ts";
import { type Row, rowsOf } from "./rows.ts";

/** Closer to the end than this counts as being there. */
const END_MARGIN = 48;
/** Closer to the top than this, the page before is loaded. */
const TOP_MARGIN = 400;

/** A line, and where it ends in view. */
interface Anchor {
  key: string;
  bottom: number;
}

/** The scrolling list of messages. It stays where the reader is, whatever comes in above or below. */
export class Messages {
  readonly node: HTMLElement;
  /** Called when the reader moved. */
  scrolled: () => void = () => {};
  readonly #conversation: Conversation;
  readonly #actions: LineActions;
  readonly #lines = new Map<string, { node: HTMLElement; appearance: string }>();
  readonly #older = element("button", { class: "link-button older", type: "button" });
  readonly #beginning = element("div", { class: "beginning" });
  readonly #list = element("ol", { class: "lines" });
  readonly #scroller: HTMLElement;
  readonly #jump: HTMLButtonElement;
  readonly #jumpText = element("span");
  #rows: readonly Row[] = [];
  #isAtEnd = true;
  /** By how many pixels, less than one, the list stands lower than its place. */
  #shift = 0;

  constructor(conversation: Conversation) {
    this.#conversation = conversation;
    this.#actions = conversation;
    this.#scroller = element(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": "Messages" },
      element("div", { class: "top" }, this.#older, this.#beginning),
      this.#list,
    );
    this.#jump = element("button", { class: "jump", type: "button", hidden: true }, icon("down"), this.#jumpText);
    this.node = element("div", { class: "messages" }, this.#scroller, this.#jump);
    this.#older.addEventListener("click", () => void conversation.loadOlder());
    this.#jump.addEventListener("click", () => {
      this.scrollToEnd();
      // The button is about to go; the keyboard stays with the messages.
      this.#scroller.focus({ preventScroll: true });
    });
    this.#scroller.addEventListener("scroll", () => this.#handleScroll(), { passive: true });
    // The keyboard of a phone, a growing composer: who was at the end stays there.
    new ResizeObserver(() => {
      if (this.#isAtEnd) this.scrollToEnd();
    }).observe(this.#scroller);
  }

  get isAtEnd(): boolean {
    return this.#isAtEnd;
  }

  scrollToEnd(): void {
    this.#isAtEnd = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.scrolled();
  }

  render(): void {
    const { timeline, activity, drafts, ownId, firstUnread, unread, hasOlder, isLoadingOlder, stage } = this.#conversation;
    const anchor = this.#isAtEnd ? undefined : this.#anchor();
    const rows = rowsOf({
      messages: timeline.messages,
      lines: activity.lines,
      drafts,
      ownId,
      firstUnread,
      now: new Date(),
    });
    this.#reconcile(rows);
    this.#scroller.setAttribute("aria-busy", String(stage === "entering"));
    this.#older.hidden = !hasOlder;
    setText(this.#older, isLoadingOlder ? "Loading earlier messages…" : "Show earlier messages");
    const isEmpty = timeline.messages.length === 0;
    this.#beginning.hidden = hasOlder || (stage !== "entered" && !isEmpty) || stage === "absent";
    this.#renderBeginning(stage === "entered", isEmpty);
    this.#jump.hidden = this.#isAtEnd;
    this.#jump.classList.toggle("is-unread", unread > 0);
    setText(this.#jumpText, unread === 0 ? "To the newest" : `${unread} new ${unread === 1 ? "message" : "messages"}`);
    if (anchor === undefined) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else this.#bringBack(anchor);
    if (stage === "entered") this.#loadWhenNearTop();
  }

  /**
   * The first message in view that will still be there, and where it ends. Not where it begins: its
   * author goes away when earlier messages of the same author come in above.
   */
  #anchor(): Anchor | undefined {
    for (const row of this.#rows) {
      const bottom = this.#bottomOf(row.key);
      if (row.kind === "message" && bottom !== undefined && bottom > 0) return { key: row.key, bottom };
    }
    return undefined;
  }

  /** Brings the anchor back to where it was in view. */
  #bringBack({ key, bottom }: Anchor): void {
    const distance = (this.#bottomOf(key) ?? bottom) - bottom - this.#shift;
    const before = this.#scroller.scrollTop;
    this.#scroller.scrollTop = before + Math.round(distance);
    // Heights are fractions of pixels, but browsers scroll by whole ones: the list is shifted by the rest.
    const rest = this.#scroller.scrollTop - before - distance;
    // Where the list ends there may be nothing to scroll by; its end is the place then.
    this.#shift = Math.abs(rest) < 1 ? rest : 0;
    this.#list.style.top = `${this.#shift}px`;
  }

  /** Where a line ends, in pixels below the upper edge of what is in view; not rounded, as `offsetTop` would be. */
  #bottomOf(key: string): number | undefined {
    const line = this.#lines.get(key)?.node.getBoundingClientRect();
    return line && line.bottom - this.#scroller.getBoundingClientRect().top;
  }

  #reconcile(rows: readonly Row[]): void {
    this.#rows = rows;
    const keys = new Set(rows.map((row) => row.key));
    for (const [key, { node }] of this.#lines) {
      if (keys.has(key)) continue;
      node.remove();
      this.#lines.delete(key);
    }
    const nodes = rows.map((row) => this.#lineOf(row));
    let place = this.#list.firstElementChild;
    for (const node of nodes) {
      if (node === place) place = place.nextElementSibling;
      else this.#list.insertBefore(node, place);
    }
  }

  #lineOf(row: Row): HTMLElement {
    const known = this.#lines.get(row.key);
    const look = appearance(row);
    if (known?.appearance === look) return known.node;
    const node = line(row, this.#actions);
    known?.node.replaceWith(node);
    this.#lines.set(row.key, { node, appearance: look });
    return node;
  }

  #renderBeginning(isEntered: boolean, isEmpty: boolean): void {
    const title = !isEntered ? "Opening the Lobby…" : isEmpty ? "It is quiet here" : "This is where the Lobby begins";
    const text = isEntered && isEmpty ? "Say hello. Open this page in a second tab to talk to yourself." : "";
    if (this.#beginning.firstChild?.textContent === title) return;
    this.#beginning.classList.toggle("is-empty", isEmpty);
    this.#beginning.replaceChildren(element("p", { class: "beginning-title" }, title), element("p", {}, text));
  }

  #handleScroll(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#isAtEnd = scrollHeight - scrollTop - clientHeight < END_MARGIN;
    this.#jump.hidden = this.#isAtEnd;
    this.scrolled();
    this.#loadWhenNearTop();
  }

  #loadWhenNearTop(): void {
    if (this.#conversation.hasOlder && this.#scroller.scrollTop < TOP_MARGIN) void this.#conversation.loadOlder();
  }
}
