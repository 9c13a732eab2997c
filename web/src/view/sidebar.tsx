import { type App, addressOf } from "../app.ts";
import type { Item } from "../model/inbox.ts";
import { preview } from "../words/text.ts";
import { clockTime, dayKey, shortDay } from "../words/time.ts";
import { Avatar, IconButton, Spoken } from "./parts.tsx";
import { ThemeToggle } from "./theme.tsx";

/** The conversations, and who we are. On a phone it is a screen of its own. */
export function Sidebar({ app }: { app: App }) {
  const items = app.inbox?.items ?? [];
  const { session } = app;
  return (
    <nav class="sidebar" aria-label="Conversations">
      <div class="sidebar-head">
        <img class="logo" src="/favicon.svg" alt="" width="28" height="28" />
        <p class="sidebar-title">Roomcast</p>
        <IconButton icon="search" label="Search (Ctrl+K)" onClick={() => app.show("search")} />
        {!session?.guest && <IconButton icon="plus" label="New conversation" onClick={() => app.show("new")} />}
      </div>
      <ul class="conversations">
        {items.map((item) => (
          <Entry key={item.id} item={item} isCurrent={item.id === app.current?.id} ownId={session?.userId ?? ""} />
        ))}
      </ul>
      {session && (
        <div class="sidebar-foot">
          <Avatar id={session.userId} name={session.name} />
          <p class="self">
            <bdi class="self-name">{session.name}</bdi>
            <span class="self-kind">{session.guest ? "guest" : session.roles.join(", ") || "signed in"}</span>
          </p>
          {session.guest && <IconButton icon="pencil" label="Change your name" onClick={() => app.show("name")} />}
          {"Notification" in globalThis && (
            <IconButton
              icon="bell"
              class={app.notifies ? "is-on" : ""}
              label={app.notifies ? "Notifications are on" : "Notify me when this page is not in view"}
              aria-pressed={String(app.notifies)}
              onClick={() => void app.toggleNotifications()}
            />
          )}
          <ThemeToggle />
          <IconButton icon="out" label="Sign out" onClick={() => app.signOut()} />
        </div>
      )}
    </nav>
  );
}

function Entry({ item, isCurrent, ownId }: { item: Item; isCurrent: boolean; ownId: string }) {
  const { id, title, unread, newest, time } = item;
  const text = newest === undefined ? "No messages yet" : newest.deletedAt ? "Message deleted" : preview(newest.content);
  const author = newest === undefined || newest.deletedAt ? "" : newest.userId === ownId ? "You: " : `${newest.userName}: `;
  return (
    <li>
      <a class="conversation" href={addressOf(id)} aria-current={isCurrent ? "page" : undefined} data-conversation={id}>
        <Avatar id={id} name={title} />
        <span class="conversation-text">
          <span class="conversation-top">
            <bdi class="conversation-title">{title}</bdi>
            {newest && <time datetime={time}>{dayKey(time) === dayKey(new Date().toISOString()) ? clockTime(time) : shortDay(time)}</time>}
          </span>
          <span class="conversation-bottom">
            <bdi class="conversation-newest">
              {author}
              {text}
            </bdi>
            {unread > 0 && (
              <span class="count">
                {unread > 999 ? "999+" : unread}
                <Spoken> unread</Spoken>
              </span>
            )}
          </span>
        </span>
      </a>
    </li>
  );
}
