//! Loopback probes: messages to this server itself, which show that its messages arrive.

use std::{collections::VecDeque, fmt::Write as _};

use parking_lot::Mutex;

/// The probes in flight.
///
/// Without sealing, a probe is empty. With sealing, it is random and counts once. Another client of
/// the broker therefore cannot make a server believe that it is connected.
#[derive(Debug)]
pub(in crate::adapter) struct Probes(Option<Mutex<VecDeque<String>>>);

impl Probes {
    pub(in crate::adapter) fn new(is_sealed: bool) -> Self {
        Self(is_sealed.then(Mutex::default))
    }

    /// Returns the next message to send.
    pub(in crate::adapter) fn next(&self) -> String {
        let Some(sent) = &self.0 else {
            return String::new();
        };
        let mut bytes = [0; 16];
        // Without random numbers no probe returns, and the server reconnects.
        if getrandom::fill(&mut bytes).is_err() {
            return String::new();
        }
        let mut probe = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to memory cannot fail.
            let _ = write!(probe, "{byte:02x}");
        }
        let mut sent = sent.lock();
        if sent.len() >= MAX_PROBES {
            sent.pop_front();
        }
        sent.push_back(probe.clone());
        probe
    }

    /// Returns whether the message is a probe in flight. If so, all earlier probes also count as
    /// returned.
    pub(in crate::adapter) fn has_returned(&self, message: &[u8]) -> bool {
        let Some(sent) = &self.0 else {
            return message.is_empty();
        };
        if message.is_empty() {
            return false;
        }
        let mut sent = sent.lock();
        let place = sent.iter().position(|probe| probe.as_bytes() == message);
        if let Some(place) = place {
            sent.drain(..=place);
        }
        place.is_some()
    }
}

/// The maximum number of probes in flight. One is sent each second, and a connection on which none
/// returns for five seconds is closed.
const MAX_PROBES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_probes_return_once_and_plain_ones_are_empty() {
        let plain = Probes::new(false);
        assert_eq!(plain.next(), "");
        assert!(plain.has_returned(b"") && !plain.has_returned(b"x"));
        let sealed = Probes::new(true);
        let [first, second, third] = [(); 3].map(|()| sealed.next());
        assert!(first.len() == 32 && first != second);
        assert!(!sealed.has_returned(b"") && !sealed.has_returned(b"x"));
        assert!(sealed.has_returned(second.as_bytes()));
        assert!(
            !sealed.has_returned(second.as_bytes()),
            "it has returned before"
        );
        assert!(
            !sealed.has_returned(first.as_bytes()),
            "a later one has returned"
        );
        assert!(sealed.has_returned(third.as_bytes()));
        let lost = sealed.next();
        for _ in 0..MAX_PROBES {
            sealed.next();
        }
        assert!(!sealed.has_returned(lost.as_bytes()));
    }
}
