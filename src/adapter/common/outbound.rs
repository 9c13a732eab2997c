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
use tokio::{sync::Notify, time::Instant};

use super::{
    lifetime::{Lifetime, Pauses},
    queue::{Limits, Outgoing, Queue},
};
use crate::adapter::interface::{AdapterError, Backlog, Health};

/// What waits to be sent, and whether the broker is reached.
pub(in crate::adapter) struct Outbound<M> {
    /// The name of the broker in the log.
    broker: &'static str,
    limits: Limits,
    queue: Mutex<Queue<M>>,
    queued: Notify,
    health: Mutex<Health>,
    echo: Mutex<Echo>,
    /// How often the broker was reached and then was not.
    breaks: AtomicU64,
    /// Called when the broker is reached that was not.
    when_reached: OnceLock<Box<dyn Fn() + Send + Sync>>,
    lifetime: Lifetime,
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

    /// Whether the broker is reached.
    fn health(&self) -> Health {
        self.outbound().health.lock().clone()
    }

    /// What waits to be sent, and how long messages take.
    fn backlog(&self) -> Backlog {
        let outbound = self.outbound();
        let (messages, bytes) = {
            let queue = outbound.queue.lock();
            (queue.len(), queue.bytes())
        };
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
        let (fits, stale) = outbound.queue.lock().push(message, &outbound.limits);
        self.unsent(stale);
        outbound.queued.notify_one();
        if fits {
            Ok(())
        } else {
            Err(AdapterError::Full)
        }
    }

    /// What is sent next, waited for; `None` if the adapter is closed and everything has been sent.
    fn next(&self) -> impl Future<Output = Option<Vec<Self::Message>>> + Send {
        let outbound = self.outbound();
        async move {
            loop {
                let (batch, stale) = outbound.queue.lock().take();
                self.unsent(stale);
                if !batch.is_empty() {
                    return Some(batch);
                }
                if outbound.lifetime.is_closing() {
                    return None;
                }
                // `notify_one` leaves a permit behind when nobody waits: what is queued between the look above and this
                // line wakes this task as well. Dropping the future here loses nothing, since nothing was taken.
                outbound.queued.notified().await;
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
            let mut pauses = Pauses::new();
            let is_empty = || outbound.queue.lock().len() == 0;
            // This future is pinned outside of the loop, so that its time goes on across connections.
            let mut given_up = pin!(outbound.lifetime.given_up(is_empty));
            loop {
                let ended = tokio::select! {
                    ended = self.run_connection(given_up.as_mut()) => ended,
                    () = outbound.lifetime.ended() => Ok(()),
                };
                let Err(why) = ended else { break };
                if outbound.down(&why) {
                    pauses.reset();
                }
                if !pauses.wait(given_up.as_mut()).await {
                    break;
                }
            }
            // What is left is counted before the end is told, so that whoever waits for the end finds it counted.
            let left = std::mem::take(&mut *outbound.queue.lock());
            self.unsent(left.into_messages());
            outbound.lifetime.end();
        }
    }

    /// Sends what is queued, if the broker can be reached in time, and ends.
    fn close(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        async move {
            let outbound = self.outbound();
            outbound.lifetime.close();
            // The task may be waiting for something to send, and must see that the adapter closes.
            outbound.queued.notify_one();
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
            queue: Mutex::default(),
            queued: Notify::new(),
            health: Mutex::new(untried()),
            echo: Mutex::default(),
            breaks: AtomicU64::new(0),
            when_reached: OnceLock::new(),
            lifetime: Lifetime::new(),
        }
    }

    /// What may wait.
    pub(in crate::adapter) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Notes that the broker is reached. Returns whether that is new.
    pub(in crate::adapter) fn up(&self) -> bool {
        let is_new = *self.health.lock() != Health::Ready;
        if is_new {
            tracing::info!("connected to {}", self.broker);
            // Whoever sees that the broker is reached finds that done.
            if let Some(reached) = self.when_reached.get() {
                reached();
            }
            *self.health.lock() = Health::Ready;
        }
        is_new
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

    /// Notes that the broker is not reached. Returns whether that is new.
    fn down(&self, why: &str) -> bool {
        *self.echo.lock() = Echo::default();
        let now = Health::Down(why.to_owned());
        let before = std::mem::replace(&mut *self.health.lock(), now);
        let was_up = before == Health::Ready;
        if was_up {
            self.breaks.fetch_add(1, Ordering::Relaxed);
        }
        if was_up || before == untried() {
            tracing::warn!(why, "other servers are not reached through {}", self.broker);
        }
        was_up
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

    /// Notes that one of the messages has arrived.
    #[cfg(feature = "nats")]
    pub(in crate::adapter) const fn arrived(&mut self) {
        self.messages = self.messages.saturating_sub(1);
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
        assert!(outbound.down("it broke") && !outbound.down("still"));
        assert_eq!(
            outbound.breaks.load(Ordering::Relaxed),
            1,
            "each break once"
        );
        assert_eq!(lag(), None);
        outbound.hears_itself();
        assert_eq!(lag(), None, "it was said on another connection");
    }

    struct NoMessage;

    impl Outgoing for NoMessage {
        fn bytes(&self) -> usize {
            0
        }
    }
}
