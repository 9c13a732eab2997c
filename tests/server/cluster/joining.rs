//! A socket that a server adds to a room receives what that server sends there afterwards.

use std::thread;

use roomcast::{Builder, SocketId, handler::ServerSide};

use super::{Servers, Wire, quiet};
use crate::{local::text, nats_server::NatsServer, redis_server::RedisServer};

/// Number of rooms joined before the events are read.
const BATCH: usize = 100;

/// Repeatedly adds a socket of each server to a room and sends an event there, without delays.
pub(super) fn joins_and_emits(servers: &Servers, times: usize) {
    let mut clients = [0, 1, 2].map(|i| servers[i].connect());
    let ids = clients
        .each_ref()
        .map(|(_, id)| SocketId::parse(id).unwrap());
    for (batch, first) in (0..times).step_by(BATCH).enumerate() {
        let io = &servers[batch].io;
        let numbers = first..first + BATCH;
        let rooms: Vec<_> = numbers.clone().map(|n| format!("room {n}")).collect();
        for (n, room) in numbers.clone().zip(&rooms) {
            io.in_(&ids).join(room);
            io.to(room).emit("n", n);
        }
        for (client, _) in &mut clients {
            for n in numbers.clone() {
                client.expect_text(&format!("42[\"n\",{n}]"));
            }
        }
        // A socket can be in a thousand rooms.
        io.in_(&ids).leave(rooms);
    }
    // Duplicates would have arrived before this.
    for i in 0..3 {
        servers[i].io.emit("end", i);
        for (client, _) in &mut clients {
            client.expect_text(&format!("42[\"end\",{i}]"));
        }
    }
}

#[test]
fn joined_sockets_get_ten_thousand_next_events_once_in_order() {
    const TIMES: usize = 10_000;
    thread::scope(|scope| {
        for wire in Wire::ALL.into_iter().chain([Wire::Private]) {
            let shared = RedisServer::shared();
            scope.spawn(move || joins_and_emits(&Servers::on_redis(shared, 3, wire, quiet), TIMES));
        }
        scope.spawn(|| joins_and_emits(&Servers::on_postgres(3, quiet), TIMES));
        scope.spawn(|| {
            joins_and_emits(&Servers::on_nats(NatsServer::shared(), 3, quiet), TIMES);
        });
    });
}

#[test]
fn join_by_one_server_precedes_events_of_a_notified_server() {
    let build = |mut io: Builder| {
        io = io.namespace("/", |namespace| {
            namespace.on_server_side("joined", |event: ServerSide| {
                let n: usize = event.arg(0).unwrap();
                event.namespace().to(format!("room {n}")).emit("n", n);
                std::future::ready(())
            })
        });
        io
    };
    for wire in [Wire::Sharded, Wire::Private] {
        let servers = Servers::on_redis(RedisServer::shared(), 3, wire, build);
        let (mut client, id) = servers[1].connect();
        let id = SocketId::parse(&id).unwrap();
        for n in 0..200 {
            servers[0].io.in_(&id).join(format!("room {n}"));
            servers[0].io.of("/").server_side_emit("joined", n).unwrap();
        }
        // One half comes from the client's own server.
        let mut received: Vec<_> = (0..400).map(|_| text(&mut client)).collect();
        received.sort_unstable();
        let mut expected: Vec<_> = (0..400).map(|n| format!("42[\"n\",{}]", n / 2)).collect();
        expected.sort_unstable();
        assert_eq!(received, expected);
    }
}
