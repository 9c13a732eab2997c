//! The events about sockets and rooms, which the UI receives only in the mode `development`.
//!
//! Nothing is sent while no UI is connected to any server, and each server sends a limited number
//! of events per second. Arguments of events are private, and are sent only in the development
//! profile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::emit;
use crate::service::api::UiSocket;
use crate::service::identity::REFRESH;
use crate::store::Time;
use roomcast::connection::EngineConnectionEvent;
use roomcast::options::Transport;
use roomcast::{Args, Event, Io, Lifecycle, Socket};

/// What is sent to UIs about sockets and rooms.
pub(super) struct Feed {
    namespace: String,
    /// Whether arguments of events are sent.
    shows_args: bool,
    began: Instant,
    /// Milliseconds after `began` until which a UI of another server is known to be connected.
    watched_until: AtomicU64,
    /// The current second, and the events sent in it.
    sent: Mutex<(u64, u32)>,
}

impl Feed {
    pub(super) fn new(namespace: &str, shows_args: bool) -> Self {
        Self {
            namespace: namespace.to_owned(),
            shows_args,
            began: Instant::now(),
            watched_until: AtomicU64::new(0),
            sent: Mutex::new((0, 0)),
        }
    }

    /// Records that another server has a UI.
    pub(super) fn watched_elsewhere(&self) {
        let until = self.elapsed() + REMEMBERED.as_millis() as u64;
        self.watched_until.store(until, Ordering::Relaxed);
    }

    /// Returns whether any server has a UI.
    pub(super) fn is_watched(&self, io: &Io) -> bool {
        self.is_watched_here(io) || self.watched_until.load(Ordering::Relaxed) > self.elapsed()
    }

    /// Returns whether this server has a UI.
    pub(super) fn is_watched_here(&self, io: &Io) -> bool {
        io.of(&self.namespace).local().count() > 0
    }

    fn elapsed(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Sends an event if it is watched and within the limit.
    fn send<T: Serialize>(&self, io: &Io, event: &str, args: impl FnOnce() -> T) {
        if !self.is_watched(io) {
            return;
        }
        if !self.take() {
            roomcast::throttled_log!(
                info,
                "too many events for the admin UI, it misses the rest of this second"
            );
            return;
        }
        emit(&io.of(&self.namespace), event, args());
    }

    fn take(&self) -> bool {
        let second = self.elapsed() / 1000;
        let mut sent = self.sent.lock();
        if sent.0 != second {
            *sent = (second, 0);
        }
        sent.1 = sent.1.saturating_add(1);
        sent.1 <= MAX_PER_SECOND
    }

    /// Sends what happens to sockets and rooms of the chat.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the UI knows no other events"
    )]
    pub(super) fn watch(self: &Arc<Self>, event: &Lifecycle<'_>) {
        match event {
            Lifecycle::Connected { socket } if is_shown(socket) => {
                self.send(socket.io(), "socket_connected", || {
                    (UiSocket::of(socket.io(), socket), Time::now())
                });
                self.observe(socket);
            }
            Lifecycle::Disconnected { socket, reason, .. } if is_shown(socket) => {
                self.send(socket.io(), "socket_disconnected", || {
                    ("/", socket.id(), reason.as_str(), Time::now())
                });
            }
            Lifecycle::RoomJoined { socket, room } if is_shown(socket) => {
                self.send(socket.io(), "room_joined", || {
                    ("/", room.as_str(), socket.id(), Time::now())
                });
            }
            Lifecycle::RoomLeft { socket, room } if is_shown(socket) => {
                self.send(socket.io(), "room_left", || {
                    ("/", room.as_str(), socket.id(), Time::now())
                });
            }
            _ => {}
        }
    }

    /// Observes the events and the upgrade of a socket. A socket that has already ended, or has too
    /// many observers, is not observed.
    fn observe(self: &Arc<Self>, socket: &Socket) {
        let (received, sent) = (Arc::clone(self), Arc::clone(self));
        let observed = socket.on_any(move |event: Event| {
            received.report(&event.socket, "event_received", event.name(), event.args());
            async {}
        });
        let observed = observed.and_then(|_| {
            socket.on_any_outgoing(move |outgoing| {
                sent.report(outgoing.socket, "event_sent", outgoing.event, outgoing.args);
            })
        });
        if observed.is_err() || socket.transport() != Transport::Polling {
            return;
        }
        let (upgraded, io, id) = (Arc::clone(self), socket.io().clone(), socket.id());
        let watched = socket.conn().on_event(move |event| {
            if let EngineConnectionEvent::Upgrade { .. } = event {
                let update = json!({"id": id, "nsp": "/", "transport": "websocket"});
                upgraded.send(&io, "socket_updated", || (update,));
            }
        });
        if let Err(error) = watched {
            tracing::debug!(%error, "the upgrade of a socket is not reported to the admin UI");
        }
    }

    /// Sends the data of a socket of the chat, which may have changed.
    pub(super) fn changed(&self, socket: &Socket) {
        self.send(socket.io(), "socket_updated", || {
            let data = UiSocket::of(socket.io(), socket).into_data();
            (json!({"id": socket.id(), "nsp": "/", "data": data}),)
        });
    }

    /// Sends an event of the chat: its name, and its arguments or their size.
    fn report(&self, socket: &Socket, kind: &str, name: &str, args: &Args) {
        self.send(socket.io(), kind, || {
            let mut shown = vec![Value::from(name.chars().take(MAX_NAME).collect::<String>())];
            let is_private = !self.shows_args || name == REFRESH.policy().event;
            if !args.is_empty() && (is_private || args.size() > MAX_ARGS) {
                shown.push(format!("({} bytes)", args.size()).into());
            } else {
                let value = |i| args.get(i).unwrap_or_else(|_| "(binary)".into());
                shown.extend((0..args.len()).map(value));
            }
            ("/", socket.id(), shown, Time::now())
        });
    }
}

/// Only sockets of the chat are shown.
fn is_shown(socket: &Socket) -> bool {
    socket.namespace().name() == "/"
}

/// Events that a server sends per second. The UI itself keeps the latest 1,000.
const MAX_PER_SECOND: u32 = 200;
/// How long a UI of another server is remembered: three of its notices.
const REMEMBERED: Duration = Duration::from_secs(7);
/// The maximum length of a name in characters. Clients choose the names of unknown events.
const MAX_NAME: usize = 128;
/// The maximum size of shown arguments in bytes.
const MAX_ARGS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_per_second_are_limited() {
        let feed = Feed::new("/admin-ui", false);
        let taken = (0..2 * MAX_PER_SECOND).filter(|_| feed.take()).count();
        assert_eq!(taken, MAX_PER_SECOND as usize);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(feed.take());
    }
}
