use std::{collections::HashMap, sync::Arc};

use super::members::RoomCell;
use crate::socket::types::Room;

/// The rooms that a socket is in.
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) rooms: HashMap<Room, Arc<RoomCell>>,
    /// The socket has left all rooms for good.
    pub(crate) closed: bool,
}
