//! Webhook notifications about connections, rooms and events.

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::catalogue::Fields;
use crate::service::{Channels, HookSource, Hooks};
use roomcast::{Args, Builder, Event, Lifecycle};

/// Registers notifications about connections and occupied rooms.
pub(super) fn register(io: Builder, hooks: &Hooks, channels: &Channels) -> Builder {
    if !hooks.is_configured() {
        return io;
    }
    let (hooks, channels) = (hooks.clone(), channels.clone());
    io.on_event(move |event| {
        watch(&hooks, event);
        watch_channels(&channels, event);
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other events are ignored"
)]
fn watch(hooks: &Hooks, event: &Lifecycle<'_>) {
    match event {
        Lifecycle::Connected { socket }
            if hooks.includes("connect") && socket.namespace().name() == "/" =>
        {
            let principal = socket.principal();
            hooks.enqueue("connect", HookSource::of(socket), || {
                json!({
                    "socketId": socket.id().as_str(),
                    "userId": principal.subject,
                    "name": principal.name,
                    "roles": principal.roles,
                    "guest": principal.guest,
                    "recovered": socket.recovered(),
                })
            });
        }
        Lifecycle::Disconnected { socket, reason, .. }
            if hooks.includes("disconnect") && socket.namespace().name() == "/" =>
        {
            hooks.enqueue("disconnect", HookSource::of(socket), || {
                json!({
                    "socketId": socket.id().as_str(),
                    "userId": socket.principal().subject,
                    "reason": reason.as_str(),
                })
            });
        }
        Lifecycle::RoomCreated {
            namespace: "/",
            room,
        } if hooks.includes_room(room.as_str()) => {
            let data = || json!({"room": room.as_str()});
            hooks.enqueue("room:occupied", HookSource::Rooms, data);
        }
        Lifecycle::RoomDeleted {
            namespace: "/",
            room,
        } if hooks.includes_room(room.as_str()) => {
            let data = || json!({"room": room.as_str()});
            hooks.enqueue("room:vacated", HookSource::Rooms, data);
        }
        _ => {}
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other events are ignored"
)]
fn watch_channels(channels: &Channels, event: &Lifecycle<'_>) {
    match event {
        Lifecycle::RoomCreated {
            namespace: "/",
            room,
        } => channels.hook_room(room, true),
        Lifecycle::RoomDeleted {
            namespace: "/",
            room,
        } => channels.hook_room(room, false),
        _ => {}
    }
}

/// An event of a client, retained until it is handled.
pub(super) struct HookEvent {
    hooks: Hooks,
    event: &'static str,
    socket_id: String,
    user_id: String,
    source: HookSource,
    args: Args,
}

/// The webhook data of a client's event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClientEventData {
    socket_id: String,
    user_id: String,
    payload: Value,
    answer: Box<RawValue>,
}

impl HookEvent {
    /// Copies an admitted event. Unauthorized or rate-limited events are never copied.
    pub(super) fn new(hooks: &Hooks, name: &'static str, event: &Event) -> Box<Self> {
        Box::new(Self {
            hooks: hooks.clone(),
            event: name,
            socket_id: event.socket.id().as_str().to_owned(),
            user_id: event.principal().subject.clone(),
            source: HookSource::of(&event.socket),
            args: event.args().clone(),
        })
    }

    /// Notifies webhooks that the event is handled, with its answer.
    pub(super) fn done(self, answer: &dyn Fields) {
        self.hooks
            .enqueue(self.event, self.source, || ClientEventData {
                socket_id: self.socket_id,
                user_id: self.user_id,
                payload: self.args.get(0).unwrap_or_default(),
                answer: answer.to_json(),
            });
    }
}
