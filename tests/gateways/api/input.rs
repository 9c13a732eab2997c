//! Refused requests and their errors.

use serde_json::{Value, json};

use super::rights::{body, document, full, routes};
use super::{Caller, start, user};
use crate::server::LOBBY;

#[tokio::test]
async fn invalid_body_is_refused_with_the_name_of_its_field() {
    let server = start();
    let service = Caller::service(&server);
    let messages = format!("/conversations/{LOBBY}/messages");
    for (path, body, field) in [
        ("/conversations", json!({"memberIds": "ann"}), "memberIds"),
        (
            "/conversations",
            json!({"memberIds": ["ann", 7]}),
            "memberIds[1]",
        ),
        ("/conversations", json!({"title": ""}), "title"),
        (&messages, json!({}), "content"),
        ("/trades", json!({}), "tradeId"),
        (
            "/portfolios",
            json!({"userId": "a", "totalValue": 1, "cash": 1, "positions": [{"symbol": "A"}]}),
            "positions[0].quantity",
        ),
        ("/conversations", json!({"ownerId": "a\u{0}"}), "ownerId"),
        (
            "/conversations",
            json!({"memberIds": ["ann", "a\u{0}"]}),
            "memberIds[1]",
        ),
        (&messages, json!({"content": ""}), "content"),
        (&messages, json!({"content": "x", "userId": ""}), "userId"),
        (
            &messages,
            json!({"content": "x", "userId": "u", "userName": "\u{7}"}),
            "userName",
        ),
        (
            &messages,
            json!({"content": "x", "metadata": []}),
            "metadata",
        ),
        (&messages, json!({"content": "x", "type": "system"}), "type"),
        (
            "/sessions",
            json!({"userId": "ann", "ttlSeconds": 0}),
            "ttlSeconds",
        ),
    ] {
        let error = service
            .refused(400, "INVALID_PAYLOAD", ("POST", path, body.clone()))
            .await;
        assert_eq!(error["details"]["field"], field, "{path} {body}: {error}");
    }
}

