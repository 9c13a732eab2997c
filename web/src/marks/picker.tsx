import { useState } from "preact/hooks";
import type { App } from "../app.ts";
import { Window } from "../windows/window.tsx";
import { COMMON, emojiOf } from "./emoji.ts";

/** The window to choose a reaction: one of the common ones, or any emoji. */
export function ReactionPicker({ app }: { app: App }) {
  const [text, setText] = useState("");
  const [isWrong, setIsWrong] = useState(false);
  const close = () => app.show(undefined);
  const choose = (emoji: string) => {
    const { current, reactingTo } = app;
    close();
    const message = current?.timeline.find(reactingTo ?? "");
    if (current !== undefined && message !== undefined) void current.react(message, emoji);
  };
  return (
    <Window app={app} title="React" onClose={close} class="reaction-picker">
      <div class="emojis" role="group" aria-label="Common reactions">
        {COMMON.map((emoji) => (
          <button key={emoji} class="emoji" type="button" aria-label={emoji} onClick={() => choose(emoji)}>
            {emoji}
          </button>
        ))}
      </div>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          const emoji = emojiOf(text);
          if (emoji === undefined) setIsWrong(true);
          else choose(emoji);
        }}
      >
        <label for="emoji">Another emoji</label>
        <input
          id="emoji"
          type="text"
          value={text}
          autocomplete="off"
          maxLength={64}
          aria-invalid={isWrong}
          aria-describedby="emoji-help"
          onInput={(event) => {
            setText(event.currentTarget.value);
            setIsWrong(false);
          }}
        />
        <p id="emoji-help" class={isWrong ? "help is-wrong" : "help"} aria-live="polite">
          {isWrong ? "Enter exactly one emoji." : ""}
        </p>
        <button class="button" type="submit" disabled={text.trim() === ""}>
          React
        </button>
      </form>
    </Window>
  );
}
