import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type App, type Dialog, addressOf } from "../app.ts";
import type { Conversation } from "../model/conversation.ts";
import type { Draft } from "../model/draft.ts";
import { typingLine } from "../model/typing.ts";
import notificationsStyle from "../notifications/notifications.css?url";
import tradingStyle from "../trading/trading.css?url";
import type { Message } from "../types.ts";
import { PinBar, Tools } from "../marks/parts.tsx";
import { Composer } from "./composer.tsx";
import { Entry, TokenForm } from "./entry.tsx";
import { Icon } from "./icons.tsx";
import { type Lazy, lazyPage, lazyPart, lazyWindow } from "./lazy.tsx";
import { Messages } from "./messages.tsx";
import { Notices } from "./notices.tsx";
import { BellButton, IconButton, Isolated } from "./parts.tsx";
import { First, Sidebar } from "./sidebar.tsx";
import { Status, StatusBar } from "./status.tsx";

const narrow = matchMedia("(width < 64rem)");
/** Widths at which the list and the conversation are separate screens. */
const phone = matchMedia("(width < 48rem)");
const Trading = lazyPage(() => import("../trading/page.tsx").then((file) => file.Trading), tradingStyle);
const InviteDialog = lazyWindow(() => import("../windows/about.tsx").then((file) => file.InviteDialog));
const PeoplePanel = lazyPart(() => import("./people.tsx").then((file) => file.PeoplePanel), [], <div class="people is-waiting" />);
/** The windows by the names under which the app shows them. */
const windows: Record<Dialog, Lazy<{ app: App }>> = {
  search: lazyWindow(() => import("../windows/search.tsx").then((file) => file.Search)),
  new: lazyWindow(() => import("../windows/about.tsx").then((file) => file.NewDialog)),
  name: lazyWindow(() => import("../windows/session.tsx").then((file) => file.NameDialog)),
  notifications: lazyWindow(() => import("../notifications/list.tsx").then((file) => file.Notifications), notificationsStyle),
  pins: lazyWindow(() => import("../marks/pins.tsx").then((file) => file.Pins)),
  status: lazyWindow(() => import("../status/dialog.tsx").then((file) => file.StatusDialog)),
  shortcuts: lazyWindow(() => import("../windows/shortcuts.tsx").then((file) => file.Shortcuts)),
  out: lazyWindow(() => import("../windows/out.tsx").then((file) => file.SignOutDialog)),
  about: lazyWindow(() => import("../windows/about.tsx").then((file) => file.AboutDialog)),
  people: lazyWindow(() => import("../windows/people.tsx").then((file) => file.PeopleDialog)),
  person: lazyWindow(() => import("../windows/about.tsx").then((file) => file.PersonDialog)),
  renew: lazyWindow(() => import("../windows/session.tsx").then((file) => file.RenewDialog)),
};

/** The whole page. */
export function Page({ app }: { app: App }) {
  useLayoutEffect(() => {
    const handleKey = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || app.phase !== "in") return;
      event.preventDefault();
      app.show(app.dialog === "search" ? undefined : "search");
    };
    document.addEventListener("keydown", handleKey);
    return () => document.removeEventListener("keydown", handleKey);
  }, []);
  useEffect(() => {
    if (app.phase === "in" && app.session !== undefined) {
      // They must also work after the network is lost.
      for (const part of [Tools, PeoplePanel, ...Object.values(windows)]) part.prepare();
      void import("./input.ts").then(({ listen }) => listen(app)).catch(() => {});
    }
  }, [app.phase === "in" && app.session !== undefined]);
  const Window = app.phase === "in" && app.dialog !== undefined && windows[app.dialog];
  return (
    <>
      {app.phase === "in" ? <Chat app={app} /> : app.phase === "entry" ? <Entry app={app} /> : <Asking app={app} />}
      {app.phase === "in" && app.session !== undefined && app.invitation !== undefined && <InviteDialog key={app.invitation} app={app} />}
      {Window && <Window key={app.personId} app={app} />}
      <div class="spoken" role="log" aria-label="New messages">
        {app.spoken.map(({ key, text }) => (
          <p key={key}>
            <Isolated text={text} />
          </p>
        ))}
      </div>
    </>
  );
}

/** Shown until the server has identified the user. */
function Asking({ app }: { app: App }) {
  useEffect(() => {
    if (!app.entrance.guests) TokenForm.prepare();
  }, []);
  return (
    <main class="entry">
      <div class="signing-in">
        <h1 class="spoken">Roomcast</h1>
        <Status status={app.status} />
        <StatusBar app={app} />
      </div>
    </main>
  );
}

