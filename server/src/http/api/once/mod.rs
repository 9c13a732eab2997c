//! Requests that name a key in `Idempotency-Key` are done once.
//!
//! A request that is sent again, because its answer did not come, gets the answer of the first. The key belongs to
//! its caller and to one request: the same method, address and body. Only what was done is kept: after a refusal
//! the key is free again. A caller gets an answer again only while it has the permissions for the request.

mod canonical;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, to_bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use self::canonical::Canonical;
use super::{NO_STORE, TIMEOUT, describe::RouteRules, error::ApiError};
use crate::{
    auth::Principal,
    service::{
        Access, KeptAnswer, ServiceError,
        api::{HeldKey, RequestKeys, Turn, hash_of},
    },
};

/// What is made by a request is named after its key, so that another attempt finds it: one whose end nobody knows
/// may have been made.
#[derive(Clone, Debug)]
pub(crate) struct MadeUnder(String);

impl MadeUnder {
    /// An id for what is made, or a new one without a key.
    pub(super) fn id(under: Option<Extension<Self>>) -> Uuid {
        under.map_or_else(Uuid::new_v4, |Extension(under)| under.uuid())
    }

    /// Fills in the id of what is published without one, if there is a key. Without a key the service gives it an id.
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

    /// The name itself, if there is a key.
    pub(super) fn name(under: Option<Extension<Self>>) -> Option<String> {
        under.map(|Extension(Self(name))| format!("http:{name}"))
    }
}

/// Marks an answer whose body is told once, and not kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToldOnce;

/// What requests with a key are done with. Cloning gives another handle.
#[derive(Clone)]
pub(super) struct Once {
    keys: RequestKeys,
    rules: Arc<RouteRules>,
    access: Access,
}

impl Once {
    pub(super) fn new(keys: RequestKeys, rules: RouteRules, access: Access) -> Self {
        let rules = Arc::new(rules);
        Self {
            keys,
            rules,
            access,
        }
    }
}

/// Does a request once, if it changes something and names a key.
pub(super) async fn once(State(once): State<Once>, request: Request, next: Next) -> Response {
    let mut named = request.headers().get_all(KEY).iter();
    let (Some(key), second) = (named.next(), named.next()) else {
        return next.run(request).await;
    };
    // Reading has nothing that could be done twice.
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let Some(key) = key
        .to_str()
        .ok()
        .filter(|key| second.is_none() && is_key(key))
    else {
        let message = "Idempotency-Key must have 1 to 255 characters, visible ones of ASCII";
        let error = ApiError::invalid(message);
        return error.field("Idempotency-Key").into_response();
    };
    let key = key.to_owned();
    match take(&once, &key, request).await {
        Ok((held, request)) => perform(held, request, next).await,
        Err(answer) => answer,
    }
}

fn is_key(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Takes the key for a request, or answers at once.
async fn take(once: &Once, key: &str, request: Request) -> Result<(HeldKey, Request), Response> {
    let refused = |error: ServiceError| ApiError::from(error).into_response();
    let (parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>();
    let path = route.map_or("", MatchedPath::as_str);
    // The caller was authenticated by the layer outside of this one.
    let caller = parts.extensions.get::<Arc<Principal>>().cloned();
    let caller = caller.unwrap_or_else(|| Arc::new(Principal::new("")));
    // The permissions are checked before the key, which has the answer and shows by its refusals what
    // was asked under it.
    let needs = once.rules.needs(&parts.method, path);
    for permission in needs.always {
        once.access.require(&caller, permission).map_err(refused)?;
    }
    // The whole body is read before the key is taken, since a key belongs to one request with all
    // that is in it.
    let body = to_bytes(body, once.rules.body_bytes(path)).await;
    let body = body.map_err(|_| ApiError::too_large().into_response())?;
    if let Some(permission) = needs.by_body.and_then(|find| find(&body)) {
        once.access.require(&caller, permission).map_err(refused)?;
    }
    let canonical = match canonical::of(&body) {
        Canonical::Json(text) => text.into(),
        // The route says what is wrong with it.
        Canonical::NotJson => body.clone(),
        Canonical::Duplicate(field) => {
            let error = ApiError::invalid("the body has a field twice");
            return Err(error.field(field).into_response());
        }
    };
    let address = parts.uri.to_string();
    let method = parts.method.as_str().as_bytes();
    // Whether the answer needed these permissions is not known any more, so a caller that has lost or
    // gained such a permission has another request.
    let granted = needs.by_state.iter();
    let granted = granted.filter(|permission| once.access.allows(&caller, **permission));
    let granted: Vec<_> = granted.map(|permission| permission.as_str()).collect();
    let granted = granted.join(" ");
    let address = address.as_bytes();
    let asked = hash_of(&[FORM, method, address, granted.as_bytes(), &canonical]);
    // Answers of earlier versions are known by the bytes of the request.
    let before = if parts.method == Method::POST {
        hash_of(&[address, &body])
    } else {
        hash_of(&[method, address, &body])
    };
    let turn = once.keys.begin(&caller.subject, key, [asked, before]).await;
    let conflict = |message| ApiError::new(StatusCode::CONFLICT, "CONFLICT", message);
    match turn.map_err(|error| ApiError::from(error).into_response())? {
        Turn::Mine(held) => {
            let mut request = Request::from_parts(parts, Body::from(body));
            let under = MadeUnder(held.name().to_owned());
            request.extensions_mut().insert(under);
            Ok((held, request))
        }
        Turn::Running => {
            let running = conflict("a request with this Idempotency-Key is being done");
            Err(running.retry_after(RUNNING).into_response())
        }
        Turn::Other => {
            let other = conflict("the Idempotency-Key belongs to another request");
            Err(other.into_response())
        }
        Turn::Done(KeptAnswer { status, body }) => Err(match body {
            Some(body) => replay(status, body),
            None => conflict("it was done, and its answer is not told twice").into_response(),
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

/// Does what is asked for, whether the caller waits for it or not.
async fn perform(held: HeldKey, request: Request, next: Next) -> Response {
    // The request goes on in a task of its own: a caller that gives up would otherwise leave it
    // half done, with the key taken.
    let done = tokio::spawn(async move {
        let Ok(response) = tokio::time::timeout(TIMEOUT, next.run(request)).await else {
            held.end(None).await;
            return super::late();
        };
        keep(held, response).await
    });
    done.await.unwrap_or_else(|_| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        ApiError::new(status, "INTERNAL", "it failed").into_response()
    })
}

/// Keeps the answer to what was done.
async fn keep(held: HeldKey, response: Response) -> Response {
    let status = response.status();
    // A refusal is not kept, or a caller could never mend its request under the same key.
    if !status.is_success() {
        held.end(None).await;
        return response;
    }
    // The id of a login must not lie in the store, from which the next attempt would get it.
    let is_secret = response.extensions().get::<ToldOnce>().is_some();
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        held.end(None).await;
        return Response::from_parts(parts, Body::empty());
    };
    let text = str::from_utf8(&body).ok();
    let text = text.filter(|text| !is_secret && text.len() <= MAX_KEPT_BYTES);
    let answer = KeptAnswer {
        status: status.as_u16(),
        body: text.map(str::to_owned),
    };
    held.end(Some(answer)).await;
    Response::from_parts(parts, Body::from(body))
}

/// The first part of a request's hash: the form of the other parts.
const FORM: &[u8] = b"2";
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is the one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// When to ask again for what is being done.
const RUNNING: Duration = Duration::from_secs(1);
/// Bytes of an answer that is kept.
const MAX_KEPT_BYTES: usize = 256 << 10;
