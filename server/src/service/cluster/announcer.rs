//! Announces committed changes to other servers, and monitors the adapter.
//!
//! Callers enqueue announcements and never block. A task takes the queued announcements, puts as
//! many as fit into one event, and sends it. Announcements that find no room are counted and
//! dropped. Other servers then read the changes from the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::batch::Batch;
use crate::metrics::trace::{OpenSpan, SpanKind, Spans, TraceContext};
use crate::metrics::{Counter, Gauge, Inventoried, Inventory, Metrics, Size};
use crate::service::cluster::wire::{self, Confirmed, Ignored, News, Step};
use crate::store::{Committed, Revision, Store};
use roomcast::adapter::Health;
use roomcast::{Namespace, errors::ServerSideError};

/// Announces changes to other servers. Clones share its state.
#[derive(Clone, Debug)]
pub(crate) struct Announcer(Arc<AnnouncerInner>);

#[derive(Debug)]
struct AnnouncerInner {
    /// The id of the store that the servers share.
    id: Uuid,
    store: Store,
    queue: Mutex<Queue>,
    queued: Notify,
    is_up: AtomicBool,
    metrics: Arc<Metrics>,
    spans: Spans,
}

#[derive(Debug)]
enum Announcement {
    News(News),
    /// A step of a sampled event. The span ends when the step is sent.
    SampledStep(Step, OpenSpan),
    ConfirmationRequest(Step, oneshot::Sender<Confirmed>, Option<OpenSpan>),
}

impl Announcer {
    /// Creates an announcer for the servers that share the store with this id.
    ///
    /// [`Announcer::run`] must run alongside it.
    pub(crate) fn new(store: Store, id: Uuid, metrics: Arc<Metrics>, spans: Spans) -> Self {
        Self(Arc::new(AnnouncerInner {
            id,
            store,
            queue: Mutex::default(),
            queued: Notify::new(),
            is_up: AtomicBool::new(false),
            metrics,
            spans,
        }))
    }

    /// Returns the id of the store that the servers share.
    pub(crate) fn store_id(&self) -> Uuid {
        self.0.id
    }

    /// Announces a commit of this server.
    pub(in crate::service) fn step(
        &self,
        event: &Committed,
        revision: Revision,
        trace: Option<TraceContext>,
    ) {
        let (span, trace) = self.start_span(event, revision, trace);
        let Some(step) = Step::of(event, revision, trace) else {
            // There is nothing to announce.
            return span.map_or((), OpenSpan::discard);
        };
        // The feed notifies members who have not joined of these changes.
        let is_in_feed = matches!(
            event,
            Committed::Renamed(_)
                | Committed::Members { .. }
                | Committed::ConversationDeleted { .. }
        );
        match span {
            Some(span) => self.push(Announcement::SampledStep(step, span)),
            None => self.announce(News::Step(step)),
        }
        if is_in_feed {
            // Servers also poll the feed. This only makes them read it immediately.
            self.announce(News::Changes);
        }
    }

    /// Enqueues an announcement if there is room.
    pub(in crate::service) fn announce(&self, news: News) {
        self.push(Announcement::News(news));
    }

    /// Announces a committed message and requests its confirmations from other servers.
    ///
    /// The receiver fails if the servers cannot be queried.
    pub(in crate::service) fn announce_and_confirm(
        &self,
        event: &Committed,
        revision: Revision,
        trace: Option<TraceContext>,
    ) -> oneshot::Receiver<Confirmed> {
        let (answer, answered) = oneshot::channel();
        let (span, trace) = self.start_span(event, revision, trace);
        if let Some(step) = Step::of(event, revision, trace) {
            if self.is_up() {
                // The request contains the step, so that the message is not announced twice.
                self.push(Announcement::ConfirmationRequest(step, answer, span));
            } else if let Some(span) = span {
                self.push(Announcement::SampledStep(step, span));
            } else {
                self.announce(News::Step(step));
            }
        }
        answered
    }

    /// Starts the span of an announcement, if its event is sampled. Returns the context that other
    /// servers continue.
    fn start_span(
        &self,
        event: &Committed,
        revision: Revision,
        trace: Option<TraceContext>,
    ) -> (Option<OpenSpan>, Option<TraceContext>) {
        let name = || "announce step".to_owned();
        let spans = &self.0.spans;
        let Some(mut span) = spans.start_child(trace, SpanKind::Producer, name) else {
            return (None, trace);
        };
        span.set("roomcast.conversation", event.conversation_id());
        span.set("roomcast.seq", revision.seq);
        let context = span.context().or(trace);
        (Some(span), context)
    }

    /// Returns whether other servers are reachable, as of the last check.
    pub(in crate::service) fn is_up(&self) -> bool {
        self.0.is_up.load(Ordering::Relaxed)
    }

