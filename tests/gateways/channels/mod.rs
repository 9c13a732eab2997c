//! Channels of declared kinds: publishing, following, reading, and their limits.

mod bounds;
mod deleted;
mod kinds;
mod last;
mod listed;
mod lists;
mod missing;
mod stored;
mod subscribed;
mod subscribers;
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::guard::{SECRET, signed_with};
use crate::server::{ServerProcess, UNLIMITED};
use crate::support::RawClient;

/// The declared kinds of these tests.
const KINDS: &str = r#"
[channels.orders]
pattern = "orders:{customer}:{order}"
follow = ["owner:{customer}", "role:support", "claim:customers={customer}"]
publish = ["services", "owner:{customer}"]
history = { events = 8, age = "1h" }
events = { "order:updated" = "SCHEMA", "order.noted" = "SCHEMA" }

[channels.news]
pattern = "news"
follow = ["anyone"]
max_bytes = 300

[channels.mine]
pattern = "mine:{user}"
follow = ["owner:{user}"]
publish = ["owner:{user}"]

[channels.rooms]
pattern = "rooms:{room}"
follow = ["services"]

[channels.halls]
pattern = "halls:{hall}"
follow = ["users"]
presence = true

[channels.logs]
pattern = "logs:{n}"
follow = ["anyone"]
max_bytes = 100000
"#;

/// The schema of the data of orders.
const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {"status": {"enum": ["open", "shipped"]}, "n": {"type": "integer"}},
    "required": ["status"]
}"#;

/// A server with declared kinds.
struct Channels {
    server: ServerProcess,
    folder: TempDir,
}

impl Channels {
    fn start(variables: &[(&str, &str)]) -> Self {
        Self::in_folder(TempDir::new().unwrap(), variables)
    }

    /// Kills the server, and starts it on the same database.
    fn restarted(self, variables: &[(&str, &str)]) -> Self {
        let Self { server, folder } = self;
        drop(server);
        Self::in_folder(folder, variables)
    }

    fn in_folder(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        let config = config_in(&folder);
        let mut all = UNLIMITED.to_vec();
        all.push(("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0"));
        all.push(("ROOMCAST_CONFIG", config.to_str().unwrap()));
        all.extend(variables);
        let server = ServerProcess::start(folder.path(), &all);
        Self { server, folder }
    }

