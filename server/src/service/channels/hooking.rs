//! Webhooks about channels, which each kind chooses.

use serde::Serialize;

use super::Channels;
use super::emitting::is_room;
use super::kinds::Kind;
use crate::config::ChannelHook;
use crate::service::hooks::Source;
use crate::service::rules::emissions::channels::ChannelEvent;
use crate::service::rules::rooms::RoomKind;
use roomcast::Room;

/// What webhooks receive of a channel.
#[derive(Serialize)]
struct HookedChannel<'a> {
    channel: &'a str,
}

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
            let data = || HookedChannel { channel };
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
