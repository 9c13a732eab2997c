//! Acknowledgements of a client's own messages, mixed with the messages of other clients.

use std::collections::BTreeSet;

use serde_json::json;

use crate::client::Client;
use crate::server::{LOBBY, Server};

/// Number of messages that each user sends.
const MESSAGES: usize = 200;

/// Sends all messages together, and returns the numbers of the client's own messages from the
/// acknowledgements.
async fn send(mut client: Client) -> (Client, Vec<u64>) {
    let mut requests = Vec::new();
    for number in 0..MESSAGES {
        let content = number.to_string();
        let message =
            json!({"conversationId": LOBBY, "content": content, "clientMessageId": content});
        requests.push(client.request("message", message).await);
    }
    let mut own = Vec::new();
    for id in requests {
        let answer = client.answer(id).await;
        assert_eq!(answer["success"], true, "{answer}");
        own.push(answer["message"]["seq"].as_u64().unwrap());
    }
    (client, own)
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_and_events_together_are_every_message_once() {
    let server = Server::start();
    let (ann, bob) = (server.in_lobby("ann").await, server.in_lobby("bob").await);
    let sent = tokio::join!(tokio::spawn(send(ann)), tokio::spawn(send(bob)));
    for sent in [sent.0, sent.1] {
        let (mut client, own) = sent.unwrap();
        let mut others = Vec::new();
        for _ in 0..MESSAGES {
            others.push(client.event("message").await["seq"].as_u64().unwrap());
        }
        assert!(others.is_sorted(), "events come in order: {others:?}");
        assert!(
            own.is_sorted(),
            "messages of one socket are stored in order: {own:?}"
        );
        let all: BTreeSet<u64> = own.into_iter().chain(others).collect();
        assert_eq!(all, (1..=2 * MESSAGES as u64).collect());
        assert!(client.events_until_now("message").await.is_empty());
    }
}
