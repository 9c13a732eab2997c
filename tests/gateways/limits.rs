//! Limits on the actions of a user, and what happens beyond them.

#[cfg(feature = "postgres")]
use std::time::Duration;
use std::time::Instant;

use serde_json::{Value, json};

#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{LOBBY, Server};

/// Returns the number of messages allowed beyond the burst since then: one every two seconds, and
/// one that has just become due.
fn more_since(start: Instant) -> usize {
    usize::try_from(start.elapsed().as_secs()).unwrap() / 2 + 1
}

/// Sends messages until one is refused, and returns the number of accepted messages and the error.
async fn flood(client: &mut crate::client::Client) -> (usize, Value) {
    for taken in 0..1000 {
        let message = json!({"conversationId": LOBBY, "content": "hi"});
        let answer = client.ask("message", message).await;
        if answer["success"] != true {
            return (taken, answer);
        }
    }
    panic!("a thousand messages were taken");
}

#[tokio::test]
async fn user_may_send_thirty_messages_a_minute_then_gets_a_retry_time() {
    let server = Server::limited(&[crate::guard::KEY]);
    let mut ann = server.in_lobby("Ann").await;
    let start = Instant::now();
    let (taken, answer) = flood(&mut ann).await;
    assert!((30..=30 + more_since(start)).contains(&taken), "{taken}");
    assert_eq!(answer["success"], false);
    let error = &answer["error"];
    assert_eq!(error["code"], "RATE_LIMITED");
    assert!(error["message"].is_string());
    let retry_after = error["retryAfter"].as_u64().unwrap();
    assert!((1..=2000).contains(&retry_after), "{error}");

    let history = json!({"conversationId": LOBBY, "limit": 200});
    let history = ann.must("message_history", history).await;
    assert_eq!(history["messages"].as_array().unwrap().len(), taken);

    let token = crate::guard::signed(&json!({"sub": "bob", "exp": 4_000_000_000_u64}));
    let mut bob = server.connect(&json!({"token": token})).await.unwrap();
    let message = json!({"conversationId": LOBBY, "content": "hi"});
    bob.must("message", message).await;
}

#[tokio::test]
async fn guest_gains_no_budget_under_another_name() {
    let server = Server::limited(&[]);
    let start = Instant::now();
    let mut taken = 0;
    for name in ["Ann", "Bob", "Carl", "Dora"] {
        let mut guest = server.connect(&json!({"name": name})).await.unwrap();
        guest
            .must("join_conversation", json!({"conversationId": LOBBY}))
            .await;
        taken += flood(&mut guest).await.0;
        guest.disconnect().await;
    }
    assert!((30..=30 + more_since(start)).contains(&taken), "{taken}");
    let start = Instant::now();
    // Concurrent clients share the budget of the address as well.
    let mut together = server.connect(&json!({"name": "Eve"})).await.unwrap();
    together
        .must("join_conversation", json!({"conversationId": LOBBY}))
        .await;
    let more = flood(&mut together).await.0;
    assert!(more <= more_since(start), "{more}");
}

#[tokio::test]
async fn user_gains_no_budget_by_reconnecting() {
    let server = Server::limited(&[]);
    let mut ann = server.in_lobby("Ann").await;
    flood(&mut ann).await;
    let start = Instant::now();
    ann.disconnect().await;
    let mut again = server.in_lobby("Ann").await;
    let (taken, _) = flood(&mut again).await;
    assert!(taken <= more_since(start), "{taken}");
}

#[tokio::test]
async fn excess_typing_without_acknowledgement_gets_an_error_event() {
    let server = Server::limited(&[]);
    let mut ann = server.in_lobby("Ann").await;
    // More than the limit allows even if this takes very long.
    for _ in 0..200 {
        let typing = json!({"conversationId": LOBBY, "isTyping": true});
        ann.emit("typing", typing).await;
    }
    let error = ann.event("error").await;
    let retry_after = error["retryAfter"].as_u64().unwrap();
    assert!((1..=200).contains(&retry_after), "{error}");
    assert_eq!(
        error,
        json!({
            "type": "rateLimit",
            "code": "RATE_LIMITED",
            "message": "too many events of this kind, try again later",
            "event": "typing",
            "retryAfter": retry_after,
            "status": 429,
        })
    );
    // Each class has its own bucket.
    let message = json!({"conversationId": LOBBY, "content": "hi"});
    ann.must("message", message).await;
}

