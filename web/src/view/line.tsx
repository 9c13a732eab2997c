import { Component } from "preact";
import { addressOf } from "../app.ts";
import type { Draft } from "../model/draft.ts";
import type { People } from "../model/people.ts";
import { type Row, appearance } from "../model/rows.ts";
import { ReactionBar } from "../marks/reaction_bar.tsx";
import { Tools } from "../marks/parts.tsx";
import type { Message, Quote } from "../types.ts";
import { closed, excerptOf } from "../words/markdown.ts";
import { exactTime } from "../words/time.ts";
import { Content, Picture } from "./content.tsx";
import { Icon } from "./icons.tsx";
import { Avatar, Isolated, PersonName, Spoken, Tags, Time } from "./parts.tsx";

/** Characters and lines of a message beyond which it is collapsed. */
const LONG_TEXT = 1_500;
const LONG_LINES = 20;

/** The actions of the lines of a conversation. */
export interface LineActions {
  people: People;
  sendAgain(clientMessageId: string): void;
  discard(clientMessageId: string): void;
  edit(message: Message | Draft): void;
  /** Withdraws an unsent message. */
  withdraw(clientMessageId: string): void;
  deleteSoon(messageId: string): void;
  undoDeletion(messageId: string): void;
  reply(message: Message): void;
  /** Adds or removes a reaction. */
  toggle(message: Message, emoji: string): void;
  /** Pins or unpins a message. Absent if the user may not pin. */
  pin: ((message: Message) => void) | undefined;
  isPinned(messageId: string): boolean;
  /** Jumps to the message of a quote. */
  jump(seq: number): void;
  /** Returns a loaded message as a quote. */
  quote(messageId: string): Quote | undefined;
  sendAlone(draft: Draft): void;
  /** Asks the author of a message that is being written to stop. */
  stop(messageId: string): void;
  ownId: string;
  /** Origins whose pictures are shown. */
  images: readonly string[];
  copied(): void;
  /** Opens the card of a user. */
  showPerson(userId: string): void;
}

interface LineProps {
  row: Row;
  actions: LineActions;
  /** Whether the Tab key reaches it. */
  isReachable: boolean;
  /** Whether it is the target of a jump. */
  isMarked: boolean;
  /** The mark of its author, if another user's name looks alike. */
  mark: string | undefined;
}

type MessageRow = Extract<Row, { kind: "message" }>;

interface LineState {
  /** Whether its tools are shown, and the popover to react. */
  isActive: boolean;
  isReacting: boolean;
  isWhole: boolean;
}

/** One line, which is drawn again only if its appearance changes. */
export class Line extends Component<LineProps, LineState> {
  override state = { isActive: false, isReacting: false, isWhole: false };
  /** Whether its text was seen growing. It then stays open. */
  #hasGrown = false;

  override shouldComponentUpdate(props: LineProps, state: LineState): boolean {
    const { row, isReachable, isMarked, mark } = this.props;
    const isSameMessage = row.kind !== "message" || (props.row.kind === "message" && props.row.message === row.message);
    const isSame = isSameMessage && appearance(props.row) === appearance(row) && props.isReachable === isReachable && props.isMarked === isMarked;
    const { isActive, isReacting, isWhole } = this.state;
    return !isSame || props.mark !== mark || state.isActive !== isActive || state.isReacting !== isReacting || state.isWhole !== isWhole;
  }

  override render({ row, actions }: LineProps) {
    switch (row.kind) {
      case "day":
        return (
          <li class="day" data-key={row.key}>
            <span>{row.label}</span>
          </li>
        );
      case "unread":
        return (
          <li class="unread" data-key={row.key}>
            <span>{row.label}</span>
          </li>
        );
      case "system":
        return (
          <li class="system" data-key={row.key}>
            <Isolated text={row.text} /> <Time at={row.timestamp} />
          </li>
        );
      case "message":
        return this.#message(row);
      case "draft":
        return <DraftLine draft={row.draft} startsGroup={row.startsGroup} actions={actions} />;
    }
  }

