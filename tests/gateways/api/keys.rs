//! Requests that name a key.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Caller, start, user};
use crate::guard::KEY;

#[tokio::test]
async fn keyed_creation_runs_once_and_repeats_its_answer_after_restart() {
    let server = start();
    let service = Caller::service(&server);
    let lobby = format!("/conversations/{}/messages", crate::server::LOBBY);
    let until = "2030-01-01T00:00:00Z";
    let requests = [
        (
            "/conversations",
            json!({"title": "One", "memberIds": ["ann"]}),
            201,
        ),
        (&*lobby, json!({"userId": "ann", "content": "one"}), 201),
        ("/emit", json!({"event": "news", "everyone": true}), 200),
        (
            "/revocations",
            json!({"userId": "carl", "until": until}),
            200,
        ),
        (
            "/blocks",
            json!({"cidr": "192.0.2.0/24", "seconds": 60, "reason": "x"}),
            201,
        ),
        ("/trades", trade(), 200),
        ("/signals", signal(), 200),
        ("/portfolios", portfolio(), 200),
        ("/prices", prices(), 200),
        ("/notifications", notification(), 200),
    ];
    let mut ann = user(&server, "ann").await;
    for (event, payload) in FOLLOWED {
        let payload = serde_json::from_str(payload).unwrap();
        ann.must(event, payload).await;
    }
    let mut first = Vec::new();
    for (path, body, status) in &requests {
        let keyed = service.with_key(&format!("key-of-{path}"));
        let answer = keyed.send("POST", path, body.to_string()).await;
        assert_eq!(
            (answer.status, answer.header("idempotency-replayed")),
            (*status, None),
            "{}",
            answer.body
        );
        let again = keyed.send("POST", path, body.to_string()).await;
        assert_eq!(again.parts(), answer.parts());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.header("content-type"), answer.header("content-type"));
        assert_eq!(again.header("cache-control"), Some("no-store"));
        first.push(answer);
    }
    for event in EMITTED_EVENTS {
        assert_eq!(ann.event(event).await["revision"], 1, "{event}");
        assert!(ann.events_until_now(event).await.is_empty(), "{event}");
    }
    let server = server.restart(&[KEY]);
    let service = Caller::service(&server);
    for ((path, body, _), answer) in requests.iter().zip(first) {
        let keyed = service.with_key(&format!("key-of-{path}"));
        let again = keyed.send("POST", path, body.to_string()).await;
        assert_eq!(again.parts(), answer.parts(), "{path}");
    }
    let listed = service.get("/users/ann/conversations").await;
    let titles: Vec<_> = listed["conversations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["title"])
        .collect();
    assert_eq!(
        titles.iter().filter(|title| **title == "One").count(),
        1,
        "{titles:?}"
    );
    let messages = service.get(&lobby).await;
    assert_eq!(messages["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn many_users_are_notified_once_under_a_key() {
    let server = start();
    let keyed = Caller::service(&server).with_key("k");
    let mut many = notification();
    many.as_object_mut().unwrap().remove("userId");
    many["userIds"] = json!(["ann", "bob"]);
    let first = keyed.send("POST", "/notifications", many.to_string()).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let again = keyed.send("POST", "/notifications", many.to_string()).await;
    assert_eq!(again.parts(), first.parts());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let service = Caller::service(&server);
    for user in ["ann", "bob"] {
        let listed = service.get(&format!("/users/{user}/notifications")).await;
        assert_eq!(listed["unread"], 1, "{user}");
    }
}

#[tokio::test]
async fn a_body_under_a_key_is_as_long_as_its_route_takes_it() {
    let server = start();
    let keyed = Caller::service(&server).with_key("k");
    let spaces = |body: &Value, more: usize| format!("{body}{}", " ".repeat(more << 10));
    let long = spaces(&prices(), 100);
    for replayed in [None, Some("true")] {
        let answer = keyed.send("POST", "/prices", long.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("idempotency-replayed"), replayed);
    }
    let other = Caller::service(&server).with_key("l");
    for (path, body) in [
        ("/prices", spaces(&prices(), 256)),
        ("/trades", spaces(&trade(), 64)),
    ] {
        let answer = other.send("POST", path, body).await;
        assert_eq!(answer.status, 413, "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn key_is_bound_to_one_request_of_one_caller() {
    let server = start();
    let (one, two) = (
        Caller::service(&server),
        Caller::of(&server, "other", &["service"]),
    );
    let body = json!({"title": "One"});
    let made = one
        .with_key("k")
        .must(201, "POST", "/conversations", body.clone())
        .await;
    let other = json!({"title": "Two"});
    let keyed = one.with_key("k");
    keyed
        .refused(409, "CONFLICT", ("POST", "/conversations", other))
        .await;
    keyed
        .refused(
            409,
            "CONFLICT",
            ("POST", "/conversations?x=1", body.clone()),
        )
        .await;
    keyed
        .refused(409, "CONFLICT", ("POST", "/emit", body.clone()))
        .await;
    let another = two
        .with_key("k")
        .must(201, "POST", "/conversations", body.clone())
        .await;
    assert_ne!(made["conversation"]["id"], another["conversation"]["id"]);
    let without = one.must(201, "POST", "/conversations", body).await;
    assert_ne!(made["conversation"]["id"], without["conversation"]["id"]);
}

#[tokio::test]
async fn keyed_changes_and_removals_run_once() {
    let server = start();
    let service = Caller::service(&server);
    let new = json!({"title": "One", "memberIds": ["ann", "bob"]});
    let made = service.must(201, "POST", "/conversations", new).await;
    let id = made["conversation"]["id"].as_str().unwrap();
    let messages = format!("/conversations/{id}/messages");
    let hello = json!({"content": "hello"});
    let sent = service.must(201, "POST", &messages, hello).await;
    let message = sent["message"]["id"].as_str().unwrap();
    let conversation = format!("/conversations/{id}");
    let (carl, bob) = (
        format!("{conversation}/members/carl"),
        format!("{conversation}/members/bob"),
    );
    let reaction = format!("/messages/{message}/reactions/%F0%9F%91%8D");
    let pin = format!("/messages/{message}/pin");
    let pins = format!("{conversation}/pins");
    let status = "/users/ann/status";
    let title = |title: &str| json!({"title": title});
    let status_body = |status: &str| json!({"status": status});
    // Requests with a key, a request without a key that undoes each, and a request that shows that
    // it stays undone.
    for (method, path, body, undo, undone, shown) in [
        (
            "PUT",
            &*carl,
            Value::Null,
            "DELETE",
            Value::Null,
            &*conversation,
        ),
        (
            "DELETE",
            &bob,
            Value::Null,
            "PUT",
            Value::Null,
            &conversation,
        ),
        (
            "PATCH",
            &conversation,
            title("Two"),
            "PATCH",
            title("Three"),
            &conversation,
        ),
        (
            "PUT",
            &reaction,
            Value::Null,
            "DELETE",
            Value::Null,
            &messages,
        ),
        ("PUT", &pin, Value::Null, "DELETE", Value::Null, &pins),
        (
            "PUT",
            status,
            status_body("busy"),
            "PUT",
            status_body("away"),
            status,
        ),
    ] {
        let keyed = service.with_key(&format!("{method}-{path}"));
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let first = keyed.send(method, path, text.clone()).await;
        assert_eq!(
            (first.status, first.header("idempotency-replayed")),
            (200, None),
            "{}",
            first.body
        );
        service.must(200, undo, path, undone).await;
        let before = service.get(shown).await;
        let again = keyed.send(method, path, text).await;
        assert_eq!(again.parts(), first.parts(), "{method} {path}");
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(service.get(shown).await, before, "{method} {path}");
        let elsewhere = format!("{path}?x=1");
        let mut others = vec![
            (method, path, json!({"title": "Four"})),
            (method, &*elsewhere, body.clone()),
        ];
        if undo != method {
            others.push((undo, path, body));
        }
        for other in others {
            keyed.refused(409, "CONFLICT", other).await;
        }
    }
    // An answer without a body is repeated as well.
    let until = json!({"cidr": "192.0.2.0/24", "seconds": 60, "reason": "x"});
    let block = service.must(201, "POST", "/blocks", until).await;
    let path = format!("/blocks/{}", block["id"].as_str().unwrap());
    let keyed = service.with_key("block");
    for replayed in [None, Some("true")] {
        let answer = keyed.send("DELETE", &path, "").await;
        assert_eq!(
            (answer.status, answer.header("idempotency-replayed")),
            (204, replayed)
        );
    }
    service.must(404, "DELETE", &path, Value::Null).await;
}

#[tokio::test]
async fn one_of_concurrent_requests_with_one_key_is_executed() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let body = json!({"event": "news", "args": [1], "users": ["ann"]});
    let keyed = service.with_key("k");
    let all = join_all((0..8).map(|_| keyed.call("POST", "/emit", &body))).await;
    for (status, answer) in &all {
        match status {
            200 => assert_eq!(answer["queued"], 1),
            409 => assert!(answer["error"]["retryAfter"].is_u64(), "{answer}"),
            _ => panic!("{status} {answer}"),
        }
    }
    assert!(all.iter().any(|(status, _)| *status == 200));
    assert_eq!(ann.event("news").await, json!(1));
    assert!(ann.events_until_now("news").await.is_empty());
}

#[tokio::test]
async fn session_secret_is_returned_once() {
    let server = start();
    let keyed = Caller::service(&server).with_key("k");
    let body = json!({"userId": "ann", "ttlSeconds": 60});
    let made = keyed.must(201, "POST", "/sessions", body.clone()).await;
    assert!(made["sessionId"].is_string());
    keyed
        .refused(409, "CONFLICT", ("POST", "/sessions", body))
        .await;
}

#[tokio::test]
async fn refused_request_does_not_use_its_key() {
    let server = start();
    let keyed = Caller::service(&server).with_key("k");
    for body in [
        json!({"event": ""}),
        json!({"event": "message", "everyone": true}),
    ] {
        keyed
            .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", body))
            .await;
    }
    let body = json!({"event": "news", "everyone": true});
    keyed.must(200, "POST", "/emit", body).await;
}

#[tokio::test]
async fn key_is_short_text_and_is_ignored_for_reads() {
    let server = start();
    let service = Caller::service(&server);
    let body = json!({"event": "news", "everyone": true});
    for key in ["", "a b", "ä", &"x".repeat(256), "a\r\nIdempotency-Key: b"] {
        let answer = service.with_key(key).call("POST", "/emit", &body).await;
        assert_eq!(answer.0, 400, "{key}");
        let field = &answer.1["error"]["details"]["field"];
        assert_eq!(field, "Idempotency-Key", "{key}");
    }
    let long = "x".repeat(255);
    service
        .with_key(&long)
        .must(200, "POST", "/emit", body)
        .await;
    // A read is executed each time.
    for path in ["/rooms", "/sockets"] {
        service
            .with_key(&long)
            .must(200, "GET", path, Value::Null)
            .await;
    }
}

#[tokio::test]
async fn next_attempt_finds_what_a_lost_attempt_has_created() {
    let server = start();
    let keyed = Caller::service(&server).with_key("k");
    let lobby = format!("/conversations/{}/messages", crate::server::LOBBY);
    let (new, hello) = (
        json!({"title": "One"}),
        json!({"userId": "ann", "content": "hello"}),
    );
    let other = Caller::service(&server).with_key("l");
    let made = keyed.must(201, "POST", "/conversations", new.clone()).await;
    let sent = other.must(201, "POST", &lobby, hello.clone()).await;
    let mut ann = user(&server, "ann").await;
    for (event, payload) in FOLLOWED {
        ann.must(event, serde_json::from_str(payload).unwrap())
            .await;
    }
    // Only the trade has an id of its own, which it requires.
    let emitted = |event: &str, argument: Value| json!({"event": event, "args": [argument]});
    let requests = [
        ("/trades", trade()),
        ("/signals", signal()),
        ("/notifications", notification()),
        ("/emit", emitted("signal:new", signal())),
        ("/emit", emitted("notification:new", notification())),
    ];
    let mut published = Vec::new();
    for (n, (path, body)) in requests.iter().enumerate() {
        let keyed = keyed.with_key(&format!("p{n}"));
        published.push(keyed.must(200, "POST", path, body.clone()).await);
    }
    // As if the server had been killed before it stored the answers.
    let end = "9999-01-01T00:00:00Z".parse().unwrap();
    server.store.sweep_requests(end, 0).await.unwrap();
    let again = keyed.send("POST", "/conversations", new.to_string()).await;
    assert_eq!(
        again.header("idempotency-replayed"),
        None,
        "it is done again"
    );
    assert_eq!(again.status, 201);
    assert_eq!(serde_json::from_str::<Value>(&again.body).unwrap(), made);
    assert_eq!(other.must(201, "POST", &lobby, hello).await, sent);
    for (n, ((path, body), first)) in requests.iter().zip(&published).enumerate() {
        let keyed = keyed.with_key(&format!("p{n}"));
        let again = keyed.send("POST", path, body.to_string()).await;
        assert_eq!(again.header("idempotency-replayed"), None, "{path}");
        assert_eq!(again.status, 200, "{path}: {}", again.body);
        let again: Value = serde_json::from_str(&again.body).unwrap();
        assert_eq!(again, *first, "{path}");
    }
    for (event, times) in [
        ("trade:update", 1),
        ("signal:new", 2),
        ("notification:new", 2),
    ] {
        let received = ann.events_until_now(event).await;
        assert_eq!(received.len(), times, "{event}: {received:?}");
    }
}

/// Subscriptions to what services publish, with their payloads.
const FOLLOWED: [(&str, &str); 4] = [
    ("subscribe:trades", r#"{"userId": "ann"}"#),
    ("subscribe:portfolio", r#"{"userId": "ann"}"#),
    ("subscribe:signals", "{}"),
    ("subscribe:notifications", "{}"),
];
const EMITTED_EVENTS: [&str; 4] = [
    "trade:update",
    "portfolio:update",
    "signal:new",
    "notification:new",
];

fn trade() -> Value {
    json!({"tradeId": "t", "userId": "ann", "symbol": "AAPL", "status": "executed",
        "executedPrice": 190.5, "quantity": 2.0})
}

fn signal() -> Value {
    json!({"providerId": "p", "providerName": "P", "symbol": "AAPL", "action": "buy", "confidence": 50.0})
}

fn portfolio() -> Value {
    json!({"userId": "ann", "totalValue": 1.0, "cash": 1.0, "positions": []})
}

/// Returns so many prices that the body exceeds the limit of other routes.
fn prices() -> Value {
    let prices = (0..1000).map(|n| {
        let symbol = format!("{n:x<32}");
        json!({"symbol": symbol, "price": 1.0, "timestamp": "2025-01-31T12:00:00.000Z"})
    });
    json!({"prices": prices.collect::<Vec<_>>()})
}

fn notification() -> Value {
    json!({"userId": "ann", "type": "info", "priority": "urgent", "title": "Hello", "message": "You"})
}
