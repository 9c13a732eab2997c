//! Clients that come back, and what other servers see of it.

use roomcast::{Builder, Event, options::Recovery};
use serde_json::Value;

use super::{Servers, hub::Hub, quiet};
use crate::{local::text, support::RawClient};

fn recovering(io: Builder) -> Builder {
    let mut io = io.recovery(Recovery::default());
    io.namespace("/").on("which", async |event: Event| {
        roomcast::Ack(event.socket.recovered())
    });
    io
}

/// Enters with an offer and tells the secret of the session.
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

    let come = |at: usize, pid: &str, offset: &str| {
        let mut client = with[at].open();
        let offer = format!("{{\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}");
        let own = enter(&mut client, &offer);
        client.send_text("421[\"which\"]");
        assert_eq!(text(&mut client), format!("431[{}]", own == pid));
        own == pid
    };
    assert!(
        !come(1, &pids[0], &offsets[0]),
        "the session is on another server"
    );
    assert!(
        !come(0, &pids[0], &offsets[1]),
        "the offset is of another server"
    );
    assert!(come(0, &pids[0], &offsets[0]));
}
