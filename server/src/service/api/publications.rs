//! Events that services publish inside of their own database transactions: emits each of them once to the clients of
//! this server, in the order that all servers have.
//!
//! A page is emitted in slices. The place behind a slice is stored before the slice is emitted, and nothing is waited for while
//! it is emitted. So neither a task that was killed nor a server that goes on under its name emits anything twice, and a server
//! that is killed loses a slice at most. The database tells nobody; each
//! server looks every few milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, sleep_until};

use super::emit::{Emit, Prepared, prepare};
use crate::config;
use crate::metrics::{Counter, Gauge, Metrics, Timing};
use crate::store::{self, Audience, Publication, PublicationFault};
use roomcast::Namespace;

/// Emits publications. Cloning gives another handle.
#[derive(Clone, Debug)]
pub(crate) struct Publications(Arc<PublicationsInner>);

#[derive(Debug)]
struct PublicationsInner {
    store: store::Publications,
    /// The name under which this server goes on after a restart. Without a name the server begins at the end.
    node: Option<String>,
    settings: config::Publications,
    metrics: Arc<Metrics>,
    /// Where this server is, which outlives the task that emits. `None` until the server has begun.
    place: Mutex<Option<PublicationCursor>>,
    /// Positions of publications that are not emitted, with the reasons that are not stored yet; at most a page.
    refused: Mutex<Vec<(i64, String)>>,
    /// Whether the last look went well.
    works: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct PublicationCursor {
    /// The position of the last publication that was emitted, or left out.
    position: i64,
    /// From when on publications are emitted: the clients of a server that is back need a moment to be back as well.
    from: Instant,
}

/// What a look has found.
enum Turn {
    Nothing,
    Some,
    /// Publications, and more of them wait.
    Full,
}

impl Publications {
    /// Finds the place at which this server begins, if the store says it; [`Publications::run`] asks again otherwise.
    pub(crate) async fn open(
        store: store::Publications,
        node: Option<String>,
        settings: config::Publications,
        metrics: Arc<Metrics>,
    ) -> Self {
        let publications = Self(Arc::new(PublicationsInner {
            store,
            node,
            settings,
            metrics,
            place: Mutex::new(None),
            refused: Mutex::default(),
            works: AtomicBool::new(true),
        }));
        let begun = publications.0.begin().await;
        publications.0.note(begun.map(drop));
        publications
    }

    /// Whether publications are emitted.
    pub(crate) fn is_working(&self) -> bool {
        self.0.works.load(Ordering::Relaxed)
    }

    /// Emits publications for as long as it is polled.
    pub(crate) async fn run(self, namespace: Namespace) {
        let Self(inner) = &self;
        let mut failures = 0;
        let mut found = Instant::now();
        let mut forgot: Option<Instant> = None;
        loop {
            let turn = inner.turn(&namespace).await;
            let pause = match &turn {
                Ok(Turn::Full) => Duration::ZERO,
                Ok(Turn::Some) => {
                    found = Instant::now();
                    inner.settings.poll
                }
                // Publications come in bursts, so a server looks often for a while after one.
                Ok(Turn::Nothing) if found.elapsed() < LIVELY => inner.settings.poll,
                Ok(Turn::Nothing) => inner.settings.poll * IDLE,
                Err(PublicationFault::Denied(_)) => DENIED,
                Err(PublicationFault::Store(_)) => {
                    failures = (failures + 1).min(8);
                    // The pause doubles, since a database that is coming back must not be met by
                    // every server at once.
                    (inner.settings.poll * (1 << failures)).min(LONGEST_PAUSE)
                }
            };
            if turn.is_ok() {
                failures = 0;
                if forgot.is_none_or(|at| at.elapsed() >= FORGET) {
                    let more = inner.store.forget(inner.settings.keep, MOST).await;
                    if let Err(error) = &more {
                        tracing::debug!(%error, "old publications could not be forgotten");
                    }
                    forgot = Some(Instant::now()).filter(|_| more != Ok(true));
                }
            }
            inner.note(turn.map(drop));
            sleep(pause).await;
        }
    }
}

impl PublicationsInner {
    /// Where this server is, or begins.
    async fn begin(&self) -> Result<PublicationCursor, PublicationFault> {
        if let Some(place) = *self.place.lock() {
            return Ok(place);
        }
        let end = self.store.number().await?;
        let mut place = PublicationCursor {
            position: end,
            from: Instant::now(),
        };
        if let Some(node) = &self.node {
            let catch_up = self.settings.catch_up;
            if let Some(last) = self.store.place_of(node, catch_up).await?
                && last < end
                && !catch_up.is_zero()
            {
                place.position = last;
                place.from += self.settings.resume_delay;
                tracing::info!(
                    publications = end - last,
                    "going on with what was published while this server was away"
                );
            }
        }
        // Where nobody has published yet, nothing can be missed.
        if self.node.is_none() && end > 0 {
            tracing::warn!(
                "what is published while this server is away is not emitted: node.id is not set, by which it would go on"
            );
        }
        *self.place.lock() = Some(place);
        Ok(place)
    }

