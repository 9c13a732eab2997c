//! Clustering through NATS.
//!
//! There are no Node servers on NATS. Messages are [envelopes](super::Envelope::to_bytes). With
//! JetStream, a server receives the messages that were sent while it was disconnected after it
//! reconnects. The guarantees are in `docs/delivery.md`, and further details in
//! `docs/cluster/nats.md`.
//!
//! ```no_run
//! use roomcast::{Io, adapter::nats::Nats};
//!
//! let io = Io::builder().adapter(Nats::new("nats://localhost")?).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod broker;
mod diagnosis;
mod emitter;
mod listener;
mod members;
mod publishing;
mod streams;
mod subjects;

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use async_nats::{ConnectOptions, ServerAddr};
use bytes::Bytes;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use roomcast_protocol::socket::Nsp;
use tokio::time::sleep_until;

use self::{
    broker::{Address, BrokerLink, Listener, Message},
    members::Members,
    subjects::Subjects,
};
use super::{
    common::{Broker as _, BrokerAdapter, BrokerState, GREETING, Options, option_methods},
    envelope::{self, Envelope, NodeId},
    interface::{
        Adapter as _, AdapterError, BoxFuture, Health, Inbox, Servers,
        subscriber::{Subscriber, Subscriptions},
    },
    operation::NAMESPACE,
    seal::{Protection, Purpose, Sealer},
};
use crate::names::Room;

/// The adapter for NATS; set with [`Builder::adapter`](crate::Builder::adapter).
///
/// The adapter connects in the background, and reconnects whenever the connection breaks. Without a
/// connection, events reach the clients of this server only. The events of the last five seconds
/// are queued, and sent after the adapter has reconnected. Without JetStream, they also wait until
/// the other servers listen again, but for at most three and a half seconds.
///
/// Messages that were in flight when a connection broke, or that waited for longer, are lost and
/// counted. With JetStream, a stream in memory stores all messages for [a limited
/// time](Self::keep). A server that was disconnected reads the missed messages from it.
///
/// An event for a room is decoded by the servers on which the room is open. Other servers only
/// check its subject.
///
/// The adapter stores no [values and locks](crate::Io::values). Set a store for them with
/// [`Builder::values`](crate::Builder::values).
pub struct Nats {
    options: Options<NatsState>,
}

/// The reason why a URL is not valid for NATS. Its text does not repeat the URL, which may contain
/// a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUrl(&'static str);

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a NATS URL: {}", self.0)
    }
}

impl std::error::Error for InvalidUrl {}

impl Nats {
    /// Creates an adapter for `nats://user:password@host:port`, or `tls://…`. A token may replace
    /// user and password. Further servers of one NATS cluster follow after commas, each as a
    /// complete URL.
    ///
    /// With `tls`, certificates are verified against those of the system and those of
    /// [`root_certificates`](Self::root_certificates).
    ///
    /// # Errors
    ///
    /// If a URL is invalid.
    pub fn new(urls: &str) -> Result<Self, InvalidUrl> {
        let servers: Result<Vec<ServerAddr>, _> = urls.split(',').map(server).collect();
        let servers = servers?;
        let options = ConnectOptions::new()
            .connection_timeout(CONNECTING)
            .ping_interval(Duration::from_secs(5))
            .request_timeout(Some(CONNECTING))
            // The receive queue has the same limit of messages as the send queue. The client has no
            // limit of their bytes.
            .subscription_capacity(65_536)
            // The link reconnects itself, so that messages do not wait in two queues.
            .max_reconnects(1);
        let options = match user(&servers)? {
            (None, _) => options,
            (Some(token), None) => options.token(token),
            (Some(user), Some(password)) => options.user_and_password(user, password),
        };
        let address = Address {
            servers,
            options,
            keep: Duration::from_secs(60),
            keep_bytes: 256 << 20,
        };
        Ok(Self {
            options: Options::new(address, Envelope::MAX_BYTES),
        })
    }

    /// Adds the certificates in a PEM file to those of the system, to verify certificates of NATS.
    #[must_use]
    pub fn root_certificates(self, file: &Path) -> Self {
        self.options.address.change(|address| {
            let options = std::mem::take(&mut address.options);
            address.options = options.add_root_certificates(file.to_owned());
        });
        self
    }

    /// Sets the content of a `.creds` file: a signed user with its key.
    ///
    /// # Errors
    ///
    /// If the text is not a valid `.creds` file.
    pub fn credentials(self, text: &str) -> Result<Self, InvalidUrl> {
        let options = self.options.address.now().options.credentials(text);
        let options = options.map_err(|_| InvalidUrl("the credentials are malformed"))?;
        let address = &self.options.address;
        address.change(|address| address.options = options);
        Ok(self)
    }

