//! Costs of joining and leaving a namespace: limits, log lines and webhooks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::credentials::open;
use crate::guard::{KEY, NOT_EXEMPT, Server as Guarded, signed, until};
use crate::server::{LOBBY, Server, UNLIMITED};
use crate::support::{Frame, RawClient};
use crate::trades::{Hook, Reply};

/// Joins until a join is refused, and returns the number of joins and the refusal.
fn join_until_refused(client: &mut RawClient, auth: &str) -> (usize, Value) {
    for joins in 0..1000 {
        client.send_text(format!("40{auth}"));
        match next_answer(client) {
            Some(answer) if answer.starts_with("40") => client.send_text("41"),
            Some(answer) => {
                let error = answer.strip_prefix("44").unwrap();
                return (joins, serde_json::from_str(error).unwrap());
            }
            None => panic!("closed after {joins} joins"),
        }
    }
    panic!("a thousand joins were admitted");
}

/// Returns the next answer to a CONNECT, or `None` if the connection ends.
fn next_answer(client: &mut RawClient) -> Option<String> {
    loop {
        match client.message() {
            Frame::Text(text) if text.starts_with("40") || text.starts_with("44") => {
                return Some(text);
            }
            Frame::Text(_) => {}
            Frame::Binary(_) | Frame::Close(_) | Frame::Ping(_) | Frame::Pong(_) => return None,
        }
    }
}

fn user(name: &str) -> String {
    let token = signed(&json!({"sub": name, "exp": 4_000_000_000_u64}));
    json!({ "token": token }).to_string()
}

fn assert_limited(refusal: &Value, longest: u64) {
    assert_eq!(refusal["data"]["code"], "RATE_LIMITED", "{refusal}");
    let wait = refusal["data"]["retryAfter"].as_u64().unwrap();
    assert!((1..=longest).contains(&wait), "{refusal}");
}

#[test]
fn connection_that_keeps_joining_is_refused_then_closed() {
    let server = Guarded::start(&[KEY]);
    let start = Instant::now();
    let mut client = open(&server, "127.0.0.1", "");
    let (joins, refusal) = join_until_refused(&mut client, "");
    let most = 60 + start.elapsed().as_secs() as usize + 1;
    assert!((60..=most).contains(&joins), "{joins} of {most}");
    assert_limited(&refusal, 1000);
    for _ in 0..200 {
        client.send_text("40");
    }
    let mut refused = 0;
    while let Some(answer) = next_answer(&mut client) {
        refused += usize::from(answer.starts_with("44"));
    }
    assert!(refused <= 101, "{refused}");
    assert!(server.metric("roomcast_joins_limited_total{by=\"connection\"}") > 100);
}

#[test]
fn joins_of_a_user_and_of_an_address_count_over_all_connections() {
    let limits = [
        ("ROOMCAST_LIMITS__JOINS_PER_USER", "6"),
        ("ROOMCAST_LIMITS__JOINS_PER_ADDRESS", "20"),
    ];
    let server = Guarded::start(&[KEY, NOT_EXEMPT, limits[0], limits[1]]);
    let mut client = open(&server, "127.0.0.2", "");
    let (joins, refusal) = join_until_refused(&mut client, &user("ann"));
    assert!((6..=7).contains(&joins), "{joins}");
    assert_limited(&refusal, 10_000);
    // The limit of a user spans connections and addresses.
    let mut other = open(&server, "127.0.0.3", "");
    let (joins, refusal) = join_until_refused(&mut other, &user("ann"));
    assert!(joins <= 1, "{joins}");
    assert_limited(&refusal, 10_000);
    // Seven or eight of the address's twenty joins are used up, including the refused one.
    let mut rest = 0;
    for name in ["bob", "carl", "dora", "eve"] {
        let mut client = open(&server, "127.0.0.2", "");
        rest += join_until_refused(&mut client, &user(name)).0;
    }
    assert!((8..=16).contains(&rest), "{rest}");
    assert!(server.metric("roomcast_joins_limited_total{by=\"address\"}") > 0);
    assert!(server.metric("roomcast_events_limited_total{class=\"joins\"}") > 0);
}

/// Enters with this payload. Returns the answer, and the offset of the event that follows.
fn enter(client: &mut RawClient, auth: &Value) -> Result<(Value, Value), Value> {
    client.send_text(format!("40{auth}"));
    let answer = next_answer(client).unwrap();
    if let Some(error) = answer.strip_prefix("44") {
        return Err(serde_json::from_str(error).unwrap());
    }
    let answer = serde_json::from_str(answer.strip_prefix("40").unwrap()).unwrap();
    let Frame::Text(event) = client.message() else {
        panic!("no event follows");
    };
    let event: Vec<Value> = serde_json::from_str(event.strip_prefix("42").unwrap()).unwrap();
    Ok((answer, event.last().unwrap().clone()))
}

