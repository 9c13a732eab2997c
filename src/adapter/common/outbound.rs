//! The send queue of a broker, and the connection that sends it and reconnects whenever it breaks.
//!
//! A message is sent immediately if no earlier message is in flight or held after a disconnect.
//! Messages that are queued in the meantime form the next batch, which is one write, except to a
//! Redis Cluster. No timer waits for more messages.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    lifetime::{HOLD_TIMEOUT, Lifetime, RetryDelays},
    queue::{Limits, Outgoing, Queue},
};
use crate::{
    adapter::interface::{AdapterError, Backlog, Health},
    limit::LogThrottle,
};

/// The queued messages, and the state of the connection to the broker.
pub(in crate::adapter) struct Outbound<M> {
    /// The name of the broker in the log.
    broker: &'static str,
    limits: Limits,
    /// The queue of ordinary messages, followed by the queue of [separate](Outgoing::is_apart)
    /// messages. There is no order between the two.
    lanes: [Lane<M>; 2],
    hold: Mutex<Hold>,
    /// Messages that are sent while the lanes are held.
    passing: Mutex<Queue<M>>,
    health: Mutex<Health>,
    /// When the current connection was established.
    reached: Mutex<Option<Instant>>,
    connection_log: Mutex<ConnectionLog>,
    refusals: LogThrottle,
    /// The reason why the broker last refused a message.
    refusal: Mutex<Option<String>>,
    echo: Mutex<Echo>,
    /// The number of times that an established connection has broken.
    breaks: AtomicU64,
    /// Called whenever the broker becomes reachable.
    when_reached: OnceLock<Box<dyn Fn() + Send + Sync>>,
    lifetime: Lifetime,
}

/// The queue of one connection.
struct Lane<M> {
    queue: Mutex<Queue<M>>,
    queued: Notify,
}

impl<M> Default for Lane<M> {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            queued: Notify::new(),
        }
    }
}

/// Whether queued messages are held. The other servers have lost the broker too, and do not receive
/// messages that are sent before they subscribe again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    No,
    /// Until the broker is reachable, and then for a limited time.
    Unreached,
    /// At most until this time.
    Until(Instant),
}

/// The throttle for log lines about a connection that breaks repeatedly.
#[derive(Debug)]
struct ConnectionLog {
    /// Whether the last log line reported a connection or a disconnect; `None` at first.
    is_up: Option<bool>,
    breaks: LogThrottle,
}

impl ConnectionLog {
    fn new() -> Self {
        Self {
            is_up: None,
            breaks: LogThrottle::every(LINES),
        }
    }
}

/// The round-trip time of the loopback probe through the broker.
#[derive(Debug, Default)]
struct Echo {
    /// When the probe in flight was sent.
    sent_at: Option<Instant>,
    /// The round-trip time of the last probe.
    round_trip: Option<Duration>,
}

impl Echo {
    fn lag(&self) -> Option<Duration> {
        let in_flight = self.sent_at.map(|sent_at| sent_at.elapsed());
        // Until a probe has returned, the lag is unknown.
        self.round_trip
            .map(|round_trip| round_trip.max(in_flight.unwrap_or_default()))
    }
}

