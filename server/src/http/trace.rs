//! `/api/v1/trace`: what happens to a user, a socket or a conversation, as a stream of lines.

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{Method, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::api::{Api, ApiError, By, Operation, Parameters, Routes};
use crate::auth::Permission;
use crate::service::api::{Follow, Followed, StreamedLine};

/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    Routes::new().on(
        Method::GET,
        "/trace",
        follow,
        Operation::new(
            "trace",
            "Streams what happens to a user, a socket or a conversation on all servers, one JSON object per line (`application/x-ndjson`). Empty lines show that the stream is alive.",
            Permission::ApiTrace,
        )
        .recorded()
        .query::<Follow>()
        .answer::<StreamedLine>(200),
    )
}

async fn follow(
    State(at): State<Api>,
    Extension(by): By,
    Parameters(query): Parameters<Follow>,
) -> Result<Response, ApiError> {
    let allowed = at.access.allow(by, query)?;
    let followed = crate::service::api::follow(&at.connections.io, &at.access, allowed)?;
    Ok(streamed(followed))
}

/// Returns the response that has the lines of a trace.
pub(super) fn streamed(followed: Followed) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        // nginx would otherwise collect lines before it forwards them.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let lines = stream::unfold(followed, next);
    (headers, Body::from_stream(lines)).into_response()
}

async fn next(
    mut followed: Followed,
) -> Option<(Result<Bytes, std::convert::Infallible>, Followed)> {
    let mut line = followed.next().await?;
    line.push('\n');
    Some((Ok(line.into()), followed))
}
