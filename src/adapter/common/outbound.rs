//! What is sent to a broker, and the connection on which it leaves, which is made again whenever it breaks.

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
    lifetime::{HOLD, Lifetime, Pauses},
    queue::{Limits, Outgoing, Queue},
};
use crate::{
    adapter::interface::{AdapterError, Backlog, Health},
    limit::LogThrottle,
};

/// What waits to be sent, and whether the broker is reached.
pub(in crate::adapter) struct Outbound<M> {
    /// The name of the broker in the log.
    broker: &'static str,
    limits: Limits,
    /// The messages that wait, and behind them those that wait [apart](Outgoing::is_apart). There is no order between the two.
    lanes: [Lane<M>; 2],
    hold: Mutex<Hold>,
    /// The messages that are sent although the lanes are held back.
    passing: Mutex<Queue<M>>,
    health: Mutex<Health>,
    /// Since when the broker is reached.
    reached: Mutex<Option<Instant>>,
    told: Mutex<Told>,
    refusals: LogThrottle,
    /// Why the broker has refused a message last.
    refusal: Mutex<Option<String>>,
    echo: Mutex<Echo>,
    /// How often the broker was reached and then was not.
    breaks: AtomicU64,
    /// Called when the broker is reached that was not.
    when_reached: OnceLock<Box<dyn Fn() + Send + Sync>>,
    lifetime: Lifetime,
}

/// The messages that wait for one connection.
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

/// Whether what waits is held back. Other servers have lost the broker as well, and what is sent before they listen again does not
/// reach them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    No,
    /// Until the broker is reached, and longer.
    Unreached,
    /// Until then at most.
    Until(Instant),
}

/// What the log says of the connection: what breaks again and again is told of once in a while.
#[derive(Debug)]
struct Told {
    /// Whether the log was told last that the broker is reached; `None` at first.
    is_up: Option<bool>,
    breaks: LogThrottle,
}

impl Told {
    fn new() -> Self {
        Self {
            is_up: None,
            breaks: LogThrottle::every(LINES),
        }
    }
}

/// How long what this server says to itself takes through the broker.
#[derive(Debug, Default)]
struct Echo {
    /// When the word was said that is under way.
    said: Option<Instant>,
    /// How long the last one took.
    took: Option<Duration>,
}

impl Echo {
    fn lag(&self) -> Option<Duration> {
        let under_way = self.said.map(|said| said.elapsed());
        // As long as none has come back nothing is known.
        self.took
            .map(|took| took.max(under_way.unwrap_or_default()))
    }
}

