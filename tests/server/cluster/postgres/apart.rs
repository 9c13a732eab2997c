//! Namespaces with a dedicated connection.

use roomcast::Ack;

use super::*;
use crate::postgres_server::Transaction;

/// Locks the table of large messages.
const LOCK: &str = "LOCK TABLE socket_io_attachments";

#[test]
fn dedicated_namespace_does_not_wait_for_a_blocked_connection() {
    let server = Server::start();
    let url = format!("postgres://roomcast@127.0.0.1:{}/postgres", server.port());
    let build = |mut io: Builder| {
        io = io.namespace("/apart", |namespace| {
            namespace.on_server_side("note", async |event: ServerSide| {
                let namespace = event.namespace();
                namespace.local().emit("noted", event.args().clone());
            })
        });
        quiet(io)
    };
    let adapter = |key: &str| Postgres::new(&url).unwrap().key(key).apart(["/apart"]);
    let servers = Servers::serve_and_meet(2, adapter, build);
    let mut client = servers[1].open();
    join(&mut client, "");
    join(&mut client, "/apart,");
    let large = "x".repeat(60_000);
    // The table exists from here on.
    servers[0].io.emit("large", (0, &large));
    assert!(text(&mut client).starts_with("42[\"large\",0"));
    let lock = Transaction::begin(&url, LOCK);
    for n in 1..=3 {
        servers[0].io.emit("large", (n, &large));
    }
    for n in 0..3 {
        let apart = servers[0].io.of("/apart");
        apart.server_side_emit("note", n).unwrap();
    }
    // In order, and before the large event that was sent first.
    for n in 0..3 {
        client.expect_text(&format!("42/apart,[\"noted\",{n}]"));
    }
    drop(lock);
    for n in 1..=3 {
        assert!(text(&mut client).starts_with(&format!("42[\"large\",{n}")));
    }
    for i in [0, 1] {
        assert_eq!(servers[i].io.adapter_backlog().unwrap().breaks, 0);
    }
}

#[test]
fn last_reply_counts_although_the_leave_message_overtakes_it() {
    let server = Server::start();
    let build = |io: Builder| {
        quiet(io).namespace("/", |namespace| {
            namespace.on_server_side("question", async |_: ServerSide| Ack(1))
        })
    };
    let url = format!("postgres://roomcast@127.0.0.1:{}/postgres", server.port());
    let adapter = |key: &str| Postgres::new(&url).unwrap().key(key);
    let servers = Servers::serve_and_meet(2, adapter, build);
    servers.settle();
    let [asking, leaving] = [&servers[0], &servers[1]];
    let mut client = asking.open();
    join(&mut client, "");
    let large = "x".repeat(60_000);
    leaving.io.emit("large", &large);
    assert!(text(&mut client).starts_with("42[\"large\""));
    let main = asking.io.of("/");
    thread::scope(|scope| {
        let lock = Transaction::begin(&url, LOCK);
        // The reply waits behind this event. The leave message uses the other connection.
        leaving.io.emit("large", &large);
        let sent = || leaving.io.metrics().counter(Counter::ClusterSent);
        let before = sent();
        let asked = main.server_side_emit_with_acks::<u8>("question", ());
        let answers = scope.spawn(|| asking.runtime.block_on(asked));
        until(|| sent() > before);
        scope.spawn(|| leaving.runtime.block_on(leaving.io.close(DEADLINE)));
        until(|| asking.io.nodes().len() == 1);
        drop(lock);
        assert_eq!(answers.join().unwrap().unwrap(), [1]);
    });
}
