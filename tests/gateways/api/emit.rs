//! Events that services publish.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Caller, QUICK, catalogue, start, user};
use crate::guard::KEY;
use crate::server::Server;
use crate::support::DEADLINE;

#[tokio::test]
async fn volatile_event_arrives_if_nothing_is_pending() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let event = json!({"event": "news", "users": ["ann"], "args": [1], "volatile": true});
    let begin = Instant::now();
    // Until everything is written that a client receives at the start, data is pending and the
    // event is dropped.
    while service.must(200, "POST", "/emit", event.clone()).await["queued"] == 0 {
        assert!(begin.elapsed() < DEADLINE, "it never came");
    }
    assert_eq!(ann.event("news").await, json!(1));
    assert!(ann.events_until_now("news").await.is_empty(), "told once");
}

#[tokio::test]
async fn event_reaches_rooms_users_or_all_with_its_arguments() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let mut again = user(&server, "ann").await;
    let mut bob = user(&server, "bob").await;
    let emit = async |body: Value| service.must(200, "POST", "/emit", body).await["queued"].clone();
    // The text is sent unchanged: the number is longer than any that programs can store.
    let text =
        r#"{"event":"prices","users":["ann"],"args":[{"a":[1.10]},12345678901234567890123,null]}"#;
    let sent = service.send("POST", "/emit", text).await;
    assert_eq!(sent.parts(), (200, r#"{"queued":2}"#));
    for client in [&mut ann, &mut again] {
        let packet = client.packet_of("prices").await;
        assert_eq!(
            packet,
            r#"42["prices",{"a":[1.10]},12345678901234567890123,null]"#
        );
    }
    assert_eq!(emit(json!({"event": "news", "everyone": true})).await, 3);
    bob.packet_of("news").await;
    assert_eq!(
        emit(json!({"event": "news", "rooms": ["user:bob"]})).await,
        1
    );
    assert_eq!(
        emit(json!({"event": "news", "everyone": true, "except": ["user:ann"]})).await,
        1
    );
    assert_eq!(emit(json!({"event": "news", "rooms": ["nobody"]})).await, 0);
    assert!(bob.events_until_now("prices").await.is_empty());
}

#[tokio::test]
async fn emit_waits_for_acknowledgements_and_returns_received_answers() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    let mut bob = user(&server, "bob").await;
    let request = |timeout: u64| json!({"event": "ready?", "args": [1], "users": ["ann", "bob"], "ackTimeout": timeout});
    let answering = async {
        let (_, id) = ann.event_to_answer("ready?").await;
        ann.send(&format!("43{}[\"yes\",{{\"a\":1}}]", id.unwrap()))
            .await;
    };
    let (answer, ()) = tokio::join!(
        service.must(200, "POST", "/emit", request(10_000)),
        answering
    );
    let acknowledged = &answer["acknowledged"];
    assert_eq!(acknowledged["answers"][0]["args"], json!(["yes", {"a": 1}]));
    assert!(acknowledged["answers"][0]["socketId"].is_string());
    for (field, expected) in [
        ("expected", json!(2)),
        ("answered", json!(1)),
        ("timedOut", json!(true)),
        ("missing", json!(0)),
    ] {
        assert_eq!(acknowledged[field], expected, "{field}");
    }
    let (_, first) = bob.event_to_answer("ready?").await;
    bob.acknowledge(first.unwrap()).await;
    let answering = async {
        for client in [&mut ann, &mut bob] {
            let (_, id) = client.event_to_answer("ready?").await;
            client.acknowledge(id.unwrap()).await;
        }
    };
    let (answer, ()) = tokio::join!(
        service.must(200, "POST", "/emit", request(10_000)),
        answering
    );
    assert_eq!(answer["acknowledged"]["answered"], 2);
    assert_eq!(answer["acknowledged"]["timedOut"], false);
}

