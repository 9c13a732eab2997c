//! Resident memory per connection, read from `/proc/<pid>/statm` of a server in a separate process.
//!
//! Not a criterion bench: it measures once and prints.

#![allow(
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

mod support;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use support::Client;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The argument with which this program runs as the server.
const SERVE: &str = "serve-for-the-memory-bench";
/// The number of messages that every client gets in a burst.
const BURST: usize = 20;

fn main() {
    allow_files();
    if std::env::args().any(|argument| argument == SERVE) {
        println!("{}", support::serve(support::io(), 1));
        // The server runs until the measuring process ends.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    // `cargo test --benches` also runs this; then ten clients show that it works.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let clients = if measuring { 2000 } else { 10 };
    websockets(clients);
    polling(clients / 2);
}

/// Measures idle WebSockets in a room, their cost after a burst, and the memory that remains after
/// they disconnect.
fn websockets(clients: usize) {
    let server = Server::start();
    let mut held = server.cost("idle_websocket_in_a_room", clients, || {
        let mut client = Client::connect(server.address);
        client.join("room");
        client
    });
    let idle = server.resident();
    let mut sender = Client::connect(server.address);
    let payload = "x".repeat(50_000);
    for _ in 0..BURST {
        sender.send(&format!("42[\"bcast\",\"room\",\"{payload}\"]"));
    }
    for client in &mut held {
        for _ in 0..BURST {
            client.receive();
        }
    }
    server.settle("after_a_burst", idle);
    drop((held, sender));
    server.settle("after_all_have_gone", server.empty);
}

/// Measures polling sessions, each with a pending poll on one connection and another kept-alive
/// connection.
fn polling(sessions: usize) {
    let server = Server::start();
    let held = server.cost("polling_session_with_two_connections", sessions, || {
        let mut posts = Http::connect(server.address);
        let open = posts.request("GET", "", "");
        let sid = format!("&sid={}", &open[9..29]);
        posts.request("POST", &sid, "40");
        let mut polls = Http::connect(server.address);
        assert!(polls.request("GET", &sid, "").starts_with("40{"));
        posts.request("POST", &sid, "420[\"join\",\"room\"]");
        assert!(polls.request("GET", &sid, "").starts_with("430["));
        polls.send("GET", &sid, "");
        (posts, polls)
    });
    drop(held);
}

struct Server {
    process: Child,
    address: SocketAddr,
    /// The resident bytes after the first clients have come and left. They cause the allocations
    /// that are made once.
    empty: usize,
}

impl Server {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut process = Command::new(program)
            .arg(SERVE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts again");
        let mut line = String::new();
        let output = process.stdout.take().expect("a pipe");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("an address");
        let address = line.trim().parse().expect("an address");
        let mut server = Self {
            process,
            address,
            empty: 0,
        };
        drop(
            (0..100)
                .map(|_| Client::connect(address))
                .collect::<Vec<_>>(),
        );
        std::thread::sleep(Duration::from_secs(1));
        server.empty = server.resident();
        server
    }

    /// Creates clients and prints the cost of each.
    fn cost<T>(&self, name: &str, clients: usize, make: impl Fn() -> T) -> Vec<T> {
        let before = self.resident();
        let held: Vec<T> = (0..clients).map(|_| make()).collect();
        let each = self.resident().saturating_sub(before) / clients;
        println!("memory/{name}: {each} bytes each, {clients} of them");
        held
    }

    /// Waits up to two seconds for memory to be freed, and prints by how much it exceeds `before`.
    fn settle(&self, name: &str, before: usize) {
        let start = Instant::now();
        while self.resident() > before && start.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let more = self.resident().saturating_sub(before);
        println!("memory/{name}: {more} bytes more than before ({before})");
    }

    /// Returns the resident bytes of the server.
    fn resident(&self) -> usize {
        let statm = format!("/proc/{}/statm", self.process.id());
        let statm = std::fs::read_to_string(statm).expect("Linux");
        let pages: usize = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse().ok())
            .expect("a number of pages");
        pages * rustix::param::page_size()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A kept-alive connection.
struct Http(TcpStream);

impl Http {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP option");
        Self(stream)
    }

    /// Sends a request of the size of a browser's request.
    fn send(&mut self, method: &str, sid: &str, body: &str) {
        let request = format!(
            "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: localhost\r\n\
             User-Agent: {agent}\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n\
             Accept-Language: en-US,en;q=0.9\r\nOrigin: http://localhost\r\n\
             Content-Length: {length}\r\n\r\n{body}",
            agent = "x".repeat(120),
            length = body.len()
        );
        self.0
            .write_all(request.as_bytes())
            .expect("the server reads");
    }

    /// Sends a request and returns the body of the response.
    fn request(&mut self, method: &str, sid: &str, body: &str) -> String {
        self.send(method, sid, body);
        let mut answer = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let n = self.0.read(&mut chunk).expect("the server answers");
            assert!(n > 0, "the server closed");
            answer.extend_from_slice(&chunk[..n]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.parse::<usize>().ok())?
            });
            if length == Some(body.len()) {
                return body.to_owned();
            }
        }
    }
}

/// Raises the limit of open files to its maximum.
fn allow_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the limit may be raised");
}
