//! Messages: sending, editing and deleting them, reactions and pins. `streams` has those whose text
//! is sent in pieces.

pub(in crate::service::chat) mod streams;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::auth::{Permission, Principal};
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, denied, hidden_conversation, origin};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::MENTIONS;
use crate::service::rules::commands::messages::{
    AddReaction, DeleteMessage, EditMessage, PinMessage, RemoveReaction, SendMessage, UnpinMessage,
};
use crate::service::rules::content;
use crate::service::rules::content::emoji::is_emoji;
use crate::store::{
    Annotate, Annotated, Annotation, Change, Delete, Edit, Insert, Message, MessageKind,
    NewMessage, Notice, Origin, Pinned, ReactionChange, Unpinned,
};
use roomcast::SocketId;

/// Logs a stored change of a message.
macro_rules! log_change {
    ($message:expr, $conversation:expr, $seq:expr, $event:literal) => {
        tracing::debug!(message_id = %$message, conversation = %$conversation, seq = $seq, $event)
    };
}

impl Chat {
    /// Stores a message. It is emitted and answered in the order of storing.
    pub(crate) async fn send(
        &self,
        allowed: Allowed<SendMessage>,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        // The time is taken before any check, since the sender waits for the checks as well.
        let received = Some(Instant::now());
        let (by, command) = allowed.into_parts();
        let limits = &self.0.limits;
        // All checks that do not need the store come first, because places in its queue are scarce.
        let content = self.0.rules.admit(command.content, limits.content_chars)?;
        let id = command.client_message_id.as_deref();
        let kind = command.kind.unwrap_or_default();
        let (metadata, mentions) =
            self.check_parts(&by, kind, id, command.metadata, command.mentions)?;
        let conversation_id = command.conversation_id;
        // Only the title is read here. The transaction checks the membership, so a stale title is
        // harmless.
        let notice = self.notice(&by, conversation_id, &mentions).await?;
        let message = NewMessage {
            conversation_id,
            user_id: by.subject.clone(),
            user_name: by.name.clone(),
            content,
            kind,
            metadata,
            client_message_id: command.client_message_id,
            reply_to: command.reply_to,
            mentions,
            notice,
            holder: None,
        };
        let origin = Origin {
            confirm: command.confirm_delivery.unwrap_or(false),
            received,
            // From here on the message is in flight. Dropping the handler no longer stops it.
            ..origin(from)
        };
        let stored = self.0.store.insert_message(message, origin).await?;
        self.inserted(&by, conversation_id, stored)
    }

    /// Checks what all new messages have beside their text. Returns their metadata and mentions.
    pub(super) fn check_parts(
        &self,
        by: &Principal,
        kind: MessageKind,
        client_message_id: Option<&str>,
        metadata: Option<Box<RawValue>>,
        mentions: Option<Vec<String>>,
    ) -> Result<(Box<RawValue>, Vec<String>), ServiceError> {
        if let Some(id) = client_message_id {
            content::check_client_id("clientMessageId", id)?;
        }
        if let Some(metadata) = &metadata {
            content::check_metadata(metadata, self.0.limits.metadata_bytes)?;
        }
        let mentions = mentions.unwrap_or_default();
        check_mentions(&mentions)?;
        match kind {
            MessageKind::User => {}
            MessageKind::Ai => self.0.access.require(by, Permission::ChatSendAi)?,
        }
        Ok((metadata.unwrap_or_else(empty_object), mentions))
    }

