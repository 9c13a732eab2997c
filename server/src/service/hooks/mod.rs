//! Webhooks: notify a service of events over HTTP.
//!
//! Events are held in memory for a moment and then stored together as one delivery. Any server of
//! the store takes a stored delivery and sends it, repeatedly until it is accepted or too old. This
//! module must not know what an event means.
//!
//! Receivers may be down, and sources must not wait for them. A delivery that is stored survives a
//! restart.

mod delivering;
mod shares;
mod signature;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use uuid::Uuid;

use crate::auth::outbound::{Outbound, OutboundFault, Target};
use crate::breaker::Breaker;
use crate::config;
use crate::metrics::trace::{OpenSpan, SpanKind, Spans, TraceContext};
use crate::metrics::{Counter, Inventoried, Inventory, Metrics};
use crate::service::rules::admin::emissions::ALERT_EVENT;
use crate::service::rules::policy;
use crate::store::{Delivery, Store, StoreError, Time};
use roomcast::internal::LogThrottle;
pub(crate) use shares::Source;
use shares::SourceShares;
pub(in crate::service) use signature::Signer;

/// The webhooks, if configured. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Option<Arc<HooksInner>>);

struct HooksInner {
    config: config::Webhooks,
    store: Store,
    metrics: Arc<Metrics>,
    /// Records the deliveries of sampled events.
    spans: Spans,
    outbound: Outbound,
    breaker: Breaker,
    signer: RwLock<Signer>,
    log_throttle: LogThrottle,
    /// The name of this server in its cluster.
    node: OnceLock<String>,
    /// Events that are not stored yet.
    waiting: Mutex<Waiting>,
    happened: Notify,
    /// One permit, for storing the waiting events.
    storing: Semaphore,
    /// The bytes that each source has stored since the store's queue was last half full.
    crowd: Mutex<SourceShares>,
    stored: Notify,
    /// One permit, for the task that polls for a due delivery.
    polling: Semaphore,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<WaitingEvent>,
    bytes: usize,
    /// The size of the events of each source, in bytes.
    shares: SourceShares,
}

/// An event that waits to be stored.
struct WaitingEvent {
    text: String,
    /// The user or address that caused it.
    source: Source,
}

/// A delivery with one event, as [`HooksInner::next`] writes several.
#[derive(Serialize)]
struct DirectDelivery<'a, T> {
    id: Uuid,
    node: Option<&'a String>,
    events: [WebhookEvent<'a, T>; 1],
}

/// The content of one event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookEvent<'a, T> {
    /// The id of the event, which is the same in all deliveries.
    id: Uuid,
    event: &'a str,
    timestamp: Time,
    /// The trace of the event that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceContext>,
    data: T,
}

