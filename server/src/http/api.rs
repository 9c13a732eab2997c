//! The frame of `/api/v1`: who may call it, what its errors look like, how large a body may be.
//!
//! It knows none of the routes. Whoever adds one finds the caller as `Extension<Arc<Principal>>`
//! and asks a service, which asks what the caller may do.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        DefaultBodyLimit, FromRequest, MatchedPath, Query, Request, State, rejection::JsonRejection,
    },
    extract::{FromRequestParts, rejection::BytesRejection},
    http::{HeaderValue, StatusCode, Uri, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::auth::{AuthFault, Principal};
use roomcast::internal::LogThrottle;

/// Authenticates a caller by its `Authorization` header.
pub(crate) type Callers =
    Arc<dyn Fn(Option<String>) -> Pin<Box<dyn Future<Output = Caller> + Send>> + Send + Sync>;

/// A caller, or why it may not call.
pub(crate) type Caller = Result<Arc<Principal>, Turned>;

/// Why somebody may not call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// The caller is not authenticated.
    Unauthenticated(AuthFault),
    /// The caller is this user, who may not call the API.
    Forbidden(String),
}

/// Nests routes below `/api/v1`, for callers who may call the API.
pub(crate) fn nest(routes: Router, callers: Callers) -> Router {
    let routes = routes
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "no such route"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "not with this method",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(
            (callers, Arc::new(LogThrottle::new(REFUSALS))),
            admit,
        ));
    Router::new().nest("/api/v1", routes)
}

/// Lets a caller in, or says why not. What it waits for, it waits for a limited time.
async fn admit(
    State((callers, log_throttle)): State<(Callers, Arc<LogThrottle>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let authorization = bearer_of(&request);
    // The route, not the address: that may hold the id of a session.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = route.as_ref().map_or("unknown", |route| route.as_str());
    let caller = match callers(authorization).await {
        Ok(caller) => caller,
        Err(turned) => return turn_away(path, turned, &log_throttle),
    };
    if !is_well_encoded(request.uri()) {
        let message = "the address has a malformed percent-encoding";
        return ApiError::invalid(message).into_response();
    }
    request.extensions_mut().insert(caller);
    let late = || {
        let message = "the request took too long";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message).into_response()
    };
    let answered = tokio::time::timeout(TIMEOUT, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| late());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// Whether everything that is percent-encoded in an address is UTF-8 (RFC 3986, 2.1 and 2.5). Nothing is
/// read otherwise: decoders would leave it as it is, or put replacement characters there.
fn is_well_encoded(uri: &Uri) -> bool {
    let address = uri.path_and_query().map_or("", |address| address.as_str());
    let mut pieces = address.split('%');
    let mut decoded = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let Some((byte, rest)) = piece.split_at_checked(2) else {
            return false;
        };
        let is_hex = byte.bytes().all(|digit| digit.is_ascii_hexdigit());
        let Some(byte) = u8::from_str_radix(byte, 16).ok().filter(|_| is_hex) else {
            return false;
        };
        decoded.push(byte);
        decoded.extend_from_slice(rest.as_bytes());
    }
    str::from_utf8(&decoded).is_ok()
}

/// The `Authorization` header of a request. What is no text is no token either, and nobody knows which
/// of two counts: both are an empty header, which lets nobody in.
pub(super) fn bearer_of(request: &Request) -> Option<String> {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let (first, second) = (values.next()?, values.next());
    let text = first.to_str().ok().filter(|_| second.is_none());
    Some(text.unwrap_or_default().to_owned())
}

