import type { RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { IconButton } from "../view/parts.tsx";
import { emojiOf } from "./emoji.ts";
import type { NamedEmoji } from "./emoji_list.ts";
import { mostUsed, noteChoice } from "./most_used.ts";

type EmojiList = typeof import("./emoji_list.ts");

/** Distance in pixels from the anchor and from the edges of the window. */
const GAP = 4;
const MAX_FOUND = 60;

interface PopoverProps {
  ownId: string;
  /** The popover is beside this element. */
  anchor: RefObject<HTMLElement | null>;
  choose: (emoji: string) => void;
  close: () => void;
}

/**
 * The popover to choose a reaction: the emojis that the user chooses most, and a picker with all of
 * them. The focus stays out of text fields on a phone, whose keyboard would cover the picker.
 */
export function ReactionPopover({ ownId, anchor, choose, close }: PopoverProps) {
  const popover = useRef<HTMLDivElement>(null);
  const [common] = useState(() => mostUsed(ownId));
  const [list, setList] = useState<EmojiList | "loading" | "missing" | undefined>(undefined);
  const isLoaded = typeof list === "object";
  const place = () => {
    const [node, target] = [popover.current, anchor.current?.getBoundingClientRect()];
    if (node === null || target === undefined) return;
    const { offsetWidth: width, offsetHeight: height } = node;
    const { clientWidth, clientHeight } = document.documentElement;
    const below = target.bottom + GAP + height <= clientHeight;
    node.style.left = `${Math.max(GAP, Math.min(target.left, clientWidth - width - GAP))}px`;
    node.style.top = `${Math.max(GAP, Math.min(below ? target.bottom + GAP : target.top - GAP - height, clientHeight - height - GAP))}px`;
  };
  useLayoutEffect(() => {
    const node = popover.current;
    const before = document.activeElement;
    const isByKey = before?.matches(":focus-visible") ?? false;
    node?.showPopover?.();
    place();
    node?.querySelector<HTMLElement>("button")?.focus();
    const handlePress = ({ target }: Event) => {
      if (target instanceof Node && !anchor.current?.contains(target)) close();
    };
    document.addEventListener("pointerdown", handlePress, true);
    addEventListener("resize", place);
    document.addEventListener("scroll", place, true);
    return () => {
      document.removeEventListener("pointerdown", handlePress, true);
      removeEventListener("resize", place);
      document.removeEventListener("scroll", place, true);
      // A press elsewhere moves the focus itself. After a choice with a pointer, no message keeps
      // its tools.
      const { activeElement: active } = document;
      if (isByKey && before instanceof HTMLElement && (active === document.body || node?.contains(active))) before.focus({ preventScroll: true });
      else if (active instanceof HTMLElement && node?.contains(active)) active.blur();
    };
  }, []);
  useLayoutEffect(place, [list]);
  const take = (emoji: string) => {
    noteChoice(ownId, emoji);
    choose(emoji);
    close();
  };
  const load = () => {
    setList("loading");
    import("./emoji_list.ts").then(setList, () => setList("missing"));
  };
  return (
    <div
      class={isLoaded ? "reaction-popover is-full" : "reaction-popover"}
      popover="manual"
      role="dialog"
      aria-label="React"
      ref={popover}
      onFocusOut={({ relatedTarget }) => {
        if (relatedTarget instanceof Node && !anchor.current?.contains(relatedTarget)) close();
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || event.isComposing) return;
        event.preventDefault();
        event.stopPropagation();
        close();
      }}
    >
      <div class="emojis" role="group" aria-label="Your most used reactions">
        {common.map((emoji) => (
          <EmojiButton key={emoji} emoji={emoji} take={take} />
        ))}
        {!isLoaded && <IconButton icon="plus" label="More emojis" onClick={load} />}
      </div>
      {list === "missing" && (
        <p class="help is-wrong" role="alert">
          The other emojis could not be loaded.
        </p>
      )}
      {typeof list === "object" && <Picker list={list} take={take} />}
    </div>
  );
}

function Picker({ list: { groups, findEmojis }, take }: { list: EmojiList; take: (emoji: string) => void }) {
  const [query, setQuery] = useState("");
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    const isTouch = matchMedia("(pointer: coarse)").matches;
    (isTouch ? input.current?.closest(".reaction-popover")?.querySelector<HTMLElement>(".emoji") : input.current)?.focus();
  }, []);
  // An emoji of another keyboard, such as one with a skin tone, is its own result.
  const typed = emojiOf(query);
  const found = typed === undefined ? findEmojis(query, MAX_FOUND) : [{ emoji: typed, name: typed }];
  const isWhole = query.trim() === "";
  const shown = isWhole ? groups : [{ name: "Found emojis", emojis: found }];
  const [first] = shown.flatMap(({ emojis }) => emojis);
  return (
    <>
      <input
        class="emoji-search"
        type="search"
        aria-label="Search emojis"
        placeholder="Search emojis"
        autocomplete="off"
        maxLength={64}
        ref={input}
        value={query}
        onInput={(event) => setQuery(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !isWhole && found[0] !== undefined) take(found[0].emoji);
        }}
      />
      <div class={isWhole ? "emoji-groups is-whole" : "emoji-groups"} onKeyDown={moveFocus}>
        {shown.map(({ name, emojis }) => (
          <div key={name} role="group" aria-label={name}>
            <p class="emoji-group">{name}</p>
            <div class="emojis">
              {emojis.map(({ emoji, name }: NamedEmoji) => (
                <EmojiButton key={emoji} emoji={emoji} name={name} isReachable={emoji === first?.emoji} take={take} />
              ))}
            </div>
          </div>
        ))}
        <p class="help" role="status">
          {first === undefined ? "No emoji has this name." : ""}
        </p>
      </div>
    </>
  );
}

/** The Tab key reaches the first emoji of the picker, and arrow keys the others. */
function EmojiButton({ emoji, name = emoji, isReachable = true, take }: Partial<NamedEmoji> & { emoji: string; isReachable?: boolean; take: (emoji: string) => void }) {
  return (
    <button class="emoji" type="button" aria-label={name} title={name} tabIndex={isReachable ? 0 : -1} onClick={() => take(emoji)}>
      {emoji}
    </button>
  );
}

/** Moves the focus to the next emoji in the direction of an arrow key. */
function moveFocus(event: preact.TargetedKeyboardEvent<HTMLElement>): void {
  const buttons = [...event.currentTarget.querySelectorAll<HTMLElement>(".emoji")];
  const index = buttons.indexOf(event.target as HTMLElement);
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 0, ArrowUp: 0 }[event.key];
  const from = buttons[index];
  if (step === undefined || from === undefined) return;
  event.preventDefault();
  const { left, top } = from.getBoundingClientRect();
  const isAhead = (button: HTMLElement) => (event.key === "ArrowDown" ? button.getBoundingClientRect().top > top : button.getBoundingClientRect().top < top);
  const rows = event.key === "ArrowDown" ? buttons.slice(index) : buttons.slice(0, index).reverse();
  const next = step === 0 ? nearest(rows.filter(isAhead), left) : buttons[index + step];
  next?.focus();
}

/** Returns the button of the first row that is nearest to a column. */
function nearest([first, ...others]: readonly HTMLElement[], left: number): HTMLElement | undefined {
  const row = first === undefined ? [] : [first, ...others].filter((button) => button.offsetTop === first.offsetTop && button.parentElement === first.parentElement);
  const distance = (button: HTMLElement) => Math.abs(button.getBoundingClientRect().left - left);
  return row.sort((one, other) => distance(one) - distance(other))[0];
}
