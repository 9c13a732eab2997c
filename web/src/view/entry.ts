import { isName } from "../identity.ts";
import { MAX_NAME, cleanName, scalarCount } from "../text.ts";
import { element, setAttribute, setText } from "./dom.ts";

/** What a visitor sees first: the form to pick a name. */
export function entryPage(submit: (name: string) => void): HTMLElement {
  const form = nameForm("", submit);
  form.prepend(
    element("img", { src: "/favicon.svg", alt: "", width: "56", height: "56" }),
    element("h1", {}, "Welcome to the Lobby"),
    element("p", { class: "entry-lead" }, "Pick a name the others will see, and join in."),
  );
  form.append(element("button", { class: "button button-primary", type: "submit" }, "Join the chat"));
  return element("main", { class: "entry" }, form);
}

/** Asks for another name. */
export function renameDialog(name: string, submit: (name: string) => void): void {
  const dialog = element("dialog", { class: "dialog", "aria-labelledby": "rename-title" });
  const cancel = element("button", { class: "button", type: "button" }, "Cancel");
  cancel.addEventListener("click", () => dialog.close());
  const form = nameForm(name, submit);
  form.prepend(element("h2", { id: "rename-title" }, "Change your name"));
  form.append(
    element("div", { class: "dialog-actions" }, cancel, element("button", { class: "button button-primary", type: "submit" }, "Save")),
  );
  dialog.append(form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  form.querySelector("input")?.select();
}

function nameForm(name: string, submit: (name: string) => void): HTMLFormElement {
  const input = element("input", {
    id: "name",
    name: "name",
    type: "text",
    value: name,
    autocomplete: "nickname",
    spellcheck: "false",
    enterkeyhint: "go",
    "aria-describedby": "name-help",
  });
  const help = element("p", { id: "name-help", class: "entry-help", "aria-live": "polite" });
  const check = (isSubmitted: boolean) => {
    const chosen = cleanName(input.value);
    const isLong = scalarCount(chosen) > MAX_NAME;
    const isWrong = isLong || (isSubmitted && !isName(chosen));
    setAttribute(input, "aria-invalid", isWrong ? "true" : undefined);
    help.classList.toggle("is-wrong", isWrong);
    if (isLong) setText(help, `At most ${MAX_NAME} characters, please.`);
    else if (isWrong) setText(help, "Please type a name first.");
    else setText(help, "This browser remembers it. No account, no password.");
    return chosen;
  };
  const form = element("form", { class: "entry-card", novalidate: true }, element("label", { for: "name" }, "Your name"), input, help);
  input.addEventListener("input", () => check(false));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = check(true);
    if (isName(chosen)) submit(chosen);
    else input.focus();
  });
  check(false);
  return form;
}
