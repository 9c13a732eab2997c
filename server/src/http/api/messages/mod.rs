//! The messages of conversations. This module has names and shapes, no rules.

mod pieces;
mod streamed;

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{self, Deserializer},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use self::streamed::{NewStream, stream};
use super::{
    Api, ApiError, By, JsonBody, Operation, Parameters, Routes,
    error::{Id, id_of, uuid_of},
    once::IdempotentName,
};
use crate::http::forwarding::{forward, serve};
use crate::metrics::diagnosis::Diagnosis;
use crate::service::ServiceError;
use crate::service::bounds::{
    ClientId, Emoji, GivenMetadata, MENTIONS, MessageText, UserId, UserName,
};
use crate::service::word;
use crate::{
    auth::Permission,
    service::{
        Message, MessageKind, Messages, Pinned, Pins, ReactionChange, ReadMessages, ReadPins,
        Unpinned,
        api::OnBehalfOf,
        history::ReadHistory,
        messages::{
            AddReaction, DeleteMessage, EditMessage, PinMessage, RemoveReaction, SendMessage,
            UnpinMessage,
        },
        whole_in_query, whole_or_none,
    },
};

/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    let of_conversation = |id, summary| {
        Operation::new(id, summary, Permission::ApiMessages)
            .id("id", "The id of the conversation.")
            .refuses(404)
    };
    let of_message = |id, summary| {
        Operation::new(id, summary, Permission::ApiMessages)
            .id("id", "The id of the message.")
            .refuses(404)
    };
    Routes::new()
        .on(
            Method::GET,
            "/conversations/{id}/messages",
            read,
            of_conversation("listMessages", "Reads a page of messages.")
                .query::<WhichMessages>()
                .answer::<Messages>(200)
                .refuses(409),
        )
        .on(
            Method::POST,
            "/conversations/{id}/messages",
            send,
            of_conversation(
                "sendMessage",
                "Sends a message, as the caller or as a user; the sender must be a member.",
            )
            .publishes()
            .gives::<SendMessage>()
            .needs_by_body(of_kind)
            .body::<NewMessage>()
            .answer::<Stored>(201),
        )
        .on(
            Method::POST,
            "/conversations/{id}/messages/stream",
            stream,
            of_conversation(
                "streamMessage",
                "Sends a message whose text is the body, which members read while it arrives. The response follows at its end.",
            )
            .publishes()
            .gives::<SendMessage>()
            .needs_by_state(&[Permission::ChatSendAi])
            .query::<NewStream>()
            .streams(&["text/plain", "application/x-ndjson", "text/event-stream"])
            .answer::<Stored>(201)
            .refuses(409),
        )
        .on(
            Method::PATCH,
            "/messages/{id}",
            edit,
            of_message("editMessage", "Replaces the text of a message.")
                .gives::<EditMessage>()
                .needs_by_state(MODERATES)
                .body::<NewText>()
                .answer::<Stored>(200)
                .refuses(409),
        )
        .on(
            Method::DELETE,
            "/messages/{id}",
            delete,
            of_message("deleteMessage", "Removes the text of a message.")
                .gives::<DeleteMessage>()
                .needs_by_state(MODERATES)
                .answer::<Stored>(200),
        )
        .on(
            Method::PUT,
            "/messages/{id}/reactions/{emoji}",
            add_reaction,
            of_message(
                "addReaction",
                "Reacts to a message, as the caller or as a user.",
            )
            .publishes()
            .gives::<AddReaction>()
            .segment::<Emoji>("emoji", "One emoji.")
            .query::<Reactor>()
            .answer::<ReactionChange>(200)
            .refuses(409),
        )
        .on(
            Method::DELETE,
            "/messages/{id}/reactions/{emoji}",
            remove_reaction,
            of_message("removeReaction", "Removes a reaction, if it exists.")
                .publishes()
                .gives::<RemoveReaction>()
                .segment::<Emoji>("emoji", "One emoji.")
                .query::<Reactor>()
                .answer::<ReactionChange>(200),
        )
        .on(
            Method::PUT,
            "/messages/{id}/pin",
            serve!(Id(message_id): Id => chat.pin(PinMessage { message_id })),
            of_message("pinMessage", "Pins a message to its conversation.")
                .gives::<PinMessage>()
                .needs_by_state(MODERATES)
                .answer::<Pinned>(200)
                .refuses(409),
        )
        .on(
            Method::DELETE,
            "/messages/{id}/pin",
            serve!(Id(message_id): Id => chat.unpin(UnpinMessage { message_id })),
            of_message("unpinMessage", "Unpins a message, if it is pinned.")
                .gives::<UnpinMessage>()
                .needs_by_state(MODERATES)
                .answer::<Unpinned>(200),
        )
        .on(
            Method::GET,
            "/conversations/{id}/pins",
            forward!(Id(id): Id => chat.pins(ReadPins { id })),
            of_conversation(
                "listPins",
                "Lists the pins of a conversation, newest first.",
            )
            .answer::<Pins>(200),
        )
}

