//! Prices that other servers of the store publish.

use super::JOURNAL;
use crate::service::feed::{Applied, Applier, Applying, Entries};
use crate::service::journals::{is_withdrawal, read};
use crate::service::market::Market;
use crate::service::rules::emissions::prices::Price;
use crate::store::{Entry, Feed, StoreError};
use roomcast::Namespace;

/// Applies prices from the feed and sends them to followers.
pub(crate) struct PriceApplier {
    pub(crate) market: Market,
    pub(crate) namespace: Namespace,
}

impl Applier for PriceApplier {
    fn topic(&self) -> &'static str {
        "journals"
    }

    fn apply<'a>(&'a self, _: &'a Feed, changed: &'a Entries) -> Applying<'a> {
        // A key has the form `REVISION:NAME`.
        let is_price = |key: &String| key.split_once(':').is_some_and(|(_, name)| name == JOURNAL);
        let is_meant = match changed {
            Entries::All => true,
            Entries::These(keys) => keys.iter().any(is_price),
        };
        Box::pin(async move {
            if is_meant {
                self.market.apply_stored_prices(&self.namespace).await?;
            }
            Ok(Applied::default())
        })
    }
}

impl Market {
    /// Applies prices that are new in the store, and sends them to followers of their symbols at
    /// this server.
    ///
    /// # Errors
    ///
    /// If the prices cannot be read.
    pub(crate) async fn apply_stored_prices(
        &self,
        namespace: &Namespace,
    ) -> Result<(), StoreError> {
        let prices = &self.0.prices;
        loop {
            let after = *prices.applied.lock();
            let store = self.0.journals.store();
            let entries = store.journal_after(JOURNAL, after, u64::MAX, PAGE).await?;
            let Some(last) = entries.last().map(|entry| entry.revision) else {
                return Ok(());
            };
            let permit = prices.acquire().await?;
            for entry in &entries {
                self.apply_stored_price(entry, namespace);
            }
            drop(permit);
            // Some prices may have to be stored again.
            prices.unstored.notify_one();
            // The position is advanced after the entries are applied. After an error the same
            // entries are read again, which changes nothing.
            let mut applied = prices.applied.lock();
            *applied = last.max(*applied);
            if entries.len() < PAGE {
                return Ok(());
            }
        }
    }

    fn apply_stored_price(&self, entry: &Entry, namespace: &Namespace) {
        let prices = &self.0.prices;
        if is_withdrawal(entry) {
            prices.apply_withdrawal(namespace, entry);
            return;
        }
        let Some(price) = read::<Price>(entry) else {
            return;
        };
        let is_news = {
            let mut table = prices.table.lock();
            // Expired prices remain in the store until a server removes them.
            if entry.created_at < prices.known_since() && table.get(&price.symbol).is_none() {
                return;
            }
            let is_news = table.apply_journaled(&price, entry.revision);
            table.note_published(&price.symbol, entry.created_at);
            is_news
        };
        if is_news {
            prices.emit(namespace, &price);
        }
    }
}

/// Maximum number of entries per query.
const PAGE: usize = 1000;
