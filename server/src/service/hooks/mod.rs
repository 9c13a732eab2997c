//! Webhooks: a service is told over HTTP what happens here.
//!
//! What happens waits in memory for a moment only; then it is stored with what came meanwhile, as one delivery. Requests are
//! made of what is stored, by whichever server of the store takes it first, again and again until it is answered or too old. Nothing in this
//! module may know what an event means.

mod delivering;
mod signature;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use uuid::Uuid;

use crate::auth::outbound::{Outbound, OutboundFault, Target};
use crate::breaker::Breaker;
use crate::config;
use crate::metrics::{Counter, Metrics};
use crate::service::rules::policy;
use crate::store::{Delivery, Store, StoreError, Time};
use roomcast::internal::LogThrottle;
use signature::Signer;

/// Who is told what happens here, if anybody is. Cloning gives another handle.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Option<Arc<HooksInner>>);

struct HooksInner {
    config: config::Webhooks,
    store: Store,
    metrics: Arc<Metrics>,
    outbound: Outbound,
    breaker: Breaker,
    signer: Signer,
    log_throttle: LogThrottle,
    /// The name of this server in its cluster.
    node: OnceLock<String>,
    /// What has happened and is not stored yet.
    waiting: Mutex<Waiting>,
    happened: Notify,
    /// The one permit is of who stores what waits.
    storing: Semaphore,
    stored: Notify,
    /// The one permit is of who looks for a delivery that is due.
    looking: Semaphore,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<String>,
    bytes: usize,
}

/// What is told of one event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookEvent<'a, T> {
    /// The id of the event, which is the same wherever the event is told.
    id: Uuid,
    event: &'a str,
    timestamp: Time,
    data: T,
}

/// The text of an event, which takes no more than it may have.
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
    /// If the configured address cannot be asked, or an event cannot be told.
    pub(crate) fn new(
        config: &config::Webhooks,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OutboundFault> {
        let Some(outbound) = check(config)? else {
            return Ok(Self(None));
        };
        Ok(Self(Some(Arc::new(HooksInner {
            outbound,
            store,
            metrics,
            breaker: Breaker::new("the receiver of webhooks"),
            signer: Signer::new(config),
            config: config.clone(),
            log_throttle: LogThrottle::new(LOG_LINES),
            node: OnceLock::new(),
            waiting: Mutex::default(),
            happened: Notify::new(),
            storing: Semaphore::new(1),
            stored: Notify::new(),
            looking: Semaphore::new(1),
        }))))
    }

    /// Whether there can be such webhooks.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn check(config: &config::Webhooks) -> Result<(), OutboundFault> {
        check(config).map(drop)
    }

    /// Whether anything is told at all.
    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Whether an event is told.
    pub(crate) fn wants(&self, event: &str) -> bool {
        let inner = self.0.as_ref();
        inner.is_some_and(|inner| inner.config.events.iter().any(|wanted| wanted == event))
    }

    /// Whether it is told when a room gets its first member here, and loses its last.
    pub(crate) fn wants_room(&self, room: &str) -> bool {
        let Some(inner) = &self.0 else { return false };
        inner
            .config
            .rooms
            .iter()
            .any(|wanted| match wanted.strip_suffix('*') {
                Some(beginning) => room.starts_with(beginning),
                None => room == wanted,
            })
    }

    /// Says that an event has happened. It is told later if it is wanted and there is room; `data` is not made otherwise.
    pub(crate) fn tell<T: Serialize>(&self, event: &str, data: impl FnOnce() -> T) {
        let Some(inner) = self.0.as_ref().filter(|_| self.wants(event)) else {
            return;
        };
        // Nobody who does something in the chat waits for a webhook, so what finds no room is
        // dropped and counted.
        if inner.waiting.lock().bytes + MAX_EVENT_BYTES > MAX_WAITING_BYTES {
            let why = "too much waits to be stored";
            inner.give_up(Counter::WebhookEventsDropped, 1, why);
            return;
        }
        let told = WebhookEvent {
            // The id is made before anything is stored, so that an event has the same one in every
            // delivery.
            id: Uuid::now_v7(),
            event,
            timestamp: Time::now(),
            data: data(),
        };
        let mut text = Text::default();
        let written = serde_json::to_writer(&mut text, &told);
        let text = String::from_utf8(text.0);
        let (Ok(()), Ok(text)) = (written, text) else {
            inner.give_up(Counter::WebhookEventsTooLarge, 1, "it is too large");
            return;
        };
        let mut waiting = inner.waiting.lock();
        waiting.bytes += text.len();
        waiting.events.push_back(text);
        drop(waiting);
        inner.happened.notify_one();
    }

    /// Stores what happens and delivers what is stored, for as long as it is polled. `node` is the name of this server.
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

    /// Stores what has happened until now, if that can be done soon: the server stops.
    pub(crate) async fn close(&self) {
        if let Some(inner) = &self.0 {
            let _ = timeout(LAST_WORDS, inner.store_all()).await;
        }
    }
}

