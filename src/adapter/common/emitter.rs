//! Sends events to clients from programs that are not servers.

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
        node_js::arguments,
        operation::{Delivery, Kind, NodeId},
    },
    names::{Contract, IntoRooms, Room},
};

/// Sends events to the clients of servers that an adapter joins, from a program that is not a
/// server: a worker, a job, or another backend. It corresponds to Node's packages
/// `@socket.io/redis-emitter` and `@socket.io/postgres-emitter`, and supports every adapter of this
/// library, but not adapters of applications.
///
/// ```no_run
/// # #[cfg(feature = "redis")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use roomcast::adapter::{Emitter, redis::Redis};
///
/// let emitter = Emitter::new(Redis::new("redis://localhost")?);
/// emitter.to("lobby").emit("news", "it is noon")?;
/// emitter.of("/chat").except("muted").emit("news", 1)?;
/// emitter.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// An emitter connects in the background. Messages wait for the connection for at most five seconds
/// and within the limits of the queue. Messages that the broker refuses or does not receive are
/// counted; see [`lost`](Self::lost) and [`close`](Self::close). A message without receivers is not
/// an error. Cloning returns another handle. Dropping the last handle drops unsent messages.
#[derive(Clone)]
pub struct Emitter(Arc<dyn Outlet>);

/// The connection of an emitter, which ends when this is dropped.
trait Outlet: Send + Sync {
    fn send(&self, publication: &Publication) -> Result<(), AdapterError>;
    fn health(&self) -> Health;
    /// Returns the number of messages that the broker has not received.
    fn lost(&self) -> u64;
    /// Returns the reason why the broker last refused a message.
    fn refusal(&self) -> Option<String>;
    fn close(&self) -> BoxFuture<()>;
}

struct Connected<B: Broker, W> {
    link: Arc<B>,
    losses: Arc<Losses>,
    /// Encodes a publication for the broker and queues it.
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

/// The number of lost messages on the connection of an emitter.
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

/// The error of an [`Emitter`] whose messages did not all reach the broker, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostMessages {
    /// The number of lost messages since the emitter was created. Messages in flight when a
    /// connection broke are included, but may have arrived.
    pub messages: u64,
    /// The last reason that the broker or the connection reported.
    pub why: String,
}

impl fmt::Display for LostMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, why } = self;
        write!(f, "{messages} of the messages were not sent: {why}")
    }
}

impl std::error::Error for LostMessages {}

/// The name of all senders that are not servers.
pub(crate) const UID: &str = "emitter";

/// Returns whether a sender is not a server.
#[cfg(feature = "postgres")]
pub(in crate::adapter) fn is_emitter(node: &NodeId) -> bool {
    let rest = node.as_str().strip_prefix(UID);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Returns the name of a sender that is not a server. A sender that seals needs a unique name.
/// While plain messages are accepted, it sends both forms, and receivers ignore the plain form of
/// senders that seal.
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
    /// If called outside of a runtime.
    #[must_use]
    pub fn new(adapter: impl Into<Self>) -> Self {
        adapter.into()
    }

    /// Starts to connect. `write` encodes and queues each publication.
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

    /// Selects a namespace. The default is `/`. The leading slash is optional.
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

    /// Selects the members of rooms.
    pub fn to<'r, M>(&self, rooms: impl IntoRooms<'r, M>) -> Emission<'_> {
        self.of("/").to(rooms)
    }

    /// Selects all sockets except the members of rooms.
    pub fn except<'r, M>(&self, rooms: impl IntoRooms<'r, M>) -> Emission<'_> {
        self.of("/").except(rooms)
    }

    /// Sends an event to all sockets in `/`.
    ///
    /// # Errors
    ///
    /// See [`Emission::emit`].
    pub fn emit(&self, event: &str, args: impl Arguments) -> Result<(), AdapterError> {
        self.of("/").emit(event, args)
    }

    /// Sends a typed event to all sockets in `/`; see [`Contract`].
    ///
    /// # Errors
    ///
    /// See [`emit`](Self::emit).
    pub fn send(&self, event: impl Contract) -> Result<(), AdapterError> {
        self.of("/").send(event)
    }

    /// Returns whether the emitter is connected, as far as is known.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// Returns the number of lost messages of this emitter: they found no connection within five
    /// seconds, the broker refused them, or the connection broke while they were in flight. The
    /// latter may have arrived.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }

    /// Sends the queued messages and ends. Messages that find no connection within five seconds are
    /// lost.
    ///
    /// # Errors
    ///
    /// If any message of this emitter is [lost](Self::lost), now or earlier.
    pub async fn close(&self) -> Result<(), LostMessages> {
        self.0.close().await;
        let messages = self.0.lost();
        if messages == 0 {
            return Ok(());
        }
        let why = match (self.0.refusal(), self.0.health()) {
            (Some(why), _) | (None, Health::Down(why)) => why,
            (None, Health::Ready) => "the connection broke".to_owned(),
        };
        Err(LostMessages { messages, why })
    }
}

