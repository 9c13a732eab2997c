//! Servers that seal what they exchange, and clients of their broker that do not know the secret.

mod rights;
mod tap;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use roomcast::{
    Builder, Io, SocketId,
    adapter::{Emitter, Health, Secrets, nats::Nats, postgres::Postgres, redis::Redis},
    handler::ServerSide,
    metrics::Counter,
    options::Recovery,
    types::Bytes,
};

use self::tap::{Captured, Tap};
use super::{
    Servers, Wire, postgres_url,
    scenarios::{forwarding_notes, reaches_everything},
    secrets,
};
use crate::{
    local::{Local, text, until},
    nats_server::NatsServer,
    postgres_server,
    redis_server::RedisServer,
};

/// The broker that connects servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Redis(Wire),
    Postgres,
    Nats,
}

impl Transport {
    const ALL: [Self; 6] = [
        Self::Redis(Wire::Classic),
        Self::Redis(Wire::Sharded),
        Self::Redis(Wire::Streams),
        Self::Redis(Wire::Journal),
        Self::Postgres,
        Self::Nats,
    ];
}

/// The form in which a server sends, and the forms that it accepts.
#[derive(Clone, Debug)]
enum Form {
    Plain,
    /// Accepts both forms, during a rolling upgrade.
    Rolling,
    Sealed(Secrets),
}

/// The configuration of a cluster, on its own brokers.
struct Cluster {
    transport: Transport,
    redis: Option<RedisServer>,
    key: String,
}

/// Configures the form of an adapter.
macro_rules! formed {
    ($adapter:expr, $form:expr) => {
        match $form {
            Form::Plain => $adapter,
            Form::Rolling => $adapter.sealed(secrets([1])).accept_plain(),
            Form::Sealed(secrets) => $adapter.sealed(secrets.clone()),
        }
    };
}

impl Cluster {
    fn new(transport: Transport) -> Self {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        Self {
            transport,
            redis: matches!(transport, Transport::Redis(_)).then(RedisServer::start),
            key: format!("sealed{number}"),
        }
    }

    fn redis(&self, wire: Wire) -> Redis {
        let url = self.redis.as_ref().unwrap().url();
        wire.on(Redis::new(&url).unwrap().key(&self.key))
    }

    fn postgres(&self) -> Postgres {
        Postgres::new(&postgres_url()).unwrap().key(&self.key)
    }

    fn nats(&self) -> Nats {
        let nats = NatsServer::shared();
        Nats::new(&nats.url()).unwrap().key(&self.key)
    }

    fn builder(&self, form: &Form) -> Builder {
        let io = match self.transport {
            Transport::Redis(Wire::Journal) => Io::builder().recovery(Recovery::default()),
            Transport::Redis(_) | Transport::Postgres | Transport::Nats => Io::builder(),
        };
        forwarding_notes(match self.transport {
            Transport::Redis(wire) => io.adapter(formed!(self.redis(wire), form)),
            Transport::Postgres => io.adapter(formed!(self.postgres(), form)),
            Transport::Nats => io.adapter(formed!(self.nats(), form)),
        })
    }

    fn emitter(&self, form: &Form) -> Emitter {
        match self.transport {
            Transport::Redis(wire) => Emitter::new(formed!(self.redis(wire), form)),
            Transport::Postgres => Emitter::new(formed!(self.postgres(), form)),
            Transport::Nats => Emitter::new(formed!(self.nats(), form)),
        }
    }

    /// Starts a server and waits until it is connected.
    fn serve(&self, form: &Form) -> Local {
        let server = Local::serve(self.builder(form));
        until(|| server.io.adapter_health() == Some(Health::Ready));
        server
    }

    /// Starts servers and waits until each receives from each.
    fn servers<const N: usize>(&self, forms: [&Form; N]) -> Servers {
        let met: Arc<[AtomicUsize; N]> = Arc::new([const { AtomicUsize::new(0) }; N]);
        let serve = |i: usize| {
            let mut io = self.builder(forms[i]);
            let met = Arc::clone(&met);
            io = io.namespace("/", |namespace| {
                namespace.on_server_side("meet", move |event: ServerSide| {
                    let from: usize = event.arg(0).unwrap();
                    met[i].fetch_or(1 << from, Ordering::Relaxed);
                    std::future::ready(())
                })
            });
            Local::serve(io)
        };
        let servers = Servers {
            hub: None,
            servers: (0..N).map(serve).collect(),
            key: self.key.clone(),
        };
        let all = (1 << N) - 1;
        for server in &servers.servers {
            until(|| server.io.adapter_health() == Some(Health::Ready));
        }
        until(|| {
            for i in 0..N {
                servers[i].io.of("/").server_side_emit("meet", i).unwrap();
            }
            (0..N).all(|i| met[i].load(Ordering::Relaxed) | 1 << i == all)
        });
        servers.settle();
        servers
    }

