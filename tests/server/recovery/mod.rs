//! Clients that reconnect after a broken connection and continue as the same socket.

mod ending;
mod no_offset;
mod users;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use roomcast::{
    Ack, Authenticate, Builder, Config, Connect, Event, Io, Principal, Refusal, Room, State,
    metrics::Gauge, options::Recovery,
};
use serde_json::Value;

use crate::{
    local::{Local, text, until},
    support::{Polling, RawClient},
};

/// A client's knowledge of its session.
struct Session {
    sid: String,
    pid: String,
    /// The last argument of the last event.
    offset: Option<String>,
}

/// Reads the events before the connect answer, and the answer.
fn entered(mut next: impl FnMut() -> String, nsp: &str) -> (Vec<String>, Session) {
    let mut events = Vec::new();
    loop {
        let packet = next();
        let Some(answer) = packet.strip_prefix(&format!("40{nsp}")) else {
            events.push(packet);
            continue;
        };
        let answer: Value = serde_json::from_str(answer).unwrap();
        let field = |name: &str| answer[name].as_str().unwrap().to_owned();
        let session = Session {
            sid: field("sid"),
            pid: field("pid"),
            offset: events.last().map(|event| offset(event)),
        };
        return (events, session);
    }
}

fn enter(client: &mut RawClient, nsp: &str, auth: &str) -> (Vec<String>, Session) {
    client.send_text(format!("40{nsp}{auth}"));
    entered(|| text(client), nsp)
}

/// Returns the last argument of an event, which must be a text.
fn offset(event: &str) -> String {
    let array = event.trim_start_matches(|c| c != '[');
    let args: Vec<Value> = serde_json::from_str(array).unwrap();
    args.last().unwrap().as_str().unwrap().to_owned()
}

/// Returns an event without its offset.
fn bare(event: &str) -> String {
    event.replace(&format!(",\"{}\"]", offset(event)), "]")
}

impl Session {
    fn offer(&self) -> String {
        // As in stock clients, the offset is missing before the first event.
        let offset = self.offset.as_ref();
        let offset = offset.map_or_else(String::new, |offset| format!(",\"offset\":\"{offset}\""));
        format!("{{\"pid\":\"{}\"{offset}}}", self.pid)
    }

    /// Expects this event as the next.
    fn expect(&mut self, client: &mut RawClient, expected: &str) {
        let event = text(client);
        assert_eq!(bare(&event), expected);
        self.offset = Some(offset(&event));
    }
}

fn on(recovery: Recovery) -> Builder {
    Io::builder()
        .recovery(recovery)
        .namespace("/", |namespace| {
            namespace
                .on("join", async |event: Event, room: String| {
                    event.socket.join(room)
                })
                .on("mark", async |event: Event, mark: String| {
                    event.socket.set_data(mark);
                })
                .on("who", async |event: Event| {
                    let mark = event.socket.data::<String>();
                    let rooms: Vec<String> =
                        event.socket.rooms().iter().map(Room::to_string).collect();
                    Ack((event.socket.recovered(), mark, rooms))
                })
                .on("drop", async |event: Event| event.socket.drop_connection())
                .on("kick", async |event: Event| event.socket.close_connection())
        })
}

fn serve() -> Local {
    Local::serve(on(Recovery::default()))
}

/// Connects a client in `/` and in a room that has received an event.
fn member(server: &Local) -> (RawClient, Session) {
    let mut client = server.open();
    let (events, mut session) = enter(&mut client, "", "");
    assert!(events.is_empty());
    client.send_text("421[\"join\",\"room\"]");
    client.expect_text("431[]");
    server.io.to(&*session.sid).emit("hello", ());
    session.expect(&mut client, "42[\"hello\"]");
    (client, session)
}

/// Breaks a connection and waits until the session is kept for recovery.
fn lose(server: &Local, client: RawClient) {
    let before = recoverable(server);
    drop(client);
    until(|| recoverable(server) == before + 1);
}

fn recoverable(server: &Local) -> i64 {
    server.io.metrics().gauge(Gauge::RecoverySessions)
}

fn stored_bytes(server: &Local) -> i64 {
    server.io.metrics().gauge(Gauge::RecoveryBytes)
}