/// The connection of an adapter to its broker. Each adapter implements how it connects, and shares
/// everything else.
pub(in crate::adapter) trait Broker: Send + Sync + 'static {
    type Message: Outgoing + Send;

    fn outbound(&self) -> &Outbound<Self::Message>;

    /// Counts messages that expired in the queue or will never be sent.
    fn unsent(&self, messages: Vec<Self::Message>);

    /// Returns whether the loss of a message counts. Heartbeats and other messages in the namespace
    /// `/.roomcast` do not count, because they carry no events for clients. Their senders and
    /// receivers handle a loss with leases, polling and timeouts.
    fn counts_if_lost(&self, message: &Self::Message) -> bool;

    /// Returns the number of messages whose loss counts.
    fn losses(&self, messages: &[Self::Message]) -> u64 {
        let counted = messages
            .iter()
            .filter(|message| self.counts_if_lost(message));
        counted.count() as u64
    }

    /// Establishes one connection and maintains it until it breaks. Returns `Err` with the reason,
    /// or `Ok` if the adapter was closed. Gives up while connecting when `given_up` completes.
    fn run_connection(
        self: &Arc<Self>,
        given_up: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Returns whether messages are held after a broken connection, until [`Outbound::release`]
    /// reports that the other servers are connected again.
    fn holds(&self) -> bool {
        false
    }

    /// Returns whether the broker is reachable.
    fn health(&self) -> Health {
        self.outbound().health.lock().clone()
    }

    /// Returns the queued messages and the latency.
    fn backlog(&self) -> Backlog {
        let outbound = self.outbound();
        let (mut messages, mut bytes) = (0, 0);
        for lane in &outbound.lanes {
            let queue = lane.queue.lock();
            messages += queue.len();
            bytes += queue.bytes();
        }
        let lag = outbound.echo.lock().lag();
        Backlog {
            messages,
            bytes,
            lag,
            breaks: outbound.breaks.load(Ordering::Relaxed),
        }
    }

    /// Returns whether the broker accepts a message of this size, as far as is known.
    fn takes(&self, message: &Self::Message) -> bool {
        message.bytes() <= self.outbound().limits().message_bytes
    }

    /// Queues a message. It is dropped if it cannot be sent within a few seconds.
    fn publish(&self, message: Self::Message) -> Result<(), AdapterError> {
        let outbound = self.outbound();
        if outbound.lifetime.is_closing() {
            return Err(AdapterError::Closed);
        }
        if !self.takes(&message) {
            return Err(AdapterError::TooLarge);
        }
        let is_passing = message.is_pulse() && outbound.is_held();
        let lane = outbound.lane(message.is_apart() && !is_passing);
        let queue = match is_passing {
            true => &outbound.passing,
            false => &lane.queue,
        };
        let (fits, stale) = queue.lock().push(message, &outbound.limits);
        self.unsent(stale);
        lane.queued.notify_one();
        if fits {
            Ok(())
        } else {
            Err(AdapterError::Full)
        }
    }

    /// Waits for the next batch to send. Returns `None` if the adapter is closed and the queue is
    /// empty.
    #[cfg(any(feature = "nats", feature = "redis"))]
    fn next(&self) -> impl Future<Output = Option<Vec<Self::Message>>> + Send {
        self.next_of(false)
    }

    /// Like `next`, for the queue of separate messages or of ordinary messages.
    fn next_of(&self, is_apart: bool) -> impl Future<Output = Option<Vec<Self::Message>>> + Send {
        let outbound = self.outbound();
        let lane = outbound.lane(is_apart);
        async move {
            loop {
                let mut batch = Vec::new();
                if !is_apart {
                    let (next, stale) = outbound.passing.lock().take();
                    self.unsent(stale);
                    batch = next;
                }
                let held = outbound.held();
                if batch.is_empty() && held == Hold::No {
                    let (next, stale) = lane.queue.lock().take();
                    self.unsent(stale);
                    batch = next;
                }
                if !batch.is_empty() {
                    return Some(batch);
                }
                if outbound.lifetime.is_closing() {
                    return None;
                }
                // `notify_one` stores a permit while no task waits, so a message that was queued
                // since the check above also wakes this task. Dropping the future here loses
                // nothing, because no message was taken.
                let queued = lane.queued.notified();
                match held {
                    Hold::Until(deadline) => {
                        let _ = timeout_at(deadline, queued).await;
                    }
                    Hold::No | Hold::Unreached => queued.await,
                }
            }
        }
    }

    /// Records that the task is about to start.
    fn open(&self) {
        self.outbound().lifetime.open();
    }

    /// Maintains a connection until the adapter is closed.
    fn run(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        async move {
            let outbound = self.outbound();
            outbound.lifetime.open();
            // A task that panicked leaves an outdated health.
            *outbound.health.lock() = untried();
            *outbound.reached.lock() = None;
            let mut delays = RetryDelays::new();
            let is_empty = || {
                let mut lanes = outbound.lanes.iter();
                lanes.all(|lane| lane.queue.lock().len() == 0)
            };
            // This future is pinned outside of the loop, so that its timeout continues across
            // connections.
            let mut given_up = pin!(outbound.lifetime.given_up(is_empty));
            loop {
                let ended = tokio::select! {
                    ended = self.run_connection(given_up.as_mut()) => ended,
                    () = outbound.lifetime.ended() => Ok(()),
                };
                let Err(why) = ended else { break };
                if self.holds() && self.health() == Health::Ready {
                    *outbound.hold.lock() = Hold::Unreached;
                }
                // A connection that breaks immediately must not cause reconnects without delay.
                if outbound.down(&why) {
                    delays.reset();
                }
                if !delays.wait(given_up.as_mut()).await {
                    break;
                }
            }
            // Remaining messages are counted before `end`, so that the count is final when `close`
            // returns.
            let lanes = outbound.lanes.iter().map(|lane| &lane.queue);
            for queue in lanes.chain([&outbound.passing]) {
                let left = std::mem::take(&mut *queue.lock());
                self.unsent(left.into_messages());
            }
            outbound.lifetime.end();
        }
    }

    /// Sends the queued messages, if the broker can be reached in time, and ends.
    fn close(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        async move {
            let outbound = self.outbound();
            outbound.lifetime.close();
            // The task may wait for messages, and must notice that the adapter is closing.
            outbound.wake();
            outbound.lifetime.ended().await;
        }
    }

    /// Ends immediately.
    fn abandon(&self) {
        self.outbound().lifetime.end();
    }
}

