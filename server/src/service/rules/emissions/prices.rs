//! Events about prices, sent to the sockets that follow the symbols.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::service::rules::bounds::{Positive, Symbol};
use crate::service::rules::emission::{Keyed, emissions};
use crate::service::rules::examples::{self, NOON};
use crate::store::Time;

emissions! {
    PRICES_SUBSCRIBED {
        event: "prices:subscribed", payload: PricesSubscribed, delivery: Reliable,
        summary: "the socket now follows the prices of these symbols",
        to: "the socket", rooms: [],
        example: subscribed(),
    }
    PRICES_UNSUBSCRIBED {
        event: "prices:unsubscribed", payload: PricesUnsubscribed, delivery: Reliable,
        summary: "the socket has stopped following the prices of these symbols",
        to: "the socket", rooms: [],
        example: unsubscribed(),
    }
    PRICE_UPDATE {
        event: "price:update", payload: Price, delivery: Conflated,
        summary: "the price of a symbol has changed; of several prices within `market.price_interval`, only the newest is sent",
        to: "sockets that follow the symbol", rooms: [Prices],
        example: price(),
    }
    PRICE_WITHDRAWN {
        event: "price:withdrawn", payload: PriceWithdrawn, delivery: Conflated,
        summary: "the price of a symbol is no longer known; the event replaces a queued `price:update`, and a newer price replaces the event",
        to: "sockets that follow the symbol", rooms: [Prices],
        example: PriceWithdrawn {
            symbol: "AAPL".into(),
            reason: PriceEnd::Expired,
            timestamp: examples::time("2025-02-07T12:00:00Z"),
        },
    }
}

/// The last price of a symbol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Price {
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    #[schemars(with = "Positive")]
    pub(crate) price: f64,
    pub(crate) timestamp: Time,
}

/// The price of a symbol is unknown until another price is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PriceWithdrawn {
    pub(crate) symbol: String,
    pub(crate) reason: PriceEnd,
    pub(crate) timestamp: Time,
}

/// Why a price is no longer known: a service withdrew it, or no price was published for
/// `market.symbol_expiry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum PriceEnd {
    Withdrawn,
    Expired,
}

/// The response to a subscription, as event and as acknowledgement.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PricesSubscribed {
    /// One room for each symbol.
    pub(crate) rooms: Vec<String>,
    /// The prices known at this moment. Later prices arrive as events.
    pub(crate) snapshot: LastPrices,
}

/// The last prices of symbols.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LastPrices {
    /// Without the symbols that have no published price.
    pub(crate) prices: Vec<Price>,
}

/// The response when a subscription ends.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PricesUnsubscribed {
    /// One room for each symbol.
    pub(crate) rooms: Vec<String>,
}

impl Keyed for Price {
    const BY: &'static str = "symbol";

    fn key(&self) -> String {
        format!("price {}", self.symbol)
    }
}

impl Keyed for PriceWithdrawn {
    const BY: &'static str = "symbol";

    fn key(&self) -> String {
        // The same key as the price, so that the newer of the two events replaces the other.
        format!("price {}", self.symbol)
    }
}

fn price() -> Price {
    Price {
        symbol: "AAPL".into(),
        price: 190.5,
        timestamp: examples::time(NOON),
    }
}

pub(in crate::service::rules) fn subscribed() -> PricesSubscribed {
    PricesSubscribed {
        rooms: vec!["prices:AAPL".into(), "prices:BTC/USD".into()],
        snapshot: LastPrices {
            prices: vec![price()],
        },
    }
}

pub(in crate::service::rules) fn unsubscribed() -> PricesUnsubscribed {
    PricesUnsubscribed {
        rooms: vec!["prices:BTC/USD".into()],
    }
}
