//! Names of what Socket.IO addresses: sockets by their ids, rooms, and whatever callers may give
//! where rooms are named.
//!
//! A leaf: these are values that both `socket` and `adapter` speak of, and what is sent to another
//! server is made of. Nothing in here may know what has the name.

mod id;
mod room;

pub use id::SocketId;
pub(crate) use id::{IdMap, IdSet};
pub use room::{IntoRooms, Room, RoomName};
