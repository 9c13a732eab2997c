//! The rooms of signals: the room for all signals, and rooms for channels. Long channel names
//! appear in room names only as a hash.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::service::fault::ServiceError;
use crate::service::rules::rooms::{Followed, RoomKind, room_named};
use roomcast::{Room, Socket};

/// The channels that a socket follows in rooms with hashed names. They are stored with the socket,
/// so that it can get a snapshot after recovery.
#[derive(Default)]
struct HashedChannels(Mutex<HashMap<Room, String>>);

impl HashedChannels {
    fn of(socket: &Socket) -> Arc<Self> {
        socket.data().unwrap_or_else(|| {
            socket.set_data(Self::default());
            socket.data().unwrap_or_default()
        })
    }
}

/// Notes the channel of a joined room if the room name contains only its hash.
pub(super) fn note(socket: &Socket, room: &Room, channel: Option<&str>) {
    if let Some(channel) = channel.filter(|_| is_hashed(room)) {
        let known = HashedChannels::of(socket);
        let mut known = known.0.lock();
        // Rooms that the socket left in other ways than by request of its client are evicted as
        // well.
        known.retain(|room, _| socket.is_in(room.as_str()));
        known.insert(room.clone(), channel.to_owned());
    }
}

/// Removes the channel of a room that the socket leaves.
pub(super) fn forget(socket: &Socket, room: &Room) {
    if is_hashed(room) {
        HashedChannels::of(socket).0.lock().remove(room);
    }
}

/// Returns the channel of a room of signals that the socket is in, or `None` for the room of all
/// signals.
pub(super) fn channel_of(socket: &Socket, room: &Room) -> Result<Option<String>, ServiceError> {
    if is_hashed(room) {
        let found = HashedChannels::of(socket).0.lock().get(room).cloned();
        // If the channel is unknown, the socket joined the room by another way than its client's
        // subscription.
        let unknown = ServiceError::NotFound("the channel of the room is unknown");
        return found.map(Some).ok_or(unknown);
    }
    Ok(channel_in(room))
}

/// Returns the channel in the name of a room of signals, or `None` for the room of all signals.
pub(super) fn channel_in(room: &Room) -> Option<String> {
    let rest = room.as_str().strip_prefix(JOURNAL).unwrap_or_default();
    rest.strip_prefix(':').map(str::to_owned)
}

/// Returns the subscription of a socket in a room of signals, or `None` if the channel is unknown.
pub(super) fn followed(socket: &Socket, room: &Room) -> Option<Followed> {
    if !is_hashed(room) {
        return Some(Followed::Room(room.as_str().to_owned()));
    }
    let signals = channel_of(socket, room).ok()??;
    Some(Followed::Channel { signals })
}

/// Returns the room of all signals, or of a channel.
pub(super) fn room_of(channel: Option<&str>) -> Room {
    match channel {
        Some(channel) => room_named(JOURNAL, channel),
        None => Room::from(JOURNAL),
    }
}

/// Returns whether a room is a room of signals.
pub(super) fn is_room(room: &Room) -> bool {
    let rest = room.as_str().strip_prefix(JOURNAL);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '#']))
}

/// Returns whether a room is a room of signals whose name is not hashed.
pub(super) fn is_named(room: &Room) -> bool {
    is_room(room) && !is_hashed(room)
}

/// Returns whether a room is a room of signals whose name has only the hash of the channel.
fn is_hashed(room: &Room) -> bool {
    let rest = room.as_str().strip_prefix(JOURNAL);
    rest.is_some_and(|rest| rest.starts_with('#'))
}

/// The journal of signals, and the name of the room of all signals.
pub(super) const JOURNAL: &str = RoomKind::Signals.prefix();

#[cfg(test)]
mod tests {
    use roomcast::{Ack, Event, Io, testing};

    use super::*;

    #[test]
    fn a_channel_with_a_long_name_has_a_room_with_its_hash() {
        let long = "ü".repeat(128);
        for (channel, hashed) in [(None, false), (Some("gold"), false), (Some(&*long), true)] {
            let room = room_of(channel);
            assert!(is_room(&room));
            assert_eq!(is_hashed(&room), hashed, "{room:?}");
        }
        assert!(!is_room(&Room::from("signalsx")));
    }

    #[tokio::test]
    async fn socket_stores_the_names_of_its_channels() {
        let io = Io::builder().namespace("/", |namespace| {
            namespace.on("join", async |event: Event, channel: String| {
                let room = room_of(Some(&channel));
                let joined = event.socket.join(&room).is_ok();
                note(&event.socket, &room, Some(&channel));
                Ack(joined)
            })
        });
        let server = testing::serve(io).await;
        let ann = server.client().connect().await.unwrap();
        let mut names: Vec<String> = (0..3).map(|n| format!("{n}{}", "ü".repeat(127))).collect();
        names.push("gold".into());
        for name in &names {
            assert!(ann.emit_with_ack::<bool>("join", name).await.unwrap());
        }
        let socket = server.io().of("/").socket(ann.id()).unwrap();
        let rooms: Vec<_> = names.iter().map(|name| room_of(Some(name))).collect();
        for (name, room) in names.iter().zip(&rooms) {
            assert_eq!(channel_of(&socket, room).unwrap().as_ref(), Some(name));
        }
        assert_eq!(channel_of(&socket, &room_of(None)), Ok(None));
        let restored = |at: usize| followed(&socket, &rooms[at]);
        let signals = names[0].clone();
        assert_eq!(restored(0), Some(Followed::Channel { signals }));
        assert_eq!(restored(3), Some(Followed::Room("signals:gold".into())));
        let [first, second, third, _] = &rooms[..] else {
            panic!("{rooms:?}");
        };
        forget(&socket, first);
        socket.leave(second);
        note(&socket, third, Some(&names[2]));
        let known = HashedChannels::of(&socket);
        let known: Vec<_> = known.0.lock().values().cloned().collect();
        assert_eq!(known, [names[2].clone()]);
        assert!(channel_of(&socket, first).is_err());
        assert_eq!(restored(0), None);
    }
}
