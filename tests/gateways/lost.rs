//! Lost and late publications, as the metrics report them.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::client::Client;
use crate::nodes::Database;
use crate::publications::{DEADLINE, publish, readiness};
use crate::server::{ServerProcess, UNLIMITED};
use crate::support::http::metric_text;

const EMITTED: &str = "roomcast_publications_total{result=\"emitted\"}";
const LOST: &str = "roomcast_publications_total{result=\"lost\"}";
const PENDING: &str = "roomcast_publications_pending";
const LAG: &str = "roomcast_follower_lag_seconds{follower=\"publications\"}";

/// Returns the value of a metric.
async fn metric(server: &ServerProcess, row: &str) -> f64 {
    let metrics = server.metrics().await;
    metric_text(&metrics, row).parse().unwrap()
}

/// Waits until a metric has this value.
async fn metric_is(server: &ServerProcess, row: &str, expected: f64) {
    let start = Instant::now();
    loop {
        let value = metric(server, row).await;
        if (value - expected).abs() < 0.5 {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{row} is {value}");
        sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

/// Publishes a number and waits until a client has received it.
async fn publish_and_expect(sql: &tokio_postgres::Client, client: &mut Client, n: i64) {
    publish(sql, "n", &n.to_string()).await;
    assert_eq!(client.event("n").await, json!(n));
}

/// Deletes publications up to this position. The retention of an hour is simulated by changing
/// their times.
async fn delete_retained(database: &Database, through: i64) {
    database.sql(&format!(
        "UPDATE publications SET numbered_at = now() - interval '2 h' WHERE position <= {through}"
    ));
    // A server deletes expired publications when it starts.
    let _beginning = database.server_with(&[]);
    let start = Instant::now();
    let left = format!("SELECT count(*) FROM publications WHERE position <= {through}");
    while database.sql(&left) != "0" {
        assert!(start.elapsed() < DEADLINE, "{}", database.sql(&left));
        sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_deleted_before_emission_count_as_lost() {
    let database = Database::new();
    // The client stays connected however long the server is suspended.
    let long_timeout = [("ROOMCAST_ENGINE__PING_TIMEOUT", "10min")];
    let (held_up, other) = (
        database.server_with(&long_timeout),
        database.server_with(&[]),
    );
    let sql = database.client().await;
    let mut ann = held_up.guest("ann").await;
    let mut bob = other.guest("bob").await;
    publish_and_expect(&sql, &mut bob, 1).await;
    assert_eq!(ann.event("n").await, json!(1));

    held_up.pause();
    for n in 2..=4 {
        publish_and_expect(&sql, &mut bob, n).await;
    }
    delete_retained(&database, 3).await;
    held_up.resume();
    assert_eq!(ann.event("n").await, json!(4));
    metric_is(&held_up, LOST, 2.0).await;

    // Also if everything that it has missed is deleted.
    held_up.pause();
    publish_and_expect(&sql, &mut bob, 5).await;
    delete_retained(&database, 5).await;
    held_up.resume();
    metric_is(&held_up, LOST, 3.0).await;
    publish_and_expect(&sql, &mut bob, 6).await;
    assert_eq!(ann.event("n").await, json!(6));
    metric_is(&held_up, EMITTED, 3.0).await;
    metric_is(&held_up, PENDING, 0.0).await;
    metric_is(&held_up, LOST, 3.0).await;
    held_up.expect_log(&["publications were deleted before this server emitted them"]);
    metric_is(&other, EMITTED, 6.0).await;
    metric_is(&other, LOST, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unemitted_publications_count_as_pending_and_late_ones_in_lag() {
    let database = Database::new();
    drop(database.server_with(&[]));
    // The server can read publications, but not store its position.
    let role = database.restricted_role("REVOKE INSERT, UPDATE ON publication_nodes FROM {role}");
    let url = database.url_as(&role);
    let own = [
        ("ROOMCAST_ADAPTER__URL", "none"),
        ("ROOMCAST_STORE__MIGRATE", "false"),
        ("ROOMCAST_NODE__ID", "a"),
        ("ROOMCAST_STORE", &url),
    ];
    let server = ServerProcess::start(database.folder(), &[UNLIMITED.as_slice(), &own].concat());
    let mut ann = server.guest("ann").await;
    let sql = database.client().await;
    sql.batch_execute(
        "SELECT roomcast_publish_to_everyone('n', to_jsonb(n)) FROM generate_series(1, 3) n",
    )
    .await
    .unwrap();
    metric_is(&server, PENDING, 3.0).await;
    let start = Instant::now();
    while readiness(&server).await["publications"] != json!("unavailable") {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(20)).await; // Poll interval.
    }
    metric_is(&server, EMITTED, 0.0).await;
    while metric(&server, LAG).await < 2.0 {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(20)).await; // Poll interval.
    }

    database.sql(&format!(
        "GRANT INSERT, UPDATE ON publication_nodes TO {role}"
    ));
    for n in 1..=3 {
        assert_eq!(ann.event("n").await, json!(n));
    }
    metric_is(&server, PENDING, 0.0).await;
    metric_is(&server, EMITTED, 3.0).await;
    metric_is(&server, LAG, 0.0).await;
    metric_is(&server, LOST, 0.0).await;
}
