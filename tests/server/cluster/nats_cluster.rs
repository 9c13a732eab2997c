//! Servers connected by a cluster of three NATS servers, one of which is killed.

use std::{collections::BTreeMap, thread, time::Duration};

use async_nats::jetstream::{
    self,
    stream::{Config, StorageType, Stream},
};
use futures_util::TryStreamExt as _;
use roomcast::{
    Io,
    adapter::{Health, nats::Nats},
    metrics::Counter,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::quiet;
use crate::{
    local::{Local, text, until},
    nats_server::NatsServer,
    support::RawClient,
};

const KEY: &str = "replicated";

/// Creates the stream with a replica on each NATS server, and inspects its consumers.
struct Operator {
    runtime: Runtime,
    stream: Stream,
}

impl Operator {
    fn new(urls: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let urls: Vec<_> = urls.split(',').collect();
        let stream = runtime.block_on(async {
            let client = async_nats::connect(&*urls).await.unwrap();
            let context = jetstream::new(client);
            loop {
                let config = Config {
                    name: format!("roomcast-{KEY}"),
                    subjects: vec![format!("roomcast.{KEY}.>")],
                    storage: StorageType::Memory,
                    num_replicas: 3,
                    ..Config::default()
                };
                // The three servers have to find each other before they accept this.
                match context.create_stream(config).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::time::sleep(PACE).await, // Poll interval.
                }
            }
        });
        Self { runtime, stream }
    }

    /// Returns the names of the consumers, with the NATS server of each.
    fn consumers(&self) -> BTreeMap<String, String> {
        let consumers: Vec<_> = loop {
            let consumers = self.stream.consumers().try_collect();
            match self.runtime.block_on(consumers) {
                Ok(consumers) => break consumers,
                // The cluster may be electing a leader, also after the machine has stalled.
                Err(_) => thread::sleep(PACE), // Poll interval.
            }
        };
        let at = consumers.into_iter().filter_map(|consumer| {
            let leader = consumer.cluster?.leader?;
            Some((consumer.name, leader))
        });
        at.collect()
    }

    /// Starts a Roomcast server that reads the stream. Returns also the NATS server that delivers
    /// to it, which may differ from the server it is connected to.
    fn serve(&self, urls: &str) -> (Local, String) {
        let before = self.consumers();
        let adapter = Nats::new(urls).unwrap().key(KEY);
        let server = Local::serve(quiet(Io::builder().adapter(adapter)));
        until(|| is_ready(&server));
        loop {
            let now = self.consumers().into_iter();
            let mut new = now.filter(|(name, _)| !before.contains_key(name));
            if let Some((_, host)) = new.next() {
                return (server, host);
            }
            thread::sleep(PACE); // Poll interval.
        }
    }
}

fn is_ready(server: &Local) -> bool {
    server.io.adapter_health() == Some(Health::Ready)
}

/// Returns the number of clients of a NATS server.
fn clients(port: u16) -> u64 {
    let answer = RawClient::connect(([127, 0, 0, 1], port).into()).get("/connz");
    let report: Value = serde_json::from_str(&answer.body).unwrap();
    report["num_connections"].as_u64().unwrap()
}

/// Returns the numbers of the events `n` that a client receives before the event `end`.
fn numbers(client: &mut RawClient) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let packet = text(client);
        let (name, n): (String, u64) = serde_json::from_str(&packet[2..]).unwrap();
        match &*name {
            "n" => numbers.push(n),
            _ => return numbers,
        }
    }
}

#[test]
fn servers_fail_over_to_another_nats_and_read_missed_messages() {
    let cluster = NatsServer::cluster();
    let urls: Vec<_> = cluster.iter().map(|(nats, _)| nats.url()).collect();
    let urls = urls.join(",");
    let operator = Operator::new(&urls);
    let (sends, _) = operator.serve(&urls);
    // NATS places consumers, and clients choose their server, so this repeats until the placement
    // fits.
    let mut tries = 0..100;
    let (stays, dying) = tries
        .by_ref()
        .map(|_| operator.serve(&cluster[0].0.url()))
        .find(|(_, host)| host != "n0")
        .unwrap();
    let (dies, port) = &cluster[dying[1..].parse::<usize>().unwrap()];
    let moves = tries
        .map(|_| {
            let before = clients(*port);
            (operator.serve(&urls).0, clients(*port) > before)
        })
        .find_map(|(server, is_there)| is_there.then_some(server))
        .unwrap();
    let (is_isolated, _) = operator.serve(&dies.url());
    drop(operator);
    let receivers = [&stays, &moves, &is_isolated];
    let mut clients = receivers.map(|server| server.connect().0);
    sends.io.emit("n", 0);
    for client in &mut clients {
        client.expect_text("42[\"n\",0]");
    }

    dies.kill();
    until(|| !is_ready(&is_isolated));
    // While the stream has no leader, it stores nothing, and events count as lost.
    let received = |server: &Local| server.io.metrics().counter(Counter::ClusterReceived);
    let before = [&stays, &moves].map(received);
    let mut emitted = 0;
    while received(&stays) < before[0] + 10 || received(&moves) < before[1] + 10 {
        assert!(emitted < 1000, "nothing comes any more");
        emitted += 1;
        sends.io.emit("n", emitted);
        thread::sleep(PACE); // The pace of what is sent.
    }
    sends.io.emit("end", 0);
    let [at_stays, at_moves, at_isolated] = &mut clients;
    let arrived = numbers(at_stays);
    assert!(arrived.is_sorted_by(|a, b| a < b), "{arrived:?}");
    let lost = sends.io.metrics().counter(Counter::ClusterLost);
    assert!(
        arrived.len() as u64 + lost >= emitted,
        "{lost} and {arrived:?}"
    );
    assert_eq!(numbers(at_moves), arrived);
    // Its connection worked. It reconnected because the stream delivered nothing.
    assert!(stays.io.adapter_backlog().unwrap().breaks > 0);

    // It reads what the stream has stored for it when its own NATS server is back.
    dies.restart();
    until(|| is_ready(&is_isolated));
    assert_eq!(numbers(at_isolated), arrived);
    sends.io.emit("back", 0);
    for client in &mut clients {
        client.expect_text("42[\"back\",0]");
    }
}

/// Interval between events, and poll interval.
const PACE: Duration = Duration::from_millis(50);