/// The connection of an adapter to its broker. Each adapter says how it connects; all else is the same.
pub(in crate::adapter) trait Broker: Send + Sync + 'static {
    type Message: Outgoing + Send;

    fn outbound(&self) -> &Outbound<Self::Message>;

    /// Counts messages that have waited for too long, or will never be sent.
    fn unsent(&self, messages: Vec<Self::Message>);

    /// Makes one connection and keeps it until it breaks. `Err` says why it is over, `Ok` that this was asked
    /// for. While the connection is being made, it ends with `given_up`.
    fn run_connection(
        self: &Arc<Self>,
        given_up: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Whether what waits is held back after a connection that broke until [`Outbound::release`] tells that the other servers are
    /// there again.
    fn holds(&self) -> bool {
        false
    }

    /// Whether the broker is reached.
    fn health(&self) -> Health {
        self.outbound().health.lock().clone()
    }

    /// What waits to be sent, and how long messages take.
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

    /// Whether the broker takes a message of this size, as far as is known now.
    fn takes(&self, message: &Self::Message) -> bool {
        message.bytes() <= self.outbound().limits().message_bytes
    }

    /// Queues a message. What could not be sent in a few seconds is forgotten.
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

    /// What is sent next, waited for; `None` if the adapter is closed and everything has been sent.
    #[cfg(any(feature = "nats", feature = "redis"))]
    fn next(&self) -> impl Future<Output = Option<Vec<Self::Message>>> + Send {
        self.next_of(false)
    }

    /// The same for what waits apart, or for the rest.
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
                // `notify_one` leaves a permit behind when nobody waits: what is queued between the look above and this
                // line wakes this task as well. Dropping the future here loses nothing, since nothing was taken.
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

    /// Says that the task is about to be started.
    fn open(&self) {
        self.outbound().lifetime.open();
    }

    /// Keeps a connection until the adapter is closed.
    fn run(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        async move {
            let outbound = self.outbound();
            outbound.lifetime.open();
            // A task that has panicked leaves the health of its connection behind.
            *outbound.health.lock() = untried();
            *outbound.reached.lock() = None;
            let mut pauses = Pauses::new();
            let is_empty = || {
                let mut lanes = outbound.lanes.iter();
                lanes.all(|lane| lane.queue.lock().len() == 0)
            };
            // This future is pinned outside of the loop, so that its time goes on across connections.
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
                // A connection that breaks as soon as it is there must not be made anew at once for ever.
                if outbound.down(&why) {
                    pauses.reset();
                }
                if !pauses.wait(given_up.as_mut()).await {
                    break;
                }
            }
            // What is left is counted before the end is told, so that whoever waits for the end finds it counted.
            let lanes = outbound.lanes.iter().map(|lane| &lane.queue);
            for queue in lanes.chain([&outbound.passing]) {
                let left = std::mem::take(&mut *queue.lock());
                self.unsent(left.into_messages());
            }
            outbound.lifetime.end();
        }
    }

    /// Sends what is queued, if the broker can be reached in time, and ends.
    fn close(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        async move {
            let outbound = self.outbound();
            outbound.lifetime.close();
            // The task may be waiting for something to send, and must see that the adapter closes.
            outbound.wake();
            outbound.lifetime.ended().await;
        }
    }

    /// Ends at once.
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
            told: Mutex::new(Told::new()),
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

    /// What may wait.
    pub(in crate::adapter) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Notes that the broker is reached. Returns whether that is new.
    pub(in crate::adapter) fn up(&self) -> bool {
        let is_new = *self.health.lock() != Health::Ready;
        if is_new {
            self.tell_up();
            *self.reached.lock() = Some(Instant::now());
            // Whoever sees that the broker is reached finds that done.
            if let Some(reached) = self.when_reached.get() {
                reached();
            }
            *self.health.lock() = Health::Ready;
            let mut hold = self.hold.lock();
            if *hold == Hold::Unreached {
                *hold = Hold::Until(Instant::now() + HOLD);
            }
            self.wake();
        }
        is_new
    }

    /// Whether what waits is held back.
    pub(in crate::adapter) fn is_held(&self) -> bool {
        self.held() != Hold::No
    }

    fn held(&self) -> Hold {
        // Who closes waits for nobody.
        if self.lifetime.is_closing() {
            return Hold::No;
        }
        match *self.hold.lock() {
            Hold::Until(deadline) if deadline <= Instant::now() => Hold::No,
            hold @ (Hold::No | Hold::Unreached | Hold::Until(_)) => hold,
        }
    }

    /// Notes that the other servers that were known are there again, or that nobody has to be waited for.
    pub(in crate::adapter) fn release(&self) {
        *self.hold.lock() = Hold::No;
        self.wake();
    }

    /// Has those that send look again. `notify_one` leaves a permit behind if nobody waits for something to send.
    fn wake(&self) {
        for lane in &self.lanes {
            lane.queued.notify_one();
        }
    }

    /// Sets what is done each time when the broker is reached that was not. The function may not wait; the one that is set first stays.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(in crate::adapter) fn when_reached(&self, then: impl Fn() + Send + Sync + 'static) {
        let _ = self.when_reached.set(Box::new(then));
    }

    /// Notes that this server says a word to itself, if none is under way.
    pub(in crate::adapter) fn says_a_word(&self) {
        let mut echo = self.echo.lock();
        echo.said.get_or_insert_with(Instant::now);
    }

    /// Notes that this server has heard itself.
    pub(in crate::adapter) fn hears_itself(&self) {
        let mut echo = self.echo.lock();
        if let Some(said) = echo.said.take() {
            echo.took = Some(said.elapsed());
        }
    }

    fn tell_up(&self) {
        let mut told = self.told.lock();
        if told.is_up.replace(true) != Some(true) {
            tracing::info!("connected to {}", self.broker);
        }
    }

    fn tell_down(&self, why: &str) {
        let mut told = self.told.lock();
        // What was not told because a line was written a moment ago is told by a later attempt to connect.
        if told.is_up != Some(false)
            && let Some(breaks) = told.breaks.add(1)
        {
            told.is_up = Some(false);
            tracing::warn!(
                why,
                breaks,
                "other servers are not reached through {}",
                self.broker
            );
        }
    }

    /// Notes that the broker has refused messages, which the caller counts as lost.
    pub(in crate::adapter) fn refused(&self, messages: u64, why: &str) {
        *self.refusal.lock() = Some(why.to_owned());
        if let Some(messages) = self.refusals.add(messages) {
            tracing::warn!(
                why,
                messages,
                "{} refuses messages for other servers",
                self.broker
            );
        }
    }

    /// Why the broker has refused a message last.
    pub(in crate::adapter) fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }

    /// Notes that the broker is not reached. Returns whether a connection had lasted before.
    fn down(&self, why: &str) -> bool {
        *self.echo.lock() = Echo::default();
        let now = Health::Down(why.to_owned());
        let before = std::mem::replace(&mut *self.health.lock(), now);
        if before == Health::Ready {
            self.breaks.fetch_add(1, Ordering::Relaxed);
        }
        self.tell_down(why);
        let reached = self.reached.lock().take();
        reached.is_some_and(|reached| reached.elapsed() >= LASTING)
    }
}

