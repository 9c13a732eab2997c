//! The events of the chat beside sending, joining and reading.

use std::sync::Arc;

use serde::Serialize;

use super::done;
use super::limits::take;
use crate::limit::{Class, Users};
use crate::service::{
    ChangeMember, Chat, CreateConversation, DeleteMessage, EditMessage, ListConversations,
    MarkAsRead, Object, SearchMessages, ServiceError,
};
use crate::socket::{Event, NamespaceBuilder, State};
use crate::store::Message;

/// Registers them.
pub(super) fn register(namespace: &mut NamespaceBuilder) -> &mut NamespaceBuilder {
    namespace
        .on(
            "edit_message",
            async |event: Event,
                   Object(command): Object<EditMessage>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, Class::Messages, &event)?;
                let by = event.principal();
                let message = chat.edit(&by, event.socket.id(), command).await?;
                Ok::<_, ServiceError>(done(Changed { message }))
            },
        )
        .on(
            "delete_message",
            async |event: Event,
                   Object(command): Object<DeleteMessage>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, Class::Messages, &event)?;
                let by = event.principal();
                let message = chat.delete(&by, event.socket.id(), command).await?;
                Ok::<_, ServiceError>(done(Changed { message }))
            },
        )
        .on(
            "create_conversation",
            async |event: Event,
                   Object(command): Object<CreateConversation>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, Class::Changes, &event)?;
                let by = event.principal();
                chat.create_conversation(&by, command).await.map(done)
            },
        )
        .on(
            "add_member",
            async |event: Event,
                   Object(command): Object<ChangeMember>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, Class::Changes, &event)?;
                let (by, from) = (event.principal(), event.socket.id());
                chat.change_member(&by, from, command, false)
                    .await
                    .map(done)
            },
        )
        .on(
            "remove_member",
            async |event: Event,
                   Object(command): Object<ChangeMember>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, Class::Changes, &event)?;
                let (by, from) = (event.principal(), event.socket.id());
                chat.change_member(&by, from, command, true).await.map(done)
            },
        )
        .on(
            "mark_read",
            async |event: Event,
                   Object(command): Object<MarkAsRead>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, Class::Requests, &event)?;
                chat.mark_read(&event.principal(), command).await.map(done)
            },
        )
        .on(
            "conversations",
            async |event: Event,
                   Object(command): Object<ListConversations>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, Class::Requests, &event)?;
                chat.conversations(&event.principal(), command)
                    .await
                    .map(done)
            },
        )
        .on(
            "message_search",
            async |event: Event,
                   Object(command): Object<SearchMessages>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, Class::Requests, &event)?;
                chat.search(&event.principal(), command).await.map(done)
            },
        )
}

/// The acknowledgement of what changes a message.
#[derive(Serialize)]
struct Changed {
    message: Arc<Message>,
}
