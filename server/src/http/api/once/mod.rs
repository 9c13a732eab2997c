//! Idempotent requests: a request with an `Idempotency-Key` is performed only once.
//!
//! A repeated request gets the stored response of the first, or 409 if that is not stored because
//! it is secret or longer than 256 KiB. A key belongs to its caller and to one request: the same
//! method, URI and body. Only successful responses are stored. After an error the key is free
//! again, after a panic of the handler within a minute. A caller gets a stored response only while
//! it has the permissions for the request.

mod canonical;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use roomcast::internal::RetryAfter;
use uuid::Uuid;

use self::canonical::Canonical;
use super::{GRACE, NO_STORE, TIMEOUT, describe::RouteRules, error::ApiError};
use crate::{
    auth::Principal,
    metrics::trace::TraceContext,
    service::{
        Access, ServiceError, StoredResponse,
        api::{BeginOutcome, HeldKey, RequestKeys, hash_of},
        audit::RECORD_TIMEOUT,
    },
};

/// The name for items created by a request, derived from its key. A repeated attempt finds an item
/// whose creation had an unknown outcome.
#[derive(Clone, Debug)]
pub(crate) struct IdempotentName(String);

impl IdempotentName {
    /// Returns an id for a created item: derived from the key, or a new one without a key.
    pub(super) fn id(under: Option<Extension<Self>>) -> Uuid {
        under.map_or_else(Uuid::new_v4, |Extension(under)| under.uuid())
    }

    /// Sets the id of published data that has none, if there is a key. Without a key, the service
    /// chooses an id.
    pub(crate) fn fill_in(under: Option<Extension<Self>>, id: &mut Option<String>) {
        if let Some(Extension(under)) = under {
            id.get_or_insert_with(|| under.uuid().to_string());
        }
    }

    fn uuid(&self) -> Uuid {
        let digits = self.0.get(..32);
        let digits = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        let bytes = digits.unwrap_or_default().to_be_bytes();
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// Returns the name, if there is a key.
    pub(super) fn name(under: Option<Extension<Self>>) -> Option<String> {
        under.map(|Extension(Self(name))| format!("http:{name}"))
    }
}

/// Marks a response whose body must not be stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecretBody;

/// The state for requests with a key. Clones share it.
#[derive(Clone)]
pub(super) struct IdempotencyState {
    keys: RequestKeys,
    rules: Arc<RouteRules>,
    access: Access,
}

impl IdempotencyState {
    pub(super) fn new(keys: RequestKeys, rules: Arc<RouteRules>, access: Access) -> Self {
        Self {
            keys,
            rules,
            access,
        }
    }

