//! Servers connected by a Redis Cluster whose nodes fail and hand over slots.

use std::{cell::Cell, collections::BTreeSet};

use roomcast::{SocketId, adapter::Health};

use super::{Servers, Wire, joining::joins_and_emits, quiet};
use crate::{
    local::{text, until},
    redis_server::RedisServer,
    support::RawClient,
};

#[test]
fn redis_cluster_connects_servers_like_a_single_redis() {
    let redis = RedisServer::start_cluster();
    let url = RedisServer::cluster_url(&redis);
    for wire in Wire::ALL.into_iter().chain([Wire::Private]) {
        let servers = Servers::on_redis_at(&url, 3, wire, quiet);
        let mut clients = [0, 1, 2].map(|i| servers[i].connect());
        for (i, (_, id)) in clients.iter().enumerate() {
            let id = SocketId::parse(id).unwrap();
            servers[i].io.local().in_(id).join(["all", "also"]);
        }
        servers.settle();
        for i in 0..3 {
            servers[i].io.emit("everybody", i);
            servers[i].io.to(["all", "also"]).emit("room", i);
            servers[i].io.to("all").emit("all", i);
            // Channels may be on different nodes, between which events have no order.
            for (client, _) in &mut clients {
                let mut events = [0; 3].map(|_| text(client));
                events.sort_unstable();
                let expected =
                    ["all", "everybody", "room"].map(|name| format!("42[\"{name}\",{i}]"));
                assert_eq!(events, expected);
            }
        }
        let found = servers[0].runtime.block_on(servers[0].io.fetch_sockets());
        assert_eq!((found.sockets.len(), found.missing.unnamed), (3, 0));
    }
}

#[test]
fn joined_sockets_get_the_next_events_in_a_redis_cluster() {
    let redis = RedisServer::start_cluster();
    for wire in [Wire::Sharded, Wire::Private] {
        let url = RedisServer::cluster_url(&redis);
        joins_and_emits(&Servers::on_redis_at(&url, 3, wire, quiet), 500);
    }
}

/// Number of rooms, enough that their channels are on all nodes.
const ROOMS: usize = 24;

/// Three servers with a client each, which is in all rooms.
struct Rooms {
    servers: Servers,
    clients: [RawClient; 3],
    sent: usize,
}

impl Rooms {
    fn open(url: &str, wire: Wire) -> Self {
        let servers = Servers::on_redis_at(url, 3, wire, quiet);
        let clients = [0, 1, 2].map(|i| {
            let (client, id) = servers[i].connect();
            let id = SocketId::parse(&id).unwrap();
            let rooms = (0..ROOMS).map(|n| format!("room {n}"));
            servers[i].io.local().in_(id).join(rooms);
            client
        });
        servers.settle();
        Self {
            servers,
            clients,
            sent: 0,
        }
    }

    /// Sends an event from each server to each room and to all; each client must receive each event
    /// once.
    fn assert_all_connected(&mut self) {
        self.sent += 1;
        let mut expected = BTreeSet::new();
        for i in 0..3 {
            let io = &self.servers[i].io;
            for n in 0..ROOMS {
                let sent = format!("{} of {i} in {n}", self.sent);
                io.to(format!("room {n}")).emit("said", &sent);
                expected.insert(format!("42[\"said\",\"{sent}\"]"));
            }
            let sent = format!("{} of {i} to all", self.sent);
            io.emit("said", &sent);
            expected.insert(format!("42[\"said\",\"{sent}\"]"));
        }
        for client in &mut self.clients {
            let mut missing = expected.clone();
            while !missing.is_empty() {
                let event = text(client);
                assert!(missing.remove(&event), "{event} instead of {missing:?}");
            }
        }
    }

    fn breaks(&self) -> [u64; 3] {
        let broken = |i: usize| self.servers[i].io.adapter_backlog().unwrap().breaks;
        [0, 1, 2].map(broken)
    }

