//! Sockets and rooms.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Caller, start, user};
use crate::client::Client;
use crate::server::LOBBY;

/// Waits until a client has been notified of its disconnect and its connection has ended.
async fn ended(client: &mut Client) {
    assert_eq!(client.packet().await, "41");
    assert_eq!(client.packet_if_any().await, None);
}

#[tokio::test]
async fn sockets_are_listed_with_their_details() {
    let server = start();
    let service = Caller::service(&server);
    // Times have a precision of milliseconds.
    let begun = jiff::Timestamp::now() - jiff::Span::new().milliseconds(1);
    let mut ann = user(&server, "ann").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    let _bob = user(&server, "bob").await;
    let listed = service.get("/sockets?userId=ann").await;
    assert_eq!(
        (&listed["hasMore"], &listed["missing"]),
        (&json!(false), &json!(0))
    );
    let [socket] = &listed["sockets"].as_array().unwrap()[..] else {
        panic!("{listed}");
    };
    let mut rooms = socket["rooms"].as_array().unwrap().clone();
    rooms.sort_by_key(Value::to_string);
    assert_eq!(
        rooms,
        [json!(format!("conversation:{LOBBY}")), json!("user:ann")]
    );
    for (field, expected) in [
        ("userId", json!("ann")),
        ("name", json!("ann")),
        ("roomCount", json!(2)),
        ("transport", json!("websocket")),
        ("address", json!("127.0.0.1")),
    ] {
        assert_eq!(socket[field], expected, "{field}");
    }
    let nodes = service.get("/nodes").await;
    assert_eq!(socket["node"], nodes["nodes"][0]["name"]);
    let time = |field: &str| {
        socket[field]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    assert!(begun <= time("connectionTime"));
    assert!(time("connectionTime") <= time("lastActivity"));
    assert!(time("lastActivity") <= jiff::Timestamp::now());
    let in_lobby = service
        .get(&format!("/sockets?room=conversation%3A{LOBBY}"))
        .await;
    assert_eq!(in_lobby["sockets"].as_array().unwrap().len(), 1);
    let neither = service
        .get(&format!("/sockets?userId=bob&room=conversation%3A{LOBBY}"))
        .await;
    assert_eq!(neither["sockets"], json!([]));
}

#[tokio::test]
async fn last_activity_of_a_socket_changes_only_when_its_client_sends() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let last = async || {
        let listed = service.get("/sockets?userId=ann").await;
        let last = listed["sockets"][0]["lastActivity"].as_str().unwrap();
        last.parse::<jiff::Timestamp>().unwrap()
    };
    let first = last().await;
    // Times have a precision of seconds: these requests cover three of them.
    let silent = jiff::Span::new().seconds(3);
    while jiff::Timestamp::now() < first + silent {
        assert_eq!(last().await, first, "nothing was sent");
        sleep(Duration::from_millis(50)).await; // Poll interval.
    }
    ann.must("conversations", json!({})).await;
    let spoken = last().await;
    assert!(spoken > first, "it has just sent something");
    assert!(spoken <= jiff::Timestamp::now());
}

#[tokio::test]
async fn sockets_and_rooms_are_paged_without_gap_or_duplicate() {
    let server = start();
    let service = Caller::service(&server);
    let mut clients = Vec::new();
    for n in 0..7 {
        clients.push(user(&server, &format!("u{n}")).await);
    }
    for (path, items, name) in [("/sockets", "sockets", "id"), ("/rooms", "rooms", "room")] {
        let mut seen = Vec::new();
        let mut next = format!("{path}?limit=3");
        loop {
            let page = service.get(&next).await;
            let these = page[items].as_array().unwrap();
            assert!(these.len() <= 3, "{page}");
            seen.extend(
                these
                    .iter()
                    .map(|one| one[name].as_str().unwrap().to_owned()),
            );
            let Some(cursor) = page["cursor"].as_str() else {
                break;
            };
            next = format!("{path}?limit=3&cursor={cursor}");
        }
        assert_eq!(seen.len(), 7, "{seen:?}");
        assert!(seen.is_sorted());
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 7);
    }
    let stats = service.get("/stats").await;
    assert_eq!(
        (&stats["sockets"], &stats["rooms"]["count"]),
        (&json!(7), &json!(7))
    );
    let some = service.get("/rooms?prefix=user%3Au3").await;
    assert_eq!(some["rooms"], json!([{"room": "user:u3", "sockets": 1}]));
}

