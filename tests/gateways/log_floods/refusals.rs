//! Floods of wrong tokens, failed TLS handshakes and malformed packets.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::json;

use super::{CLIENTS, FLOOD, lines_of, polling_guest};
use crate::credentials::open;
use crate::guard::{KEY, SECRET, Server, token, until};
use crate::server::{ServerProcess, UNLIMITED};
use crate::support::http::metric;
use crate::support::websocket::masked;
use crate::support::{Frame, RawClient};

/// Requests the metrics with a wrong token.
fn scrape_with_wrong_token(address: SocketAddr) {
    let mut client = RawClient::connect(address);
    // With a loopback `Host` the admin listener requires no token.
    client
        .send("GET /metrics HTTP/1.1\r\nHost: chat.example\r\nAuthorization: Bearer wrong\r\n\r\n");
    assert_eq!(client.response().status, 401);
}

/// Waits until the log has everything that the server has written so far. The line about a wrong
/// token comes last.
fn flush_log(binary: &ServerProcess) {
    scrape_with_wrong_token(binary.admin());
    until(|| lines_of(&binary.log(), "api call refused") > 0);
}

/// Connects a guest to `/`.
fn guest(server: &Server, from: &str) -> RawClient {
    let mut client = open(server, from, "");
    client.send_text("40");
    while !matches!(client.message(), Frame::Text(text) if text.starts_with("40{")) {}
    client
}

#[test]
fn floods_of_wrong_tokens_at_the_metrics_write_few_lines() {
    let start = Instant::now();
    let token = SECRET.replace(' ', "-");
    let token = ("ROOMCAST_SERVER__METRICS_TOKEN", &*token);
    let server = Server::start(&[UNLIMITED.as_slice(), &[token]].concat());
    for address in [server.binary.address(), server.binary.admin()] {
        for _ in 0..FLOOD {
            scrape_with_wrong_token(address);
        }
    }
    // The line about this client comes last.
    let _last = guest(&server, "127.0.0.9");
    until(|| server.binary.log().contains("127.0.0.9:"));
    let written = lines_of(&server.binary.log(), "api call refused");
    // Each listener has its own limit.
    let most = 2 * (100 + start.elapsed().as_secs() as usize + 2);
    assert!(
        (1..=most).contains(&written),
        "{written} lines, {most} at most"
    );
}

#[test]
fn floods_of_refused_refreshes_write_few_lines() {
    let start = Instant::now();
    let server = Server::start(&[UNLIMITED.as_slice(), &[KEY]].concat());
    let mut client = open(&server, "127.0.0.1", "");
    client.send_text(format!("40{}", json!({"token": token("user")})));
    for id in 0..FLOOD {
        client.send_text(format!(r#"42{id}["auth:refresh",{{"token":"wrong"}}]"#));
        let answer = format!("43{id}[");
        let refused = loop {
            if let Frame::Text(text) = client.message()
                && text.starts_with(&answer)
            {
                break text;
            }
        };
        assert!(refused.contains("UNAUTHENTICATED"), "{refused}");
    }
    flush_log(&server.binary);
    let written = lines_of(&server.binary.log(), "refresh refused");
    let most = 100 + start.elapsed().as_secs() as usize + 2;
    assert!(
        (1..=most).contains(&written),
        "{written} lines, {most} at most"
    );
}

#[test]
fn floods_of_failed_tls_handshakes_write_few_lines() {
    let start = Instant::now();
    let (binary, _folder, _) = crate::tls::start();
    for _ in 0..FLOOD {
        let mut client = RawClient::connect(binary.address());
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.take_all();
    }
    let failed = "roomcast_tls_handshakes_failed_total{reason=\"error\"}";
    until(|| {
        let metrics = RawClient::connect(binary.admin()).get("/metrics");
        metric(&metrics.body, failed) == FLOOD as i64
    });
    flush_log(&binary);
    let log = binary.log();
    let most = 20 + start.elapsed().as_secs() as usize + 2;
    let written = log.lines().count();
    assert!(written <= most, "{written} lines, {most} at most: {log}");
}

#[test]
fn floods_of_malformed_packets_write_few_lines() {
    let start = Instant::now();
    let server = Server::start(&UNLIMITED);
    // An unknown Engine.IO packet, an unknown Socket.IO packet, half an event, and an unknown
    // frame.
    for frame in [
        masked(0x81, "9"),
        masked(0x81, "4x"),
        masked(0x81, "42[\"message\","),
        masked(0x83, "x"),
    ] {
        for _ in 0..CLIENTS {
            let mut client = guest(&server, "127.0.0.1");
            client.send(&frame);
            client.expect_close();
        }
    }
    for _ in 0..CLIENTS {
        let session = polling_guest(&server);
        session.post("abc");
        assert_eq!(session.poll().status, 400);
    }
    until(|| server.metric("roomcast_sockets") == 0);
    flush_log(&server.binary);
    let log = server.binary.log();
    assert!(lines_of(&log, "disconnected") > 0, "{log}");
    // Opened, authenticated, connected and disconnected clients each have a limit for each address.
    let most = 4 * (100 + start.elapsed().as_secs() as usize) + 10;
    let written = log.lines().count();
    assert!(written <= most, "{written} lines, {most} at most: {log}");
}
