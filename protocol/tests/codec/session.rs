//! Two sessions, a server's and a client's, in simulated time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use roomcast_protocol::engine::{
    Action, CloseReason, Message, Packet, Probe, Session, SessionConfig, Source, Transport,
};

pub(super) const CONFIG: SessionConfig = SessionConfig {
    ping_interval: Duration::from_secs(25),
    ping_timeout: Duration::from_secs(20),
    upgrade_timeout: Duration::from_secs(10),
};

#[expect(
    clippy::disallowed_methods,
    reason = "the simulated clock starts somewhere"
)]
pub(super) fn start() -> Instant {
    Instant::now()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn text(text: &'static str) -> Packet {
    Packet::Message(Message::Text(Bytes::from_static(text.as_bytes())))
}

/// Both ends, the packets between them, and the simulated time.
struct Pair {
    start: Instant,
    now: Instant,
    latency: Duration,
    /// Packets are lost while this is set.
    is_cut: bool,
    server: End,
    client: End,
}

/// One end and its observed events.
struct End {
    session: Session,
    /// Packets in transit to it, with their time of arrival.
    inbox: VecDeque<(Instant, Transport, Packet)>,
    delivered: Vec<Message>,
    received: Vec<Packet>,
    dropped_candidates: usize,
    closed: Option<(Duration, CloseReason)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Server,
    Client,
}

impl Pair {
    fn new(transport: Transport) -> Self {
        let now = start();
        Self {
            start: now,
            now,
            latency: Duration::from_millis(50),
            is_cut: false,
            server: End::new(Session::server(now, transport, CONFIG)),
            client: End::new(Session::client(now, transport, CONFIG)),
        }
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Server => &mut self.server,
            Side::Client => &mut self.client,
        }
    }

    /// Sends a packet from `side` to the other side.
    fn send(&mut self, side: Side, transport: Transport, packet: Packet) {
        let arrival = self.now + self.latency;
        if !self.is_cut {
            let other = if side == Side::Server {
                Side::Client
            } else {
                Side::Server
            };
            self.end(other)
                .inbox
                .push_back((arrival, transport, packet));
        }
    }

    /// Advances the time to `until` after the start.
    fn run_until(&mut self, until: Duration) {
        let until = self.start + until;
        loop {
            let next = [Side::Server, Side::Client]
                .into_iter()
                .flat_map(|side| {
                    let end = self.end(side);
                    let arrival = end.inbox.front().map(|(at, ..)| *at);
                    [
                        (arrival, side, true),
                        (end.session.poll_timeout(), side, false),
                    ]
                })
                .filter_map(|(at, side, is_packet)| Some((at?, side, is_packet)))
                .min_by_key(|(at, ..)| *at)
                .filter(|(at, ..)| *at <= until);
            let Some((at, side, is_packet)) = next else {
                break;
            };
            self.now = self.now.max(at);
            let now = self.now;
            if is_packet {
                let (_, transport, packet) = self.end(side).inbox.pop_front().unwrap();
                self.receive(side, transport, packet);
            } else {
                let transport = self.end(side).session.transport();
                let action = self.end(side).session.handle_timeout(now);
                assert_ne!(action, Action::None, "a timeout that was due did nothing");
                self.apply(side, transport, action);
            }
        }
        self.now = until;
    }

    fn receive(&mut self, side: Side, transport: Transport, packet: Packet) {
        let now = self.now;
        let end = self.end(side);
        end.received.push(packet.clone());
        let source = match (end.session.transport(), transport) {
            // The old transport is discarded after a switch.
            (Transport::WebSocket, Transport::Polling) => return,
            (current, from) if current == from => Source::Current,
            (..) => Source::Candidate,
        };
        let action = end.session.handle_packet(now, source, packet);
        self.apply(side, transport, action);
    }

    fn apply(&mut self, side: Side, transport: Transport, action: Action) {
        let elapsed = self.now - self.start;
        match action {
            Action::None => {}
            Action::Deliver(message) => self.end(side).delivered.push(message),
            Action::Reply(packet) => self.send(side, transport, packet),
            Action::Switch if side == Side::Client => {
                self.send(side, Transport::WebSocket, Packet::Upgrade);
            }
            Action::Switch => {}
            Action::DropCandidate => self.end(side).dropped_candidates += 1,
            Action::Close(reason) => self.end(side).closed = Some((elapsed, reason)),
        }
    }

    fn attach(&mut self) {
        let now = self.now;
        assert!(self.server.session.handle_attach(now));
        assert!(self.client.session.handle_attach(now));
    }

    fn upgrade(&mut self) {
        self.attach();
        self.send(
            Side::Client,
            Transport::WebSocket,
            Packet::Ping(Probe::Probe),
        );
    }
}