  #message({ message, isOwn, startsGroup, endsGroup, receipt, isLeaving }: MessageRow) {
    const { actions, isMarked, isReachable } = this.props;
    const { id, seq, userId, userName, type, createdAt } = message;
    const check = (line: Element) => {
      // The popover closes by itself: a choice of a reaction does not end when the focus moves to
      // it.
      this.setState({ isActive: this.state.isReacting || line.matches(":hover, :focus-within") });
    };
    // A tap causes these events before its click. If the tools appeared or disappeared immediately,
    // the target of the click would move.
    const checkLater = ({ currentTarget }: { currentTarget: Element }) => void setTimeout(() => check(currentTarget));
    const isDeleted = isLeaving || Boolean(message.deletedAt);
    const isMeant = !isOwn && !isDeleted && (message.mentions?.includes(actions.ownId) ?? false);
    return (
      <li
        class={classes("message", isOwn && "is-own", startsGroup && "is-start", isMarked && "is-marked", isMeant && "is-meant")}
        data-key={id}
        data-id={id}
        data-seq={seq}
        data-state={isOwn ? "stored" : undefined}
        data-receipt={isOwn && endsGroup ? receipt : undefined}
        tabIndex={isReachable ? 0 : -1}
        onMouseEnter={checkLater}
        onMouseLeave={checkLater}
        onFocusIn={(event) => ((event.target as Element).matches(":focus-visible") ? check(event.currentTarget) : checkLater(event))}
        onFocusOut={checkLater}
        onKeyDown={(event) => this.#handleKey(event, message, isOwn && !isDeleted)}
      >
        {!isOwn && startsGroup && <Avatar id={userId} name={userName} />}
        <div class="stack">
          {isOwn ? (
            <Spoken>You: </Spoken>
          ) : startsGroup ? (
            <p class="head">
              <PersonName userId={userId} name={userName} class="author" tabIndex={this.state.isActive ? 0 : -1} show={actions.showPerson} />
              <Tags people={actions.people} userId={userId} name={userName} type={type} />
              <Time at={createdAt} />
            </p>
          ) : (
            <Spoken>
              {userName}
              {userId.startsWith("guest:") ? ", guest: " : ": "}
            </Spoken>
          )}
          {isLeaving ? (
            <p class="bubble is-deleted">
              <span>Message deleted.</span>{" "}
              <button class="link-button" type="button" onClick={() => actions.undoDeletion(id)}>
                Undo
              </button>
            </p>
          ) : (
            this.#bubble(message)
          )}
          {!isDeleted && <ReactionBar message={message} people={actions.people} toggle={(emoji) => actions.toggle(message, emoji)} />}
          {isOwn && endsGroup && <Foot at={createdAt} receipt={receipt} />}
        </div>
        {this.state.isActive && !isDeleted && (
          <Tools
            message={message}
            isOwn={isOwn}
            actions={actions}
            copy={() => this.#copy(message)}
            isReacting={this.state.isReacting}
            react={(isReacting) => this.setState({ isReacting })}
          />
        )}
      </li>
    );
  }

  #bubble({ id, userName, content, metadata, editedAt, deletedAt, createdAt, replyTo, streaming, interrupted, interruptedReason, mentions = [] }: Message) {
    const { people, jump, ownId, images, stop } = this.props.actions;
    const mentioned = mentions.flatMap((userId) => ({ userId, name: people.nameOf(userId) ?? "" }));
    if (deletedAt) return <p class="bubble is-deleted">This message was deleted.</p>;
    this.#hasGrown ||= streaming === true;
    const isLong = !this.#hasGrown && (content.length > LONG_TEXT || content.split("\n", LONG_LINES + 1).length > LONG_LINES);
    const isCut = isLong && !this.state.isWhole;
    const text = interrupted ? closed(content) : content;
    return (
      <>
        <div class={classes("bubble", isCut && "is-cut")} title={exactTime(createdAt)}>
          {replyTo && <Quoted quote={replyTo} jump={jump} />}
          <Content text={isCut ? beginning(text) : text} mentioned={mentioned} ownId={ownId} isGrowing={streaming} />
          <Picture url={metadata?.imageUrl} origins={images} />
          {streaming && (
            <span class="edited">
              <bdi>{userName}</bdi> is writing…
            </span>
          )}
          {interrupted && (
            <span class="edited" title={interruptedReason}>
              interrupted
            </span>
          )}
          {editedAt && (
            <span class="edited" title={exactTime(editedAt)}>
              edited
            </span>
          )}
        </div>
        {streaming && (
          <button class="link-button more" type="button" onClick={() => stop(id)}>
            Stop
          </button>
        )}
        {isLong && (
          <button class="link-button more" type="button" aria-expanded={!isCut} onClick={() => this.setState({ isWhole: isCut })}>
            {isCut ? "Show all" : "Show less"}
          </button>
        )}
      </>
    );
  }

