//! The link to NATS: sends queued messages, passes incoming messages to a listener, and sends a
//! pulse every second that shows that both work.
//!
//! With JetStream, one stream stores all messages for a limited time. Every server reads it in
//! order, and resumes at its last position after a disconnect. Without JetStream, messages during a
//! disconnect are lost.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    jetstream::{
        self, Context,
        consumer::{DeliverPolicy, pull::OrderedConfig},
        stream::{self, DiscardPolicy, StorageType},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    diagnosis, streams,
    subjects::{Subjects, place},
};
use crate::adapter::{
    common::{
        Broker, Limits, Outbound, Outgoing, ProbeTimer, SharedAddress, chain, guarded, unwritten,
    },
    envelope::Envelope,
    interface::{AdapterError, Health},
    seal::Sealer,
};

/// Processes incoming messages. An emitter only counts lost messages.
pub(super) trait Listener: Send + Sync {
    /// Processes a message, in the order in which messages were sent. `_stored_at` is the time at
    /// which the stream stored it, in milliseconds since 1970.
    fn receive(&self, _subject: &str, _payload: Bytes, _stored_at: Option<u64>) {}
    /// Processes a pulse. Returns whether this server sent it.
    fn handle_pulse(&self, _payload: Bytes) -> bool {
        false
    }
    /// Called when messages of other servers may be missing.
    fn report_gap(&self) {}
    /// Called when this number of incoming or outgoing messages is lost.
    fn lost(&self, messages: u64);
    /// Called when this link begins to receive messages, after each connect. `_is_stored` is true
    /// if messages are also stored for disconnected servers.
    fn listening(&self, _is_stored: bool) {}
    /// Called when the connection has ended.
    fn disconnected(&self) {}
    /// Called every second. `_stall` is the time for which this server stalled since the last call.
    fn tick(&self, _stall: Duration) {}
}

/// An outgoing message.
pub(crate) struct Message {
    pub(super) subject: String,
    pub(super) payload: Bytes,
    /// Whether the message is a pulse, which is not stored.
    pub(super) is_pulse: bool,
    /// Whether its loss counts.
    pub(super) counts: bool,
}

impl Message {
    /// Encodes an envelope.
    pub(super) fn new(subject: String, envelope: &Envelope) -> Result<Self, AdapterError> {
        Ok(Self {
            subject,
            payload: envelope.to_bytes().map_err(unwritten)?,
            is_pulse: false,
            counts: true,
        })
    }

    /// Returns the sealed form of the message.
    fn sealed(&self, sealer: &Sealer) -> Self {
        Self {
            subject: self.subject.clone(),
            payload: sealer.seal(place(&self.subject), &self.payload),
            is_pulse: self.is_pulse,
            counts: self.counts,
        }
    }
}

impl Outgoing for Message {
    fn bytes(&self) -> usize {
        self.subject.len() + self.payload.len()
    }

    fn is_pulse(&self) -> bool {
        self.is_pulse
    }
}

/// The address of NATS, and the limits of the stream.
#[derive(Clone)]
pub(crate) struct Address {
    pub(super) servers: Vec<ServerAddr>,
    pub(super) options: ConnectOptions,
    /// The time that the stream stores a message.
    pub(super) keep: Duration,
    /// The maximum size of the stream in bytes.
    pub(super) keep_bytes: i64,
}

pub(crate) struct BrokerLink {
    address: SharedAddress<Address>,
    pub(super) subjects: Arc<Subjects>,
    pub(super) outbound: Outbound<Message>,
    /// When the last pulse of this server returned on the current connection.
    last_probe: Mutex<Option<Instant>>,
    /// The position up to which the stream was read.
    cursor: Mutex<Option<Cursor>>,
    listener: Weak<dyn Listener>,
    /// Whether this program receives messages.
    listens: bool,
    /// Whether this NATS stores messages, as far as is known.
    pub(super) is_stored: AtomicBool,
    /// The maximum size of a payload in bytes that this NATS accepts. Unlimited until the first
    /// connection.
    pub(super) max_payload: AtomicUsize,
    /// The number of the last message that the stream acknowledged on this connection.
    pub(super) acknowledged: AtomicU64,
    /// The number of messages that NATS refused because this user lacks the permission.
    pub(super) forbidden: watch::Sender<u64>,
}

/// A position in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    /// When the stream was created. The numbers of a new stream start at 1 again.
    created: i128,
    /// The number of the last message that was read.
    last: u64,
}

