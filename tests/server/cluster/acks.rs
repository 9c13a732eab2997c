//! Acknowledgements by the clients of all servers.

use std::time::Duration;

use roomcast::{AckError, Builder, Config, SocketId, adapter::Servers as Members, broadcast::Acks};

use super::{Servers, quiet};
use crate::{
    local::text,
    support::{DEADLINE, RawClient},
};

/// Receives a request and returns the id for its acknowledgement.
fn asked(client: &mut RawClient) -> u64 {
    let question = text(client);
    let id = question
        .strip_prefix("42")
        .unwrap()
        .strip_suffix("[\"ready?\"]");
    id.unwrap().parse().unwrap()
}

fn ask(servers: &Servers, timeout: Duration) -> Acks<u32> {
    let io = &servers[0].io;
    let room = io.to("room").timeout(timeout);
    room.emit_with_acks("ready?", ())
}

fn members(servers: &Servers, count: usize) -> Vec<(RawClient, SocketId)> {
    let connect = |i: usize| {
        let (client, sid) = servers[i].connect();
        let id = SocketId::parse(&sid).unwrap();
        servers[i].io.local().in_(&id).join("room");
        (client, id)
    };
    (0..count).map(connect).collect()
}

#[test]
fn members_of_a_room_answer_from_every_server() {
    Servers::each(quiet, |servers| {
        let mut clients = members(servers, 6);
        // Each server assigns its own ids.
        drop(
            servers[1]
                .io
                .local()
                .emit_with_local_acks::<u32>("other", ()),
        );
        let mut answers = ask(servers, DEADLINE);
        for (i, (client, _)) in clients.iter_mut().enumerate() {
            if i % 3 == 1 || servers.are_alone() {
                assert!(text(client).ends_with("[\"other\"]"));
            }
            let id = asked(client);
            client.send_text(format!("43{id}[{i}]"));
        }
        let mut got = Vec::new();
        servers[0].runtime.block_on(async {
            while let Some((socket, answer)) = answers.next().await {
                got.push((answer.unwrap(), socket.unwrap()));
            }
        });
        got.sort_unstable();
        let ids = clients.iter().map(|(_, id)| id.clone());
        let expected: Vec<(u32, SocketId)> = (0..).zip(ids).collect();
        assert_eq!(got, expected);
        assert_eq!(answers.expected(), 6);
        assert!(answers.missing().is_empty() && answers.error().is_none());
    });
}

#[test]
fn leaving_or_late_member_is_an_answer_without_a_value() {
    Servers::each_at_once(quiet, |servers| {
        let mut clients = members(servers, 3);
        let mut answers = ask(servers, Duration::from_secs(10));
        for (client, _) in &mut clients {
            asked(client);
        }
        clients[1].0.send_text("41");
        let mut got = Vec::new();
        servers[0].runtime.block_on(async {
            while let Some((socket, answer)) = answers.next().await {
                got.push((socket, answer.unwrap_err()));
            }
        });
        let left = got
            .iter()
            .find(|(_, error)| matches!(error, AckError::Disconnected));
        assert_eq!(left.unwrap().0, Some(clients[1].1.clone()));
        let late = got
            .iter()
            .filter(|(_, error)| matches!(error, AckError::Timeout));
        let mut late: Vec<_> = late.map(|(socket, _)| socket.clone()).collect();
        late.sort_unstable();
        let third = servers.are_alone().then_some(clients[2].1.clone());
        let mut expected = [Some(clients[0].1.clone()), third];
        expected.sort_unstable();
        assert_eq!(late, expected, "who is late elsewhere is only a number");
        assert_eq!((got.len(), answers.expected()), (3, 3));
    });
}

#[test]
fn silent_server_is_named_in_the_result() {
    let servers = Servers::joined(3, quiet);
    let mut clients = members(&servers, 3);
    servers.hub().isolate(&servers.node(1));
    let mut answers = ask(&servers, Duration::from_secs(10));
    for i in [0, 2] {
        let client = &mut clients[i].0;
        let id = asked(client);
        client.send_text(format!("43{id}[7]"));
    }
    let mut got = 0;
    servers[0].runtime.block_on(async {
        while let Some((_, answer)) = answers.next().await {
            got += answer.unwrap();
        }
    });
    assert_eq!((got, answers.expected()), (14, 2));
    assert_eq!(answers.missing().nodes, [servers.node(1)]);
}

#[test]
fn server_that_leaves_during_a_request_is_not_awaited() {
    let servers = Servers::joined(3, quiet);
    servers.hub().isolate(&servers.node(1));
    let mut answers = ask(&servers, Duration::from_secs(3600));
    servers.hub().send_leave(&servers.node(1));
    assert!(servers[0].runtime.block_on(answers.next()).is_none());
    assert_eq!(answers.missing().nodes, [servers.node(1)]);
    assert_ne!(Members::Count(1), Members::Known(Vec::new()));
}

#[test]
fn reordered_and_duplicate_answers_count_once() {
    let servers = Servers::joined(3, quiet);
    let mut clients = members(&servers, 9);
    servers.hub().duplicate();
    servers.hub().shuffle(3);
    let mut answers = ask(&servers, DEADLINE);
    for (client, _) in &mut clients {
        let id = asked(client);
        client.send_text(format!("43{id}[1]"));
    }
    let mut got = 0;
    servers[0].runtime.block_on(async {
        while let Some((_, answer)) = answers.next().await {
            got += answer.unwrap();
        }
    });
    assert_eq!((got, answers.expected()), (9, 9));
}

#[test]
fn request_that_cannot_be_sent_returns_an_error() {
    let servers = Servers::joined(2, |io: Builder| {
        quiet(io.config(Config::default().max_pending_acks(1)))
    });
    let first = ask(&servers, DEADLINE);
    let second = ask(&servers, DEADLINE);
    assert!(second.error().is_some());
    drop(first);
    let third = ask(&servers, DEADLINE);
    assert!(third.error().is_none());
}
