import type { App } from "../app.ts";
import { isForgotten } from "../model/account.ts";
import { Window } from "./window.tsx";

/** Asks whoever signs out what becomes of what the server does not have yet. */
export function SignOutDialog({ app }: { app: App }) {
  const { messages, changes } = app.unsent;
  const close = () => app.show(undefined);
  const isDone = messages + changes === 0;
  return (
    <Window app={app} title="Sign out" onClose={close}>
      <p role="status">{isDone ? "Everything is sent by now." : `${inWords(messages, changes)} not sent yet.`}</p>
      {!isDone && (
        <p class="help">
          {isForgotten ? "You have signed out in another tab: what is not sent is lost when this tab is closed." : "What is not sent is lost when you sign out."}{" "}
          This window says when everything is sent.
        </p>
      )}
      <div class="dialog-actions">
        <button class="button" type="button" onClick={close}>
          {isDone ? "Stay" : "Wait"}
        </button>
        <button class={isDone ? "button button-primary" : "button button-bad"} type="button" onClick={() => void app.discardAndSignOut()}>
          {isDone ? "Sign out" : "Discard and sign out"}
        </button>
      </div>
    </Window>
  );
}

function inWords(messages: number, changes: number): string {
  const parts = [];
  if (messages > 0) parts.push(messages === 1 ? "1 message" : `${messages} messages`);
  if (changes > 0) parts.push(changes === 1 ? "1 change" : `${changes} changes`);
  return `${parts.join(" and ")} ${messages + changes === 1 ? "is" : "are"}`;
}
