//! Several servers as one through NATS.
//!
//! No server of another kind speaks this wire: what goes through NATS are [envelopes](super::Envelope::to_bytes).
//! With JetStream a server whose connection was lost gets what was sent meanwhile when it is back. What is
//! promised is in `docs/delivery.md`, the rest in `docs/cluster/nats.md`.
//!
//! ```no_run
//! use roomcast::{Io, adapter::nats::Nats};
//!
//! let io = Io::builder().adapter(Nats::new("nats://localhost")?).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod link;
mod listener;
mod members;
mod outside;
mod publishing;
mod stranger;
mod streams;
mod subjects;
mod values;

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    path::Path,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_nats::{ConnectOptions, ServerAddr};
use bytes::Bytes;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::time::sleep_until;

use self::{
    link::{Address, Link, Listener, Message},
    members::Members,
    subjects::Subjects,
    values::NatsValues,
};
use super::{
    common::{Broker as _, GREETING, Limits, unwritten},
    envelope::{Envelope, NodeId},
    interface::{Adapter, AdapterError, Backlog, BoxFuture, Health, Inbox, Servers},
    seal::{Protection, Purpose, SealOptions, Sealer, Secrets},
    values::ValueStore,
};
use crate::names::Room;

/// The adapter: given to [`Builder::adapter`](crate::Builder::adapter).
///
/// The adapter connects in the background, and again whenever the connection breaks. While there is none, events
/// reach the clients of this server; those of the last five seconds are sent when it is back and, without JetStream, the other servers
/// listen again, for which they wait three and a half seconds at most. What was on its way when a connection broke, or has waited for longer, is lost
/// and counted. If NATS has
/// JetStream, a stream in its memory keeps all messages for [a while](Self::keep), and a server that was away
/// reads there what it has missed.
///
/// An event for a room is read by the servers on which the room is open; the others look at its subject alone.
pub struct Nats {
    address: Address,
    key: String,
    timeout: Duration,
    limits: Limits,
    sealing: SealOptions,
    shared: OnceLock<Arc<NatsState>>,
}

/// Why a URL names no NATS. What it says does not repeat the URL, which may have a password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUrl(&'static str);

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a URL of NATS: {}", self.0)
    }
}

impl std::error::Error for InvalidUrl {}

impl Nats {
    /// An adapter for `nats://user:password@host:port`, or `tls://…`; a token stands in place of user and
    /// password. Further servers of one cluster of NATS follow after commas, each as a whole URL.
    ///
    /// With `tls` certificates are checked against those of the system, and of
    /// [`root_certificates`](Self::root_certificates).
    ///
    /// # Errors
    ///
    /// When a URL is none.
    pub fn new(urls: &str) -> Result<Self, InvalidUrl> {
        let servers: Result<Vec<ServerAddr>, _> = urls.split(',').map(server).collect();
        let servers = servers?;
        let options = ConnectOptions::new()
            .connection_timeout(CONNECTING)
            .ping_interval(Duration::from_secs(5))
            .request_timeout(Some(CONNECTING))
            // As many messages may wait to be read as may wait to be sent.
            .subscription_capacity(65_536)
            // A connection that broke is made anew here, so that nothing waits in two queues.
            .max_reconnects(1);
        let options = match user(&servers)? {
            (None, _) => options,
            (Some(token), None) => options.token(token),
            (Some(user), Some(password)) => options.user_and_password(user, password),
        };
        Ok(Self {
            address: Address {
                servers,
                options,
                keep: Duration::from_secs(60),
                keep_bytes: 256 << 20,
            },
            key: "socket.io".to_owned(),
            timeout: Duration::from_secs(5),
            limits: Limits {
                messages: 65_536,
                bytes: 64 << 20,
                message_bytes: Envelope::MAX_BYTES,
            },
            sealing: SealOptions::default(),
            shared: OnceLock::new(),
        })
    }

    /// What tells servers of one cluster from others on the same NATS: it is part of every subject, and the name
    /// of the stream. Default `socket.io`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// Certificates, in a file in PEM, that certificates of NATS are checked against besides those of the system.
    #[must_use]
    pub fn root_certificates(mut self, file: &Path) -> Self {
        let options = std::mem::take(&mut self.address.options);
        self.address.options = options.add_root_certificates(file.to_owned());
        self
    }

    /// The text of a `.creds` file: a signed user with its key.
    ///
    /// # Errors
    ///
    /// If the text is no such file.
    pub fn credentials(mut self, text: &str) -> Result<Self, InvalidUrl> {
        let options = std::mem::take(&mut self.address.options);
        let options = options.credentials(text);
        self.address.options = options.map_err(|_| InvalidUrl("the credentials are none"))?;
        Ok(self)
    }

    /// How long the stream keeps messages, and the most bytes of it, for servers that are away. Default 60 s
    /// and 256 MiB. The server that makes the stream decides; one that is there is taken as it is.
    #[must_use]
    pub fn keep(mut self, age: Duration, bytes: usize) -> Self {
        self.address.keep = age.max(Duration::from_secs(1));
        self.address.keep_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self
    }

