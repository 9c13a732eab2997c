//! Emits events that services publish within their own database transactions.
//!
//! Each server emits each event once to its own clients, in an order that all servers share.
//!
//! A page is emitted in slices. The position after a slice is stored before the slice is emitted,
//! and the emission does not await anything. So neither a killed task nor a restarted server with
//! the same node id emits an event twice. A killed server loses at most one slice. The database
//! sends no notifications. A [`PublicationReader`] polls it every few milliseconds.
//!
//! Servers number the publications, under a lock that publishers do not take. Publishers would take
//! numbers before their commit. Readers would then need a snapshot as their position, so servers
//! that read at different moments would have different orders. Or publishers would hold a lock
//! until their commit, and wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use super::emit::{CheckedEvent, Emit, prepare};
use crate::config;
use crate::metrics::{Counter, Gauge, Metrics};
use crate::service::channels::Channels;
use crate::service::feed::follower::{Failure, Followed, Intervals, Progress};
use crate::store::{self, Audience, Publication, PublicationFault};
use roomcast::Namespace;

/// Emits publications. Clones share its state.
#[derive(Clone)]
pub(crate) struct Publications(Arc<PublicationsInner>);

struct PublicationsInner {
    store: store::Publications,
    /// The node id under which this server continues after a restart. Without one it starts at the
    /// end.
    node: Option<String>,
    settings: config::Publications,
    metrics: Arc<Metrics>,
    /// The position of this server, which outlives the emitting task. `None` until it is
    /// determined.
    cursor: Mutex<Option<PublicationCursor>>,
    /// The positions of rejected publications with the reasons that are not stored yet. At most one
    /// page.
    refused: Mutex<Vec<(i64, String)>>,
    /// Whether the last poll succeeded.
    works: AtomicBool,
    channels: Channels,
    /// The position up to which events for channels were stored. They do not depend on the position
    /// of this server, so that none is lost.
    stored: AtomicI64,
}

#[derive(Clone, Copy, Debug)]
struct PublicationCursor {
    /// The position of the last publication that was emitted or skipped.
    position: i64,
    /// When emitting starts: after a restart, clients need a moment to reconnect.
    from: Instant,
    /// When the position was last stored, for a server that continues after a restart.
    stored_at: Option<Instant>,
}

/// Follows the publications.
pub(crate) struct PublicationReader {
    inner: Arc<PublicationsInner>,
    namespace: Namespace,
}

impl Followed for PublicationReader {
    async fn advance(&mut self) -> Result<Progress, Failure> {
        let result = self.inner.advance(&self.namespace).await;
        self.inner.note(result.as_ref().map(drop));
        Ok(result?)
    }

    fn intervals(&self) -> Intervals {
        let poll = self.inner.settings.poll;
        Intervals {
            idle: poll * IDLE_FACTOR,
            ..Intervals::every(poll)
        }
    }

    async fn clean(&mut self) -> Result<bool, Failure> {
        let store = &self.inner.store;
        let retention = self.inner.settings.retention;
        Ok(store.forget(retention, MAX_PUBLICATIONS).await?)
    }
}

impl Publications {
    /// Determines the starting position of this server. If the store fails, the reader tries
    /// again.
    pub(crate) async fn open(
        store: store::Publications,
        node: Option<String>,
        settings: config::Publications,
        channels: Channels,
        metrics: Arc<Metrics>,
    ) -> Self {
        let publications = Self(Arc::new(PublicationsInner {
            store,
            node,
            settings,
            metrics,
            cursor: Mutex::new(None),
            refused: Mutex::default(),
            works: AtomicBool::new(true),
            channels,
            stored: AtomicI64::new(-1),
        }));
        let begun = publications.0.begin().await;
        publications.0.note(begun.as_ref().map(drop));
        publications
    }

    /// Returns whether publications are emitted.
    pub(crate) fn is_working(&self) -> bool {
        self.0.works.load(Ordering::Relaxed)
    }

    /// Returns a reader that emits publications. Readers share their position.
    pub(crate) fn reader(&self, namespace: Namespace) -> PublicationReader {
        PublicationReader {
            inner: Arc::clone(&self.0),
            namespace,
        }
    }
}

