//! The link to PostgreSQL: connections to notify and to listen, and a loopback probe every second
//! that shows that both work.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    address::Address,
    connection::{Body, BrokerConnection, Driver, Message, Table},
    inbound::Inbound,
    sealing::Openers,
};
use crate::adapter::{
    WireError,
    common::{
        Broker, InFlightMessages, Limits, Outbound, ProbeTimer, Probes, SharedAddress,
        Subscriptions, chain, guarded,
    },
    interface::AdapterError,
    operation::NAMESPACE,
};

/// The content of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Messages of a namespace.
    Namespace(Nsp),
    /// Envelopes for this server.
    Envelopes,
}

/// Processes incoming messages. An emitter only counts lost messages.
pub(crate) trait Listener: Send + Sync {
    fn receive(&self, _target: Target, _arrived: ReceivedMessage) {}
    /// Reports a message that cannot be decoded.
    fn ignore(&self, _error: &WireError) {}
    fn lost(&self, messages: u64);
    /// Called when notifications of these namespaces arrive from now on.
    fn listening(&self, _namespaces: Vec<Nsp>) {}
    /// Called when a loopback probe has returned and all earlier messages were passed to this
    /// listener.
    fn caught_up(&self) {}
    /// Called when the connection has ended.
    fn disconnected(&self) {}
    /// Sends some of the pending heartbeats and greetings. Returns whether more are pending.
    fn send_due_pulses(&self) -> bool {
        false
    }
    /// Called every second while connected. `_stall` is the time for which this server stalled
    /// since the last call.
    fn tick(&self, _stall: Duration) {}
}

/// A message that has arrived.
#[derive(Debug)]
pub(crate) enum ReceivedMessage {
    Text(Bytes),
    Attached(Bytes),
    /// The content of a sealed message.
    Opened(Bytes),
}

/// A connection that reconnects whenever it breaks.
pub(crate) struct BrokerLink {
    address: SharedAddress<Address>,
    table: Table,
    /// Whether rows can be stored in the table.
    stores: AtomicBool,
    /// The reason why rows cannot be stored.
    unstored: Mutex<String>,
    /// The time that rows are stored.
    age: Duration,
    /// The namespaces with a separate queue and connection.
    apart: HashSet<Nsp>,
    /// The name of this server in messages, and the channel of its loopback probes. `None` if it
    /// only sends.
    own: Option<(String, Arc<str>)>,
    pub(super) outbound: Outbound<Message>,
    /// The limits of the receive queue, which equal those of the send queue.
    pub(super) limits: Limits,
    pub(super) subscriptions: Subscriptions<Arc<str>, Target>,
    /// Notified when the listener has heartbeats or greetings to send.
    pulse_requests: Notify,
    /// When the last loopback probe returned on the current connection.
    pub(super) last_probe: Mutex<Option<Instant>>,
    /// The loopback probes in flight.
    pub(super) probes: Probes,
    /// Opens notifications and rows.
    pub(super) openers: Arc<Openers>,
    listener: Weak<dyn Listener>,
}

impl BrokerLink {
    #[expect(clippy::too_many_arguments, reason = "there is one caller")]
    pub(crate) fn new(
        address: SharedAddress<Address>,
        table: Table,
        age: Duration,
        apart: HashSet<Nsp>,
        own: Option<(String, Arc<str>)>,
        limits: Limits,
        openers: Arc<Openers>,
        listener: Weak<dyn Listener>,
    ) -> Self {
        let subscriptions = Subscriptions::new();
        if let Some((_, channel)) = &own {
            subscriptions.listen(Arc::clone(channel), Some(Target::Envelopes));
        }
        Self {
            address,
            table,
            stores: AtomicBool::new(true),
            unstored: Mutex::default(),
            age,
            apart,
            own,
            outbound: Outbound::new("PostgreSQL", limits),
            limits,
            subscriptions,
            pulse_requests: Notify::new(),
            last_probe: Mutex::new(None),
            probes: Probes::new(openers.notifications.opener().is_some()),
            openers,
            listener,
        }
    }

