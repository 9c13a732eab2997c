//! Streamed messages: their authors' side.
//!
//! A message that is being written has a text that its author extends, here, and readers in its
//! conversation. The text is stored several times a second; the message itself is stored at the
//! beginning and at the end. Of several servers, the one where the author writes extends the stored
//! text: it is the holder, until the author goes on at another server, which takes over with what
//! is stored.
//!
//! `holding` decides which server that is, `sequencer::growing` sends the text to the readers of a
//! server, and `storing` stores it and ends what stands still. This module must not know how an event is parsed.

mod holding;
mod readers;
mod storing;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::auth::{Permission, is_name};
use crate::config;
use crate::metrics::{Inventoried, Inventory};
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, hidden_conversation, now, origin};
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::chat::sequencer::growing::Readers;
use crate::service::chat::sequencer::growing::text::{Misfit, SharedText};
use crate::service::cluster::{Grown, News};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::{REASON_CHARS, is_control_in_text};
use crate::service::rules::commands::streams::{
    AbortMessage, AppendMessage, Appended, BeginMessage, Begun, FinishMessage, StopMessage,
};
use crate::service::rules::content;
use crate::service::rules::emissions::messages::{MESSAGE_STOP_REQUESTED, StopRequested};
use crate::store::{Change, Finish, Insert, Message, MessageKind, NewMessage};
use roomcast::{Namespace, Socket, SocketId};

/// The messages that are being written at this server.
#[derive(Debug)]
pub(in crate::service) struct Streams {
    open: Mutex<HashMap<Uuid, Arc<Mutex<OpenText>>>>,
    limits: config::Streams,
    /// Notifies that there is text to store.
    grown: Notify,
}

/// A message that is being written at this server.
#[derive(Debug)]
struct OpenText {
    message_id: Uuid,
    conversation_id: Uuid,
    seq: u64,
    user_id: String,
    /// Identifies this server's writing of the text in the store.
    holder: Uuid,
    socket: Option<SocketId>,
    text: SharedText,
    /// The number of characters that are stored.
    stored: usize,
    /// When the author last added to it.
    touched: Instant,
    /// Whether its end is being stored.
    is_ending: bool,
    /// What the author added within the current second.
    second: (Instant, u32, usize),
}

impl Streams {
    pub(in crate::service::chat) fn new(limits: config::Streams) -> Self {
        Self {
            open: Mutex::default(),
            limits,
            grown: Notify::new(),
        }
    }

    fn get(&self, message: Uuid) -> Option<Arc<Mutex<OpenText>>> {
        self.open.lock().get(&message).cloned()
    }

    /// Forgets a message that has ended, or that another server writes.
    pub(in crate::service::chat) fn forget(&self, message: Uuid) {
        self.open.lock().remove(&message);
    }

    /// Forgets a message that another server writes, unless this one writes it again.
    fn forget_held(&self, message: Uuid, holder: Uuid) {
        let mut open = self.open.lock();
        if open
            .get(&message)
            .is_some_and(|open| open.lock().holder == holder)
        {
            open.remove(&message);
        }
    }

    /// Returns the text of a message that is written here, and the socket that writes it.
    fn text_of(&self, message: Uuid) -> Option<(SharedText, Option<SocketId>)> {
        let open = self.get(message)?;
        let open = open.lock();
        Some((Arc::clone(&open.text), open.socket.clone()))
    }

    /// Refuses a further message of a user, or of this server.
    fn require_room(&self, user: &str) -> Result<(), ServiceError> {
        let open = self.open.lock();
        let own = open.values().filter(|one| one.lock().user_id == user);
        if open.len() >= self.limits.max || own.count() >= self.limits.per_user {
            drop(open);
            return Err(ServiceError::limited(FULL_DELAY));
        }
        Ok(())
    }

    /// Adds a message, unless it is already written here.
    fn insert(&self, new: OpenText) -> Arc<Mutex<OpenText>> {
        match self.open.lock().entry(new.message_id) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(vacant) => Arc::clone(vacant.insert(Arc::new(Mutex::new(new)))),
        }
    }
}

impl OpenText {
    fn answer(&self) -> Appended {
        Appended {
            offset: self.text.lock().end(),
            stored: self.stored,
        }
    }

