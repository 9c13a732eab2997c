//! The events of the chat beside sending, joining and reading.

use std::sync::Arc;

use serde::Serialize;

use super::done;
use super::limits::take;
use crate::limit::Users;
use crate::service::{
    ChangeMember, Chat, CreateConversation, DeleteMessage, EditMessage, ListConversations,
    MarkAsRead, Object, SearchMessages, ServiceError, policy,
};
use crate::store::Message;
use roomcast::{Event, NamespaceBuilder, State};

/// Registers them.
pub(super) fn register(namespace: &mut NamespaceBuilder) -> &mut NamespaceBuilder {
    namespace
        .on(
            policy::EDIT.event,
            async |event: Event,
                   Object(command): Object<EditMessage>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, &policy::EDIT, &event)?;
                let by = event.principal();
                let message = chat.edit(&by, event.socket.id(), command).await?;
                Ok::<_, ServiceError>(done(Changed { message }))
            },
        )
        .on(
            policy::DELETE.event,
            async |event: Event,
                   Object(command): Object<DeleteMessage>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, &policy::DELETE, &event)?;
                let by = event.principal();
                let message = chat.delete(&by, event.socket.id(), command).await?;
                Ok::<_, ServiceError>(done(Changed { message }))
            },
        )
        .on(
            policy::CREATE.event,
            async |event: Event,
                   Object(command): Object<CreateConversation>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, &policy::CREATE, &event)?;
                chat.create_conversation(&event.socket, command)
                    .await
                    .map(done)
            },
        )
        .on(
            policy::ADD_MEMBER.event,
            async |event: Event,
                   Object(command): Object<ChangeMember>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, &policy::ADD_MEMBER, &event)?;
                let (by, from) = (event.principal(), event.socket.id());
                chat.change_member(&by, from, command, false)
                    .await
                    .map(done)
            },
        )
        .on(
            policy::REMOVE_MEMBER.event,
            async |event: Event,
                   Object(command): Object<ChangeMember>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, &policy::REMOVE_MEMBER, &event)?;
                let (by, from) = (event.principal(), event.socket.id());
                chat.change_member(&by, from, command, true).await.map(done)
            },
        )
        .on(
            policy::MARK_READ.event,
            async |event: Event,
                   Object(command): Object<MarkAsRead>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, &policy::MARK_READ, &event)?;
                chat.mark_read(&event.principal(), command).await.map(done)
            },
        )
        .on(
            policy::CONVERSATIONS.event,
            async |event: Event,
                   Object(command): Object<ListConversations>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, &policy::CONVERSATIONS, &event)?;
                chat.conversations(&event.principal(), command)
                    .await
                    .map(done)
            },
        )
        .on(
            policy::SEARCH.event,
            async |event: Event,
                   Object(command): Object<SearchMessages>,
                   chat: State<Chat>,
                   users: State<Users>| {
                take(&users, &policy::SEARCH, &event)?;
                chat.search(&event.principal(), command).await.map(done)
            },
        )
}

/// The acknowledgement of what changes a message.
#[derive(Serialize)]
struct Changed {
    message: Arc<Message>,
}
