//! B: WebSocket handshake and upgrade.

use super::{
    MANY, assert_alive, assert_gone, assert_growth, assert_polling_alive, attack, attack_with,
    crowd, joined, opened, polling, socket,
};
use crate::support::{Frame, Response, ServerProcess, websocket::masked};

const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Sends a handshake with these header lines.
fn handshake(server: &ServerProcess, request_line: &str, headers: &str) -> Response {
    let mut client = server.connect();
    client.send(format!(
        "{request_line}\r\nHost: localhost\r\n{headers}\r\n\r\n"
    ));
    let answer = client.response();
    if answer.status != 101 {
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        assert!(client.is_at_end());
    }
    answer
}

/// Returns the header lines of a valid handshake with one of them replaced or left out.
fn headers_but(name: &str, replacement: &str) -> String {
    let lines = [
        ("Connection", "Connection: Upgrade"),
        ("Upgrade", "Upgrade: websocket"),
        ("Version", "Sec-WebSocket-Version: 13"),
        ("Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let chosen = lines.map(|(key, line)| if key == name { replacement } else { line });
    chosen
        .into_iter()
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\r\n")
}

#[test]
fn b1_raw_bytes_after_the_handshake_end_only_that_websocket() {
    attack(|server| {
        let request = |target: &str| {
            format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\ntest",
                headers_but("", "")
            )
        };
        let mut client = server.connect();
        client.send(request(WEBSOCKET));
        assert_eq!(client.response().status, 101);
        assert!(matches!(client.frame(), Frame::Text(open) if open.starts_with("0{")));
        assert_eq!(client.close_code(), Some(1002));

        let session = joined(server);
        let mut client = server.connect();
        client.send(request(&session.upgrade));
        assert_eq!(client.response().status, 101);
        assert_eq!(client.close_code(), Some(1002));
        assert_polling_alive(&session);
        let mut client = session.upgraded();
        assert_alive(&mut client);
    });
}

#[test]
fn b1_websocket_that_never_becomes_the_transport_gets_a_close_code() {
    attack(|server| {
        let session = joined(server);
        let too_large = [0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        for (bytes, code) in [
            (masked(0xc1, "2probe"), 1002),
            (vec![0x81, 6, b'2', b'p', b'r', b'o', b'b', b'e'], 1002),
            (masked(0x81, b"4\xff"), 1007),
            (too_large.to_vec(), 1009),
            (masked(0x89, "").repeat(200), 1008),
            (masked(0x88, 3123_u16.to_be_bytes()), 3123),
            (masked(0x88, ""), 1000),
            (masked(0x81, "4hello"), 1000),
        ] {
            for is_probed in [false, true] {
                let mut candidate = session.attach();
                if is_probed {
                    candidate.send_text("2probe");
                    candidate.expect_text("3probe");
                }
                candidate.send(&bytes);
                let closed = loop {
                    match candidate.frame() {
                        Frame::Pong(_) => {}
                        other => break other,
                    }
                };
                let expected: u16 = code;
                assert_eq!(closed, Frame::Close(expected.to_be_bytes().to_vec()));
                assert_polling_alive(&session);
            }
        }
        session.leave();
    });
}

#[test]
fn b2_another_upgrade_or_a_reset_is_no_websocket() {
    attack(|server| {
        let h2c = headers_but("Upgrade", "Upgrade: h2c");
        for (target, status) in [(WEBSOCKET, 400), ("/other", 404)] {
            for headers in [&h2c, &headers_but("", "")] {
                if target == WEBSOCKET && *headers != h2c {
                    continue;
                }
                let mut client = server.connect();
                client.send(format!(
                    "GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n"
                ));
                assert_eq!(client.response().status, status);
            }
        }
        for _ in 0..50 {
            let mut client = server.connect();
            client.send_upgrade(WEBSOCKET);
            // Closing with unread input makes the kernel send a reset.
            assert!(client.has_unread_input());
        }
    });
}

#[test]
fn b3_a_refused_upgrade_is_answered_in_plain_text() {
    attack(|server| {
        for (query, message) in [
            ("EIO=4&transport=__proto__", "Transport unknown"),
            ("EIO=4&transport=webtransport", "Transport unknown"),
            ("EIO=3&transport=websocket", "Unsupported protocol version"),
            (
                "EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA",
                "Session ID unknown",
            ),
            ("EIO=4&transport=websocket&sid=", "Session ID unknown"),
            ("EIO=4&transport=polling", "Bad request"),
        ] {
            let line = format!("GET /socket.io/?{query} HTTP/1.1");
            let answer = handshake(server, &line, &headers_but("", ""));
            assert_eq!(answer.parts(), (400, message), "{query}");
            assert_eq!(answer.header("content-type"), Some("text/html"));
        }
    });
}

#[test]
fn b3_a_foreign_page_gets_no_websocket() {
    let config = r#"{"cors":{"origins":["http://good.example"],"enforce":true}}"#;
    attack_with(config, |server| {
        let line = format!("GET {WEBSOCKET} HTTP/1.1");
        for origin in ["http://evil.example", "null", "https://good.example"] {
            let headers = headers_but("", "") + "\r\nOrigin: " + origin;
            let answer = handshake(server, &line, &headers);
            assert_eq!(answer.parts(), (403, "Forbidden"), "{origin}");
        }
        for origin in ["http://good.example", "http://localhost"] {
            let headers = headers_but("", "") + "\r\nOrigin: " + origin;
            assert_eq!(handshake(server, &line, &headers).status, 101, "{origin}");
        }
    });
}

#[test]
fn b4_a_malformed_handshake_is_refused() {
    attack(|server| {
        let get = format!("GET {WEBSOCKET} HTTP/1.1");
        for key in [
            "",
            "Sec-WebSocket-Key: ",
            "Sec-WebSocket-Key: c2hvcnQ=",
            "Sec-WebSocket-Key: !!!!",
        ] {
            assert_eq!(
                handshake(server, &get, &headers_but("Key", key)).status,
                400,
                "{key}"
            );
        }
        for version in ["Sec-WebSocket-Version: 12", "Sec-WebSocket-Version: 130"] {
            let answer = handshake(server, &get, &headers_but("Version", version));
            assert_eq!(answer.status, 426, "{version}");
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
        let post = format!("POST {WEBSOCKET} HTTP/1.1");
        assert_eq!(handshake(server, &post, &headers_but("", "")).status, 400);
        let old = format!("GET {WEBSOCKET} HTTP/1.0");
        assert_eq!(handshake(server, &old, &headers_but("", "")).status, 400);
        let answer = handshake(
            server,
            &get,
            &headers_but("Connection", "Connection: close"),
        );
        assert_eq!(answer.status, 400);
    });
}

#[test]
fn b5_unknown_extensions_are_declined() {
    attack(|server| {
        let long = format!("permessage-deflate{}", "; x=1".repeat(3000));
        for offer in [
            "constructor",
            "toString, __proto__",
            "permessage-deflate; x=toString",
            "permessage-deflate; server_max_window_bits=99",
            "permessage-deflate, permessage-deflate, permessage-deflate",
            ";;;,,,===\"",
            &long,
        ] {
            let headers = headers_but("", "") + "\r\nSec-WebSocket-Extensions: " + offer;
            let answer = handshake(server, &format!("GET {WEBSOCKET} HTTP/1.1"), &headers);
            assert_eq!(answer.status, 101, "{offer:.50}");
            assert_eq!(answer.header("sec-websocket-extensions"), None);
        }
    });
}

#[test]
fn b6_a_subprotocol_is_never_echoed() {
    attack(|server| {
        for offer in [
            "chat, superchat".to_owned(),
            format!("b{}x", " ".repeat(20_000)),
        ] {
            let headers = headers_but("", "") + "\r\nSec-WebSocket-Protocol: " + &offer;
            let answer = handshake(server, &format!("GET {WEBSOCKET} HTTP/1.1"), &headers);
            assert_eq!(answer.status, 101);
            assert_eq!(answer.header("sec-websocket-protocol"), None);
        }
    });
}

#[test]
fn b7_a_second_websocket_of_a_session_is_closed() {
    attack(|server| {
        let session = joined(server);
        let mut first = session.attach();
        first.send_text("2probe");
        first.expect_text("3probe");
        let mut others: Vec<_> = (0..500).map(|_| server.connect()).collect();
        for other in &mut others {
            other.send_upgrade(&session.upgrade);
        }
        for other in &mut others {
            if other.response().status == 101 {
                other.expect_close();
            }
        }
        first.send_text("5");
        assert_alive(&mut first);
        let mut late = server.connect();
        if late.upgrade(&session.upgrade).status == 101 {
            late.expect_close();
        }
        assert_alive(&mut first);
    });
}

#[test]
fn b8_an_upgrade_without_a_probe_ends_and_the_heartbeat_continues() {
    attack_with(r#"{"upgrade_timeout":"5s"}"#, |server| {
        let session = joined(server);
        let mut candidate = session.attach();
        assert_polling_alive(&session);
        candidate.expect_close();
        assert_polling_alive(&session);
        let mut client = session.upgraded();
        assert_alive(&mut client);
    });
    // An unfinished upgrade does not keep an abandoned session alive.
    let config = r#"{"upgrade_timeout":"600s","ping_interval":"1s","ping_timeout":"5s"}"#;
    attack_with(config, |server| {
        let unprobed = joined(server);
        let mut first = unprobed.attach();
        let probed = joined(server);
        let mut second = probed.attach();
        second.send_text("2probe");
        assert_eq!(second.frame(), Frame::Text("3probe".to_owned()));
        second.expect_unanswered_close();
        first.expect_unanswered_close();
        assert_gone(&unprobed);
        assert_gone(&probed);
    });
}

#[test]
fn b9_a_flood_of_probes_is_constant_work() {
    attack(|server| {
        let session = joined(server);
        let before = server.resident_bytes();
        let mut candidate = session.attach();
        let probes = masked(0x81, "2probe").repeat(1000);
        for _ in 0..100 {
            if candidate.try_send(&probes).is_err() {
                break; // Closing a candidate that does not read its answers is an answer.
            }
        }
        assert_growth(server, before, 2_000_000);
        drop(candidate);
        assert_polling_alive(&session);
        session.leave();
    });
}

#[test]
fn b10_anything_but_a_probe_drops_the_candidate_only() {
    attack(|server| {
        let session = joined(server);
        for packet in ["4hello", "3probe", "2x", "2", "5", "1", "6", "0{}", "x", ""] {
            let mut candidate = session.attach();
            candidate.send_text(packet);
            candidate.expect_close();
            assert_polling_alive(&session);
        }
        let mut candidate = session.attach();
        candidate.send_binary([1, 2, 3]);
        candidate.expect_close();
        for packet in ["4hello", "2x", "x"] {
            let mut candidate = session.attach();
            candidate.send_text("2probe");
            candidate.expect_text("3probe");
            candidate.send_text(packet);
            candidate.expect_close();
            assert_polling_alive(&session);
        }
        let mut client = session.upgraded();
        assert_alive(&mut client);
    });
}

#[test]
fn b11_nothing_is_lost_doubled_or_reordered_at_the_switch() {
    attack(|server| {
        for _ in 0..20 {
            let session = joined(server);
            let mut received = Vec::new();
            let echo = |i: usize| format!("42[\"echo\",{i}]");
            let batch = |from: usize| (from..from + 10).map(echo).collect::<Vec<_>>().join("\x1e");
            assert_eq!(session.post(batch(0)).status, 200);
            let mut candidate = session.attach();
            let mut pending = session.start_poll();
            assert_eq!(session.post(batch(10)).status, 200);
            candidate.send_text("2probe");
            candidate.expect_text("3probe");
            received.push(pending.response().body);
            assert_eq!(session.post(batch(20)).status, 200);
            let mut last = session.start_poll();
            candidate.send_text("5");
            for i in 30..40 {
                candidate.send_text(echo(i));
            }
            let answer = last.response();
            if answer.status == 200 {
                received.push(answer.body);
            }
            let polled = received.join("\x1e");
            let mut packets: Vec<_> = polled
                .split('\x1e')
                .filter(|packet| *packet != "6")
                .map(str::to_owned)
                .collect();
            while packets.len() < 40 {
                let Frame::Text(packet) = candidate.message() else {
                    panic!("not text")
                };
                packets.push(packet);
            }
            assert_eq!(packets, (0..40).map(echo).collect::<Vec<_>>());
        }
    });
}

#[test]
fn b12_a_connection_that_joins_nothing_is_closed() {
    let _crowd = crowd();
    // All connect before the first of them sends anything.
    let room = format!(
        r#"{{"connect_timeout":"10s","max_handshakes":{}}}"#,
        MANY + 1
    );
    attack_with(&room, |server| {
        let before = server.resident_bytes();
        let mut clients: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send_upgrade(WEBSOCKET);
        }
        for client in &mut clients {
            assert_eq!(client.response().status, 101);
            assert!(matches!(client.frame(), Frame::Text(open) if open.starts_with("0{")));
        }
        assert_growth(server, before, MANY * 16_384);
        let mut joiner = socket(server);
        for client in &mut clients {
            client.expect_close();
        }
        assert_alive(&mut joiner);
        let session = polling(server);
        let mut poll = session.start_poll();
        assert_eq!(poll.response().parts(), (200, "1"));
        assert_gone(&session);
    });
}

#[test]
fn b13_webtransport_and_its_first_packet_are_ignored() {
    attack(|server| {
        let answer = server.get("/socket.io/?EIO=4&transport=webtransport");
        assert_eq!(
            answer.parts(),
            (400, r#"{"code":0,"message":"Transport unknown"}"#)
        );
        let mut client = opened(server);
        client.send_text("0{\"sid\":\"__proto__\"}");
        client.send_text("40");
        assert!(matches!(client.message(), Frame::Text(text) if text.starts_with("40{")));
        assert_alive(&mut client);
    });
}

#[test]
fn an_upgrade_abandoned_in_the_middle_leaves_the_session_polling() {
    let failed = "roomcast_upgrades_total{result=\"failed\"}";
    attack(|server| {
        let session = joined(server);
        for probe in [false, true] {
            let mut candidate = session.attach();
            if probe {
                candidate.send_text("2probe");
                candidate.expect_text("3probe");
            }
            drop(candidate);
            // The server detects it after some time; polling works before and after.
            assert_polling_alive(&session);
            server.until(failed, |upgrades| upgrades == 1 + i64::from(probe));
            assert_polling_alive(&session);
        }
        session.leave();
    });
}
