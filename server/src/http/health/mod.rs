//! Health checks: whether the process is alive, and whether clients should be sent to it.
//!
//! `http` exposes these functions as routes for load balancers and operators. The responses use
//! only [`Readiness`] and metrics. This module must not query the database or wait, so that a
//! server that cannot serve still responds. `websocket` has public connection counts, and details
//! for readers of the metrics.

pub(super) mod websocket;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use roomcast::service::EndedTask;
use serde::Serialize;

use crate::service::api::{Readiness, word};

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    store: &'static str,
    /// The state of the adapter: none, working or unavailable.
    adapter: &'static str,
    /// Messages known to be lost in either direction.
    lost: u64,
    /// How often the server was isolated from its peers.
    gaps: u64,
    /// Total milliseconds during which it was isolated.
    #[serde(rename = "gapMs")]
    gap_ms: u64,
    /// The state of publications through the store: `none` if they are disabled or impossible.
    publications: &'static str,
    draining: bool,
    /// Tasks that ended unexpectedly.
    tasks: Vec<Task>,
}

/// A task. The log has the reason why it ended.
#[derive(Serialize)]
struct Task {
    name: &'static str,
    state: &'static str,
}

pub(super) async fn live() -> impl IntoResponse {
    Json(Live { status: "ok" })
}

pub(super) async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let draining = readiness.is_draining();
    let store = readiness.is_storing();
    let tasks: Vec<Task> = readiness.tasks().iter().map(task).collect();
    let losses = readiness.losses();
    let (status, status_text) = if store && !draining && tasks.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let body = Ready {
        status: status_text,
        store: word(store),
        adapter: readiness.adapter_word(),
        lost: losses.lost,
        gaps: losses.gaps,
        gap_ms: u64::try_from(losses.cut_off.as_millis()).unwrap_or(u64::MAX),
        publications: readiness.publications_word(),
        draining,
        tasks,
    };
    (status, Json(body))
}

fn task(ended: &EndedTask) -> Task {
    let state = if ended.is_restarted {
        "restarted"
    } else {
        "ended"
    };
    Task {
        name: ended.name,
        state,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::{body::Body, http::Request};
    use roomcast::internal::Tasks;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        http::{Connections, PageSettings, router},
        metrics::Metrics,
        service::api::Losses,
    };

    async fn status(readiness: &Readiness, path: &str) -> u16 {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let io = roomcast::Io::builder().namespace("/", |namespace| namespace);
        let connections = Connections {
            metrics: Arc::new(Metrics::default()),
            io: io.build().unwrap(),
            readiness: readiness.clone(),
        };
        let router = router(connections, &PageSettings::default());
        router.oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn draining_server_is_live_but_not_ready() {
        let readiness = Readiness::new(|| true, Vec::new, || None, || None);
        assert_eq!(status(&readiness, "/health/ready").await, 200);
        readiness.drain();
        assert_eq!(status(&readiness, "/health/ready").await, 503);
        assert_eq!(status(&readiness, "/health/live").await, 200);
    }

    #[tokio::test]
    async fn server_with_an_ended_task_is_not_ready_and_names_the_task() {
        let tasks = Tasks::new(Arc::default());
        let ended = {
            let tasks = tasks.clone();
            move || tasks.ended()
        };
        let readiness = Readiness::new(|| true, ended, || Some(true), || None);
        assert_eq!(status(&readiness, "/health/ready").await, 200);
        let task = tasks.once("emission", async { panic!("killed by a test") });
        assert!(task.await.is_err());
        let answer = ready(State(readiness)).await.into_response();
        assert_eq!(answer.status(), 503);
        let body = axum::body::to_bytes(answer.into_body(), 1000)
            .await
            .unwrap();
        let expected = r#"{"status":"unavailable","store":"ok","adapter":"ok","lost":0,"gaps":0,"gapMs":0,"publications":"none","draining":false,"tasks":[{"name":"emission","state":"ended"}]}"#;
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn a_server_without_its_store_is_not_ready() {
        let readiness = Readiness::new(|| false, Vec::new, || None, || None);
        assert_eq!(status(&readiness, "/health/ready").await, 503);
    }

    #[tokio::test]
    async fn server_with_a_failed_adapter_reports_it_and_is_ready() {
        let readiness =
            Readiness::new(|| true, Vec::new, || Some(false), || None).counting(|| Losses {
                lost: 7,
                gaps: 2,
                cut_off: Duration::from_millis(1_500),
            });
        let answer = ready(State(readiness)).await.into_response();
        assert_eq!(answer.status(), 200);
        let body = axum::body::to_bytes(answer.into_body(), 1000)
            .await
            .unwrap();
        let expected = r#"{"status":"ok","store":"ok","adapter":"unavailable","lost":7,"gaps":2,"gapMs":1500,"publications":"none","draining":false,"tasks":[]}"#;
        assert_eq!(body, expected);
    }
}
