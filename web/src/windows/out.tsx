import type { App } from "../app.ts";
import { isSignedOutElsewhere } from "../model/account.ts";
import { Window } from "./window.tsx";

/** The window that asks for confirmation before unsent entries are discarded. */
export function SignOutDialog({ app }: { app: App }) {
  const { messages, changes } = app.unsent;
  const close = () => app.show(undefined);
  const isDone = messages + changes === 0;
  return (
    <Window app={app} title="Sign out" onClose={close}>
      <p role="status">{isDone ? "Everything is sent." : `${inWords(messages, changes)} not sent yet.`}</p>
      {!isDone && (
        <p class="help">
          {isSignedOutElsewhere ? "You have signed out in another tab: unsent entries are lost when this tab is closed." : "Unsent entries are lost when you sign out."}{" "}
          This window shows when everything is sent.
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