impl BrokerLink {
    pub(super) fn new(
        address: SharedAddress<Address>,
        subjects: Arc<Subjects>,
        limits: Limits,
        listener: Weak<dyn Listener>,
        listens: bool,
    ) -> Self {
        Self {
            address,
            subjects,
            outbound: Outbound::new("NATS", limits),
            last_probe: Mutex::new(None),
            cursor: Mutex::new(None),
            listener,
            listens,
            is_stored: AtomicBool::new(false),
            max_payload: AtomicUsize::new(usize::MAX),
            acknowledged: AtomicU64::new(0),
            forbidden: watch::Sender::new(0),
        }
    }
}

impl Broker for BrokerLink {
    type Message = Message;

    fn outbound(&self) -> &Outbound<Message> {
        &self.outbound
    }

    fn holds(&self) -> bool {
        self.listens
    }

    fn unsent(&self, messages: Vec<Message>) {
        self.lost(self.losses(&messages));
    }

    fn counts_if_lost(&self, message: &Message) -> bool {
        message.counts
    }

    fn takes(&self, message: &Message) -> bool {
        message.bytes() <= self.outbound.limits().message_bytes
            && message.payload.len() <= self.max_payload.load(Ordering::Relaxed)
    }

    async fn run_connection(
        self: &Arc<Self>,
        given_up: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<(), String> {
        *self.last_probe.lock() = None;
        let (broken, breaks) = watch::channel(None);
        let (draining, mut drained) = watch::channel(false);
        let link = Arc::downgrade(self);
        let listener = self.listener.clone();
        let Address {
            servers, options, ..
        } = self.address.now();
        let options = options.event_callback(move |event| {
            match event {
                Event::Disconnected | Event::Closed => {
                    // A reason from the server takes precedence. The connection closes right after
                    // it.
                    broken.send_if_modified(|why| {
                        why.is_none() && why.replace(CLOSED.to_owned()).is_none()
                    });
                }
                Event::ServerError(error) => {
                    let why = error.to_string();
                    let is_refusal = link.upgrade().is_some_and(|link| link.is_forbidden(&why));
                    if !is_refusal {
                        broken.send_replace(Some(why));
                    }
                }
                Event::Draining => {
                    draining.send_replace(true);
                }
                // The client dropped at least one message because the receive queue was full.
                Event::SlowConsumer(_) => {
                    if let Some(listener) = listener.upgrade() {
                        listener.lost(1);
                    }
                }
                Event::Connected | Event::LameDuckMode | Event::ClientError(_) => {}
            }
            std::future::ready(())
        });
        // Connecting may take long, and an adapter that closes must not wait for it.
        let servers = &servers;
        let stranger = async {
            // Something that is not NATS and sends nothing blocks `connect` for as long as messages
            // may wait.
            tokio::time::sleep(STRANGER_DELAY).await;
            match diagnosis::find(servers).await {
                Some(why) => why,
                None => std::future::pending().await,
            }
        };
        let client = tokio::select! {
            client = options.connect(&**servers) => match client {
                Ok(client) => client,
                Err(error) => {
                    let stranger = diagnosis::find(servers).await;
                    return Err(stranger.unwrap_or_else(|| chain(&error)));
                }
            },
            why = stranger => return Err(why),
            () = given_up => return Ok(()),
        };
        let mut breaks = breaks;
        let broken = async {
            match breaks.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => CLOSED.to_owned(),
            }
        };
        let ended = tokio::select! {
            why = broken => Err(why),
            ended = self.work(&client) => ended,
        };
        // NATS reports refusals asynchronously. The client reports events in order, so all refusals
        // from before are counted when it reports the drain.
        if ended.is_ok() && client.drain().await.is_ok() {
            let _ = timeout(SECOND, drained.wait_for(|is_draining| *is_draining)).await;
        }
        if let Some(listener) = self.listener.upgrade() {
            listener.disconnected();
        }
        ended
    }
}

