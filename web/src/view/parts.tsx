import type { ComponentChildren } from "preact";
import type { App } from "../app.ts";
import { isGuest } from "../model/account.ts";
import type { People } from "../model/people.ts";
import { hue, initials, partsOf } from "../words/text.ts";
import type { UserStatus } from "../types.ts";
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

/** What somebody says of itself, as a dot on what stands before it. */
export function UserStatusDot({ status }: { status: UserStatus["status"] }) {
  return (
    <span class={`user-status is-${status}`} title={status}>
      <Spoken>{status}</Spoken>
    </span>
  );
}

/** A sentence with parts by others, which stand apart from it and from each other whatever they are made of. */
export function Isolated({ text }: { text: string }) {
  return <>{partsOf(text).map((part, index) => (index % 2 === 1 ? <bdi key={index}>{part}</bdi> : part))}</>;
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

/** What somebody should know, and how much of it. */
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