/// Reconnects and returns the events before the answer, without their offsets.
fn reconnect(server: &Local, session: &mut Session) -> (RawClient, Vec<String>, bool) {
    let mut client = server.open();
    let (events, new) = enter(&mut client, "", &session.offer());
    let is_same = new.pid == session.pid && new.sid == session.sid;
    assert_eq!(new.sid == session.sid, is_same);
    let old = std::mem::replace(session, new);
    session.offset = session
        .offset
        .take()
        .or_else(|| old.offset.filter(|_| is_same));
    let events = events.iter().map(|event| bare(event)).collect();
    (client, events, is_same)
}

#[test]
fn without_recovery_sockets_have_no_pid_and_events_no_offset() {
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, id) = server.connect();
    server.io.emit("hi", 1);
    client.expect_text("42[\"hi\",1]");
    let mut second = server.open();
    second.send_text(format!("40{{\"pid\":\"{id}\",\"offset\":\"B\"}}"));
    assert!(!text(&mut second).contains("pid"));
}

#[test]
fn event_has_one_offset_unless_volatile_or_acknowledged() {
    let server = serve();
    let (mut a, _) = member(&server);
    let (mut b, session) = member(&server);
    let room = server.io.to("room");
    room.emit("all", 1);
    let event = text(&mut a);
    assert_eq!(event, text(&mut b));
    assert_eq!(bare(&event), "42[\"all\",1]");
    assert_ne!(offset(&event), session.offset.unwrap());
    // Repeated until it is sent immediately.
    let only_b = server.io.to(&*session.sid).volatile();
    until(|| only_b.clone().emit("volatile", 2).queued == 1);
    b.expect_text("42[\"volatile\",2]");
    let asking = server.io.to(&*session.sid);
    let _acks = asking.emit_with_acks::<u8>("ask", 3);
    b.expect_text("420[\"ask\",3]");
}

#[test]
fn reconnecting_client_recovers_events_and_identity() {
    let server = serve();
    let (mut client, mut session) = member(&server);
    client.send_text("421[\"mark\",\"x\"]");
    client.expect_text("431[]");
    server.io.to("room").emit("n", 1);
    server.io.to("room").emit("n", 2);
    session.expect(&mut client, "42[\"n\",1]");
    lose(&server, client);
    server.io.to("room").emit("n", 3);
    server.io.to("elsewhere").emit("n", "not mine");
    server.io.to(["room", &session.sid]).emit("n", "once");
    server
        .io
        .to("room")
        .except(&*session.sid)
        .emit("n", "not me");
    server.io.except("room").emit("n", "not us");
    server.io.to("room").volatile().emit("n", "volatile");
    server.io.emit("n", 4);
    let (mut client, missed, is_same) = reconnect(&server, &mut session);
    assert!(is_same);
    let expected = [
        "42[\"n\",2]",
        "42[\"n\",3]",
        "42[\"n\",\"once\"]",
        "42[\"n\",4]",
    ];
    assert_eq!(missed, expected);
    client.send_text("422[\"who\"]");
    client.expect_text("432[true,\"x\",[\"room\"]]");
    server.io.to("room").emit("n", 5);
    session.expect(&mut client, "42[\"n\",5]");
    assert_eq!(recoverable(&server), 0);
    // Again, without missed events.
    lose(&server, client);
    let (_client, missed, is_same) = reconnect(&server, &mut session);
    assert!(is_same && missed.is_empty());
}

#[test]
fn disconnected_recoverable_client_is_not_listed() {
    let server = serve();
    let (client, session) = member(&server);
    let (mut other, _) = member(&server);
    let id = roomcast::SocketId::parse(&session.sid).unwrap();
    let socket = server.io.of("/").socket(id.clone()).unwrap();
    lose(&server, client);
    assert_eq!(server.io.count(), 1);
    assert_eq!(server.io.to("room").count(), 1);
    assert_eq!(server.io.to(&id).count(), 0);
    assert!(server.io.of("/").socket(id).is_none());
    assert!(!socket.is_connected());
    assert_eq!(server.io.to("room").emit("n", 1).queued, 1);
    assert_eq!(bare(&text(&mut other)), "42[\"n\",1]");
    assert_eq!(server.io.metrics().gauge(Gauge::Sockets), 1);
    lose(&server, other);
    assert!(server.io.of("/").rooms().is_empty());
}

