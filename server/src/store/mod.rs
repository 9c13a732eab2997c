//! Stores conversations and messages.
//!
//! [`Store`] is one of a closed set of backends with the same behaviour; one test suite verifies
//! them all. Its methods are named after what the services need. Writes go through a lane, which
//! stores them in order and passes each stored message to the emitter through [`Commits`]. Reads
//! bypass the lane and see committed data.
//!
//! Services check permissions, but this module decides on membership, in the same transaction as
//! the change that depends on it. An unknown conversation and one of other users look alike.

#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    allow(
        clippy::unused_async,
        dead_code,
        unreachable_code,
        unused_imports,
        unused_variables,
        reason = "a build without a database stores nothing"
    )
)]

/// Calls a method on the backend of a store. Defined before the modules, because they use it too.
macro_rules! each {
    ($store:expr, $backend:ident => $call:expr) => {
        match $store.backend {
            #[cfg(feature = "postgres")]
            Backend::Postgres(ref $backend) => $call,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(ref $backend) => $call,
        }
    };
}

mod change;
mod error;
mod in_progress;
mod lane;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrate;
mod opening;
mod page;
#[cfg(feature = "postgres")]
mod postgres;
mod shared;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod time;
mod write;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast::internal::while_awake;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::metrics::trace::{SpanKind, Spans};
use crate::metrics::{Counter, Metrics, Timing};

pub use change::{
    Actor, Annotate, Annotated, Annotation, Attempt, Authorship, Change, ClaimedDelivery,
    Committed, Conversation, ConversationSummary, Cursor, Delete, DeleteConversation,
    DeletedConversation, Delivery, ERASED_NAME, ERASED_USER, Edit, EraseAuthor, Extension, Finish,
    IDLE_MARGIN, Insert, InvalidCursor, Invite, KeyState, LastMessage, Level, List,
    ListedConversation, Login, MAX_UNREAD_COUNT, MarkRead, MemberChange, Membership, Message,
    MessageKind, NewConversation, NewMessage, NewStatus, Notice, OpenStream, Opening, Pin, Pinned,
    Quote, Reaction, ReactionChange, ReadMark, Rename, Revision, Revocation, STREAMS_READ, Search,
    Status, StoredResponse, StoredStream, StreamHolder, StreamPlace, Unpinned, UserDataPage,
    UserDataPlace, UserRecord, UserStatus, Version, words,
};
pub use error::{OpenError, StoreError};
pub use lane::{Commit, Commits};
pub use page::{Messages, PAGE_BYTES, Page};
pub use shared::{
    Amend, Append, Appended, Audience, AuditEntry, AuditQuery, Changed, ChannelPublication,
    Current, Entry, Feed, FeedMark, FeedPage, IfOpen, JournalSize, JournalSweep, JournalView,
    Leases, MeasuredPart, Missed, PresenceEntry, Publication, PublicationFault, Publications,
    Quota, Replace, Stretch, WITHDRAWAL,
};
pub(crate) use shared::{MAX_RECENT_CHANGES, MAX_REMOVED_CHANGES, NUMBERING_BATCH, RecentChange};
pub use time::Time;
pub(crate) use time::{TIME_PATTERN, WRITTEN_TIME, is_rfc3339};
pub use write::Origin;

#[cfg(feature = "sqlite")]
use self::opening::TemporaryFolder;
pub use self::opening::{
    ClusterSecrets, CopyError, CopyProgress, DatabaseCopy, Examination, FormerDatabase, Reservation,
};
use self::write::{Operation, Request, Write};

/// A store of conversations and messages. Cloning gives another handle to the same store.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    /// The time that a caller waits for an answer.
    patience: Duration,
    /// Notified when this server has written something that appears in the feed.
    fed: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// The folder of the database, if it ends with this store.
    #[cfg(feature = "sqlite")]
    temporary: Option<Arc<TemporaryFolder>>,
}

/// How busy a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreUsage {
    /// Read connections that run a query.
    pub(crate) connections: usize,
    pub(crate) max_connections: usize,
    /// Reads that wait for a connection.
    pub(crate) waiting_reads: usize,
    /// Changes that wait to be stored.
    pub(crate) changes: usize,
    pub(crate) max_changes: usize,
}

/// The space that a store uses and has left, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreSpace {
    pub(crate) used: u64,
    /// The maximum of `store.max_bytes`.
    pub(crate) max: Option<u64>,
    /// The free bytes of the file system. `None` if they cannot be read.
    pub(crate) disk_free: Option<u64>,
}