/// A target and options for events.
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
    /// Adds rooms. The target is every socket in at least one of the rooms.
    pub fn to<'r, M>(mut self, rooms: impl IntoRooms<'r, M>) -> Self {
        add(self.rooms.get_or_insert_default(), rooms);
        self
    }

    /// Excludes the members of rooms.
    pub fn except<'r, M>(mut self, rooms: impl IntoRooms<'r, M>) -> Self {
        add(&mut self.except, rooms);
        self
    }

    /// Drops the event for clients that cannot receive it immediately.
    pub fn volatile(mut self) -> Self {
        self.delivery = Delivery::Volatile;
        self
    }

    /// Sends the event uncompressed: `compress(false)` of the official emitter.
    pub fn without_compression(mut self) -> Self {
        self.compress = false;
        self
    }

    /// Sends a typed event; see [`Contract`].
    ///
    /// # Errors
    ///
    /// See [`emit`](Self::emit).
    pub fn send<T: Contract>(self, event: T) -> Result<(), AdapterError> {
        self.emit(T::EVENT, event)
    }

    /// Sends an event.
    ///
    /// # Errors
    ///
    /// If it will not be sent: the name is reserved, the arguments cannot be encoded or are too
    /// large, or the queue is full.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn emit(self, event: &str, args: impl Arguments) -> Result<(), AdapterError> {
        if RESERVED_EVENTS.contains(&event) {
            let reserved = roomcast_protocol::socket::EncodeError::ReservedEvent;
            return Err(AdapterError::Transport(Arc::new(reserved)));
        }
        let args = arguments(&args).map_err(unwritten)?;
        let event = event.into();
        self.publish(Kind::Broadcast { event, args })
    }

    /// Sends an event to the servers.
    ///
    /// # Errors
    ///
    /// See [`emit`](Self::emit).
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn server_side_emit(self, event: &str, args: impl Arguments) -> Result<(), AdapterError> {
        let args = arguments(&args).map_err(unwritten)?;
        let event = event.into();
        self.publish(Kind::ServerSide { event, args })
    }

    /// Adds the sockets to rooms.
    ///
    /// # Errors
    ///
    /// If the message will not be sent.
    pub fn join<'r, M>(self, rooms: impl IntoRooms<'r, M>) -> Result<(), AdapterError> {
        let mut names = Vec::new();
        add(&mut names, rooms);
        self.publish(Kind::Join(names))
    }

    /// Removes the sockets from rooms.
    ///
    /// # Errors
    ///
    /// If the message will not be sent.
    pub fn leave<'r, M>(self, rooms: impl IntoRooms<'r, M>) -> Result<(), AdapterError> {
        let mut names = Vec::new();
        add(&mut names, rooms);
        self.publish(Kind::Leave(names))
    }

    /// Disconnects the sockets from the namespace.
    ///
    /// # Errors
    ///
    /// If the message will not be sent.
    pub fn disconnect(self) -> Result<(), AdapterError> {
        self.publish(Kind::Disconnect { close: false })
    }

    /// Closes the connections of the sockets with all namespaces.
    ///
    /// # Errors
    ///
    /// If the message will not be sent.
    pub fn close_connections(self) -> Result<(), AdapterError> {
        self.publish(Kind::Disconnect { close: true })
    }

    fn publish(self, kind: Kind) -> Result<(), AdapterError> {
        // In the wire format, an empty list of rooms means the whole namespace. Here it means no
        // socket.
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