#[test]
fn recovered_joins_count_for_their_user() {
    let server = Guarded::start(&[
        KEY,
        ("ROOMCAST_RECOVERY__ENABLED", "true"),
        ("ROOMCAST_LIMITS__JOINS_PER_USER", "6"),
    ]);
    let start = Instant::now();
    let mut auth: Value = serde_json::from_str(&user("ann")).unwrap();
    let mut client = open(&server, "127.0.0.1", "");
    let (first, mut offset) = enter(&mut client, &auth).unwrap();
    auth["pid"] = first["pid"].clone();
    let mut recovered = 0;
    let refusal = loop {
        assert!(recovered < 100, "no recovery is refused");
        auth["offset"] = offset;
        drop(client);
        client = open(&server, "127.0.0.1", "");
        match enter(&mut client, &auth) {
            Ok((answer, last)) => {
                assert_eq!(answer["sid"], first["sid"], "not recovered");
                offset = last;
            }
            Err(refusal) => break refusal,
        }
        recovered += 1;
    };
    let most = 6 + start.elapsed().as_secs() as usize / 10;
    assert!((5..=most).contains(&recovered), "{recovered} of {most}");
    assert_limited(&refusal, 10_000);
    assert!(server.metric("roomcast_events_limited_total{class=\"joins\"}") > 0);
}

#[test]
fn a_flood_of_joins_writes_its_burst_and_a_line_a_second() {
    let server = Guarded::start(&UNLIMITED);
    let start = Instant::now();
    let mut client = open(&server, "127.0.0.1", "");
    for _ in 0..500 {
        client.send_text("40");
        assert!(next_answer(&mut client).unwrap().starts_with("40"));
        client.send_text("41");
    }
    let lines = |server: &Guarded| {
        let log = server.binary.log();
        let is_connect_line = |line: &&str| line.contains(": connected socket=");
        log.lines().filter(is_connect_line).count()
    };
    until(|| lines(&server) >= 100);
    let delay = Duration::from_millis(1100);
    std::thread::sleep(delay); // What is waited for is the time itself.
    client.send_text("40");
    next_answer(&mut client).unwrap();
    client.send_text("41");
    let left_out = |line: &str| {
        let more = line.split_once("more=")?.1.split_whitespace().next()?;
        more.parse::<usize>().ok()
    };
    until(|| {
        let log = server.binary.log();
        log.lines().filter_map(left_out).sum::<usize>() > 800
    });
    let most = 100 + start.elapsed().as_secs() as usize + 1;
    assert!(lines(&server) <= most, "{} of {most}", lines(&server));
}

#[tokio::test]
async fn flood_of_one_user_does_not_delay_webhooks_of_other_users() {
    let hook = Hook::start(&[Reply::Answer(503, "")]);
    let url = hook.url();
    let server = Server::with(&[
        KEY,
        ("ROOMCAST_WEBHOOKS__URL", &url),
        ("ROOMCAST_WEBHOOKS__SECRET", "a secret of webhooks"),
        ("ROOMCAST_WEBHOOKS__EVENTS", "message,connect,disconnect"),
        ("ROOMCAST_WEBHOOKS__ALLOW_PRIVATE", "true"),
        ("ROOMCAST_WEBHOOKS__QUEUE", "100"),
        ("ROOMCAST_WEBHOOKS__BATCH", "1"),
        ("ROOMCAST_WEBHOOKS__RETRY_DELAY", "100ms"),
    ]);
    // The receiver accepts nothing, and a guest connects and disconnects.
    for _ in 0..100 {
        server.guest("Ann").await.disconnect().await;
    }
    let over_share = "roomcast_webhook_events_total{result=\"over_share\"}";
    let is_dropped = |count| count >= 100;
    server.binary.until_metric(over_share, is_dropped).await;
    let auth = serde_json::from_str(&user("bob")).unwrap();
    let mut bob = Client::connect(server.address(), &auth).await.unwrap();
    bob.must("join_conversation", json!(LOBBY)).await;
    let message = json!({"conversationId": LOBBY, "content": "it is stored"});
    bob.must("message", message).await;
    assert_eq!(
        server
            .metric("roomcast_webhook_events_total{result=\"dropped\"}")
            .await,
        0
    );

    hook.plan(Reply::Answer(200, ""));
    let is_limited = || {
        let requests = hook.requests();
        requests.iter().any(|body| body.contains("it is stored"))
    };
    let start = Instant::now();
    while !is_limited() {
        assert!(start.elapsed() < Duration::from_secs(60), "never reported");
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

#[tokio::test]
async fn limits_of_a_guest_survive_a_flood_of_other_users() {
    let server = Server::limited(&[
        KEY,
        ("ROOMCAST_LIMITS__USERS", "64"),
        ("ROOMCAST_LIMITS__JOINS_PER_USER", "0"),
    ]);
    let start = Instant::now();
    let mut taken = 0;
    for name in ["Ann", "Bob", "Carl", "Dora"] {
        let mut guest = server.guest(name).await;
        guest.must("join_conversation", json!(LOBBY)).await;
        while taken < 1000 {
            let message = json!({"conversationId": LOBBY, "content": "hi"});
            if guest.ask("message", message).await["success"] != true {
                break;
            }
            taken += 1;
        }
        guest.disconnect().await;
        // Each of these users has an entry of its own.
        for number in 0..200 {
            let auth = serde_json::from_str(&user(&format!("{name} {number}"))).unwrap();
            let mut other = Client::connect(server.address(), &auth).await.unwrap();
            other.must("join_conversation", json!(LOBBY)).await;
            other.disconnect().await;
        }
    }
    let most = 30 + start.elapsed().as_secs() as usize / 2 + 1;
    assert!((30..=most).contains(&taken), "{taken} of {most}");
}
