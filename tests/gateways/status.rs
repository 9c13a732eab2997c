//! Statuses that users set, and which users receive them.

use std::collections::BTreeSet;
#[cfg(feature = "postgres")]
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
#[cfg(feature = "postgres")]
use crate::nodes::Database;
#[cfg(feature = "postgres")]
use crate::postgres::Postgres;
#[cfg(feature = "postgres")]
use crate::server::ServerProcess;
use crate::server::{LOBBY, Server};

/// Sets a status, and returns the acknowledgement without `success`, which equals the event for
/// other users.
async fn say(client: &mut Client, status: &str, text: Option<&str>) -> Value {
    let mut said = client
        .must("set_status", json!({"status": status, "text": text}))
        .await;
    said.as_object_mut().unwrap().remove("success");
    let user = client.user_id();
    let mut expected = json!({"userId": user, "status": status, "timestamp": said["timestamp"]});
    if let Some(text) = text {
        expected["text"] = json!(text);
    }
    assert_eq!(said, expected);
    said
}

#[tokio::test]
async fn status_reaches_only_conversation_partners_and_own_tabs() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut tab = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut eve = server.guest("eve").await;
    let id = server.conversation(&[&ann, &bob]).await;
    let other = server.conversation(&[&eve]).await;
    // Ann has not joined it herself.
    bob.must("join_conversation", json!(id)).await;
    eve.must("join_conversation", json!(other)).await;
    let said = say(&mut ann, "busy", Some("in a meeting")).await;
    for one in [&mut tab, &mut bob] {
        assert_eq!(one.event("status").await, said);
    }
    let later = say(&mut ann, "online", None).await;
    assert!(later["timestamp"].as_str() > said["timestamp"].as_str());
    assert_eq!(bob.event("status").await, later);
    assert!(eve.events_until_now("status").await.is_empty());
    assert!(ann.events_until_now("status").await.is_empty());
}

#[tokio::test]
async fn status_reaches_all_joined_users_of_an_open_conversation() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let said = say(&mut ann, "away", None).await;
    assert_eq!(bob.event("status").await, said);
}

#[tokio::test]
async fn later_user_reads_statuses_by_joining_or_by_request() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut eve = server.guest("eve").await;
    let id = server.conversation(&[&ann, &bob]).await;
    let joined = bob.must("join_conversation", json!(id)).await;
    assert_eq!(joined["statuses"], json!([]), "nobody has said anything");
    let said = say(&mut ann, "offline", Some("until Monday \u{2600}\u{fe0f}")).await;
    let joined = bob.must("join_conversation", json!(id)).await;
    assert_eq!(joined["statuses"], json!([said]));
    let ask = json!({"conversationId": id});
    let requests = bob.must("statuses", ask.clone()).await;
    let expected = json!({"success": true, "conversationId": id, "statuses": [said]});
    assert_eq!(requests, expected);
    eve.refused("statuses", ask, "NOT_FOUND").await;
    // Presence is independent of statuses.
    ann.must("join_conversation", json!(id)).await;
    let here = bob.must("presence", json!({"conversationId": id})).await;
    assert_eq!(here["count"], 2);
    // For a conversation without members, the answer has the users who have joined.
    ann.must("join_conversation", json!(LOBBY)).await;
    let requests = bob.must("statuses", json!({"conversationId": LOBBY})).await;
    assert_eq!(requests["statuses"], json!([said]));
}

#[tokio::test]
async fn returning_user_keeps_its_status() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    assert!(ann.session.get("status").is_none());
    let said = say(&mut ann, "busy", Some("writing")).await;
    let tab = server.guest("ann").await;
    assert_eq!(tab.session["status"], said);
    tab.disconnect().await;
    ann.disconnect().await;
    let mut back = server.guest("ann").await;
    assert_eq!(back.session["status"], said);
    say(&mut back, "online", None).await;
    let tab = server.guest("ann").await;
    assert_eq!(tab.session["status"]["status"], "online");
}

#[tokio::test]
async fn status_survives_a_restart() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let said = say(&mut ann, "busy", Some("writing")).await;
    let server = server.restart(&[]);
    let mut back = server.guest("ann").await;
    assert_eq!(back.session["status"], said);
    assert_eq!(say(&mut back, "busy", Some("writing")).await, said);
    let later = say(&mut back, "away", None).await;
    assert!(later["timestamp"].as_str() > said["timestamp"].as_str());
}

