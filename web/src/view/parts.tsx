import type { ComponentChildren } from "preact";
import type { App } from "../app.ts";
import { isGuest } from "../model/account.ts";
import type { People } from "../model/people.ts";
import { hue, initials, partsOf } from "../words/text.ts";
import type { UserStatus } from "../types.ts";
import { clockTime, exactTime } from "../words/time.ts";
import { Icon, type IconName } from "./icons.tsx";

/** The initials of a user or conversation, on a colour of its own. */
export function Avatar({ id, name }: { id: string; name: string }) {
  return (
    <span class="avatar" aria-hidden="true" style={{ "--hue": String(hue(id)) }}>
      {initials(name)}
    </span>
  );
}

/** The status of a user, as a dot on the preceding element. */
export function UserStatusDot({ status }: { status: UserStatus["status"] }) {
  return (
    <span class={`user-status is-${status}`} title={status}>
      <Spoken>{status}</Spoken>
    </span>
  );
}

/**
 * A sentence with texts by other users, isolated so that their writing direction does not affect
 * the rest.
 */
export function Isolated({ text }: { text: string }) {
  return <>{partsOf(text).map((part, index) => (index % 2 === 1 ? <bdi key={index}>{part}</bdi> : part))}</>;
}

interface PersonNameProps {
  userId: string;
  name: string;
  class: string;
  tabIndex?: number;
  show: (userId: string) => void;
}

/** The name of a user, which opens the user's card. */
export function PersonName({ userId, name, show, class: own, ...attributes }: PersonNameProps) {
  return (
    <button type="button" {...attributes} class={`name ${own}`} onClick={() => show(userId)}>
      <bdi>{name}</bdi>
    </button>
  );
}

/** Text for screen readers only. */
export function Spoken({ children }: { children: ComponentChildren }) {
  return <span class="spoken">{children}</span>;
}

/** The time of day, with the exact date and time in a tooltip. */
export function Time({ at }: { at: string }) {
  return (
    <time datetime={at} title={exactTime(at)}>
      {clockTime(at)}
    </time>
  );
}

/** The tags beside a name: AI, guest, and the mark of names that look alike. */
export function Tags({ people, userId, name, type }: { people: People; userId: string; name: string; type?: string }) {
  const mark = people.markOf(userId, name);
  return (
    <>
      {type === "ai" ? <span class="tag">AI</span> : isGuest(userId) && <span class="tag">guest</span>}
      {mark !== undefined && (
        <span class="mark" title={`Another user has a similar name. The id of this user: ${userId}`}>
          #{mark}
        </span>
      )}
    </>
  );
}

/** The button of the notifications, with the number of new ones. */
export function BellButton({ app }: { app: App }) {
  const unread = app.bell?.unread(Date.now()) ?? 0;
  const count = unread > 99 ? "99+" : String(unread);
  return (
    <IconButton icon="bell" class="bell" label={unread === 0 ? "Notifications" : `Notifications, ${count} new`} onClick={() => app.show("notifications")}>
      {unread > 0 && <span class="count">{count}</span>}
    </IconButton>
  );
}

interface IconButtonProps {
  icon: IconName | `M${string}`;
  label: string;
  onClick: () => void;
  class?: string;
  children?: ComponentChildren;
  [attribute: `aria-${string}`]: string | undefined;
}

/** A button with an icon, and its label in a tooltip. */
export function IconButton({ icon, label, children, ...attributes }: IconButtonProps) {
  return (
    <button type="button" title={label} aria-label={label} {...attributes} class={`icon-button ${attributes.class ?? ""}`}>
      <Icon name={icon} />
      {children}
    </button>
  );
}
