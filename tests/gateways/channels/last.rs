//! Channels that have only their newest event.

use serde_json::{Value, json};

use super::Channels;

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
