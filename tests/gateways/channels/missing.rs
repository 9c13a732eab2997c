//! Events that are no longer stored: nobody receives less without being told.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Channels, numbers};

#[tokio::test(flavor = "multi_thread")]
async fn position_that_history_no_longer_reaches_is_forgotten() {
    let channels = Channels::start(&[]);
    let first = channels.publish("orders:ann:42", 1).await;
    let mut last = String::new();
    for n in 2..=30 {
        last = channels.publish("orders:ann:42", n).await;
    }
    let mut ann = channels.user("ann").await;
    let since = |position: &str| json!({"channel": "orders:ann:42", "since": position});
    // Other servers may still have to read all events. They are removed a minute later.
    let answer = ann.must("channel:subscribe", since(&first)).await;
    assert_eq!(numbers(&answer), (2..=30).collect::<Vec<_>>());
    let mut answer = Value::Null;
    for _ in 0..90 {
        tokio::time::sleep(Duration::from_secs(1)).await; // Poll interval.
        answer = ann.must("channel:subscribe", since(&first)).await;
        if answer["forgotten"] == true {
            break;
        }
    }
    assert_eq!(answer["forgotten"], true, "{answer}");
    assert_eq!(numbers(&answer), (23..=30).collect::<Vec<_>>());
    assert_eq!(answer["position"], last.as_str());
    let answer = ann.must("channel:subscribe", since(&last)).await;
    assert_eq!((numbers(&answer), answer.get("forgotten")), (vec![], None));
    for (wrong, code) in [
        ("", "INVALID_PAYLOAD"),
        ("30", "INVALID_PAYLOAD"),
        (&*last.replace(".30.", ".31."), "INVALID_PAYLOAD"),
        (
            &*channels.publish("orders:ann:43", 1).await,
            "INVALID_PAYLOAD",
        ),
    ] {
        let answer = ann.ask("channel:subscribe", since(wrong)).await;
        assert_eq!(answer["error"]["code"], code, "{wrong}: {answer}");
        assert_eq!(answer["error"]["details"]["field"], "since", "{answer}");
    }
    let elsewhere = format!("00000000{}", &last[8..]);
    assert_eq!(
        ann.must("channel:subscribe", since(&elsewhere)).await["forgotten"],
        true
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn position_of_another_channel_or_form_is_refused_in_every_request() {
    let channels = Channels::start(&[]);
    let own = channels.publish("orders:ann:42", 1).await;
    let foreign = channels.publish("orders:ann:43", 1).await;
    let future = own.replacen(".1.", ".2.", 1);
    let mut ann = channels.user("ann").await;
    let http = async |field: &str, position: &str| {
        let path = format!("/channels/orders:ann:42/history?{field}={position}");
        channels.call("GET", &path, Value::Null).await
    };
    for field in ["since", "before"] {
        for wrong in ["", "1", "a.b.c.d", &*own.to_uppercase(), &*foreign] {
            let request = json!({"channel": "orders:ann:42", field: wrong});
            let answer = ann.ask("channel:history", request).await;
            let (status, answered) = http(field, wrong).await;
            assert_eq!(status, 400, "{field}={wrong}: {answered}");
            for answer in [answer, answered] {
                assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD", "{answer}");
                assert_eq!(answer["error"]["details"]["field"], field, "{answer}");
            }
        }
        let (status, answer) = http(field, &own).await;
        assert_eq!(status, 200, "{answer}");
    }
    let request = json!({"channel": "orders:ann:42", "since": future});
    let answer = ann.ask("channel:history", request).await;
    assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD", "{answer}");
    assert_eq!(answer["error"]["details"]["field"], "since", "{answer}");
    let (status, answer) = http("since", &future).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    assert_eq!(answer["error"]["details"]["field"], "since", "{answer}");
}

/// A shorter `history.age` ends newer events before older ones, and an erasure removes some.
#[tokio::test(flavor = "multi_thread")]
async fn missing_event_between_others_is_not_left_out_silently() {
    let channels = Channels::start(&[]);
    let first = channels.publish("orders:ann:42", 1).await;
    for n in 2..=4 {
        channels.publish("orders:ann:42", n).await;
    }
    let mut ann = channels.user("ann").await;
    let since = json!({"channel": "orders:ann:42", "since": first});
    let all = ann.must("channel:subscribe", since.clone()).await;
    assert_eq!((numbers(&all), all.get("forgotten")), (vec![2, 3, 4], None));
    for (missing, left) in [(3, vec![1, 2, 4]), (4, vec![1, 2])] {
        let database = rusqlite::Connection::open(channels.folder.path().join("chat.db")).unwrap();
        let removed = database
            .execute(
                "DELETE FROM journal_entries WHERE revision = ? AND journal LIKE 'channel:%'",
                [missing],
            )
            .unwrap();
        assert_eq!(removed, 1);
        let answer = ann.must("channel:subscribe", since.clone()).await;
        assert_eq!(
            (numbers(&answer), &answer["forgotten"]),
            (left, &json!(true))
        );
    }
}

/// As at a server that was isolated until other servers had removed events.
#[tokio::test(flavor = "multi_thread")]
async fn follower_is_told_if_events_were_removed_before_it_received_them() {
    let channels = Channels::start(&[]);
    let mut ann = channels.user("ann").await;
    let channel = json!({"channel": "orders:ann:42"});
    ann.must("channel:subscribe", channel).await;
    let first = channels.publish("orders:ann:42", 1).await;
    assert_eq!(ann.event("order:updated").await[1]["position"], first);
    let database = rusqlite::Connection::open(channels.folder.path().join("chat.db")).unwrap();
    let skip = "UPDATE journals SET revision = revision + 3 WHERE name LIKE 'channel:%'";
    assert_eq!(database.execute(skip, []).unwrap(), 1);
    channels.publish("orders:ann:42", 5).await;
    let ended = ann.event("channel:ended").await;
    let expected = json!({"channel": "orders:ann:42", "reason": "interrupted"});
    assert_eq!(ended, expected);
    let again = json!({"channel": "orders:ann:42", "since": first});
    let answer = ann.must("channel:subscribe", again).await;
    assert_eq!(
        (numbers(&answer), &answer["forgotten"]),
        (vec![1, 5], &json!(true))
    );
    channels.publish("orders:ann:42", 6).await;
    assert_eq!(ann.event("order:updated").await[0]["n"], 6);
}

/// As after a failover to a database that lags behind.
#[tokio::test(flavor = "multi_thread")]
async fn follower_is_told_if_the_database_loses_what_was_emitted() {
    let channels = Channels::start(&[]);
    let mut ann = channels.user("ann").await;
    let channel = json!({"channel": "orders:ann:42"});
    ann.must("channel:subscribe", channel.clone()).await;
    for n in 1..=3 {
        channels.publish("orders:ann:42", n).await;
        ann.event("order:updated").await;
    }
    let database = rusqlite::Connection::open(channels.folder.path().join("chat.db")).unwrap();
    database
        .execute_batch(
            "DELETE FROM journal_entries WHERE revision > 1 AND journal LIKE 'channel:%';
             UPDATE journals SET revision = 1 WHERE name LIKE 'channel:%';",
        )
        .unwrap();
    let mut bob = channels.connect("bob", json!({"roles": ["support"]})).await;
    let answer = bob.must("channel:subscribe", channel.clone()).await;
    assert_eq!(numbers(&answer), [1]);
    let ended = ann.event("channel:ended").await;
    assert_eq!(ended["reason"], "interrupted");
    ann.must("channel:subscribe", channel).await;
    channels.publish("orders:ann:42", 4).await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.event("order:updated").await[0]["n"], 4);
    }
}

