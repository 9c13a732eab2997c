import type { App } from "../app.ts";
import { Window } from "./window.tsx";

/** The keys and their actions, by where they work. */
const SHORTCUTS: readonly (readonly [where: string, ...keys: (readonly [keys: string, action: string])[]])[] = [
  [
    "Everywhere",
    ["Ctrl+K", "search"],
    ["F6, Shift+F6", "go to the next or previous part of the page"],
    ["Escape", "closes a window or the list of people"],
    ["?", "shows these keys, outside a field"],
  ],
  ["In a list", ["Arrow Up, Arrow Down", "previous or next entry"], ["Page Up, Page Down", "ten entries back or forward"], ["Home, End", "first or last entry"]],
  [
    "In the message field",
    ["Enter", "sends"],
    ["Shift+Enter", "starts a new line"],
    ["Arrow Up", "edits your last message, if the field is empty"],
    ["@", "suggests people to mention"],
  ],
  [
    "On a message",
    ["Arrow Up, Arrow Down", "previous or next message"],
    ["Enter, Escape", "go to its buttons and back"],
    ["r", "reply"],
    ["+", "react"],
    ["e", "edit"],
    ["c", "copy its link"],
    ["p", "pin or unpin"],
    ["Delete", "delete"],
  ],
];

/** The window that lists the keys of the page. */
export function Shortcuts({ app }: { app: App }) {
  return (
    <Window app={app} title="Keyboard shortcuts" onClose={() => app.show(undefined)}>
      {SHORTCUTS.map(([where, ...keys]) => (
        <section key={where}>
          <h3>{where}</h3>
          <dl class="shortcuts">
            {keys.map(([names, action]) => (
              <div key={names}>
                <dt>
                  {names.split(", ").map((name, index) => (
                    <>
                      {index > 0 && ", "}
                      <kbd>{name}</kbd>
                    </>
                  ))}
                </dt>
                <dd>{action}</dd>
              </div>
            ))}
          </dl>
        </section>
      ))}
    </Window>
  );
}
