//! Tracks which messages of one sender were opened.

/// The opened counters of one sender. The most recent [`WINDOW`] are tracked individually, and
/// older counters count as opened.
#[derive(Debug)]
pub(super) struct Window {
    /// The counter of the first opened message of the sender.
    first: u64,
    highest: u64,
    /// One bit for each of the most recent counters, at the index `counter % WINDOW`. If it is
    /// `None`, every counter from the first to the highest was opened. This suffices for a sender
    /// whose messages arrive in order.
    opened: Option<Box<[u64; BITMAP_WORDS]>>,
}

impl Window {
    /// Creates the window of a sender whose first opened message has this counter.
    pub(super) const fn new(first: u64) -> Self {
        Self {
            first,
            highest: first,
            opened: None,
        }
    }

    /// Returns whether the message is older than the first opened message.
    pub(super) const fn is_before(&self, counter: u64) -> bool {
        counter < self.first
    }

    /// Returns whether the message was opened before, or is too old to know.
    pub(super) fn has(&self, counter: u64) -> bool {
        if counter > self.highest {
            return false;
        }
        if self.highest - counter >= WINDOW {
            return true;
        }
        match &self.opened {
            None => counter >= self.first,
            Some(opened) => {
                let (word, bit) = place(counter);
                opened.get(word).is_none_or(|word| word & bit != 0)
            }
        }
    }

    /// Records that a message was opened.
    pub(super) fn note(&mut self, counter: u64) {
        if self.opened.is_none() {
            if counter == self.highest.wrapping_add(1) {
                self.highest = counter;
                return;
            }
            // A message is missing or was late, so from now on each counter has its bit.
            let mut opened = Box::new([0; BITMAP_WORDS]);
            let oldest = self.highest.saturating_sub(WINDOW - 1).max(self.first);
            for known in oldest..=self.highest {
                set(&mut opened, known);
            }
            self.opened = Some(opened);
        }
        let Some(opened) = &mut self.opened else {
            return;
        };
        if counter > self.highest {
            if counter - self.highest >= WINDOW {
                opened.fill(0);
            } else {
                for skipped in self.highest + 1..counter {
                    let (word, bit) = place(skipped);
                    if let Some(word) = opened.get_mut(word) {
                        *word &= !bit;
                    }
                }
            }
            self.highest = counter;
        }
        set(opened, counter);
    }
}

fn set(opened: &mut [u64; BITMAP_WORDS], counter: u64) {
    let (word, bit) = place(counter);
    if let Some(word) = opened.get_mut(word) {
        *word |= bit;
    }
}

/// Returns the word and the bit of a counter.
const fn place(counter: u64) -> (usize, u64) {
    let place = counter % WINDOW;
    ((place / 64) as usize, 1 << (place % 64))
}

/// The number of individually tracked counters: as many as messages that an adapter queues by
/// default. A message that other queues have overtaken still counts as new.
pub(super) const WINDOW: u64 = 1 << 16;
const BITMAP_WORDS: usize = (WINDOW / 64) as usize;

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a message unless it was opened before. Returns whether it was new.
    fn open(window: &mut Window, counter: u64) -> bool {
        let is_new = !window.has(counter);
        if is_new {
            window.note(counter);
        }
        is_new
    }

    #[test]
    fn each_counter_opens_once_in_any_order() {
        let mut window = Window::new(10);
        assert!(!open(&mut window, 10));
        assert!(open(&mut window, 11) && open(&mut window, 12));
        assert!(window.opened.is_none(), "in order no bits are needed");
        assert!(!open(&mut window, 11));
        assert!(open(&mut window, 15));
        assert!(!open(&mut window, 15) && !open(&mut window, 12) && !open(&mut window, 10));
        assert!(open(&mut window, 13) && open(&mut window, 14) && !open(&mut window, 13));
        assert!(window.is_before(9) && !window.is_before(10));
        assert!(open(&mut window, 9) && !open(&mut window, 9));
    }

    #[test]
    fn counters_older_than_the_window_count_as_opened() {
        let mut window = Window::new(0);
        assert!(open(&mut window, WINDOW + 5));
        assert!(!open(&mut window, 4) && !open(&mut window, 5));
        assert!(open(&mut window, 6) && open(&mut window, WINDOW + 4));
        assert!(open(&mut window, 3 * WINDOW));
        assert!(
            !open(&mut window, WINDOW + 6),
            "everything before is too old"
        );
        assert!(open(&mut window, 2 * WINDOW + 1));
        assert!(open(&mut window, u64::MAX) && !open(&mut window, u64::MAX));
    }

    #[test]
    fn skipped_counters_are_new_after_the_window_wraps() {
        let mut window = Window::new(0);
        for counter in (2..2 * WINDOW).step_by(2) {
            assert!(open(&mut window, counter), "{counter}");
        }
        for counter in (WINDOW + 1..2 * WINDOW).step_by(2) {
            assert!(open(&mut window, counter), "{counter}");
        }
        for counter in WINDOW..2 * WINDOW {
            assert!(!open(&mut window, counter), "{counter}");
        }
    }
}
