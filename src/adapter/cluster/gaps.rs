//! Gaps: periods in which this server may have missed messages of its peers. After a gap,
//! reconnecting clients start a new session.
//!
//! A gap is recorded without a lock. The heartbeat task, or the adapter's task after it reconnects,
//! then passes the gap to the namespaces. Each namespace marks the position up to which events may
//! be missing. Until then, no session is recovered.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Joined;
use crate::adapter::interface::Health;

/// The number of gaps, and how many of them the namespaces know.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    noticed: AtomicU64,
    marked: AtomicU64,
}

impl Joined {
    /// Records that messages of peers may be missing. Takes no lock, so callers may hold any lock.
    pub(super) fn notice_gap(&self) {
        self.gaps.noticed.fetch_add(1, Ordering::AcqRel);
        self.registry.request_heartbeat();
    }

    /// Passes new gaps to the namespaces.
    pub(crate) fn mark_gaps(&self) {
        let noticed = self.gaps.noticed.load(Ordering::Acquire);
        if noticed != self.gaps.marked.load(Ordering::Acquire) {
            self.receiver.missed();
            // Gaps that are recorded in the meantime are marked by the next call.
            self.gaps.marked.store(noticed, Ordering::Release);
        }
    }

    /// Returns whether messages that peers send now may be lost, or whether a recorded gap is not
    /// marked yet. With a journal it returns `false`, because the journal detects gaps.
    pub(crate) fn has_gap(&self) -> bool {
        if self.journal.is_some() {
            return false;
        }
        let is_isolated = || !self.adapter.replays_missed() && self.health() != Health::Ready;
        let noticed = self.gaps.noticed.load(Ordering::Acquire);
        noticed != self.gaps.marked.load(Ordering::Acquire) || is_isolated()
    }
}
