//! The growing texts of a conversation, and how far each reader has them.
//!
//! All readers of a text are at the same position, except those that cannot take more at the
//! moment: their queue is not empty, or they wait for an answer that has the beginning of the
//! text. These have positions of their own and later receive all they lack in one event.

pub(in crate::service::chat) mod text;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use self::text::{GrowingText, Misfit, SharedText};
use crate::config;
use crate::metrics::Size;
use crate::service::rules::emissions::messages::{Appended, MESSAGE_APPENDED};
use crate::store::Message;
use roomcast::{Namespace, Room, Socket, SocketId};

/// The growing texts of a conversation, by the `seq` of their messages.
#[derive(Debug, Default)]
pub(in crate::service) struct LiveStreams {
    /// Boxed, because the nodes of the map are half empty.
    streams: BTreeMap<u64, Box<LiveStream>>,
    /// Readers that wait for an answer with the beginning of a text, and for how many.
    held: HashMap<SocketId, usize>,
    /// Readers that do not have all texts by an answer yet, and the last `seq` before they joined.
    unread: HashMap<SocketId, u64>,
    /// Readers whose connections were lost, and until when they may be recovered.
    lost: HashMap<SocketId, Instant>,
    /// Messages that have ended while a reader was held: its answer may have been read before.
    ended: BTreeMap<u64, Arc<Message>>,
}

#[derive(Debug)]
struct LiveStream {
    message_id: Uuid,
    user_id: Box<str>,
    /// Whether its author was removed, so that nothing is sent until its end.
    is_muted: bool,
    /// Who writes the text, if known. Of two holders, the greater one has taken over.
    holder: Option<Uuid>,
    /// The socket that writes the text and does not receive it.
    author: Option<SocketId>,
    text: SharedText,
    /// The position up to which the text was sent to all readers but those behind.
    shown: usize,
    /// The readers that differ from all others.
    readers: HashMap<SocketId, Reader>,
    /// When the text is sent next. `None` if nothing waits.
    due: Option<Instant>,
    sent_at: Option<Instant>,
    /// When the text last grew.
    touched: Instant,
}

/// The text of an author on this server.
pub(in crate::service::chat) struct LocalText {
    pub(in crate::service::chat) holder: Uuid,
    pub(in crate::service::chat) author: Option<SocketId>,
    pub(in crate::service::chat) text: SharedText,
}

/// What a reader has of a text.
#[derive(Debug, Default)]
struct Reader {
    source: Source,
    /// The position up to which it has the text, if that is less than all others have.
    behind: Option<usize>,
}

/// From where a reader has a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    /// From events.
    #[default]
    Events,
    /// From an answer, maybe before the message was emitted.
    Answer,
    /// From an answer with the end of the message, which this server has not emitted yet.
    End,
    /// The server does not know. The reader is sent nothing until an answer has the text.
    Unknown,
}

/// Where a conversation sends its texts.
pub(in crate::service) struct Readers<'a> {
    pub(in crate::service) namespace: &'a Namespace,
    pub(in crate::service) room: &'a Room,
    pub(in crate::service) conversation_id: Uuid,
}

/// The timing of growing texts.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct StreamTempo {
    /// The shortest time between two events about a text.
    pub(in crate::service) interval: Duration,
    /// The time without growth after which a text has certainly ended.
    pub(in crate::service) retention: Duration,
}

impl StreamTempo {
    pub(in crate::service) fn of(limits: &config::Streams) -> Self {
        Self {
            interval: limits.interval,
            retention: limits.timeout * 2 + Duration::from_mins(1),
        }
    }
}

impl LiveStreams {
    pub(in crate::service) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Returns the size of the texts, and that of the readers which have less of them.
    pub(in crate::service) fn sizes(&self) -> [Size; 2] {
        let entry = size_of::<(u64, Box<LiveStream>)>()
            + size_of::<LiveStream>()
            + size_of::<Mutex<GrowingText>>();
        let mut texts = Size::of::<(u64, Arc<Message>)>(self.ended.len(), self.ended.len());
        let mut behind = Size::of_map(&self.held);
        behind += Size::of_map(&self.unread);
        behind += Size::of_map(&self.lost);
        for stream in self.streams.values() {
            let bytes = entry + stream.text.lock().bytes();
            texts += Size { count: 1, bytes };
            behind += Size::of_map(&stream.readers);
        }
        [texts, behind]
    }

    /// Returns when [`advance`](Self::advance) must run next.
    pub(in crate::service) fn poll_timeout(&self, tempo: StreamTempo) -> Option<Instant> {
        let due = self.streams.values().map(|stream| {
            let end = stream.touched + tempo.retention;
            stream.due.map_or(end, |due| due.min(end))
        });
        due.min()
    }

