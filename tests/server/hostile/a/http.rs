//! A18 to A24: invalid HTTP requests.

use super::*;

#[test]
fn a18_a_long_or_malformed_url_is_answered() {
    attack(|server| {
        let answer = server.get(&format!("{OPEN}&x={}", "a".repeat(100_000)));
        assert!(matches!(answer.status, 400 | 414 | 431), "{answer:?}");
        // A query is stored as long as its session, so it has its own limit.
        let answer = server.get(&format!("{OPEN}{}", "&a=b".repeat(5000)));
        assert_eq!(
            answer.parts(),
            (400, "{\"code\":3,\"message\":\"Bad request\"}")
        );
        for query in ["&a=b".repeat(500), "&%=%zz&%e".to_owned()] {
            let answer = server.get(&format!("{OPEN}{query}"));
            assert!(answer.body.starts_with("0{"), "{answer:?}");
            let sid = crate::support::http::sid_of(&answer.body);
            let left = server
                .connect()
                .request("POST", &format!("{OPEN}&sid={sid}"), "1");
            assert_eq!(left.parts(), (200, "ok"));
        }
    });
}

#[test]
fn a19_more_headers_than_allowed_are_refused_even_with_upgrade() {
    attack(|server| {
        let many: String = (0..2000).map(|i| format!("x{i}: 1\r\n")).collect();
        let answer = refused(
            server,
            format!(
                "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n{many}\
                 Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
        );
        assert_eq!(answer.status, 431);
    });
}

#[test]
fn a20_an_endless_header_is_refused_at_its_limit() {
    attack(|server| {
        let before = server.resident_bytes();
        let mut client = server.connect();
        client.send(format!("GET {OPEN} HTTP/1.1\r\nHost: localhost\r\nX: "));
        let mut sent = 0;
        while sent < 20 << 20 && client.try_send([b'a'; 4096]).is_ok() {
            sent += 4096;
        }
        assert_eq!(client.response().status, 431);

        let mut client = server.connect();
        client.send(format!("GET {OPEN} HTTP/1.1\r\nHost: localhost\r\nX: "));
        for _ in 0..40_000 {
            let _ = client.try_send(b"a");
        }
        assert_eq!(client.response().status, 431);
        assert_growth(server, before, 1 << 20);
    });
}

#[test]
fn a20_little_is_read_after_an_answer_that_ends_the_connection() {
    // Upper bound for what both kernels buffer and what the server reads before its answer.
    const MOST: usize = 24 << 20;
    attack(|server| {
        let session = joined(server);
        let begin = |bytes: String| {
            let mut client = server.connect();
            client.send(bytes);
            client
        };
        let closing = |frame: &[u8]| {
            let mut client = socket(server);
            client.send(frame);
            client
        };
        let endless = begin(format!("GET {OPEN} HTTP/1.1\r\nHost: localhost\r\nX: "));
        let too_large = begin(post_head(&session, "Content-Length: 99999999999"));
        let malformed = begin(format!("GET {OPEN} HTTP/1.1\r\nHost\r\n\r\n"));
        let unnamed = begin(format!("GET {OPEN} HTTP/1.1\r\n\r\n"));
        let no_websocket = begin(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                .to_owned(),
        );
        let last = begin(
            "GET /elsewhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
        );
        let closed = closing(&masked(0x88, 1000_u16.to_be_bytes()));
        let broken = closing(&[0xff; 14]);
        let goodbye = closing(&masked(0x81, "1"));
        thread::scope(|scope| {
            for (what, mut client) in [
                ("a header without end", endless),
                ("a body that is too large", too_large),
                ("a malformed request", malformed),
                ("a request without a host", unnamed),
                ("a handshake that is none", no_websocket),
                ("a last request", last),
                ("a WebSocket that was closed", closed),
                ("a broken frame", broken),
                ("a closed session", goodbye),
            ] {
                scope.spawn(move || {
                    let mut sent = 0;
                    while client.try_send([b'a'; 64 * 1024]).is_ok() {
                        sent += 64 * 1024;
                        assert!(sent < MOST, "behind {what} {sent} bytes were taken");
                    }
                });
            }
        });
        session.leave();
    });
}

#[test]
fn a21_slow_requests_are_closed_at_their_deadline() {
    let _crowd = crowd();
    attack_with(r#"{"header_timeout":"5s","body_timeout":"5s"}"#, |server| {
        let session = joined(server);
        let mut header = server.connect();
        let mut body = server.connect();
        header.send("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nX: ");
        body.send(post_head(&session, "Content-Length: 1000"));
        // More than the number of silent connections; further connections are refused in the
        // meantime.
        let mut silent: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
        let drip = |client: &mut RawClient| {
            let start = Instant::now();
            while !client.has_closed_after(&b"a"[..]) {
                assert!(
                    start.elapsed() < DEADLINE,
                    "a byte now and then keeps a request open"
                );
            }
        };
        drip(&mut header);
        drip(&mut body);
        // They take the places of clients that send requests.
        for client in &mut silent {
            client.take_all();
        }
        assert_gone(&session);
        let mut idle = server.connect();
        assert_eq!(idle.get("/nothing").status, 404);
        assert!(idle.is_at_end(), "an idle connection is kept for ever");
    });
}

