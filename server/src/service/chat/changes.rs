//! What users do with messages and conversations beside sending: edits, deletions, members, read
//! marks, lists, searches.

use std::sync::Arc;

use roomcast_protocol::Sid;
use serde::Serialize;
use uuid::Uuid;

use crate::auth::{Permission, Principal};
use crate::service::chat::handle::{Chat, NO_CONVERSATION};
use crate::service::chat::sequencer::delivery::{tell_updated, user_room};
use crate::service::rules::commands::{
    ChangeMember, CreateConversation, DeleteMessage, EditMessage, ListConversations, MarkAsRead,
    RenameConversation, SearchMessages,
};
use crate::service::{
    fault::ServiceError,
    rules::{content, policy},
};
use crate::store::{
    Actor, Change, Conversation, Delete, Edit, List, MarkRead, MemberChange, Message, Messages,
    NewConversation, NoCursor, Origin, ReadMark, Rename, Search, words,
};
use roomcast::{Room, Socket, SocketId};

/// The acknowledgement of whatever makes or changes a conversation.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    conversation: Conversation,
}

impl Chat {
    pub(super) fn actor(&self, by: &Principal) -> Actor {
        Actor {
            user_id: by.subject.clone(),
            is_admin: self.0.access.allows(by, Permission::ChatModerate),
        }
    }

    /// Gives a message a new text: its author may, and admins.
    pub(crate) async fn edit(
        &self,
        by: &Principal,
        from: SocketId,
        command: EditMessage,
    ) -> Result<Arc<Message>, ServiceError> {
        self.0.access.require(by, &policy::EDIT)?;
        let max_chars = self.0.limits.content_chars;
        let content = self.0.rules.admit(command.content, max_chars)?;
        let edit = Edit {
            message_id: command.message_id,
            by: self.actor(by),
            content,
            version: command.version,
        };
        match self.0.store.edit_message(edit, origin(from)).await? {
            Change::Done(message) | Change::Unchanged(message) => Ok(message),
            Change::Absent => Err(NO_MESSAGE),
            Change::Denied => Err(denied(by, "only its author edits a message")),
            Change::Conflict => Err(ServiceError::Conflict(
                "the message has another version by now",
            )),
        }
    }

    /// Takes the text out of a message: its author may, and admins. Doing so twice changes nothing.
    pub(crate) async fn delete(
        &self,
        by: &Principal,
        from: SocketId,
        command: DeleteMessage,
    ) -> Result<Arc<Message>, ServiceError> {
        self.0.access.require(by, &policy::DELETE)?;
        let delete = Delete {
            message_id: command.message_id,
            by: self.actor(by),
        };
        match self.0.store.delete_message(delete, origin(from)).await? {
            Change::Done(message) | Change::Unchanged(message) => Ok(message),
            Change::Absent => Err(NO_MESSAGE),
            Change::Denied | Change::Conflict => {
                Err(denied(by, "only its author deletes a message"))
            }
        }
    }

    /// Makes a conversation, of which the user is the owner, and tells its members.
    pub(crate) async fn create_conversation(
        &self,
        socket: &Socket,
        command: CreateConversation,
    ) -> Result<Changed, ServiceError> {
        let by = &socket.principal();
        self.0.access.require(by, &policy::CREATE)?;
        if let Some(title) = &command.title {
            content::check_title(title)?;
        }
        let most = self.0.limits.members;
        if command.member_ids.len() > most {
            return Err(ServiceError::invalid(
                "memberIds",
                format!("has more than {most} members"),
            ));
        }
        for user in &command.member_ids {
            content::check_user_id("memberIds", user)?;
        }
        let new = NewConversation {
            id: Uuid::new_v4(),
            title: command.title,
            owner_id: Some(by.subject.clone()),
            member_ids: command.member_ids,
            is_open: false,
        };
        let conversation = self.0.store.insert_conversation(new).await?;
        let members = conversation.member_ids.iter();
        let rooms: Vec<Room> = members.map(|user| user_room(user)).collect();
        tell_updated(&socket.to(rooms), &conversation);
        Ok(Changed { conversation })
    }

