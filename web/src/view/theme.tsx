import { useLayoutEffect, useState } from "preact/hooks";
import { browser } from "../model/storage.ts";
import { IconButton } from "./parts.tsx";

const THEME = "roomcast.theme";
const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** Applies the chosen theme. Without one, the system theme applies. */
export function applyTheme(): void {
  const chosen = browser.get(THEME);
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset["theme"] = chosen;
}

function isDark(): boolean {
  const chosen = document.documentElement.dataset["theme"];
  return chosen === undefined ? systemDark.matches : chosen === "dark";
}

/** The button that switches between light and dark colours. */
export function ThemeToggle() {
  const [, draw] = useState(0);
  const redraw = () => draw((count) => count + 1);
  useLayoutEffect(() => {
    systemDark.addEventListener("change", redraw);
    return () => systemDark.removeEventListener("change", redraw);
  }, []);
  const other = isDark() ? "light" : "dark";
  const toggle = () => {
    document.documentElement.dataset["theme"] = other;
    browser.set(THEME, other);
    redraw();
  };
  return <IconButton icon={isDark() ? "sun" : "moon"} label={`Switch to ${other} colours`} onClick={toggle} />;
}