    /// Waits until each of these servers has lost its connections and is ready again.
    fn until_back(&self, indices: &[usize], before: [u64; 3]) {
        until(|| indices.iter().all(|i| self.breaks()[*i] > before[*i]));
        let health = |i: usize| self.servers[i].io.adapter_health();
        until(|| (0..3).all(|i| health(i) == Some(Health::Ready)));
        self.servers.settle();
    }
}

/// Returns the node that serves a channel, when all nodes agree on it.
fn owner<'a>(nodes: &'a [RedisServer], channel: &str) -> &'a RedisServer {
    let found = Cell::new(None);
    until(|| {
        let answers = nodes.iter().map(|node| (node, node.ask(&["get", channel])));
        // The owner answers with nothing, because no value is stored. A node that has just started
        // answers that the cluster is down.
        let (owners, others): (Vec<_>, Vec<_>) =
            answers.partition(|(_, answer)| answer.trim().is_empty());
        let [(owner, _)] = owners[..] else {
            return false;
        };
        let place = format!("127.0.0.1:{}", owner.port());
        let is_known = |(_, answer): &(_, String)| {
            answer.starts_with("MOVED") && answer.trim().ends_with(&place)
        };
        found.set(Some(owner));
        others.iter().all(is_known)
    });
    found.get().unwrap()
}

#[test]
fn servers_reconnect_through_the_replica_of_a_killed_redis_node() {
    let nodes = RedisServer::start_cluster_with_replicas();
    let url = RedisServer::cluster_url(&nodes);
    let mut all: Vec<_> = Wire::ALL
        .into_iter()
        .chain([Wire::Private])
        .map(|wire| Rooms::open(&url, wire))
        .collect();
    for rooms in &mut all {
        rooms.assert_all_connected();
    }
    let before: Vec<_> = all.iter().map(Rooms::breaks).collect();
    let key = &all[1].servers.key;
    let victim = owner(&nodes, &format!("{key}#/#room 0#"));
    victim.kill();
    let rest = || nodes.iter().filter(|node| node.port() != victim.port());
    let is_master = |node: &RedisServer| node.ask(&["role"]).starts_with("master");
    until(|| rest().filter(|node| is_master(node)).count() == 3);
    let is_ready = |node: &RedisServer| node.ask(&["cluster", "info"]).contains("cluster_state:ok");
    until(|| rest().all(is_ready));
    for (rooms, before) in all.iter_mut().zip(before) {
        rooms.until_back(&[0, 1, 2], before);
        rooms.assert_all_connected();
    }
}

#[test]
fn servers_follow_a_slot_that_moves_to_another_redis_node() {
    let nodes = RedisServer::start_cluster();
    let url = RedisServer::cluster_url(&nodes);
    let mut rooms = Rooms::open(&url, Wire::Sharded);
    let key = rooms.servers.key.clone();
    let own = format!("{key}-roomcast#{}#", rooms.servers.node(0));
    for channel in [format!("{key}#/#room 0#"), format!("{key}#/#"), own.clone()] {
        let before = rooms.breaks();
        let from = owner(&nodes, &channel);
        let to = nodes
            .iter()
            .find(|node| node.port() != from.port())
            .unwrap();
        let slot = from.ask(&["cluster", "keyslot", &channel]);
        let id = to.ask(&["cluster", "myid"]);
        let source = from.ask(&["cluster", "myid"]);
        let (slot, destination, source) = (slot.trim(), id.trim(), source.trim());
        // A node that was not importing a slot gets no newer epoch for it, and its claim loses
        // against the old owner's.
        for (node, state, other) in [
            (to, "importing", source),
            (from, "migrating", destination),
            (to, "node", destination),
            // The previous owner notifies its subscribers.
            (from, "node", destination),
        ] {
            let reply = node.ask(&["cluster", "setslot", slot, state, other]);
            assert_eq!(reply.trim(), "OK");
        }
        if channel == own {
            // The client library may follow the channel before it is notified of the move, so the
            // connection may not break.
            let first = &rooms.servers[0];
            until(|| {
                let all = first.runtime.block_on(first.io.fetch_sockets());
                all.missing.is_empty()
            });
        } else {
            rooms.until_back(&[0, 1, 2], before);
            rooms.assert_all_connected();
        }
    }
}
