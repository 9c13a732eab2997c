//! Prices are stored in batches, the newest of each symbol: far more are told than anybody reads again.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::table::MOST_SYMBOLS;
use super::{JOURNAL, Prices};
use crate::service::journals::write;
use crate::service::market::Market;
use crate::store::{Replace, StoreError, Time};

/// What the store has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// All prices up to this version of the table, or newer ones.
    version: u64,
    /// How often they could not be stored.
    failures: u64,
}

impl Prices {
    /// Waits until the store has a version of the table.
    ///
    /// # Errors
    ///
    /// If it could not be stored in time; it will be later.
    pub(super) async fn kept_until(&self, version: u64) -> Result<(), StoreError> {
        let mut kept = self.kept.subscribe();
        // The count is read before the wait: an earlier failure is none of this price.
        let failures = kept.borrow().failures;
        let is_over = |kept: &Kept| kept.version >= version || kept.failures > failures;
        let waiting = timeout(super::PATIENCE, kept.wait_for(is_over)).await;
        match waiting {
            Ok(Ok(kept)) if kept.version >= version => Ok(()),
            _ => Err(StoreError::TimedOut),
        }
    }
}

impl Market {
    /// Stores the newest prices, for as long as it is polled.
    pub(crate) async fn keep_prices(self) {
        loop {
            let pause = match self.store_prices().await {
                Ok(()) => PAUSE,
                Err(error) => {
                    tracing::warn!(%error, "prices could not be stored, and are told all the same");
                    LONG_PAUSE
                }
            };
            sleep(pause).await;
            // A permit of `given` may be left over from prices that were just stored, so the table
            // is asked and not the permit.
            if self.0.prices.table.lock().is_stored() {
                self.0.prices.given.notified().await;
            }
        }
    }

    /// Stores the prices that the store does not have, before it is closed.
    pub(crate) async fn finish_prices(&self) {
        if let Err(error) = self.store_prices().await {
            tracing::error!(%error, "the last prices could not be stored");
        }
    }

    async fn store_prices(&self) -> Result<(), StoreError> {
        let prices = &self.0.prices;
        let _permit = prices.storing.acquire().await;
        // The table is copied and unlocked before the store is asked; what comes meanwhile is
        // stored in the next round.
        let (unstored, version) = prices.table.lock().unstored();
        for some in unstored.chunks(AT_ONCE) {
            let entry =
                |one: &super::table::Unstored| (one.price.symbol.clone(), write(&one.price));
            let replace = Replace {
                journal: JOURNAL.into(),
                entries: some.iter().map(entry).collect(),
                created_at: Time::now(),
                most_open: u32::try_from(MOST_SYMBOLS).unwrap_or(u32::MAX),
            };
            let stored = self.0.journals.store().replace(replace).await;
            let revisions = stored.inspect_err(|_| {
                prices.kept.send_modify(|kept| kept.failures += 1);
            })?;
            if revisions.contains(&None) {
                tracing::warn!(
                    "the store has prices of too many symbols, and takes no further ones"
                );
            }
            // The prices count as stored only behind the commit, so that a task that ends in
            // between leaves them to the next one.
            prices.table.lock().stored(some, &revisions);
        }
        prices.kept.send_modify(|kept| kept.version = version);
        Ok(())
    }
}

/// The pause between two times that prices are stored, so that one that changes all the time is stored four times
/// a second.
const PAUSE: Duration = Duration::from_millis(250);
/// The pause after prices could not be stored.
const LONG_PAUSE: Duration = Duration::from_secs(2);
/// Prices that are stored in one transaction.
const AT_ONCE: usize = 1000;
