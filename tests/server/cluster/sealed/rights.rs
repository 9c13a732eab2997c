//! Abilities of a broker client without the secret, by the rights that the broker grants it.

use std::time::Duration;

use roomcast::{
    adapter::{
        postgres::Postgres,
        values::{Expected, Keyspace, Put},
    },
    metrics::Counter,
};
use serde_json::Value;

use super::{Cluster, Form, Transport, count, sealed};
use crate::{
    cluster::{Servers, Wire, quiet, secrets},
    local::until,
    postgres_server,
};

const LEASE: Duration = Duration::from_secs(60);

#[test]
fn a_client_without_the_secret_changes_values_and_takes_locks() {
    for transport in [Transport::Redis(Wire::Classic), Transport::Postgres] {
        let cluster = Cluster::new(transport);
        // The second program has no more than the rights of the broker.
        let servers = [cluster.serve(&sealed()), cluster.serve(&Form::Plain)];
        let values = |i: usize| servers[i].io.values().unwrap();
        let numbers = |i: usize| -> Keyspace<u64> {
            values(i).keyspace("numbers", 1, |_, value: Value| Ok(value))
        };
        let put = numbers(1);
        let put = put.put("n", Expected::Anything, &7);
        let put = servers[1].runtime.block_on(put).unwrap();
        assert!(matches!(put, Put::Stored(_)), "{transport:?}: {put:?}");
        let found = servers[0].runtime.block_on(numbers(0).get("n")).unwrap();
        assert_eq!(found.unwrap().value, 7, "{transport:?}");
        let taking = values(1);
        let held = servers[1].runtime.block_on(taking.try_lock("one", LEASE));
        let held = held.unwrap().unwrap();
        let taken = servers[0]
            .runtime
            .block_on(values(0).try_lock("one", LEASE));
        assert!(taken.unwrap().is_none(), "{transport:?}");
        assert!(servers[1].runtime.block_on(held.release()).unwrap());
    }
}

#[test]
fn deleted_rows_count_as_lost_and_added_rows_are_not_read() {
    let postgres = postgres_server::Postgres::start();
    let url = postgres.database();
    let (_, name) = url.rsplit_once('/').unwrap();
    let adapter = |key: &str| Postgres::new(&url).unwrap().key(key).sealed(secrets([1]));
    let servers = Servers::serve_and_meet(2, adapter, quiet);
    let mut client = servers[1].connect().0;
    let table = "SELECT to_regclass('socket_io_attachments') IS NOT NULL";
    until(|| postgres.sql(name, table).trim() == "t");
    // Stands for a role that deletes each row before a server reads it.
    postgres.sql(
        name,
        "CREATE FUNCTION remove_row() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN DELETE FROM socket_io_attachments WHERE id = NEW.id; RETURN NULL; END';
         CREATE TRIGGER remove_row AFTER INSERT ON socket_io_attachments
             FOR EACH ROW EXECUTE FUNCTION remove_row()",
    );
    let lost = count(&servers[1], Counter::ClusterLost);
    let large = "x".repeat(9_000);
    servers[0].io.emit("large", &large);
    until(|| count(&servers[1], Counter::ClusterLost) == lost + 1);
    servers[0].io.emit("small", 1);
    client.expect_text("42[\"small\",1]");

    // A row with an event in it, and a notification of it, as Node servers send them.
    postgres.sql(name, "DROP TRIGGER remove_row ON socket_io_attachments");
    let plain = count(&servers[1], Counter::ClusterPlain);
    let key = &servers.key;
    postgres.sql(
        name,
        &format!(
            r#"WITH added AS (
                 INSERT INTO socket_io_attachments (payload) VALUES ('forged') RETURNING id
             ) SELECT pg_notify('{key}#/',
                 '{{"uid":"x","type":3,"attachmentId":"' || id || '"}}') FROM added"#
        ),
    );
    until(|| count(&servers[1], Counter::ClusterPlain) > plain);
    servers[0].io.emit("small", 2);
    client.expect_text("42[\"small\",2]");
    assert_eq!(count(&servers[1], Counter::ClusterLost), lost + 1);
}