    /// Follows a message, whose readers have received as much of it as it contains.
    pub(in crate::service) fn begin(&mut self, message: &Message, now: Instant) {
        let new = || {
            let text = GrowingText::new(message.content.clone());
            let mut stream = LiveStream::new(message.id, &message.user_id, text, now);
            let readers = self.unread.iter();
            for (reader, _) in readers.filter(|(_, through)| **through >= message.seq) {
                stream.withhold(reader);
            }
            Box::new(stream)
        };
        self.streams.entry(message.seq).or_insert_with(new);
    }

    /// Follows a message that is emitted, and returns it with as much text as its readers are
    /// considered to have: an answer may have been ahead of this emission.
    pub(in crate::service) fn open(
        &mut self,
        message: &Arc<Message>,
        now: Instant,
    ) -> Arc<Message> {
        self.begin(message, now);
        let mut message = Arc::clone(message);
        if let Some(stream) = self.streams.get_mut(&message.seq) {
            let shown = stream.fit(&mut message, stream.shown);
            // Readers without an answer have what the event contains.
            for reader in stream.readers.values_mut() {
                if reader.source != Source::Answer && reader.behind.is_some() {
                    reader.behind = Some(shown);
                }
            }
        }
        message
    }

    /// Forgets a message that has ended.
    pub(in crate::service) fn end(&mut self, message: &Arc<Message>) {
        if self.streams.remove(&message.seq).is_some() && !self.held.is_empty() {
            self.ended.insert(message.seq, Arc::clone(message));
            if self.ended.len() > MAX_ENDED {
                self.ended.pop_first();
            }
        }
    }

    /// Shares the text of an author on this server, unless another server has taken over. Readers
    /// that do not know the message begin with what their answers contain.
    pub(in crate::service::chat) fn attach(&mut self, seq: u64, local: LocalText, now: Instant) {
        if let Some(known) = self.streams.get_mut(&seq)
            && known.holder <= Some(local.holder)
        {
            known.holder = Some(local.holder);
            known.author = local.author;
            known.text = local.text;
            known.touched = now;
        }
    }

    /// Adds text of an author on another server, or of the store. Text of a holder from which
    /// another has taken over adds nothing, however late it arrives. Before a message has begun
    /// here, and after its end, everything is missing.
    pub(in crate::service::chat) fn receive(
        &mut self,
        seq: u64,
        holder: Uuid,
        (offset, piece): (usize, &str),
        now: Instant,
    ) -> Result<(), Misfit> {
        let Some(stream) = self.streams.get_mut(&seq) else {
            return Err(Misfit::Gap);
        };
        if Some(holder) < stream.holder {
            return Ok(());
        }
        stream.touched = now;
        if Some(holder) > stream.holder {
            stream.follow(holder, offset)?;
        }
        stream.text.lock().extend(offset, piece).map(drop)
    }

    /// Sends the text of a message now, or as soon as the interval permits.
    pub(in crate::service::chat) fn grow(
        &mut self,
        readers: &Readers<'_>,
        seq: u64,
        tempo: StreamTempo,
        now: Instant,
    ) {
        let held = &self.held;
        let Some(stream) = self.streams.get_mut(&seq) else {
            return;
        };
        if stream.due.is_some() {
            return;
        }
        match stream.sent_at.map(|sent| sent + tempo.interval) {
            Some(next) if next > now => stream.due = Some(next),
            _ => stream.send(readers, seq, held, tempo, now),
        }
    }

    /// Sends everything that is due, and forgets texts that have certainly ended.
    pub(in crate::service) fn advance(
        &mut self,
        readers: &Readers<'_>,
        tempo: StreamTempo,
        now: Instant,
    ) {
        let held = &self.held;
        for (seq, stream) in &mut self.streams {
            if stream.due.is_some_and(|due| due <= now) {
                stream.send(readers, *seq, held, tempo, now);
            }
        }
        self.streams
            .retain(|_, stream| stream.touched + tempo.retention > now);
        self.expire_lost(now);
    }

    /// Sends nothing more of what a removed user writes.
    pub(in crate::service::chat) fn mute(&mut self, user: &str) {
        self.by(user).for_each(|stream| stream.is_muted = true);
    }

    /// Ends a [`mute`](Self::mute), because the user is a member again.
    pub(in crate::service::chat) fn unmute(&mut self, user: &str) {
        self.by(user).for_each(|stream| stream.is_muted = false);
    }

    fn by(&mut self, user: &str) -> impl Iterator<Item = &mut Box<LiveStream>> {
        let streams = self.streams.values_mut();
        streams.filter(move |stream| *stream.user_id == *user)
    }

