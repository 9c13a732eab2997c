//! The HTTP routes of the binary, and who may call them.

use std::sync::Arc;

use axum::Router;

use super::services::Services;
use crate::auth::{Principal, authenticator::Authenticator};
use crate::config::{self, Settings};
use crate::http::{self, Readiness, api::Turned};
use crate::limit::Users;
use crate::service::api::RequestKeys;
use crate::service::{Access, Blocks};
use crate::store::Store;
use roomcast::Io;

/// All routes, with what browsers are told of their answers. Without a guard of addresses there is no list of blocks.
pub(super) fn router(
    settings: &Settings,
    services: &Services,
    store: Store,
    io: Io,
    blocks: Option<Blocks>,
    readiness: Readiness,
) -> Router {
    let Services {
        access,
        authenticator,
        chat,
        market,
        metrics,
        notifications,
        ..
    } = services;
    let admission = http::api::Admission {
        callers: callers(authenticator, access, Access::may_call),
        access: access.clone(),
        pace: pace(settings),
        keys: RequestKeys::new(store),
        metrics: Arc::clone(metrics),
    };
    let connections = http::Connections {
        metrics: Arc::clone(metrics),
        io,
        readiness,
    };
    let api = http::api::Api {
        access: access.clone(),
        chat: chat.clone(),
        market: market.clone(),
        notifications: notifications.clone(),
        connections: connections.clone(),
    };
    let routes = http::api::routes(api, blocks);
    let api = http::api::nest(routes, admission);
    let page = http::PageSettings {
        socket_path: settings.engine.http.path.clone(),
        guests: settings.guests(),
        login_url: settings.auth.login_url.clone(),
        logout_url: settings.auth.logout_url.clone(),
        market: settings.market.page,
        images: settings.page.images.clone(),
    };
    let mut router = http::router(connections, &page);
    // The metrics tell how much happens here, which is not everybody's business unless somebody
    // says so.
    if !settings.server.open_metrics {
        let scrapers = callers(authenticator, access, Access::may_scrape);
        router = http::scrape::limit(router, scrapers);
    }
    http::security::harden(router.merge(api))
}

/// Authenticates callers of the HTTP API, or of a part of it.
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
            let caller = caller.map_err(Turned::Unauthenticated)?;
            if may(&access, &caller) {
                Ok(Arc::new(caller))
            } else {
                Err(Turned::Forbidden(caller.subject))
            }
        })
    })
}

/// How often each caller may call the HTTP API. What is one too many, the API counts.
fn pace(settings: &Settings) -> Users {
    let limits = config::Limits {
        requests_per_second: settings.limits.in_force().api_calls_per_second,
        users: CALLERS,
        ..config::Limits::default()
    };
    Users::new(&limits, Arc::default())
}

/// Callers of the HTTP API that are remembered; past that the longest unseen ones are forgotten.
const CALLERS: usize = 1000;
