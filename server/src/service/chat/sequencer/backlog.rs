//! The commits that wait for a gap in one conversation to be filled, as plain data.

use std::collections::{BTreeMap, VecDeque};

use crate::metrics::Size;
use crate::store::{Commit, Revision};
use roomcast::SocketId;

/// The commits after a gap, or the last revision if they were dropped.
#[derive(Debug)]
pub(in crate::service) enum GapBacklog {
    /// The commits to emit when the gap is filled.
    Waiting(VecDeque<Commit>),
    /// The gap lasts: all later steps are read from the store.
    DroppedSteps(DroppedSteps),
}

/// The steps that were dropped.
#[derive(Debug, Default)]
pub(in crate::service) struct DroppedSteps {
    /// The last dropped revision.
    through: Revision,
    /// The senders of dropped messages by `seq`. They have received their acknowledgements.
    senders: BTreeMap<u64, SocketId>,
}

impl GapBacklog {
    /// Starts with the commit that revealed the gap.
    pub(super) fn new(first: Commit) -> Self {
        Self::Waiting(VecDeque::from([first]))
    }

    /// Returns the number of waiting commits, or of the senders of dropped ones, and their bytes.
    pub(in crate::service::chat::sequencer) fn size(&self) -> Size {
        match self {
            Self::Waiting(commits) => Size::of::<Commit>(commits.len(), commits.capacity()),
            Self::DroppedSteps(dropped) => {
                let senders = dropped.senders.len();
                Size::of::<(u64, SocketId)>(senders, senders)
            }
        }
    }

    /// Returns the waiting commits.
    pub(super) fn commits(&self) -> impl Iterator<Item = &Commit> {
        match self {
            Self::Waiting(commits) => Some(commits),
            Self::DroppedSteps(_) => None,
        }
        .into_iter()
        .flatten()
    }
}

impl DroppedSteps {
    /// Records a dropped step, and the sender if it has received the acknowledgement.
    pub(super) fn note(&mut self, revision: Revision, sender: Option<SocketId>) {
        self.through = self.through.max(revision);
        if let Some(sender) = sender
            && self.senders.len() < MAX_GAP_BACKLOG
        {
            self.senders.insert(revision.seq, sender);
        }
    }

    /// Returns the revision up to which the conversation must be read.
    pub(super) fn through(&self) -> Revision {
        self.through
    }

    /// Takes the socket that has received the acknowledgement of the message with this `seq`.
    pub(super) fn take_sender(&mut self, seq: u64) -> Option<SocketId> {
        self.senders.remove(&seq)
    }
}

/// The maximum number of commits of one conversation that wait after a gap.
pub(super) const MAX_GAP_BACKLOG: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_steps_record_their_end_and_at_most_1024_senders() {
        let socket = |n: u64| SocketId::parse(&format!("{n:020}")).unwrap();
        let at = |seq, changes| Revision { seq, changes };
        let mut interrupted = DroppedSteps::default();
        interrupted.note(at(3, 7), None);
        for seq in 4..10_000 {
            interrupted.note(at(seq, 7), Some(socket(seq)));
        }
        interrupted.note(at(5, 2), None);
        assert_eq!(interrupted.through(), at(9_999, 7));
        assert_eq!(interrupted.senders.len(), MAX_GAP_BACKLOG);
        assert_eq!(interrupted.take_sender(4), Some(socket(4)));
        assert_eq!(interrupted.take_sender(4), None);
        assert_eq!(interrupted.take_sender(3), None);
    }
}