    /// Sets how long the stream stores messages for disconnected servers, and its maximum size in
    /// bytes. Default 60 s and 256 MiB; at least 1 s. The server that creates the stream decides.
    /// An existing stream is used unchanged.
    #[must_use]
    pub fn keep(self, age: Duration, bytes: usize) -> Self {
        self.options.address.change(|address| {
            address.keep = age.max(Duration::from_secs(1));
            address.keep_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        });
        self
    }

    /// Returns the purpose of the keys of this adapter.
    fn purpose(&self) -> Purpose {
        Purpose::new("nats", &self.options.key)
    }

    fn link(
        &self,
        subjects: Arc<Subjects>,
        listener: Weak<dyn Listener>,
        listens: bool,
    ) -> BrokerLink {
        let Options {
            address, limits, ..
        } = &self.options;
        BrokerLink::new(address.clone(), subjects, *limits, listener, listens)
    }
}

option_methods! {
    Nats {
        /// It is part of every subject, and of the name of the stream.
        key;
        request_timeout;
        ///
        /// The receive queue has a limit of messages only: 750 with JetStream, which is read in
        /// parts, and 65,536 without it. Its size is at most that number times the `max_payload` of
        /// NATS.
        queue;
        /// The size includes the subject. Default 64 MiB. The same applies to the `max_payload` of
        /// NATS, by default 1 MiB. That limit is unknown before the first connection; messages that
        /// turn out to be larger are lost and counted.
        max_message;
        /// Default: nothing is sealed, and every client of NATS can read and write the messages of
        /// the servers.
        sealed;
    }
}

fn server(url: &str) -> Result<ServerAddr, InvalidUrl> {
    let server: ServerAddr = url.parse().map_err(|_| InvalidUrl("it is malformed"))?;
    match server.scheme() {
        "nats" | "tls" if !server.host().is_empty() => Ok(server),
        "nats" | "tls" => Err(InvalidUrl("it has no host")),
        _ => Err(InvalidUrl("it begins neither with nats:// nor with tls://")),
    }
}

/// Returns the user and the password of all servers, or a token and no password.
fn user(servers: &[ServerAddr]) -> Result<(Option<String>, Option<String>), InvalidUrl> {
    let [first, rest @ ..] = servers else {
        return Err(InvalidUrl("it is malformed"));
    };
    let credentials = |server: &ServerAddr| {
        let [user, password] =
            [server.username(), server.password()].map(|part| part.map(str::to_owned));
        (user, password)
    };
    let expected = credentials(first);
    if rest.iter().any(|server| credentials(server) != expected) {
        return Err(InvalidUrl(
            "all servers must have the same user and password",
        ));
    }
    let plain = |part: Option<String>| {
        let decode = |part: String| {
            let plain = percent_decode_str(&part).decode_utf8();
            plain.map(Cow::into_owned)
        };
        let malformed = |_| InvalidUrl("the user or the password is not UTF-8");
        part.map(decode).transpose().map_err(malformed)
    };
    Ok((plain(expected.0)?, plain(expected.1)?))
}

/// The state of an adapter that was attached to a server.
pub(super) struct NatsState {
    link: Arc<BrokerLink>,
    inbox: Inbox,
    subjects: Arc<Subjects>,
    members: Members,
    protection: Protection,
    sealers: Option<Sealers>,
    /// The rooms that are open on this server, as parts of subjects.
    rooms: Mutex<HashSet<String>>,
}

/// Seals the messages of this server. Pulses overtake other messages, and have their own counter.
struct Sealers {
    messages: Sealer,
    pulses: Sealer,
}

impl BrokerAdapter for Nats {
    type State = NatsState;

    fn options(&self) -> &Options<NatsState> {
        &self.options
    }

    fn attach(&self, inbox: Inbox) -> Arc<NatsState> {
        let Options { key, sealing, .. } = &self.options;
        Arc::new_cyclic(|shared: &Weak<NatsState>| {
            let subjects = Arc::new(Subjects::new(key, inbox.node().as_str()));
            let members = Members::new(inbox.lease());
            NatsState {
                link: Arc::new(self.link(Arc::clone(&subjects), shared.clone(), true)),
                inbox,
                subjects,
                members,
                protection: Protection::new(sealing, &self.purpose()),
                sealers: sealing.secrets.as_ref().map(|secrets| {
                    let sealer = || Sealer::new(secrets, &self.purpose());
                    Sealers {
                        messages: sealer(),
                        pulses: sealer(),
                    }
                }),
                rooms: Mutex::default(),
            }
        })
    }
}

impl BrokerState for NatsState {
    type Address = Address;
    type Link = BrokerLink;

    fn link(&self) -> &Arc<BrokerLink> {
        &self.link
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        self.send(self.subjects.of(envelope.channel()), &envelope)
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        self.send(self.subjects.to(to), &envelope)
    }

