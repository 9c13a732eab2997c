import { Component, createRef } from "preact";
import { Completion } from "../marks/parts.tsx";
import { type Person, completionsOf, mentionAt, mentionedIn } from "../marks/mentions.ts";
import { drafts } from "../model/account.ts";
import type { Conversation } from "../model/conversation.ts";
import type { Draft } from "../model/draft.ts";
import type { People } from "../model/people.ts";
import { explain } from "../words/failure.ts";
import { excerptOf } from "../words/markdown.ts";
import { MAX_CONTENT, cleanContent, scalarCount } from "../words/text.ts";
import type { Message } from "../types.ts";
import { Icon } from "./icons.tsx";
import { IconButton, Spoken } from "./parts.tsx";

/** The number of remaining characters from which on they are shown. */
const COUNT_FROM = 500;
/** Maximum number of people that are suggested after an `@`. */
const MAX_OFFERED = 6;

interface ComposerProps {
  conversation: Conversation;
  /** Why the composer is disabled; empty if it is enabled. */
  reason: string;
  /** The message that is being edited, if any. */
  editing: Message | Draft | undefined;
  edit: (message: Message | Draft | undefined) => void;
  /** The message that is being replied to. */
  replying: Message | undefined;
  reply: (message: Message | undefined) => void;
  /** Whether the user has opened the conversation, and not the page itself. */
  isChosen: boolean;
  people: People;
  /** Returns the people that can be mentioned. */
  mentionable: () => readonly Person[];
  sent: () => void;
  /** Called when its height may have changed. */
  resized: () => void;
}

interface ComposerState {
  text: string;
  isSaving: boolean;
  problem: string;
  /** The suggestions for the `@` at the cursor, and the index of the one that Enter chooses. */
  found: readonly Person[];
  index: number;
}

/**
 * The field for a new or edited message. Enter sends it, Shift+Enter starts a new line, Arrow Up
 * edits the last message.
 */
