//! The timeouts of all conversations.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::Conversations;

/// The timeouts of one shard of the conversations.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Each conversation at most once, by its next timeout.
    pub(super) timeouts: Mutex<BTreeSet<(Instant, Uuid)>>,
    /// Notifies that the earliest timeout has become earlier.
    earlier: Notify,
}

impl Schedule {
    /// Replaces the timeout of a conversation.
    pub(super) fn replace(&self, id: Uuid, before: Option<Instant>, next: Option<Instant>) {
        let mut timeouts = self.timeouts.lock();
        if let Some(at) = before {
            timeouts.remove(&(at, id));
        }
        if let Some(at) = next {
            timeouts.insert((at, id));
            // Only an earlier first timeout matters to the waiting task. It finds all other
            // timeouts by itself.
            if timeouts.first() == Some(&(at, id)) {
                self.earlier.notify_one();
            }
        }
    }

    /// Waits until a conversation is due. It stays due until its timeout is replaced.
    async fn next(&self) -> Uuid {
        loop {
            let first = self.timeouts.lock().first().copied();
            let Some((at, _)) = first else {
                self.earlier.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                // This also takes a permit that was stored while no task waited, so that no earlier
                // timeout is missed.
                () = self.earlier.notified() => continue,
            }
            if let Some((due, id)) = self.timeouts.lock().first().copied()
                && due <= at
            {
                return id;
            }
        }
    }
}

impl Conversations {
    /// Calls `due` with each due conversation, again and again until [`Conversations::with`] finds
    /// nothing due.
    ///
    /// Never returns.
    pub(in crate::service) async fn time_out(&self, due: impl Fn(Uuid)) {
        let due = &due;
        let watch = async move |part: &Schedule| {
            loop {
                due(part.next().await);
            }
        };
        let mut parts: FuturesUnordered<_> = self.schedule.iter().map(watch).collect();
        let _: Option<()> = parts.next().await;
    }
}
