import { useState } from "preact/hooks";

export interface TokenFormProps {
  submit: (token: string) => void;
  /** Why the last token was refused. */
  problem?: string;
}

/** Asks for a token. */
export function TokenForm({ submit, problem = "" }: TokenFormProps) {
  const [value, setValue] = useState("");
  const [isWrong, setIsWrong] = useState(false);
  return (
    <form
      class="form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        const isToken = /^\s*[\w.~+/=-]{8,8192}\s*$/.test(value);
        setIsWrong(!isToken);
        if (isToken) submit(value);
      }}
    >
      <label for="token">Token</label>
      <input id="token" type="password" value={value} autocomplete="off" aria-describedby="token-help" aria-invalid={isWrong || problem !== ""} onInput={(event) => setValue(event.currentTarget.value)} />
      <p id="token-help" class={isWrong || problem !== "" ? "help is-wrong" : "help"} aria-live="polite">
        {isWrong ? "This does not look like a token." : problem || "It is stored in open tabs only."}
      </p>
      <button class="button button-primary" type="submit">
        Sign in
      </button>
    </form>
  );
}
