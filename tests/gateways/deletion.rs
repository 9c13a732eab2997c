//! Deletion of conversations while users are in them.

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::until;
use crate::server::{LOBBY, Server};

/// Creates a conversation of this owner with other members.
async fn conversation(owner: &mut Client, others: &[&str]) -> String {
    let new = json!({"title": "A title", "memberIds": others});
    let id = owner.create(new).await;
    id.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn deleted_conversation_is_announced_to_members_and_is_gone() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut tab = server.guest("bob").await;
    let mut eve = server.guest("eve").await;
    let id = conversation(&mut ann, &[&bob.user_id()]).await;
    let about = json!({"conversationId": id});
    for one in [&mut ann, &mut bob] {
        one.must("join_conversation", about.clone()).await;
    }
    let message = json!({"conversationId": id, "content": "apple", "clientMessageId": "m1"});
    ann.must("message", message.clone()).await;
    bob.event("message").await;
    let typing = json!({"conversationId": id, "isTyping": true});
    bob.must("typing", typing.clone()).await;

    let delete = "delete_conversation";
    bob.refused(delete, about.clone(), "FORBIDDEN").await;
    eve.refused(delete, about.clone(), "NOT_FOUND").await;
    let mut answer = ann.must(delete, about.clone()).await;
    let received = bob.event("conversation_deleted").await;
    assert_eq!(received["conversationId"], *id);
    assert_eq!(received["deletedBy"], *ann.user_id());
    assert_eq!(tab.event("conversation_deleted").await, received);
    answer.as_object_mut().unwrap().remove("success");
    assert_eq!(answer, received, "the answer says what the others are told");
    assert!(
        ann.events_until_now("conversation_deleted")
            .await
            .is_empty()
    );
    assert!(
        eve.events_until_now("conversation_deleted")
            .await
            .is_empty()
    );

    let again = ann.must(delete, about.clone()).await;
    assert_eq!(again["deletedAt"], received["deletedAt"]);
    assert!(
        bob.events_until_now("conversation_deleted")
            .await
            .is_empty()
    );
    ann.refused("message", message, "NOT_FOUND").await;
    for one in [&mut ann, &mut bob] {
        for event in ["join_conversation", "message_history", "presence"] {
            one.refused(event, about.clone(), "NOT_FOUND").await;
        }
        one.refused("typing", typing.clone(), "NOT_FOUND").await;
        let found = one.must("message_search", json!({"query": "apple"})).await;
        assert_eq!(found["messages"], json!([]));
        let list = one.must("conversations", json!({})).await;
        let listed = list["conversations"].as_array().unwrap();
        assert!(listed.iter().all(|c| c["id"] != *id), "{list}");
        // The deletion is the last event: users neither leave nor stop typing.
        for event in ["user_left", "message"] {
            let received = one.events_until_now(event).await;
            assert!(received.is_empty(), "{received:?}");
        }
        for (event, field, last) in [
            ("presence", "count", json!(0)),
            ("typing", "isTyping", json!(false)),
        ] {
            let received = one.events_until_now(event).await;
            let is_last = |received: &Value| received[field] == last;
            assert!(!received.iter().any(is_last), "{received:?}");
        }
    }
    server
        .binary
        .expect_log(&["conversation deleted", &id, &ann.user_id()]);
}

#[tokio::test]
async fn the_lobby_is_never_deleted() {
    let server = Server::with(&[("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "admin")]);
    let mut root = server.in_lobby("root").await;
    let lobby = json!({"conversationId": LOBBY});
    root.refused("delete_conversation", lobby.clone(), "CONFLICT")
        .await;
    root.must("message_history", lobby).await;
}

#[tokio::test]
async fn guests_who_may_not_manage_conversations_delete_none() {
    let server = Server::with(&[("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "")]);
    let mut ann = server.in_lobby("ann").await;
    let lobby = json!({"conversationId": LOBBY});
    ann.refused("delete_conversation", lobby, "FORBIDDEN").await;
}

#[tokio::test]
async fn content_of_a_deleted_conversation_leaves_the_database() {
    let server = Server::with(&[
        ("ROOMCAST_STORE__RETENTION_INTERVAL", "50ms"),
        ("ROOMCAST_STORE__RETENTION_BATCH", "2"),
    ]);
    let mut ann = server.guest("ann").await;
    let id = conversation(&mut ann, &[]).await;
    for _ in 0..7 {
        let message = json!({"conversationId": id, "content": "apple"});
        ann.must("message", message).await;
    }
    let read = json!({"conversationId": id, "seq": 3});
    ann.must("mark_read", read).await;
    let about = json!({"conversationId": id});
    ann.must("delete_conversation", about).await;
    let database = server.database();
    until(|| {
        let left = "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM reads)
            + (SELECT count(*) FROM members)";
        database
            .query_row(left, [], |row| row.get::<_, i64>(0))
            .unwrap()
            == 0
    });
}
