//! Measures how a storm of bad tokens affects established clients. Goal: their p99 stays within 25
//! % or 1 ms.
//!
//! `cargo bench --bench storm` runs the real server in a separate process. Established clients send
//! requests at fixed times, whether or not earlier ones were answered. A second process connects
//! from many addresses with forged tokens. Phases with and without the storm alternate.

#![allow(missing_docs, clippy::indexing_slicing, reason = "a bench")]

use std::{
    env,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use roomcast::client::{Client, Socket};
use roomcast_protocol::websocket::{self, Opcode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    sync::{Semaphore, mpsc},
};

/// The parameters of the measurement; each field is an environment variable, such as
/// `STORM_CLIENTS`.
struct Plan {
    /// The number of established clients.
    clients: u64,
    /// Their requests per second, all together.
    requests: u64,
    /// The length of a phase, in seconds.
    seconds: u64,
    /// The number of phases of each kind for every rate.
    rounds: u64,
    /// The rates of bad tokens per second, used one after the other.
    rates: Vec<u64>,
    /// The number of addresses that they come from.
    addresses: u64,
}

impl Plan {
    fn read() -> Self {
        Self {
            clients: number("STORM_CLIENTS", 200),
            requests: number("STORM_ASKS", 1000),
            seconds: number("STORM_SECONDS", 10),
            rounds: number("STORM_ROUNDS", 3),
            rates: env::var("STORM_RATES")
                .unwrap_or_else(|_| "100,500,2000".into())
                .split(',')
                .map(|rate| rate.parse().expect("a number of tokens per second"))
                .collect(),
            addresses: number("STORM_ADDRESSES", 32),
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    if let Ok(target) = env::var("STORM_TARGET") {
        runtime().block_on(storm(target.parse().expect("an address"), &Plan::read()));
    } else if env::args().any(|argument| argument == "--bench") {
        runtime().block_on(measure(&Plan::read()));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts")
}

async fn measure(plan: &Plan) {
    println!(
        "{} clients, {} asks/s, {} phases of {} s each; times in µs; tokens from {} addresses",
        plan.clients, plan.requests, plan.rounds, plan.seconds, plan.addresses
    );
    println!(
        "guard    tokens/s  refused/s  turned away/s  log lines/s    p50 quiet  storm    p99 quiet  storm    p99 ratio"
    );
    // First the guard is disabled; then it blocks addresses whose credentials are refused
    // repeatedly.
    for (name, exempt) in [("off", "true"), ("on", "false")] {
        let server = Server::start(exempt);
        let clients = establish(server.address, plan).await;
        for &rate in &plan.rates {
            let (mut quiet, mut stormy) = (Vec::new(), Vec::new());
            let mut counts = TokenCounts::default();
            for _ in 0..plan.rounds {
                quiet.extend(send_requests(&clients, plan).await);
                let before = server.lines.load(Ordering::Relaxed);
                let child = Storm::start(server.address, rate);
                // The storm needs a moment to start.
                tokio::time::sleep(Duration::from_secs(1)).await;
                stormy.extend(send_requests(&clients, plan).await);
                counts.add(&child.end());
                counts.lines += server.lines.load(Ordering::Relaxed) - before;
            }
            counts.print(name, rate, plan, &mut quiet, &mut stormy);
        }
    }
}

/// Connects the measured clients, each with a conversation of its own to request.
async fn establish(address: SocketAddr, plan: &Plan) -> Vec<Arc<(Socket, Value)>> {
    let mut clients = Vec::new();
    for n in 0..plan.clients {
        let auth = json!({"name": format!("client {n}"), "guestKey": format!("client-{n:016}")});
        let client = Client::builder(format!("http://{address}")).auth(auth);
        let client = client.connect().await.expect("guests may enter");
        let new = json!({"title": "bench", "memberIds": []});
        let made: Value = client
            .emit_with_ack("create_conversation", (new,))
            .await
            .expect("an answer");
        let id = made.pointer("/conversation/id").expect("a conversation");
        clients.push(Arc::new((client, json!({"conversationId": id}))));
    }
    clients
}

/// Sends requests for one phase. Returns the latency of each response in microseconds.
async fn send_requests(clients: &[Arc<(Socket, Value)>], plan: &Plan) -> Vec<u64> {
    let (sender, mut times) = mpsc::channel((plan.requests * plan.seconds) as usize);
    let start = Instant::now();
    let interval = Duration::from_nanos(1_000_000_000 / plan.requests.max(1));
    let mut next_client = clients.iter().cycle();
    for n in 0..plan.requests * plan.seconds {
        tokio::time::sleep_until((start + interval * n as u32).into()).await;
        let client = Arc::clone(next_client.next().expect("there are clients"));
        let sender = sender.clone();
        tokio::spawn(async move {
            let sent_at = Instant::now();
            let (client, conversation) = &*client;
            let answer: Value = client
                .emit_with_ack("presence", (conversation,))
                .await
                .expect("established clients stay");
            assert_eq!(answer["success"], true, "{answer}");
            // The channel has room for all.
            let _ = sender.try_send(sent_at.elapsed().as_micros() as u64);
        });
    }
    drop(sender);
    let mut all = Vec::new();
    while let Some(time) = times.recv().await {
        all.push(time);
    }
    all
}

/// The outcomes of the tokens.
#[derive(Default)]
struct TokenCounts {
    refused: u64,
    dropped: u64,
    lines: u64,
}

impl TokenCounts {
    fn add(&mut self, line: &str) {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>());
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
        self.refused += next();
        self.dropped += next();
    }

    fn print(&self, guard: &str, rate: u64, plan: &Plan, quiet: &mut [u64], stormy: &mut [u64]) {
        let seconds = plan.rounds * (plan.seconds + 1);
        let at = |times: &mut [u64], part: f64| {
            times.sort_unstable();
            let last = times.len().saturating_sub(1);
            times
                .get((last as f64 * part) as usize)
                .copied()
                .unwrap_or_default()
        };
        let (before, during) = (at(quiet, 0.99), at(stormy, 0.99));
        let ratio = during as f64 / before.max(1) as f64;
        let result = if ratio <= 1.25 || during <= before + 1000 {
            "within"
        } else {
            "BEYOND"
        };
        println!(
            "{guard:<8} {rate:>8} {:>10} {:>14} {:>12} {:>12} {:>6} {before:>12} {during:>6} {ratio:>12.2}  {result}",
            self.refused / seconds,
            self.dropped / seconds,
            self.lines / seconds,
            at(quiet, 0.5),
            at(stormy, 0.5),
        );
    }
}

/// The real server, killed when this is dropped.
struct Server {
    process: Child,
    address: SocketAddr,
    /// The number of lines that it has logged.
    lines: Arc<AtomicU64>,
}

impl Server {
    fn start(exempts_loopback: &str) -> Self {
        let mut process = command("STORM_SERVER", env!("CARGO_BIN_EXE_roomcast"))
            .envs([
                ("ROOMCAST_LISTEN", "127.0.0.1:0"),
                ("ROOMCAST_STORE", "memory:"),
                ("ROOMCAST_PROFILE", "development"),
                ("ROOMCAST_AUTH__JWT__SECRET", SECRET),
                ("ROOMCAST_LIMITS__EXEMPT_LOOPBACK", exempts_loopback),
                // Established clients connect from one address, and send requests faster than
                // people do.
                ("ROOMCAST_LIMITS__CONNECTS", "0"),
                ("ROOMCAST_LIMITS__CONNECTIONS_PER_ADDRESS", "0"),
                ("ROOMCAST_LIMITS__REQUESTS_PER_SECOND", "0"),
                // The clients are guests, and create conversations.
                ("ROOMCAST_AUTH__ROLES__GUEST__INHERITS", "user"),
                ("NO_COLOR", "1"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let output = process.stdout.take().expect("it is a pipe");
        let mut log = BufReader::new(output).lines().map_while(Result::ok);
        let address = log.find_map(|line| {
            let (_, address) = line.split_once("listening on http://")?;
            address.split_whitespace().next()?.parse().ok()
        });
        let lines = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lines);
        std::thread::spawn(move || {
            for _ in log {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            process,
            address: address.expect("it says where it listens"),
            lines,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Creates a command with the prefix from the environment variable, such as `taskset -c 0`.
fn command(variable: &str, program: &str) -> Command {
    let before = env::var(variable).unwrap_or_default();
    let mut words = before.split_whitespace();
    match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    }
}

/// The process that sends bad tokens.
struct Storm(Child);

impl Storm {
    fn start(target: SocketAddr, rate: u64) -> Self {
        let program = env::current_exe().expect("this program has a path");
        let program = program.to_str().expect("its path is text");
        let process = command("STORM_CHILD", program)
            .env("STORM_TARGET", target.to_string())
            .env("STORM_RATE", rate.to_string())
            .stdout(Stdio::piped())
            .spawn();
        Self(process.expect("the storm starts"))
    }

    /// Waits for its end and returns its output.
    fn end(self) -> String {
        let output = self.0.wait_with_output().expect("the storm ends");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Sends bad tokens for one phase. Prints how many were refused, and how many connections were
/// turned away before.
async fn storm(target: SocketAddr, plan: &Plan) {
    let rate = number("STORM_RATE", 100);
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let in_flight = Arc::new(Semaphore::new(512));
    let start = Instant::now();
    let duration = Duration::from_secs(plan.seconds + 1);
    let mut offered = 0;
    while start.elapsed() < duration {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        for n in offered..due {
            // Tokens beyond the server's pace are skipped.
            let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() else {
                continue;
            };
            let (counts, from) = (Arc::clone(&counts), n % plan.addresses.max(1));
            tokio::spawn(async move {
                if let Ok(was_read) = offer(target, from, n).await {
                    counts[usize::from(!was_read)].fetch_add(1, Ordering::Relaxed);
                }
                drop(permit);
            });
        }
        offered = due;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let [refused, dropped] = [0, 1].map(|n: usize| counts[n].load(Ordering::Relaxed));
    println!("{refused} {dropped}");
}

/// Sends one token on its own connection. Returns `false` if the server refused the connection
/// before.
async fn offer(target: SocketAddr, from: u64, n: u64) -> std::io::Result<bool> {
    let socket = TcpSocket::new_v4()?;
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + from as u32);
    socket.bind(SocketAddr::new(IpAddr::V4(address), 0))?;
    let mut stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    let mut request = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let connect = format!(r#"40{{"token":"{}"}}"#, forged(n));
    let key = Some([1, 2, 3, 4]);
    websocket::encode_frame(
        &mut request,
        websocket::Fragment::Final,
        Opcode::Text,
        connect.as_bytes(),
        key,
    );
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    loop {
        if answer.windows(3).any(|part| part == b"44{") {
            return Ok(true);
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Ok(false);
        }
    }
}

/// Returns a token with a wrong signature, whose other parts the server must check first.
fn forged(n: u64) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "HS256", "typ": "JWT"}));
    let claims = part(json!({"sub": format!("mallory {n}"), "exp": 4_000_000_000_u64}));
    let signature = URL_SAFE_NO_PAD.encode([n as u8; 32]);
    format!("{header}.{claims}.{signature}")
}

const SECRET: &str = "a secret of at least thirty-two bytes";
