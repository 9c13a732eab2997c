//! The link to Redis: one connection to publish, one to subscribe, and a loopback probe every
//! second that shows that both work.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    channels::{ChannelKind, Name, Target},
    connection::{BrokerConnection, OnPush, RedisAddress, Refusal, Sent},
    own_messages::OwnMessages,
    streams::{self, Event, Reader, Stream},
};
use crate::adapter::{
    Position,
    common::{
        Broker, InFlightMessages, Limits, Outbound, ProbeTimer, Probes, SharedAddress,
        Subscriptions, guarded,
    },
    interface::AdapterError,
    operation::NAMESPACE,
};

/// Processes incoming messages. An emitter only counts lost messages.
pub(crate) trait Listener: Send + Sync {
    /// Processes a message on a channel.
    fn receive(&self, _target: Target, _channel: &[u8], _payload: Bytes) {}
    /// Processes an entry of the stream.
    fn read(&self, _entry: streams::Read) {}
    fn lost(&self, messages: u64);
    /// Called when a message will not be sent.
    fn unsent(&self, _message: Sent) {}
}

/// A connection that reconnects whenever it breaks.
pub(crate) struct BrokerLink {
    place: SharedAddress<RedisAddress>,
    /// The type of the channels that this server publishes to, and of its own channel.
    channel_kind: ChannelKind,
    /// The channel on which this server receives its own probes.
    own: String,
    outbound: Outbound<Sent>,
    pub(super) subscriptions: Subscriptions<Name, Target>,
    /// The connection for queries, while Redis is connected.
    line: Mutex<Option<BrokerConnection>>,
    /// When the last probe of this server returned.
    last_probe: Mutex<Instant>,
    listener: Weak<dyn Listener>,
    /// The reader of the stream, if there is one.
    reader: Option<Reader>,
    /// The loopback probes in flight.
    probes: Probes,
    /// Recognizes the messages of this server, which it receives like those of all other servers.
    sent: Option<OwnMessages>,
    /// The channel to which all servers of this library subscribe. `None` if messages need not wait
    /// until the other servers have reconnected.
    census: Option<String>,
    /// The last known number of subscribers of that channel.
    known: AtomicUsize,
    /// The channel of heartbeats. An emitter sends none.
    heartbeats: Option<String>,
}

impl BrokerLink {
    pub(crate) fn new(
        place: SharedAddress<RedisAddress>,
        channel_kind: ChannelKind,
        own: String,
        limits: Limits,
        listener: Weak<dyn Listener>,
    ) -> Self {
        let subscriptions = Subscriptions::new();
        subscriptions.listen((channel_kind, own.clone().into()), Some(Target::Envelopes));
        Self {
            place,
            channel_kind,
            own,
            outbound: Outbound::new("Redis", limits),
            subscriptions,
            line: Mutex::new(None),
            last_probe: Mutex::new(Instant::now()),
            listener,
            reader: None,
            probes: Probes::new(false),
            sent: None,
            census: None,
            known: AtomicUsize::new(0),
            heartbeats: None,
        }
    }

    /// Makes the link not count lost messages on the channel of heartbeats.
    pub(crate) fn heartbeats_on(mut self, channel: String) -> Self {
        self.heartbeats = Some(channel);
        self
    }

    /// Makes the link hold messages after a disconnect until the channel has as many subscribers as
    /// before.
    pub(crate) fn await_subscribers(mut self, channel: String) -> Self {
        self.census = Some(channel);
        self
    }

    /// Makes the link ignore messages of this server.
    pub(crate) fn ignore_own(mut self, own: OwnMessages) -> Self {
        self.sent = Some(own);
        self
    }

    /// Makes the probes random if servers seal their messages.
    pub(crate) fn sealing(mut self, is_sealed: bool) -> Self {
        self.probes = Probes::new(is_sealed);
        self
    }

    /// Makes the link read a stream.
    pub(crate) fn reading(mut self, stream: Stream) -> Self {
        self.reader = Some(Reader::new(stream));
        self
    }

    /// Returns the position up to which the stream was read.
    pub(crate) fn position(&self) -> Option<Position> {
        self.reader.as_ref()?.position()
    }

    /// Returns the connection for queries, if there is one.
    pub(crate) fn line(&self) -> Option<BrokerConnection> {
        self.line.lock().clone()
    }

