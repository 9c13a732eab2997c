//! Removes events beyond those that a channel retains, when other servers have read them.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::service::channels::Channels;
use crate::store::Time;

/// The journals whose old events are removed soon. While there are any, a task removes the events.
pub(in crate::service::channels) type Trimming = HashMap<String, Excess>;

/// The events of a journal that are removed soon.
#[derive(Clone, Debug)]
pub(in crate::service::channels) struct Excess {
    /// The newest event.
    revision: u64,
    /// The number of newest events that are retained.
    retained: u64,
    /// When the newest event was published.
    published: Instant,
    /// When events are removed next.
    due: Instant,
}

impl Channels {
    /// Lets the events be removed that are older than the newest ones.
    pub(in crate::service::channels) fn trim_later(
        &self,
        journal: &str,
        revision: u64,
        retained: u32,
    ) {
        let retained = u64::from(retained);
        if revision <= retained {
            return;
        }
        let published = Instant::now();
        let mut trimming = self.0.trimming.lock();
        if trimming.is_empty() {
            tokio::spawn(self.clone().trim());
        }
        let excess = trimming.entry(journal.to_owned());
        let excess = excess.or_insert(Excess {
            revision,
            retained,
            published,
            due: published + UNTRIMMED + PAUSE,
        });
        excess.revision = excess.revision.max(revision);
        excess.retained = retained;
        excess.published = published;
    }

    async fn trim(self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let (due, is_last) = {
                let mut trimming = self.0.trimming.lock();
                (take_due(&mut trimming), trimming.is_empty())
            };
            for (journal, excess) in due {
                let before = (excess.revision + 1).saturating_sub(excess.retained);
                let old = Time::now().before(UNTRIMMED);
                let trimmed = self.0.journals.store().trim_journal(&journal, before, old);
                // The removal after a later event repairs an error.
                if let Err(error) = trimmed.await {
                    tracing::debug!(%error, "could not remove old events of a channel");
                }
            }
            if is_last {
                return;
            }
        }
    }
}

/// Returns the journals that are due. They are due again if they have events that are too young.
fn take_due(trimming: &mut Trimming) -> Vec<(String, Excess)> {
    let now = Instant::now();
    let mut due = Vec::new();
    trimming.retain(|journal, excess| {
        if excess.due > now {
            return true;
        }
        due.push((journal.clone(), excess.clone()));
        excess.due = now + UNTRIMMED;
        excess.published + UNTRIMMED > now
    });
    due
}

/// How long every event is retained at least. Other servers read it meanwhile and emit it. A server
/// that is isolated for longer tells its followers.
const UNTRIMMED: Duration = Duration::from_secs(60);
/// The interval between checks.
const PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn journal_is_due_until_its_newest_event_is_old_enough() {
        let published = Instant::now();
        let excess = Excess {
            revision: 9,
            retained: 3,
            published,
            due: published + UNTRIMMED,
        };
        let mut trimming = Trimming::default();
        trimming.insert("j".into(), excess);
        assert!(take_due(&mut trimming).is_empty());
        tokio::time::advance(UNTRIMMED / 2).await;
        trimming.get_mut("j").unwrap().published = Instant::now();
        tokio::time::advance(UNTRIMMED / 2).await;
        assert_eq!(take_due(&mut trimming).len(), 1);
        assert!(take_due(&mut trimming).is_empty());
        assert_eq!(trimming.len(), 1);
        tokio::time::advance(UNTRIMMED).await;
        assert_eq!(take_due(&mut trimming).len(), 1);
        assert!(trimming.is_empty());
    }
}
