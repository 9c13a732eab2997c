//! What this server may have missed of others: a client that comes back is told so by starting afresh.
//!
//! A gap is noted without a lock; the task of heartbeats, or that of the adapter when it is connected again, then has the
//! namespaces know up to which of their events something may be missing. Until the namespaces know, nobody is recovered.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Joined;
use crate::adapter::interface::Health;

/// How often something may have been missed, and how many of these times the namespaces know of.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    noticed: AtomicU64,
    marked: AtomicU64,
}

impl Joined {
    /// Notes that something of other servers may be missing. It takes no lock, and may be called with any held.
    pub(super) fn notice_gap(&self) {
        self.gaps.noticed.fetch_add(1, Ordering::AcqRel);
        self.registry.beat_soon();
    }

    /// Has the namespaces know of what was noticed.
    pub(crate) fn mark_gaps(&self) {
        let noticed = self.gaps.noticed.load(Ordering::Acquire);
        if noticed != self.gaps.marked.load(Ordering::Acquire) {
            self.receiver.missed();
            // What was noticed meanwhile is marked the next time.
            self.gaps.marked.store(noticed, Ordering::Release);
        }
    }

    /// Whether something that others send now may never arrive, or nobody knows yet from where on everything has. With a
    /// journal that is its matter.
    pub(crate) fn has_gap(&self) -> bool {
        if self.journal.is_some() {
            return false;
        }
        let is_cut_off = || !self.adapter.catches_up() && self.health() != Health::Ready;
        let noticed = self.gaps.noticed.load(Ordering::Acquire);
        noticed != self.gaps.marked.load(Ordering::Acquire) || is_cut_off()
    }
}