  /**
   * Handles the keys of a focused message. Enter moves the focus into its buttons, Escape moves it
   * back.
   */
  #handleKey(event: preact.TargetedKeyboardEvent<HTMLLIElement>, message: Message, mayChange: boolean): void {
    const { actions } = this.props;
    const line = event.currentTarget;
    if (event.key === "Escape" && event.target !== line) line.focus();
    if (event.target !== line || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") this.setState({ isActive: true }, () => line.querySelector<HTMLElement>(".tools button, a, button:not(.author)")?.focus());
    else if (event.key === "c") this.#copy(message);
    else if (event.key === "e" && mayChange) actions.edit(message);
    else if (event.key === "r" && !message.deletedAt) actions.reply(message);
    else if (event.key === "+" && !message.deletedAt) this.setState({ isActive: true, isReacting: true });
    else if (event.key === "p" && !message.deletedAt && actions.pin) actions.pin(message);
    else if (event.key === "Delete" && mayChange) actions.deleteSoon(message.id);
    else return;
    event.preventDefault();
  }

  #copy({ conversationId, seq }: Message): void {
    const address = location.origin + location.pathname + addressOf(conversationId, seq);
    void navigator.clipboard?.writeText(address).then(() => this.props.actions.copied());
  }
}

/** The quote of a reply, which links to the original message. */
function Quoted({ quote: { seq, userName, excerpt, deletedAt }, jump }: { quote: Quote; jump?: (seq: number) => void }) {
  const text = deletedAt ? "Message deleted" : excerptOf(excerpt);
  return (
    <button class="quoted" type="button" disabled={jump === undefined} onClick={() => jump?.(seq)}>
      <Spoken>Quote: </Spoken>
      <bdi class="quoted-name">{userName}</bdi>
      <bdi class={deletedAt ? "quoted-text is-gone" : "quoted-text"}>{text}</bdi>
    </button>
  );
}

function Foot({ at, receipt }: { at: string; receipt: string }) {
  return (
    <p class="foot" title={`${receipt === "stored" ? "Stored by the server" : receipt}, ${exactTime(at)}`}>
      <Time at={at} />
      <Icon name={receipt === "stored" ? "check" : "checks"} />
      {receipt === "stored" ? <Spoken>stored</Spoken> : <span>{receipt}</span>}
    </p>
  );
}

function DraftLine({ draft, startsGroup, actions }: { draft: Draft; startsGroup: boolean; actions: LineActions }) {
  const { clientMessageId, content, delivery } = draft;
  const { state } = delivery;
  const words = delivery.state === "failed" ? delivery.reason : stateWords[delivery.state];
  const isAlone = delivery.state === "failed" && delivery.isAlone === true;
  const quote = draft.replyTo === undefined ? undefined : actions.quote(draft.replyTo);
  return (
    <li class={classes("message is-own", startsGroup && "is-start")} data-key={clientMessageId} data-state={state}>
      <div class="stack">
        <Spoken>You: </Spoken>
        <div class="bubble">
          {quote && <Quoted quote={quote} jump={actions.jump} />}
          <Content text={beginning(content)} />
        </div>
        <p class="foot">
          <Icon name={state === "failed" ? "alert" : "clock"} />
          {words}
        </p>
        {draft.isUnsent && (
          <div class="actions">
            <button class="link-button" type="button" onClick={() => actions.edit(draft)}>
              Edit
            </button>
            <button class="link-button" type="button" onClick={() => actions.withdraw(clientMessageId)}>
              Withdraw
            </button>
          </div>
        )}
        {state === "failed" && (
          <div class="actions">
            <button class="link-button" type="button" onClick={() => (isAlone ? actions.sendAlone(draft) : actions.sendAgain(clientMessageId))}>
              {isAlone ? "Send without the quote" : "Send again"}
            </button>
            <button class="link-button" type="button" onClick={() => actions.discard(clientMessageId)}>
              Discard
            </button>
          </div>
        )}
      </div>
    </li>
  );
}

const stateWords = {
  waiting: "Waiting for the connection…",
  held: "You are sending too fast, this will be sent soon…",
  sending: "Sending…",
  unconfirmed: "Not confirmed yet, trying again…",
};

/** Returns the visible part of a collapsed text. */
function beginning(text: string): string {
  return text.split("\n", LONG_LINES).join("\n").slice(0, LONG_TEXT).toWellFormed();
}

function classes(...names: (string | false | undefined)[]): string {
  return names.filter(Boolean).join(" ");
}
