//! Plain values that all modules of `socket` use.
//!
//! They are names of events, arguments, answers, refusals, errors, expiring values, and served
//! files. The names of sockets and rooms are in `crate::names`, because adapters need them as well.
//!
//! Every other module of `socket` imports this one. It must not know sockets, namespaces or
//! servers, or import another module of `socket`.

mod answer;
pub(crate) mod args;
mod client_builds;
mod errors;
mod expiring;
mod name;
mod reason;
mod refusal;
mod state;

pub(crate) use crate::names::{
    Contract, IdMap, IdSet, IntoRooms, Request, Room, RoomName, SocketId,
};
pub use answer::{Ack, Answer, IntoAck, NoAck, Replies, Reply};
pub(crate) use answer::{AckOutcome, AnswerFuture};
pub use client_builds::ClientFiles;
pub(crate) use client_builds::NAMES;
pub use errors::{AckError, BuildError, DrainError, EmitError, JoinError, ListenError, ListenerId};
pub(crate) use expiring::{Expiring, shrink_map, sweep};
pub(crate) use name::{Name, RESERVED};
pub use reason::DisconnectReason;
pub use refusal::Refusal;
pub(crate) use state::{Shared, StateKind, States};
