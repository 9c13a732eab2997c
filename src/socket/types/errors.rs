//! Errors of calls by the application, and their conversion to refusals for clients.

use std::fmt;

use roomcast_protocol::socket::{ArgumentError, EncodeError};

use super::refusal::{INVALID_PAYLOAD, Refusal};

/// The error of an acknowledgement.
#[derive(Debug)]
#[non_exhaustive]
pub enum AckError {
    /// The acknowledgement did not arrive in time.
    Timeout,
    /// The client disconnected.
    Disconnected,
    /// The acknowledgement does not have the expected type.
    Decode(ArgumentError),
    /// The event could not be encoded, so it was not sent.
    Encode(EncodeError),
    /// The event was not sent, because
    /// [`Config::max_pending_acks`](crate::Config::max_pending_acks) acknowledgements are pending.
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

/// Has no source, because the message is complete.
impl std::error::Error for AckError {}

/// Converts errors of the client to `TIMEOUT`, `DISCONNECTED` or `INVALID_PAYLOAD`. Errors of the
/// server are internal.
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

/// Why an event was not sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum EmitError {
    /// The recipient is disconnected.
    Closed,
    /// The event cannot be encoded.
    Encode(EncodeError),
    /// The event was not sent, because
    /// [`Config::max_pending_acks`](crate::Config::max_pending_acks) broadcasts wait for
    /// acknowledgements.
    TooManyPending,
    /// The event was not sent on any server, because it exceeds the adapter's size limit.
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

/// Has no source, because the message is complete.
impl std::error::Error for EmitError {}

/// Why the data queued for a client was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainError {
    /// The timeout expired while data was queued.
    Timeout,
    /// The client disconnected.
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

/// Why a listener cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenError {
    /// The socket has [`Config::max_listeners_per_socket`](crate::Config::max_listeners_per_socket)
    /// registrations.
    TooMany,
    /// The socket is disconnected.
    Disconnected,
    /// Clients cannot send this event.
    Reserved,
    /// The handler needs a [`State`](crate::State) of this type, which the builder does not have.
    MissingState(&'static str),
    /// The handler of this event has a parameter after [`Args`](crate::Args), which takes all
    /// arguments.
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
                "a handler or middleware needs the state `{name}`: pass it to `Builder::state`"
            ),
            Self::ArgsNotLast(event) => write!(
                f,
                "the handler of `{event}` has a parameter after `Args`, which takes all remaining arguments: make `Args` the last one"
            ),
        }
    }
}

impl std::error::Error for ListenError {}

/// An internal error of the application. The client receives no details.
impl From<ListenError> for Refusal {
    fn from(error: ListenError) -> Self {
        Self::internal().because(error.to_string())
    }
}

/// The id of a registration on a socket or a connection. [`Socket::off`](crate::Socket::off) or
/// [`EngineConnection::off`](crate::connection::EngineConnection::off) removes it.
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
    /// An option is invalid. Contains its name and the fault.
    InvalidOption(&'static str),
    /// There is no namespace, so the server would refuse every client.
    NoNamespace,
    /// The name of a namespace contains a comma or exceeds 256 bytes, or a pattern is invalid.
    InvalidNamespace(String),
    /// A namespace to add already exists.
    NamespaceExists(String),
    /// A namespace cannot be added, because
    /// [`Config::max_namespaces`](crate::Config::max_namespaces) exist.
    TooManyNamespaces,
    /// A namespace cannot be added, because the server is not built yet. Use
    /// [`Builder::namespace`](crate::Builder::namespace) instead.
    NotBuilt,
    /// An event has two handlers, or a setting that is allowed once is set twice.
    DuplicateHandler(String),
    /// The event cannot be sent by clients. For new clients, use
    /// [`on_connect`](crate::NamespaceBuilder::on_connect).
    ReservedEvent(String),
    /// A handler or middleware needs a [`State`](crate::State) of this type, which the builder does
    /// not have.
    MissingState(&'static str),
    /// The handler of this event has a parameter after [`Args`](crate::Args), which takes all
    /// arguments.
    ArgsNotLast(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidOption(reason) => write!(f, "invalid option: {reason}"),
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
                "a handler or middleware needs the state `{name}`: pass it to `Builder::state`"
            ),
            Self::ArgsNotLast(event) => write!(
                f,
                "the handler of `{event}` has a parameter after `Args`, which takes all remaining arguments: make `Args` the last one"
            ),
        }
    }
}

impl std::error::Error for BuildError {}
