//! Requests about channels, their tokens and refusals.

use std::time::Duration;

use roomcast::client::{
    ClientError,
    channels::{ChannelError, ChannelToken, PageRequest},
};
use serde_json::json;

use super::{
    Connected, ORDER, answer, code, invalid, numbered_tokens, page, refuse, request, subscribe,
};
use crate::suite::within;

#[tokio::test]
async fn refused_token_is_replaced_once() {
    let Connected {
        mut session,
        socket,
        ..
    } = Connected::start().await;
    let channel = socket.channel(ORDER).token(numbered_tokens());
    let reading = tokio::spawn(async move { channel.presence().await });
    for token in ["t0", "t1"] {
        let (id, payload) = request(&mut session, "channel:presence").await;
        assert_eq!(payload, json!({ "token": token }));
        refuse(&mut session, id, invalid("token")).await;
    }
    let error = within(reading).await.unwrap().unwrap_err();
    assert_eq!(code(&error), "INVALID_PAYLOAD");
}

#[tokio::test]
async fn function_without_a_token_fails_the_request_with_its_error() {
    let Connected { socket, .. } = Connected::start().await;
    let token = ChannelToken::with(async || Err("no session"));
    let channel = socket.channel(ORDER).token(token);
    let error = within(channel.subscribe(None)).await.unwrap_err();
    assert!(matches!(&error, ChannelError::Token(_)), "{error:?}");
    assert_eq!(error.to_string(), "no token for the channel: no session");
    // The function is called again, and the failed subscription is not in the way.
    let error = within(channel.subscribe(None)).await.unwrap_err();
    assert!(matches!(error, ChannelError::Token(_)), "{error:?}");
}

#[tokio::test]
async fn event_is_published_under_one_id_until_it_is_acknowledged() {
    let mut connected = Connected::start().await;
    let channel = connected.socket.channel(ORDER);
    let publishing = tokio::spawn(async move {
        let data = json!({"status": "shipped"});
        channel.publish("order:updated", data, "42-shipped").await
    });
    let expected =
        json!({"event": "order:updated", "data": {"status": "shipped"}, "id": "42-shipped"});
    let (_, payload) = request(&mut connected.session, "channel:publish").await;
    assert_eq!(payload, expected);
    connected = connected.reconnect().await;
    let (id, payload) = request(&mut connected.session, "channel:publish").await;
    assert_eq!(payload, expected);
    let busy = json!({"code": "RATE_LIMITED", "retryAfter": 1});
    refuse(&mut connected.session, id, busy).await;
    let (id, payload) = request(&mut connected.session, "channel:publish").await;
    assert_eq!(payload, expected);
    answer(&mut connected.session, id, json!({"position": "p3"})).await;
    assert_eq!(within(publishing).await.unwrap().unwrap(), "p3");
}

#[tokio::test]
async fn publishing_without_an_answer_ends_at_the_deadline() {
    let Connected {
        mut session,
        socket,
        ..
    } = Connected::start().await;
    let channel = socket.channel(ORDER).timeout(Duration::from_millis(50));
    let publishing = tokio::spawn(async move { channel.publish("updated", 1, "i").await });
    request(&mut session, "channel:publish").await;
    let error = within(publishing).await.unwrap().unwrap_err();
    let is_timeout = matches!(error, ChannelError::Request(ClientError::Timeout(_)));
    assert!(is_timeout, "{error:?}");
}

#[tokio::test]
async fn history_and_presence_are_read_with_their_fields() {
    let Connected {
        mut session,
        socket,
        ..
    } = Connected::start().await;
    let channel = socket.channel(ORDER);
    for (page_request, expected) in [
        (PageRequest::newest(), json!({})),
        (
            PageRequest::before("p3").limit(2),
            json!({"before": "p3", "limit": 2}),
        ),
        (PageRequest::since("p0"), json!({"since": "p0"})),
    ] {
        let channel = channel.clone();
        let reading = tokio::spawn(async move { channel.history(page_request).await });
        let (id, payload) = request(&mut session, "channel:history").await;
        assert_eq!(payload, expected);
        let mut two = page([1, 2], 2);
        two["hasMore"] = json!(true);
        answer(&mut session, id, two).await;
        let read = within(reading).await.unwrap().unwrap();
        assert_eq!(
            (&*read.position, read.has_more, read.forgotten),
            ("p2", true, false)
        );
        let ids: Vec<&str> = read.events.iter().map(|event| &*event.id).collect();
        assert_eq!(ids, ["i1", "i2"]);
    }
    let reading = tokio::spawn(async move { channel.presence().await });
    let (id, payload) = request(&mut session, "channel:presence").await;
    assert_eq!(payload, json!({}));
    let user = json!({"userId": "7", "name": "Ada", "connections": 1, "since": "now"});
    let list = json!({"channel": ORDER, "users": [user], "count": 1});
    answer(&mut session, id, list).await;
    let read = within(reading).await.unwrap().unwrap();
    assert_eq!((read.count, read.missing), (1, 0));
    assert!(!read.users[0].guest);
}

#[tokio::test]
async fn refusal_has_the_code_the_field_and_the_time_of_the_server() {
    let Connected {
        mut session,
        socket,
        ..
    } = Connected::start().await;
    let channel = socket.channel(ORDER).timeout(Duration::from_secs(5));
    for (error, expected_field, retry_after) in [
        (json!({"code": "NOT_FOUND"}), None, None),
        (json!({"code": "CONFLICT"}), None, None),
        (invalid("channel"), Some("channel"), None),
        (
            json!({"code": "RATE_LIMITED", "retryAfter": 9000}),
            None,
            Some(Duration::from_secs(9)),
        ),
    ] {
        let subscribing = subscribe(&channel, None);
        let (id, _) = request(&mut session, "channel:subscribe").await;
        refuse(&mut session, id, error.clone()).await;
        let refused = within(subscribing).await.unwrap().unwrap_err();
        let ChannelError::Refused {
            code,
            field,
            retry_after: advised,
            ..
        } = refused
        else {
            panic!("{refused:?}");
        };
        assert_eq!(error["code"], code);
        assert_eq!((field.as_deref(), advised), (expected_field, retry_after));
        // The server may have subscribed the socket, in case the answer was lost.
        let packet = session.next().await;
        assert!(packet.starts_with("42[\"channel:unsubscribe\""), "{packet}");
    }
}
