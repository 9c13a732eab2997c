//! Presence and typing, and the events about them.

use serde_json::{Value, json};

use crate::server::{LOBBY, Server};

#[tokio::test]
async fn the_first_tab_of_a_user_is_announced_and_the_last_that_leaves() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let joined = ann.event("user_joined").await;
    let timestamp = joined["timestamp"].clone();
    assert!(timestamp.as_str().unwrap().ends_with('Z'));
    assert_eq!(
        joined,
        json!({"type": "system", "conversationId": LOBBY, "userId": bob.user_id(), "name": "bob",
            "timestamp": timestamp})
    );
    let mut second = server.in_lobby("bob").await;
    second.must("leave_conversation", json!(LOBBY)).await;
    assert_eq!(ann.events_until_now("user_joined").await, [Value::Null; 0]);
    assert_eq!(ann.events_until_now("user_left").await, [Value::Null; 0]);
    assert_eq!(
        bob.events_until_now("user_joined").await,
        [Value::Null; 0],
        "not of itself"
    );

    bob.must("leave_conversation", json!({"conversationId": LOBBY}))
        .await;
    assert_eq!(ann.event("user_left").await["userId"], bob.user_id());
    ann.emit("message", json!({"conversationId": LOBBY, "content": "x"}))
        .await;
    ann.must("presence", json!({"conversationId": LOBBY})).await;
    assert_eq!(
        bob.events_until_now("message").await,
        [Value::Null; 0],
        "it has left"
    );
}

#[tokio::test]
async fn a_deliberate_disconnect_is_announced_at_once() {
    let server = Server::with(&[("ROOMCAST_PRESENCE__GRACE", "3600s")]);
    let mut ann = server.in_lobby("ann").await;
    let bob = server.in_lobby("bob").await;
    let id = bob.user_id();
    bob.disconnect().await;
    assert_eq!(ann.event("user_left").await["userId"], id);
}

#[tokio::test]
async fn a_lost_user_is_announced_after_the_grace() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let bob = server.in_lobby("bob").await;
    let id = bob.user_id();
    bob.vanish();
    let departure = ann.event("user_disconnected").await;
    assert_eq!(
        (&departure["userId"], &departure["type"]),
        (&json!(id), &json!("system"))
    );
    assert_eq!(ann.events_until_now("user_left").await, [Value::Null; 0]);
    let here = ann.must("presence", json!({"conversationId": LOBBY})).await;
    assert_eq!(here["count"], 1);
}

#[tokio::test]
async fn a_comeback_within_the_grace_is_not_announced() {
    let server = Server::with(&[("ROOMCAST_PRESENCE__GRACE", "10s")]);
    let mut ann = server.in_lobby("ann").await;
    server.in_lobby("bob").await.vanish();
    // Waits until the tab counts as lost: a list without its connection.
    loop {
        let list = ann.event("presence").await;
        if list["count"] == 2 && list["users"][1]["connections"] == 0 {
            break;
        }
    }
    let bob = server.in_lobby("bob").await;
    // A client that connects and is lost later is announced, and Bob would have been announced
    // before.
    let eve = server.in_lobby("eve").await;
    let id = eve.user_id();
    eve.vanish();
    assert_eq!(ann.event("user_disconnected").await["userId"], id);
    let joined = ann.events_until_now("user_joined").await;
    let joined: Vec<_> = joined
        .iter()
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(joined, ["bob", "eve"]);
    drop(bob);
}

#[tokio::test]
async fn presence_counts_tabs_and_lists_users_in_order_of_arrival() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let _second = server.in_lobby("ann").await;
    let bob = server.in_lobby("bob").await;
    let here = ann.must("presence", json!({"conversationId": LOBBY})).await;
    let users = here["users"].as_array().unwrap();
    assert_eq!(
        here,
        json!({"success": true, "conversationId": LOBBY, "count": 2, "users": [
            {"userId": ann.user_id(), "name": "ann", "guest": true, "connections": 2, "since": users[0]["since"]},
            {"userId": bob.user_id(), "name": "bob", "guest": true, "connections": 1, "since": users[1]["since"]},
        ]})
    );
    loop {
        let mut list = ann.event("presence").await;
        if list["count"] == 2 {
            list["success"] = json!(true);
            assert_eq!(list, here, "the event has the shape of the answer");
            break;
        }
    }
}

#[tokio::test]
async fn presence_is_for_members() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut eve = server.guest("eve").await;
    let id = server.conversation(&[&ann]).await;
    let here = ann.must("presence", json!({"conversationId": id})).await;
    assert_eq!(
        here,
        json!({"success": true, "conversationId": id, "users": [], "count": 0})
    );
    let foreign = eve
        .refused("presence", json!({"conversationId": id}), "NOT_FOUND")
        .await;
    let unknown = json!({"conversationId": uuid::Uuid::new_v4()});
    let unknown = eve.refused("presence", unknown, "NOT_FOUND").await;
    assert_eq!(foreign, unknown);
}

#[tokio::test]
async fn typing_is_shown_to_all_but_the_sending_socket() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut tab = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let typing = json!({"conversationId": LOBBY, "isTyping": true});
    assert_eq!(
        ann.ask("typing", typing.clone()).await,
        json!({"success": true})
    );
    for other in [&mut tab, &mut bob] {
        let event = other.event("typing").await;
        assert_eq!(
            event,
            json!({"conversationId": LOBBY, "userId": ann.user_id(), "name": "ann",
                "isTyping": true, "timestamp": event["timestamp"]})
        );
    }
    // The user continues to type: nothing new to show.
    ann.must("typing", typing).await;
    ann.must(
        "typing",
        json!({"conversationId": LOBBY, "isTyping": false}),
    )
    .await;
    assert_eq!(bob.event("typing").await["isTyping"], false);
    assert_eq!(ann.events_until_now("typing").await, [Value::Null; 0]);
}

#[tokio::test]
async fn leaving_ends_typing() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    ann.must("typing", json!({"conversationId": LOBBY, "isTyping": true}))
        .await;
    assert_eq!(bob.event("typing").await["isTyping"], true);
    ann.must("leave_conversation", json!(LOBBY)).await;
    assert_eq!(bob.event("typing").await["isTyping"], false);
    assert_eq!(bob.event("user_left").await["name"], "ann");
}

#[tokio::test]
async fn typing_is_for_members() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut eve = server.guest("eve").await;
    let id = server.conversation(&[&ann]).await;
    ann.must("join_conversation", json!(id)).await;
    let typing = json!({"conversationId": id, "isTyping": true});
    eve.refused("typing", typing, "NOT_FOUND").await;
    eve.refused("leave_conversation", json!(id), "NOT_FOUND")
        .await;
    for wrong in [
        json!({"conversationId": id}),
        json!({"isTyping": true}),
        json!({}),
        json!(id),
    ] {
        ann.refused("typing", wrong, "INVALID_PAYLOAD").await;
    }
    assert_eq!(ann.events_until_now("typing").await, [Value::Null; 0]);
}
