//! Messages that are sent, edited and deleted.

use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;

use crate::auth::Permission;
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, denied, origin, stranger};
use crate::service::fault::ServiceError;
use crate::service::rules::commands::messages::{DeleteMessage, EditMessage, SendMessage};
use crate::service::rules::content;
use crate::store::{Change, Delete, Edit, Insert, Message, MessageKind, NewMessage, Origin};
use roomcast::SocketId;

impl Chat {
    /// Stores a message, which is emitted and answered in the order of storing.
    pub(crate) async fn send(
        &self,
        allowed: Allowed<SendMessage>,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        let received = Some(Instant::now());
        let (by, command) = allowed.into_parts();
        let limits = &self.0.limits;
        let content = self.0.rules.admit(command.content, limits.content_chars)?;
        if let Some(id) = &command.client_message_id {
            content::check_client_message_id(id)?;
        }
        if let Some(metadata) = &command.metadata {
            content::check_metadata(metadata, limits.metadata_bytes)?;
        }
        let kind = command.kind.unwrap_or_default();
        match kind {
            MessageKind::User => {}
            MessageKind::Ai => {
                let access = &self.0.access;
                access.require(&by, Permission::ChatSendAi)?;
            }
        }
        let conversation_id = command.conversation_id;
        let message = NewMessage {
            conversation_id,
            user_id: by.subject.clone(),
            user_name: by.name.clone(),
            content,
            kind,
            metadata: command.metadata.unwrap_or_else(empty_object),
            client_message_id: command.client_message_id,
        };
        let origin = Origin {
            confirm: command.confirm_delivery.unwrap_or(false),
            received,
            ..origin(from)
        };
        match self.0.store.insert_message(message, origin).await? {
            Insert::Stored(message) => Ok(message),
            Insert::Repeated(message) => Ok(self.0.rules.show(&message)),
            Insert::Absent => Err(stranger(&by, conversation_id)),
            Insert::Conflict => Err(ServiceError::Conflict(
                "clientMessageId belongs to a message in another conversation",
            )),
        }
    }

    /// Gives a message a new text: its author may, and admins.
    pub(crate) async fn edit(
        &self,
        allowed: Allowed<EditMessage>,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        let (by, command) = allowed.into_parts();
        let max_chars = self.0.limits.content_chars;
        let content = self.0.rules.admit(command.content, max_chars)?;
        let edit = Edit {
            message_id: command.message_id,
            by: self.actor(&by),
            content,
            version: command.version,
        };
        match self.0.store.edit_message(edit, origin(from)).await? {
            Change::Done(message) | Change::Unchanged(message) => Ok(message),
            Change::Absent => Err(NO_MESSAGE),
            Change::Denied => Err(denied(&by, "only its author edits a message")),
            Change::Conflict => Err(ServiceError::Conflict(
                "the message has another version by now",
            )),
        }
    }

    /// Takes the text out of a message: its author may, and admins. Doing so twice changes nothing.
    pub(crate) async fn delete(
        &self,
        allowed: Allowed<DeleteMessage>,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        let (by, command) = allowed.into_parts();
        let delete = Delete {
            message_id: command.message_id,
            by: self.actor(&by),
        };
        match self.0.store.delete_message(delete, origin(from)).await? {
            Change::Done(message) | Change::Unchanged(message) => Ok(message),
            Change::Absent => Err(NO_MESSAGE),
            Change::Denied | Change::Conflict => {
                Err(denied(&by, "only its author deletes a message"))
            }
        }
    }
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".into()).expect("an empty object is JSON")
}

/// The same for one that is unknown, deleted and foreign.
const NO_MESSAGE: ServiceError = ServiceError::NotFound("no such message");
