//! Trades, signals, portfolios and prices: following, publishing and executing.
//!
//! Each is a kind of journals in which the last entry of a key is its current state. Prices are
//! sent before they are stored. `subscriptions` lists the kinds, with notifications and declared
//! channels. Only `execution/executor` may depend on how trades are transported to a broker.

mod checks;
mod correcting;
mod execution;
mod portfolio;
mod prices;
mod signal_access;
mod signals;
mod subscriptions;
mod trades;
mod withdrawals;

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::auth::{Principal, outbound::OutboundFault};
use crate::config;
use crate::metrics::{Inventoried, Inventory};
use crate::service::fault::ServiceError;
use crate::service::journals::{JournalKind, Journals, read};
use crate::service::notifications::Notifications;
use crate::service::rules::content::check_user_id;
use crate::service::rules::emissions::portfolio::NewestPortfolio;
use crate::service::rules::emissions::published::Update;
use crate::service::rules::emissions::signals::Signals;
use crate::service::rules::emissions::trades::Trades;
use crate::store::Entry;
use execution::Execution;
pub(crate) use execution::{Refused, TradeReply};
use prices::Prices;
pub(crate) use prices::{PriceApplier, PublishedPrices};
pub(crate) use signal_access::SignalAccess;
pub(crate) use subscriptions::Subscriptions;

/// Trades, signals, portfolios and prices. Clones share the same state.
#[derive(Clone)]
pub(crate) struct Market(Arc<MarketInner>);

struct MarketInner {
    journals: Journals,
    config: config::Market,
    execution: Execution,
    prices: Prices,
    notifications: Notifications,
    trades: JournalKind<Trades>,
    portfolio: JournalKind<NewestPortfolio>,
    signals: JournalKind<Signals>,
}

impl Market {
    /// Creates the market.
    ///
    /// # Errors
    ///
    /// If the settings of the trade executor are invalid.
    pub(crate) fn new(
        journals: Journals,
        notifications: Notifications,
        access: SignalAccess,
        config: &config::Market,
    ) -> Result<Self, OutboundFault> {
        Ok(Self(Arc::new(MarketInner {
            config: config.clone(),
            execution: Execution::new(config)?,
            prices: Prices::new(config),
            notifications,
            trades: trades::kind(&journals, config),
            portfolio: portfolio::kind(&journals),
            signals: signals::kind(&journals, access),
            journals,
        })))
    }

    /// Checks the settings of the trade executor.
    ///
    /// # Errors
    ///
    /// If they are invalid.
    pub(crate) fn check(config: &config::Market) -> Result<(), OutboundFault> {
        Execution::new(config).map(drop)
    }
}

/// Converts an entry into the update that clients receive.
fn update<T: DeserializeOwned>(entry: &Entry) -> Option<Update<T>> {
    let revision = entry.revision;
    read(entry).map(|body| Update { body, revision })
}

/// Checks that a user requests only their own data.
fn own(by: &Principal, user_id: &str) -> Result<(), ServiceError> {
    check_user_id("userId", user_id)?;
    if by.subject == user_id {
        return Ok(());
    }
    Err(ServiceError::Denied("only one's own"))
}

impl Inventoried for Market {
    fn report(&self, inventory: &mut Inventory) {
        self.0.prices.report(inventory);
        self.0.execution.report(inventory);
    }
}
