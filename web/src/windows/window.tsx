import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { App } from "../app.ts";
import { Notices } from "../view/notices.tsx";
import { IconButton } from "../view/parts.tsx";

interface WindowProps {
  /** The application whose notices it shows. */
  app?: App;
  title: string;
  onClose: () => void;
  class?: string;
  children: ComponentChildren;
}

/** A modal window, which Escape and its button close. The focus then returns to where it was. */
export function Window({ app, title, onClose, class: name = "", children }: WindowProps) {
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
  useLayoutEffect(() => {
    const handleKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || event.isComposing) return;
      // Otherwise Escape would only empty a search field, or also close what lies below.
      event.preventDefault();
      onClose();
    };
    document.addEventListener("keydown", handleKey, true);
    return () => document.removeEventListener("keydown", handleKey, true);
  });
  return (
    <dialog
      class={`dialog ${name}`}
      ref={dialog}
      aria-labelledby="dialog-title"
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      // Browsers may close it without `cancel` if the user has not interacted with it. Without a
      // node, it is already closed.
      onClose={() => {
        if (dialog.current !== null) onClose();
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
        {app && <Notices app={app} isWindow />}
      </div>
    </dialog>
  );
}
