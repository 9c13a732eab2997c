//! The CPU time of the server's part of TLS with `ring` and with `aws-lc-rs`: handshakes in full
//! and resumed, and records that are written and read. Without sockets.
//!
//! Rounds alternate between the providers. Prints medians (lowest–highest) in microseconds.

use std::{io::Write as _, sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs, ring},
    pki_types::{PrivateKeyDer, ServerName},
    server::ProducesTickets,
};

const ROUNDS: usize = 9;
const HANDSHAKES: usize = 300;
const RECORDS: usize = 20_000;

fn main() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let providers = [
        ("ring", ring::default_provider(), ring::Ticketer::new()),
        (
            "aws-lc-rs",
            aws_lc_rs::default_provider(),
            aws_lc_rs::Ticketer::new(),
        ),
        // Without the hybrid of X25519 and ML-KEM, which `ring` does not have.
        (
            "aws-lc-rs, X25519",
            without_hybrid(),
            aws_lc_rs::Ticketer::new(),
        ),
    ];
    let servers = providers
        .map(|(name, provider, tickets)| (name, server(provider, tickets.unwrap(), &issued)));
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    for (unit, measure) in UNITS {
        let mut costs = vec![Vec::new(); servers.len()];
        for round in 0..ROUNDS {
            for at in 0..servers.len() {
                let at = (at + round) % servers.len();
                costs[at].push(measure(&servers[at].1, &roots));
            }
        }
        for ((name, _), mut own) in servers.iter().zip(costs) {
            own.sort_by(f64::total_cmp);
            let (low, high) = (own[0], own[ROUNDS - 1]);
            println!(
                "{unit}, {name}: {:.2} ({low:.2}–{high:.2}) µs",
                own[ROUNDS / 2]
            );
        }
    }
}

type Measure = fn(&Arc<ServerConfig>, &RootCertStore) -> f64;

const UNITS: [(&str, Measure); 6] = [
    ("full handshake", |server, roots| {
        handshakes(server, &client(roots, false))
    }),
    ("resumed handshake", |server, roots| {
        handshakes(server, &client(roots, true))
    }),
    ("record of 128 bytes written", |server, roots| {
        written(server, roots, 128)
    }),
    ("record of 16 KiB written", |server, roots| {
        written(server, roots, 16 * 1024)
    }),
    ("record of 128 bytes read", |server, roots| {
        read(server, roots, 128)
    }),
    ("record of 16 KiB read", |server, roots| {
        read(server, roots, 16 * 1024)
    }),
];

fn handshakes(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> f64 {
    // The first handshake has the ticket of the next one.
    connect(server, client);
    let spent: Duration = (0..HANDSHAKES).map(|_| connect(server, client).2).sum();
    spent.as_secs_f64() * 1e6 / HANDSHAKES as f64
}

fn written(server: &Arc<ServerConfig>, roots: &RootCertStore, bytes: usize) -> f64 {
    let (mut server, _, _) = connect(server, &client(roots, false));
    let (payload, mut output) = (vec![b'x'; bytes], Vec::new());
    let start = now();
    for _ in 0..RECORDS {
        server.writer().write_all(&payload).unwrap();
        output.clear();
        server.write_tls(&mut output).unwrap();
    }
    (now() - start).as_secs_f64() * 1e6 / RECORDS as f64
}

fn read(server: &Arc<ServerConfig>, roots: &RootCertStore, bytes: usize) -> f64 {
    let (mut server, mut client, _) = connect(server, &client(roots, false));
    let (payload, mut sent, mut text) = (vec![b'x'; bytes], Vec::new(), vec![0; bytes]);
    let mut spent = Duration::ZERO;
    for _ in 0..RECORDS / 10 {
        client.writer().write_all(&payload).unwrap();
        sent.clear();
        client.write_tls(&mut sent).unwrap();
        let start = now();
        let mut input = &sent[..];
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server.process_new_packets().unwrap();
        }
        std::io::Read::read_exact(&mut server.reader(), &mut text).unwrap();
        spent += now() - start;
    }
    spent.as_secs_f64() * 1e7 / RECORDS as f64
}

/// Returns both ends of a connection, and the CPU time of the server's end.
fn connect(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> (ServerConnection, ClientConnection, Duration) {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let start = now();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut spent = now() - start;
    loop {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        if flight.is_empty() {
            return (server, client, spent);
        }
        let start = now();
        let (mut input, mut answer) = (&flight[..], Vec::new());
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server.process_new_packets().unwrap();
        }
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        spent += now() - start;
        let mut input = &answer[..];
        while !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

fn without_hybrid() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

fn server(
    provider: CryptoProvider,
    tickets: Arc<dyn ProducesTickets>,
    issued: &rcgen::CertifiedKey<rcgen::KeyPair>,
) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    config.ticketer = tickets;
    config.send_tls13_tickets = 1;
    Arc::new(config)
}

fn client(roots: &RootCertStore, resumes: bool) -> Arc<ClientConfig> {
    // This provider has all groups, so that each server chooses the one that it prefers.
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.resumption = match resumes {
        true => Resumption::in_memory_sessions(8),
        false => Resumption::disabled(),
    };
    Arc::new(config)
}