#[test]
fn a22_ambiguous_framing_is_never_read_in_two_ways() {
    attack(|server| {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for headers in [
            "Content-Length: 4\r\nContent-Length: 5",
            "Content-Length: +4",
            "Content-Length: -1",
            "Content-Length: 4, 5",
            "Content-Length: 99999999999999999999",
            "Content-Length: 0x4",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: xchunked",
            "Content-Length : 4",
            "Content-Length: 4\r\n folded: 1",
            "X: a\0b\r\nContent-Length: 4",
        ] {
            let session = joined(server);
            let request = post_head(&session, headers) + "6\x1e66" + smuggled;
            let answer = refused(server, request);
            assert_eq!(answer.status, 400, "{headers:?}");
            session.post("1");
        }
        for chunk in [
            "FFFFFFFFFFFFFFFFF\r\n",
            "-1\r\n",
            "4 4\r\n",
            "\r\n",
            "xyz\r\n",
        ] {
            let session = joined(server);
            let request =
                post_head(&session, "Transfer-Encoding: chunked") + chunk + "6\x1e66\r\n0\r\n\r\n";
            let answer = refused(server, request + smuggled);
            assert_eq!(answer.status, 400, "{chunk:?}");
            assert_gone(&session);
        }
        let session = joined(server);
        let extension = format!("4;{}\r\n6\x1e66\r\n0\r\n\r\n", "x".repeat(1 << 20));
        refused(
            server,
            post_head(&session, "Transfer-Encoding: chunked") + &extension,
        );
        session.post("1");

        // RFC 9112 6.3: a server may use Transfer-Encoding alone, but must close afterwards.
        let session = joined(server);
        let both = "Content-Length: 4\r\nTransfer-Encoding: chunked";
        let chunks = "4\r\n6\x1e66\r\n0\r\n\r\n";
        let answer = refused(server, post_head(&session, both) + chunks + smuggled);
        assert!(matches!(answer.status, 200 | 400), "{answer:?}");
        session.post("1");
    });
}

#[test]
fn a22_a_request_names_one_host_or_is_refused() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    attack(|server| {
        let session = joined(server);
        for (line, rest) in [
            (format!("GET {OPEN}"), "\r\n"),
            (format!("GET {}", session.target), "\r\n"),
            (
                format!("POST {}", session.target),
                "Content-Length: 1\r\n\r\n3",
            ),
            (format!("OPTIONS {OPEN}"), "\r\n"),
            ("GET /elsewhere".to_owned(), "\r\n"),
            (format!("GET http://localhost{OPEN}"), "\r\n"),
            (
                "GET /socket.io/?EIO=4&transport=websocket".to_owned(),
                &format!("{upgrade}\r\n"),
            ),
            (
                format!("GET {}", session.upgrade),
                &format!("{upgrade}\r\n"),
            ),
        ] {
            for hosts in [
                "",
                "Host: a\r\nHost: a\r\n",
                "Host: a\r\nX: b\r\nhost: b\r\n",
                "Host: a b\r\n",
                "Host: http://a\r\n",
                "Host: a, b\r\n",
            ] {
                let answer = refused(server, format!("{line} HTTP/1.1\r\n{hosts}{rest}"));
                assert_eq!(answer.parts(), (400, ""), "{line} {hosts:?}");
                assert_eq!(answer.header("connection"), Some("close"));
            }
        }
        // Before HTTP/1.1 the header was optional, but two hosts were never valid.
        let other = "GET /socket.io/?EIO=4&transport=abc";
        assert_code(&refused(server, format!("{other} HTTP/1.0\r\n\r\n")), 0);
        let twice = format!("{other} HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n");
        assert_eq!(refused(server, twice).parts(), (400, ""));
        for host in ["", "[::1]:3000", "a_b.example:80"] {
            let mut client = server.connect();
            client.send(format!("{other} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_code(&client.response(), 0);
        }
        assert_polling_alive(&session);
        session.leave();
    });
}

#[test]
fn a23_pipelined_requests_are_answered_in_order() {
    attack(|server| {
        let mut client = server.connect();
        let request = "GET /socket.io/?EIO=4&transport=abc HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.send(request.repeat(1000) + "GET /last HTTP/1.1\r\nHost: localhost\r\n\r\n");
        for _ in 0..1000 {
            assert_code(&client.response(), 0);
        }
        assert_eq!(client.response().status, 404);
    });
}

#[test]
fn a24_jsonp_is_ignored() {
    attack(|server| {
        let answer = server.get(&format!("{OPEN}&j=%3Cscript%3E"));
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=UTF-8")
        );
        assert!(
            answer.body.starts_with("0{") && !answer.body.contains("script"),
            "{answer:?}"
        );
        let sid = crate::support::http::sid_of(&answer.body);
        assert_eq!(
            server
                .connect()
                .request("POST", &format!("{OPEN}&sid={sid}"), "1")
                .status,
            200
        );
    });
}
