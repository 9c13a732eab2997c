//! Tests of the engine over real sockets, with an application that echoes every message.
//!
//! These tests may use all modules of the engine, and must not know Socket.IO. Each file has one
//! subject. `model` applies random operations, `server` contains the test server and client, and
//! `scripts` the requests. Only tests use this module: the test of the size of a socket takes the
//! sizes of a session's parts from `sizes`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use roomcast_protocol::{Frame, engine::Message, websocket};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    Config,
    engine::{
        accept::{bind, serve},
        admission::Handshake,
        http::{Fallback, Site},
        outbox::{Attaching, Control, DropPolicy, Mode, Outbox, PollOutcome, Push, TestOutboxes},
        primitives::{Peer, now, random_sid},
        session::{Driver, Engine, RawEngine, RawSession},
    },
    metrics::{Counter, Gauge, Metrics, Timing},
};

mod draining;
#[cfg(feature = "forwarding")]
mod forwarding;
mod heartbeats;
mod model;
mod plain;
mod scripts;
mod server;
pub(crate) mod sizes;
#[cfg(feature = "forwarding")]
mod slots;
mod slow;
mod stream;
mod unattended;
mod waiting;

use server::{Echo, echo, echo_with, site};

/// Longer than any test step; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_websocket_session_sends_messages_back() {
    let echo = echo(Config::default());
    let mut client = echo.websocket(None).await;
    assert!(client.text().await.starts_with("0{\"sid\":\""));
    client.send("4hello").await;
    assert_eq!(client.text().await, "4hello");
    client
        .send_frame(websocket::Opcode::Binary, &[1, 2, 3])
        .await;
    assert!(matches!(client.next().await, Some(websocket::Event::Binary(b)) if b == [1, 2, 3][..]));
    drop(client);
    echo.all_closed().await;
}

#[tokio::test]
async fn a_polling_session_sends_messages_back() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let body = "4hello\x1eb4OHi\x1e4x";
    assert_eq!(echo.post(&sid, body).await, (200, "ok".into()));
    assert_eq!(echo.poll(&sid).await, (200, "4hello\x1eb4OHi\x1e4x".into()));
    assert_eq!(echo.post(&sid, "1").await.0, 200);
    echo.all_closed().await;
}

#[tokio::test]
async fn upgraded_session_continues_over_websocket() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let mut client = echo.websocket(Some(&sid)).await;
    client.send("2probe").await;
    assert_eq!(client.text().await, "3probe");
    assert_eq!(echo.post(&sid, "4before").await.0, 200);
    let mut both = Vec::new();
    let key = Some([1, 2, 3, 4]);
    websocket::encode_frame(
        &mut both,
        websocket::Fragment::Final,
        websocket::Opcode::Text,
        b"5",
        key,
    );
    websocket::encode_frame(
        &mut both,
        websocket::Fragment::Final,
        websocket::Opcode::Text,
        b"4after",
        key,
    );
    client.stream.write_all(&both).await.unwrap();
    assert_eq!(client.text().await, "4before");
    assert_eq!(client.text().await, "4after");
    assert_eq!(echo.poll(&sid).await.0, 400);
    drop(client);
    echo.all_closed().await;
}

#[tokio::test]
async fn waiting_poll_during_an_upgrade_ends_immediately_or_by_a_message() {
    let echo = echo(Config::default());
    let waits = |outbox: &Outbox| outbox.lock().has_poll();
    let ended_by = async |sends_third: bool| {
        let sid = echo.open().await;
        let mut client = echo.websocket(Some(&sid)).await;
        for message in ["4first", "4second"]
            .iter()
            .take(1 + usize::from(sends_third))
        {
            assert_eq!(echo.post(&sid, message).await.0, 200);
            assert_eq!(echo.poll(&sid).await.1, *message);
        }
        let upgrade = async {
            while !echo.engine.sessions.all().iter().any(waits) {
                tokio::task::yield_now().await;
            }
            client.send("2probe").await;
            assert_eq!(client.text().await, "3probe");
            if sends_third {
                assert_eq!(echo.post(&sid, "4third").await.0, 200);
            }
        };
        let ((status, body), ()) = tokio::join!(echo.poll(&sid), upgrade);
        assert_eq!(status, 200);
        body
    };
    assert_eq!(ended_by(false).await, "6");
    for _ in 0..20 {
        let body = ended_by(true).await;
        if body == "4third" {
            return;
        }
        // The message took longer than a poll may wait.
        assert_eq!(body, "6");
    }
    panic!("every poll was ended before its answer");
}

