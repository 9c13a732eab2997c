//! Arbitrary packets at arbitrary times: the invariants of a session hold after each step.
#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roomcast_protocol::engine::{
    Action, CloseReason, Message, Packet, Probe, Session, SessionConfig, Source, Transport,
};

#[derive(Arbitrary, Debug)]
struct Input {
    is_client: bool,
    is_websocket: bool,
    ping_interval: u16,
    ping_timeout: u16,
    upgrade_timeout: u16,
    ops: Vec<Op>,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Packet {
        is_candidate: bool,
        packet: Wire,
    },
    /// Time passes without a call of the driver.
    Sleep(u16),
    /// Time passes, and the driver handles everything that is due.
    Run(u16),
    Attach,
    Detach,
    Close,
}

#[derive(Arbitrary, Debug)]
enum Wire {
    Close,
    Ping,
    PingProbe,
    Pong,
    PongProbe,
    Text,
    Binary,
    Upgrade,
    Noop,
}

impl Wire {
    fn packet(&self) -> Packet {
        match self {
            Self::Close => Packet::Close,
            Self::Ping => Packet::Ping(Probe::None),
            Self::PingProbe => Packet::Ping(Probe::Probe),
            Self::Pong => Packet::Pong(Probe::None),
            Self::PongProbe => Packet::Pong(Probe::Probe),
            Self::Text => Packet::Message(Message::Text(Bytes::from_static(b"x"))),
            Self::Binary => Packet::decode_binary(Bytes::from_static(b"x")),
            Self::Upgrade => Packet::Upgrade,
            Self::Noop => Packet::Noop,
        }
    }
}

/// The expected state of the session, tracked independently.
struct Model {
    session: Session,
    now: Instant,
    transport: Transport,
    closed: Option<CloseReason>,
    /// Without a pong (or ping, for a client), no session lives longer than this.
    alive_until: Instant,
    patience: Duration,
    is_client: bool,
}

fuzz_target!(|input: Input| {
    let transport = if input.is_websocket {
        Transport::WebSocket
    } else {
        Transport::Polling
    };
    let millis = |millis: u16| Duration::from_millis(u64::from(millis) + 1);
    let config = SessionConfig {
        ping_interval: millis(input.ping_interval),
        ping_timeout: millis(input.ping_timeout),
        upgrade_timeout: millis(input.upgrade_timeout),
    };
    let now = Instant::now();
    let new = if input.is_client {
        Session::client
    } else {
        Session::server
    };
    let patience = config.ping_interval + config.ping_timeout;
    let mut model = Model {
        session: new(now, transport, config),
        now,
        transport,
        closed: None,
        alive_until: now + patience,
        patience,
        is_client: input.is_client,
    };
    for op in &input.ops {
        model.step(op);
        model.check();
    }
});

impl Model {
    fn step(&mut self, op: &Op) {
        match op {
            Op::Packet {
                is_candidate,
                packet,
            } => self.packet(*is_candidate, &packet.packet()),
            Op::Sleep(millis) => {
                let slept = Duration::from_millis((*millis).into());
                self.now += slept;
                // A missed deadline is postponed by this time.
                self.alive_until += slept;
            }
            Op::Run(millis) => self.run(self.now + Duration::from_millis((*millis).into())),
            Op::Attach => {
                let expected = self.closed.is_none()
                    && self.transport == Transport::Polling
                    && !self.session.is_upgrading();
                assert_eq!(self.session.handle_attach(self.now), expected);
                assert!(!expected || self.session.is_upgrading() && !self.session.is_probed());
            }
            Op::Detach => {
                self.session.handle_detach();
                assert!(!self.session.is_upgrading());
            }
            Op::Close => {
                self.session.close(CloseReason::ForcedClose);
                self.closed.get_or_insert(CloseReason::ForcedClose);
            }
        }
    }

    fn packet(&mut self, is_candidate: bool, packet: &Packet) {
        let was_upgrading = self.session.is_upgrading();
        let was_probed = self.session.is_probed();
        let deadline = self.session.poll_timeout();
        let source = if is_candidate {
            Source::Candidate
        } else {
            Source::Current
        };
        let action = self.session.handle_packet(self.now, source, packet.clone());
        if self.closed.is_some() {
            assert_eq!(action, Action::None);
            return;
        }
        match &action {
            Action::None => assert!(!is_candidate),
            Action::Deliver(message) => {
                assert!(!is_candidate);
                assert_eq!(*packet, Packet::Message(message.clone()));
                assert_eq!(self.session.poll_timeout(), deadline);
            }
            Action::Reply(Packet::Pong(Probe::Probe)) => {
                assert!(is_candidate && was_upgrading && self.session.is_probed());
                assert_eq!(
                    self.session.poll_timeout(),
                    deadline,
                    "a probe moves no deadline"
                );
            }
            Action::Reply(Packet::Pong(Probe::None)) => assert!(self.is_client && !is_candidate),
            Action::Reply(other) => panic!("{other:?}"),
            Action::Switch => {
                assert!(is_candidate && was_upgrading && (was_probed || self.is_client));
                assert_eq!(self.transport, Transport::Polling);
                self.transport = Transport::WebSocket;
            }
            Action::DropCandidate => {
                assert!(is_candidate);
                assert!(!self.session.is_upgrading());
            }
            Action::Close(reason) => {
                assert!(!is_candidate, "a candidate cannot end the session");
                self.closed = Some(*reason);
            }
        }
        let is_heartbeat = match packet {
            Packet::Pong(_) => !self.is_client,
            Packet::Ping(_) => self.is_client,
            _ => false,
        };
        if is_heartbeat && !is_candidate {
            self.alive_until = self.now + self.patience;
        }
    }

    /// Handles everything due up to `until`, like a driver.
    fn run(&mut self, until: Instant) {
        loop {
            let Some(due) = self.session.poll_timeout() else {
                assert!(self.closed.is_some());
                break;
            };
            if due > until {
                break;
            }
            self.now = self.now.max(due);
            match self.session.handle_timeout(self.now) {
                Action::Reply(packet) => {
                    assert!(!self.is_client);
                    assert_eq!(packet, Packet::Ping(Probe::None));
                }
                Action::DropCandidate => assert!(!self.session.is_upgrading()),
                Action::Close(reason) => {
                    assert_eq!(reason, CloseReason::PingTimeout);
                    self.closed = Some(reason);
                }
                other => panic!("what was due did {other:?}"),
            }
        }
        self.now = self.now.max(until);
        assert!(
            self.closed.is_some() || self.now <= self.alive_until,
            "a silent session lives on"
        );
    }

    fn check(&mut self) {
        assert_eq!(self.session.close_reason(), self.closed);
        assert_eq!(self.session.transport(), self.transport);
        assert!(!self.session.is_probed() || self.session.is_upgrading());
        assert!(!self.session.is_upgrading() || self.transport == Transport::Polling);
        assert_eq!(self.session.poll_timeout().is_none(), self.closed.is_some());
        if self.session.poll_timeout().is_none_or(|due| due > self.now) {
            let mut copy = self.session.clone();
            assert_eq!(
                copy.handle_timeout(self.now),
                Action::None,
                "nothing was due"
            );
        }
    }
}
