//! Maximum time that a sender waits for a store that neither works nor fails.

use serde_json::json;

use crate::server::{LOBBY, Server};

#[tokio::test]
async fn sender_times_out_on_a_hanging_store_and_a_repeat_gets_the_row() {
    let server = Server::with(&[
        ("ROOMCAST_STORE__BUSY_TIMEOUT", "60s"),
        ("ROOMCAST_STORE__ANSWER_TIMEOUT", "300ms"),
    ]);
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    for client in [&mut ann, &mut bob] {
        // The timeout may be too short for a working store as well.
        client
            .retry_until_stored("join_conversation", json!(LOBBY))
            .await;
    }
    let message = json!({"conversationId": LOBBY, "content": "late", "clientMessageId": "m1"});
    let other = server.database();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = ann
        .refused("message", message.clone(), "STORE_UNAVAILABLE")
        .await;
    assert!(error["retryAfter"].as_u64().unwrap() > 0, "{error}");
    let read = json!({"conversationId": LOBBY, "seq": 1});
    ann.refused("mark_read", read, "STORE_UNAVAILABLE").await;
    ann.emit("message", message.clone()).await;
    let error = ann.event("error").await;
    assert_eq!(
        (&error["code"], &error["status"]),
        (&json!("STORE_UNAVAILABLE"), &json!(503))
    );
    assert!(
        bob.events_until_now("message").await.is_empty(),
        "nothing is stored yet"
    );

    // The store resumes: the pending message is stored, and emitted once.
    other.execute_batch("ROLLBACK").unwrap();
    let seen = bob.event("message").await;
    assert_eq!(
        (&seen["content"], &seen["seq"]),
        (&json!("late"), &json!(1))
    );
    let repeated = ann.retry_until_stored("message", message).await;
    assert_eq!(repeated["message"], seen);
    assert!(bob.events_until_now("message").await.is_empty());
}
