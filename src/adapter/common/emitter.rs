//! Sending to the clients of servers without being one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use roomcast_protocol::socket::{Arguments, Nsp, RESERVED_EVENTS};

use super::outbound::Broker;
use crate::{
    adapter::{
        WireError,
        envelope::Publication,
        interface::{AdapterError, BoxFuture, Health},
        message::arguments,
        operation::{Delivery, Kind, NodeId},
    },
    names::{Contract, IntoRooms, Room},
};

/// Sends to the clients of servers that an adapter joins, from a program that is none of them: a worker,
/// a job, another backend. It is what Node's packages `@socket.io/redis-emitter` and
/// `@socket.io/postgres-emitter` are, for any adapter of this library but those of applications.
///
/// ```no_run
/// # #[cfg(feature = "redis")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use roomcast::{Emitter, adapter::redis::Redis};
///
/// let emitter = Emitter::new(Redis::new("redis://localhost")?);
/// emitter.to("lobby").emit("news", "it is noon")?;
/// emitter.of("/chat").except("muted").emit("news", 1)?;
/// emitter.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// An emitter connects in the background. What is sent waits for the connection, at most five seconds and within
/// the limits of the queue. What the broker does not get or refuses is counted, which [`lost`](Self::lost) and
/// [`close`](Self::close) tell; that nobody hears what it has got is no error. Cloning gives another handle; when the last
/// one is gone, so is what has not been sent.
#[derive(Clone)]
pub struct Emitter(Arc<dyn Outlet>);

/// The connection of an emitter, which ends when this is dropped.
trait Outlet: Send + Sync {
    fn send(&self, publication: &Publication) -> Result<(), AdapterError>;
    fn health(&self) -> Health;
    /// How many messages the broker has not got.
    fn lost(&self) -> u64;
    /// Why the broker has refused a message last.
    fn refusal(&self) -> Option<String>;
    fn close(&self) -> BoxFuture<()>;
}

struct Connected<B: Broker, W> {
    link: Arc<B>,
    losses: Arc<Losses>,
    /// Writes what is sent for the broker, and queues it.
    write: W,
}

impl<B, W> Outlet for Connected<B, W>
where
    B: Broker,
    W: Fn(&B, &Publication) -> Result<(), AdapterError> + Send + Sync,
{
    fn send(&self, publication: &Publication) -> Result<(), AdapterError> {
        (self.write)(&self.link, publication)
    }

    fn health(&self) -> Health {
        self.link.health()
    }

    fn lost(&self) -> u64 {
        self.losses.count()
    }

    fn refusal(&self) -> Option<String> {
        self.link.outbound().refusal()
    }

    fn close(&self) -> BoxFuture<()> {
        Box::pin(Arc::clone(&self.link).close())
    }
}

impl<B: Broker, W> Drop for Connected<B, W> {
    fn drop(&mut self) {
        self.link.abandon();
    }
}

/// What the connection of an emitter tells: how much of what was sent is lost.
#[derive(Debug, Default)]
pub(crate) struct Losses(AtomicU64);

impl Losses {
    pub(crate) fn add(&self, messages: u64) {
        self.0.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that an [`Emitter`] was to send has not reached the broker, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// How many messages, since the emitter was made. What was under way when a connection broke counts as lost, and may have arrived.
    pub messages: u64,
    /// Why, as the broker or the connection to it has said last.
    pub why: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, why } = self;
        write!(f, "{messages} of the messages were not sent: {why}")
    }
}

impl std::error::Error for Lost {}

/// The name of all senders that are no servers.
pub(crate) const UID: &str = "emitter";

/// Whether a sender is no server.
#[cfg(feature = "postgres")]
pub(in crate::adapter) fn is_emitter(node: &NodeId) -> bool {
    let rest = node.as_str().strip_prefix(UID);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The name of a sender that is no server. One that seals needs a name of its own: while plain messages are accepted, it
/// sends both forms, and receivers leave out the plain form of those that they know to seal.
pub(in crate::adapter) fn emitter_name(is_sealed: bool) -> NodeId {
    let number = getrandom::u64().unwrap_or_default();
    let name = match is_sealed {
        true => NodeId::new(&format!("{UID}-{number:016x}")),
        false => NodeId::new(UID),
    };
    name.expect("the name is neither empty nor long")
}

impl Emitter {
    /// Starts to connect, with all settings of an adapter.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[must_use]
    pub fn new(adapter: impl Into<Self>) -> Self {
        adapter.into()
    }

    /// Starts to connect. What is sent is given to `write`, which queues it.
    pub(in crate::adapter) fn connect<B: Broker>(
        link: B,
        losses: Arc<Losses>,
        write: impl Fn(&B, &Publication) -> Result<(), AdapterError> + Send + Sync + 'static,
    ) -> Self {
        let link = Arc::new(link);
        link.open();
        tokio::spawn(Arc::clone(&link).run());
        Self(Arc::new(Connected {
            link,
            losses,
            write,
        }))
    }

    /// What is sent to a namespace; without this it is `/`. The leading slash may be left out.
    pub fn of(&self, namespace: &str) -> Emission<'_> {
        Emission {
            emitter: self,
            namespace: Nsp::from(namespace),
            rooms: None,
            except: Vec::new(),
            delivery: Delivery::Reliable,
            compress: true,
        }
    }

    /// The members of rooms.
    pub fn to<'r, M>(&self, rooms: impl IntoRooms<'r, M>) -> Emission<'_> {
        self.of("/").to(rooms)
    }

    /// Everybody but the members of rooms.
    pub fn except<'r, M>(&self, rooms: impl IntoRooms<'r, M>) -> Emission<'_> {
        self.of("/").except(rooms)
    }

    /// Sends an event to everybody.
    ///
    /// # Errors
    ///
    /// See [`Emission::emit`].
    pub fn emit(&self, event: &str, args: impl Arguments) -> Result<(), AdapterError> {
        self.of("/").emit(event, args)
    }

    /// Sends a typed event to everybody in `/`; see [`Contract`].
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn send(&self, event: impl Contract) -> Result<(), AdapterError> {
        self.of("/").send(event)
    }

    /// Whether the emitter is connected, as far as is known.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// How many messages of this emitter are lost so far: they found no connection within five seconds, the broker has refused them,
    /// or a connection broke while they were under way, so that they may have arrived.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }

    /// Sends what is queued and ends. What finds no connection within five seconds is lost.
    ///
    /// # Errors
    ///
    /// When anything is [lost](Self::lost) that this emitter was to send, now or before.
    pub async fn close(&self) -> Result<(), Lost> {
        self.0.close().await;
        let messages = self.0.lost();
        if messages == 0 {
            return Ok(());
        }
        let why = match (self.0.refusal(), self.0.health()) {
            (Some(why), _) | (None, Health::Down(why)) => why,
            (None, Health::Ready) => "the connection broke".to_owned(),
        };
        Err(Lost { messages, why })
    }
}

