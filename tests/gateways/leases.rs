//! Who is at other servers, and what becomes of the users of one that is killed or stands still.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::Client;
use crate::nodes::Database;
use crate::server::{Binary, LOBBY};

/// How long anything may take that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server whose lease is short.
fn server(database: &Database) -> Binary {
    database.server_with(&[("ROOMCAST_PRESENCE__LEASE", "1500ms")])
}

/// Two servers on one database, with Ann at the first and Bob at the second, who sees her.
async fn apart() -> (Database, Binary, Binary, Client, Client) {
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
async fn who_is_at_another_server_is_seen_and_gone_when_that_is_killed() {
    let (database, first, _second, mut ann, mut bob) = apart().await;
    until_present(&mut ann, &["ann", "bob"]).await;
    until(|| database.sql("SELECT count(*) FROM nodes") == "2").await;

    drop(first);
    let gone = bob.event("user_disconnected").await;
    assert_eq!(gone["userId"], ann.user_id());
    until_present(&mut bob, &["bob"]).await;
    until(|| database.sql("SELECT count(*) FROM nodes") == "1").await;
    until(|| database.sql("SELECT count(*) FROM presences") == "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stood_still_finds_that_its_lease_ran_out_and_tells_everything_again() {
    let (database, first, _second, mut ann, mut bob) = apart().await;
    let node = "SELECT node_id FROM presences WHERE name = 'ann'";
    let before = database.sql(node);

    first.pause();
    until_present(&mut bob, &["bob"]).await;
    until(|| database.sql("SELECT count(*) FROM nodes") == "1").await;
    first.go_on();
    first.expect_log(&["the lease ran out"]);
    until_present(&mut bob, &["ann", "bob"]).await;
    assert_ne!(database.sql(node), before, "under a new id");
    // Its clients did not notice.
    ann.must("message", content("still here")).await;
    until_present(&mut ann, &["ann", "bob"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_takes_its_users_with_it_at_once() {
    let database = Database::new();
    // Nobody waits for leases to run out here.
    let lease = ("ROOMCAST_PRESENCE__LEASE", "1h");
    let first = database.server_with(&[lease]);
    let mut ann = first.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    until(|| database.sql("SELECT count(*) FROM presences") == "1").await;
    first.terminate();
    assert_eq!(database.sql("SELECT count(*) FROM nodes"), "0");
    assert_eq!(database.sql("SELECT count(*) FROM presences"), "0");
}

/// Asks who is in the Lobby until these are, and no others.
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
        sleep(Duration::from_millis(50)).await; // The pace of asking.
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(50)).await; // The pace of asking.
    }
}

fn content(text: &str) -> Value {
    json!({"conversationId": LOBBY, "content": text})
}
