//! `/api/v1/emit`: events that services publish.

use axum::{Extension, Json, extract::State, http::Method};

use super::{ApiError, By, JsonBody, Operation, Routes};
use crate::{
    auth::Permission,
    service::{
        Access,
        api::{Emission, Emit, publish},
    },
};
use roomcast::Io;

/// The route, below `/api/v1`.
pub(super) fn routes(access: Access, io: Io) -> Routes {
    Routes::new()
        .on(
            Method::POST,
            "/emit",
            emit,
            Operation::new(
                "emit",
                "Publishes an event to rooms, users or everyone, and collects what they acknowledge.",
                Permission::ApiEmit,
            )
            .body::<Emit>()
            .answer::<Emission>(200),
        )
        .with_state(EmitApi { access, io })
}

#[derive(Clone)]
struct EmitApi {
    access: Access,
    io: Io,
}

async fn emit(
    State(at): State<EmitApi>,
    Extension(by): By,
    JsonBody(event): JsonBody<Emit>,
) -> Result<Json<Emission>, ApiError> {
    let allowed = at.access.allow(by, event)?;
    Ok(Json(publish(&at.io, allowed).await?))
}