impl BrokerLink {
    async fn work(&self, client: &Client) -> Result<(), String> {
        // The limit is known before NATS counts as reachable, so larger messages are refused from
        // then on.
        let max_payload = client.server_info().max_payload;
        self.max_payload.store(max_payload, Ordering::Relaxed);
        // A new stream starts at 1 again.
        self.acknowledged.store(0, Ordering::Relaxed);
        let context = jetstream::new(client.clone());
        let stream = self.stream(&context).await?;
        let storing = stream.is_some().then_some(&context);
        // A program that only sends receives no pulses, so the connection alone must suffice.
        if !self.listens {
            self.up(storing.is_some());
            return self.publish_all(client, storing).await;
        }
        let pulses = client.subscribe(self.subjects.pulse.clone()).await;
        let mut pulses = pulses.map_err(|error| chain(&error))?;
        let reading = async {
            match &stream {
                Some(stream) => self.read(stream).await,
                None => self.read_live(client).await,
            }
        };
        let feeling = async {
            while let Some(pulse) = pulses.next().await {
                let listener = self.listener.upgrade();
                if listener.is_some_and(|listener| listener.handle_pulse(pulse.payload)) {
                    // NATS only counts as reachable after a pulse of this server has returned.
                    *self.last_probe.lock() = Some(Instant::now());
                    self.outbound.probe_returned();
                    self.up(storing.is_some());
                }
            }
            CLOSED.to_owned()
        };
        tokio::select! {
            // When any of these ends, the connection is closed, and after an error it reconnects.
            ended = self.publish_all(client, storing) => ended,
            why = reading => Err(why),
            why = feeling => Err(why),
            why = self.watch_probes() => Err(why),
        }
    }

    /// Returns the stream that stores messages, or `None` if this NATS has no JetStream.
    pub(super) async fn stream(&self, context: &Context) -> Result<Option<stream::Stream>, String> {
        let address = self.address.now();
        let config = stream::Config {
            name: self.subjects.stream.clone(),
            subjects: vec![self.subjects.everything()],
            // The stream only bridges short disconnects, so memory storage suffices. When it is
            // full, it drops the oldest message.
            storage: StorageType::Memory,
            discard: DiscardPolicy::Old,
            max_age: address.keep,
            max_bytes: address.keep_bytes,
            ..stream::Config::default()
        };
        match streams::open(context, config).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if streams::has_no_jetstream(&error) => Ok(None),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Reads the stream from the last position of this server, or from now on.
    async fn read(&self, stream: &stream::Stream) -> String {
        let info = match stream.get_info().await {
            Ok(info) => info,
            Err(error) => return chain(&error),
        };
        let created = info.created.unix_timestamp_nanos();
        let (first, newest) = (info.state.first_sequence, info.state.last_sequence);
        let before = *self.cursor.lock();
        let mut last = match before {
            None => newest,
            Some(cursor) if cursor.created == created => cursor.last.min(newest),
            // The stream was created again. None of it was read, and the number of missed messages
            // of the old stream is unknown.
            Some(_) => {
                self.lost(1);
                first.saturating_sub(1)
            }
        };
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: last + 1,
            },
            ..OrderedConfig::default()
        };
        let messages = match stream.create_consumer(config).await {
            Ok(consumer) => consumer.messages().await,
            Err(error) => return chain(&error),
        };
        let mut messages = match messages {
            Ok(messages) => messages,
            Err(error) => return chain(&error),
        };
        *self.cursor.lock() = Some(Cursor { created, last });
        self.listening(true);
        while let Some(message) = messages.next().await {
            let message = match message {
                Ok(message) => message,
                Err(error) => return chain(&error),
            };
            let Ok(info) = message.info() else { continue };
            let number = info.stream_sequence;
            let stored_at = u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).ok();
            // Messages that exceeded the age or size limit are no longer in the stream.
            self.lost(number.saturating_sub(last + 1));
            last = last.max(number);
            // The position is stored before the message is applied, so that a failure does not
            // apply it again.
            *self.cursor.lock() = Some(Cursor { created, last });
            let message = message.message;
            // A message without a known time does not count as new.
            self.receive(&message.subject, message.payload, stored_at.or(Some(0)));
        }
        CLOSED.to_owned()
    }

    /// Receives messages while connected, from a NATS that stores nothing.
    async fn read_live(&self, client: &Client) -> String {
        let mut messages = match client.subscribe(self.subjects.everything()).await {
            Ok(messages) => messages,
            Err(error) => return chain(&error),
        };
        // NATS processes the commands of a connection in order, so the subscription is active
        // before the next pulse of this server returns.
        if let Err(error) = client.flush().await {
            return chain(&error);
        }
        self.listening(false);
        while let Some(message) = messages.next().await {
            self.receive(&message.subject, message.payload, None);
        }
        CLOSED.to_owned()
    }

    fn receive(&self, subject: &str, payload: Bytes, stored_at: Option<u64>) {
        if let Some(listener) = self.listener.upgrade() {
            guarded(|| listener.receive(subject, payload, stored_at));
        }
    }

    fn listening(&self, is_stored: bool) {
        if let Some(listener) = self.listener.upgrade() {
            listener.listening(is_stored);
        }
    }

    /// Sends a pulse every second and checks that it returns, because a connection may be dead
    /// without an error.
    async fn watch_probes(&self) -> String {
        let since = Instant::now();
        let mut stalled = StallDetector::since(since);
        let mut timer = ProbeTimer::default();
        loop {
            self.outbound.probe_sent();
            if let Some(listener) = self.listener.upgrade() {
                listener.tick(timer.stall());
            }
            let is_significant = timer.next(SECOND).await;
            let last_probe = self.last_probe.lock().unwrap_or(since);
            if is_significant && last_probe.elapsed() > PROBE_TIMEOUT {
                return "NATS no longer delivers messages".to_owned();
            }
            let read = self.cursor.lock().map(|cursor| cursor.last);
            let acknowledged = self.acknowledged.load(Ordering::Relaxed);
            let has_stalled =
                read.is_some_and(|read| stalled.is(read, acknowledged, Instant::now()));
            if is_significant && has_stalled {
                return "the stream no longer delivers messages".to_owned();
            }
        }
    }

    /// Sends a message sealed, or plain, or in both forms.
    pub(super) fn send(
        &self,
        message: Message,
        sealer: Option<&Sealer>,
        accepts_plain: bool,
    ) -> Result<(), AdapterError> {
        if let Some(sealer) = sealer {
            self.publish(message.sealed(sealer))?;
            if !accepts_plain {
                return Ok(());
            }
        }
        self.publish(message)
    }

    /// Returns whether messages that are sent while this server is disconnected arrive later.
    pub(super) fn replays_missed(&self) -> bool {
        self.is_stored.load(Ordering::Relaxed)
    }

    fn up(&self, is_stored: bool) {
        let is_resumed = self.is_stored.swap(is_stored, Ordering::Relaxed) && is_stored;
        // The gap is reported before NATS counts as reachable, so that no session is recovered
        // before that. There is none if the stream is read on from the last position of this
        // server.
        if !is_resumed
            && self.health() != Health::Ready
            && let Some(listener) = self.listener.upgrade()
        {
            listener.report_gap();
        }
        if self.outbound.up() && !is_stored {
            tracing::warn!(
                "this NATS has no JetStream: a server misses messages that are sent while it is disconnected"
            );
        }
    }

    pub(super) fn lost(&self, messages: u64) {
        if messages > 0
            && let Some(listener) = self.listener.upgrade()
        {
            listener.lost(messages);
        }
    }
}

