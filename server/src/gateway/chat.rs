//! The events of the chat, in the namespace `/`.

use std::sync::Arc;

use serde::Serialize;

use super::changes;
use super::identity::Limited;
use super::limits::{command, count_connections, refuse_unknown};
use super::{done, tell};
use crate::auth::{Principal, authenticator::Authenticator};
use crate::limit::Users;
use crate::service::{
    AskPresence, Chat, Join, Leave, Object, ReadHistory, SendMessage, SetTyping, policy,
};
use crate::store::{Message, Time};
use roomcast::{Builder, DisconnectReason, Event, Refusal, State};

/// Registers the chat, for those whom the authenticator lets in. The builder must be given the same
/// [`Chat`] as a state.
pub(crate) fn register(
    io: &mut Builder,
    authenticator: Authenticator,
    users: Arc<Users>,
    chat: Chat,
) {
    changes::register(count_connections(io.namespace("/")))
        .authenticate(Limited {
            authenticator,
            users,
            chat,
        })
        .on_connect(async |event: Event, chat: State<Chat>| {
            chat.connected(&event.socket);
            event
                .socket
                .emit("session", Session::of(&event.principal()));
            if event.socket.recovered() {
                chat.recheck(&event.socket).await;
            }
        })
        .on(
            "disconnect",
            async |event: Event, reason: DisconnectReason, chat: State<Chat>| {
                chat.disconnected(&event.socket, reason);
            },
        )
        .on(
            policy::MESSAGE.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<SendMessage> =
                    command(&users, &policy::MESSAGE, &event)?;
                let message = chat
                    .send(&event.principal(), event.socket.id(), command)
                    .await?;
                Ok::<_, Refusal>(done(Sent { message }))
            },
        )
        .on_serial(
            policy::JOIN.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let command: Join = command(&users, &policy::JOIN, &event)?;
                Ok::<_, Refusal>(done(chat.join(&event.socket, command).await?))
            },
        )
        .on_serial(
            policy::LEAVE.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let command: Leave = command(&users, &policy::LEAVE, &event)?;
                Ok::<_, Refusal>(done(chat.leave(&event.socket, command).await?))
            },
        )
        .on_serial(
            policy::TYPING.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<SetTyping> = command(&users, &policy::TYPING, &event)?;
                Ok::<_, Refusal>(done(chat.set_typing(&event.socket, command).await?))
            },
        )
        .on(
            policy::HISTORY.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<ReadHistory> =
                    command(&users, &policy::HISTORY, &event)?;
                Ok::<_, Refusal>(done(chat.history(&event.principal(), command).await?))
            },
        )
        .on(
            policy::PRESENCE.event,
            async |event: Event, chat: State<Chat>, users: State<Users>| {
                let Object(command): Object<AskPresence> =
                    command(&users, &policy::PRESENCE, &event)?;
                Ok::<_, Refusal>(done(chat.presence(&event.socket, command).await?))
            },
        )
        .fallback(refuse_unknown)
        .on_error(tell);
}

/// The acknowledgement of `message`.
#[derive(Serialize)]
struct Sent {
    message: Arc<Message>,
}

/// The event `session`: who the client is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session<'a> {
    user_id: &'a str,
    name: &'a str,
    roles: &'a [String],
    guest: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Time>,
}

impl<'a> Session<'a> {
    fn of(principal: &'a Principal) -> Self {
        Self {
            user_id: &principal.subject,
            name: &principal.name,
            roles: &principal.roles,
            guest: principal.guest,
            expires_at: principal.expires_at.map(Time::from),
        }
    }
}
