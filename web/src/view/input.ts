import type { App } from "../app.ts";

/** The lists of which the Tab key reaches one control. Arrow keys move between the others. */
const LISTS = ".conversations, .people-list, .found, .picker, .chosen, .notification-list";
const CONTROLS = "a[href], button:enabled";
/** A message that can receive the focus. Others are not sent yet. */
const LINE = ".lines > li[tabindex]";
/** The controls of a message, without those of a popover, which has its own order. */
const LINE_CONTROLS = ":is(a[href], button:enabled):not([popover] *)";
/** Number of controls that Page Up and Page Down skip. */
const PAGE = 10;

/** The regions that F6 visits, and what can receive the focus in each, in order of preference. */
const REGIONS: readonly (readonly [region: string, ...targets: string[]])[] = [
  [".sidebar", ".conversations [tabindex='0']", "button"],
  [".header", "button"],
  [".messages", ".lines > [tabindex='0']", ".scroller"],
  [".main > :not(.messages, .composer-area)", "a[href], button, input, select"],
  [".composer-area", "textarea:enabled", "button:enabled"],
  [".people", ".people-list [tabindex='0']", "button", "h2"],
];

let isListening = false;
/** The control of a list that has the focus, and its list. */
let control: HTMLElement | undefined;
let list: HTMLElement | undefined;
/** The message in which a control has the focus. */
let line: HTMLElement | undefined;

/**
 * Handles the input that is not needed for the first paint: the keys in lists and between regions,
 * `?`, and files. Adds the link that skips the lists.
 */
export function listen(app: App): void {
  if (isListening) return;
  isListening = true;
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !(event.target instanceof Element)) return;
    if (handleKey(app, event, event.target)) event.preventDefault();
  });
  document.addEventListener("paste", (event) => refuseFiles(app, event, event.clipboardData));
  // Without this, a browser would open the dropped file.
  document.addEventListener("dragover", (event) => isOfFiles(event.dataTransfer) && event.preventDefault());
  document.addEventListener("drop", (event) => refuseFiles(app, event, event.dataTransfer));
  document.body.prepend(skipLink());
  document.addEventListener("focusin", ({ target }) => target instanceof HTMLElement && handleFocus(target));
  new MutationObserver(handleChanges).observe(document.body, { childList: true, subtree: true, attributeFilter: ["aria-current"] });
  for (const one of document.querySelectorAll<HTMLElement>(LISTS)) settle(one);
  for (const one of linesIn(document.body)) skipControls(one);
}

/** Handles a key. Returns whether it has a meaning here. */
function handleKey(app: App, { key, shiftKey }: KeyboardEvent, target: Element): boolean {
  const around = target.closest(LISTS);
  if (around !== null && walk(controlsOf(around), target, key)) return true;
  if (app.phase !== "in" || app.hasWindow) return false;
  if (key === "F6") return visitRegion(shiftKey ? -1 : 1);
  if (key !== "?" || target.matches("input, textarea, select")) return false;
  app.show("shortcuts");
  return true;
}

/** Moves the focus within a list. */
function walk(controls: HTMLElement[], target: Element, key: string): boolean {
  const index = controls.findIndex((one) => one === target);
  const last = controls.length - 1;
  const places: Record<string, number> = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + PAGE, PageUp: index - PAGE, Home: 0, End: last };
  const place = places[key];
  if (place === undefined) return false;
  controls[Math.max(0, Math.min(place, last))]?.focus();
  return true;
}

/** Moves the focus to the next region that is shown. */
function visitRegion(step: 1 | -1): boolean {
  const shown = REGIONS.flatMap(([selector, ...targets]) => {
    const found = [...document.querySelectorAll<HTMLElement>(selector)];
    const [landing] = targets.flatMap((target) => found.flatMap((region) => [...region.querySelectorAll<HTMLElement>(target)].filter((one) => one.checkVisibility())));
    return landing === undefined ? [] : [{ found, landing }];
  });
  const index = shown.findIndex(({ found }) => found.some((region) => region.contains(document.activeElement)));
  const next = index < 0 && step < 0 ? shown.length - 1 : (index + step + shown.length) % shown.length;
  const landing = shown[next]?.landing;
  // A heading does not receive the focus by itself.
  if (landing?.matches("h2")) landing.tabIndex = -1;
  landing?.focus();
  return true;
}

