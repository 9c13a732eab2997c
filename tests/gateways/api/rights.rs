//! Permissions of callers, and their documentation.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Caller, QUICK, SERVICE, start};
use crate::guard::KEY;
use crate::server::Server;
use crate::support::RawClient;

/// Returns the OpenAPI document, which needs no credentials.
pub(super) async fn document(server: &Server) -> Value {
    let address = server.address();
    let read = move || RawClient::connect(address).get("/api/v1/openapi.json");
    let answer = tokio::task::spawn_blocking(read).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_str(&answer.body).unwrap()
}

/// Returns method, path and permission of all routes in the document.
pub(super) fn routes(document: &Value) -> Vec<(String, String, String)> {
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.strip_prefix("/api/v1").unwrap();
            let path = path.replace("{id}", "0f8fad5b-d9cb-469f-a165-70867728950e");
            let path = path.replace("{userId}", "ann").replace("{room}", "none");
            let path = path.replace("{emoji}", "%F0%9F%91%8D");
            let path = path.replace("{tradeId}", "trade-1");
            let path = path.replace("{symbol}", "SYM-1");
            let path = path.replace("{notificationId}", "notification-1");
            let path = path.replace("{channel}", "news:1");
            let permission = operation["x-permission"].as_str().unwrap();
            routes.push((method.to_uppercase(), path, permission.to_owned()));
        }
    }
    assert!(routes.len() >= 24, "{}", routes.len());
    routes
}

/// Returns a body that the route accepts.
pub(super) fn body(method: &str, path: &str) -> String {
    let body = match (method, path) {
        ("POST", "/sessions") => json!({"userId": "ann", "ttlSeconds": 60}),
        ("POST", "/revocations") => json!({"jti": "x"}),
        ("POST", "/blocks") => json!({"cidr": "192.0.2.1", "seconds": 1, "reason": "x"}),
        ("POST", "/emit") => json!({"event": "x", "everyone": true}),
        ("POST", "/conversations") => json!({"title": "x"}),
        ("POST", "/trades") => json!({
            "tradeId": "t", "userId": "ann", "symbol": "S", "status": "pending", "quantity": 1
        }),
        ("POST", "/signals") => json!({
            "providerId": "p", "providerName": "p", "symbol": "S", "action": "buy", "confidence": 1
        }),
        ("POST", "/portfolios") => {
            json!({"userId": "ann", "totalValue": 1, "cash": 1, "positions": []})
        }
        ("POST", "/prices") => json!({"symbol": "S", "price": 1}),
        ("POST", "/notifications") => {
            json!({"userId": "ann", "type": "info", "title": "t", "message": "m"})
        }
        ("POST", "/notifications/withdraw") => json!({"userId": "ann", "notificationId": "n"}),
        ("PUT", "/log-level") => json!({"level": "info"}),
        ("PUT", path) if path.ends_with("/status") => json!({"status": "busy"}),
        ("PUT", path) if path.starts_with("/signals/") => json!({
            "providerId": "p", "providerName": "p", "symbol": "S", "action": "buy", "confidence": 1
        }),
        ("PUT", path) if path.ends_with("/trade-1") => json!({
            "tradeId": "trade-1", "userId": "0f8fad5b-d9cb-469f-a165-70867728950e", "symbol": "S",
            "status": "failed", "quantity": 1
        }),
        ("PUT", path) if path.ends_with("/notification-1") => json!({
            "userId": "0f8fad5b-d9cb-469f-a165-70867728950e", "type": "info", "title": "t",
            "message": "m"
        }),
        ("POST", "/channels/events") => {
            json!({"events": [{"channel": "news:1", "event": "x", "data": 1, "id": "1"}]})
        }
        ("POST", path) if path.ends_with("/revoke") || path.ends_with("/subscribers") => {
            json!({"userId": "ann"})
        }
        ("POST", path) if path.starts_with("/channels/") => {
            json!({"event": "order:updated", "data": 1, "id": "1"})
        }
        ("PATCH", path) if path.starts_with("/conversations") => json!({"title": "x"}),
        ("POST" | "PATCH", _) => json!({"content": "x"}),
        _ => return String::new(),
    };
    body.to_string()
}