/// The text of an event, limited to [`MAX_EVENT_BYTES`].
#[derive(Default)]
struct Text(Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.0.len() + part.len() > MAX_EVENT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Hooks {
    /// # Errors
    ///
    /// If the configured URL is invalid, or an event cannot be sent.
    pub(crate) fn new(
        config: &config::Webhooks,
        store: Store,
        metrics: Arc<Metrics>,
        spans: Spans,
    ) -> Result<Self, OutboundFault> {
        let Some(outbound) = check(config)? else {
            return Ok(Self(None));
        };
        Ok(Self(Some(Arc::new(HooksInner {
            outbound,
            store,
            metrics,
            spans,
            breaker: Breaker::new("the receiver of webhooks"),
            signer: RwLock::new(signer(config)),
            config: config.clone(),
            log_throttle: LogThrottle::new(LOG_LINES),
            node: OnceLock::new(),
            waiting: Mutex::default(),
            happened: Notify::new(),
            storing: Semaphore::new(1),
            crowd: Mutex::default(),
            stored: Notify::new(),
            polling: Semaphore::new(1),
        }))))
    }

    /// Checks the configuration of webhooks.
    ///
    /// # Errors
    ///
    /// If the configured URL is invalid, or an event cannot be sent.
    pub(crate) fn check(config: &config::Webhooks) -> Result<(), OutboundFault> {
        check(config).map(drop)
    }

    /// Replaces the secrets that sign deliveries. Deliveries that wait are signed with the new
    /// ones.
    pub(crate) fn replace_secrets(&self, config: &config::Webhooks) {
        if let Some(inner) = &self.0 {
            *inner.signer.write() = signer(config);
        }
    }

    /// Returns whether webhooks are configured.
    pub(crate) fn is_configured(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether an event is sent.
    pub(crate) fn includes(&self, event: &str) -> bool {
        let inner = self.0.as_ref();
        inner.is_some_and(|inner| {
            inner
                .config
                .events
                .iter()
                .any(|configured| configured == event)
        })
    }

    /// Returns whether it is reported when a room gets its first member here and loses its last.
    pub(crate) fn includes_room(&self, room: &str) -> bool {
        let Some(inner) = &self.0 else { return false };
        inner
            .config
            .rooms
            .iter()
            .any(|configured| match configured.strip_suffix('*') {
                Some(beginning) => room.starts_with(beginning),
                None => room == configured,
            })
    }

    /// Enqueues an event with the user or address that caused it.
    ///
    /// The event is dropped if it is not configured, or if the queue or the share of its source is
    /// full. `data` is then not called.
    pub(crate) fn enqueue<T: Serialize>(
        &self,
        event: &str,
        source: Source,
        data: impl FnOnce() -> T,
    ) {
        if self.includes(event) {
            self.enqueue_chosen(event, source, data);
        }
    }

    /// Enqueues an event that was chosen elsewhere than in `webhooks.events`, like
    /// [`enqueue`](Self::enqueue).
    pub(crate) fn enqueue_chosen<T: Serialize>(
        &self,
        event: &str,
        source: Source,
        data: impl FnOnce() -> T,
    ) {
        let Some(inner) = &self.0 else { return };
        // Callers never wait for a webhook, so an event that finds no room is dropped and counted.
        let (bytes, own) = {
            let waiting = inner.waiting.lock();
            (waiting.bytes, waiting.shares.of(&source))
        };
        if own + MAX_EVENT_BYTES > MAX_SOURCE_BYTES {
            inner.count_dropped(Counter::WebhookEventsOverShare, 1, OVER_SHARE);
            return;
        }
        if bytes + MAX_EVENT_BYTES > MAX_WAITING_BYTES {
            let why = "the store's queue is full";
            inner.count_dropped(Counter::WebhookEventsDropped, 1, why);
            return;
        }
        // The delivery continues this span, on whichever server.
        let span = Spans::start_in_task(SpanKind::Producer, || format!("webhook {event}"));
        let context = span.as_ref().and_then(OpenSpan::context);
        let row = WebhookEvent {
            // The id is created before anything is stored, so that an event has the same id in
            // every delivery.
            id: Uuid::now_v7(),
            event,
            timestamp: Time::now(),
            traceparent: context.or_else(|| TraceContext::current().map(TraceContext::child)),
            data: data(),
        };
        let mut text = Text::default();
        let written = serde_json::to_writer(&mut text, &row);
        let text = String::from_utf8(text.0);
        let (Ok(()), Ok(text)) = (written, text) else {
            inner.count_dropped(Counter::WebhookEventsTooLarge, 1, "it is too large");
            if let Some(span) = span {
                span.fail("too large");
            }
            return;
        };
        if let Some(span) = span {
            span.end();
        }
        let mut waiting = inner.waiting.lock();
        waiting.bytes += text.len();
        waiting.shares.add(&source, text.len());
        waiting.events.push_back(WaitingEvent { text, source });
        drop(waiting);
        inner.happened.notify_one();
    }

    /// Delivers an event without the store, in which the event is not queued. Repeats the delivery
    /// for about ten minutes until it is accepted.
    pub(crate) async fn send_now<T: Serialize>(&self, event: &str, data: T) {
        let Some(inner) = &self.0 else { return };
        let (id, created_at) = (Uuid::now_v7(), Time::now());
        let event = WebhookEvent {
            id: Uuid::now_v7(),
            event,
            timestamp: created_at,
            traceparent: None,
            data,
        };
        let body = serde_json::to_string(&DirectDelivery {
            id,
            node: inner.node.get(),
            events: [event],
        });
        if let Ok(body) = body {
            let delivery = Delivery {
                id,
                body,
                created_at,
            };
            inner.deliver_now(delivery).await;
        }
    }

    /// Stores and delivers events for as long as it is polled. `node` is the name of this server.
    pub(crate) async fn run(self, node: String) {
        let Some(inner) = &self.0 else {
            return std::future::pending().await;
        };
        let _ = inner.node.set(node);
        let storing = async {
            loop {
                inner.store_all().await;
                inner.happened.notified().await;
            }
        };
        let senders = (0..inner.config.concurrent).map(|_| inner.deliver());
        tokio::join!(storing, join_all(senders));
    }

    /// Stores the waiting events at shutdown, within a timeout of five seconds.
    pub(crate) async fn close(&self) {
        if let Some(inner) = &self.0 {
            let _ = timeout(SHUTDOWN_TIMEOUT, inner.store_all()).await;
        }
    }
}

impl HooksInner {
    async fn store_all(&self) {
        let _storing = self.storing.acquire().await;
        let most = self.config.queue;
        while let Some(batch) = self.next(|_| true) {
            // Above this number, each source is limited to its share of the rest.
            let Some(is_stored) = self.insert(&batch, most.div_ceil(2)).await else {
                return;
            };
            if is_stored {
                self.crowd.lock().clear();
                self.stored(&batch);
                continue;
            }
            let share = (most / SOURCES).max(1);
            let mut crowd = std::mem::take(&mut *self.crowd.lock());
            let allowed = self.next(|event| crowd.take(&event.source, share));
            *self.crowd.lock() = crowd;
            let Some(allowed) = allowed else {
                return;
            };
            if allowed.left_out > 0 {
                let (counter, left_out) = (Counter::WebhookEventsOverShare, allowed.left_out);
                self.count_dropped(counter, left_out, OVER_SHARE);
            }
            if allowed.is_empty() {
                self.remove(allowed.events);
                continue;
            }
            match self.insert(&allowed, most).await {
                Some(true) => self.stored(&allowed),
                Some(false) => {
                    self.remove(allowed.events);
                    let why = "too many deliveries wait (webhooks.queue)";
                    let dropped = allowed.events - allowed.left_out;
                    self.count_dropped(Counter::WebhookEventsDropped, dropped, why);
                }
                None => return,
            }
        }
    }

    /// Stores a delivery unless `most` are stored already. Returns `None` if the store is closed.
    async fn insert(&self, batch: &Batch, most: usize) -> Option<bool> {
        loop {
            let delivery = batch.delivery.clone();
            match self.store.insert_delivery(delivery, most).await {
                Ok(is_stored) => return Some(is_stored),
                Err(StoreError::Closed) => return None,
                // If the delivery was stored in spite of the error, it is stored again under the
                // same id. Until then, the events stay in memory, and callers drop events above the
                // limit.
                Err(error) => tokio::time::sleep(error.retry_after()).await,
            }
        }
    }

    /// Counts stored events and triggers their delivery.
    fn stored(&self, batch: &Batch) {
        self.remove(batch.events);
        let events = (batch.events - batch.left_out) as u64;
        self.metrics.add(Counter::WebhookEventsQueued, events);
        self.stored.notify_one();
    }

    /// Removes the first waiting events. This happens after the commit, so a task that ends in
    /// between loses none.
    fn remove(&self, events: usize) {
        let mut waiting = self.waiting.lock();
        let removed: Vec<_> = waiting.events.drain(..events).collect();
        for event in &removed {
            waiting.bytes -= event.text.len();
            waiting.shares.remove(&event.source, event.text.len());
        }
    }

    /// Returns the waiting events as one delivery, without those that are not `allowed`.
    ///
    /// They stay in the queue until the delivery is stored, since the storing task may end before
    /// that.
    fn next(&self, mut allowed: impl FnMut(&WaitingEvent) -> bool) -> Option<Batch> {
        let waiting = self.waiting.lock();
        let mut texts = Vec::new();
        let (mut bytes, mut events) = (0, 0);
        for event in waiting.events.iter().take(self.config.batch) {
            if events > 0 && bytes + event.text.len() > MAX_BODY_BYTES {
                break;
            }
            bytes += event.text.len();
            events += 1;
            if allowed(event) {
                texts.push(event.text.as_str());
            }
        }
        if events == 0 {
            return None;
        }
        let id = Uuid::now_v7();
        let node = serde_json::json!(self.node.get());
        let body = format!(
            r#"{{"id":"{id}","node":{node},"events":[{}]}}"#,
            texts.join(",")
        );
        let created_at = Time::now();
        Some(Batch {
            delivery: Delivery {
                id,
                body,
                created_at,
            },
            events,
            left_out: events - texts.len(),
        })
    }

    /// Counts events that are never sent.
    fn count_dropped(&self, counter: Counter, events: usize, why: &str) {
        self.metrics.add(counter, events as u64);
        if let Some(more) = self.log_throttle.permit() {
            tracing::warn!(events, why, more, "dropped webhook events");
        }
    }
}

/// The first waiting events as one delivery.
struct Batch {
    delivery: Delivery,
    events: usize,
    /// The number of these events that are not in the delivery.
    left_out: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.left_out == self.events
    }
}

fn signer(config: &config::Webhooks) -> Signer {
    Signer::new([&config.secret, &config.previous_secret])
}

/// Returns the connection to the receiver, or `None` if webhooks are not configured.
fn check(config: &config::Webhooks) -> Result<Option<Outbound>, OutboundFault> {
    let Some(url) = config.url.as_deref() else {
        return Ok(None);
    };
    for event in &config.events {
        // Deliveries stay in the store for days, which must never contain a token.
        if SECRET.contains(&event.as_str()) {
            let fault = format!("webhooks.events: `{event}` contains secrets and cannot be sent");
            return Err(OutboundFault(fault));
        }
        let is_known = SERVER_EVENTS.contains(&event.as_str())
            || event == ALERT_EVENT
            || policy::events().any(|row| row.event == event);
        if !is_known {
            let fault = format!("webhooks.events: unknown event `{event}`");
            return Err(OutboundFault(fault));
        }
    }
    let outbound = Outbound::new(Target {
        section: "webhooks",
        url,
        ca_file: config.ca_file.as_deref(),
        timeout: config.timeout,
        allow_private: config.allow_private,
    });
    outbound.map(Some)
}

/// The events that can be sent besides those of clients.
const SERVER_EVENTS: [&str; 11] = [
    "connect",
    "disconnect",
    "room:occupied",
    "room:vacated",
    "trade:update",
    "trade:withdrawn",
    "signal:new",
    "signal:withdrawn",
    "portfolio:update",
    "notification:new",
    "notification:withdrawn",
];
/// Client events whose contents or answers are secrets that must not be stored.
const SECRET: [&str; 4] = [
    "auth:refresh",
    "create_invite",
    "preview_invite",
    "join_invite",
];
/// The maximum size of one event in bytes.
const MAX_EVENT_BYTES: usize = 64 << 10;
/// The maximum size in bytes of the events of one delivery, if it has more than one.
const MAX_BODY_BYTES: usize = 256 << 10;
/// The maximum size of the waiting events in bytes. Each concurrent caller may exceed it by one
/// event.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// The maximum size in bytes of the waiting events of one source.
const MAX_SOURCE_BYTES: usize = 1 << 20;
/// When `webhooks.queue` is half full, a source may store this fraction of the queue.
const SOURCES: usize = 20;
/// The reason logged when only events of one source are dropped.
const OVER_SHARE: &str = "one user or address has more than its share waiting";
/// The timeout for storing the waiting events at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum burst of log lines, before the limit is one per second.
const LOG_LINES: u32 = 20;

impl Inventoried for Hooks {
    fn report(&self, inventory: &mut Inventory) {
        if let Some(inner) = &self.0 {
            let waiting = inner.waiting.lock();
            let (count, bytes) = (waiting.events.len() as u64, waiting.bytes as u64);
            inventory.add("webhook events", count, Some(bytes));
            let mut sources = waiting.shares.size();
            drop(waiting);
            sources += inner.crowd.lock().size();
            inventory.size("webhook sources", sources);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn event_without_room_is_dropped_before_serialization() {
        let store = Store::in_memory().await;
        let config = config::Webhooks {
            url: Some("https://app.example/hooks".to_owned()),
            secret: Some("a secret of webhooks".to_owned().into()),
            events: vec!["message".to_owned()],
            ..config::Webhooks::default()
        };
        let metrics = Arc::<Metrics>::default();
        let spans = Spans::default();
        let hooks = Hooks::new(&config, store, Arc::clone(&metrics), spans).unwrap();
        let waiting = || {
            let waiting = hooks.0.as_ref().unwrap().waiting.lock();
            (waiting.events.len(), waiting.bytes)
        };
        let user = |number: usize| Source::User(format!("user {number}"));
        hooks.enqueue("message", user(0), || "x".repeat(MAX_EVENT_BYTES));
        assert_eq!(waiting(), (0, 0));
        assert_eq!(metrics.counter(Counter::WebhookEventsTooLarge), 1);
        let large = "x".repeat(MAX_EVENT_BYTES - 1000);
        let mut users = 0;
        while metrics.counter(Counter::WebhookEventsDropped) == 0 {
            // One user fills only its share, and many users fill the queue.
            users += 1;
            while metrics.counter(Counter::WebhookEventsOverShare) < users
                && metrics.counter(Counter::WebhookEventsDropped) == 0
            {
                hooks.enqueue("message", user(users as usize), || &large);
            }
        }
        assert!(users >= 8, "{users} users had all of the queue");
        let full = waiting();
        assert!((MAX_WAITING_BYTES - MAX_EVENT_BYTES..=MAX_WAITING_BYTES).contains(&full.1));
        let late = || -> &str { panic!("there is no room for it") };
        hooks.enqueue("message", user(1000), late);
        assert_eq!(waiting(), full);
        assert_eq!(metrics.counter(Counter::WebhookEventsDropped), 2);
    }
}