/// The answer to somebody who may not call; the log says why, unless it has said too much already.
pub(super) fn turn_away(path: &str, turned: Turned, log_throttle: &LogThrottle) -> Response {
    let more = log_throttle.permit();
    match turned {
        Turned::Unauthenticated(reason) => {
            if let Some(more) = more {
                tracing::info!(path, %reason, more, "api call refused");
            }
            ApiError::unauthenticated().into_response()
        }
        Turned::Forbidden(user) => {
            if let Some(more) = more {
                let reason = "needs another role";
                tracing::info!(path, user, reason, more, "api call refused");
            }
            let message = "needs the role service or admin";
            ApiError::new(StatusCode::FORBIDDEN, "FORBIDDEN", message).into_response()
        }
    }
}

/// An answer that says no: `{"error":{"code":…,"message":…}}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A body or a parameter that does not fit.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_PAYLOAD", message)
    }

    /// Tells when to come back: in milliseconds in the body, in seconds in the header.
    #[must_use]
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The answer to a caller that is not authenticated, for whatever reason.
    fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "unauthorized")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        #[derive(Serialize)]
        struct ErrorBody {
            error: Error,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Error {
            code: &'static str,
            message: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after: Option<u64>,
        }
        let error = Error {
            code: self.code,
            message: self.message,
            retry_after: self.retry_after.map(|after| after.as_millis() as u64),
        };
        let mut response = (self.status, Json(ErrorBody { error })).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000) as u64;
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 11.6.1.
            let challenge = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A body of JSON, or an [`ApiError`] that says what is wrong with it.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(rejected(&rejection)),
        }
    }
}

fn rejected(rejection: &JsonRejection) -> ApiError {
    match rejection {
        JsonRejection::JsonDataError(_) => ApiError::invalid("the body has not the right fields"),
        JsonRejection::JsonSyntaxError(_) => ApiError::invalid("the body is not JSON"),
        JsonRejection::MissingJsonContentType(_) => ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "INVALID_PAYLOAD",
            "the body must be application/json",
        ),
        JsonRejection::BytesRejection(BytesRejection::FailedToBufferBody(_)) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "INVALID_PAYLOAD",
            "the body is too large or broken",
        ),
        JsonRejection::BytesRejection(_) | _ => ApiError::invalid("the body cannot be read"),
    }
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
            .map_err(|_| ApiError::invalid("the query has not the right parameters"))
    }
}

