//! The stored form of an event, and how followers receive it: under its own name, with the data and
//! [`EventMeta`] as arguments.
//!
//! In a channel with `history = "last"`, a new event replaces the queued one and is not conflated.
//! A conflated event would follow answers and `channel:ended` that were queued after it, could be
//! dropped, and would not be replayed by recovery.

use std::borrow::Cow;
use std::sync::Weak;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::kinds::Kind;
use super::position::Positions;
use super::{Channels, ChannelsInner};
use crate::service::fault::ServiceError;
use crate::service::journals::{JournalEmitter, read, write};
use crate::service::rules::emissions::channels::{ChannelEvent, EndReason, EventMeta};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{Append, Entry, IfOpen, Time};
use roomcast::broadcast::Emitted;
use roomcast::{Args, Broadcast, Namespace, Parser, Room, Socket};

/// The content of a channel's journal entry.
#[derive(Serialize, Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: Cow<'a, RawValue>,
}

/// The content of an entry that tells that the channel was deleted.
pub(super) const DELETION: &str = r#"{"deleted":true}"#;

/// The content of an entry whose event was deleted.
pub(super) const DELETED_EVENT: &str = r#"{"deletedEvent":true}"#;

/// Returns whether an entry tells that the channel was deleted.
pub(super) fn is_deletion(entry: &Entry) -> bool {
    entry.body == DELETION
}

/// Returns the room of a channel's followers. Its journal has the same name.
pub(super) fn room_of(channel: &str) -> Room {
    room_named(RoomKind::Declared.prefix(), channel)
}

/// Returns whether a room is that of a channel.
pub(super) fn is_room(room: &Room) -> bool {
    let rest = room.as_str().strip_prefix(RoomKind::Declared.prefix());
    rest.is_some_and(|rest| rest.starts_with([':', '#']))
}

/// Returns the body of an entry.
pub(super) fn body_of(event: &str, data: &RawValue) -> String {
    write(&Body {
        event: event.into(),
        data: Cow::Borrowed(data),
    })
}

/// Returns an entry to append to the journal of a channel of a kind. The first one of a key stays.
pub(super) fn entry_of(kind: &Kind, channel: &str, key: String, body: String) -> Append {
    let new = Append::new(room_of(channel).as_str().to_owned(), key, body);
    Append {
        // The stored events of each kind are counted.
        category: Some(kind.name.clone()),
        if_open: IfOpen::Refuse,
        expires_at: Some(new.created_at.after(kind.history_age)),
        ..new
    }
}

/// Returns the key of an event that a user or a service publishes under an id.
///
/// Each user has its own ids, so that no user can occupy those of another one. A user id has no
/// line end.
pub(super) fn key_of(publisher: Option<&str>, id: &str) -> String {
    publisher.map_or_else(|| id.to_owned(), |user| format!("{user}\n{id}"))
}

/// Returns the id in a key.
fn id_in(key: &str) -> &str {
    key.split_once('\n').map_or(key, |(_, id)| id)
}

/// Converts an entry into the event in an answer.
pub(super) fn event_of(entry: &Entry, positions: &Positions) -> Option<ChannelEvent> {
    if is_deletion(entry) || entry.body == DELETED_EVENT {
        return None;
    }
    let position = positions.of_entry(entry);
    Some(event_at(
        position,
        read(entry)?,
        &entry.key,
        entry.created_at,
    ))
}

/// Converts an event that is not stored, like [`event_of`].
pub(super) fn unstored_event(event: &Append, positions: &Positions) -> Option<ChannelEvent> {
    let body = serde_json::from_str(&event.body).ok()?;
    let position = positions.of_offset(0);
    Some(event_at(position, body, &event.key, event.created_at))
}

fn event_at(position: String, body: Body<'_>, key: &str, timestamp: Time) -> ChannelEvent {
    ChannelEvent {
        event: body.event.into_owned(),
        data: body.data.into_owned(),
        position,
        id: id_in(key).to_owned(),
        timestamp,
    }
}

