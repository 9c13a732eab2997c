//! How long a sender waits for a store that neither works nor fails.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{LOBBY, Server};
use crate::support::DEADLINE;

#[tokio::test]
async fn a_sender_does_not_wait_for_a_store_that_hangs_and_a_repeat_gets_the_same_row() {
    let server = Server::with(&[
        ("ROOMCAST_STORE__BUSY_TIMEOUT", "60s"),
        ("ROOMCAST_STORE__ANSWER_TIMEOUT", "300ms"),
    ]);
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    for client in [&mut ann, &mut bob] {
        // So little time may be too little for a store that works, too.
        until_done(client, "join_conversation", json!(LOBBY)).await;
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
    let told = ann.event("error").await;
    assert_eq!(
        (&told["code"], &told["status"]),
        (&json!("STORE_UNAVAILABLE"), &json!(503))
    );
    assert!(
        bob.events_until_now("message").await.is_empty(),
        "nothing is stored yet"
    );

    // The store goes on: what was in it is stored, and shown once.
    other.execute_batch("ROLLBACK").unwrap();
    let seen = bob.event("message").await;
    assert_eq!(
        (&seen["content"], &seen["seq"]),
        (&json!("late"), &json!(1))
    );
    let repeated = until_done(&mut ann, "message", message).await;
    assert_eq!(repeated["message"], seen);
    assert!(bob.events_until_now("message").await.is_empty());
}

/// Asks until that is done which is asked for.
async fn until_done(client: &mut Client, event: &str, payload: Value) -> Value {
    let start = Instant::now();
    loop {
        let answer = client.ask(event, payload.clone()).await;
        if answer["success"] == true {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{answer}");
        // The pace of a client that tries again.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