    /// Queues a message on a channel, and of a namespace if there is one. `is_pulse` marks
    /// heartbeats, greetings and leave messages.
    pub(crate) fn publish(
        &self,
        nsp: Option<&Nsp>,
        channel: Arc<str>,
        body: Body,
        is_pulse: bool,
    ) -> Result<(), AdapterError> {
        let is_apart = nsp.is_some_and(|nsp| self.is_apart(nsp));
        let is_heartbeat = self.own.is_some() && nsp.is_some_and(|nsp| *nsp == *NAMESPACE);
        let message = Message {
            channel,
            body,
            is_pulse,
            counts: !is_pulse && !is_heartbeat,
            is_apart,
        };
        Broker::publish(self, message)
    }

    /// Returns the place to which messages on a channel are bound.
    pub(super) fn place<'a>(&'a self, target: &'a Target) -> &'a str {
        match (target, &self.own) {
            (Target::Namespace(nsp), _) => nsp.as_str(),
            (Target::Envelopes, Some((_, channel))) => channel,
            (Target::Envelopes, None) => "",
        }
    }

    /// Returns whether a namespace has a separate queue and connection. An emitter has only one
    /// connection.
    pub(super) fn is_apart(&self, nsp: &Nsp) -> bool {
        self.own.is_some() && self.apart.contains(nsp)
    }

    /// Requests that the listener sends its pending heartbeats and greetings.
    pub(crate) fn request_pulses(&self) {
        self.pulse_requests.notify_one();
    }
}

impl Broker for BrokerLink {
    type Message = Message;

    fn outbound(&self) -> &Outbound<Message> {
        &self.outbound
    }

    fn holds(&self) -> bool {
        self.own.is_some()
    }

    fn unsent(&self, messages: Vec<Message>) {
        self.lost(self.losses(&messages));
    }

    fn counts_if_lost(&self, message: &Message) -> bool {
        message.counts
    }

    async fn run_connection(
        self: &Arc<Self>,
        given_up: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<(), String> {
        *self.last_probe.lock() = None;
        let connecting = async {
            let address = self.address.now();
            let (speaker, speaking) = address.connect(&self.table).await?;
            let inbound_lines = match &self.own {
                Some(own) => {
                    let apart = address.connect(&self.table).await?;
                    Some((own, apart, address.connect(&self.table).await?))
                }
                None => None,
            };
            Ok::<_, String>((speaker, speaking, inbound_lines))
        };
        // Connecting may take long, and an adapter that closes must not wait for it.
        let (speaker, speaking, inbound_lines) = tokio::select! {
            lines = connecting => lines?,
            () = given_up => return Ok(()),
        };
        let closed = || "the connection is closed".to_owned();
        let spoken = async |speaking: Driver| match speaking.await {
            Ok(()) => closed(),
            Err(error) => chain(&error),
        };
        let spoken_together = spoken(speaking);
        let Some(((uid, own), (apart, speaking_apart), (listener, listening))) = inbound_lines
        else {
            return tokio::select! {
                why = spoken_together => Err(why),
                ended = self.speak(&speaker) => ended,
            };
        };
        // Fetching an attachment waits for the database, and the driver must be polled at the same
        // time. So notifications are queued and processed concurrently.
        let inbound = [Inbound::default(), Inbound::default()];
        // The backend processes of the notifying connections. Their notifications are this server's
        // own and are ignored.
        let speaks = watch::Sender::new(None);
        // A connection only makes progress while its driver is polled, so the drivers run
        // concurrently with the work.
        let working = async {
            self.prepare(&listener).await?;
            // The processes are known before the first `LISTEN`, so that even the first own message
            // is ignored.
            speaks.send_replace(Some([speaker.process().await?, apart.process().await?]));
            self.subscriptions.reset();
            self.listen_on(&listener).await?;
            tokio::select! {
                // When the first part ends, all connections are closed and reconnect together.
                ended = async { tokio::try_join!(self.publish_all(&speaker, false), self.publish_all(&apart, true)) } => ended.map(drop),
                why = self.keep_listening(&listener) => Err(why),
                why = self.process_inbound(&listener, uid, &inbound, false) => Err(why),
                why = self.process_inbound(&listener, uid, &inbound, true) => Err(why),
                why = self.watch_probes(&speaker, own) => Err(why),
                why = self.send_pulses() => Err(why),
                why = self.clean_up(&speaker) => Err(why),
            }
        };
        let ended = tokio::select! {
            why = spoken_together => Err(why),
            why = spoken(speaking_apart) => Err(why),
            why = self.receive(listening, own, &speaks, &inbound) => Err(why.unwrap_or_else(closed)),
            ended = working => ended,
        };
        self.lost(inbound.iter().map(Inbound::losses).sum());
        self.with_listener(|listener| listener.disconnected());
        ended
    }
}

impl BrokerLink {
    /// Maintains the connection of an emitter, which does not listen.
    async fn speak(&self, speaker: &BrokerConnection) -> Result<(), String> {
        self.prepare(speaker).await?;
        self.outbound.up();
        tokio::select! {
            ended = self.publish_all(speaker, false) => ended,
            why = self.clean_up(speaker) => Err(why),
        }
    }

