//! Stores prices in batches, the newest of each symbol: clients receive far more prices than any reads again.
//!
//! One batch is stored at a time. What arrives in the meantime waits for the next batch, where a newer price of a symbol replaces
//! the one that waits. So the store receives as many batches as it can take, however many prices are published.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::table::{Awaited, MOST_SYMBOLS, Settlement, Unstored};
use super::{FULL, JOURNAL, Prices};
use crate::service::fault::ServiceError;
use crate::service::journals::write;
use crate::service::market::Market;
use crate::store::{Replace, StoreError, Time};

impl Prices {
    /// Waits until the store has these prices, or newer prices of their symbols.
    ///
    /// # Errors
    ///
    /// If the store has failed, or is too slow: then the prices are stored later. Also if the store refuses them.
    pub(super) async fn settled(&self, mut awaited: Vec<Awaited>) -> Result<(), ServiceError> {
        let mut rounds = self.rounds.subscribe();
        let waiting = async {
            loop {
                // The round is noted before the table is read, so that none is missed in between.
                rounds.mark_unchanged();
                match self.table.lock().settle(&mut awaited) {
                    Settlement::Stored => return Ok(()),
                    Settlement::Failed => return Err(StoreError::TimedOut.into()),
                    Settlement::Refused => return Err(ServiceError::Conflict(FULL)),
                    Settlement::Waiting => {}
                }
                if rounds.changed().await.is_err() {
                    return Err(StoreError::Closed.into());
                }
            }
        };
        timeout(super::PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| Err(StoreError::TimedOut.into()))
    }

    /// Skips this server's own prices when the journal is read, if nothing of another server lies between.
    fn skip_own(&self, revisions: &[Option<u64>]) {
        let mut heard = self.heard.lock();
        let stored = revisions.iter().flatten().copied();
        if stored
            .clone()
            .zip(*heard + 1..)
            .all(|(one, next)| one == next)
        {
            *heard = stored.last().unwrap_or(*heard);
        }
    }
}

impl Market {
    /// Stores the newest prices, for as long as it is polled.
    pub(crate) async fn keep_prices(self) {
        loop {
            if let Err(error) = self.store_prices().await {
                tracing::warn!(%error, "prices could not be stored, and are told all the same");
                sleep(PAUSE).await;
            } else {
                // A permit that is left over only costs a look at the table.
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

    /// Stores prices batch by batch until the store has all.
    async fn store_prices(&self) -> Result<(), StoreError> {
        let prices = &self.0.prices;
        let _permit = prices.storing.acquire().await;
        loop {
            // The table is unlocked before the store is asked.
            let unstored = prices.table.lock().unstored(AT_ONCE);
            if unstored.is_empty() {
                return Ok(());
            }
            let stored = self.store_batch(&unstored).await;
            match &stored {
                // The prices leave the queue only after the commit, so that a task that ends in
                // between leaves them to the next one.
                Ok(revisions) => {
                    prices.table.lock().stored(&unstored, revisions);
                    prices.skip_own(revisions);
                }
                Err(_) => prices.table.lock().failed(&unstored),
            }
            prices.rounds.send_replace(());
            stored?;
        }
    }

    async fn store_batch(&self, unstored: &[Unstored]) -> Result<Vec<Option<u64>>, StoreError> {
        let entry = |one: &Unstored| (one.price.symbol.clone(), write(&one.price));
        let replace = Replace {
            journal: JOURNAL.into(),
            entries: unstored.iter().map(entry).collect(),
            created_at: Time::now(),
            most_open: u32::try_from(MOST_SYMBOLS).unwrap_or(u32::MAX),
        };
        let store = self.0.journals.store();
        let mut revisions = store.replace(replace.clone()).await?;
        // Symbols that have expired make room before a new one is refused.
        if revisions.contains(&None) && self.expire_stored_prices().await? > 0 {
            revisions = store.replace(replace).await?;
        }
        if revisions.contains(&None) {
            tracing::warn!("the store has prices of too many symbols, and takes no further ones");
        }
        Ok(revisions)
    }
}

/// The pause after prices could not be stored.
const PAUSE: Duration = Duration::from_secs(2);
/// Prices that are stored in one transaction. A price that is published alone waits for one transaction at most before its own.
const AT_ONCE: usize = 500;
