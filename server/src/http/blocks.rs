//! `/api/v1/blocks`: the networks that are shut out.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::api::{ApiError, JsonBody};
use crate::{auth::Principal, service::Blocks};
use roomcast::network::Block;

/// The routes, below `/api/v1`.
pub(crate) fn routes(blocks: Blocks) -> Router {
    Router::new()
        .route("/blocks", get(list).post(add))
        .route("/blocks/{id}", delete(remove))
        .with_state(blocks)
}

#[derive(Serialize)]
struct List {
    blocks: Vec<Block>,
}

#[derive(Deserialize)]
struct New {
    cidr: String,
    seconds: Option<u64>,
    reason: String,
}

type By = Extension<Arc<Principal>>;

async fn list(State(blocks): State<Blocks>, Extension(by): By) -> Result<Json<List>, ApiError> {
    let blocks = blocks.list(&by)?;
    Ok(Json(List { blocks }))
}

async fn add(
    State(blocks): State<Blocks>,
    Extension(by): By,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Block>), ApiError> {
    let added = blocks.add(&by, &new.cidr, new.seconds, &new.reason).await;
    Ok((StatusCode::CREATED, Json(added?)))
}

async fn remove(
    State(blocks): State<Blocks>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    // What is no id is no block either.
    let id = id.parse().unwrap_or(Uuid::nil());
    blocks.remove(&by, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