#[tokio::test]
async fn largest_rooms_are_first_and_in_one_page_if_requested() {
    let server = start();
    let service = Caller::service(&server);
    let mut tabs = Vec::new();
    for name in ["ann", "bob", "bob", "cat"] {
        tabs.push(user(&server, name).await);
    }
    for tab in &mut tabs[..3] {
        tab.must("join_conversation", json!(LOBBY)).await;
    }
    let largest = service.get("/rooms?order=size&limit=3").await;
    let expected = json!([
        {"room": format!("conversation:{LOBBY}"), "sockets": 3},
        {"room": "user:bob", "sockets": 2},
        {"room": "user:ann", "sockets": 1},
    ]);
    assert_eq!(
        (&largest["rooms"], &largest["hasMore"]),
        (&expected, &json!(true))
    );
    assert!(largest.get("cursor").is_none(), "{largest}");
    let by_name = service.get("/rooms?order=name&limit=1").await;
    assert_eq!(by_name["rooms"], json!([expected[0]]));
    for (path, status, code) in [
        ("/rooms?order=size&cursor=user%3Aann", 409, "CONFLICT"),
        ("/rooms?order=age", 400, "INVALID_PAYLOAD"),
    ] {
        service
            .refused(status, code, ("GET", path, Value::Null))
            .await;
    }
}

#[tokio::test]
async fn room_is_found_by_name_while_it_has_members() {
    let server = start();
    let service = Caller::service(&server);
    let path = format!("/rooms/conversation%3A{LOBBY}");
    service
        .refused(404, "NOT_FOUND", ("GET", &path, Value::Null))
        .await;
    let mut tabs = [
        user(&server, "ann").await,
        user(&server, "ann").await,
        user(&server, "bob").await,
    ];
    for tab in &mut tabs {
        tab.must("join_conversation", json!(LOBBY)).await;
    }
    let room = service.get(&path).await;
    assert_eq!((&room["sockets"], &room["missing"]), (&json!(3), &json!(0)));
    assert_eq!(room["transports"], json!({"polling": 0, "websocket": 3}));
    assert_eq!(
        (&room["nodes"][0]["sockets"], &room["nodes"][0]["users"]),
        (&json!(3), &json!(2))
    );
    for tab in &mut tabs {
        tab.must("leave_conversation", json!(LOBBY)).await;
    }
    service
        .refused(404, "NOT_FOUND", ("GET", &path, Value::Null))
        .await;
}

#[tokio::test]
async fn one_socket_or_all_sockets_of_a_user_are_disconnected() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let listed = service.get("/sockets").await;
    let path = format!("/sockets/{}", listed["sockets"][0]["id"].as_str().unwrap());
    let closed = service.must(200, "DELETE", &path, Value::Null).await;
    assert_eq!(closed, json!({"disconnected": 1, "missing": 0}));
    ended(&mut ann).await;
    for gone in [&path, "/sockets/none"] {
        service
            .refused(404, "NOT_FOUND", ("DELETE", gone, Value::Null))
            .await;
    }
    let mut tabs = [user(&server, "bob").await, user(&server, "bob").await];
    let mut carl = user(&server, "carl").await;
    let closed = service
        .must(200, "DELETE", "/users/bob/sockets", Value::Null)
        .await;
    assert_eq!(closed["disconnected"], 2);
    for tab in &mut tabs {
        ended(tab).await;
    }
    carl.must("conversations", json!({})).await;
}
