//! Commands about trades: following those of a user, having one executed, publishing one, and prices.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::auth::Permission;
use crate::service::rules::event::{Command, events};
use crate::store::Time;

events! {
    SUBSCRIBE_TRADES: SubscribeTrades = "subscribe:trades", Nothing, Changes, Oneself, object,
        "follows the sender's trades";
    UNSUBSCRIBE_TRADES: UnsubscribeTrades = "unsubscribe:trades", Nothing, Changes, Oneself, object,
        "follows the sender's trades no longer";
    EXECUTE_TRADE: ExecuteTrade = "execute:trade", TradesExecute, Changes, Anyone, object,
        "has a trade executed for the sender";
}

/// `subscribe:trades`: the trades of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribeTrades {
    /// The sender's own id.
    pub(crate) user_id: String,
}

/// `unsubscribe:trades`: no longer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribeTrades {
    /// The sender's own id.
    pub(crate) user_id: String,
}

/// `execute:trade`: a trade for the sender.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExecuteTrade {
    /// 1 to 32 characters: ASCII without spaces.
    pub(crate) symbol: String,
    #[schemars(with = "String", extend("enum" = ["buy", "sell"]))]
    #[serde(deserialize_with = "side")]
    pub(crate) side: Side,
    /// More than 0 and at most 1e15.
    pub(crate) quantity: f64,
}

/// Whether something is bought or sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Buy,
    Sell,
}

/// A word and nothing else: a derived enum takes `{"buy": null}` as well.
fn side<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Side, D::Error> {
    match &*String::deserialize(deserializer)? {
        "buy" => Ok(Side::Buy),
        "sell" => Ok(Side::Sell),
        other => Err(de::Error::unknown_variant(other, &["buy", "sell"])),
    }
}

/// What has become of a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TradeStatus {
    Pending,
    Executed,
    Failed,
    Canceled,
}

/// `POST /api/v1/trades`: a trade of a user, or what has become of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublishTrade {
    pub(crate) trade_id: String,
    pub(crate) user_id: String,
    pub(crate) symbol: String,
    pub(crate) status: TradeStatus,
    pub(crate) executed_price: Option<f64>,
    pub(crate) quantity: f64,
    /// Default: now.
    pub(crate) timestamp: Option<Time>,
}

impl Command for PublishTrade {
    const PERMISSION: Option<Permission> = Some(Permission::TradesPublish);
}

/// `POST /api/v1/prices`: the last price of a symbol.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdatePrice {
    pub(crate) symbol: String,
    pub(crate) price: f64,
    /// Default: now.
    pub(crate) timestamp: Option<Time>,
}

impl Command for UpdatePrice {
    const PERMISSION: Option<Permission> = Some(Permission::PricesPublish);
}
