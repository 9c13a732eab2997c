//! `/api/v1/blocks`: blocked networks.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{ApiError, By, JsonBody, Operation, Parameters, Routes};
use crate::{
    auth::Permission,
    service::{Access, BlockPage, Blocks, ListBlocks, NewBlock, RemoveBlock},
};
use roomcast::network::Block;

/// Returns the routes, below `/api/v1`.
pub(super) fn routes(blocks: Blocks, access: Access) -> Routes {
    use Permission::ApiBlocks;
    Routes::new()
        .on(
            Method::GET,
            "/blocks",
            list,
            Operation::new("listBlocks", "Lists the blocked networks.", ApiBlocks)
                .query::<ListBlocks>()
                .answer::<List>(200),
        )
        .on(
            Method::POST,
            "/blocks",
            add,
            Operation::new(
                "addBlock",
                "Blocks a network and closes its connections.",
                ApiBlocks,
            )
            .body::<NewBlock>()
            .answer::<ShownBlock>(201),
        )
        .on(
            Method::DELETE,
            "/blocks/{id}",
            remove,
            Operation::new("removeBlock", "Removes the block of a network.", ApiBlocks)
                .segment::<String>("id", "The id of the block.")
                .refuses(404)
                .refuses(409),
        )
        .with_state(BlocksApi { blocks, access })
}

#[derive(Clone)]
struct BlocksApi {
    blocks: Blocks,
    access: Access,
}

/// A page of blocked networks, newest first.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BlockList")]
struct List {
    #[schemars(with = "Vec<ShownBlock>")]
    blocks: Vec<Block>,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// Whether there are more blocks.
    has_more: bool,
}

/// The serialized form of a block.
#[derive(JsonSchema)]
#[schemars(rename = "Block", rename_all = "camelCase")]
#[expect(dead_code, reason = "documents a type of the library")]
struct ShownBlock {
    id: Uuid,
    /// The network, such as `192.0.2.0/24`.
    cidr: String,
    /// The reason, for people.
    reason: String,
    /// What created the block.
    #[schemars(extend("enum" = ["admin", "automatic", "configuration"]))]
    source: String,
    /// The time of creation, an RFC 3339 time in UTC.
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    /// When the block ends. Absent if it is permanent.
    #[schemars(skip_serializing_if = "Option::is_none", extend("format" = "date-time"))]
    expires_at: Option<String>,
}

async fn list(
    State(at): State<BlocksApi>,
    Extension(by): By,
    Parameters(query): Parameters<ListBlocks>,
) -> Result<Json<List>, ApiError> {
    let BlockPage { blocks, cursor } = at.blocks.list(at.access.allow(by, query)?)?;
    Ok(Json(List {
        blocks,
        has_more: cursor.is_some(),
        cursor,
    }))
}

async fn add(
    State(at): State<BlocksApi>,
    Extension(by): By,
    JsonBody(new): JsonBody<NewBlock>,
) -> Result<(StatusCode, Json<Block>), ApiError> {
    let added = at.blocks.add(at.access.allow(by, new)?).await?;
    Ok((StatusCode::CREATED, Json(added)))
}

async fn remove(
    State(at): State<BlocksApi>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    // An invalid id refers to no block.
    let id = id.parse().unwrap_or(Uuid::nil());
    let allowed = at.access.allow(by, RemoveBlock { id })?;
    at.blocks.remove(allowed).await?;
    Ok(StatusCode::NO_CONTENT)
}
