//! Sessions, revocations and explanations over HTTP: names and shapes, no rules.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};

use super::api::{ApiError, JsonBody, Parameters};
use crate::{
    auth::Principal,
    service::{Access, EndSession, NewRevocation, NewSession, Question, ServiceError},
};
use roomcast::Io;

/// The routes below `/api/v1`.
pub(crate) fn routes(access: Access, io: Io) -> Router {
    Router::new()
        .route("/sessions", post(make_session))
        .route("/sessions/{id}", delete(end_session))
        .route("/revocations", post(revoke))
        .route("/explain", get(explain))
        .with_state(IdentityApi { access, io })
}

#[derive(Clone)]
struct IdentityApi {
    access: Access,
    io: Io,
}

type By = Extension<Arc<Principal>>;

async fn make_session(
    State(at): State<IdentityApi>,
    Extension(by): By,
    JsonBody(new): JsonBody<NewSession>,
) -> Result<Response, ApiError> {
    let made = at.access.make_session(at.access.allow(by, new)?).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn end_session(
    State(at): State<IdentityApi>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let allowed = at.access.allow(by, EndSession { id })?;
    at.access.end_session(&at.io, allowed).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(
    State(at): State<IdentityApi>,
    Extension(by): By,
    JsonBody(new): JsonBody<NewRevocation>,
) -> Result<Response, ApiError> {
    let made = at.access.revoke(&at.io, at.access.allow(by, new)?).await?;
    Ok(Json(made).into_response())
}

async fn explain(
    State(at): State<IdentityApi>,
    Extension(by): By,
    Parameters(question): Parameters<Question>,
) -> Result<Response, ApiError> {
    let why = at
        .access
        .explain(&at.io, at.access.allow(by, question)?)
        .await?;
    Ok(Json(why).into_response())
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Denied(_) => Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message),
            ServiceError::Invalid { .. } => Self::invalid(message),
            ServiceError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message),
            ServiceError::Conflict(_) | ServiceError::Failed { .. } => {
                Self::new(StatusCode::CONFLICT, "CONFLICT", message)
            }
            ServiceError::Limited { retry_after } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, "RATE_LIMITED", message).retry_after(retry_after)
            }
            ServiceError::Unavailable { retry_after } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "STORE_UNAVAILABLE", message).retry_after(retry_after)
            }
        }
    }
}
