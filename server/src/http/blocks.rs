//! `/api/v1/blocks`: the networks that are shut out.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get},
};
use serde::Serialize;
use uuid::Uuid;

use super::api::{ApiError, JsonBody};
use crate::{
    auth::Principal,
    service::{Access, Blocks, ListBlocks, NewBlock, RemoveBlock},
};
use roomcast::network::Block;

/// The routes, below `/api/v1`.
pub(crate) fn routes(blocks: Blocks, access: Access) -> Router {
    Router::new()
        .route("/blocks", get(list).post(add))
        .route("/blocks/{id}", delete(remove))
        .with_state(BlocksApi { blocks, access })
}

#[derive(Clone)]
struct BlocksApi {
    blocks: Blocks,
    access: Access,
}

#[derive(Serialize)]
struct List {
    blocks: Vec<Block>,
}

type By = Extension<Arc<Principal>>;

async fn list(State(at): State<BlocksApi>, Extension(by): By) -> Result<Json<List>, ApiError> {
    let blocks = at.blocks.list(at.access.allow(by, ListBlocks)?);
    Ok(Json(List { blocks }))
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
    // What is no id is no block either.
    let id = id.parse().unwrap_or(Uuid::nil());
    let allowed = at.access.allow(by, RemoveBlock { id })?;
    at.blocks.remove(allowed).await?;
    Ok(StatusCode::NO_CONTENT)
}
