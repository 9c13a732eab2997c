import { browser } from "../storage.ts";
import { element } from "./dom.ts";
import { icon } from "./icons.ts";

const THEME = "roomcast.theme";

/** Applies the theme that was chosen; without one the system decides. */
export function applyTheme(): void {
  const chosen = browser.get(THEME);
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset["theme"] = chosen;
}

/** The button between light and dark. */
export function themeToggle(): HTMLButtonElement {
  const button = element("button", { class: "icon-button", type: "button" });
  const show = () => {
    const other = isDark() ? "light" : "dark";
    button.replaceChildren(icon(isDark() ? "sun" : "moon"));
    button.title = `Switch to ${other} colours`;
    button.setAttribute("aria-label", button.title);
  };
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset["theme"] = theme;
    browser.set(THEME, theme);
    show();
  });
  systemDark.addEventListener("change", show);
  show();
  return button;
}

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark(): boolean {
  const chosen = document.documentElement.dataset["theme"];
  return chosen === undefined ? systemDark.matches : chosen === "dark";
}
