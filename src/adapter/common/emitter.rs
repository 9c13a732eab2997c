//! Sending to the clients of servers without being one.

use std::{fmt, sync::Arc};

use roomcast_protocol::socket::{Arguments, Nsp, RESERVED_EVENTS};

use crate::{
    adapter::{
        WireError,
        envelope::Publication,
        interface::{AdapterError, BoxFuture, Health},
        message::arguments,
        operation::{Delivery, Kind},
    },
    names::{IntoRooms, Room},
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
/// emitter.close().await;
/// # Ok(())
/// # }
/// ```
///
/// An emitter connects in the background. What is sent waits for the connection, at most five seconds and within
/// the limits of the queue; that nobody hears it is no error. Cloning gives another handle; when the last
/// one is gone, so is what has not been sent.
#[derive(Clone)]
pub struct Emitter(Arc<dyn Outlet>);

/// What an emitter sends through. The connection ends when this is dropped.
pub(crate) trait Outlet: fmt::Debug + Send + Sync {
    fn send(&self, publication: &Publication) -> Result<(), AdapterError>;
    fn health(&self) -> Health;
    fn close(&self) -> BoxFuture<()>;
}

/// The name of all senders that are no servers.
pub(crate) const UID: &str = "emitter";

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

    pub(crate) fn through(outlet: impl Outlet + 'static) -> Self {
        Self(Arc::new(outlet))
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

    /// Whether the emitter is connected, as far as is known.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// Sends what is queued and ends. What finds no connection within five seconds is lost.
    pub async fn close(&self) {
        self.0.close().await;
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
        self.send(Kind::Broadcast { event, args })
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
        self.send(Kind::ServerSide { event, args })
    }

    /// Lets the sockets join rooms.
    ///
    /// # Errors
    ///
    /// When that will not be sent.
    pub fn join<'r, M>(self, rooms: impl IntoRooms<'r, M>) -> Result<(), AdapterError> {
        let mut names = Vec::new();
        add(&mut names, rooms);
        self.send(Kind::Join(names))
    }

    /// Lets the sockets leave rooms.
    ///
    /// # Errors
    ///
    /// When that will not be sent.
    pub fn leave<'r, M>(self, rooms: impl IntoRooms<'r, M>) -> Result<(), AdapterError> {
        let mut names = Vec::new();
        add(&mut names, rooms);
        self.send(Kind::Leave(names))
    }

    /// Disconnects the sockets, with all namespaces of their connections if `close` says so.
    ///
    /// # Errors
    ///
    /// When that will not be sent.
    pub fn disconnect(self, close: bool) -> Result<(), AdapterError> {
        self.send(Kind::Disconnect { close })
    }

    fn send(self, kind: Kind) -> Result<(), AdapterError> {
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
        f.debug_tuple("Emitter").field(&self.0).finish()
    }
}

pub(crate) fn unwritten(error: WireError) -> AdapterError {
    match error {
        WireError::TooLarge => AdapterError::TooLarge,
        WireError::UnknownVersion(_)
        | WireError::UnknownKind
        | WireError::Malformed(_)
        | WireError::Encode(_) => AdapterError::Transport(Arc::new(error)),
    }
}
