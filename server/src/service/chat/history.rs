//! Stored messages: pages, search, and read marks.

use crate::auth::Permission;
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, NO_CONVERSATION};
use crate::service::chat::sequencer::conversations::room_of;
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::cluster::{News, Read};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::{QUERY_CHARS, QUERY_WORDS};
use crate::service::rules::commands::history::{MarkAsRead, ReadHistory, SearchMessages};
use crate::service::rules::commands::streams::Held;
use crate::service::rules::emissions::messages::{self as emissions, MESSAGE_READ};
use crate::service::rules::event::Command;
use crate::store::{MarkRead, Messages, Page, ReadMark, Search, words};
use roomcast::{Broadcast, Socket};
use uuid::Uuid;

/// `GET /api/v1/conversations/{id}/messages`
#[derive(Debug)]
pub(crate) struct ReadMessages(pub(crate) ReadHistory);

impl Command for ReadMessages {
    const PERMISSION: Option<Permission> = Some(Permission::ApiMessages);
}

impl Chat {
    /// Returns a page of the messages of a conversation.
    pub(crate) async fn history(
        &self,
        allowed: Allowed<ReadHistory>,
        socket: &Socket,
    ) -> Result<Held<Messages>, ServiceError> {
        let (by, command) = allowed.into_parts();
        let (page, limit) = self.page(&command)?;
        let id = command.conversation_id;
        // Texts must not grow, and their ends not be forgotten, between the query and the answer.
        let reader = self.hold(id, socket);
        let messages = self.0.store.messages(id, &by.subject, page, limit).await?;
        let messages = messages.ok_or(NO_CONVERSATION)?;
        let mut answer = self.0.rules.show_all(messages).await;
        reader.fit(answer.messages.iter_mut());
        let held = Some(Box::new(reader) as Box<_>);
        Ok(Held { answer, held })
    }

    /// Returns a page of the messages of any conversation, for other services.
    pub(crate) async fn messages(
        &self,
        allowed: Allowed<ReadMessages>,
    ) -> Result<Messages, ServiceError> {
        let (_, ReadMessages(command)) = allowed.into_parts();
        let (page, limit) = self.page(&command)?;
        let read = self.0.store.history(command.conversation_id, page, limit);
        let messages = read.await?.ok_or(NO_CONVERSATION)?;
        Ok(self.0.rules.show_all(messages).await)
    }

    /// Returns which messages are requested, and how many.
    fn page(&self, command: &ReadHistory) -> Result<(Page, usize), ServiceError> {
        let page = match (command.before_seq, command.after_seq) {
            (None, None) => Page::Newest,
            (Some(before), None) => Page::Before(before),
            (None, Some(after)) => Page::After(after),
            (Some(_), Some(_)) => {
                return Err(ServiceError::invalid("afterSeq", "excludes beforeSeq"));
            }
        };
        Ok((page, self.page_limit(command.limit)?))
    }

    /// Checks the number of entries requested for a page, or returns the default.
    pub(super) fn page_limit(&self, requested: Option<u64>) -> Result<usize, ServiceError> {
        let limits = &self.0.limits;
        match requested {
            None => Ok(limits.page_default.min(limits.page)),
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=limits.page).contains(limit))
                .ok_or_else(|| {
                    ServiceError::invalid("limit", format!("must be from 1 to {}", limits.page))
                }),
        }
    }

    /// Returns the newest messages that contain all words, the last as a prefix, in one
    /// conversation or in all of the user's.
    pub(crate) async fn search(
        &self,
        allowed: Allowed<SearchMessages>,
    ) -> Result<Messages, ServiceError> {
        let (by, command) = allowed.into_parts();
        let words = words(&command.query);
        if words.is_empty()
            || words.len() > QUERY_WORDS
            || command.query.chars().nth(QUERY_CHARS).is_some()
        {
            return Err(ServiceError::invalid(
                "query",
                format!("must have 1 to {QUERY_WORDS} words and at most {QUERY_CHARS} characters"),
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

    /// Records how far a user has read.
    ///
    /// The user's other sockets are notified, and in small conversations also the joined sockets,
    /// on all servers. If the user has read no further than before, only the caller gets an answer.
    pub(crate) async fn mark_read(
        &self,
        allowed: Allowed<MarkAsRead>,
        socket: &Socket,
    ) -> Result<ReadMark, ServiceError> {
        let (by, command) = allowed.into_parts();
        let read = MarkRead {
            conversation_id: command.conversation_id,
            user_id: by.subject.clone(),
            seq: command.seq,
        };
        let id = command.conversation_id;
        let mark = self.0.store.mark_read(read).await?.ok_or(NO_CONVERSATION)?;
        // This also runs for a known mark, since the acknowledgement may have failed when the mark
        // was set.
        let (namespace, notifications) = (socket.namespace(), &self.0.notifications);
        notifications
            .acknowledge_mentions(&namespace, &by.subject, id, mark.seq)
            .await;
        // Clients mark the same message repeatedly, which must not cost other clients an event each
        // time.
        if !mark.advanced {
            return Ok(mark);
        }
        let read = Read {
            conversation_id: id,
            user_id: by.subject.as_str().into(),
            seq: mark.seq,
            // The decision is made here and sent to the other servers, so that all of them emit to
            // the same audience.
            for_all: self.emits_read_marks(id),
        };
        emit_read(socket.namespace().local().except(socket.id()), &read);
        if let Some(announcer) = self.0.conversations.announcer() {
            announcer.announce(News::Read(read));
        }
        Ok(mark)
    }

    /// Returns whether the joined sockets of a conversation are notified of read marks.
    ///
    /// With many readers, the number of such events would grow quadratically.
    pub(super) fn emits_read_marks(&self, conversation: Uuid) -> bool {
        let here = self
            .0
            .conversations
            .with(conversation, |live| live.presence.connections_everywhere());
        here.is_some_and(|here| here <= MAX_READ_MARK_SOCKETS)
    }
}

/// Emits a read mark to sockets of this server.
pub(super) fn emit_read(to: Broadcast<'_>, read: &Read) {
    let mut rooms = vec![user_room(&read.user_id)];
    if read.for_all {
        rooms.push(room_of(read.conversation_id));
    }
    let payload = emissions::Read {
        conversation_id: read.conversation_id,
        user_id: &read.user_id,
        seq: read.seq,
    };
    MESSAGE_READ.emit(to.to(rooms), &payload);
}

/// The maximum number of sockets in a conversation that are notified of read marks.
const MAX_READ_MARK_SOCKETS: usize = 50;