    /// Adds or removes a member: the owner may, and admins, and everybody removes itself. Doing so
    /// twice changes nothing.
    pub(crate) async fn change_member(
        &self,
        by: &Principal,
        from: SocketId,
        command: ChangeMember,
        removes: bool,
    ) -> Result<Changed, ServiceError> {
        let policy = if removes {
            &policy::REMOVE_MEMBER
        } else {
            &policy::ADD_MEMBER
        };
        self.0.access.require(by, policy)?;
        if command.user_id != by.subject {
            self.0
                .access
                .require_permission(by, Permission::ChatManage)?;
        }
        content::check_user_id("userId", &command.user_id)?;
        let change = MemberChange {
            conversation_id: command.conversation_id,
            user_id: command.user_id,
            by: self.actor(by),
            removes,
            limit: self.0.limits.members,
        };
        match self.0.store.change_member(change, origin(from)).await? {
            Change::Done(conversation) | Change::Unchanged(conversation) => {
                Ok(Changed { conversation })
            }
            Change::Absent => Err(NO_CONVERSATION),
            Change::Denied => Err(denied(
                by,
                "only its owner changes the members of a conversation",
            )),
            Change::Conflict if removes => {
                Err(ServiceError::Conflict("the owner cannot be removed"))
            }
            Change::Conflict => Err(ServiceError::Conflict(
                "the conversation has as many members as it may have",
            )),
        }
    }

    /// Notes how far `by` has read.
    pub(crate) async fn mark_read(
        &self,
        by: &Principal,
        command: MarkAsRead,
    ) -> Result<ReadMark, ServiceError> {
        self.0.access.require(by, &policy::MARK_READ)?;
        let read = MarkRead {
            conversation_id: command.conversation_id,
            user_id: by.subject.clone(),
            seq: command.seq,
        };
        self.0.store.mark_read(read).await?.ok_or(NO_CONVERSATION)
    }

    /// Gives a conversation a new title: the owner may, and admins.
    pub(crate) async fn rename_conversation(
        &self,
        by: &Principal,
        from: SocketId,
        command: RenameConversation,
    ) -> Result<Changed, ServiceError> {
        self.0.access.require(by, &policy::RENAME)?;
        content::check_title(&command.title)?;
        let rename = Rename {
            conversation_id: command.conversation_id,
            title: command.title,
            by: self.actor(by),
        };
        let renamed = self.0.store.rename_conversation(rename, origin(from));
        match renamed.await? {
            Change::Done(conversation) | Change::Unchanged(conversation) => {
                Ok(Changed { conversation })
            }
            Change::Denied => Err(denied(by, "only its owner renames a conversation")),
            Change::Absent | Change::Conflict => Err(NO_CONVERSATION),
        }
    }

    /// The conversations of `by`, with what is unread.
    pub(crate) async fn conversations(
        &self,
        by: &Principal,
        command: ListConversations,
    ) -> Result<List, ServiceError> {
        self.0.access.require(by, &policy::CONVERSATIONS)?;
        let limit = self.page_limit(command.limit)?;
        let before = match command.cursor.as_deref().map(str::parse) {
            None => None,
            Some(Ok(cursor)) => Some(cursor),
            Some(Err(NoCursor)) => return Err(ServiceError::invalid("cursor", "is none of ours")),
        };
        let list = self.0.store.conversations(&by.subject, before, limit);
        Ok(list.await?)
    }

    /// The newest messages that have all the words, in one conversation or in all of `by`.
    pub(crate) async fn search(
        &self,
        by: &Principal,
        command: SearchMessages,
    ) -> Result<Messages, ServiceError> {
        self.0.access.require(by, &policy::SEARCH)?;
        let words = words(&command.query);
        if words.is_empty() || words.len() > WORDS || command.query.chars().nth(QUERY).is_some() {
            return Err(ServiceError::invalid(
                "query",
                format!("must have 1 to {WORDS} words and at most {QUERY} characters"),
            ));
        }
        let limit = self.page_limit(command.limit)?;
        let search = Search {
            words,
            conversation: command.conversation_id,
            before: command.before_id,
        };
        let found = self.0.store.search(&by.subject, search, limit).await?;
        let found = found.ok_or(NO_CONVERSATION)?;
        Ok(self.0.rules.show_all(found).await)
    }
}

/// What somebody is told who may not change what belongs to others; the log says who tried.
pub(super) fn denied(by: &Principal, why: &'static str) -> ServiceError {
    tracing::info!(user = by.subject, "denied: {why}");
    ServiceError::Denied(why)
}

pub(super) fn origin(from: SocketId) -> Origin {
    Origin {
        socket: Sid::parse(from.as_str()),
        ..Origin::default()
    }
}

/// The same for one that is unknown, deleted and foreign.
const NO_MESSAGE: ServiceError = ServiceError::NotFound("no such message");

/// Words and characters that may be looked for.
const WORDS: usize = 16;
const QUERY: usize = 200;
