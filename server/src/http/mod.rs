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

use std::sync::Arc;

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

pub use crate::service::api::{Losses, Readiness};
use health::websocket;
pub(crate) use health::websocket::Connections;

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
    let Connections {
        metrics,
        io,
        readiness,
    } = connections.clone();
    let router = Router::new()
        .route("/health/websocket", get(websocket::counts))
        .route(DETAILS, get(websocket::details))
        .with_state(connections)
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready).with_state(readiness))
        .route("/metrics", get(metrics_text).with_state((metrics, io)));
    page(router, settings)
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

/// Says as much as the metrics do.
const DETAILS: &str = "/health/websocket/detailed";

async fn metrics_text(State((metrics, io)): State<(Arc<Metrics>, Io)>) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let text = metrics.render_with(|out| io.expose_nodes(out));
    ([(header::CONTENT_TYPE, kind)], text)
}
