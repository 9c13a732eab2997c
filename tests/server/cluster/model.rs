//! Random operations on three connected servers, compared with a model.

use std::collections::{BTreeMap, BTreeSet};

use roomcast::{Room, SocketId};

use super::{Servers, hub::Hub, quiet};
use crate::{local::text, random::Random, support::RawClient};

const SERVERS: usize = 3;
const CLIENTS: usize = 9;
const ROOMS: usize = 4;
const STEPS: usize = 250;

/// The servers and their model.
struct Game {
    servers: Servers,
    random: Random,
    clients: Vec<(RawClient, SocketId)>,
    /// The members of each room.
    model: BTreeMap<usize, BTreeSet<usize>>,
    /// The events that each client must receive from each server, in order.
    due: BTreeMap<(usize, usize), Vec<usize>>,
    sent: usize,
}

impl Game {
    fn new(seed: u64) -> Self {
        let hub = if seed.is_multiple_of(2) {
            Hub::new()
        } else {
            Hub::following_rooms()
        };
        hub.hold();
        hub.duplicate();
        let servers = Servers::joined_by(hub, SERVERS, quiet);
        let connect = |i: usize| {
            let (client, sid) = servers[i].connect();
            (client, SocketId::parse(&sid).unwrap())
        };
        Self {
            clients: (0..CLIENTS).map(connect).collect(),
            servers,
            random: Random::new(seed),
            model: BTreeMap::new(),
            due: BTreeMap::new(),
            sent: 0,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit)
    }

    /// Returns some of the clients, and their ids.
    fn some(&mut self) -> (BTreeSet<usize>, Vec<SocketId>) {
        let chosen: BTreeSet<usize> = (0..=self.below(2)).map(|_| self.below(CLIENTS)).collect();
        let ids = chosen
            .iter()
            .map(|&client| self.clients[client].1.clone())
            .collect();
        (chosen, ids)
    }

    fn rooms(&mut self) -> BTreeSet<usize> {
        let bits = self.below(1 << ROOMS);
        (0..ROOMS).filter(|room| bits & (1 << room) != 0).collect()
    }

    fn members(&self, rooms: &BTreeSet<usize>) -> BTreeSet<usize> {
        let known = rooms.iter().filter_map(|room| self.model.get(room));
        known.flatten().copied().collect()
    }

    fn play(&mut self) {
        match self.below(8) {
            0 => self.join(),
            1 => self.leave(),
            _ => self.broadcast(),
        }
        for _ in 0..self.below(4) {
            self.servers.hub().step(Some(&mut self.random));
        }
    }

    /// Delivers everything: operations of several servers on rooms have no other order.
    fn flush(&mut self) {
        while self.servers.hub().step(Some(&mut self.random)) {}
    }

    fn join(&mut self) {
        let (from, room) = (self.below(SERVERS), self.below(ROOMS));
        let (chosen, ids) = self.some();
        self.flush();
        self.servers[from].io.in_(ids).join(name(room));
        self.flush();
        self.model.entry(room).or_default().extend(chosen);
    }

    /// All members of some rooms, except members of others, leave a room.
    fn leave(&mut self) {
        let (from, room) = (self.below(SERVERS), self.below(ROOMS));
        let (all, others) = (self.rooms(), self.rooms());
        self.flush();
        let io = &self.servers[from].io;
        io.in_(names(&all)).except(names(&others)).leave(name(room));
        self.flush();
        let others = self.members(&others);
        let left: BTreeSet<_> = self.members(&all).difference(&others).copied().collect();
        let members = self.model.entry(room).or_default();
        members.retain(|client| !left.contains(client));
    }

    fn broadcast(&mut self) {
        let from = self.below(SERVERS);
        let (rooms, others) = (self.rooms(), self.rooms());
        let (singles, ids) = self.some();
        let number = self.sent;
        self.sent += 1;
        let io = &self.servers[from].io;
        let mut expected: BTreeSet<usize> = if rooms.is_empty() {
            (0..CLIENTS).collect()
        } else {
            let mut members = self.members(&rooms);
            members.extend(singles);
            members
        };
        let mut to = io.except(names(&others));
        if !rooms.is_empty() {
            to = to.to(names(&rooms)).to(ids);
        }
        if self.random.below(6) == 0 {
            to = to.local();
            expected.retain(|client| client % SERVERS == from);
        }
        to.emit("e", (from, number));
        let others = self.members(&others);
        for &client in expected.difference(&others) {
            self.due.entry((client, from)).or_default().push(number);
        }
    }

    /// Compares what each client has received, and the members of rooms.
    fn check(&mut self) {
        self.flush();
        for i in 0..SERVERS {
            self.servers[i].io.local().emit("end", ());
        }
        for (i, (client, _)) in self.clients.iter_mut().enumerate() {
            let mut got: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            loop {
                let event = text(client);
                if event == "42[\"end\"]" {
                    break;
                }
                let args = event
                    .strip_prefix("42[\"e\",")
                    .unwrap()
                    .strip_suffix(']')
                    .unwrap();
                let (from, number) = args.split_once(',').unwrap();
                got.entry(from.parse().unwrap())
                    .or_default()
                    .push(number.parse().unwrap());
            }
            for from in 0..SERVERS {
                let due = self.due.remove(&(i, from)).unwrap_or_default();
                let got = got.remove(&from).unwrap_or_default();
                assert_eq!(got, due, "client {i} of server {from}");
            }
        }
        for i in 0..SERVERS {
            let at_server = |client: &&usize| *client % SERVERS == i;
            let sizes = self.model.iter().map(|(room, members)| {
                let size = members.iter().filter(at_server).count();
                (Room::from(name(*room)), size)
            });
            let expected: BTreeSet<_> = sizes.filter(|(_, size)| *size > 0).collect();
            let rooms: BTreeSet<_> = self.servers[i].io.of("/").rooms().into_iter().collect();
            assert_eq!(rooms, expected, "rooms of server {i}");
        }
    }
}

fn name(room: usize) -> String {
    format!("r{room}")
}

fn names(rooms: &BTreeSet<usize>) -> Vec<String> {
    rooms.iter().copied().map(name).collect()
}

#[test]
fn three_connected_servers_match_the_model() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let mut game = Game::new(seed);
        for step in 1..=STEPS {
            game.play();
            if step.is_multiple_of(50) {
                game.check();
            }
        }
        assert!(game.sent > STEPS / 2);
    }
}