    fn push(&self, announcement: Announcement) {
        // Announcements need not arrive, so the newest one is dropped if there is no room.
        let fits = self.0.queue.lock().push(announcement);
        if fits {
            self.0.queued.notify_one();
        } else {
            self.0.metrics.count(Counter::AnnouncementsDropped);
        }
    }

    /// Decodes announcements of another server.
    pub(in crate::service) fn read_news(&self, text: &str) -> Vec<News> {
        match wire::read_news(self.0.id, text) {
            Ok(news) => news
                .into_iter()
                .filter_map(|news| self.note(news))
                .collect(),
            Err(ignored) => {
                self.note::<()>(Err(ignored));
                Vec::new()
            }
        }
    }

    /// Decodes a confirmation request of another server.
    ///
    /// # Errors
    ///
    /// If the text is for another store, of another version, or malformed.
    pub(in crate::service) fn read_confirmation_request(
        &self,
        text: &str,
    ) -> Result<Step, Ignored> {
        let read = wire::read_confirmation_request(self.0.id, text);
        self.count(&read);
        read
    }

    /// Encodes a text for the servers of this store.
    pub(crate) fn write(&self, content: &impl Serialize) -> Option<String> {
        wire::write(self.0.id, content)
    }

    /// Decodes a text that a server has encoded with [`Announcer::write`], and counts it.
    ///
    /// # Errors
    ///
    /// If the text is for another store, of another version, or malformed.
    pub(crate) fn read<T: DeserializeOwned>(&self, text: &str) -> Result<T, Ignored> {
        let read = wire::read(self.0.id, text);
        self.count(&read);
        read
    }

    /// Counts the result of decoding.
    fn note<T>(&self, read: Result<T, Ignored>) -> Option<T> {
        self.count(&read);
        read.ok()
    }

    fn count<T>(&self, read: &Result<T, Ignored>) {
        self.0.metrics.count(match read {
            Ok(_) => Counter::AnnouncementsReceived,
            Err(Ignored::Malformed) => Counter::AnnouncementsMalformed,
            Err(Ignored::Unknown) => Counter::AnnouncementsUnknown,
            Err(Ignored::Foreign) => Counter::AnnouncementsForeign,
        });
    }

    /// Sends queued announcements for as long as it is polled.
    pub(crate) async fn run(self, namespace: Namespace) {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The adapter is still connecting, so the first check comes later.
        checks.reset();
        let mut seen = AdapterStatus::default();
        loop {
            tokio::select! {
                () = self.0.queued.notified() => {}
                () = self.0.store.fed() => self.announce(News::Changes),
                _ = checks.tick() => self.check_adapter(&namespace, &mut seen),
            }
            self.send(&namespace);
        }
    }

    fn send(&self, namespace: &Namespace) {
        let mut batch = Batch::default();
        // The spans of the steps in the batch.
        let mut spans = Vec::new();
        loop {
            // The lock is released before sending, since the adapter has its own locks.
            let announcement = self.0.queue.lock().pop();
            match announcement {
                None => return self.send_news(namespace, &batch, spans),
                Some(Announcement::News(news)) => {
                    if let Some(full) = batch.add(&news) {
                        self.send_news(namespace, &full, std::mem::take(&mut spans));
                    }
                }
                Some(Announcement::SampledStep(step, span)) => {
                    if let Some(full) = batch.add(&News::Step(step)) {
                        self.send_news(namespace, &full, std::mem::take(&mut spans));
                    }
                    spans.push(span);
                }
                Some(Announcement::ConfirmationRequest(request, answer, span)) => {
                    let earlier = std::mem::take(&mut batch);
                    self.send_news(namespace, &earlier, std::mem::take(&mut spans));
                    self.send_confirmation_request(namespace, &request, answer);
                    if let Some(span) = span {
                        span.end();
                    }
                }
            }
        }
    }

    fn send_news(&self, namespace: &Namespace, batch: &Batch, spans: Vec<OpenSpan>) {
        if batch.all.is_empty() {
            return;
        }
        let sent = wire::write(self.0.id, &batch.all)
            .is_some_and(|text| namespace.server_side_emit(NEWS, text).is_ok());
        let counter = if sent {
            Counter::AnnouncementsSent
        } else {
            Counter::AnnouncementsDropped
        };
        self.0.metrics.add(counter, batch.all.len() as u64);
        for span in spans {
            match sent {
                true => span.end(),
                false => span.fail("the adapter does not accept it"),
            }
        }
    }

