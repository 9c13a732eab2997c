//! Channels that have only their newest event.

use serde_json::{Value, json};

use super::{Channels, token};
use crate::support::Polling;

const SCORE: [(&str, &str); 3] = [
    ("ROOMCAST_CHANNELS__SCORE__PATTERN", "score:{game}"),
    ("ROOMCAST_CHANNELS__SCORE__FOLLOW", "anyone"),
    ("ROOMCAST_CHANNELS__SCORE__HISTORY", "last"),
];

const DESK: [(&str, &str); 3] = [
    ("ROOMCAST_CHANNELS__DESK__PATTERN", "desk:{owner}"),
    ("ROOMCAST_CHANNELS__DESK__FOLLOW", "owner:{owner},token"),
    ("ROOMCAST_CHANNELS__DESK__PUBLISH", "followers"),
];

async fn publish(channels: &Channels, n: u64) -> Value {
    let event = json!({"event": "score", "data": {"n": n}, "id": n.to_string()});
    let (status, answer) = channels
        .call("POST", "/channels/score:1/events", event)
        .await;
    assert_eq!(status, 200, "{answer}");
    answer["position"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn follower_gets_the_newest_event_and_misses_no_other() {
    let channels = Channels::start(&SCORE);
    let first = publish(&channels, 1).await;
    let mut last = publish(&channels, 2).await;
    let mut ann = channels.user("ann").await;
    for (since, expected) in [
        (Value::Null, vec![2]),
        (first.clone(), vec![2]),
        (last.clone(), vec![]),
    ] {
        let mut request = json!({"channel": "score:1"});
        if !since.is_null() {
            request["since"] = since;
        }
        for event in ["channel:subscribe", "channel:history"] {
            let answer = ann.must(event, request.clone()).await;
            assert_eq!(super::numbers(&answer), expected, "{request}");
            assert_eq!(
                (
                    &answer["position"],
                    &answer["hasMore"],
                    answer.get("forgotten")
                ),
                (&last, &json!(false), None)
            );
        }
    }
    let future = last.as_str().unwrap().replacen(".2.", ".3.", 1);
    for event in ["channel:subscribe", "channel:history"] {
        let request = json!({"channel": "score:1", "since": future});
        let answer = ann.ask(event, request).await;
        assert_eq!(answer["error"]["details"]["field"], "since", "{answer}");
    }
    let before = json!({"channel": "score:1", "before": last});
    assert_eq!(
        ann.must("channel:history", before).await["events"],
        json!([])
    );
    // As at a server that learns of several events at once, of which only the newest is stored.
    let database = rusqlite::Connection::open(channels.folder.path().join("chat.db")).unwrap();
    let skip = "UPDATE journals SET revision = revision + 3 WHERE name LIKE 'channel:%'";
    assert_eq!(database.execute(skip, []).unwrap(), 1);
    last = publish(&channels, 6).await;
    let arguments = ann.event("score").await;
    assert_eq!(
        (&arguments[0]["n"], &arguments[1]["position"]),
        (&json!(6), &last)
    );
    let again = json!({"channel": "score:1", "since": first});
    let answer = ann.must("channel:subscribe", again).await;
    assert_eq!(
        (super::numbers(&answer), answer.get("forgotten")),
        (vec![6], None)
    );
    assert!(ann.events_until_now("channel:ended").await.is_empty());
}

/// The number of events for a client that does not read. They far exceed the buffers at both ends of
/// a connection.
const MANY: u64 = 250;

#[tokio::test(flavor = "multi_thread")]
async fn slow_follower_gets_only_newest_event_in_its_place() {
    let mut variables = SCORE.to_vec();
    variables.push(("ROOMCAST_CHANNELS__SCORE__MAX_BYTES", "60000"));
    // A client that does not read answers no ping.
    variables.push(("ROOMCAST_ENGINE__PING_TIMEOUT", "10min"));
    let channels = Channels::start(&variables);
    let mut ann = channels.user("ann").await;
    for channel in ["score:1", "news"] {
        ann.must("channel:subscribe", json!({"channel": channel}))
            .await;
    }
    for n in 1..=MANY {
        // A newer event replaces one of another name as well.
        let event = if n % 2 == 0 { "score" } else { "draw" };
        let data = json!({"n": n, "text": "x".repeat(50_000)});
        for (channel, event, data) in [("score:1", event, data), ("news", "news", json!(n))] {
            let event = json!({"event": event, "data": data, "id": n.to_string()});
            let path = format!("/channels/{channel}/events");
            let (status, answer) = channels.call("POST", &path, event).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
    // The client starts to read only now.
    let (mut scores, mut news) = (Vec::new(), 0);
    while news < MANY {
        let packet = ann.packet().await;
        let event: Value = serde_json::from_str(packet.strip_prefix("42").unwrap()).unwrap();
        if event[0] == "news" {
            news += 1;
            assert_eq!(event[1], news);
        } else {
            let n = event[1]["n"].as_u64().unwrap();
            assert_eq!(news, n - 1, "{n} is not in its place");
            scores.push(n);
        }
    }
    assert_eq!(scores.last(), Some(&MANY));
    assert!(scores.len() < MANY as usize / 2, "{scores:?}");
}

/// Polls until an event or an answer arrives that begins with `end`. Returns all events and answers
/// about channels, in short.
fn poll_until(polling: &Polling, end: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    while !all.iter().any(|one| one.starts_with(end)) {
        let response = polling.poll();
        assert_eq!(response.status, 200, "no {end} in {all:?}");
        all.extend(response.body.split('\x1e').filter_map(briefly));
    }
    all
}

fn briefly(packet: &str) -> Option<String> {
    let list = &packet[packet.find('[')?..];
    let list: Value = serde_json::from_str(list).unwrap();
    if packet.starts_with("43") {
        let numbers = list[0].get("events").map(|_| super::numbers(&list[0]));
        return Some(format!("answer {:?}", numbers.unwrap_or_default()));
    }
    match list[0].as_str()? {
        "score" => Some(format!("score {}", list[1]["n"])),
        "channel:ended" => Some(format!("ended {}", list[1]["reason"].as_str()?)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_event_precedes_the_answers_and_the_end_after_it() {
    let channels = Channels::start(&SCORE);
    let address = channels.server.address();
    let polling = tokio::task::block_in_place(|| {
        let polling = Polling::open(address, "/socket.io/");
        polling.post(format!("40{}", json!({"token": token("ann", json!({}))})));
        polling
    });
    let request = |event: &str, end: &str| {
        let packet = json!([format!("channel:{event}"), {"channel": "score:1"}]);
        tokio::task::block_in_place(|| {
            polling.post(format!("421{packet}"));
            poll_until(&polling, end)
        })
    };
    assert_eq!(request("subscribe", "answer"), ["answer []"]);
    for n in 1..=3 {
        publish(&channels, n).await;
    }
    // The client polls only now.
    assert_eq!(request("subscribe", "answer"), ["score 3", "answer [3]"]);
    publish(&channels, 4).await;
    publish(&channels, 5).await;
    assert_eq!(request("unsubscribe", "answer"), ["score 5", "answer []"]);
    publish(&channels, 6).await;
    assert_eq!(request("subscribe", "answer"), ["answer [6]"]);
    for n in 7..=9 {
        publish(&channels, n).await;
        let path = format!("/channels/score:1/events/{n}");
        if n == 8 {
            let (status, answer) = channels.call("DELETE", &path, Value::Null).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
    assert_eq!(request("history", "answer"), ["score 9", "answer [9]"]);
    publish(&channels, 10).await;
    publish(&channels, 11).await;
    let (status, answer) = channels
        .call("DELETE", "/channels/score:1", Value::Null)
        .await;
    assert_eq!(status, 200, "{answer}");
    publish(&channels, 12).await;
    let expected = ["score 11", "ended deleted", "answer [12]"];
    assert_eq!(request("history", "answer"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_names_the_rule_that_decides_about_a_channel() {
    let channels = Channels::start(&SCORE);
    let explain = |question: &str| {
        let mut command = std::process::Command::new(crate::server::ROOMCAST);
        let folder = channels.folder.path();
        command.arg("--config").arg(folder.join("roomcast.toml"));
        command.args([
            "--store",
            &format!("sqlite:{}", folder.join("chat.db").display()),
        ]);
        command
            .args("explain --user ann".split(' '))
            .args(question.split(' '));
        let output = command.envs(SCORE).envs(DESK).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap(), text)
    };
    for (question, code, rule) in [
        (
            "--channel orders:ann:42",
            0,
            "allowed: every connected client may; and `owner:{customer}` in channels.orders.follow",
        ),
        (
            "--channel orders:bob:42",
            3,
            "refused: none of `owner:{customer}`, `role:support`, `claim:customers={customer}` in \
             channels.orders.follow allows it; the claims of the user's token are not known",
        ),
        (
            "--channel orders:bob:42 --role support",
            0,
            "`role:support` in",
        ),
        ("--channel score:1", 0, "`anyone` in channels.score.follow"),
        (
            "--channel score:1 --event channel:publish",
            3,
            "refused: none of `services` in channels.score.publish allows it",
        ),
        (
            "--channel score:1 --event channel:publish --role service",
            0,
            "`services` in channels.score.publish",
        ),
        (
            "--channel desk:ann --event channel:publish",
            0,
            "`followers` in channels.desk.publish",
        ),
        (
            "--channel desk:bob --event channel:publish",
            3,
            "none of `followers` in channels.desk.publish allows it; a token of the request may",
        ),
        ("--channel nothing", 3, "no kind of channels has this name"),
        (
            "--channel score:1 --event message",
            3,
            "the event is not about channels",
        ),
    ] {
        let (found, text) = explain(question);
        assert_eq!(found, code, "{question}: {text}");
        assert!(text.contains(rule), "{question}: {text}");
    }
}