/** Returns the link to the message field, or to the content if there is none. */
function skipLink(): HTMLElement {
  const link = Object.assign(document.createElement("a"), { className: "skip spoken", href: "#app", textContent: "Skip to the message field" });
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const main = document.querySelector<HTMLElement>("main");
    main?.setAttribute("tabindex", "-1");
    (document.querySelector<HTMLElement>("#composer:enabled") ?? main)?.focus();
  });
  link.addEventListener("focus", () => (link.textContent = document.querySelector("#composer:enabled") ? "Skip to the message field" : "Skip to the content"));
  return link;
}

function handleFocus(target: HTMLElement): void {
  const [before, opened] = [list, line];
  list = target.closest<HTMLElement>(LISTS) ?? undefined;
  control = list && target;
  // Enter moves the focus from a message to its controls.
  line = target.matches(LINE) ? undefined : (target.closest<HTMLElement>(LINE) ?? undefined);
  for (const one of new Set([before, list])) if (one !== undefined) settle(one);
  if (opened !== undefined && opened !== line) skipControls(opened);
  for (const one of line?.querySelectorAll(LINE_CONTROLS) ?? []) one.removeAttribute("tabindex");
}

function handleChanges(changes: readonly MutationRecord[]): void {
  // Lists without a change cost nothing: messages that are drawn while the user scrolls change
  // none.
  const changed = new Set<HTMLElement>();
  for (const { target, addedNodes } of changes) {
    const around = target instanceof Element ? target.closest<HTMLElement>(LISTS) : null;
    if (around !== null) changed.add(around);
    for (const node of addedNodes) {
      if (!(node instanceof HTMLElement)) continue;
      if (!line?.contains(node)) for (const added of linesIn(node)) skipControls(added);
      if (node.matches(LISTS)) changed.add(node);
      for (const one of node.querySelectorAll<HTMLElement>(LISTS)) changed.add(one);
    }
  }
  for (const one of changed) if (one.isConnected) settle(one);
  // An entry that moves within its list loses the focus.
  const isMoved = document.activeElement === document.body && control?.isConnected && changes.some(({ removedNodes }) => [...removedNodes].some((node) => node.contains(control ?? null)));
  if (isMoved) control?.focus({ preventScroll: true });
}

/**
 * Lets the Tab key reach one control of a list: the focused one, otherwise that of the current
 * place, otherwise the first.
 */
function settle(one: HTMLElement): void {
  const controls = controlsOf(one);
  const stop = controls.find((each) => each === document.activeElement) ?? controls.find((each) => each.hasAttribute("aria-current")) ?? controls[0];
  for (const each of controls) if (each.getAttribute("tabindex") !== (each === stop ? "0" : "-1")) each.tabIndex = each === stop ? 0 : -1;
  // Firefox would reach a list that scrolls. Without controls, it must be reached.
  if (controls.length > 0 && one.getAttribute("tabindex") !== "-1") one.tabIndex = -1;
}

/** Returns the messages in an element, or the element if it is in a message. */
function linesIn(element: Element): Iterable<Element> {
  return element.closest(LINE) === null ? element.querySelectorAll(LINE) : [element];
}

/** Removes the controls of a message from the Tab order until one of them has the focus. */
function skipControls(node: Element): void {
  for (const one of [node, ...node.querySelectorAll(LINE_CONTROLS)]) if (one instanceof HTMLElement && one.matches(LINE_CONTROLS)) one.tabIndex = -1;
}

function controlsOf(one: Element): HTMLElement[] {
  return [...one.querySelectorAll<HTMLElement>(CONTROLS)];
}

/** Whether the data contains files. A text with its picture counts as a text. */
function isOfFiles(data: DataTransfer | null): boolean {
  return (data?.types.includes("Files") ?? false) && !data?.types.includes("text/plain");
}

/** Shows why pasted or dropped files are not accepted. */
function refuseFiles(app: App, event: Event, data: DataTransfer | null): void {
  if (!isOfFiles(data)) return;
  event.preventDefault();
  if (app.phase === "in") app.notice("Files cannot be sent here yet, only text. You can send a link to the file instead.");
}
