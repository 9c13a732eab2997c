import type { App } from "../app.ts";
import { storedName } from "../model/account.ts";
import { NameForm } from "../view/entry.tsx";
import { Window } from "./window.tsx";

/** The window to change the name. */
export function NameDialog({ app }: { app: App }) {
  const close = () => app.show(undefined);
  return (
    <Window app={app} title="Change your name" onClose={close}>
      <NameForm name={storedName() ?? ""} submit={(name) => app.enterAs(name)}>
        <div class="dialog-actions">
          <button class="button" type="button" onClick={close}>
            Cancel
          </button>
          <button class="button button-primary" type="submit">
            Save
          </button>
        </div>
      </NameForm>
    </Window>
  );
}
