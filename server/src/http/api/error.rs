//! What refusals look like, and what bodies and parameters are refused for.

use std::{error::Error, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request, State, rejection::QueryRejection,
    },
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use serde::{
    Serialize,
    de::{DeserializeOwned, value},
};
use serde_path_to_error::Error as PathError;
use uuid::Uuid;

use crate::service::ServiceError;

/// An answer that says no: `{"error":{"code":…,"message":…}}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
    field: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            field: None,
        }
    }

    /// A body or a parameter that does not fit.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", message)
    }

    /// Names the field that does not fit.
    #[must_use]
    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Tells when to come back: in milliseconds in the body, in seconds in the header.
    #[must_use]
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The answer to a caller that is not authenticated, for whatever reason.
    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "unauthorized")
    }

    /// The body was longer than it may be, or ended before its time.
    pub(super) fn too_large() -> Self {
        let message = "the body is too large or broken";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_PAYLOAD", message)
    }
}

/// The body of a refusal.
#[derive(Serialize, JsonSchema)]
pub(super) struct ErrorBody {
    error: Fault,
}

/// Why something was refused.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Fault {
    /// A word for programs.
    code: &'static str,
    /// A text for people.
    message: String,
    /// Milliseconds after which the request may be tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// What exactly does not fit.
#[derive(Serialize, JsonSchema)]
struct Details {
    /// The path of the field.
    field: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let error = Fault {
            code: self.code,
            message: self.message,
            retry_after: self.retry_after.map(|after| after.as_millis() as u64),
            details: self.field.map(|field| Details { field }),
        };
        let mut response = (self.status, Json(ErrorBody { error })).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, super::NO_STORE);
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000) as u64;
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 11.6.1 requires the header with this status.
            let challenge = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        match error {
            ServiceError::Denied(_) => Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message),
            ServiceError::Invalid { field, .. } => Self::invalid(message).field(field),
            // The body keeps to its schema, so that it is not malformed.
            ServiceError::Unfit { field, .. } => {
                Self::new(StatusCode::CONFLICT, "CONFLICT", message).field(field)
            }
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

/// A body of JSON, an object, or an [`ApiError`] that says what is wrong with it.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let message = "the body must be application/json";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(status, "INVALID_PAYLOAD", message));
        }
        let body = Bytes::from_request(request, state).await;
        parse(&body.map_err(|_| ApiError::too_large())?).map(Self)
    }
}

/// Parses a field named `outer` whose text is what another route takes as its body; errors name the field below it.
pub(super) fn parse_within<T: DeserializeOwned>(outer: &str, text: &str) -> Result<T, ApiError> {
    parse(text.as_bytes()).map_err(|mut error| {
        error.field = Some(match error.field {
            Some(field) => format!("{outer}.{field}"),
            None => outer.to_owned(),
        });
        error
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let error = match serde_json::from_slice(body) {
        // A derived type would take a list of its fields as well.
        Ok(value) if body.trim_ascii_start().starts_with(b"{") => return Ok(value),
        Ok(_) => return Err(ApiError::invalid("the body must be an object")),
        Err(error) => error,
    };
    if !error.is_data() {
        return Err(ApiError::invalid("the body is not JSON"));
    }
    let said = shortened(error.to_string());
    let refusal = ApiError::invalid(format!("the body has not the right fields: {said}"));
    // The path costs allocations, so only an error is looked at again.
    let mut again = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut again) {
        Err(error) => {
            let mut path = String::new();
            if error.path().iter().len() > 0 {
                path = error.path().to_string();
            }
            // The path ends at the object that lacks the field, has it twice, or has it beside one that excludes it.
            if let Some(field) = named(&error.inner().to_string(), &path) {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(field);
            }
            if path.is_empty() {
                return Err(refusal);
            }
            Err(refusal.field(shortened(path)))
        }
        Ok(_) => Err(refusal),
    }
}

/// The field of an object that an error of serde names beyond the path that leads there.
fn named<'a>(error: &'a str, path: &str) -> Option<&'a str> {
    let faults = ["missing field `", "duplicate field `"];
    if let Some(rest) = faults.iter().find_map(|fault| error.strip_prefix(fault)) {
        return rest.split('`').next();
    }
    let field = error.strip_prefix("unknown field `")?.split('`').next()?;
    // Where the type itself refuses a field, the path leads to it already.
    let before = path.strip_suffix(field);
    let is_there = before.is_some_and(|before| before.is_empty() || before.ends_with('.'));
    (!is_there).then_some(field)
}

