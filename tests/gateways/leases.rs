//! Presence of users at other servers, also of a server that is killed or suspended.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::Client;
use crate::nodes::Database;
use crate::server::{LOBBY, ServerProcess};

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Starts a server with a short lease.
fn server(database: &Database) -> ServerProcess {
    database.server_with(&[("ROOMCAST_PRESENCE__LEASE", "1500ms")])
}

/// Starts two servers on one database, with Ann at the first, and Bob, who sees her, at the second.
async fn two_servers() -> (Database, ServerProcess, ServerProcess, Client, Client) {
    let database = Database::new();
    let first = server(&database);
    let second = server(&database);
    let mut ann = first.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    let mut bob = second.guest("bob").await;
    bob.must("join_conversation", json!(LOBBY)).await;
    until_present(&mut bob, &["ann", "bob"]).await;
    (database, first, second, ann, bob)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_killed_server_disappear_from_presence() {
    let (database, first, _second, mut ann, mut bob) = two_servers().await;
    until_present(&mut ann, &["ann", "bob"]).await;
    until(|| database.sql("SELECT count(*) FROM nodes") == "2").await;

    drop(first);
    let departure = bob.event("user_disconnected").await;
    assert_eq!(departure["userId"], ann.user_id());
    until_present(&mut bob, &["bob"]).await;
    until(|| database.sql("SELECT count(*) FROM nodes") == "1").await;
    until(|| database.sql("SELECT count(*) FROM presences") == "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_server_publishes_all_users_after_lease_expiry() {
    let (database, first, _second, mut ann, mut bob) = two_servers().await;
    let node = "SELECT node_id FROM presences WHERE name = 'ann'";
    let before = database.sql(node);

    first.pause();
    until_present(&mut bob, &["bob"]).await;
    until(|| database.sql("SELECT count(*) FROM nodes") == "1").await;
    first.resume();
    first.expect_log(&["presence lease expired"]);
    until_present(&mut bob, &["ann", "bob"]).await;
    assert_ne!(database.sql(node), before, "under a new id");
    // Its clients did not notice.
    ann.must("message", content("still here")).await;
    until_present(&mut ann, &["ann", "bob"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_removes_its_users_immediately() {
    let database = Database::new();
    // A long lease, so that no expiry is involved.
    let lease = ("ROOMCAST_PRESENCE__LEASE", "1h");
    let first = database.server_with(&[lease]);
    let mut ann = first.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    until(|| database.sql("SELECT count(*) FROM presences") == "1").await;
    first.terminate();
    assert_eq!(database.sql("SELECT count(*) FROM nodes"), "0");
    assert_eq!(database.sql("SELECT count(*) FROM presences"), "0");
}

/// Requests the users in the Lobby until they are exactly these.
async fn until_present(client: &mut Client, names: &[&str]) {
    let start = Instant::now();
    loop {
        let ask = json!({"conversationId": LOBBY});
        let answer = client.must("presence", ask).await;
        let users = answer["users"].as_array().unwrap();
        let mut here: Vec<&str> = users.iter().map(|u| u["name"].as_str().unwrap()).collect();
        here.sort_unstable();
        if here == names {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{answer}");
        sleep(Duration::from_millis(50)).await; // Poll interval.
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(50)).await; // Poll interval.
    }
}

fn content(text: &str) -> Value {
    json!({"conversationId": LOBBY, "content": text})
}
