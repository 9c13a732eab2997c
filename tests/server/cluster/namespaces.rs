//! Namespaces that servers of a cluster add and remove at run time.

use super::{Builder, NatsServer, RedisServer, Servers, Wire};
use crate::{
    local::{Local, join, until},
    support::RawClient,
};

fn members(server: &Local) -> Option<usize> {
    let namespace = server.io.of("/x");
    let fetched = server.runtime.block_on(namespace.fetch_sockets());
    fetched.missing.is_empty().then_some(fetched.sockets.len())
}

#[test]
fn added_namespace_spans_all_servers_and_is_removed_from_one() {
    let build = |mut io: Builder| {
        io = io.namespace("/", |namespace| namespace);
        io
    };
    let suite = |servers: &Servers| {
        let mut clients: Vec<RawClient> = (0..3)
            .map(|i| {
                servers[i]
                    .io
                    .add_namespace("/x", |namespace| namespace)
                    .unwrap();
                let mut client = servers[i].open();
                join(&mut client, "/x,");
                client
            })
            .collect();
        for i in 0..3 {
            until(|| members(&servers[i]) == Some(3));
        }
        servers[0].io.of("/x").emit("all", 1);
        for client in &mut clients {
            client.expect_text("42/x,[\"all\",1]");
        }
        assert!(servers[1].io.remove_namespace("/x"));
        clients[1].expect_text("41/x,");
        until(|| members(&servers[0]) == Some(2));
        // The server still sends to clients that other servers have in the namespace.
        servers[1].io.of("/x").emit("rest", 2);
        for i in [0, 2] {
            clients[i].expect_text("42/x,[\"rest\",2]");
        }
        clients[1].send_text("40/x,");
        clients[1].expect_text("44/x,{\"message\":\"Invalid namespace\"}");
        assert_eq!(servers[0].io.of("/x").count(), 1);
    };
    suite(&Servers::joined(3, build));
    for wire in Wire::ALL {
        suite(&Servers::on_redis(RedisServer::shared(), 3, wire, build));
    }
    suite(&Servers::on_postgres(3, build));
    suite(&Servers::on_nats(NatsServer::shared(), 3, build));
}