function Chat({ app }: { app: App }) {
  const { current } = app;
  const { isTrading = false } = app.place;
  const isList = current === undefined && !isTrading;
  const [isNarrow, setIsNarrow] = useState(narrow.matches);
  const [isPhone, setIsPhone] = useState(phone.matches);
  const [showsPeople, setShowsPeople] = useState(!narrow.matches);
  // A layout effect, because changes before a later effect would be missed.
  useLayoutEffect(() => {
    const handleWidth = () => {
      setIsNarrow(narrow.matches);
      setShowsPeople(!narrow.matches);
    };
    const handlePhone = () => setIsPhone(phone.matches);
    narrow.addEventListener("change", handleWidth);
    phone.addEventListener("change", handlePhone);
    return () => {
      narrow.removeEventListener("change", handleWidth);
      phone.removeEventListener("change", handlePhone);
    };
  }, []);
  const closePeople = () => {
    setShowsPeople(false);
    document.querySelector<HTMLElement>(".people-toggle")?.focus();
  };
  return (
    <div class={isList ? "chat is-list" : "chat"}>
      <Sidebar app={app} isAlone={isList && isPhone} />
      <div class="room">
        <header class="header">
          <a class="icon-button back" href={addressOf()} aria-label="All conversations" title="All conversations">
            <Icon name="back" />
          </a>
          <div class="header-text">
            <h1>
              <bdi>{isTrading ? "Trading" : current ? app.inbox?.titleOf(current.id) : "Conversations"}</bdi>
            </h1>
            <Status status={app.status} />
          </div>
          <div class="header-actions header-bell">
            <BellButton app={app} />
          </div>
          {current && (
            <div class="header-actions">
              <IconButton icon="info" label="About this conversation" onClick={() => app.show("about")} />
              <button
                class="icon-button people-toggle"
                type="button"
                aria-controls="people"
                aria-expanded={showsPeople}
                aria-label={`Who is here: ${counted(current)}`}
                title={`Who is here: ${counted(current)}`}
                onClick={() => setShowsPeople(!showsPeople)}
              >
                <Icon name="people" />
                <span class="people-count">{current.isPresenceKnown ? current.present : "–"}</span>
              </button>
            </div>
          )}
        </header>
        <main class="main">
          <StatusBar app={app} />
          {isTrading && app.session ? (
            app.showsTrading ? (
              <Trading key={app.session.userId} app={app} />
            ) : (
              <p class="absent">You do not have access to the trading page.</p>
            )
          ) : isTrading ? null : current ? (
            <Room key={current.id} app={app} conversation={current} />
          ) : app.inbox?.isEmpty ? (
            <First app={app} />
          ) : (
            <p class="absent">{app.inbox?.isReady ? "Choose a conversation." : "Opening your conversations…"}</p>
          )}
          {current === undefined && !(isList && isPhone) && <Notices app={app} />}
        </main>
        {current && <PeoplePanel app={app} conversation={current} isNarrow={isNarrow} isOpen={showsPeople} close={closePeople} />}
      </div>
    </div>
  );
}

function Room({ app, conversation }: { app: App; conversation: Conversation }) {
  const [editing, setEditing] = useState<Message | Draft | undefined>(undefined);
  const [replying, setReplying] = useState<Message | undefined>(undefined);
  const reply = (message: Message | undefined) => {
    if (message !== undefined) setEditing(undefined);
    setReplying(message);
  };
  const withdraw = (clientMessageId: string) => {
    conversation.withdraw(clientMessageId);
    if (editing !== undefined && "delivery" in editing && editing.clientMessageId === clientMessageId) setEditing(undefined);
  };
  const messages = useRef<Messages>(null);
  return (
    <>
      {conversation.stage === "absent" && (
        <p class="absent">
          This conversation does not exist, or you are not a member of it. Its owner can add you by your id: <code>{app.session?.userId}</code>
        </p>
      )}
      {!conversation.isOpening && <PinBar app={app} conversation={conversation} />}
      <Messages handle={messages} app={app} conversation={conversation} edit={setEditing} reply={reply} withdraw={withdraw} />
      {conversation.isInterrupted && (
        <p class="interrupted" role="status">
          The server cannot read new messages at the moment. They appear as soon as it can.
        </p>
      )}
      <Notices app={app} />
      <Typing conversation={conversation} />
      <Composer
        key={conversation.ownId}
        conversation={conversation}
        reason={app.reasonNotToWrite}
        editing={editing}
        edit={setEditing}
        replying={replying}
        reply={reply}
        isChosen={app.isChosen}
        people={app.people}
        mentionable={() => app.inbox?.peopleOf(conversation) ?? []}
        sent={() => messages.current?.scrollToEnd()}
        resized={() => messages.current?.keepAtEnd()}
      />
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
      <Isolated text={typingLine(conversation.typists.names(now))} />
    </p>
  );
}

function counted({ present, isPresenceKnown }: Conversation): string {
  return !isPresenceKnown ? "unknown" : present === 1 ? "1 person" : `${present} people`;
}
