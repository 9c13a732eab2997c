//! What keeps a server connected to PostgreSQL: one connection to notify, one to listen, and a
//! notification to itself every second that shows that both work.

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
    inbound::Inbound,
    line::{Body, Driver, Line, Message, Table},
    sealing::Openers,
};
use crate::adapter::{
    WireError,
    common::{Broker, Channels, Doubtful, Limits, Outbound, Probes, Turns, chain, guarded},
    interface::AdapterError,
};

/// What comes on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Messages of a namespace.
    Namespace(Nsp),
    /// Envelopes for this server.
    Envelopes,
}

/// What is done with what arrives.
pub(crate) trait Listener: Send + Sync {
    fn hear(&self, target: Target, heard: Heard);
    /// What cannot be read.
    fn ignore(&self, error: &WireError);
    fn lost(&self, messages: u64);
    /// Notifications of these namespaces arrive from now on.
    fn listening(&self, namespaces: Vec<Nsp>);
    /// This server has heard itself, and everything that had come before was given to this listener.
    fn caught_up(&self);
    /// The connection is over.
    fn cut_off(&self);
    /// Says a part of what this server has to say of itself. Returns whether there is more to say.
    fn speak(&self) -> bool;
    /// Called every second while there is a connection.
    fn tick(&self);
}

/// A message that has arrived.
#[derive(Debug)]
pub(crate) enum Heard {
    Text(Bytes),
    Attached(Bytes),
    /// It was sealed.
    Opened(Bytes),
}

/// A connection that is made again whenever it breaks.
pub(crate) struct Link {
    address: Address,
    table: Table,
    /// Whether rows of the table can be stored.
    stores: AtomicBool,
    /// Why they cannot.
    unstored: Mutex<String>,
    /// How long what is stored is kept.
    age: Duration,
    /// The namespaces whose messages do not wait behind others.
    apart: HashSet<Nsp>,
    /// The name of this server in messages, and the channel on which it hears itself; nothing if it only
    /// sends.
    own: Option<(String, Arc<str>)>,
    pub(super) outbound: Outbound<Message>,
    /// What may have arrived and not been read.
    pub(super) limits: Limits,
    pub(super) channels: Mutex<Channels<Arc<str>, Target>>,
    relisten: Notify,
    /// The listener has something to say of itself.
    spoken: Notify,
    /// The version of the channels that are all listened on.
    settled: watch::Sender<u64>,
    /// When this server has heard itself last on the connection there is.
    pub(super) heard: Mutex<Option<Instant>>,
    /// What this server has sent to itself.
    pub(super) probes: Probes,
    /// What opens notifications and rows.
    pub(super) openers: Arc<Openers>,
    listener: Weak<dyn Listener>,
}

impl Link {
    #[expect(clippy::too_many_arguments, reason = "there is one caller")]
    pub(crate) fn new(
        address: Address,
        table: Table,
        age: Duration,
        apart: HashSet<Nsp>,
        own: Option<(String, Arc<str>)>,
        limits: Limits,
        openers: Arc<Openers>,
        listener: Weak<dyn Listener>,
    ) -> Self {
        let mut channels = Channels::default();
        if let Some((_, channel)) = &own {
            channels.want(Arc::clone(channel), Target::Envelopes);
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
            channels: Mutex::new(channels),
            relisten: Notify::new(),
            spoken: Notify::new(),
            settled: watch::Sender::new(0),
            heard: Mutex::new(None),
            probes: Probes::new(openers.notifications.opener().is_some()),
            openers,
            listener,
        }
    }

    /// Queues what is to be said on a channel, of a namespace if there is one; `is_pulse` if it is a word of this server about itself.
    pub(crate) fn publish(
        &self,
        nsp: Option<&Nsp>,
        channel: Arc<str>,
        body: Body,
        is_pulse: bool,
    ) -> Result<(), AdapterError> {
        let is_apart = nsp.is_some_and(|nsp| self.is_apart(nsp));
        let message = Message {
            channel,
            body,
            is_pulse,
            is_apart,
        };
        Broker::publish(self, message)
    }

    /// What messages that come on a channel are bound to.
    pub(super) fn place<'a>(&'a self, target: &'a Target) -> &'a str {
        match (target, &self.own) {
            (Target::Namespace(nsp), _) => nsp.as_str(),
            (Target::Envelopes, Some((_, channel))) => channel,
            (Target::Envelopes, None) => "",
        }
    }

    /// Whether a namespace has a queue and a connection of its own. A program that is no server has one connection alone.
    pub(super) fn is_apart(&self, nsp: &Nsp) -> bool {
        self.own.is_some() && self.apart.contains(nsp)
    }

    /// Listens on a channel from now on (`Some`), or not any more.
    pub(crate) fn listen(&self, channel: Arc<str>, target: Option<Target>) {
        let mut channels = self.channels.lock();
        match target {
            Some(target) => channels.want(channel, target),
            None => channels.forget(channel),
        }
        drop(channels);
        // The change is in the table before the task is woken, which then finds it there.
        self.relisten.notify_one();
    }