    /// Connects a client of the broker that reads everything.
    fn tap(&self, servers: &Servers) -> Tap {
        match self.transport {
            Transport::Redis(_) => Tap::redis(self.redis.as_ref().unwrap().port()),
            Transport::Nats => Tap::nats(NatsServer::shared().port(), &self.key),
            Transport::Postgres => {
                let key = &self.key;
                let own = (0..servers.servers.len())
                    .map(|i| format!("{key}-roomcast#{}", servers.node(i)));
                let all = [format!("{key}#/"), format!("{key}#/.roomcast")];
                Tap::postgres(
                    &postgres_url(),
                    &all.into_iter().chain(own).collect::<Vec<_>>(),
                )
            }
        }
    }
}

fn sealed() -> Form {
    Form::Sealed(secrets([1]))
}

/// Returns the socket id in a connect answer, which has more fields with recovery.
fn socket(answer: &str) -> SocketId {
    let id = answer.split('"').next();
    SocketId::parse(id.unwrap()).unwrap()
}

fn count(server: &Local, counter: Counter) -> u64 {
    server.io.metrics().counter(counter)
}

/// Returns the event without its offset, which the journal adds.
fn event(text: &str) -> String {
    let mut parts: Vec<serde_json::Value> = serde_json::from_str(&text[2..]).unwrap();
    let has_offset = parts.len() > 1
        && parts
            .last()
            .and_then(|last| last.as_str())
            .is_some_and(|last| {
                let digits = last.split_once('-');
                digits.is_some_and(|(time, _)| time.len() == 13)
            });
    parts.truncate(parts.len() - usize::from(has_offset));
    serde_json::to_string(&parts).unwrap()
}

