//! Events that services publish.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::auth::Permission;
use crate::metrics::diagnosis::Diagnosis;
use crate::service::authorization::Allowed;
use crate::service::chat::{is_room_of_conversation, user_room};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::{ApplicationRoom, EVENT_CHARS, RoomName, UserId};
use crate::service::rules::commands::form::whole_or_none;
use crate::service::rules::content;
use crate::service::rules::event::Command;
use crate::service::rules::policy::{self, RESERVED};
use roomcast::{AckError, Args, Broadcast, Io, Parser, Room};

/// `POST /api/v1/emit`: an event for rooms, users or everyone.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    extend("oneOf" = [
        {
            "type": "object",
            "properties": {
                "everyone": {"const": true},
                "rooms": {"type": "array", "maxItems": 0},
                "users": {"type": "array", "maxItems": 0},
            },
            "required": ["everyone"],
        },
        {
            "type": "object",
            "properties": {"everyone": {"const": false}},
            "anyOf": [
                {"type": "object", "properties": {"rooms": {"type": "array", "minItems": 1}}, "required": ["rooms"]},
                {"type": "object", "properties": {"users": {"type": "array", "minItems": 1}}, "required": ["users"]},
            ],
        },
    ]),
    extend("not" = {
        "type": "object",
        "properties": {"volatile": {"const": true}, "ackTimeout": {"type": "integer"}},
        "required": ["volatile", "ackTimeout"],
    })
)]
pub(crate) struct Emit {
    /// The name of the event: 1 to 128 characters. Names of the server's own events are rejected,
    /// except `trade:update`, `signal:new`, `portfolio:update`, `price:update` and
    /// `notification:new`, which are stored and emitted to their followers.
    #[schemars(length(min = 1, max = 128), extend("not" = own_events()))]
    pub(crate) event: String,
    /// Its arguments. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<Value>", length(max = 16))]
    pub(crate) args: Vec<Box<RawValue>>,
    /// The rooms whose members receive it. Rooms of conversations are not allowed.
    #[serde(default)]
    #[schemars(with = "Vec<ApplicationRoom>", length(max = 100))]
    pub(crate) rooms: Vec<String>,
    /// The users whose sockets receive it.
    #[serde(default)]
    #[schemars(with = "Vec<UserId>", length(max = 100))]
    pub(crate) users: Vec<String>,
    /// Whether all clients receive it. Excludes `rooms` and `users`.
    #[serde(default)]
    pub(crate) everyone: bool,
    /// The rooms whose members do not receive it.
    #[serde(default)]
    #[schemars(with = "Vec<RoomName>", length(max = 100))]
    pub(crate) except: Vec<String>,
    /// Whether slow clients may miss it.
    #[serde(default)]
    pub(crate) volatile: bool,
    /// The timeout for acknowledgements in milliseconds. Without it clients are not asked to
    /// acknowledge.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) ack_timeout: Option<u64>,
}

impl Command for Emit {
    const PERMISSION: Option<Permission> = Some(Permission::ApiEmit);
}

/// The result of publishing an event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Emission {
    /// The number of sockets of this server that it is queued for. Sockets of other servers are not
    /// counted.
    queued: usize,
    /// The acknowledgements of clients, if they were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<Answered>,
    /// The stored object, for an event that is stored and emitted from the store. Its followers are
    /// not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<Value>,
}

impl Emission {
    /// Returns the result for a stored object, which is emitted to its followers.
    pub(crate) fn published<T: Serialize>(stored: &T) -> Self {
        Self {
            queued: 0,
            acknowledged: None,
            published: serde_json::to_value(stored).ok(),
        }
    }
}

/// The acknowledgements of clients.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answered {
    /// The number of clients asked, on all servers.
    expected: usize,
    /// The number of clients that answered in time.
    answered: usize,
    /// Whether the timeout expired before all had answered.
    timed_out: bool,
    /// The number of servers that have not reported which clients they asked.
    missing: usize,
    /// The answers, at most 1,000 and at most 512 KiB.
    answers: Vec<ClientAnswer>,
}

