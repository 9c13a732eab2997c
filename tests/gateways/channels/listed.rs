//! The list of channels with followers or recent events, and who may read it.

use std::thread;

use serde_json::{Value, json};

use super::{Channels, token};
use crate::support::RawClient;

/// Returns the name of a channel that is too long for the name of a room.
fn long_name() -> String {
    let parts = ["a", "b", "c"].map(|part| part.repeat(120));
    format!("long:{}", parts.join(":"))
}

const MORE: [(&str, &str); 5] = [
    ("ROOMCAST_CHANNELS__LIVE__PATTERN", "live:{n}"),
    ("ROOMCAST_CHANNELS__LIVE__FOLLOW", "anyone"),
    ("ROOMCAST_CHANNELS__LIVE__HISTORY", "none"),
    ("ROOMCAST_CHANNELS__LONG__PATTERN", "long:{a}:{b}:{c}"),
    ("ROOMCAST_CHANNELS__LONG__FOLLOW", "anyone"),
];

async fn publish(channels: &Channels, channel: &str, data: Value, id: &str) {
    let event = json!({"event": "x", "data": data, "id": id});
    let path = format!("/channels/{channel}/events");
    let (status, answer) = channels.call("POST", &path, event).await;
    assert_eq!(status, 200, "{answer}");
}

/// Returns the names of the listed channels, and the answer.
async fn list(channels: &Channels, query: &str) -> (Vec<String>, Value) {
    let path = format!("/channels{query}");
    let (status, answer) = channels.call("GET", &path, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["missing"], 0);
    let names = answer["channels"].as_array().unwrap().iter();
    let names = names.map(|one| one["channel"].as_str().unwrap().to_owned());
    (names.collect(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_listed_by_followers_rate_and_bytes() {
    let channels = Channels::start(&MORE);
    assert_eq!(list(&channels, "").await.0, [""; 0]);
    let long = long_name();
    let mut sockets = Vec::new();
    for (user, followed) in [
        ("ann", vec!["news", "logs:1", &long]),
        ("bob", vec!["news", "logs:1"]),
        ("cat", vec!["news"]),
    ] {
        let mut socket = channels.user(user).await;
        for channel in followed {
            let channel = json!({ "channel": channel });
            socket.must("channel:subscribe", channel).await;
        }
        sockets.push(socket);
    }
    for n in 0..3 {
        publish(&channels, "live:1", json!(n), &n.to_string()).await;
    }
    publish(&channels, "logs:1", json!("x".repeat(5000)), "1").await;
    // The same event again is none.
    publish(&channels, "logs:1", json!("x".repeat(5000)), "1").await;
    publish(&channels, "news", json!(1), "1").await;
    publish(&channels, "news", json!(2), "2").await;

    let (names, answer) = list(&channels, "").await;
    assert_eq!(names, ["news", "logs:1", &long, "live:1"]);
    assert_eq!(answer["hasMore"], false);
    let [news, logs, named, live] = [0, 1, 2, 3].map(|n| &answer["channels"][n]);
    let figures = |one: &Value| (one["followers"].clone(), one["history"].clone());
    let bytes = r#"{"event":"x","data":1}"#.len();
    assert_eq!(
        figures(news),
        (json!(3), json!({"events": 2, "bytes": 2 * bytes}))
    );
    assert_eq!(
        figures(logs),
        (json!(2), json!({"events": 1, "bytes": bytes + 5001}))
    );
    assert_eq!(figures(named), (json!(1), json!({"events": 0, "bytes": 0})));
    assert_eq!(figures(live), (json!(0), Value::Null));
    assert_eq!(
        (&news["kind"], &news["room"]),
        (&json!("news"), &json!("channel:news"))
    );
    assert!(named["room"].as_str().unwrap().starts_with("channel#"));
    assert_eq!(named["eventsPerSecond"], 0.0);
    let rate = |one: &Value| one["eventsPerSecond"].as_f64().unwrap();
    assert!(rate(live) > 0.0);
    assert!((rate(live) / rate(logs) - 3.0).abs() < 1e-6, "{answer}");

    let (names, _) = list(&channels, "?sort=rate").await;
    assert_eq!(names, ["live:1", "news", "logs:1", &long]);
    let (names, answer) = list(&channels, "?sort=bytes&limit=2").await;
    assert_eq!(names, ["logs:1", "news"]);
    assert_eq!(answer["hasMore"], true);
    for socket in sockets {
        socket.disconnect().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_for_channels_name_the_field() {
    let channels = Channels::start(&MORE);
    for (path, status) in [
        ("/channels?sort=names", 400),
        ("/channels?limit=0", 400),
        ("/channels?limit=201", 400),
        ("/channels?limit=x", 400),
        ("/channels?other=1", 400),
        ("/channels/live:1/live?seconds=0", 400),
        ("/channels/live:1/live?seconds=3601", 400),
        ("/channels/live:1/live?other=1", 400),
        ("/channels/tickets:1/live", 404),
    ] {
        let (answered, answer) = channels.call("GET", path, Value::Null).await;
        assert_eq!(answered, status, "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_without_permission_sees_no_channel() {
    let channels = Channels::start(&MORE);
    let address = channels.server.address();
    publish(&channels, "live:1", json!(1), "1").await;
    let user = token("ann", json!({"roles": ["user"]}));
    for path in ["/channels", "/channels/live:1/live", "/channels/none/live"] {
        let token = user.clone();
        let ask = move || {
            let mut client = RawClient::connect(address);
            client.send(format!(
                "GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
            ));
            client.response()
        };
        let answer = thread::spawn(ask).join().unwrap();
        assert_eq!(answer.status, 403, "{path}");
        assert!(!answer.body.contains("live:1"), "{}", answer.body);
    }
}
