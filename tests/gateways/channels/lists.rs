//! Lists of events that services publish with one request, to one channel or to several.

use serde_json::{Value, json};

use super::{Channels, numbers};
use crate::client::Client;

/// Returns an event with a number.
fn event(n: u64, id: &str) -> Value {
    json!({"event": "order:updated", "data": {"status": "open", "n": n}, "id": id})
}

fn events(numbers: impl Iterator<Item = u64>) -> Value {
    let events: Vec<Value> = numbers.map(|n| event(n, &n.to_string())).collect();
    json!({"events": events})
}

/// Returns the offsets in the positions of an answer.
fn offsets(answer: &Value) -> Vec<u64> {
    let positions = answer["positions"].as_array().unwrap().iter();
    positions.map(offset).collect()
}

fn offset(position: &Value) -> u64 {
    let mut parts = position.as_str().unwrap().split('.');
    parts.nth(1).unwrap().parse().unwrap()
}

/// Receives events until this number, and returns their numbers and offsets.
async fn received(client: &mut Client, last: u64) -> Vec<(u64, u64)> {
    let mut received = Vec::new();
    while received.last().is_none_or(|(n, _)| *n != last) {
        let event = client.event("order:updated").await;
        let n = event[0]["n"].as_u64().unwrap();
        received.push((n, offset(&event[1]["position"])));
    }
    received
}

