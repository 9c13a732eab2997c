//! Socket.IO: namespaces, sockets, rooms, events, acknowledgements.
//!
//! This file is a table of contents: no file below imports from it, and other modules of the library
//! find the names here that they may use. Imports go down in this drawing, never up:
//!
//! ```text
//!          api                  what applications see
//!         /   \
//!     apply   inbound            what reaches many sockets; a client's packets in
//!        |      |
//!        |   connect             who may come in, and how long they may stay
//!         \   /
//!          life                  admitted, in rooms, recoverable, going on, ended
//!         /    \
//!   sending    dispatch          an event's way out; handlers at work
//!         \    /
//!          core                  the state of servers, namespaces and sockets
//!        /   |   \
//!   rooms  acks  recovery        tables that know no socket
//!        \   |   /
//!          types                 names, arguments, answers, refusals, errors
//! ```
//!
//! A packet's way in is `inbound/connection` → `inbound/event_queues` → `dispatch/running`; an event's way
//! out is `apply/emitting` → `core/namespace` → `rooms/members` → the outboxes of the engine. What goes
//! to other servers leaves in `apply/publishing` and comes in through `apply/received`.
//!
//! The types go in a circle: a server holds namespaces, which hold handlers, which take events,
//! which hold sockets, which hold their namespace and server. So state is separated from what is done
//! with it. The state lies in `core`, and the modules above add behaviour as further `impl` blocks of
//! the same types; a table that `core` holds is generic where it would have to know a socket. Three
//! borders have a reason of their own:
//!
//! - `sending` lies below who decides about clients, because the server sends as well: it tells a
//!   client why it is disconnected, and that its credentials end.
//! - `life` is a module of its own, because ending a socket takes rooms, recovery and handlers at
//!   once, and because claiming a socket, admitting a client and disconnecting one all need it.
//! - The event queues of a connection lie in `inbound`, not in `dispatch`: one set of jobs holds handlers,
//!   middleware and admissions, so what drives it lies above all three.

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
    Broadcast, Builder, Conn, Error, Fetched, Idempotent, IoFuture, IoLayer, IoService, Layered,
    LayeredBody, NamespaceBuilder, RemoteSocket, Server, argument, field, idempotent,
};
#[cfg(feature = "cluster")]
pub use api::{PartialAnswers, ServerSideError};
pub use connect::{Authenticate, Authenticates};
#[cfg(feature = "cluster")]
pub use core::ServerSide;
pub use core::{
    ConnEvent, Connect, Event, Failure, Incoming, Io, Lifecycle, Namespace, Outgoing, Renewal,
    Socket,
};
pub use dispatch::{
    ContractParameters, Data, Extension, Handler, Handling, Middleware, Needs, Parameter,
    Parameters, State, Verdict,
};
pub use sending::{AckFuture, Acks, Direct, Emitted};
#[cfg(feature = "client")]
pub(crate) use types::args::arguments;
pub use types::{
    Ack, AckError, Answer, BuildError, ClientFiles, DisconnectReason, DrainError, EmitError,
    IntoAck, JoinError, ListenError, ListenerId, NoAck, Refusal, Replies, Reply,
};
