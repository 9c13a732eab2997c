//! The events of the chat beside sending, joining and reading.

use std::sync::Arc;

use serde::Serialize;

use super::done;
use super::limits::command;
use crate::limit::Users;
use crate::service::{
    ChangeMember, Chat, CreateConversation, DeleteConversation, DeleteMessage, EditMessage,
    ListConversations, MarkAsRead, Object, RenameConversation, SearchMessages, policy,
};
use crate::store::Message;
use roomcast::{Event, NamespaceBuilder, Refusal, State};

/// Registers them.
pub(super) fn register(namespace: &mut NamespaceBuilder) -> &mut NamespaceBuilder {
    namespace
        .on(
            policy::EDIT.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<EditMessage> = command(&users, &policy::EDIT, &event)?;
                let by = event.principal();
                let message = chat.edit(&by, event.socket.id(), command).await?;
                Ok::<_, Refusal>(done(Changed { message }))
            },
        )
        .on(
            policy::DELETE.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<DeleteMessage> =
                    command(&users, &policy::DELETE, &event)?;
                let by = event.principal();
                let message = chat.delete(&by, event.socket.id(), command).await?;
                Ok::<_, Refusal>(done(Changed { message }))
            },
        )
        .on(
            policy::CREATE.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<CreateConversation> =
                    command(&users, &policy::CREATE, &event)?;
                Ok::<_, Refusal>(done(
                    chat.create_conversation(&event.socket, command).await?,
                ))
            },
        )
        .on(
            policy::RENAME.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<RenameConversation> =
                    command(&users, &policy::RENAME, &event)?;
                let (by, from) = (event.principal(), event.socket.id());
                Ok::<_, Refusal>(done(chat.rename_conversation(&by, from, command).await?))
            },
        )
        .on(
            policy::DELETE_CONVERSATION.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<DeleteConversation> =
                    command(&users, &policy::DELETE_CONVERSATION, &event)?;
                let (by, from, id) = (
                    event.principal(),
                    event.socket.id(),
                    command.conversation_id,
                );
                Ok::<_, Refusal>(done(chat.delete_conversation(&by, from, id).await?))
            },
        )
        .on(
            policy::ADD_MEMBER.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<ChangeMember> =
                    command(&users, &policy::ADD_MEMBER, &event)?;
                let (by, from) = (event.principal(), event.socket.id());
                Ok::<_, Refusal>(done(chat.change_member(&by, from, command, false).await?))
            },
        )
        .on(
            policy::REMOVE_MEMBER.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<ChangeMember> =
                    command(&users, &policy::REMOVE_MEMBER, &event)?;
                let (by, from) = (event.principal(), event.socket.id());
                Ok::<_, Refusal>(done(chat.change_member(&by, from, command, true).await?))
            },
        )
        .on(
            policy::MARK_READ.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<MarkAsRead> =
                    command(&users, &policy::MARK_READ, &event)?;
                Ok::<_, Refusal>(done(chat.mark_read(&event.principal(), command).await?))
            },
        )
        .on(
            policy::CONVERSATIONS.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<ListConversations> =
                    command(&users, &policy::CONVERSATIONS, &event)?;
                Ok::<_, Refusal>(done(chat.conversations(&event.principal(), command).await?))
            },
        )
        .on(
            policy::SEARCH.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<SearchMessages> =
                    command(&users, &policy::SEARCH, &event)?;
                Ok::<_, Refusal>(done(chat.search(&event.principal(), command).await?))
            },
        )
}

/// The acknowledgement of what changes a message.
#[derive(Serialize)]
struct Changed {
    message: Arc<Message>,
}
