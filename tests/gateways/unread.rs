//! The number of unread notifications, and acknowledging all of them.

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::Server;
use crate::market::{client, must, start};
#[cfg(feature = "postgres")]
use crate::{guard::KEY, nodes::Database};

fn notice(id: &str) -> Value {
    json!({
        "notificationId": id, "userId": "ann", "type": "info", "priority": "urgent",
        "title": "A title", "message": "text",
    })
}

async fn notify(server: &Server, ids: impl IntoIterator<Item = usize>) {
    for n in ids {
        must(&server.binary, "/notifications", notice(&format!("n{n}"))).await;
    }
}

async fn snapshot(ann: &mut Client) -> Value {
    let answer = ann.must("subscribe:notifications", json!({})).await;
    answer["snapshot"].clone()
}

/// Waits until an event has this number of unread notifications.
async fn counts(client: &mut Client, unread: u64) {
    while client.event("notifications:unread").await["unread"] != unread {}
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_count_comes_with_the_snapshot_and_when_it_changes() {
    let server = start(&[]);
    notify(&server, 0..3).await;
    let mut ann = client(&server.binary, "ann", "user").await;
    let mut tab = client(&server.binary, "ann", "user").await;
    for client in [&mut ann, &mut tab] {
        assert_eq!(snapshot(client).await["unread"], 3);
    }
    notify(&server, 3..4).await;
    for client in [&mut ann, &mut tab] {
        let event = client.event("notifications:unread").await;
        assert_eq!(event, json!({"unread": 4, "revision": 4}));
    }
    ann.must("notification:ack", json!({"notificationId": "n1"}))
        .await;
    // The tab that has acknowledged it receives the count as well.
    for client in [&mut ann, &mut tab] {
        let event = client.event("notifications:unread").await;
        assert_eq!(event, json!({"unread": 3, "revision": 5}));
    }
    let (_, list) = server.call("GET", "/users/ann/notifications?limit=1", "service", "");
    assert_eq!(
        (&list["unread"], &list["hasMore"]),
        (&json!(3), &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_count_includes_notifications_beyond_the_snapshot() {
    let server = start(&[]);
    for n in 0..40 {
        let mut large = notice(&format!("n{n}"));
        large["message"] = json!("\u{10348}".repeat(2000));
        must(&server.binary, "/notifications", large).await;
    }
    let mut ann = client(&server.binary, "ann", "user").await;
    let snapshot = snapshot(&mut ann).await;
    assert_eq!(
        (&snapshot["unread"], &snapshot["hasMore"]),
        (&json!(40), &json!(true))
    );
    assert!(snapshot["notifications"].as_array().unwrap().len() < 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_all_ends_existing_notifications_in_every_tab() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__PER_USER", "300")]);
    notify(&server, 0..250).await;
    let mut ann = client(&server.binary, "ann", "user").await;
    let mut tab = client(&server.binary, "ann", "user").await;
    let known = snapshot(&mut ann).await;
    snapshot(&mut tab).await;
    notify(&server, 250..251).await;
    tab.event("notification:new").await;
    // A notification after the snapshot was not seen.
    let seen = json!({"revision": known["revision"]});
    let answer = ann.must("notification:ack_all", seen.clone()).await;
    assert_eq!(answer["acknowledged"], 250);
    let mut ids = Vec::new();
    while ids.len() < 250 {
        let acked = tab.event("notifications:acked").await;
        let some = acked["notificationIds"].as_array().unwrap();
        assert!(some.len() <= 100, "{}", some.len());
        assert_eq!(acked["timestamp"], answer["timestamp"]);
        ids.extend(some.iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    ids.sort_unstable();
    let mut expected: Vec<_> = (0..250).map(|n| format!("n{n}")).collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    counts(&mut tab, 1).await;
    counts(&mut ann, 1).await;
    assert!(ann.events_until_now("notifications:acked").await.is_empty());
    assert_eq!(
        ann.must("notification:ack_all", seen).await["acknowledged"],
        0
    );
    assert_eq!(
        ann.must("notification:ack_all", json!({})).await["acknowledged"],
        1
    );
    counts(&mut tab, 0).await;
    let empty = snapshot(&mut ann).await;
    assert_eq!(
        (&empty["unread"], &empty["notifications"]),
        (&json!(0), &json!([]))
    );
    for wrong in [
        json!({"revision": -1}),
        json!({"revision": "7"}),
        json!([7]),
    ] {
        ann.refused("notification:ack_all", wrong, "INVALID_PAYLOAD")
            .await;
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_all_at_one_server_counts_at_another() {
    let database = Database::new();
    let servers = [database.server_with(&[KEY]), database.server_with(&[KEY])];
    for id in ["a", "b", "c"] {
        must(&servers[0], "/notifications", notice(id)).await;
    }
    let mut ann = client(&servers[0], "ann", "user").await;
    let mut tab = client(&servers[1], "ann", "user").await;
    for client in [&mut ann, &mut tab] {
        assert_eq!(snapshot(client).await["unread"], 3);
    }
    let answer = ann.must("notification:ack_all", json!(null)).await;
    assert_eq!(answer["acknowledged"], 3);
    let acked = tab.event("notifications:acked").await;
    assert_eq!(acked["notificationIds"], json!(["a", "b", "c"]));
    counts(&mut tab, 0).await;
}
