//! Stores frames for a slow client that newer frames replace.

use std::collections::VecDeque;

use roomcast_protocol::Frame;

use super::memory_budget::FRAME_OVERHEAD;

/// Replaceable events, in the order in which they will be sent.
#[derive(Debug, Default)]
pub(in crate::engine::outbox) struct Conflation {
    waiting: VecDeque<StoredFrame>,
    /// The cost of the frames, in bytes.
    cost: usize,
}

#[derive(Debug)]
struct StoredFrame {
    stream: u64,
    frame: Frame,
}

/// How newer events of a stream replace older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropPolicy {
    /// The newest event takes the place of the stored one.
    Newest,
    /// This many events are stored; a further one replaces the oldest.
    Last(u16),
}

/// Maximum number of stored events for one client. Few enough for a linear search.
const MAX_WAITING: usize = 256;

impl Conflation {
    /// Returns the cost of the events, in bytes.
    pub(in crate::engine::outbox) fn cost(&self) -> usize {
        self.cost
    }

    pub(in crate::engine::outbox) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Stores a frame. Dropped frames, which may include this one, are passed to `on_dropped`.
    /// Returns whether this frame is stored.
    pub(in crate::engine::outbox) fn store(
        &mut self,
        stream: u64,
        policy: DropPolicy,
        frame: Frame,
        room: usize,
        mut on_dropped: impl FnMut(Frame),
    ) -> bool {
        let cost = frame.len() + FRAME_OVERHEAD;
        match policy {
            DropPolicy::Newest => {
                let known = self.waiting.iter_mut().find(|w| w.stream == stream);
                if let Some(waiting) = known {
                    let before = waiting.frame.len() + FRAME_OVERHEAD;
                    // The available room may be smaller than what is stored. A frame that is no
                    // larger than its predecessor is accepted regardless.
                    if self.cost - before + cost <= room || cost <= before {
                        self.cost = self.cost - before + cost;
                        on_dropped(std::mem::replace(&mut waiting.frame, frame));
                        return true;
                    }
                }
                // An outdated value that cannot be replaced is worse than none.
                self.drop_oldest(stream, &mut on_dropped);
            }
            DropPolicy::Last(count) => {
                let count = usize::from(count);
                while self.count(stream) >= count && self.drop_oldest(stream, &mut on_dropped) {}
                while !self.has_room(cost, room) && self.drop_oldest(stream, &mut on_dropped) {}
            }
        }
        if !self.has_room(cost, room) {
            on_dropped(frame);
            return false;
        }
        self.cost += cost;
        self.waiting.push_back(StoredFrame { stream, frame });
        true
    }

