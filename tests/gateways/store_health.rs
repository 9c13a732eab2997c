//! Readiness follows changes that fail or hang, and recovers without changes by clients.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use crate::client::Client;
#[cfg(feature = "postgres")]
use crate::guard::KEY;
#[cfg(feature = "postgres")]
use crate::market::{call, signal};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{LOBBY, Server};
use crate::support::RawClient;

/// Maximum time for a server to notice that changes fail. [`BUSY`] is added for a busy machine.
const NOTICED: Duration = Duration::from_secs(3);
const BUSY: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns whether the server is ready. If it is not, the store must be the reason.
async fn is_ready(address: SocketAddr) -> bool {
    let request = move || RawClient::connect(address).get("/health/ready");
    let answer = tokio::task::spawn_blocking(request).await.unwrap();
    let (status, store) = match answer.status {
        200 => (200, r#""store":"ok""#),
        _ => (503, r#""store":"unavailable""#),
    };
    assert_eq!(answer.status, status);
    assert!(answer.body.contains(store), "{}", answer.body);
    status == 200
}

/// Checks that the server stays unready while no client sends anything.
async fn stays_unready(address: SocketAddr) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        assert!(!is_ready(address).await);
    }
}

/// Waits until the server is ready or not, and returns how long that took.
async fn until_ready(address: SocketAddr, ready: bool) -> Duration {
    let start = Instant::now();
    while is_ready(address).await != ready {
        assert!(start.elapsed() < DEADLINE, "never {ready}");
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
    start.elapsed()
}

/// Sends messages and returns their ids; the caller counts the answers.
async fn send(client: &mut Client, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    for number in 0..count {
        let message = json!({"conversationId": LOBBY, "content": format!("{number}")});
        ids.push(client.request("message", message).await);
    }
    ids
}

/// Awaits the answers and returns the number of refusals.
async fn refusals(client: &mut Client, ids: Vec<u64>) -> i64 {
    let mut refused = 0;
    for id in ids {
        let answer = client.answer(id).await;
        refused += i64::from(answer["error"]["code"] == "STORE_UNAVAILABLE");
    }
    refused
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_of_postgresql_makes_the_server_unready() {
    let database = Database::apart();
    let server = database.server_with(&[
        ("ROOMCAST_STORE__STATEMENT_TIMEOUT", "4s"),
        ("ROOMCAST_STORE__RETRY_TIMEOUT", "1s"),
        ("ROOMCAST_STORE__ANSWER_TIMEOUT", "30s"),
    ]);
    let address = server.address();
    let mut ann = server.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    until_ready(address, true).await;
    let other = database.client().await;
    other
        .batch_execute("BEGIN; LOCK TABLE messages IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let ids = send(&mut ann, 8).await;
    let noticed = until_ready(address, false).await;
    assert!(noticed < NOTICED + BUSY, "{noticed:?}");
    let refused = refusals(&mut ann, ids).await;
    assert!(refused > 0);
    stays_unready(address).await;
    assert_eq!(server.metric("roomcast_store_errors_total").await, refused);
    other.batch_execute("ROLLBACK").await.unwrap();
    let recovered = until_ready(address, true).await;
    assert!(recovered < NOTICED + BUSY, "{recovered:?}");
    let message = json!({"conversationId": LOBBY, "content": "after"});
    ann.must("message", message).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn locked_tables_of_the_http_api_make_the_server_unready() {
    let database = Database::apart();
    let server = database.server_with(&[KEY, ("ROOMCAST_STORE__STATEMENT_TIMEOUT", "4s")]);
    let address = server.address();
    let other = database.client().await;
    // The probe of a database that does not store uses the first table, but not the second.
    for (table, headers, is_probed) in [
        ("journal_entries", "", true),
        ("api_keys", "Idempotency-Key: first\r\n", false),
    ] {
        until_ready(address, true).await;
        other
            .batch_execute(&format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE"))
            .await
            .unwrap();
        let body = signal(table, None).to_string();
        let publishing = call(&server, "service", "POST /signals", headers, &body);
        let ((status, answer), noticed) = tokio::join!(publishing, until_ready(address, false));
        assert!(noticed < NOTICED + BUSY, "{table}: {noticed:?}");
        assert_eq!(status, 503, "{table}: {answer}");
        if is_probed {
            stays_unready(address).await;
        }
        other.batch_execute("ROLLBACK").await.unwrap();
        let recovered = until_ready(address, true).await;
        assert!(recovered < NOTICED + BUSY, "{table}: {recovered:?}");
        let (status, answer) = call(&server, "service", "POST /signals", headers, &body).await;
        assert_eq!(status, 200, "{table}: {answer}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_running_and_waiting_reads() {
    const RUNNING: &str = "roomcast_store_connections";
    const WAITING: &str = "roomcast_store_waiting_reads";
    let database = Database::apart();
    let server = database.server_with(&[KEY, ("ROOMCAST_STORE__READERS", "2")]);
    let until_idle = async || {
        server.until_metric(RUNNING, |count| count == 0).await;
        server.until_metric(WAITING, |count| count == 0).await;
    };
    until_idle().await;
    // The pool has one connection more, for the health check.
    assert_eq!(server.metric("roomcast_store_connections_max").await, 3);
    let other = database.client().await;
    other
        .batch_execute("BEGIN; LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let read = async || call(&server, "admin", "GET /audit", "", "").await.0;
    let reads = async { tokio::join!(read(), read(), read(), read(), read()) };
    let released = async {
        server.until_metric(RUNNING, |count| count == 3).await;
        // Reads of the server itself wait as well.
        server.until_metric(WAITING, |count| count >= 2).await;
        other.batch_execute("ROLLBACK").await.unwrap();
    };
    let (statuses, ()) = tokio::join!(reads, released);
    assert_eq!(statuses, (200, 200, 200, 200, 200));
    until_idle().await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_makes_the_server_unready_until_it_is_granted() {
    let database = Database::apart();
    drop(database.server_with(&[]));
    let role = database.restricted_role("");
    let server = database.server_as(&role);
    let mut ann = server.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    database.sql(&format!("REVOKE INSERT ON messages FROM {role}"));
    let ids = send(&mut ann, 1).await;
    assert_eq!(refusals(&mut ann, ids).await, 1);
    let noticed = until_ready(server.address(), false).await;
    assert!(noticed < NOTICED + BUSY, "{noticed:?}");
    let reason = "permission denied for table messages";
    let remedy = "grant the right (see docs/storage.md)";
    server.expect_log(&["ERROR", "refuses changes", reason, remedy]);
    assert!(!server.log().contains("does not accept changes"));
    stays_unready(server.address()).await;
    database.sql(&format!("GRANT INSERT ON messages TO {role}"));
    until_ready(server.address(), true).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_postgresql_makes_the_server_unready() {
    let database = Database::apart();
    let server = database.server_with(&[]);
    let mut ann = server.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    let read_only = |value: &str| {
        // Sessions get it at once, as those of a server that an operator or a full disk protects.
        database.sql(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {value}"
        ));
        database.sql("SELECT pg_reload_conf()");
    };
    read_only("on");
    // Each connection of PostgreSQL reads the setting by itself.
    let changed = Instant::now();
    loop {
        let ids = send(&mut ann, 1).await;
        if refusals(&mut ann, ids).await == 1 {
            break;
        }
        assert!(changed.elapsed() < DEADLINE, "no message was refused");
    }
    let noticed = until_ready(server.address(), false).await;
    assert!(noticed < NOTICED + BUSY, "{noticed:?}");
    server.expect_log(&["read-only transaction"]);
    stays_unready(server.address()).await;
    // It still reads.
    let page = json!({"conversationId": LOBBY});
    ann.must("message_history", page).await;
    read_only("off");
    until_ready(server.address(), true).await;
    let message = json!({"conversationId": LOBBY, "content": "again"});
    ann.must("message", message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_sqlite_database_makes_the_server_unready() {
    let server = Server::with(&[("ROOMCAST_STORE__BUSY_TIMEOUT", "4s")]);
    let address = server.address();
    let mut ann = server.in_lobby("ann").await;
    until_ready(address, true).await;
    let other = server.database();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ids = send(&mut ann, 5).await;
    let noticed = until_ready(address, false).await;
    assert!(noticed < NOTICED + BUSY, "{noticed:?}");
    let refused = refusals(&mut ann, ids).await;
    assert!(refused > 0);
    stays_unready(address).await;
    // Changes that the server makes by itself are refused as well.
    let errors = server.metric("roomcast_store_errors_total").await;
    assert!(errors >= refused, "{errors} of at least {refused}");
    other.execute_batch("ROLLBACK").unwrap();
    // The attempt that waits for the lock ends with it.
    let recovered = until_ready(address, true).await;
    assert!(recovered < NOTICED + BUSY, "{recovered:?}");
}

/// Limits the size of the files that a server writes: a write beyond it fails, as on a full disk.
fn limit_files(server: &Server, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(server.binary.pid()).unwrap());
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_database_that_cannot_grow_makes_the_server_unready() {
    let server = Server::start();
    let address = server.address();
    let mut ann = server.in_lobby("ann").await;
    until_ready(address, true).await;
    // Less than any change takes.
    limit_files(&server, Some(1024));
    let ids = send(&mut ann, 5).await;
    let noticed = until_ready(address, false).await;
    assert!(noticed < NOTICED + BUSY, "{noticed:?}");
    assert_eq!(refusals(&mut ann, ids).await, 5);
    stays_unready(address).await;
    // Changes that the server makes by itself are refused as well.
    let errors = server.metric("roomcast_store_errors_total").await;
    assert!(errors >= 5, "{errors}");
    limit_files(&server, None);
    let recovered = until_ready(address, true).await;
    assert!(recovered < NOTICED + BUSY, "{recovered:?}");
    let message = json!({"conversationId": LOBBY, "content": "after"});
    let sent = ann.must("message", message).await;
    assert_eq!(sent["message"]["seq"], 1, "nothing refused was stored");
}
