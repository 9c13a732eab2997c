import { useEffect, useRef, useState } from "preact/hooks";
import { type App, NOTIFY } from "../app.ts";
import { browser } from "../model/storage.ts";
import type { Notification } from "../types.ts";
import { exactTime } from "../words/time.ts";
import { Icon, type IconName } from "../view/icons.tsx";
import { IconButton, Spoken } from "../view/parts.tsx";
import { Window } from "../windows/window.tsx";
import { asFailure, explain } from "../words/failure.ts";
import { type Earlier, actionOf } from "./bell.ts";

/** Time in view after which a notification counts as read, in milliseconds. */
const DWELL = 1_000;

/** Turns the notifications of the browser on or off. */
async function toggleNotifications(app: App): Promise<void> {
  const enable = !app.notifies;
  const isAllowed = enable && (await globalThis.Notification.requestPermission()) === "granted";
  browser.set(NOTIFY, isAllowed ? "yes" : "no");
  if (enable && !isAllowed) app.notice("Your browser does not allow this page to show notifications.");
  app.changed();
}

/**
 * The window with the notifications. A notification that was in view for a while counts as read.
 */
export function Notifications({ app }: { app: App }) {
  const { bell } = app;
  const items = bell?.list(Date.now()) ?? [];
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => () => bell?.sweep(), []);
  useEffect(() => {
    const timers = new Map<Element, ReturnType<typeof setTimeout>>();
    const observer = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          clearTimeout(timers.get(target));
          const read = () => bell?.read(target.getAttribute("data-notification") ?? "");
          if (isIntersecting) timers.set(target, setTimeout(read, DWELL));
        }
      },
      { threshold: 0.5 },
    );
    for (const item of list.current?.querySelectorAll("[data-notification]:not(.is-read)") ?? []) observer.observe(item);
    return () => {
      observer.disconnect();
      for (const timer of timers.values()) clearTimeout(timer);
    };
    // Observes again when the list changes. Ids that were read in the meantime are ignored.
  }, [items.map(({ notificationId }) => notificationId).join(" ")]);
  const unread = items.filter(({ notificationId }) => bell?.isRead(notificationId) !== true);
  return (
    <Window app={app} title="Notifications" onClose={() => app.show(undefined)} class="notifications">
      {"Notification" in globalThis && (
        <p class="by-browser">
          <span>Notify me also while this page is hidden</span>
          <IconButton
            icon="bell"
            class={app.notifies ? "is-on" : ""}
            label={app.notifies ? "Notifications are on" : "Notify me while this page is hidden"}
            aria-pressed={String(app.notifies)}
            onClick={() => void toggleNotifications(app)}
          />
        </p>
      )}
      {items.length === 0 && <p class="help">There are no new notifications. Messages that mention you appear here. Each conversation has its own level, in the window about it.</p>}
      {unread.length > 0 && (bell?.unread(Date.now()) ?? 0) > 1 && (
        <div class="dialog-actions read-all">
          <button class="button" type="button" onClick={() => bell?.readAll()}>
            Mark all as read
          </button>
        </div>
      )}
      <ul class="notification-list" ref={list} aria-label="Notifications">
        {items.map((item) => (
          <Item key={item.notificationId} item={item} isRead={bell?.isRead(item.notificationId) ?? false} app={app} />
        ))}
      </ul>
      {bell?.hasMore && <p class="help">Older notifications appear after these are read.</p>}
      <History app={app} shown={items} />
    </Window>
  );
}

/** The notifications that were read before, loaded by page when the user requests them. */
function History({ app, shown }: { app: App; shown: readonly Notification[] }) {
  const [earlier, setEarlier] = useState<readonly Earlier[] | undefined>();
  const [cursor, setCursor] = useState<string | undefined>();
  const [words, setWords] = useState("");
  const [isBusy, setBusy] = useState(false);
  const title = useRef<HTMLHeadingElement>(null);
  const listed = new Set(shown.map(({ notificationId }) => notificationId));
  const more = async () => {
    if (isBusy || app.bell === undefined) return;
    setBusy(true);
    try {
      const page = await app.bell.history(cursor);
      const all = [...(earlier ?? []), ...page.notifications];
      setEarlier(all);
      setCursor(page.cursor);
      setWords(all.length === 0 && !page.hasMore ? "There are no earlier notifications." : "");
      // The button may have disappeared, so the heading receives the focus.
      if (earlier === undefined || !page.hasMore) requestAnimationFrame(() => title.current?.focus());
    } catch (error) {
      setWords(explain(asFailure(error)));
    } finally {
      setBusy(false);
    }
  };
  const items = earlier?.filter(({ notificationId }) => !listed.has(notificationId)) ?? [];
  return (
    <section class="earlier">
      {earlier !== undefined && (
        <h3 ref={title} tabIndex={-1}>
          Earlier
        </h3>
      )}
      {items.length > 0 && (
        <ul class="notification-list" aria-label="Earlier notifications">
          {items.map((item) => (
            <Item key={item.revision} item={item} isRead app={app} />
          ))}
        </ul>
      )}
      <p class="help" role="status">
        {words}
      </p>
      {(earlier === undefined || cursor !== undefined) && (
        <button class="button" type="button" aria-disabled={isBusy ? "true" : undefined} onClick={() => void more()}>
          {earlier === undefined ? "Show earlier notifications" : "Show more"}
        </button>
      )}
    </section>
  );
}

const icons: Record<Notification["type"], IconName> = { info: "info", success: "check", warning: "alert", error: "alert" };

function Item({ item, isRead, app }: { item: Notification; isRead: boolean; app: App }) {
  const { notificationId, type, priority, title, message, actionUrl, timestamp } = item;
  const action = actionOf(actionUrl, location.href);
  const read = () => {
    app.bell?.read(notificationId);
    if (action?.isHere) app.show(undefined);
  };
  return (
    <li class={`notification is-${type} ${isRead ? "is-read" : ""}`} data-notification={notificationId}>
      <Icon name={icons[type] ?? "info"} />
      <div class="notification-text">
        <p class="notification-title" dir="auto">
          {!isRead && <Spoken>New: </Spoken>}
          {title}
        </p>
        <p class="notification-message" dir="auto">
          {message}
        </p>
        <p class="notification-foot">
          <time datetime={timestamp}>{exactTime(timestamp)}</time>
          {(priority === "urgent" || priority === "high") && <span class="tag">{priority}</span>}
          {action && (
            <a href={action.href} {...(!action.isHere && { target: "_blank", rel: "noopener noreferrer" })} onClick={read}>
              Open
              {!action.isHere && ` ${new URL(action.href).host}`}
              <Spoken> “{title}”</Spoken>
            </a>
          )}
        </p>
      </div>
    </li>
  );
}
