//! Members that are added and removed.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::members::{ADD_MEMBER, AddMember, REMOVE_MEMBER, RemoveMember};
use roomcast::State;

/// Registers them.
pub(super) fn register(catalogue: &mut Catalogue<'_>) {
    catalogue
        .on(
            &ADD_MEMBER,
            async |call: Call<AddMember>, chat: State<Chat>| {
                chat.add_member(call.allowed, Some(call.socket.id())).await
            },
        )
        .on(
            &REMOVE_MEMBER,
            async |call: Call<RemoveMember>, chat: State<Chat>| {
                chat.remove_member(call.allowed, Some(call.socket.id()))
                    .await
            },
        );
}
