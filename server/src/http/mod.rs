//! HTTP apart from the Socket.IO path: the API for services, health, metrics, and the chat page.
//!
//! This module reads the state of the server and contains no rules.

pub(crate) mod access_log;
pub(crate) mod api;
mod channels;
pub(crate) mod client_files;
mod forwarding;
mod health;
mod market;
#[cfg(feature = "ui")]
mod page;
pub(crate) mod scrape;
pub(crate) mod security;
mod trace;
mod user_data;

use axum::{Json, Router, extract::State, http::header, response::IntoResponse, routing::get};

use crate::metrics::Inventory;
pub use crate::service::api::{Losses, Readiness};
use health::websocket;
pub(crate) use health::websocket::Connections;
use scrape::{Reach, Readers};

use roomcast::Io;

/// The settings of the server that the page needs.
#[derive(Clone, Debug, Default)]
pub struct PageSettings {
    /// The path of Engine.IO.
    pub socket_path: String,
    /// Whether guests are admitted.
    pub guests: bool,
    /// The URL at which users sign in.
    pub login_url: Option<String>,
    /// The URL at which users sign out.
    pub logout_url: Option<String>,
    /// Whether the page links to the trading page for all users.
    pub market: bool,
    /// Origins of images that the page may show, in the form that browsers use.
    pub images: Vec<String>,
}

/// Returns the routes of the server. Unknown paths return 404.
pub(crate) fn router(connections: Connections, settings: &PageSettings) -> Router {
    page(health_routes(connections), settings)
}

/// Returns the routes for load balancers.
fn health_routes(connections: Connections) -> Router {
    let readiness = connections.readiness.clone();
    Router::new()
        .route("/health/websocket", get(websocket::counts))
        .with_state(connections)
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready).with_state(readiness))
}

/// Returns the routes of the admin listener.
pub(crate) fn admin_router(
    connections: Connections,
    readers: Readers,
    reach: Reach,
    inventory: impl Fn() -> Inventory + Clone + Send + Sync + 'static,
) -> Router {
    let report = get(move || async move { Json(inventory()) });
    let figures = figures(connections.clone()).route("/debug/inventory", report);
    let figures = scrape::limit(figures, readers, reach);
    health_routes(connections).merge(figures)
}

/// Returns the metrics routes for the public listener. Every reader needs a token.
pub(crate) fn public_figures(connections: Connections, readers: Readers) -> Router {
    scrape::limit(figures(connections), readers, Reach::Network)
}

/// Returns the routes for metrics and connection details.
fn figures(connections: Connections) -> Router {
    let io = connections.io.clone();
    Router::new()
        .route("/health/websocket/detailed", get(websocket::details))
        .with_state(connections)
        .route("/metrics", get(metrics_text).with_state(io))
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

async fn metrics_text(State(io): State<Io>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], io.metrics().render())
}
