//! Streamed messages: their authors' side.
//!
//! A message that is being written has a text that its author extends, here, and readers in its
//! conversation. The text is stored several times a second; the message itself is stored at the
//! beginning and at the end. Of several servers, the one where the author writes extends the stored
//! text: it is the holder, until the author goes on at another server, which takes over with what
//! is stored. Each holder is greater than the one before, so that every server recognizes text that
//! a former one has sent late.
//!
//! `authors` has the commands of authors, `limiting` decides whether a further message may begin,
//! `holding` decides which server that is, and `requests` writes a message for an HTTP request.
//! `spreading` sends text to the readers of all servers, and `storing` stores it and ends messages
//! that nobody extends. This module must not know how an event is parsed.

mod authors;
mod holding;
mod limiting;
mod readers;
mod requests;
mod spreading;
mod storing;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roomcast::internal::RetryAfter;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use self::limiting::Beginnings;
pub(in crate::service::chat) use self::readers::enter_held;
pub(crate) use self::requests::{RequestWriter, WriteEnd, Written};
use self::spreading::Gaps;
use crate::auth::Principal;
use crate::config;
use crate::metrics::{Counter, Gauge, Inventoried, Inventory, Metrics};
use crate::service::chat::handle::now;
use crate::service::chat::sequencer::growing::LocalText;
use crate::service::chat::sequencer::growing::text::{GrowingText, SharedText};
use crate::service::rules::commands::streams::Appended;
use crate::store::{Extension, Finish};
use roomcast::SocketId;

/// The messages that are being written at this server.
#[derive(Debug)]
pub(in crate::service) struct Streams {
    open: Mutex<HashMap<Uuid, Arc<Mutex<OpenText>>>>,
    beginnings: Beginnings,
    limits: config::Streams,
    metrics: Arc<Metrics>,
    /// What authors at other servers have written beyond what is known here.
    gaps: Mutex<Gaps>,
    /// Notifies that there is text to store.
    grown: Notify,
    /// Whether the server shuts down.
    is_closed: AtomicBool,
}

/// A message that is being written at this server.
#[derive(Debug)]
struct OpenText {
    message_id: Uuid,
    conversation_id: Uuid,
    seq: u64,
    /// The author, with the credentials of the last text.
    author: Arc<Principal>,
    /// Identifies this server's writing of the text in the store.
    holder: Uuid,
    socket: Option<SocketId>,
    text: SharedText,
    /// The number of characters that are stored.
    stored: usize,
    /// When the author last added to it, or repeated what is there.
    touched: Instant,
    /// When the store last took text, or that the author is there.
    kept: Instant,
    /// Whether its end is being stored.
    is_ending: bool,
    /// The text that is being stored, or whose storing failed. It is repeated unchanged, because
    /// the store may have taken it.
    storing: Option<Box<Extension>>,
    /// What the author added within the current second.
    second: (Instant, u32, usize),
    /// Tells the request that writes the message, if there is one, why it stops. It closes when the
    /// message ends here.
    stop: Option<watch::Sender<Option<StopReason>>>,
}

/// Why a request stops writing a message that could go on.
#[derive(Clone, Debug)]
enum StopReason {
    /// Another request goes on with the message.
    Repeated,
    /// This user asks for it.
    User(Arc<str>),
    /// The server shuts down.
    Shutdown,
}

