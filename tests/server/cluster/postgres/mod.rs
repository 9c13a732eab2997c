//! PostgreSQL only.

mod apart;
mod connecting;

use std::{cell::RefCell, fs, thread, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use roomcast::{
    Builder, Io, Lifecycle, Parser,
    adapter::{Emitter, Health, postgres::Postgres},
    handler::ServerSide,
    metrics::Counter,
    types::Bytes,
};
use tempfile::TempDir;

use super::{
    Servers, postgres_url, quiet,
    scenarios::{
        binary_arrives, doubling, events_arrive_in_order, forwarding_notes, last_event_arrives,
        namespaces_are_apart, publishes_only_to_others, queue_precedes_the_end, reaches_everything,
        reason, survives_outage, unsent_heartbeats_are_not_lost, with_namespaces,
    },
};
use crate::{
    local::{Local, join, text, until},
    postgres_server::{self, Postgres as Server},
    support::DEADLINE,
};

fn sql(sql: &str) -> String {
    postgres_server::shared().sql("postgres", sql)
}

/// Starts servers connected by this PostgreSQL.
fn on(server: &Server, count: usize) -> Servers {
    let url = format!("postgres://roomcast@127.0.0.1:{}/postgres", server.port());
    Servers::serve_and_meet(count, |key| Postgres::new(&url).unwrap().key(key), quiet)
}

#[test]
fn postgresql_rows_and_notifications_arrive_in_order() {
    events_arrive_in_order(&Servers::on_postgres(2, quiet));
}

#[test]
fn notifications_of_every_length_about_the_longest_arrive() {
    let servers = Servers::on_postgres(2, quiet);
    let (mut client, _) = servers[1].connect();
    // With any size of the envelope, one of them has exactly 8,000 bytes.
    for length in 7_700..8_010 {
        servers[0].io.emit("e", "x".repeat(length));
        let event = text(&mut client);
        assert_eq!(event.len(), length + "42[\"e\",\"\"]".len());
    }
}

#[test]
fn identical_events_all_arrive() {
    let servers = Servers::on_postgres(2, quiet);
    let (mut client, _) = servers[1].connect();
    for _ in 0..500 {
        servers[0].io.emit("tick", ());
    }
    servers[0].io.emit("end", ());
    for _ in 0..500 {
        client.expect_text("42[\"tick\"]");
    }
    client.expect_text("42[\"end\"]");
}

#[test]
fn binary_goes_to_clients_and_servers_in_both_parsers_through_rows() {
    for parser in [Parser::Json, Parser::MessagePack] {
        binary_arrives(&Servers::on_postgres(2, doubling(parser)), parser);
    }
}

#[test]
fn malformed_notifications_are_only_counted() {
    let servers = Servers::on_postgres(1, quiet);
    let (mut client, _) = servers[0].connect();
    let metrics = servers[0].io.metrics();
    let key = &servers.key;
    let node = servers.node(0);
    let main = format!("{key}#/");
    let nodes = format!("{key}#/.roomcast");
    let own = format!("{key}-roomcast#{node}");
    let long = "k".repeat(257);
    let changed = format!(
        r#"{{"type":9,"uid":"x","nsp":"/.roomcast","data":{{"packet":["changed","{long}"]}}}}"#
    );
    let question =
        format!(r#"{{"type":7,"uid":"x","nsp":"/","data":{{"opts":{{}},"requestId":"{long}"}}}}"#);
    let malformed = [
        (&main, "garbage"),
        (&main, "{"),
        (&main, "{}"),
        (
            &main,
            r#"{"type":3,"uid":"x","nsp":"/","data":{"packet":{"data":["disconnect"]},"opts":{}}}"#,
        ),
        (&main, r#"{"type":3,"attachmentId":"none"}"#),
        (&own, "?"),
        (&own, "AQAA"),
        // Strings that are stored for a while or sent to many servers have a limit.
        (&nodes, &changed),
        (&main, &question),
    ];
    for (channel, payload) in malformed {
        sql(&format!("SELECT pg_notify('{channel}', '{payload}')"));
    }
    let seen = malformed.len() as u64;
    until(|| metrics.counter(Counter::ClusterMalformed) == seen);
    sql(&format!(
        r#"SELECT pg_notify('{main}', '{{"type":99,"uid":"x","data":{{}}}}')"#
    ));
    until(|| metrics.counter(Counter::ClusterUnknown) == 1);
    // A row that does not exist, an empty row, and a row that exceeds every limit.
    let lost = metrics.counter(Counter::ClusterLost);
    sql(&format!(
        r#"SELECT pg_notify('{main}', '{{"attachmentId":"-1"}}')"#
    ));
    until(|| metrics.counter(Counter::ClusterLost) == lost + 1);
    for payload in ["''", "convert_to(repeat('x', 67108865), 'UTF8')"] {
        sql(&format!(
            "WITH stored AS (INSERT INTO socket_io_attachments (payload) VALUES ({payload}) RETURNING id)
             SELECT pg_notify('{main}', '{{\"attachmentId\":' || id || '}}') FROM stored"
        ));
    }
    until(|| metrics.counter(Counter::ClusterMalformed) == seen + 2);
    servers[0].io.emit("end", ());
    client.expect_text("42[\"end\"]");
    assert_eq!(servers[0].io.adapter_health(), Some(Health::Ready));
}

#[test]
fn servers_work_again_after_postgresql_is_killed_or_suspended() {
    for stands_still in [false, true] {
        let server = Server::start();
        let servers = on(&server, 2);
        let server = RefCell::new(server);
        match stands_still {
            true => survives_outage(
                &servers,
                false,
                || server.borrow().pause(),
                || server.borrow().resume(),
            ),
            false => survives_outage(
                &servers,
                false,
                || server.borrow_mut().kill(),
                || server.borrow_mut().restart(),
            ),
        }
    }
}

#[test]
fn heartbeats_unsent_during_a_postgresql_outage_do_not_count_as_lost() {
    let server = Server::start();
    let servers = on(&server, 2);
    unsent_heartbeats_are_not_lost(&servers, || server.pause(), || server.resume());
}

#[test]
fn queue_is_sent_to_postgresql_before_a_server_ends() {
    let servers = Servers::on_postgres(2, quiet);
    queue_precedes_the_end(&servers);
    // Its leave message follows everything that it has sent.
    until(|| {
        let fetched = servers[1].runtime.block_on(servers[1].io.fetch_sockets());
        fetched.missing.is_empty()
    });
}

#[test]
fn sole_server_at_postgresql_publishes_nothing_until_a_peer_greets() {
    let url = postgres_url();
    let interval = Duration::from_millis(100);
    publishes_only_to_others(|| {
        let postgres = Postgres::new(&url).unwrap().key("lonely");
        postgres.heartbeat(interval, interval * 10)
    });
}

#[test]
fn silent_server_counts_as_left() {
    let url = postgres_url();
    let second = Duration::from_secs(1);
    let adapter = |key: &str| {
        let postgres = Postgres::new(&url).unwrap().key(key);
        postgres.heartbeat(second, 10 * second)
    };
    let mut servers = Servers::serve_and_meet(3, adapter, quiet);
    // Requests wait until all servers have greeted each other.
    servers.settle();
    drop(servers.servers.remove(1));
    let gone = servers[0].io.to("nobody").timeout(DEADLINE);
    let fetched = servers[0].runtime.block_on(gone.fetch_sockets());
    assert_eq!(fetched.missing.nodes.len(), 1);
    until(|| {
        let asked = servers[0].io.fetch_sockets();
        let fetched = servers[0].runtime.block_on(asked);
        fetched.missing.is_empty()
    });
    // The remaining server sends heartbeats whether it has events or not.
    let server_side = servers[0].io.of("/");
    let answers = server_side.server_side_emit_with_acks::<u8>("question", ());
    assert_eq!(servers[0].runtime.block_on(answers).unwrap(), [0; 0]);
}

#[test]
fn server_that_only_publishes_in_a_namespace_gets_no_requests() {
    let servers = Servers::on_postgres(2, quiet);
    let build = |mut io: Builder| {
        io = io.namespace("/rooms", |namespace| namespace);
        io
    };
    let url = postgres_url();
    let adapter = Postgres::new(&url).unwrap().key(&servers.key);
    let listening = Local::serve(build(Io::builder().adapter(adapter)));
    until(|| listening.io.adapter_health() == Some(Health::Ready));
    let mut client = listening.open();
    join(&mut client, "/rooms,");
    servers[0].io.of("/rooms").emit("news", 1);
    client.expect_text("42/rooms,[\"news\",1]");
    let rooms = listening.io.of("/rooms");
    let fetched = listening.runtime.block_on(rooms.fetch_sockets());
    assert!(fetched.missing.is_empty(), "{:?}", fetched.missing);
}

#[test]
fn panicking_application_function_keeps_the_connection() {
    let build = |mut io: Builder| {
        io = io.on_event(|event| {
            let is_met = matches!(event, Lifecycle::NodeJoined { .. });
            assert!(!is_met, "the application has a mistake");
        });
        quiet(io)
    };
    let servers = Servers::on_postgres(2, build);
    until(|| servers[0].io.nodes().len() == 2);
    let (mut client, _) = servers[0].connect();
    servers[1].io.emit("after", ());
    client.expect_text("42[\"after\"]");
    let metrics = servers[0].io.metrics();
    assert_eq!(metrics.counter(Counter::TaskRestarts), 0);
}

#[test]
fn too_large_a_row_is_refused_and_the_next_event_is_sent() {
    let servers = Servers::on_postgres(2, quiet);
    let (mut client, _) = servers[1].connect();
    let metrics = servers[0].io.metrics();
    let unsent = metrics.counter(Counter::ClusterUnsent);
    servers[0].io.emit("large", "x".repeat(17 << 20));
    assert_eq!(metrics.counter(Counter::ClusterUnsent), unsent + 1);
    servers[0].io.emit("small", ());
    client.expect_text("42[\"small\"]");
}

#[test]
fn namespace_names_are_distinct_and_escaped_in_sql() {
    let long = |end: &str| format!("/{}{end}", "x".repeat(100));
    let names = [
        "/a".to_owned(),
        "/a#b".to_owned(),
        "/\"; DROP TABLE socket_io_attachments; --".to_owned(),
        "/'".to_owned(),
        "/é".to_owned(),
        long("a"),
        long("b"),
    ];
    let servers = Servers::on_postgres(2, with_namespaces(&names));
    namespaces_are_apart(&servers, &names);
}

#[test]
fn emitter_reaches_clients_and_servers_through_postgresql() {
    let servers = Servers::on_postgres(2, forwarding_notes);
    let postgres = Postgres::new(&postgres_url()).unwrap().key(&servers.key);
    reaches_everything(&servers, || Emitter::new(postgres));
}

#[test]
fn last_event_of_an_emitter_arrives_before_it_ends() {
    let servers = Servers::on_postgres(1, quiet);
    let postgres = Postgres::new(&postgres_url()).unwrap().key(&servers.key);
    last_event_arrives(&servers, || Emitter::new(postgres));
}

#[test]
fn rows_use_the_configured_table_and_are_removed_when_old() {
    let url = postgres_url();
    sql("CREATE SCHEMA IF NOT EXISTS \"files\"");
    let adapter = |key: &str| {
        let postgres = Postgres::new(&url).unwrap().key(key).table("files.sent");
        // Maximum time for the other server to read a row.
        postgres.keep_attachments(Duration::from_secs(5))
    };
    let servers = Servers::serve_and_meet(2, adapter, quiet);
    let (mut client, _) = servers[1].connect();
    servers[0].io.emit("data", Bytes::from_static(b"x"));
    text(&mut client);
    let rows = || sql("SELECT count(*) FROM files.sent");
    until(|| rows() == "0");
}

#[test]
fn role_without_row_right_sends_short_events_until_granted() {
    sql("CREATE SCHEMA locked");
    sql(
        "CREATE TABLE locked.sent (id bigserial UNIQUE, created_at timestamptz DEFAULT now(), payload bytea)",
    );
    sql("CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA locked TO reader");
    let url = postgres_url().replace("roomcast@", "reader@");
    let adapter = |key: &str| {
        let postgres = Postgres::new(&url).unwrap().key(key).table("locked.sent");
        postgres.keep_attachments(Duration::from_secs(1))
    };
    let servers = Servers::serve_and_meet(2, adapter, quiet);
    let (mut client, _) = servers[1].connect();
    let lost = || servers[0].io.metrics().counter(Counter::ClusterLost);
    let large = "x".repeat(9_000);
    servers[0].io.emit("large", &large);
    servers[0].io.emit("small", ());
    client.expect_text("42[\"small\"]");
    assert_eq!(lost(), 1);
    sql("GRANT SELECT, INSERT, DELETE ON locked.sent TO reader");
    sql("GRANT USAGE ON SEQUENCE locked.sent_id_seq TO reader");
    // Each server checks on its own: the sender whether it can store rows, the other whether it can
    // read them.
    let has_come = (0..1000).any(|_| {
        servers[0].io.emit("large", &large);
        servers[0].io.emit("small", ());
        let first = text(&mut client);
        if first.starts_with("42[\"large\"") {
            return true;
        }
        assert_eq!(first, "42[\"small\"]");
        thread::sleep(Duration::from_millis(20)); // Poll interval.
        false
    });
    assert!(has_come);
    client.expect_text("42[\"small\"]");
    // These grants also suffice to remove old rows, more than one statement removes.
    sql("INSERT INTO locked.sent (created_at)
         SELECT now() - interval '1 hour' FROM generate_series(1, 2500)");
    let old = "SELECT count(*) FROM locked.sent WHERE created_at < now() - interval '10 minutes'";
    until(|| sql(old) == "0");
}
