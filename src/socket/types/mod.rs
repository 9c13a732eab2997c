//! Plain values that all modules of `socket` use: names of events (those of sockets and rooms lie in
//! `crate::names`, since adapters need them too), arguments, answers, refusals, errors, values that
//! expire, and files that are served.
//!
//! Every other module of `socket` imports this one. Nothing in this module may know what a socket, a
//! namespace or a server is, nor import any other module of `socket`.

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
pub(crate) use expiring::{Expiring, give_back, sweep};
pub(crate) use name::{Name, RESERVED};
pub use reason::DisconnectReason;
pub use refusal::Refusal;
pub(crate) use state::{Shared, StateKind, States};
