import { Component, createRef } from "preact";
import type { App, Place } from "../app.ts";
import type { Conversation } from "../model/conversation.ts";
import { quoteOf } from "../marks/marks.ts";
import type { Draft } from "../model/draft.ts";
import type { Divider } from "../model/reading.ts";
import { type Row, receiptInWords, rowsOf } from "../model/rows.ts";
import { dayLabel } from "../words/time.ts";
import type { Message } from "../types.ts";
import { isolated } from "../words/text.ts";
import { Icon } from "./icons.tsx";
import { Line, type LineActions } from "./line.tsx";
import { Isolated } from "./parts.tsx";

/** Distance in pixels from the end within which the list counts as being at its end. */
const END_MARGIN = 48;
/** Distance in pixels from an edge within which more messages are drawn or loaded. */
const EDGE_MARGIN = 1_000;
/** The share of the view above the divider when the view moves to it. */
const READ_SHARE = 0.3;
/** Distance in pixels from the view beyond which messages are removed from the document. */
const FAR = 2 * EDGE_MARGIN;
/** Number of messages around a place, in addition to one for 20 pixels of the view. */
const WINDOW = 100;
/** Number of messages that are drawn in one frame. More would take longer than a frame. */
const STEP = 8;
/** The same if the view is about to reach an edge. */
const LONG_STEP = 24;
/** The events that show that the user is active. */
const PRESSES = ["keydown", "pointerdown"] as const;

/** A line, and the position in the view of its bottom or, while its text grows, of its text. */
interface Anchor {
  key: string;
  isGrowing: boolean;
  position: number;
}

interface MessagesProps {
  app: App;
  conversation: Conversation;
  edit: (message: Message | Draft) => void;
  reply: (message: Message) => void;
  withdraw: (clientMessageId: string) => void;
  /** Receives this component, because Preact sets `ref` only for elements. */
  handle: { current: Messages | null };
}

/**
 * The scrolling list of messages. It keeps its position when messages are added above or below.
 * Only the messages around the view are in the document.
 */
