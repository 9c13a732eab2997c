import { Component, createRef } from "preact";
import { drafts } from "../model/account.ts";
import type { Conversation } from "../model/conversation.ts";
import { explain } from "../words/failure.ts";
import { MAX_CONTENT, cleanContent, scalarCount } from "../words/text.ts";
import type { Message } from "../types.ts";
import { Icon } from "./icons.tsx";
import { IconButton, Spoken } from "./parts.tsx";

/** So close to the limit the characters left are shown. */
const COUNT_FROM = 500;

interface ComposerProps {
  conversation: Conversation;
  /** Why nothing can be written now; empty if it can. */
  reason: string;
  /** The message that is changed, instead of a new one being written. */
  editing: Message | undefined;
  edit: (message: Message | undefined) => void;
  sent: () => void;
}

/** Where a message is written. Enter sends it, Shift+Enter begins a new line, Arrow Up changes the last one. */
export class Composer extends Component<ComposerProps, { text: string; isSaving: boolean; problem: string }> {
  override state = { text: this.#draft, isSaving: false, problem: "" };
  readonly #text = createRef<HTMLTextAreaElement>();

  override componentDidMount(): void {
    this.#grow();
    // A phone would open its keyboard over what there is to read.
    if (matchMedia("(hover: hover)").matches) this.#text.current?.focus();
  }

  override componentDidUpdate(before: ComposerProps): void {
    const { editing } = this.props;
    if (before.editing !== editing) {
      // What was being written comes back when the change is done.
      this.setState({ text: editing?.content ?? this.#draft, problem: "" }, () => {
        const text = this.#text.current;
        text?.focus();
        // Who writes on does so at the end; browsers differ in where they put the cursor.
        text?.setSelectionRange(text.value.length, text.value.length);
      });
    }
    if (before.reason !== this.props.reason && this.props.reason === "" && document.activeElement === document.body) this.#text.current?.focus();
    this.#grow();
  }

  override componentWillUnmount(): void {
    this.props.conversation.handleInputStop();
  }

  override render({ reason, editing, edit }: ComposerProps) {
    const { problem } = this.state;
    const content = cleanContent(this.state.text);
    const left = MAX_CONTENT - scalarCount(content);
    const count = left < 0 ? `${-left} characters too long` : left < COUNT_FROM ? `${left} characters left` : "";
    return (
      <div class="composer-area">
        {editing && (
          <div class="composer-edit">
            <Icon name="pencil" />
            <span>Changing a message</span>
            <IconButton icon="close" label="Keep it as it was" onClick={() => edit(undefined)} />
          </div>
        )}
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
            aria-invalid={left < 0}
            disabled={reason !== ""}
            value={this.state.text}
            onKeyDown={(event) => this.#handleKey(event)}
            onInput={(event) => this.#handleInput(event.currentTarget.value)}
            onBlur={() => this.props.conversation.handleInputStop()}
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
            <Spoken>, Arrow Up changes your last message</Spoken>
          </p>
          <p class={left < 0 || problem !== "" ? "composer-count is-wrong" : "composer-count"} aria-live="polite">
            {problem || count}
          </p>
        </div>
      </div>
    );
  }

  #handleKey(event: preact.TargetedKeyboardEvent<HTMLTextAreaElement>): void {
    const { editing, edit, conversation } = this.props;
    // While an input method composes, its keys belong to it.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) void this.#submit();
    else if (event.key === "Escape" && editing !== undefined) edit(undefined);
    else if (event.key === "ArrowUp" && this.state.text === "" && conversation.lastOwn !== undefined) edit(conversation.lastOwn);
    else return;
    event.preventDefault();
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
    // What the field has, which may be newer than what was drawn.
    const content = cleanContent(this.#text.current?.value ?? "");
    if (!isContent(content) || reason !== "" || this.state.isSaving) return;
    if (editing !== undefined) {
      this.setState({ isSaving: true });
      const isDone = content === editing.content || (await conversation.edit(editing, content));
      this.setState({ isSaving: false });
      if (isDone) edit(undefined);
      return;
    }
    const failure = conversation.send(content);
    // What was not taken stays where it was written.
    if (failure !== undefined) return this.setState({ problem: `Not sent. ${explain(failure)}` });
    drafts.set(conversation.ownId, conversation.id, "");
    if (this.#text.current) this.#text.current.value = "";
    this.setState({ text: "", problem: "" });
    sent();
    this.#text.current?.focus();
  }

  get #draft(): string {
    const { ownId, id } = this.props.conversation;
    return drafts.get(ownId, id);
  }

  /** Grows with its text, up to the height that the style sheet allows. */
  #grow(): void {
    const text = this.#text.current;
    if (text === null) return;
    text.style.height = "auto";
    if (text.value !== "") text.style.height = `${text.scrollHeight}px`;
  }
}

function isContent(content: string): boolean {
  return content !== "" && scalarCount(content) <= MAX_CONTENT;
}
