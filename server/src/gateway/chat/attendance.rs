//! Sockets that join and leave conversations, type in them, and ask who is there.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::attendance::{
    AskPresence, JOIN_CONVERSATION, Join, LEAVE_CONVERSATION, Leave, PRESENCE, SetTyping, TYPING,
};
use roomcast::State;

/// Registers them.
pub(super) fn register(catalogue: &mut Catalogue<'_>) {
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
        );
}
