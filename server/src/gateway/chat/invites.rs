//! Events about invitations: creating, previewing, using and revoking.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::invites::{
    CREATE_INVITE, CreateInvite, JOIN_INVITE, JoinInvite, PREVIEW_INVITE, PreviewInvite,
    REVOKE_INVITES, RevokeInvites,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on(
            &CREATE_INVITE,
            async |call: Call<CreateInvite>, chat: State<Chat>| {
                chat.create_invite(call.allowed).await
            },
        )
        .on(
            &PREVIEW_INVITE,
            async |call: Call<PreviewInvite>, chat: State<Chat>| {
                chat.preview_invite(call.allowed).await
            },
        )
        .on(
            &JOIN_INVITE,
            async |call: Call<JoinInvite>, chat: State<Chat>| {
                chat.join_invite(call.allowed, call.socket.id()).await
            },
        )
        .on(
            &REVOKE_INVITES,
            async |call: Call<RevokeInvites>, chat: State<Chat>| {
                chat.revoke_invites(call.allowed).await
            },
        );
}
