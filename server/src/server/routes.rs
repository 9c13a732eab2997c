//! The HTTP routes of the server, with the authentication of their callers.

use std::sync::Arc;

use axum::Router;

use super::inventory;
use super::services::Services;
use crate::auth::{Principal, authenticator::Authenticator};
use crate::config::{self, Secret, Settings};
use crate::http::{
    self, Readiness,
    api::CallerRefusal,
    scrape::{Reach, Readers, TokenFile},
};
use crate::limit::Users;
use crate::service::api::RequestKeys;
use crate::service::{Access, Blocks};
use crate::store::Store;
use roomcast::Io;

/// Returns all routes, with security headers. Without an address guard, there is no block list.
pub(super) fn router(
    settings: &Settings,
    services: &Services,
    readers: &Readers,
    store: Store,
    io: Io,
    blocks: Option<Blocks>,
    readiness: Readiness,
) -> Router {
    let Services {
        access,
        audit,
        authenticator,
        channels,
        chat,
        diagnosis,
        log_level,
        market,
        metrics,
        notifications,
        traces,
        ..
    } = services;
    let admission = http::api::ApiGuard {
        callers: callers(authenticator, access, Access::may_call),
        access: access.clone(),
        pace: pace(settings),
        keys: RequestKeys::new(store),
        audit: audit.clone(),
        metrics: Arc::clone(metrics),
        diagnosis: diagnosis.clone(),
        spans: traces.spans().clone(),
    };
    let connections = http::Connections {
        metrics: Arc::clone(metrics),
        io,
        readiness,
    };
    let api = http::api::Api {
        access: access.clone(),
        channels: channels.clone(),
        chat: chat.clone(),
        market: market.clone(),
        notifications: notifications.clone(),
        connections: connections.clone(),
        log_level: log_level.clone(),
    };
    let routes = http::api::routes(api, blocks, audit.clone());
    let api = http::api::nest(routes, admission);
    let page = http::PageSettings {
        socket_path: settings.engine.http.path.clone(),
        guests: settings.guests(),
        login_url: settings.auth.login_url.clone(),
        logout_url: settings.auth.logout_url.clone(),
        market: settings.market.page,
        images: settings.page.images.clone(),
    };
    let mut router = http::router(connections.clone(), &page);
    // Metrics reveal the activity of the server, so they require a token here.
    if settings.server.has_metrics_token() {
        let figures = http::public_figures(connections, readers.clone());
        router = router.merge(figures);
    }
    let router = router.merge(api);
    let router = match settings.log.access {
        true => http::access_log::logged(router),
        false => router,
    };
    http::security::harden(router, &settings.server.tls)
}

/// Returns the routes of the admin listener.
pub(super) fn admin_router(
    services: &Services,
    readers: Readers,
    (store, blocks): (Store, Option<Blocks>),
    io: Io,
    readiness: Readiness,
    reach: Reach,
) -> Router {
    let connections = http::Connections {
        metrics: Arc::clone(&services.metrics),
        io,
        readiness,
    };
    let inventory = Arc::new(inventory::of(
        services,
        store,
        blocks,
        connections.io.clone(),
    ));
    let inventory = move || inventory();
    let router = http::admin_router(connections, readers, reach, inventory);
    // The listener has no TLS.
    http::security::harden(router, &config::Tls::default())
}

/// Returns the authentication of metrics readers.
pub(super) fn readers(
    settings: &Settings,
    services: &Services,
    file: Option<TokenFile>,
) -> Readers {
    let callers = callers(
        &services.authenticator,
        &services.access,
        Access::may_scrape,
    );
    let token = settings.server.metrics_token.as_ref();
    Readers::new(callers, token.map(Secret::expose), file)
}

/// Returns a function that authenticates callers of the HTTP API and checks that they may use it.
fn callers(
    authenticator: &Authenticator,
    access: &Access,
    may: fn(&Access, &Principal) -> bool,
) -> http::api::Callers {
    let (authenticator, access) = (authenticator.clone(), access.clone());
    Arc::new(move |authorization| {
        let (authenticator, access) = (authenticator.clone(), access.clone());
        Box::pin(async move {
            let caller = authenticator.caller(authorization.as_deref()).await;
            let caller = Arc::new(caller.map_err(CallerRefusal::Unauthenticated)?);
            if may(&access, &caller) {
                Ok(caller)
            } else {
                Err(CallerRefusal::Forbidden(caller))
            }
        })
    })
}

/// Returns the rate limit of API callers. Its metrics are discarded, because the API counts refused
/// calls itself.
fn pace(settings: &Settings) -> Users {
    let limits = config::Limits {
        requests_per_second: settings.limits.in_force().api_calls_per_second,
        users: CALLERS,
        ..config::Limits::default()
    };
    Users::new(&limits, Arc::default())
}

/// Maximum number of API callers with a rate limit entry.
const CALLERS: usize = 1000;
