//! Error responses, and the validation of bodies and parameters.

use std::{error::Error, num::NonZeroU64};

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
use roomcast::internal::RetryAfter;
use schemars::JsonSchema;
use serde::{
    Serialize,
    de::{DeserializeOwned, value},
};
use serde_path_to_error::Error as PathError;
use uuid::Uuid;

use crate::service::ServiceError;

/// An error response: `{"error":{"code":…,"message":…}}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(super) status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<RetryAfter>,
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

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Creates an error for an invalid body or parameter.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", message)
    }

    /// Sets the path of the invalid field.
    #[must_use]
    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Sets when to retry: milliseconds in the body, seconds in the header.
    #[must_use]
    pub(crate) fn retry_after(mut self, after: RetryAfter) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Creates the response for an unauthenticated caller, whatever the reason.
    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "unauthorized")
    }

    /// Creates an error for a task of the server that panicked.
    pub(super) fn internal() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "INTERNAL", "the server could not answer")
    }

    /// Creates an error for a body that is too long or incomplete.
    pub(super) fn too_large() -> Self {
        let message = "the body is too large or broken";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_PAYLOAD", message)
    }
}

/// The body of an error response.
#[derive(Serialize, JsonSchema)]
pub(super) struct ErrorBody {
    error: Fault,
}

/// A fault.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Fault {
    /// A code for programs.
    code: &'static str,
    /// A message for people.
    message: String,
    /// Milliseconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<NonZeroU64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// The location of the fault.
#[derive(Serialize, JsonSchema)]
struct Details {
    /// The path of the invalid field.
    field: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let error = Fault {
            code: self.code,
            message: self.message,
            retry_after: self.retry_after.map(RetryAfter::milliseconds),
            details: self.field.map(|field| Details { field }),
        };
        let mut response = (self.status, Json(ErrorBody { error })).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, super::NO_STORE);
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after.seconds().into());
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
            // The body matches its schema, so the payload is not malformed.
            ServiceError::Unfit { field, .. } => {
                Self::new(StatusCode::CONFLICT, "CONFLICT", message).field(field)
            }
            ServiceError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message),
            ServiceError::Conflict(_)
            | ServiceError::Misplaced { .. }
            | ServiceError::Failed { .. } => Self::new(StatusCode::CONFLICT, "CONFLICT", message),
            ServiceError::Limited { retry_after } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, "RATE_LIMITED", message).retry_after(retry_after)
            }
            ServiceError::Unavailable { retry_after } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "STORE_UNAVAILABLE", message).retry_after(retry_after)
            }
            ServiceError::NoAnswer { retry_after } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "BACKEND_UNAVAILABLE", message).retry_after(retry_after)
            }
        }
    }
}

/// A JSON object as body, or an [`ApiError`] with the reason.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        parse(&read_json(request).await?).map(Self)
    }
}

/// Reads the body of a request that declares JSON.
async fn read_json(request: Request) -> Result<Bytes, ApiError> {
    if !is_json(request.headers()) {
        let message = "the body must be application/json";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::new(status, "INVALID_PAYLOAD", message));
    }
    let body = Bytes::from_request(request, &()).await;
    body.map_err(|_| ApiError::too_large())
}

/// Parses the field `outer`, whose text is the body of another route. Errors name fields below
/// `outer`.
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
        // A derived implementation also accepts an array of the fields.
        Ok(value) if body.trim_ascii_start().starts_with(b"{") => return Ok(value),
        Ok(_) => return Err(ApiError::invalid("the body must be an object")),
        Err(error) => error,
    };
    if !error.is_data() {
        return Err(ApiError::invalid("the body is not JSON"));
    }
    // Tracking the path allocates, so the body is parsed with it only after an error.
    let mut again = serde_json::Deserializer::from_slice(body);
    let located = serde_path_to_error::deserialize::<_, T>(&mut again);
    Err(invalid_fields(&error, located.err().as_ref()))
}

