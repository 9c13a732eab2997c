//! What webhooks, which each kind chooses, traces and the diagnosis receive about channels.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Channels;
use super::emitting::is_room;
use super::kinds::Kind;
use crate::config::ChannelHook;
use crate::metrics::diagnosis::Diagnosis;
use crate::metrics::trace::{Detail, Subject, Traces, unmasked};
use crate::service::hooks::Source;
use crate::service::rules::emissions::channels::ChannelEvent;
use crate::service::rules::rooms::RoomKind;
use roomcast::{Io, Room};

/// What webhooks receive of an event in a channel.
#[derive(Serialize)]
struct HookedEvent<'a> {
    channel: &'a str,
    #[serde(flatten)]
    event: ChannelEvent,
}

impl Channels {
    /// Passes to webhooks that the first socket has joined a room at this server, or that the last
    /// one has left it. A channel with a name that is too long for a room name is not reported.
    pub(crate) fn hook_room(&self, room: &Room, is_occupied: bool) {
        let name = room.as_str().strip_prefix(RoomKind::Declared.prefix());
        let name = name.filter(|_| is_room(room));
        let Some(channel) = name.and_then(|name| name.strip_prefix(':')) else {
            return;
        };
        let (hook, event) = match is_occupied {
            true => (ChannelHook::Occupied, "channel.occupied"),
            false => (ChannelHook::Vacated, "channel.vacated"),
        };
        let found = self.find(channel);
        if found.is_some_and(|(kind, _)| kind.hooks.contains(&hook)) {
            let data = || json!({ "channel": channel });
            self.0.hooks.enqueue_chosen(event, Source::Rooms, data);
        }
    }

    /// Passes an event that was published to webhooks.
    pub(super) fn hook_event(
        &self,
        kind: &Kind,
        source: &Source,
        channel: &str,
        event: impl FnOnce() -> Option<ChannelEvent>,
    ) {
        if !kind.hooks.contains(&ChannelHook::Event) {
            return;
        }
        if let Some(event) = event() {
            let data = || HookedEvent { channel, event };
            let source = source.clone();
            self.0.hooks.enqueue_chosen("channel.event", source, data);
        }
    }
}

/// Counts a published event for the diagnosis, and records it for callers that watch its channel.
pub(super) fn observe(
    io: &Io,
    channel: &str,
    room: &Room,
    event: impl Fn() -> Option<ChannelEvent>,
) {
    io.state::<Diagnosis>().published(room.as_str());
    let subject = Subject {
        channel: Some(channel),
        ..Subject::default()
    };
    io.state::<Traces>()
        .record(&subject, "published", |detail| match (event(), detail) {
            (Some(event), Detail::Unmasked) => traced(event),
            (None, _) | (_, Detail::Masked) => Map::new(),
        });
}

/// Returns the fields of an event in a trace.
fn traced(event: ChannelEvent) -> Map<String, Value> {
    let data = serde_json::from_str(event.data.get()).map_or(Value::Null, unmasked);
    let fields = [
        ("event", event.event.into()),
        ("id", event.id.into()),
        ("position", event.position.into()),
        ("data", data),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    fields.into_iter().collect()
}
