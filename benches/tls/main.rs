//! TLS: what a delivery, an echo, a connect, an idle connection and a short connection cost.
//!
//! Beside the server runs a bare loop over epoll and `rustls` that does the same exchanges. With
//! their programs installed, Node with `socket.io` and nginx before the server are measured too.
//! All servers run in their own process, and rounds alternate between them. The cost is the CPU
//! time of the server's threads, which does not grow while another process has the core.
//!
//! `cargo bench --bench tls -- SCENARIO...` measures only these scenarios. `TLS_ROUNDS` and
//! `TLS_SERVERS` (`roomcast,loop,loop128,node,nginx`) change the plan. `loop128` chooses the same
//! cipher suite as Roomcast.

#![allow(
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

mod bare;
mod client;
mod process;

#[path = "../support/mod.rs"]
mod support;

use std::io::Read as _;

use client::{Client, Trust};
use process::Process;
use roomcast::{Io, Server, service::Tls};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The arguments with which this program runs as a server.
const SERVE: &str = "serve-for-the-tls-bench";
const SERVE_PLAIN: &str = "serve-plain-for-the-tls-bench";
const SERVE_BARE: &str = "serve-bare-for-the-tls-bench";
const SERVE_BARE_128: &str = "serve-bare-with-aes-128-for-the-tls-bench";

const MEMBERS: usize = 100;
/// The bytes of the payload of an event.
const PAYLOAD: usize = 128;
/// The broadcasts in flight in the scenario `sat`.
const WINDOW: usize = 16;

struct Plan {
    rounds: usize,
    broadcasts: usize,
    echoes: usize,
    connects: usize,
    idle: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mode = |name: &str| arguments.iter().any(|argument| argument == name);
    if mode(SERVE) {
        return serve(true);
    }
    if mode(SERVE_PLAIN) {
        return serve(false);
    }
    if mode(SERVE_BARE) {
        return bare::serve(false);
    }
    if mode(SERVE_BARE_128) {
        return bare::serve(true);
    }
    process::allow_files();
    // `cargo test --benches` also runs this; then a handful of clients shows that it works.
    let plan = match mode("--bench") {
        true => Plan {
            rounds: number("TLS_ROUNDS").unwrap_or(5),
            broadcasts: 320,
            echoes: 5000,
            connects: 300,
            idle: 1000,
        },
        false => Plan {
            rounds: 1,
            broadcasts: WINDOW,
            echoes: 5,
            connects: 5,
            idle: 10,
        },
    };
    let wanted: Vec<&str> = arguments[1..]
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    process::issue(folder.path());
    let trust = Trust::new(folder.path());
    let servers = std::env::var("TLS_SERVERS").unwrap_or_else(|_| "roomcast,loop".to_owned());
    let servers: Vec<Process> = servers
        .split(',')
        .map(|name| Process::start(name, folder.path()))
        .collect();
    for scenario in SCENARIOS {
        if wanted.is_empty() || wanted.contains(&scenario.name) {
            measure(scenario, &servers, &trust, &plan);
        }
    }
}

struct Scenario {
    name: &'static str,
    unit: &'static str,
    /// Returns the cost of a unit.
    run: fn(&Process, &Trust, &Plan) -> f64,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "idle",
        unit: "KiB per connection",
        run: idle,
    },
    Scenario {
        name: "fan",
        unit: "CPU µs per delivery",
        run: |server, trust, plan| fan(server, trust, plan, 1),
    },
    Scenario {
        name: "sat",
        unit: "CPU µs per delivery",
        run: |server, trust, plan| fan(server, trust, plan, WINDOW),
    },
    Scenario {
        name: "echo",
        unit: "CPU µs per echo",
        run: echo,
    },
    Scenario {
        name: "connect",
        unit: "CPU µs per connect",
        run: |server, trust, plan| connect(server, &trust.without_resumption(), plan, false),
    },
    Scenario {
        name: "resume",
        unit: "CPU µs per connect",
        run: |server, trust, plan| connect(server, &trust.with_resumption(), plan, false),
    },
    Scenario {
        name: "churn",
        unit: "CPU µs per connection",
        run: |server, trust, plan| connect(server, &trust.without_resumption(), plan, true),
    },
];