/// Whom something is sent to, and how.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent yet"]
pub struct Emission<'a> {
    emitter: &'a Emitter,
    namespace: Nsp,
    rooms: Option<Vec<Room>>,
    except: Vec<Room>,
    delivery: Delivery,
    compress: bool,
}

impl Emission<'_> {
    /// Adds rooms: whoever is in one of them.
    pub fn to<'r, M>(mut self, rooms: impl IntoRooms<'r, M>) -> Self {
        add(self.rooms.get_or_insert_default(), rooms);
        self
    }

    /// Leaves out the members of rooms.
    pub fn except<'r, M>(mut self, rooms: impl IntoRooms<'r, M>) -> Self {
        add(&mut self.except, rooms);
        self
    }

    /// The event is lost for clients that cannot take it at once.
    pub fn volatile(mut self) -> Self {
        self.delivery = Delivery::Volatile;
        self
    }

    /// Whether the event may be compressed.
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// Sends a typed event; see [`Contract`].
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn send<T: Contract>(self, event: T) -> Result<(), AdapterError> {
        self.emit(T::EVENT, event)
    }

    /// Sends an event.
    ///
    /// # Errors
    ///
    /// When it will not be sent: the name is reserved, the arguments cannot be written or are too large, or too
    /// much waits.
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn emit(self, event: &str, args: impl Arguments) -> Result<(), AdapterError> {
        if RESERVED_EVENTS.contains(&event) {
            let reserved = roomcast_protocol::socket::EncodeError::ReservedEvent;
            return Err(AdapterError::Transport(Arc::new(reserved)));
        }
        let args = arguments(&args).map_err(unwritten)?;
        let event = event.into();
        self.publish(Kind::Broadcast { event, args })
    }

    /// Sends an event to the servers themselves.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn server_side_emit(self, event: &str, args: impl Arguments) -> Result<(), AdapterError> {
        let args = arguments(&args).map_err(unwritten)?;
        let event = event.into();
        self.publish(Kind::ServerSide { event, args })
    }

    /// Lets the sockets join rooms.
    ///
    /// # Errors
    ///
    /// When that will not be sent.
    pub fn join<'r, M>(self, rooms: impl IntoRooms<'r, M>) -> Result<(), AdapterError> {
        let mut names = Vec::new();
        add(&mut names, rooms);
        self.publish(Kind::Join(names))
    }

    /// Lets the sockets leave rooms.
    ///
    /// # Errors
    ///
    /// When that will not be sent.
    pub fn leave<'r, M>(self, rooms: impl IntoRooms<'r, M>) -> Result<(), AdapterError> {
        let mut names = Vec::new();
        add(&mut names, rooms);
        self.publish(Kind::Leave(names))
    }

    /// Disconnects the sockets, with all namespaces of their connections if `close` says so.
    ///
    /// # Errors
    ///
    /// When that will not be sent.
    pub fn disconnect(self, close: bool) -> Result<(), AdapterError> {
        self.publish(Kind::Disconnect { close })
    }

    fn publish(self, kind: Kind) -> Result<(), AdapterError> {
        // On the wire an empty list of rooms means the whole namespace, and here it means nobody.
        if self.rooms.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let publication = Publication {
            rooms: self.rooms,
            except: self.except,
            delivery: self.delivery,
            compress: self.compress,
            ..Publication::new(self.namespace, kind)
        };
        self.emitter.0.send(&publication)
    }
}

fn add<'r, M>(names: &mut Vec<Room>, rooms: impl IntoRooms<'r, M>) {
    rooms.each(|name| {
        let room = name.into_room();
        if !names.contains(&room) {
            names.push(room);
        }
    });
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Emitter").field(&self.health()).finish()
    }
}

pub(crate) fn unwritten(error: WireError) -> AdapterError {
    match error {
        WireError::TooLarge => AdapterError::TooLarge,
        WireError::UnknownVersion(_)
        | WireError::UnknownKind
        | WireError::Malformed(_)
        | WireError::Encode(_)
        | WireError::Unopened(_) => AdapterError::Transport(Arc::new(error)),
    }
}
