//! Symbols of which no price was published for long: their prices are no longer known, and make room for others.
//!
//! Each server removes them from its table by itself, and any server removes them from the store.

use std::time::Duration;

use super::{JOURNAL, KIND, Prices};
use crate::service::market::Market;
use crate::service::rules::emissions::prices::{PRICE_WITHDRAWN, PriceEnd, PriceWithdrawn};
use crate::service::rules::rooms::room_named;
use crate::store::{StoreError, Time};
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
            self.tell_end(namespace, symbol, PriceEnd::Expired);
        }
    }

    /// Notifies the clients that follow a symbol at this server that its price is no longer known.
    fn tell_end(&self, namespace: &Namespace, symbol: String, reason: PriceEnd) {
        let to = namespace.local().to(room_named(KIND, &symbol));
        let ended = PriceWithdrawn {
            symbol,
            reason,
            timestamp: Time::now(),
        };
        // It shares the key of prices, and so replaces a price that waits for the end of an interval.
        PRICE_WITHDRAWN.emit_every(self.interval, to, &ended);
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
        store.expire_journal(JOURNAL, since).await
    }
}

/// Bounds of the interval between two searches for what has expired.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
