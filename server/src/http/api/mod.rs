//! `/api/v1`: authentication, rate limits and logging of calls, and the routes, one file per
//! subject.
//!
//! A route is described with [`describe`], gets the caller as `Extension<Arc<Principal>>` and calls
//! a service, which checks the caller's permissions. Routes contain no rules.

mod admission;
mod audit;
mod blocks;
mod conversations;
mod describe;
mod emit;
mod error;
mod identity;
mod messages;
mod nodes;
mod once;
mod presence;
mod sockets;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{Extension, Router, http::HeaderValue, middleware};

use self::admission::{GuardState, late, with_admission};
pub(in crate::http) use admission::{REFUSALS, bearer_of, refuse_caller};
pub(crate) use describe::{Operation, Routes};
pub(crate) use error::{ApiError, JsonBody, Parameters};
pub(crate) use once::IdempotentName;

use super::{Connections, channels, market, trace, user_data};
use crate::metrics::diagnosis::Diagnosis;
use crate::metrics::trace::Spans;
use crate::{
    auth::{AuthFault, Principal},
    limit::Users,
    metrics::Metrics,
    service::{
        Access, Blocks, Channels, Chat, Market, Notifications,
        api::{LogLevel, RequestKeys},
        audit::Audit,
    },
};
use roomcast::{Io, Namespace, internal::LogThrottle};

/// The caller.
pub(crate) type By = Extension<Arc<Principal>>;

/// Authenticates a caller by its `Authorization` header.
pub(crate) type Callers =
    Arc<dyn Fn(Option<String>) -> Pin<Box<dyn Future<Output = Caller> + Send>> + Send + Sync>;

/// A caller, or the reason why it is refused.
pub(crate) type Caller = Result<Arc<Principal>, CallerRefusal>;

/// The reason why a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallerRefusal {
    /// The caller is not authenticated.
    Unauthenticated(AuthFault),
    /// The caller is a user without access to the API, except for its own data.
    Forbidden(Arc<Principal>),
}

/// The checks of a call before its route.
pub(crate) struct ApiGuard {
    pub(crate) callers: Callers,
    /// Checked before a stored response is repeated.
    pub(crate) access: Access,
    /// The rate limit of each caller.
    pub(crate) pace: Users,
    pub(crate) keys: RequestKeys,
    pub(crate) audit: Audit,
    pub(crate) metrics: Arc<Metrics>,
    /// Records refused calls.
    pub(crate) diagnosis: Diagnosis,
    /// Records the spans of sampled calls.
    pub(crate) spans: Spans,
}

/// The services that routes call.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) access: Access,
    pub(crate) channels: Channels,
    pub(crate) chat: Chat,
    pub(crate) market: Market,
    pub(crate) notifications: Notifications,
    pub(crate) connections: Connections,
    pub(crate) log_level: LogLevel,
}

impl Api {
    pub(in crate::http) fn io(&self) -> &Io {
        &self.connections.io
    }

    /// Returns the namespace of the chat.
    pub(super) fn namespace(&self) -> Namespace {
        self.io().of("/")
    }
}

/// Returns all routes. Without an address guard, there is no block list.
pub(crate) fn routes(api: Api, blocks: Option<Blocks>, audit: Audit) -> Routes {
    let access = api.access.clone();
    let routes = Routes::new()
        .merge(conversations::routes())
        .merge(messages::routes())
        .merge(emit::routes())
        .merge(sockets::routes())
        .merge(presence::routes())
        .merge(nodes::routes())
        .merge(identity::routes())
        .merge(market::routes())
        .merge(channels::routes())
        .merge(user_data::routes())
        .merge(trace::routes())
        .with_state(api)
        .merge(audit::routes(audit));
    match blocks {
        Some(blocks) => routes.merge(blocks::routes(blocks, access)),
        None => routes,
    }
}

/// Nests the routes below `/api/v1` for authorized callers. The description of the API is public.
pub(crate) fn nest(routes: Routes, admission: ApiGuard) -> Router {
    let ApiGuard {
        callers,
        access,
        pace,
        keys,
        audit,
        metrics,
        diagnosis,
        spans,
    } = admission;
    let (router, description, rules) = routes.into_parts();
    let rules = Arc::new(rules);
    let admission = GuardState {
        callers,
        pace,
        metrics,
        diagnosis,
        spans,
        log_throttle: LogThrottle::new(REFUSALS),
        rules: Arc::clone(&rules),
    };
    // This layer is inside the admission layer, which sets the caller that owns the key.
    let recording = (audit, Arc::clone(&rules));
    let once = once::IdempotencyState::new(keys, rules, access);
    // A repeated request that gets a stored response performs nothing, so it is not recorded.
    let router = router.layer(middleware::from_fn_with_state(recording, audit::record));
    let router = router.layer(middleware::from_fn_with_state(once, once::once));
    let router = with_admission(router, admission).merge(describe::reference::routes(description));
    Router::new().nest(PREFIX, router)
}

/// Responses, including errors, are only for the caller.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// The prefix of the routes.
const PREFIX: &str = "/api/v1";
/// Maximum bytes of a request body, unless the route specifies another limit.
const MAX_BODY_BYTES: usize = 64 << 10;
/// The timeout of a call, including its body.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Time to wait for a call in addition to [`TIMEOUT`], so that it can finish its cleanup.
const GRACE: Duration = Duration::from_secs(1);