#[test]
fn captured_messages_show_no_content_and_count_once() {
    for transport in Transport::ALL {
        let cluster = Cluster::new(transport);
        let servers = cluster.servers([&sealed(), &sealed()]);
        let mut clients = [0, 1].map(|i| servers[i].connect().0);
        let mut tap = cluster.tap(&servers);
        let large = format!("the canary {}", "x".repeat(9_000));
        servers[0].io.emit("secret", "the canary");
        servers[0].io.emit("secret", &large);
        servers[0]
            .io
            .emit("secret", ("the canary", Bytes::from_static(b"the canary")));
        for client in &mut clients {
            assert_eq!(event(&text(client)), r#"["secret","the canary"]"#);
            assert_eq!(event(&text(client)), format!(r#"["secret","{large}"]"#));
            assert!(text(client).starts_with("451-"));
            client.message();
        }
        // Includes a heartbeat and a request of each server.
        servers.settle();
        let captured = tap.take(5);
        for message in &captured {
            for text in ["canary", "secret", "\"beat\""] {
                assert!(!message.shows(text), "{transport:?}: {message:?}");
            }
        }
        if transport == Transport::Postgres {
            let shared = postgres_server::shared();
            // The rows of other tests are plain, and have no canary.
            let shown = "SELECT count(*) FROM socket_io_attachments
                         WHERE position('the canary'::bytea IN payload) > 0";
            let rows = "SELECT count(*) > 0 FROM socket_io_attachments";
            assert_eq!(shared.sql("postgres", shown).trim(), "0");
            assert_eq!(shared.sql("postgres", rows).trim(), "t");
        }
        let replayed = |i: usize| count(&servers[i], Counter::ClusterReplayed);
        let before = [0, 1].map(replayed);
        for message in &captured {
            tap.send(message);
        }
        until(|| replayed(1) >= before[1] + 2);
        servers[0].io.emit("end", ());
        for client in &mut clients {
            assert_eq!(event(&text(client)), r#"["end"]"#, "{transport:?}");
        }
    }
}

/// Servers that seal ignore and count everything that this other server sends.
fn ignores(cluster: &Cluster, form: &Form, counter: Counter) {
    let servers = cluster.servers([&sealed(), &sealed()]);
    let (mut client, id) = servers[1].connect();
    until(|| (0..2).all(|i| servers[i].io.nodes().len() == 2));
    let stranger = cluster.serve(form);
    let (mut own, _) = stranger.connect();
    let before = [0, 1].map(|i| count(&servers[i], counter));
    let id = socket(&id);
    until(|| {
        stranger.io.emit("forged", ());
        stranger.io.in_(id.clone()).join("room");
        stranger.io.in_(id.clone()).close_connections();
        let _ = stranger.io.of("/").server_side_emit("note", "forged");
        (0..2).all(|i| count(&servers[i], counter) >= before[i] + 6)
    });
    assert_eq!(stranger.io.nodes().len(), 1, "it knows nobody");
    for i in 0..2 {
        assert_eq!(servers[i].io.nodes().len(), 2, "nobody knows it");
        assert_eq!(servers[i].io.adapter_health(), Some(Health::Ready));
    }
    servers[0].io.to("room").emit("room", ());
    servers[0].io.emit("end", ());
    assert_eq!(event(&text(&mut client)), r#"["end"]"#);
    stranger.io.local().emit("end", ());
    loop {
        match &*event(&text(&mut own)) {
            r#"["forged"]"# | r#"["noted","forged"]"# => {}
            event => break assert_eq!(event, r#"["end"]"#),
        }
    }
}

#[test]
fn plain_messages_and_heartbeats_are_ignored_and_counted() {
    for transport in Transport::ALL {
        ignores(
            &Cluster::new(transport),
            &Form::Plain,
            Counter::ClusterPlain,
        );
    }
}

#[test]
fn messages_under_another_secret_are_ignored_and_counted() {
    for transport in Transport::ALL {
        let other = Form::Sealed(secrets([2]));
        ignores(&Cluster::new(transport), &other, Counter::ClusterUnknownKey);
    }
}

#[test]
fn forged_probes_do_not_count_as_a_returned_probe() {
    for transport in [Transport::Redis(Wire::Classic), Transport::Postgres] {
        let cluster = Cluster::new(transport);
        let servers = cluster.servers([&sealed()]);
        let mut tap = cluster.tap(&servers);
        let node = servers.node(0);
        let channel = match transport {
            Transport::Postgres => format!("{}-roomcast#{node}", cluster.key),
            Transport::Redis(_) | Transport::Nats => format!("{}-roomcast#{node}#", cluster.key),
        };
        let command = matches!(transport, Transport::Redis(_)).then(|| "PUBLISH".into());
        let forged = |probe: &str| {
            let parts = [channel.clone().into(), probe.to_owned().into()];
            let parts = command.clone().into_iter().chain(parts);
            Captured {
                parts: parts.collect(),
            }
        };
        let before = count(&servers[0], Counter::ClusterPlain);
        tap.send(&forged(""));
        tap.send(&forged(&"0".repeat(32)));
        until(|| count(&servers[0], Counter::ClusterPlain) == before + 2);
        // A repeated message of the server itself counts once.
        let is_probe = |message: &Captured| {
            let [.., to, probe] = &message.parts[..] else {
                return false;
            };
            **to == *channel.as_bytes() && probe.len() == 32 && !probe.starts_with(b"0000")
        };
        let probe = (0..50).find_map(|_| tap.take(1).into_iter().rfind(is_probe));
        let before = count(&servers[0], Counter::ClusterPlain);
        tap.send(&probe.unwrap());
        until(|| count(&servers[0], Counter::ClusterPlain) > before);
    }
}

#[test]
fn a_named_row_without_a_sealed_notification_is_not_read() {
    let cluster = Cluster::new(Transport::Postgres);
    let servers = cluster.servers([&sealed(), &sealed()]);
    let mut tap = cluster.tap(&servers);
    let before = count(&servers[0], Counter::ClusterPlain);
    for id in 1..200 {
        let text = format!(r#"{{"uid":"x","type":3,"attachmentId":"{id}"}}"#);
        let parts = vec![format!("{}#/", cluster.key).into(), text.into()];
        tap.send(&Captured { parts });
    }
    until(|| count(&servers[0], Counter::ClusterPlain) == before + 199);
    servers.settle();
    // A row that is requested and not found counts as lost.
    assert_eq!(count(&servers[0], Counter::ClusterLost), 0);
}

#[test]
fn secrets_are_replaced_without_a_loss() {
    for transport in Transport::ALL {
        let steps = [secrets([1]), secrets([1, 2]), secrets([2, 1]), secrets([2])];
        let steps = steps.map(Form::Sealed);
        for (before, after) in steps.iter().zip(&steps[1..]) {
            reach_each_other(&Cluster::new(transport), before, after);
        }
    }
}

#[test]
fn rolling_upgrade_to_sealing_neither_loses_nor_repeats_events() {
    for transport in Transport::ALL {
        let steps = [Form::Plain, Form::Rolling, sealed()];
        let pairs = steps.iter().zip(&steps[1..]);
        for (before, after) in pairs.chain([(&Form::Rolling, &Form::Rolling)]) {
            reach_each_other(&Cluster::new(transport), before, after);
        }
    }
}

/// A server that has just started answers in both forms, because it cannot know yet which form the
/// other server accepts.
#[test]
fn requests_are_answered_during_a_roll_out_before_servers_have_met() {
    for transport in Transport::ALL {
        for _ in 0..3 {
            let cluster = Cluster::new(transport);
            let [asking, _answering] = [(); 2].map(|()| cluster.serve(&Form::Rolling));
            let asked = asking.io.to("nobody").timeout(Duration::from_secs(10));
            let fetched = asking.runtime.block_on(asked.fetch_sockets());
            assert!(
                fetched.missing.is_empty(),
                "{transport:?} {:?}",
                fetched.missing
            );
        }
    }
}

/// Servers of two steps of a roll-out, and an emitter, reach the clients of both, once and in
/// order.
///
/// Each pair needs a cluster of its own: a broker may count the servers of the pair before, whose
/// connections end a moment later, and requests would wait for their answers.
fn reach_each_other(cluster: &Cluster, before: &Form, after: &Form) {
    let servers = cluster.servers([before, after]);
    let mut clients = [0, 1].map(|i| servers[i].connect());
    let id = socket(&clients[1].1);
    servers[0].io.in_(id).join("room");
    servers.settle();
    let large = "x".repeat(9_000);
    for from in 0..2 {
        for n in 0..20 {
            servers[from].io.emit("n", (from, n));
        }
        servers[from].io.emit("large", &large);
        servers[from].io.to("room").emit("room", from);
        let _ = servers[from].io.of("/").server_side_emit("note", from);
        servers.settle();
    }
    for (number, (client, _)) in clients.iter_mut().enumerate() {
        for from in 0..2 {
            for n in 0..20 {
                let expected = format!(r#"["n",{from},{n}]"#);
                assert_eq!(event(&text(client)), expected, "{before:?} {after:?}");
            }
            assert_eq!(event(&text(client)), format!(r#"["large","{large}"]"#));
            if number == 1 {
                assert_eq!(event(&text(client)), format!(r#"["room",{from}]"#));
            }
            if number != from {
                assert_eq!(event(&text(client)), format!(r#"["noted",{from}]"#));
            }
        }
    }
    for i in 0..2 {
        let fetched = servers[i].runtime.block_on(servers[i].io.fetch_sockets());
        assert!(fetched.missing.is_empty(), "{before:?} {after:?}");
        assert_eq!(fetched.sockets.len(), 2, "{before:?} {after:?}");
    }
    let _runtime = servers[0].runtime.enter();
    // Servers after the step accept an emitter from before it.
    let emitter = cluster.emitter(before);
    emitter.emit("job", 1).unwrap();
    emitter.emit("job", 2).unwrap();
    let closed = servers[0].runtime.block_on(emitter.close());
    assert_eq!(closed, Ok(()));
    for (client, _) in &mut clients {
        assert_eq!(event(&text(client)), r#"["job",1]"#, "{before:?} {after:?}");
        assert_eq!(event(&text(client)), r#"["job",2]"#);
    }
    servers[1].io.emit("end", ());
    for (client, _) in &mut clients {
        assert_eq!(event(&text(client)), r#"["end"]"#, "{before:?} {after:?}");
    }
}

#[test]
fn emitter_reaches_sealing_servers() {
    for transport in Transport::ALL {
        // Events through the journal have an offset.
        if transport == Transport::Redis(Wire::Journal) {
            continue;
        }
        let cluster = Cluster::new(transport);
        let servers = cluster.servers([&sealed(), &sealed()]);
        reaches_everything(&servers, || cluster.emitter(&sealed()));
    }
}

#[test]
fn emitter_without_sealing_does_not_reach_sealed_servers() {
    for transport in Transport::ALL {
        let cluster = Cluster::new(transport);
        let servers = cluster.servers([&sealed()]);
        let (mut client, _) = servers[0].connect();
        let _runtime = servers[0].runtime.enter();
        let emitter = cluster.emitter(&Form::Plain);
        let before = count(&servers[0], Counter::ClusterPlain);
        emitter.emit("forged", ()).unwrap();
        until(|| count(&servers[0], Counter::ClusterPlain) > before);
        servers[0].io.emit("end", ());
        assert_eq!(event(&text(&mut client)), r#"["end"]"#);
    }
}