    /// Checks whether rows can be stored. Notifications do not need rows.
    async fn prepare(&self, line: &BrokerConnection) -> Result<(), String> {
        let prepared = line.prepare().await?;
        if let Err(why) = &prepared {
            why.clone_into(&mut self.unstored.lock());
        }
        let did_store = self.stores.swap(prepared.is_ok(), Ordering::Relaxed);
        match prepared {
            Ok(()) if !did_store => {
                tracing::info!("attachments can be stored again, all messages reach other servers");
            }
            Err(why) if did_store => tracing::error!(
                why,
                "could not store attachments, messages over 7,999 bytes or with binary data do not reach other servers"
            ),
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    pub(super) fn lost(&self, messages: u64) {
        if messages > 0 {
            self.with_listener(|listener| listener.lost(messages));
        }
    }

    /// Calls the listener. A panic of the listener does not end the connection.
    pub(super) fn with_listener(&self, call: impl FnOnce(&dyn Listener)) {
        if let Some(listener) = self.listener.upgrade() {
            guarded(|| call(&*listener));
        }
    }

    /// Sends pending heartbeats and greetings, a few namespaces at a time. One message serves all
    /// servers that wait for it.
    async fn send_pulses(&self) -> String {
        loop {
            self.pulse_requests.notified().await;
            let mut has_more = true;
            while has_more {
                has_more = false;
                self.with_listener(|listener| has_more = listener.send_due_pulses());
                // Requests of further servers during this delay are answered by one message.
                sleep(PULSE_BATCH_DELAY).await;
            }
        }
    }

    async fn publish_all(&self, line: &BrokerConnection, is_apart: bool) -> Result<(), String> {
        while let Some(batch) = self.next_of(is_apart).await {
            let mut in_flight = InFlightMessages::new(self.losses(&batch), |lost| self.lost(lost));
            match self.publish_together(line, &batch).await? {
                Ok(()) => in_flight.all_arrived(),
                // The transaction was rolled back. One message was refused, and the other messages
                // must not be lost.
                Err(_) if batch.len() > 1 => {
                    for message in &batch {
                        let alone = std::slice::from_ref(message);
                        match self.publish_together(line, alone).await? {
                            Ok(()) => in_flight.arrived(u64::from(message.counts)),
                            Err(why) => self.outbound.refused(1, &why),
                        }
                    }
                }
                // The message never counts as arrived, so its loss is counted.
                Err(why) => self.outbound.refused(1, &why),
            }
        }
        Ok(())
    }

    /// Sends messages in one transaction. Returns `Ok(Err)` with the reason if the database refuses
    /// them.
    async fn publish_together(
        &self,
        line: &BrokerConnection,
        messages: &[Message],
    ) -> Result<Result<(), String>, String> {
        if let [Message { channel, body, .. }] = messages
            && let Body::Attached {
                head,
                payload,
                tail,
            } = body
        {
            if !self.stores.load(Ordering::Relaxed) {
                let why = self.unstored.lock().clone();
                return Ok(Err(why));
            }
            return line.attach(channel, head, payload, tail).await;
        }
        let texts = messages.iter().filter_map(|message| match &message.body {
            Body::Text(text) => Some((&*message.channel, &**text)),
            Body::Attached { .. } => None,
        });
        line.notify(texts).await
    }

    async fn listen_on(&self, line: &BrokerConnection) -> Result<(), String> {
        loop {
            let batch = self.subscriptions.next();
            if !batch.changes.is_empty() {
                line.listen(&batch.changes).await?;
            }
            let is_last = self.subscriptions.confirm(batch, |targets| {
                let namespaces = targets.into_iter().filter_map(|target| match target {
                    Target::Namespace(nsp) => Some(nsp),
                    Target::Envelopes => None,
                });
                // Callers of `followed` must find that greetings are pending.
                self.with_listener(|listener| listener.listening(namespaces.collect()));
            });
            if is_last {
                return Ok(());
            }
        }
    }

    async fn keep_listening(&self, line: &BrokerConnection) -> String {
        loop {
            self.subscriptions.changed().await;
            if let Err(why) = self.listen_on(line).await {
                return why;
            }
        }
    }

    /// Sends probes and checks that they return. A pooler may accept LISTEN and deliver nothing,
    /// and a connection may be dead without an error.
    async fn watch_probes(&self, line: &BrokerConnection, own: &str) -> String {
        let since = Instant::now();
        let mut timer = ProbeTimer::default();
        loop {
            self.outbound.probe_sent();
            if let Ok(Err(why)) | Err(why) = line.notify([(own, &*self.probes.next())]).await {
                return why;
            }
            let is_significant = timer.next(PROBE_INTERVAL).await;
            let last_probe = *self.last_probe.lock();
            match last_probe {
                Some(last_probe) if is_significant && last_probe.elapsed() > PROBE_TIMEOUT => {
                    return "PostgreSQL no longer delivers messages".to_owned();
                }
                Some(_) => self.with_listener(|listener| listener.tick(timer.stall())),
                None if is_significant && since.elapsed() > PROBE_TIMEOUT => {
                    // This server cannot detect that peers are connected again, so it does not hold
                    // messages for them.
                    self.outbound.release();
                    return POOLED.to_owned();
                }
                None => {}
            }
        }
    }

    /// Removes old rows, and checks again whether rows can be stored if they could not. The delay
    /// is random, so that servers do this at different times.
    async fn clean_up(&self, line: &BrokerConnection) -> String {
        loop {
            let share = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
            sleep(self.age.mul_f64(0.5 + share)).await;
            if !self.stores.load(Ordering::Relaxed)
                && let Err(why) = self.prepare(line).await
            {
                return why;
            }
            while self.stores.load(Ordering::Relaxed) {
                match line.clean_up(self.age).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(why) => {
                        tracing::warn!(why, "could not remove old attachments");
                        break;
                    }
                }
            }
        }
    }
}

/// The delay between two batches of heartbeats and greetings.
const PULSE_BATCH_DELAY: Duration = Duration::from_millis(100);
const POOLED: &str = "PostgreSQL takes LISTEN and delivers no notification; a pooler in transaction mode, \
                      such as pgbouncer, does that: connect to the server itself, or in session mode";
/// The interval between loopback probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The time without a returned probe after which the connection counts as broken.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