#[test]
fn old_socket_handle_works_after_recovery() {
    let server = serve();
    let (client, mut session) = member(&server);
    let id = roomcast::SocketId::parse(&session.sid).unwrap();
    let old = server.io.of("/").socket(id).unwrap();
    lose(&server, client);
    old.emit("n", 1);
    let (mut client, missed, _) = reconnect(&server, &mut session);
    assert_eq!(missed, ["42[\"n\",1]"]);
    old.emit("n", 2);
    session.expect(&mut client, "42[\"n\",2]");
}

#[test]
fn malformed_offers_start_a_new_session_without_an_error() {
    let server = serve();
    let (other, foreign) = member(&server);
    let (client, session) = member(&server);
    lose(&server, client);
    let (pid, last) = (&session.pid, session.offset.as_deref().unwrap());
    let other_last = foreign.offset.as_deref().unwrap();
    for offer in [
        String::new(),
        "{}".into(),
        format!("{{\"offset\":\"{last}\"}}"),
        format!("{{\"pid\":\"{pid}\",\"offset\":\"\"}}"),
        format!("{{\"pid\":\"{pid}\",\"offset\":\"{last}A\"}}"),
        format!("{{\"pid\":\"{pid}\",\"offset\":\"no text\"}}"),
        format!("{{\"pid\":\"{pid}\",\"offset\":7}}"),
        format!("{{\"pid\":\"{pid}\",\"offset\":[\"{last}\"]}}"),
        format!("{{\"pid\":\"{pid}\",\"offset\":\"{other_last}\"}}"),
        format!("{{\"pid\":\"{}\",\"offset\":\"{last}\"}}", foreign.pid),
        format!("{{\"pid\":\"{}\",\"offset\":\"{last}\"}}", session.sid),
        format!("{{\"pid\":\"x\",\"offset\":\"{last}\"}}"),
        format!("{{\"pid\":null,\"offset\":\"{last}\"}}"),
    ] {
        let (events, new) = enter(&mut server.open(), "", &offer);
        assert!(events.is_empty(), "{offer}");
        assert_ne!(new.sid, session.sid, "{offer}");
        assert_ne!(new.pid, session.pid, "{offer}");
    }
    // No other client is affected.
    let mut session = session;
    let back = reconnect(&server, &mut session);
    assert!(back.2);
    assert!(server.io.of("/").count() >= 2);
    drop((other, back));
}

#[test]
fn namespace_does_not_recover_sessions_of_another_namespace() {
    let io = on(Recovery::default()).namespace("/other", |namespace| namespace);
    let server = Local::serve(io);
    let (client, mut session) = member(&server);
    lose(&server, client);
    let (events, new) = enter(&mut server.open(), "/other,", &session.offer());
    assert!(events.is_empty() && new.pid != session.pid);
    assert!(reconnect(&server, &mut session).2);
}

#[test]
fn a_session_is_recovered_once() {
    let server = serve();
    let (client, session) = member(&server);
    lose(&server, client);
    let offers: Vec<_> = (0..8).map(|_| session.offer()).collect();
    let mut clients: Vec<RawClient> = offers.iter().map(|_| server.open()).collect();
    // All at the same time; in the end only one has the id.
    for (client, offer) in clients.iter_mut().zip(&offers) {
        client.send_text(format!("40{offer}"));
    }
    let same = clients.iter_mut().filter_map(|client| {
        let (_, new) = entered(|| text(client), "");
        (new.pid == session.pid).then_some(())
    });
    assert!(same.count() >= 1);
    let id = roomcast::SocketId::parse(&session.sid).unwrap();
    until(|| server.io.of("/").socket(id.clone()).is_some());
    assert_eq!(server.io.to(&id).count(), 1);
    assert_eq!(server.io.to(id).emit("only", ()).queued, 1);
}

#[test]
fn client_that_seems_connected_recovers_and_replaces_it() {
    let server = serve();
    let (mut old, mut session) = member(&server);
    server.io.to("room").emit("n", 1);
    let (mut client, missed, is_same) = reconnect(&server, &mut session);
    assert!(is_same);
    assert_eq!(missed, ["42[\"n\",1]"]);
    old.expect_close();
    // Packets in flight on the old connection do no harm.
    server.io.to("room").emit("n", 2);
    session.expect(&mut client, "42[\"n\",2]");
    until(|| server.io.metrics().gauge(Gauge::SessionsWebSocket) == 1);
    client.send_text("422[\"who\"]");
    client.expect_text("432[true,null,[\"room\"]]");
    assert_eq!(server.io.count(), 1);
}

