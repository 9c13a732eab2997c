//! NATS only.

use std::{fs, thread};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use roomcast::{
    Io,
    adapter::{Emitter, Health, nats::Nats},
    metrics::Counter,
};

use super::{
    Servers, quiet,
    scenarios::{
        events_arrive_in_order, forwarding_notes, publishes_only_to_others, reaches_everything,
        reason, survives_outage, unsent_heartbeats_are_not_lost,
    },
};
use crate::{
    local::{Local, until},
    nats_server::NatsServer,
};

fn are(servers: &Servers, wanted: impl Fn(Option<Health>) -> bool) -> bool {
    let health = |i: usize| servers[i].io.adapter_health();
    (0..servers.servers.len()).all(|i| wanted(health(i)))
}

#[test]
fn nats_events_arrive_in_order_for_any_target() {
    events_arrive_in_order(&Servers::on_nats(NatsServer::shared(), 2, quiet));
}

#[test]
fn room_events_are_read_only_by_servers_with_members() {
    let servers = Servers::on_nats(NatsServer::shared(), 2, quiet);
    let (mut client, id) = servers[1].connect();
    let received = || servers[1].io.metrics().counter(Counter::ClusterReceived);
    let before = received();
    for n in 0..50 {
        servers[0].io.to("elsewhere").emit("n", n);
    }
    servers[1]
        .io
        .in_(roomcast::SocketId::parse(&id).unwrap())
        .join("here");
    servers[0].io.to("here").emit("n", "here");
    client.expect_text("42[\"n\",\"here\"]");
    assert_eq!(received(), before + 1);
}

#[test]
fn server_reads_missed_messages_after_an_outage() {
    let nats = NatsServer::start();
    let servers = Servers::on_nats(&nats, 2, quiet);
    let mut clients = [0, 1].map(|i| servers[i].connect().0);
    let _runtime = servers[0].runtime.enter();
    let emitter = Emitter::new(Nats::new(&nats.url()).unwrap().key(&servers.key));
    for round in 0..3 {
        // Longer than servers wait for their own messages.
        nats.pause();
        until(|| are(&servers, |health| matches!(health, Some(Health::Down(_)))));
        nats.resume();
        let n = format!("{round}");
        emitter.emit("n", &n).unwrap();
        for client in &mut clients {
            client.expect_text(&format!("42[\"n\",\"{n}\"]"));
        }
        until(|| are(&servers, |health| health == Some(Health::Ready)));
    }
    servers[0].io.emit("end", ());
    for client in &mut clients {
        client.expect_text("42[\"end\"]");
    }
}

#[test]
fn emitter_reaches_clients_and_servers() {
    let nats = NatsServer::shared();
    let servers = Servers::on_nats(nats, 2, forwarding_notes);
    let adapter = Nats::new(&nats.url()).unwrap().key(&servers.key);
    reaches_everything(&servers, || Emitter::new(adapter));
}

#[test]
fn servers_recover_from_a_nats_restart_that_loses_the_stream() {
    for options in ["-js", ""] {
        let nats = NatsServer::start_with(options);
        let servers = Servers::on_nats(&nats, 2, quiet);
        // A stream of NATS in memory is lost with its contents, which is counted when servers
        // detect it.
        let keeps = options == "-js";
        survives_outage(&servers, keeps, || nats.kill(), || nats.restart());
    }
}

#[test]
fn sole_server_at_nats_publishes_nothing_until_a_peer_greets() {
    let nats = NatsServer::start_with("");
    publishes_only_to_others(|| Nats::new(&nats.url()).unwrap());
}

#[test]
fn servers_recover_from_a_suspended_nats() {
    for options in ["-js", ""] {
        let nats = NatsServer::start_with(options);
        let servers = Servers::on_nats(&nats, 2, quiet);
        let keeps = options == "-js";
        survives_outage(&servers, keeps, || nats.pause(), || nats.resume());
    }
}

#[test]
fn heartbeats_unsent_during_a_nats_outage_do_not_count_as_lost() {
    thread::scope(|scope| {
        for options in ["-js", ""] {
            scope.spawn(move || {
                let nats = NatsServer::start_with(options);
                let servers = Servers::on_nats(&nats, 2, quiet);
                unsent_heartbeats_are_not_lost(&servers, || nats.pause(), || nats.resume());
            });
        }
    });
}

#[test]
fn missing_password_or_tls_is_one_error_and_servers_connect_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    fs::write(file("ca.pem"), authority.pem()).unwrap();
    fs::write(file("cert.pem"), certificate.pem()).unwrap();
    fs::write(file("key.pem"), key.serialize_pem()).unwrap();
    let options = format!(
        "-js --user u --pass p:/ü --tls --tlscert {} --tlskey {}",
        file("cert.pem"),
        file("key.pem")
    );
    let nats = NatsServer::start_with(&options);
    let port = nats.port();
    let adapter = |user: &str, ca: bool| {
        let adapter = Nats::new(&format!("tls://{user}localhost:{port}")).unwrap();
        match ca {
            true => adapter.root_certificates(folder.path().join("ca.pem").as_path()),
            false => adapter,
        }
    };
    for (user, ca, expected) in [
        ("u:wrong@", true, "authorization"),
        ("", true, "authorization"),
        ("u:p:%2F%C3%BC@", false, "certificate"),
    ] {
        let server = Local::serve(quiet(Io::builder().adapter(adapter(user, ca))));
        until(|| reason(&server.io).to_lowercase().contains(expected));
        assert!(!reason(&server.io).contains("wrong"));
    }
    let joined = Servers::serve_and_meet(2, |key| adapter("u:p:%2F%C3%BC@", true).key(key), quiet);
    let mut client = joined[1].connect().0;
    joined[0].io.emit("n", 1);
    client.expect_text("42[\"n\",1]");
}

#[test]
fn invalid_messages_on_nats_subjects_are_only_counted() {
    let nats = NatsServer::start();
    let servers = Servers::on_nats(&nats, 1, quiet);
    let (mut client, _) = servers[0].connect();
    let metrics = servers[0].io.metrics();
    let key = servers.key.replace('"', "=22");
    let mut raw = std::net::TcpStream::connect(("127.0.0.1", nats.port())).unwrap();
    let mut say = |subject: String, payload: &[u8]| {
        use std::io::Write as _;
        write!(raw, "PUB {subject} {}\r\n", payload.len()).unwrap();
        raw.write_all(payload).unwrap();
        raw.write_all(b"\r\n").unwrap();
    };
    let everybody = format!("roomcast.{key}.all.x");
    for payload in [
        &b""[..],
        b"\x01",
        b"\x01\xff\xff\xff\xff",
        b"\x01\x02\0\0\0{}",
    ] {
        say(everybody.clone(), payload);
    }
    say(format!("roomcast-pulse.{key}"), b"");
    say(format!("roomcast-pulse.{key}"), b"a\xff");
    until(|| metrics.counter(Counter::ClusterMalformed) == 6);
    say(everybody, b"\x07");
    until(|| metrics.counter(Counter::ClusterUnknown) == 1);
    say(format!("roomcast.{key}.odd"), b"\x07");
    say(format!("roomcast.{key}.odd.x"), b"\x07");
    until(|| metrics.counter(Counter::ClusterMalformed) == 8);
    say("roomcast.other.all.x".to_owned(), b"\x07");
    servers[0].io.emit("n", 1);
    client.expect_text("42[\"n\",1]");
    assert_eq!(metrics.counter(Counter::ClusterUnknown), 1);
    assert_eq!(metrics.counter(Counter::ClusterMalformed), 8);
}