/// Whether the body is said to be JSON (RFC 8259, 11), with whatever parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split_once(';').map_or(kind, |(kind, _)| kind);
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// The parameters of the query, or an [`ApiError`].
#[derive(Debug)]
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|refused| wrong_query(&refused))
    }
}

/// Names the parameter that does not fit, and says why.
fn wrong_query(refused: &QueryRejection) -> ApiError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(refused);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<PathError<value::Error>>() {
            let said = error.inner().to_string();
            let path = match error.path().iter().len() {
                0 => String::new(),
                _ => error.path().to_string(),
            };
            let field = named(&said, &path).unwrap_or(&path);
            let message = format!("the query has not the right parameters: {said}");
            return ApiError::invalid(shortened(message)).field(shortened(field.to_owned()));
        }
        cause = error.source();
    }
    ApiError::invalid("the query has not the right parameters")
}

/// A text about what the caller has sent, whose length the caller decides.
fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    text
}

/// A UUID in the path; what has another form is the id of nothing.
#[derive(Debug)]
pub(crate) struct Id(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path
            .map_err(|_| no_id())
            .and_then(|Path(text)| id_of(&text));
        id.map(Self).map_err(|error| error.field("id"))
    }
}

/// The id in a path that has something else behind it.
pub(super) fn id_of(text: &str) -> Result<Uuid, ApiError> {
    uuid_of(text).ok_or_else(no_id)
}

fn no_id() -> ApiError {
    ApiError::invalid("the id is no UUID")
}

/// A UUID in the one form that is also sent.
pub(super) fn uuid_of(text: &str) -> Option<Uuid> {
    let is_hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
    is_hyphenated.then(|| Uuid::try_parse(text).ok()).flatten()
}

/// What a route takes beside its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takes {
    pub(super) query: bool,
    pub(super) body: bool,
}

/// Refuses parameters and a body that a route does not take: it would do something else than what the caller meant.
pub(super) async fn refuse_more(
    State(takes): State<Takes>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    if let Some((name, _)) = form_urlencoded::parse(query.as_bytes()).next()
        && !takes.query
    {
        let name = shortened(name.into_owned());
        return Err(ApiError::invalid("the route takes no parameters").field(name));
    }
    if takes.body {
        return Ok(next.run(request).await);
    }
    let (parts, mut body) = request.into_parts();
    // A body without a length may turn out to be empty, so it is read up to its first byte.
    while let Some(frame) = body.frame().await {
        let is_empty = frame.is_ok_and(|frame| frame.data_ref().is_none_or(Bytes::is_empty));
        if !is_empty {
            return Err(ApiError::invalid("the route takes no body"));
        }
    }
    Ok(next.run(Request::from_parts(parts, Body::empty())).await)
}

/// Bytes of a text about what was sent, which may repeat what is in it.
const MAX_MESSAGE: usize = 200;

#[cfg(test)]
mod tests {
    use axum::{Router, middleware::from_fn_with_state, routing::post};
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_that_turns_out_to_be_empty_is_none() {
        let takes = Takes {
            query: false,
            body: false,
        };
        let route = post(async || "done").route_layer(from_fn_with_state(takes, refuse_more));
        let api = Router::new().route("/", route);
        for (pieces, status) in [
            (vec![], StatusCode::OK),
            (vec!["", ""], StatusCode::OK),
            (vec!["", "x"], StatusCode::BAD_REQUEST),
        ] {
            let frames = pieces.iter().map(|piece| {
                let frame = Frame::data(Bytes::from_static(piece.as_bytes()));
                Ok::<_, std::io::Error>(frame)
            });
            let body = Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())));
            let request = Request::post("/").body(body).unwrap();
            let answer = api.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{pieces:?}");
        }
    }
}
