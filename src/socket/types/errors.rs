//! Why the server could not do what an application asked of it, and what a client is told of that.

use std::fmt;

use roomcast_protocol::socket::{ArgumentError, EncodeError};

use super::refusal::{INVALID_PAYLOAD, Refusal};

/// Why a client's acknowledgement is missing.
#[derive(Debug)]
#[non_exhaustive]
pub enum AckError {
    /// The acknowledgement did not arrive in time.
    Timeout,
    /// The client went away.
    Disconnected,
    /// The acknowledgement has a shape that was not asked for.
    Decode(ArgumentError),
    /// The event could not be encoded, so nothing was sent.
    Encode(EncodeError),
    /// Nothing was sent: as many acknowledgements are outstanding as
    /// [`Config::max_pending_acks`](crate::Config::max_pending_acks) allows.
    TooManyPending,
}

impl fmt::Display for AckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "operation has timed out",
            Self::Disconnected => "socket has been disconnected",
            Self::Decode(error) => {
                return write!(f, "the acknowledgement has an unexpected shape: {error}");
            }
            Self::Encode(error) => return write!(f, "the event cannot be encoded: {error}"),
            Self::TooManyPending => "too many acknowledgements are outstanding",
        })
    }
}

/// There is no source, because the text says all that is known.
impl std::error::Error for AckError {}

/// `TIMEOUT`, `DISCONNECTED` or `INVALID_PAYLOAD` of a client that was asked; what is a fault of
/// ours stays here.
impl From<AckError> for Refusal {
    fn from(error: AckError) -> Self {
        let message = error.to_string();
        match error {
            AckError::Timeout => Self::new("TIMEOUT", message),
            AckError::Disconnected => Self::new("DISCONNECTED", message),
            AckError::Decode(_) => Self::new(
                INVALID_PAYLOAD,
                "the acknowledgement has an unexpected shape",
            )
            .because(message),
            AckError::Encode(error) => error.into(),
            AckError::TooManyPending => Self::internal().because(message),
        }
    }
}

/// Why an event went to nobody.
#[derive(Debug)]
#[non_exhaustive]
pub enum EmitError {
    /// The recipient is gone.
    Closed,
    /// The event cannot be encoded.
    Encode(EncodeError),
    /// Nothing was sent: as many broadcasts wait for acknowledgements as
    /// [`Config::max_pending_acks`](crate::Config::max_pending_acks) allows.
    TooManyPending,
    /// Nothing was sent, on no server: the event is larger than the adapter carries.
    TooLarge,
}

impl From<EncodeError> for EmitError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "socket has been disconnected",
            Self::Encode(error) => return write!(f, "the event cannot be encoded: {error}"),
            Self::TooManyPending => "too many acknowledgements are outstanding",
            Self::TooLarge => "the event is too large for other servers",
        })
    }
}

/// There is no source, because the text says all that is known.
impl std::error::Error for EmitError {}

/// Why what is queued for a client has not left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainError {
    /// The time is over, and something is still queued.
    Timeout,
    /// The client went away.
    Disconnected,
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "operation has timed out",
            Self::Disconnected => "socket has been disconnected",
        })
    }
}

impl std::error::Error for DrainError {}

impl From<DrainError> for Refusal {
    fn from(error: DrainError) -> Self {
        let code = match error {
            DrainError::Timeout => "TIMEOUT",
            DrainError::Disconnected => "DISCONNECTED",
        };
        Self::new(code, error.to_string())
    }
}

/// Why a socket cannot join a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The name is longer than [`Room::MAX_BYTES`](crate::Room::MAX_BYTES).
    NameTooLong,
    /// The socket is in as many rooms as
    /// [`Config::max_rooms_per_socket`](crate::Config::max_rooms_per_socket) allows.
    TooManyRooms,
    /// The socket is disconnected.
    Disconnected,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameTooLong => "room name too long",
            Self::TooManyRooms => "too many rooms",
            Self::Disconnected => "socket has been disconnected",
        })
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::NameTooLong => Self::new("INVALID_PAYLOAD", "room name too long"),
            JoinError::TooManyRooms => Self::new("TOO_MANY_ROOMS", "too many rooms"),
            JoinError::Disconnected => Self::new("DISCONNECTED", "socket has been disconnected"),
        }
    }
}