/// Counts messages as lost that are on their way when a connection breaks off: whether the broker has got
/// them is not known, and nothing is sent twice. Dropping it counts all that have not arrived.
pub(in crate::adapter) struct Doubtful<F: Fn(u64)> {
    messages: u64,
    lost: F,
}

impl<F: Fn(u64)> Doubtful<F> {
    pub(in crate::adapter) const fn new(messages: u64, lost: F) -> Self {
        Self { messages, lost }
    }

    /// Notes that so many of the messages have arrived.
    #[cfg(any(feature = "nats", feature = "postgres"))]
    pub(in crate::adapter) const fn arrived(&mut self, messages: u64) {
        self.messages = self.messages.saturating_sub(messages);
    }

    /// Notes that all of the messages have arrived.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(in crate::adapter) fn all_arrived(mut self) {
        self.messages = 0;
    }
}

impl<F: Fn(u64)> Drop for Doubtful<F> {
    fn drop(&mut self) {
        if self.messages > 0 {
            (self.lost)(self.messages);
        }
    }
}

/// How long a connection must have lasted so that the next one is made at once when it breaks.
const LASTING: Duration = Duration::from_secs(5);
/// The time between two lines of the log that say the same.
const LINES: Duration = Duration::from_secs(10);

fn untried() -> Health {
    Health::Down("not connected yet".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_lag_is_that_of_the_last_word_that_came_back_or_of_one_that_takes_longer() {
        let limits = Limits {
            messages: 1,
            bytes: 1,
            message_bytes: 1,
        };
        let outbound: Outbound<NoMessage> = Outbound::new("a broker", limits);
        let lag = || outbound.echo.lock().lag();
        let millis = |millis| Some(Duration::from_millis(millis));
        outbound.says_a_word();
        assert_eq!(lag(), None, "none has come back yet");
        advance(Duration::from_millis(5)).await;
        outbound.hears_itself();
        // A second one says nothing new.
        outbound.hears_itself();
        assert_eq!(lag(), millis(5));
        outbound.says_a_word();
        advance(Duration::from_millis(3)).await;
        assert_eq!(lag(), millis(5));
        advance(Duration::from_millis(3000)).await;
        outbound.says_a_word();
        assert_eq!(
            lag(),
            millis(3003),
            "the first that nobody has heard counts"
        );
        assert!(outbound.up() && !outbound.up());
        assert!(!outbound.down("it broke") && !outbound.down("still"));
        assert_eq!(
            outbound.breaks.load(Ordering::Relaxed),
            1,
            "each break once"
        );
        assert_eq!(lag(), None);
        outbound.hears_itself();
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
