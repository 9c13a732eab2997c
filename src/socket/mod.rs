//! Socket.IO: namespaces, sockets, rooms, events, acknowledgements.
//!
//! This file contains only re-exports. No file below imports from it, and other modules of the
//! library use these names. Imports point down in this diagram, never up:
//!
//! ```text
//!          api                  the application's interface
//!         /   \
//!     apply   inbound           operations on many sockets; incoming packets of a client
//!        |      |
//!        |   connect            which clients may connect, and for how long
//!         \   /
//!          life                 admission, rooms, recovery, end of a socket
//!         /    \
//!   sending    dispatch         outgoing events; running handlers
//!         \    /
//!          core                 the state of servers, namespaces and sockets
//!        /   |   \
//!   rooms  acks  recovery       tables that are independent of sockets
//!        \   |   /
//!          types                names, arguments, answers, refusals, errors
//! ```
//!
//! An incoming packet passes `inbound/connection` → `inbound/event_queues` → `dispatch/running`. An
//! outgoing event passes `apply/emitting` → `core/namespace` → `rooms/members` → the outboxes of
//! the engine. `apply/publishing` sends operations to other servers, and `apply/received` receives
//! theirs.
//!
//! The types form a cycle: a server holds namespaces, a namespace holds handlers, a handler takes
//! events, an event holds its socket, and a socket holds its namespace and server. So state is
//! separated from behaviour. `core` holds the state. The modules above add behaviour in further
//! `impl` blocks of the same types. A table in `core` is generic if it would otherwise depend on a
//! socket.
//!
//! Three boundaries need an explanation:
//!
//! - `sending` is below the modules that decide about clients, because the server also sends: it
//!   notifies clients of disconnects and of expiring credentials.
//! - `life` is a separate module, because ending a socket involves rooms, recovery and handlers.
//!   Claiming a socket, admitting a client and disconnecting a client all need it.
//! - The event queues of a connection are in `inbound`, not in `dispatch`. One set of jobs holds
//!   handlers, middleware and admissions, so the code that drives it is above all three.

mod acks;
mod api;
mod apply;
mod connect;
mod core;
mod dispatch;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod inbound;
mod life;
mod recovery;
mod rooms;
mod sending;
mod types;

pub use api::{
    Broadcast, Builder, EngineConnection, Error, Fetched, Idempotent, IoFuture, IoLayer, IoService,
    Layered, LayeredBody, NamespaceBuilder, PartialAnswers, RemoteSocket, Server, ServerSideError,
    TableSizes, argument, field, idempotent,
};
pub use connect::{Authenticate, IntoAuthenticator};
pub use core::{
    Connect, EngineConnectionEvent, Event, Failure, Incoming, Io, Lifecycle, Namespace, Outgoing,
    Renewal, ServerSide, Socket, WatcherCounts,
};
pub use dispatch::{
    ContractParameters, Data, Extension, Handler, HandlerFuture, IntoIncoming, Middleware,
    Parameter, Parameters, Requirement, State,
};
pub use sending::{AckFuture, Acks, Direct, Emitted};
#[cfg(feature = "client")]
pub(crate) use types::args::arguments;
pub use types::{
    Ack, AckError, Answer, BuildError, ClientFiles, DisconnectReason, DrainError, EmitError,
    IntoAck, JoinError, ListenError, ListenerId, NoAck, Refusal, Replies, Reply,
};
