import { useLayoutEffect, useRef } from "preact/hooks";
import type { Message } from "../types.ts";
import type { LineActions } from "../view/line.tsx";
import { IconButton } from "../view/parts.tsx";
import { exactTime } from "../words/time.ts";
import { ReactionPopover } from "./popover.tsx";

export { Completion } from "./completion.tsx";
export { PinBar } from "./pin_bar.tsx";

const SMILE = "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM8 14a4.5 4.5 0 0 0 8 0M9 9.5v.1M15 9.5v.1";
const TRASH = "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13";

export interface ToolsProps {
  message: Message;
  isOwn: boolean;
  actions: LineActions;
  copy: () => void;
  /** Whether the popover to choose a reaction is open. */
  isReacting: boolean;
  react: (isReacting: boolean) => void;
}

/**
 * The tools of the message under the pointer or with the focus. They cover no other message: beside
 * a pointer they lie over the message itself, on a phone below it.
 */
export function Tools({ message, isOwn, actions, copy, isReacting, react }: ToolsProps) {
  const { id, createdAt } = message;
  const tools = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    // On a phone they have their own row, which may be out of view.
    if (tools.current && getComputedStyle(tools.current).position === "static") tools.current.scrollIntoView({ block: "nearest" });
  }, []);
  return (
    <div class="tools" role="group" aria-label="Message" ref={tools}>
      <time datetime={createdAt}>{exactTime(createdAt)}</time>
      <IconButton icon={SMILE} label="React" aria-expanded={String(isReacting)} onClick={() => react(!isReacting)} />
      <IconButton icon="reply" label="Reply" onClick={() => actions.reply(message)} />
      {actions.pin && <IconButton icon="pin" label={actions.isPinned(id) ? "Unpin" : "Pin"} onClick={() => actions.pin?.(message)} />}
      <IconButton icon="link" label="Copy link" onClick={copy} />
      {isOwn && <IconButton icon="pencil" label="Edit" onClick={() => actions.edit(message)} />}
      {isOwn && <IconButton icon={TRASH} label="Delete" onClick={() => actions.deleteSoon(id)} />}
      {isReacting && <ReactionPopover ownId={actions.ownId} anchor={tools} choose={(emoji) => actions.toggle(message, emoji)} close={() => react(false)} />}
    </div>
  );
}