export class Composer extends Component<ComposerProps, ComposerState> {
  override state: ComposerState = { text: this.#draft, isSaving: false, problem: "", found: [], index: 0 };
  /** The ids of people chosen from the suggestions, to distinguish people of the same name. */
  readonly #chosen = new Set<string>();
  readonly #text = createRef<HTMLTextAreaElement>();
  /** Follows another tab that changes the same draft, so that neither tab overwrites the other's. */
  readonly #stopWatching = drafts.watch(this.props.conversation.ownId, this.props.conversation.id, () => {
    if (this.props.editing === undefined) this.setState({ text: this.#draft });
  });
  /** The text and width for which the height was last computed. */
  #grown = { value: "", width: 0 };

  override componentDidMount(): void {
    this.#grow();
    // If the page opened the conversation, the user may have focused something else in the
    // meantime.
    const isFree = this.props.isChosen || document.activeElement === null || document.activeElement === document.body;
    // A phone would open its keyboard over the messages.
    if (isFree && matchMedia("(hover: hover)").matches) this.#text.current?.focus();
  }

  override componentDidUpdate(before: ComposerProps): void {
    const { editing, replying } = this.props;
    if (before.replying !== replying && replying !== undefined) this.#text.current?.focus();
    if (before.editing !== editing) {
      // The draft is restored when the edit is finished.
      this.setState({ text: editing?.content ?? this.#draft, problem: "", isSaving: false }, () => {
        const text = this.#text.current;
        text?.focus();
        // Places the cursor at the end, because browsers differ in its position.
        text?.setSelectionRange(text.value.length, text.value.length);
      });
    }
    if (before.reason !== this.props.reason && this.props.reason === "" && document.activeElement === document.body) this.#text.current?.focus();
    this.#grow();
  }

  override componentWillUnmount(): void {
    this.#stopWatching();
    this.props.conversation.handleInputStop();
  }

  override render({ reason, editing, edit, replying, reply, people }: ComposerProps) {
    const { problem, found, index } = this.state;
    const content = cleanContent(this.state.text);
    const left = MAX_CONTENT - scalarCount(content);
    const count = left < 0 ? `${-left} characters too long` : left < COUNT_FROM ? `${left} characters left` : "";
    return (
      <div class="composer-area">
        {editing && (
          <div class="composer-edit">
            <Icon name="pencil" />
            <span>Editing a message</span>
            <IconButton icon="close" label="Keep the message unchanged" onClick={() => edit(undefined)} />
          </div>
        )}
        {replying && !editing && (
          <div class="composer-edit">
            <Icon name="reply" />
            <span class="composer-quote">
              Reply to <bdi>{replying.userName}</bdi>: <bdi>{excerptOf(replying.content)}</bdi>
            </span>
            <IconButton icon="close" label="Cancel the reply" onClick={() => reply(undefined)} />
          </div>
        )}
        <Completion people={people} found={found} index={index} choose={(person) => this.#complete(person)} />
        <form
          class="composer"
          onSubmit={(event) => {
            event.preventDefault();
            void this.#submit();
          }}
        >
          <label class="spoken" for="composer">
            Message
          </label>
          <textarea
            id="composer"
            ref={this.#text}
            rows={1}
            dir="auto"
            placeholder={reason === "" ? "Write a message" : reason}
            autocomplete="off"
            enterkeyhint="send"
            aria-describedby="composer-help"
            aria-autocomplete="list"
            aria-controls="completion"
            aria-activedescendant={found.length > 0 ? `completion-${index}` : undefined}
            aria-invalid={left < 0}
            disabled={reason !== ""}
            readOnly={this.state.isSaving}
            value={this.state.text}
            onKeyDown={(event) => this.#handleKey(event)}
            onInput={(event) => {
              this.#handleInput(event.currentTarget.value);
              this.#offer(event.currentTarget);
            }}
            onKeyUp={(event) => {
              if (/^(?:Arrow(?:Left|Right)|Home|End)$/.test(event.key)) this.#offer(event.currentTarget);
            }}
            onClick={(event) => this.#offer(event.currentTarget)}
            onBlur={() => {
              this.props.conversation.handleInputStop();
              this.setState({ found: [] });
            }}
          />
          <button
            class="button button-primary composer-send"
            type="submit"
            aria-label={editing ? "Save" : "Send"}
            title={editing ? "Save" : "Send"}
            disabled={!isContent(content) || reason !== "" || this.state.isSaving}
          >
            <Icon name={editing ? "check" : "send"} />
          </button>
        </form>
        <div class="composer-foot">
          <p class="composer-help" id="composer-help">
            <kbd>Enter</kbd> {editing ? "saves" : "sends"}, <kbd>Shift</kbd> + <kbd>Enter</kbd> starts a new line
            <Spoken>, Arrow Up edits your last message</Spoken>
          </p>
          <p class={left < 0 || problem !== "" ? "composer-count is-wrong" : "composer-count"} aria-live="polite">
            {problem || count}
          </p>
        </div>
      </div>
    );
  }

  #handleKey(event: preact.TargetedKeyboardEvent<HTMLTextAreaElement>): void {
    const { editing, edit, conversation, replying, reply } = this.props;
    // While an input method composes, its keys belong to it.
    if (event.isComposing) return;
    if (this.#handleChoice(event.key)) return event.preventDefault();
    if (event.key === "Enter" && !event.shiftKey) void this.#submit();
    else if (event.key === "Escape" && editing !== undefined) edit(undefined);
    else if (event.key === "Escape" && replying !== undefined) reply(undefined);
    else if (event.key === "ArrowUp" && this.state.text === "" && conversation.lastOwn !== undefined) edit(conversation.lastOwn);
    else return;
    event.preventDefault();
  }

  /** Handles the keys of the suggestions. */
  #handleChoice(key: string): boolean {
    const { found, index } = this.state;
    const person = found[index];
    if (person === undefined) return false;
    if (key === "Enter" || key === "Tab") this.#complete(person);
    else if (key === "Escape") this.setState({ found: [] });
    else if (key === "ArrowDown" || key === "ArrowUp") this.setState({ index: (index + (key === "ArrowDown" ? 1 : found.length - 1)) % found.length });
    else return false;
    return true;
  }

  /** Suggests people for the `@` at the cursor. */
  #offer({ value, selectionStart, selectionEnd }: HTMLTextAreaElement): void {
    const mention = this.props.editing || selectionStart !== selectionEnd ? undefined : mentionAt(value, selectionStart);
    const found = mention === undefined ? [] : completionsOf(this.props.mentionable(), mention.query, MAX_OFFERED);
    const isSame = found.length === this.state.found.length && found.every(({ userId }, at) => userId === this.state.found[at]?.userId);
    if (!isSame) this.setState({ found, index: 0 });
  }

  #complete({ userId, name }: Person): void {
    const text = this.#text.current;
    const mention = text === null ? undefined : mentionAt(text.value, text.selectionStart);
    this.setState({ found: [] });
    if (text === null || mention === undefined) return;
    this.#chosen.add(userId);
    const before = `${text.value.slice(0, mention.from)}@${name} `;
    const whole = before + text.value.slice(text.selectionStart);
    text.value = whole;
    text.setSelectionRange(before.length, before.length);
    this.#handleInput(whole);
  }

  #handleInput(text: string): void {
    const { conversation, editing } = this.props;
    this.setState({ text, problem: "" });
    if (editing !== undefined) return;
    drafts.set(conversation.ownId, conversation.id, text);
    conversation.handleInput(text);
  }

  async #submit(): Promise<void> {
    const { conversation, editing, edit, reason, sent } = this.props;
    // Reads the field, which may be newer than the drawn state.
    const content = cleanContent(this.#text.current?.value ?? "");
    if (!isContent(content) || reason !== "" || this.state.isSaving) return;
    const mentions = mentionedIn(content, this.props.mentionable(), this.#chosen);
    if (editing !== undefined) {
      this.setState({ isSaving: true });
      const isDone = content === editing.content || (await conversation.edit(editing, content, mentions));
      // The user may have started another edit in the meantime.
      if (this.props.editing !== editing) return;
      this.setState({ isSaving: false });
      if (isDone) edit(undefined);
      return;
    }
    const failure = conversation.send(content, { replyTo: this.props.replying?.id, mentions });
    // A message that was not queued stays in the field.
    if (failure !== undefined) return this.setState({ problem: `Not sent. ${explain(failure)}` });
    drafts.set(conversation.ownId, conversation.id, "");
    if (this.#text.current) this.#text.current.value = "";
    this.setState({ text: "", problem: "", found: [] });
    this.#chosen.clear();
    this.props.reply(undefined);
    sent();
    this.#text.current?.focus();
  }

  get #draft(): string {
    const { ownId, id } = this.props.conversation;
    return drafts.get(ownId, id);
  }

  /** Adapts the height to the text, up to the maximum of the style sheet. */
  #grow(): void {
    const text = this.#text.current;
    const form = text?.form;
    if (!text || !form || (text.value === this.#grown.value && text.clientWidth === this.#grown.width)) return;
    // The layout must not move while the height is measured: the messages above would lose their
    // scroll position.
    form.style.minHeight = `${form.offsetHeight}px`;
    text.style.height = "auto";
    if (text.value !== "") text.style.height = `${text.scrollHeight}px`;
    form.style.minHeight = "";
    this.props.resized();
    this.#grown = { value: text.value, width: text.clientWidth };
  }
}

function isContent(content: string): boolean {
  return content !== "" && scalarCount(content) <= MAX_CONTENT;
}