/// Answers are for whoever asked, refusals as well.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Lines about refused calls at once, before it is one a second.
pub(super) const REFUSALS: u32 = 100;
/// Bytes of a request's body.
const MAX_BODY_BYTES: usize = 64 << 10;
/// How long a call may take, its body included.
const TIMEOUT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use axum::{
        Extension,
        extract::Path,
        routing::{get, post},
    };
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    fn api() -> Router {
        let callers: Callers = Arc::new(|authorization| {
            Box::pin(async move {
                match authorization.as_deref() {
                    Some("Bearer s") => Ok(Arc::new(Principal::new("s").with_role("service"))),
                    Some("Bearer u") => Err(Turned::Forbidden("u".into())),
                    Some(_) => Err(Turned::Unauthenticated(AuthFault::NotAToken)),
                    None => Err(Turned::Unauthenticated(AuthFault::Missing)),
                }
            })
        });
        let routes = Router::new()
            .route(
                "/who",
                get(async |Extension(by): Extension<Arc<Principal>>| by.subject.clone()),
            )
            .route(
                "/echo",
                post(async |JsonBody(value): JsonBody<Value>| Json(value)),
            )
            .route(
                "/named/{name}",
                get(async |Path(name): Path<String>| Json(name)),
            );
        nest(routes, callers)
    }

    async fn call(request: Request) -> (u16, Value, http::HeaderMap) {
        let response = api().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let json = serde_json::from_slice(&body).unwrap_or(Value::String(text));
        (parts.status.as_u16(), json, parts.headers)
    }

    fn get_as(path: &str, authorization: Option<&str>) -> Request {
        let mut request = Request::get(path);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        request.body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn only_callers_with_the_role_get_in_and_others_are_told_no_reason() {
        for (authorization, status, code) in [
            (None, 401, "UNAUTHENTICATED"),
            (Some("Bearer wrong"), 401, "UNAUTHENTICATED"),
            (Some("Basic czpz"), 401, "UNAUTHENTICATED"),
            (Some("Bearer u"), 403, "FORBIDDEN"),
        ] {
            let (got, body, headers) = call(get_as("/api/v1/who", authorization)).await;
            assert_eq!((got, body["error"]["code"].as_str()), (status, Some(code)));
            assert_eq!(headers.contains_key("www-authenticate"), status == 401);
            assert_eq!(headers["cache-control"], "no-store", "{status}");
        }
        let (_, none, _) = call(get_as("/api/v1/who", None)).await;
        let (_, wrong, _) = call(get_as("/api/v1/who", Some("Bearer wrong"))).await;
        assert_eq!(none, wrong);
        let (status, body, headers) = call(get_as("/api/v1/who", Some("Bearer s"))).await;
        assert_eq!((status, body), (200, json!("s")));
        assert_eq!(headers["cache-control"], "no-store");
    }

    #[tokio::test]
    async fn two_authorization_headers_let_nobody_in() {
        for second in ["Bearer s", "Basic czpz", ""] {
            let mut request = get_as("/api/v1/who", Some("Bearer s"));
            let headers = request.headers_mut();
            headers.append("authorization", HeaderValue::from_static(second));
            assert_eq!(call(request).await.0, 401, "{second:?}");
        }
    }

    #[tokio::test]
    async fn who_is_nobody_does_not_learn_which_routes_there_are() {
        assert_eq!(call(get_as("/api/v1/none", None)).await.0, 401);
        let (status, body, _) = call(get_as("/api/v1/none", Some("Bearer s"))).await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!("NOT_FOUND")));
        let (status, body, _) = call(get_as("/api/v1/echo", Some("Bearer s"))).await;
        assert_eq!(status, 405);
        assert_eq!(body["error"]["code"], "METHOD_NOT_ALLOWED");
    }

    #[tokio::test]
    async fn an_address_with_a_malformed_percent_encoding_is_refused_in_json() {
        for (path, name) in [
            ("/api/v1/named/a%20b", "a b"),
            ("/api/v1/named/%C3%A4%25?x=%c3%a4", "\u{e4}%"),
        ] {
            let answer = call(get_as(path, Some("Bearer s"))).await;
            assert_eq!((answer.0, answer.1), (200, json!(name)));
        }
        for address in [
            "/api/v1/named/%FF",
            "/api/v1/named/%C3",
            "/api/v1/named/%zz",
            "/api/v1/named/%+1",
            "/api/v1/named/a%2",
            "/api/v1/named/a%",
            "/api/v1/who?x=%FF",
            "/api/v1/who?x=%0",
            "/api/v1/none/%FF",
        ] {
            let (status, body, headers) = call(get_as(address, Some("Bearer s"))).await;
            assert_eq!(status, 400, "{address}");
            assert_eq!(body["error"]["code"], "INVALID_PAYLOAD", "{address}");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(call(get_as(address, None)).await.0, 401, "{address}");
        }
    }

    #[tokio::test]
    async fn a_body_is_limited_and_must_be_json() {
        let post = |kind: &str, body: String| {
            let request = Request::post("/api/v1/echo").header("authorization", "Bearer s");
            request
                .header("content-type", kind)
                .body(Body::from(body))
                .unwrap()
        };
        let json = "application/json";
        assert_eq!(call(post(json, "[1]".into())).await.0, 200);
        for (kind, body, status) in [
            (json, "[1".to_owned(), 400),
            (json, String::new(), 400),
            ("text/plain", "[1]".to_owned(), 415),
            (json, format!("[{}1]", "1,".repeat(MAX_BODY_BYTES)), 413),
        ] {
            let (got, answer, _) = call(post(kind, body)).await;
            assert_eq!(got, status);
            assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD");
        }
    }
}