/// As after a backup was restored and as many events were published as it had lacked.
#[tokio::test(flavor = "multi_thread")]
async fn position_of_another_event_at_the_same_place_is_forgotten() {
    let channels = Channels::start(&[]);
    let mut position = String::new();
    for n in 1..=3 {
        position = channels.publish("orders:ann:42", n).await;
    }
    let mut ann = channels.user("ann").await;
    let since = json!({"channel": "orders:ann:42", "since": position});
    let known = ann.must("channel:subscribe", since.clone()).await;
    assert_eq!(
        (known.get("forgotten"), &known["position"]),
        (None, &json!(position))
    );
    let database = rusqlite::Connection::open(channels.folder.path().join("chat.db")).unwrap();
    let other = "UPDATE journal_entries SET created_at = '2026-01-31T12:00:00.000Z'
        WHERE revision = 3 AND journal LIKE 'channel:%'";
    assert_eq!(database.execute(other, []).unwrap(), 1);
    channels.publish("orders:ann:42", 4).await;
    let answer = ann.must("channel:subscribe", since).await;
    assert_eq!(
        (numbers(&answer), &answer["forgotten"]),
        (vec![1, 2, 3, 4], &json!(true))
    );
}

/// The first follower at a server subscribes while events are published.
#[tokio::test(flavor = "multi_thread")]
async fn first_follower_of_a_channel_misses_no_event_of_that_moment() {
    let channels = Channels::start(&[]);
    for round in 0..20 {
        let channel = format!("orders:ann:{round}");
        let mut ann = channels.user("ann").await;
        let publishing = async {
            for n in 1..=8 {
                channels.publish(&channel, n).await;
            }
        };
        let following = async {
            let answer = ann
                .must("channel:subscribe", json!({"channel": channel}))
                .await;
            let mut seen = numbers(&answer);
            while seen.last() != Some(&8) {
                seen.push(ann.event("order:updated").await[0]["n"].as_u64().unwrap());
            }
            seen
        };
        let ((), seen) = tokio::join!(publishing, following);
        assert_eq!(seen, (1..=8).collect::<Vec<_>>(), "{channel}");
    }
}

/// The largest events, of which an answer has only one.
#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_read_one_by_one_from_a_position() {
    let channels = Channels::start(&[("ROOMCAST_CHANNELS__LOGS__MAX_BYTES", "262144")]);
    let mut positions = Vec::new();
    for (n, kilobytes) in [20, 250, 250, 90, 140, 250].into_iter().enumerate() {
        let data = json!({"n": n, "text": "x".repeat(kilobytes << 10)});
        let event = json!({"event": "log", "data": data, "id": n.to_string()});
        let (status, answer) = channels
            .call("POST", "/channels/logs:1/events", event)
            .await;
        assert_eq!(status, 200, "{answer}");
        positions.push(answer["position"].as_str().unwrap().to_owned());
    }
    let mut ann = channels.user("ann").await;
    let (mut since, mut seen) = (positions[0].clone(), vec![]);
    loop {
        let request = json!({"channel": "logs:1", "since": since});
        let answer = ann.must("channel:subscribe", request).await;
        assert_eq!(answer.get("forgotten"), None, "after {since}");
        seen.extend(numbers(&answer));
        since = answer["position"].as_str().unwrap().to_owned();
        if answer["hasMore"] == false {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert_eq!(since, positions[5]);
}