    /// Returns a new message, or why it is not stored.
    pub(super) fn inserted(
        &self,
        by: &Principal,
        conversation_id: Uuid,
        stored: Insert,
    ) -> Result<Arc<Message>, ServiceError> {
        match stored {
            Insert::Stored(message) | Insert::Repeated(message) => {
                log_change!(
                    message.id,
                    message.conversation_id,
                    message.seq,
                    "message stored"
                );
                Ok(self.0.rules.show(&message))
            }
            Insert::Absent => Err(hidden_conversation(by, conversation_id)),
            Insert::Conflict => Err(ServiceError::Conflict(
                "clientMessageId belongs to a message in another conversation",
            )),
            Insert::NoOriginal => Err(ServiceError::Unfit {
                field: "replyTo".into(),
                problem: "is not a message of the conversation, or is deleted",
            }),
            Insert::NoMember(place) => Err(ServiceError::Unfit {
                field: format!("mentions[{place}]").into(),
                problem: "is not a member of the conversation",
            }),
        }
    }

    /// Returns the notification to store with a message for mentioned users.
    async fn notice(
        &self,
        by: &Principal,
        conversation: Uuid,
        mentions: &[String],
    ) -> Result<Option<Notice>, ServiceError> {
        if mentions.is_empty() {
            return Ok(None);
        }
        let membership = self.0.store.membership(conversation, &by.subject).await?;
        let membership = membership.ok_or_else(|| hidden_conversation(by, conversation))?;
        let title = membership.conversation.title;
        Ok(Some(self.0.notifications.of_mentions(title.as_deref())))
    }

    /// Changes the text of a message. Only its author and admins may.
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
            Change::Done(message) => {
                log_change!(
                    message.id,
                    message.conversation_id,
                    message.seq,
                    "message edited"
                );
                Ok(self.0.rules.show(&message))
            }
            Change::Unchanged(message) => Ok(self.0.rules.show(&message)),
            Change::Absent => Err(NO_MESSAGE),
            Change::Denied => Err(denied(&by, "only its author edits a message")),
            Change::Conflict => Err(ServiceError::Conflict(
                "the message has another version by now, or is still being written",
            )),
        }
    }

    /// Removes the text of a message. Only its author and admins may. Repeating it changes nothing.
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
            Change::Done(message) => {
                log_change!(
                    message.id,
                    message.conversation_id,
                    message.seq,
                    "message deleted"
                );
                Ok(self.0.rules.show(&message))
            }
            Change::Unchanged(message) => Ok(self.0.rules.show(&message)),
            Change::Absent => Err(NO_MESSAGE),
            Change::Denied | Change::Conflict => {
                Err(denied(&by, "only its author deletes a message"))
            }
        }
    }

    /// Adds a reaction of a member to a message. Repeating it changes nothing.
    pub(crate) async fn add_reaction(
        &self,
        allowed: Allowed<AddReaction>,
        from: Option<SocketId>,
    ) -> Result<ReactionChange, ServiceError> {
        let (by, AddReaction { message_id, emoji }) = allowed.into_parts();
        let reaction = Annotation::React(one_emoji(emoji)?);
        self.react(&by, message_id, reaction, from).await
    }

    /// Removes a reaction of a member. Repeating it changes nothing.
    pub(crate) async fn remove_reaction(
        &self,
        allowed: Allowed<RemoveReaction>,
        from: Option<SocketId>,
    ) -> Result<ReactionChange, ServiceError> {
        let (by, RemoveReaction { message_id, emoji }) = allowed.into_parts();
        let reaction = Annotation::Unreact(one_emoji(emoji)?);
        self.react(&by, message_id, reaction, from).await
    }

    async fn react(
        &self,
        by: &Principal,
        message_id: Uuid,
        reaction: Annotation,
        from: Option<SocketId>,
    ) -> Result<ReactionChange, ServiceError> {
        let full = "the message has as many different reactions as it may have";
        match &*self.annotate(by, message_id, reaction, from, full).await? {
            Annotated::Reaction(reacted) => Ok(reacted.clone()),
            Annotated::Pinned(_) | Annotated::Unpinned(_) => Err(NO_MESSAGE),
        }
    }

    /// Pins a message. Only the owner of the conversation and admins may. Repeating it changes
    /// nothing.
    pub(crate) async fn pin(
        &self,
        allowed: Allowed<PinMessage>,
        from: Option<SocketId>,
    ) -> Result<Pinned, ServiceError> {
        let (by, PinMessage { message_id }) = allowed.into_parts();
        let full = "the conversation has as many pins as it may have";
        let pinned = self.annotate(&by, message_id, Annotation::Pin, from, full);
        match &*pinned.await? {
            Annotated::Pinned(Pinned {
                conversation_id,
                pin,
            }) => Ok(Pinned {
                conversation_id: *conversation_id,
                pin: self.0.rules.show_pin(pin.clone()),
            }),
            Annotated::Reaction(_) | Annotated::Unpinned(_) => Err(NO_MESSAGE),
        }
    }

    /// Unpins a message. Only the owner of the conversation and admins may. Repeating it changes
    /// nothing.
    pub(crate) async fn unpin(
        &self,
        allowed: Allowed<UnpinMessage>,
        from: Option<SocketId>,
    ) -> Result<Unpinned, ServiceError> {
        let (by, UnpinMessage { message_id }) = allowed.into_parts();
        let unpinned = self.annotate(&by, message_id, Annotation::Unpin, from, "");
        match &*unpinned.await? {
            Annotated::Unpinned(unpinned) => Ok(unpinned.clone()),
            Annotated::Reaction(_) | Annotated::Pinned(_) => Err(NO_MESSAGE),
        }
    }

    async fn annotate(
        &self,
        by: &Principal,
        message_id: Uuid,
        annotation: Annotation,
        from: Option<SocketId>,
        full: &'static str,
    ) -> Result<Arc<Annotated>, ServiceError> {
        let annotate = Annotate {
            message_id,
            by: self.actor(by),
            annotation,
        };
        match self.0.store.annotate(annotate, origin(from)).await? {
            Change::Done(annotated) => {
                log_annotation(&annotated);
                Ok(annotated)
            }
            Change::Unchanged(annotated) => Ok(annotated),
            Change::Absent => Err(NO_MESSAGE),
            Change::Denied => Err(denied(by, "only the owner of a conversation pins messages")),
            Change::Conflict => Err(ServiceError::Conflict(full)),
        }
    }
}