#[tokio::test]
async fn emitted_market_event_is_treated_as_by_its_own_route() {
    let server = start();
    let service = Caller::service(&server);
    let mut ann = user(&server, "ann").await;
    for (event, payload) in [
        ("subscribe:trades", json!({"userId": "ann"})),
        ("subscribe:portfolio", json!({"userId": "ann"})),
        ("subscribe:signals", json!({})),
        ("subscribe:notifications", json!({})),
    ] {
        ann.must(event, payload).await;
    }
    let trade = json!({"tradeId": "t", "userId": "ann", "symbol": "AAPL", "status": "executed",
        "executedPrice": 190.5, "quantity": 2.0});
    let signal = json!({"signalId": "s", "providerId": "p", "providerName": "P", "symbol": "AAPL",
        "action": "buy", "confidence": 50.0});
    let portfolio = json!({"userId": "ann", "totalValue": 1.0, "cash": 1.0, "positions": []});
    let notification = json!({"notificationId": "n", "userId": "ann", "type": "info",
        "title": "Hello", "message": "You"});
    for (event, argument, field, value, too_much) in [
        (
            "trade:update",
            &trade,
            "executedPrice",
            json!(190.5),
            json!(-1),
        ),
        ("signal:new", &signal, "confidence", json!(50.0), json!(101)),
        (
            "portfolio:update",
            &portfolio,
            "cash",
            json!(1.0),
            json!(1e16),
        ),
        (
            "notification:new",
            &notification,
            "title",
            json!("Hello"),
            json!(""),
        ),
    ] {
        let body = json!({"event": event, "everyone": true, "args": [argument]});
        let answer = service.must(200, "POST", "/emit", body.clone()).await;
        assert_eq!(answer["published"][field], value, "{event}");
        let received = ann.event(event).await;
        assert_eq!(
            (&received[field], &received["revision"]),
            (&value, &json!(1))
        );
        for (wrong, with) in [
            ("args", json!([])),
            ("args", json!([argument, argument])),
            ("rooms", json!(["a"])),
            ("users", json!(["ann"])),
            ("except", json!(["a"])),
            ("volatile", json!(true)),
            ("ackTimeout", json!(100)),
        ] {
            let mut body = body.clone();
            body[wrong] = with;
            let error = service
                .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", body))
                .await;
            assert_eq!(error["details"]["field"], wrong, "{event}");
        }
        for wrong in [json!([]), too_much] {
            let mut other = argument.clone();
            other[field] = wrong;
            let wrong = json!({"event": event, "args": [other]});
            let error = service
                .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", wrong))
                .await;
            assert_eq!(error["details"]["field"], format!("args[0].{field}"));
        }
    }
    let mut other = portfolio.clone();
    other["positions"] = json!([{"symbol": "A B", "quantity": 1, "avgPrice": 1}]);
    let wrong = json!({"event": "portfolio:update", "args": [other]});
    let error = service
        .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", wrong))
        .await;
    assert_eq!(error["details"]["field"], "args[0].positions[0].symbol");
    // The same signal is stored once, and a different one is refused, as by its own route.
    let same = json!({"event": "signal:new", "args": [signal]});
    service.must(200, "POST", "/emit", same).await;
    let mut other = signal.clone();
    other["symbol"] = json!("MSFT");
    let other = json!({"event": "signal:new", "args": [other]});
    service
        .refused(409, "CONFLICT", ("POST", "/emit", other))
        .await;
    assert!(ann.events_until_now("signal:new").await.is_empty());
}

#[tokio::test]
async fn market_event_requires_the_permission_of_its_route_as_well() {
    let role = (
        "ROOMCAST_AUTH__ROLES__PUBLISHER__PERMISSIONS",
        "api:emit,trades:publish",
    );
    let server = Server::with(&[KEY, QUICK, role]);
    let publisher = Caller::of(&server, "p", &["publisher"]);
    let signal = json!({"providerId": "p", "providerName": "P", "symbol": "AAPL",
        "action": "buy", "confidence": 50});
    let body = json!({"event": "signal:new", "args": [signal]});
    publisher
        .refused(403, "FORBIDDEN", ("POST", "/emit", body))
        .await;
    let trade = json!({"tradeId": "t", "userId": "ann", "symbol": "AAPL", "status": "pending",
        "quantity": 1});
    let body = json!({"event": "trade:update", "args": [trade]});
    publisher.must(200, "POST", "/emit", body).await;
}

