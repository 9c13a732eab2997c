//! Prices that a service publishes far faster than people can read. The binary runs on one core. On
//! another core, a service publishes with `POST /api/v1/prices`, and clients follow all symbols,
//! some of them slowly.
//!
//! `cargo bench --bench prices` publishes 10,000 prices a second in batches of 100 symbols for 30
//! seconds to 1,000 clients. 900 clients read everything, 50 read 4 KiB a second, and 50 read
//! nothing before the end. Numbers after `--` are the seconds, the clients that read everything,
//! and those that do not. `quick` makes a short run, to test that it works.
//!
//! The price in a payload is the time at which it was due, in microseconds, so that a late service
//! or generator hides nothing. At the end, every client reads the rest, and must have the last
//! price of each symbol. The store (SQLite) is in `TMPDIR`, which must be on a disk. Not a
//! criterion bench, because it makes one run with a fixed amount of work and prints percentiles.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/processor.rs"]
mod processor;

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use binary::{Server, token};
use rustix::process::getpid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::{JoinSet, LocalSet},
    time::{MissedTickBehavior, interval_at, sleep, timeout},
};

/// The number of prices in a batch, one for each symbol.
const SYMBOLS: usize = 100;
const BATCHES_PER_SECOND: u64 = 100;
/// The time before the measurement.
const WARM_UP: Duration = Duration::from_secs(2);
/// The maximum time that a client waits at the end for events in flight.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The receive buffer of a slow client, in bytes.
const SMALL_BUFFER: u32 = 4096;

/// Clients that do not read must stay connected, and would miss pings.
const SETTINGS: [(&str, &str); 2] = [
    ("ROOMCAST_ENGINE__PING_INTERVAL", "1h"),
    ("ROOMCAST_ENGINE__WRITE_TIMEOUT", "1h"),
];

/// The reading behaviour of a client while prices are published.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    All,
    /// Reads 4 KiB a second.
    Little,
    Nothing,
}

/// State that all clients share.
struct Run {
    start: Instant,
    /// The end of the measured reading.
    end: Instant,
    /// The last published price.
    last: Cell<u64>,
    /// The number of prices per delay, in tenths of a millisecond. The delay is from when a price
    /// was due to its arrival at a client that reads everything.
    times: RefCell<Vec<u64>>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|one| one == word);
    if !has("--bench") {
        println!("prices: measured by `cargo bench --bench prices` only");
        return;
    }
    let default = if has("quick") {
        [5, 20, 10]
    } else {
        [30, 900, 100]
    };
    let mut numbers = words.iter().filter_map(|word| word.parse().ok());
    let [seconds, healthy, slow] = default.map(|default| numbers.next().unwrap_or(default));
    let cores = processor::cores();
    processor::pin(getpid(), &cores.generator);
    let server = Server::start_with("sqlite:prices.db", &cores.server, &SETTINGS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, play(&server, seconds as u64, healthy, slow));
}

