//! The list of servers in a cluster.

use std::{
    future::poll_fn,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use roomcast::{
    Builder, Error, Event, Io, Lifecycle, Server,
    adapter::{NodeId, NodeOptions},
    metrics::Counter,
};

use super::{Servers, Wire, hub::Hub, quiet};
use crate::{
    local::{Local, text, until},
    nats_server::NatsServer,
    redis_server::RedisServer,
};

/// Returns options with short intervals, in which a server that stalls for some seconds does not
/// expire.
fn hurried() -> NodeOptions {
    let every = Duration::from_millis(50);
    NodeOptions::default().heartbeat(every).lease(every * 200)
}

fn names(io: &Io) -> Vec<NodeId> {
    io.nodes().into_iter().map(|node| node.name).collect()
}

#[test]
fn servers_know_peers_by_id_and_are_notified_of_changes() {
    let hub = Hub::new();
    let events: Arc<Mutex<Vec<String>>> = Arc::default();
    let serve = |id: &str, address: &str| {
        let events = Arc::clone(&events);
        let options = NodeOptions::default().id(id).address(address).version("7");
        let mut io = quiet(Io::builder().adapter(hub.adapter()).node(options));
        let own = id.to_owned();
        io = io.on_event(move |event: &Lifecycle<'_>| {
            let line = match event {
                Lifecycle::NodeJoined { node } => format!("{own} +{}", node.id),
                Lifecycle::NodeLeft { node } => format!("{own} -{}", node.id),
                _ => return,
            };
            events.lock().unwrap().push(line);
        });
        Local::serve(io)
    };
    let (b, a) = (serve("b", "http://h:2"), serve("a", "http://h:1"));
    let (mut client, _) = a.connect();
    a.io.emit("hello", ());
    assert_eq!(text(&mut client), "42[\"hello\"]");
    until(|| a.io.nodes().len() == 2 && b.io.nodes().len() == 2);
    until(|| b.io.nodes()[0].load.sockets == 1);
    let nodes = b.io.of("/").nodes();
    let [first, second] = &nodes[..] else {
        panic!("{nodes:?}");
    };
    assert_eq!((&*first.id, &*second.id), ("a", "b"));
    assert_eq!(first.address.as_deref(), Some("http://h:1"));
    assert_eq!((&*first.version, first.load.sessions), ("7", 1));
    assert_eq!((first.is_this, second.is_this), (false, true));
    assert_eq!(first.name, *a.io.node().unwrap());
    assert!(first.name.as_str().ends_with("~a"));
    a.runtime.block_on(a.io.close(Duration::from_secs(10)));
    until(|| names(&b.io) == [b.io.node().unwrap().clone()]);
    // The application is notified shortly after the server has disappeared from the list.
    until(|| events.lock().unwrap().iter().any(|line| line == "b -a"));
    let events = events.lock().unwrap();
    for line in ["a +b", "b +a", "b -a"] {
        assert_eq!(
            events.iter().filter(|events| *events == line).count(),
            1,
            "{events:?}"
        );
    }
}

#[test]
fn silent_server_expires_is_not_awaited_and_rejoins() {
    let servers = Servers::joined(3, |io: Builder| quiet(io).node(hurried()));
    until(|| (0..3).all(|i| servers[i].io.nodes().len() == 3));
    servers.hub().isolate(&servers.node(1));
    let request = servers[0].io.timeout(Duration::from_secs(3600));
    let fetched = servers[0].runtime.block_on(request.fetch_sockets());
    assert_eq!(fetched.missing.nodes, [servers.node(1)]);
    until(|| servers[2].io.nodes().len() == 2);
    // It receives no heartbeats either, and knows that this proves nothing about its peers.
    let own = servers[1].io.nodes();
    assert_eq!(own.len(), 3);
    let silent = own.iter().filter(|node| !node.is_this);
    assert!(
        silent
            .into_iter()
            .all(|node| node.heartbeat_age > Duration::from_secs(5))
    );
    let late = servers[0]
        .io
        .metrics()
        .counter(Counter::ClusterRequestsTimedOut);
    assert_eq!(late, 0);
    servers.hub().reconnect(&servers.node(1));
    until(|| (0..3).all(|i| servers[i].io.nodes().len() == 3));
}

#[test]
fn isolated_server_reports_the_messages_it_missed() {
    let servers = Servers::joined(2, |io: Builder| quiet(io).node(hurried()));
    until(|| (0..2).all(|i| servers[i].io.nodes().len() == 2));
    let (mut client, _) = servers[1].connect();
    servers.hub().isolate(&servers.node(1));
    for n in 0..100 {
        servers[0].io.emit("n", n);
    }
    servers.hub().settle();
    servers.hub().reconnect(&servers.node(1));
    servers[0].io.emit("back", ());
    assert_eq!(text(&mut client), "42[\"back\"]");
    let gaps = |i: usize| servers[i].io.adapter_gaps().unwrap();
    assert_eq!((gaps(1).count, gaps(1).is_isolated), (1, false));
    assert_eq!(gaps(0), Default::default());
    let has_heartbeats = || {
        let nodes = servers[0].io.nodes();
        let mut nodes = nodes.iter().filter(|node| !node.is_this);
        nodes.any(|node| node.load.gaps == 1 && node.load.gap_time > Duration::ZERO)
    };
    until(has_heartbeats);
}