    /// Sends a reader nothing until [`release`](Self::release).
    pub(in crate::service::chat) fn hold(&mut self, reader: &SocketId) {
        *self.held.entry(reader.clone()).or_default() += 1;
    }

    /// Cuts the texts of messages in the answer to a held reader to what its next events continue.
    pub(in crate::service::chat) fn fit<'a>(
        &mut self,
        reader: &SocketId,
        messages: impl Iterator<Item = &'a mut Arc<Message>>,
        now: Instant,
    ) {
        for message in messages {
            // The reader has received the end, which must not be followed by less.
            if message.streaming
                && let Some(ended) = self.ended.get(&message.seq)
            {
                *message = Arc::clone(ended);
            }
            if message.streaming {
                self.begin(message, now);
            }
            let Some(stream) = self.streams.get_mut(&message.seq) else {
                continue;
            };
            if message.streaming {
                // Several answers may be on their way in any order. All have the same text.
                let known = stream.readers.get(reader).and_then(|known| known.behind);
                let position = stream.fit(message, known.unwrap_or(stream.shown));
                let known = stream.readers.entry(reader.clone()).or_default();
                known.behind = Some(position);
                if known.source != Source::End {
                    known.source = Source::Answer;
                }
            } else {
                stream.readers.entry(reader.clone()).or_default().source = Source::End;
            }
        }
    }

    /// Sends a reader that joins nothing of the texts of messages up to `through`, each until an
    /// answer has it: its client may have the beginning from a former connection.
    pub(in crate::service::chat) fn withhold(&mut self, reader: &SocketId, through: u64) {
        self.unread.insert(reader.clone(), through);
        for (_, stream) in self.streams.range_mut(..=through) {
            stream.withhold(reader);
        }
    }

    /// Ends a [`withhold`](Self::withhold) of texts that are not known here yet. Those that are
    /// known and that no answer has had have ended.
    pub(in crate::service) fn forget(&mut self, reader: &SocketId) {
        self.unread.remove(reader);
    }

    /// Forgets a reader that has left, or later one that may be recovered until then.
    pub(in crate::service) fn depart(&mut self, reader: &SocketId, until: Option<Instant>) {
        self.unread.remove(reader);
        let mut streams = self.streams.values();
        match until {
            Some(until) if streams.any(|stream| stream.readers.contains_key(reader)) => {
                self.lost.insert(reader.clone(), until);
            }
            Some(_) => {}
            None => self.remove(reader),
        }
    }

    /// Keeps a reader that has been recovered.
    pub(in crate::service) fn recover(&mut self, reader: &SocketId) {
        self.lost.remove(reader);
    }

    /// Forgets all readers that were lost and not recovered in time.
    fn expire_lost(&mut self, now: Instant) {
        let expired: Vec<_> = self.lost.extract_if(|_, until| *until <= now).collect();
        for (reader, _) in expired {
            self.remove(&reader);
        }
    }

    fn remove(&mut self, reader: &SocketId) {
        for stream in self.streams.values_mut() {
            stream.readers.remove(reader);
        }
    }

    /// Ends a [`hold`](Self::hold).
    pub(in crate::service::chat) fn release(
        &mut self,
        reader: &SocketId,
        tempo: StreamTempo,
        now: Instant,
    ) {
        if let Some(count) = self.held.get_mut(reader) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(reader);
            }
        }
        if self.held.is_empty() {
            self.ended.clear();
        }
        self.resume(reader, tempo, now);
    }

    /// Sends a reader what it lacks, with the next event.
    pub(in crate::service) fn resume(
        &mut self,
        reader: &SocketId,
        tempo: StreamTempo,
        now: Instant,
    ) {
        for stream in self.streams.values_mut() {
            let known = stream.readers.get(reader);
            if known.is_some_and(|known| known.behind.is_some()) {
                let due = now + tempo.interval;
                stream.due = Some(stream.due.map_or(due, |earlier| earlier.min(due)));
            }
        }
    }
}

impl LiveStream {
    fn new(message_id: Uuid, user_id: &str, text: GrowingText, now: Instant) -> Self {
        Self {
            message_id,
            user_id: user_id.into(),
            is_muted: false,
            holder: None,
            author: None,
            shown: text.end(),
            text: Arc::new(text.into()),
            readers: HashMap::new(),
            due: None,
            sent_at: None,
            touched: now,
        }
    }

