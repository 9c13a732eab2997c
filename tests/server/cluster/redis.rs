//! Redis only.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use roomcast::{
    Builder, Io, Parser, SocketId,
    adapter::{Emitter, Health, redis::Redis, values::Expected},
    handler::ServerSide,
    metrics::Counter,
};

use serde_json::Value;

use super::{
    Servers, Wire,
    holding_proxy::HoldingProxy,
    quiet,
    scenarios::{
        binary_arrives, doubling, events_arrive_in_order, forwarding_notes, last_event_arrives,
        namespaces_are_apart, queue_precedes_the_end, reaches_everything, survives_outage,
        unsent_heartbeats_are_not_lost, with_namespaces,
    },
};
use crate::{
    local::{Local, until, until_after},
    redis_server::RedisServer,
};

fn each(count: usize, build: impl Fn(Builder) -> Builder, test: impl Fn(&Servers)) {
    for wire in Wire::ALL.into_iter().chain([Wire::Private]) {
        let servers = Servers::on_redis(RedisServer::shared(), count, wire, &build);
        test(&servers);
    }
}

#[test]
fn redis_events_arrive_in_order_for_any_target_and_size() {
    each(2, quiet, events_arrive_in_order);
}

#[test]
fn socket_channels_deliver_only_to_the_sockets_server() {
    let servers = Servers::on_redis(RedisServer::shared(), 3, Wire::Private, quiet);
    let (mut client, id) = servers[1].connect();
    let id = SocketId::parse(&id).unwrap();
    servers.settle();
    let heard = |i: usize| {
        let metrics = servers[i].io.metrics();
        metrics.counter(Counter::ClusterReceived)
    };
    let before = [0, 1, 2].map(heard);
    for n in 0..200 {
        servers[0].io.to(&id).emit("n", n);
    }
    for n in 0..200 {
        client.expect_text(&format!("42[\"n\",{n}]"));
    }
    // The third server receives only heartbeats in the meantime.
    assert!(heard(1) - before[1] >= 200, "{before:?}");
    assert!(heard(2) - before[2] < 100, "{before:?}");
    // Events for rooms and acknowledgements reach it as before.
    servers[1].io.in_(&id).join("room");
    servers.settle();
    servers[2].io.to("room").emit("room", ());
    client.expect_text("42[\"room\"]");
    servers[0].io.in_(&id).disconnect();
    client.expect_text("41");
    until(|| {
        channels(&servers.key)
            .iter()
            .all(|name| !name.contains(id.as_str()))
    });
}

/// Returns the sharded channels of servers with this key that have subscribers.
fn channels(key: &str) -> Vec<String> {
    let names = RedisServer::shared().ask(&["pubsub", "shardchannels"]);
    let own = names.lines().filter(|name| name.starts_with(key));
    own.map(str::to_owned).collect()
}

#[test]
fn servers_know_each_other_until_one_leaves() {
    each(3, quiet, |servers| {
        let known = |i: usize| {
            let nodes = servers[i].io.nodes();
            nodes
                .into_iter()
                .map(|node| node.name)
                .collect::<HashSet<_>>()
        };
        let all: HashSet<_> = (0..3).map(|i| servers.node(i)).collect();
        until(|| (0..3).all(|i| known(i) == all));
        let close = servers[2].io.close(Duration::from_secs(10));
        servers[2].runtime.block_on(close);
        let rest: HashSet<_> = (0..2).map(|i| servers.node(i)).collect();
        until(|| (0..2).all(|i| known(i) == rest));
    });
}

#[test]
fn unconfirmed_subscription_does_not_count_as_another_server() {
    // The channel of its namespace comes first, so it waits for no other answer.
    let wire = Wire::Sharded;
    let servers = Servers::on_redis(RedisServer::shared(), 1, wire, quiet);
    let proxy = HoldingProxy::start(RedisServer::shared(), "SSUBSCRIBE");
    let redis = Redis::new(&proxy.url()).unwrap().key(&servers.key);
    let slow = Local::serve(quiet(Io::builder().adapter(wire.on(redis))));
    until(|| slow.io.adapter_health() == Some(Health::Ready));
    until(|| slow.io.nodes().len() == 2);
    proxy.hold(true);
    for io in [&servers[0].io, &slow.io] {
        io.add_namespace("/late", |namespace| namespace).unwrap();
    }
    let channel = format!("{}#/late#", servers.key);
    until(|| {
        let counted = RedisServer::shared().ask(&["pubsub", "shardnumsub", &channel]);
        counted.split_whitespace().last() == Some("2")
    });
    let asked = slow.io.of("/late").timeout(Duration::from_secs(10));
    let fetched = thread::scope(|scope| {
        let fetched = scope.spawn(|| slow.runtime.block_on(asked.fetch_sockets()));
        // A server that did not wait would count in this time.
        thread::sleep(Duration::from_millis(300));
        proxy.hold(false);
        fetched.join().unwrap()
    });
    assert!(fetched.missing.is_empty(), "{:?}", fetched.missing);
}

