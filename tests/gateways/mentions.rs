//! Notifications of mentions: a quota of their own beside what services send, and an end when the message is read.

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::Server;
use crate::market::{client, must, publish, start};

fn notice(id: &str, priority: &str) -> Value {
    json!({
        "notificationId": id, "userId": "bob", "type": "info", "priority": priority,
        "title": "A title", "message": "text",
    })
}

/// Ann and Bob in a conversation of hers.
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

/// The ids of what Bob has not acknowledged.
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
        let told = bob.event("notification:withdrawn").await;
        assert_eq!(told["notificationId"], **dropped);
        assert_eq!(told["reason"], "replaced");
    }
    // However many mentions there are, services send as many as without them.
    must(&server.binary, "/notifications", notice("n2", "low")).await;
    let (status, _) = publish(&server.binary, "/notifications", notice("n3", "high")).await;
    assert_eq!(status, 409);
    must(&server.binary, "/notifications", notice("u1", "urgent")).await;
    let expected = ["n1", &mentions[2], &mentions[3], &mentions[4], "n2", "u1"];
    assert_eq!(open(&mut bob).await, expected);
    // And however many notifications of services there are, a mention is stored.
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
