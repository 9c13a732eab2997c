import { Component, createRef } from "preact";
import type { App, Place } from "../app.ts";
import type { Conversation } from "../model/conversation.ts";
import { quoteOf } from "../marks/marks.ts";
import type { Draft } from "../model/draft.ts";
import { type Row, receiptInWords, rowsOf } from "../model/rows.ts";
import { dayLabel } from "../words/time.ts";
import type { Message } from "../types.ts";
import { isolated } from "../words/text.ts";
import { Icon } from "./icons.tsx";
import { Line, type LineActions } from "./line.tsx";
import { Isolated } from "./parts.tsx";

/** Closer to the end than this counts as being there. */
const END_MARGIN = 48;
/** Closer to an edge than this, what is beyond it is drawn or loaded. */
const EDGE_MARGIN = 600;
/** So many messages are in the document at a time; by so many it moves on. */
const WINDOW = 240;
const STEP = 80;
/** By these somebody does something. */
const PRESSES = ["keydown", "pointerdown"] as const;

/** A line, and where it ends in view. */
interface Anchor {
  key: string;
  bottom: number;
}

interface MessagesProps {
  app: App;
  conversation: Conversation;
  edit: (message: Message | Draft) => void;
  reply: (message: Message) => void;
  withdraw: (clientMessageId: string) => void;
  /** Where others find the list; Preact sets `ref` of elements alone. */
  handle: { current: Messages | null };
}

/**
 * The scrolling list of messages. It stays where the reader is, whatever comes in above or below. However many are
 * loaded, only those around the reader are in the document.
 */
