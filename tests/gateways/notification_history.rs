//! The history of acknowledged notifications, page by page.

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::{KEY, Server};
use crate::market::{client, must, start};
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::UNLIMITED;

fn notice(id: &str) -> Value {
    json!({
        "notificationId": id, "userId": "ann", "type": "info", "priority": "high",
        "title": format!("Title {id}"), "message": "text", "actionUrl": "/orders/1",
    })
}

async fn history(ann: &mut Client, request: Value) -> Value {
    ann.must("notifications:history", request).await
}

fn ids(page: &Value) -> Vec<&str> {
    let list = page["notifications"].as_array().unwrap().iter();
    list.map(|one| one["notificationId"].as_str().unwrap())
        .collect()
}

fn get(server: &Server, path: &str, role: &str) -> (u16, Value) {
    server.call("GET", path, role, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_notifications_are_read_page_by_page() {
    let server = start(&[]);
    let mut ann = client(&server.binary, "ann", "user").await;
    let empty = history(&mut ann, json!({})).await;
    assert_eq!((ids(&empty), &empty["hasMore"]), (vec![], &json!(false)));
    for n in 0..6 {
        must(&server.binary, "/notifications", notice(&format!("n{n}"))).await;
    }
    let ack = json!({"notificationId": "n4"});
    let acked = ann.must("notification:ack", ack).await;
    let withdrawn = json!({"notificationId": "n0", "userId": "ann"});
    must(&server.binary, "/notifications/withdraw", withdrawn).await;
    ann.must("notification:ack_all", json!({"revision": 4}))
        .await;
    // The newest acknowledgement is first. Withdrawn and open notifications are not in the history.
    let all = history(&mut ann, json!({})).await;
    assert_eq!(ids(&all), ["n3", "n2", "n1", "n4"]);
    let oldest = &all["notifications"][3];
    let expected = json!({
        "notificationId": "n4", "type": "info", "priority": "high", "title": "Title n4",
        "message": "text", "actionUrl": "/orders/1", "timestamp": oldest["timestamp"],
        "expiresAt": oldest["expiresAt"], "acknowledgedAt": acked["timestamp"], "revision": 7,
    });
    assert_eq!(*oldest, expected);
    let first = history(&mut ann, json!({"limit": 2})).await;
    assert_eq!(
        (ids(&first), &first["hasMore"]),
        (vec!["n3", "n2"], &json!(true))
    );
    let path = "/users/ann/notifications/history?limit=2";
    assert_eq!(
        get(&server, path, "service").1["notifications"],
        first["notifications"]
    );
    // A cursor is valid at another server and after a restart.
    let variables = [UNLIMITED.as_slice(), &[KEY]].concat();
    let server = server.restarted(&variables);
    let mut ann = client(&server.binary, "ann", "user").await;
    let cursor = first["cursor"].clone();
    let second = history(&mut ann, json!({"limit": 2, "cursor": cursor})).await;
    // Withdrawn notifications take no places on a page.
    assert_eq!(
        (ids(&second), &second["hasMore"]),
        (vec!["n1", "n4"], &json!(false))
    );
    // Only services with the permission can read the history of another user.
    let mut bob = client(&server.binary, "bob", "user").await;
    assert_eq!(ids(&history(&mut bob, json!({})).await), Vec::<&str>::new());
    let foreign = json!({"cursor": cursor});
    bob.refused("notifications:history", foreign, "NOT_FOUND")
        .await;
    for wrong in [
        json!({"limit": 0}),
        json!({"limit": 201}),
        json!({"limit": "1"}),
        json!([]),
    ] {
        bob.refused("notifications:history", wrong, "INVALID_PAYLOAD")
            .await;
    }
    assert_eq!(get(&server, path, "user").0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_reports_no_more_if_only_withdrawn_follow() {
    let server = start(&[]);
    let mut ann = client(&server.binary, "ann", "user").await;
    for id in ["n1", "n2", "n3"] {
        must(&server.binary, "/notifications", notice(id)).await;
    }
    let withdrawn = json!({"notificationId": "n1", "userId": "ann"});
    must(&server.binary, "/notifications/withdraw", withdrawn).await;
    for id in ["n2", "n3"] {
        ann.must("notification:ack", json!({"notificationId": id}))
            .await;
    }
    for (limit, expected, has_more) in [(1, vec!["n3"], true), (2, vec!["n3", "n2"], false)] {
        let page = history(&mut ann, json!({ "limit": limit })).await;
        assert_eq!((ids(&page), &page["hasMore"]), (expected, &json!(has_more)));
        assert_eq!(page["cursor"].is_string(), has_more);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_has_a_bound_and_ends_after_its_time() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__PER_USER", "1000")]);
    let mut ann = client(&server.binary, "ann", "user").await;
    let mut sent = 0;
    // Each notification and each acknowledgement is a revision; the history has the last 2,000.
    for _ in 0..3 {
        for _ in 0..500 {
            must(
                &server.binary,
                "/notifications",
                notice(&format!("n{sent}")),
            )
            .await;
            sent += 1;
        }
        ann.must("notification:ack_all", json!({})).await;
    }
    let (mut cursor, mut known) = (json!(null), Vec::new());
    loop {
        let page = history(&mut ann, json!({"limit": 200, "cursor": cursor})).await;
        known.extend(ids(&page).into_iter().map(str::to_owned));
        cursor = page["cursor"].clone();
        if page["hasMore"] == false {
            break;
        }
    }
    known.sort_unstable();
    known.dedup();
    assert!((1000..1100).contains(&known.len()), "{}", known.len());
    assert!(!known.contains(&"n0".to_owned()) && known.contains(&"n1499".to_owned()));
    let answer = must(&server.binary, "/notifications", notice("n0")).await;
    assert_eq!(answer["notificationId"], "n0", "what is forgotten is new");
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn read_mentions_are_in_the_history_at_every_server() {
    let database = Database::new();
    let servers = [database.server_with(&[KEY]), database.server_with(&[KEY])];
    let mut bob = client(&servers[0], "bob", "user").await;
    let mut ann = client(&servers[1], "ann", "user").await;
    let id = bob
        .create(json!({"title": "Engines", "memberIds": ["ann"]}))
        .await;
    let message = json!({"conversationId": id, "content": "look", "mentions": ["ann"]});
    bob.must("message", message).await;
    ann.must("mark_read", json!({"conversationId": id, "seq": 1}))
        .await;
    let mut other = client(&servers[0], "ann", "user").await;
    for client in [&mut ann, &mut other] {
        let page = history(client, json!(null)).await;
        assert_eq!(page["notifications"][0]["title"], "bob mentioned you");
    }
}