    /// Returns the text of the configuration.
    fn config(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("roomcast.toml")).unwrap()
    }

    /// Replaces the configuration, and lets the server read it again until the log has all of
    /// `expected` in one line.
    fn reload(&self, config: &str, expected: &[&str]) {
        use rustix::process::{Pid, Signal, kill_process};
        std::fs::write(self.folder.path().join("roomcast.toml"), config).unwrap();
        let pid = Pid::from_raw(i32::try_from(self.server.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        self.server.expect_log(expected);
    }

    async fn connect(&self, user: &str, claims: Value) -> Client {
        let auth = json!({"token": token(user, claims)});
        Client::connect(self.server.address(), &auth).await.unwrap()
    }

    async fn user(&self, user: &str) -> Client {
        self.connect(user, json!({})).await
    }

    /// Calls the API as a service. Returns the status and the body.
    async fn call(&self, method: &'static str, path: &str, body: Value) -> (u16, Value) {
        call(self.server.address(), method, path, body).await
    }

    /// Publishes the number of an order. Returns its position.
    async fn publish(&self, channel: &str, n: u64) -> String {
        let event = json!({"event": "order:updated", "data": {"status": "open", "n": n}, "id": n.to_string()});
        let (status, answer) = self
            .call("POST", &format!("/channels/{channel}/events"), event)
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["position"].as_str().unwrap().to_owned()
    }
}

/// Writes the configuration of these tests into a folder. Returns its path.
fn config_in(folder: &TempDir) -> PathBuf {
    let schema = folder.path().join("order.json");
    std::fs::write(&schema, SCHEMA).unwrap();
    let kinds = KINDS.replace("SCHEMA", schema.to_str().unwrap());
    let config = folder.path().join("roomcast.toml");
    let text = format!("{kinds}\n[auth.jwt]\nsecret = \"{SECRET}\"\n");
    std::fs::write(&config, text).unwrap();
    config
}

/// Calls the API of a server as a service. Returns the status and the body.
async fn call(address: SocketAddr, method: &'static str, path: &str, body: Value) -> (u16, Value) {
    let path = format!("/api/v1{path}");
    let token = token("backend", json!({"roles": ["service"]}));
    let call = move || {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut client = RawClient::connect(address);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = client.response();
        let body = serde_json::from_str(&answer.body).unwrap_or_default();
        (answer.status, body)
    };
    tokio::task::spawn_blocking(call).await.unwrap()
}

fn token(user: &str, mut claims: Value) -> String {
    claims["sub"] = json!(user);
    claims["exp"] = json!(4_000_000_000_u64);
    if claims["roles"].is_null() {
        claims["roles"] = json!(["user"]);
    }
    signed_with(SECRET, &claims)
}

/// Returns the numbers of the events in an answer.
fn numbers(answer: &Value) -> Vec<u64> {
    let events = answer["events"].as_array().unwrap().iter();
    events
        .map(|event| event["data"]["n"].as_u64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_gets_history_then_each_event_under_its_own_name() {
    let channels = Channels::start(&[]);
    let first = channels.publish("orders:ann:42", 1).await;
    let mut ann = channels.user("ann").await;
    let channel = json!({"channel": "orders:ann:42"});
    let answer = ann.must("channel:subscribe", channel.clone()).await;
    assert_eq!(numbers(&answer), [1]);
    assert_eq!(
        (&answer["position"], &answer["hasMore"]),
        (&json!(first), &json!(false))
    );
    let event = &answer["events"][0];
    assert_eq!(
        (&event["event"], &event["id"]),
        (&json!("order:updated"), &json!("1"))
    );
    assert_eq!(event["position"], first.as_str());

    let second = channels.publish("orders:ann:42", 2).await;
    let arguments = ann.event("order:updated").await;
    assert_eq!(arguments[0], json!({"status": "open", "n": 2}));
    let meta = &arguments[1];
    assert_eq!(
        (&meta["channel"], &meta["position"]),
        (&channel["channel"], &json!(second))
    );
    assert_eq!(meta["id"], "2");
    assert!(meta["timestamp"].is_string());

    // The same id again is the same event.
    assert_eq!(channels.publish("orders:ann:42", 2).await, second);
    ann.must("channel:unsubscribe", channel.clone()).await;
    channels.publish("orders:ann:42", 3).await;
    let answer = ann
        .must(
            "channel:subscribe",
            json!({"channel": "orders:ann:42", "since": second}),
        )
        .await;
    assert_eq!(numbers(&answer), [3]);
    assert_eq!(answer.get("forgotten"), None);
    let published = json!({"channel": "orders:ann:42", "event": "order.noted", "data": {"status": "shipped", "n": 4}, "id": "2"});
    // A user has its own ids.
    let answer = ann.must("channel:publish", published.clone()).await;
    let meta = ann.event("order.noted").await;
    assert_eq!(
        (&meta[1]["position"], &meta[1]["id"]),
        (&answer["position"], &json!("2"))
    );
    assert_eq!(
        ann.must("channel:publish", published).await["position"],
        answer["position"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_forbidden_channels_answer_alike() {
    let channels = Channels::start(&[]);
    channels.publish("orders:ann:42", 1).await;
    let mut bob = channels.user("bob").await;
    let refused = |answer: Value| answer["error"].clone();
    let unknown = refused(
        bob.ask("channel:subscribe", json!({"channel": "tickets:1"}))
            .await,
    );
    assert_eq!(
        unknown,
        json!({"code": "NOT_FOUND", "message": "no such channel"})
    );
    let long = "x".repeat(129);
    for channel in [
        "orders:ann:42",
        "orders:ann",
        "orders:bob:*",
        "orders:bob:..",
        "trades:bob",
        &format!("orders:bob:{long}"),
    ] {
        for event in ["channel:subscribe", "channel:history"] {
            assert_eq!(
                refused(bob.ask(event, json!({"channel": channel})).await),
                unknown,
                "{channel}"
            );
        }
        let event = json!({"channel": channel, "event": "order:updated", "data": {"status": "open"}, "id": "1"});
        assert_eq!(
            refused(bob.ask("channel:publish", event).await),
            unknown,
            "{channel}"
        );
    }
    for channel in [
        "",
        "orders:bob:4\n2",
        "orders:bob:4\u{200b}2",
        &"x".repeat(1032),
    ] {
        let error = refused(
            bob.ask("channel:subscribe", json!({"channel": channel}))
                .await,
        );
        assert_eq!(error["code"], "INVALID_PAYLOAD", "{channel}");
        assert_eq!(error["details"]["field"], "channel", "{channel}");
    }
    let (status, _) = channels
        .call("GET", "/channels/tickets:1/history", Value::Null)
        .await;
    assert_eq!(status, 404);
    // Other rules allow it.
    for claims in [json!({"roles": ["support"]}), json!({"customers": ["ann"]})] {
        let mut carl = channels.connect("carl", claims).await;
        let answer = carl
            .must("channel:subscribe", json!({"channel": "orders:ann:42"}))
            .await;
        assert_eq!(numbers(&answer), [1]);
        let event = json!({"channel": "orders:ann:42", "event": "order:updated", "data": {"status": "open"}, "id": "1"});
        assert_eq!(
            refused(carl.ask("channel:publish", event).await)["code"],
            "FORBIDDEN"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_against_the_declaration_are_refused_with_the_field() {
    let channels = Channels::start(&[]);
    for (channel, event, field) in [
        (
            "orders:ann:1",
            json!({"event": "order:updated", "data": {"status": "lost"}, "id": "1"}),
            "data.status",
        ),
        (
            "orders:ann:1",
            json!({"event": "order:updated", "data": {}, "id": "1"}),
            "data.status",
        ),
        (
            "orders:ann:1",
            json!({"event": "order:created", "data": {}, "id": "1"}),
            "event",
        ),
        (
            "news",
            json!({"event": "connect", "data": 1, "id": "1"}),
            "event",
        ),
        (
            "news",
            json!({"event": "trade:update", "data": 1, "id": "1"}),
            "event",
        ),
        (
            "news",
            json!({"event": "channel:ended", "data": 1, "id": "1"}),
            "event",
        ),
        (
            "news",
            json!({"event": "news", "data": "x".repeat(299), "id": "1"}),
            "data",
        ),
        (
            "news",
            json!({"event": "news", "data": {"_placeholder": true, "num": 0}, "id": "1"}),
            "data",
        ),
        ("news", json!({"event": "news", "data": 1, "id": ""}), "id"),
    ] {
        let (status, answer) = channels
            .call("POST", &format!("/channels/{channel}/events"), event)
            .await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!("INVALID_PAYLOAD")),
            "{answer}"
        );
        assert_eq!(answer["error"]["details"]["field"], field, "{answer}");
    }
    let (_, answer) = channels
        .call("GET", "/channels/news/history", Value::Null)
        .await;
    assert_eq!(answer["events"], json!([]), "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_read_page_by_page_in_both_directions() {
    let channels = Channels::start(&[]);
    for n in 1..=7 {
        channels.publish("orders:ann:42", n).await;
    }
    let mut ann = channels.user("ann").await;
    let newest = ann
        .must(
            "channel:history",
            json!({"channel": "orders:ann:42", "limit": 3}),
        )
        .await;
    assert_eq!(
        (numbers(&newest), &newest["hasMore"]),
        (vec![5, 6, 7], &json!(true))
    );
    let before = newest["events"][0]["position"].clone();
    let older = json!({"channel": "orders:ann:42", "limit": 3, "before": before});
    let older = ann.must("channel:history", older).await;
    assert_eq!(
        (numbers(&older), &older["hasMore"]),
        (vec![2, 3, 4], &json!(true))
    );
    let since = older["events"][0]["position"].clone();
    let next = json!({"channel": "orders:ann:42", "limit": 3, "since": since});
    let next = ann.must("channel:history", next).await;
    assert_eq!(
        (numbers(&next), &next["hasMore"]),
        (vec![3, 4, 5], &json!(true))
    );
    assert_eq!(next["position"], next["events"][2]["position"]);
    let both = json!({"channel": "orders:ann:42", "since": since, "before": before});
    assert_eq!(
        ann.ask("channel:history", both).await["error"]["code"],
        "INVALID_PAYLOAD"
    );
    let path = format!(
        "/channels/orders:ann:42/history?limit=3&before={}",
        before.as_str().unwrap()
    );
    let (status, read) = channels.call("GET", &path, Value::Null).await;
    assert_eq!((status, numbers(&read)), (200, vec![2, 3, 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_missed_too_much_follows_after_it_has_the_rest() {
    let channels = Channels::start(&[]);
    let publish = async |n: u64| {
        let data = json!({"n": n, "text": "x".repeat(90_000)});
        let event = json!({"event": "line", "data": data, "id": n.to_string()});
        let (status, answer) = channels
            .call("POST", "/channels/logs:1/events", event)
            .await;
        assert_eq!(status, 200, "{answer}");
    };
    publish(1).await;
    let mut ann = channels.user("ann").await;
    let channel = json!({"channel": "logs:1"});
    let first = ann.must("channel:subscribe", channel).await["position"].clone();
    for n in 2..=4 {
        publish(n).await;
        ann.event("line").await;
    }
    let since = |position: &Value| json!({"channel": "logs:1", "since": position});
    let answer = ann.must("channel:subscribe", since(&first)).await;
    assert_eq!(
        (numbers(&answer), &answer["hasMore"]),
        (vec![2, 3], &json!(true))
    );
    // Until it has the rest, the client receives no events, which would be out of order.
    publish(5).await;
    assert!(ann.events_until_now("line").await.is_empty());
    let answer = ann
        .must("channel:subscribe", since(&answer["position"]))
        .await;
    assert_eq!(
        (numbers(&answer), &answer["hasMore"]),
        (vec![4, 5], &json!(false))
    );
    publish(6).await;
    assert_eq!(ann.event("line").await[0]["n"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_follows_a_limited_number_of_channels() {
    let channels = Channels::start(&[("ROOMCAST_LIMITS__CHANNELS_PER_CONNECTION", "2")]);
    let mut ann = channels.user("ann").await;
    for order in [1, 2, 1] {
        let channel = json!({"channel": format!("orders:ann:{order}")});
        ann.must("channel:subscribe", channel).await;
    }
    let third = json!({"channel": "orders:ann:3"});
    let answer = ann.ask("channel:subscribe", third.clone()).await;
    assert_eq!(answer["error"]["code"], "CONFLICT");
    ann.must("channel:unsubscribe", json!({"channel": "orders:ann:1"}))
        .await;
    ann.must("channel:subscribe", third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_right_ends_the_subscription_with_a_reason() {
    let channels = Channels::start(&[]);
    let mut carl = channels
        .connect("carl", json!({"roles": ["support"]}))
        .await;
    for channel in ["orders:ann:42", "news"] {
        carl.must("channel:subscribe", json!({"channel": channel}))
            .await;
    }
    let refresh = json!({"token": token("carl", json!({"roles": ["user"]}))});
    carl.must("auth:refresh", refresh).await;
    let ended = carl.event("channel:ended").await;
    assert_eq!(
        ended,
        json!({"channel": "orders:ann:42", "reason": "forbidden"})
    );
    channels.publish("orders:ann:42", 1).await;
    let (status, answer) = channels
        .call(
            "POST",
            "/channels/news/events",
            json!({"event": "news", "data": [1, null], "id": "1"}),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(carl.event("news").await[0], json!([1, null]));
    assert!(carl.events_until_now("order:updated").await.is_empty());
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn followers_at_all_servers_receive_one_order_without_gaps() {
    const COUNT: u64 = 40;
    let database = crate::nodes::Database::new();
    let folder = TempDir::new().unwrap();
    let config = config_in(&folder);
    let config = ("ROOMCAST_CONFIG", config.to_str().unwrap());
    let quick = ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0");
    let servers = [(); 2].map(|()| database.server_with(&[config, quick]));
    let connect = async |server: &ServerProcess| {
        let auth = json!({"token": token("ann", json!({}))});
        Client::connect(server.address(), &auth).await.unwrap()
    };
    let mut anns = [connect(&servers[0]).await, connect(&servers[1]).await];
    let request = json!({"channel": "orders:ann:42"});
    anns[0].must("channel:subscribe", request.clone()).await;
    let publishing = servers.iter().enumerate().map(|(n, server)| {
        let address = server.address();
        async move {
            for i in 0..COUNT / 2 {
                let n = 2 * i + n as u64;
                let event = json!({"event": "order:updated", "data": {"status": "open", "n": n}, "id": n.to_string()});
                let (status, answer) = call(address, "POST", "/channels/orders:ann:42/events", event).await;
                assert_eq!(status, 200, "{answer}");
            }
        }
    });
    let publishing = futures_util::future::join_all(publishing);
    // The second client begins to follow while events are published.
    let following = async {
        let answer = anns[1].must("channel:subscribe", request).await;
        let position = answer["position"].as_str().unwrap().to_owned();
        (numbers(&answer), position)
    };
    let (_, (known, position)) = tokio::join!(publishing, following);
    let mut received = [Vec::new(), Vec::new()];
    for (ann, received) in anns.iter_mut().zip(&mut received) {
        while received.last() != Some(&COUNT) {
            let event = ann.event("order:updated").await;
            let offset = event[1]["position"]
                .as_str()
                .unwrap()
                .split('.')
                .nth(1)
                .unwrap()
                .parse::<u64>();
            received.push(offset.unwrap());
        }
    }
    assert_eq!(received[0], (1..=COUNT).collect::<Vec<_>>());
    let offset: u64 = position.split('.').nth(1).unwrap().parse().unwrap();
    assert_eq!(received[1], (offset + 1..=COUNT).collect::<Vec<_>>());
    assert!(known.len() as u64 <= offset);
}
