//! What authors do: begin, add text, end, and ask other authors to stop.

use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::{FULL_DELAY, OpenText};
use crate::auth::Principal;
use crate::metrics::Counter;
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, hidden_conversation, now, origin};
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::chat::sequencer::growing::text::{GrowingText, Misfit};
use crate::service::cluster::{News, StopRequest};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::is_control_in_text;
use crate::service::rules::commands::streams::{
    AbortMessage, AppendMessage, Appended, BeginMessage, Begun, FinishMessage, StopMessage,
};
use crate::service::rules::content;
use crate::service::rules::emissions::messages::{MESSAGE_STOP_REQUESTED, StopRequested};
use crate::store::{Change, Finish, Insert, Message, NewMessage, StoreError};
use roomcast::{Namespace, SocketId};

impl Chat {
    /// Stores the beginning of a message whose text follows.
    pub(crate) async fn begin_message(
        &self,
        allowed: Allowed<BeginMessage>,
        from: Option<SocketId>,
    ) -> Result<Begun, ServiceError> {
        let (by, command) = allowed.into_parts();
        if !self.0.rules.is_text() {
            return Err(ServiceError::Conflict(
                "messages are HTML here (`chat.content`), which cannot be sent in pieces",
            ));
        }
        let kind = command.kind.unwrap_or_default();
        let (metadata, mentions) = self.check_parts(
            &by,
            kind,
            Some(&command.client_message_id),
            command.metadata,
            command.mentions,
        )?;
        let streams = &self.0.streams;
        let id = command.conversation_id;
        let mut turn = streams.take_turn(&by.subject).await?;
        if let Some(limit) = self.find_exceeded(&mut turn).await? {
            // A repetition of a message that is being written is no further one.
            let known = self.0.store.sent(&by.subject, &command.client_message_id);
            if known.await?.is_none() {
                streams.metrics.count(limit);
                return Err(ServiceError::limited(FULL_DELAY));
            }
        }
        let holder = Uuid::now_v7();
        let message = NewMessage {
            conversation_id: id,
            user_id: by.subject.clone(),
            user_name: by.name.clone(),
            content: String::new(),
            kind,
            metadata,
            client_message_id: Some(command.client_message_id),
            reply_to: command.reply_to,
            mentions,
            notice: None,
            holder: Some(holder),
        };
        let stored = self
            .0
            .store
            .insert_message(message, origin(from.clone()))
            .await?;
        let is_new = matches!(stored, Insert::Stored(_));
        let mut message = self.inserted(&by, id, stored)?;
        if is_new {
            let place = (message.id, id, message.seq);
            let text = GrowingText::default();
            streams.insert(OpenText::new(place, Arc::clone(&by), holder, from, text));
            return Ok(Begun { message, offset: 0 });
        }
        if !message.streaming {
            let offset = message.content.chars().count();
            return Ok(Begun { message, offset });
        }
        let found = self.written_here(message.id, &by, from.clone());
        let open = match found.await {
            Ok(open) => open,
            // It may have ended since it was read.
            Err(error) => {
                let message = self.ended(message.id, error, from).await?;
                let offset = message.content.chars().count();
                return Ok(Begun { message, offset });
            }
        };
        let open = open.lock();
        let text = open.text.lock();
        Arc::make_mut(&mut message).content = text.whole().to_owned();
        Ok(Begun {
            message,
            offset: text.end(),
        })
    }

    /// Adds text to a message that is being written.
    pub(crate) async fn append_message(
        &self,
        allowed: Allowed<AppendMessage>,
        namespace: &Namespace,
        from: Option<SocketId>,
    ) -> Result<Appended, ServiceError> {
        let (by, command) = allowed.into_parts();
        let streams = &self.0.streams;
        let max_chars = streams.limits.max_chars;
        if command.text.chars().any(is_control_in_text) {
            return Err(ServiceError::invalid("text", "has control characters"));
        }
        let too_long = || {
            streams.metrics.count(Counter::StreamChars);
            let problem = format!("makes more than {max_chars} characters");
            ServiceError::invalid("text", problem)
        };
        let chars = command.text.chars().count();
        if chars > max_chars {
            return Err(too_long());
        }
        let offset = usize::try_from(command.offset).unwrap_or(usize::MAX);
        let found = self.writing(command.message_id, &by, from.clone());
        let mut found = found.await?;
        // Text that does not fit may continue what another server has stored in the meantime.
        let is_misplaced = {
            let open = found.lock();
            open.is_ending || offset > open.text.lock().end()
        };
        if is_misplaced {
            found = self.still_writing(found, &by, from.clone()).await?;
        }
        let mut open = found.lock();
        if open.is_ending {
            return Err(ENDED);
        }
        let end = open.text.lock().end();
        // Another connection of the author has gone on while this text waited.
        if is_misplaced && open.socket != from {
            return Err(misplaced(Misfit::Gap, end));
        }
        if offset <= end && offset.saturating_add(chars) > max_chars {
            return Err(too_long());
        }
        let charged = open.charge(command.text.len(), &streams.limits, now());
        charged.map_err(|(limit, retry_after)| {
            streams.metrics.count(limit);
            ServiceError::Limited { retry_after }
        })?;
        let extended = open.text.lock().extend(offset, &command.text);
        let added = extended.map_err(|misfit| misplaced(misfit, end))?;
        open.touched = now();
        streams.grown.notify_one();
        if added > 0 {
            self.grow(&open, namespace, (offset, &command.text));
        }
        Ok(open.answer())
    }

