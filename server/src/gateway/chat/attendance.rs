//! Events about attendance: joining, leaving, typing, presence and status.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::attendance::{
    AskPresence, AskStatuses, JOIN_CONVERSATION, Join, LEAVE_CONVERSATION, Leave, PRESENCE,
    SET_STATUS, STATUSES, SetStatus, SetTyping, TYPING,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on_serial(
            &JOIN_CONVERSATION,
            async |call: Call<Join>, chat: State<Chat>| chat.join(call.allowed, &call.socket).await,
        )
        .on_serial(
            &LEAVE_CONVERSATION,
            async |call: Call<Leave>, chat: State<Chat>| {
                chat.leave(call.allowed, &call.socket).await
            },
        )
        .on_serial(&TYPING, async |call: Call<SetTyping>, chat: State<Chat>| {
            chat.set_typing(call.allowed, &call.socket).await
        })
        .on(
            &PRESENCE,
            async |call: Call<AskPresence>, chat: State<Chat>| {
                chat.presence(call.allowed, &call.socket).await
            },
        )
        .on_serial(
            &SET_STATUS,
            async |call: Call<SetStatus>, chat: State<Chat>| {
                chat.set_status(call.allowed, Some(call.socket.id())).await
            },
        )
        .on(
            &STATUSES,
            async |call: Call<AskStatuses>, chat: State<Chat>| chat.statuses(call.allowed).await,
        );
}
