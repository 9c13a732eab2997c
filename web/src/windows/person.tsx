import { useState } from "preact/hooks";
import type { App } from "../app.ts";
import { isGuest } from "../model/account.ts";
import { Avatar, Tags, UserStatusDot } from "../view/parts.tsx";
import { begin } from "./change.ts";
import { Window } from "./window.tsx";

/** The card of a user: what this page knows of the user, and a way to write to the user. */
export function PersonDialog({ app }: { app: App }) {
  const { personId: userId, session, inbox } = app;
  const [isPending, setIsPending] = useState(false);
  const name = app.people.nameOf(userId) ?? userId;
  const isSelf = userId === session?.userId;
  const isPresent = inbox?.isPresent(userId) ?? false;
  const { status, text } = app.statuses.shown(userId, isPresent);
  const shared = (inbox?.all ?? []).filter(({ memberIds }) => !isSelf && memberIds.includes(userId));
  const direct = shared.find(({ memberIds, title }) => memberIds.length === 2 && title === null);
  const close = () => app.show(undefined);
  const write = async () => {
    if (direct !== undefined) return app.go({ id: direct.id });
    setIsPending(true);
    await begin(app, { memberIds: [userId] });
    setIsPending(false);
  };
  const mayWrite = !isSelf && (direct !== undefined || app.mayManage);
  return (
    <Window app={app} title="About this person" onClose={close}>
      <div class="person card">
        <Avatar id={userId} name={name} />
        <UserStatusDot status={status} />
        <span class="person-text">
          <bdi class="about-title">{name}</bdi>
          <span class="person-status">
            {app.connection?.isReady ? (isPresent ? status : "not here now") : "unknown without a connection"}
            {text !== "" && (
              <>
                {" · "}
                <bdi>{text}</bdi>
              </>
            )}
          </span>
        </span>
        {isSelf ? <span class="tag">you</span> : <Tags people={app.people} userId={userId} name={name} />}
      </div>
      {isGuest(userId) && <p class="help">Guests choose their names themselves: this server does not verify them.</p>}
      <p class="help">
        Id: <code class="id">{userId}</code>
      </p>
      {shared.length > 0 && (
        <>
          <h3 id="shared">Conversations with you</h3>
          <ul class="picker" aria-labelledby="shared">
            {shared.map(({ id }) => (
              <li key={id}>
                <button type="button" onClick={() => app.go({ id })}>
                  <Avatar id={id} name={inbox?.titleOf(id) ?? ""} />
                  <bdi class="person-name">{inbox?.titleOf(id)}</bdi>
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
      {!isSelf && !mayWrite && <p class="help">Guests cannot begin conversations. Mention this person in one that you share.</p>}
      <div class="dialog-actions">
        {isSelf && (
          <button class="button" type="button" onClick={() => app.show("status")}>
            Your status
          </button>
        )}
        {mayWrite && (
          <button class="button button-primary" type="button" disabled={isPending} onClick={() => void write()}>
            Message
          </button>
        )}
      </div>
    </Window>
  );
}
