//! Names of Socket.IO entities: socket ids, rooms, types that callers may pass as rooms, and the
//! contracts that name events.
//!
//! `socket` and `adapter` both need these values, and messages to other servers contain them. So
//! this module imports no other module, and must not know what the names refer to.

mod contract;
mod id;
mod room;

pub use contract::{Contract, Request};
pub use id::SocketId;
pub(crate) use id::{IdMap, IdSet};
pub use room::{IntoRooms, Room, RoomName};
