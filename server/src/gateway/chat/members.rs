//! Events about members, and about notification levels.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::members::{
    ADD_MEMBER, AddMember, REMOVE_MEMBER, RemoveMember, SET_NOTIFICATION_LEVEL,
    SetNotificationLevel,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
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
        )
        .on(
            &SET_NOTIFICATION_LEVEL,
            async |call: Call<SetNotificationLevel>, chat: State<Chat>| {
                chat.set_level(call.allowed, &call.socket).await
            },
        );
}
