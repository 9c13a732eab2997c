//! A sequence between a server, connections that break, and an application that reads at its pace.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::sequence::{
    Sequence, Step, Subscribed,
    tests::{answer, event},
};

/// What the test does next.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// The server stores the next event, and sends it to a follower.
    Publish,
    /// The server answers the oldest request.
    Serve,
    /// The client receives the oldest packet.
    Receive,
    /// The application takes a step.
    Take,
    /// The client no longer waits for the answer, and requests it again.
    TimeOut,
    /// The server ends the subscription.
    Interrupt,
    /// The connection breaks.
    Lose,
    /// The client connects again. The server may have stored the session.
    Connect { is_recovered: bool },
}

enum Packet {
    Event(u32),
    Ended,
    /// The answer to the request of this number.
    Answer(u32, Subscribed),
}

/// The number of events in an answer.
const PAGE: u32 = 3;

struct Model {
    /// The number of the newest event. The first one is 1.
    newest: u32,
    is_following: bool,
    is_connected: bool,
    /// Requests on their way, with their numbers: the position of each.
    requests: VecDeque<(u32, u32)>,
    packets: VecDeque<Packet>,
    sequence: Sequence,
    /// The number of the last request.
    request: u32,
    /// Whether the application waits for the answer to the last request, and its outcome: `None`
    /// within is a failure.
    waiting: bool,
    outcome: Option<Option<Subscribed>>,
    /// The last event that was delivered.
    position: u32,
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            newest: 0,
            is_following: false,
            is_connected: true,
            requests: VecDeque::new(),
            packets: VecDeque::new(),
            sequence: Sequence::new(),
            request: 0,
            waiting: false,
            outcome: None,
            position: 0,
        };
        model.subscribe();
        model
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Publish => {
                self.newest += 1;
                if self.is_following {
                    self.packets.push_back(Packet::Event(self.newest));
                }
            }
            Action::Serve if self.is_connected => self.serve(),
            Action::Receive => self.receive(),
            Action::Take => self.take(),
            Action::TimeOut if self.waiting && self.outcome.is_none() => self.outcome = Some(None),
            Action::Interrupt if self.is_following => {
                self.is_following = false;
                self.packets.push_back(Packet::Ended);
            }
            Action::Lose if self.is_connected => {
                self.is_connected = false;
                self.requests.clear();
                if self.waiting && self.outcome.is_none() {
                    self.outcome = Some(None);
                }
            }
            Action::Connect { is_recovered } if !self.is_connected => {
                self.is_connected = true;
                // The answers of the old connection are lost. Its events are sent again if the
                // session is recovered, before the client is told that it is connected.
                let packets = std::mem::take(&mut self.packets);
                if is_recovered {
                    let again = |packet: &Packet| !matches!(packet, Packet::Answer(..));
                    self.packets.extend(packets.into_iter().filter(again));
                    while !self.packets.is_empty() {
                        self.receive();
                    }
                }
                self.is_following &= is_recovered;
                self.sequence.connected(is_recovered);
            }
            Action::Serve
            | Action::TimeOut
            | Action::Interrupt
            | Action::Lose
            | Action::Connect { .. } => {}
        }
    }

    fn serve(&mut self) {
        let Some((request, since)) = self.requests.pop_front() else {
            return;
        };
        let last = self.newest.min(since + PAGE);
        let mut subscribed = answer(since + 1..=last, last);
        subscribed.page.has_more = last < self.newest;
        self.is_following = !subscribed.page.has_more;
        self.packets.push_back(Packet::Answer(request, subscribed));
    }

    fn receive(&mut self) {
        match self.packets.pop_front() {
            Some(Packet::Event(number)) => self.sequence.receive(event(number)),
            Some(Packet::Ended) => self.sequence.ended("interrupted".into()),
            Some(Packet::Answer(request, subscribed))
                if self.waiting && request == self.request && self.outcome.is_none() =>
            {
                self.outcome = Some(Some(subscribed));
            }
            Some(Packet::Answer(..)) | None => {}
        }
    }

    /// Does what a subscription does when it is polled.
    fn take(&mut self) {
        if self.waiting {
            let is_in_doubt = self.sequence.take_doubt();
            match self.outcome.take() {
                None => {}
                Some(None) => self.send(),
                Some(Some(subscribed)) => {
                    self.waiting = false;
                    if is_in_doubt || !self.sequence.answer(subscribed) {
                        self.subscribe();
                    }
                }
            }
            return;
        }
        match self.sequence.next() {
            Some(Step::Event(event)) => {
                let number: u32 = event.data().unwrap();
                assert_eq!(number, self.position + 1);
                self.position = number;
            }
            Some(Step::Position(position)) => assert_eq!(position, self.position.to_string()),
            Some(Step::Subscribe | Step::End(_)) => self.subscribe(),
            Some(step @ (Step::Forgotten { .. } | Step::Close)) => panic!("{step:?}"),
            None => {}
        }
    }

    fn subscribe(&mut self) {
        self.sequence.request();
        self.send();
    }

    /// Sends a request. Without a connection, it waits for the next one.
    fn send(&mut self) {
        self.request += 1;
        self.waiting = true;
        self.requests.push_back((self.request, self.position));
    }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => Just(Action::Publish),
        4 => Just(Action::Serve),
        6 => Just(Action::Receive),
        6 => Just(Action::Take),
        1 => Just(Action::TimeOut),
        1 => Just(Action::Interrupt),
        1 => Just(Action::Lose),
        3 => any::<bool>().prop_map(|is_recovered| Action::Connect { is_recovered }),
    ];
    prop::collection::vec(action, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn events_are_delivered_once_and_in_order_whatever_happens(actions in actions()) {
        let mut model = Model::new();
        for action in actions {
            model.act(action);
        }
        model.act(Action::Connect { is_recovered: false });
        model.act(Action::Publish);
        // Each round makes progress, and there are at most as many events as actions.
        for _ in 0..1_000 {
            for action in [Action::Serve, Action::Receive, Action::Take] {
                model.act(action);
            }
        }
        prop_assert_eq!(model.position, model.newest);
    }
}
