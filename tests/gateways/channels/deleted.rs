//! Deleted channels.

use serde_json::{Value, json};

use super::{Channels, numbers};

#[tokio::test(flavor = "multi_thread")]
async fn deleted_channel_has_no_events_and_its_followers_leave() {
    let channels = Channels::start(&[]);
    let path = "/channels/orders:ann:42";
    let mut position = String::new();
    for n in 1..=3 {
        position = channels.publish("orders:ann:42", n).await;
    }
    let kept = channels.publish("orders:ann:43", 7).await;
    let [mut ann, mut away] = [channels.user("ann").await, channels.user("ann").await];
    let channel = json!({"channel": "orders:ann:42"});
    ann.must("channel:subscribe", channel.clone()).await;
    let (status, answer) = channels.call("DELETE", path, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    let expected = json!({"channel": "orders:ann:42", "reason": "deleted"});
    assert_eq!(ann.event("channel:ended").await, expected);
    for (request, forgotten) in [
        (channel.clone(), None),
        (
            json!({"channel": "orders:ann:42", "since": position}),
            Some(true),
        ),
        (
            json!({"channel": "orders:ann:42", "since": answer["position"]}),
            None,
        ),
    ] {
        let found = away.must("channel:subscribe", request).await;
        let found = (
            numbers(&found),
            found.get("forgotten").and_then(Value::as_bool),
        );
        assert_eq!(found, (vec![], forgotten));
    }
    // The same id is another event now, and the channel begins again.
    channels.publish("orders:ann:42", 1).await;
    assert_eq!(away.event("order:updated").await[0]["n"], 1);
    let again = ann.must("channel:subscribe", channel).await;
    assert_eq!(numbers(&again), [1]);
    let other = ann
        .must("channel:history", json!({"channel": "orders:ann:43"}))
        .await;
    assert_eq!(
        (numbers(&other), &other["position"]),
        (vec![7], &json!(kept))
    );
    assert!(ann.events_until_now("order:updated").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_services_that_may_publish_delete_a_channel() {
    let channels = Channels::start(&[]);
    for (channel, expected) in [("nothing", 404), ("mine:ann", 404), ("orders:ann:42", 200)] {
        let path = format!("/channels/{channel}");
        let (status, answer) = channels.call("DELETE", &path, Value::Null).await;
        assert_eq!(status, expected, "{channel}: {answer}");
    }
}

/// As while the events of a deleted channel are still being removed, or could not be removed.
#[tokio::test(flavor = "multi_thread")]
async fn events_before_a_deletion_are_not_read() {
    let channels = Channels::start(&[]);
    let first = channels.publish("orders:ann:42", 1).await;
    let (status, _) = channels
        .call("DELETE", "/channels/orders:ann:42", Value::Null)
        .await;
    assert_eq!(status, 200);
    let database = rusqlite::Connection::open(channels.folder.path().join("chat.db")).unwrap();
    let left = "INSERT INTO journal_entries (journal, revision, key, body, is_open, created_at)
        SELECT journal, 1, 'left', '{\"event\":\"order:updated\",\"data\":{\"n\":1}}', 0, created_at
        FROM journal_entries WHERE journal LIKE 'channel:%'";
    assert_eq!(database.execute(left, []).unwrap(), 1);
    channels.publish("orders:ann:42", 2).await;
    let mut ann = channels.user("ann").await;
    for (request, forgotten) in [
        (json!({"channel": "orders:ann:42"}), None),
        (
            json!({"channel": "orders:ann:42", "since": first}),
            Some(true),
        ),
    ] {
        let found = ann.must("channel:subscribe", request).await;
        let is_forgotten = found.get("forgotten").and_then(Value::as_bool);
        assert_eq!(
            (numbers(&found), is_forgotten, &found["hasMore"]),
            (vec![2], forgotten, &json!(false))
        );
    }
}
