//! Hooks of an application in the engine: admission of sessions, their ids, headers, and reports of
//! refusals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use roomcast::{Config, connection::EngineRequest, options::Cors};
use serde_json::json;

use crate::{
    local::{Local, until},
    options::{POLLING, WEBSOCKET, ask, builder, get, upgrade},
    support::{RawClient, http::sid_of},
};

#[test]
fn a_session_is_opened_only_if_the_hook_allows_it() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let server = Local::serve(builder(Config::default()).allow_request(
        move |request: EngineRequest| {
            count.fetch_add(1, Ordering::Relaxed);
            assert!(request.is_initial() && request.address().ip().is_loopback());
            async move {
                // The hook takes some time.
                tokio::time::sleep(Duration::from_millis(10)).await;
                match request.query_value("token").as_deref() {
                    Some("good") => Ok(()),
                    Some(_) => Err(r#"not "you""#),
                    None => Err("Thou shall not pass"),
                }
            }
        },
    ));
    let refused = get(&server, POLLING, "");
    assert_eq!(
        refused.parts(),
        (403, r#"{"code":4,"message":"Thou shall not pass"}"#)
    );
    assert_eq!(refused.header("content-type"), Some("application/json"));
    let refused = get(&server, &format!("{POLLING}&token=bad"), "");
    assert_eq!(refused.parts().1, r#"{"code":4,"message":"not \"you\""}"#);
    let refused = upgrade(&server, WEBSOCKET);
    assert_eq!(refused.parts(), (400, "Thou shall not pass"));
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(server.io.clients_count(), 0);

    let accepted = upgrade(&server, &format!("{WEBSOCKET}&token=good"));
    assert_eq!(accepted.status, 101);
    let open = get(&server, &format!("{POLLING}&token=good"), "");
    assert_eq!(open.status, 200);
    let target = format!("{POLLING}&sid={}", sid_of(&open.body));
    assert_eq!(calls.load(Ordering::Relaxed), 5);
    // The hook does not run for further requests of a session.
    let posted = RawClient::connect(server.address()).request("POST", &target, "40");
    assert_eq!(posted.status, 200);
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}

#[test]
fn hook_runs_before_the_protocol_version_check() {
    let server = Local::serve(
        builder(Config::default()).allow_request(async |_: EngineRequest| Err::<(), _>(())),
    );
    let refused = get(&server, "/socket.io/?EIO=3&transport=polling", "");
    assert_eq!(
        refused.parts(),
        (403, r#"{"code":4,"message":"Forbidden"}"#)
    );
    let refused = get(&server, "/socket.io/?EIO=4&transport=x", "");
    assert_eq!(
        refused.parts().1,
        r#"{"code":0,"message":"Transport unknown"}"#
    );
}

#[test]
fn hook_that_does_not_answer_refuses_after_its_timeout() {
    let config = Config::default().allow_request_timeout(Duration::from_millis(50));
    let server =
        Local::serve(builder(config).allow_request(async |_: EngineRequest| {
            std::future::pending::<Result<(), ()>>().await
        }));
    assert_eq!(get(&server, POLLING, "").status, 403);
    assert_eq!(upgrade(&server, WEBSOCKET).status, 400);
}

#[test]
fn panicking_hook_refuses_and_the_server_continues() {
    let server = Local::serve(builder(Config::default()).allow_request(
        async |request: EngineRequest| {
            assert!(request.query_value("panic").is_none(), "as asked for");
            Ok::<_, ()>(())
        },
    ));
    assert_eq!(get(&server, &format!("{POLLING}&panic=1"), "").status, 403);
    assert_eq!(get(&server, POLLING, "").status, 200);
}

#[test]
fn sessions_beyond_the_hook_limit_are_refused_immediately() {
    let config = Config::default().max_pending_requests(1);
    let (call_sender, call_receiver) = mpsc::channel();
    let server = Local::serve(builder(config).allow_request(move |_: EngineRequest| {
        call_sender.send(()).unwrap();
        std::future::pending::<Result<(), ()>>()
    }));
    let mut first = RawClient::connect(server.address());
    first.send_get(POLLING);
    call_receiver.recv().unwrap();
    assert_eq!(get(&server, POLLING, "").status, 503);
    // A client that disconnects frees its place.
    drop(first);
    until(|| {
        let mut next = RawClient::connect(server.address());
        next.send_get(POLLING);
        call_receiver
            .recv_timeout(Duration::from_millis(50))
            .is_ok()
    });
}

#[test]
fn application_may_choose_session_ids() {
    let server = Local::serve(
        builder(Config::default())
            .generate_id(async |request: EngineRequest| request.query_value("id").ok_or("no id")),
    );
    let with = |id: &str| format!("{POLLING}&id={id}");
    let id = "0123456789abcdefghij";
    let open = get(&server, &with(id), "");
    assert_eq!(sid_of(&open.body), id);
    let bad = (400, r#"{"code":3,"message":"Bad request"}"#);
    // An id in use, a malformed id, and none.
    for target in [with(id), with("short"), POLLING.to_owned()] {
        assert_eq!(get(&server, &target, "").parts(), bad, "{target}");
    }
    let mut client = RawClient::connect(server.address());
    assert_eq!(
        client
            .upgrade(&format!("{WEBSOCKET}&id=0123456789abcdefghi_"))
            .status,
        101
    );
    // A WebSocket counts as a session when its 101 has been sent.
    until(|| server.io.clients_count() == 2);
}

#[test]
fn headers_are_added_to_the_first_answer_and_to_all() {
    let server = Local::serve(
        builder(Config::default())
            .initial_headers(|headers: &mut HeaderMap, request: &EngineRequest| {
                assert!(request.is_initial());
                headers.insert("x-first", HeaderValue::from_static("1"));
                headers.insert("x-every", HeaderValue::from_static("overridden"));
            })
            .headers(|headers: &mut HeaderMap, request: &EngineRequest| {
                let transport = request.transport().unwrap().to_string();
                headers.insert("x-every", transport.parse().unwrap());
            }),
    );
    let open = get(&server, POLLING, "");
    assert_eq!(open.header("x-first"), Some("1"));
    assert_eq!(open.header("x-every"), Some("polling"));
    let target = format!("{POLLING}&sid={}", sid_of(&open.body));
    let posted = RawClient::connect(server.address()).request("POST", &target, "40");
    let polled = get(&server, &target, "");
    for later in [posted, polled] {
        assert_eq!(later.status, 200);
        assert_eq!(later.header("x-first"), None);
        assert_eq!(later.header("x-every"), Some("polling"));
    }
    let switched = upgrade(&server, WEBSOCKET);
    assert_eq!(switched.header("x-first"), Some("1"));
    assert_eq!(switched.header("x-every"), Some("websocket"));
    // Refusals are not answers of a session.
    assert_eq!(get(&server, "/socket.io/", "").header("x-every"), None);
}

#[test]
fn refused_requests_are_reported_with_code_and_context() {
    let (sender, reports) = mpsc::channel();
    let server = Local::serve(
        builder(Config::default().cors(Cors::default().enforce()))
            .allow_request(
                async |request: EngineRequest| match request.query_value("deny") {
                    Some(_) => Err("because"),
                    None => Ok(()),
                },
            )
            .generate_id(
                async |request: EngineRequest| match request.query_value("id") {
                    Some(_) => Err("out of ids"),
                    None => Ok(format!("{:020}", request.address().port())),
                },
            )
            .on_connection_error(move |error| {
                let context = serde_json::to_value(&error.context).unwrap();
                sender
                    .send((error.code, error.message.clone(), context))
                    .unwrap();
            }),
    );
    let open = get(&server, POLLING, "").body;
    let sid = sid_of(&open).to_owned();
    let query = |query: &str| get(&server, &format!("/socket.io/?{query}"), "");
    let expect = |code: u16, message: &str, context: serde_json::Value| {
        assert_eq!(reports.recv().unwrap(), (code, message.to_owned(), context));
    };

    query("EIO=4&transport=x");
    let context = json!({"name": "UNKNOWN_TRANSPORT", "transport": "x"});
    expect(0, "Transport unknown", context);
    query("EIO=4&transport=polling&sid=nobody");
    let context = json!({"name": "UNKNOWN_SID", "sid": "nobody"});
    expect(1, "Session ID unknown", context);
    ask(&server, "PUT", POLLING, "");
    let context = json!({"name": "BAD_HANDSHAKE_METHOD", "method": "PUT"});
    expect(2, "Bad handshake method", context);
    ask(&server, "GET", POLLING, "Origin: a\tb\r\n");
    let context = json!({"name": "FORBIDDEN", "message": "origin a\tb"});
    expect(4, "Forbidden", context);
    query(&format!("EIO=4&transport=websocket&sid={sid}"));
    let context = json!({"name": "TRANSPORT_MISMATCH", "transport": "websocket",
        "previousTransport": "polling"});
    expect(3, "Bad request", context);
    query("EIO=4&transport=websocket");
    expect(
        3,
        "Bad request",
        json!({"name": "TRANSPORT_HANDSHAKE_ERROR"}),
    );
    query("EIO=4&transport=polling&id=");
    let context = json!({"name": "ID_GENERATION_ERROR", "error": "out of ids"});
    expect(3, "Bad request", context);
    query(&format!("EIO=4&transport=polling&x={}", "x".repeat(5000)));
    expect(3, "Bad request", json!({"name": "BAD_REQUEST"}));
    query("EIO=4&transport=polling&deny=");
    let context = json!({"name": "FORBIDDEN", "message": "because"});
    expect(4, "Forbidden", context);
    query("EIO=2&transport=polling");
    let context = json!({"name": "UNSUPPORTED_PROTOCOL_VERSION", "protocol": "2"});
    expect(5, "Unsupported protocol version", context);
    upgrade(&server, &format!("{WEBSOCKET}&deny="));
    let context = json!({"name": "FORBIDDEN", "message": "because"});
    expect(4, "Forbidden", context);
    // A duplicate report would arrive before this.
    query("EIO=2&transport=polling");
    let context = json!({"name": "UNSUPPORTED_PROTOCOL_VERSION", "protocol": "2"});
    expect(5, "Unsupported protocol version", context);
    assert!(reports.try_recv().is_err());
}

#[test]
fn origin_with_invalid_characters_is_code_3() {
    let (sender, reports) = mpsc::channel();
    let server = Local::serve(
        builder(Config::default()).on_connection_error(move |error| {
            sender
                .send(serde_json::to_value(&error.context).unwrap())
                .unwrap();
        }),
    );
    let mut client = RawClient::connect(server.address());
    client.send(
        b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nOrigin: a\xffb\r\n\r\n",
    );
    assert_eq!(
        client.response().parts(),
        (400, r#"{"code":3,"message":"Bad request"}"#)
    );
    let context = json!({"name": "INVALID_ORIGIN", "origin": "a\u{fffd}b"});
    assert_eq!(reports.recv().unwrap(), context);
}
