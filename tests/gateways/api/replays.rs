//! Which callers get a stored answer to a request with a key, and for which requests.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{CHAT, Caller, QUICK, SERVICE, start};
use crate::guard::KEY;
use crate::server::Server;

/// Returns all permissions that a caller of the API can have.
fn all_permissions() -> Vec<&'static str> {
    [&SERVICE[..], &CHAT[..], &["roles:grant"]].concat()
}

/// A request: method, path and body.
type Call = (&'static str, String, Value);

fn calls(conversation: &str, message: &str) -> Vec<Call> {
    let conversation = format!("/conversations/{conversation}");
    let message = format!("/messages/{message}");
    let messages = format!("{conversation}/messages");
    let trade =
        json!({"tradeId": "t", "userId": "ann", "symbol": "S", "status": "pending", "quantity": 1});
    let signal = json!({"providerId": "p", "providerName": "p", "symbol": "S", "action": "buy", "confidence": 1});
    let portfolio = json!({"userId": "ann", "totalValue": 1, "cash": 1, "positions": []});
    let price = json!({"symbol": "S", "price": 1});
    let notification = json!({"userId": "ann", "type": "info", "title": "t", "message": "m"});
    let mut calls = vec![
        ("POST", "/conversations".to_owned(), json!({"title": "x"})),
        ("PATCH", conversation.clone(), json!({"title": "y"})),
        ("PUT", format!("{conversation}/members/carl"), Value::Null),
        ("DELETE", format!("{conversation}/members/bob"), Value::Null),
        (
            "POST",
            messages.clone(),
            json!({"userId": "ann", "content": "x"}),
        ),
        (
            "POST",
            messages,
            json!({"userId": "ann", "content": "x", "type": "ai"}),
        ),
        ("PATCH", message.clone(), json!({"content": "y"})),
        ("PUT", format!("{message}/pin"), Value::Null),
        ("DELETE", format!("{message}/pin"), Value::Null),
        (
            "PUT",
            format!("{message}/reactions/%F0%9F%91%8D?userId=ann"),
            Value::Null,
        ),
        (
            "DELETE",
            format!("{message}/reactions/%F0%9F%91%8D?userId=ann"),
            Value::Null,
        ),
        ("PUT", "/users/ann/status".into(), json!({"status": "busy"})),
        ("DELETE", "/users/ann/sockets".into(), Value::Null),
        ("POST", "/revocations".into(), json!({"jti": "x"})),
        (
            "POST",
            "/blocks".into(),
            json!({"cidr": "192.0.2.1", "seconds": 60, "reason": "x"}),
        ),
        (
            "POST",
            "/emit".into(),
            json!({"event": "x", "everyone": true}),
        ),
        ("DELETE", message, Value::Null),
        ("DELETE", conversation, Value::Null),
    ];
    for (path, event, body) in [
        ("/trades", "trade:update", trade),
        ("/signals", "signal:new", signal),
        ("/portfolios", "portfolio:update", portfolio),
        ("/prices", "price:update", price),
        ("/notifications", "notification:new", notification),
    ] {
        calls.push(("POST", path.into(), body.clone()));
        calls.push((
            "POST",
            "/emit".into(),
            json!({"event": event, "args": [body]}),
        ));
    }
    calls
}

/// Creates a conversation of Ann and Bob with a message by Ann.
async fn conversation(service: &Caller) -> (String, String) {
    let new = json!({"title": "x", "memberIds": ["bob"], "ownerId": "ann"});
    let made = service.must(201, "POST", "/conversations", new).await;
    let id = made["conversation"]["id"].as_str().unwrap().to_owned();
    let hello = json!({"userId": "ann", "content": "hello"});
    let path = format!("/conversations/{id}/messages");
    let sent = service.must(201, "POST", &path, hello).await;
    (id, sent["message"]["id"].as_str().unwrap().to_owned())
}

async fn send(caller: &Caller, key: &str, (method, path, body): &Call) -> (u16, bool) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = caller.with_key(key).send(method, path, body).await;
    (
        answer.status,
        answer.header("idempotency-replayed").is_some(),
    )
}

