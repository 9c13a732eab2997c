//! The steps of a conversation emitted while a client is being moved into it, which must receive
//! all of them.

use crate::metrics::Size;
use crate::store::{Committed, Revision};

/// The steps that were emitted after a revision.
#[derive(Debug)]
pub(in crate::service) struct Recorded {
    since: Revision,
    steps: Vec<(Revision, Committed)>,
}

impl Recorded {
    /// Starts recording after `since`, up to which everything was emitted.
    pub(in crate::service) fn new(since: Revision) -> Self {
        Self {
            since,
            steps: Vec::new(),
        }
    }

    /// Returns the number of steps, and their bytes.
    pub(in crate::service::chat::sequencer) fn size(&self) -> Size {
        Size::of::<(Revision, Committed)>(self.steps.len(), self.steps.capacity())
    }

    /// Records a step that is emitted. Returns `false` if there are too many, which ends the
    /// recording.
    pub(in crate::service) fn note(&mut self, revision: Revision, event: &Committed) -> bool {
        if self.steps.len() >= MOST {
            return false;
        }
        self.steps.push((revision, event.clone()));
        true
    }

    /// Returns the steps emitted after a revision, or `None` if not all of them were recorded.
    pub(in crate::service) fn after(
        &self,
        emitted: Revision,
    ) -> Option<impl Iterator<Item = &Committed>> {
        let rest = self.steps.iter().filter(move |(at, _)| *at > emitted);
        (emitted >= self.since).then(|| rest.map(|(_, event)| event))
    }
}

/// The maximum number of recorded steps, enough for several seconds.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn recorded_steps_are_returned_only_if_complete() {
        let at = |seq| Revision { seq, changes: 0 };
        let event = |n| Committed::Announced(Uuid::from_u128(n));
        let ids = |recorded: &Recorded, emitted| {
            let events = recorded.after(at(emitted))?;
            Some(events.map(Committed::conversation_id).collect::<Vec<_>>())
        };
        let mut recorded = Recorded::new(at(3));
        assert_eq!(ids(&recorded, 3), Some(vec![]));
        assert!(recorded.note(at(4), &event(4)) && recorded.note(at(5), &event(5)));
        assert_eq!(ids(&recorded, 2), None);
        let both = [4, 5].map(Uuid::from_u128).to_vec();
        assert_eq!(ids(&recorded, 3), Some(both));
        assert_eq!(ids(&recorded, 4), Some(vec![Uuid::from_u128(5)]));
        assert_eq!(ids(&recorded, 5), Some(vec![]));
        let noted = (0..MOST).filter(|_| recorded.note(at(6), &event(6)));
        assert_eq!(noted.count(), MOST - 2);
    }
}