/// Detects that the stream is no longer read. In a NATS cluster, the consumer of this server may
/// have been lost with another node. The node of this connection continues to deliver pulses.
struct StallDetector {
    /// The last message that was read.
    read: u64,
    /// When it was read, or when there was last nothing more to read.
    since: Instant,
}

impl StallDetector {
    const fn since(now: Instant) -> Self {
        Self {
            read: 0,
            since: now,
        }
    }

    /// Returns whether no message was read for long although the stream contains more. Every server
    /// sends a heartbeat each second, so the stream always gets new messages.
    fn is(&mut self, read: u64, acknowledged: u64, now: Instant) -> bool {
        if read != self.read || read >= acknowledged {
            (self.read, self.since) = (read, now);
        }
        now.duration_since(self.since) > PROBE_TIMEOUT
    }
}

/// Maximum time for connecting before the server is diagnosed.
const STRANGER_DELAY: Duration = Duration::from_secs(1);
const CLOSED: &str = "the connection is closed";
const SECOND: Duration = Duration::from_secs(1);
/// The time without a returned pulse after which the connection counts as broken.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_that_has_more_but_delivers_nothing_is_stalled() {
        let start = Instant::now();
        let mut stalled = StallDetector::since(start);
        let mut at =
            |seconds, read, acknowledged| stalled.is(read, acknowledged, start + seconds * SECOND);
        // Everything was read, however long ago.
        assert!(!at(0, 7, 7) && !at(60, 7, 7));
        // Messages arrive slowly, but continue to arrive.
        assert!(!at(65, 8, 100) && !at(70, 9, 100) && !at(75, 9, 100));
        assert!(at(76, 9, 100));
        assert!(!at(77, 10, 100));
    }
}