/// The answer of a client.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientAnswer {
    /// The socket, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_id: Option<String>,
    /// The arguments of its acknowledgement.
    args: Vec<Value>,
}

/// Returns the only argument of an event that is stored and emitted to its followers.
///
/// # Errors
///
/// [`ServiceError::Invalid`] if the event has receivers or options, or does not have exactly one
/// argument.
pub(crate) fn followed(event: &Allowed<Emit>) -> Result<&RawValue, ServiceError> {
    let command = event.command();
    let Emit {
        rooms,
        users,
        except,
        ..
    } = command;
    for (field, is_given) in [
        ("rooms", !rooms.is_empty()),
        ("users", !users.is_empty()),
        ("except", !except.is_empty()),
        ("volatile", command.volatile),
        ("ackTimeout", command.ack_timeout.is_some()),
    ] {
        if is_given {
            let problem = "is not for this event, which goes to its subscribers";
            return Err(ServiceError::invalid(field, problem));
        }
    }
    match command.args.as_slice() {
        [only] => Ok(only),
        _ => Err(ServiceError::invalid("args", "must be one object")),
    }
}

/// A checked event and its audience.
pub(crate) struct CheckedEvent {
    pub(crate) args: Args,
    /// The rooms whose members receive it. If there are none, all clients do.
    pub(crate) rooms: Vec<Room>,
}

/// Checks an event that a service wants to publish.
///
/// # Errors
///
/// [`ServiceError::Invalid`] if a field is invalid.
pub(crate) fn prepare(command: &Emit) -> Result<CheckedEvent, ServiceError> {
    check(command)?;
    let rooms = command.rooms.iter().map(|room| Room::from(room.as_str()));
    let users = command.users.iter().map(|user| user_room(user));
    Ok(CheckedEvent {
        args: arguments(&command.args)?,
        rooms: rooms.chain(users).collect(),
    })
}

/// Publishes an event.
#[expect(
    clippy::disallowed_methods,
    reason = "an event of an application has no row here"
)]
pub(crate) async fn publish(io: &Io, allowed: Allowed<Emit>) -> Result<Emission, ServiceError> {
    let (by, command) = allowed.into_parts();
    let CheckedEvent { args, rooms } = prepare(&command)?;
    let except: Vec<Room> = command
        .except
        .iter()
        .map(|room| Room::from(&**room))
        .collect();
    io.state::<Diagnosis>()
        .emitted(&by.subject, rooms.iter().map(Room::as_str));
    let namespace = io.of("/");
    let mut to = if command.everyone {
        namespace.except(except)
    } else {
        namespace.to(rooms).except(except)
    };
    if command.volatile {
        to = to.volatile();
    }
    tracing::info!(
        by = by.subject,
        event = command.event,
        "published over HTTP"
    );
    let Some(timeout) = command.ack_timeout else {
        let emitted = to.emit(&command.event, args);
        return match emitted.error {
            Some(error) => Err(ServiceError::invalid("args", error.to_string())),
            None => Ok(Emission {
                queued: emitted.queued,
                acknowledged: None,
                published: None,
            }),
        };
    };
    let to = to.timeout(Duration::from_millis(timeout));
    let (queued, answered) = collect_answers(&to, &command.event, args).await?;
    Ok(Emission {
        queued,
        acknowledged: Some(answered),
        published: None,
    })
}

