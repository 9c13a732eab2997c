//! Confirmations of delivery: what counts, what does not, and what is left afterwards.

use serde_json::{Value, json};

use crate::server::{LOBBY, Server};

fn confirmed() -> Value {
    json!({"conversationId": LOBBY, "content": "x", "confirmDelivery": true})
}

#[tokio::test]
async fn late_and_duplicate_confirmations_are_counted_and_ignored() {
    let server = Server::with(&[("ROOMCAST_CHAT__CONFIRM_TIMEOUT", "10s")]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let mut eve = server.in_lobby("eve").await;
    let sent = ann.must("message", confirmed()).await;
    let (_, bobs) = bob.event_to_answer("message").await;
    let (_, eves) = eve.event_to_answer("message").await;
    bob.acknowledge(bobs.unwrap()).await;
    bob.acknowledge(bobs.unwrap()).await;
    let report = ann.event("message_delivered").await;
    assert_eq!(
        report,
        json!({"conversationId": LOBBY, "messageId": sent["message"]["id"], "expected": 2,
            "delivered": 1, "timedOut": true})
    );
    assert_eq!(server.metric("roomcast_acks_timed_out_total").await, 1);
    eve.acknowledge(eves.unwrap()).await;
    eve.must("presence", json!({"conversationId": LOBBY})).await;
    assert_eq!(server.metric("roomcast_acks_unknown_total").await, 2);
    assert_eq!(
        server.metric("roomcast_acks_pending").await,
        0,
        "nothing is kept"
    );
    assert!(ann.events_until_now("message_delivered").await.is_empty());
}

#[tokio::test]
async fn confirmation_by_another_socket_does_not_count() {
    let server = Server::with(&[("ROOMCAST_CHAT__CONFIRM_TIMEOUT", "2s")]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let mut eve = server.guest("eve").await;
    ann.must("message", confirmed()).await;
    let (_, id) = bob.event_to_answer("message").await;
    // A client outside the conversation guesses the id, and the sender answers as well.
    eve.acknowledge(id.unwrap()).await;
    ann.acknowledge(id.unwrap()).await;
    let report = ann.event("message_delivered").await;
    assert_eq!(
        (
            &report["expected"],
            &report["delivered"],
            &report["timedOut"]
        ),
        (&json!(1), &json!(0), &json!(true))
    );
}

#[tokio::test]
async fn messages_beyond_the_limit_are_sent_without_confirmation() {
    let server = Server::with(&[
        ("ROOMCAST_CHAT__CONFIRMATIONS", "5"),
        ("ROOMCAST_CHAT__CONFIRM_TIMEOUT", "60s"),
    ]);
    let mut ann = server.in_lobby("ann").await;
    let mut receivers = Vec::new();
    for name in ["bob", "carl", "dora"] {
        receivers.push(server.in_lobby(name).await);
    }
    // Four sockets of the conversation are tracked until all have answered.
    let first = ann.must("message", confirmed()).await;
    let second = ann.must("message", confirmed()).await;
    let report = ann.event("message_delivered").await;
    assert_eq!(
        report,
        json!({"conversationId": LOBBY, "messageId": second["message"]["id"], "expected": 3,
            "delivered": 0, "timedOut": true})
    );
    assert_eq!(
        server.metric("roomcast_confirmations_skipped_total").await,
        1
    );
    for receiver in &mut receivers {
        let (message, id) = receiver.event_to_answer("message").await;
        assert_eq!(message, first["message"]);
        let (plain, none) = receiver.event_to_answer("message").await;
        assert_eq!((&plain, none), (&second["message"], None));
        receiver.acknowledge(id.unwrap()).await;
    }
    let report = ann.event("message_delivered").await;
    assert_eq!(
        (&report["messageId"], &report["delivered"]),
        (&first["message"]["id"], &json!(3))
    );
    // All places are free again.
    ann.must("message", confirmed()).await;
    for receiver in &mut receivers {
        let (_, id) = receiver.event_to_answer("message").await;
        receiver.acknowledge(id.unwrap()).await;
    }
    assert_eq!(ann.event("message_delivered").await["delivered"], 3);
    let pending = "roomcast_acks_pending";
    server.binary.until_metric(pending, |acks| acks == 0).await;
}

#[tokio::test]
async fn disconnected_sender_leaves_no_pending_delivery() {
    let server = Server::with(&[("ROOMCAST_CHAT__CONFIRM_TIMEOUT", "2s")]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let mut most = 0;
    for _ in 0..20 {
        ann.must("message", confirmed()).await;
        most = server.metric("roomcast_acks_pending").await.max(most);
    }
    assert!(most > 0, "confirmations are awaited");
    ann.vanish();
    for _ in 0..20 {
        bob.event("message").await;
    }
    let start = std::time::Instant::now();
    while server.metric("roomcast_acks_pending").await > 0 {
        assert!(start.elapsed().as_secs() < 20, "still pending");
    }
}