    /// Has the listener say what this server has to say of itself.
    pub(crate) fn speak_soon(&self) {
        self.spoken.notify_one();
    }

    /// Waits until all channels are listened on that are wanted now.
    pub(crate) async fn followed(self: Arc<Self>) {
        let wanted = self.channels.lock().version();
        let mut settled = self.settled.subscribe();
        // The sender lives in this link, so that waiting cannot fail.
        let _ = settled.wait_for(|version| *version >= wanted).await;
    }
}

impl Broker for Link {
    type Message = Message;

    fn outbound(&self) -> &Outbound<Message> {
        &self.outbound
    }

    fn holds(&self) -> bool {
        self.own.is_some()
    }

    fn unsent(&self, messages: Vec<Message>) {
        self.lost(messages.len() as u64);
    }

    async fn run_connection(
        self: &Arc<Self>,
        given_up: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<(), String> {
        *self.heard.lock() = None;
        let connecting = async {
            let (speaker, speaking) = self.address.connect(&self.table).await?;
            let others = match &self.own {
                Some(own) => {
                    let apart = self.address.connect(&self.table).await?;
                    Some((own, apart, self.address.connect(&self.table).await?))
                }
                None => None,
            };
            Ok::<_, String>((speaker, speaking, others))
        };
        // Connecting may take long, and an adapter that closes need not wait for it.
        let (speaker, speaking, others) = tokio::select! {
            lines = connecting => lines?,
            () = given_up => return Ok(()),
        };
        let closed = || "the connection is closed".to_owned();
        let spoken = async |speaking: Driver| match speaking.await {
            Ok(()) => closed(),
            Err(error) => chain(&error),
        };
        let spoken_together = spoken(speaking);
        let Some(((uid, own), (apart, speaking_apart), (listener, listening))) = others else {
            return tokio::select! {
                why = spoken_together => Err(why),
                ended = self.speak(&speaker) => ended,
            };
        };
        // Reading an attachment waits for the database, which needs the driver to be polled meanwhile. So what arrives is
        // queued first and read beside it.
        let inbound = [Inbound::default(), Inbound::default()];
        // The processes behind the speaking connections: what they notify of is this server's own and is left out.
        let speaks = watch::Sender::new(None);
        // Nothing moves on a connection whose driver is not polled, so the drivers and the work run side by side below.
        let working = async {
            self.prepare(&listener).await?;
            // The process is known before anything is listened to, so that the first own message is left out already.
            speaks.send_replace(Some([speaker.process().await?, apart.process().await?]));
            self.relisten(&listener).await?;
            tokio::select! {
                // The first part that ends is the end of all connections, which are made anew together.
                ended = async { tokio::try_join!(self.publish_all(&speaker, false), self.publish_all(&apart, true)) } => ended.map(drop),
                why = self.keep_listening(&listener) => Err(why),
                why = self.digest(&listener, uid, &inbound, false) => Err(why),
                why = self.digest(&listener, uid, &inbound, true) => Err(why),
                why = self.hear_itself(&speaker, own) => Err(why),
                why = self.speak_of_itself() => Err(why),
                why = self.clean_up(&speaker) => Err(why),
            }
        };
        let ended = tokio::select! {
            why = spoken_together => Err(why),
            why = spoken(speaking_apart) => Err(why),
            why = self.receive(listening, own, &speaks, &inbound) => Err(why.unwrap_or_else(closed)),
            ended = working => ended,
        };
        self.lost(inbound.iter().map(|inbound| inbound.len() as u64).sum());
        self.tell(|listener| listener.cut_off());
        ended
    }
}

impl Link {
    /// Keeps the connection of an emitter, which listens to nothing.
    async fn speak(&self, speaker: &Line) -> Result<(), String> {
        self.prepare(speaker).await?;
        self.outbound.up();
        tokio::select! {
            ended = self.publish_all(speaker, false) => ended,
            why = self.clean_up(speaker) => Err(why),
        }
    }