    /// Returns how many other servers subscribe to a channel.
    pub(crate) async fn count_peers(&self, channel: String) -> Result<usize, AdapterError> {
        let mut line = self.line().ok_or(AdapterError::Timeout)?;
        // Redis counts a subscription before this server knows that it is confirmed.
        self.subscriptions.followed().await;
        let all = line.subscribers(self.channel_kind, &channel).await;
        let all = all.map_err(|error| AdapterError::Transport(Arc::new(error)))?;
        let name = (self.channel_kind, channel.into());
        // This server is subtracted only if its own subscription is part of the count.
        let is_among = self.subscriptions.is_subscribed(&name);
        Ok(all.saturating_sub(usize::from(is_among)))
    }
}

impl Broker for BrokerLink {
    type Message = Sent;

    fn outbound(&self) -> &Outbound<Sent> {
        &self.outbound
    }

    fn holds(&self) -> bool {
        self.census.is_some()
    }

    fn unsent(&self, messages: Vec<Sent>) {
        self.lost(self.losses(&messages));
        if let Some(listener) = self.listener.upgrade() {
            for message in messages {
                listener.unsent(message);
            }
        }
    }

    fn counts_if_lost(&self, message: &Sent) -> bool {
        match message {
            Sent::Message(channel, _) => self.heartbeats.as_ref() != Some(channel),
            Sent::Entry(_, entry, _) => !entry.is_heartbeat(),
            Sent::Command(..) => true,
        }
    }

    async fn run_connection(
        self: &Arc<Self>,
        given_up: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<(), String> {
        let text = |error: redis::RedisError| error.to_string();
        let pair = Arc::new(ConnectionPair::default());
        let _ending = Ending(&pair);
        let broken = &pair.broken;
        let connecting = async {
            let place = self.place.now();
            let publisher = place.connect(None).await.map_err(text)?;
            let subscriber = place.connect(Some(self.on_push(&pair))).await;
            let mut subscriber = subscriber.map_err(text)?;
            // All channels are subscribed before Redis counts as reachable. Callers that see it as
            // reachable receive messages of peers.
            self.subscriptions.reset();
            self.subscribe(&mut subscriber).await.map_err(text)?;
            let reading = match &self.reader {
                Some(reader) => {
                    let mut line = place.connect(None).await.map_err(text)?;
                    self.event(Event::Lost(
                        reader.check_position(&mut line).await.map_err(text)?,
                    ));
                    reader.warn_about_other_streams(&mut line).await;
                    Some((reader, line))
                }
                None => None,
            };
            Ok::<_, String>((publisher, subscriber, reading))
        };
        // Connecting may take long, and an adapter that closes must not wait for it.
        let (publisher, subscriber, reading) = tokio::select! {
            lines = connecting => lines?,
            () = given_up => return Ok(()),
        };
        let _connected = self.up(publisher.clone());
        let reading = async {
            match reading {
                Some((reader, line)) => reader.read(line, &|event| self.event(event)).await,
                None => std::future::pending().await,
            }
        };
        // When the first part ends, all connections are closed and reconnect together. Messages in
        // flight are counted as lost.
        tokio::select! {
            ended = reading => Err(text(ended)),
            ended = self.publish_all(publisher.clone()) => ended.map_err(text),
            ended = self.keep_subscribed(subscriber) => Err(text(ended)),
            ended = self.watch_peers(publisher.clone()) => Err(text(ended)),
            why = self.watch_probes(publisher) => Err(why),
            () = broken.notified() => Err("the connection is closed".to_owned()),
        }
    }
}

impl BrokerLink {
    fn event(&self, event: Event) {
        if let Some(listener) = self.listener.upgrade() {
            streams::notify(&*listener, event);
        }
    }

    fn up(&self, line: BrokerConnection) -> Connected<'_> {
        *self.last_probe.lock() = Instant::now();
        *self.line.lock() = Some(line);
        self.outbound.up();
        Connected(self)
    }

    fn lost(&self, messages: u64) {
        if messages > 0
            && let Some(listener) = self.listener.upgrade()
        {
            listener.lost(messages);
        }
    }

    async fn publish_all(&self, mut line: BrokerConnection) -> redis::RedisResult<()> {
        while let Some(batch) = self.next().await {
            // If sending fails or this future is dropped, the batch is counted as lost.
            let in_flight = InFlightMessages::new(self.losses(&batch), |lost| self.lost(lost));
            let refusals = line.send(self.channel_kind, &batch).await?;
            in_flight.all_arrived();
            self.refused(batch, &refusals);
        }
        Ok(())
    }

    /// Counts the messages of a batch that Redis refused.
    fn refused(&self, batch: Vec<Sent>, refusals: &[Refusal]) {
        let Some(last) = refusals.last() else { return };
        let why = last.error.to_string();
        self.outbound.refused(refusals.len() as u64, &why);
        let mut indices = refusals.iter().map(|refusal| refusal.index).peekable();
        let refused = batch.into_iter().enumerate();
        let refused = refused.filter(|(index, _)| indices.next_if_eq(index).is_some());
        self.unsent(refused.map(|(_, message)| message).collect());
    }