/// Measures all servers in turn, and prints medians and the medians of the ratios of the rounds.
fn measure(scenario: &Scenario, servers: &[Process], trust: &Trust, plan: &Plan) {
    let mut costs = vec![Vec::new(); servers.len()];
    for round in 0..plan.rounds {
        for at in 0..servers.len() {
            // Each round begins with another server.
            let at = (at + round) % servers.len();
            costs[at].push((scenario.run)(&servers[at], trust, plan));
        }
    }
    let bare = servers.iter().position(|server| server.name == "loop");
    for (server, own) in servers.iter().zip(&costs) {
        let (low, high) = (own.iter(), own.iter());
        let low = low.copied().fold(f64::INFINITY, f64::min);
        let high = high.copied().fold(0.0, f64::max);
        let ratio = bare.map(|bare| {
            let pairs = own.iter().zip(&costs[bare]).map(|(own, bare)| own / bare);
            median(pairs.collect())
        });
        println!(
            "tls/{}/{}: {:.2} ({low:.2}–{high:.2}) {}, {:.2} of the loop",
            scenario.name,
            server.name,
            median(own.clone()),
            scenario.unit,
            ratio.unwrap_or(f64::NAN),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn fan(server: &Process, trust: &Trust, plan: &Plan, window: usize) -> f64 {
    let trust = trust.without_resumption();
    let room = format!("room{}", std::process::id());
    let mut members: Vec<Client> = (0..MEMBERS)
        .map(|_| {
            let mut client = client::connect(server.address, &trust);
            client.join(&room);
            client
        })
        .collect();
    let mut sender = client::connect(server.address, &trust);
    let payload = "x".repeat(PAYLOAD);
    let event = format!("42[\"bcast\",\"{room}\",\"{payload}\"]");
    let mut round = |broadcasts: usize| {
        for _ in 0..broadcasts / window {
            for _ in 0..window {
                sender.send(&event);
            }
            for member in &mut members {
                for _ in 0..window {
                    assert!(member.receive().starts_with(b"42[\"msg\""));
                }
            }
        }
    };
    round(WINDOW);
    let before = server.cpu();
    round(plan.broadcasts);
    let spent = server.cpu() - before;
    spent * 1e6 / (plan.broadcasts * MEMBERS) as f64
}

fn echo(server: &Process, trust: &Trust, plan: &Plan) -> f64 {
    let mut client = client::connect(server.address, &trust.without_resumption());
    let event = format!("421[\"echo\",\"{}\"]", "x".repeat(PAYLOAD));
    let mut round = |count: usize| {
        for _ in 0..count {
            client.send(&event);
            assert!(client.receive().starts_with(b"431["));
        }
    };
    round(plan.echoes / 10);
    let before = server.cpu();
    round(plan.echoes);
    (server.cpu() - before) * 1e6 / plan.echoes as f64
}

fn connect(server: &Process, trust: &Trust, plan: &Plan, closes: bool) -> f64 {
    // The first connection has the ticket of the others.
    drop(client::connect(server.address, trust));
    let before = server.cpu();
    let mut held = Vec::new();
    for _ in 0..plan.connects {
        let client = client::connect(server.address, trust);
        match closes {
            true => client.close(),
            false => held.push(client),
        }
    }
    let spent = server.cpu() - before;
    drop(held);
    spent * 1e6 / plan.connects as f64
}

fn idle(server: &Process, trust: &Trust, plan: &Plan) -> f64 {
    let trust = trust.without_resumption();
    let connect = |count: usize| -> Vec<Client> {
        let clients = (0..count).map(|_| client::connect(server.address, &trust));
        clients.collect()
    };
    // The first clients cause the shared allocations.
    let first = connect(plan.idle / 10);
    process::settle();
    let before = server.resident();
    let mut held = connect(plan.idle);
    for client in &mut held {
        client.join("idle");
    }
    process::settle();
    let each = server.resident().saturating_sub(before) as f64 / plan.idle as f64 / 1024.0;
    drop((first, held));
    each
}

/// Serves until the measuring process ends.
fn serve(encrypted: bool) {
    let io: Io = support::io_with(support::quiet());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let server = runtime
        .block_on(Server::new(io).bind("127.0.0.1:0"))
        .expect("a free port");
    let server = match encrypted {
        true => server.tls(Tls::from_files("cert.pem", "key.pem").expect("a certificate")),
        false => server,
    };
    println!("{}", server.local_addrs()[0]);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    runtime.block_on(server.run());
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}
