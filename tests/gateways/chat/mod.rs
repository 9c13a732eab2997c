//! Messages: sending, joining, history, errors.

mod joining;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Client;
use crate::server::{LOBBY, Server};

#[tokio::test]
async fn message_is_acknowledged_with_its_row_and_sent_to_members() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut tab = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let answer = ann
        .ask(
            "message",
            json!({"conversationId": LOBBY, "content": " <b>hi</b>\n", "unknown": [1],
                "metadata": {"imageUrl": "https://example.org/a.png", "x": [1.5]}}),
        )
        .await;
    let message = &answer["message"];
    assert_eq!(
        answer,
        json!({"success": true, "message": {
            "id": message["id"], "conversationId": LOBBY, "seq": 1, "userId": ann.user_id(),
            "userName": "ann", "content": " <b>hi</b>\n", "type": "user",
            "metadata": {"imageUrl": "https://example.org/a.png", "x": [1.5]}, "version": 1,
            "createdAt": message["createdAt"],
        }})
    );
    assert_eq!(
        message["createdAt"].as_str().unwrap().len(),
        "2025-01-31T12:00:00.000Z".len()
    );
    assert_eq!(&bob.event("message").await, message);
    assert_eq!(
        &tab.event("message").await,
        message,
        "the user's other tab gets it"
    );
    assert_eq!(
        ann.events_until_now("message").await,
        [Value::Null; 0],
        "the sender does not"
    );
}

