//! Refused credentials and their consequences for the client's address, on the real server.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guard::{KEY, NOT_EXEMPT, PROXIED, Server, assert_blocked, signed, token, until};
use crate::support::{Frame, RawClient, Response};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";
const REFUSED: &str = r#"44{"message":"unauthorized","data":{"code":"UNAUTHENTICATED"}}"#;
/// Clients at this address have offered no bad credentials.
const INNOCENT: &str = "127.0.0.3";
const GUILTY: &str = "127.0.0.2";
/// These tests connect more often than people do.
const CONNECTS: (&str, &str) = ("ROOMCAST_LIMITS__CONNECTS", "0");
const JOINS: (&str, &str) = ("ROOMCAST_ENGINE__JOINS_PER_MINUTE", "0");
const NO_GUESTS: (&str, &str) = ("ROOMCAST_AUTH__GUESTS", "false");

fn after(count: &'static str) -> (&'static str, &'static str) {
    ("ROOMCAST_LIMITS__BLOCK_AFTER_CREDENTIALS", count)
}

/// Connects from this address with these request headers, without joining a namespace.
pub(crate) fn open(server: &Server, from: &str, headers: &str) -> RawClient {
    let mut client = RawClient::connect_from(from, server.binary.address());
    client.send(format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: chat.example\r\n{headers}\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(client.response().status, 101);
    assert!(matches!(client.frame(), Frame::Text(open) if open.starts_with("0{")));
    client
}

/// Returns the server's answer to a CONNECT with this payload.
fn answer(client: &mut RawClient, auth: &Value) -> String {
    client.send_text(format!("40{auth}"));
    let Frame::Text(answer) = client.message() else {
        panic!("no answer")
    };
    answer
}

/// Offers bad tokens, each of which must be refused.
fn offer(client: &mut RawClient, count: usize) {
    for n in 0..count {
        let refused = answer(client, &json!({"token": format!("bad token {n}")}));
        assert_eq!(refused, REFUSED);
    }
}

/// Requests a session from this address.
fn ask(server: &Server, from: &str) -> Response {
    RawClient::connect_from(from, server.binary.address()).get(OPEN)
}

fn blocks(server: &Server) -> Vec<Value> {
    let (status, list) = server.call("GET", "/blocks", "admin", "");
    assert_eq!(status, 200);
    list["blocks"].as_array().unwrap().clone()
}

#[test]
fn refused_credentials_shut_their_address_out_until_the_block_ends() {
    let time = ("ROOMCAST_LIMITS__BLOCK_TIME", "10s");
    let server = Server::start(&[KEY, NOT_EXEMPT, CONNECTS, after("5"), time]);
    let good = json!({"token": token("user")});
    let mut innocent = open(&server, INNOCENT, "");
    assert!(answer(&mut innocent, &good).starts_with("40{"));
    let mut guilty = open(&server, GUILTY, "");
    // Attempts add up across connections.
    let mut other = open(&server, GUILTY, "");
    offer(&mut other, 3);
    offer(&mut guilty, 2);

    // Open connections of the address are closed.
    guilty.expect_close();
    let blocked = ask(&server, GUILTY);
    assert_blocked(&blocked);
    let seconds: u64 = blocked.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    server
        .binary
        .expect_log(&["blocked", "offers bad credentials", "127.0.0.2"]);
    let list = blocks(&server);
    assert_eq!(list[0]["cidr"], "127.0.0.2/32");
    assert_eq!(list[0]["source"], "automatic");
    assert_eq!(list[0]["reason"], "offers bad credentials");
    let violations = "roomcast_violations_total{limit=\"credentials\"}";
    assert_eq!(server.metric(violations), 5);

    // Clients at other addresses stay connected, and new clients can connect.
    innocent.send_text(r#"421["presence",{}]"#);
    assert!(matches!(innocent.message(), Frame::Text(_)));
    assert!(answer(&mut open(&server, INNOCENT, ""), &good).starts_with("40{"));

    until(|| ask(&server, GUILTY).status == 200);
    assert!(answer(&mut open(&server, GUILTY, ""), &good).starts_with("40{"));
    until(|| blocks(&server).is_empty());
}

#[test]
fn clients_with_expired_tokens_are_not_blocked_for_a_long_time() {
    let server = Server::start(&[KEY, NOT_EXEMPT, CONNECTS]);
    let ended = signed(&json!({"sub": "ann", "exp": 1_700_000_000}));
    for _ in 0..25 {
        let mut client = open(&server, GUILTY, "");
        for _ in 0..10 {
            let refused = answer(&mut client, &json!({"token": ended}));
            assert_eq!(refused, REFUSED);
        }
    }
    assert_eq!(blocks(&server), Vec::<Value>::new());
    let good = json!({"token": token("user")});
    assert!(answer(&mut open(&server, GUILTY, ""), &good).starts_with("40{"));
}

#[test]
fn missing_credentials_and_foreign_pages_do_not_count_as_violation() {
    let server = Server::start(&[KEY, NO_GUESTS, NOT_EXEMPT, CONNECTS, after("1")]);
    let cookie = format!("Cookie: roomcast_token={}\r\n", token("user"));
    for headers in [
        "",
        &format!("{cookie}Sec-Fetch-Site: cross-site\r\n"),
        &cookie,
    ] {
        let mut client = open(&server, GUILTY, headers);
        for _ in 0..5 {
            assert_eq!(answer(&mut client, &json!({})), REFUSED, "{headers}");
        }
    }
    assert_eq!(blocks(&server), Vec::<Value>::new());
    assert_eq!(ask(&server, GUILTY).status, 200);
}

#[test]
fn neither_loopback_nor_a_proxy_is_blocked_for_bad_credentials() {
    let server = Server::start(&[KEY, CONNECTS, PROXIED, after("3")]);
    // Any client on this machine, by default.
    offer(&mut open(&server, "127.0.0.1", ""), 10);
    assert_eq!(blocks(&server), Vec::<Value>::new());

    // Through a proxy, attempts count against the client's address.
    let mut client = open(&server, "127.0.0.1", "X-Forwarded-For: 203.0.113.7\r\n");
    offer(&mut client, 3);
    client.expect_close();
    let list = blocks(&server);
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["cidr"], "203.0.113.7/32");
    let mut others = open(&server, "127.0.0.1", "X-Forwarded-For: 203.0.113.8\r\n");
    offer(&mut others, 2);
    // A subscriber of IPv6 has many addresses, which count as one.
    for n in 1..=3 {
        let header = format!("X-Forwarded-For: 2001:db8::{n}\r\n");
        offer(&mut open(&server, "127.0.0.1", &header), 1);
    }
    let networks: Vec<Value> = blocks(&server)
        .into_iter()
        .map(|block| block["cidr"].clone())
        .collect();
    assert_eq!(networks, ["2001:db8::/64", "203.0.113.7/32"]);
}

#[test]
fn bad_credentials_count_at_the_handshake_too() {
    let at_handshake = ("ROOMCAST_AUTH__AT_HANDSHAKE", "true");
    let server = Server::start(&[KEY, at_handshake, NOT_EXEMPT, CONNECTS, after("3")]);
    let ask = |headers: &str| {
        let mut client = RawClient::connect_from(GUILTY, server.binary.address());
        client.send(format!(
            "GET {OPEN} HTTP/1.1\r\nHost: chat.example\r\n{headers}\r\n"
        ));
        client.response()
    };
    for _ in 0..5 {
        assert_eq!(ask("").status, 403);
    }
    for _ in 0..3 {
        let refused = ask("Authorization: Bearer bad\r\n");
        assert_eq!(refused.status, 403);
        assert_eq!(refused.header("retry-after"), None);
    }
    let good = format!("Authorization: Bearer {}\r\n", token("user"));
    assert_blocked(&ask(&good));
}

#[test]
fn connected_socket_that_sends_bad_tokens_is_blocked() {
    let server = Server::start(&[KEY, NOT_EXEMPT, CONNECTS, after("3")]);
    let mut client = open(&server, GUILTY, "");
    let good = json!({"token": token("user")});
    assert!(answer(&mut client, &good).starts_with("40{"));
    assert!(matches!(client.message(), Frame::Text(told) if told.starts_with("42[\"session\"")));
    for id in 0..2 {
        client.send_text(format!(r#"42{id}["auth:refresh",{{"token":"bad"}}]"#));
        let refused =
            r#"[{"success":false,"error":{"code":"UNAUTHENTICATED","message":"unauthorized"}}]"#;
        client.expect_text(&format!("43{id}{refused}"));
    }
    client.send_text(r#"422["auth:refresh",{"token":"bad"}]"#);
    client.expect_close();
    assert_blocked(&ask(&server, GUILTY));
}

#[test]
fn a_storm_of_refusals_does_not_fill_the_log() {
    let server = Server::start(&[KEY, JOINS]);
    let start = Instant::now();
    offer(&mut open(&server, "127.0.0.1", ""), 500);
    let seconds = start.elapsed().as_secs();
    assert_eq!(server.metric("roomcast_sockets_refused_total"), 500);
    let refused = || {
        let log = server.binary.log();
        log.lines().filter(|line| line.contains("refused")).count()
    };
    until(|| refused() >= 100);
    // Later lines contain the number of lines that were suppressed.
    let delay = Duration::from_millis(1100);
    std::thread::sleep(delay); // The test waits for time itself.
    offer(&mut open(&server, "127.0.0.1", ""), 1);
    let left_out = |line: &str| {
        let (_, more) = line.split_once("refused")?.1.split_once("more=")?;
        more.split_whitespace().next()?.parse::<usize>().ok()
    };
    until(|| {
        let log = server.binary.log();
        log.lines().filter_map(left_out).sum::<usize>() > 300
    });
    let most = 100 + seconds as usize + 3;
    assert!(refused() <= most, "{} lines, {most} at most", refused());
}
