//! Who is let into a room by a server gets what that server sends there from then on.

use std::thread;

use roomcast::{Builder, ServerSide, SocketId};

use super::{Servers, Wire, quiet};
use crate::{local::text, nats_server::NatsServer, redis_server::RedisServer};

/// Rooms that are joined before anybody looks at what has come.
const BATCH: usize = 100;

/// A server lets a socket of each server join a room and sends an event there, so often without a pause.
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
            io.in_(ids).join(room);
            io.to(room).emit("n", n);
        }
        for (client, _) in &mut clients {
            for n in numbers.clone() {
                client.expect_text(&format!("42[\"n\",{n}]"));
            }
        }
        // A socket may be in a thousand rooms.
        io.in_(ids).leave(rooms);
    }
    // What had come twice would have come before this.
    for i in 0..3 {
        servers[i].io.emit("end", i);
        for (client, _) in &mut clients {
            client.expect_text(&format!("42[\"end\",{i}]"));
        }
    }
}

#[test]
fn who_is_let_into_a_room_hears_once_and_in_order_what_is_sent_there_next_ten_thousand_times() {
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
fn who_was_let_into_a_room_by_one_server_hears_what_another_one_sends_there_that_was_told_of_it() {
    let build = |mut io: Builder| {
        io.namespace("/")
            .on_server_side("joined", |event: ServerSide| {
                let n: usize = event.arg(0).unwrap();
                event.namespace().to(format!("room {n}")).emit("n", n);
                std::future::ready(())
            });
        io
    };
    for wire in [Wire::Sharded, Wire::Private] {
        let servers = Servers::on_redis(RedisServer::shared(), 3, wire, build);
        let (mut client, id) = servers[1].connect();
        let id = SocketId::parse(&id).unwrap();
        for n in 0..200 {
            servers[0].io.in_(id).join(format!("room {n}"));
            servers[0].io.of("/").server_side_emit("joined", n).unwrap();
        }
        // One half is said by the client's own server.
        let mut heard: Vec<_> = (0..400).map(|_| text(&mut client)).collect();
        heard.sort_unstable();
        let mut expected: Vec<_> = (0..400).map(|n| format!("42[\"n\",{}]", n / 2)).collect();
        expected.sort_unstable();
        assert_eq!(heard, expected);
    }
}