    /// How long other servers may take to answer what has no time limit of its own. Default 5 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What may wait to be sent: messages, default 65,536, and their bytes, default 64 MiB.
    #[must_use]
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        self.limits.messages = messages;
        self.limits.bytes = bytes;
        self
    }

    /// The largest message in bytes, with its subject. Default 64 MiB. What is larger, or larger than the `max_payload` of
    /// NATS, by default 1 MiB, is refused where it is emitted. Before NATS was reached for the first time its bound is not known:
    /// what turns out to be larger then is lost and counted.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits.message_bytes = bytes;
        self
    }

    /// Seals what is sent, and acts on nothing else than what another server has sealed with one of these secrets.
    /// Default: nothing is sealed, and everybody with access to NATS reads and writes what servers exchange.
    ///
    /// All servers and emitters of the cluster need the same list. Values and locks are not sealed: the rights of
    /// the broker protect them. See `docs/cluster.md`.
    #[must_use]
    pub fn sealed(mut self, secrets: Secrets) -> Self {
        self.sealing.secrets = Some(secrets);
        self
    }

    /// Whether what is not sealed is accepted as well, and each message is sent in both forms, for one rolling upgrade of
    /// a cluster whose servers do not seal yet. Of a server that seals only the sealed form counts. Without effect
    /// unless [`sealed`](Self::sealed) is set. Default `false`: while it is `true`, nothing is protected.
    #[must_use]
    pub fn accept_plain(mut self, accepts: bool) -> Self {
        self.sealing.accepts_plain = accepts;
        self
    }

    /// What keys of this adapter are for.
    fn purpose(&self) -> Purpose {
        Purpose::new("nats", &self.key)
    }

    fn shared(&self) -> Result<&Arc<NatsState>, AdapterError> {
        self.shared.get().ok_or(AdapterError::Closed)
    }

    fn link(&self, subjects: Arc<Subjects>, listener: Weak<dyn Listener>, listens: bool) -> Link {
        let address = self.address.clone();
        Link::new(address, subjects, self.limits, listener, listens)
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

/// The user and the password of all servers, or a token in place of both.
fn user(servers: &[ServerAddr]) -> Result<(Option<String>, Option<String>), InvalidUrl> {
    let [first, others @ ..] = servers else {
        return Err(InvalidUrl("it is malformed"));
    };
    let named = |server: &ServerAddr| {
        let [user, password] =
            [server.username(), server.password()].map(|part| part.map(str::to_owned));
        (user, password)
    };
    let who = named(first);
    if others.iter().any(|server| named(server) != who) {
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
    Ok((plain(who.0)?, plain(who.1)?))
}

/// The state of an adapter that belongs to a server.
struct NatsState {
    link: Arc<Link>,
    inbox: Inbox,
    subjects: Arc<Subjects>,
    members: Members,
    protection: Protection,
    sealers: Option<Sealers>,
    /// The rooms that are open on this server, as parts of subjects.
    rooms: Mutex<HashSet<String>>,
}

/// What seals the messages of this server. Words of servers overtake other messages, and have a counter of their own.
struct Sealers {
    messages: Sealer,
    pulses: Sealer,
}

impl Adapter for Nats {
    fn receive(&self, inbox: Inbox) {
        let shared = Arc::new_cyclic(|shared: &Weak<NatsState>| {
            let subjects = Arc::new(Subjects::new(&self.key, inbox.node().as_str()));
            NatsState {
                link: Arc::new(self.link(Arc::clone(&subjects), shared.clone(), true)),
                inbox,
                subjects,
                members: Members::default(),
                protection: Protection::new(&self.sealing, &self.purpose()),
                sealers: self.sealing.secrets.as_ref().map(|secrets| {
                    let sealer = || Sealer::new(secrets, &self.purpose());
                    Sealers {
                        messages: sealer(),
                        pulses: sealer(),
                    }
                }),
                rooms: Mutex::default(),
            }
        });
        // This is called once, so that the cell is empty.
        let _ = self.shared.set(shared);
    }

    fn task(&self) -> Option<BoxFuture<()>> {
        let link = Arc::clone(&self.shared.get()?.link);
        Some(Box::pin(link.run()))
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        let shared = self.shared()?;
        let subject = shared.subjects.of(envelope.channel());
        shared.send(subject, &envelope)
    }

    fn is_alone(&self) -> bool {
        let shared = self.shared.get();
        shared.is_some_and(|shared| shared.members.alone.is_certain())
    }

    fn followed(&self) -> BoxFuture<()> {
        let shared = self.shared.get().cloned();
        Box::pin(async {
            if let Some(shared) = shared {
                shared.members.alone.until_known().await;
            }
        })
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        let shared = self.shared()?;
        shared.send(shared.subjects.to(to), &envelope)
    }

    fn servers(&self, _namespace: &str) -> BoxFuture<Result<Servers, AdapterError>> {
        let shared = self.shared().cloned();
        Box::pin(async move {
            let shared = shared?;
            if shared.link.health() != Health::Ready {
                return Err(AdapterError::Timeout);
            }
            // Servers that were there before have to say so first, or they would not be asked.
            if let Some(since) = shared.members.since() {
                sleep_until(since + GREETING).await;
            }
            Ok(Servers::Known(shared.members.nodes()))
        })
    }

    /// JetStream keeps what is sent meanwhile, and what it does not keep any more is told as lost.
    fn catches_up(&self) -> bool {
        let shared = self.shared.get();
        shared.is_some_and(|shared| shared.link.catches_up())
    }

    fn health(&self) -> Health {
        match self.shared.get() {
            Some(shared) => shared.link.health(),
            None => Health::Down("not connected yet".to_owned()),
        }
    }

    fn backlog(&self) -> Backlog {
        let shared = self.shared.get();
        shared.map_or_else(Backlog::default, |shared| shared.link.backlog())
    }

    fn close(&self) -> BoxFuture<()> {
        let shared = self.shared.get().cloned();
        Box::pin(async {
            if let Some(shared) = shared {
                // Without a connection the farewell would wait in the queue, and closing would wait for it.
                if shared.link.health() == Health::Ready {
                    shared.say(BYE);
                }
                Arc::clone(&shared.link).close().await;
            }
        })
    }

    fn request_timeout(&self) -> Duration {
        self.timeout
    }

    fn values(&self) -> Option<Box<dyn ValueStore>> {
        Some(Box::new(NatsValues::new(&self.address, &self.key)))
    }

    fn follows_rooms(&self) -> bool {
        true
    }

    fn room_opened(&self, namespace: &str, room: &Room) {
        if let Some(shared) = self.shared.get()
            && let Some(name) = subjects::room(namespace, room.as_str())
        {
            shared.rooms.lock().insert(name);
        }
    }

    fn room_closed(&self, namespace: &str, room: &Room) {
        if let Some(shared) = self.shared.get()
            && let Some(name) = subjects::room(namespace, room.as_str())
        {
            shared.rooms.lock().remove(&name);
        }
    }
}

impl NatsState {
    fn send(&self, subject: String, envelope: &Envelope) -> Result<(), AdapterError> {
        let payload = envelope.to_bytes().map_err(unwritten)?;
        let message = Message {
            subject,
            payload,
            is_pulse: false,
        };
        let sealer = self.sealers.as_ref().map(|sealers| &sealers.messages);
        self.publish(message, sealer)
    }

    /// Sends a message sealed, or plain, or in both forms.
    fn publish(&self, message: Message, sealer: Option<&Sealer>) -> Result<(), AdapterError> {
        if let Some(sealer) = sealer {
            self.link.publish(message.sealed(sealer))?;
            if !self.protection.accepts_plain() {
                return Ok(());
            }
        }
        self.link.publish(message)
    }

    /// Says something of this server. That others do not hear it is no worse than that it is away.
    fn say(&self, word: u8) {
        let message = Message {
            subject: self.subjects.pulse.clone(),
            payload: pulse(word, self.inbox.node()),
            is_pulse: true,
        };
        let sealer = self.sealers.as_ref().map(|sealers| &sealers.pulses);
        let _ = self.publish(message, sealer);
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.get() {
            // The link runs in a task of its own, which would go on without the adapter.
            shared.link.abandon();
        }
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The addresses are left out, because they may have passwords in them.
        f.debug_struct("Nats")
            .field("key", &self.key)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// What a server says of itself: a word, and its name.
fn pulse(word: u8, node: &NodeId) -> Bytes {
    [&[word], node.as_str().as_bytes()].concat().into()
}

fn read_pulse(payload: &[u8]) -> Option<(u8, NodeId)> {
    let (word, node) = payload.split_first()?;
    let node = str::from_utf8(node).ok()?;
    Some((*word, NodeId::new(node)?))
}

/// The words that a server says of itself: that it has come, that it is still there, that it leaves.
const HELLO: u8 = b'h';
const ALIVE: u8 = b'a';
const BYE: u8 = b'b';
/// How long NATS may take to let a server in, or to answer a request.
const CONNECTING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_of_themselves_is_read_by_every_later_version() {
        for (word, payload) in [(HELLO, b"hn-1"), (ALIVE, b"an-1"), (BYE, b"bn-1")] {
            let (said, node) = read_pulse(payload).unwrap();
            assert_eq!((said, node.as_str()), (word, "n-1"));
            assert_eq!(pulse(word, &node), payload.as_slice());
        }
        for wrong in [&b""[..], b"h", b"h\xff"] {
            assert!(read_pulse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_url_that_names_no_nats_is_refused_without_its_password() {
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