    /// Looks whether rows can be stored. Notifications need none.
    async fn prepare(&self, line: &Line) -> Result<(), String> {
        let prepared = line.prepare().await?;
        if let Err(why) = &prepared {
            why.clone_into(&mut self.unstored.lock());
        }
        let did_store = self.stores.swap(prepared.is_ok(), Ordering::Relaxed);
        match prepared {
            Ok(()) if !did_store => tracing::info!("everything is sent to other servers again"),
            Err(why) if did_store => tracing::error!(
                why,
                "what is longer than 7,999 bytes or has binary in it is not sent to other servers"
            ),
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    pub(super) fn lost(&self, messages: u64) {
        if messages > 0 {
            self.tell(|listener| listener.lost(messages));
        }
    }

    /// Tells the listener, which may fail without an end of the connection.
    pub(super) fn tell(&self, what: impl FnOnce(&dyn Listener)) {
        if let Some(listener) = self.listener.upgrade() {
            guarded(|| what(&*listener));
        }
    }

    /// Says to many servers at once what all of them wait for, a few namespaces at a time.
    async fn speak_of_itself(&self) -> String {
        loop {
            self.spoken.notified().await;
            let mut has_more = true;
            while has_more {
                has_more = false;
                self.tell(|listener| has_more = listener.speak());
                // What further servers ask for during this pause is answered by one word for all.
                sleep(BREATH).await;
            }
        }
    }

    async fn publish_all(&self, line: &Line, is_apart: bool) -> Result<(), String> {
        while let Some(batch) = self.next_of(is_apart).await {
            let mut doubtful = Doubtful::new(batch.len() as u64, |lost| self.lost(lost));
            match self.publish_together(line, &batch).await? {
                Ok(()) => doubtful.all_arrived(),
                // Nothing of the transaction has taken place. What is refused is one message, and no reason to lose the others.
                Err(_) if batch.len() > 1 => {
                    for message in &batch {
                        let alone = std::slice::from_ref(message);
                        match self.publish_together(line, alone).await? {
                            Ok(()) => doubtful.arrived(1),
                            Err(why) => self.outbound.refused(1, &why),
                        }
                    }
                }
                // The message never counts as arrived, so that it is counted as lost.
                Err(why) => self.outbound.refused(1, &why),
            }
        }
        Ok(())
    }

    /// Sends in one transaction; `Ok(Err)` says why the database refuses that.
    async fn publish_together(
        &self,
        line: &Line,
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

    async fn relisten(&self, line: &Line) -> Result<(), String> {
        self.channels.lock().reset();
        self.listen_on(line).await
    }

    async fn listen_on(&self, line: &Line) -> Result<(), String> {
        loop {
            let (changes, settled) = {
                let mut channels = self.channels.lock();
                (channels.take(BATCH), channels.settled())
            };
            if !changes.is_empty() {
                line.listen(&changes).await?;
            }
            let namespaces: Vec<_> = {
                let mut channels = self.channels.lock();
                let on = changes.iter().filter(|(_, on)| *on);
                let targets = on.filter_map(|(channel, _)| channels.target(channel));
                let namespaces = targets.filter_map(|target| match target {
                    Target::Namespace(nsp) => Some(nsp),
                    Target::Envelopes => None,
                });
                let namespaces = namespaces.collect();
                channels.note(changes);
                namespaces
            };
            // The listener is told before the version is settled: whoever waits for that finds that the others are still to
            // be greeted. The lock is let go of, because the listener may change channels.
            self.tell(|listener| listener.listening(namespaces));
            if let Some(version) = settled {
                self.settled.send_replace(version);
                return Ok(());
            }
        }
    }

    async fn keep_listening(&self, line: &Line) -> String {
        loop {
            self.relisten.notified().await;
            if let Err(why) = self.listen_on(line).await {
                return why;
            }
        }
    }

    /// A pooler may take LISTEN and deliver nothing, and a connection may be dead without a sign of it.
    async fn hear_itself(&self, line: &Line, own: &str) -> String {
        let since = Instant::now();
        let mut turns = Turns::default();
        loop {
            self.outbound.says_a_word();
            if let Ok(Err(why)) | Err(why) = line.notify([(own, &*self.probes.next())]).await {
                return why;
            }
            let tells = turns.next(CANARY).await;
            let heard = *self.heard.lock();
            match heard {
                Some(heard) if tells && heard.elapsed() > DEAF => {
                    return "PostgreSQL delivers nothing any more".to_owned();
                }
                Some(_) => self.tell(|listener| listener.tick()),
                None if tells && since.elapsed() > DEAF => {
                    // Nobody can be heard to be back, so nobody is waited for before something is sent.
                    self.outbound.release();
                    return POOLED.to_owned();
                }
                None => {}
            }
        }
    }

    /// Removes what is old, and looks whether anything can be stored now that could not. Servers do that at
    /// different times.
    async fn clean_up(&self, line: &Line) -> String {
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
                        tracing::warn!(why, "old attachments cannot be removed");
                        break;
                    }
                }
            }
        }
    }
}

/// Channels that are turned on or off at once.
const BATCH: usize = 256;
/// The pause between two times that this server speaks of itself.
const BREATH: Duration = Duration::from_millis(100);
const POOLED: &str = "PostgreSQL takes LISTEN and delivers no notification; a pooler in transaction mode, \
                      such as pgbouncer, does that: connect to the server itself, or in session mode";
/// How often this server speaks to itself, and how long it may not hear that.
const CANARY: Duration = Duration::from_secs(1);
const DEAF: Duration = Duration::from_secs(5);
