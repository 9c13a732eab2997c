import { useState } from "preact/hooks";
import type { App } from "../app.ts";
import { TokenForm } from "../view/token.tsx";
import { clockTime } from "../words/time.ts";
import { Window } from "./window.tsx";

// One part of the page, which needs one request: all that concerns the session.
export { Visit } from "../model/visit.ts";
export { NameDialog } from "./name.tsx";
export { TokenForm };

/** The window to stay signed in when the session ends soon. */
export function RenewDialog({ app }: { app: App }) {
  const [problem, setProblem] = useState("");
  const { loginUrl } = app.entrance;
  const close = () => app.show(undefined);
  const renew = async (token: string) => {
    const failure = (await app.visit?.renew(token)) ?? "The connection was lost.";
    setProblem(failure);
    if (failure !== "") return;
    close();
    app.confirm("You stay signed in.");
  };
  return (
    <Window app={app} title="Stay signed in" onClose={close}>
      <p class="help">
        {app.endsAt === undefined ? "Your session ends soon." : `Your session ends at ${clockTime(app.endsAt)}.`} What you wrote is kept until you sign in again.
      </p>
      {app.hadToken ? (
        <TokenForm problem={problem} submit={(token) => void renew(token)} />
      ) : loginUrl === "" ? (
        <p>Sign in where you signed in before. Then reload this page.</p>
      ) : (
        <a class="button button-primary" href={loginUrl}>
          Sign in
        </a>
      )}
    </Window>
  );
}
