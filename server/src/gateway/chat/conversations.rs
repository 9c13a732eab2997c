//! Events about conversations: creating, renaming, deleting and listing.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::conversations::{
    CONVERSATIONS, CREATE_CONVERSATION, CreateConversation, DELETE_CONVERSATION,
    DeleteConversation, ListConversations, RENAME_CONVERSATION, RenameConversation,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on(
            &CREATE_CONVERSATION,
            async |call: Call<CreateConversation>, chat: State<Chat>| {
                let namespace = call.socket.namespace();
                let from = Some(call.socket.id());
                chat.create_conversation(call.allowed, &namespace, from)
                    .await
            },
        )
        .on(
            &RENAME_CONVERSATION,
            async |call: Call<RenameConversation>, chat: State<Chat>| {
                chat.rename_conversation(call.allowed, Some(call.socket.id()))
                    .await
            },
        )
        .on(
            &DELETE_CONVERSATION,
            async |call: Call<DeleteConversation>, chat: State<Chat>| {
                chat.delete_conversation(call.allowed, Some(call.socket.id()))
                    .await
            },
        )
        .on(
            &CONVERSATIONS,
            async |call: Call<ListConversations>, chat: State<Chat>| {
                chat.conversations(call.allowed).await
            },
        );
}