#[tokio::test]
async fn a_failed_upgrade_stays_on_polling() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let mut client = echo.websocket(Some(&sid)).await;
    client.send("4not a probe").await;
    assert_eq!(client.close_code().await, 1000);
    assert_eq!(echo.post(&sid, "4hello").await.0, 200);
    assert_eq!(echo.poll(&sid).await, (200, "4hello".into()));
}

#[tokio::test]
async fn an_abandoned_upgrade_ends_at_its_timeout() {
    let echo = echo(Config::default().upgrade_timeout(Duration::from_millis(50)));
    let sid = echo.open().await;
    let mut client = echo.websocket(Some(&sid)).await;
    assert_eq!(client.close_code().await, 1000);
    assert_eq!(echo.post(&sid, "4hello").await.0, 200);
    assert_eq!(echo.poll(&sid).await, (200, "4hello".into()));
}

#[tokio::test]
async fn upgraded_websocket_counts_as_a_connection_until_it_closes() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let mut client = echo.websocket(Some(&sid)).await;
    let connections = async |expected| {
        // Polling requests have connections of their own, which close after the response.
        let reached = async {
            while echo.engine.metrics.gauge(Gauge::Connections) != expected {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, reached).await.unwrap();
    };
    connections(1).await;
    for (sent, received) in [("2probe", "3probe"), ("5", ""), ("4hello", "4hello")] {
        client.send(sent).await;
        if !received.is_empty() {
            assert_eq!(client.text().await, received);
        }
    }
    connections(1).await;
    drop(client);
    echo.all_closed().await;
    connections(0).await;
}

#[tokio::test]
async fn a_poll_that_follows_an_upgrade_on_its_way_waits_for_it() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let outbox = echo.engine.sessions.all().remove(0);
    let attaching = Attaching::new(outbox);
    let poll = echo.poll(&sid);
    tokio::pin!(poll);
    // The message is already queued, so a poll that did not wait would return it.
    assert_eq!(echo.post(&sid, "4hello").await.0, 200);
    let mut client = echo.websocket(Some(&sid)).await;
    client.send("2probe").await;
    tokio::select! {
        _ = &mut poll => panic!("the poll has overtaken the upgrade"),
        probe = client.text() => assert_eq!(probe, "3probe"),
    }
    client.send("5").await;
    assert_eq!(client.text().await, "4hello");
    drop(attaching);
    assert_eq!(poll.await.0, 400);
}

