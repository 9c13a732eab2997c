//! Messages that are sent, edited and deleted.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Chat;
use crate::service::messages::{
    DELETE_MESSAGE, DeleteMessage, EDIT_MESSAGE, EditMessage, MESSAGE, SendMessage, Stored,
};
use roomcast::State;

/// Registers them.
pub(super) fn register(catalogue: &mut Catalogue<'_>) {
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
        );
}