impl<M: Outgoing + Send> Outbound<M> {
    pub(in crate::adapter) fn new(broker: &'static str, limits: Limits) -> Self {
        Self {
            broker,
            limits,
            lanes: Default::default(),
            hold: Mutex::new(Hold::No),
            passing: Mutex::default(),
            health: Mutex::new(untried()),
            reached: Mutex::default(),
            connection_log: Mutex::new(ConnectionLog::new()),
            refusals: LogThrottle::every(LINES),
            refusal: Mutex::default(),
            echo: Mutex::default(),
            breaks: AtomicU64::new(0),
            when_reached: OnceLock::new(),
            lifetime: Lifetime::new(),
        }
    }

    const fn lane(&self, is_apart: bool) -> &Lane<M> {
        let [together, apart] = &self.lanes;
        if is_apart { apart } else { together }
    }

    /// Returns the limits of the queue.
    pub(in crate::adapter) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Records that the broker is reachable. Returns whether it was unreachable before.
    pub(in crate::adapter) fn up(&self) -> bool {
        let is_new = *self.health.lock() != Health::Ready;
        if is_new {
            self.log_connected();
            *self.reached.lock() = Some(Instant::now());
            // The callback runs first, so that it has finished when a caller sees `Ready`.
            if let Some(reached) = self.when_reached.get() {
                reached();
            }
            *self.health.lock() = Health::Ready;
            let mut hold = self.hold.lock();
            if *hold == Hold::Unreached {
                *hold = Hold::Until(Instant::now() + HOLD_TIMEOUT);
            }
            self.wake();
        }
        is_new
    }

    /// Returns whether queued messages are held.
    pub(in crate::adapter) fn is_held(&self) -> bool {
        self.held() != Hold::No
    }

    fn held(&self) -> Hold {
        // An adapter that closes does not wait for peers.
        if self.lifetime.is_closing() {
            return Hold::No;
        }
        match *self.hold.lock() {
            Hold::Until(deadline) if deadline <= Instant::now() => Hold::No,
            hold @ (Hold::No | Hold::Unreached | Hold::Until(_)) => hold,
        }
    }

    /// Records that the known peers are connected again, or that there is no peer to wait for.
    pub(in crate::adapter) fn release(&self) {
        *self.hold.lock() = Hold::No;
        self.wake();
    }

    /// Wakes the sending tasks. `notify_one` stores a permit if no task is waiting.
    fn wake(&self) {
        for lane in &self.lanes {
            lane.queued.notify_one();
        }
    }

