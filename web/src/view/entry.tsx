import { useState } from "preact/hooks";
import type { App } from "../app.ts";
import { isName } from "../model/account.ts";
import { MAX_NAME, cleanName, scalarCount } from "../words/text.ts";
import { lazyPage } from "./lazy.tsx";
import type { TokenFormProps } from "./token.tsx";

/** The form for a token, which few users need. */
export const TokenForm = lazyPage<{ app: App } & TokenFormProps>(() => import("../windows/session.tsx").then((file) => file.TokenForm));

/** The entry form: a name for guests, otherwise a token or a link to the login. */
export function Entry({ app }: { app: App }) {
  const { guests, loginUrl } = app.entrance;
  // A user whose token has ended needs another one.
  const [hasToken, setHasToken] = useState(app.hadToken && !app.isSignedOut);
  const isByToken = hasToken || (!guests && loginUrl === "");
  const isByName = guests && !isByToken;
  return (
    <main class="entry">
      <div class="entry-card">
        <img src="/favicon.svg" alt="" width="56" height="56" />
        <h1>{isByName ? "Welcome to the Lobby" : "Sign in"}</h1>
        <p class="entry-lead">{isByName ? "Choose a name that other users will see." : guests ? "Enter your token." : "This server requires you to sign in."}</p>
        {app.reason !== "" && (
          <p class={app.isSignedOut ? "entry-lead" : "entry-reason"} role="alert">
            {app.reason}
          </p>
        )}
        {isByName && (
          <NameForm submit={(name) => app.enterAs(name)}>
            <button class="button button-primary" type="submit">
              Join the chat
            </button>
          </NameForm>
        )}
        {loginUrl !== "" && (
          <a class={guests ? "button" : "button button-primary"} href={loginUrl}>
            Sign in
          </a>
        )}
        {isByToken && <TokenForm app={app} submit={(token) => app.signIn(token)} />}
        {guests && loginUrl === "" && (
          <button class="link-button entry-other" type="button" onClick={() => setHasToken(!hasToken)}>
            {hasToken ? "Join as a guest instead" : "Sign in with a token instead"}
          </button>
        )}
      </div>
    </main>
  );
}

/** Asks for a name. */
export function NameForm({ name = "", submit, children }: { name?: string; submit: (name: string) => void; children: preact.ComponentChildren }) {
  const [value, setValue] = useState(name);
  const [isSubmitted, setIsSubmitted] = useState(false);
  const chosen = cleanName(value);
  const isLong = scalarCount(chosen) > MAX_NAME;
  const isWrong = isLong || (isSubmitted && !isName(chosen));
  const help = isLong ? `At most ${MAX_NAME} characters, please.` : isWrong ? "Please type a name first." : "This browser remembers it. No account, no password.";
  return (
    <form
      class="form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        setIsSubmitted(true);
        if (isName(chosen)) submit(chosen);
        else event.currentTarget.querySelector("input")?.focus();
      }}
    >
      <label for="name">Your name</label>
      <input
        id="name"
        name="name"
        type="text"
        dir="auto"
        value={value}
        autocomplete="nickname"
        spellcheck={false}
        enterkeyhint="go"
        aria-describedby="name-help"
        aria-invalid={isWrong}
        autofocus
        onInput={(event) => setValue(event.currentTarget.value)}
      />
      <p id="name-help" class={isWrong ? "help is-wrong" : "help"} aria-live="polite">
        {help}
      </p>
      {children}
    </form>
  );
}
