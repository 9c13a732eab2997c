import { type App, TRADING, addressOf } from "../app.ts";
import type { Item } from "../model/inbox.ts";
import dialogStyle from "../style/dialog.css?url";
import type { UserStatus } from "../types.ts";
import { excerptOf } from "../words/markdown.ts";
import { listTime } from "../words/time.ts";
import { Icon } from "./icons.tsx";
import { lazyPage } from "./lazy.tsx";
import { Notices } from "./notices.tsx";
import { Avatar, BellButton, IconButton, Spoken, UserStatusDot } from "./parts.tsx";
import { ThemeToggle } from "./theme.tsx";

/** What a user without conversations can do. */
export const First = lazyPage(() => import("../windows/about.tsx").then((file) => file.First), dialogStyle);

/** The list of conversations and the user. On a phone it is a separate screen. */
export function Sidebar({ app, isAlone }: { app: App; isAlone: boolean }) {
  const items = app.inbox?.items ?? [];
  const { session } = app;
  const own = app.statuses.shown(session?.userId ?? "", app.connection?.isReady ?? false);
  const [Landmark, Title] = isAlone ? (["main", "h1"] as const) : (["nav", "p"] as const);
  return (
    <Landmark class="sidebar" aria-label="Conversations">
      <div class="sidebar-head">
        <img class="logo" src="/favicon.svg" alt="" width="28" height="28" />
        <Title class="sidebar-title">Roomcast</Title>
        <BellButton app={app} />
        <IconButton icon="search" label="Search (Ctrl+K)" onClick={() => app.show("search")} />
        {!session?.guest && <IconButton icon="plus" label="New conversation" onClick={() => app.show("new")} />}
      </div>
      {app.showsTrading && (
        <a class="conversation to-trading" href={TRADING} aria-current={app.place.isTrading ? "page" : undefined}>
          <Icon name="chart" />
          <span class="conversation-title">Trading</span>
        </a>
      )}
      <ul class="conversations">
        {items.map((item) => (
          <Entry
            key={item.id}
            item={item}
            isCurrent={item.id === app.current?.id}
            ownId={session?.userId ?? ""}
            status={item.other && app.statuses.shown(item.other.userId, item.other.isPresent).status}
          />
        ))}
      </ul>
      {isAlone && app.inbox?.isEmpty && <First app={app} />}
      {isAlone && <Notices app={app} />}
      {session && (
        <div class="sidebar-foot">
          <button class="self" type="button" title="Your status" onClick={() => app.show("status")}>
            <Avatar id={session.userId} name={session.name} />
            <UserStatusDot status={own.status} />
            <span class="self-text">
              <bdi class="self-name">{session.name}</bdi>
              <bdi class="self-kind">{own.text || (session.guest ? "guest" : session.roles.join(", ") || "signed in")}</bdi>
            </span>
            <Spoken>, your status</Spoken>
          </button>
          {session.guest && <IconButton icon="pencil" label="Change your name" onClick={() => app.show("name")} />}
          <ThemeToggle />
          <IconButton icon="out" label="Sign out" onClick={() => app.signOut()} />
        </div>
      )}
    </Landmark>
  );
}

function Entry({ item, isCurrent, ownId, status }: { item: Item; isCurrent: boolean; ownId: string; status: UserStatus["status"] | undefined }) {
  const { id, title, unread, isMentioned, newest, isEmpty, isMuted } = item;
  const text = newest === undefined ? (isEmpty ? "No messages yet" : "") : newest.deletedAt ? "Message deleted" : excerptOf(newest.content);
  const author = newest === undefined || newest.deletedAt ? "" : newest.userId === ownId ? "You: " : `${newest.userName}: `;
  return (
    <li>
      <a class={`conversation ${isMuted ? "is-muted" : unread > 0 ? "is-unread" : ""}`} href={addressOf(id)} aria-current={isCurrent ? "page" : undefined} data-conversation={id}>
        <Avatar id={id} name={title} />
        {status && <UserStatusDot status={status} />}
        <span class="conversation-text">
          <span class="conversation-top">
            <bdi class="conversation-title">{title}</bdi>
            {isMuted && <Icon name="mute" />}
            {isMuted && <Spoken>muted</Spoken>}
            {newest && <time datetime={newest.createdAt}>{listTime(newest.createdAt)}</time>}
          </span>
          <span class="conversation-bottom">
            <bdi class="conversation-newest">{author + text}</bdi>
            {unread > 0 && (
              <span class={`count ${isMuted ? "is-muted" : isMentioned ? "is-meant" : ""}`}>
                {unread > 999 ? "999+" : unread}
                <Spoken> unread{isMentioned && ", you are mentioned"}</Spoken>
              </span>
            )}
          </span>
        </span>
      </a>
    </li>
  );
}
