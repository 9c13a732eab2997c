//! What keeps a server connected to Redis: one connection to publish, one to subscribe, and a message
//! to itself every second that shows that both work.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    channels::{How, Name, Target},
    echoes::Own,
    line::{Line, OnPush, RedisAddress, Sent},
    streams::{self, Event, Reader, Stream},
};
use crate::adapter::{
    Position,
    common::{Broker, Channels, Doubtful, Limits, Outbound, guarded},
    interface::AdapterError,
};

/// What is done with what arrives.
pub(crate) trait Listener: Send + Sync {
    fn hear(&self, target: Target, payload: Bytes);
    /// An entry of the stream has been read.
    fn read(&self, entry: streams::Read);
    fn lost(&self, messages: u64);
    /// A message will not be sent.
    fn unsent(&self, message: Sent);
}

/// A connection that is made again whenever it breaks.
pub(crate) struct Link {
    place: RedisAddress,
    /// The kind of the channels that are published on, and of the channel of this server.
    how: How,
    /// The channel on which this server hears itself.
    own: String,
    outbound: Outbound<Sent>,
    channels: Mutex<Channels<Name, Target>>,
    resubscribe: Notify,
    /// The version of the channels that are all subscribed to.
    settled: watch::Sender<u64>,
    /// For questions to Redis, while it is connected.
    line: Mutex<Option<Line>>,
    /// When this server has heard itself last.
    heard: Mutex<Instant>,
    listener: Weak<dyn Listener>,
    /// The stream that is read, if any.
    reader: Option<Reader>,
    /// How messages of this server look, which it hears as all others do.
    sent: Option<Own>,
}

impl Link {
    pub(crate) fn new(
        place: RedisAddress,
        how: How,
        own: String,
        limits: Limits,
        listener: Weak<dyn Listener>,
    ) -> Self {
        let mut channels = Channels::default();
        channels.want((how, own.clone().into()), Target::Envelopes);
        Self {
            place,
            how,
            own,
            outbound: Outbound::new("Redis", limits),
            channels: Mutex::new(channels),
            resubscribe: Notify::new(),
            settled: watch::Sender::new(0),
            line: Mutex::new(None),
            heard: Mutex::new(Instant::now()),
            listener,
            reader: None,
            sent: None,
        }
    }

    /// This link, which leaves out messages that look like these.
    pub(crate) fn knowing(mut self, own: Own) -> Self {
        self.sent = Some(own);
        self
    }

    /// This link, with a stream that is read.
    pub(crate) fn reading(mut self, stream: Stream) -> Self {
        self.reader = Some(Reader::new(stream));
        self
    }

    /// Up to where the stream was read.
    pub(crate) fn position(&self) -> Option<Position> {
        self.reader.as_ref()?.position()
    }

    /// A connection for questions, while there is one.
    pub(crate) fn line(&self) -> Option<Line> {
        self.line.lock().clone()
    }

    /// Listens on a channel from now on (`Some`), or not any more.
    pub(crate) fn listen(&self, name: Name, target: Option<Target>) {
        let mut channels = self.channels.lock();
        match target {
            Some(target) => channels.want(name, target),
            None => channels.forget(name),
        }
        drop(channels);
        // The change is in the table before the task is woken, which then finds it there.
        self.resubscribe.notify_one();
    }

    /// Waits until all channels are subscribed to that are wanted now.
    pub(crate) async fn followed(self: Arc<Self>) {
        let wanted = self.channels.lock().version();
        let mut settled = self.settled.subscribe();
        // The sender lives in this link, so that waiting cannot fail.
        let _ = settled.wait_for(|version| *version >= wanted).await;
    }

    /// How many others subscribe to a channel.
    pub(crate) async fn others(self: Arc<Self>, channel: String) -> Result<usize, AdapterError> {
        let Some(mut line) = self.line.lock().clone() else {
            return Err(AdapterError::Timeout);
        };
        let all = line.subscribers(self.how, &channel).await;
        let all = all.map_err(|error| AdapterError::Transport(Arc::new(error)))?;
        let name = (self.how, channel.into());
        // This server is taken off only if its own subscription is among those that Redis has counted.
        let is_among = self.channels.lock().is_subscribed(&name);
        Ok(all.saturating_sub(usize::from(is_among)))
    }
}

impl Broker for Link {
    type Message = Sent;

    fn outbound(&self) -> &Outbound<Sent> {
        &self.outbound
    }

    fn unsent(&self, messages: Vec<Sent>) {
        if !messages.is_empty()
            && let Some(listener) = self.listener.upgrade()
        {
            listener.lost(messages.len() as u64);
            for message in messages {
                listener.unsent(message);
            }
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
            let publisher = self.place.connect(None).await.map_err(text)?;
            let subscriber = self.place.connect(Some(self.on_push(&pair))).await;
            let mut subscriber = subscriber.map_err(text)?;
            // All channels are subscribed to before Redis counts as reached: who is told that it is reached hears others.
            self.channels.lock().reset();
            self.subscribe(&mut subscriber).await.map_err(text)?;
            let reading = match &self.reader {
                Some(reader) => {
                    let mut line = self.place.connect(None).await.map_err(text)?;
                    self.event(Event::Lost(reader.look(&mut line).await.map_err(text)?));
                    Some((reader, line))
                }
                None => None,
            };
            Ok::<_, String>((publisher, subscriber, reading))
        };
        // Connecting may take long, and an adapter that closes need not wait for it.
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
        // The first part that ends is the end of all connections, which are made anew together. What is on its way then
        // is counted as lost.
        tokio::select! {
            ended = reading => Err(text(ended)),
            ended = self.publish_all(publisher.clone()) => ended.map_err(text),
            ended = self.keep_subscribed(subscriber) => Err(text(ended)),
            why = self.hear_itself(publisher) => Err(why),
            () = broken.notified() => Err("the connection is closed".to_owned()),
        }
    }
}