async fn play(server: &Server, seconds: u64, healthy: usize, slow: usize) {
    let subscriber = token(&["--sub", "subscriber"]);
    let mut connected = Vec::new();
    for n in 0..healthy + slow {
        let reading = match n {
            n if n < healthy => Reading::All,
            n if n % 2 == 0 => Reading::Little,
            _ => Reading::Nothing,
        };
        let client = Client::connect(server.address(), &subscriber, reading).await;
        connected.push((client, reading));
    }
    let start = Instant::now();
    let run = Rc::new(Run {
        start,
        end: start + WARM_UP + Duration::from_secs(seconds),
        last: Cell::new(0),
        times: RefCell::new(vec![0; 1 << 20]),
    });
    let mut clients = JoinSet::new();
    for (client, reading) in connected {
        let run = Rc::clone(&run);
        clients.spawn_local(async move { (reading, client.follow(&run, reading).await) });
    }
    let resident = || resident_mebibytes(server);
    let worked = || processor::worked(&[server.process()]);
    let first = resident();
    let publisher = tokio::task::spawn_local(publish(server.address(), Rc::clone(&run)));
    sleep(WARM_UP).await;
    let before = worked();
    sleep(Duration::from_secs(seconds) / 2).await;
    let half = resident();
    let (published, refused, late) = publisher.await.unwrap();
    let (cpu, last) = (worked() - before, resident());
    let (mut short_healthy, mut short_slow, mut updates) = (0, 0, 0);
    while let Some(ended) = clients.join_next().await {
        let (reading, (has_all, count)) = ended.unwrap();
        updates += count;
        match reading {
            Reading::All => short_healthy += usize::from(!has_all),
            Reading::Little | Reading::Nothing => short_slow += usize::from(!has_all),
        }
    }
    let (p50, p99, max) = run.quantiles();
    let rate = published as f64 / (WARM_UP.as_secs_f64() + seconds as f64);
    println!(
        "{healthy} clients that read all and {slow} that do not, {SYMBOLS} symbols, {seconds} s"
    );
    println!(
        "| prices/s | batches refused | batches sent late p99 ms | updates told to all clients | at those that read all p50, p99, max ms (goal: p99 < 100) | server cores | resident MiB at the start, half, end | without the last price: that read all, slow |\n\
         |---|---|---|---|---|---|---|---|"
    );
    println!(
        "| {rate:.0} | {refused} | {late:.1} | {updates} | {p50:.1}, {p99:.1}, {max:.1} | {:.2} | {first:.1}, {half:.1}, {last:.1} | {short_healthy}, {short_slow} |",
        cpu / seconds as f64,
    );
}

impl Run {
    fn micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn note(&self, due: u64) {
        let now = self.micros();
        if due < WARM_UP.as_micros() as u64 {
            return;
        }
        let mut times = self.times.borrow_mut();
        let slot = (now.saturating_sub(due) / 100) as usize;
        let most = times.len() - 1;
        times[slot.min(most)] += 1;
    }

    /// Returns quantiles in milliseconds.
    fn quantiles(&self) -> (f64, f64, f64) {
        let times = self.times.borrow();
        let all: u64 = times.iter().sum();
        let at = |part: f64| {
            let needed_count = (all as f64 * part).ceil() as u64;
            let mut seen = 0;
            let slot = times.iter().position(|count| {
                seen += count;
                seen >= needed_count.max(1)
            });
            slot.map_or(f64::NAN, |slot| (slot + 1) as f64 / 10.0)
        };
        (at(0.5), at(0.99), at(1.0))
    }
}