async fn history(channels: &Channels, channel: &str) -> Vec<u64> {
    let path = format!("/channels/{channel}/history?limit=200");
    let (status, answer) = channels.call("GET", &path, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    numbers(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn list_is_stored_and_received_in_its_order_and_repeats_are_harmless() {
    let channels = Channels::start(&[]);
    let mut ann = channels.user("ann").await;
    let channel = json!({"channel": "orders:ann:42"});
    ann.must("channel:subscribe", channel).await;
    channels.publish("orders:ann:42", 1).await;
    let path = "/channels/orders:ann:42/events";
    // The first event is known, and the number 3 has the same id twice.
    let mut list = events((1..=3).chain(3..=150));
    list["events"][3]["data"]["n"] = json!(1000);
    let (status, answer) = channels.call("POST", path, list.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let expected: Vec<u64> = (1..=3).chain(3..=150).collect();
    assert_eq!(offsets(&answer), expected);
    let all: Vec<(u64, u64)> = (1..=150).map(|n| (n, n)).collect();
    assert_eq!(received(&mut ann, 150).await, all);
    assert_eq!(
        channels.call("POST", path, list).await,
        (200, answer.clone())
    );
    // The list is retained as a whole, although it has more events than the channel retains.
    assert_eq!(
        history(&channels, "orders:ann:42").await,
        (1..=150).collect::<Vec<_>>()
    );
    let (_, more) = channels.call("POST", path, events(151..=1150)).await;
    assert_eq!(offsets(&more), (151..=1150).collect::<Vec<_>>());
    assert_eq!(received(&mut ann, 1150).await.len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_for_several_channels_is_published_with_one_order_in_each() {
    let channels = Channels::start(&[]);
    let mut ann = channels.user("ann").await;
    for order in [1, 2] {
        let channel = json!({"channel": format!("orders:ann:{order}")});
        ann.must("channel:subscribe", channel).await;
    }
    // The names of the channels are not in their order.
    let list = (1..=9_u64).map(|n| {
        let mut one = event(n, &n.to_string());
        one["channel"] = json!(format!("orders:ann:{}", 2 - n % 3 / 2));
        one
    });
    let list = json!({"events": list.collect::<Vec<_>>()});
    let (status, answer) = channels
        .call("POST", "/channels/events", list.clone())
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(offsets(&answer), [1, 1, 2, 3, 2, 4, 5, 3, 6]);
    let mut all = Vec::new();
    for _ in 1..=9 {
        let event = ann.event("order:updated").await;
        let n = event[0]["n"].as_u64().unwrap();
        let sent = &list["events"][n as usize - 1];
        assert_eq!(event[1]["channel"], sent["channel"]);
        assert_eq!(event[1]["position"], answer["positions"][n as usize - 1]);
        all.push(n);
    }
    let (one, two): (Vec<_>, Vec<_>) = all.into_iter().partition(|n| n % 3 == 2);
    assert_eq!((one, two), (vec![2, 5, 8], vec![1, 3, 4, 6, 7, 9]));
    assert_eq!(
        channels.call("POST", "/channels/events", list).await,
        (200, answer)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_event_refuses_the_list_with_its_index() {
    let channels = Channels::start(&[]);
    let path = "/channels/orders:ann:42/events";
    for (field, value, expected) in [
        ("data", json!({"status": "lost"}), "events[1].data.status"),
        ("data", json!({}), "events[1].data.status"),
        ("data", json!("x".repeat(16_384)), "events[1].data"),
        ("event", json!("order:created"), "events[1].event"),
        ("event", json!(1), "events[1].event"),
        ("id", json!(""), "events[1].id"),
        ("id", json!("x".repeat(129)), "events[1].id"),
        ("id", Value::Null, "events[1].id"),
        ("more", json!(1), "events[1].more"),
    ] {
        let mut list = events(1..=3);
        list["events"][1][field] = value;
        let (status, answer) = channels.call("POST", path, list.clone()).await;
        assert_eq!(status, 400, "{answer}");
        assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD", "{answer}");
        assert_eq!(answer["error"]["details"]["field"], expected, "{answer}");
        if field == "more" {
            continue;
        }
        for one in list["events"].as_array_mut().unwrap() {
            one["channel"] = json!("orders:ann:42");
        }
        let (status, answer) = channels.call("POST", "/channels/events", list).await;
        assert_eq!(status, 400, "{answer}");
        assert_eq!(answer["error"]["details"]["field"], expected, "{answer}");
    }
    for (list, expected) in [
        (json!({"events": []}), "events"),
        (events(1..=1001), "events"),
        (json!({"events": null}), "events"),
        (json!({"events": [["order:updated", {}, "1"]]}), "events[0]"),
        (json!({"events": [event(1, "1")], "id": "1"}), "id"),
        (json!({"events": [event(1, "1")], "data": null}), "data"),
        (json!({"event": "order:updated", "data": {}}), "id"),
    ] {
        let (status, answer) = channels.call("POST", path, list).await;
        assert_eq!(status, 400, "{answer}");
        assert_eq!(answer["error"]["details"]["field"], expected, "{answer}");
    }
    // The body is limited before it is read as JSON.
    let large = json!({"events": "x".repeat(264 << 10)});
    for path in [path, "/channels/events"] {
        assert_eq!(channels.call("POST", path, large.clone()).await.0, 413);
    }
    assert_eq!(history(&channels, "orders:ann:42").await, [0; 0]);
    // `null` is data like any other JSON.
    let event = json!({"event": "news", "data": null, "id": "1"});
    let list = json!({"events": [event]});
    for body in [event, list] {
        let (status, answer) = channels.call("POST", "/channels/news/events", body).await;
        assert_eq!(status, 200, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_without_the_right_to_publish_refuses_the_list() {
    let channels = Channels::start(&[]);
    for (channel, to_one) in [("tickets:1", 404), ("mine:ann", 404), ("orders:ann", 404)] {
        let (status, _) = channels
            .call(
                "POST",
                &format!("/channels/{channel}/events"),
                events(1..=2),
            )
            .await;
        assert_eq!(status, to_one, "{channel}");
        let mut list = events(1..=2);
        list["events"][0]["channel"] = json!("orders:ann:42");
        list["events"][1]["channel"] = json!(channel);
        let (status, answer) = channels.call("POST", "/channels/events", list).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (409, &json!("CONFLICT"))
        );
        let field = &answer["error"]["details"]["field"];
        assert_eq!(field, "events[1].channel", "{answer}");
    }
    assert_eq!(history(&channels, "orders:ann:42").await, [0; 0]);
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn lists_at_two_servers_are_received_whole_in_one_order() {
    let database = crate::nodes::Database::new();
    let folder = tempfile::TempDir::new().unwrap();
    let config = super::config_in(&folder);
    let config = ("ROOMCAST_CONFIG", config.to_str().unwrap());
    let servers = [(); 2].map(|()| database.server_with(&[config]));
    let mut anns = Vec::new();
    for server in &servers {
        let auth = json!({"token": super::token("ann", json!({}))});
        let mut ann = Client::connect(server.address(), &auth).await.unwrap();
        let channel = json!({"channel": "orders:ann:42"});
        ann.must("channel:subscribe", channel).await;
        anns.push(ann);
    }
    let path = "/channels/orders:ann:42/events";
    let publish = async |server: usize, list: Value| {
        let (status, answer) =
            super::call(servers[server].address(), "POST", path, list.clone()).await;
        assert_eq!(status, 200, "{answer}");
        offsets(&answer)
    };
    // The second list repeats events of the first.
    let (one, two) = tokio::join!(
        publish(0, events(1..=500)),
        publish(1, events((1..=100).chain(501..=600)))
    );
    assert_eq!(one[..100], two[..100]);
    for ann in &mut anns {
        let mut received = Vec::new();
        for _ in 1..=600 {
            let event = ann.event("order:updated").await;
            let n = event[0]["n"].as_u64().unwrap() as usize;
            let expected = if n <= 500 { one[n - 1] } else { two[n - 401] };
            assert_eq!(offset(&event[1]["position"]), expected);
            received.push(expected);
        }
        assert_eq!(received, (1..=600).collect::<Vec<_>>());
    }
}
