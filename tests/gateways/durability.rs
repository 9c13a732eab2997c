//! Acknowledged messages survive the kill of a server.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{LOBBY, ServerProcess, UNLIMITED};

/// Number of messages sent.
const MESSAGES: usize = 1000;

#[tokio::test]
async fn every_acknowledged_message_survives_a_kill_exactly_once_and_in_order() {
    let folder = TempDir::new().unwrap();
    let mut acknowledged = BTreeMap::new();
    // Killed early, in the middle, and late. Each time, unacknowledged messages are sent again.
    for kill_after in [1, MESSAGES / 2, MESSAGES - 10] {
        let server = ServerProcess::start(folder.path(), &UNLIMITED);
        let mut ann = server.guest("ann").await;
        ann.must("join_conversation", json!(LOBBY)).await;
        let mut sent = BTreeMap::new();
        for n in (0..MESSAGES).filter(|n| !acknowledged.contains_key(n)) {
            let message = json!({"conversationId": LOBBY, "content": n.to_string(),
                "clientMessageId": format!("message {n}")});
            sent.insert(ann.request("message", message).await, n);
        }
        let before = acknowledged.len();
        let mut server = Some(server);
        while let Some((id, answer)) = ann.any_answer().await {
            assert_eq!(answer["success"], true, "{answer}");
            let seq = answer["message"]["seq"].as_u64().unwrap();
            acknowledged.insert(sent[&id], seq);
            if acknowledged.len() >= before.max(kill_after) {
                drop(server.take());
            }
        }
        assert!(server.is_none(), "killed while messages were on their way");

        let server = ServerProcess::start(folder.path(), &UNLIMITED);
        let stored = everything(&server).await;
        let seqs: Vec<u64> = stored
            .iter()
            .map(|message| message["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(
            seqs,
            (1..=stored.len() as u64).collect::<Vec<_>>(),
            "no gap and no double"
        );
        let mut by_content = BTreeMap::new();
        for message in &stored {
            let content: usize = message["content"].as_str().unwrap().parse().unwrap();
            let seq = message["seq"].as_u64().unwrap();
            assert_eq!(
                by_content.insert(content, seq),
                None,
                "{content} is stored twice"
            );
        }
        for (content, seq) in &acknowledged {
            assert_eq!(
                by_content.get(content),
                Some(seq),
                "{content} was acknowledged"
            );
        }
    }

    // Lost messages can be sent again, and messages that were not lost are stored once.
    let server = ServerProcess::start(folder.path(), &UNLIMITED);
    let mut ann = server.guest("ann").await;
    for n in 0..MESSAGES {
        let message = json!({"conversationId": LOBBY, "content": n.to_string(),
            "clientMessageId": format!("message {n}")});
        ann.request("message", message).await;
    }
    for _ in 0..MESSAGES {
        let (_, answer) = ann.any_answer().await.unwrap();
        assert_eq!(answer["success"], true, "{answer}");
    }
    assert_eq!(everything(&server).await.len(), MESSAGES);
}

/// Returns all messages, as a client that joins receives them.
async fn everything(server: &ServerProcess) -> Vec<Value> {
    let mut client = server.guest("reader").await;
    let mut messages = Vec::new();
    let join = json!({"conversationId": LOBBY, "lastSeq": 0});
    let mut page = client.must("join_conversation", join).await;
    loop {
        messages.append(page["messages"].as_array_mut().unwrap());
        if page["hasMore"] == false {
            return messages;
        }
        let after = messages.last().unwrap()["seq"].clone();
        let next = json!({"conversationId": LOBBY, "afterSeq": after, "limit": 200});
        page = client.must("message_history", next).await;
    }
}