    async fn turn(&self, namespace: &Namespace) -> Result<Turn, PublicationFault> {
        let mut place = self.begin().await?;
        // The clients of a server that was restarted need a moment to be back; what is emitted
        // before reaches nobody.
        sleep_until(place.from).await;
        // Reasons that could not be stored in the turn before are stored first, so that there is
        // never more than a page of them.
        self.set_aside().await?;
        let end = self.store.number().await?;
        // A database that was restored from a backup gives places again that were given before.
        if end < place.position {
            tracing::warn!("the database has lost publications: going on at its end");
            self.move_to(end);
            place.position = end;
        }
        self.behind(end - place.position);
        if end <= place.position {
            return Ok(Turn::Nothing);
        }
        let page = self.store.after(place.position, PAGE).await?;
        let last = page.last().map_or(end, |last| last.position);
        // Where the page is empty, all up to the end was forgotten, which is noted as well.
        let slices = page.chunks(SLICE).chain(page.is_empty().then_some(&*page));
        for slice in slices {
            let through = slice.last().map_or(end, |last| last.position);
            if let Some(node) = &self.node {
                // The place is stored before the slice is emitted: after a crash in between a slice
                // is lost, and never emitted twice.
                self.store.note_place(node, through).await?;
            }
            // Nothing is awaited in here, so that a task that is dropped has emitted either nothing
            // or the whole slice.
            self.emit_all(namespace, place.position, slice, through);
            self.move_to(through);
            place.position = through;
            self.behind(end - through);
        }
        self.set_aside().await?;
        Ok(if last < end { Turn::Full } else { Turn::Some })
    }

    /// Stores why publications are not emitted.
    async fn set_aside(&self) -> Result<(), PublicationFault> {
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
        if let Some(place) = &mut *self.place.lock() {
            place.position = position;
        }
    }

    /// Emits a slice, which is all that there is from behind `last` to `through`, and notes what cannot be emitted and why.
    fn emit_all(&self, namespace: &Namespace, mut last: i64, page: &[Publication], through: i64) {
        let mut lost = 0;
        for publication in page {
            // Positions have no gaps when they are given, so a gap is what was forgotten meanwhile.
            lost += publication.position - last - 1;
            last = publication.position;
            // The position is noted before the event is emitted: a panic must not have the event emitted again.
            self.move_to(last);
            if publication.is_refused {
                self.metrics.count(Counter::PublicationsRefused);
                continue;
            }
            match emit(namespace, publication) {
                Ok(()) => {
                    self.metrics.count(Counter::PublicationsEmitted);
                    self.metrics.time(Timing::Publication, publication.age);
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
        // Where the slice is empty, all of them were forgotten.
        lost += through - last;
        if lost > 0 {
            self.metrics
                .add(Counter::PublicationsLost, lost.unsigned_abs());
            roomcast::throttled_log!(
                warn,
                lost,
                "publications were forgotten before this server had emitted them"
            );
        }
    }

    fn behind(&self, count: i64) {
        let change = count - self.metrics.gauge(Gauge::PublicationsBehind);
        self.metrics.shift(Gauge::PublicationsBehind, change);
    }

    /// Notes whether a look went well, and logs a change.
    fn note(&self, looked: Result<(), PublicationFault>) {
        let works = looked.is_ok();
        if self.works.swap(works, Ordering::Relaxed) == works {
            return;
        }
        match looked {
            Ok(()) => tracing::info!("publications are emitted again"),
            Err(PublicationFault::Denied(reason)) => tracing::error!(
                reason,
                "publications are not emitted: the database does not let this server read them"
            ),
            Err(PublicationFault::Store(error)) => {
                tracing::warn!(%error, "publications are not emitted at the moment");
            }
        }
    }
}

/// Emits a publication to the clients of this server, or says why that cannot be done.
#[expect(
    clippy::disallowed_methods,
    reason = "an event of an application, which has no row here"
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
    }
    if let Some(payload) = &publication.payload {
        let payload = RawValue::from_string(payload.clone());
        event.args.push(payload.map_err(|error| error.to_string())?);
    }
    let Prepared { args, rooms } = prepare(&event).map_err(|error| error.to_string())?;
    let to = if rooms.is_empty() {
        namespace.local()
    } else {
        namespace.local().to(rooms)
    };
    let emitted = to.emit(&event.event, args);
    emitted.error.map_or(Ok(()), |error| Err(error.to_string()))
}

/// Publications that are read at once.
const PAGE: usize = 256;
/// Publications that a server which is killed may lose at most: its place is stored before each slice of so many. That takes no
/// more time than reading them as long as a slice is not much shorter.
const SLICE: usize = 32;
/// How long a server looks often behind the last publication.
const LIVELY: Duration = Duration::from_secs(5);
/// How many times less often a server looks after [`LIVELY`].
const IDLE: u32 = 10;
/// How often a server that may not read publications looks whether it may by now.
const DENIED: Duration = Duration::from_secs(10);
/// The longest pause between two looks while the store does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// How often what is old is forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// How many publications are kept, roughly.
const MOST: i64 = 100_000;
