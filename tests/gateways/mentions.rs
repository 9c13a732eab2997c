//! Notifications of mentions: they have a quota separate from services, and end when the message is
//! read.

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::Server;
use crate::market::{client, must, publish, start};
#[cfg(feature = "postgres")]
use crate::{guard::KEY, nodes::Database};

fn notice(id: &str, priority: &str) -> Value {
    json!({
        "notificationId": id, "userId": "bob", "type": "info", "priority": priority,
        "title": "A title", "message": "text",
    })
}

/// Connects Ann and Bob, with a conversation that Ann owns.
async fn pair(server: &Server) -> (Client, Client, Value) {
    let mut ann = client(&server.binary, "ann", "user").await;
    let bob = client(&server.binary, "bob", "user").await;
    let new = json!({"title": "Engines", "memberIds": ["bob"]});
    let id = ann.create(new).await;
    (ann, bob, id)
}

/// Sends a message that mentions Bob, and returns the id of its notification.
async fn mention(ann: &mut Client, conversation: &Value) -> String {
    let message = json!({"conversationId": conversation, "content": "look", "mentions": ["bob"]});
    let message = ann.must("message", message).await["message"].clone();
    format!("mention:{}", message["id"].as_str().unwrap())
}

/// Returns the ids of Bob's unacknowledged notifications.
async fn open(bob: &mut Client) -> Vec<String> {
    let answer = bob.must("subscribe:notifications", json!({})).await;
    let list = answer["snapshot"]["notifications"].as_array().unwrap();
    let ids = list.iter().map(|one| one["notificationId"].as_str());
    ids.map(|id| id.unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_drop_their_oldest_and_leave_services_their_limit() {
    let server = start(&[
        ("ROOMCAST_NOTIFICATIONS__PER_USER", "2"),
        ("ROOMCAST_NOTIFICATIONS__URGENT_RESERVE", "1"),
        ("ROOMCAST_NOTIFICATIONS__MENTIONS", "3"),
        ("ROOMCAST_NOTIFICATIONS__WINDOW", "0s"),
    ]);
    let (mut ann, mut bob, id) = pair(&server).await;
    must(&server.binary, "/notifications", notice("n1", "low")).await;
    assert_eq!(open(&mut bob).await, ["n1"]);
    let mut mentions = Vec::new();
    for _ in 0..5 {
        mentions.push(mention(&mut ann, &id).await);
    }
    for dropped in &mentions[..2] {
        let received = bob.event("notification:withdrawn").await;
        assert_eq!(received["notificationId"], **dropped);
        assert_eq!(received["reason"], "replaced");
    }
    // Mentions do not count against the limit of services.
    must(&server.binary, "/notifications", notice("n2", "low")).await;
    let (status, _) = publish(&server.binary, "/notifications", notice("n3", "high")).await;
    assert_eq!(status, 409);
    must(&server.binary, "/notifications", notice("u1", "urgent")).await;
    let expected = ["n1", &mentions[2], &mentions[3], &mentions[4], "n2", "u1"];
    assert_eq!(open(&mut bob).await, expected);
    // Notifications of services do not count against the limit of mentions.
    let last = mention(&mut ann, &id).await;
    let expected = ["n1", &mentions[3], &mentions[4], "n2", "u1", &last];
    assert_eq!(open(&mut bob).await, expected);
    let dropped = json!({"notificationId": mentions[0]});
    bob.refused("notification:ack", dropped, "NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_notification_fits_when_the_limit_is_used_up() {
    let server = start(&[
        ("ROOMCAST_NOTIFICATIONS__PER_USER", "2"),
        ("ROOMCAST_NOTIFICATIONS__URGENT_RESERVE", "2"),
    ]);
    for id in ["n1", "n2"] {
        must(&server.binary, "/notifications", notice(id, "high")).await;
    }
    let (status, _) = publish(&server.binary, "/notifications", notice("n3", "high")).await;
    assert_eq!(status, 409);
    for id in ["u1", "u2"] {
        must(&server.binary, "/notifications", notice(id, "urgent")).await;
    }
    let (status, answer) = publish(&server.binary, "/notifications", notice("u3", "urgent")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    let mut bob = client(&server.binary, "bob", "user").await;
    assert_eq!(open(&mut bob).await, ["n1", "n2", "u1", "u2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_cannot_use_the_id_of_a_mention() {
    let server = start(&[]);
    let (status, answer) =
        publish(&server.binary, "/notifications", notice("mention:1", "low")).await;
    assert_eq!(status, 400);
    let field = &answer["error"]["details"]["field"];
    assert_eq!(field, "notificationId");
}

/// Returns the ids in acknowledgement events, until there are this many.
async fn acked(client: &mut Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    if count == 1 {
        let event = client.event("notification:acked").await;
        ids.push(event["notificationId"].as_str().unwrap().to_owned());
        return ids;
    }
    while ids.len() < count {
        let event = client.event("notifications:acked").await;
        let some = event["notificationIds"].as_array().unwrap();
        ids.extend(some.iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_read_acknowledges_mentions_up_to_the_message() {
    let server = start(&[("ROOMCAST_NOTIFICATIONS__WINDOW", "0s")]);
    let (mut ann, mut bob, id) = pair(&server).await;
    let mut tab = client(&server.binary, "bob", "user").await;
    let other = json!({"title": "Other", "memberIds": ["bob"]});
    let other = ann.create(other).await;
    must(&server.binary, "/notifications", notice("n1", "low")).await;
    let mut mentions = Vec::new();
    for _ in 0..4 {
        mentions.push(mention(&mut ann, &id).await);
    }
    let elsewhere = mention(&mut ann, &other).await;
    open(&mut tab).await;
    open(&mut bob).await;
    let read = |seq: u64| json!({"conversationId": id, "seq": seq});
    bob.must("mark_read", read(1)).await;
    for client in [&mut bob, &mut tab] {
        assert_eq!(acked(client, 1).await, mentions[..1]);
    }
    bob.must("mark_read", read(3)).await;
    // Both tabs are notified: the tab that marks the message does not know which mentions it has
    // read.
    for client in [&mut bob, &mut tab] {
        assert_eq!(acked(client, 2).await, mentions[1..3]);
    }
    let expected = ["n1", &mentions[3], &elsewhere];
    assert_eq!(open(&mut tab).await, expected);
    // A known or lower mark does nothing, and a new mention is open.
    bob.must("mark_read", read(2)).await;
    let fifth = mention(&mut ann, &id).await;
    let expected = ["n1", &mentions[3], &elsewhere, &fifth];
    assert_eq!(open(&mut tab).await, expected);
    // A mark beyond the end counts for the last message.
    bob.must("mark_read", read(1000)).await;
    assert_eq!(open(&mut tab).await, ["n1", &elsewhere]);
    // A mark in another conversation acknowledges nothing.
    ann.must("mark_read", json!({"conversationId": other, "seq": 1}))
        .await;
    assert_eq!(open(&mut tab).await, ["n1", &elsewhere]);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn mark_read_at_one_server_acknowledges_for_tabs_at_another() {
    let database = Database::new();
    let servers = [database.server_with(&[KEY]), database.server_with(&[KEY])];
    let mut ann = client(&servers[0], "ann", "user").await;
    let mut bob = client(&servers[0], "bob", "user").await;
    let mut tab = client(&servers[1], "bob", "user").await;
    let new = json!({"title": "Engines", "memberIds": ["bob"]});
    let id = ann.create(new).await;
    assert!(open(&mut tab).await.is_empty());
    let mut mentions = Vec::new();
    for _ in 0..3 {
        mentions.push(mention(&mut ann, &id).await);
    }
    let received = tab.event("notification:new").await;
    assert_eq!(received["notificationId"], mentions[0]);
    bob.must("mark_read", json!({"conversationId": id, "seq": 3}))
        .await;
    assert!(open(&mut bob).await.is_empty());
    assert_eq!(acked(&mut tab, 3).await, mentions);
    assert!(open(&mut tab).await.is_empty());
}