/// Replaces ids in a path by placeholders, as in documents, except names of users and rooms.
fn shown(path: &str) -> String {
    let path = path.replace("0f8fad5b-d9cb-469f-a165-70867728950e", "{id}");
    let path = path
        .replace("trade-1", "{tradeId}")
        .replace("SYM-1", "{symbol}")
        .replace("news:1", "{channel}")
        .replace("notification-1", "{notificationId}");
    path.replace("%F0%9F%91%8D", "{emoji}")
}

/// Adds the parameters that some routes require.
pub(super) fn full(path: &str) -> String {
    match path {
        "/diagnosis/clients" => "/diagnosis/clients?search=ann".into(),
        "/explain" => "/explain?user=ann&event=message".into(),
        "/trace" => "/trace?userId=ann&seconds=1".into(),
        "/users/0f8fad5b-d9cb-469f-a165-70867728950e" => format!("{path}?messages=remove"),
        path => path.into(),
    }
}

/// Returns a permission as part of a role name.
fn area(permission: &str) -> String {
    permission.trim_start_matches("api:").replace(':', "")
}

#[tokio::test]
async fn each_route_requires_exactly_its_documented_permission() {
    let all_but = |one: &str| {
        let others = SERVICE.into_iter().filter(|other| *other != one);
        let others: Vec<_> = others.chain(["chat:*"]).collect();
        others.join(",")
    };
    let mut roles: Vec<(String, String)> = vec![];
    for permission in SERVICE {
        let area = area(permission).to_uppercase();
        roles.push((
            format!("ROOMCAST_AUTH__ROLES__NO{area}__PERMISSIONS"),
            all_but(permission),
        ));
        let only = format!("{permission},chat:*");
        roles.push((
            format!("ROOMCAST_AUTH__ROLES__ONLY{area}__PERMISSIONS"),
            only,
        ));
    }
    let mut variables = vec![KEY, QUICK];
    variables.extend(roles.iter().map(|(name, value)| (&**name, &**value)));
    let server = Server::with(&variables);
    let routes = routes(&document(&server).await);
    for (method, path, permission) in routes {
        let area = area(&permission);
        assert!(
            SERVICE.contains(&&*permission),
            "{method} {path}: {permission}"
        );
        let path = full(&path);
        let body = body(&method, &path);
        for (role, is_allowed) in [(format!("no{area}"), false), (format!("only{area}"), true)] {
            let caller = Caller::of(&server, &role, &[&role]);
            let answer = caller.send(&method, &path, body.clone()).await;
            assert_eq!(
                answer.status != 403,
                is_allowed,
                "{method} {path} {role}: {}",
                answer.body
            );
            assert!(
                ![400, 401, 404 + 1].contains(&answer.status),
                "{method} {path}: {}",
                answer.body
            );
        }
    }
}

