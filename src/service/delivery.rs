//! What goes out to those who are in a conversation.

use std::time::{Duration, Instant};

use roomcast_protocol::socket::Args;
use serde::Serialize;
use uuid::Uuid;

use super::conversations::Live;
use super::presence::{Notice, User};
use crate::socket::{AckError, Acks, Broadcast, Namespace, Socket, SocketId};
use crate::store::{Message, Time};

impl Live {
    /// Emits a message to all but the socket it came from, if it is the next one. With a `timeout`
    /// each of them is asked to confirm it.
    pub(super) fn emit_message(
        &mut self,
        namespace: &Namespace,
        message: &Message,
        from: Option<SocketId>,
        timeout: Option<Duration>,
    ) -> Option<Asked> {
        if !self.gate.lets_out(message.seq) {
            return None;
        }
        let to = self.audience(namespace, from);
        let Some(timeout) = timeout else {
            to.emit("message", message);
            return None;
        };
        let to = to.timeout(timeout);
        let acks = to.ask("message", message);
        let expected = match acks.error() {
            None => acks.expected(),
            // Too many wait for confirmations: this one goes out without.
            Some(_) => to.emit("message", message).queued,
        };
        Some(Asked { expected, acks })
    }

    /// Takes a socket out, and says so if it was the user's last: at once if it went on purpose,
    /// after the grace if it was lost.
    pub(super) fn depart(
        &mut self,
        namespace: &Namespace,
        now: Instant,
        socket: SocketId,
        user: &User,
        deliberate: bool,
    ) {
        let notice = if deliberate {
            self.presence.leave(now, socket, &user.user_id)
        } else {
            self.presence.lose(now, socket, &user.user_id);
            None
        };
        if !self.presence.is_connected(&user.user_id) && self.typing.stop(&user.user_id) {
            self.tell_typing(namespace, user, false, None);
        }
        if let Some(notice) = notice {
            self.tell(namespace, notice, None);
        }
        self.advance(namespace, now);
    }

    /// Tells what has become due by now.
    pub(super) fn advance(&mut self, namespace: &Namespace, now: Instant) {
        while let Some(notice) = self.presence.handle_timeout(now) {
            self.tell(namespace, notice, None);
        }
        while let Some((user, socket)) = self.typing.handle_timeout(now) {
            self.tell_typing(namespace, &user, false, Some(socket));
        }
    }

    /// Tells a change of those present.
    pub(super) fn tell(&self, namespace: &Namespace, notice: Notice, except: Option<SocketId>) {
        let (event, user) = match notice {
            Notice::Joined(user) => ("user_joined", user),
            Notice::Left(user) => ("user_left", user),
            Notice::Disconnected(user) => ("user_disconnected", user),
            Notice::List => {
                self.audience(namespace, None)
                    .emit("presence", self.presence.here(self.id));
                return;
            }
        };
        let system = System {
            kind: "system",
            conversation_id: self.id,
            user: &user,
            timestamp: Time::now(),
        };
        self.audience(namespace, except).emit(event, &system);
    }

    /// Tells that somebody types or has stopped; to a client that is too slow it may be lost.
    pub(super) fn tell_typing(
        &self,
        namespace: &Namespace,
        user: &User,
        is_typing: bool,
        except: Option<SocketId>,
    ) {
        let typing = Typing {
            conversation_id: self.id,
            user,
            is_typing,
            timestamp: Time::now(),
        };
        self.audience(namespace, except)
            .conflate(&user.user_id)
            .emit("typing", &typing);
    }

    fn audience(&self, namespace: &Namespace, except: Option<SocketId>) -> Broadcast<'_> {
        let all = namespace.to(&self.room);
        match except {
            Some(socket) => all.except(socket),
            None => all,
        }
    }
}

/// A message that its receivers are asked to confirm.
pub(super) struct Asked {
    expected: usize,
    acks: Acks<Args>,
}

/// Counts who confirms a message, and tells its sender when all have or the time is over.
///
/// Without `asked` nobody was there to confirm it.
pub(super) fn report(socket: Socket, message: &Message, asked: Option<Asked>) {
    let mut report = Delivered {
        conversation_id: message.conversation_id,
        message_id: message.id,
        expected: 0,
        delivered: 0,
        timed_out: false,
    };
    tokio::spawn(async move {
        if let Some(mut asked) = asked {
            report.expected = asked.expected;
            report.timed_out = asked.acks.error().is_some();
            while let Some((_, answer)) = asked.acks.next().await {
                match answer {
                    Ok(_) => report.delivered += 1,
                    Err(AckError::Timeout) => report.timed_out = true,
                    // Gone: expected, not delivered.
                    Err(
                        AckError::Disconnected
                        | AckError::Decode(_)
                        | AckError::Encode(_)
                        | AckError::TooManyPending,
                    ) => {}
                }
            }
        }
        socket.emit("message_delivered", &report);
    });
}

/// `user_joined`, `user_left` and `user_disconnected`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct System<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    conversation_id: Uuid,
    #[serde(flatten)]
    user: &'a User,
    timestamp: Time,
}

/// `typing`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing<'a> {
    conversation_id: Uuid,
    #[serde(flatten)]
    user: &'a User,
    is_typing: bool,
    timestamp: Time,
}

/// `message_delivered`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivered {
    conversation_id: Uuid,
    message_id: Uuid,
    /// Sockets that were asked: all in the conversation but the sender's.
    expected: usize,
    /// Those that confirmed in time.
    delivered: usize,
    /// Whether the time was over before all had answered.
    timed_out: bool,
}
