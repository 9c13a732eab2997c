//! The server's reports about its connections.

use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use serde_json::{Value, json};

use crate::guard::{KEY, token};
use crate::server::{LOBBY, Server, ServerProcess};
use crate::starting::fails;
use crate::support::{DEADLINE, RawClient, Response};

/// Requests a path at the admin listener, which serves all reports about connections.
async fn ask(server: &ServerProcess, path: &'static str) -> Response {
    get_at(server.admin(), path, "Host: localhost\r\n".into()).await
}

/// Sends a request with these headers.
async fn get_at(address: SocketAddr, path: &'static str, headers: String) -> Response {
    let request = tokio::task::spawn_blocking(move || {
        let mut client = RawClient::connect(address);
        client.send(format!("GET {path} HTTP/1.1\r\n{headers}\r\n"));
        client.response()
    });
    request.await.unwrap()
}

async fn get_json(server: &Server, path: &'static str) -> Value {
    get_json_from(&server.binary, path).await
}

async fn get_json_from(server: &ServerProcess, path: &'static str) -> Value {
    let answer = ask(server, path).await;
    assert_eq!(answer.status, 200);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn report_has_connections_with_rooms_queues_and_times() {
    let server = Server::with(&[("ROOMCAST_ENGINE__PING_INTERVAL", "100ms")]);
    let empty = get_json(&server, "/health/websocket").await;
    assert_eq!(empty, json!({"sessions": 0, "sockets": 0, "rooms": 0}));
    let details = get_json(&server, "/health/websocket/detailed").await;
    let none = json!({"count": 0});
    assert_eq!(
        details["times"],
        json!({"delivery": none, "processing": none, "ping": none})
    );
    let mut ann = server.in_lobby("ann").await;
    let _bob = server.in_lobby("bob").await;
    // Enough messages that at least one is timed on its way out, whichever thread sends it.
    for _ in 0..40 {
        let message = json!({"conversationId": LOBBY, "content": "hello"});
        ann.must("message", message).await;
    }
    // A test client answers pings while it waits for something.
    while server.metric("roomcast_ping_seconds_count").await == 0 {
        ann.must("conversations", json!({})).await;
    }
    let counts = get_json(&server, "/health/websocket").await;
    assert_eq!(
        (&counts["sessions"], &counts["sockets"]),
        (&json!(2), &json!(2))
    );
    let details = get_json(&server, "/health/websocket/detailed").await;
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
    // An event that was just sent may still be pending.
    let begin = Instant::now();
    let settled = json!({"bytes": 0, "acksPending": 0, "polls": 0});
    loop {
        let details = get_json(&server, "/health/websocket/detailed").await;
        if details["queues"] == settled {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{details}");
    }
}

const FIGURES: [&str; 2] = ["/metrics", "/health/websocket/detailed"];
const TOKEN: &str = "a-token-of-operators-with-thirty-two-characters";

/// Returns the statuses of the reports at an address, for a request with these headers.
async fn statuses(address: SocketAddr, headers: &str) -> [u16; 2] {
    let mut statuses = [0; 2];
    for (status, path) in statuses.iter_mut().zip(FIGURES) {
        *status = get_at(address, path, headers.to_owned()).await.status;
    }
    statuses
}

fn bearer(token: &str) -> String {
    format!("Host: chat.example\r\nAuthorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn figures_are_at_the_admin_listener_and_nowhere_else_without_a_token() {
    let server = Server::with(&[KEY]);
    let binary = &server.binary;
    for headers in [
        "Host: localhost\r\n".to_owned(),
        "Host: chat.example\r\n".to_owned(),
        bearer(&token("service")),
    ] {
        assert_eq!(
            statuses(binary.address(), &headers).await,
            [404; 2],
            "{headers}"
        );
    }
    let admin = binary.admin();
    assert!(admin.ip().is_loopback());
    for (headers, expected) in [
        (format!("Host: {admin}\r\n"), 200),
        ("Host: localhost\r\n".into(), 200),
        // A page with a rebound DNS name, and a proxy on this machine.
        ("Host: evil.example\r\n".into(), 403),
        (
            format!("Host: {admin}\r\nX-Forwarded-For: 192.0.2.1\r\n"),
            403,
        ),
        (bearer(&token("user")), 403),
        (bearer("x"), 401),
        (bearer(&token("service")), 200),
    ] {
        assert_eq!(statuses(admin, &headers).await, [expected; 2], "{headers}");
    }
    for path in ["/health/live", "/health/ready", "/health/websocket"] {
        let headers = "Host: chat.example\r\n".to_owned();
        assert_eq!(get_at(admin, path, headers).await.status, 200, "{path}");
    }
    let answer = get_at(admin, "/socket.io/", "Host: localhost\r\n".into()).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_configured_token_opens_the_figures_at_every_listener() {
    let variables = [
        KEY,
        ("ROOMCAST_SERVER__METRICS_TOKEN", TOKEN),
        ("ROOMCAST_SERVER__ADMIN_LISTEN", "0.0.0.0:0"),
    ];
    let server = Server::with(&variables);
    let port = server.binary.admin().port();
    let admin = SocketAddr::from(([127, 0, 0, 1], port));
    for address in [server.address(), admin] {
        for (headers, expected) in [
            (bearer(TOKEN), 200),
            (bearer(&token("service")), 200),
            (bearer(&token("user")), 403),
            (bearer(&TOKEN.to_uppercase()), 401),
            // A listener that other machines can reach trusts no address.
            ("Host: localhost\r\n".into(), 401),
        ] {
            assert_eq!(
                statuses(address, &headers).await,
                [expected; 2],
                "{address} {headers}"
            );
        }
    }
}

#[test]
fn an_admin_address_in_use_is_an_error_only_if_it_is_configured() {
    let folder = tempfile::TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let configured = ("ROOMCAST_SERVER__ADMIN_LISTEN", &*address);
    let get_json = fails(folder.path(), &[configured]);
    let reason = format!("cannot listen on {address} (server.admin_listen)");
    assert!(get_json.contains(&reason), "{get_json}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());

    // The default port is taken by this test or by another process.
    let _taken = TcpListener::bind("127.0.0.1:9464");
    let port = crate::port::free_port().to_string();
    let listen = format!("127.0.0.1:{port}");
    let mut command = std::process::Command::new("env");
    command.args([
        "-u",
        "ROOMCAST_SERVER__ADMIN_LISTEN",
        crate::server::ROOMCAST,
    ]);
    let variables = [("ROOMCAST_LISTEN", &*listen)];
    let server = ServerProcess::run(&mut command, folder.path(), &variables);
    server.expect_log(&["WARN", "default admin address", "127.0.0.1:9464"]);
    server.terminate();
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn details_report_adapter_health_losses_queue_and_lag() {
    const PATH: &str = "/health/websocket/detailed";
    let broker = crate::postgres::Postgres::start();
    let url = broker.database();
    let database = crate::nodes::Database::new();
    let server = database.server_with(&[("ROOMCAST_ADAPTER__URL", &url)]);
    server.until_joined(true).await;
    let state = async || {
        let details = get_json_from(&server, PATH).await;
        let (word, state) = (&details["adapter"], details["adapterState"].clone());
        assert_eq!(*word == "ok", state["up"] == true, "{details}");
        state
    };
    let works = |state: &Value| {
        // The first probe may still be in flight.
        let Some(lag) = state["lag"].as_f64() else {
            return false;
        };
        assert!(0.0 < lag, "{state}");
        assert_eq!((&state["lost"], &state["unsent"]), (&json!(0), &json!(0)));
        state["up"] == true && state["queued"] == 0 && state["queuedBytes"] == 0
    };
    until(async || works(&state().await)).await;
    // The broker accepts everything and answers nothing: the probe in flight takes longer and
    // longer.
    broker.pause();
    until(async || {
        state().await["lag"]
            .as_f64()
            .is_some_and(|lag| lag > 1_000.0)
    })
    .await;
    // Then the server gives up: its heartbeats are queued, and are lost after a while.
    until(async || {
        let state = state().await;
        state["up"] == false && state.get("lag").is_none() && state["queued"] != 0
    })
    .await;
    until(async || state().await["lost"] != 0).await;
    broker.resume();
    until(async || {
        let state = state().await;
        state["up"] == true && state["lag"].is_f64() && state["queued"] == 0
    })
    .await;
    let lost = state().await["lost"].as_i64().unwrap();
    let row = server.metric("roomcast_cluster_lost_total").await;
    assert!(row >= lost && lost > 0, "{row} and {lost}");
}

/// Waits until a condition holds.
#[cfg(feature = "postgres")]
async fn until(is_so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed().as_secs() < 60, "it does not come about");
        let pace = std::time::Duration::from_millis(20);
        tokio::time::sleep(pace).await; // Poll interval.
    }
}
