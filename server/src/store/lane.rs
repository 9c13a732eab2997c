//! Lanes: queues that store changes in order and pass them to a single emitter.
//!
//! A lane stores one [`Write`](super::write::Write) after another. It passes each write that has an
//! event to its queue of [`Commits`], in commit order. The emitter drains the queue, emits the
//! commit first and then acknowledges it with [`Commit::resolve`]. The sender only waits for the
//! acknowledgement. If the sender disconnects after the commit, the message is emitted
//! nevertheless.
//!
//! Commits of other servers are announced through the same lanes, and read in `shared::order`.

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::task::Poll;

use tokio::sync::mpsc;
#[cfg(feature = "postgres")]
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Entry;
use super::change::{Committed, Revision};
use super::write::Origin;
#[cfg(feature = "postgres")]
use crate::metrics::trace::TraceContext;

/// The stored changes, in commit order within each conversation. Each store has one instance.
#[derive(Debug)]
pub struct Commits(Vec<mpsc::Receiver<Commit>>);

impl Commits {
    /// Returns the next stored change, or `None` after the store is closed and drained.
    pub async fn next(&mut self) -> Option<Commit> {
        poll_fn(|context| {
            let mut is_open = false;
            // All lanes are polled before this waits, so that each of them has registered the
            // waker.
            for lane in &mut self.0 {
                match lane.poll_recv(context) {
                    Poll::Ready(Some(commit)) => return Poll::Ready(Some(commit)),
                    Poll::Ready(None) => {}
                    Poll::Pending => is_open = true,
                }
            }
            if is_open {
                Poll::Pending
            } else {
                Poll::Ready(None)
            }
        })
        .await
    }

    /// Splits this into its lanes, so that they can be drained in parallel.
    ///
    /// Each conversation belongs to one lane. If a lane is dropped, its conversations accept no
    /// more changes.
    #[must_use]
    pub fn split(self) -> Vec<Self> {
        let one = |lane| Self(vec![lane]);
        self.0.into_iter().map(one).collect()
    }
}

/// A stored change that waits to be emitted and acknowledged.
///
/// If it is dropped without [`resolve`](Self::resolve), the sender gets
/// [`StoreError::Unknown`](super::StoreError::Unknown).
#[must_use = "the sender waits until the commit is resolved"]
pub struct Commit {
    event: Committed,
    revision: Revision,
    origin: Origin,
    notified: Vec<(String, Entry)>,
    is_foreign: bool,
    answer: Box<dyn FnOnce() + Send>,
}

impl Commit {
    /// Returns what was stored.
    #[must_use]
    pub fn event(&self) -> &Committed {
        &self.event
    }

    /// Returns the revision of the conversation after the change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Creates the announcement of another server's commit, and a receiver that resolves with it.
    ///
    /// The announcement follows everything that this server had committed when it was created. With
    /// `confirm`, the sender wants to know which users receive the event here. The commit belongs
    /// to the trace of the current task.
    #[cfg(feature = "postgres")]
    pub(super) fn announced(
        event: Committed,
        revision: Revision,
        confirm: bool,
    ) -> (Self, oneshot::Receiver<()>) {
        let (done, resolved) = oneshot::channel();
        let commit = Self {
            event,
            revision,
            origin: Origin {
                confirm,
                trace: TraceContext::current(),
                ..Origin::default()
            },
            notified: Vec::new(),
            is_foreign: true,
            answer: Box::new(move || {
                let _ = done.send(());
            }),
        };
        (commit, resolved)
    }

    /// Creates the commit of a change of this server.
    pub(super) fn new(
        event: Committed,
        revision: Revision,
        origin: Origin,
        notified: Vec<(String, Entry)>,
        answer: Box<dyn FnOnce() + Send>,
    ) -> Self {
        Self {
            event,
            revision,
            origin,
            notified,
            is_foreign: false,
            answer,
        }
    }

    /// Returns whether another server committed the change.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Returns the origin of the change.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the journal entries that were stored with a message of this server to notify
    /// mentioned users.
    #[must_use]
    pub fn notified(&self) -> &[(String, Entry)] {
        &self.notified
    }

    /// Notifies the sender that its change is stored.
    pub fn resolve(self) {
        (self.answer)();
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("event", &self.event)
            .field("revision", &self.revision)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Bounded queues. All changes of a conversation use the same queue.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    queues: Box<[mpsc::Sender<T>]>,
    hasher: RandomState,
}

impl<T> Lanes<T> {
    /// Creates `count` queues that hold `capacity` items each.
    pub(super) fn new(count: usize, capacity: usize) -> (Self, Vec<mpsc::Receiver<T>>) {
        let (queues, ends): (Vec<_>, _) = (0..count.max(1))
            .map(|_| mpsc::channel(capacity.max(1)))
            .unzip();
        let lanes = Self {
            queues: queues.into(),
            hasher: RandomState::new(),
        };
        (lanes, ends)
    }

    /// Returns the queue of a conversation.
    pub(super) fn of(&self, conversation: Uuid) -> &mpsc::Sender<T> {
        // A conversation always has the same lane, which keeps its commits in order.
        let index = self.hasher.hash_one(conversation) % self.queues.len() as u64;
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "a remainder is below its divisor, and there is at least one queue"
        )]
        &self.queues[index as usize]
    }

    /// Returns whether the receiver of any queue has been dropped.
    #[cfg(feature = "sqlite")]
    pub(super) fn is_any_closed(&self) -> bool {
        self.queues.iter().any(mpsc::Sender::is_closed)
    }

    /// Returns the queues, for producers that use one queue each.
    #[cfg(feature = "postgres")]
    pub(super) fn into_queues(self) -> Box<[mpsc::Sender<T>]> {
        self.queues
    }
}

/// Creates the commit queues of `lanes` lanes that hold `capacity` commits each.
pub(super) fn commits(lanes: usize, capacity: usize) -> (Lanes<Commit>, Commits) {
    let (lanes, ends) = Lanes::new(lanes, capacity);
    (lanes, Commits(ends))
}

/// The number of emission lanes of a store with a single writer.
// Several tasks share the work of emitting to many sockets.
#[cfg(feature = "sqlite")]
pub(super) const EMISSION_LANES: usize = 4;
