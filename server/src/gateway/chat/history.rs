//! Events about earlier messages.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::history::{
    MARK_READ, MESSAGE_HISTORY, MESSAGE_SEARCH, MarkAsRead, ReadHistory, SearchMessages,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on(
            &MESSAGE_HISTORY,
            async |call: Call<ReadHistory>, chat: State<Chat>| chat.history(call.allowed).await,
        )
        .on(
            &MARK_READ,
            async |call: Call<MarkAsRead>, chat: State<Chat>| {
                chat.mark_read(call.allowed, &call.socket).await
            },
        )
        .on(
            &MESSAGE_SEARCH,
            async |call: Call<SearchMessages>, chat: State<Chat>| chat.search(call.allowed).await,
        );
}