    #[cfg(test)]
    pub(in crate::engine::outbox) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.waiting.iter().map(|waiting| &waiting.frame)
    }

    /// Returns all frames, oldest first.
    pub(in crate::engine::outbox) fn into_frames(self) -> impl Iterator<Item = Frame> {
        self.waiting.into_iter().map(|waiting| waiting.frame)
    }

    fn has_room(&self, cost: usize, room: usize) -> bool {
        self.waiting.len() < MAX_WAITING && self.cost + cost <= room
    }

    fn count(&self, stream: u64) -> usize {
        self.waiting.iter().filter(|w| w.stream == stream).count()
    }

    fn drop_oldest(&mut self, stream: u64, on_dropped: &mut impl FnMut(Frame)) -> bool {
        let position = self.waiting.iter().position(|w| w.stream == stream);
        let Some(waiting) = position.and_then(|position| self.waiting.remove(position)) else {
            return false;
        };
        self.cost -= waiting.frame.len() + FRAME_OVERHEAD;
        on_dropped(waiting.frame);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: usize = 100_000;

    fn frame(text: &str) -> Frame {
        Frame::text(text.as_bytes())
    }

    fn text(frame: &Frame) -> String {
        String::from_utf8(frame.polling()[1..].to_vec()).unwrap()
    }

    /// Returns the stored frames after these pushes, and the dropped ones.
    fn after(steps: &[(u64, DropPolicy, &str)], room: usize) -> (Vec<String>, Vec<String>) {
        let mut conflated = Conflation::default();
        let mut dropped = Vec::new();
        for (stream, policy, content) in steps {
            let on_dropped = |frame| dropped.push(text(&frame));
            conflated.store(*stream, *policy, frame(content), room, on_dropped);
        }
        let stored = conflated.into_frames().map(|frame| text(&frame)).collect();
        (stored, dropped)
    }

    #[test]
    fn newest_frame_replaces_the_waiting_frame() {
        let newest = DropPolicy::Newest;
        let steps = [(1, newest, "a"), (2, newest, "b"), (1, newest, "c")];
        let (stored, dropped) = after(&steps, ROOM);
        assert_eq!(stored, ["c", "b"]);
        assert_eq!(dropped, ["a"]);
    }

    #[test]
    fn last_events_of_a_stream_are_stored_in_order() {
        let last = DropPolicy::Last(2);
        let steps = [
            (1, last, "a"),
            (2, last, "x"),
            (1, last, "b"),
            (1, last, "c"),
        ];
        let (stored, dropped) = after(&steps, ROOM);
        assert_eq!(stored, ["x", "b", "c"]);
        assert_eq!(dropped, ["a"]);
    }

    #[test]
    fn without_room_oldest_of_same_stream_or_new_event_is_dropped() {
        let last = DropPolicy::Last(100);
        let long = "x".repeat(1000);
        let room = 3 * (1000 + 5 + FRAME_OVERHEAD);
        let steps = [(1, last, &*long), (1, last, &long), (2, last, &long)];
        assert_eq!(after(&steps, room).1.len(), 0);
        let more = [steps[0], steps[1], steps[2], (1, last, "new")];
        let (stored, _) = after(&more, room);
        assert_eq!(stored.last().unwrap(), "new");
        assert_eq!(stored.len(), 3);
        let other = [steps[0], steps[1], steps[2], (3, last, &long)];
        let (stored, dropped) = after(&other, room);
        assert_eq!((stored.len(), dropped.len()), (3, 1));
    }

    #[test]
    fn value_without_room_removes_the_older_value() {
        let newest = DropPolicy::Newest;
        let long = "x".repeat(2000);
        let room = 3 * (10 + FRAME_OVERHEAD);
        let (stored, _) = after(
            &[(1, newest, "a"), (2, newest, "b"), (1, newest, &long)],
            room,
        );
        assert_eq!(stored, ["b"]);
    }

    #[test]
    fn the_number_of_events_is_limited() {
        let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        let step = |(n, name)| (n, DropPolicy::Newest, name);
        let steps: Vec<_> = (0..).zip(names.iter().map(|n| &**n)).map(step).collect();
        let (stored, dropped) = after(&steps, usize::MAX);
        assert_eq!(
            (stored.len(), dropped.len()),
            (MAX_WAITING, 300 - MAX_WAITING)
        );
    }

    proptest! {
        #[test]
        fn every_frame_is_stored_or_dropped_and_cost_is_of_stored_frames(
            steps in prop::collection::vec((0..4_u64, 0..4_u16, 0..2000_usize), 0..100),
        ) {
            let mut conflated = Conflation::default();
            let (mut dropped, room) = (0, 8000);
            for (stream, kind, size) in &steps {
                let policy = match kind {
                    0 => DropPolicy::Newest,
                    &count => DropPolicy::Last(count),
                };
                let frame = Frame::text(&vec![b'x'; *size]);
                conflated.store(*stream, policy, frame, room, |_| dropped += 1);
                prop_assert!(conflated.len() <= MAX_WAITING && conflated.cost() <= room);
            }
            prop_assert_eq!(conflated.len() + dropped, steps.len());
            let (len, cost) = (conflated.len(), conflated.cost());
            let frames: Vec<Frame> = conflated.into_frames().collect();
            prop_assert_eq!(frames.len(), len);
            prop_assert_eq!(frames.iter().map(|f| f.len() + FRAME_OVERHEAD).sum::<usize>(), cost);
        }
    }
}
