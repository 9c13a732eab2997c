import { useEffect, useState } from "preact/hooks";
import { DISCONNECTED } from "../../packages/client/src/index.ts";
import type { App } from "../app.ts";
import type { Failure, InvitePreview } from "../types.ts";
import { asFailure, explain } from "../words/failure.ts";
import { exactTime } from "../words/time.ts";
import { copyText } from "./copy.ts";
import { Window } from "./window.tsx";

/** The window that shows an invitation and lets the user accept it. */
export function InviteDialog({ app }: { app: App }) {
  const { connection, invitation: token = "", session } = app;
  const [preview, setPreview] = useState<InvitePreview>();
  const [failure, setFailure] = useState<string>();
  const [isPending, setIsPending] = useState(false);
  const close = () => app.go({});
  useEffect(() => {
    if (preview === undefined)
      connection?.request("preview_invite", { token }).then(setPreview, (error) => {
        const failure = asFailure(error);
        // The next session requests it again.
        if (failure.code !== DISCONNECTED) setFailure(explainInvite(failure));
      });
  }, [session]);
  const accept = async () => {
    setIsPending(true);
    try {
      const joined = await connection?.request("join_invite", { token });
      if (joined === undefined) return;
      app.inbox?.update(joined.conversation);
      app.go({ id: joined.conversation.id });
    } catch (error) {
      setFailure(explainInvite(asFailure(error)));
    } finally {
      setIsPending(false);
    }
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
            {preview.isMember ? "You are already a member." : "If you join, you can read all earlier messages, and the members can see you."}
          </p>
        </>
      )}
      <div class="dialog-actions">
        <button class="button" type="button" onClick={close}>
          {preview === undefined || failure !== undefined ? "Close" : "Not now"}
        </button>
        {preview !== undefined && failure === undefined && (
          <button class="button button-primary" type="button" disabled={isPending} onClick={() => (preview.isMember ? app.go({ id }) : void accept())}>
            {preview.isMember ? "Open" : "Join"}
          </button>
        )}
      </div>
    </Window>
  );
}

/** Returns the text of a failure to open or accept an invitation. */
function explainInvite(failure: Failure): string {
  if (failure.code === "NOT_FOUND") return "This invitation is invalid or has expired. Ask the sender for a new one.";
  if (failure.code === "CONFLICT") return "This conversation is full.";
  return explain(failure);
}

/** The section where the owner of a conversation creates and revokes invitation links. */
export function InviteLinks({ app, conversationId }: { app: App; conversationId: string }) {
  const [link, setLink] = useState<{ address: string; expiresAt: string } | undefined>(undefined);
  const make = async () => {
    const made = (await app.request("create_invite", { conversationId })) as { token: string; expiresAt: string } | undefined;
    if (made === undefined) return;
    const address = `${location.origin}${location.pathname}#/i/${made.token}`;
    setLink({ address, expiresAt: made.expiresAt });
    // Otherwise the user can copy it from the field.
    if (await copyText(address)) app.confirm("The invitation link was copied.");
  };
  const revoke = async () => {
    const answer = (await app.request("revoke_invites", { conversationId })) as { revoked: number } | undefined;
    if (answer === undefined) return;
    setLink(undefined);
    app.confirm(answer.revoked === 0 ? "There were no invitations." : "Earlier invitations are revoked.");
  };
  return (
    <>
      <h3 id="invitations">Invitations</h3>
      <p class="help">Anyone with the link can join and share it.</p>
      {link !== undefined && (
        <div class="form">
          <label for="invitation">Valid until {exactTime(link.expiresAt)}</label>
          <input id="invitation" type="text" readOnly value={link.address} onFocus={(event) => event.currentTarget.select()} />
        </div>
      )}
      <div class="dialog-actions">
        <button class="button" type="button" onClick={() => void revoke()}>
          Revoke links
        </button>
        <button class="button" type="button" onClick={() => void make()}>
          Invite by link
        </button>
      </div>
    </>
  );
}