#[tokio::test]
async fn repeated_status_is_acknowledged_without_an_event() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.in_lobby("bob").await;
    say(&mut ann, "online", None).await;
    let said = say(&mut ann, "away", None).await;
    assert_eq!(say(&mut ann, "away", None).await, said);
    assert_eq!(bob.event("status").await, said);
    assert!(bob.events_until_now("status").await.is_empty());
}

#[tokio::test]
async fn latest_of_concurrent_statuses_wins_in_all_tabs() {
    let server = Server::start();
    let mut bob = server.in_lobby("bob").await;
    let mut tabs = Vec::new();
    for _ in 0..8 {
        tabs.push(server.guest("ann").await);
    }
    let mut times = BTreeSet::new();
    let (mut newest, mut count) = (Value::Null, 0);
    for round in 0..5 {
        let mut requests = Vec::new();
        for (n, tab) in tabs.iter_mut().enumerate() {
            let text = format!("{round} {n}");
            let status = json!({"status": "busy", "text": text});
            requests.push(tab.request("set_status", status).await);
        }
        for (tab, id) in tabs.iter_mut().zip(requests) {
            let answer = tab.answer(id).await;
            let time = answer["timestamp"].as_str().unwrap().to_owned();
            assert!(times.insert(time), "{answer}");
            count += 1;
            if Some(answer["timestamp"].as_str().unwrap()) == times.last().map(String::as_str) {
                newest = answer;
            }
        }
    }
    assert_eq!(times.len(), count, "no two changes have one time");
    newest.as_object_mut().unwrap().remove("success");
    while bob.event("status").await != newest {}
    assert!(bob.events_until_now("status").await.is_empty());
}

