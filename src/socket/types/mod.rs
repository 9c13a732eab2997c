//! Words that everything in `socket` is said with: names (those of sockets and rooms lie in
//! `crate::names`, since adapters speak of them too), arguments,
//! answers, refusals, errors, values that are kept for a time, and files that are handed out.
//!
//! Every other room of `socket` comes in here. Nothing in here may know what a socket, a namespace
//! or a server is, nor import any other room: these are values, and functions of values.

mod answer;
pub(crate) mod args;
mod client_builds;
mod contract;
mod errors;
mod expiring;
mod name;
mod reason;
mod refusal;
mod state;

pub(crate) use crate::names::{IdMap, IdSet, IntoRooms, Room, RoomName, SocketId};
pub use answer::{Ack, Answer, IntoAck, NoAck, Reply};
pub(crate) use answer::{AnswerFuture, Outcome};
pub use client_builds::ClientFiles;
pub(crate) use client_builds::NAMES;
pub use contract::Contract;
pub use errors::{AckError, BuildError, DrainError, EmitError, JoinError, ListenError, ListenerId};
pub(crate) use expiring::{Expiring, give_back, sweep};
pub(crate) use name::{Name, RESERVED};
pub use reason::DisconnectReason;
pub use refusal::Refusal;
pub(crate) use state::{StateKind, States};