#[tokio::test]
async fn metadata_and_content_are_emitted_unchanged() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let metadata = r#"{"b":1.50,"a":"\u00e4","big":123456789012345678901234567890}"#;
    ann.send(&format!(
        r#"427["message",{{"metadata": {metadata},"conversationId":"{LOBBY}","content":"\ud83d\ude00"}}]"#
    ))
    .await;
    let seen = bob.packet_of("message").await;
    assert!(
        seen.contains(&format!(r#""metadata":{metadata}"#)),
        "{seen}"
    );
    assert!(seen.contains(r#""content":"😀""#), "{seen}");
}

#[tokio::test]
async fn messages_of_many_senders_reach_all_in_seq_order() {
    const SENDERS: u64 = 5;
    const EACH: u64 = 40;
    let server = Server::start();
    let mut watcher = server.in_lobby("watcher").await;
    let mut clients = Vec::new();
    for n in 0..SENDERS {
        clients.push(server.in_lobby(&format!("u{n}")).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut last = 0;
            for _ in 0..EACH {
                last = client.request("message", say("x")).await;
            }
            let own = client.answer(last).await["message"]["seq"]
                .as_u64()
                .unwrap();
            // The client has received everything before its own last message, in order.
            let seen = client.events_until_now("message").await;
            let seen: Vec<u64> = seen.iter().map(|m| m["seq"].as_u64().unwrap()).collect();
            assert!(seen.is_sorted(), "{seen:?}");
            assert!(seen.iter().filter(|seq| **seq < own).count() as u64 == own - EACH);
        });
    }
    for seq in 1..=SENDERS * EACH {
        assert_eq!(watcher.event("message").await["seq"], seq);
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn repeated_message_is_acknowledged_with_its_row_and_emitted_once() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let message = json!({"conversationId": LOBBY, "content": "once", "clientMessageId": "m1"});
    let first = ann.must("message", message.clone()).await;
    let second = ann.must("message", message.clone()).await;
    let mut tab = server.guest("ann").await;
    let third = tab.must("message", message).await;
    assert_eq!(first, second);
    assert_eq!(first, third);
    assert_eq!(bob.events_until_now("message").await.len(), 1);
    let own = server.conversation(&[&ann]).await;
    let elsewhere = json!({"conversationId": own, "content": "x", "clientMessageId": "m1"});
    ann.refused("message", elsewhere, "CONFLICT").await;
}

#[tokio::test]
async fn sending_needs_membership_and_not_having_joined() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut eve = server.guest("eve").await;
    let id = server.conversation(&[&ann, &bob]).await;
    bob.must("join_conversation", json!(id)).await;
    ann.must("message", json!({"conversationId": id, "content": "hi"}))
        .await;
    assert_eq!(bob.event("message").await["content"], "hi");

    let foreign = json!({"conversationId": id, "content": "hi"});
    let foreign = eve.refused("message", foreign, "NOT_FOUND").await;
    let unknown = json!({"conversationId": Uuid::new_v4(), "content": "hi"});
    assert_eq!(eve.refused("message", unknown, "NOT_FOUND").await, foreign);
    eve.refused("join_conversation", json!(id), "NOT_FOUND")
        .await;
    eve.refused(
        "message_history",
        json!({"conversationId": id}),
        "NOT_FOUND",
    )
    .await;
    assert_eq!(bob.events_until_now("message").await, [Value::Null; 0]);
}

#[tokio::test]
async fn invalid_messages_are_refused_and_not_emitted() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let with = |change: Value| {
        let mut message = say("hi");
        message
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        message
    };
    for wrong in [
        Value::Null,
        json!("hi"),
        json!([]),
        json!({}),
        json!({"content": "hi"}),
        json!({"conversationId": LOBBY}),
        with(json!({"conversationId": "lobby"})),
        with(json!({"conversationId": 1})),
        with(json!({"content": ""})),
        with(json!({"content": null})),
        with(json!({"content": 7})),
        with(json!({"content": {"_placeholder": true, "num": 0}})),
        with(json!({"content": "a\u{0}b"})),
        with(json!({"content": "a\u{85}b"})),
        with(json!({"content": "ä".repeat(10_001)})),
        with(json!({"type": "system"})),
        with(json!({"type": 1})),
        with(json!({"metadata": []})),
        with(json!({"metadata": "x"})),
        with(json!({"metadata": {"imageUrl": "javascript:alert(1)"}})),
        with(json!({"metadata": {"timestamp": "now"}})),
        with(json!({"metadata": {"x": "x".repeat(4090)}})),
        with(json!({"clientMessageId": ""})),
        with(json!({"clientMessageId": 7})),
        with(json!({"clientMessageId": "x".repeat(129)})),
        with(json!({"confirmDelivery": "yes"})),
    ] {
        ann.refused("message", wrong, "INVALID_PAYLOAD").await;
    }
    ann.refused("message", with(json!({"type": "ai"})), "FORBIDDEN")
        .await;
    assert_eq!(bob.events_until_now("message").await, [Value::Null; 0]);

    for right in [
        with(json!({"content": "ä".repeat(10_000)})),
        with(json!({"content": "\n\r\t \u{200b}"})),
        with(json!({"type": null, "metadata": null, "clientMessageId": null})),
        with(json!({"type": "user", "confirmDelivery": false})),
        with(json!({"metadata": {"x": "x".repeat(4088)}})),
    ] {
        let answer = ann.must("message", right.clone()).await;
        assert_eq!(bob.event("message").await["content"], right["content"]);
        assert!(answer["message"]["metadata"].is_object());
    }
    assert_eq!(
        server
            .store
            .membership(LOBBY.parse().unwrap(), "x")
            .await
            .unwrap()
            .unwrap()
            .last_seq,
        5
    );
}

#[tokio::test]
async fn error_names_the_field_at_fault() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let error = ann.refused("message", say(""), "INVALID_PAYLOAD").await;
    assert_eq!(
        error,
        json!({"code": "INVALID_PAYLOAD", "message": "content is empty",
            "details": {"field": "content"}})
    );
    let mut wrong = say("x");
    wrong["clientMessageId"] = json!(7);
    let error = ann.refused("message", wrong, "INVALID_PAYLOAD").await;
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("clientMessageId"),
        "{error}"
    );
}

#[tokio::test]
async fn failed_event_without_acknowledgement_gets_an_error_event() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    ann.emit(
        "message",
        json!({"conversationId": Uuid::new_v4(), "content": "x"}),
    )
    .await;
    assert_eq!(
        ann.event("error").await,
        json!({"type": "subscription", "code": "NOT_FOUND", "message": "no such conversation",
            "event": "message", "status": 404})
    );
    ann.emit("join_conversation", json!(7)).await;
    let error = ann.event("error").await;
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("payload"), &json!("INVALID_PAYLOAD"))
    );
    assert_eq!(
        (&error["event"], &error["status"]),
        (&json!("join_conversation"), &json!(400))
    );
    let mut ai = say("x");
    ai["type"] = json!("ai");
    ann.emit("message", ai).await;
    let error = ann.event("error").await;
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("auth"), &json!("FORBIDDEN"))
    );
    assert_eq!(error["status"], 403);
    ann.emit("message", say("fine")).await;
    assert_eq!(ann.events_until_now("error").await, [Value::Null; 0]);
}