/// Publishes until the end. Returns the number of accepted prices, of refused batches, and the
/// delay of batches (p99, ms).
async fn publish(address: SocketAddr, run: Rc<Run>) -> (u64, u64, f64) {
    let bearer = token(&["--sub", "backend", "--role", "service"]);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let period = Duration::from_secs(1) / BATCHES_PER_SECOND as u32;
    let mut due = interval_at(Instant::now().into(), period);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut taken, mut refused, mut late, mut answer) = (0, 0, Vec::new(), Vec::new());
    loop {
        let at = due.tick().await.into_std();
        if at >= run.end {
            break;
        }
        late.push(at.elapsed());
        let price = (at - run.start.min(at)).as_micros().max(1) as u64;
        let prices: Vec<String> = (0..SYMBOLS)
            .map(|n| format!(r#"{{"symbol":"S{n:02}","price":{price}}}"#))
            .collect();
        let body = format!(r#"{{"prices":[{}]}}"#, prices.join(","));
        let request = format!(
            "POST /api/v1/prices HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        answer.clear();
        while !is_whole(&answer) {
            let read = stream.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
        }
        if answer.starts_with(b"HTTP/1.1 200") {
            taken += SYMBOLS as u64;
            run.last.set(price);
        } else {
            refused += 1;
        }
    }
    late.sort_unstable();
    let p99 = late[(late.len() - 1) * 99 / 100].as_secs_f64() * 1e3;
    (taken, refused, p99)
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

/// A client that parses frames directly in its buffer. A generator that decoded every frame would
/// dominate the measurement.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The index at which the next frame begins.
    begin: usize,
    /// The last price of each symbol.
    last: Vec<u64>,
    updates: u64,
}

impl Client {
    async fn connect(address: SocketAddr, token: &str, reading: Reading) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if reading != Reading::All {
            socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
        }
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self {
            stream,
            buffer: Vec::new(),
            begin: 0,
            last: vec![0; SYMBOLS],
            updates: 0,
        };
        let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.stream.write_all(upgrade.as_bytes()).await.unwrap();
        while client.begin == 0 {
            client.read(1024).await;
            let end = client
                .buffer
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n");
            client.begin = end.map_or(0, |end| end + 4);
        }
        client.until(b"0{").await;
        client.send(&format!(r#"40{{"token":"{token}"}}"#)).await;
        client.until(b"40{").await;
        let symbols: Vec<String> = (0..SYMBOLS).map(|n| format!("\"S{n:02}\"")).collect();
        let subscribe = format!(
            r#"420["subscribe:prices",{{"symbols":[{}]}}]"#,
            symbols.join(",")
        );
        client.send(&subscribe).await;
        client.until(b"430[{\"success\":true").await;
        client
    }

    /// Reads prices until the end and then the rest. Returns whether it has the last price of each
    /// symbol, and the number of updates.
    async fn follow(mut self, run: &Run, reading: Reading) -> (bool, u64) {
        while Instant::now() < run.end {
            let left = run.end.saturating_duration_since(Instant::now());
            match reading {
                Reading::All => {
                    let _ = timeout(left, self.read(64 << 10)).await;
                    self.take(Some(run));
                }
                Reading::Little => {
                    sleep(left.min(Duration::from_secs(1))).await;
                    let _ = timeout(left, self.read(4096)).await;
                    self.take(None);
                }
                Reading::Nothing => sleep(left).await,
            }
        }
        let is_timed = reading == Reading::All;
        loop {
            self.take(Some(run).filter(|_| is_timed));
            if self.last.iter().all(|last| *last == run.last.get()) {
                return (true, self.updates);
            }
            if timeout(DELIVERY_TIMEOUT, self.read(64 << 10))
                .await
                .is_err()
            {
                return (false, self.updates);
            }
        }
    }

    async fn read(&mut self, most: usize) {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        self.buffer.reserve(most);
        let mut limited = (&mut self.stream).take(most as u64);
        let read = limited.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "the server has closed the connection");
    }

    /// Returns the payload of the next frame, if it is complete.
    fn frame(&mut self) -> Option<std::ops::Range<usize>> {
        let rest = &self.buffer[self.begin..];
        let (head, length) = match *rest.get(1)? {
            126 => (
                4,
                usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?])),
            ),
            127 => panic!("a frame of more than 64 KiB"),
            length => (2, usize::from(length)),
        };
        let payload = self.begin + head..self.begin + head + length;
        if payload.end > self.buffer.len() {
            return None;
        }
        self.begin = payload.end;
        Some(payload)
    }

    async fn until(&mut self, start: &[u8]) {
        loop {
            while let Some(payload) = self.frame() {
                if self.buffer[payload].starts_with(start) {
                    return;
                }
            }
            self.read(64 << 10).await;
        }
    }

    /// Handles the prices that have arrived.
    fn take(&mut self, timed: Option<&Run>) {
        const BEGIN: &[u8] = b"42[\"price:update\",{\"symbol\":\"S";
        const BETWEEN: &[u8] = b"\",\"price\":";
        while let Some(payload) = self.frame() {
            let Some(rest) = self.buffer[payload].strip_prefix(BEGIN) else {
                continue;
            };
            let symbol = usize::from(rest[0] - b'0') * 10 + usize::from(rest[1] - b'0');
            let digits = rest[2 + BETWEEN.len()..].iter();
            let price = digits
                .take_while(|byte| byte.is_ascii_digit())
                .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
            assert!(price >= self.last[symbol], "an older price came later");
            self.last[symbol] = price;
            self.updates += 1;
            if let Some(run) = timed {
                run.note(price);
            }
        }
    }

    /// Sends a text, masked with zeros.
    async fn send(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap();
        let mut frame = vec![0x81];
        if length < 126 {
            frame.push(0x80 | length as u8);
        } else {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await.unwrap();
    }
}

fn resident_mebibytes(server: &Server) -> f64 {
    let status = format!("/proc/{}/status", server.process());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: f64 = line
        .unwrap()
        .trim()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    kibibytes / 1024.0
}