impl Link {
    fn event(&self, event: Event) {
        if let Some(listener) = self.listener.upgrade() {
            streams::tell(&*listener, event);
        }
    }

    fn up(&self, line: Line) -> Connected<'_> {
        *self.heard.lock() = Instant::now();
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

    async fn publish_all(&self, mut line: Line) -> redis::RedisResult<()> {
        while let Some(batch) = self.next().await {
            // Whether sending fails or this future is dropped meanwhile, the batch is counted as lost.
            let doubtful = Doubtful::new(batch.len() as u64, |lost| self.lost(lost));
            line.send(self.how, &batch).await?;
            doubtful.all_arrived();
        }
        Ok(())
    }

    async fn subscribe(&self, line: &mut Line) -> redis::RedisResult<()> {
        loop {
            let (changes, settled) = {
                let mut channels = self.channels.lock();
                (channels.take(BATCH), channels.settled())
            };
            if !changes.is_empty() {
                line.subscribe(&changes).await?;
            }
            self.channels.lock().note(changes);
            if let Some(version) = settled {
                self.settled.send_replace(version);
                return Ok(());
            }
        }
    }

    async fn keep_subscribed(&self, mut line: Line) -> redis::RedisError {
        loop {
            if let Err(error) = self.subscribe(&mut line).await {
                return error;
            }
            // `notify_one` leaves a permit behind, so that a change that comes while channels are subscribed to is seen.
            self.resubscribe.notified().await;
        }
    }

    /// Redis may take what is published and deliver nothing, and a connection may be dead without a
    /// sign of it.
    async fn hear_itself(&self, mut line: Line) -> String {
        loop {
            let message = [Sent::Message(self.own.clone(), Bytes::new())];
            self.outbound.says_a_word();
            if let Err(error) = line.send(self.how, &message).await {
                return error.to_string();
            }
            sleep(CANARY).await;
            if self.heard.lock().elapsed() > DEAF {
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
            // A client of a cluster queues what comes without a bound, and goes on with that after its connection has
            // ended. Relaxed is enough: what slips through in that moment counts as come before the end.
            if pair.is_over.load(Ordering::Relaxed) {
                link.lost(u64::from(is_message(&info.kind)));
                return;
            }
            // The task of the connection must outlive a fault of what is done with a message.
            guarded(|| link.pushed(info, &pair.broken));
        })
    }

    fn pushed(&self, info: PushInfo, broken: &Notify) {
        let mut data = info.data.into_iter();
        let mut next = || match data.next() {
            Some(Value::BulkString(bytes)) => Some(Bytes::from(bytes)),
            Some(_) | None => None,
        };
        let how = if info.kind == PushKind::Message {
            How::Plain
        } else if info.kind == PushKind::PMessage {
            How::Pattern
        } else if info.kind == PushKind::SMessage {
            How::Sharded
        } else {
            let is_unasked = info.kind == PushKind::SUnsubscribe
                && next().is_some_and(|name| {
                    let name = (How::Sharded, name);
                    let channels = self.channels.lock();
                    channels.is_subscribed(&name) && channels.target(&name).is_some()
                });
            // The slot of a channel has moved to another node, or the connection is gone.
            // The connection may break while it is still being made: `notify_one` keeps that until somebody waits.
            if is_unasked || info.kind == PushKind::Disconnection {
                broken.notify_one();
            }
            return;
        };
        let Some(name) = next() else {
            return;
        };
        // Behind a pattern stands the channel that it has matched.
        if how == How::Pattern {
            next();
        }
        let Some(payload) = next() else {
            return;
        };
        if self.sent.as_ref().is_some_and(|own| own.has_sent(&payload)) {
            return;
        }
        // What is done with a message may open rooms, so nothing is locked meanwhile.
        let target = self.channels.lock().target(&(how, name));
        match target {
            Some(Target::Envelopes) if payload.is_empty() => {
                *self.heard.lock() = Instant::now();
                self.outbound.hears_itself();
            }
            Some(target) => {
                if let Some(listener) = self.listener.upgrade() {
                    listener.hear(target, payload);
                }
            }
            None => {}
        }
    }
}

/// The state that belongs to one pair of connections, the publishing and the subscribed one.
#[derive(Default)]
struct ConnectionPair {
    broken: Notify,
    /// Another pair may be there: what this one brings would come twice.
    is_over: AtomicBool,
}

/// Notes the end of a pair of connections when it is dropped.
struct Ending<'a>(&'a ConnectionPair);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

fn is_message(kind: &PushKind) -> bool {
    [PushKind::Message, PushKind::PMessage, PushKind::SMessage].contains(kind)
}

/// Redis can be asked as long as this value lives.
struct Connected<'a>(&'a Link);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        *self.0.line.lock() = None;
    }
}

/// Channels that are turned on or off at once.
const BATCH: usize = 256;
/// How often this server speaks to itself, and how long it may not hear that.
const CANARY: Duration = Duration::from_secs(1);
const DEAF: Duration = Duration::from_secs(5);
