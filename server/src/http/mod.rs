//! HTTP beside the Socket.IO path: the API of services, health, metrics, and the chat page.
//!
//! This module reads the state of the server and owns no rule.

pub(crate) mod api;
pub(crate) mod client_files;
mod health;
mod market;
#[cfg(feature = "ui")]
mod page;
pub(crate) mod scrape;
pub(crate) mod security;
mod withdrawals;

use std::sync::Arc;

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

pub use crate::service::api::{Losses, Readiness};
use health::websocket;
pub(crate) use health::websocket::Connections;
use scrape::{Reach, Readers};

use crate::metrics::Metrics;
use roomcast::Io;

/// What the page has to know of the server.
#[derive(Clone, Debug, Default)]
pub struct PageSettings {
    /// Where Engine.IO listens.
    pub socket_path: String,
    /// Whether guests may enter.
    pub guests: bool,
    /// Where others sign in.
    pub login_url: Option<String>,
    /// Where they sign out.
    pub logout_url: Option<String>,
    /// Whether the page leads all users to its trading page.
    pub market: bool,
    /// Origins whose pictures it shows, as browsers write origins.
    pub images: Vec<String>,
}

/// The routes of the binary. Unknown paths answer 404.
pub(crate) fn router(connections: Connections, settings: &PageSettings) -> Router {
    page(health_routes(connections), settings)
}

/// What load balancers may ask.
fn health_routes(connections: Connections) -> Router {
    let readiness = connections.readiness.clone();
    Router::new()
        .route("/health/websocket", get(websocket::counts))
        .with_state(connections)
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready).with_state(readiness))
}

/// The routes of the listener for operators.
pub(crate) fn admin_router(connections: Connections, readers: Readers, reach: Reach) -> Router {
    let figures = scrape::limit(figures(connections.clone()), readers, reach);
    health_routes(connections).merge(figures)
}

/// The figures for readers with a token, at the listener for all.
pub(crate) fn public_figures(connections: Connections, readers: Readers) -> Router {
    scrape::limit(figures(connections), readers, Reach::Network)
}

/// What tells how much happens here.
fn figures(connections: Connections) -> Router {
    let state = (Arc::clone(&connections.metrics), connections.io.clone());
    Router::new()
        .route("/health/websocket/detailed", get(websocket::details))
        .with_state(connections)
        .route("/metrics", get(metrics_text).with_state(state))
}

#[cfg(feature = "ui")]
fn page(router: Router, settings: &PageSettings) -> Router {
    router.merge(page::routes(settings))
}

#[cfg(not(feature = "ui"))]
fn page(router: Router, _settings: &PageSettings) -> Router {
    router.route(
        "/",
        get(|| async { "built without the chat page (feature `ui`)\n" }),
    )
}

async fn metrics_text(State((metrics, io)): State<(Arc<Metrics>, Io)>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let text = metrics.render_with(|out| io.expose_nodes(out));
    ([(header::CONTENT_TYPE, kind)], text)
}
