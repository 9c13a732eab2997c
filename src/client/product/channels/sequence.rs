//! The events of one channel, in order and each once.
//!
//! The connection's task puts in what the server sends, and the subscription takes out what to do
//! next. While a subscription is requested, events are queued. The answer has all events up to a
//! point that the queue has or continues, so the rest of the queue follows the answer. Whenever
//! events may be missing, the queue is delivered first, and then the channel is subscribed again
//! from there. So nothing is missing, and nothing is out of order.

use std::collections::{HashSet, VecDeque};

use super::{ChannelEvent, ChannelPage};

#[derive(Debug)]
pub(super) struct Sequence {
    state: State,
    queue: VecDeque<Step>,
    /// The size of the events in the queue, in bytes.
    bytes: usize,
}

#[derive(Debug)]
enum State {
    /// The channel is being subscribed. The queue has the events that arrived in the meantime.
    Requested {
        /// Whether the answer in flight may be older than the connection, or than the end of a
        /// subscription.
        is_in_doubt: bool,
        /// Whether the queue was too full for an event.
        has_overflowed: bool,
    },
    /// Later events follow the queue.
    Following,
    /// Events after the queue are missing.
    Behind,
    /// The server ended the subscription, with this reason.
    Ended(String),
    /// The client has ended.
    Closed,
}

/// What the subscription does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Delivers an event.
    Event(ChannelEvent),
    /// Reports that the next event does not follow the one before.
    Forgotten { has_older: bool },
    /// Continues from this position, which follows all delivered events.
    Position(String),
    /// Subscribes from the last position.
    Subscribe,
    /// Handles the end of the subscription, with the server's reason.
    End(String),
    /// Ends, because the client has ended.
    Close,
}

/// An answer to `channel:subscribe`.
pub(super) struct Subscribed {
    pub(super) page: ChannelPage,
    /// Whether the request had a position.
    pub(super) had_position: bool,
    /// Whether the server refused the position, so that the answer does not continue from there.
    pub(super) was_refused: bool,
}

impl Subscribed {
    /// Returns whether its events do not continue those before.
    pub(super) fn is_first(&self) -> bool {
        !self.had_position || self.is_forgotten()
    }

    /// Returns whether events are missing before its events.
    pub(super) fn is_forgotten(&self) -> bool {
        self.page.forgotten || self.was_refused
    }
}

