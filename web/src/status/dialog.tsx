import { useState } from "preact/hooks";
import type { App } from "../app.ts";
import type { UserStatus } from "../types.ts";
import { Window } from "../windows/window.tsx";
import { cleanName, scalarCount } from "../words/text.ts";

const MAX_TEXT = 80;
const choices: readonly [UserStatus["status"], string][] = [
  ["online", "Online"],
  ["away", "Away"],
  ["busy", "Busy"],
  ["offline", "Appear offline"],
];

/** The window to set the user's own status. */
export function StatusDialog({ app }: { app: App }) {
  const own = app.statuses.of(app.session?.userId ?? "");
  const [status, setStatus] = useState<UserStatus["status"]>(own?.status ?? "online");
  const [text, setText] = useState(own?.text ?? "");
  const [isBusy, setIsBusy] = useState(false);
  const left = MAX_TEXT - scalarCount(cleanName(text));
  const save = async () => {
    setIsBusy(true);
    const cleaned = cleanName(text);
    const answer = (await app.request("set_status", { status, ...(cleaned !== "" && { text: cleaned }) })) as UserStatus | undefined;
    setIsBusy(false);
    if (answer === undefined) return;
    app.handleUserStatus(answer);
    app.show(undefined);
  };
  return (
    <Window app={app} title="Your status" onClose={() => app.show(undefined)}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          if (!isBusy && left >= 0) void save();
        }}
      >
        <fieldset class="status-choices">
          <legend class="spoken">Status</legend>
          {choices.map(([value, word]) => (
            <label key={value}>
              <input type="radio" name="status" checked={status === value} onChange={() => setStatus(value)} />
              <span class={`user-status is-${value}`} aria-hidden="true" />
              {word}
            </label>
          ))}
        </fieldset>
        <label for="status-text">What you are doing</label>
        <input id="status-text" type="text" dir="auto" value={text} autocomplete="off" aria-invalid={left < 0} aria-describedby="status-help" onInput={(event) => setText(event.currentTarget.value)} />
        <p id="status-help" class={left < 0 ? "help is-wrong" : "help"} aria-live="polite">
          {left < 0 ? `${-left} characters too long` : left < 20 ? `${left} characters left` : "Shown to users who share a conversation with you."}
        </p>
        <button class="button button-primary" type="submit" disabled={isBusy || left < 0}>
          Save
        </button>
      </form>
    </Window>
  );
}
