use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::id::SocketId;

/// The name of a room: an arbitrary string of at most 256 bytes. Cloning is a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Room(#[serde(with = "name")] Arc<str>);

impl Room {
    /// The longest name in bytes.
    pub const MAX_BYTES: usize = 256;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Room {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Room {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl Borrow<str> for Room {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A room as a caller names it: a name that is borrowed or owned, or a socket's id.
#[derive(Clone, Debug)]
pub struct RoomName<'a>(Name<'a>);

#[derive(Clone, Debug)]
enum Name<'a> {
    Borrowed(&'a str),
    Owned(String),
    Shared(Room),
    Id(SocketId),
}

impl RoomName<'_> {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Borrowed(name) => name,
            Name::Owned(name) => name,
            Name::Shared(room) => room.as_str(),
            Name::Id(id) => id.as_str(),
        }
    }

    /// The socket of which this is the own room, if the name has the form of an id.
    pub(crate) fn id(&self) -> Option<SocketId> {
        match &self.0 {
            Name::Borrowed(name) => SocketId::parse(name),
            Name::Owned(name) => SocketId::parse(name),
            Name::Shared(room) => SocketId::parse(room.as_str()),
            Name::Id(id) => Some(*id),
        }
    }

    pub(crate) fn into_room(self) -> Room {
        match self.0 {
            Name::Borrowed(name) => name.into(),
            Name::Owned(name) => name.into(),
            Name::Shared(room) => room,
            Name::Id(id) => id.as_str().into(),
        }
    }
}

impl<'a> From<&'a str> for RoomName<'a> {
    fn from(name: &'a str) -> Self {
        Self(Name::Borrowed(name))
    }
}

impl<'a> From<&'a String> for RoomName<'a> {
    fn from(name: &'a String) -> Self {
        Self(Name::Borrowed(name))
    }
}

impl From<String> for RoomName<'_> {
    fn from(name: String) -> Self {
        Self(Name::Owned(name))
    }
}

impl From<Room> for RoomName<'_> {
    fn from(room: Room) -> Self {
        Self(Name::Shared(room))
    }
}

impl<'a> From<&'a Room> for RoomName<'a> {
    fn from(room: &'a Room) -> Self {
        Self(Name::Borrowed(room.as_str()))
    }
}

impl From<SocketId> for RoomName<'_> {
    fn from(id: SocketId) -> Self {
        Self(Name::Id(id))
    }
}

impl From<&SocketId> for RoomName<'_> {
    fn from(id: &SocketId) -> Self {
        Self(Name::Id(*id))
    }
}

/// What can be given where rooms are named: one name or several.
///
/// An empty list names no room, so it reaches nobody.
pub trait IntoRooms<'a> {
    /// Hands every named room to `add`.
    fn each(self, add: impl FnMut(RoomName<'a>));
}

macro_rules! one_room {
    ($($name:ty),+) => {
        $(impl<'a> IntoRooms<'a> for $name {
            fn each(self, mut add: impl FnMut(RoomName<'a>)) {
                add(self.into());
            }
        })+
    };
}

one_room!(
    &'a str,
    &'a String,
    String,
    Room,
    &'a Room,
    SocketId,
    &'a SocketId,
    RoomName<'a>
);

impl<'a, T: Into<RoomName<'a>>> IntoRooms<'a> for Vec<T> {
    fn each(self, add: impl FnMut(RoomName<'a>)) {
        self.into_iter().map(Into::into).for_each(add);
    }
}

impl<'a, T: Into<RoomName<'a>>, const N: usize> IntoRooms<'a> for [T; N] {
    fn each(self, add: impl FnMut(RoomName<'a>)) {
        self.into_iter().map(Into::into).for_each(add);
    }
}

impl<'a, T> IntoRooms<'a> for &'a [T]
where
    &'a T: Into<RoomName<'a>>,
{
    fn each(self, add: impl FnMut(RoomName<'a>)) {
        self.iter().map(Into::into).for_each(add);
    }
}

impl<'a, T> IntoRooms<'a> for &'a Vec<T>
where
    &'a T: Into<RoomName<'a>>,
{
    fn each(self, add: impl FnMut(RoomName<'a>)) {
        self.as_slice().each(add);
    }
}

/// Serde for the shared name.
mod name {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Into::into)
    }
}