/// Emits the events of one channel.
pub(super) struct ChannelEmitter {
    pub(super) channel: String,
    pub(super) positions: Positions,
    /// The channels, which have this emitter.
    pub(super) channels: Weak<ChannelsInner>,
}

impl ChannelEmitter {
    /// Returns whether the channel has only its newest event.
    fn is_last(&self) -> bool {
        let channels = self.channels.upgrade().map(Channels);
        let found = channels.as_ref().and_then(|all| all.find(&self.channel));
        found.is_some_and(|(kind, _)| kind.is_last)
    }

    /// Ends all subscriptions at this server.
    fn end_all(&self, at: &Namespace, reason: EndReason) {
        if let Some(channels) = self.channels.upgrade().map(Channels) {
            channels.end_channel(at, &self.channel, reason);
        }
    }
}

/// Emits an event, encoded once for all followers. Returns what was emitted.
#[expect(
    clippy::disallowed_methods,
    reason = "an event of an application has no row here"
)]
fn emit_event(
    to: &Broadcast<'_>,
    event: &str,
    data: &RawValue,
    meta: &EventMeta<'_>,
) -> Option<Emitted> {
    let list = format!("[{},{}]", data.get(), write(meta));
    let args = Args::document(Parser::Json, list.into()).ok()?.items(0)?;
    Some(to.emit(event, args))
}

/// Emits an event that is not stored to the followers at all servers.
///
/// # Errors
///
/// If it cannot be sent to the other servers.
pub(super) fn emit_unstored(
    namespace: &Namespace,
    channel: &str,
    positions: &Positions,
    event: &Append,
) -> Result<(), ServiceError> {
    let Ok(Body { event: name, data }) = serde_json::from_str(&event.body) else {
        return Ok(());
    };
    let meta = EventMeta {
        channel,
        position: positions.of_offset(0),
        id: id_in(&event.key),
        timestamp: event.created_at,
    };
    let emitted = emit_event(&namespace.to(room_of(channel)), &name, &data, &meta);
    match emitted.and_then(|emitted| emitted.error) {
        Some(_) => Err(ServiceError::unavailable(UNSENT_PAUSE)),
        None => Ok(()),
    }
}

/// Sends a socket events that it has missed, as the channel has emitted them.
pub(super) fn emit_missed(socket: &Socket, channel: &str, is_last: bool, missed: &[ChannelEvent]) {
    let namespace = socket.namespace();
    let mut to = namespace.local().to(socket.id());
    if is_last {
        to = to.replace_queued(room_of(channel).as_str());
    }
    for event in missed {
        let meta = EventMeta {
            channel,
            position: event.position.clone(),
            id: &event.id,
            timestamp: event.timestamp,
        };
        emit_event(&to, &event.event, &event.data, &meta);
    }
}

/// How long to wait before an event that could not be sent is published again.
const UNSENT_PAUSE: Duration = Duration::from_secs(1);

impl JournalEmitter for ChannelEmitter {
    /// Followers subscribe again, and learn from the answer what is still stored.
    fn emit_gap(&self, to: &Namespace) {
        // Followers of a channel that has only its newest event miss no other one.
        if !self.is_last() {
            self.end_all(to, EndReason::Interrupted);
        }
    }

    fn emit(&self, namespace: &Namespace, _: &str, entries: &[Entry]) {
        let room = room_of(&self.channel);
        let mut to = namespace.local().to(&room);
        if self.is_last() {
            // Slow followers get only the newest event, whatever its name is, in its place among
            // the answers to their requests.
            to = to.replace_queued(room.as_str());
        }
        for entry in entries {
            if is_deletion(entry) {
                self.end_all(namespace, EndReason::Deleted);
            } else if let Some(Body { event, data }) = read(entry) {
                let meta = EventMeta {
                    channel: &self.channel,
                    position: self.positions.of_entry(entry),
                    id: id_in(&entry.key),
                    timestamp: entry.created_at,
                };
                emit_event(&to, &event, &data, &meta);
            }
        }
    }
}
