//! A: sessions over HTTP, and long-polling.

mod http;

use std::{thread, time::Instant};

use super::{
    MANY, assert_alive, assert_closed, assert_gone, assert_growth, assert_polling_alive, attack,
    attack_with, crowd, joined, polling, socket,
};
use crate::support::{
    DEADLINE, POSTS_WAITING, Polling, RawClient, Response, ServerProcess, websocket::masked,
};

/// Only pages of one other origin are admitted.
const ORIGINS: &str = r#"{"cors":{"origins":["http://good.example"],"enforce":true}}"#;
const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

/// Expects `{"code":n,"message":…}` with status 400.
fn assert_code(answer: &Response, code: u8) {
    let message = [
        "Transport unknown",
        "Session ID unknown",
        "Bad handshake method",
        "Bad request",
        "Forbidden",
        "Unsupported protocol version",
    ][usize::from(code)];
    let body = format!(r#"{{"code":{code},"message":"{message}"}}"#);
    assert_eq!(answer.parts(), (400, body.as_str()));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// Sends literal bytes and reads the answer; the server must close afterwards.
fn refused(server: &ServerProcess, request: impl AsRef<[u8]>) -> Response {
    let mut client = server.connect();
    let _ = client.try_send(request);
    let answer = client.response();
    assert!(client.is_at_end(), "not closed after {answer:?}");
    answer
}

/// Returns a POST of the session up to its body.
fn post_head(session: &Polling, headers: &str) -> String {
    format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n",
        session.target
    )
}

#[test]
fn a1_a_wrong_protocol_version_opens_nothing() {
    attack(|server| {
        for query in [
            "transport=polling",
            "EIO=abc&transport=polling",
            "EIO=3&transport=polling",
        ] {
            assert_code(&server.get(&format!("/socket.io/?{query}")), 5);
        }
    });
}

#[test]
fn a2_an_unknown_transport_is_refused_whatever_its_name() {
    attack(|server| {
        for transport in [
            "transport=__proto__",
            "transport=constructor",
            "transport=toString",
            "transport=",
            "transport=abc",
            "transport=webtransport",
            "transport=polling&transport=websocket",
            "transport[]=polling",
            "",
        ] {
            assert_code(&server.get(&format!("/socket.io/?EIO=4&{transport}")), 0);
        }
    });
}

#[test]
fn a3_only_get_opens_a_session() {
    attack(|server| {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_code(&server.connect().request(method, OPEN, ""), 2);
        }
        let mut client = server.connect();
        client.send(format!("HEAD {OPEN} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!(client.take_until(b"\r\n\r\n").starts_with(b"HTTP/1.1 400 "));
    });
}

#[test]
fn a4_a_strange_session_id_is_unknown_and_never_reflected() {
    attack(|server| {
        for sid in [
            "__proto__",
            "%00",
            "%3Cscript%3Ealert(1)%3C/script%3E",
            "%0d%0aX:1",
            "",
        ] {
            let answer = server.get(&format!("{OPEN}&sid={sid}"));
            assert_code(&answer, 1);
            assert_eq!(answer.header("x"), None);
        }
        let answer = server.get(&format!("{OPEN}&sid=<script>alert(1)</script>"));
        assert_eq!(answer.status, 400);
        assert!(!format!("{answer:?}").contains("script"), "{answer:?}");
        let answer = server.get(&format!("{OPEN}&sid={}", "A".repeat(100_000)));
        assert!(matches!(answer.status, 400 | 414 | 431), "{answer:?}");
        assert!(!answer.body.contains("AAAA"));
    });
}

#[test]
fn a5_a_request_that_does_not_fit_its_transport_is_refused() {
    attack(|server| {
        assert_code(&server.get("/socket.io/?EIO=4&transport=websocket"), 3);
        let session = joined(server);
        let mut client = session.upgraded();
        assert_alive(&mut client);
        assert_code(&session.poll(), 3);
        assert_code(&session.post(r#"42["echo",1]"#), 3);
        assert_alive(&mut client);
    });
}

#[test]
fn a6_an_impossible_origin_is_refused() {
    attack(|server| {
        let get = |origin: &[u8]| {
            let mut client = server.connect();
            client.send(format!(
                "GET {OPEN} HTTP/1.1\r\nHost: localhost\r\nOrigin: "
            ));
            client.send(origin);
            client.send("\r\n\r\n");
            client.response()
        };
        assert_eq!(get(b"http://a\x01b").status, 400);
        assert_code(&get(b"http://a\xffb"), 3);
        assert_code(&get(b"http://a.example\r\nOrigin: http://b.example"), 3);
    });
}

#[test]
fn a3_a_preflight_is_answered_by_the_origin_rule() {
    attack_with(ORIGINS, |server| {
        for (origin, allowed) in [
            ("http://good.example", true),
            ("http://evil.example", false),
        ] {
            let mut client = server.connect();
            client.send(format!(
                "OPTIONS {OPEN} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\
                 Access-Control-Request-Method: POST\r\n\r\n"
            ));
            let answer = client.response();
            assert_eq!(answer.status, 204);
            let named = answer.header("access-control-allow-origin");
            assert_eq!(named, allowed.then_some(origin));
        }
    });
}

#[test]
fn a6_a_foreign_origin_is_refused_if_origins_are_enforced() {
    attack_with(ORIGINS, |server| {
        let session = joined(server);
        let foreign = [
            "http://evil.example",
            "null",
            "http://good.example.evil.example",
            "http://good.example:81",
            "https://good.example",
            "good.example",
            "http://localhost.evil.example",
        ];
        for target in [OPEN, &session.target] {
            for origin in foreign {
                let mut client = server.connect();
                client.send(format!(
                    "GET {target} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n"
                ));
                let answer = client.response();
                assert_eq!(
                    answer.parts(),
                    (403, r#"{"code":4,"message":"Forbidden"}"#),
                    "{origin}"
                );
                assert_eq!(answer.header("access-control-allow-origin"), None);
            }
        }
        assert_polling_alive(&session);
        session.leave();
    });
}

#[test]
fn a7_two_polls_at_once_close_the_session() {
    attack(|server| {
        let session = joined(server);
        let mut first = session.start_poll();
        server.until_polls_wait(1);
        assert_eq!(session.poll().parts(), (400, ""));
        assert_eq!(first.response().parts(), (200, "1"));
        assert_gone(&session);
    });
}

#[test]
fn a8_a_body_over_the_limit_is_refused_before_it_is_read() {
    attack(|server| {
        let session = joined(server);
        let before = server.resident_bytes();
        let answer = refused(server, post_head(&session, "Content-Length: 100000000"));
        assert_eq!(answer.parts(), (413, ""));

        let mut client = server.connect();
        client.send(post_head(&session, "Transfer-Encoding: chunked"));
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        for _ in 0..16 {
            let _ = client.try_send(&chunk); // Together 1,048,576 bytes, over the limit.
        }
        assert_eq!(client.response().parts(), (413, ""));
        let start = Instant::now();
        while client.try_send(&chunk).is_ok() {
            assert!(start.elapsed() < DEADLINE, "the rest is read for ever");
        }
        assert_growth(server, before, 1_000_000 + 65_536);
        assert_polling_alive(&session);
        session.leave();
    });
}

#[test]
fn a9_two_posts_at_once_or_half_a_post_close_the_session() {
    attack(|server| {
        let session = joined(server);
        let mut first = server.connect();
        first.send(post_head(&session, "Content-Length: 10") + "42[\"e");
        server.until(POSTS_WAITING, |posts| posts == 1);
        assert_eq!(session.post("3").parts(), (400, ""));
        assert_gone(&session);
        drop(first);
        server.until(POSTS_WAITING, |posts| posts == 0);

        let session = joined(server);
        let mut half = server.connect();
        half.send(post_head(&session, "Content-Length: 10") + "42[\"e");
        let poll = session.start_poll();
        server.until_polls_wait(1);
        server.until(POSTS_WAITING, |posts| posts == 1);
        drop(half);
        let mut poll = poll;
        assert_eq!(poll.response().parts(), (200, "1"));
        assert_gone(&session);
    });
}

#[test]
fn a10_an_octet_stream_is_refused_at_its_headers() {
    attack(|server| {
        for rest in [
            "Content-Length: 0",
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
        ] {
            let session = joined(server);
            let mut client = server.connect();
            let headers = format!("Content-Type: application/octet-stream\r\n{rest}");
            client.send(post_head(&session, &headers));
            assert_eq!(client.response().parts(), (400, ""));
            assert_gone(&session);
        }
    });
}

#[test]
fn a11_a_malformed_payload_closes_the_session() {
    attack(|server| {
        for body in [
            &b"abc"[..],
            b"",
            b"\xff\xfe",
            b"42[\"x\"]\x1e",
            b"\x1e\x1e",
            b"4\xff",
        ] {
            let session = joined(server);
            let status = session.post(body).status;
            assert!(
                matches!(status, 200 | 400),
                "{status} for {}",
                body.escape_ascii()
            );
            assert_gone(&session);
        }
    });
}

#[test]
fn a12_a_million_empty_packets_use_little_memory() {
    attack(|server| {
        let before = server.resident_bytes();
        for body in ["\x1e".repeat(1_000_000), "6\x1e".repeat(500_000)] {
            let session = joined(server);
            let status = session.post(body).status;
            assert!(matches!(status, 200 | 400), "{status}");
            assert_gone(&session);
        }
        assert_growth(server, before, 2_000_000);
    });
}

#[test]
fn a13_base64_is_read_strictly_and_never_as_text() {
    const HEADER: &str = "451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\x1e";
    attack(|server| {
        for invalid in ["b!!!!", "bA", "b====", "b4OH", "b4OHi\n"] {
            let session = joined(server);
            session.post(format!("{HEADER}{invalid}"));
            assert_gone(&session);
        }
        for valid in ["b4OHi", "bAQ==", "b"] {
            let session = joined(server);
            let payload = format!("{HEADER}{valid}");
            assert_eq!(session.post(&payload).parts(), (200, "ok"));
            assert_eq!(session.poll().parts(), (200, payload.as_str()));
            session.leave();
        }
    });
}

#[test]
fn a14_packets_that_only_the_server_sends_are_ignored_or_fatal() {
    attack(|server| {
        for fatal in ["2", "2probe", "7", "9", "x"] {
            let session = joined(server);
            session.post(fatal);
            assert_gone(&session);
        }
        let session = joined(server);
        for ignored in ["5", "6", "0{}", "0{\"sid\":\"__proto__\"}", "3", "3probe"] {
            assert_eq!(session.post(ignored).parts(), (200, "ok"), "{ignored}");
        }
        assert_polling_alive(&session);
        session.leave();
    });
}

#[test]
fn a15_a_flood_of_pongs_is_constant_work() {
    attack(|server| {
        let before = server.resident_bytes();
        for session in [polling(server), joined(server)] {
            let pongs = "3\x1e".repeat(299_999) + "3";
            assert_eq!(session.post(pongs).parts(), (200, "ok"));
            session.leave();
        }
        assert_growth(server, before, 4_000_000);
    });
}

#[test]
fn a16_deep_json_is_refused_without_recursion() {
    attack(|server| {
        for open in ["[", "{\"a\":"] {
            let deep = open.repeat(100_000);
            for packet in [
                format!("42[\"a\",{deep}"),
                format!("40/custom,{deep}"),
                format!("431[{deep}"),
            ] {
                let mut client = socket(server);
                client.send_text(packet);
                client.expect_close();
            }
        }
        let closed = format!("42[\"a\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        let session = joined(server);
        session.post(closed);
        assert_closed(&session);

        let mut client = socket(server);
        let shallow = format!("{}{}", "[".repeat(100), "]".repeat(100));
        client.send_text(format!("421[\"echo\",{shallow}]"));
        client.expect_text(&format!("431[{shallow}]"));
    });
}

#[test]
fn a17_strange_json_is_echoed_or_refused_in_linear_time() {
    attack(|server| {
        let digits = "9".repeat(500_000);
        let keys = (0..50_000)
            .map(|i| format!("\"k{i}\":0"))
            .collect::<Vec<_>>()
            .join(",");
        for value in [
            "1e999",
            "-0",
            "9007199254740993",
            &digits,
            &format!("{{{keys}}}"),
        ] {
            let mut client = socket(server);
            client.send_text(format!("421[\"echo\",{value}]"));
            client.expect_text(&format!("431[{value}]"));
        }
        let mut client = socket(server);
        client.send_text(r#"421["echo",{"a":1,"a":2}]"#);
        client.expect_text(r#"431[{"a":1,"a":2}]"#);
        client.send_text(r#"422["echo","\ud800","\ud83e\udd80"]"#);
        client.expect_text(r#"432["\ud800","\ud83e\udd80"]"#);
        for wrong in [
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "NaN",
            "\"\u{1}\"",
            "\"\\x\"",
            "tru",
            "[1,]",
            "{1:2}",
        ] {
            let mut client = socket(server);
            client.send_text(format!("421[\"echo\",{wrong}]"));
            client.expect_close();
        }
    });
}

#[test]
fn a25_sessions_that_are_never_polled_are_removed() {
    attack_with(r#"{"ping_interval":"1s","ping_timeout":"5s"}"#, |server| {
        let before = server.resident_bytes();
        for _ in 0..5 {
            let mut client = server.connect();
            client.send(format!("GET {OPEN} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(MANY / 5));
            for _ in 0..MANY / 5 {
                assert_eq!(client.response().status, 200);
            }
        }
        assert_growth(server, before, MANY * 8192);
    });
}
