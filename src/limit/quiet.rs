//! Log lines that an attacker could ask for as often as it likes, at most one a second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// One kind of line.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// The second from which the next line may be written.
    next: AtomicU64,
    /// Lines left out since the last one.
    left_out: AtomicU64,
}

impl Quiet {
    /// Whether to write a line now, and how many were left out since the last one. `now` is the
    /// time since any moment, always the same.
    pub(crate) fn speak(&self, now: Duration) -> Option<u64> {
        let second = now.as_secs();
        let next = self.next.load(Ordering::Relaxed);
        let mine = second >= next
            && self
                .next
                .compare_exchange(next, second + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_a_second_and_says_how_many_were_not() {
        let quiet = Quiet::default();
        let at = Duration::from_millis;
        assert_eq!(quiet.speak(at(0)), Some(0));
        assert_eq!(quiet.speak(at(10)), None);
        assert_eq!(quiet.speak(at(999)), None);
        assert_eq!(quiet.speak(at(1000)), Some(2));
        assert_eq!(quiet.speak(at(5000)), Some(0));
    }
}
