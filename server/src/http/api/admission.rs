//! The checks of every call before its route: who calls, how fast, and whether the request is well
//! encoded. They also count, log and time out calls.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use axum::{
    RequestExt as _, Router,
    extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, OriginalUri, Path, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use super::{
    ApiError, CallerRefusal, Callers, GRACE, MAX_BODY_BYTES, NO_STORE, TIMEOUT,
    describe::RouteRules,
};
use crate::{
    auth::Principal,
    limit::Users,
    metrics::{
        Counter, Metrics,
        diagnosis::{Culprit, Diagnosis},
        trace::{Spans, TraceContext},
    },
};
use roomcast::internal::LogThrottle;

/// Adds the checks of every call, and the responses for unknown routes.
pub(super) fn with_admission(router: Router, admission: GuardState) -> Router {
    router
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "no such route"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "the route does not support this method",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::new(admission), admit))
}

/// The state of the checks of every call.
pub(super) struct GuardState {
    pub(super) callers: Callers,
    pub(super) pace: Users,
    pub(super) metrics: Arc<Metrics>,
    pub(super) diagnosis: Diagnosis,
    pub(super) spans: Spans,
    pub(super) log_throttle: LogThrottle,
    pub(super) rules: Arc<RouteRules>,
}

/// Returns whether a request reads the caller's own data, which needs no permission.
async fn is_own(request: &mut Request, own: &HashSet<String>, caller: &Principal) -> bool {
    let route = request.extensions().get::<MatchedPath>();
    let is_open = route.is_some_and(|route| own.contains(route.as_str()));
    if !is_open || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return false;
    }
    let user = request.extract_parts::<Path<String>>().await;
    user.is_ok_and(|Path(user)| user == caller.subject)
}

/// Admits a caller or responds with the reason, and counts and logs the outcome.
async fn admit(
    State(admission): State<Arc<GuardState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let authorization = bearer_of(&request);
    // The route is logged instead of the path, which can contain the id of a login.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = route.as_ref().map_or("unknown", |route| route.as_str());
    let metrics = &admission.metrics;
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = client.map(|ConnectInfo(client)| client.ip().to_canonical());
    let record = |user: Option<&str>, category: &str, reason: &str| {
        let of = Culprit { user, address };
        admission.diagnosis.refused(of, category, reason);
    };
    let caller = match (admission.callers)(authorization).await {
        Ok(caller) => caller,
        Err(CallerRefusal::Forbidden(caller))
            if is_own(&mut request, &admission.rules.own, &caller).await =>
        {
            caller
        }
        Err(refusal) => {
            if matches!(refusal, CallerRefusal::Forbidden(_)) {
                metrics.count(Counter::CommandsDenied);
            }
            metrics.count(Counter::ApiDenied);
            let (user, category, reason) = match &refusal {
                CallerRefusal::Unauthenticated(fault) => {
                    (None, "authentication", fault.to_string())
                }
                CallerRefusal::Forbidden(caller) => {
                    let reason = "needs another role".to_owned();
                    (Some(&*caller.subject), "permission", reason)
                }
            };
            record(user, category, &format!("call: {reason}"));
            return refuse_caller(path, refusal, &admission.log_throttle);
        }
    };
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let method = request.method().clone();
    let address = request.extensions().get::<OriginalUri>();
    // The id of a login is a secret, so a path with one is not logged.
    let logged_path = match address.filter(|_| !path.contains("/sessions/")) {
        Some(OriginalUri(address)) => address.path().to_owned(),
        None => path.to_owned(),
    };
    // The caller is authenticated before it is limited, so that no caller can use up the calls of
    // another.
    // Callers without a right cannot request spans.
    let (spans, rules) = (&admission.spans, &admission.rules);
    let trace = spans.sample(TraceContext::of_headers(request.headers()));
    let span = trace.and_then(|trace| spans.start_call(trace, &method, path));
    let mut response = match admission.pace.check_call(&caller.subject) {
        Ok(()) => {
            request.extensions_mut().insert(Arc::clone(&caller));
            match trace {
                Some(trace) => trace.scope(spans, call(request, next, rules)).await,
                None => call(request, next, rules).await,
            }
        }
        Err(retry_after) => {
            let message = "too many calls, try again later";
            let refusal = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message);
            refusal.retry_after(retry_after).into_response()
        }
    };
    // For the access log.
    response.extensions_mut().insert(Arc::clone(&caller));
    let status = response.status();
    if let Some((category, reason)) = refusal_of(status) {
        let reason = format!("{method} {path}: {reason}");
        record(Some(&caller.subject), category, &reason);
    }
    if let Some(span) = span {
        span.end_call(&caller.subject, status);
    }
    metrics.count(match status.as_u16() {
        429 => Counter::ApiLimited,
        500.. => Counter::ApiFailed,
        400.. => Counter::ApiRefused,
        _ if is_reading => Counter::ApiRead,
        _ => Counter::ApiWritten,
    });
    if !is_reading {
        let by = &caller.subject;
        tracing::info!(by, %method, path = logged_path, status = status.as_u16(), "api call");
    }
    response
}

