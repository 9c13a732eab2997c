//! Prices that end: those that a service withdraws, and those of symbols of which no price was published for long. They make
//! room for others.
//!
//! Each server removes expired symbols from its table by itself, and any server removes them from the store. A withdrawal is stored
//! in the place of the price, so that the other servers read it in its order among prices.

use std::time::Duration;

use tokio::time::timeout;

use super::table::MOST_SYMBOLS;
use super::{JOURNAL, KIND, PATIENCE, Prices};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{is_withdrawal, write_withdrawal};
use crate::service::market::Market;
use crate::service::rules::commands::withdrawals::WithdrawPrice;
use crate::service::rules::emissions::prices::{PRICE_WITHDRAWN, PriceEnd, PriceWithdrawn};
use crate::service::rules::rooms::room_named;
use crate::store::{Entry, Replace, StoreError, Time};
use roomcast::Namespace;

impl Prices {
    /// Returns since when a price must have been published to be known now.
    pub(super) fn known_since(&self) -> Time {
        Time::now().before(self.expiry)
    }

    /// Removes symbols that have expired, and notifies the clients that follow them at this server. The caller has the turn.
    pub(super) fn expire(&self, namespace: &Namespace) {
        let since = self.known_since();
        let expired = self.table.lock().expire(since);
        for symbol in expired {
            self.tell_end(namespace, &PriceWithdrawn::new(symbol, PriceEnd::Expired));
        }
    }

    /// Takes over a withdrawal that the store has. The caller has the turn.
    pub(super) fn hear_end(&self, namespace: &Namespace, entry: &Entry) {
        if self.table.lock().hear_end(&entry.key, entry.revision) {
            let ended = PriceWithdrawn::new(entry.key.clone(), PriceEnd::Withdrawn);
            self.tell_end(namespace, &ended);
        }
    }

    /// Notifies the clients that follow a symbol at this server that its price is no longer known.
    fn tell_end(&self, namespace: &Namespace, ended: &PriceWithdrawn) {
        let to = namespace.local().to(room_named(KIND, &ended.symbol));
        // It shares the key of prices, and so replaces a price that waits for the end of an interval.
        PRICE_WITHDRAWN.emit_every(self.interval, to, ended);
    }
}

impl Market {
    /// Removes symbols that have expired, for as long as it is polled.
    pub(crate) async fn expire_prices(self, namespace: Namespace) {
        let prices = &self.0.prices;
        let pause = (prices.expiry / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let mut turns = tokio::time::interval(pause);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            if let Ok(_turn) = prices.turn().await {
                prices.expire(&namespace);
            }
            if let Err(error) = self.expire_stored_prices().await {
                tracing::debug!(%error, "prices that have expired could not be removed from the store");
            }
        }
    }

    /// Removes prices that have expired from the store, and returns how many there were.
    pub(super) async fn expire_stored_prices(&self) -> Result<u64, StoreError> {
        let since = self.0.prices.known_since();
        let store = self.0.journals.store();
        let withdrawn = Time::now().before(REMEMBERED);
        store.expire_journal(JOURNAL, since, withdrawn).await
    }

    /// Withdraws the price of a symbol, until another one is published.
    pub(crate) async fn withdraw_price(
        &self,
        allowed: Allowed<WithdrawPrice>,
        namespace: &Namespace,
    ) -> Result<PriceWithdrawn, ServiceError> {
        let (_, WithdrawPrice { symbol }) = allowed.into_parts();
        let prices = &self.0.prices;
        // No batch is stored in the meantime, so that no older price of this server follows the withdrawal.
        let storing = timeout(PATIENCE, prices.storing.acquire()).await;
        let _storing = storing.map_err(|_| StoreError::TimedOut)?;
        let known = prices.table.lock().unstored_version(&symbol);
        if !self.is_price_known(&symbol).await? {
            return Err(ServiceError::NotFound("no price of the symbol is known"));
        }
        let ended = PriceWithdrawn::new(symbol.clone(), PriceEnd::Withdrawn);
        let replace = Replace {
            journal: JOURNAL.into(),
            entries: vec![(symbol.clone(), write_withdrawal(&ended))],
            created_at: ended.timestamp,
            most_open: u32::try_from(MOST_SYMBOLS).unwrap_or(u32::MAX),
        };
        self.0.journals.store().replace(replace).await?;
        let turn = prices.turn().await?;
        // A price that was published since then is newer than the withdrawal, and is stored after it.
        if prices.table.lock().withdraw(&symbol, known) {
            prices.tell_end(namespace, &ended);
        }
        drop(turn);
        Ok(ended)
    }

    /// Whether a price of a symbol is known here, or the store has one of another server.
    async fn is_price_known(&self, symbol: &str) -> Result<bool, StoreError> {
        let since = self.0.prices.known_since();
        if self.0.prices.table.lock().current(symbol, since).is_some() {
            return Ok(true);
        }
        let entry = self
            .0
            .journals
            .store()
            .journal_entry(JOURNAL, symbol)
            .await?;
        Ok(entry.is_some_and(|entry| entry.created_at >= since && !is_withdrawal(&entry)))
    }
}

impl PriceWithdrawn {
    fn new(symbol: String, reason: PriceEnd) -> Self {
        Self {
            symbol,
            reason,
            timestamp: Time::now(),
        }
    }
}

/// Bounds of the interval between two searches for what has expired.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the store has a withdrawal. A server that is cut off for longer knows the price until it expires.
const REMEMBERED: Duration = Duration::from_secs(3600);
