//! Conversations that are made, renamed, deleted and listed.

use uuid::Uuid;

use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, NO_CONVERSATION, denied, origin};
use crate::service::chat::sequencer::delivery::tell_made;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::conversations::{
    Changed, CreateConversation, DeleteConversation, ListConversations, RenameConversation,
};
use crate::service::rules::content;
use crate::store::{self, Change, DeletedConversation, List, NewConversation, NoCursor, Rename};
use roomcast::{Socket, SocketId};

impl Chat {
    /// Makes a conversation, of which the user is the owner, and tells its members.
    pub(crate) async fn create_conversation(
        &self,
        allowed: Allowed<CreateConversation>,
        socket: &Socket,
    ) -> Result<Changed, ServiceError> {
        let (by, command) = allowed.into_parts();
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
        for (place, user) in command.member_ids.iter().enumerate() {
            content::check_user_id(format_args!("memberIds[{place}]"), user)?;
        }
        let new = NewConversation {
            id: Uuid::new_v4(),
            title: command.title,
            owner_id: Some(by.subject.clone()),
            member_ids: command.member_ids,
            is_open: false,
        };
        // Its members hear of it here, and at other servers by the feed.
        let making = self
            .told()
            .making(new.id, |conversation: &store::Conversation| {
                let others = socket.namespace().local().except(socket.id());
                tell_made(others, conversation);
            });
        let conversation = self.0.store.insert_conversation(new).await?;
        making.made(&conversation);
        Ok(Changed { conversation })
    }

    /// Gives a conversation a new title: the owner may, and admins.
    pub(crate) async fn rename_conversation(
        &self,
        allowed: Allowed<RenameConversation>,
        from: SocketId,
    ) -> Result<Changed, ServiceError> {
        let (by, command) = allowed.into_parts();
        content::check_title(&command.title)?;
        let rename = Rename {
            conversation_id: command.conversation_id,
            title: command.title,
            by: self.actor(&by),
        };
        let renamed = self.0.store.rename_conversation(rename, origin(from));
        match renamed.await? {
            Change::Done(conversation) | Change::Unchanged(conversation) => {
                Ok(Changed { conversation })
            }
            Change::Denied => Err(denied(&by, "only its owner renames a conversation")),
            Change::Absent | Change::Conflict => Err(NO_CONVERSATION),
        }
    }

    /// Deletes a conversation with all that is in it: the owner may, and admins. Doing so twice is answered
    /// like the first time.
    pub(crate) async fn delete_conversation(
        &self,
        allowed: Allowed<DeleteConversation>,
        from: SocketId,
    ) -> Result<DeletedConversation, ServiceError> {
        let (by, DeleteConversation { conversation_id }) = allowed.into_parts();
        let deletion = store::DeleteConversation {
            conversation_id,
            by: self.actor(&by),
        };
        let deleted = self.0.store.delete_conversation(deletion, origin(from));
        match deleted.await? {
            Change::Done(deleted) => {
                tracing::info!(user = by.subject, conversation = %conversation_id, "deleted a conversation");
                Ok(deleted)
            }
            Change::Unchanged(deleted) => Ok(deleted),
            Change::Absent => Err(NO_CONVERSATION),
            Change::Denied => Err(denied(&by, "only its owner deletes a conversation")),
            Change::Conflict => Err(ServiceError::Conflict(
                "a conversation that is open to everyone is not deleted",
            )),
        }
    }

    /// The conversations of a user, with what is unread.
    pub(crate) async fn conversations(
        &self,
        allowed: Allowed<ListConversations>,
    ) -> Result<List, ServiceError> {
        let (by, command) = allowed.into_parts();
        let limit = self.page_limit(command.limit)?;
        let before = match command.cursor.as_deref().map(str::parse) {
            None => None,
            Some(Ok(cursor)) => Some(cursor),
            Some(Err(NoCursor)) => return Err(ServiceError::invalid("cursor", "is none of ours")),
        };
        let list = self.0.store.conversations(&by.subject, before, limit);
        Ok(list.await?)
    }
}