/// Returns the type and the reason of a refusal by permissions or limits.
fn refusal_of(status: StatusCode) -> Option<(&'static str, &'static str)> {
    match status {
        StatusCode::FORBIDDEN => Some(("permission", "not allowed")),
        StatusCode::TOO_MANY_REQUESTS => Some(("rateLimit", "too many calls")),
        _ => None,
    }
}

/// Calls the route with a timeout, unless it reads a body that can take long to arrive.
async fn call(request: Request, next: Next, rules: &RouteRules) -> Response {
    if !is_well_encoded(request.uri()) {
        let message = "the address has a malformed percent-encoding";
        return ApiError::invalid(message).into_response();
    }
    if is_encoded(&request) {
        let message = "the body must be sent without Content-Encoding";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let mut refusal = ApiError::new(status, "INVALID_PAYLOAD", message).into_response();
        // RFC 9110, 12.5.3: this header lists the codings that the server accepts.
        let headers = refusal.headers_mut();
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        return refusal;
    }
    let route = request.extensions().get::<MatchedPath>();
    let is_stream = route.is_some_and(|route| rules.streams.contains(route.as_str()));
    let answering = next.run(request);
    let mut response = match is_stream {
        true => answering.await,
        // `once` applies the same timeout to requests with a key, and releases the key.
        false => {
            let answered = tokio::time::timeout(TIMEOUT + GRACE, answering).await;
            answered.unwrap_or_else(|_| late())
        }
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// Returns whether a request declares a compressed body. The header is also refused without a body.
fn is_encoded(request: &Request) -> bool {
    let codings = request.headers().get_all(header::CONTENT_ENCODING);
    let is_plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    !codings.iter().all(is_plain)
}

pub(super) fn late() -> Response {
    let message = "the request took too long";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message).into_response()
}

/// Returns whether all percent-encoded parts of a URI are UTF-8 (RFC 3986, 2.1 and 2.5). Otherwise
/// decoders would leave them unchanged or insert replacement characters.
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
    // The parts are decoded together, because a character can be split over several escapes.
    str::from_utf8(&decoded).is_ok()
}

/// Returns the `Authorization` header of a request. A header that is not text or is duplicated is
/// returned as empty, which admits no caller.
pub(in crate::http) fn bearer_of(request: &Request) -> Option<String> {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let (first, second) = (values.next()?, values.next());
    let text = first.to_str().ok().filter(|_| second.is_none());
    Some(text.unwrap_or_default().to_owned())
}

/// Returns the response for a refused caller, and logs the reason within a rate limit.
pub(in crate::http) fn refuse_caller(
    path: &str,
    refusal: CallerRefusal,
    log_throttle: &LogThrottle,
) -> Response {
    let more = log_throttle.permit();
    match refusal {
        CallerRefusal::Unauthenticated(reason) => {
            if let Some(more) = more {
                tracing::info!(path, %reason, more, "api call refused");
            }
            ApiError::unauthenticated().into_response()
        }
        CallerRefusal::Forbidden(caller) => {
            if let Some(more) = more {
                let reason = "needs another role";
                let user = &caller.subject;
                tracing::info!(path, user, reason, more, "api call refused");
            }
            let message = "needs a role that may call the API";
            ApiError::new(StatusCode::FORBIDDEN, "FORBIDDEN", message).into_response()
        }
    }
}

/// Log lines about refused calls before they are limited to one per second.
pub(in crate::http) const REFUSALS: u32 = 100;

#[cfg(test)]
mod tests {
    use axum::{
        Extension, Json,
        body::Body,
        routing::{get, post},
    };
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;
    use crate::auth::AuthFault;
    use crate::config::Limits;
    use crate::http::api::JsonBody;

