use std::{collections::HashMap, sync::Arc};

use super::members::RoomCell;
use crate::socket::types::Room;

/// The joined rooms of a socket.
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) rooms: HashMap<Room, Arc<RoomCell>>,
    /// The socket has permanently left all rooms.
    pub(crate) closed: bool,
}
