//! What is told of connections.

use std::time::Instant;

use serde_json::{Value, json};

use crate::guard::{KEY, token};
use crate::server::{Binary, LOBBY, Server};
use crate::support::{DEADLINE, RawClient, Response};

/// Asks with further headers.
async fn ask(server: &Binary, path: &'static str, headers: String) -> Response {
    let address = server.address();
    let asked = tokio::task::spawn_blocking(move || {
        let mut client = RawClient::connect(address);
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        ));
        client.response()
    });
    asked.await.unwrap()
}

async fn told(server: &Server, path: &'static str) -> Value {
    told_by(&server.binary, path).await
}

async fn told_by(server: &Binary, path: &'static str) -> Value {
    let answer = ask(server, path, String::new()).await;
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn connections_are_counted_and_described_with_their_rooms_queues_and_times() {
    let server = Server::with(&[("ROOMCAST_ENGINE__PING_INTERVAL", "100ms")]);
    let empty = told(&server, "/health/websocket").await;
    assert_eq!(empty, json!({"sessions": 0, "sockets": 0, "rooms": 0}));
    let details = told(&server, "/health/websocket/detailed").await;
    let none = json!({"count": 0});
    assert_eq!(
        details["times"],
        json!({"delivery": none, "processing": none, "ping": none})
    );
    let mut ann = server.in_lobby("ann").await;
    let _bob = server.in_lobby("bob").await;
    // Of so many at least one is timed on its way out, at whichever thread.
    for _ in 0..40 {
        let message = json!({"conversationId": LOBBY, "content": "hello"});
        ann.must("message", message).await;
    }
    // A client of the tests answers pings while it waits for something.
    while server.metric("roomcast_ping_seconds_count").await == 0 {
        ann.must("conversations", json!({})).await;
    }
    let counts = told(&server, "/health/websocket").await;
    assert_eq!(
        (&counts["sessions"], &counts["sockets"]),
        (&json!(2), &json!(2))
    );
    let details = told(&server, "/health/websocket/detailed").await;
    assert_eq!(
        details["sessions"],
        json!({"total": 2, "polling": 0, "websocket": 2})
    );
    assert_eq!(
        details["rooms"],
        json!({"count": 3, "members": 4, "largest": 2})
    );
    assert_eq!(details["users"], json!(2));
    let traffic = &details["traffic"];
    for field in ["received", "sent", "bytesReceived", "bytesSent"] {
        assert!(traffic[field].as_u64().unwrap() > 0, "{field}: {traffic}");
    }
    for (field, expected) in [
        ("store", json!("ok")),
        ("adapter", json!("none")),
        ("nodes", json!(1)),
        ("draining", json!(false)),
    ] {
        assert_eq!(details[field], expected, "{field}");
    }
    assert!(details.get("adapterState").is_none(), "{details}");
    for kind in ["delivery", "processing", "ping"] {
        let times = &details["times"][kind];
        assert!(times["count"].as_u64().unwrap() >= 1, "{kind}: {times}");
        let [p50, p99] = ["p50", "p99"].map(|p| times[p].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99, "{kind}: {times}");
    }
    // What was sent at the moment of a look may still wait.
    let begin = Instant::now();
    let settled = json!({"bytes": 0, "acksPending": 0, "polls": 0});
    loop {
        let details = told(&server, "/health/websocket/detailed").await;
        if details["queues"] == settled {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{details}");
    }
}

#[tokio::test]
async fn the_details_of_connections_are_for_those_for_whom_the_metrics_are() {
    let server = Server::with(&[KEY]);
    // A request that was forwarded is not of this machine.
    let far = |more: &str| format!("X-Forwarded-For: 192.0.2.1\r\n{more}");
    let bearer = |role| format!("Authorization: Bearer {}\r\n", token(role));
    for (path, headers, status) in [
        ("/health/websocket", far(""), 200),
        ("/health/websocket/detailed", far(""), 401),
        ("/health/websocket/detailed", far(&bearer("user")), 403),
        ("/health/websocket/detailed", far(&bearer("service")), 200),
    ] {
        let answer = ask(&server.binary, path, headers).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn the_details_tell_whether_the_adapter_works_what_was_lost_what_waits_and_its_lag() {
    const PATH: &str = "/health/websocket/detailed";
    let broker = crate::postgres::Postgres::start();
    let url = broker.database();
    let database = crate::nodes::Database::new();
    let server = database.server_with(&[("ROOMCAST_ADAPTER__URL", &url)]);
    server.until_joined(true).await;
    let state = async || {
        let details = told_by(&server, PATH).await;
        let (word, state) = (&details["adapter"], details["adapterState"].clone());
        assert_eq!(*word == "ok", state["up"] == true, "{details}");
        state
    };
    let works = |state: &Value| {
        // The first word may still be under way.
        let Some(lag) = state["lag"].as_f64() else {
            return false;
        };
        assert!(0.0 < lag, "{state}");
        assert_eq!((&state["lost"], &state["unsent"]), (&json!(0), &json!(0)));
        state["up"] == true && state["queued"] == 0 && state["queuedBytes"] == 0
    };
    until(async || works(&state().await)).await;
    // It takes everything and answers nothing: the word that is under way takes longer and longer.
    broker.pause();
    until(async || {
        state().await["lag"]
            .as_f64()
            .is_some_and(|lag| lag > 1_000.0)
    })
    .await;
    // Then the server gives up: what it tells every second waits, and is lost after a while.
    until(async || {
        let state = state().await;
        state["up"] == false && state.get("lag").is_none() && state["queued"] != 0
    })
    .await;
    until(async || state().await["lost"] != 0).await;
    broker.go_on();
    until(async || {
        let state = state().await;
        state["up"] == true && state["lag"].is_f64() && state["queued"] == 0
    })
    .await;
    let lost = state().await["lost"].as_i64().unwrap();
    let row = server.metric("roomcast_cluster_lost_total").await;
    assert!(row >= lost && lost > 0, "{row} and {lost}");
}

/// Waits until something is so.
#[cfg(feature = "postgres")]
async fn until(is_so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed().as_secs() < 60, "it does not come about");
        let pace = std::time::Duration::from_millis(20);
        tokio::time::sleep(pace).await; // The pace of asking.
    }
}