#[tokio::test]
async fn unknown_fields_and_parameters_are_refused() {
    let server = start();
    let service = Caller::service(&server);
    let messages = format!("/conversations/{LOBBY}/messages");
    for (path, field, body) in [
        ("/conversations", "titel", json!({"titel": "x"})),
        (
            &*messages,
            "confirmDelivery",
            json!({"content": "x", "confirmDelivery": true}),
        ),
        (
            "/emit",
            "expect",
            json!({"event": "x", "everyone": true, "expect": ["a"]}),
        ),
        (
            "/sessions",
            "role",
            json!({"userId": "ann", "ttlSeconds": 60, "role": ["admin"]}),
        ),
        (
            "/revocations",
            "untill",
            json!({"userId": "ann", "untill": "2030-01-01T00:00:00Z"}),
        ),
        (
            "/blocks",
            "second",
            json!({"cidr": "192.0.2.1", "second": 1, "reason": "x"}),
        ),
    ] {
        let error = service
            .refused(400, "INVALID_PAYLOAD", ("POST", path, body))
            .await;
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("unknown field"), "{path}: {message}");
        assert_eq!(error["details"]["field"], field, "{path}: {error}");
    }
    let document = document(&server).await;
    for (method, path, _) in routes(&document) {
        let whole = full(&path);
        let sign = if whole.contains('?') { '&' } else { '?' };
        let query = format!("{whole}{sign}nobody=1");
        let body = body(&method, &path);
        let body_json = serde_json::from_str(&body).unwrap_or_default();
        let error = service
            .refused(400, "INVALID_PAYLOAD", (&method, &query, body_json))
            .await;
        assert_eq!(error["details"]["field"], "nobody", "{method} {query}");
        if !body.is_empty() {
            continue;
        }
        for body in [r#"{"userId":"bob"}"#, "garbage", " "] {
            for caller in [&service, &service.with_key("k")] {
                let answer = caller.send(&method, &whole, body).await;
                assert_eq!(answer.status, 400, "{method} {whole} {body}");
                assert!(answer.body.contains("takes no body"), "{}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn request_with_extra_parameters_is_not_executed() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    for query in ["?room=lobby", "?room", "?%00", "?&room=lobby"] {
        let path = format!("/users/ann/sockets{query}");
        service
            .refused(400, "INVALID_PAYLOAD", ("DELETE", &path, Value::Null))
            .await;
    }
    let rooms = json!({"room": "lobby"});
    service
        .refused(
            400,
            "INVALID_PAYLOAD",
            ("DELETE", "/users/ann/sockets", rooms),
        )
        .await;
    ann.must("conversations", json!({})).await;
    // An empty query string has no parameters.
    service
        .must(200, "DELETE", "/users/ann/sockets?", Value::Null)
        .await;
}

#[tokio::test]
async fn invalid_parameter_or_header_is_named() {
    let server = start();
    let service = Caller::service(&server);
    for (path, field) in [
        ("/sockets?user=ann", "user"),
        ("/sockets?limit=abc", "limit"),
        ("/sockets?limit=-1", "limit"),
        ("/sockets?limit=", "limit"),
        ("/sockets?limit=0", "limit"),
        ("/sockets?limit=1&limit=2", "limit"),
        ("/rooms?prefx=a", "prefx"),
        ("/users/ann/conversations?limt=1", "limt"),
        ("/users/ann/trades?limit=2&Limit=2", "Limit"),
        ("/explain?user=ann", "event"),
        ("/explain?event=message", "user"),
        ("/explain?user=ann&event=message&of=x", "of"),
        ("/nodes?limit=2", "limit"),
    ] {
        let error = service
            .refused(400, "INVALID_PAYLOAD", ("GET", path, Value::Null))
            .await;
        assert_eq!(error["details"]["field"], field, "{path}: {error}");
    }
    let long = format!("/sockets?{}=1", "x".repeat(4000));
    let error = service
        .refused(400, "INVALID_PAYLOAD", ("GET", &long, Value::Null))
        .await;
    let field = error["details"]["field"].as_str().unwrap();
    assert!(long.contains(field) && field.len() <= 200, "{field}");
    let nameless = json!({"content": "x", "userName": "Ann"});
    let path = format!("/conversations/{LOBBY}/messages");
    let error = service
        .refused(400, "INVALID_PAYLOAD", ("POST", &path, nameless))
        .await;
    assert_eq!(error["details"]["field"], "userId");
}

#[tokio::test]
async fn oversized_invalid_or_wrong_method_requests_are_refused_alike() {
    let server = start();
    let service = Caller::service(&server);
    let large = format!(
        r#"{{"event":"x","everyone":true,"args":["{}"]}}"#,
        "x".repeat(64 << 10)
    );
    for caller in [&service, &service.with_key("k")] {
        let answer = caller.send("POST", "/emit", large.clone()).await;
        assert_eq!(answer.status, 413, "{}", answer.body);
    }
    let deep = format!(
        r#"{{"event":"x","everyone":true,"args":[{}1{}]}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for body in ["", "{", "[]", "null", "{} {}", "\u{feff}{}", &deep] {
        let answer = service.send("POST", "/emit", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
    }
    for (method, path) in [
        ("PUT", "/emit"),
        ("POST", "/sockets"),
        ("GET", "/sessions"),
        ("POST", "/rooms/a"),
        ("DELETE", "/conversations"),
    ] {
        let answer = service.send(method, path, "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").is_some(), "{method} {path}");
        assert!(answer.body.contains("METHOD_NOT_ALLOWED"));
    }
    service
        .refused(404, "NOT_FOUND", ("GET", "/none", Value::Null))
        .await;
}

#[tokio::test]
async fn ids_have_one_form() {
    let server = start();
    let service = Caller::service(&server);
    for id in [
        "x",
        "00000000000040008000000000000001",
        "%7B00000000-0000-4000-8000-000000000001%7D",
    ] {
        for path in [
            format!("/conversations/{id}"),
            format!("/conversations/{id}/messages"),
            format!("/conversations/{id}/presence"),
        ] {
            service
                .refused(400, "INVALID_PAYLOAD", ("GET", &path, Value::Null))
                .await;
        }
        let member = format!("/conversations/{id}/members/ann");
        service
            .refused(400, "INVALID_PAYLOAD", ("PUT", &member, Value::Null))
            .await;
    }
    for path in [
        "/conversations/0f8fad5b-d9cb-469f-a165-70867728950e",
        "/conversations/0F8FAD5B-D9CB-469F-A165-70867728950E/messages",
    ] {
        service
            .refused(404, "NOT_FOUND", ("GET", path, Value::Null))
            .await;
    }
}