#[derive(Clone, Debug)]
enum Backend {
    #[cfg(feature = "postgres")]
    Postgres(postgres::Postgres),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Sqlite),
}

impl Store {
    async fn submit<O: Operation>(
        &self,
        operation: O,
        conversation_id: Uuid,
        origin: Origin,
        write: fn(Request<O>) -> Write,
    ) -> Result<O::Outcome, StoreError> {
        let (request, answer) = Request::new(operation, conversation_id, origin);
        let write = write(request);
        let timing = write.timing();
        // The change is submitted before the first await: a caller that is dropped from here on
        // loses the answer, but the change is stored.
        let submitted = each!(self, backend => backend.submit(write));
        let answer = match submitted {
            Ok(()) => self.timed_answer(timing, answer.wait()).await,
            Err(error) => Err(error),
        };
        // Each refused change counts, even if several were in one transaction. A timeout has been
        // counted already.
        answer.inspect_err(|error| {
            if *error != StoreError::TimedOut {
                self.metrics.count(Counter::StoreErrors);
            }
        })
    }

    /// Returns the answer of a query, or an error after the maximum time.
    async fn with_answer_timeout<T: Send>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.timed_answer(Timing::StoreQuery, answer).await
    }

    /// Returns the name of the database system, as OpenTelemetry defines it.
    fn system(&self) -> &'static str {
        match self.backend {
            #[cfg(feature = "postgres")]
            Backend::Postgres(_) => "postgresql",
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(_) => "sqlite",
        }
    }

    /// Returns an answer, or an error after the maximum time. Measures how long that takes.
    ///
    /// A stuck database then still holds the changes, but their senders no longer wait.
    async fn timed_answer<T: Send>(
        &self,
        timing: Timing,
        answer: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut value = None;
        {
            let stored = pin!(async {
                value = Some(answer.await?);
                Ok(())
            });
            self.timed(timing, stored).await?;
        }
        value.ok_or(StoreError::Failed)
    }

    /// The part of [`timed_answer`](Self::timed_answer) that does not depend on the answer, so that
    /// it is compiled once.
    async fn timed(
        &self,
        timing: Timing,
        answer: std::pin::Pin<&mut (dyn Future<Output = Result<(), StoreError>> + Send)>,
    ) -> Result<(), StoreError> {
        let begin = Instant::now();
        let span =
            Spans::start_in_task(SpanKind::Client, || format!("store {}", timing.operation()));
        let answer = while_awake(self.patience, answer).await;
        self.metrics.time(timing, begin.elapsed());
        // A timeout undoes nothing: the change may still be stored, and is emitted then.
        let answer = answer.unwrap_or_else(|| {
            self.metrics.count(Counter::StoreErrors);
            Err(StoreError::TimedOut)
        });
        if let Some(mut span) = span {
            span.set("db.system.name", self.system());
            span.set("db.operation.name", timing.operation());
            match &answer {
                Ok(_) => span.end(),
                Err(StoreError::TimedOut) => span.fail("timed out"),
                Err(_) => span.fail("the store refused it or failed"),
            }
        }
        answer
    }

    /// Waits until this server writes something that appears in the [feed](Self::feed), since the
    /// last call. Supports a single waiter.
    pub async fn fed(&self) {
        self.fed.notified().await;
    }

    async fn then_notify_feed<T>(
        &self,
        writing: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // The reader of the feed is woken after the commit; before it, there would be nothing new
        // to read.
        let written = writing.await?;
        self.fed.notify_one();
        Ok(written)
    }

    /// Returns how busy the connections and the queue are.
    pub(crate) fn usage(&self) -> StoreUsage {
        each!(self, backend => backend.usage())
    }

    /// Returns the space of the database. `None` for PostgreSQL, whose disk may belong to another
    /// machine.
    pub(crate) fn space(&self) -> Option<StoreSpace> {
        match self.backend {
            #[cfg(feature = "postgres")]
            Backend::Postgres(_) => None,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(ref backend) => Some(backend.space()),
        }
    }

    /// Returns whether changes are stored: the last change did not fail, and none takes too long.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        each!(self, backend => backend.is_healthy())
    }

    /// Stores the queued changes, accepts no more, and returns when the store is closed.
    ///
    /// The caller must keep draining the commits while this runs.
    pub async fn close(&self) {
        each!(self, backend => backend.close().await);
        #[cfg(feature = "sqlite")]
        if let Some(folder) = &self.temporary {
            folder.remove();
        }
    }
}
