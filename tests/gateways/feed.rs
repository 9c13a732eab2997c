//! What is changed in the database that several servers share, by whomever, holds at all of them.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::client::Client;
use crate::nodes::Database;
use crate::server::Binary;
use crate::support::RawClient;

/// How long anything may take that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a server of the version before writes to revoke a user.
fn revoke(user: &str) -> String {
    format!("INSERT INTO revocations VALUES ('user', '{user}', '2100-01-01', now())")
}

/// Whether a guest of this name is let in.
async fn is_let_in(server: &Binary, name: &str) -> bool {
    let auth = json!({"name": name, "guestKey": format!("the key of {name:>8}")});
    Client::connect(server.address(), &auth).await.is_ok()
}

async fn until_let_in(server: &Binary, name: &str) {
    let start = Instant::now();
    while !is_let_in(server, name).await {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(20)).await; // The pace of asking.
    }
}

async fn until_blocks(server: &Binary, count: usize) {
    let (address, start) = (server.admin(), Instant::now());
    let row = format!("\nroomcast_blocks {count}\n");
    loop {
        let asked = move || RawClient::connect(address).get("/metrics").body;
        let metrics = tokio::task::spawn_blocking(asked).await.unwrap();
        if metrics.contains(&row) {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{metrics}");
        sleep(Duration::from_millis(20)).await; // The pace of asking.
    }
}

/// Waits until the server has disconnected a client.
pub(crate) async fn until_gone(client: &mut Client) {
    while client.packet().await != "41" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_and_deleted_in_the_tables_alone_holds_at_every_server() {
    let database = Database::new();
    let servers = [database.server_with(&[]), database.server_with(&[])];
    let mut anns = [servers[0].guest("ann").await, servers[1].guest("ann").await];
    database.sql(&revoke(&anns[0].user_id()));
    for (server, ann) in servers.iter().zip(&mut anns) {
        until_gone(ann).await;
        assert!(!is_let_in(server, "ann").await);
        assert!(is_let_in(server, "bob").await);
    }
    database.sql("DELETE FROM revocations");
    for server in &servers {
        until_let_in(server, "ann").await;
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
async fn what_is_revoked_does_not_wait_for_news_of_conversations() {
    let database = Database::apart();
    // Nobody gives up reading.
    let server = database.server_with(&[
        ("ROOMCAST_STORE__STATEMENT_TIMEOUT", "1h"),
        ("ROOMCAST_STORE__ANSWER_TIMEOUT", "1h"),
    ]);
    let mut ann = server.guest("ann").await;
    // From here on it reads what changes, and not the tables.
    let mut carl = server.guest("carl").await;
    database.sql(&revoke(&carl.user_id()));
    until_gone(&mut carl).await;
    // What has changed in conversations cannot be read.
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
        sleep(Duration::from_millis(10)).await; // The pace of asking.
    }
    database.sql(&revoke(&ann.user_id()));
    until_gone(&mut ann).await;
    locking.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_fallen_behind_what_is_kept_reads_everything_again() {
    let database = Database::new();
    let server = database.server_with(&[]);
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    database.sql(&revoke(&bob.user_id()));
    until_gone(&mut bob).await;
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
    // As others do after a while.
    database.sql("DELETE FROM changes; UPDATE changes_kept SET since = pg_current_xact_id()");
    server.go_on();
    server.expect_log(&["reading everything again"]);
    until_gone(&mut ann).await;
    assert!(!is_let_in(&server, "ann").await);
    until_let_in(&server, "bob").await;
    until_blocks(&server, 2).await;

    // From there on it reads what has changed.
    database.sql("DELETE FROM revocations");
    until_let_in(&server, "ann").await;
    let log = server.log();
    assert_eq!(log.matches("reading everything again").count(), 1, "{log}");
}