fn log_annotation(annotated: &Annotated) {
    let (conversation, seq) = (annotated.conversation_id(), annotated.seq());
    match annotated {
        Annotated::Reaction(reacted) if reacted.added => {
            log_change!(reacted.message_id, conversation, seq, "reaction added");
        }
        Annotated::Reaction(reacted) => {
            log_change!(reacted.message_id, conversation, seq, "reaction removed");
        }
        Annotated::Pinned(pinned) => {
            log_change!(pinned.pin.message.id, conversation, seq, "message pinned");
        }
        Annotated::Unpinned(unpinned) => {
            log_change!(unpinned.message_id, conversation, seq, "message unpinned");
        }
    }
}

fn one_emoji(emoji: String) -> Result<String, ServiceError> {
    if is_emoji(&emoji) {
        return Ok(emoji);
    }
    let problem = "must be one emoji of at most 64 bytes";
    Err(ServiceError::invalid("emoji", problem))
}

/// Checks the users that a message mentions. Each may be named once.
fn check_mentions(mentions: &[String]) -> Result<(), ServiceError> {
    if mentions.len() > MENTIONS {
        let problem = format!("has more than {MENTIONS} users");
        return Err(ServiceError::invalid("mentions", problem));
    }
    let mut known = HashSet::new();
    for (place, user) in mentions.iter().enumerate() {
        content::check_user_id(format_args!("mentions[{place}]"), user)?;
        if !known.insert(user) {
            let field = format!("mentions[{place}]");
            return Err(ServiceError::invalid(field, "is mentioned already"));
        }
    }
    Ok(())
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".into()).expect("an empty object is JSON")
}

/// The error for unknown, deleted and inaccessible messages, so that clients cannot distinguish
/// them.
const NO_MESSAGE: ServiceError = ServiceError::NotFound("no such message");