impl PublicationsInner {
    /// Returns the position of this server, after determining it if necessary.
    async fn begin(&self) -> Result<PublicationCursor, PublicationFault> {
        if let Some(cursor) = *self.cursor.lock() {
            return Ok(cursor);
        }
        let end = self.last_position().await?;
        let mut cursor = PublicationCursor {
            position: end,
            from: Instant::now(),
            stored_at: None,
        };
        if let Some(node) = &self.node {
            let catch_up = self.settings.catch_up;
            if let Some(last) = self.store.place_of(node, catch_up).await?
                && last < end
                && !catch_up.is_zero()
            {
                cursor.position = last;
                cursor.from += self.settings.resume_delay;
                tracing::info!(
                    publications = end - last,
                    "resuming with publications made while this server was down"
                );
            }
        }
        // Before the first publication ever, nothing can be missed.
        if self.node.is_none() && end > 0 {
            tracing::warn!(
                "publications made while this server is down will not be emitted: set node.id to resume after a restart"
            );
        }
        *self.cursor.lock() = Some(cursor);
        Ok(cursor)
    }

    /// Numbers all committed publications, which may take several calls if no server has run for a
    /// while. Returns the last position.
    async fn last_position(&self) -> Result<i64, PublicationFault> {
        let mut last = self.store.number().await?;
        loop {
            let next = self.store.number().await?;
            // A call that numbers a whole batch may have left some.
            if next - last < i64::from(store::NUMBERING_BATCH) {
                return Ok(next);
            }
            last = next;
        }
    }

    /// Stores the position of this server, if it has a node id.
    async fn store_position(&self, position: i64) -> Result<(), PublicationFault> {
        if let Some(node) = &self.node {
            self.store.note_place(node, position).await?;
            if let Some(cursor) = &mut *self.cursor.lock() {
                cursor.stored_at = Some(Instant::now());
            }
        }
        Ok(())
    }

    async fn advance(&self, namespace: &Namespace) -> Result<Progress, PublicationFault> {
        let mut cursor = self.begin().await?;
        // After a restart, clients need a moment to reconnect. Earlier emissions would reach no
        // client.
        sleep_until(cursor.from).await;
        // Reasons left from the previous iteration are stored first, so that there is never more
        // than a page of them.
        self.store_refusals().await?;
        let end = self.store.number().await?;
        // A database restored from a backup assigns positions again.
        if end < cursor.position {
            tracing::warn!("the database lost publications, continuing at its last position");
            self.move_to(end);
            cursor.position = end;
        }
        let stored = self.stored.load(Ordering::Relaxed);
        // A page at a time, so that other publications do not wait for all events of channels.
        let is_behind = stored != end && self.store_channel_events(namespace).await?;
        if !is_behind {
            self.stored.store(end, Ordering::Relaxed);
        }
        self.set_pending(end - cursor.position);
        if end <= cursor.position {
            // The position of a server that emits nothing is also needed after its restart, and the
            // store removes those that are a day old.
            let is_due = |at: Instant| at.elapsed() >= STORED_POSITION_AGE;
            if cursor.stored_at.is_none_or(is_due) {
                self.store_position(cursor.position).await?;
            }
            return Ok(if is_behind {
                Progress::More
            } else {
                Progress::Done { changed: false }
            });
        }
        let page = self.store.after(cursor.position, PAGE).await?;
        let last = page.last().map_or(end, |last| last.position);
        // If the page is empty, everything up to the end was deleted, which is recorded as well.
        let slices = page.chunks(SLICE).chain(page.is_empty().then_some(&*page));
        for slice in slices {
            let through = slice.last().map_or(end, |last| last.position);
            // The position is stored before the slice is emitted. After a crash in between, a slice
            // is lost but never emitted twice.
            self.store_position(through).await?;
            // Nothing is awaited here, so a dropped task has emitted either nothing or the whole
            // slice.
            self.emit_all(namespace, cursor.position, slice, through);
            self.move_to(through);
            cursor.position = through;
            self.set_pending(end - through);
        }
        self.store_refusals().await?;
        Ok(if last < end || is_behind {
            Progress::More
        } else {
            Progress::Done { changed: true }
        })
    }

    /// Adds a page of publications for channels to their channels. Returns whether there may be more.
    /// Another server may do so at the same time: an event that is there stays as it is.
    async fn store_channel_events(&self, namespace: &Namespace) -> Result<bool, PublicationFault> {
        let page = self.store.not_stored(PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(false);
        };
        let (through, count) = (last.position, page.len());
        let refused = self.channels.publish_rows(page, namespace).await?;
        let stored = count.saturating_sub(refused.len());
        self.metrics
            .add(Counter::PublicationsEmitted, stored as u64);
        for (position, reason) in refused {
            self.metrics.count(Counter::PublicationsRefused);
            roomcast::throttled_log!(warn, position, reason, "a publication is set aside");
            self.store.refuse(position, &reason).await?;
        }
        self.store.note_stored(through).await?;
        Ok(count == PAGE)
    }