/// Returns the additional permission for the type of a message.
fn of_kind(body: &[u8]) -> Option<Permission> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type", default)]
        kind: MessageKind,
    }
    match serde_json::from_slice(body).ok()? {
        Kind {
            kind: MessageKind::Ai,
        } => Some(Permission::ChatSendAi),
        Kind {
            kind: MessageKind::User,
        } => None,
    }
}

/// The permission that a caller needs to change data of other users.
const MODERATES: &[Permission] = &[Permission::ChatModerate];

/// The requested page of messages.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WhichMessages {
    /// Only messages before this `seq`: the newest of them. Excludes `afterSeq`.
    #[serde(default, deserialize_with = "whole_in_query")]
    before_seq: Option<u64>,
    /// Only messages after this `seq`: the oldest of them.
    #[serde(default, deserialize_with = "whole_in_query")]
    after_seq: Option<u64>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    limit: Option<u64>,
}

/// A new message.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("not" = {
    "type": "object",
    "properties": {"userName": {"type": "string"}, "userId": {"type": "null"}},
    "required": ["userName"],
}))]
struct NewMessage {
    /// The user who sends the message. Default: the caller.
    #[schemars(with = "Option<UserId>")]
    user_id: Option<String>,
    /// The name of that user. Default: the id.
    #[schemars(with = "Option<UserName>")]
    user_name: Option<String>,
    #[schemars(with = "MessageText")]
    content: String,
    #[serde(rename = "type", default, deserialize_with = "word")]
    /// `ai` needs the permission `chat:send_ai`. Default `user`.
    kind: MessageKind,
    /// Stored unchanged, at most 4,096 bytes.
    #[schemars(with = "Option<GivenMetadata>")]
    metadata: Option<Box<RawValue>>,
    /// A message sent again under the same id is stored only once.
    #[schemars(with = "Option<ClientId>")]
    client_message_id: Option<String>,
    /// The message of the same conversation that this one replies to.
    #[serde(default, deserialize_with = "id_or_none")]
    reply_to: Option<Uuid>,
    /// The mentioned users: all members, without duplicates.
    #[schemars(with = "Vec<UserId>", length(max = MENTIONS), extend("uniqueItems" = true))]
    #[serde(default)]
    mentions: Vec<String>,
}

/// Deserializes a UUID in the only form that is also sent.
fn id_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let id = Option::<String>::deserialize(deserializer)?;
    let parse =
        |id: String| uuid_of(&id).ok_or_else(|| de::Error::custom("not a UUID with hyphens"));
    id.map(parse).transpose()
}

/// The user on whose behalf a reaction is added or removed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reactor {
    /// The user who reacts and must be a member. Default: the caller.
    #[schemars(with = "Option<UserId>")]
    user_id: Option<String>,
}

impl Reactor {
    fn in_name(self) -> Option<OnBehalfOf> {
        self.user_id.map(|user_id| OnBehalfOf {
            field: "userId",
            user_id,
            name: None,
        })
    }
}

/// A new text of a message.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EditMessage")]
struct NewText {
    #[schemars(with = "MessageText")]
    content: String,
    /// The version that the editor saw. Any other version is a conflict.
    #[serde(default, deserialize_with = "whole_or_none")]
    version: Option<u32>,
}

/// A message in its current state.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredMessage")]
struct Stored {
    message: Arc<Message>,
}