    /// Ends a message that is being written, with its text or a corrected one.
    pub(crate) async fn finish_message(
        &self,
        allowed: Allowed<FinishMessage>,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        let (by, command) = allowed.into_parts();
        if let Some(metadata) = &command.metadata {
            content::check_metadata(metadata, self.0.limits.metadata_bytes)?;
        }
        if let Some(content) = &command.content {
            let streams = &self.0.streams;
            if content.chars().count() > streams.limits.max_chars {
                streams.metrics.count(Counter::StreamChars);
            }
            content::check_content(content, streams.limits.max_chars)?;
        }
        let id = command.message_id;
        let found = match self.written_here(id, &by, from.clone()).await {
            Ok(found) => found,
            Err(error) => return self.ended(id, error, from).await,
        };
        self.finish(&by, &found, command, from).await
    }

    /// Ends a message that is written here, with its text or a corrected one.
    pub(super) async fn finish(
        &self,
        by: &Principal,
        found: &Mutex<OpenText>,
        command: FinishMessage,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        let conversation = found.lock().conversation_id;
        let membership = self.0.store.membership(conversation, &by.subject).await?;
        let membership = membership.ok_or_else(|| hidden_conversation(by, conversation))?;
        let title = membership.conversation.title;
        let (holder, content) = {
            let mut open = found.lock();
            let (end, whole) = {
                let text = open.text.lock();
                (text.end(), text.whole().to_owned())
            };
            if command.offset != end as u64 {
                return Err(misplaced(Misfit::Gap, end));
            }
            let content = command.content.unwrap_or(whole);
            if content.is_empty() {
                return Err(ServiceError::invalid("content", "is empty"));
            }
            // Readers are sent nothing beyond the text that is being stored.
            open.is_ending = true;
            (open.holder, Some(content))
        };
        let finish = Finish {
            message_id: command.message_id,
            holder: Some(holder),
            content,
            metadata: command.metadata,
            notice: Some(self.0.notifications.of_mentions(title.as_deref())),
            ..Finish::default()
        };
        self.end(finish, from).await
    }

    /// Ends a message that is being written where it is.
    pub(crate) async fn abort_message(
        &self,
        allowed: Allowed<AbortMessage>,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        let (by, command) = allowed.into_parts();
        if let Some(reason) = &command.reason {
            content::check_reason(reason)?;
        }
        let id = command.message_id;
        let found = match self.written_here(id, &by, from.clone()).await {
            Ok(found) => found,
            Err(error) => return self.ended(id, error, from).await,
        };
        let finish = found.lock().interrupted(command.reason.unwrap_or_default());
        self.end(finish, from).await
    }

    /// Asks the author of a message that is being written to stop.
    pub(crate) async fn stop_message(
        &self,
        allowed: Allowed<StopMessage>,
        namespace: &Namespace,
    ) -> Result<(), ServiceError> {
        let (by, StopMessage { message_id }) = allowed.into_parts();
        let place = self.0.store.stream_author(message_id).await?;
        let place = place.ok_or(NOT_WRITTEN)?;
        let id = place.conversation_id;
        if !self.0.store.is_member(id, &by.subject).await? {
            return Err(NOT_WRITTEN);
        }
        let request = StopRequested {
            conversation_id: id,
            message_id,
            user_id: &by.subject,
        };
        MESSAGE_STOP_REQUESTED.emit(namespace.to(user_room(&place.user_id)), &request);
        // A request that writes the message has no socket. It may be at any server.
        let user_id: Arc<str> = by.subject.as_str().into();
        self.0
            .streams
            .request_stop(message_id, Arc::clone(&user_id));
        if let Some(announcer) = self.0.conversations.announcer() {
            announcer.announce(News::StopRequest(StopRequest {
                message_id,
                user_id,
            }));
        }
        Ok(())
    }

    /// Stores the end of a message, and returns it.
    pub(super) async fn end(
        &self,
        finish: Finish,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        match self.store_end(finish, from).await? {
            Change::Done(message) | Change::Unchanged(message) => Ok(self.0.rules.show(&message)),
            Change::Conflict => Err(ServiceError::Conflict(
                "its author writes it through another server by now",
            )),
            Change::Absent | Change::Denied => Err(NOT_WRITTEN),
        }
    }

    /// Stores the end of a message, which is not written here afterwards. After a failure its
    /// author may add to it again.
    pub(super) async fn store_end(
        &self,
        finish: Finish,
        from: Option<SocketId>,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        let (id, holder) = (finish.message_id, finish.holder);
        let streams = &self.0.streams;
        let open = holder.and_then(|holder| streams.held(id, holder));
        let ended = self.0.store.finish_stream(finish, origin(from)).await;
        let ended = ended.inspect_err(|_| {
            if let Some(open) = &open {
                open.lock().is_ending = false;
            }
        })?;
        match holder {
            Some(holder) => streams.forget_held(id, holder),
            None => streams.forget(id),
        }
        Ok(ended)
    }

    /// Returns a message that has ended, to an author that repeats the end, or the error that it
    /// is not being written.
    async fn ended(
        &self,
        message_id: Uuid,
        error: ServiceError,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        if error != ENDED {
            return Err(error);
        }
        let finish = Finish {
            message_id,
            // Nobody has this one, so a text that still grows does not end: its author may be
            // removed.
            holder: Some(Uuid::nil()),
            ..Finish::default()
        };
        self.end(finish, from).await
    }
}

/// The error for text that does not continue a message.
fn misplaced(misfit: Misfit, end: usize) -> ServiceError {
    ServiceError::Misplaced {
        problem: match misfit {
            Misfit::Gap => "does not continue the text",
            Misfit::Differs => "differs from the text that is there",
        },
        offset: end,
    }
}

/// The error for messages that are not being written by this author, whether they exist or not.
pub(super) const NOT_WRITTEN: ServiceError =
    ServiceError::NotFound("no such message is being written");
/// The error for text after the end.
pub(super) const ENDED: ServiceError = ServiceError::Conflict("the message has ended");
