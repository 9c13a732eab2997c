//! Publishing over HTTP. The binary runs on one core. On another core, kept-alive connections send
//! one request after the other, and clients receive the published events, one for each request.
//!
//! `cargo bench --bench requests` publishes with `POST /api/v1/emit`, and with `POST
//! /api/v1/notifications`, which are stored in SQLite, or with `-- postgres` in a private
//! PostgreSQL that waits for the disk. `emit` or `notifications` after `--` selects one of them;
//! numbers are the connections and the seconds. The store is in `TMPDIR`, which must be on a disk.
//! Not a criterion bench, because it makes one run with a fixed amount of work and prints
//! percentiles.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

#[path = "../support/binary.rs"]
mod binary;
#[path = "../../tests/support/broker.rs"]
mod broker;
#[path = "../../tests/support/port.rs"]
mod port;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[path = "../support/processor.rs"]
mod processor;

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use binary::{Server, token};
use futures_util::{SinkExt as _, StreamExt as _};
use postgres::Postgres;
use rustix::process::getpid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinSet, LocalSet},
};
use tokio_tungstenite::{connect_async, tungstenite::Message};

/// A route that publishes, and the event that a client receives for each request.
struct Case {
    name: &'static str,
    route: &'static str,
    body: fn(user: usize) -> String,
    replies: &'static str,
}

const CASES: [Case; 2] = [
    Case {
        name: "emit",
        route: "/api/v1/emit",
        body: |user| {
            let text = "x".repeat(64);
            format!(r#"{{"event":"news","users":["user-{user}"],"args":["{text}"]}}"#)
        },
        replies: "42[\"news\",",
    },
    Case {
        name: "notifications",
        route: "/api/v1/notifications",
        body: |user| {
            let text = "x".repeat(64);
            format!(
                r#"{{"userId":"user-{user}","type":"info","priority":"urgent","title":"T","message":"{text}"}}"#
            )
        },
        replies: "\"notificationId\":",
    },
];

/// The number of clients, each of its own user. Each may have 1,000 unacknowledged notifications.
const USERS: usize = 200;
const WARM_UP: Duration = Duration::from_secs(2);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|one| one == word);
    if !has("--bench") {
        println!("requests: measured by `cargo bench --bench requests` only");
        return;
    }
    let mut numbers = words.iter().filter_map(|word| word.parse().ok());
    let (connections, seconds) = (numbers.next().unwrap_or(32), numbers.next().unwrap_or(10));
    let cores = processor::cores();
    processor::pin(getpid(), &cores.generator);
    let database = has("postgres").then(Postgres::start_durable);
    let store = database.as_ref().map(|database| {
        for process in database.processes() {
            processor::pin(process, &cores.database);
        }
        database.database()
    });
    println!("{connections} connections for {seconds} s, {USERS} clients");
    println!(
        "| route | requests/s | answered p50, p99 ms | server cores | CPU µs/request | events short |\n|---|---|---|---|---|---|"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for case in &CASES {
        if has(case.name) || !CASES.iter().any(|case| has(case.name)) {
            let store = store.as_deref().unwrap_or("sqlite:requests.db");
            let server = Server::start_with(store, &cores.server, &SETTINGS);
            let played = play(&server, case, connections, seconds as u64);
            LocalSet::new().block_on(&runtime, played);
        }
    }
}

const SETTINGS: [(&str, &str); 2] = [
    ("ROOMCAST_NOTIFICATIONS__PER_USER", "1000"),
    ("ROOMCAST_NOTIFICATIONS__ON_CONNECT", "true"),
];

async fn play(server: &Server, case: &'static Case, connections: usize, seconds: u64) {
    let replies = Rc::new(Cell::new(0));
    for user in 0..USERS {
        let stream = connect(server.address(), user).await;
        tokio::task::spawn_local(listen(stream, case.replies, Rc::clone(&replies)));
    }
    let bearer = token(&["--sub", "backend", "--role", "service"]);
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs(seconds);
    let mut publishers = JoinSet::new();
    for publisher in 0..connections {
        let requests: Vec<String> = (publisher..publisher + USERS)
            .map(|user| request(case, user % USERS, &bearer))
            .collect();
        let stream = TcpStream::connect(server.address()).await.unwrap();
        publishers.spawn_local(publish(stream, requests, end));
    }
    let worked = || processor::worked(&[server.process()]);
    tokio::time::sleep_until(start.into()).await;
    let before = worked();
    tokio::time::sleep_until(end.into()).await;
    let cpu = worked() - before;
    let times: Vec<_> = publishers.join_all().await.into_iter().flatten().collect();
    let deadline = Instant::now() + DELIVERY_TIMEOUT;
    while replies.get() < times.len() && Instant::now() < deadline {
        // The polling interval.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut measured: Vec<Duration> = times
        .iter()
        .filter(|(sent, _)| *sent >= start)
        .map(|(_, took)| *took)
        .collect();
    measured.sort_unstable();
    let at = |part: f64| measured[(measured.len() as f64 * part) as usize].as_secs_f64() * 1e3;
    let count = measured.len() as f64;
    println!(
        "| {} | {:.0} | {:.1}, {:.1} | {:.2} | {:.0} | {} |",
        case.name,
        count / seconds as f64,
        at(0.5),
        at(0.99),
        cpu / seconds as f64,
        cpu / count * 1e6,
        times.len() as i64 - replies.get() as i64,
    );
}

/// The maximum time from a response to the arrival of its event.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

fn request(case: &Case, user: usize, bearer: &str) -> String {
    let body = (case.body)(user);
    format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        case.route,
        body.len()
    )
}

/// Sends these requests in rotation, each after the response to the previous one. Returns the start
/// and the duration of each.
async fn publish(
    mut stream: TcpStream,
    requests: Vec<String>,
    end: Instant,
) -> Vec<(Instant, Duration)> {
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    let mut answer = Vec::new();
    for request in requests.iter().cycle() {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        stream.write_all(request.as_bytes()).await.unwrap();
        answer.clear();
        while !is_whole(&answer) {
            let read = stream.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
        }
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 20"), "{text}");
        times.push((sent, sent.elapsed()));
    }
    times
}

/// Returns whether a response has arrived with its body.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
    answer.len() >= end + 4 + length.expect("answers have a length")
}

type Stream = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

async fn connect(address: SocketAddr, user: usize) -> Stream {
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let (mut stream, _) = connect_async(url).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let token = token(&["--sub", &format!("user-{user}")]);
    let enter = format!("40{{\"token\":\"{token}\"}}");
    stream.send(Message::text(enter)).await.unwrap();
    let connected = stream.next().await.unwrap().unwrap();
    assert!(connected.to_text().unwrap().starts_with("40"));
    stream
}

/// Counts the received events for as long as the run lasts.
async fn listen(mut stream: Stream, pattern: &'static str, replies: Rc<Cell<usize>>) {
    while let Some(Ok(message)) = stream.next().await {
        let Ok(text) = message.to_text() else {
            continue;
        };
        if text == "2" {
            stream.send(Message::text("3")).await.unwrap();
        }
        replies.set(replies.get() + text.matches(pattern).count());
    }
}
