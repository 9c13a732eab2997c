import { useState } from "preact/hooks";
import { type App, inviteAddress } from "../app.ts";
import { exactTime } from "../words/time.ts";
import { Window } from "./window.tsx";

/** Shows what somebody is invited to, and asks. */
export function InviteDialog({ app }: { app: App }) {
  const { preview, failure } = app.invitation ?? {};
  const [isAsked, setIsAsked] = useState(false);
  const close = () => app.go({});
  const accept = async () => {
    setIsAsked(true);
    await app.accept();
    setIsAsked(false);
  };
  const { id = "", title, memberCount = 0 } = preview?.conversation ?? {};
  return (
    <Window app={app} title="Invitation" onClose={close}>
      {failure !== undefined ? (
        <p role="alert">{failure}</p>
      ) : preview === undefined ? (
        <p role="status">Opening the invitation…</p>
      ) : (
        <>
          <p class="about-title">
            <bdi>{title ?? "A conversation without a title"}</bdi>
          </p>
          <p class="help">
            {memberCount === 1 ? "1 member." : `${memberCount} members.`}{" "}
            {preview.isMember ? "You are one of them already." : "Who joins reads all that was written before, and is seen by the members."}
          </p>
        </>
      )}
      <div class="dialog-actions">
        <button class="button" type="button" onClick={close}>
          {preview === undefined || failure !== undefined ? "Close" : "Not now"}
        </button>
        {preview !== undefined && failure === undefined && (
          <button class="button button-primary" type="button" disabled={isAsked} onClick={() => (preview.isMember ? app.go({ id }) : void accept())}>
            {preview.isMember ? "Open" : "Join"}
          </button>
        )}
      </div>
    </Window>
  );
}

/** Where the owner of a conversation makes links by which others join it, and takes them back. */
export function InviteLinks({ app, conversationId }: { app: App; conversationId: string }) {
  const [link, setLink] = useState<{ address: string; expiresAt: string } | undefined>(undefined);
  const make = async () => {
    const made = (await app.ask("create_invite", { conversationId })) as { token: string; expiresAt: string } | undefined;
    if (made === undefined) return;
    const address = inviteAddress(made.token);
    setLink({ address, expiresAt: made.expiresAt });
    await navigator.clipboard?.writeText(address).then(
      () => app.notice("The invitation is in your clipboard.", { isBad: false }),
      // It can be copied from the field.
      () => {},
    );
  };
  const revoke = async () => {
    const answer = (await app.ask("revoke_invites", { conversationId })) as { revoked: number } | undefined;
    if (answer === undefined) return;
    setLink(undefined);
    app.notice(answer.revoked === 0 ? "There were no invitations." : "Former invitations do not work any more.", { isBad: false });
  };
  return (
    <>
      <h3 id="invitations">Invitations</h3>
      <p class="help">Whoever has the link can join, and pass it on.</p>
      {link !== undefined && (
        <div class="form">
          <label for="invitation">Valid until {exactTime(link.expiresAt)}</label>
          <input id="invitation" type="text" readOnly value={link.address} onFocus={(event) => event.currentTarget.select()} />
        </div>
      )}
      <div class="dialog-actions">
        <button class="button" type="button" onClick={() => void revoke()}>
          Take links back
        </button>
        <button class="button" type="button" onClick={() => void make()}>
          Invite by link
        </button>
      </div>
    </>
  );
}
