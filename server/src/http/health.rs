//! Whether the process lives, and whether clients should be sent to it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde::Serialize;

/// What readiness depends on. Cloning gives another handle.
#[derive(Clone)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
    store: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Readiness {
    /// Ready while `store` says that it can be written.
    pub fn new(store: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            draining: Arc::default(),
            store: Arc::new(store),
        }
    }

    /// From now on the server is not ready: it is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness")
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    store: &'static str,
    draining: bool,
}

pub(super) async fn live() -> impl IntoResponse {
    Json(Live { status: "ok" })
}

pub(super) async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let draining = readiness.draining.load(Ordering::Relaxed);
    let store = (readiness.store)();
    let (status, word) = if store && !draining {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let body = Ready {
        status: word,
        store: if store { "ok" } else { "unavailable" },
        draining,
    };
    (status, Json(body))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{http::router, metrics::Metrics};

    async fn status(readiness: &Readiness, path: &str) -> u16 {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let router = router(
            Arc::new(Metrics::default()),
            readiness.clone(),
            "/socket.io/",
        );
        router.oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_draining_server_lives_but_is_not_ready() {
        let readiness = Readiness::new(|| true);
        assert_eq!(status(&readiness, "/health/ready").await, 200);
        readiness.drain();
        assert_eq!(status(&readiness, "/health/ready").await, 503);
        assert_eq!(status(&readiness, "/health/live").await, 200);
    }

    #[tokio::test]
    async fn a_server_without_its_store_is_not_ready() {
        let readiness = Readiness::new(|| false);
        assert_eq!(status(&readiness, "/health/ready").await, 503);
    }
}
