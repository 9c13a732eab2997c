//! The metrics and the inventory of the server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::guard::{KEY, token};
use crate::server::{LOBBY, Server};
use crate::support::{RawClient, Response};

/// Returns the series: names with labels, without values.
async fn series(server: &Server) -> BTreeSet<String> {
    let text = server.binary.metrics().await;
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let series = rows.map(|row| row.rsplit_once(' ').unwrap().0.to_owned());
    series.collect()
}

#[tokio::test]
async fn names_of_clients_add_no_series() {
    let server = Server::start();
    let before = series(&server).await;
    assert!(before.len() < 1500, "{}", before.len());
    for n in 0..20 {
        let name = format!("name-{n}\"}} 1\\n");
        let mut client = server.guest(&name).await;
        for event in [
            format!("event-{n}"),
            format!("e{{x=\"{n}\"}}\n"),
            "m".repeat(n + 1),
        ] {
            client.ask(&event, json!({"conversationId": name})).await;
        }
        client.ask("join_conversation", json!(name)).await;
        client.must("join_conversation", json!(LOBBY)).await;
        client
            .must("message", json!({"conversationId": LOBBY, "content": name}))
            .await;
        let refused = server.connect(&json!({"token": name})).await;
        assert!(refused.is_err());
        let (address, path) = (
            server.address(),
            format!("/{n}?EIO=4&transport={n}&sid={n}"),
        );
        let asked = move || RawClient::connect(address).get(&path);
        tokio::task::spawn_blocking(asked).await.unwrap();
    }
    let after = series(&server).await;
    let added: Vec<_> = after.difference(&before).collect();
    assert!(added.is_empty(), "{added:?}");
    let text = server.binary.metrics().await;
    for (row, count) in [
        ("roomcast_events_received_total{event=\"message\"}", 20),
        ("roomcast_errors_total{code=\"internal\"}", 0),
        (
            "roomcast_store_operation_seconds_count{operation=\"message\"}",
            20,
        ),
        ("roomcast_store_up", 1),
    ] {
        assert!(
            text.contains(&format!("\n{row} {count}\n")),
            "{row}: {text}"
        );
    }
    let limited = crate::support::http::metric(&text, "roomcast_errors_total{code=\"not_found\"}");
    assert!(limited >= 60, "each unknown event is an error: {limited}");
}

#[tokio::test]
async fn users_who_return_after_a_loss_are_counted_without_recovery() {
    const FRESH: &str = "roomcast_reconnections_total{result=\"fresh\"}";
    let server = Server::with(&[KEY]);
    let auth = json!({"token": token("user")});
    let closed = "roomcast_sessions_closed_total{reason=\"transport_close\"}";
    for (losses, returns) in [(1, 0), (2, 1)] {
        let client = server.connect(&auth).await.unwrap();
        assert_eq!(server.metric(FRESH).await, returns);
        client.vanish();
        server
            .binary
            .until_metric(closed, |count| count == losses)
            .await;
    }
    // A client that leaves does not return.
    server.connect(&auth).await.unwrap().disconnect().await;
    server
        .binary
        .until_metric("roomcast_sockets", |count| count == 0)
        .await;
    let _client = server.connect(&auth).await.unwrap();
    assert_eq!(server.metric(FRESH).await, 2);
}

/// Requests the inventory with these headers.
async fn ask(address: std::net::SocketAddr, headers: &str) -> Response {
    send(
        address,
        format!("GET /debug/inventory HTTP/1.1\r\n{headers}\r\n"),
    )
    .await
}

/// Sends a request and returns its answer.
async fn send(address: std::net::SocketAddr, request: String) -> Response {
    let asked = move || {
        let mut client = RawClient::connect(address);
        client.send(request);
        client.response()
    };
    tokio::task::spawn_blocking(asked).await.unwrap()
}

#[tokio::test]
async fn inventory_lists_what_is_held_for_permitted_readers_only() {
    let variables = [
        KEY,
        (
            "ROOMCAST_SERVER__METRICS_TOKEN",
            "a-token-of-thirty-two-characters-or-more",
        ),
        ("ROOMCAST_SERVER__ADMIN_LISTEN", "0.0.0.0:0"),
        ("ROOMCAST_ADMIN_UI__ENABLED", "true"),
        (
            "ROOMCAST_ADMIN_UI__PASSWORD_HASH",
            "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        ),
    ];
    let server = Server::with(&variables);
    let mut ann = server.in_lobby("ann").await;
    ann.must("set_status", json!({"status": "busy"})).await;
    let body = json!({"cidr": "192.0.2.0/24", "reason": "a flood"}).to_string();
    let request = format!(
        "POST /api/v1/blocks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token("admin"),
        body.len()
    );
    assert_eq!(send(server.address(), request).await.status, 201);
    let admin = std::net::SocketAddr::from(([127, 0, 0, 1], server.binary.admin().port()));
    let bearer = |token: &str| format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n");
    for (headers, status) in [
        ("Host: localhost\r\n".to_owned(), 401),
        (bearer("x"), 401),
        (bearer(&token("user")), 403),
        (bearer(&token("service")), 200),
    ] {
        assert_eq!(ask(admin, &headers).await.status, status, "{headers}");
    }
    let service = bearer(&token("service"));
    assert_eq!(ask(server.address(), &service).await.status, 404);
    let answer: Value = serde_json::from_str(&ask(admin, &service).await.body).unwrap();
    let held = answer["held"].as_array().unwrap();
    let names: BTreeSet<_> = held
        .iter()
        .map(|part| part["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), held.len(), "each name is there once");
    let count = |name: &str| {
        let part = held.iter().find(|part| part["name"] == name);
        part.unwrap_or_else(|| panic!("{name}: {answer}"))["count"]
            .as_u64()
            .unwrap()
    };
    for (name, expected) in [
        ("connections", 1),
        ("sockets", 1),
        ("live conversations", 1),
        ("sockets in conversations", 1),
        ("present users", 1),
        ("commits after a gap", 0),
        ("store queue", 0),
        ("rooms of journals", 0),
        ("snapshots of journals", 0),
        ("entries to emit", 0),
        ("alerts to store", 0),
        ("alerts to send", 0),
        ("lines of traces", 0),
        ("traced connections", 0),
        ("admin UI sessions", 0),
        ("admin UI login attempts", 0),
        ("users with unreported events", 0),
        ("revocations being stored", 0),
        ("revocations stored during a read", 0),
        ("blocks to store", 0),
        ("stored blocks", 0),
        ("paced events", 0),
        ("unknown clients", 0),
        ("orders in progress", 0),
        ("prices", 0),
        ("webhook events", 0),
    ] {
        if name == "webhook events" {
            assert!(!names.contains(name), "no webhooks are configured");
        } else {
            assert!(count(name) >= expected, "{name}: {answer}");
        }
    }
}