    fn send_confirmation_request(
        &self,
        namespace: &Namespace,
        request: &Step,
        answer: oneshot::Sender<Confirmed>,
    ) {
        let Some(text) = wire::write(self.0.id, request) else {
            return;
        };
        let namespace = namespace.clone();
        let mut requesting = Box::pin(async move {
            let acks = namespace.server_side_emit_with_acks::<String>(CONFIRM, text);
            let (answers, is_whole) = match acks.await {
                Ok(answers) => (answers, true),
                // The answers that have arrived count. The sender learns that some are missing.
                Err(ServerSideError::Timeout(partial)) => (partial.answers(), false),
                Err(_) => return,
            };
            let mut all = Confirmed {
                timed_out: !is_whole,
                ..Confirmed::default()
            };
            for text in &answers {
                match serde_json::from_str(text) {
                    Ok(one) => all.add(one),
                    Err(_) => all.timed_out = true,
                }
            }
            // The caller may have given up.
            let _ = answer.send(all);
        });
        self.0.metrics.count(Counter::AnnouncementsSent);
        // The request is sent at the first poll, before any later announcement.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if requesting.as_mut().poll(&mut context).is_pending() {
            tokio::spawn(requesting);
        }
    }

    /// Checks whether other servers are reachable.
    fn check_adapter(&self, namespace: &Namespace, seen: &mut AdapterStatus) {
        // The state is polled, because an idle adapter does not report that it is down.
        let (is_up, why) = match namespace.io().adapter_health() {
            None => return,
            Some(Health::Ready) => (true, String::new()),
            Some(Health::Down(why)) => (false, why),
            Some(_) => (false, "its state is unknown".to_owned()),
        };
        let metrics = &self.0.metrics;
        // The task may have been restarted.
        match (self.0.is_up.swap(is_up, Ordering::Relaxed), is_up) {
            (false, true) => metrics.shift(Gauge::AdapterUp, 1),
            (true, false) => metrics.shift(Gauge::AdapterUp, -1),
            (true, true) | (false, false) => {}
        }
        // An adapter that reconnected between two checks was down as well.
        let backlog = namespace.io().adapter_backlog().unwrap_or_default();
        let unseen = seen.breaks(backlog.breaks, is_up);
        if unseen > 0 {
            metrics.add(Counter::AdapterDown, unseen);
            metrics.add(Counter::AdapterUp, unseen);
            tracing::warn!(times = unseen, "the adapter was unavailable for a moment");
        }
        if seen.is_up.replace(is_up) != Some(is_up) {
            if is_up {
                metrics.count(Counter::AdapterUp);
                tracing::info!("the adapter works, other servers receive changes immediately");
            } else {
                metrics.count(Counter::AdapterDown);
                tracing::warn!(
                    why,
                    "the adapter is unavailable, changes of other servers are read from the store"
                );
            }
        }
        seen.was_up |= is_up;
        let remedy = remedy(&why, seen.was_up);
        if let Some(remedy) = remedy
            && seen.remedy != Some(remedy)
        {
            tracing::error!(why, remedy, "the adapter is unavailable: check adapter.url");
        }
        if remedy.is_some() || is_up {
            seen.remedy = remedy;
        }
    }
}

/// The known state of the adapter.
#[derive(Debug, Default)]
struct AdapterStatus {
    is_up: Option<bool>,
    was_up: bool,
    /// The number of disconnects up to the last check.
    breaks: u64,
    /// The remedy that was logged last.
    remedy: Option<&'static str>,
}

impl AdapterStatus {
    /// Returns how many outages since the last check are over.
    ///
    /// If an outage is still ongoing, that is one less than the number of disconnects.
    fn breaks(&mut self, breaks: u64, is_up: bool) -> u64 {
        let new = breaks.saturating_sub(self.breaks);
        self.breaks = breaks;
        // An outage that was ongoing at the last check was counted then.
        let is_seen = self.is_up == Some(true) && !is_up;
        new.saturating_sub(u64::from(is_seen))
    }
}

/// Returns the remedy for a broker that responds but refuses.
///
/// A broker that has never worked and gives no reason may expect a different protocol.
fn remedy(why: &str, was_up: bool) -> Option<&'static str> {
    let why = why.to_ascii_lowercase();
    let mentions = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if mentions(&[
        "noauth",
        "wrongpass",
        "password",
        "authenticat",
        "noperm",
        "authorization",
        "permissions violation",
    ]) {
        Some("the broker requires a valid user and password")
    } else if mentions(&[
        "tls",
        "certificate",
        "corrupt message",
        "no encryption",
        "ssl off",
    ]) {
        Some("the server and its broker must both use TLS, or neither")
    } else if !was_up && mentions(&["reset", "timed out", "end of file", "broken pipe"]) {
        Some("the broker sends no valid response: only one of the two may be using TLS")
    } else {
        None
    }
}

/// The queued announcements. Announcements of stored changes are sent before transient ones, each
/// kind in order.
#[derive(Debug, Default)]
struct Queue {
    stored: VecDeque<Announcement>,
    transient: VecDeque<Announcement>,
}

