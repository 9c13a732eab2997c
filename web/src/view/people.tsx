import { useLayoutEffect, useRef } from "preact/hooks";
import type { App } from "../app.ts";
import type { Conversation } from "../model/conversation.ts";
import type { PresentUser } from "../types.ts";
import { Avatar, IconButton, PersonName, Tags, UserStatusDot } from "./parts.tsx";

/** Maximum number of people in the panel. */
const MAX_SHOWN = 200;
/** Number of people from which on a window with a filter is offered. */
const MANY = 20;

interface PanelProps {
  app: App;
  conversation: Conversation;
  isNarrow: boolean;
  isOpen: boolean;
  close: () => void;
}

/** The panel of present users. On narrow screens it lies over the conversation. */
export function PeoplePanel({ app, conversation, isNarrow, isOpen, close }: PanelProps) {
  const panel = useRef<HTMLElement>(null);
  const { users, present, ownId, isPresenceKnown } = conversation;
  const shown = sorted(isPresenceKnown ? users : [], ownId).slice(0, MAX_SHOWN);
  // A layout effect, so that the first key press already goes to the panel.
  useLayoutEffect(() => {
    if (!isNarrow || !isOpen) return;
    panel.current?.querySelector("button")?.focus();
    const handlePress = ({ target }: Event) => {
      const toggle = document.querySelector(".people-toggle");
      if (target instanceof Node && !panel.current?.contains(target) && !toggle?.contains(target)) close();
    };
    // The key press has already closed something else.
    const handleKey = ({ key, defaultPrevented }: KeyboardEvent) => key === "Escape" && !defaultPrevented && close();
    document.addEventListener("pointerdown", handlePress);
    document.addEventListener("keydown", handleKey);
    return () => {
      document.removeEventListener("pointerdown", handlePress);
      document.removeEventListener("keydown", handleKey);
    };
  }, [isNarrow, isOpen]);
  const show = (userId: string) => {
    // The card replaces the panel, so that a conversation opened from there is not covered.
    if (isNarrow) close();
    app.showPerson(userId);
  };
  return (
    <aside
      class="people"
      id="people"
      aria-labelledby="people-title"
      ref={panel}
      hidden={!isOpen}
    >
      <div class="people-head">
        <h2 id="people-title">Here now{isPresenceKnown && ` · ${present}`}</h2>
        <IconButton icon="close" class="people-close" label="Close" onClick={close} />
      </div>
      <ul class="people-list" aria-labelledby="people-title">
        {shown.map((user) => (
          <Person key={user.userId} app={app} user={user} isSelf={user.userId === ownId} show={show} />
        ))}
      </ul>
      {/* With a new element, the text does not move when the list gets its first entries. */}
      <p key={String(isPresenceKnown)} class="people-rest">
        {!isPresenceKnown ? (
          "Unknown without a connection."
        ) : present > MANY ? (
          <button class="link-button" type="button" onClick={() => app.show("people")}>
            Find among all {present}
          </button>
        ) : present === 1 ? (
          "Only you are here now. Others read your messages when they return."
        ) : (
          ""
        )}
      </p>
    </aside>
  );
}

/** Returns present users by name, the own user first. */
export function sorted(users: readonly PresentUser[], ownId: string): PresentUser[] {
  return users.toSorted((one, other) => Number(other.userId === ownId) - Number(one.userId === ownId) || one.name.localeCompare(other.name));
}

export function Person({ app, user: { userId, name, connections }, isSelf, show }: { app: App; user: PresentUser; isSelf: boolean; show: (userId: string) => void }) {
  const { status, text } = app.statuses.shown(userId, true);
  return (
    <li class="person" data-user={userId} data-status={status}>
      <Avatar id={userId} name={name} />
      <UserStatusDot status={status} />
      <span class="person-text">
        <PersonName userId={userId} name={name} class="person-name" show={show} />
        {text !== "" && (
          <bdi class="person-status" title={text}>
            {text}
          </bdi>
        )}
      </span>
      {isSelf ? <span class="tag">you</span> : <Tags people={app.people} userId={userId} name={name} />}
      {connections > 1 && (
        <span class="person-connections" title={`${connections} connections`}>
          ×{connections}
        </span>
      )}
    </li>
  );
}