#[test]
fn client_that_left_or_was_disconnected_is_not_recovered() {
    for packet in ["41", "42[\"kick\"]", "9", "4x"] {
        let server = serve();
        let (mut client, mut session) = member(&server);
        client.send_text(packet);
        if matches!(packet, "9" | "4x") {
            client.expect_close();
        }
        until(|| server.io.count() == 0);
        let (_client, missed, is_same) = reconnect(&server, &mut session);
        // A bad Socket.IO packet ends in `forced close`, as in the official server; a bad Engine.IO
        // packet in `parse error`.
        assert_eq!(is_same, packet == "4x", "{packet}");
        assert!(missed.is_empty());
    }
}

#[test]
fn session_closed_by_the_server_is_recovered() {
    let server = serve();
    let (mut client, mut session) = member(&server);
    client.send_text("42[\"drop\"]");
    client.expect_close();
    until(|| recoverable(&server) == 1);
    assert!(reconnect(&server, &mut session).2);
}

#[test]
fn client_with_ping_timeout_is_recovered() {
    let io = on(Recovery::default())
        .config(
            Config::default()
                .ping_interval(Duration::from_millis(500))
                .ping_timeout(Duration::from_secs(10))
                .recovery(Recovery::default()),
        )
        .namespace("/", |namespace| {
            namespace.on_connect(async |event: Event| {
                event.socket.emit("welcome", ());
            })
        });
    let server = Local::serve(io);
    let mut client = server.open();
    let (_, mut session) = enter(&mut client, "", "");
    session.expect(&mut client, "42[\"welcome\"]");
    client.expect_unanswered_close();
    until(|| recoverable(&server) == 1);
    assert!(reconnect(&server, &mut session).2);
}

#[test]
fn session_is_recovered_over_another_transport_and_upgrade() {
    let server = serve();
    // Polls, upgrades to WebSocket, disconnects.
    let polling = Polling::open(server.address(), "/socket.io/");
    assert_eq!(polling.post("40").parts(), (200, "ok"));
    let mut packets: Vec<String> = Vec::new();
    let mut next = || {
        while packets.is_empty() {
            let answer = polling.poll();
            packets = answer.parts().1.split('\x1e').map(Into::into).collect();
        }
        packets.remove(0)
    };
    let (_, mut session) = entered(&mut next, "");
    server.io.emit("n", 1);
    session.offset = Some(offset(&next()));
    let client = polling.upgraded();
    server.io.emit("n", 2);
    lose(&server, client);
    server.io.emit("n", 3);
    // Reconnects by polling.
    let polling = Polling::open(server.address(), "/socket.io/");
    polling.post(format!("40{}", session.offer()));
    let answer = polling.poll();
    let body = answer.parts().1.to_owned();
    let mut packets = body.split('\x1e').map(ToOwned::to_owned);
    let (missed, new) = entered(|| packets.next().unwrap(), "");
    let missed: Vec<String> = missed.iter().map(|event| bare(event)).collect();
    assert_eq!(missed, ["42[\"n\",2]", "42[\"n\",3]"]);
    assert_eq!(new.sid, session.sid);
    // Upgrades, and all later events arrive over WebSocket.
    let mut client = polling.upgraded();
    server.io.emit("n", 4);
    assert_eq!(bare(&text(&mut client)), "42[\"n\",4]");
}

#[test]
fn every_namespace_of_a_connection_is_recovered_by_itself() {
    let io = on(Recovery::default())
        .namespaces(|name| name.starts_with("/made-"), |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, mut main) = member(&server);
    let (_, mut made) = enter(&mut client, "/made-1,", "");
    let room = server.io.of("/made-1");
    room.emit("m", 1);
    let event = text(&mut client);
    made.offset = Some(offset(&event));
    drop(client);
    until(|| recoverable(&server) == 2);
    server.io.emit("n", 1);
    room.emit("m", 2);
    let (mut client, missed, is_same) = reconnect(&server, &mut main);
    assert!(is_same);
    assert_eq!(missed, ["42[\"n\",1]"]);
    let (missed, new) = enter(&mut client, "/made-1,", &made.offer());
    assert_eq!(new.sid, made.sid);
    assert_eq!(missed.len(), 1);
    assert_eq!(bare(&missed[0]), "42/made-1,[\"m\",2]");
}