    /// Stores why publications were rejected.
    async fn store_refusals(&self) -> Result<(), PublicationFault> {
        loop {
            let next = self.refused.lock().last().cloned();
            let Some((position, reason)) = next else {
                return Ok(());
            };
            self.store.refuse(position, &reason).await?;
            self.refused.lock().pop();
        }
    }

    fn move_to(&self, position: i64) {
        if let Some(cursor) = &mut *self.cursor.lock() {
            cursor.position = position;
        }
    }

    /// Emits a slice, which has all publications after `last` up to `through`, and records rejected
    /// publications.
    fn emit_all(&self, namespace: &Namespace, mut last: i64, page: &[Publication], through: i64) {
        let mut lost = 0;
        for publication in page {
            // Positions are assigned without gaps, so a gap was deleted in the meantime.
            lost += publication.position - last - 1;
            last = publication.position;
            // The position is recorded before the event is emitted: after a panic the event must
            // not be emitted again.
            self.move_to(last);
            if publication.audience == Audience::Channel {
                continue;
            }
            if publication.is_refused {
                self.metrics.count(Counter::PublicationsRefused);
                continue;
            }
            match emit(namespace, publication) {
                Ok(()) => {
                    self.metrics.count(Counter::PublicationsEmitted);
                }
                Err(reason) => {
                    self.metrics.count(Counter::PublicationsRefused);
                    roomcast::throttled_log!(
                        warn,
                        position = publication.position,
                        reason,
                        "a publication is set aside"
                    );
                    self.refused.lock().push((publication.position, reason));
                }
            }
        }
        // If the slice is empty, all its publications were deleted.
        lost += through - last;
        if lost > 0 {
            self.metrics
                .add(Counter::PublicationsLost, lost.unsigned_abs());
            roomcast::throttled_log!(
                warn,
                lost,
                "publications were deleted before this server emitted them"
            );
        }
    }

    fn set_pending(&self, count: i64) {
        let change = count - self.metrics.gauge(Gauge::PublicationsPending);
        self.metrics.shift(Gauge::PublicationsPending, change);
    }

    /// Records whether a poll succeeded, and logs changes.
    fn note(&self, result: Result<(), &PublicationFault>) {
        let works = result.is_ok();
        if self.works.swap(works, Ordering::Relaxed) == works {
            return;
        }
        match result {
            Ok(()) => tracing::info!("publications are emitted again"),
            Err(PublicationFault::Denied(reason)) => tracing::error!(
                reason,
                "publications are not emitted: the database denies this server read access"
            ),
            Err(PublicationFault::Store(error)) => {
                tracing::warn!(%error, "could not read publications, retrying");
            }
        }
    }
}

/// Emits a publication to the clients of this server. Returns the reason if it is invalid.
#[expect(
    clippy::disallowed_methods,
    reason = "an event of an application has no row here"
)]
fn emit(namespace: &Namespace, publication: &Publication) -> Result<(), String> {
    let mut event = Emit {
        event: publication.event.clone(),
        ..Emit::default()
    };
    match &publication.audience {
        Audience::Room(room) => event.rooms.push(room.clone()),
        Audience::User(user) => event.users.push(user.clone()),
        Audience::Everyone => event.everyone = true,
        Audience::Channel => return Ok(()),
    }
    if let Some(payload) = &publication.payload {
        let payload = RawValue::from_string(payload.clone());
        event.args.push(payload.map_err(|error| error.to_string())?);
    }
    let CheckedEvent { args, rooms } = prepare(&event).map_err(|error| error.to_string())?;
    let to = if rooms.is_empty() {
        namespace.local()
    } else {
        namespace.local().to(rooms)
    };
    let emitted = to.emit(&event.event, args);
    emitted.error.map_or(Ok(()), |error| Err(error.to_string()))
}

/// The number of publications per query.
const PAGE: usize = 256;
/// The maximum number of publications that a killed server loses: its position is stored before
/// each slice.
///
/// While slices are not much shorter than this, that takes no more time than reading them.
const SLICE: usize = 32;
/// The age at which an unchanged position is stored again.
const STORED_POSITION_AGE: Duration = Duration::from_secs(3600);
/// The factor by which polling slows down some time after the last publication.
const IDLE_FACTOR: u32 = 10;
/// The approximate maximum number of publications retained.
const MAX_PUBLICATIONS: i64 = 100_000;