    /// Sets a callback for whenever the broker becomes reachable. It must not block. Only the first
    /// callback that is set is used.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(in crate::adapter) fn when_reached(&self, then: impl Fn() + Send + Sync + 'static) {
        let _ = self.when_reached.set(Box::new(then));
    }

    /// Records that a loopback probe is sent, if none is in flight.
    pub(in crate::adapter) fn probe_sent(&self) {
        let mut echo = self.echo.lock();
        echo.sent_at.get_or_insert_with(Instant::now);
    }

    /// Records that a loopback probe has returned.
    pub(in crate::adapter) fn probe_returned(&self) {
        let mut echo = self.echo.lock();
        if let Some(sent_at) = echo.sent_at.take() {
            echo.round_trip = Some(sent_at.elapsed());
        }
    }

    fn log_connected(&self) {
        let mut connection_log = self.connection_log.lock();
        if connection_log.is_up.replace(true) != Some(true) {
            tracing::info!(broker = self.broker, "connected to the broker");
        }
    }

    fn log_disconnected(&self, why: &str) {
        let mut connection_log = self.connection_log.lock();
        // A disconnect that the throttle suppressed is logged after a later attempt to connect.
        if connection_log.is_up != Some(false)
            && let Some(disconnects) = connection_log.breaks.add(1)
        {
            connection_log.is_up = Some(false);
            tracing::warn!(
                broker = self.broker,
                error = why,
                disconnects,
                "broker connection lost, reconnecting"
            );
        }
    }

    /// Records that the broker has refused messages, which the caller counts as lost.
    pub(in crate::adapter) fn refused(&self, messages: u64, why: &str) {
        *self.refusal.lock() = Some(why.to_owned());
        if let Some(messages) = self.refusals.add(messages) {
            tracing::warn!(
                broker = self.broker,
                error = why,
                messages,
                "the broker refused messages for other servers"
            );
        }
    }

    /// Returns the reason why the broker last refused a message.
    pub(in crate::adapter) fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }

    /// Records that the broker is unreachable. Returns whether the connection had lasted for at
    /// least [`LASTING`].
    fn down(&self, why: &str) -> bool {
        *self.echo.lock() = Echo::default();
        let now = Health::Down(why.to_owned());
        let before = std::mem::replace(&mut *self.health.lock(), now);
        if before == Health::Ready {
            self.breaks.fetch_add(1, Ordering::Relaxed);
        }
        self.log_disconnected(why);
        let reached = self.reached.lock().take();
        reached.is_some_and(|reached| reached.elapsed() >= LASTING)
    }
}

/// Counts messages in flight as lost when a connection breaks. The broker may have received them,
/// but nothing is sent twice. Dropping this counts all messages that have not arrived.
pub(in crate::adapter) struct InFlightMessages<F: Fn(u64)> {
    messages: u64,
    lost: F,
}

impl<F: Fn(u64)> InFlightMessages<F> {
    pub(in crate::adapter) const fn new(messages: u64, lost: F) -> Self {
        Self { messages, lost }
    }

    /// Records that this number of messages has arrived.
    #[cfg(any(feature = "nats", feature = "postgres"))]
    pub(in crate::adapter) const fn arrived(&mut self, messages: u64) {
        self.messages = self.messages.saturating_sub(messages);
    }

    /// Records that all messages have arrived.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(in crate::adapter) fn all_arrived(mut self) {
        self.messages = 0;
    }
}

impl<F: Fn(u64)> Drop for InFlightMessages<F> {
    fn drop(&mut self) {
        if self.messages > 0 {
            (self.lost)(self.messages);
        }
    }
}

/// A connection that lasted this long resets the reconnect backoff.
const LASTING: Duration = Duration::from_secs(5);
/// The interval between repeated log lines.
const LINES: Duration = Duration::from_secs(10);

fn untried() -> Health {
    Health::Down("not connected yet".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lag_is_that_of_the_last_probe_or_of_a_slower_probe_in_flight() {
        let limits = Limits {
            messages: 1,
            bytes: 1,
            message_bytes: 1,
        };
        let outbound: Outbound<NoMessage> = Outbound::new("a broker", limits);
        let lag = || outbound.echo.lock().lag();
        let millis = |millis| Some(Duration::from_millis(millis));
        outbound.probe_sent();
        assert_eq!(lag(), None, "none has come back yet");
        advance(Duration::from_millis(5)).await;
        outbound.probe_returned();
        // A second return has no effect.
        outbound.probe_returned();
        assert_eq!(lag(), millis(5));
        outbound.probe_sent();
        advance(Duration::from_millis(3)).await;
        assert_eq!(lag(), millis(5));
        advance(Duration::from_millis(3000)).await;
        outbound.probe_sent();
        assert_eq!(lag(), millis(3003), "the oldest outstanding probe counts");
        assert!(outbound.up() && !outbound.up());
        assert!(!outbound.down("it broke") && !outbound.down("still"));
        assert_eq!(
            outbound.breaks.load(Ordering::Relaxed),
            1,
            "each break once"
        );
        assert_eq!(lag(), None);
        outbound.probe_returned();
        assert_eq!(lag(), None, "it was said on another connection");
        assert!(outbound.up());
        advance(LASTING).await;
        assert!(outbound.down("it had lasted"));
    }

    struct NoMessage;

    impl Outgoing for NoMessage {
        fn bytes(&self) -> usize {
            0
        }
    }
}