#[test]
fn binary_goes_to_clients_and_servers_in_both_parsers() {
    for parser in [Parser::Json, Parser::MessagePack] {
        each(2, doubling(parser), |servers| {
            binary_arrives(servers, parser);
        });
    }
}

#[test]
fn malformed_redis_messages_are_only_counted() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 1, Wire::Classic, quiet);
    let (mut client, _) = servers[0].connect();
    let metrics = servers[0].io.metrics();
    let key = &servers.key;
    let malformed = metrics.counter(Counter::ClusterMalformed);
    for (suffix, payload) in [
        ("", &b"\xc1"[..]),
        (
            "",
            b"\x93\xa1x\x82\xa4type\x02\xa4data\x91\xaadisconnect\x80",
        ),
        ("-request", b"{"),
        ("-response", b"{}"),
    ] {
        redis.command(&["PUBLISH", &format!("{key}{suffix}#/#")], payload);
    }
    until(|| metrics.counter(Counter::ClusterMalformed) == malformed + 4);
    // Invalid heartbeats.
    for (event, data) in [("beat", ""), ("beat", r#",{"id":"a b"}"#), ("later", "")] {
        let payload = format!(r#"{{"uid":"x","type":6,"data":["{event}"{data}]}}"#);
        let channel = format!("{key}-request#/.roomcast#");
        redis.command(&["PUBLISH", &channel], payload.as_bytes());
    }
    until(|| metrics.counter(Counter::ClusterMalformed) == malformed + 6);
    until(|| metrics.counter(Counter::ClusterUnknown) == 1);
    assert_eq!(servers[0].io.nodes().len(), 1);
    redis.command(
        &["PUBLISH", &format!("{key}-request#/#")],
        br#"{"type":99}"#,
    );
    until(|| metrics.counter(Counter::ClusterUnknown) == 2);
    servers[0].io.emit("end", ());
    client.expect_text("42[\"end\"]");
}

#[test]
fn servers_work_again_after_redis_is_killed_or_suspended() {
    for (wire, stands_still) in [
        (Wire::Classic, false),
        (Wire::Sharded, false),
        (Wire::Streams, false),
        (Wire::Classic, true),
        (Wire::Sharded, true),
        (Wire::Streams, true),
    ] {
        let redis = RedisServer::start();
        let servers = Servers::on_redis(&redis, 2, wire, quiet);
        let keeps = wire == Wire::Streams;
        match stands_still {
            true => survives_outage(&servers, keeps, || redis.pause(), || redis.resume()),
            false => survives_outage(&servers, keeps, || redis.kill(), || redis.restart()),
        }
    }
}

#[test]
fn heartbeats_unsent_during_a_redis_outage_do_not_count_as_lost() {
    thread::scope(|scope| {
        for wire in Wire::ALL {
            scope.spawn(move || {
                let redis = RedisServer::start();
                let servers = Servers::on_redis(&redis, 2, wire, quiet);
                unsent_heartbeats_are_not_lost(&servers, || redis.pause(), || redis.resume());
            });
        }
    });
}

#[test]
fn queue_is_sent_to_redis_before_a_server_ends() {
    each(2, quiet, queue_precedes_the_end);
}

#[test]
fn oversized_message_is_refused_and_the_next_is_sent() {
    each(2, quiet, |servers| {
        let (mut client, _) = servers[1].connect();
        let unsent = servers[0].io.metrics().counter(Counter::ClusterUnsent);
        servers[0].io.emit("large", "x".repeat(17 << 20));
        let metrics = servers[0].io.metrics();
        assert_eq!(metrics.counter(Counter::ClusterUnsent), unsent + 1);
        servers[0].io.emit("small", ());
        client.expect_text("42[\"small\"]");
    });
}

#[test]
fn namespaces_with_special_names_are_apart() {
    let names = ["/a", "/a#b", "/*", "/?", "/[ab]", "/\\a"].map(str::to_owned);
    each(2, with_namespaces(&names), |servers| {
        namespaces_are_apart(servers, &names);
    });
}

#[test]
fn emitter_reaches_clients_and_servers() {
    for wire in Wire::ALL {
        let shared = RedisServer::shared();
        let servers = Servers::on_redis(shared, 2, wire, forwarding_notes);
        let redis = wire.on(Redis::new(&shared.url()).unwrap().key(&servers.key));
        reaches_everything(&servers, || Emitter::new(redis));
    }
}

#[test]
fn last_event_of_a_redis_emitter_arrives_before_it_ends() {
    let shared = RedisServer::shared();
    let servers = Servers::on_redis(shared, 1, Wire::Classic, quiet);
    let redis = Redis::new(&shared.url()).unwrap().key(&servers.key);
    last_event_arrives(&servers, || Emitter::new(redis));
}

#[test]
fn server_lagging_in_redis_drops_its_backlog_and_reconnects() {
    const PAUSE: Duration = Duration::from_millis(100);
    let redis = RedisServer::start_cluster();
    let url = RedisServer::cluster_url(&redis);
    let taken = Arc::new(AtomicUsize::new(0));
    let slow = |io: Builder| {
        let mut io = quiet(io);
        let taken = Arc::clone(&taken);
        io = io.namespace("/", |namespace| {
            namespace.on_server_side("slow", move |_: ServerSide| {
                taken.fetch_add(1, Ordering::Relaxed);
                // Applying an event blocks a thread, as with very many clients.
                thread::sleep(PAUSE);
                std::future::ready(())
            })
        });
        io
    };
    let servers = Servers::on_redis_at(&url, 2, Wire::Classic, slow);
    // Events that take twenty seconds to apply.
    for n in 0..200 {
        servers[0].io.of("/").server_side_emit("slow", n).unwrap();
    }
    // It is down only for a moment, but the dropped events stay counted.
    until(|| servers[1].io.metrics().counter(Counter::ClusterLost) > 0);
    until(|| servers[1].io.adapter_health() == Some(Health::Ready));
    let before = taken.load(Ordering::Relaxed);
    assert!(before < 150, "what waited is dropped: {before}");
    // It receives new events.
    let (mut client, _) = servers[1].connect();
    servers.settle();
    servers[0].io.emit("news", ());
    client.expect_text("42[\"news\"]");
    assert!(taken.load(Ordering::Relaxed) < 150);
}

#[test]
fn sentinels_get_their_own_password() {
    let master = RedisServer::start();
    let _replica = master.start_replica();
    let sentinel = master.start_sentinel_with("requirepass s:/cret");
    let url = |parameters: &str| {
        let port = sentinel.port();
        format!("redis+sentinel://127.0.0.1:{port}/main{parameters}")
    };
    let refused = Redis::new(&url("")).unwrap();
    let refused = Local::serve(quiet(Io::builder().adapter(refused)));
    until(|| match refused.io.adapter_health() {
        Some(Health::Down(why)) => why != "not connected yet",
        health => panic!("{health:?}"),
    });
    let url = url("?sentinel_password=s%3A%2Fcret");
    let servers = Servers::on_redis_at(&url, 2, Wire::Classic, quiet);
    let (mut client, _) = servers[1].connect();
    servers.settle();
    servers[0].io.emit("n", 1);
    client.expect_text("42[\"n\",1]");
}

#[test]
fn servers_follow_a_sentinel_failover() {
    for wire in [Wire::Classic, Wire::Streams] {
        let master = RedisServer::start();
        let replica = master.start_replica();
        let sentinel = master.start_sentinel();
        let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port());
        let servers = Servers::on_redis_at(&url, 2, wire, quiet);
        let (mut client, _) = servers[1].connect();
        let numbers = |i: usize| {
            let values = servers[i].io.values().unwrap();
            values.keyspace::<u64>("numbers", 1, |_, value: Value| Ok(value))
        };
        let put = |n: u64| {
            let numbers = numbers(0);
            let put = async move { numbers.put("n", Expected::Anything, &n).await };
            servers[0].runtime.block_on(put)
        };
        servers.settle();
        put(1).unwrap();
        servers[0].io.emit("before", ());
        client.expect_text("42[\"before\"]");

        master.kill();
        let health = |i: usize| servers[i].io.adapter_health();
        until(|| (0..2).all(|i| matches!(health(i), Some(Health::Down(_)))));
        // Sentinels that were suspended for two seconds enter TILT mode for thirty seconds, in
        // which they trust nothing.
        let tilt = Duration::from_secs(60);
        until_after(tilt, || (0..2).all(|i| health(i) == Some(Health::Ready)));
        // A server that is connected to the replica receives from the other server there.
        servers.settle();
        servers[0].io.emit("after", ());
        client.expect_text("42[\"after\"]");
        until(|| put(2).is_ok());
        let read = servers[1].runtime.block_on(numbers(1).get("n"));
        assert_eq!(read.unwrap().unwrap().value, 2);
        drop(replica);
    }
}