    /// Returns how long a request may run before it is stopped and its key is released. A request
    /// that the audit log records continues after its caller has got 408, so it may run longer.
    fn deadline(&self, request: &Request) -> Duration {
        let path = request.extensions().get::<MatchedPath>();
        let path = path.map_or("", MatchedPath::as_str);
        match self.rules.recorded(request.method(), path) {
            Some(_) => TIMEOUT + 2 * RECORD_TIMEOUT + GRACE,
            None => TIMEOUT,
        }
    }
}

/// Performs a request only once if it changes data and has a key.
pub(super) async fn once(
    State(once): State<IdempotencyState>,
    request: Request,
    next: Next,
) -> Response {
    let mut named = request.headers().get_all(KEY).iter();
    let (Some(key), second) = (named.next(), named.next()) else {
        return next.run(request).await;
    };
    // Reading has no effect that could be repeated.
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let Some(key) = key
        .to_str()
        .ok()
        .filter(|key| second.is_none() && is_key(key))
    else {
        let message =
            "Idempotency-Key must be given once and have 1 to 255 visible ASCII characters";
        let error = ApiError::invalid(message);
        return error.field("Idempotency-Key").into_response();
    };
    let route = request.extensions().get::<MatchedPath>();
    if route.is_some_and(|route| once.rules.streams.contains(route.as_str())) {
        let message = "the route takes no Idempotency-Key: name the message by clientMessageId";
        let error = ApiError::invalid(message);
        return error.field("Idempotency-Key").into_response();
    }
    let key = key.to_owned();
    match take(&once, &key, request).await {
        Ok((held, request)) => {
            let deadline = once.deadline(&request);
            perform(held, request, next, deadline).await
        }
        Err(answer) => answer,
    }
}

fn is_key(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Takes the key for a request, or returns a response immediately.
async fn take(
    once: &IdempotencyState,
    key: &str,
    request: Request,
) -> Result<(HeldKey, Request), Response> {
    let refused = |error: ServiceError| ApiError::from(error).into_response();
    let (parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>();
    let path = route.map_or("", MatchedPath::as_str);
    // The outer layer has authenticated the caller.
    let caller = parts.extensions.get::<Arc<Principal>>().cloned();
    let caller = caller.unwrap_or_else(|| Arc::new(Principal::new("")));
    // The permissions are checked before the key, because a stored response or a conflict reveals
    // what was requested.
    let needs = once.rules.needs(&parts.method, path);
    for permission in needs.always {
        once.access.require(&caller, permission).map_err(refused)?;
    }
    // The body is read before the key is taken, because a key belongs to a request including its
    // body.
    let body = to_bytes(body, once.rules.body_bytes(path)).await;
    let body = body.map_err(|_| ApiError::too_large().into_response())?;
    if let Some(permission) = needs.by_body.and_then(|find| find(&body)) {
        once.access.require(&caller, permission).map_err(refused)?;
    }
    let canonical = match canonical::of(&body) {
        Canonical::Json(text) => text.into(),
        // The route reports the error.
        Canonical::NotJson => body.clone(),
        Canonical::Duplicate(field) => {
            let error = ApiError::invalid("the body has a field twice");
            return Err(error.field(field).into_response());
        }
    };
    let address = parts.uri.to_string();
    let method = parts.method.as_str().as_bytes();
    // The store does not record whether a response needed the permissions in `needs.by_state`. So
    // the request of a caller that lost or gained one of these permissions counts as different.
    let granted = needs.by_state.iter();
    let granted = granted.filter(|permission| once.access.allows(&caller, **permission));
    let granted: Vec<_> = granted.map(|permission| permission.as_str()).collect();
    let granted = granted.join(" ");
    let address = address.as_bytes();
    let request_hash = hash_of(&[method, address, granted.as_bytes(), &canonical]);
    let begun = once.keys.begin(&caller.subject, key, request_hash).await;
    let conflict = |message| ApiError::new(StatusCode::CONFLICT, "CONFLICT", message);
    match begun.map_err(|error| ApiError::from(error).into_response())? {
        BeginOutcome::Mine(held) => {
            let mut request = Request::from_parts(parts, Body::from(body));
            let under = IdempotentName(held.name().to_owned());
            request.extensions_mut().insert(under);
            Ok((held, request))
        }
        BeginOutcome::Running => {
            let running = conflict("a request with this Idempotency-Key is in progress");
            Err(running
                .retry_after(RetryAfter::new(RUNNING))
                .into_response())
        }
        BeginOutcome::Other => {
            let other = conflict("the Idempotency-Key belongs to another request");
            Err(other.into_response())
        }
        BeginOutcome::Done(StoredResponse { status, body }) => Err(match body {
            Some(body) => replay(status, body),
            None => conflict("the request was completed, and its response is not repeated")
                .into_response(),
        }),
    }
}

fn replay(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_TYPE);
    } else {
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
    }
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Performs the request, even if the caller disconnects.
async fn perform(held: HeldKey, request: Request, next: Next, deadline: Duration) -> Response {
    // The request runs in its own task. Otherwise a disconnecting caller would leave it half done,
    // with the key taken.
    let done = TraceContext::spawn(async move {
        let Ok(response) = tokio::time::timeout(deadline, next.run(request)).await else {
            held.end(None).await;
            return super::late();
        };
        store_response(held, response).await
    });
    done.await.unwrap_or_else(|_| failed().into_response())
}

/// Returns the error of a request whose handler panicked.
pub(super) fn failed() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "the request failed",
    )
}

/// Stores the response of a successful request.
async fn store_response(held: HeldKey, response: Response) -> Response {
    let status = response.status();
    // Errors are not stored, so that a caller can correct its request under the same key.
    if !status.is_success() {
        held.end(None).await;
        return response;
    }
    // The id of a login must not be stored, where a repeated request could read it.
    let is_secret = response.extensions().get::<SecretBody>().is_some();
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        held.end(None).await;
        return Response::from_parts(parts, Body::empty());
    };
    let text = str::from_utf8(&body).ok();
    let text = text.filter(|text| !is_secret && text.len() <= MAX_KEPT_BYTES);
    let answer = StoredResponse {
        status: status.as_u16(),
        body: text.map(str::to_owned),
    };
    held.end(Some(answer)).await;
    Response::from_parts(parts, Body::from(body))
}

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks a response that repeats a stored one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// When to retry while the request is in progress.
const RUNNING: Duration = Duration::from_secs(1);
/// Maximum bytes of a stored response body.
const MAX_KEPT_BYTES: usize = 256 << 10;