#[tokio::test]
async fn an_answer_is_repeated_only_with_the_permissions_of_its_request() {
    let all = all_permissions();
    let mut roles = vec![(
        "ROOMCAST_AUTH__ROLES__COMPLETE__PERMISSIONS".to_owned(),
        all.join(","),
    )];
    for (n, missing) in all.iter().enumerate() {
        let others: Vec<_> = all.iter().copied().filter(|one| one != missing).collect();
        roles.push((
            format!("ROOMCAST_AUTH__ROLES__WITHOUT{n}__PERMISSIONS"),
            others.join(","),
        ));
    }
    let mut variables = vec![KEY, QUICK];
    variables.extend(roles.iter().map(|(name, value)| (&**name, &**value)));
    let server = Server::with(&variables);
    let complete = Caller::of(&server, "backend", &["complete"]);
    let (id, message) = conversation(&complete).await;
    let done = calls(&id, &message);
    for (n, call) in done.iter().enumerate() {
        let (status, is_replayed) = send(&complete, &format!("key-{n}"), call).await;
        assert!(
            (200..300).contains(&status) && !is_replayed,
            "{status} {call:?}"
        );
        assert_eq!(
            send(&complete, &format!("key-{n}"), call).await,
            (status, true)
        );
    }
    let mut refused = BTreeSet::new();
    for (m, missing) in all.iter().enumerate() {
        let caller = Caller::of(&server, "backend", &[&format!("without{m}")]);
        // Whether the server would refuse the original request to this caller is tested with an
        // identical new conversation.
        let (id, message) = conversation(&complete).await;
        let fresh = calls(&id, &message);
        for (n, (old, new)) in done.iter().zip(&fresh).enumerate() {
            let (status, _) = send(&caller, &format!("fresh-{m}-{n}"), new).await;
            let repeated = send(&caller, &format!("key-{n}"), old).await;
            // For a caller that does not moderate, a conversation of other users does not exist.
            if status == 403 || (*missing == "chat:moderate" && status == 404) {
                refused.insert(*missing);
                // The server no longer knows whether a conversation was the caller's own.
                let expected = match *missing {
                    "chat:moderate" => [(409, false), (409, false)],
                    "chat:manage" => [(403, false), (409, false)],
                    _ => [(403, false), (403, false)],
                };
                assert!(
                    expected.contains(&repeated),
                    "{missing} {old:?}: {repeated:?}"
                );
            } else if repeated.0 != 409 || !missing.starts_with("chat:m") {
                assert!(repeated.1, "{missing} {old:?}: {repeated:?}");
            }
        }
    }
    let unused: Vec<_> = all.iter().filter(|one| !refused.contains(*one)).collect();
    // No request of this test needs these permissions.
    let expected = [
        "api:sessions",
        "api:metrics",
        "api:explain",
        "api:log-level",
        "api:rooms",
        "api:trace",
        "api:users",
        "audit:read",
        "trades:read",
        "signals:read",
        "portfolio:read",
        "notifications:read",
        "channels:publish",
        "channels:read",
        "roles:grant",
    ];
    assert_eq!(unused, expected.each_ref());
}

#[tokio::test]
async fn the_same_json_in_another_order_is_the_same_request() {
    let server = start();
    let keyed = Caller::service(&server).with_key("k");
    let first = keyed.send("POST", "/trades", TRADE).await;
    assert_eq!(first.status, 200, "{}", first.body);
    for same in [
        TRADE,
        r#"{ "quantity":2.50,"status":"pending","symbol":"S", "userId":"ann","tradeId":"t"}"#,
        r#"{"tradeId":"\u0074","userId":"ann","symbol":"S","status":"pending","quantity":2.50}"#,
    ] {
        let again = keyed.send("POST", "/trades", same).await;
        assert_eq!(
            again.header("idempotency-replayed"),
            Some("true"),
            "{same}: {}",
            again.body
        );
        assert_eq!(again.body, first.body);
    }
    for (other, status) in [
        // Numbers are compared as text.
        (
            r#"{"tradeId":"t","userId":"ann","symbol":"S","status":"pending","quantity":2.5}"#,
            409,
        ),
        (
            r#"{"tradeId":"t","userId":"ann","symbol":"S","status":"pending","quantity":"2.50"}"#,
            409,
        ),
        (
            r#"{"tradeId":"t","tradeId":"t","userId":"ann","symbol":"S","status":"pending","quantity":2.50}"#,
            400,
        ),
    ] {
        let answer = keyed.send("POST", "/trades", other).await;
        assert_eq!(answer.status, status, "{other}: {}", answer.body);
    }
}

const TRADE: &str =
    r#"{"tradeId":"t","userId":"ann","symbol":"S","status":"pending","quantity":2.50}"#;