#[test]
fn on_demand_namespace_stays_for_recoverable_clients() {
    let io = Io::builder()
        .recovery(Recovery::default().window(Duration::from_secs(10)))
        .namespaces(|_| true, |namespace| namespace);
    let server = Local::serve(io);
    let mut client = server.open();
    let (_, _) = enter(&mut client, "/made,", "");
    lose(&server, client);
    // Its rooms and handlers still exist for a new client.
    let mut second = server.open();
    let (_, _) = enter(&mut second, "/made,", "");
    assert_eq!(server.io.of("/made").count(), 1);
    drop(second);
    until(|| recoverable(&server) == 0 && server.io.of("/made").count() == 0);
    assert_eq!(stored_bytes(&server), 0);
}

#[test]
fn recoverable_clients_can_leave_rooms_and_be_disconnected() {
    let server = serve();
    let (client, mut session) = member(&server);
    lose(&server, client);
    server.io.to("room").leave("room");
    server.io.to("room").emit("n", "secret");
    let (client, missed, is_same) = reconnect(&server, &mut session);
    assert!(is_same && missed.is_empty());
    lose(&server, client);
    server.io.to(&*session.sid).disconnect();
    assert_eq!(recoverable(&server), 0);
    assert_eq!(stored_bytes(&server), 0);
    assert!(!reconnect(&server, &mut session).2);
}

#[test]
fn stopping_server_keeps_no_session() {
    let server = serve();
    let (client, _) = member(&server);
    let (_second, _) = member(&server);
    lose(&server, client);
    let grace = Duration::from_secs(20);
    server.runtime.block_on(server.io.close(grace));
    assert_eq!(recoverable(&server), 0);
    assert_eq!(stored_bytes(&server), 0);
    assert_eq!(server.io.metrics().gauge(Gauge::Rooms), 0);
}

/// Reads numbered events and stores the offset of the last.
fn read_numbers(session: &mut Session, numbers: &mut Vec<u64>, events: &[String]) {
    for event in events {
        let array = event.trim_start_matches(|c| c != '[');
        let args: Vec<Value> = serde_json::from_str(array).unwrap();
        numbers.push(args[1].as_u64().unwrap());
        session.offset = Some(offset(event));
    }
}

#[test]
fn reconnecting_client_gets_events_once_and_in_order() {
    const EVENTS: u64 = 20_000;
    /// Events ahead of the client. More would fill the client's budget while it is disconnected,
    /// and leave too few reconnections.
    const AHEAD: u64 = 1_000;
    let server = Local::serve(on(Recovery::default()
        .max_messages(100_000)
        .max_bytes(1 << 20)));
    let (mut client, mut session) = member(&server);
    let io = server.io.clone();
    // One sender, alternating between the room, all sockets, the socket's own room, and a union.
    let own = session.sid.clone();
    let read = Arc::new(AtomicU64::new(0));
    let has_read = Arc::clone(&read);
    let sender = thread::spawn(move || {
        for n in 0..EVENTS {
            while n > has_read.load(Ordering::Relaxed) + AHEAD {
                thread::yield_now();
            }
            match n % 4 {
                0 => io.to("room").emit("n", n),
                1 => io.emit("n", n),
                2 => io.to(&*own).emit("n", n),
                _ => io.to(["room", "other"]).emit("n", n),
            };
        }
    });
    let mut numbers = Vec::new();
    let mut turns = 0;
    while numbers.last() != Some(&(EVENTS - 1)) {
        for _ in 0..200 {
            let event = text(&mut client);
            read_numbers(&mut session, &mut numbers, &[event]);
            read.store(numbers.len() as u64, Ordering::Relaxed);
            if numbers.last() == Some(&(EVENTS - 1)) {
                break;
            }
        }
        turns += 1;
        // The server has noticed the old connection's end only in some rounds.
        let old = client;
        if turns % 2 == 0 {
            drop(old);
            client = server.open();
        } else {
            client = server.open();
            drop(old);
        }
        let (missed, new) = enter(&mut client, "", &session.offer());
        assert_eq!(new.sid, session.sid, "turn {turns}");
        read_numbers(&mut session, &mut numbers, &missed);
        read.store(numbers.len() as u64, Ordering::Relaxed);
    }
    sender.join().unwrap();
    assert!(turns > 10);
    let expected: Vec<u64> = (0..EVENTS).collect();
    assert!(
        numbers == expected,
        "{} of {EVENTS} in {turns} turns",
        numbers.len()
    );
}
