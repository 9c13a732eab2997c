//! Events about messages: sending, editing and deleting, reactions and pins.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::messages::{
    ADD_REACTION, AddReaction, DELETE_MESSAGE, DeleteMessage, EDIT_MESSAGE, EditMessage, MESSAGE,
    PIN_MESSAGE, PinMessage, REMOVE_REACTION, RemoveReaction, SendMessage, Stored, UNPIN_MESSAGE,
    UnpinMessage,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on(
            &MESSAGE,
            async |call: Call<SendMessage>, chat: State<Chat>| {
                let message = chat.send(call.allowed, Some(call.socket.id())).await?;
                Ok(Stored { message })
            },
        )
        .on(
            &EDIT_MESSAGE,
            async |call: Call<EditMessage>, chat: State<Chat>| {
                let message = chat.edit(call.allowed, Some(call.socket.id())).await?;
                Ok(Stored { message })
            },
        )
        .on(
            &DELETE_MESSAGE,
            async |call: Call<DeleteMessage>, chat: State<Chat>| {
                let message = chat.delete(call.allowed, Some(call.socket.id())).await?;
                Ok(Stored { message })
            },
        )
        .on(
            &ADD_REACTION,
            async |call: Call<AddReaction>, chat: State<Chat>| {
                chat.add_reaction(call.allowed, Some(call.socket.id()))
                    .await
            },
        )
        .on(
            &REMOVE_REACTION,
            async |call: Call<RemoveReaction>, chat: State<Chat>| {
                chat.remove_reaction(call.allowed, Some(call.socket.id()))
                    .await
            },
        )
        .on(
            &PIN_MESSAGE,
            async |call: Call<PinMessage>, chat: State<Chat>| {
                chat.pin(call.allowed, Some(call.socket.id())).await
            },
        )
        .on(
            &UNPIN_MESSAGE,
            async |call: Call<UnpinMessage>, chat: State<Chat>| {
                chat.unpin(call.allowed, Some(call.socket.id())).await
            },
        );
}
