//! The room router without connections: compared with a simple model, and for benches.
//!
//! Not part of the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use roomcast_protocol::socket::Args;

use crate::{
    engine::{Handshake, Peer, TestOutboxes, random_sid},
    metrics::Gauge,
    socket::core::{ConnInner, Io, Socket},
};

/// Runs the operations in `data` on sockets and rooms, and compares the recipients with a simple
/// model.
///
/// # Panics
///
/// Panics if they differ.
pub fn rooms_ops(data: &[u8]) {
    let mut input = data.iter().copied();
    let mut game = Game::new();
    while game.play(&mut input).is_some() {}
    game.end();
}

/// The router and its model.
struct Game {
    io: Io,
    outboxes: TestOutboxes,
    sockets: BTreeMap<u8, Socket>,
    /// The members of each room.
    model: BTreeMap<u8, BTreeSet<u8>>,
    sent: u64,
}

impl Game {
    fn new() -> Self {
        let builder = Io::builder().namespace("/", |namespace| namespace);
        let io = builder
            .build()
            .expect("nothing is wrong with one namespace");
        let outboxes = TestOutboxes::polling(Arc::clone(io.metrics()));
        Self {
            io,
            outboxes,
            sockets: BTreeMap::new(),
            model: BTreeMap::new(),
            sent: 0,
        }
    }

    fn play(&mut self, input: &mut impl Iterator<Item = u8>) -> Option<()> {
        match input.next()? % 8 {
            0 | 1 => self.join(input.next()? % SOCKETS, input.next()? % ROOMS),
            2 => self.leave(input.next()? % SOCKETS, input.next()? % ROOMS),
            3 => self.disconnect(input.next()? % SOCKETS),
            4 => self.connect(input.next()? % SOCKETS),
            _ => self.broadcast(input.next()?, input.next()?, input.next()?, input.next()?),
        }
        Some(())
    }

    fn connect(&mut self, socket: u8) {
        if !self.sockets.contains_key(&socket) {
            let new = admit(&self.io, &self.outboxes);
            TestOutboxes::take(new.outbox());
            self.sockets.insert(socket, new);
        }
    }

    fn disconnect(&mut self, socket: u8) {
        if let Some(removed) = self.sockets.remove(&socket) {
            removed.disconnect();
            for members in self.model.values_mut() {
                members.remove(&socket);
            }
            let late = removed.join("r0");
            assert!(late.is_err(), "a disconnected socket has joined");
        }
    }

    fn join(&mut self, socket: u8, room: u8) {
        self.connect(socket);
        if let Some(handle) = self.sockets.get(&socket) {
            handle.join(name(room)).expect("the limits are far away");
            self.model.entry(room).or_default().insert(socket);
        }
    }

    fn leave(&mut self, socket: u8, room: u8) {
        if let Some(handle) = self.sockets.get(&socket) {
            handle.leave(name(room));
            self.model.entry(room).or_default().remove(&socket);
        }
    }

    /// Sends to the rooms of the set bits (none: to all), and to a socket's own room. Excludes the
    /// members of other rooms and the sender.
    fn broadcast(&mut self, to: u8, except: u8, single: u8, sender: u8) {
        let members = |rooms: u8| -> BTreeSet<u8> {
            let named = self
                .model
                .iter()
                .filter(|(room, _)| rooms & (1 << **room) != 0);
            named
                .flat_map(|(_, members)| members.iter().copied())
                .collect()
        };
        let names = |rooms: u8| -> Vec<String> {
            (0..ROOMS)
                .filter(|room| rooms & (1 << room) != 0)
                .map(name)
                .collect()
        };
        let all: BTreeSet<u8> = self.sockets.keys().copied().collect();
        let mut expected = if to == 0 { all } else { members(to) };

        let from = self.sockets.get(&sender);
        let mut broadcast = match from {
            Some(socket) => socket.broadcast(),
            None => self.io.local(),
        };
        if to != 0 {
            broadcast = broadcast.to(names(to));
            if let Some(socket) = self.sockets.get(&single) {
                broadcast = broadcast.to(socket.id());
                expected.insert(single);
            }
        }
        broadcast = broadcast.except(names(except));
        for removed in members(except) {
            expected.remove(&removed);
        }
        if from.is_some() {
            expected.remove(&sender);
        }

        assert_eq!(broadcast.count(), expected.len());
        self.sent += 1;
        let emitted = broadcast.emit("e", self.sent);
        assert_eq!(emitted.queued, expected.len());
        let frame = format!("42[\"e\",{}]", self.sent);
        for (number, socket) in &self.sockets {
            let received = TestOutboxes::take(socket.outbox());
            assert_eq!(
                received.len(),
                usize::from(expected.contains(number)),
                "socket {number}"
            );
            assert!(received.iter().all(|received| received.polling() == frame));
        }
    }

