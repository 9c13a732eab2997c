use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::id::SocketId;

/// The name of a room: an arbitrary string of at most 256 bytes. Cloning only increments a
/// reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Room(#[serde(with = "name")] Arc<str>);

impl Room {
    /// Maximum length of a name, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Returns the name.
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

impl AsRef<str> for Room {
    fn as_ref(&self) -> &str {
        &self.0
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

/// A room name as a caller passes it: a borrowed or owned string, or a socket id.
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
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Borrowed(name) => name,
            Name::Owned(name) => name,
            Name::Shared(room) => room.as_str(),
            Name::Id(id) => id.as_str(),
        }
    }

    /// Returns the socket whose own room this is, if the name has the form of a socket id.
    pub(crate) fn id(&self) -> Option<SocketId> {
        match &self.0 {
            Name::Borrowed(name) => SocketId::parse(name),
            Name::Owned(name) => SocketId::parse(name),
            Name::Shared(room) => SocketId::parse(room.as_str()),
            Name::Id(id) => Some(id.clone()),
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

/// Borrows any text: `&str`, `&String`, `&Cow<str>`, `&Arc<str>`, `&Room`, `&SocketId`.
impl<'a, S: AsRef<str> + ?Sized> From<&'a S> for RoomName<'a> {
    fn from(name: &'a S) -> Self {
        Self(Name::Borrowed(name.as_ref()))
    }
}

impl From<String> for RoomName<'_> {
    fn from(name: String) -> Self {
        Self(Name::Owned(name))
    }
}

impl From<Box<str>> for RoomName<'_> {
    fn from(name: Box<str>) -> Self {
        Self(Name::Owned(name.into()))
    }
}

impl From<Arc<str>> for RoomName<'_> {
    fn from(name: Arc<str>) -> Self {
        Self(Name::Shared(Room(name)))
    }
}

impl<'a> From<Cow<'a, str>> for RoomName<'a> {
    fn from(name: Cow<'a, str>) -> Self {
        match name {
            Cow::Borrowed(name) => Self(Name::Borrowed(name)),
            Cow::Owned(name) => Self(Name::Owned(name)),
        }
    }
}

impl From<Room> for RoomName<'_> {
    fn from(room: Room) -> Self {
        Self(Name::Shared(room))
    }
}

impl From<SocketId> for RoomName<'_> {
    fn from(id: SocketId) -> Self {
        Self(Name::Id(id))
    }
}

/// Types accepted where rooms are named.
///
/// These are single names (`&str`, `String`, `Cow<str>`, `Room`, `SocketId` …) and types that can
/// be iterated over to yield names (`&[&str]`, `Vec<String>`, `&HashSet<Room>`, an iterator …).
///
/// An empty collection names no room, so it reaches no socket. `M` distinguishes one name from
/// several and is always inferred.
///
/// ```
/// # fn example(io: roomcast::Io, user: &roomcast::Socket, teams: &[u32]) {
/// io.to("lobby").emit("news", 1);
/// io.to(["red", "blue"]).except(user.id()).emit("news", 1);
/// io.to(teams.iter().map(|team| format!("team:{team}"))).emit("news", 1);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name rooms",
    label = "neither a name nor several names",
    note = "a name is a text, a `Room` or a `SocketId`; several are anything that can be iterated over and gives names"
)]
pub trait IntoRooms<'a, M> {
    /// Passes each room name to `add`.
    fn each(self, add: impl FnMut(RoomName<'a>));
}

impl<'a, T: Into<RoomName<'a>>> IntoRooms<'a, RoomName<'a>> for T {
    fn each(self, mut add: impl FnMut(RoomName<'a>)) {
        add(self.into());
    }
}

impl<'a, I: IntoIterator<Item: Into<RoomName<'a>>>> IntoRooms<'a, Vec<RoomName<'a>>> for I {
    fn each(self, add: impl FnMut(RoomName<'a>)) {
        self.into_iter().map(Into::into).for_each(add);
    }
}

/// Serde support for the shared name.
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