#[tokio::test]
async fn caller_without_api_permission_is_refused_by_every_route() {
    let server = start();
    for (method, path, _) in routes(&document(&server).await) {
        let user = Caller::of(&server, "ann", &["user"]);
        assert_eq!(
            user.call(&method, &path, &Value::Null).await.0,
            403,
            "{method} {path}"
        );
        let mut nobody = user;
        nobody.token = "none".into();
        assert_eq!(
            nobody.call(&method, &path, &Value::Null).await.0,
            401,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn permissions_of_a_service_match_the_listed_ones() {
    const PAGE: &str = include_str!("../../../docs/http-api.md");
    let server = start();
    for (method, path, permission) in routes(&document(&server).await) {
        let path = shown(&path);
        let row = PAGE.lines().find(|line| {
            let shown = line.replace("{user}", "{id}").replace("{userId}", "ann");
            shown.starts_with(&format!("| `{method} {}", path.replace("none", "{room}")))
        });
        let row = row.unwrap_or_else(|| panic!("docs/http-api.md lacks {method} {path}"));
        assert!(row.contains(&format!("`{permission}`")), "{row}");
    }
}

#[tokio::test]
async fn api_reference_page_loads_and_runs_nothing() {
    let server = start();
    let address = server.address();
    let read = move || RawClient::connect(address).get("/api/v1/docs");
    let page = tokio::task::spawn_blocking(read).await.unwrap();
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    for forbidden in ["<script", "http://", "https://", "src="] {
        assert!(!page.body.contains(forbidden), "{forbidden}");
    }
    for (method, path, _) in routes(&document(&server).await) {
        let path = shown(&path);
        let shown = format!(
            "{method} /api/v1{}",
            path.replace("none", "{room}").replace("/ann", "/{userId}")
        );
        assert!(page.body.contains(&shown), "{shown}");
    }
}

#[tokio::test]
async fn frequent_caller_alone_is_limited_with_a_retry_time() {
    let server = Server::with(&[KEY, ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "1")]);
    let (one, two) = (
        Caller::service(&server),
        Caller::of(&server, "other", &["service"]),
    );
    let mut statuses = Vec::new();
    // The second call within a second exceeds the limit; a slow machine might need more calls.
    for _ in 0..50 {
        let answer = one.send("GET", "/rooms", "").await;
        statuses.push(answer.status);
        if answer.status == 429 {
            let seconds = answer.header("retry-after").unwrap();
            assert_eq!(seconds, "1");
            break;
        }
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    two.get("/rooms").await;
    assert!(
        server
            .metric("roomcast_api_calls_total{result=\"limited\"}")
            .await
            >= 1
    );
}

#[tokio::test]
async fn calls_refused_together_are_admitted_at_their_retry_times() {
    const RATE: u64 = 50;
    let rate = RATE.to_string();
    let server = Server::with(&[KEY, ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", &rate)]);
    let caller = Caller::service(&server);
    let calls = (0..300).map(|_| async {
        let answer = caller.send("GET", "/rooms", "").await;
        if answer.status == 200 {
            return None;
        }
        assert_eq!(answer.status, 429);
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let wait = body["error"]["retryAfter"].as_u64().unwrap();
        assert!(wait > 0 && seconds == wait.div_ceil(1000), "{body}");
        assert!(wait <= 300 * 1000 / RATE, "{body}");
        Some(Instant::now() + Duration::from_millis(wait))
    });
    let mut times: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
    // First calls that arrive late on a busy machine can take the capacity of callers that already
    // return. If all were told the same time, at most 50 of them would be admitted.
    times.retain(|time| *time > Instant::now());
    assert!(!times.is_empty());
    let returns = times.iter().map(|time| async {
        tokio::time::sleep_until((*time).into()).await;
        caller.send("GET", "/rooms", "").await.status
    });
    let statuses = join_all(returns).await;
    let refused = statuses.iter().filter(|status| **status != 200).count();
    assert!(
        refused <= statuses.len() / 4,
        "{refused} of {} again",
        statuses.len()
    );
}

#[tokio::test]
async fn http_changes_are_logged_with_the_caller_and_without_secrets() {
    let server = start();
    let service = Caller::service(&server);
    let body = json!({"userId": "ann", "ttlSeconds": 60});
    let made = service.must(201, "POST", "/sessions", body).await;
    let secret = made["sessionId"].as_str().unwrap();
    service
        .must(204, "DELETE", &format!("/sessions/{secret}"), Value::Null)
        .await;
    service
        .must(200, "DELETE", "/users/ann/sockets", Value::Null)
        .await;
    for parts in [
        ["api call", "backend", "POST", "/api/v1/sessions", "201"],
        [
            "api call",
            "backend",
            "DELETE",
            "/api/v1/sessions/{id}",
            "204",
        ],
        [
            "api call",
            "backend",
            "DELETE",
            "/api/v1/users/ann/sockets",
            "200",
        ],
    ] {
        server.binary.expect_log(&parts);
    }
    assert!(!server.binary.log().contains(secret));
    assert_eq!(
        server
            .metric("roomcast_api_calls_total{result=\"written\"}")
            .await,
        3
    );
}