    fn api() -> Router {
        let callers: Callers = Arc::new(|authorization| {
            Box::pin(async move {
                match authorization.as_deref() {
                    Some("Bearer s") => Ok(Arc::new(Principal::new("s").with_role("service"))),
                    Some("Bearer u") => {
                        Err(CallerRefusal::Forbidden(Arc::new(Principal::new("u"))))
                    }
                    Some(_) => Err(CallerRefusal::Unauthenticated(AuthFault::NotAToken)),
                    None => Err(CallerRefusal::Unauthenticated(AuthFault::Missing)),
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
            )
            .route(
                "/own/{id}",
                get(async |Path(id): Path<String>| Json(id)).delete(async || ()),
            );
        let mut rules = RouteRules::default();
        rules.own.insert("/api/v1/own/{id}".to_owned());
        let admission = GuardState {
            callers,
            pace: Users::new(&Limits::default(), Arc::default()),
            metrics: Arc::default(),
            diagnosis: Diagnosis::default(),
            spans: Spans::default(),
            log_throttle: LogThrottle::new(REFUSALS),
            rules: Arc::new(rules),
        };
        Router::new().nest("/api/v1", with_admission(routes, admission))
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
    async fn only_permitted_callers_are_admitted_and_refusals_hide_the_reason() {
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
        let (_, user, _) = call(get_as("/api/v1/who", Some("Bearer u"))).await;
        let message = "needs a role that may call the API";
        assert_eq!(user["error"]["message"], message, "roles may be one's own");
        let (status, body, headers) = call(get_as("/api/v1/who", Some("Bearer s"))).await;
        assert_eq!((status, body), (200, json!("s")));
        assert_eq!(headers["cache-control"], "no-store");
    }

    #[tokio::test]
    async fn users_without_a_role_read_only_their_own_data() {
        for (path, expected) in [
            ("/api/v1/own/u", 200),
            ("/api/v1/own/%75", 200),
            ("/api/v1/own/v", 403),
            ("/api/v1/own/u%00", 403),
            ("/api/v1/own/u/", 403),
            ("/api/v1/own/%FF", 403),
            ("/api/v1/named/u", 403),
        ] {
            let (status, ..) = call(get_as(path, Some("Bearer u"))).await;
            assert_eq!(status, expected, "{path}");
        }
        let mut delete = get_as("/api/v1/own/u", Some("Bearer u"));
        *delete.method_mut() = Method::DELETE;
        assert_eq!(call(delete).await.0, 403);
        assert_eq!(call(get_as("/api/v1/own/v", Some("Bearer s"))).await.0, 200);
    }

    #[tokio::test]
    async fn two_authorization_headers_are_refused() {
        for second in ["Bearer s", "Basic czpz", ""] {
            let mut request = get_as("/api/v1/who", Some("Bearer s"));
            let headers = request.headers_mut();
            headers.append("authorization", HeaderValue::from_static(second));
            assert_eq!(call(request).await.0, 401, "{second:?}");
        }
    }

    #[tokio::test]
    async fn unauthenticated_callers_get_401_for_unknown_routes() {
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
    async fn a_compressed_body_is_refused_with_415() {
        for (coding, expected) in [
            ("gzip", 415),
            ("br", 415),
            ("gzip, identity", 415),
            ("", 415),
            ("identity", 200),
            ("Identity", 200),
        ] {
            let request = Request::post("/api/v1/echo")
                .header("authorization", "Bearer s")
                .header("content-type", "application/json")
                .header("content-encoding", coding);
            let (status, answer, headers) = call(request.body("{}".into()).unwrap()).await;
            assert_eq!(status, expected, "{coding}");
            if status == 415 {
                assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD");
                assert_eq!(headers["accept-encoding"], "identity");
                assert_eq!(headers["cache-control"], "no-store");
            }
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
        assert_eq!(call(post(json, "{}".into())).await.0, 200);
        for (kind, body, status) in [
            (json, "{".to_owned(), 400),
            (json, "[1]".to_owned(), 400),
            (json, "{}1".to_owned(), 400),
            (json, String::new(), 400),
            ("text/plain", "{}".to_owned(), 415),
            ("", "{}".to_owned(), 415),
            (json, format!("{{{}}}", " ".repeat(MAX_BODY_BYTES)), 413),
        ] {
            let (got, answer, _) = call(post(kind, body)).await;
            assert_eq!(got, status);
            assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD");
        }
    }
}