    async fn servers(self: Arc<Self>, _namespace: Nsp) -> Result<Servers, AdapterError> {
        if self.link.health() != Health::Ready {
            return Err(AdapterError::Timeout);
        }
        // Existing servers must answer the greeting first. Otherwise the list would not contain
        // them.
        if let Some(since) = self.members.since() {
            sleep_until(since + GREETING).await;
        }
        Ok(Servers::Known(self.members.nodes()))
    }

    fn leave(&self) {
        // Without a connection, the leave message would stay in the queue, and closing would wait
        // for it.
        if self.link.health() == Health::Ready {
            self.send_pulse(BYE);
        }
    }

    fn has_no_peers(&self) -> bool {
        self.members.alone.is_certain()
    }

    /// JetStream stores messages during a disconnect, and expired messages are reported as lost.
    fn replays_missed(&self) -> bool {
        self.link.replays_missed()
    }
}

impl Subscriber for NatsState {
    fn subscriptions(&self) -> Subscriptions {
        Subscriptions::Rooms
    }

    fn room_opened(&self, namespace: &str, room: &Room) {
        if let Some(name) = subjects::room(namespace, room.as_str()) {
            self.rooms.lock().insert(name);
        }
    }

    fn room_closed(&self, namespace: &str, room: &Room) {
        if let Some(name) = subjects::room(namespace, room.as_str()) {
            self.rooms.lock().remove(&name);
        }
    }

    fn followed(self: Arc<Self>) -> BoxFuture<()> {
        Box::pin(async move { self.members.alone.until_known().await })
    }
}

impl NatsState {
    fn send(&self, subject: String, envelope: &Envelope) -> Result<(), AdapterError> {
        let is_heartbeat = matches!(
            &envelope.message,
            envelope::Message::Publication(publication) if publication.namespace == *NAMESPACE
        );
        let message = Message {
            counts: !is_heartbeat,
            ..Message::new(subject, envelope)?
        };
        self.seal_and_send(message, |sealers| &sealers.messages)
    }

    fn seal_and_send(
        &self,
        message: Message,
        sealer: impl FnOnce(&Sealers) -> &Sealer,
    ) -> Result<(), AdapterError> {
        let sealer = self.sealers.as_ref().map(sealer);
        self.link
            .send(message, sealer, self.protection.accepts_plain())
    }

    /// Sends a pulse. If it is lost, peers treat this server as silent.
    fn send_pulse(&self, word: u8) {
        let message = Message {
            subject: self.subjects.pulse.clone(),
            payload: pulse(word, self.inbox.node()),
            is_pulse: true,
            counts: false,
        };
        let _ = self.seal_and_send(message, |sealers| &sealers.pulses);
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The addresses are omitted because they may contain passwords.
        f.debug_struct("Nats")
            .field("key", &self.options.key)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// Encodes a pulse: its type and the name of the server.
fn pulse(word: u8, node: &NodeId) -> Bytes {
    [&[word], node.as_str().as_bytes()].concat().into()
}

fn read_pulse(payload: &[u8]) -> Option<(u8, NodeId)> {
    let (word, node) = payload.split_first()?;
    let node = str::from_utf8(node).ok()?;
    Some((*word, NodeId::new(node)?))
}

/// A greeting: the server has connected.
const HELLO: u8 = b'h';
/// A heartbeat.
const ALIVE: u8 = b'a';
/// A leave message.
const BYE: u8 = b'b';
/// The timeout for connecting to NATS, and for a request.
const CONNECTING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulses_are_read_and_written_as_one_letter_and_a_name() {
        for (word, payload) in [(HELLO, b"hn-1"), (ALIVE, b"an-1"), (BYE, b"bn-1")] {
            let (read, node) = read_pulse(payload).unwrap();
            assert_eq!((read, node.as_str()), (word, "n-1"));
            assert_eq!(pulse(word, &node), payload.as_slice());
        }
        for wrong in [&b""[..], b"h", b"h\xff"] {
            assert!(read_pulse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn url_of_another_scheme_is_refused_without_its_password() {
        for url in [
            "nats://h",
            "nats://u:p@h:1",
            "tls://t@h",
            "nats://u:p@a:1,nats://u:p@b:2",
            "h:4222",
        ] {
            assert!(Nats::new(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "redis://u:canary@h",
            "ws://u:canary@h",
            "nats://u:canary@h:port",
            "nats://h,http://u:canary@h",
            "nats://u:canary@h,nats://v:canary@h",
            "nats://u:canary%ff@h",
        ] {
            let fault = Nats::new(url).unwrap_err().to_string();
            assert!(!fault.contains("canary"), "{fault}");
        }
        let shown = format!("{:?}", Nats::new("nats://u:canary@h").unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