#[tokio::test]
async fn refusal_by_the_store_has_a_retry_time() {
    let server = Server::with(&[("ROOMCAST_STORE__MAX_BYTES", "400000")]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let long = "x".repeat(8000);
    let mut stored = 0;
    let error = loop {
        let answer = ann.ask("message", say(&long)).await;
        if answer["success"] == false {
            break answer["error"].clone();
        }
        stored += 1;
        assert!(stored < 1000, "the store has a limit");
    };
    assert_eq!(error["code"], "STORE_UNAVAILABLE");
    assert!(error["retryAfter"].as_u64().unwrap() > 0, "{error}");
    ann.emit("message", say(&long)).await;
    let error = ann.event("error").await;
    assert_eq!(
        (&error["type"], &error["status"]),
        (&json!("store"), &json!(503))
    );
    assert!(error["retryAfter"].as_u64().unwrap() > 0, "{error}");
    assert_eq!(bob.events_until_now("message").await.len(), stored);
    // The socket stays connected, and acknowledged messages can be read.
    let history = ann
        .must("message_history", json!({"conversationId": LOBBY}))
        .await;
    assert_eq!(history["messages"].as_array().unwrap().len(), stored);
}

#[tokio::test]
async fn a_locked_database_refuses_and_the_sockets_stay() {
    let server = Server::with(&[("ROOMCAST_STORE__BUSY_TIMEOUT", "20ms")]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    ann.must("message", say("before")).await;
    let other = server.database();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = ann
        .refused("message", say("meanwhile"), "STORE_UNAVAILABLE")
        .await;
    assert!(error["retryAfter"].as_u64().unwrap() > 0, "{error}");
    let history = ann.must("message_history", json!({"conversationId": LOBBY}));
    assert_eq!(seqs(&history.await), [1], "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    ann.must("message", say("after")).await;
    for content in ["before", "after"] {
        assert_eq!(bob.event("message").await["content"], content);
    }
}

#[tokio::test]
async fn a_delivery_is_confirmed_when_all_receivers_have_answered() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut receivers = [server.in_lobby("bob").await, server.in_lobby("ann").await];
    let answer = ann.must("message", confirmed()).await;
    for receiver in &mut receivers {
        let (message, id) = receiver.event_to_answer("message").await;
        assert_eq!(message, answer["message"]);
        receiver.acknowledge(id.unwrap()).await;
        // A second answer does not count.
        receiver.acknowledge(id.unwrap()).await;
    }
    assert_eq!(
        ann.event("message_delivered").await,
        json!({"conversationId": LOBBY, "messageId": answer["message"]["id"], "expected": 2,
            "delivered": 2, "timedOut": false})
    );
    for receiver in &mut receivers {
        assert_eq!(
            receiver.events_until_now("message_delivered").await,
            [Value::Null; 0]
        );
    }
}

#[tokio::test]
async fn unconfirmed_delivery_is_reported_after_the_timeout() {
    let server = Server::with(&[("ROOMCAST_CHAT__CONFIRM_TIMEOUT", "10s")]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let _silent = server.in_lobby("eve").await;
    ann.must("message", confirmed()).await;
    let (_, id) = bob.event_to_answer("message").await;
    bob.acknowledge(id.unwrap()).await;
    let report = ann.event("message_delivered").await;
    assert_eq!(
        (&report["expected"], &report["delivered"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(report["timedOut"], true);
}

#[tokio::test]
async fn disconnected_receiver_counts_as_expected_but_not_delivered() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    ann.must("message", confirmed()).await;
    bob.event("message").await;
    bob.vanish();
    let report = ann.event("message_delivered").await;
    assert_eq!(
        (&report["expected"], &report["delivered"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(report["timedOut"], false);
}

#[tokio::test]
async fn delivery_without_receivers_is_confirmed_immediately() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    ann.must("message", confirmed()).await;
    let report = ann.event("message_delivered").await;
    assert_eq!(
        (&report["expected"], &report["delivered"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(report["timedOut"], false);
}

fn say(content: &str) -> Value {
    json!({"conversationId": LOBBY, "content": content})
}

fn confirmed() -> Value {
    json!({"conversationId": LOBBY, "content": "x", "confirmDelivery": true})
}

fn seqs(answer: &Value) -> Vec<u64> {
    let messages = answer["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|message| message["seq"].as_u64().unwrap())
        .collect()
}
