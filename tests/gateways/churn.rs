//! Presence while connections open, close and break: each user joins once and leaves once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::{KEY, token};
use crate::server::{LOBBY, Server};
use crate::support::{Polling, RawClient};

/// Maximum duration of anything that is expected to happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns the presence events of a user, as another client has received them.
async fn seen(ann: &mut Client, user: &str) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for event in ["user_joined", "user_left", "user_disconnected"] {
        let events = ann.events_until_now(event).await;
        let of_user = events.iter().filter(|event| event["userId"] == user);
        seen.extend(of_user.map(|_| event));
    }
    seen
}

#[tokio::test]
async fn user_with_unstable_connection_is_announced_once() {
    let server = Server::with(&[("ROOMCAST_PRESENCE__GRACE", "60s")]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    let id = bob.user_id();
    for _ in 0..30 {
        bob.vanish();
        bob = server.in_lobby("bob").await;
    }
    // Waits until the server has noticed all of it: only the last connection is left.
    loop {
        let here = ann.must("presence", json!({"conversationId": LOBBY})).await;
        assert_eq!(here["count"], 2);
        if here["users"][1]["connections"] == 1 {
            break;
        }
    }
    assert_eq!(seen(&mut ann, &id).await, ["user_joined"]);
    bob.disconnect().await;
    assert_eq!(ann.event("user_left").await["userId"], id);
    assert_eq!(seen(&mut ann, &id).await, [""; 0]);
}

#[tokio::test]
async fn user_leaves_when_its_last_tab_closes() {
    let server = Server::with(&[("ROOMCAST_PRESENCE__GRACE", "100ms")]);
    let mut ann = server.in_lobby("ann").await;
    let mut tabs = Vec::new();
    for _ in 0..10 {
        tabs.push(server.in_lobby("bob").await);
    }
    let id = tabs[0].user_id();
    let last = tabs.pop().unwrap();
    // Some disconnect, some are lost, some leave the conversation and stay connected.
    for (n, mut tab) in tabs.into_iter().enumerate() {
        match n % 3 {
            0 => tab.disconnect().await,
            1 => tab.vanish(),
            _ => {
                tab.must("leave_conversation", json!(LOBBY)).await;
                tab.vanish();
            }
        }
    }
    loop {
        let here = ann.must("presence", json!({"conversationId": LOBBY})).await;
        if here["users"][1]["connections"] == 1 {
            break;
        }
    }
    assert_eq!(seen(&mut ann, &id).await, ["user_joined"]);
    last.vanish();
    assert_eq!(ann.event("user_disconnected").await["userId"], id);
    let here = ann.must("presence", json!({"conversationId": LOBBY})).await;
    assert_eq!(here["count"], 1);
}

#[tokio::test]
async fn users_joining_and_leaving_quickly_do_not_stay_listed() {
    const USERS: usize = 8;
    let server = Server::with(&[("ROOMCAST_PRESENCE__GRACE", "50ms")]);
    let mut ann = server.in_lobby("ann").await;
    let mut churning = tokio::task::JoinSet::new();
    let mut clients = Vec::new();
    for n in 0..USERS {
        for _ in 0..6 {
            clients.push(server.guest(&format!("u{n}")).await);
        }
    }
    for (round, mut client) in clients.into_iter().enumerate() {
        churning.spawn(async move {
            for _ in 0..5 {
                client.request("join_conversation", json!(LOBBY)).await;
                client.request("leave_conversation", json!(LOBBY)).await;
            }
            // Some disconnect before their last request is answered.
            let joined = client.request("join_conversation", json!(LOBBY)).await;
            if round % 2 == 0 {
                client.answer(joined).await;
            }
            if round % 3 == 0 {
                client.disconnect().await;
            } else {
                client.vanish();
            }
        });
    }
    while let Some(done) = churning.join_next().await {
        done.unwrap();
    }
    let (start, mut present) = (Instant::now(), HashSet::new());
    loop {
        let here = ann.must("presence", json!({"conversationId": LOBBY})).await;
        if here["count"] == 1 {
            break;
        }
    }
    // According to the events in their order, all users have left.
    ann.must("message", json!({"conversationId": LOBBY, "content": "x"}))
        .await;
    // The events of users who join and leave repeatedly are delayed a little.
    let mut received = 0;
    while received == 0 || !present.is_empty() {
        for (event, user) in ann.presence_events().await {
            received += 1;
            let user = user.as_str().unwrap().to_owned();
            if event == "user_joined" {
                assert!(present.insert(user), "came twice");
            } else {
                assert!(present.remove(&user), "went without having come");
            }
        }
        assert!(start.elapsed() < DEADLINE, "{present:?}");
    }
}

#[tokio::test]
async fn join_leave_loop_is_announced_rarely_and_correctly_at_the_end() {
    const TIMES: usize = 40;
    let server = Server::with(&[("ROOMCAST_PRESENCE__INTERVAL", "2s")]);
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.guest("bob").await;
    let id = bob.user_id();
    for _ in 0..TIMES {
        bob.must("join_conversation", json!(LOBBY)).await;
        bob.must("leave_conversation", json!(LOBBY)).await;
    }
    bob.must("join_conversation", json!(LOBBY)).await;
    let (start, mut received) = (Instant::now(), Vec::new());
    let mut present = false;
    while !present {
        for (event, user) in ann.presence_events().await {
            assert_eq!(user, id);
            assert_ne!(
                present,
                event == "user_joined",
                "{event} after {received:?}"
            );
            present = event == "user_joined";
            received.push(event);
        }
        assert!(start.elapsed() < DEADLINE, "{received:?}");
    }
    // At first both events are sent immediately; more follow only if all that took longer than the
    // interval.
    assert_eq!(received[..2], ["user_joined", "user_left"]);
    assert!(received.len() < TIMES, "{received:?}");
}

#[tokio::test]
async fn large_crowd_is_listed_in_part_and_counted_in_full() {
    const CROWD: usize = 130;
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        crowd.push(server.guest(&format!("u{n}")).await);
    }
    let mut joins = Vec::new();
    for client in &mut crowd {
        joins.push(client.request("join_conversation", json!(LOBBY)).await);
    }
    for (client, join) in crowd.iter_mut().zip(joins) {
        let joined = client.answer(join).await;
        let users = joined["users"].as_array().unwrap().len();
        assert!((1..=100).contains(&users), "{users}");
    }
    let mut connected = HashSet::new();
    while connected.len() < CROWD {
        let joined = ann.event("user_joined").await;
        assert!(connected.insert(joined["userId"].as_str().unwrap().to_owned()));
    }
    loop {
        let list = ann.event("presence").await;
        let users = list["users"].as_array().unwrap().len();
        let count = usize::try_from(list["count"].as_u64().unwrap()).unwrap();
        assert_eq!(users, count.min(100));
        if count == CROWD + 1 {
            break;
        }
    }
    let here = ann.must("presence", json!({"conversationId": LOBBY})).await;
    assert_eq!(here["users"].as_array().unwrap().len(), CROWD + 1);
    assert!(ann.events_until_now("user_joined").await.is_empty());
}

