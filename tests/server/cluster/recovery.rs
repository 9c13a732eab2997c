//! Clients that reconnect, and what other servers see of them.

use roomcast::{Builder, Event, adapter::Health, options::Recovery};
use serde_json::Value;

use super::{Servers, Wire, hub::Hub, quiet};
use crate::{
    local::{Local, text, until},
    redis_server::RedisServer,
    support::RawClient,
};

fn recovering(io: Builder) -> Builder {
    io.recovery(Recovery::default())
        .namespace("/", |namespace| {
            namespace.on("which", async |event: Event| {
                roomcast::Ack(event.socket.recovered())
            })
        })
}

/// Connects with an offer and returns the secret of the session.
fn enter(client: &mut RawClient, offer: &str) -> String {
    client.send_text(format!("40{offer}"));
    let answer: Value = serde_json::from_str(text(client).strip_prefix("40").unwrap()).unwrap();
    answer["pid"].as_str().unwrap().to_owned()
}

fn offset(event: &str) -> String {
    let args: Vec<Value> = serde_json::from_str(event.strip_prefix("42").unwrap()).unwrap();
    args[2].as_str().unwrap().to_owned()
}

#[test]
fn offsets_are_those_of_the_server_that_sends_to_the_client() {
    let hub = Hub::new();
    let with = Servers::joined_by(hub.clone(), 2, recovering);
    let without = Servers::joined_by(hub, 1, quiet);
    let mut clients = [with[0].open(), with[1].open()];
    let pids = clients.each_mut().map(|client| enter(client, ""));
    let (mut plain, _) = without[0].connect();
    with[0].io.emit("hi", 1);
    plain.expect_text("42[\"hi\",1]");
    let offsets = clients.each_mut().map(|client| offset(&text(client)));
    for (i, offset) in offsets.iter().enumerate() {
        let tag = &with.node(i).as_str()[..6].to_owned();
        assert!(offset.ends_with(&format!(".{tag}")), "{offset}");
    }
    drop(clients);

    let recovers = |at: usize, pid: &str, offset: &str| {
        let mut client = with[at].open();
        let offer = format!("{{\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}");
        let own = enter(&mut client, &offer);
        client.send_text("421[\"which\"]");
        assert_eq!(text(&mut client), format!("431[{}]", own == pid));
        own == pid
    };
    assert!(
        !recovers(1, &pids[0], &offsets[0]),
        "the session is on another server"
    );
    assert!(
        !recovers(0, &pids[0], &offsets[1]),
        "the offset is of another server"
    );
    assert!(recovers(0, &pids[0], &offsets[0]));
}

/// Returns whether a client that reconnects at a server with this offset is recovered.
fn is_recovered(server: &Local, pid: &str, offset: &str) -> bool {
    let mut client = server.open();
    let offer = match offset {
        "" => format!("{{\"pid\":\"{pid}\"}}"),
        offset => format!("{{\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}"),
    };
    let own = enter(&mut client, &offer);
    // Missed events arrive first.
    client.send_text("421[\"which\"]");
    let is_answer = |event: &str| event.starts_with("431");
    let answer = std::iter::repeat_with(|| text(&mut client)).find(|event| is_answer(event));
    assert_eq!(answer.unwrap(), format!("431[{}]", own == pid));
    own == pid
}

/// Returns the secret and the last offset of a client that has received an event and lost its
/// connection.
fn disconnected_session(server: &Local) -> (String, String) {
    let mut client = server.open();
    let pid = enter(&mut client, "");
    server.io.local().emit("hi", 1);
    let offset = offset(&text(&mut client));
    (pid, offset)
}

/// Waits until new sessions can be recovered again: the server must know from which offset on
/// nothing is missing.
fn recovers_again(server: &Local) {
    until(|| {
        let (pid, offset) = disconnected_session(server);
        is_recovered(server, &pid, &offset)
    });
}

#[test]
fn isolated_server_recovers_no_session_with_a_gap() {
    let servers = Servers::joined(2, recovering);
    let (own, node) = (&servers[0], servers.node(0));
    recovers_again(own);
    let (during, after) = (disconnected_session(own), disconnected_session(own));
    let session_without_offset = || (enter(&mut own.open(), ""), String::new());
    let (without_offset, (pid, _)) = (session_without_offset(), session_without_offset());
    assert!(is_recovered(own, &pid, ""));
    servers.hub().isolate(&node);
    servers[1].io.emit("missed", ());
    servers.settle();
    assert!(
        !is_recovered(own, &during.0, &during.1),
        "what others send now never comes"
    );
    let during_isolation = disconnected_session(own);
    servers.hub().reconnect(&node);
    for (pid, offset) in [after, during_isolation, without_offset] {
        assert!(
            !is_recovered(own, &pid, &offset),
            "something is missing behind what it has"
        );
    }
    recovers_again(own);
    let (pid, offset) = disconnected_session(&servers[1]);
    assert!(
        is_recovered(&servers[1], &pid, &offset),
        "the other server was not cut off"
    );
}

#[test]
fn sessions_are_not_recovered_after_a_peer_lost_messages() {
    let servers = Servers::joined(2, recovering);
    let own = &servers[0];
    recovers_again(own);
    let before = disconnected_session(own);
    let mut witness = own.open();
    enter(&mut witness, "");
    servers.hub().drop_one(&servers.node(1));
    // The next heartbeat reports it.
    until(|| {
        own.io
            .nodes()
            .iter()
            .any(|node| !node.is_this && node.load.lost == 1)
    });
    // An event after the heartbeat shows that the server has processed it.
    servers[1].io.emit("fence", ());
    text(&mut witness);
    assert!(!is_recovered(own, &before.0, &before.1));
    recovers_again(own);
}

#[test]
fn sessions_from_before_a_redis_outage_are_not_recovered() {
    for wire in [Wire::Classic, Wire::Sharded] {
        let redis = RedisServer::start();
        let servers = Servers::on_redis(&redis, 2, wire, recovering);
        let own = &servers[0];
        recovers_again(own);
        let (during, after) = (disconnected_session(own), disconnected_session(own));
        redis.kill();
        until(|| own.io.adapter_health() != Some(Health::Ready));
        assert!(!is_recovered(own, &during.0, &during.1));
        redis.restart();
        until(|| own.io.adapter_health() == Some(Health::Ready));
        assert!(!is_recovered(own, &after.0, &after.1));
        recovers_again(own);
    }
}
