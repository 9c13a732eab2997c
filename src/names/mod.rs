//! Names of what Socket.IO addresses: the ids of sockets, rooms, and whatever callers may pass
//! where rooms are named.
//!
//! Both `socket` and `adapter` need these values, and messages to other servers are made of them,
//! so this module imports no other. Nothing in it may know what has the name.

mod id;
mod room;

pub use id::SocketId;
pub(crate) use id::{IdMap, IdSet};
pub use room::{IntoRooms, Room, RoomName};