export class Messages extends Component<MessagesProps> {
  /**
   * The `seq` range of the messages in the document: greater than `after`, and at most `upTo`, or
   * up to the newest if `upTo` is undefined.
   */
  #after = 0;
  #upTo: number | undefined;
  #rows: readonly Row[] = [];
  #isAtEnd = true;
  /** The scroll position when the list was last at its end. */
  #endTop = 0;
  /** The offset of the list from its position, in fractions of a pixel. */
  #shift = 0;
  /** The height of the view. */
  #height = 0;
  #isMounted = false;
  /** Whether the window moves after the next frame, if necessary. */
  #isMoving = false;
  /** The `seq` of the target of a jump, until it is shown. */
  #target: number | undefined;
  /** The latest address, and whether the user was active since. */
  #address: Place | undefined;
  #isBusy = false;
  #marked: number | undefined;
  /** The address of the latest jump. Opening the same address again jumps again. */
  #reached: Place | undefined;
  readonly #scroller = createRef<HTMLDivElement>();
  readonly #list = createRef<HTMLOListElement>();
  readonly #place = createRef<HTMLDivElement>();
  readonly #handleVisibility = () => this.#watch();
  readonly #handlePress = () => (this.#isBusy = true);
  readonly #resize = new ResizeObserver(() => {
    this.#height = this.#scroller.current?.clientHeight ?? 0;
    // The keyboard of a phone or a resize changes the height: a list at its end stays there.
    this.keepAtEnd();
  });

  override componentDidMount(): void {
    this.props.handle.current = this;
    this.#isMounted = true;
    document.addEventListener("visibilitychange", this.#handleVisibility);
    for (const press of PRESSES) document.addEventListener(press, this.#handlePress, true);
    if (this.#scroller.current) this.#resize.observe(this.#scroller.current);
    void this.#jump();
    this.componentDidUpdate(this.props, {}, undefined);
  }

  override componentWillMount(): void {
    // The first drawing already begins at the divider.
    this.#watch();
  }

  override componentWillUnmount(): void {
    this.props.handle.current = null;
    document.removeEventListener("visibilitychange", this.#handleVisibility);
    for (const press of PRESSES) document.removeEventListener(press, this.#handlePress, true);
    this.#resize.disconnect();
    this.#isMounted = false;
    this.props.conversation.watch(true, false);
  }

  override getSnapshotBeforeUpdate(): Anchor | undefined {
    return this.#isAtEnd ? undefined : this.#anchor();
  }

  override componentDidUpdate(_: MessagesProps, __: unknown, anchor: Anchor | undefined): void {
    const { place } = this.props.app;
    if (place !== this.#address) [this.#address, this.#isBusy] = [place, false];
    if (this.#place.current && place.seq !== undefined && place !== this.#reached) void this.#jump();
    if (this.#target !== undefined && this.#showTarget(this.#target)) this.#target = undefined;
    else if (this.#divider !== undefined) this.#showDivider();
    else if (this.#isAtEnd && this.#target === undefined) this.#toEnd();
    else if (anchor !== undefined) this.#restoreAnchor(anchor);
    this.#watch();
    this.#extendLater();
  }

  override render({ app, conversation, edit, reply, withdraw }: MessagesProps) {
    const { timeline, unread, hasOlder, hasNewer, isLoading, isOpening, stage } = conversation;
    const rows = (this.#rows = isOpening ? [] : this.#visibleRows());
    const isEmpty = timeline.messages.length === 0;
    const isWaiting = isOpening || stage === "entering";
    const isBeginning = !hasOlder && !this.#hidesOlder && (stage === "entered" || !isEmpty) && stage !== "absent";
    const actions: LineActions = {
      people: app.people,
      sendAgain: (id) => conversation.sendAgain(id),
      discard: (id) => conversation.discard(id),
      edit,
      withdraw,
      deleteSoon: (id) => {
        app.inbox?.deletions.add(id);
        app.announce("Message deleted. You can undo this for some seconds.");
      },
      undoDeletion: (id) => app.inbox?.deletions.undo(id),
      reply,
      toggle: (message, emoji) => void conversation.react(message, emoji),
      pin: conversation.mayPin ? ({ id }) => void (conversation.pins.has(id) ? conversation.unpin(id) : conversation.pin(id)) : undefined,
      isPinned: (id) => conversation.pins.has(id),
      jump: (seq) => app.go({ id: conversation.id, seq }),
      quote: (id) => {
        const original = timeline.find(id);
        return original && quoteOf(original);
      },
      sendAlone: (draft) => conversation.sendAlone(draft),
      stop: (id) => void conversation.stop(id),
      ownId: conversation.ownId,
      images: app.entrance.images,
      copied: () => app.confirm("The link was copied."),
      showPerson: (userId) => app.showPerson(userId),
    };
    const last = rows.findLast((row) => row.kind === "message")?.key;
    return (
      <div class="messages">
        <div class="place" aria-hidden="true" ref={this.#place} hidden />
        <div
          class="scroller"
          tabIndex={0}
          role="region"
          aria-label="Messages"
          aria-busy={isWaiting}
          ref={this.#scroller}
          onScroll={() => this.#handleScroll()}
          onKeyDown={(event) => this.#handleKey(event)}
        >
          <div class="top">
            <button class="link-button older" type="button" hidden={!hasOlder || isEmpty || isOpening} onClick={() => void conversation.loadOlder()}>
              {isLoading ? "Loading messages…" : "Show earlier messages"}
            </button>
            {(isBeginning || isWaiting) && <Beginning key={isWaiting} title={app.inbox?.titleOf(conversation.id) ?? ""} isEntered={!isWaiting} isEmpty={isEmpty} />}
          </div>
          <ol class="lines" ref={this.#list}>
            {rows.map((row) => (
              <Line
                key={row.key}
                row={row}
                actions={actions}
                isReachable={row.key === last}
                isMarked={row.kind === "message" && row.message.seq === this.#marked}
                mark={row.kind === "message" ? app.people.markOf(row.message.userId, row.message.userName) : undefined}
              />
            ))}
          </ol>
        </div>
        <button class={unread > 0 ? "jump is-unread" : "jump"} type="button" hidden={this.#isAtEnd && !hasNewer} onClick={() => this.scrollToEnd(true)}>
          <Icon name="down" />
          <span>{unread === 0 ? "To the newest" : `${unread} new ${unread === 1 ? "message" : "messages"}`}</span>
        </button>
      </div>
    );
  }

  /** Scrolls to the newest message. With `focus`, the list receives the focus. */
  scrollToEnd(focus = false): void {
    this.#isAtEnd = true;
    this.#upTo = undefined;
    this.#target = undefined;
    this.props.conversation.backToNewest();
    this.setState({}, () => this.#toEnd());
    // The button is about to disappear, so the list receives the focus.
    if (focus) this.#scroller.current?.focus({ preventScroll: true });
  }

  /**
   * Keeps the list at its end when its height changes. Code that changes the height between two
   * frames must call this immediately: otherwise the browser adjusts the scroll position, which
   * looks like the user scrolling up.
   */
  keepAtEnd(): void {
    if (this.#isAtEnd) this.#toEnd();
  }

  #visibleRows(): Row[] {
    const { conversation } = this.props;
    const { timeline, hasOlder } = conversation;
    const { messages } = timeline;
    const { reading, reports, users } = conversation;
    if (this.#divider !== undefined) this.#placeWindow(this.#divider.seq);
    if (this.#upTo === undefined && this.#isAtEnd) this.#after = ((messages.at(-this.#size) ?? messages[0])?.seq ?? 1) - 1;
    const from = timeline.indexAfter(this.#after);
    let end = this.#end;
    // Far above the end, the messages below are not needed.
    if (!this.#isAtEnd && end - from > 2 * this.#size) {
      end = from + 2 * this.#size;
      this.#upTo = messages[end - 1]?.seq;
    }
    const isNewest = this.#upTo === undefined;
    const others = users.filter(({ userId }) => userId !== conversation.ownId).length;
    return rowsOf({
      messages: messages.slice(from, end),
      lines: isNewest && !conversation.hasNewer ? conversation.activity.lines : [],
      drafts: isNewest ? conversation.drafts : [],
      ownId: conversation.ownId,
      divider: reading.divider && { ...reading.divider, seq: Math.max(reading.divider.seq, hasOlder ? 0 : (messages[0]?.seq ?? 0)) },
      now: new Date(),
      receiptOf: (message) => (reading.wasRead(message) ? "read" : receiptInWords(reading.readersOf(message), others, reports.get(message.id))),
      isLeaving: (id) => this.props.app.inbox?.deletions.has(id) ?? false,
    });
  }

  /** The index after the last message in the document. */
  get #end(): number {
    const { timeline } = this.props.conversation;
    return this.#upTo === undefined ? timeline.messages.length : timeline.indexAfter(this.#upTo);
  }

  get #hidesOlder(): boolean {
    return (this.props.conversation.timeline.first?.seq ?? 0) <= this.#after && this.#after > 0;
  }

  /**
   * Returns the first message in view that persists, and its bottom. The bottom is stable: the
   * author above a message disappears when earlier messages of the same author are added. A growing
   * text moves the bottom, and the reader stays at its beginning.
   */
  #anchor(): Anchor | undefined {
    for (let line = this.#firstBelow(0); line !== undefined; line = line.nextElementSibling ?? undefined) {
      const [key, isGrowing] = [line.getAttribute("data-key") ?? "", line.querySelector(".caret") !== null];
      const position = this.#positionOf(line, isGrowing);
      if (line.matches("[data-id]") && position !== undefined) return { key, isGrowing, position };
    }
    return undefined;
  }

  /**
   * Returns the first line whose bottom is below a height. The lines are ordered, so a binary
   * search measures few of them.
   */
  #firstBelow(height: number): Element | undefined {
    const lines = this.#list.current?.children;
    let [from, to] = [0, lines?.length ?? 0];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#bottomOf(lines?.[middle]) ?? 0) > height) to = middle;
      else from = middle + 1;
    }
    return lines?.[from];
  }

  /** Scrolls the anchor back to its position in the view. */
  #restoreAnchor({ key, isGrowing, position }: Anchor): void {
    const [scroller, list] = [this.#scroller.current, this.#list.current];
    if (scroller === null || list === null) return;
    const distance = (this.#positionOf(this.#lineOf(key), isGrowing) ?? position) - position - this.#shift;
    const before = scroller.scrollTop;
    const target = Math.round(distance);
    if (target !== 0) scroller.scrollTop = before + target;
    // Heights can be fractions of pixels, but browsers scroll by whole pixels: the list is shifted
    // by the rest.
    const rest = scroller.scrollTop - before - distance;
    // At its end, the list may not be scrollable any further. The shift is then 0.
    this.#shift = Math.abs(rest) < 1 ? rest : 0;
    list.style.top = `${this.#shift}px`;
  }

  /** Returns the position of an anchor's line: the top of its bubble if it grows, or its bottom. */
  #positionOf(line: Element | undefined, isGrowing: boolean): number | undefined {
    const [bottom, bubble] = [this.#bottomOf(line), line?.querySelector(".bubble")];
    if (!isGrowing || !line || !bubble || bottom === undefined) return bottom;
    return bottom - line.getBoundingClientRect().bottom + bubble.getBoundingClientRect().top;
  }

  /**
   * Returns the bottom of a line, in pixels below the top of the view. Unlike `offsetTop`, it is
   * not rounded.
   */
  #bottomOf(line: Element | undefined): number | undefined {
    const scroller = this.#scroller.current;
    return line && scroller ? line.getBoundingClientRect().bottom - scroller.getBoundingClientRect().top : undefined;
  }

  #lineOf(key: string): HTMLElement | undefined {
    return this.#list.current?.querySelector<HTMLElement>(`:scope > [data-key="${CSS.escape(key)}"]`) ?? undefined;
  }

  #toEnd(): void {
    const scroller = this.#scroller.current;
    if (scroller === null) return;
    scroller.scrollTop = scroller.scrollHeight;
    this.#endTop = scroller.scrollTop;
  }

  /** Jumps to the message that the address names. */
  async #jump(): Promise<void> {
    const { app, conversation } = this.props;
    const { seq } = app.place;
    if (seq === undefined || conversation.stage !== "entered") return;
    this.#marked = seq;
    this.#reached = app.place;
    conversation.reading.leaveDivider();
    const exists = await conversation.jump(seq);
    // The list of conversations may have arrived in the meantime.
    conversation.reading.leaveDivider();
    if (!exists) return app.notice("This message does not exist.");
    this.#target = seq;
    this.#placeWindow(seq);
    this.setState({});
  }

  /** Moves the window around a message, or the next one after it. */
  #placeWindow(target: number): void {
    const { timeline } = this.props.conversation;
    const { messages } = timeline;
    this.#isAtEnd = false;
    const index = timeline.indexAfter(target - 1);
    const half = this.#size >> 1;
    this.#after = (messages[Math.max(0, index - half)]?.seq ?? 1) - 1;
    this.#upTo = messages[index + half]?.seq;
  }

  /** The divider that the view has yet to move to. An address of a message has priority. */
  get #divider(): Divider | undefined {
    const { app, conversation } = this.props;
    const { divider } = conversation.reading;
    const isWanted = divider?.isTarget === true && !conversation.isOpening && (app.place.seq === undefined || app.place === this.#reached);
    return isWanted ? divider : undefined;
  }

  /** Returns the `seq` of the first message whose bottom is below a height. */
  #seqBelow(height: number): number | undefined {
    let line = this.#firstBelow(height);
    while (line && !line.matches("[data-seq]")) line = line.nextElementSibling ?? undefined;
    return line && Number(line.getAttribute("data-seq"));
  }

  /** Scrolls to the divider, with a part of the read messages above it. */
  #showDivider(): void {
    const [scroller, line] = [this.#scroller.current, this.#lineOf("unread")];
    this.props.conversation.reading.leaveDivider();
    if (scroller !== null && line !== undefined) scroller.scrollTop += (this.#bottomOf(line) ?? 0) - scroller.clientHeight * READ_SHARE;
    // All unread messages may fit into the view. Without a divider, they could not be loaded.
    this.#isAtEnd = (line === undefined || this.#below < END_MARGIN) && this.#isNewest;
    if (this.#isAtEnd) this.#toEnd();
    this.setState({});
  }

  /** The distance of the view from the end of the list. */
  get #below(): number {
    const scroller = this.#scroller.current;
    return scroller === null ? 0 : scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  }

  /** Whether the newest message is in the document. */
  get #isNewest(): boolean {
    return this.#upTo === undefined && !this.props.conversation.hasNewer;
  }

  #showTarget(seq: number): boolean {
    const line = this.#list.current?.querySelector<HTMLElement>(`:scope > [data-seq="${seq}"]`);
    line?.scrollIntoView({ block: "center" });
    // A user who is active, for example writing, keeps the focus.
    if (!this.#isBusy) line?.focus({ preventScroll: true });
    return line !== null && line !== undefined;
  }

  #handleScroll(): void {
    const scroller = this.#scroller.current;
    if (scroller === null) return;
    const wasAtEnd = this.#isAtEnd;
    const below = this.#below;
    // Only scrolling up leaves the end. If messages were added below or the composer has grown
    // since the list was scrolled to its end, the list follows its new end.
    const hasGrown = wasAtEnd && scroller.scrollTop >= this.#endTop;
    this.#isAtEnd = (below < END_MARGIN || hasGrown) && this.#isNewest;
    if (this.#isAtEnd && below >= 1 && hasGrown) this.#toEnd();
    if (this.#isAtEnd !== wasAtEnd) this.setState({});
    this.#watch();
    this.#extendLater();
    this.#showPlace();
  }

  #watch(): void {
    const { conversation } = this.props;
    conversation.watch(this.#isAtEnd, document.visibilityState === "visible");
    if (this.#scroller.current === null || conversation.unread === 0 || this.#target !== undefined || this.#divider !== undefined) return;
    const height = this.#scroller.current.clientHeight;
    // Whole messages count: the first ends in view, and the last is the last one that does.
    let [first, last] = [this.#firstBelow(0), this.#firstBelow(height + 1) ?? this.#list.current?.lastElementChild];
    while (first && !first.matches("[data-seq]")) first = first.nextElementSibling ?? undefined;
    while (last && (!last.matches("[data-seq]") || (this.#bottomOf(last) ?? 0) > height + 1)) last = last.previousElementSibling ?? undefined;
    if (first && last) conversation.see(Number(first.getAttribute("data-seq")), Number(last.getAttribute("data-seq")));
  }

  /** The number of messages in the document before the view is scrolled. */
  get #size(): number {
    return WINDOW + Math.ceil(this.#height / 20);
  }

  /**
   * Extends the window after the next frame, so that each frame draws few messages. Browsers would
   * count messages that are drawn in the frame of a scroll as moved.
   */
  #extendLater(): void {
    if (this.#isMoving || (this.#isAtEnd && this.#isNewest && this.#endTop >= EDGE_MARGIN)) return;
    this.#isMoving = true;
    requestAnimationFrame(() =>
      setTimeout(() => {
        this.#isMoving = false;
        if (this.#isMounted) this.#extendWindow();
      }),
    );
  }

  /** Draws or loads messages beyond an edge that is near the view. */
  #extendWindow(): void {
    const scroller = this.#scroller.current;
    const { conversation } = this.props;
    const { timeline } = conversation;
    const { messages } = timeline;
    if (scroller === null || conversation.stage !== "entered" || this.#target !== undefined) return;
    const above = scroller.scrollTop;
    const below = this.#below;
    const stepAt = (distance: number) => (distance < this.#height ? LONG_STEP : STEP);
    if (above < EDGE_MARGIN) {
      const from = timeline.indexAfter(this.#after);
      if (from <= LONG_STEP && conversation.hasOlder) void conversation.loadOlder();
      if (from > 0) {
        const first = messages[Math.max(0, from - stepAt(above))];
        return this.#move((first?.seq ?? 1) - 1, this.#seqBelow(this.#height + FAR) ?? this.#upTo);
      }
    }
    if (below < EDGE_MARGIN && (this.#upTo !== undefined || conversation.hasNewer)) {
      const end = this.#end;
      if (end < messages.length) return this.#move((this.#seqBelow(-FAR) ?? 1) - 1, messages[end + stepAt(below)]?.seq);
      this.#upTo = undefined;
      if (conversation.hasNewer) void conversation.loadNewer();
    }
  }

  /** Draws other messages. */
  #move(after: number, upTo: number | undefined): void {
    this.#isAtEnd = false;
    this.#after = after;
    this.#upTo = upTo;
    this.setState({});
  }

  /** Shows the author and the day of the messages in view, if their headings are out of view. */
  #showPlace(): void {
    const place = this.#place.current;
    const line = this.#firstBelow(8);
    const isUnder = line !== undefined && (this.#bottomOf(line) ?? 0) - line.getBoundingClientRect().height <= 8;
    const key = isUnder ? line.getAttribute("data-key") : undefined;
    const row = this.#rows.find((one) => one.key === key);
    if (place === null) return;
    place.hidden = row?.kind !== "message";
    if (row?.kind !== "message") return;
    const author = row.isOwn ? "You" : row.message.userName;
    const day = `${dayLabel(row.message.createdAt, new Date())} · `;
    // A change, even to the same text, costs a layout in each frame of a scroll.
    if (place.textContent === day + author) return;
    const name = Object.assign(document.createElement("bdi"), { textContent: author });
    place.replaceChildren(day, name);
  }

  /** Arrow keys move the focus between messages. */
  #handleKey(event: preact.TargetedKeyboardEvent<HTMLElement>): void {
    const step = event.key === "ArrowUp" ? "previousElementSibling" : event.key === "ArrowDown" ? "nextElementSibling" : undefined;
    if (step === undefined || !(event.target instanceof HTMLElement) || !event.target.matches("li.message")) return;
    let line = event.target[step];
    while (line !== null && !line.matches("li.message[tabindex]")) line = line[step];
    if (!(line instanceof HTMLElement)) return;
    event.preventDefault();
    line.focus();
    line.scrollIntoView({ block: "nearest" });
  }
}

function Beginning({ title, isEntered, isEmpty }: { title: string; isEntered: boolean; isEmpty: boolean }) {
  // The title may not be known yet; the header shows it.
  const heading = !isEntered ? "Opening the conversation…" : isEmpty ? "It is quiet here" : `This is where ${isolated(title)} begins`;
  return (
    <div class={isEmpty ? "beginning is-empty" : "beginning"}>
      <p class="beginning-title">
        <Isolated text={heading} />
      </p>
      {isEntered && isEmpty && <p>Say hello. Open this page in a second tab to talk to yourself.</p>}
    </div>
  );
}
