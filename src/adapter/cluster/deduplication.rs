//! Detects repeated envelopes.

use std::collections::HashMap;

use crate::adapter::envelope::NodeId;

/// The numbers of received envelopes for each sender. The last [`WINDOW`] numbers are exact; older
/// numbers count as received.
#[derive(Debug, Default)]
pub(super) struct SeenEnvelopes {
    nodes: HashMap<NodeId, Window>,
    /// Incremented with every envelope, to find the least recently active sender.
    clock: u64,
}

#[derive(Debug)]
struct Window {
    last: u64,
    /// One bit per number, at the index `number % WINDOW`.
    bits: Box<[u64; WINDOW / 64]>,
    used: u64,
}

impl SeenEnvelopes {
    /// Records an envelope. Returns `false` if it is a repetition, or too old to know.
    pub(super) fn is_new(&mut self, node: &NodeId, number: u64) -> bool {
        self.clock += 1;
        let clock = self.clock;
        if let Some(window) = self.nodes.get_mut(node) {
            window.used = clock;
            return window.is_new(number);
        }
        if self.nodes.len() >= MAX_NODES {
            // This scans all senders, but only when a new server meets a full table.
            let oldest = self.nodes.iter().min_by_key(|(_, window)| window.used);
            if let Some(oldest) = oldest.map(|(node, _)| node.clone()) {
                self.nodes.remove(&oldest);
            }
        }
        let mut window = Window {
            last: number,
            bits: Box::new([0; WINDOW / 64]),
            used: clock,
        };
        window.mark(number);
        self.nodes.insert(node.clone(), window);
        true
    }

    /// Returns the number of senders and the bytes of their windows.
    pub(super) fn size(&self) -> (usize, usize) {
        let window = size_of::<(NodeId, Window)>() + WINDOW / 8;
        (self.nodes.len(), self.nodes.len() * window)
    }

    /// Removes a sender that has left. If it is still running, a new window starts with its next
    /// envelope.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.nodes.remove(node);
    }
}

impl Window {
    fn is_new(&mut self, number: u64) -> bool {
        if number > self.last {
            let passed = number - self.last;
            if passed >= WINDOW as u64 {
                self.bits.fill(0);
            } else {
                // The skipped numbers reuse the bits of numbers that left the window. They may
                // still arrive.
                for passed in self.last + 1..number {
                    self.clear(passed);
                }
                self.clear(number);
            }
            self.last = number;
            self.mark(number);
            return true;
        }
        if self.last - number >= WINDOW as u64 {
            return false;
        }
        self.mark(number)
    }

    /// Marks a number. Returns `true` if it was not marked before.
    fn mark(&mut self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.bits.get_mut(word).is_some_and(|word| {
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        })
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = place(number);
        if let Some(word) = self.bits.get_mut(word) {
            *word &= !bit;
        }
    }
}

const fn place(number: u64) -> (usize, u64) {
    let place = (number % WINDOW as u64) as usize;
    (place / 64, 1 << (place % 64))
}

/// Maximum number of stored numbers per sender.
const WINDOW: usize = 4096;
/// The maximum number of senders, half a kibibyte each.
const MAX_NODES: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    proptest! {
        #[test]
        fn each_number_in_the_window_is_new_once(
            steps in proptest::collection::vec(-2000_i64..2000, 1..300)
        ) {
            let mut seen = SeenEnvelopes::default();
            let mut model = HashSet::new();
            let (mut at, mut last) = (1_000_000_i64, 0);
            for step in steps {
                at += step;
                let is_new = seen.is_new(&node("a"), at as u64);
                let is_known = last != 0 && last - at >= WINDOW as i64;
                prop_assert_eq!(is_new, !is_known && !model.contains(&at), "{}", at);
                model.insert(at);
                last = last.max(at);
            }
        }
    }

    #[test]
    fn numbers_older_than_window_count_as_seen_per_sender() {
        let mut seen = SeenEnvelopes::default();
        assert!(seen.is_new(&node("a"), 0));
        assert!(seen.is_new(&node("a"), 5000));
        assert!(!seen.is_new(&node("a"), 1));
        assert!(seen.is_new(&node("a"), 4999));
        assert!(seen.is_new(&node("b"), 1));
    }

    #[test]
    fn longest_silent_sender_is_evicted_first() {
        let mut seen = SeenEnvelopes::default();
        for n in 0..MAX_NODES {
            assert!(seen.is_new(&node(&n.to_string()), 1));
        }
        assert!(!seen.is_new(&node("0"), 1));
        assert!(seen.is_new(&node("new"), 1));
        assert_eq!(seen.nodes.len(), MAX_NODES);
        assert!(
            !seen.is_new(&node("0"), 1),
            "the sender was active recently"
        );
        assert!(seen.is_new(&node("1"), 1), "it was forgotten");
    }
}