impl End {
    fn new(session: Session) -> Self {
        Self {
            session,
            inbox: VecDeque::new(),
            delivered: Vec::new(),
            received: Vec::new(),
            dropped_candidates: 0,
            closed: None,
        }
    }
}

fn server(transport: Transport) -> (Session, Instant) {
    let now = start();
    (Session::server(now, transport, CONFIG), now)
}

#[test]
fn heartbeats_keep_a_session_open_for_a_day() {
    for transport in [Transport::Polling, Transport::WebSocket] {
        let mut pair = Pair::new(transport);
        pair.run_until(secs(86_400));
        assert_eq!(pair.server.closed, None);
        assert_eq!(pair.client.closed, None);
        // One ping each 25.1 seconds, because the interval begins at the pong.
        assert_eq!(pair.client.received, vec![Packet::Ping(Probe::None); 3_442]);
        assert_eq!(pair.server.received, vec![Packet::Pong(Probe::None); 3_442]);
    }
}

#[test]
fn first_ping_follows_the_open_packet_after_one_interval() {
    let (mut session, now) = server(Transport::WebSocket);
    assert_eq!(session.poll_timeout(), Some(now + secs(25)));
    assert_eq!(session.handle_timeout(now + secs(24)), Action::None);
    let ping = Action::Reply(Packet::Ping(Probe::None));
    assert_eq!(session.handle_timeout(now + secs(25)), ping);
    assert_eq!(session.handle_timeout(now + secs(25)), Action::None);
    assert_eq!(session.poll_timeout(), Some(now + secs(45)));
}

#[test]
fn interrupted_network_is_noticed_by_both_ends() {
    let mut pair = Pair::new(Transport::WebSocket);
    pair.run_until(secs(30));
    pair.is_cut = true;
    pair.run_until(secs(200));
    let server = Duration::from_millis(25_100) + secs(25) + secs(20);
    let client = Duration::from_millis(25_050) + secs(25) + secs(20);
    assert_eq!(pair.server.closed, Some((server, CloseReason::PingTimeout)));
    assert_eq!(pair.client.closed, Some((client, CloseReason::PingTimeout)));
}

#[test]
fn late_driver_still_pings_before_it_times_out() {
    let (mut session, now) = server(Transport::WebSocket);
    let late = now + secs(1_000);
    assert_eq!(
        session.handle_timeout(late),
        Action::Reply(Packet::Ping(Probe::None))
    );
    assert_eq!(session.handle_timeout(late), Action::None);
    assert_eq!(session.poll_timeout(), Some(late + secs(20)));
}

#[test]
fn externally_sent_ping_is_reported_before_its_pong() {
    let (mut session, start) = server(Transport::WebSocket);
    for round in 1..4 {
        let due = session.next_ping().unwrap();
        assert_eq!(Some(due), session.poll_timeout());
        let sent = due + Duration::from_millis(100);
        let pong = sent + secs(1);
        assert_eq!(
            session.handle_timeout(sent),
            Action::Reply(Packet::Ping(Probe::None))
        );
        assert_eq!(session.next_ping(), None);
        assert_eq!(session.poll_timeout(), Some(sent + CONFIG.ping_timeout));
        let action = session.handle_packet(pong, Source::Current, Packet::Pong(Probe::None));
        assert_eq!(action, Action::None);
        let expected = start
            + round * (CONFIG.ping_interval + Duration::from_millis(1100))
            + CONFIG.ping_interval;
        assert_eq!(session.next_ping(), Some(expected));
    }
    session.close(CloseReason::ForcedClose);
    assert_eq!(session.next_ping(), None);
    let client = Session::client(start, Transport::WebSocket, CONFIG);
    assert_eq!(client.next_ping(), None);
}

#[test]
fn messages_do_not_count_as_a_pong() {
    let (mut session, now) = server(Transport::WebSocket);
    session.handle_timeout(now + secs(25));
    session.handle_packet(now + secs(44), Source::Current, text("x"));
    let timeout = Action::Close(CloseReason::PingTimeout);
    assert_eq!(session.handle_timeout(now + secs(45)), timeout);
}

#[test]
fn a14_ping_of_a_client_is_refused() {
    for packet in [Packet::Ping(Probe::None), Packet::Ping(Probe::Probe)] {
        let (mut session, now) = server(Transport::Polling);
        let close = Action::Close(CloseReason::TransportError);
        assert_eq!(session.handle_packet(now, Source::Current, packet), close);
        assert_eq!(session.close_reason(), Some(CloseReason::TransportError));
    }
    let mut client = Session::client(start(), Transport::WebSocket, CONFIG);
    assert_eq!(
        client.handle_packet(start(), Source::Current, Packet::Pong(Probe::None)),
        Action::Close(CloseReason::TransportError)
    );
}

