//! Prices that end: withdrawn prices, and expired symbols without recent publications. Both free
//! their slots.
//!
//! Each server removes expired symbols from its own table, and any server removes them from the
//! store. A withdrawal replaces the price in the store, so that other servers read it in order with
//! later prices.

use std::time::Duration;

use tokio::time::timeout;

use super::table::MOST_SYMBOLS;
use super::{JOURNAL, KIND, Prices, STORE_TIMEOUT};
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
    /// Returns the earliest publication time of prices that have not expired.
    pub(super) fn known_since(&self) -> Time {
        Time::now().before(self.expiry)
    }

    /// Removes expired symbols and notifies their followers at this server. The caller must hold
    /// the turn.
    pub(super) fn expire(&self, namespace: &Namespace) {
        let since = self.known_since();
        let expired = self.table.lock().expire(since);
        for symbol in expired {
            self.emit_withdrawal(namespace, &PriceWithdrawn::new(symbol, PriceEnd::Expired));
        }
    }

    /// Applies a withdrawal read from the store. The caller must hold the turn.
    pub(super) fn apply_withdrawal(&self, namespace: &Namespace, entry: &Entry) {
        if self
            .table
            .lock()
            .apply_withdrawal(&entry.key, entry.revision)
        {
            let ended = PriceWithdrawn::new(entry.key.clone(), PriceEnd::Withdrawn);
            self.emit_withdrawal(namespace, &ended);
        }
    }

    /// Notifies the followers of a symbol at this server that its price is no longer known.
    fn emit_withdrawal(&self, namespace: &Namespace, ended: &PriceWithdrawn) {
        let to = namespace.local().to(room_named(KIND, &ended.symbol));
        // The event shares the key of prices, so it replaces a price that is queued until the end
        // of an interval.
        PRICE_WITHDRAWN.emit_every(self.interval, to, ended);
    }
}

impl Market {
    /// Removes expired symbols periodically. Runs until dropped.
    pub(crate) async fn expire_prices(self, namespace: Namespace) {
        let prices = &self.0.prices;
        let interval = (prices.expiry / 8).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(_permit) = prices.acquire().await {
                prices.expire(&namespace);
            }
            if let Err(error) = self.expire_stored_prices().await {
                tracing::debug!(%error, "could not remove expired prices from the store");
            }
        }
    }

    /// Removes expired prices from the store, and returns their number.
    pub(super) async fn expire_stored_prices(&self) -> Result<u64, StoreError> {
        let since = self.0.prices.known_since();
        let store = self.0.journals.store();
        let withdrawn = Time::now().before(WITHDRAWAL_RETENTION);
        store.expire_journal(JOURNAL, since, withdrawn).await
    }

    /// Withdraws the price of a symbol until another price is published.
    pub(crate) async fn withdraw_price(
        &self,
        allowed: Allowed<WithdrawPrice>,
        namespace: &Namespace,
    ) -> Result<PriceWithdrawn, ServiceError> {
        let (_, WithdrawPrice { symbol }) = allowed.into_parts();
        let prices = &self.0.prices;
        // No batch may be stored in the meantime, so that no older price of this server follows the
        // withdrawal.
        let storing = timeout(STORE_TIMEOUT, prices.storing.acquire()).await;
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
        let permit = prices.acquire().await?;
        // A price published since then is newer than the withdrawal, and is stored after it.
        if prices.table.lock().withdraw(&symbol, known) {
            prices.emit_withdrawal(namespace, &ended);
        }
        drop(permit);
        Ok(ended)
    }

    /// Returns whether this server or the store has an unexpired price of a symbol.
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

/// The minimum interval between two removals of expired prices.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum interval between two removals of expired prices.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// How long the store retains a withdrawal. A server isolated for longer knows the price until it
/// expires.
const WITHDRAWAL_RETENTION: Duration = Duration::from_secs(3600);
