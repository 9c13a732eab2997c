//! Names of what Socket.IO addresses: the ids of sockets, rooms, whatever callers may pass where
//! rooms are named, and the contracts that name events.
//!
//! Both `socket` and `adapter` need these values, and messages to other servers are made of them,
//! so this module imports no other. Nothing in it may know what has the name.

mod contract;
mod id;
mod room;

pub use contract::{Contract, Request};
pub use id::SocketId;
pub(crate) use id::{IdMap, IdSet};
pub use room::{IntoRooms, Room, RoomName};
