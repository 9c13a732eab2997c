//! HTTP beside the Socket.IO path: health, metrics, and the chat page.
//!
//! This module reads the state of the server and owns no rule.

pub(crate) mod api;
pub(crate) mod blocks;
pub(crate) mod client_files;
mod health;
pub(crate) mod identity;
pub(crate) mod nodes;
#[cfg(feature = "ui")]
mod page;
pub(crate) mod presence;
pub(crate) mod scrape;
pub(crate) mod security;

use std::sync::Arc;

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};

pub use health::Readiness;

use crate::metrics::Metrics;
use roomcast::Io;

/// The routes of the binary. Unknown paths answer 404.
pub fn router(metrics: Arc<Metrics>, io: Io, readiness: Readiness, socket_path: &str) -> Router {
    let router = Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready).with_state(readiness))
        .route("/metrics", get(metrics_text).with_state((metrics, io)));
    page(router, socket_path)
}

#[cfg(feature = "ui")]
fn page(router: Router, socket_path: &str) -> Router {
    router.merge(page::routes(socket_path))
}

#[cfg(not(feature = "ui"))]
fn page(router: Router, _socket_path: &str) -> Router {
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
