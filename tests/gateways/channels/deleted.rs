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

#[tokio::test(flavor = "multi_thread")]
async fn deleted_event_is_read_no_more_and_leaves_no_gap() {
    let channels = Channels::start(&[]);
    let mut positions = Vec::new();
    for n in 1..=3 {
        positions.push(channels.publish("orders:ann:42", n).await);
    }
    let mut ann = channels.user("ann").await;
    let own = json!({"channel": "orders:ann:42", "event": "order:updated",
                     "data": {"status": "open", "n": 4}, "id": "2"});
    let own = ann.must("channel:publish", own).await;
    let delete = async |id: &str| {
        let path = format!("/channels/orders:ann:42/events/{id}");
        channels.call("DELETE", &path, Value::Null).await
    };
    // A repeat has the same answer.
    for _ in 0..2 {
        let (status, answer) = delete("2").await;
        assert_eq!((status, &answer["position"]), (200, &json!(positions[1])));
    }
    let channel = json!({"channel": "orders:ann:42"});
    let found = ann.must("channel:history", channel.clone()).await;
    assert_eq!(numbers(&found), [1, 3, 4]);
    for (since, expected) in [(0, vec![3, 4]), (1, vec![3, 4]), (2, vec![4])] {
        let request = json!({"channel": "orders:ann:42", "since": positions[since]});
        let found = ann.must("channel:subscribe", request).await;
        assert_eq!(numbers(&found), expected);
        assert_eq!(found.get("forgotten"), None, "{found}");
    }
    // The id stays taken.
    let again = channels.publish("orders:ann:42", 2).await;
    assert_eq!(again, positions[1]);
    assert!(ann.events_until_now("order:updated").await.is_empty());

    // Each publisher has its own ids.
    let (status, answer) = delete("2?userId=ann").await;
    assert_eq!((status, &answer["position"]), (200, &own["position"]));
    assert_eq!(numbers(&ann.must("channel:history", channel).await), [1, 3]);
    for (id, expected) in [("9", 404), ("2?userId=bob", 404), ("2?user=ann", 400)] {
        let (status, answer) = delete(id).await;
        assert_eq!(status, expected, "{id}: {answer}");
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
