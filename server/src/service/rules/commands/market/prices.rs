//! Commands about prices: following and publishing them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::auth::Permission;
use crate::service::rules::bounds::{PRICES, Positive, SYMBOLS, Symbol};
use crate::service::rules::commands::form::{Object, exact, exact_or_none};
use crate::service::rules::emissions::prices::{self, PricesSubscribed, PricesUnsubscribed};
use crate::service::rules::event::{Command, events};
use crate::store::Time;

events! {
    SUBSCRIBE_PRICES {
        event: "subscribe:prices", payload: SubscribePrices, answer: PricesSubscribed,
        permission: None, limit: Changes, room: Anyone, argument: object,
        does: "follows the prices of symbols",
        example: {"symbols": ["AAPL", "BTC/USD"]},
        answered: prices::subscribed(),
        call: Market::subscribe_prices(socket), serial: true,
    }
    UNSUBSCRIBE_PRICES {
        event: "unsubscribe:prices", payload: UnsubscribePrices, answer: PricesUnsubscribed,
        permission: None, limit: Changes, room: Anyone, argument: object,
        does: "stops following the prices of symbols",
        example: {"symbols": ["BTC/USD"]},
        answered: prices::unsubscribed(),
        call: Market::unsubscribe_prices(socket), serial: true,
    }
}

/// `subscribe:prices`: follows the prices of symbols.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribePrices {
    /// 1 to 100 symbols.
    #[schemars(with = "Vec<Symbol>", length(min = 1, max = SYMBOLS))]
    pub(crate) symbols: Vec<String>,
}

/// `unsubscribe:prices`: ends the subscription to symbols.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribePrices {
    /// 1 to 100 symbols.
    #[schemars(with = "Vec<Symbol>", length(min = 1, max = SYMBOLS))]
    pub(crate) symbols: Vec<String>,
}

/// `POST /api/v1/prices`: publishes the last price of a symbol, or several as `prices`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum PublishPrices {
    /// The last price of a symbol.
    One(NewPrice),
    /// The last prices of several symbols. Either all are accepted or none.
    #[schemars(extend("additionalProperties" = false))]
    Many {
        /// 1 to 1,000. The last of several prices of a symbol counts.
        #[schemars(length(min = 1, max = PRICES))]
        prices: Vec<NewPrice>,
    },
}

/// The last price of a symbol.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewPrice {
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    #[schemars(with = "Positive")]
    #[serde(deserialize_with = "exact")]
    pub(crate) price: f64,
    /// At most one minute ahead of the server's clock; a later time is a conflict. Default: now.
    pub(crate) timestamp: Option<Time>,
}

/// The fields of both variants, so that errors in a list have a path.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PriceFields {
    symbol: Option<String>,
    #[serde(default, deserialize_with = "exact_or_none")]
    price: Option<f64>,
    timestamp: Option<Time>,
    prices: Option<Vec<Object<NewPrice>>>,
}

impl<'de> Deserialize<'de> for PublishPrices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match PriceFields::deserialize(deserializer)? {
            PriceFields {
                symbol: None,
                price: None,
                timestamp: None,
                prices: Some(prices),
            } => Ok(Self::Many {
                prices: prices.into_iter().map(|Object(price)| price).collect(),
            }),
            PriceFields {
                symbol: Some(symbol),
                price: Some(price),
                timestamp,
                prices: None,
            } => Ok(Self::One(NewPrice {
                symbol,
                price,
                timestamp,
            })),
            // A list excludes the fields of a single price.
            PriceFields {
                symbol,
                price,
                prices: Some(_),
                ..
            } => {
                let field = match (symbol, price) {
                    (Some(_), _) => "symbol",
                    (None, Some(_)) => "price",
                    (None, None) => "timestamp",
                };
                Err(de::Error::unknown_field(field, &["prices"]))
            }
            PriceFields { symbol: None, .. } => Err(de::Error::missing_field("symbol")),
            PriceFields { .. } => Err(de::Error::missing_field("price")),
        }
    }
}

impl Command for PublishPrices {
    const PERMISSION: Option<Permission> = Some(Permission::PricesPublish);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payload_is_one_price_or_a_list_of_prices() {
        let read = serde_json::from_value::<PublishPrices>;
        let one = read(json!({"symbol": "A", "price": 1}));
        assert!(matches!(one, Ok(PublishPrices::One(_))));
        let many = read(json!({"prices": [{"symbol": "A", "price": 1}]}));
        assert!(matches!(many, Ok(PublishPrices::Many { prices }) if prices.len() == 1));
        for wrong in [
            json!({}),
            json!({"symbol": "A"}),
            json!({"price": 1}),
            json!({"prices": [], "symbol": "A"}),
            json!({"prices": [], "timestamp": "2026-01-01T00:00:00Z"}),
            json!({"prices": {"symbol": "A", "price": 1}}),
            json!({"prices": [{"symbol": "A", "price": 1, "more": 1}]}),
            json!({"symbol": "A", "price": 1, "more": 1}),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_price_that_a_double_would_round_is_refused() {
        let read = |price: &str| {
            let one = format!(r#"{{"symbol":"A","price":{price}}}"#);
            let many = format!(r#"{{"prices":[{one}]}}"#);
            [one, many].map(|json| serde_json::from_str::<PublishPrices>(&json).is_ok())
        };
        for price in ["0.1", "100.0", "1e2", "0.30000000000000004"] {
            assert_eq!(read(price), [true, true], "{price}");
        }
        for price in [
            "9007199254740993",
            "0.12345678901234567",
            "1e400",
            "\"1\"",
            "[1]",
        ] {
            assert_eq!(read(price), [false, false], "{price}");
        }
    }
}