#[test]
fn a14_packets_without_meaning_are_ignored() {
    let (mut session, now) = server(Transport::WebSocket);
    for packet in [Packet::Upgrade, Packet::Noop] {
        assert_eq!(
            session.handle_packet(now, Source::Current, packet),
            Action::None
        );
    }
}

#[test]
fn a15_unsolicited_pongs_have_no_effect() {
    let (mut session, now) = server(Transport::Polling);
    for _ in 0..1_000 {
        let pong = Packet::Pong(Probe::None);
        assert_eq!(
            session.handle_packet(now + secs(20), Source::Current, pong),
            Action::None
        );
    }
    assert_eq!(session.poll_timeout(), Some(now + secs(25)));
}

#[test]
fn messages_are_delivered() {
    let mut pair = Pair::new(Transport::Polling);
    pair.send(Side::Client, Transport::Polling, text("hello"));
    let binary = Message::Binary(Bytes::from_static(&[1]));
    pair.send(
        Side::Server,
        Transport::Polling,
        Packet::Message(binary.clone()),
    );
    pair.run_until(secs(1));
    assert_eq!(
        pair.server.delivered,
        [Message::Text(Bytes::from_static(b"hello"))]
    );
    assert_eq!(pair.client.delivered, [binary]);
}

#[test]
fn a_close_packet_ends_the_session() {
    let mut pair = Pair::new(Transport::WebSocket);
    pair.send(Side::Client, Transport::WebSocket, Packet::Close);
    pair.run_until(secs(1));
    assert_eq!(pair.server.closed.unwrap().1, CloseReason::TransportClose);
}

#[test]
fn a_closed_session_does_nothing_and_keeps_its_first_reason() {
    let (mut session, now) = server(Transport::Polling);
    session.close(CloseReason::ServerShutdown);
    session.close(CloseReason::TransportError);
    assert_eq!(session.close_reason(), Some(CloseReason::ServerShutdown));
    assert_eq!(
        session.handle_packet(now, Source::Current, text("x")),
        Action::None
    );
    assert_eq!(
        session.handle_packet(now, Source::Candidate, Packet::Upgrade),
        Action::None
    );
    assert_eq!(
        session.handle_packet(now, Source::Current, Packet::Ping(Probe::None)),
        Action::None
    );
    assert_eq!(session.handle_timeout(now + secs(100)), Action::None);
    assert_eq!(session.poll_timeout(), None);
    assert!(!session.handle_attach(now));
}

#[test]
fn an_upgrade_moves_both_ends_to_the_websocket() {
    let mut pair = Pair::new(Transport::Polling);
    pair.upgrade();
    assert!(pair.server.session.is_upgrading());
    assert!(!pair.server.session.is_probed());
    pair.run_until(Duration::from_millis(60));
    assert!(pair.server.session.is_probed());
    assert_eq!(pair.server.session.transport(), Transport::Polling);
    pair.run_until(secs(1));
    for end in [&pair.server, &pair.client] {
        assert_eq!(end.session.transport(), Transport::WebSocket);
        assert!(!end.session.is_upgrading());
        assert_eq!(end.dropped_candidates, 0);
    }
    let names: Vec<_> = pair.server.received.clone();
    assert_eq!(names, [Packet::Ping(Probe::Probe), Packet::Upgrade]);
    assert_eq!(pair.client.received, [Packet::Pong(Probe::Probe)]);
    pair.send(Side::Client, Transport::WebSocket, text("after"));
    pair.run_until(secs(500));
    assert_eq!(pair.server.delivered.len(), 1);
    assert_eq!(pair.server.closed, None);
    assert_eq!(pair.client.closed, None);
}

#[test]
fn messages_on_polling_are_delivered_during_an_upgrade() {
    let mut pair = Pair::new(Transport::Polling);
    pair.upgrade();
    pair.send(Side::Client, Transport::Polling, text("during"));
    pair.run_until(Duration::from_millis(60));
    assert!(pair.server.session.is_upgrading());
    assert_eq!(pair.server.delivered.len(), 1);
}

#[test]
fn b7_a_second_websocket_is_refused_during_and_after_an_upgrade() {
    let mut pair = Pair::new(Transport::Polling);
    pair.upgrade();
    assert!(!pair.server.session.handle_attach(pair.now));
    pair.run_until(secs(1));
    assert!(!pair.server.session.handle_attach(pair.now));
    assert_eq!(pair.server.session.transport(), Transport::WebSocket);
    let (mut session, now) = server(Transport::WebSocket);
    assert!(!session.handle_attach(now));
}

#[test]
fn b8_an_upgrade_that_does_not_finish_leaves_the_polling_session_alive() {
    for probe in [false, true] {
        let (mut session, now) = server(Transport::Polling);
        assert!(session.handle_attach(now));
        if probe {
            session.handle_packet(now, Source::Candidate, Packet::Ping(Probe::Probe));
        }
        assert_eq!(session.poll_timeout(), Some(now + secs(10)));
        assert_eq!(
            session.handle_timeout(now + secs(10)),
            Action::DropCandidate
        );
        assert_eq!(session.close_reason(), None);
        assert!(!session.is_upgrading());
        assert_eq!(session.poll_timeout(), Some(now + secs(25)));
        assert!(
            session.handle_attach(now + secs(11)),
            "another upgrade may be tried"
        );
    }
}