export class Messages extends Component<MessagesProps> {
  /** The messages in the document: behind `after`, and not behind `upTo`; up to the newest where that is not said. */
  #after = 0;
  #upTo: number | undefined;
  #rows: readonly Row[] = [];
  #isAtEnd = true;
  /** Where the list was scrolled to when it was last at its end. */
  #endTop = 0;
  /** By how many pixels, less than one, the list stands lower than its place. */
  #shift = 0;
  /** Where a jump goes to, until it is there. */
  #target: number | undefined;
  /** The address that was asked for last, and whether anything was pressed since. */
  #asked: Place | undefined;
  #isBusy = false;
  #marked: number | undefined;
  /** The address that was gone to: the same one again leads there again. */
  #reached: Place | undefined;
  readonly #scroller = createRef<HTMLDivElement>();
  readonly #list = createRef<HTMLOListElement>();
  readonly #place = createRef<HTMLDivElement>();
  readonly #handleVisibility = () => this.#watch();
  readonly #handlePress = () => (this.#isBusy = true);
  readonly #resize = new ResizeObserver(() => {
    // The keyboard of a phone, another window: who was at the end stays there.
    this.stay();
  });

  override componentDidMount(): void {
    this.props.handle.current = this;
    document.addEventListener("visibilitychange", this.#handleVisibility);
    for (const press of PRESSES) document.addEventListener(press, this.#handlePress, true);
    if (this.#scroller.current) this.#resize.observe(this.#scroller.current);
    void this.#jump();
    this.componentDidUpdate(this.props, {}, undefined);
  }

  override componentWillUnmount(): void {
    this.props.handle.current = null;
    document.removeEventListener("visibilitychange", this.#handleVisibility);
    for (const press of PRESSES) document.removeEventListener(press, this.#handlePress, true);
    this.#resize.disconnect();
    this.props.conversation.watch(true, false);
  }

  override getSnapshotBeforeUpdate(): Anchor | undefined {
    return this.#isAtEnd ? undefined : this.#anchor();
  }

  override componentDidUpdate(_: MessagesProps, __: unknown, anchor: Anchor | undefined): void {
    const { place } = this.props.app;
    if (place !== this.#asked) [this.#asked, this.#isBusy] = [place, false];
    if (this.#place.current && place.seq !== undefined && place !== this.#reached) void this.#jump();
    if (this.#target !== undefined && this.#showTarget(this.#target)) this.#target = undefined;
    else if (this.#isAtEnd && this.#target === undefined) this.#toEnd();
    else if (anchor !== undefined) this.#bringBack(anchor);
    this.#watch();
    this.#lookAround();
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
        app.announce("Message deleted. It can be undone for some seconds.");
      },
      undoDeletion: (id) => app.inbox?.deletions.undo(id),
      reply,
      react: (id) => {
        app.reactingTo = id;
        app.show("react");
      },
      toggle: (message, emoji) => void conversation.react(message, emoji),
      pin: conversation.mayPin ? ({ id }) => void (conversation.pins.has(id) ? conversation.unpin(id) : conversation.pin(id)) : undefined,
      isPinned: (id) => conversation.pins.has(id),
      jump: (seq) => app.go({ id: conversation.id, seq }),
      quote: (id) => {
        const original = timeline.find(id);
        return original && quoteOf(original);
      },
      sendAlone: (draft) => conversation.sendAlone(draft),
      ownId: conversation.ownId,
      images: app.entrance.images,
      copied: () => app.notice("The link is in your clipboard.", { isBad: false }),
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

  /** Goes to the newest message; with `focus` the keyboard does, too. */
  scrollToEnd(focus = false): void {
    this.#isAtEnd = true;
    this.#upTo = undefined;
    this.#target = undefined;
    this.props.conversation.backToNewest();
    this.setState({}, () => this.#toEnd());
    // The button is about to go; the keyboard stays with the messages.
    if (focus) this.#scroller.current?.focus({ preventScroll: true });
  }

  /**
   * Keeps who is at the end there, when there is more or less room for the messages. Whoever changes that between two frames says so
   * at once: the browser scrolls up where the list becomes too long for its place, which looks like somebody who leaves the end.
   */
  stay(): void {
    if (this.#isAtEnd) this.#toEnd();
  }

  #visibleRows(): Row[] {
    const { conversation } = this.props;
    const { messages } = conversation.timeline;
    if (this.#upTo === undefined && this.#isAtEnd) this.#after = Math.max(0, (messages.at(-WINDOW)?.seq ?? 1) - 1);
    const from = messages.findIndex(({ seq }) => seq > this.#after);
    const { reading, reports, users } = conversation;
    let end = this.#endOf(messages);
    // Who reads far above the end needs not all that is below.
    if (!this.#isAtEnd && end - from > 2 * WINDOW) {
      end = from + 2 * WINDOW;
      this.#upTo = messages[end - 1]?.seq;
    }
    const isNewest = this.#upTo === undefined;
    const others = users.filter(({ userId }) => userId !== conversation.ownId).length;
    return rowsOf({
      messages: from === -1 ? [] : messages.slice(from, end),
      lines: isNewest && !conversation.hasNewer ? conversation.activity.lines : [],
      drafts: isNewest ? conversation.drafts : [],
      ownId: conversation.ownId,
      firstUnread: conversation.firstUnread,
      now: new Date(),
      receiptOf: (message) => (reading.wasRead(message) ? "read" : receiptInWords(reading.readersOf(message), others, reports.get(message.id))),
      isLeaving: (id) => this.props.app.inbox?.deletions.has(id) ?? false,
    });
  }

  /** Behind which message the document ends. */
  #endOf(messages: readonly Message[]): number {
    const upTo = this.#upTo;
    return upTo === undefined ? messages.length : messages.findLastIndex(({ seq }) => seq <= upTo) + 1;
  }

  get #hidesOlder(): boolean {
    return (this.props.conversation.timeline.first?.seq ?? 0) <= this.#after && this.#after > 0;
  }

  /**
   * The first message in view that will still be there, and where it ends. Not where it begins: its
   * author goes away when earlier messages of the same author come in above.
   */
  #anchor(): Anchor | undefined {
    for (let line = this.#firstBelow(0); line !== undefined; line = line.nextElementSibling ?? undefined) {
      const [key, bottom] = [line.getAttribute("data-key") ?? "", this.#bottomOf(line)];
      if (line.matches("[data-id]") && bottom !== undefined) return { key, bottom };
    }
    return undefined;
  }

  /** The first line that ends below a height in view. Lines follow one another, so few of them have to be measured. */
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

  /** Brings the anchor back to where it was in view. */
  #bringBack({ key, bottom }: Anchor): void {
    const [scroller, list] = [this.#scroller.current, this.#list.current];
    if (scroller === null || list === null) return;
    const distance = (this.#bottomOf(this.#lineOf(key)) ?? bottom) - bottom - this.#shift;
    const before = scroller.scrollTop;
    const wanted = Math.round(distance);
    if (wanted !== 0) scroller.scrollTop = before + wanted;
    // Heights are fractions of pixels, but browsers scroll by whole ones: the list is shifted by the rest.
    const rest = scroller.scrollTop - before - distance;
    // Where the list ends there may be nothing to scroll by; its end is the place then.
    this.#shift = Math.abs(rest) < 1 ? rest : 0;
    list.style.top = `${this.#shift}px`;
  }

  /** Where a line ends, in pixels below the upper edge of what is in view; not rounded, as `offsetTop` would be. */
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

  /** Goes to the message that the address names. */
  async #jump(): Promise<void> {
    const { app, conversation } = this.props;
    const { seq } = app.place;
    if (seq === undefined || conversation.stage !== "entered") return;
    this.#marked = seq;
    this.#reached = app.place;
    if (!(await conversation.jump(seq))) return app.notice("This message is not there.");
    this.#target = seq;
    this.#isAtEnd = false;
    const { messages } = conversation.timeline;
    const index = messages.findIndex((message) => message.seq === seq);
    this.#after = (messages[Math.max(0, index - STEP)]?.seq ?? 1) - 1;
    this.#upTo = messages[index + STEP]?.seq;
    this.setState({});
  }

  #showTarget(seq: number): boolean {
    const line = this.#list.current?.querySelector<HTMLElement>(`:scope > [data-seq="${seq}"]`);
    line?.scrollIntoView({ block: "center" });
    // Whoever does something else meanwhile, such as writing, is not interrupted.
    if (!this.#isBusy) line?.focus({ preventScroll: true });
    return line !== null && line !== undefined;
  }

  #handleScroll(): void {
    const scroller = this.#scroller.current;
    if (scroller === null) return;
    const wasAtEnd = this.#isAtEnd;
    const below = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    // Nobody leaves the end but by scrolling up: what has come in below, or a composer that has grown since the list was
    // scrolled to its end, only means that the end is somewhere else now.
    const hasGrown = wasAtEnd && scroller.scrollTop >= this.#endTop;
    this.#isAtEnd = (below < END_MARGIN || hasGrown) && this.#upTo === undefined && !this.props.conversation.hasNewer;
    if (this.#isAtEnd && below >= 1 && hasGrown) this.#toEnd();
    if (this.#isAtEnd !== wasAtEnd) this.setState({});
    this.#watch();
    this.#showPlace();
    this.#lookAround();
  }

  #watch(): void {
    this.props.conversation.watch(this.#isAtEnd, document.visibilityState === "visible");
  }

  /** Draws or loads what is beyond an edge that is near. */
  #lookAround(): void {
    const scroller = this.#scroller.current;
    const { conversation } = this.props;
    const { messages } = conversation.timeline;
    if (scroller === null || conversation.stage !== "entered" || this.#target !== undefined) return;
    const below = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    if (scroller.scrollTop < EDGE_MARGIN) {
      const from = messages.findIndex(({ seq }) => seq > this.#after);
      if (from > 0) return this.#move(Math.max(0, from - STEP));
      if (conversation.hasOlder) void conversation.loadOlder();
    }
    if (below < EDGE_MARGIN && (this.#upTo !== undefined || conversation.hasNewer)) {
      const end = this.#endOf(messages);
      if (end < messages.length) return this.#move(Math.max(0, Math.min(end + STEP, messages.length) - WINDOW));
      this.#upTo = undefined;
      if (conversation.hasNewer) void conversation.loadNewer();
    }
  }

  /** Has the document begin with this message of those that are loaded. */
  #move(from: number): void {
    const { messages } = this.props.conversation.timeline;
    this.#isAtEnd = false;
    this.#after = (messages[from]?.seq ?? 1) - 1;
    this.#upTo = from + WINDOW < messages.length ? messages[from + WINDOW - 1]?.seq : undefined;
    this.setState({});
  }

  /** Says over the messages whose they are and of which day, where that has gone out of view. */
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
    const name = Object.assign(document.createElement("bdi"), { textContent: author });
    place.replaceChildren(`${dayLabel(row.message.createdAt, new Date())} · `, name);
  }

  /** Arrow keys go from message to message, once one of them has the focus. */
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
  // Its title may be known only later; it stands in the header.
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