impl Sequence {
    /// Returns a sequence whose subscription is being requested.
    pub(super) fn new() -> Self {
        Self {
            state: REQUESTED,
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Accepts an event of the channel.
    pub(super) fn receive(&mut self, event: ChannelEvent) {
        let weight = event.weight();
        let is_full =
            self.queue.len() >= MAX_QUEUED || self.bytes.saturating_add(weight) > MAX_QUEUED_BYTES;
        match &mut self.state {
            State::Requested { has_overflowed, .. } if is_full => *has_overflowed = true,
            State::Following if is_full => self.state = State::Behind,
            State::Requested {
                has_overflowed: false,
                ..
            }
            | State::Following => {
                self.bytes += weight;
                self.queue.push_back(Step::Event(event));
            }
            State::Requested { .. } | State::Behind | State::Ended(_) | State::Closed => {}
        }
    }

    /// Handles a new connection of the socket.
    pub(super) fn connected(&mut self, is_recovered: bool) {
        match self.state {
            State::Requested { .. } => self.doubt(),
            State::Following if !is_recovered => self.state = State::Behind,
            State::Following | State::Behind | State::Ended(_) | State::Closed => {}
        }
    }

    /// Handles the end of the subscription at the server.
    pub(super) fn ended(&mut self, reason: String) {
        match self.state {
            State::Requested { .. } => self.doubt(),
            State::Following | State::Behind => self.state = State::Ended(reason),
            State::Ended(_) | State::Closed => {}
        }
    }

    /// Handles the end of the client.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Begins a request. Its answer has all events that arrived before.
    pub(super) fn request(&mut self) {
        if !matches!(self.state, State::Closed) {
            self.state = REQUESTED;
            self.clear();
        }
    }

    /// Marks the request in flight: if it was answered before this moment, the subscription may not
    /// exist any more. Otherwise, its answer has all events that arrived before this moment.
    fn doubt(&mut self) {
        self.state = State::Requested {
            is_in_doubt: true,
            has_overflowed: false,
        };
        self.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Returns whether the request in flight is in doubt, and clears the mark. The caller then
    /// checks whether the request was answered.
    pub(super) fn take_doubt(&mut self) -> bool {
        match &mut self.state {
            State::Requested { is_in_doubt, .. } => std::mem::take(is_in_doubt),
            State::Following | State::Behind | State::Ended(_) | State::Closed => false,
        }
    }

    /// Accepts the answer to the request. Returns false if the request must be repeated.
    pub(super) fn answer(&mut self, subscribed: Subscribed) -> bool {
        let State::Requested {
            is_in_doubt,
            has_overflowed,
        } = self.state
        else {
            return true; // The client has ended.
        };
        if is_in_doubt {
            return false;
        }
        let is_forgotten = subscribed.is_forgotten();
        // If the answer does not reach the present, the socket does not follow yet.
        let is_behind = subscribed.page.has_more && !subscribed.is_first();
        let page = subscribed.page;
        let mut later = std::mem::take(&mut self.queue);
        self.bytes = 0;
        if is_behind {
            later.clear();
        } else {
            let positions: HashSet<&str> =
                page.events.iter().map(|event| &*event.position).collect();
            let is_in_answer = |step: &Step| matches!(step, Step::Event(event) if positions.contains(&*event.position));
            let last = later.iter().rposition(is_in_answer);
            later.drain(..last.map_or(0, |last| last + 1));
        }
        if is_forgotten {
            let has_older = page.has_more;
            self.queue.push_back(Step::Forgotten { has_older });
        }
        self.queue.extend(page.events.into_iter().map(Step::Event));
        self.queue.push_back(Step::Position(page.position));
        self.queue.append(&mut later);
        self.bytes = self.queue.iter().map(weight).sum();
        self.state = if is_behind || has_overflowed {
            State::Behind
        } else {
            State::Following
        };
        true
    }

    /// Returns what to do next, or `None` if the subscription waits for events or the answer.
    pub(super) fn next(&mut self) -> Option<Step> {
        match &mut self.state {
            State::Requested { .. } => None,
            State::Closed => Some(Step::Close),
            State::Following | State::Behind | State::Ended(_) if !self.queue.is_empty() => {
                let step = self.queue.pop_front()?;
                self.bytes = self.bytes.saturating_sub(weight(&step));
                Some(step)
            }
            State::Following => None,
            State::Behind => Some(Step::Subscribe),
            State::Ended(reason) => Some(Step::End(std::mem::take(reason))),
        }
    }

    fn clear(&mut self) {
        self.queue.clear();
        self.bytes = 0;
    }
}

fn weight(step: &Step) -> usize {
    if let Step::Event(event) = step {
        event.weight()
    } else {
        0
    }
}

const REQUESTED: State = State::Requested {
    is_in_doubt: false,
    has_overflowed: false,
};
/// Maximum number of received events that wait in the client. Later ones are read again.
const MAX_QUEUED: usize = 1_000;
/// Maximum size of received events that wait in the client, in bytes. Later ones are read again.
const MAX_QUEUED_BYTES: usize = 1 << 20;

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// An event whose data is the number of its position.
    pub(in super::super) fn event(number: u32) -> ChannelEvent {
        let event = json!({
            "event": "n", "data": number, "position": number.to_string(), "id": "i",
            "timestamp": "2026-01-02T03:04:05.678Z",
        });
        serde_json::from_str(&event.to_string()).unwrap()
    }

    /// An answer with these events, to a request with a position.
    pub(in super::super) fn answer(
        numbers: impl IntoIterator<Item = u32>,
        position: u32,
    ) -> Subscribed {
        Subscribed {
            page: ChannelPage {
                position: position.to_string(),
                events: numbers.into_iter().map(event).collect(),
                has_more: false,
                forgotten: false,
                presence: None,
            },
            had_position: true,
            was_refused: false,
        }
    }

    fn with_more(mut answer: Subscribed) -> Subscribed {
        answer.page.has_more = true;
        answer
    }

    fn forgotten(mut answer: Subscribed) -> Subscribed {
        answer.page.forgotten = true;
        answer
    }

    fn without_position(mut answer: Subscribed) -> Subscribed {
        answer.had_position = false;
        answer
    }

    /// A sequence that follows after position 2, and has delivered everything.
    fn following() -> Sequence {
        let mut sequence = Sequence::new();
        assert!(sequence.answer(answer([1, 2], 2)));
        assert_eq!(steps(&mut sequence), ["1", "2", "at 2"]);
        sequence
    }

    fn receive(sequence: &mut Sequence, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            sequence.receive(event(number));
        }
    }

    /// Takes all steps until there is none, or until the subscription must act.
    fn steps(sequence: &mut Sequence) -> Vec<String> {
        let mut steps = Vec::new();
        while let Some(step) = sequence.next() {
            let (shown, acts) = match step {
                Step::Event(event) => (event.json().to_owned(), false),
                Step::Forgotten { has_older: true } => ("forgotten, older".into(), false),
                Step::Forgotten { has_older: false } => ("forgotten".into(), false),
                Step::Position(position) => (format!("at {position}"), false),
                Step::Subscribe => ("subscribe".into(), true),
                Step::End(reason) => (format!("end: {reason}"), true),
                Step::Close => ("close".into(), true),
            };
            steps.push(shown);
            if acts {
                break;
            }
        }
        steps
    }

    #[test]
    fn events_before_the_answer_follow_it_without_those_that_it_has() {
        let mut sequence = Sequence::new();
        receive(&mut sequence, [3, 4, 5, 6]);
        assert!(steps(&mut sequence).is_empty());
        assert!(sequence.answer(answer([3, 4], 4)));
        receive(&mut sequence, [7]);
        assert_eq!(steps(&mut sequence), ["3", "4", "at 4", "5", "6", "7"]);
        // The first event of the queue can be missing in the newest events of an answer.
        sequence.request();
        receive(&mut sequence, [8, 9, 10, 11]);
        assert!(sequence.answer(forgotten(with_more(answer([9, 10], 10)))));
        let expected = ["forgotten, older", "9", "10", "at 10", "11"];
        assert_eq!(steps(&mut sequence), expected);
    }

    #[test]
    fn first_answer_is_not_reported_as_forgotten_and_reaches_the_present() {
        let mut sequence = Sequence::new();
        receive(&mut sequence, [8, 9]);
        assert!(sequence.answer(without_position(with_more(answer([7, 8], 8)))));
        receive(&mut sequence, [10]);
        assert_eq!(steps(&mut sequence), ["7", "8", "at 8", "9", "10"]);
    }

    #[test]
    fn refused_position_is_reported_as_forgotten() {
        let mut sequence = Sequence::new();
        let mut refused = without_position(answer([1], 1));
        refused.was_refused = true;
        assert!(sequence.answer(refused));
        receive(&mut sequence, [2]);
        assert_eq!(steps(&mut sequence), ["forgotten", "1", "at 1", "2"]);
    }

    #[test]
    fn answer_with_more_events_leads_to_the_next_page() {
        let mut sequence = Sequence::new();
        // The socket followed by an earlier request, whose answer was lost.
        receive(&mut sequence, [3, 4, 5]);
        assert!(sequence.answer(with_more(answer([1, 2], 2))));
        // The socket does not follow, so this event is read again.
        receive(&mut sequence, [6]);
        assert_eq!(steps(&mut sequence), ["1", "2", "at 2", "subscribe"]);
        sequence.request();
        assert!(sequence.answer(answer([3, 4, 5, 6], 6)));
        receive(&mut sequence, [7]);
        let expected = ["3", "4", "5", "6", "at 6", "7"];
        assert_eq!(steps(&mut sequence), expected);
    }

    #[test]
    fn new_connection_subscribes_after_the_queue_unless_recovered() {
        let mut sequence = following();
        receive(&mut sequence, [3]);
        sequence.connected(true);
        receive(&mut sequence, [4]);
        assert_eq!(steps(&mut sequence), ["3", "4"]);
        receive(&mut sequence, [5]);
        sequence.connected(false);
        // An event of a subscription that is not known here.
        receive(&mut sequence, [9]);
        assert_eq!(steps(&mut sequence), ["5", "subscribe"]);
    }

    #[test]
    fn answer_before_a_new_connection_is_in_doubt() {
        let mut sequence = following();
        sequence.request();
        receive(&mut sequence, [3]);
        sequence.connected(false);
        assert!(!sequence.answer(answer([3], 3)));
        assert!(sequence.take_doubt());
        // The request was not answered before, so its answer has everything.
        receive(&mut sequence, [4, 5]);
        assert!(sequence.answer(answer([3, 4], 4)));
        assert!(!sequence.take_doubt());
        assert_eq!(steps(&mut sequence), ["3", "4", "at 4", "5"]);
    }

    #[test]
    fn answer_before_the_end_of_a_subscription_is_in_doubt() {
        let mut sequence = following();
        sequence.request();
        receive(&mut sequence, [3]);
        sequence.ended("interrupted".into());
        assert!(!sequence.answer(answer([3], 3)));
        sequence.request();
        assert!(sequence.answer(answer([], 0)));
        assert_eq!(steps(&mut sequence), ["at 0"]);
    }

    #[test]
    fn end_is_reported_after_the_events_before_it() {
        for first in ["interrupted", "forbidden"] {
            let mut sequence = following();
            receive(&mut sequence, [3]);
            sequence.ended(first.into());
            sequence.ended("deleted".into());
            sequence.connected(false);
            receive(&mut sequence, [4]);
            assert_eq!(steps(&mut sequence), ["3", &format!("end: {first}")]);
        }
    }

    #[test]
    fn closed_client_ends_everything() {
        for mut sequence in [Sequence::new(), following()] {
            sequence.close();
            sequence.request();
            assert!(sequence.is_closed());
            receive(&mut sequence, [3]);
            sequence.connected(true);
            sequence.ended("deleted".into());
            assert!(sequence.answer(answer([4], 4)));
            assert_eq!(steps(&mut sequence), ["close"]);
        }
    }

    #[test]
    fn events_beyond_the_limit_are_read_again_after_the_queue() {
        let count = MAX_QUEUED as u32;
        let mut sequence = following();
        receive(&mut sequence, 3..count + 5);
        let taken = steps(&mut sequence);
        assert_eq!(taken.len(), MAX_QUEUED + 1);
        let end = [(count + 2).to_string(), "subscribe".into()];
        assert_eq!(taken[MAX_QUEUED - 1..], end);
        // While the channel is subscribed, the same holds.
        sequence.request();
        receive(&mut sequence, count + 3..2 * count + 5);
        assert!(sequence.answer(answer([count + 3], count + 3)));
        let taken = steps(&mut sequence);
        assert_eq!(taken.len(), MAX_QUEUED + 2);
        let end = [(2 * count + 2).to_string(), "subscribe".into()];
        assert_eq!(taken[MAX_QUEUED..], end);
    }

    #[test]
    fn large_events_count_by_their_size() {
        let large = |number: u32| {
            let mut event = event(number);
            event.id = "i".repeat(MAX_QUEUED_BYTES / 2 - 500);
            event
        };
        let mut sequence = following();
        for number in 3..6 {
            sequence.receive(large(number));
        }
        assert_eq!(steps(&mut sequence), ["3", "4", "subscribe"]);
        sequence.request();
        assert!(sequence.answer(answer([5], 5)));
        assert_eq!(steps(&mut sequence), ["5", "at 5"]);
        // Delivered events no longer count.
        sequence.receive(large(6));
        sequence.receive(large(7));
        assert_eq!(steps(&mut sequence), ["6", "7"]);
    }

    #[test]
    fn events_with_one_position_are_all_delivered() {
        // With `history = "none"` the position never changes.
        let same = |data: u32| {
            let mut same = event(data);
            same.position = "0".into();
            same
        };
        let mut sequence = Sequence::new();
        sequence.receive(same(1));
        assert!(sequence.answer(forgotten(answer([], 0))));
        sequence.receive(same(2));
        sequence.receive(same(3));
        let expected = ["forgotten", "at 0", "1", "2", "3"];
        assert_eq!(steps(&mut sequence), expected);
    }
}
