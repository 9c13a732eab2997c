//! `/api/v1/conversations` and their members. This module has names and shapes, no rules.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Api, ApiError, By, JsonBody, Operation, Parameters, Routes,
    error::{Id, id_of},
    once::IdempotentName,
};
use crate::http::forwarding::{forward, serve};
use crate::service::bounds::{ConversationCursor, Title, UserId};
use crate::{
    auth::Permission,
    service::{
        ConversationList, DeletedConversation, FindConversations, FoundConversation, List,
        ReadConversation,
        api::OnBehalfOf,
        conversations::{
            Changed, CreateConversation, DeleteConversation, ListConversations, RenameConversation,
        },
        members::{AddMember, RemoveMember},
        whole_in_query,
    },
};
/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    let of = |id, summary| {
        Operation::new(id, summary, Permission::ApiConversations)
            .id("id", "The id of the conversation.")
            .refuses(404)
    };
    let list = Operation::new(
        "listConversations",
        "Lists the conversations of a user, newest message or change of title or members first. \
         `lastMessage` needs `api:messages` as well.",
        Permission::ApiConversations,
    );
    let create = Operation::new(
        "createConversation",
        "Creates a conversation.",
        Permission::ApiConversations,
    );
    Routes::new()
        .on(
            Method::POST,
            "/conversations",
            make,
            create
                .gives::<CreateConversation>()
                .body::<NewConversation>()
                .answer::<Changed>(201),
        )
        .on(
            Method::GET,
            "/conversations",
            forward!(Parameters(query): Parameters<FindConversations> =>
                chat.find_conversations(query)),
            Operation::new(
                "findConversations",
                "Lists or searches the conversations of all users, in the order of their ids.",
                Permission::ApiConversations,
            )
            .query::<FindConversations>()
            .answer::<ConversationList>(200)
            .refuses(409),
        )
        .on(
            Method::GET,
            "/conversations/{id}",
            forward!(Id(id): Id => chat.conversation(ReadConversation { id })),
            of("readConversation", "Reads a conversation.").answer::<FoundConversation>(200),
        )
        .on(
            Method::PATCH,
            "/conversations/{id}",
            serve!(Id(conversation_id): Id, JsonBody(NewTitle { title }): JsonBody<NewTitle> =>
                chat.rename_conversation(RenameConversation { conversation_id, title })),
            of("renameConversation", "Sets a new title for a conversation.")
                .gives::<RenameConversation>()
                .needs_by_state(MODERATES)
                .body::<NewTitle>()
                .answer::<Changed>(200),
        )
        .on(
            Method::DELETE,
            "/conversations/{id}",
            serve!(Id(conversation_id): Id =>
                chat.delete_conversation(DeleteConversation { conversation_id })),
            of(
                "deleteConversation",
                "Deletes a conversation with all its content.",
            )
            .gives::<DeleteConversation>()
            .needs_by_state(MODERATES)
            .answer::<DeletedConversation>(200)
            .refuses(409),
        )
        .on(
            Method::PUT,
            "/conversations/{id}/members/{userId}",
            serve!(Path((id, user_id)): Path<(String, String)> =>
                chat.add_member(AddMember { conversation_id: id_of(&id)?, user_id })),
            of("addMember", "Adds a member. Has no effect for a member.")
                .gives::<AddMember>()
                .needs_by_state(MODERATES)
                .segment::<UserId>("userId", "The id of the user.")
                .answer::<Changed>(200)
                .refuses(409),
        )
        .on(
            Method::DELETE,
            "/conversations/{id}/members/{userId}",
            serve!(Path((id, user_id)): Path<(String, String)> =>
                chat.remove_member(RemoveMember { conversation_id: id_of(&id)?, user_id })),
            of("removeMember", "Removes a member, if it exists.")
                .gives::<RemoveMember>()
                // Users remove themselves without a permission.
                .needs_by_state(&[Permission::ChatManage, Permission::ChatModerate])
                .segment::<UserId>("userId", "The id of the user.")
                .answer::<Changed>(200)
                .refuses(409),
        )
        .on(
            Method::GET,
            "/users/{id}/conversations",
            of_user,
            list.segment::<UserId>("id", "The id of the user.")
                .query::<Listing>()
                .answer::<List>(200),
        )
}

/// The permission that a caller needs to change data of other users.
const MODERATES: &[Permission] = &[Permission::ChatModerate];

/// A new conversation.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewConversation {
    #[schemars(with = "Option<Title>")]
    title: Option<String>,
    /// The members in addition to the owner: at most 1,000 (`chat.members`).
    #[schemars(with = "Vec<UserId>", length(max = 1000))]
    #[serde(default)]
    member_ids: Vec<String>,
    /// The owner of the conversation. Default: the caller.
    #[schemars(with = "Option<UserId>")]
    owner_id: Option<String>,
}

/// A new title.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RenameConversation")]
struct NewTitle {
    #[schemars(with = "Title")]
    title: String,
}

/// The requested page of a list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listing {
    /// The `cursor` of the previous page. Default: the first page.
    #[schemars(with = "Option<ConversationCursor>")]
    cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    limit: Option<u64>,
}

async fn make(
    State(at): State<Api>,
    Extension(by): By,
    under: Option<Extension<IdempotentName>>,
    JsonBody(new): JsonBody<NewConversation>,
) -> Result<(StatusCode, Json<Changed>), ApiError> {
    let in_name = new.owner_id.map(|user_id| OnBehalfOf {
        field: "ownerId",
        user_id,
        name: None,
    });
    let create = CreateConversation {
        title: new.title,
        member_ids: new.member_ids,
    };
    let allowed = at.access.allow_served(by, in_name, create)?;
    let id = IdempotentName::id(under);
    let made = at
        .chat
        .create_as(allowed, &at.namespace(), None, id)
        .await?;
    Ok((StatusCode::CREATED, Json(made)))
}

async fn of_user(
    State(at): State<Api>,
    Extension(by): By,
    Path(user_id): Path<String>,
    Parameters(Listing { cursor, limit }): Parameters<Listing>,
) -> Result<Json<List>, ApiError> {
    let in_name = OnBehalfOf {
        field: "userId",
        user_id,
        name: None,
    };
    let list = ListConversations { cursor, limit };
    let reads_messages = at.access.allows(&by, Permission::ApiMessages);
    let allowed = at.access.allow_served(by, Some(in_name), list)?;
    let mut list = at.chat.conversations(allowed).await?;
    if !reads_messages {
        for listed in &mut list.conversations {
            listed.last_message = None;
        }
    }
    Ok(Json(list))
}