#[tokio::test]
async fn chat_events_cannot_be_emitted_by_services() {
    let server = start();
    let service = Caller::service(&server);
    let ann = user(&server, "ann").await;
    for event in [
        "session",
        "message",
        "message_edited",
        "message_deleted",
        "message_delivered",
        "message_read",
        "user_joined",
        "user_left",
        "user_disconnected",
        "typing",
        "presence",
        "conversation_updated",
        "conversation_deleted",
        "error",
        "auth:expiring",
        "auth:refresh",
        "connect",
        "disconnect",
    ] {
        let body = json!({"event": event, "everyone": true});
        let error = service
            .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", body))
            .await;
        assert_eq!(error["details"]["field"], "event", "{event}");
        let route = match event {
            "message" => "POST /api/v1/conversations/{id}/messages",
            "message_deleted" => "DELETE /api/v1/messages/{id}",
            "conversation_deleted" => "DELETE /api/v1/conversations/{id}",
            _ => "",
        };
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with(route), "{message}");
    }
    for (body, field) in [
        (
            json!({"rooms": ["a", format!("conversation:{}", crate::server::LOBBY)]}),
            "rooms[1]",
        ),
        (json!({"rooms": ["a", ""]}), "rooms[1]"),
        (json!({"rooms": ["x".repeat(257)]}), "rooms[0]"),
        (json!({"rooms": vec!["r"; 101]}), "rooms"),
        (json!({"users": ["a", "b", ""]}), "users[2]"),
        (
            json!({"everyone": true, "except": ["a", "x".repeat(257)]}),
            "except[1]",
        ),
        (json!({"users": vec!["u"; 101]}), "users"),
        (json!({}), "everyone"),
        (json!({"everyone": true, "rooms": ["a"]}), "everyone"),
        (json!({"everyone": true, "args": vec![1; 17]}), "args"),
        (json!({"everyone": true, "ackTimeout": 0}), "ackTimeout"),
        (
            json!({"everyone": true, "ackTimeout": 10_001}),
            "ackTimeout",
        ),
        (
            json!({"everyone": true, "volatile": true, "ackTimeout": 1}),
            "volatile",
        ),
        (json!({"everyone": "yes"}), "everyone"),
    ] {
        let mut body = body;
        body["event"] = json!("news");
        let error = service
            .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", body.clone()))
            .await;
        assert_eq!(error["details"]["field"], field, "{body}");
    }
    let mut ann = ann;
    assert!(ann.events_until_now("news").await.is_empty());
}

#[tokio::test]
async fn refusal_of_a_server_event_names_an_existing_route_or_none() {
    let server = start();
    let service = Caller::service(&server);
    let document = service.get("/openapi.json").await;
    let events = catalogue();
    let rows = events
        .lines()
        .filter_map(|line| line.strip_prefix("| [`")?.split('`').next());
    let (mut published, mut without) = (BTreeSet::new(), BTreeSet::new());
    for event in rows {
        let body = json!({"event": event, "everyone": true, "args": [{}]});
        let error = service
            .refused(400, "INVALID_PAYLOAD", ("POST", "/emit", body))
            .await;
        if error["details"]["field"] != "event" {
            published.insert(event);
            continue;
        }
        let message = error["message"].as_str().unwrap();
        let words: Vec<_> = message.split(' ').collect();
        let mut routes = words.windows(2).filter(|pair| pair[1].starts_with('/'));
        let named = routes.by_ref().next();
        if named.is_none() {
            without.insert(event);
        }
        for pair in named.into_iter().chain(routes) {
            let method = pair[0].to_lowercase();
            let found = &document["paths"][pair[1]][&method];
            assert!(found.is_object(), "{event}: {message}");
        }
    }
    assert_eq!(published, BTreeSet::from(PUBLISHED));
    assert_eq!(without, WITHOUT_ROUTE.iter().copied().collect());
}

/// Events that `/emit` accepts and stores.
const PUBLISHED: [&str; 5] = [
    "notification:new",
    "portfolio:update",
    "price:update",
    "signal:new",
    "trade:update",
];

/// Events without a route: they concern one connection, are allowed only to their own user, or are
/// read-only.
const WITHOUT_ROUTE: &[&str] = &[
    "abort_message",
    "admin:alert",
    "admin:node",
    "admin:refusals",
    "admin:stats",
    "append_message",
    "auth:expiring",
    "auth:refresh",
    "begin_message",
    "channel:ended",
    "channel:history",
    "channel:presence",
    "channel:subscribe",
    "channel:subscribed",
    "channel:unsubscribe",
    "conversation:interrupted",
    "conversations",
    "create_invite",
    "error",
    "finish_message",
    "join_conversation",
    "join_invite",
    "leave_conversation",
    "mark_read",
    "message_appended",
    "message_delivered",
    "message_history",
    "message_read",
    "message_search",
    "message_stop_requested",
    "notification:ack",
    "notification:ack_all",
    "notification:acked",
    "notification_level",
    "notifications:acked",
    "notifications:history",
    "notifications:subscribed",
    "notifications:unread",
    "notifications:unsubscribed",
    "portfolio:subscribed",
    "portfolio:unsubscribed",
    "presence",
    "preview_invite",
    "prices:subscribed",
    "prices:unsubscribed",
    "revoke_invites",
    "session",
    "set_notification_level",
    "signals:history",
    "signals:subscribed",
    "signals:unsubscribed",
    "statuses",
    "stop_message",
    "subscribe:notifications",
    "subscribe:portfolio",
    "subscribe:prices",
    "subscribe:signals",
    "subscribe:trades",
    "trade:error",
    "trade:executed",
    "trades:history",
    "trades:subscribed",
    "trades:unsubscribed",
    "typing",
    "unsubscribe:notifications",
    "unsubscribe:portfolio",
    "unsubscribe:prices",
    "unsubscribe:signals",
    "unsubscribe:trades",
    "user_disconnected",
    "user_joined",
    "user_left",
];