/// Starts two servers on one database, with this adapter.
#[cfg(feature = "postgres")]
fn two(adapter: Option<&str>) -> (Database, ServerProcess, ServerProcess) {
    let database = Database::new();
    let url = database.url().to_owned();
    let adapter = ("ROOMCAST_ADAPTER__URL", adapter.unwrap_or(&url));
    let lease = ("ROOMCAST_PRESENCE__LEASE", "1500ms");
    let server = || database.server_with(&[adapter, lease]);
    let (first, second) = (server(), server());
    (database, first, second)
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn status_is_the_same_at_all_servers_with_any_adapter() {
    for adapter in [None, Some("none")] {
        let (_database, first, second) = two(adapter);
        let mut ann = first.guest("ann").await;
        let mut tab = second.guest("ann").await;
        let mut bob = second.guest("bob").await;
        bob.must("join_conversation", json!(LOBBY)).await;
        let said = say(&mut ann, "busy", Some("in a meeting")).await;
        assert_eq!(bob.event("status").await, said);
        assert_eq!(tab.event("status").await, said);
        let back = say(&mut tab, "online", None).await;
        assert!(back["timestamp"].as_str() > said["timestamp"].as_str());
        assert_eq!(ann.event("status").await, back);
        assert_eq!(bob.event("status").await, back);
        assert!(bob.events_until_now("status").await.is_empty(), "each once");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_statuses_at_two_servers_converge() {
    for adapter in [None, Some("none")] {
        let (_database, first, second) = two(adapter);
        let mut watchers = Vec::new();
        for server in [&first, &second] {
            let mut watcher = server.guest("bob").await;
            watcher.must("join_conversation", json!(LOBBY)).await;
            watchers.push(watcher);
        }
        let mut tabs = [first.guest("ann").await, second.guest("ann").await];
        let mut times = BTreeSet::new();
        for round in 0..20 {
            let mut requests = Vec::new();
            for (n, tab) in tabs.iter_mut().enumerate() {
                let status = json!({"status": "busy", "text": format!("{round} {n}")});
                requests.push(tab.request("set_status", status).await);
            }
            for (tab, id) in tabs.iter_mut().zip(requests) {
                let answer = tab.answer(id).await;
                assert_eq!(answer["success"], true, "{answer}");
                let time = answer["timestamp"].as_str().unwrap().to_owned();
                assert!(times.insert(time), "no two changes have one time: {answer}");
            }
        }
        for watcher in &mut watchers {
            let mut last = String::new();
            while Some(&last) != times.last() {
                let received = watcher.event("status").await["timestamp"].clone();
                let received = received.as_str().unwrap().to_owned();
                assert!(received > last, "each server tells them in their order");
                last = received;
            }
        }
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn status_arrives_within_the_promise_during_an_adapter_outage() {
    let broker = Postgres::start();
    let url = broker.database();
    let (_database, first, second) = two(Some(&url));
    let mut bob = second.guest("bob").await;
    bob.must("join_conversation", json!(LOBBY)).await;
    let mut people = Vec::new();
    for n in 0..6 {
        people.push(first.guest(&format!("user {n}")).await);
    }
    for server in [&first, &second] {
        server.until_joined(true).await;
    }
    broker.kill();
    for server in [&first, &second] {
        server.until_joined(false).await;
    }
    let start = Instant::now();
    let mut said = BTreeSet::new();
    for one in &mut people {
        said.insert(say(one, "busy", Some("cut off")).await.to_string());
    }
    let mut received = BTreeSet::new();
    while received.len() < said.len() {
        received.insert(bob.event("status").await.to_string());
    }
    // The promise is a second; a slow or busy machine may take longer.
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(received, said);
    broker.restart();
    for server in [&first, &second] {
        server.until_joined(true).await;
    }
    let back = say(&mut people[0], "online", None).await;
    assert_eq!(bob.event("status").await, back);
    assert!(bob.events_until_now("status").await.is_empty(), "each once");
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn status_outlives_its_server() {
    let (_database, first, second) = two(None);
    let mut ann = first.guest("ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    let mut bob = second.guest("bob").await;
    bob.must("join_conversation", json!(LOBBY)).await;
    let said = say(&mut ann, "busy", Some("in a meeting")).await;
    assert_eq!(bob.event("status").await, said);
    drop(first);
    let gone = bob.event("user_disconnected").await;
    assert_eq!(gone["userId"], ann.user_id());
    // Ann is absent, but her status is retained.
    let mut back = second.guest("ann").await;
    assert_eq!(back.session["status"], said);
    let joined = back.must("join_conversation", json!(LOBBY)).await;
    assert_eq!(joined["statuses"], json!([said]));
    assert!(bob.events_until_now("status").await.is_empty());
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn statuses_of_an_isolated_server_arrive_within_the_promise() {
    let broker = Postgres::start();
    let url = broker.database();
    let (_, name) = url.rsplit_once('/').unwrap();
    broker.sql(name, "CREATE ROLE apart LOGIN SUPERUSER");
    let database = Database::new();
    let apart = url.replace("//roomcast@", "//apart@");
    let first = database.server_with(&[("ROOMCAST_ADAPTER__URL", &apart)]);
    let second = database.server_with(&[("ROOMCAST_ADAPTER__URL", &url)]);
    let mut bob = second.guest("bob").await;
    bob.must("join_conversation", json!(LOBBY)).await;
    let mut people = Vec::new();
    for n in 0..6 {
        people.push(first.guest(&format!("user {n}")).await);
    }
    for server in [&first, &second] {
        server
            .until_metric("roomcast_nodes", |nodes| nodes == 2)
            .await;
    }
    broker.sql(name, "ALTER ROLE apart NOLOGIN");
    let end =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'apart'";
    broker.sql(name, end);
    first.until_joined(false).await;
    // The second round starts when the other server considers this server expired.
    for round in ["cut off", "gone"] {
        let start = Instant::now();
        let mut said = BTreeSet::new();
        for one in &mut people {
            said.insert(say(one, "busy", Some(round)).await.to_string());
        }
        let mut received = BTreeSet::new();
        while received.len() < said.len() {
            received.insert(bob.event("status").await.to_string());
        }
        assert_eq!(received, said);
        // The promise is a second; a slow or busy machine may take longer.
        let took = start.elapsed();
        assert!(took < Duration::from_secs(20), "{round}: {took:?}");
        second
            .until_metric("roomcast_nodes", |nodes| nodes == 1)
            .await;
    }
    broker.sql(name, "ALTER ROLE apart LOGIN");
    first.until_joined(true).await;
    let back = say(&mut people[0], "online", None).await;
    assert_eq!(bob.event("status").await, back);
    assert!(bob.events_until_now("status").await.is_empty(), "each once");
}
