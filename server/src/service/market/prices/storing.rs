//! Stores the newest price of each symbol in batches, because clients receive far more prices than
//! are ever read again.
//!
//! Only one batch is stored at a time. Prices that arrive in the meantime wait for the next batch,
//! in which the newest price of each symbol replaces older ones. So the store's speed determines
//! the number of batches, however many prices are published.

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
    /// If the store fails or is too slow; the prices are then stored later. Also if the store
    /// refuses the prices.
    pub(super) async fn settled(&self, mut awaited: Vec<Awaited>) -> Result<(), ServiceError> {
        let mut rounds = self.rounds.subscribe();
        let waiting = async {
            loop {
                // The round is marked before the table is read, so that no change is missed in
                // between.
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
        timeout(super::STORE_TIMEOUT, waiting)
            .await
            .unwrap_or_else(|_| Err(StoreError::TimedOut.into()))
    }

    /// Advances the read position past this server's own prices, if no entry of another server lies
    /// in between.
    fn skip_own(&self, revisions: &[Option<u64>]) {
        let mut applied = self.applied.lock();
        let stored = revisions.iter().flatten().copied();
        if stored
            .clone()
            .zip(*applied + 1..)
            .all(|(one, next)| one == next)
        {
            *applied = stored.last().unwrap_or(*applied);
        }
    }
}

impl Market {
    /// Stores new prices continuously. Runs until dropped.
    pub(crate) async fn store_prices_continuously(self) {
        loop {
            if let Err(error) = self.store_prices().await {
                tracing::warn!(%error, "could not store prices, they are emitted nevertheless");
                sleep(RETRY_DELAY).await;
            } else {
                // A leftover permit only costs one extra check of the table.
                self.0.prices.unstored.notified().await;
            }
        }
    }

    /// Stores the remaining prices before the store is closed.
    pub(crate) async fn finish_prices(&self) {
        if let Err(error) = self.store_prices().await {
            tracing::error!(%error, "could not store the last prices before shutdown");
        }
    }

    /// Stores prices in batches until none remain.
    async fn store_prices(&self) -> Result<(), StoreError> {
        let prices = &self.0.prices;
        let _permit = prices.storing.acquire().await;
        loop {
            // The table is unlocked before the store is called.
            let unstored = prices.table.lock().unstored(MAX_BATCH);
            if unstored.is_empty() {
                return Ok(());
            }
            let stored = self.store_batch(&unstored).await;
            match &stored {
                // Prices leave the queue only after the commit, so that an interrupted task leaves
                // them to the next one.
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
        // Expired symbols free their slots before a new symbol is refused.
        if revisions.contains(&None) && self.expire_stored_prices().await? > 0 {
            revisions = store.replace(replace).await?;
        }
        if revisions.contains(&None) {
            tracing::warn!(
                "the store has the maximum number of symbols, prices of new symbols are not stored"
            );
        }
        Ok(revisions)
    }
}

/// The delay after a failure to store prices.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Maximum prices in one transaction. A single published price waits for at most one transaction
/// before its own.
const MAX_BATCH: usize = 500;