    /// Follows a holder that goes on at a position. What its predecessor had beyond that, here or
    /// at another server, is not part of the text.
    fn follow(&mut self, holder: Uuid, position: usize) -> Result<(), Misfit> {
        if self.holder.is_some() {
            let text = self.text.lock();
            if position > text.end() {
                return Err(Misfit::Gap);
            }
            let begun = text.until(position);
            drop(text);
            self.text = Arc::new(begun.into());
        }
        self.holder = Some(holder);
        Ok(())
    }

    /// Sends a reader nothing until an answer has the text.
    fn withhold(&mut self, reader: &SocketId) {
        let known = self.readers.entry(reader.clone()).or_default();
        if known.source != Source::End {
            known.source = Source::Unknown;
        }
    }

    /// Cuts or extends the text of a message to a position. Returns the position that the message
    /// then has, which is an earlier one if the text was taken over with less than was sent.
    fn fit(&self, message: &mut Arc<Message>, position: usize) -> usize {
        let stored = message.content.chars().count();
        if stored > position {
            let cut = message.content.char_indices().nth(position);
            if let Some((end, _)) = cut {
                Arc::make_mut(message).content.truncate(end);
            }
            return position;
        }
        let text = self.text.lock();
        let more: String = text
            .since(stored)
            .unwrap_or_default()
            .chars()
            .take(position - stored)
            .collect();
        Arc::make_mut(message).content.push_str(&more);
        stored + more.chars().count()
    }

    /// Sends the text to all readers that can take it.
    fn send(
        &mut self,
        readers: &Readers<'_>,
        seq: u64,
        held: &HashMap<SocketId, usize>,
        tempo: StreamTempo,
        now: Instant,
    ) {
        if self.is_muted {
            self.due = None;
            return;
        }
        let text = self.text.lock();
        let appended = |offset: usize| {
            let text = text.since(offset)?;
            Some(Appended {
                conversation_id: readers.conversation_id,
                message_id: self.message_id,
                seq,
                offset,
                text,
            })
        };
        let all = || readers.namespace.local().to(readers.room);
        let mut is_awaited = false;
        for socket in all().sockets() {
            let id = socket.id();
            if self.author.as_ref() == Some(&id) {
                continue;
            }
            let is_ready = !held.contains_key(&id) && is_idle(&socket);
            match self.readers.get_mut(&id) {
                Some(reader) if !reader.is_sent() => {}
                Some(Reader {
                    behind: Some(position),
                    ..
                }) if is_ready => {
                    if *position < text.end()
                        && let Some(appended) = appended(*position)
                    {
                        MESSAGE_APPENDED.emit_to(&socket, &appended);
                        // This event has all that the others are sent now.
                        *position = text.end();
                    }
                }
                _ if is_ready => {}
                _ => {
                    is_awaited = true;
                    let reader = self.readers.entry(id).or_default();
                    reader.behind.get_or_insert(self.shown);
                }
            }
        }
        if self.shown < text.end()
            && let Some(appended) = appended(self.shown)
        {
            let differ = self.readers.iter();
            let differ = differ.filter(|(_, reader)| reader.behind.is_some() || !reader.is_sent());
            let skipped = self.author.iter().chain(differ.map(|(reader, _)| reader));
            let to = skipped.fold(all(), |to, socket| to.except(socket.clone()));
            MESSAGE_APPENDED.emit(to, &appended);
        }
        // An author that goes on at this server may repeat text that its former server has sent.
        // Readers with an answer from in between do not have that text.
        let shown = self.shown.max(text.end());
        self.shown = shown;
        self.readers.retain(|_, reader| {
            reader.behind = reader.behind.filter(|position| *position < shown);
            reader.behind.is_some() || reader.source != Source::Events
        });
        if self.readers.is_empty() {
            self.readers.shrink_to_fit();
        }
        self.sent_at = Some(now);
        // Readers that are lost, and may be recovered, are not tried until then.
        let retry = tempo.interval.max(SHORTEST_RETRY);
        let is_behind = |reader: &Reader| reader.behind.is_some();
        let awaits = is_awaited && self.readers.values().any(is_behind);
        self.due = awaits.then(|| now + retry);
    }
}

impl Reader {
    /// Returns whether the reader is sent what it lacks.
    fn is_sent(&self) -> bool {
        match self.source {
            Source::Events | Source::Answer => true,
            Source::End | Source::Unknown => false,
        }
    }
}

/// Returns whether everything was sent to a client that was queued for it.
fn is_idle(socket: &Socket) -> bool {
    socket.conn().queued_bytes() == 0
}

/// The time until a reader that could take nothing is tried again, if texts have no interval.
const SHORTEST_RETRY: Duration = Duration::from_millis(10);
/// Maximum number of messages that have ended while a reader was held.
const MAX_ENDED: usize = 100;