/// Returns JSON values as arguments, which are sent unchanged.
fn arguments(values: &[Box<RawValue>]) -> Result<Args, ServiceError> {
    let texts: Vec<&str> = values.iter().map(|value| value.get()).collect();
    let list = format!("[{}]", texts.join(","));
    let list = Args::document(Parser::Json, list.into()).ok();
    let args = list.and_then(|list| list.items(0));
    args.ok_or_else(|| ServiceError::invalid("args", "is nested too deeply"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "an event of an application has no row here"
)]
async fn collect_answers(
    to: &Broadcast<'_>,
    event: &str,
    args: Args,
) -> Result<(usize, Answered), ServiceError> {
    let mut acks = to.emit_with_acks::<Args>(event, args);
    if let Some(error) = acks.error() {
        return Err(ServiceError::invalid("args", error.to_string()));
    }
    let queued = acks.expected();
    let mut answered = Answered::default();
    let mut bytes = 0;
    while let Some((socket, answer)) = acks.next().await {
        match answer {
            Ok(args) => {
                answered.answered += 1;
                let args: Vec<Value> = (0..args.len())
                    .map(|i| args.get(i).unwrap_or_default())
                    .collect();
                bytes += args.iter().map(|arg| arg.to_string().len()).sum::<usize>();
                // Clients decide the size of their answers, so the total is bounded and the rest is
                // only counted.
                if answered.answers.len() < MAX_ANSWERS && bytes <= MAX_ANSWER_BYTES {
                    answered.answers.push(ClientAnswer {
                        socket_id: socket.map(|id| id.as_str().to_owned()),
                        args,
                    });
                }
            }
            Err(AckError::Timeout) => answered.timed_out = true,
            // The client has disconnected or its answer is not JSON. Neither counts as an answer.
            Err(_) => {}
        }
    }
    answered.expected = acks.expected();
    let missing = acks.missing();
    answered.missing = missing.nodes.len() + missing.unnamed;
    Ok((queued, answered))
}

fn check(command: &Emit) -> Result<(), ServiceError> {
    let Emit {
        event,
        args,
        rooms,
        users,
        except,
        ..
    } = command;
    if event.is_empty() || event.chars().nth(EVENT_CHARS).is_some() {
        let problem = format!("must have 1 to {EVENT_CHARS} characters");
        return Err(ServiceError::invalid("event", problem));
    }
    // Clients trust the server's own events, so services must not send events that look like them.
    if policy::is_own(event) {
        let route = ROUTES.iter().find(|(name, _)| name == event);
        let route = route.map_or("its room", |(_, route)| route);
        let problem = format!("is one of the server's own: it is sent by {route}");
        return Err(ServiceError::invalid("event", problem));
    }
    if args.len() > MAX_ARGS {
        let problem = format!("must be at most {MAX_ARGS}");
        return Err(ServiceError::invalid("args", problem));
    }
    if command.everyone != (rooms.is_empty() && users.is_empty()) {
        let problem = "excludes rooms and users, and must be true without them";
        return Err(ServiceError::invalid("everyone", problem));
    }
    for (field, names) in [("rooms", rooms), ("users", users), ("except", except)] {
        if names.len() > MAX_TARGETS {
            let problem = format!("must be at most {MAX_TARGETS}");
            return Err(ServiceError::invalid(field, problem));
        }
    }
    for (i, user) in users.iter().enumerate() {
        content::check_user_id(format_args!("users[{i}]"), user)?;
    }
    for (field, names) in [("rooms", rooms), ("except", except)] {
        let wrong = |room: &String| room.is_empty() || room.len() > Room::MAX_BYTES;
        if let Some(i) = names.iter().position(wrong) {
            let problem = format!("must have 1 to {} bytes", Room::MAX_BYTES);
            return Err(ServiceError::invalid(format!("{field}[{i}]"), problem));
        }
    }
    // An event in the room of a conversation would be missing from its history and out of order.
    if let Some(i) = rooms.iter().position(|room| is_room_of_conversation(room)) {
        let problem = "is the room of a conversation: its members receive only stored messages";
        return Err(ServiceError::invalid(format!("rooms[{i}]"), problem));
    }
    if command
        .ack_timeout
        .is_some_and(|ms| !(1..=MAX_TIMEOUT).contains(&ms))
    {
        let problem = format!("must be from 1 to {MAX_TIMEOUT}");
        return Err(ServiceError::invalid("ackTimeout", problem));
    }
    if command.volatile && command.ack_timeout.is_some() {
        let problem = "excludes ackTimeout: recipients may miss a volatile event";
        return Err(ServiceError::invalid("volatile", problem));
    }
    Ok(())
}

/// Returns the schema of the names that services must not send. Stored events have their own rules.
fn own_events() -> Value {
    let sent = policy::emissions().map(|row| row.event);
    let received = policy::events().map(|row| row.event);
    let mut names: Vec<_> = sent.chain(received).chain(RESERVED).collect();
    names.retain(|name| !STORED.contains(name));
    names.sort_unstable();
    names.dedup();
    json!({"enum": names})
}

/// The events that services send and that are stored.
const STORED: [&str; 5] = [
    "trade:update",
    "signal:new",
    "portfolio:update",
    "price:update",
    "notification:new",
];

/// The HTTP route that causes each of the server's events that services can cause.
const ROUTES: [(&str, &str); 36] = [
    ("message", "POST /api/v1/conversations/{id}/messages"),
    ("edit_message", "PATCH /api/v1/messages/{id}"),
    ("message_edited", "PATCH /api/v1/messages/{id}"),
    ("delete_message", "DELETE /api/v1/messages/{id}"),
    ("message_deleted", "DELETE /api/v1/messages/{id}"),
    (
        "add_reaction",
        "PUT /api/v1/messages/{id}/reactions/{emoji}",
    ),
    (
        "remove_reaction",
        "DELETE /api/v1/messages/{id}/reactions/{emoji}",
    ),
    (
        "message_reaction",
        "PUT or DELETE /api/v1/messages/{id}/reactions/{emoji}",
    ),
    ("pin_message", "PUT /api/v1/messages/{id}/pin"),
    ("message_pinned", "PUT /api/v1/messages/{id}/pin"),
    ("unpin_message", "DELETE /api/v1/messages/{id}/pin"),
    ("message_unpinned", "DELETE /api/v1/messages/{id}/pin"),
    ("set_status", "PUT /api/v1/users/{id}/status"),
    ("status", "PUT /api/v1/users/{id}/status"),
    ("create_conversation", "POST /api/v1/conversations"),
    ("rename_conversation", "PATCH /api/v1/conversations/{id}"),
    (
        "conversation_updated",
        "PATCH /api/v1/conversations/{id} and PUT or DELETE of its members",
    ),
    ("delete_conversation", "DELETE /api/v1/conversations/{id}"),
    ("conversation_deleted", "DELETE /api/v1/conversations/{id}"),
    (
        "add_member",
        "PUT /api/v1/conversations/{id}/members/{userId}",
    ),
    (
        "remove_member",
        "DELETE /api/v1/conversations/{id}/members/{userId}",
    ),
    ("trade:update", "POST /api/v1/trades"),
    ("execute:trade", "POST /api/v1/trades"),
    ("signal:new", "POST /api/v1/signals"),
    ("portfolio:update", "POST /api/v1/portfolios"),
    ("price:update", "POST /api/v1/prices"),
    ("notification:new", "POST /api/v1/notifications"),
    ("notification:batch", "POST /api/v1/notifications"),
    (
        "notification:withdrawn",
        "POST /api/v1/notifications/withdraw",
    ),
    ("signal:withdrawn", "DELETE /api/v1/signals/{id}"),
    (
        "trade:withdrawn",
        "DELETE /api/v1/users/{id}/trades/{tradeId}",
    ),
    ("price:withdrawn", "DELETE /api/v1/prices/{symbol}"),
    ("channel:publish", "POST /api/v1/channels/{channel}/events"),
    ("disconnect", "DELETE /api/v1/sockets/{id}"),
    (
        "admin:kick",
        "DELETE /api/v1/sockets/{id} or DELETE /api/v1/users/{id}/sockets",
    ),
    ("admin:block", "POST /api/v1/blocks"),
];
/// The maximum number of arguments of an event.
const MAX_ARGS: usize = 16;
/// The maximum number of rooms, of users and of exceptions of one event.
const MAX_TARGETS: usize = 100;
/// The maximum timeout for acknowledgements in milliseconds: less than that of an HTTP call.
const MAX_TIMEOUT: u64 = 10_000;
/// The maximum number of answers returned. Further answers are only counted.
const MAX_ANSWERS: usize = 1000;
/// The maximum total size of the answers returned, in bytes.
const MAX_ANSWER_BYTES: usize = 512 << 10;