#[test]
fn older_of_two_servers_with_the_same_id_stays() {
    let hub = Hub::new();
    let build = || {
        let options = hurried().id("one");
        quiet(Io::builder().adapter(hub.adapter()).node(options))
    };
    let first = Local::serve(build());
    // It must have run for longer than the difference that counts as a tie.
    thread::sleep(Duration::from_secs(3));
    let second = build().build().unwrap();
    let bound = Server::new(second.clone()).bind("127.0.0.1:0");
    let Err(Error::Node(taken)) = first.runtime.block_on(bound) else {
        panic!("it has started");
    };
    assert_eq!(
        taken.to_string(),
        "node id `one` is in use by another server: give each server its own node.id"
    );
    assert_eq!(second.node_taken(), Some(taken));
    assert_eq!(first.io.node_taken(), None);
    first.connect();
}

#[test]
fn one_of_two_servers_with_the_same_id_ends_when_they_meet() {
    let hub = Hub::new();
    let ends = |i: u16| {
        let io = quiet(
            Io::builder()
                .adapter(hub.adapter())
                .node(hurried().id("one")),
        );
        let io = io.build().unwrap();
        if i == 1 {
            hub.isolate(io.node().unwrap());
        }
        io
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let [a, b] = [0, 1].map(ends);
    // As if the server stopped for the conflict, and was notified of it last.
    let stopped = Arc::new(AtomicUsize::new(0));
    let run = |io: &Io| {
        let server = Server::new(io.clone()).bind("127.0.0.1:0");
        let server = runtime.block_on(server).unwrap();
        let (io, stopped, mut polls) = (io.clone(), Arc::clone(&stopped), 0);
        let stop = poll_fn(move |cx| {
            polls += usize::from(io.node_taken().is_some());
            if polls < 3 {
                if polls > 0 {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            stopped.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(())
        });
        runtime.spawn(server.run_until(stop))
    };
    let running = [&a, &b].map(run);
    hub.reconnect(b.node().unwrap());
    until(|| a.node_taken().is_some() || b.node_taken().is_some());
    let ended = usize::from(a.node_taken().is_none());
    until(|| running[ended].is_finished());
    assert_eq!(stopped.load(Ordering::Relaxed), 1);
    let stays = [&a, &b][1 - ended];
    until(|| names(stays) == [stays.node().unwrap().clone()]);
    assert!(stays.node_taken().is_none() && !running[1 - ended].is_finished());
}

/// All threads of one of two servers stall for longer than the lease. It expires no peer.
fn keeps_its_peer_over_a_stall(serve: impl FnOnce(&dyn Fn(Builder) -> Builder) -> Servers) {
    const LEASE: Duration = Duration::from_secs(10);
    let left: Arc<Mutex<Vec<NodeId>>> = Arc::default();
    let servers = serve(&|io| {
        let left = Arc::clone(&left);
        quiet(io).on_event(move |event: &Lifecycle<'_>| {
            if let Lifecycle::NodeLeft { node } = event {
                left.lock().unwrap().push(node.name.clone());
            }
        })
    });
    let (stalls, peer) = (servers.node(0), servers.node(1));
    until(|| (0..2).all(|i| servers[i].io.nodes().len() == 2));
    let all = Arc::new(Barrier::new(3));
    let stalls_of_threads = [(); 2].map(|()| {
        let all = Arc::clone(&all);
        servers[0].runtime.spawn(async move {
            all.wait();
            thread::sleep(LEASE + Duration::from_secs(2)); // The stall.
        })
    });
    all.wait();
    for stall in stalls_of_threads {
        servers[0].runtime.block_on(stall).unwrap();
    }
    // The heartbeat that reports the stall, and the next one: all its peers were checked since.
    let lag = || {
        let nodes = servers[1].io.nodes();
        let node = nodes.into_iter().find(|node| node.name == stalls);
        node.map(|node| node.load.lag)
    };
    until(|| lag().is_some_and(|lag| lag > LEASE));
    until(|| lag().is_some_and(|lag| lag < LEASE));
    assert!(!left.lock().unwrap().contains(&peer));
}

#[test]
fn server_that_stalls_longer_than_the_lease_keeps_its_peers() {
    let (nats, redis) = (NatsServer::shared(), RedisServer::shared());
    thread::scope(|scope| {
        scope.spawn(|| keeps_its_peer_over_a_stall(|build| Servers::on_nats(nats, 2, build)));
        scope.spawn(|| keeps_its_peer_over_a_stall(|build| Servers::on_postgres(2, build)));
        scope.spawn(|| {
            keeps_its_peer_over_a_stall(|build| Servers::on_redis(redis, 2, Wire::Classic, build));
        });
    });
}

#[test]
fn no_client_gets_into_the_namespace_of_heartbeats() {
    let io = Io::builder().namespaces(|_| true, |namespace| namespace.on("x", async |_: Event| {}));
    let server = Local::serve(io);
    let mut client = server.open();
    client.send_text("40/.roomcast,");
    assert_eq!(
        text(&mut client),
        "44/.roomcast,{\"message\":\"Invalid namespace\"}"
    );
    assert_eq!(server.io.nodes().len(), 1);
    let io = Io::builder().namespace("/.roomcast", |namespace| namespace);
    assert!(io.build().is_err());
}
