//! Events that services publish.

use serde_json::{Value, json};

use super::{Caller, start, user};

#[tokio::test]
async fn an_event_reaches_rooms_users_or_everyone_with_all_its_arguments() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let mut again = user(&server, "ann").await;
    let mut bob = user(&server, "bob").await;
    let emit = async |body: Value| service.must(200, "POST", "/emit", body).await["queued"].clone();
    // The text is sent as it came: the number is longer than any that programs keep.
    let text =
        r#"{"event":"prices","users":["ann"],"args":[{"a":[1.10]},12345678901234567890123,null]}"#;
    let sent = service.send("POST", "/emit", text).await;
    assert_eq!(sent.parts(), (200, r#"{"queued":2}"#));
    for client in [&mut ann, &mut again] {
        let packet = client.packet_of("prices").await;
        assert_eq!(
            packet,
            r#"42["prices",{"a":[1.10]},12345678901234567890123,null]"#
        );
    }
    assert_eq!(emit(json!({"event": "news", "everyone": true})).await, 3);
    bob.packet_of("news").await;
    assert_eq!(
        emit(json!({"event": "news", "rooms": ["user:bob"]})).await,
        1
    );
    assert_eq!(
        emit(json!({"event": "news", "everyone": true, "except": ["user:ann"]})).await,
        1
    );
    assert_eq!(emit(json!({"event": "news", "rooms": ["nobody"]})).await, 0);
    assert!(bob.events_until_now("prices").await.is_empty());
}

#[tokio::test]
async fn acknowledgements_are_waited_for_so_long_and_those_that_came_are_told() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let mut bob = user(&server, "bob").await;
    let asked = |timeout: u64| json!({"event": "ready?", "args": [1], "users": ["ann", "bob"], "ackTimeout": timeout});
    let answering = async {
        let (_, id) = ann.event_to_answer("ready?").await;
        ann.send(&format!("43{}[\"yes\",{{\"a\":1}}]", id.unwrap()))
            .await;
    };
    let (answer, ()) = tokio::join!(service.must(200, "POST", "/emit", asked(300)), answering);
    let acknowledged = &answer["acknowledged"];
    assert_eq!(acknowledged["answers"][0]["args"], json!(["yes", {"a": 1}]));
    assert!(acknowledged["answers"][0]["socketId"].is_string());
    for (field, expected) in [
        ("expected", json!(2)),
        ("answered", json!(1)),
        ("timedOut", json!(true)),
        ("missing", json!(0)),
    ] {
        assert_eq!(acknowledged[field], expected, "{field}");
    }
    let (_, first) = bob.event_to_answer("ready?").await;
    bob.acknowledge(first.unwrap()).await;
    let answering = async {
        for client in [&mut ann, &mut bob] {
            let (_, id) = client.event_to_answer("ready?").await;
            client.acknowledge(id.unwrap()).await;
        }
    };
    let (answer, ()) = tokio::join!(service.must(200, "POST", "/emit", asked(10_000)), answering);
    assert_eq!(answer["acknowledged"]["answered"], 2);
    assert_eq!(answer["acknowledged"]["timedOut"], false);
}

#[tokio::test]
async fn what_belongs_to_the_chat_is_not_published() {
    let server = start();
    let service = Caller::service(&server);
    let ann = user(&server, "ann").await;
    for event in [
        "session",
        "message",
        "message_edited",
        "message_deleted",
        "message_delivered",
        "message_read",
        "user_joined",
        "user_left",
        "user_disconnected",
        "typing",
        "presence",
        "conversation_updated",
        "conversation_deleted",
        "error",
        "auth:expiring",
        "auth:refresh",
        "connect",
        "disconnect",
    ] {
        let body = json!({"event": event, "everyone": true});
        let error = service
            .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", body))
            .await;
        assert_eq!(error["details"]["field"], "event", "{event}");
    }
    for (body, field) in [
        (
            json!({"rooms": [format!("conversation:{}", crate::server::LOBBY)]}),
            "rooms",
        ),
        (json!({"rooms": ["a", ""]}), "rooms"),
        (json!({"rooms": ["x".repeat(257)]}), "rooms"),
        (json!({"users": [""]}), "users"),
        (json!({"users": vec!["u"; 101]}), "users"),
        (json!({}), "everyone"),
        (json!({"everyone": true, "rooms": ["a"]}), "everyone"),
        (json!({"everyone": true, "args": vec![1; 17]}), "args"),
        (json!({"everyone": true, "ackTimeout": 0}), "ackTimeout"),
        (
            json!({"everyone": true, "ackTimeout": 10_001}),
            "ackTimeout",
        ),
        (
            json!({"everyone": true, "volatile": true, "ackTimeout": 1}),
            "volatile",
        ),
        (json!({"everyone": "yes"}), "everyone"),
    ] {
        let mut body = body;
        body["event"] = json!("news");
        let error = service
            .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", body.clone()))
            .await;
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    let mut ann = ann;
    assert!(ann.events_until_now("news").await.is_empty());
}