/// Returns an error of serde without the text of a value, which may be a secret:
/// `invalid type: string "…", expected a sequence`.
fn without_value(error: String) -> String {
    let parts = error.split_once(" \"");
    let parts =
        parts.and_then(|(before, rest)| Some((before, rest.rsplit_once("\", expected")?.1)));
    match parts {
        Some((before, after)) => format!("{before}, expected{after}"),
        None => error,
    }
}

/// Returns the error for a body with invalid fields, with the path of the first.
fn invalid_fields(
    error: &serde_json::Error,
    located: Option<&PathError<serde_json::Error>>,
) -> ApiError {
    let reason = shortened(without_value(error.to_string()));
    let refusal = ApiError::invalid(format!("the body has invalid fields: {reason}"));
    let Some(error) = located else {
        return refusal;
    };
    let mut path = String::new();
    if error.path().iter().len() > 0 {
        path = error.path().to_string();
    }
    // The path ends at the object with the missing, duplicate or excluded field.
    if let Some(field) = named(&error.inner().to_string(), &path) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(field);
    }
    if path.is_empty() {
        return refusal;
    }
    refusal.field(shortened(path))
}

/// Returns the field that a serde error names in addition to the path.
fn named<'a>(error: &'a str, path: &str) -> Option<&'a str> {
    let faults = ["missing field `", "duplicate field `"];
    if let Some(rest) = faults.iter().find_map(|fault| error.strip_prefix(fault)) {
        return rest.split('`').next();
    }
    let field = error.strip_prefix("unknown field `")?.split('`').next()?;
    // If the type itself refuses the field, the path already includes it.
    let before = path.strip_suffix(field);
    let is_there = before.is_some_and(|before| before.is_empty() || before.ends_with('.'));
    (!is_there).then_some(field)
}

/// Returns whether the content type is JSON (RFC 8259, 11), with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split_once(';').map_or(kind, |(kind, _)| kind);
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// The query parameters, or an [`ApiError`].
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

/// Returns an error that names the invalid parameter and the reason.
fn wrong_query(refused: &QueryRejection) -> ApiError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(refused);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<PathError<value::Error>>() {
            let reason = error.inner().to_string();
            let path = match error.path().iter().len() {
                0 => String::new(),
                _ => error.path().to_string(),
            };
            let field = named(&reason, &path).unwrap_or(&path);
            let message = format!("the query has invalid parameters: {reason}");
            return ApiError::invalid(shortened(message)).field(shortened(field.to_owned()));
        }
        cause = error.source();
    }
    ApiError::invalid("the query has invalid parameters")
}

/// Truncates a text that contains caller data of any length.
fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    text
}

/// A UUID in the path. Any other form is an error.
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

/// Parses the id of a path that has further variable parts.
pub(super) fn id_of(text: &str) -> Result<Uuid, ApiError> {
    uuid_of(text).ok_or_else(no_id)
}

fn no_id() -> ApiError {
    ApiError::invalid("the id is not a UUID")
}

/// Parses a UUID in the only form that is also sent.
pub(super) fn uuid_of(text: &str) -> Option<Uuid> {
    let is_hyphenated = text.len() == uuid::fmt::Hyphenated::LENGTH;
    is_hyphenated.then(|| Uuid::try_parse(text).ok()).flatten()
}

/// The input that a route accepts in addition to its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takes {
    pub(super) query: bool,
    pub(super) body: bool,
}

/// Refuses query parameters and bodies that a route does not accept, because it would not do what
/// the caller intends.
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
    // A body without a length can be empty, so it is read up to its first byte.
    while let Some(frame) = body.frame().await {
        let is_empty = frame.is_ok_and(|frame| frame.data_ref().is_none_or(Bytes::is_empty));
        if !is_empty {
            return Err(ApiError::invalid("the route takes no body"));
        }
    }
    Ok(next.run(Request::from_parts(parts, Body::empty())).await)
}

/// Maximum bytes of a message that can repeat caller data.
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
    async fn body_of_only_empty_chunks_counts_as_no_body() {
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
