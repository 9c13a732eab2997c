//! Tasks of the server that are killed: each is restarted, or ends the process.
//!
//! Only a debug build can kill its tasks.

#![cfg(debug_assertions)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
#[cfg(feature = "postgres")]
use crate::feed::until_disconnected;
#[cfg(feature = "postgres")]
use crate::nodes::Database;
use crate::server::{LOBBY, ServerProcess, UNLIMITED};
use crate::support::RawClient;

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Exit code after the end of a task that cannot be restarted.
const TASK_ENDED: Option<i32> = Some(70);

/// Makes a server kill its tasks of this name.
fn kill(folder: &Path, name: &str) {
    let (new, file) = (folder.join("kill.new"), folder.join("kill"));
    fs::write(&new, name).unwrap();
    fs::rename(new, file).unwrap();
}

/// Returns status and body of the readiness report.
async fn readiness(server: &ServerProcess) -> (u16, Value) {
    let address = server.address();
    let request = move || RawClient::connect(address).get("/health/ready");
    let answer = tokio::task::spawn_blocking(request).await.unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// Kills tasks one after another. Each time the server reports it and continues.
async fn survives(server: &ServerProcess, folder: &Path, names: &[&str]) {
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    for client in [&mut ann, &mut bob] {
        client.must("join_conversation", json!(LOBBY)).await;
    }
    assert_eq!(readiness(server).await.1["tasks"], json!([]));
    let start = Instant::now();
    for name in names {
        kill(folder, name);
        loop {
            let (status, report) = readiness(server).await;
            let tasks = report["tasks"].as_array().unwrap();
            if tasks.iter().any(|task| task["name"] == *name) {
                assert_eq!((status, &report["status"]), (503, &json!("unavailable")));
                break;
            }
            assert!(start.elapsed() < DEADLINE, "{name}: {report}");
        }
        server.expect_log(&["ended unexpectedly", name, "killed by a test"]);
        server.expect_log(&["background task restarted", name]);
        let message = json!({"conversationId": LOBBY, "content": name});
        ann.must("message", message).await;
        assert_eq!(bob.event("message").await["content"], *name);
    }
    loop {
        let (status, report) = readiness(server).await;
        if status == 200 && report["tasks"] == json!([]) {
            break;
        }
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_task_is_named_by_readiness_and_restarted() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("keys.json"), r#"{"keys":[]}"#).unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "a-token-of-scrapers").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let variables = [
        ("SUPERVISOR_TEST_KILLS", "kill"),
        ("ROOMCAST_SERVER__METRICS_TOKEN_FILE", "token"),
        ("ROOMCAST_STORE__RETENTION", "1h"),
        ("ROOMCAST_AUTH__JWT__KEYS_FILE", "keys.json"),
        ("ROOMCAST_AUTH__BACKEND__URL", "https://app.example/me"),
        ("ROOMCAST_AUTH__BACKEND__SECRETS", "a secret"),
        ("ROOMCAST_WEBHOOKS__URL", "https://app.example/hooks"),
        ("ROOMCAST_WEBHOOKS__SECRET", "a secret of webhooks"),
        ("ROOMCAST_WEBHOOKS__EVENTS", "message"),
        ("ROOMCAST_ADMIN_UI__ENABLED", "true"),
        (
            "ROOMCAST_ADMIN_UI__PASSWORD_HASH",
            "$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        ),
        ("NOTIFY_SOCKET", "nowhere"),
        ("WATCHDOG_USEC", "60000000"),
    ];
    let exporting = cfg!(feature = "otlp").then_some(EXPORTING);
    let variables = [variables.as_slice(), exporting.as_slice()].concat();
    let server = ServerProcess::start(folder.path(), &[UNLIMITED.as_slice(), &variables].concat());
    let mut names = vec![
        // Tasks of the library.
        "flusher",
        "heartbeats",
        "load shedding",
        "guard sweep",
        "listener",
        // Tasks of the server.
        "user sweep",
        "block list",
        "keys",
        "login sweep",
        "retention",
        "channels",
        "journals",
        "trades",
        "prices",
        "symbols",
        "webhooks",
        "backend sessions",
        "timeouts",
        "admin news",
        "admin listener",
        "admin ui",
        "alert log",
        "growing texts",
        "idle texts",
        "metrics token",
        "signals",
        "watchdog",
    ];
    names.extend(exporting.map(|_| "spans"));
    survives(&server, folder.path(), &names).await;
    let metrics = tokio::task::spawn_blocking({
        let address = server.admin();
        move || RawClient::connect(address).get("/metrics").body
    });
    let metrics = metrics.await.unwrap();
    assert!(metrics.contains("\nroomcast_tasks_down 0\n"), "{metrics}");
    let restarts = metrics
        .split("\nroomcast_task_restarts_total ")
        .nth(1)
        .unwrap();
    let restarts: usize = restarts.split('\n').next().unwrap().parse().unwrap();
    assert!(restarts >= names.len(), "{restarts}");
    server.terminate();
}

#[cfg(feature = "acme")]
#[test]
fn killed_task_of_a_server_at_the_edge_is_restarted() {
    let folder = TempDir::new().unwrap();
    let mut variables = crate::tls::VARIABLES.to_vec();
    variables.extend([
        ("SUPERVISOR_TEST_KILLS", "kill"),
        ("ROOMCAST_SERVER__TLS__REDIRECT_LISTEN", "127.0.0.1:0"),
        ("ROOMCAST_SERVER__TLS__NAMES", "chat.example"),
        (
            "ROOMCAST_SERVER__ACME__URL",
            "https://127.0.0.1:1/directory",
        ),
        ("ROOMCAST_SERVER__ACME__ACCOUNT_FILE", "account.json"),
        ("ROOMCAST_SERVER__ACME__AGREE_TO_TERMS", "true"),
        ("ROOMCAST_SERVER__ACME__ALLOW_PRIVATE", "true"),
    ]);
    let server = ServerProcess::start(folder.path(), &variables);
    let address = crate::tls_edge::redirects(&server);
    for name in ["redirect listener", "certificate orders"] {
        kill(folder.path(), name);
        server.expect_log(&["ended unexpectedly", name, "killed by a test"]);
        server.expect_log(&["background task restarted", name]);
    }
    let mut client = RawClient::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: chat.example\r\n\r\n");
    assert!(client.take_all().starts_with(b"HTTP/1.1 301 "));
    server.terminate();
}

/// A collector that is not contacted, because no event is sampled.
const EXPORTING: (&str, &str) = ("ROOMCAST_OTLP__URL", "http://127.0.0.1:1/v1/traces");

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn killed_task_for_a_shared_store_is_restarted() {
    let database = Database::new();
    // The announcing task also runs while the adapter cannot reach its broker.
    let server = database.server_with(&[
        ("SUPERVISOR_TEST_KILLS", "kill"),
        ("ROOMCAST_ADAPTER__URL", "redis://127.0.0.1:1"),
    ]);
    let names = [
        "database health",
        "search index",
        "lease",
        "change feed",
        "conversation news",
        "statuses",
        "commits of others",
        "announcements",
        "user spending",
        "publications",
    ];
    survives(&server, database.folder(), &names).await;
    // The new feed reader knows all changes that the killed reader did not read.
    let mut carl = server.guest("carl").await;
    kill(database.folder(), "change feed");
    database.sql(&format!(
        "INSERT INTO revocations VALUES ('user', '{}', '2100-01-01', now())",
        carl.user_id()
    ));
    until_disconnected(&mut carl).await;
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn mention_is_delivered_after_task_or_process_restart() {
    let folder = TempDir::new().unwrap();
    let own = [
        ("SUPERVISOR_TEST_KILLS", "kill"),
        ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "user"),
    ];
    let variables = [UNLIMITED.as_slice(), &own].concat();
    let server = ServerProcess::start(folder.path(), &variables);
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let carl = server.guest("carl").await.user_id();
    let new = json!({"title": "Three", "memberIds": [bob.user_id(), carl]});
    let id = ann.create(new).await;
    let mention =
        |users: &[String]| json!({"conversationId": id, "content": "x", "mentions": users});
    bob.must("subscribe:notifications", json!({})).await;
    kill(folder.path(), "journals");
    server.expect_log(&["ended unexpectedly", "journals", "killed by a test"]);
    let both = mention(&[bob.user_id(), carl.clone()]);
    let sent = ann.must("message", both).await;
    let received = bob.event("notification:new").await;
    let notification = |sent: &Value| {
        json!(format!(
            "mention:{}",
            sent["message"]["id"].as_str().unwrap()
        ))
    };
    assert_eq!(received["notificationId"], notification(&sent));
    let last = ann.must("message", mention(&[carl])).await;
    drop(server);
    let next = ServerProcess::start(folder.path(), &variables);
    let mut carl = next.guest("carl").await;
    let all = carl.must("subscribe:notifications", json!({})).await;
    let all = all["snapshot"]["notifications"].as_array().unwrap();
    let ids: Vec<_> = all.iter().map(|one| &one["notificationId"]).collect();
    assert_eq!(ids, [&notification(&sent), &notification(&last)]);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_killed_ends_the_process() {
    let database = Database::new();
    let mut server = database.server_with(&[("SUPERVISOR_TEST_KILLS", "kill")]);
    kill(database.folder(), "store lane");
    server.expect_log(&["cannot be restarted have ended", "store lane"]);
    assert_eq!(server.exit_code(), TASK_ENDED);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_emission_acks_only_emitted_messages_and_exits() {
    let folder = TempDir::new().unwrap();
    let variables = [("SUPERVISOR_TEST_KILLS", "kill")];
    let mut server =
        ServerProcess::start(folder.path(), &[UNLIMITED.as_slice(), &variables].concat());
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    for client in [&mut ann, &mut bob] {
        client.must("join_conversation", json!(LOBBY)).await;
    }
    let message = |n: usize| {
        let message = json!({"conversationId": LOBBY, "content": n.to_string()});
        format!("42{n}{}", json!(["message", message]))
    };
    let mut sent = 0;
    while sent < 500 {
        ann.send(&message(sent)).await;
        sent += 1;
    }
    let (_, first) = ann.any_answer().await.unwrap();
    kill(folder.path(), "emission");
    let acknowledged = tokio::spawn(async move {
        let mut acknowledged = BTreeSet::from([first["message"]["id"].to_string()]);
        while let Some((_, answer)) = ann.any_answer().await {
            if answer["success"] == true {
                acknowledged.insert(answer["message"]["id"].to_string());
            } else {
                assert_eq!(answer["error"]["code"], "STORE_UNAVAILABLE", "{answer}");
            }
            // Each answer is followed by another message, so that some are in flight whenever the
            // task is killed.
            if ann.try_send(&message(sent)).await {
                sent += 1;
            }
        }
        assert!(acknowledged.len() < sent, "some were on their way");
        acknowledged
    });
    let emitted = messages(bob).await;
    let acknowledged = acknowledged.await.unwrap();
    let lost: Vec<_> = acknowledged.difference(&emitted).collect();
    assert!(lost.is_empty(), "acknowledged and not emitted: {lost:?}");
    server.expect_log(&["cannot be restarted have ended", "emission"]);
    assert_eq!(server.exit_code(), TASK_ENDED);
}

/// Returns the ids of all messages that a client receives until its connection ends.
async fn messages(mut client: Client) -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    while let Some(message) = client.any_event("message").await {
        messages.insert(message["id"].to_string());
    }
    messages
}
