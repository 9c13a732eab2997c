//! What happens to connections, rooms and events, for webhooks.

use serde::Serialize;
use serde_json::{Value, json};

use crate::service::{Allowed, Hooks};
use roomcast::{Args, Builder, Event, Lifecycle};

/// Has it told who comes and goes, and which rooms have members.
pub(super) fn register(io: &mut Builder, hooks: &Hooks) {
    if !hooks.is_there() {
        return;
    }
    let hooks = hooks.clone();
    io.on_event(move |event| watch(&hooks, event));
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "nothing else that the library tells is told"
)]
fn watch(hooks: &Hooks, event: &Lifecycle<'_>) {
    match event {
        Lifecycle::Connected { socket }
            if hooks.wants("connect") && socket.namespace().name() == "/" =>
        {
            let principal = socket.principal();
            hooks.tell("connect", || {
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
            if hooks.wants("disconnect") && socket.namespace().name() == "/" =>
        {
            hooks.tell("disconnect", || {
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
        } if hooks.wants_room(room.as_str()) => {
            hooks.tell("room:occupied", || json!({"room": room.as_str()}));
        }
        Lifecycle::RoomDeleted {
            namespace: "/",
            room,
        } if hooks.wants_room(room.as_str()) => {
            hooks.tell("room:vacated", || json!({"room": room.as_str()}));
        }
        _ => {}
    }
}

/// An event of a client, to be told when it is done.
pub(super) struct Heard {
    hooks: Hooks,
    event: &'static str,
    socket_id: String,
    user_id: String,
    args: Args,
}

/// What webhooks are told of an event of a client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClientEventData<'a, A> {
    socket_id: String,
    user_id: String,
    payload: Value,
    answer: &'a A,
}

impl Heard {
    /// Notes an event that was admitted: nothing is copied of one whose sender may not send it, or has sent too many.
    pub(super) fn new<T>(
        hooks: &Hooks,
        name: &'static str,
        event: &Event,
        _: &Allowed<T>,
    ) -> Box<Self> {
        Box::new(Self {
            hooks: hooks.clone(),
            event: name,
            socket_id: event.socket.id().as_str().to_owned(),
            user_id: event.principal().subject.clone(),
            args: event.args().clone(),
        })
    }

    /// The event is done, and answered so.
    pub(super) fn done<A: Serialize>(self, answer: &A) {
        self.hooks.tell(self.event, || ClientEventData {
            socket_id: self.socket_id,
            user_id: self.user_id,
            payload: self.args.get(0).unwrap_or_default(),
            answer,
        });
    }
}
