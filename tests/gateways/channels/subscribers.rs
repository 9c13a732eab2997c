//! Subscriptions that services begin and end for users.

use serde_json::{Value, json};

use super::{Channels, numbers};

#[tokio::test(flavor = "multi_thread")]
async fn service_subscribes_the_sockets_of_a_user() {
    let channels = Channels::start(&[]);
    let line = |n: u64| json!({"event": "line", "data": {"n": n}, "id": n.to_string()});
    let publish = async |n| {
        let path = "/channels/rooms:7/events";
        let (status, answer) = channels.call("POST", path, line(n)).await;
        assert_eq!(status, 200, "{answer}");
    };
    publish(1).await;
    let [mut first, mut second] = [channels.user("ann").await, channels.user("ann").await];
    let mut bob = channels.user("bob").await;
    let room = json!({"channel": "rooms:7"});
    first
        .refused("channel:subscribe", room.clone(), "NOT_FOUND")
        .await;

    let path = "/channels/rooms:7/subscribers";
    let ann = json!({"userId": "ann"});
    let (status, answer) = channels.call("POST", path, ann.clone()).await;
    assert_eq!(
        (status, answer),
        (200, json!({"subscribed": 2, "missing": 0}))
    );
    for socket in [&mut first, &mut second] {
        let subscribed = socket.event("channel:subscribed").await;
        assert_eq!(subscribed["channel"], "rooms:7");
        assert_eq!(numbers(&subscribed), [1]);
        assert!(subscribed["position"].is_string(), "{subscribed}");
    }
    publish(2).await;
    for socket in [&mut first, &mut second] {
        assert_eq!(socket.event("line").await[0]["n"], 2);
    }
    // A repeat changes nothing, and the client can leave by itself.
    assert_eq!(channels.call("POST", path, ann).await.1["subscribed"], 2);
    assert!(
        first
            .events_until_now("channel:subscribed")
            .await
            .is_empty()
    );
    second.must("channel:unsubscribe", room.clone()).await;
    publish(3).await;
    assert_eq!(first.event("line").await[0]["n"], 3);
    assert!(second.events_until_now("line").await.is_empty());

    let end = "/channels/rooms:7/subscribers/ann";
    let (status, answer) = channels.call("DELETE", end, Value::Null).await;
    assert_eq!((status, answer), (200, json!({"ended": 1, "missing": 0})));
    let expected = json!({"channel": "rooms:7", "reason": "unsubscribed"});
    assert_eq!(first.event("channel:ended").await, expected);
    publish(4).await;
    for socket in [&mut first, &mut second, &mut bob] {
        assert!(socket.events_until_now("line").await.is_empty());
    }
    first.refused("channel:subscribe", room, "NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_subscribes_only_where_the_kind_allows_it() {
    let channels = Channels::start(&[]);
    let mut ann = channels.user("ann").await;
    for (channel, body, expected, code) in [
        ("nothing", json!({"userId": "ann"}), 404, "NOT_FOUND"),
        ("orders:ann:1", json!({"userId": "ann"}), 409, "CONFLICT"),
        ("rooms:7", json!({}), 400, "INVALID_PAYLOAD"),
        ("rooms:7", json!({"userId": ""}), 400, "INVALID_PAYLOAD"),
        (
            "rooms:7",
            json!({"userId": "ann", "n": 1}),
            400,
            "INVALID_PAYLOAD",
        ),
    ] {
        let path = format!("/channels/{channel}/subscribers");
        let (status, answer) = channels.call("POST", &path, body).await;
        let found = (status, answer["error"]["code"].as_str());
        assert_eq!(found, (expected, Some(code)), "{channel}: {answer}");
    }
    let absent = json!({"userId": "nobody"});
    let (_, answer) = channels
        .call("POST", "/channels/rooms:7/subscribers", absent)
        .await;
    assert_eq!(answer, json!({"subscribed": 0, "missing": 0}));
    assert!(ann.events_until_now("channel:subscribed").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_by_a_service_count_towards_the_limits() {
    let channels = Channels::start(&[("ROOMCAST_LIMITS__CHANNELS_PER_CONNECTION", "1")]);
    let mut ann = channels.user("ann").await;
    ann.must("channel:subscribe", json!({"channel": "news"}))
        .await;
    let body = json!({"userId": "ann"});
    let (status, answer) = channels
        .call("POST", "/channels/rooms:7/subscribers", body)
        .await;
    assert_eq!(
        (status, answer),
        (200, json!({"subscribed": 0, "missing": 0}))
    );
    let limit = "roomcast_channels_limited_total{limit=\"channels_per_connection\"}";
    assert_eq!(channels.server.metric(limit).await, 1);
}
