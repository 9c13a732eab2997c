import { Component, createRef } from "preact";
import type { App } from "../app.ts";
import type { Conversation } from "../model/conversation.ts";
import { type Row, receiptInWords, rowsOf } from "../model/rows.ts";
import { dayLabel } from "../words/time.ts";
import type { Message } from "../types.ts";
import { Icon } from "./icons.tsx";
import { Line, type LineActions } from "./line.tsx";

/** Closer to the end than this counts as being there. */
const END_MARGIN = 48;
/** Closer to an edge than this, what is beyond it is drawn or loaded. */
const EDGE_MARGIN = 600;
/** So many messages are in the document at a time; by so many it moves on. */
const WINDOW = 240;
const STEP = 80;

/** A line, and where it ends in view. */
interface Anchor {
  key: string;
  bottom: number;
}

interface MessagesProps {
  app: App;
  conversation: Conversation;
  edit: (message: Message) => void;
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
  /** By how many pixels, less than one, the list stands lower than its place. */
  #shift = 0;
  /** Where a jump goes to, until it is there. */
  #target: number | undefined;
  #marked: number | undefined;
  readonly #scroller = createRef<HTMLDivElement>();
  readonly #list = createRef<HTMLOListElement>();
  readonly #place = createRef<HTMLDivElement>();
  readonly #handleVisibility = () => this.#watch();
  readonly #resize = new ResizeObserver(() => {
    // The keyboard of a phone, a growing composer: who was at the end stays there.
    if (this.#isAtEnd) this.#toEnd();
  });

  override componentDidMount(): void {
    document.addEventListener("visibilitychange", this.#handleVisibility);
    if (this.#scroller.current) this.#resize.observe(this.#scroller.current);
    void this.#jump();
    this.componentDidUpdate(this.props, {}, undefined);
  }

  override componentWillUnmount(): void {
    document.removeEventListener("visibilitychange", this.#handleVisibility);
    this.#resize.disconnect();
    this.props.conversation.watch(true, false);
  }

  override getSnapshotBeforeUpdate(): Anchor | undefined {
    return this.#isAtEnd ? undefined : this.#anchor();
  }

  override componentDidUpdate(_: MessagesProps, __: unknown, anchor: Anchor | undefined): void {
    if (this.#place.current && this.props.app.place.seq !== undefined && this.props.app.place.seq !== this.#marked) void this.#jump();
    if (this.#target !== undefined && this.#showTarget(this.#target)) this.#target = undefined;
    else if (this.#isAtEnd && this.#target === undefined) this.#toEnd();
    else if (anchor !== undefined) this.#bringBack(anchor);
    this.#watch();
    this.#lookAround();
  }

  override render({ app, conversation, edit }: MessagesProps) {
    const { timeline, unread, hasOlder, hasNewer, isLoading, stage } = conversation;
    const rows = (this.#rows = this.#visibleRows());
    const isEmpty = timeline.messages.length === 0;
    const isBeginning = !hasOlder && !this.#hidesOlder && (stage === "entered" || !isEmpty) && stage !== "absent";
    const actions: LineActions = {
      people: app.people,
      sendAgain: (id) => conversation.sendAgain(id),
      discard: (id) => conversation.discard(id),
      edit,
      deleteSoon: (id) => {
        app.inbox?.deletions.add(id);
        app.announce("Message deleted. It can be undone for some seconds.");
      },
      undoDeletion: (id) => app.inbox?.deletions.undo(id),
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
          aria-busy={stage === "entering"}
          ref={this.#scroller}
          onScroll={() => this.#handleScroll()}
          onKeyDown={(event) => this.#handleKey(event)}
        >
          <div class="top">
            <button class="link-button older" type="button" hidden={!hasOlder || isEmpty} onClick={() => void conversation.loadOlder()}>
              {isLoading ? "Loading messages…" : "Show earlier messages"}
            </button>
            {(isBeginning || stage === "entering") && <Beginning title={app.inbox?.titleOf(conversation.id) ?? ""} isEntered={stage === "entered"} isEmpty={isEmpty} />}
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
      receiptOf: (message) => receiptInWords(reading.readersOf(message), others, reports.get(message.id)),
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
    for (const row of this.#rows) {
      const bottom = this.#bottomOf(row.key);
      if (row.kind === "message" && bottom !== undefined && bottom > 0) return { key: row.key, bottom };
    }
    return undefined;
  }

  /** Brings the anchor back to where it was in view. */
  #bringBack({ key, bottom }: Anchor): void {
    const [scroller, list] = [this.#scroller.current, this.#list.current];
    if (scroller === null || list === null) return;
    const distance = (this.#bottomOf(key) ?? bottom) - bottom - this.#shift;
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
  #bottomOf(key: string): number | undefined {
    const scroller = this.#scroller.current;
    const line = this.#lineOf(key)?.getBoundingClientRect();
    return line && scroller ? line.bottom - scroller.getBoundingClientRect().top : undefined;
  }

  #lineOf(key: string): HTMLElement | undefined {
    return this.#list.current?.querySelector<HTMLElement>(`:scope > [data-key="${CSS.escape(key)}"]`) ?? undefined;
  }

  #toEnd(): void {
    const scroller = this.#scroller.current;
    if (scroller !== null) scroller.scrollTop = scroller.scrollHeight;
  }

  /** Goes to the message that the address names. */
  async #jump(): Promise<void> {
    const { app, conversation } = this.props;
    const { seq } = app.place;
    if (seq === undefined || conversation.stage !== "entered") return;
    this.#marked = seq;
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
    line?.focus({ preventScroll: true });
    return line !== null && line !== undefined;
  }

  #handleScroll(): void {
    const scroller = this.#scroller.current;
    if (scroller === null) return;
    const wasAtEnd = this.#isAtEnd;
    const below = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    this.#isAtEnd = below < END_MARGIN && this.#upTo === undefined && !this.props.conversation.hasNewer;
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
    const [place, scroller] = [this.#place.current, this.#scroller.current];
    if (place === null || scroller === null) return;
    const top = scroller.getBoundingClientRect().top;
    const line = document.elementsFromPoint(scroller.getBoundingClientRect().left + scroller.clientWidth / 2, top + 8).find((node) => node.matches("li[data-key]"));
    const row = this.#rows.find(({ key }) => key === line?.getAttribute("data-key"));
    place.hidden = row?.kind !== "message";
    if (row?.kind !== "message") return;
    const author = row.isOwn ? "You" : row.message.userName;
    place.textContent = `${dayLabel(row.message.createdAt, new Date())} · ${author}`;
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
  const heading = !isEntered ? `Opening ${title}…` : isEmpty ? "It is quiet here" : `This is where ${title} begins`;
  return (
    <div class={isEmpty ? "beginning is-empty" : "beginning"}>
      <p class="beginning-title">
        <bdi>{heading}</bdi>
      </p>
      {isEntered && isEmpty && <p>Say hello. Open this page in a second tab to talk to yourself.</p>}
    </div>
  );
}