    async fn subscribe(&self, line: &mut BrokerConnection) -> redis::RedisResult<()> {
        loop {
            let batch = self.subscriptions.next();
            if !batch.changes.is_empty() {
                line.subscribe(&batch.changes).await?;
            }
            if self.subscriptions.confirm(batch, drop) {
                return Ok(());
            }
        }
    }

    async fn keep_subscribed(&self, mut line: BrokerConnection) -> redis::RedisError {
        loop {
            if let Err(error) = self.subscribe(&mut line).await {
                return error;
            }
            self.subscriptions.changed().await;
        }
    }

    /// Counts the subscribers every second. After a disconnect, holds messages until the earlier
    /// number is reached.
    async fn watch_peers(&self, mut line: BrokerConnection) -> redis::RedisError {
        let Some(channel) = &self.census else {
            return std::future::pending().await;
        };
        loop {
            let listening = match line.subscribers(self.channel_kind, channel).await {
                Ok(listening) => listening,
                Err(error) => return error,
            };
            if self.outbound.is_held() && listening < self.known.load(Ordering::Relaxed) {
                sleep(PEER_CHECK_INTERVAL).await;
                continue;
            }
            self.outbound.release();
            self.known.store(listening, Ordering::Relaxed);
            sleep(PROBE_INTERVAL).await;
        }
    }

    /// Sends probes and checks that they return. Redis may accept messages and deliver none, and a
    /// connection may be dead without an error.
    async fn watch_probes(&self, mut line: BrokerConnection) -> String {
        let mut timer = ProbeTimer::default();
        loop {
            let message = [Sent::Message(self.own.clone(), self.probes.next().into())];
            self.outbound.probe_sent();
            match line.send(self.channel_kind, &message).await {
                Ok(refusals) => {
                    if let Some(refusal) = refusals.first() {
                        return refusal.error.to_string();
                    }
                }
                Err(error) => return error.to_string(),
            }
            if timer.next(PROBE_INTERVAL).await && self.last_probe.lock().elapsed() > PROBE_TIMEOUT
            {
                return "Redis delivers nothing".to_owned();
            }
        }
    }

    fn on_push(self: &Arc<Self>, pair: &Arc<ConnectionPair>) -> OnPush {
        let link = Arc::downgrade(self);
        let pair = Arc::clone(pair);
        Arc::new(move |info| {
            let Some(link) = link.upgrade() else {
                return;
            };
            // The connection's task must survive a panic in the processing of a message.
            guarded(|| link.pushed(info, &pair));
        })
    }

    fn pushed(&self, info: PushInfo, pair: &ConnectionPair) {
        let mut data = info.data.into_iter();
        let mut next = || match data.next() {
            Some(Value::BulkString(bytes)) => Some(Bytes::from(bytes)),
            Some(_) | None => None,
        };
        let channel_kind = if info.kind == PushKind::Message {
            ChannelKind::Plain
        } else if info.kind == PushKind::PMessage {
            ChannelKind::Pattern
        } else if info.kind == PushKind::SMessage {
            ChannelKind::Sharded
        } else {
            let is_unrequested = info.kind == PushKind::SUnsubscribe
                && next().is_some_and(|name| {
                    let name = (ChannelKind::Sharded, name);
                    let subscriptions = &self.subscriptions;
                    subscriptions.is_subscribed(&name) && subscriptions.target(&name).is_some()
                });
            // The slot of a channel has moved to another node, or the connection is closed. This
            // may happen while it is still being established; `notify_one` stores a permit until a
            // task waits.
            if is_unrequested || info.kind == PushKind::Disconnection {
                pair.broken.notify_one();
            }
            return;
        };
        let Some(name) = next() else {
            return;
        };
        // A pattern push carries the pattern first, then the matched channel.
        let channel = match channel_kind {
            ChannelKind::Pattern => next(),
            ChannelKind::Plain | ChannelKind::Sharded => Some(name.clone()),
        };
        let (Some(channel), Some(payload)) = (channel, next()) else {
            return;
        };
        if self.sent.as_ref().is_some_and(|own| own.has_sent(&payload)) {
            return;
        }
        let target = self.subscriptions.target(&(channel_kind, name));
        // The cluster client queues messages without a limit, and continues to deliver them after
        // its connection has ended. Relaxed ordering suffices: a message in the moment of the
        // change counts as earlier.
        let is_over = pair.is_over.load(Ordering::Relaxed);
        match target {
            // The loss of a loopback probe or a heartbeat does not count.
            Some(Target::Envelopes) if is_over && self.probes.has_returned(&payload) => {}
            Some(Target::Namespace(route)) if is_over && route.namespace == *NAMESPACE => {}
            Some(_) if is_over => self.lost(1),
            Some(Target::Envelopes) if self.probes.has_returned(&payload) => {
                *self.last_probe.lock() = Instant::now();
                self.outbound.probe_returned();
            }
            Some(target) => {
                if let Some(listener) = self.listener.upgrade() {
                    listener.receive(target, &channel, payload);
                }
            }
            // Messages from before this server left the channel may still arrive.
            None => {}
        }
    }
}