impl Queue {
    /// Enqueues an announcement. Returns `false` if there is no room.
    fn push(&mut self, announcement: Announcement) -> bool {
        let is_transient = match &announcement {
            Announcement::News(News::Typing(_) | News::Presence(_)) => true,
            // Growing text stays between the steps that begin and end its message.
            Announcement::News(
                News::Grown(_)
                | News::StopRequest(_)
                | News::Step(_)
                | News::Read(_)
                | News::Level(_)
                | News::Changes
                | News::Revoked(_),
            )
            | Announcement::SampledStep(..)
            | Announcement::ConfirmationRequest(..) => false,
        };
        let queue = match is_transient {
            true => &mut self.transient,
            false => &mut self.stored,
        };
        let fits = queue.len() < MAX_QUEUED;
        if fits {
            queue.push_back(announcement);
        }
        fits
    }

    fn pop(&mut self) -> Option<Announcement> {
        let stored = self.stored.pop_front();
        stored.or_else(|| self.transient.pop_front())
    }
}

impl Inventoried for Announcer {
    fn report(&self, inventory: &mut Inventory) {
        let queue = self.0.queue.lock();
        for (name, queue) in [
            ("announcements", &queue.stored),
            ("transient announcements", &queue.transient),
        ] {
            let size = Size::of::<Announcement>(queue.len(), queue.capacity());
            inventory.size(name, size);
        }
    }
}

/// The namespace for messages between servers. Clients are not admitted.
pub(crate) const NAMESPACE: &str = "/roomcast";
/// The event with announcements, which has no answer.
pub(in crate::service) const NEWS: &str = "news";
/// The event with a message as a [`Step`]. Each server answers with the message's confirmations.
pub(in crate::service) const CONFIRM: &str = "confirm";

/// The maximum number of queued announcements of each kind. Their messages take at most 16 MiB.
const MAX_QUEUED: usize = 4096;
/// The interval between checks of the adapter.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn typing(name: &str) -> News {
        News::Typing(wire::Typing {
            conversation_id: Uuid::from_u128(1),
            user_id: name.into(),
            name: name.into(),
            is_typing: true,
        })
    }

    #[test]
    fn stored_changes_are_sent_before_transient_ones() {
        let mut queue = Queue::default();
        for _ in 0..MAX_QUEUED {
            assert!(queue.push(Announcement::News(typing("ann"))));
        }
        assert!(!queue.push(Announcement::News(typing("ann"))));
        assert!(queue.push(Announcement::News(News::Changes)));
        assert!(matches!(
            queue.pop(),
            Some(Announcement::News(News::Changes))
        ));
        for _ in 0..MAX_QUEUED {
            assert!(queue.push(Announcement::News(News::Changes)));
        }
        assert!(!queue.push(Announcement::News(News::Changes)), "full");
        let rest = std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>();
        assert_eq!(rest.len(), 2 * MAX_QUEUED);
        let is_typing = |announcement: &Announcement| {
            matches!(announcement, Announcement::News(News::Typing(_)))
        };
        assert!(rest.iter().is_sorted_by_key(is_typing));
    }

    #[test]
    fn outages_between_two_checks_are_counted() {
        let mut seen = AdapterStatus::default();
        for (is_up, breaks, unseen) in [
            (false, 0, 0),
            (true, 0, 0),
            (true, 2, 2),
            (true, 2, 0),
            // The ongoing outage is visible in the state.
            (false, 3, 0),
            (true, 3, 0),
            (false, 6, 2),
            // The adapter reconnected and disconnected again.
            (false, 7, 1),
        ] {
            assert_eq!(seen.breaks(breaks, is_up), unseen, "{breaks} {is_up}");
            seen.is_up = Some(is_up);
        }
    }

    #[test]
    fn remedy_is_given_only_if_the_broker_refuses() {
        for why in [
            "NOAUTH: HELLO must be called with the client already authenticated",
            "Password authentication failed- AuthenticationFailed",
            "WRONGPASS: invalid username-password pair or user is disabled.",
            "authorization violation: nats: authorization violation",
            "permissions violation for subscription",
        ] {
            assert!(
                remedy(why, true).is_some_and(|remedy| remedy.contains("password")),
                "{why}"
            );
        }
        for why in [
            "received corrupt message of type InvalidContentType",
            "no pg_hba.conf entry for host \"127.0.0.1\", user \"u\", database \"d\", no encryption",
            // The wording of PostgreSQL 13.
            "no pg_hba.conf entry for host \"127.0.0.1\", user \"u\", database \"d\", SSL off",
        ] {
            assert!(remedy(why, true).is_some_and(|remedy| remedy.contains("TLS")));
        }
        let why = "Connection reset by peer (os error 104)";
        assert!(remedy(why, false).is_some_and(|remedy| remedy.contains("TLS")));
        assert_eq!(remedy(why, true), None);
        assert_eq!(remedy("Connection refused (os error 111)", false), None);
    }
}