#[tokio::test]
async fn repeated_typing_from_many_tabs_is_emitted_once() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut tabs = [server.in_lobby("bob").await, server.in_lobby("bob").await];
    let typing = |is_typing: bool| json!({"conversationId": LOBBY, "isTyping": is_typing});
    for _ in 0..20 {
        for tab in &mut tabs {
            tab.must("typing", typing(true)).await;
        }
    }
    for _ in 0..5 {
        tabs[0].must("typing", typing(false)).await;
    }
    let received = ann.events_until_now("typing").await;
    // The start and the end. More only if that took longer than two seconds, or if typing expired
    // after six seconds without a signal.
    assert!((2..20).contains(&received.len()), "{received:?}");
    let is_typing = |n: usize| received[n]["isTyping"] == true;
    assert!(
        is_typing(0) && !is_typing(received.len() - 1),
        "{received:?}"
    );
    assert!(
        (1..received.len()).all(|n| is_typing(n - 1) || is_typing(n)),
        "an end is told once: {received:?}"
    );
}

#[tokio::test]
async fn typing_ends_after_its_timeout() {
    let server = Server::start();
    let mut ann = server.in_lobby("ann").await;
    let mut bob = server.in_lobby("bob").await;
    bob.must("typing", json!({"conversationId": LOBBY, "isTyping": true}))
        .await;
    assert_eq!(ann.event("typing").await["isTyping"], true);
    let end = ann.event("typing").await;
    assert_eq!(
        (&end["isTyping"], &end["userId"]),
        (&json!(false), &json!(bob.user_id()))
    );
    assert!(
        bob.events_until_now("typing").await.is_empty(),
        "not to itself"
    );
}