/// The state of one pair of connections, to publish and to subscribe.
#[derive(Default)]
struct ConnectionPair {
    broken: Notify,
    /// Another pair may exist, so messages of this pair would be duplicates.
    is_over: AtomicBool,
}

/// Records the end of a pair of connections when it is dropped.
struct Ending<'a>(&'a ConnectionPair);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// While this value exists, queries can be sent to Redis.
struct Connected<'a>(&'a BrokerLink);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        *self.0.line.lock() = None;
    }
}

/// The interval between loopback probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The interval between checks whether the other servers have reconnected.
const PEER_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// The time without a returned probe after which the connection counts as broken.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use roomcast_protocol::socket::Nsp;

    use super::*;
    use crate::adapter::{node_js::kind, redis::streams::Heartbeats};

    #[derive(Default)]
    struct ReceivedCounts {
        messages: AtomicU64,
        lost: AtomicU64,
    }

    impl Listener for ReceivedCounts {
        fn receive(&self, _: Target, _: &[u8], _: Bytes) {
            self.messages.fetch_add(1, Ordering::Relaxed);
        }

        fn lost(&self, messages: u64) {
            self.lost.fetch_add(messages, Ordering::Relaxed);
        }
    }

    fn link(listener: &Arc<dyn Listener>) -> BrokerLink {
        let (place, _) = RedisAddress::parse("redis://localhost").unwrap();
        let limits = Limits {
            messages: 1,
            bytes: 1,
            message_bytes: 1,
        };
        BrokerLink::new(
            SharedAddress::new(place),
            ChannelKind::Plain,
            "own".to_owned(),
            limits,
            Arc::downgrade(listener),
        )
    }

    #[test]
    fn unsent_heartbeats_do_not_count_as_lost() {
        let counts = Arc::new(ReceivedCounts::default());
        let listener: Arc<dyn Listener> = Arc::<ReceivedCounts>::clone(&counts);
        let link = link(&listener).heartbeats_on("heartbeats".to_owned());
        let message = |channel: &str| Sent::Message(channel.to_owned(), Bytes::new());
        // A response to a server that counts its peers by heartbeats in the stream.
        let response = Heartbeats::default().record("me", &Nsp::ROOT, "x", kind::HEARTBEAT);
        let stream = Stream {
            name: "stream".to_owned(),
            max_len: 1,
            read_count: 1,
        };
        let response = Sent::Entry(Arc::new(stream), response.unwrap(), None);
        link.unsent(vec![message("heartbeats"), response]);
        assert_eq!(counts.lost.load(Ordering::Relaxed), 0);
        link.unsent(["heartbeats", "events", "heartbeats"].map(message).into());
        assert_eq!(counts.lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn messages_after_disconnect_count_as_lost_except_own() {
        let counts = Arc::new(ReceivedCounts::default());
        let listener: Arc<dyn Listener> = Arc::<ReceivedCounts>::clone(&counts);
        let link = Arc::new(link(&listener).ignore_own(OwnMessages::new("me", None)));
        let pair = Arc::new(ConnectionPair::default());
        let on_push = link.on_push(&pair);
        let push = |channel: &str, payload: &[u8]| {
            let data = [channel.as_bytes(), payload].map(|part| Value::BulkString(part.to_vec()));
            on_push(PushInfo {
                kind: PushKind::Message,
                data: data.into(),
            });
            let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
            (load(&counts.messages), load(&counts.lost))
        };
        let long_ago = *link.last_probe.lock();
        assert_eq!(push("own", b"an envelope"), (1, 0));
        assert_eq!(push("own", b""), (1, 0));
        let last = *link.last_probe.lock();
        assert!(last > long_ago);
        drop(Ending(&pair));
        assert_eq!(push("own", b""), (1, 0));
        assert_eq!(*link.last_probe.lock(), last);
        assert_eq!(push("own", b"\x93\xa2me of this server"), (1, 0));
        assert_eq!(push("left", b"a message"), (1, 0));
        assert_eq!(push("own", b"an envelope"), (1, 1));
    }
}
