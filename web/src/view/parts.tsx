import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { isGuest } from "../model/account.ts";
import type { People } from "../model/people.ts";
import { hue, initials } from "../words/text.ts";
import { clockTime, exactTime } from "../words/time.ts";
import { Icon, type IconName } from "./icons.tsx";

/** The initials of a user, or of a conversation, on a colour of its own. */
export function Avatar({ id, name }: { id: string; name: string }) {
  return (
    <span class="avatar" aria-hidden="true" style={{ "--hue": String(hue(id)) }}>
      {initials(name)}
    </span>
  );
}

/** Text for screen readers alone. */
export function Spoken({ children }: { children: ComponentChildren }) {
  return <span class="spoken">{children}</span>;
}

/** The time of day, with all of it in a tooltip. */
export function Time({ at }: { at: string }) {
  return (
    <time datetime={at} title={exactTime(at)}>
      {clockTime(at)}
    </time>
  );
}

/** What stands beside a name that somebody else may have as well. */
export function Tags({ people, userId, name, type }: { people: People; userId: string; name: string; type?: string }) {
  const mark = people.markOf(userId, name);
  return (
    <>
      {type === "ai" ? <span class="tag">AI</span> : isGuest(userId) && <span class="tag">guest</span>}
      {mark !== undefined && (
        <span class="mark" title={`Somebody else has a name like this. The id of this user: ${userId}`}>
          #{mark}
        </span>
      )}
    </>
  );
}

interface IconButtonProps {
  icon: IconName;
  label: string;
  onClick: () => void;
  class?: string;
  children?: ComponentChildren;
  [attribute: `aria-${string}`]: string | undefined;
}

/** A button that is a drawing, with its words in a tooltip. */
export function IconButton({ icon, label, children, ...attributes }: IconButtonProps) {
  return (
    <button type="button" title={label} aria-label={label} {...attributes} class={`icon-button ${attributes.class ?? ""}`}>
      <Icon name={icon} />
      {children}
    </button>
  );
}

/** A window over the page, which Escape and its button close; the keyboard goes back to where it was. */
export function Window({ title, onClose, class: name = "", children }: { title: string; onClose: () => void; class?: string; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const node = dialog.current;
    const before = document.activeElement;
    node?.showModal();
    node?.querySelector<HTMLElement>("input, textarea")?.focus();
    return () => {
      node?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      class={`dialog ${name}`}
      ref={dialog}
      aria-labelledby="dialog-title"
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      <div class="dialog-body">
        <div class="dialog-head">
          <h2 id="dialog-title">{title}</h2>
          <IconButton icon="close" label="Close" onClick={onClose} />
        </div>
        {children}
      </div>
    </dialog>
  );
}
