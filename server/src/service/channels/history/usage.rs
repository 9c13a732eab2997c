//! How many events the channels of each kind store, and how many bytes. The store is counted from
//! time to time, in small parts. In between, published events are added.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::metrics::{Counter, Inventory};
use crate::service::channels::Channels;
use crate::service::channels::kinds::Kind;
use crate::service::fault::ServiceError;
use crate::service::rules::rooms::RoomKind;
use crate::store::StoreError;

/// The maximum number of stored events, and of their bytes. Zero is no limit.
#[derive(Clone, Copy, Debug)]
pub(in crate::service::channels) struct Bounds {
    pub(in crate::service::channels) events: u64,
    pub(in crate::service::channels) bytes: u64,
}

/// A number of events and of their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    events: u64,
    bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.events = self.events.saturating_add(other.events);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Returns whether a further event fits, or the limit that is reached: of the two `limits`, that
    /// of events or that of bytes.
    fn check(self, bounds: Bounds, limits: [Counter; 2]) -> Result<(), Counter> {
        let [events, bytes] = limits;
        if bounds.events > 0 && self.events >= bounds.events {
            return Err(events);
        }
        if bounds.bytes > 0 && self.bytes >= bounds.bytes {
            return Err(bytes);
        }
        Ok(())
    }
}

/// What the kinds store, by their names.
#[derive(Debug, Default)]
pub(in crate::service::channels) struct Usage {
    kinds: Mutex<HashMap<String, Stored>>,
    /// Lets the store be counted soon.
    due: Notify,
}

/// What the channels of a kind store.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    counted: Amount,
    /// What was published after the last count had begun.
    added: Amount,
}

impl Stored {
    fn total(self) -> Amount {
        let mut total = self.counted;
        total.add(self.added);
        total
    }
}

impl Usage {
    /// Lets the store be counted again soon, because events were removed.
    pub(in crate::service::channels) fn count_soon(&self) {
        self.due.notify_one();
    }

    /// Counts an event of a kind that this server has stored.
    pub(in crate::service::channels) fn add(&self, kind: &str, bytes: usize) {
        let mut kinds = self.kinds.lock();
        let stored = match kinds.get_mut(kind) {
            Some(stored) => stored,
            None => kinds.entry(kind.to_owned()).or_default(),
        };
        stored.added.add(Amount {
            events: 1,
            bytes: bytes as u64,
        });
    }

    /// Returns the limit that a kind has reached, or that all kinds together have reached.
    fn check(&self, kind: &Kind, all: Bounds) -> Result<(), Counter> {
        let kinds = self.kinds.lock();
        let own = kinds.get(&kind.name).copied().unwrap_or_default();
        own.total().check(
            kind.bounds,
            [Counter::ChannelEventsOfKind, Counter::ChannelBytesOfKind],
        )?;
        let mut total = Amount::default();
        for stored in kinds.values() {
            total.add(stored.total());
        }
        total.check(
            all,
            [Counter::ChannelEventsOfAll, Counter::ChannelBytesOfAll],
        )
    }

    /// Returns what was published after the last count had begun.
    fn added(&self) -> HashMap<String, Amount> {
        let kinds = self.kinds.lock();
        let added = kinds.iter().map(|(kind, one)| (kind.clone(), one.added));
        added.collect()
    }

    /// Notes a count of the store. Of what was added, `before` was published before it began.
    fn note(&self, mut counted: HashMap<String, Amount>, before: &HashMap<String, Amount>) {
        let mut kinds = self.kinds.lock();
        for (kind, stored) in &mut *kinds {
            stored.counted = counted.remove(kind).unwrap_or_default();
            let before = before.get(kind).copied().unwrap_or_default();
            stored.added.events -= before.events;
            stored.added.bytes -= before.bytes;
        }
        let new = counted.into_iter().map(|(kind, counted)| {
            let added = Amount::default();
            (kind, Stored { counted, added })
        });
        kinds.extend(new);
        kinds.retain(|_, stored| stored.total() != Amount::default());
    }

    pub(in crate::service::channels) fn report(&self, inventory: &mut Inventory) {
        inventory.map("stored events of kinds", &self.kinds.lock());
    }
}

impl Channels {
    /// Checks that a further event of a kind may be stored.
    ///
    /// # Errors
    ///
    /// If the kind, or all kinds together, have stored as much as they may.
    pub(in crate::service::channels) fn check_stored(
        &self,
        kind: &Kind,
    ) -> Result<(), ServiceError> {
        let bounds = Bounds {
            events: self.0.limits.stored_channel_events,
            bytes: self.0.limits.stored_channel_bytes,
        };
        self.0.usage.check(kind, bounds).map_err(|limit| {
            self.0.metrics.count(limit);
            ServiceError::limited(PAUSE)
        })
    }

    /// Counts what channels store, again and again.
    pub(crate) async fn count_stored(self) {
        loop {
            let begin = Instant::now();
            if let Err(error) = self.count().await {
                tracing::debug!(%error, "could not count the stored events of channels");
            }
            // A large store is counted for a small part of the time.
            let pause = PAUSE.max(begin.elapsed() * 20);
            let _ = timeout(pause, self.0.usage.due.notified()).await;
        }
    }

    async fn count(&self) -> Result<(), StoreError> {
        let usage = &self.0.usage;
        let before = usage.added();
        let mut counted = HashMap::<String, Amount>::new();
        let store = self.0.journals.store();
        let mut after = (String::new(), 0);
        loop {
            let prefix = RoomKind::Declared.prefix();
            let part = store.measure_journals(prefix, (&after.0, after.1), PART);
            let part = part.await?;
            let Some(first) = part.first() else { break };
            after = (first.last_journal.clone(), first.last_revision);
            for one in part {
                let amount = counted.entry(one.category.unwrap_or_default());
                amount.or_default().add(Amount {
                    events: one.entries,
                    bytes: one.bytes,
                });
            }
            sleep(PART_PAUSE).await;
        }
        usage.note(counted, &before);
        Ok(())
    }
}

/// The shortest interval between counts.
const PAUSE: Duration = Duration::from_secs(60);
/// The number of events that one query counts.
const PART: usize = 5000;
/// How long to wait between such queries.
const PART_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_published_during_a_count_are_added_to_it() {
        let amount = |events, bytes| Amount { events, bytes };
        let usage = Usage::default();
        for bytes in [10, 20] {
            usage.add("orders", bytes);
        }
        let before = HashMap::from([("orders".to_owned(), amount(2, 30))]);
        usage.add("orders", 5);
        let counted = HashMap::from([
            ("orders".to_owned(), amount(7, 100)),
            ("gone".to_owned(), amount(1, 1)),
        ]);
        usage.note(counted, &before);
        let total = |kind: &str| usage.kinds.lock().get(kind).map(|one| one.total());
        assert_eq!(total("orders"), Some(amount(8, 105)));
        assert_eq!(total("gone"), Some(amount(1, 1)));
        // What is stored no longer is forgotten.
        let before = HashMap::from([("orders".to_owned(), amount(1, 5))]);
        usage.note(HashMap::new(), &before);
        assert_eq!(usage.kinds.lock().len(), 0);
    }
}