impl Streams {
    pub(in crate::service::chat) fn new(limits: config::Streams, metrics: Arc<Metrics>) -> Self {
        Self {
            open: Mutex::default(),
            beginnings: Beginnings::default(),
            limits,
            metrics,
            gaps: Mutex::default(),
            grown: Notify::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    fn get(&self, message: Uuid) -> Option<Arc<Mutex<OpenText>>> {
        self.open.lock().get(&message).cloned()
    }

    /// Returns all messages that are written here.
    fn all(&self) -> Vec<Arc<Mutex<OpenText>>> {
        self.open.lock().values().cloned().collect()
    }

    /// Forgets a message that has ended, or that another server writes.
    pub(in crate::service::chat) fn forget(&self, message: Uuid) {
        if self.open.lock().remove(&message).is_some() {
            self.metrics.shift(Gauge::StreamsOpen, -1);
        }
    }

    /// Forgets a message that has ended or that another server writes, unless this one writes it
    /// again as another holder.
    fn forget_held(&self, message: Uuid, holder: Uuid) {
        let mut open = self.open.lock();
        let found = open.get(&message);
        if found.is_some_and(|found| found.lock().holder == holder) {
            open.remove(&message);
            self.metrics.shift(Gauge::StreamsOpen, -1);
        }
    }

    /// Returns a message that this holder writes here.
    fn held(&self, message: Uuid, holder: Uuid) -> Option<Arc<Mutex<OpenText>>> {
        self.get(message)
            .filter(|open| open.lock().holder == holder)
    }

    /// Returns the text of a message that is written here.
    fn text_of(&self, message: Uuid) -> Option<LocalText> {
        Some(self.get(message)?.lock().local())
    }

    /// Adds a message, unless it is already written here.
    fn insert(&self, new: OpenText) -> Arc<Mutex<OpenText>> {
        match self.open.lock().entry(new.message_id) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(vacant) => {
                self.metrics.shift(Gauge::StreamsOpen, 1);
                Arc::clone(vacant.insert(Arc::new(Mutex::new(new))))
            }
        }
    }

    /// Stops requests that write a message, if it is written here.
    pub(in crate::service::chat) fn request_stop(&self, message: Uuid, user: Arc<str>) {
        if let Some(open) = self.get(message) {
            open.lock().stop_request(StopReason::User(user));
        }
    }

    /// Stops all requests that write messages, because the server shuts down. Their authors can go
    /// on at another server.
    pub(in crate::service::chat) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        for open in self.all() {
            open.lock().stop_request(StopReason::Shutdown);
        }
    }
}

impl OpenText {
    /// Creates the text of a message that this server writes from now on.
    fn new(
        (message_id, conversation_id, seq): (Uuid, Uuid, u64),
        author: Arc<Principal>,
        holder: Uuid,
        socket: Option<SocketId>,
        text: GrowingText,
    ) -> Self {
        Self {
            message_id,
            conversation_id,
            seq,
            author,
            holder,
            socket,
            stored: text.end(),
            text: Arc::new(text.into()),
            touched: now(),
            kept: now(),
            is_ending: false,
            storing: None,
            second: (now(), 0, 0),
            stop: None,
        }
    }

    /// Stops the request that writes the message, if there is one.
    fn stop_request(&self, reason: StopReason) {
        if let Some(stop) = &self.stop {
            stop.send_replace(Some(reason));
        }
    }

    fn local(&self) -> LocalText {
        LocalText {
            holder: self.holder,
            author: self.socket.clone(),
            text: Arc::clone(&self.text),
        }
    }

    fn answer(&self) -> Appended {
        Appended {
            offset: self.text.lock().end(),
            stored: self.stored,
        }
    }

    /// Counts an addition, or returns the limit that it exceeds within a second, and the time until
    /// the next.
    fn charge(
        &mut self,
        bytes: usize,
        limits: &config::Streams,
        now: Instant,
    ) -> Result<(), (Counter, RetryAfter)> {
        let (since, appends, sum) = &mut self.second;
        if now.duration_since(*since) >= SECOND {
            (*since, *appends, *sum) = (now, 0, 0);
        }
        let next = RetryAfter::new(SECOND.saturating_sub(now.duration_since(*since)));
        if *appends >= limits.appends_per_second {
            return Err((Counter::StreamAppends, next));
        }
        // A single piece may be larger than what a second permits, and then has one for itself.
        if *sum > 0 && *sum + bytes > limits.bytes_per_second {
            return Err((Counter::StreamBytes, next));
        }
        *appends += 1;
        *sum += bytes;
        Ok(())
    }

    /// Returns the end of the message where it is, which takes no more text.
    fn interrupted(&mut self, reason: String) -> Finish {
        self.is_ending = true;
        let text = self.text.lock();
        Finish {
            message_id: self.message_id,
            holder: Some(self.holder),
            content: Some(text.whole().to_owned()),
            interrupted: Some(reason),
            ..Finish::default()
        }
    }
}

impl Inventoried for Streams {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("messages being written", &self.open.lock());
        self.beginnings.report(inventory);
        self.gaps.lock().report(inventory);
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// The time after which an author with too many open messages may try again.
const FULL_DELAY: Duration = Duration::from_secs(5);