    fn end(mut self) {
        let rooms = self
            .model
            .values()
            .filter(|members| !members.is_empty())
            .count();
        assert_eq!(self.io.metrics().gauge(Gauge::Rooms), rooms as i64);
        for (_, socket) in std::mem::take(&mut self.sockets) {
            socket.disconnect();
        }
        assert_eq!(self.io.metrics().gauge(Gauge::Rooms), 0);
        assert_eq!(self.io.metrics().gauge(Gauge::Sockets), 0);
        assert!(self.io.of("/").rooms().is_empty());
    }
}

/// Creates a socket in `/` without a writing transport.
pub(crate) fn admit(io: &Io, outboxes: &TestOutboxes) -> Socket {
    let namespace = io.fixed_namespace("/").expect("there is a namespace");
    let outbox = outboxes.outbox(random_sid(), usize::MAX);
    let shared = Arc::new(ConnInner::new(outbox, handshake(), Instant::now()));
    let principal = Arc::clone(io.anonymous());
    let namespace = Arc::clone(namespace);
    let socket = Socket::new(
        io.clone(),
        Arc::clone(&namespace),
        shared,
        principal,
        Args::default(),
        Default::default(),
    );
    let admitted = namespace.admit(&socket, &[]);
    assert_eq!(admitted, Ok(()), "a fixed namespace does not go away");
    socket.complete_admission();
    socket
}

/// Returns a request without client information.
pub(crate) fn handshake() -> Arc<Handshake> {
    let uri = http::Uri::from_static("/socket.io/");
    let peer = Peer {
        address: ([127, 0, 0, 1], 1).into(),
        secure: false,
    };
    Arc::new(Handshake::new(&http::HeaderMap::new(), &uri, peer, 0))
}

/// One room with many members, for benches.
#[expect(missing_debug_implementations, reason = "for benches only")]
pub struct Crowd {
    io: Io,
    outboxes: TestOutboxes,
    members: Vec<Socket>,
}

impl Crowd {
    /// Creates `size` sockets in one room. They appear to be WebSockets that share the one
    /// `stream`; no data is written.
    #[must_use]
    pub fn new(size: usize, stream: tokio::net::TcpStream) -> Self {
        let builder = Io::builder().namespace("/", |namespace| namespace);
        let io = builder
            .build()
            .expect("nothing is wrong with one namespace");
        let outboxes = TestOutboxes::websocket(stream, Arc::clone(io.metrics()));
        let members: Vec<Socket> = (0..size).map(|_| admit(&io, &outboxes)).collect();
        for member in &members {
            member.join(ROOM).expect("one room is no limit");
        }
        let crowd = Self {
            io,
            outboxes,
            members,
        };
        crowd.discard();
        crowd
    }

    /// Sends one event to the room. Returns for how many members it was queued.
    #[must_use]
    pub fn broadcast(&self, payload: &str) -> usize {
        self.io.to(ROOM).emit("msg", payload).queued
    }

    /// Removes all data from the outboxes.
    pub fn discard(&self) {
        for member in &self.members {
            TestOutboxes::take(member.outbox());
        }
        self.outboxes.forget();
    }

    /// Removes one member from the room and adds it again.
    pub fn churn(&self, member: usize) {
        if let Some(member) = self.members.get(member % self.members.len().max(1)) {
            member.leave(ROOM);
            member.join(ROOM).expect("one room is no limit");
        }
    }

    /// Adds one member to another room and removes it again.
    pub fn visit(&self, member: usize) {
        if let Some(member) = self.members.get(member % self.members.len().max(1)) {
            member.join("elsewhere").expect("two rooms are no limit");
            member.leave("elsewhere");
        }
    }
}

fn name(room: u8) -> String {
    format!("r{room}")
}

const ROOM: &str = "room";
/// Larger than the size from which a room has an index.
const SOCKETS: u8 = 40;
const ROOMS: u8 = 6;