#[tokio::test]
async fn added_members_are_notified_of_the_conversation() {
    let server = Server::start();
    let mut ann = server.guest("ann").await;
    let mut bob = server.guest("bob").await;
    let mut tab = server.guest("bob").await;
    let mut eve = server.guest("eve").await;
    let made = json!({"title": "Two", "memberIds": [bob.user_id()]});
    let made = ann.must("create_conversation", made).await;
    for one in [&mut bob, &mut tab] {
        let received = one.event("conversation_updated").await;
        assert_eq!(received["conversation"], made["conversation"]);
        assert!(received["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    let id = &made["conversation"]["id"];
    let added = json!({"conversationId": id, "userId": eve.user_id()});
    let added = ann.must("add_member", added).await;
    let received = eve.event("conversation_updated").await;
    assert_eq!(received["conversation"], added["conversation"]);
    assert!(
        ann.events_until_now("conversation_updated")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn typing_in_two_conversations_is_queued_between_polls() {
    let server = Server::start();
    let ann = server.guest("ann").await.user_id();
    let mut bob = server.in_lobby("bob").await;
    let other = bob.create(json!({"memberIds": [ann]})).await;
    let other = other.as_str().unwrap().to_owned();
    let address = server.address();
    let polling = {
        let other = other.clone();
        tokio::task::spawn_blocking(move || {
            let polling = Polling::open(address, "/socket.io/");
            polling.post(r#"40{"name":"ann","guestKey":"the key of      ann"}"#);
            poll_until(&polling, &["\"session\""]);
            polling.post(format!(r#"421["join_conversation","{LOBBY}"]"#));
            polling.post(format!(r#"422["join_conversation","{other}"]"#));
            poll_until(&polling, &["431[", "432["]);
            polling
        })
        .await
        .unwrap()
    };
    for id in [LOBBY, &other] {
        bob.must("typing", json!({"conversationId": id, "isTyping": true}))
            .await;
    }
    let typing = move |id: &str| format!(r#"42["typing",{{"conversationId":"{id}""#);
    let expected = [typing(LOBBY), typing(&other)];
    tokio::task::spawn_blocking(move || {
        poll_until(&polling, &expected.each_ref().map(String::as_str));
    })
    .await
    .unwrap();
}

/// Polls until all of these parts have arrived.
fn poll_until(polling: &Polling, parts: &[&str]) {
    let mut all = String::new();
    while !parts.iter().all(|part| all.contains(part)) {
        let response = polling.poll();
        assert_eq!(response.status, 200, "no {parts:?} in {all}");
        assert_ne!(response.body, "2", "a ping, and no {parts:?} in {all}");
        all.push_str(&response.body);
    }
}

#[tokio::test]
async fn services_read_presence() {
    let server = Server::with(&[KEY]);
    let mut ann = server.in_lobby("ann").await;
    let _tab = server.guest("ann").await;
    let own = ann.create(json!({"memberIds": []})).await;
    ann.must("join_conversation", own.clone()).await;
    let address = server.address();
    let call = async |path: String, role: &'static str| {
        let answer = tokio::task::spawn_blocking(move || {
            let mut client = RawClient::connect(address);
            let bearer = token(role);
            client.send(format!(
                "GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\r\n"
            ));
            client.response()
        });
        let answer = answer.await.unwrap();
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        (answer.status, body)
    };
    let user = format!("/users/{}/presence", ann.user_id().replace(':', "%3A"));
    let (status, mut body) = call(user.clone(), "service").await;
    let mut conversations = vec![json!(LOBBY), own];
    conversations.sort_by_key(Value::to_string);
    body["conversations"]
        .as_array_mut()
        .unwrap()
        .sort_by_key(Value::to_string);
    assert_eq!(
        (status, body),
        (
            200,
            json!({"userId": ann.user_id(), "connections": 2, "conversations": conversations, "missing": 0})
        )
    );
    let (status, body) = call(format!("/conversations/{LOBBY}/presence"), "admin").await;
    assert_eq!((status, &body["count"]), (200, &json!(1)));
    assert_eq!(body["users"][0]["connections"], 1);
    let (_, body) = call("/users/nobody/presence".into(), "service").await;
    assert_eq!(
        body,
        json!({"userId": "nobody", "connections": 0, "conversations": [], "missing": 0})
    );
    assert_eq!(call(user, "user").await.0, 403);
    assert_eq!(
        call("/conversations/x/presence".into(), "admin").await.0,
        400
    );
}