#[tokio::test]
async fn unacknowledged_flood_gets_one_error_event_a_second() {
    let server = Server::limited(&[]);
    let mut ann = server.in_lobby("Ann").await;
    let start = Instant::now();
    for _ in 0..300 {
        let typing = json!({"conversationId": LOBBY, "isTyping": true});
        ann.emit("typing", typing).await;
    }
    let errors = ann.events_until_now("error").await.len();
    // The test may start in the middle of a second.
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 2;
    assert!(
        (1..=seconds).contains(&errors),
        "{errors} times in {seconds} s"
    );
    // A requested answer is always sent.
    for _ in 0..20 {
        let typing = json!({"conversationId": LOBBY, "isTyping": true});
        let answer = ann.ask("typing", typing).await;
        assert!(answer["success"] == true || answer["error"]["code"] == "RATE_LIMITED");
    }
}

#[tokio::test]
async fn strict_preset_limits_messages_to_ten_a_minute_and_5000_chars() {
    let server = Server::limited(&[("ROOMCAST_LIMITS__PRESET", "strict")]);
    let mut ann = server.in_lobby("Ann").await;
    let long = json!({"conversationId": LOBBY, "content": "x".repeat(5001)});
    ann.refused("message", long, "INVALID_PAYLOAD").await;
    let fits = json!({"conversationId": LOBBY, "content": "ä".repeat(5000)});
    let start = Instant::now();
    ann.must("message", fits).await;
    let (taken, _) = flood(&mut ann).await;
    assert!((8..=9 + more_since(start)).contains(&taken), "{taken}");
}

#[tokio::test]
async fn limits_are_configured_by_class_and_zero_is_none() {
    let server = Server::limited(&[
        ("ROOMCAST_LIMITS__MESSAGES_PER_MINUTE", "0"),
        ("ROOMCAST_LIMITS__REQUESTS_PER_SECOND", "1"),
    ]);
    let mut ann = server.in_lobby("Ann").await;
    let message = json!({"conversationId": LOBBY, "content": "hi"});
    for _ in 0..60 {
        ann.must("message", message.clone()).await;
    }
    let presence = json!({"conversationId": LOBBY});
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(ann.ask("presence", presence.clone()).await);
    }
    let limited = |answer: &Value| answer["error"]["code"] == "RATE_LIMITED";
    assert!(!limited(&answers[0]), "{answers:?}");
    assert!(answers.iter().any(limited), "{answers:?}");
}

#[tokio::test]
async fn user_connections_beyond_the_limit_are_refused() {
    let server = Server::limited(&[("ROOMCAST_LIMITS__CONNECTIONS_PER_USER", "2")]);
    let first = server.guest("Ann").await;
    let _second = server.guest("Ann").await;
    let _other = server.guest("Bob").await;
    let auth = json!({"name": "Ann", "guestKey": format!("the key of {:>8}", "Ann")});
    let Err(error) = server.connect(&auth).await else {
        panic!("a third connection was let in")
    };
    assert_eq!(
        error,
        json!({
            "message": "too many connections",
            "data": {"code": "RATE_LIMITED", "retryAfter": 10_000},
        })
    );
    first.disconnect().await;
    let start = Instant::now();
    while server.connect(&auth).await.is_err() {
        assert!(start.elapsed().as_secs() < 20, "never let in again");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn user_has_one_budget_across_three_servers() {
    const BUDGET: u64 = 20;
    let database = Database::new();
    let url = database.url().to_owned();
    let budget = BUDGET.to_string();
    let variables = [
        ("ROOMCAST_ADAPTER__URL", url.as_str()),
        ("ROOMCAST_LIMITS__REQUESTS_PER_SECOND", &budget),
    ];
    let servers = [(); 3].map(|()| database.server_with(&variables));
    let mut clients = Vec::new();
    for server in &servers {
        server
            .until_metric("roomcast_nodes", |nodes| nodes == 3)
            .await;
        let mut client = server.guest("ann").await;
        client.must("join_conversation", json!(LOBBY)).await;
        clients.push(client);
    }
    let start = Instant::now();
    let asking = clients.into_iter().map(|mut client| async move {
        let mut taken = 0;
        while start.elapsed() < Duration::from_secs(8) {
            let answer = client
                .ask("presence", json!({"conversationId": LOBBY}))
                .await;
            match answer["success"] == true {
                true => taken += 1,
                false => assert_eq!(answer["error"]["code"], "RATE_LIMITED"),
            }
        }
        taken
    });
    let taken: u64 = futures_util::future::join_all(asking)
        .await
        .into_iter()
        .sum();
    // The bound: a budget at each server with one second's refill, half a budget that is not
    // reported yet, and the rate of one server. Each server alone would accept 20 a second.
    let bound = 3 * 2 * BUDGET + BUDGET / 2 + BUDGET * (start.elapsed().as_secs() + 1);
    assert!(taken <= bound, "{taken} of {bound}");
    assert!(taken >= 3 * BUDGET, "{taken}");
}