#[tokio::test]
async fn session_closed_for_a_fault_is_unknown_immediately() {
    for fault in ["abc", "", "4hello\x1e", "7"] {
        let echo = echo(Config::default());
        let sid = echo.open().await;
        assert_eq!(echo.post(&sid, fault).await.0, 400, "{fault}");
        let (status, body) = echo.poll(&sid).await;
        assert_eq!(
            (status, &*body),
            (400, r#"{"code":1,"message":"Session ID unknown"}"#)
        );
    }
}

#[tokio::test]
async fn unknown_sessions_are_counted_by_reason() {
    let echo = echo(Config::default());
    let counters = [
        Counter::RejectedSession,
        Counter::RejectedSessionOver,
        Counter::RejectedSessionMalformed,
    ];
    let counted = || counters.map(|counter| echo.engine.metrics.counter(counter));
    let never = "A".repeat(20);
    assert_eq!(echo.poll(&never).await.0, 400);
    assert_eq!(echo.post(&never, "4x").await.0, 400);
    assert_eq!(counted(), [2, 0, 0]);
    for malformed in ["x", "A&sid=A"] {
        assert_eq!(echo.poll(malformed).await.0, 400);
    }
    assert_eq!(counted(), [2, 0, 2]);
    let sid = echo.open().await;
    assert_eq!(echo.post(&sid, "1").await.0, 200);
    echo.all_closed().await;
    assert_eq!(echo.poll(&sid).await.0, 400);
    assert_eq!(counted(), [2, 1, 2]);
}

#[tokio::test]
async fn client_close_answers_waiting_poll_and_forgets_session() {
    let echo = echo(Config::default());
    let waits = |outbox: &Outbox| outbox.lock().has_poll();
    let close_session = async |sid: &str| {
        assert_eq!(echo.post(sid, "1").await, (200, "ok".into()));
        for (status, body) in [echo.poll(sid).await, echo.post(sid, "4late").await] {
            assert_eq!(
                (status, &*body),
                (400, r#"{"code":1,"message":"Session ID unknown"}"#)
            );
        }
    };
    close_session(&echo.open().await).await;
    let sid = echo.open().await;
    let closing = async {
        while !echo.engine.sessions.all().iter().any(waits) {
            tokio::task::yield_now().await;
        }
        close_session(&sid).await;
    };
    let (poll, ()) = tokio::join!(echo.poll(&sid), closing);
    assert_eq!(poll, (200, "6".into()));
    echo.all_closed().await;
}

#[tokio::test]
async fn foreign_origins_are_refused_if_enforced() {
    let echo = echo(
        Config::default().cors(
            crate::config::Cors::default()
                .origins(["http://allowed.example"])
                .allow_credentials()
                .enforce(),
        ),
    );
    let open = |method: &str, headers: &str| {
        format!(
            "{method} /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n"
        )
    };
    let foreign = echo
        .exchange(&open("GET", "Origin: http://evil.example\r\n"))
        .await;
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    assert!(foreign.ends_with(r#"{"code":4,"message":"Forbidden"}"#));
    for origin in ["", "Origin: http://x\r\n"] {
        let own = echo.exchange(&open("GET", origin)).await;
        assert!(own.starts_with("HTTP/1.1 200 "), "{own}");
    }
    let allowed = "Origin: http://allowed.example\r\n";
    let listed = echo.exchange(&open("GET", allowed)).await;
    assert!(listed.contains("access-control-allow-origin: http://allowed.example\r\n"));
    assert!(listed.contains("access-control-allow-credentials: true\r\n"));
    let preflight = echo.exchange(&open("OPTIONS", allowed)).await;
    assert!(preflight.starts_with("HTTP/1.1 204 "), "{preflight}");
    let websocket = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let websocket = echo.exchange(websocket).await;
    assert!(websocket.starts_with("HTTP/1.1 403 "), "{websocket}");
    assert_eq!(echo.engine.metrics.counter(Counter::RejectedForbidden), 2);
}

#[tokio::test]
async fn a_fault_on_a_websocket_is_answered_with_a_close_frame() {
    for fault in ["2", "abc", "7", ""] {
        let echo = echo(Config::default());
        let mut client = echo.websocket(None).await;
        client.text().await;
        client.send("4before").await;
        client.send(fault).await;
        assert_eq!(client.text().await, "4before");
        assert_eq!(client.close_code().await, 1000, "{fault}");
        echo.all_closed().await;
    }
}

#[tokio::test]
async fn ending_session_that_cannot_flush_ends_on_shutdown() {
    let echo = echo_with(Config::default().outbox_bytes(64 << 20), |session, _| {
        let text = Message::Text(Bytes::from(vec![b'x'; 1 << 20]));
        for _ in 0..32 {
            session.send(&text);
        }
        session.close();
    });
    let mut client = echo.websocket(None).await;
    client.text().await;
    client.send("4more than the kernel takes").await;
    let ended = async {
        while echo.engine.metrics.counter(Counter::ClosedForced) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, ended).await.unwrap();
    assert_eq!(echo.engine.session_count(), 1);
    // A WebSocket that arrives too late is closed, and then the session is.
    let sid = echo.engine.sessions.all().remove(0).sid();
    let mut late = echo.websocket(Some(sid.as_str())).await;
    assert_eq!(late.close_code().await, 1000);
    echo.engine.shutdown(Duration::ZERO).await;
    echo.all_closed().await;
}

#[tokio::test]
async fn long_payload_is_read_in_iterations_and_answered_at_its_end() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let body = vec!["4x"; 1000].join("\x1e");
    assert_eq!(echo.post(&sid, &body).await, (200, "ok".into()));
    assert_eq!(echo.poll(&sid).await, (200, body));
}

#[tokio::test]
async fn poll_aborted_before_the_driver_handles_it_ends_the_session() {
    let echo = echo(Config::default());
    echo.open().await;
    let outbox = echo.engine.sessions.all().remove(0);
    // No task runs until all three are queued. The first leaves the poll to the driver.
    assert!(outbox.control(Control::PollAborted { id: u64::MAX }));
    let PollOutcome::Waiting(_answered) = outbox.poll(1) else {
        panic!("there is nothing for it");
    };
    assert!(outbox.control(Control::PollAborted { id: 1 }));
    echo.all_closed().await;
}

#[tokio::test]
async fn poll_receives_newest_replaceable_frame_per_key() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let outbox = echo.engine.sessions.all().remove(0);
    for (key, text) in [(1, "a"), (2, "b"), (1, "c"), (1, "d")] {
        let mode = Mode::Conflated {
            stream: key,
            policy: DropPolicy::Newest,
        };
        let push = outbox.push(&Frame::text(text.as_bytes()), mode);
        assert_eq!(push, Push::Queued);
    }
    let push = outbox.push(&Frame::text(b"kept"), Mode::Reliable);
    assert_eq!(push, Push::Queued);
    let (status, body) = echo.poll(&sid).await;
    assert_eq!((status, &*body), (200, "4kept\x1e4d\x1e4b"));
}

#[tokio::test]
async fn a_session_without_pongs_times_out() {
    let echo = echo(
        Config::default()
            .ping_interval(Duration::from_millis(30))
            .ping_timeout(Duration::from_millis(30)),
    );
    let mut client = echo.websocket(None).await;
    client.text().await;
    assert_eq!(client.text().await, "2");
    assert!(!matches!(
        client.next().await,
        Some(websocket::Event::Text(_))
    ));
    echo.all_closed().await;
    assert_eq!(echo.engine.metrics.counter(Counter::ClosedPingTimeout), 1);
}

#[tokio::test]
async fn a_large_message_arrives_whole_and_in_order() {
    let echo = echo(Config::default());
    let mut client = echo.websocket(None).await;
    client.text().await;
    let large = format!("4{}", "x".repeat(900_000));
    client.send("4first").await;
    client.send(&large).await;
    client.send("4last").await;
    assert_eq!(client.text().await, "4first");
    assert_eq!(client.text().await, large);
    assert_eq!(client.text().await, "4last");
}

#[tokio::test]
async fn a_message_over_the_limit_is_answered_1009() {
    let echo = echo(Config::default().max_payload(100));
    let mut client = echo.websocket(None).await;
    client.text().await;
    client.send(&"4".repeat(101)).await;
    assert_eq!(client.close_code().await, 1009);
    echo.all_closed().await;
    let sid = echo.open().await;
    assert_eq!(echo.post(&sid, &"4".repeat(101)).await.0, 413);
    assert_eq!(echo.post(&sid, "4still there").await.0, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_at_its_budget() {
    let echo = echo_with(Config::default(), |session, _| {
        let text = Message::Text(Bytes::from(vec![b'x'; 100_000]));
        while session.send(&text) {}
    });
    let mut client = echo.websocket(None).await;
    client.text().await;
    client.send("4more than you can take").await;
    let closed = async {
        while echo.engine.metrics.counter(Counter::ClosedOverflow) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, closed).await.unwrap();
    // Data already in the kernel still arrives, then the connection ends.
    let mut messages = 0;
    while let Some(event) = client.next().await {
        match event {
            websocket::Event::Text(_) => messages += 1,
            websocket::Event::Close(Some(frame)) => assert_eq!(frame.code.as_u16(), 1008),
            other @ (websocket::Event::Binary(_)
            | websocket::Event::Ping(_)
            | websocket::Event::Pong(_)
            | websocket::Event::Close(None)) => panic!("{other:?}"),
        }
    }
    assert!(messages > 0);
    echo.all_closed().await;
    // The client has never caught up.
    assert_eq!(echo.engine.metrics.timed(Timing::SlowClient), 0);
}

#[tokio::test]
async fn client_during_upgrade_receives_close_on_its_websocket() {
    let echo = echo_with(Config::default(), |session, message| {
        session.send(&message);
        session.close();
    });
    let sid = echo.open().await;
    let mut client = echo.websocket(Some(&sid)).await;
    client.send("2probe").await;
    assert_eq!(client.text().await, "3probe");
    assert_eq!(echo.post(&sid, "4last words").await.0, 200);
    client.send("5").await;
    assert_eq!(client.text().await, "4last words");
    assert_eq!(client.close_code().await, 1000);
    echo.all_closed().await;
}

#[tokio::test]
async fn a_shutdown_flushes_and_closes_every_session() {
    let echo = echo(Config::default());
    let mut client = echo.websocket(None).await;
    client.text().await;
    let sid = echo.open().await;
    let poll = echo.poll(&sid);
    let stop = async {
        let waits = |outbox: &Outbox| outbox.lock().has_poll();
        while !echo.engine.sessions.all().iter().any(waits) {
            tokio::task::yield_now().await;
        }
        echo.engine.shutdown(DEADLINE).await;
    };
    let ((status, body), ()) = tokio::join!(poll, stop);
    assert_eq!((status, &*body), (200, "1"));
    assert_eq!(client.close_code().await, 1001);
    echo.all_closed().await;
}

#[tokio::test]
async fn client_that_does_not_read_its_response_is_disconnected() {
    let config = Config::default()
        .outbox_bytes(64 << 20)
        .max_payload(64 << 20)
        .write_timeout(Duration::from_millis(100));
    let echo = echo_with(config, |session, _| {
        session.send(&Message::Text(Bytes::from(vec![b'x'; 32 << 20])));
    });
    let sid = echo.open().await;
    assert_eq!(echo.post(&sid, "4a lot").await.0, 200);
    let mut stream = TcpStream::connect(echo.address).await.unwrap();
    let poll =
        format!("GET /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(poll.as_bytes()).await.unwrap();
    let disconnected = async {
        while echo.engine.metrics.counter(Counter::RejectedTimeout) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, disconnected).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(answer.len() < 32 << 20, "{}", answer.len());
}
