//! `store.retention`: the server removes old messages by itself.

use std::time::Instant;

use serde_json::json;

use crate::server::{LOBBY, Server};

#[tokio::test]
async fn old_messages_are_removed_and_their_numbers_never_reused() {
    let server = Server::with(&[
        ("ROOMCAST_STORE__RETENTION", "1s"),
        ("ROOMCAST_STORE__RETENTION_INTERVAL", "50ms"),
        ("ROOMCAST_STORE__RETENTION_BATCH", "2"),
    ]);
    let mut ann = server.in_lobby("ann").await;
    for _ in 0..7 {
        let message = json!({"conversationId": LOBBY, "content": "old apple"});
        ann.must("message", message).await;
    }
    let start = Instant::now();
    loop {
        let page = json!({"conversationId": LOBBY});
        let page = ann.must("message_history", page).await;
        let seqs = page["messages"].as_array().unwrap();
        if seqs.is_empty() {
            break;
        }
        // The messages at the beginning of the conversation are removed.
        assert_eq!(seqs.last().unwrap()["seq"], 7);
        assert!(start.elapsed().as_secs() < 30, "{page}");
    }
    let found = ann.must("message_search", json!({"query": "apple"})).await;
    assert_eq!(found["messages"], json!([]));
    let message = json!({"conversationId": LOBBY, "content": "new"});
    let sent = ann.must("message", message).await;
    assert_eq!(sent["message"]["seq"], 8);
    let expired = "roomcast_messages_expired_total";
    server
        .binary
        .until_metric(expired, |count| count >= 7)
        .await;
    let runs = "roomcast_retention_runs_total{result=\"done\"}";
    server.binary.until_metric(runs, |count| count >= 1).await;
}
