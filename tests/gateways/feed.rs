//! Changes in the database that several servers share apply at all of them, whichever program makes
//! them.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::client::Client;
use crate::nodes::Database;
use crate::server::ServerProcess;
use crate::support::RawClient;

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns the SQL with which another program revokes a user.
fn revoke(user: &str) -> String {
    format!("INSERT INTO revocations VALUES ('user', '{user}', '2100-01-01', now())")
}

/// Returns whether a guest of this name is admitted.
async fn is_admitted(server: &ServerProcess, name: &str) -> bool {
    let auth = json!({"name": name, "guestKey": format!("the key of {name:>8}")});
    Client::connect(server.address(), &auth).await.is_ok()
}

async fn until_admitted(server: &ServerProcess, name: &str) {
    let start = Instant::now();
    while !is_admitted(server, name).await {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

async fn until_blocks(server: &ServerProcess, count: usize) {
    let (address, start) = (server.admin(), Instant::now());
    let row = format!("\nroomcast_blocks {count}\n");
    loop {
        let request = move || RawClient::connect(address).get("/metrics").body;
        let metrics = tokio::task::spawn_blocking(request).await.unwrap();
        if metrics.contains(&row) {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{metrics}");
        sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

/// Waits until the server has disconnected a client.
pub(crate) async fn until_disconnected(client: &mut Client) {
    while client.packet().await != "41" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_table_changes_apply_at_every_server() {
    let database = Database::new();
    let servers = [database.server_with(&[]), database.server_with(&[])];
    let mut anns = [servers[0].guest("ann").await, servers[1].guest("ann").await];
    database.sql(&revoke(&anns[0].user_id()));
    for (server, ann) in servers.iter().zip(&mut anns) {
        until_disconnected(ann).await;
        assert!(!is_admitted(server, "ann").await);
        assert!(is_admitted(server, "bob").await);
    }
    database.sql("DELETE FROM revocations");
    for server in &servers {
        until_admitted(server, "ann").await;
    }
    for address in ["192.0.2.1", "192.0.2.2"] {
        database.sql(&format!(
            "INSERT INTO blocks VALUES
                 (gen_random_uuid(), '{address}', 'tests', 'admin', now(), '2100-01-01')"
        ));
    }
    for server in &servers {
        until_blocks(server, 2).await;
    }
    for (change, left) in [
        ("UPDATE blocks SET id = gen_random_uuid()", 2),
        ("DELETE FROM blocks WHERE cidr = '192.0.2.1'", 1),
        ("TRUNCATE blocks", 0),
    ] {
        database.sql(change);
        for server in &servers {
            until_blocks(server, left).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_do_not_wait_for_conversation_changes() {
    let database = Database::apart();
    // Long timeouts, so that reads never give up.
    let server = database.server_with(&[
        ("ROOMCAST_STORE__STATEMENT_TIMEOUT", "1h"),
        ("ROOMCAST_STORE__ANSWER_TIMEOUT", "1h"),
    ]);
    let mut ann = server.guest("ann").await;
    // From here on the server reads the feed, and no longer the whole tables.
    let mut carl = server.guest("carl").await;
    database.sql(&revoke(&carl.user_id()));
    until_disconnected(&mut carl).await;
    // The changes of conversations cannot be read now.
    let locking = database.client().await;
    let lock = "BEGIN; LOCK TABLE conversation_changes IN ACCESS EXCLUSIVE MODE";
    locking.batch_execute(lock).await.unwrap();
    let conversation = uuid::Uuid::new_v4();
    database.sql(&format!(
        "INSERT INTO changes (topic, key) VALUES ('conversations', '{conversation}:1:0')"
    ));
    let start = Instant::now();
    while database.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "0" {
        assert!(start.elapsed() < DEADLINE, "nobody reads them");
        sleep(Duration::from_millis(10)).await; // Poll interval.
    }
    database.sql(&revoke(&ann.user_id()));
    until_disconnected(&mut ann).await;
    locking.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn server_lagging_beyond_retained_changes_reads_everything() {
    let database = Database::new();
    let server = database.server_with(&[]);
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    database.sql(&revoke(&bob.user_id()));
    until_disconnected(&mut bob).await;
    database.sql(
        "INSERT INTO blocks VALUES (gen_random_uuid(), '192.0.2.1', 'tests', 'admin', now(), NULL)",
    );
    until_blocks(&server, 1).await;

    server.pause();
    let (ann_id, revoke_ann) = (ann.user_id(), revoke(&ann.user_id()));
    database.sql(&format!(
        "{revoke_ann};
         DELETE FROM revocations WHERE value <> '{ann_id}';
         DELETE FROM blocks;
         INSERT INTO blocks VALUES
             (gen_random_uuid(), '192.0.2.2', 'tests', 'admin', now(), NULL),
             (gen_random_uuid(), '192.0.2.3', 'tests', 'admin', now(), NULL)"
    ));
    // As the job of another server does after a while: it deletes what no open transaction
    // precedes. Transactions in other databases of this PostgreSQL count as well.
    let last = database.sql("SELECT pg_current_xact_id()");
    let is_over = format!("SELECT pg_snapshot_xmin(pg_current_snapshot()) > '{last}'::xid8");
    let start = Instant::now();
    while database.sql(&is_over) != "t" {
        assert!(start.elapsed() < DEADLINE, "a transaction stays open");
        sleep(Duration::from_millis(10)).await; // Poll interval.
    }
    database.sql(
        "DELETE FROM changes;
         UPDATE changes_kept SET since = pg_snapshot_xmin(pg_current_snapshot())",
    );
    server.resume();
    server.expect_log(&["reloading everything"]);
    until_disconnected(&mut ann).await;
    assert!(!is_admitted(&server, "ann").await);
    until_admitted(&server, "bob").await;
    until_blocks(&server, 2).await;

    // From then on it reads the feed.
    database.sql("DELETE FROM revocations");
    until_admitted(&server, "ann").await;
    let log = server.log();
    assert_eq!(log.matches("reloading everything").count(), 1, "{log}");
}
