import { useEffect, useRef, useState } from "preact/hooks";
import { type App, addressOf } from "../app.ts";
import type { Conversation } from "../model/conversation.ts";
import { typingLine } from "../model/typing.ts";
import type { Message } from "../types.ts";
import { AboutDialog, NewDialog } from "./about.tsx";
import { Composer } from "./composer.tsx";
import { Entry, NameDialog } from "./entry.tsx";
import { Icon } from "./icons.tsx";
import { InviteDialog } from "./invite.tsx";
import { Messages } from "./messages.tsx";
import { IconButton } from "./parts.tsx";
import { PeoplePanel } from "./people.tsx";
import { Search } from "./search.tsx";
import { Sidebar } from "./sidebar.tsx";
import { Status, StatusBar } from "./status.tsx";

const narrow = matchMedia("(width < 64rem)");

/** Everything that is shown. */
export function Page({ app }: { app: App }) {
  useEffect(() => {
    const handleKey = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || app.phase !== "in") return;
      event.preventDefault();
      app.show(app.dialog === "search" ? undefined : "search");
    };
    document.addEventListener("keydown", handleKey);
    return () => document.removeEventListener("keydown", handleKey);
  }, []);
  return (
    <>
      {app.phase === "in" ? <Chat app={app} /> : app.phase === "entry" ? <Entry app={app} /> : <Asking app={app} />}
      {app.phase === "in" && app.session !== undefined && app.invitation !== undefined && <InviteDialog key={app.invitation.token} app={app} />}
      {app.phase === "in" && app.dialog === "search" && <Search app={app} />}
      {app.phase === "in" && app.dialog === "new" && <NewDialog app={app} />}
      {app.phase === "in" && app.dialog === "name" && <NameDialog app={app} />}
      {app.phase === "in" && app.dialog === "about" && app.current && <AboutDialog key={app.current.id} app={app} conversation={app.current} />}
      <Notices app={app} />
      <div class="spoken" role="log" aria-label="New messages">
        {app.spoken.map(({ key, text }) => (
          <p key={key}>{text}</p>
        ))}
      </div>
    </>
  );
}

/** Until the server has said who we are. */
function Asking({ app }: { app: App }) {
  return (
    <main class="entry">
      <div class="asking">
        <h1 class="spoken">Roomcast</h1>
        <Status status={app.status} />
        <StatusBar status={app.status} retry={() => app.retry()} />
      </div>
    </main>
  );
}

function Chat({ app }: { app: App }) {
  const { current } = app;
  const [isNarrow, setIsNarrow] = useState(narrow.matches);
  const [showsPeople, setShowsPeople] = useState(!narrow.matches);
  useEffect(() => {
    const handleWidth = () => {
      setIsNarrow(narrow.matches);
      setShowsPeople(!narrow.matches);
    };
    narrow.addEventListener("change", handleWidth);
    return () => narrow.removeEventListener("change", handleWidth);
  }, []);
  const closePeople = () => {
    setShowsPeople(false);
    document.querySelector<HTMLElement>(".people-toggle")?.focus();
  };
  return (
    <div class={current === undefined ? "chat is-list" : "chat"}>
      <Sidebar app={app} />
      <div class="room">
        <header class="header">
          <a class="icon-button back" href={addressOf()} aria-label="All conversations" title="All conversations">
            <Icon name="back" />
          </a>
          <div class="header-text">
            <h1>
              <bdi>{current ? app.inbox?.titleOf(current.id) : "Conversations"}</bdi>
            </h1>
            <Status status={app.status} />
          </div>
          {current && (
            <div class="header-actions">
              <IconButton icon="info" label="About this conversation" onClick={() => app.show("about")} />
              <button
                class="icon-button people-toggle"
                type="button"
                aria-controls="people"
                aria-expanded={showsPeople}
                aria-label={`Who is here: ${counted(current.present)}`}
                title={`Who is here: ${counted(current.present)}`}
                onClick={() => setShowsPeople(!showsPeople)}
              >
                <Icon name="people" />
                <span class="people-count">{current.present}</span>
              </button>
            </div>
          )}
        </header>
        <main class="main">
          <StatusBar status={app.status} retry={() => app.retry()} />
          {current ? <Room key={current.id} app={app} conversation={current} /> : <p class="absent">{app.inbox?.isReady ? "Choose a conversation." : "Opening your conversations…"}</p>}
        </main>
        {current && <PeoplePanel app={app} conversation={current} isNarrow={isNarrow} isOpen={showsPeople} close={closePeople} />}
      </div>
    </div>
  );
}

function Room({ app, conversation }: { app: App; conversation: Conversation }) {
  const [editing, setEditing] = useState<Message | undefined>(undefined);
  const messages = useRef<Messages>(null);
  return (
    <>
      {conversation.stage === "absent" && (
        <p class="absent">
          This conversation does not exist, or you are not a member of it. Its owner can add you by your id: <code>{app.session?.userId}</code>
        </p>
      )}
      <Messages ref={messages} app={app} conversation={conversation} edit={setEditing} />
      <Typing conversation={conversation} />
      <Composer key={conversation.ownId} conversation={conversation} reason={app.reasonNotToWrite} editing={editing} edit={setEditing} sent={() => messages.current?.scrollToEnd()} />
    </>
  );
}

function Typing({ conversation }: { conversation: Conversation }) {
  const [, draw] = useState(0);
  const now = Date.now();
  const expiry = conversation.typists.nextExpiry(now);
  useEffect(() => {
    if (expiry === undefined) return;
    const timer = setTimeout(() => draw((count) => count + 1), expiry - Date.now());
    return () => clearTimeout(timer);
  }, [expiry]);
  return (
    <p class="typing">
      <bdi>{typingLine(conversation.typists.names(now))}</bdi>
    </p>
  );
}

function Notices({ app }: { app: App }) {
  return (
    <div class="notices" role="alert">
      {app.notices.map((notice) => (
        <p key={notice.key} class={notice.isBad ? "notice is-bad" : "notice"}>
          <Icon name={notice.isBad ? "alert" : "info"} />
          {notice.href ? (
            <a href={notice.href} dir="auto" onClick={() => app.dismiss(notice)}>
              {notice.text}
            </a>
          ) : (
            <span dir="auto">{notice.text}</span>
          )}
          <IconButton icon="close" label="Dismiss" onClick={() => app.dismiss(notice)} />
        </p>
      ))}
    </div>
  );
}

function counted(count: number): string {
  return count === 1 ? "1 person" : `${count} people`;
}