/// Why nothing can be registered on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenError {
    /// As many are registered on the socket as
    /// [`Config::max_listeners_per_socket`](crate::Config::max_listeners_per_socket) allows.
    TooMany,
    /// The socket is disconnected.
    Disconnected,
    /// Clients cannot send this event.
    Reserved,
    /// The handler asks for a [`State`](crate::State) of this type, and the builder got none.
    MissingState(&'static str),
    /// The handler of this event takes all arguments as [`Args`](crate::Args), and then one more.
    ArgsNotLast(String),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => f.write_str("too many listeners on one socket"),
            Self::Disconnected => f.write_str("socket has been disconnected"),
            Self::Reserved => f.write_str("clients cannot send this event"),
            Self::MissingState(name) => write!(
                f,
                "a handler or middleware asks for the state `{name}`, which nobody gave the builder"
            ),
            Self::ArgsNotLast(event) => write!(
                f,
                "the handler of `{event}` takes an argument behind `Args`, which takes all of them"
            ),
        }
    }
}

impl std::error::Error for ListenError {}

/// A fault of the application: the client learns nothing of it.
impl From<ListenError> for Refusal {
    fn from(error: ListenError) -> Self {
        Self::internal().because(error.to_string())
    }
}

/// Something that is registered on a socket or a connection; [`Socket::off`](crate::Socket::off) or
/// [`Conn::off`](crate::Conn::off) takes it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

impl ListenerId {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }
}

/// Why a server cannot be built, or a namespace cannot be [added](crate::Io::add_namespace).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// An option has a value that makes no sense; the text says which and why.
    InvalidOption(&'static str),
    /// There is no namespace, so that the server would refuse every client.
    NoNamespace,
    /// A namespace whose name cannot be sent: it has a comma or more than 256 bytes. Or a pattern
    /// that is none.
    InvalidNamespace(String),
    /// A namespace is added that exists already.
    NamespaceExists(String),
    /// A namespace is added, and [`Config::max_namespaces`](crate::Config::max_namespaces) exist already.
    TooManyNamespaces,
    /// A namespace is added to a server that is not built yet. The builder has
    /// [`namespace`](crate::Builder::namespace) for it.
    NotBuilt,
    /// Two handlers for one event, or two of something there is one of.
    DuplicateHandler(String),
    /// A handler for an event that clients cannot send. For new clients there is
    /// [`on_connect`](crate::NamespaceBuilder::on_connect).
    ReservedEvent(String),
    /// A handler or middleware asks for a [`State`](crate::State) of this type, and nobody gave one.
    MissingState(&'static str),
    /// The handler of this event takes all arguments as [`Args`](crate::Args), and then one more.
    ArgsNotLast(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidOption(what) => write!(f, "invalid option: {what}"),
            Self::NoNamespace => f.write_str(
                "the server has no namespace: call `namespace(\"/\")`, or `namespaces`, on the builder",
            ),
            Self::InvalidNamespace(name) => write!(f, "invalid namespace `{name}`"),
            Self::NamespaceExists(name) => write!(
                f,
                "the namespace `{name}` exists: remove it with `remove_namespace` before adding it again"
            ),
            Self::TooManyNamespaces => {
                f.write_str("there are too many namespaces: remove some or raise `max_namespaces`")
            }
            Self::NotBuilt => f.write_str(
                "the server is not built: call `namespace` on the builder instead of `add_namespace`",
            ),
            Self::DuplicateHandler(event) => write!(f, "two handlers for `{event}`"),
            Self::ReservedEvent(event) => write!(f, "clients cannot send the event `{event}`"),
            Self::MissingState(name) => write!(
                f,
                "a handler or middleware asks for the state `{name}`, which nobody gave the builder"
            ),
            Self::ArgsNotLast(event) => write!(
                f,
                "the handler of `{event}` takes an argument behind `Args`, which takes all of them"
            ),
        }
    }
}

impl std::error::Error for BuildError {}