    /// Counts an addition, or refuses it if there were too many within a second.
    fn charge(
        &mut self,
        bytes: usize,
        limits: &config::Streams,
        now: Instant,
    ) -> Result<(), ServiceError> {
        let (since, appends, sum) = &mut self.second;
        if now.duration_since(*since) >= SECOND {
            (*since, *appends, *sum) = (now, 0, 0);
        }
        // A single piece may be larger than what a second permits, and then has one for itself.
        let is_too_large = *sum > 0 && *sum + bytes > limits.bytes_per_second;
        if *appends >= limits.appends_per_second || is_too_large {
            return Err(ServiceError::limited(SECOND));
        }
        *appends += 1;
        *sum += bytes;
        Ok(())
    }
}

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
        if kind == MessageKind::Ai {
            self.0.access.require(&by, Permission::ChatSendAi)?;
        }
        let (metadata, mentions) = self.check_parts(
            Some(&command.client_message_id),
            command.metadata,
            command.mentions,
        )?;
        let streams = &self.0.streams;
        let mine = self.0.store.count_streams(&by.subject).await?;
        let is_full = usize::try_from(mine).unwrap_or(usize::MAX) >= streams.limits.per_user;
        let full = if is_full {
            Err(ServiceError::limited(FULL_DELAY))
        } else {
            streams.require_room(&by.subject)
        };
        let id = command.conversation_id;
        if let Err(full) = full {
            // A repetition of a message that is being written is no further one.
            let known = self.0.store.sent(&by.subject, &command.client_message_id);
            if known.await?.is_none() {
                return Err(full);
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
        let message = self.inserted(&by, id, stored)?;
        if is_new {
            streams.insert(OpenText {
                message_id: message.id,
                conversation_id: id,
                seq: message.seq,
                user_id: by.subject.clone(),
                holder,
                socket: from,
                text: SharedText::default(),
                stored: 0,
                touched: now(),
                is_ending: false,
                second: (now(), 0, 0),
            });
            return Ok(Begun { message, offset: 0 });
        }
        if !message.streaming {
            let offset = message.content.chars().count();
            return Ok(Begun { message, offset });
        }
        let found = self.written_here(message.id, &by.subject, from.clone());
        let open = match found.await {
            Ok(open) => open,
            // It has ended since it was read.
            Err(ServiceError::Conflict(_)) => {
                let message = self.ended(message.id, from).await?;
                let offset = message.content.chars().count();
                return Ok(Begun { message, offset });
            }
            Err(error) => return Err(error),
        };
        let open = open.lock();
        let text = open.text.lock();
        let mut message = message;
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
        socket: &Socket,
    ) -> Result<Appended, ServiceError> {
        let (by, command) = allowed.into_parts();
        let limits = &self.0.streams.limits;
        if command.text.chars().any(is_control_in_text) {
            return Err(ServiceError::invalid("text", "has control characters"));
        }
        let too_long = || {
            let problem = format!("makes more than {} characters", limits.max_chars);
            ServiceError::invalid("text", problem)
        };
        let chars = command.text.chars().count();
        if chars > limits.max_chars {
            return Err(too_long());
        }
        let offset = usize::try_from(command.offset).unwrap_or(usize::MAX);
        let from = Some(socket.id());
        let found = self.writing(command.message_id, &by.subject, from.clone());
        let mut found = found.await?;
        // Text that does not fit may continue what another server has stored in the meantime.
        let is_misplaced = {
            let open = found.lock();
            open.is_ending || offset > open.text.lock().end()
        };
        if is_misplaced {
            found = self.still_writing(found, &by.subject, from).await?;
        }
        let mut open = found.lock();
        if open.is_ending {
            return Err(ENDED);
        }
        let end = open.text.lock().end();
        if offset <= end && offset.saturating_add(chars) > limits.max_chars {
            return Err(too_long());
        }
        open.charge(command.text.len(), limits, now())?;
        let extended = open.text.lock().extend(offset, &command.text);
        let added = extended.map_err(|misfit| misplaced(misfit, end))?;
        open.touched = now();
        if added > 0 {
            self.grow(&open, &socket.namespace(), (offset, &command.text));
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
        let limits = &self.0.limits;
        if let Some(metadata) = &command.metadata {
            content::check_metadata(metadata, limits.metadata_bytes)?;
        }
        if let Some(content) = &command.content {
            content::check_content(content, self.0.streams.limits.max_chars)?;
        }
        let found = match self
            .written_here(command.message_id, &by.subject, from.clone())
            .await
        {
            Ok(found) => found,
            // A repetition of the end is answered like the end.
            Err(ServiceError::Conflict(_)) => return self.ended(command.message_id, from).await,
            Err(error) => return Err(error),
        };
        let conversation = found.lock().conversation_id;
        let membership = self.0.store.membership(conversation, &by.subject).await?;
        let membership = membership.ok_or_else(|| hidden_conversation(&by, conversation))?;
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
            interrupted: None,
            idle_since: None,
            notice: Some(self.0.notifications.of_mentions(title.as_deref())),
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
        let is_refused = |reason: &String| !is_name(reason, REASON_CHARS);
        if command.reason.as_ref().is_some_and(is_refused) {
            let problem = "must have 1 to 200 characters, none of them control or invisible";
            return Err(ServiceError::invalid("reason", problem));
        }
        let reason = command.reason.unwrap_or_default();
        let found = match self
            .written_here(command.message_id, &by.subject, from.clone())
            .await
        {
            Ok(found) => found,
            Err(ServiceError::Conflict(_)) => return self.ended(command.message_id, from).await,
            Err(error) => return Err(error),
        };
        let finish = found.lock().interrupted(reason);
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
        Ok(())
    }

    /// Sends new text to the readers, here and at other servers, and has it stored.
    fn grow(&self, open: &OpenText, namespace: &Namespace, (offset, piece): (usize, &str)) {
        let streams = &self.0.streams;
        streams.grown.notify_one();
        let (id, tempo) = (open.conversation_id, self.0.conversations.common().streams);
        self.0.conversations.with(id, |live| {
            live.streams
                .attach(open.seq, &open.text, open.socket.clone(), now());
            let (room, texts) = (&live.room, &mut live.streams);
            let readers = Readers {
                namespace,
                room,
                conversation_id: id,
            };
            texts.grow(&readers, open.seq, tempo, now());
        });
        if let Some(announcer) = self.0.conversations.announcer() {
            for grown in Grown::parts((id, open.seq, open.message_id), offset, piece) {
                announcer.announce(News::Grown(grown));
            }
        }
    }

    /// Sends text of an author at another server to the readers here.
    pub(in crate::service::chat) fn receive_grown(&self, namespace: &Namespace, grown: &Grown) {
        let (id, tempo) = (grown.conversation_id, self.0.conversations.common().streams);
        let received = self.0.conversations.with(id, |live| {
            let (room, texts) = (&live.room, &mut live.streams);
            texts.receive(grown.seq, grown.offset, &grown.text, now())?;
            let readers = Readers {
                namespace,
                room,
                conversation_id: id,
            };
            texts.grow(&readers, grown.seq, tempo, now());
            Ok::<_, Misfit>(())
        });
        if let Some(Err(Misfit::Gap)) = received {
            tokio::spawn(self.clone().fill_text(namespace.clone(), grown.clone()));
        }
    }

    /// Reads what is stored of a text whose announcement was lost. What is not stored yet follows
    /// with the next announcement that leaves a gap.
    async fn fill_text(self, namespace: Namespace, grown: Grown) {
        let read = self.0.store.stream_text(grown.message_id).await;
        if let Ok(Some(text)) = read {
            let (id, tempo) = (grown.conversation_id, self.0.conversations.common().streams);
            self.0.conversations.with(id, |live| {
                let (room, texts) = (&live.room, &mut live.streams);
                let filled = texts.receive(grown.seq, 0, &text, now());
                let whole = filled
                    .and_then(|()| texts.receive(grown.seq, grown.offset, &grown.text, now()));
                // A gap that remains is found again by the next announcement.
                let _ = whole;
                let readers = Readers {
                    namespace: &namespace,
                    room,
                    conversation_id: id,
                };
                texts.grow(&readers, grown.seq, tempo, now());
            });
        }
    }

    /// Stores the end of a message, and returns it.
    async fn end(
        &self,
        finish: Finish,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        let id = finish.message_id;
        let open = self.0.streams.get(id);
        let ended = self.0.store.finish_stream(finish, origin(from)).await;
        let ended = ended.inspect_err(|_| {
            if let Some(open) = &open {
                open.lock().is_ending = false;
            }
        });
        match ended? {
            Change::Done(message) | Change::Unchanged(message) => {
                self.0.streams.forget(id);
                Ok(self.0.rules.show(&message))
            }
            Change::Conflict => {
                self.0.streams.forget(id);
                Err(ServiceError::Conflict(
                    "its author writes it through another server by now",
                ))
            }
            Change::Absent | Change::Denied => {
                self.0.streams.forget(id);
                Err(NOT_WRITTEN)
            }
        }
    }

    /// Returns a message that has ended, to an author that repeats the end.
    async fn ended(
        &self,
        message: Uuid,
        from: Option<SocketId>,
    ) -> Result<Arc<Message>, ServiceError> {
        let finish = Finish {
            message_id: message,
            holder: None,
            content: None,
            metadata: None,
            interrupted: None,
            idle_since: None,
            notice: None,
        };
        self.end(finish, from).await
    }
}

impl OpenText {
    /// Returns the end of the message where it is, which takes no more text.
    fn interrupted(&mut self, reason: String) -> Finish {
        self.is_ending = true;
        let text = self.text.lock();
        Finish {
            message_id: self.message_id,
            holder: Some(self.holder),
            content: Some(text.whole().to_owned()),
            metadata: None,
            interrupted: Some(reason),
            idle_since: None,
            notice: None,
        }
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

impl Inventoried for Streams {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("messages being written", &self.open.lock());
    }
}

/// The error for messages that are not being written by this author, whether they exist or not.
const NOT_WRITTEN: ServiceError = ServiceError::NotFound("no such message is being written");
/// The error for text after the end.
const ENDED: ServiceError = ServiceError::Conflict("the message has ended");

const SECOND: Duration = Duration::from_secs(1);
/// The time after which an author with too many open messages may try again.
const FULL_DELAY: Duration = Duration::from_secs(5);
