use std::{collections::VecDeque, iter};

use roomcast_protocol::Frame;

/// A queue of frames, first in, first out.
///
/// The first frame is stored inline and only the rest in an allocation. Most queues never hold a
/// second frame, so a broadcast that fills many queues touches no additional memory.
#[derive(Debug, Default)]
pub(in crate::engine) struct Frames {
    first: Option<Frame>,
    /// Empty if there is no first frame.
    more: VecDeque<Frame>,
}

impl Frames {
    pub(in crate::engine::outbox) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(in crate::engine::outbox) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(in crate::engine::outbox) fn front(&self) -> Option<&Frame> {
        self.first.as_ref()
    }

    pub(in crate::engine) fn iter(
        &self,
    ) -> iter::Chain<std::option::Iter<'_, Frame>, std::collections::vec_deque::Iter<'_, Frame>>
    {
        self.first.iter().chain(&self.more)
    }

    pub(in crate::engine::outbox) fn push_back(&mut self, frame: Frame) {
        if self.first.is_none() {
            self.first = Some(frame);
        } else {
            self.more.push_back(frame);
        }
    }

    pub(in crate::engine::outbox) fn push_front(&mut self, frame: Frame) {
        if let Some(second) = self.first.replace(frame) {
            self.more.push_front(second);
        }
    }

    pub(in crate::engine) fn pop_front(&mut self) -> Option<Frame> {
        let next = self.more.pop_front();
        self.shrink_if_empty();
        std::mem::replace(&mut self.first, next)
    }

    /// Takes out the newest frame of a stream, but none of the first `kept` frames.
    pub(in crate::engine::outbox) fn take_of(&mut self, stream: u64, kept: usize) -> Option<Frame> {
        let searched = self.len().saturating_sub(kept).min(MAX_SEARCHED);
        let mut newest = self.iter().rev().take(searched);
        let newer = newest.position(|frame| frame.stream() == Some(stream))?;
        match self.more.len().checked_sub(newer + 1) {
            Some(place) => self.more.remove(place),
            None => self.pop_front(),
        }
    }

    /// Drops all frames, or all except the first.
    pub(in crate::engine::outbox) fn clear(&mut self, keep_first: bool) {
        self.more = VecDeque::new();
        self.first.take_if(|_| !keep_first);
    }

    /// Puts back frames that were taken out, before the frames queued since.
    pub(in crate::engine::outbox) fn prepend(&mut self, mut earlier: Self) {
        if earlier.is_empty() {
            // The allocation of the batch is reused. Otherwise each batch of a busy queue would
            // allocate.
            if self.more.capacity() == 0 {
                self.more = earlier.more;
            }
        } else {
            earlier.more.extend(self.first.take());
            earlier.more.append(&mut self.more);
            *self = earlier;
        }
        self.shrink_if_empty();
    }

    fn shrink_if_empty(&mut self) {
        if self.more.is_empty() && self.more.capacity() > RETAINED_CAPACITY {
            self.more = VecDeque::new();
        }
    }
}

/// The capacity up to which an empty queue keeps its allocation.
const RETAINED_CAPACITY: usize = 4;
/// Number of newest frames that are searched for a stream. It bounds the work that a client with a
/// long queue causes for each broadcast.
const MAX_SEARCHED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Frame {
        Frame::text(text.as_bytes())
    }

    fn texts(frames: &Frames) -> Vec<String> {
        let text = |frame: &Frame| String::from_utf8(frame.polling().to_vec()).unwrap();
        assert_eq!(frames.len(), frames.iter().count());
        assert_eq!(frames.is_empty(), frames.iter().next().is_none());
        frames.iter().map(text).collect()
    }

    fn of(all: &[&str]) -> Frames {
        let mut frames = Frames::default();
        all.iter().for_each(|text| frames.push_back(frame(text)));
        frames
    }

    #[test]
    fn frames_are_taken_in_insertion_order() {
        let mut frames = of(&["a", "b", "c"]);
        assert_eq!(frames.pop_front().unwrap().polling(), "4a");
        frames.push_back(frame("d"));
        frames.push_front(frame("p"));
        assert_eq!(texts(&frames), ["4p", "4b", "4c", "4d"]);
        while frames.pop_front().is_some() {}
        assert!(frames.front().is_none());
        frames.push_front(frame("q"));
        assert_eq!(texts(&frames), ["4q"]);
    }

    #[test]
    fn prepended_frames_precede_frames_queued_since() {
        for (earlier, later) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 3), (3, 0), (0, 3)] {
            let all = ["a", "b", "c", "d", "e"];
            let mut frames = of(&all[earlier..earlier + later]);
            frames.prepend(of(&all[..earlier]));
            assert_eq!(texts(&frames), texts(&of(&all[..earlier + later])));
        }
    }

    #[test]
    fn first_frame_may_stay_in_the_queue() {
        let mut frames = of(&["a", "b", "c"]);
        frames.clear(true);
        assert_eq!(texts(&frames), ["4a"]);
        frames.clear(false);
        assert!(texts(&frames).is_empty());
    }

    #[test]
    fn newest_near_frame_of_a_stream_is_taken() {
        let mut frames = Frames::default();
        for (text, stream) in [("a", 1), ("b", 2), ("c", 1), ("d", 2)] {
            frames.push_back(frame(text).with_stream(stream));
        }
        let mut take = |stream, kept| {
            let taken = frames.take_of(stream, kept);
            taken.map(|frame| frame.polling()[1..].to_vec())
        };
        assert_eq!(take(1, 1).as_deref(), Some(&b"c"[..]));
        assert_eq!(take(1, 1), None);
        assert_eq!(take(1, 0).as_deref(), Some(&b"a"[..]));
        assert_eq!(take(3, 0), None);
        assert_eq!(texts(&frames), ["4b", "4d"]);
        (0..MAX_SEARCHED).for_each(|_| frames.push_back(frame("x")));
        assert!(frames.take_of(2, 0).is_none());
        frames.pop_front();
        assert!(frames.take_of(2, 0).is_none());
        frames.pop_front();
        frames.push_front(frame("near").with_stream(2));
        assert!(frames.take_of(2, 0).is_none());
        frames.more.pop_back();
        assert!(frames.take_of(2, 0).is_some());
    }

    #[test]
    fn drained_queue_releases_its_capacity() {
        let mut frames = of(&["x"; 100]);
        while frames.pop_front().is_some() {}
        assert!(frames.more.capacity() <= RETAINED_CAPACITY);
    }
}
