//! `/api/v1/trace` and `/api/v1/recording`: what happens to a user, a socket or a conversation, and
//! what clients send, as streams of lines.

use std::convert::Infallible;

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{Method, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::api::{Api, ApiError, By, Operation, Parameters, Routes};
use crate::auth::Permission;
use crate::service::api::{Follow, Followed, Record, Recording, StreamedLine};

/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    Routes::new()
        .on(
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
        .on(
            Method::GET,
            "/recording",
            record,
            Operation::new(
                "record",
                "Streams what clients send to the called server and its answers, one JSON object per line (`application/x-ndjson`), for `roomcast replay`. Texts and ids of users are replaced unless `consent` is given. Empty lines show that the stream is alive.",
                Permission::TrafficRecord,
            )
            .recorded()
            .query::<Record>()
            .answer::<RecordedLine>(200),
        )
}

async fn follow(
    State(at): State<Api>,
    Extension(by): By,
    Parameters(query): Parameters<Follow>,
) -> Result<Response, ApiError> {
    let allowed = at.access.allow(by, query)?;
    let followed = crate::service::api::follow(&at.connections.io, &at.access, allowed)?;
    let lines = stream::unfold(followed, async |mut followed: Followed| {
        let line = followed.next().await?;
        Some((line, followed))
    });
    Ok(streamed(lines))
}

async fn record(
    State(at): State<Api>,
    Extension(by): By,
    Parameters(query): Parameters<Record>,
) -> Result<Response, ApiError> {
    let allowed = at.access.allow(by, query)?;
    let recording = crate::service::api::record(&at.connections.io, &at.access, allowed)?;
    let lines = stream::unfold(recording, async |mut recording: Recording| {
        let line = recording.next().await?;
        Some((line, recording))
    });
    Ok(streamed(lines))
}

/// Returns a response whose body are lines.
fn streamed(lines: impl Stream<Item = String> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        // nginx would otherwise collect lines before it forwards them.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let bytes = lines.map(|mut line| {
        line.push('\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    (headers, Body::from_stream(bytes)).into_response()
}

/// A line of the response of `GET /api/v1/recording`: an object with one field, whose name is the
/// kind of the line. Times are milliseconds since the start.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RecordedLine {
    /// The first line: version, start, server, selection, and whether the recording is masked.
    recording: Option<Value>,
    /// A socket is connected: number, namespace, transport and user.
    open: Option<Value>,
    /// An event of a client: name, arguments and the id of the acknowledgement.
    event: Option<Value>,
    /// The server's answer: the id of the acknowledgement, arguments and latency.
    answer: Option<Value>,
    /// An event or an answer that cannot be recorded, with the reason.
    skipped: Option<Value>,
    /// A socket disconnected.
    close: Option<Value>,
    /// The number of lines that found no place.
    dropped: Option<Value>,
    /// The last line, with the reason.
    end: Option<Value>,
}