async fn read(
    State(at): State<Api>,
    Extension(by): By,
    Id(conversation_id): Id,
    Parameters(which): Parameters<WhichMessages>,
) -> Result<Json<Messages>, ApiError> {
    let read = ReadMessages(ReadHistory {
        conversation_id,
        before_seq: which.before_seq,
        after_seq: which.after_seq,
        limit: which.limit,
    });
    // A schema cannot specify that query parameters exclude each other, so this is not an invalid
    // field.
    if which.before_seq.is_some() && which.after_seq.is_some() {
        return Err(ServiceError::Conflict("afterSeq excludes beforeSeq").into());
    }
    let allowed = at.access.allow(by, read)?;
    Ok(Json(at.chat.messages(allowed).await?))
}

async fn send(
    State(at): State<Api>,
    Extension(by): By,
    Id(conversation_id): Id,
    under: Option<Extension<IdempotentName>>,
    JsonBody(new): JsonBody<NewMessage>,
) -> Result<(StatusCode, Json<Stored>), ApiError> {
    let in_name = on_behalf(new.user_id, new.user_name)?;
    let message = SendMessage {
        conversation_id,
        content: new.content,
        kind: Some(new.kind),
        metadata: new.metadata,
        client_message_id: new
            .client_message_id
            .or_else(|| IdempotentName::name(under)),
        confirm_delivery: None,
        reply_to: new.reply_to,
        mentions: Some(new.mentions),
    };
    let service = by.subject.clone();
    let allowed = at.access.allow_served(by, in_name, message)?;
    let message = at.chat.send(allowed, None).await?;
    report(&at, &service, conversation_id);
    Ok((StatusCode::CREATED, Json(Stored { message })))
}

/// Returns the user that a request names as the sender.
fn on_behalf(
    user_id: Option<String>,
    name: Option<String>,
) -> Result<Option<OnBehalfOf>, ApiError> {
    match (user_id, name) {
        (Some(user_id), name) => Ok(Some(OnBehalfOf {
            field: "userId",
            user_id,
            name,
        })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(ApiError::invalid("userName needs userId").field("userId")),
    }
}

/// Reports to the diagnosis that a service has sent to a conversation.
fn report(at: &Api, service: &str, conversation_id: Uuid) {
    let room = format!("conversation:{conversation_id}");
    let diagnosis = at.io().state::<Diagnosis>();
    diagnosis.emitted(service, [&*room].into_iter());
}

async fn edit(
    State(at): State<Api>,
    Extension(by): By,
    Id(message_id): Id,
    JsonBody(NewText { content, version }): JsonBody<NewText>,
) -> Result<Json<Stored>, ApiError> {
    let edit = EditMessage {
        message_id,
        content,
        version,
    };
    let allowed = at.access.allow_served(by, None, edit)?;
    let message = at.chat.edit(allowed, None).await?;
    Ok(Json(Stored { message }))
}

async fn delete(
    State(at): State<Api>,
    Extension(by): By,
    Id(message_id): Id,
) -> Result<Json<Stored>, ApiError> {
    let allowed = at
        .access
        .allow_served(by, None, DeleteMessage { message_id })?;
    let message = at.chat.delete(allowed, None).await?;
    Ok(Json(Stored { message }))
}

async fn add_reaction(
    State(at): State<Api>,
    Extension(by): By,
    Path((id, emoji)): Path<(String, String)>,
    Parameters(who): Parameters<Reactor>,
) -> Result<Json<ReactionChange>, ApiError> {
    let message_id = id_of(&id)?;
    let add = AddReaction { message_id, emoji };
    let allowed = at.access.allow_served(by, who.in_name(), add)?;
    Ok(Json(at.chat.add_reaction(allowed, None).await?))
}

async fn remove_reaction(
    State(at): State<Api>,
    Extension(by): By,
    Path((id, emoji)): Path<(String, String)>,
    Parameters(who): Parameters<Reactor>,
) -> Result<Json<ReactionChange>, ApiError> {
    let message_id = id_of(&id)?;
    let remove = RemoveReaction { message_id, emoji };
    let allowed = at.access.allow_served(by, who.in_name(), remove)?;
    Ok(Json(at.chat.remove_reaction(allowed, None).await?))
}