#[test]
fn b8_heartbeat_continues_during_an_upgrade() {
    let (mut session, now) = server(Transport::Polling);
    assert!(session.handle_attach(now + secs(20)));
    let ping = Action::Reply(Packet::Ping(Probe::None));
    assert_eq!(session.poll_timeout(), Some(now + secs(25)));
    assert_eq!(session.handle_timeout(now + secs(25)), ping);
    assert_eq!(
        session.handle_timeout(now + secs(30)),
        Action::DropCandidate
    );
    let timeout = Action::Close(CloseReason::PingTimeout);
    assert_eq!(session.handle_timeout(now + secs(45)), timeout);
}

#[test]
fn b8_abandoned_session_with_repeated_candidates_times_out() {
    let (mut session, now) = server(Transport::Polling);
    let mut at = now;
    while session.close_reason().is_none() {
        let _ = session.handle_attach(at);
        at = session.poll_timeout().unwrap();
        session.handle_timeout(at);
    }
    assert_eq!(at - now, secs(45));
}

#[test]
fn b9_every_probe_is_answered_and_moves_no_deadline() {
    let (mut session, now) = server(Transport::Polling);
    assert!(session.handle_attach(now));
    for _ in 0..1_000 {
        assert_eq!(
            session.handle_packet(now + secs(5), Source::Candidate, Packet::Ping(Probe::Probe)),
            Action::Reply(Packet::Pong(Probe::Probe))
        );
    }
    assert_eq!(session.poll_timeout(), Some(now + secs(10)));
}

#[test]
fn b10_anything_unexpected_on_the_candidate_drops_it() {
    for packet in [
        text("hello"),
        Packet::decode_binary(Bytes::from_static(&[1])),
        Packet::Pong(Probe::Probe),
        Packet::Ping(Probe::None),
        Packet::Upgrade,
        Packet::Close,
        Packet::Noop,
    ] {
        let (mut session, now) = server(Transport::Polling);
        assert!(session.handle_attach(now));
        let action = session.handle_packet(now, Source::Candidate, packet.clone());
        assert_eq!(action, Action::DropCandidate, "{packet:?}");
        assert_eq!(session.transport(), Transport::Polling);
        assert!(!session.is_upgrading());
        assert_eq!(session.close_reason(), None);
        let late = session.handle_packet(now, Source::Candidate, packet);
        assert_eq!(late, Action::DropCandidate);
    }
}

#[test]
fn a_client_drops_a_candidate_that_answers_wrongly() {
    let now = start();
    let mut client = Session::client(now, Transport::Polling, CONFIG);
    assert!(client.handle_attach(now));
    assert_eq!(
        client.handle_packet(now, Source::Candidate, Packet::Pong(Probe::None)),
        Action::DropCandidate
    );
    assert_eq!(client.transport(), Transport::Polling);
}

#[test]
fn disconnected_candidate_ends_the_upgrade() {
    let (mut session, now) = server(Transport::Polling);
    assert!(session.handle_attach(now));
    session.handle_packet(now, Source::Candidate, Packet::Ping(Probe::Probe));
    session.handle_detach();
    assert!(!session.is_upgrading());
    assert!(!session.is_probed());
    assert_eq!(session.poll_timeout(), Some(now + secs(25)));
    session.handle_detach();
    assert_eq!(session.transport(), Transport::Polling);
}

#[test]
fn a_server_may_announce_absurd_times() {
    let longest = Duration::from_millis(u64::MAX);
    let config = SessionConfig {
        ping_interval: longest,
        ping_timeout: longest,
        ..CONFIG
    };
    let now = start();
    let mut client = Session::client(now, Transport::Polling, config);
    assert_eq!(client.poll_timeout(), Some(now + longest + longest));
    let ping = client.handle_packet(now, Source::Current, Packet::Ping(Probe::None));
    assert_eq!(ping, Action::Reply(Packet::Pong(Probe::None)));
}

#[test]
fn close_reasons_match_the_node_server() {
    let words: Vec<_> = CloseReason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "transport close",
            "transport error",
            "ping timeout",
            "parse error",
            "forced close",
            "server shutting down",
            "transport error",
        ]
    );
    let mut names: Vec<_> = CloseReason::ALL
        .iter()
        .map(|reason| reason.name())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CloseReason::ALL.len());
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<Session>() <= 120, "{}", size_of::<Session>());
    assert!(size_of::<Action>() <= 112, "{}", size_of::<Action>());
}