impl HooksInner {
    async fn store_all(&self) {
        let _storing = self.storing.acquire().await;
        while let Some((delivery, events)) = self.next() {
            let is_stored = loop {
                let most = self.config.queue;
                match self.store.insert_delivery(delivery.clone(), most).await {
                    Ok(is_stored) => break is_stored,
                    Err(StoreError::Closed) => return,
                    // A delivery that is stored all the same is stored again under the same id. The
                    // events stay in memory meanwhile. What is more than the limit is dropped by
                    // those who tell it.
                    Err(error) => tokio::time::sleep(error.retry_after()).await,
                }
            };
            let mut waiting = self.waiting.lock();
            // The events are removed only behind the commit, so that a task that ends in between
            // loses none.
            for event in waiting.events.drain(..events).collect::<Vec<_>>() {
                waiting.bytes -= event.len();
            }
            drop(waiting);
            if is_stored {
                self.metrics
                    .add(Counter::WebhookEventsQueued, events as u64);
                self.stored.notify_one();
            } else {
                let why = "too many deliveries wait (webhooks.queue)";
                self.give_up(Counter::WebhookEventsDropped, events, why);
            }
        }
    }

    /// What waits, as one delivery, and how many events are in it. They go on waiting until it is stored: who stores it may end
    /// before that.
    fn next(&self) -> Option<(Delivery, usize)> {
        let waiting = self.waiting.lock();
        let mut events = Vec::new();
        let mut bytes = 0;
        for event in waiting.events.iter().take(self.config.batch) {
            if !events.is_empty() && bytes + event.len() > MAX_BODY_BYTES {
                break;
            }
            bytes += event.len();
            events.push(event.as_str());
        }
        if events.is_empty() {
            return None;
        }
        let id = Uuid::now_v7();
        let node = serde_json::json!(self.node.get());
        let body = format!(
            r#"{{"id":"{id}","node":{node},"events":[{}]}}"#,
            events.join(",")
        );
        let created_at = Time::now();
        Some((
            Delivery {
                id,
                body,
                created_at,
            },
            events.len(),
        ))
    }

    /// Counts events that are never told.
    fn give_up(&self, counter: Counter, events: usize, why: &str) {
        self.metrics.add(counter, events as u64);
        if let Some(more) = self.log_throttle.permit() {
            tracing::warn!(events, why, more, "webhooks are not sent");
        }
    }
}

/// Where events are told; none if nowhere.
fn check(config: &config::Webhooks) -> Result<Option<Outbound>, OutboundFault> {
    let Some(url) = config.url.as_deref() else {
        return Ok(None);
    };
    for event in &config.events {
        // Deliveries lie in the store for days, where a token must never be.
        if SECRET.contains(&event.as_str()) {
            let fault = format!("webhooks.events: `{event}` has secrets in it and is not told");
            return Err(OutboundFault(fault));
        }
        let is_known =
            HAPPENINGS.contains(&event.as_str()) || policy::events().any(|row| row.event == event);
        if !is_known {
            let fault = format!("webhooks.events: there is no event `{event}` that could be told");
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

/// What is told beside the events that clients send.
const HAPPENINGS: [&str; 8] = [
    "connect",
    "disconnect",
    "room:occupied",
    "room:vacated",
    "trade:update",
    "signal:new",
    "portfolio:update",
    "notification:new",
];
/// Events of clients with something in them, or in their answers, that must not lie in a store.
const SECRET: [&str; 4] = [
    "auth:refresh",
    "create_invite",
    "preview_invite",
    "join_invite",
];
/// Bytes of one event.
const MAX_EVENT_BYTES: usize = 64 << 10;
/// Bytes of the events of one delivery, if it has more than one.
const MAX_BODY_BYTES: usize = 256 << 10;
/// Bytes of what waits to be stored. Those who tell at the same time may exceed it by one event each.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// How long a server that stops stores what has happened.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Lines of the log at once, before it is one a second.
const LOG_LINES: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_finds_no_room_or_is_too_large_is_not_made_into_text() {
        let store = config::Store {
            url: "memory:".to_owned(),
            ..config::Store::default()
        };
        let (store, _commits) = Store::open(&store, Arc::default()).await.unwrap();
        let config = config::Webhooks {
            url: Some("https://app.example/hooks".to_owned()),
            secret: Some("a secret of webhooks".to_owned().into()),
            events: vec!["message".to_owned()],
            ..config::Webhooks::default()
        };
        let metrics = Arc::<Metrics>::default();
        let hooks = Hooks::new(&config, store, Arc::clone(&metrics)).unwrap();
        let waiting = || {
            let waiting = hooks.0.as_ref().unwrap().waiting.lock();
            (waiting.events.len(), waiting.bytes)
        };
        hooks.tell("message", || "x".repeat(MAX_EVENT_BYTES));
        assert_eq!(waiting(), (0, 0));
        assert_eq!(metrics.counter(Counter::WebhookEventsTooLarge), 1);
        let large = "x".repeat(MAX_EVENT_BYTES - 1000);
        while metrics.counter(Counter::WebhookEventsDropped) == 0 {
            hooks.tell("message", || &large);
        }
        let full = waiting();
        assert!((MAX_WAITING_BYTES - MAX_EVENT_BYTES..=MAX_WAITING_BYTES).contains(&full.1));
        hooks.tell("message", || -> &str { panic!("there is no room for it") });
        assert_eq!(waiting(), full);
        assert_eq!(metrics.counter(Counter::WebhookEventsDropped), 2);
    }
}
