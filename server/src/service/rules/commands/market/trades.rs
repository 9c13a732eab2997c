//! Commands about trades: following those of a user, having one executed, publishing one, and reading what was published.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::auth::{Permission, Principal};
use crate::service::rules::bounds::{
    ClientId, Positive, RevisionCursor, ServiceName, Symbol, UserId,
};
use crate::service::rules::commands::form::{exact, exact_or_none, whole_or_none, word};
use crate::service::rules::commands::pages::AskedUpdates;
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emissions::trades::{
    self, Side, Trade, TradeExecuted, TradeStatus, Trades,
};
use crate::service::rules::event::{Command, events};
use crate::service::rules::examples::ADA;
use crate::store::Time;

events! {
    SUBSCRIBE_TRADES: SubscribeTrades => Subscribed<Trades> =
        "subscribe:trades", Nothing, Changes, Oneself, object,
        "follows the sender's trades",
        {"userId": ADA} => trades::subscribed();
    UNSUBSCRIBE_TRADES: UnsubscribeTrades => Unsubscribed =
        "unsubscribe:trades", Nothing, Changes, Oneself, object,
        "follows the sender's trades no longer",
        {"userId": ADA} => Unsubscribed::example("trades:ada");
    TRADES_HISTORY: ReadOwnTrades => TradeList =
        "trades:history", Nothing, Requests, Oneself, object_or_none,
        "reads a page of the sender's trades, the newest change first",
        {"limit": 1} => list();
    EXECUTE_TRADE: ExecuteTrade => TradeExecuted =
        "execute:trade", TradesExecute, Changes, Anyone, object,
        "has a trade executed for the sender",
        {"symbol": "AAPL", "side": "buy", "quantity": 2, "clientTradeId": CLIENT_TRADE_ID} => trades::executed();
}

/// `subscribe:trades`: the trades of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribeTrades {
    /// The sender's own id.
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
    /// The last `revision` of trades that the client knows: the snapshot then has only what has changed after it.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) since_revision: Option<u64>,
}

/// `unsubscribe:trades`: no longer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribeTrades {
    /// The sender's own id.
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
}

/// `trades:history`: a page of the trades of the sender.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadOwnTrades {
    /// The `cursor` of the snapshot or of the page before; without it, the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<usize>,
    /// Only trades with a larger `revision`, of which the client has all others. On each page.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) since_revision: Option<u64>,
}

/// `execute:trade`: a trade for the sender.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExecuteTrade {
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    #[schemars(with = "String", extend("enum" = ["buy", "sell"]))]
    #[serde(deserialize_with = "side")]
    pub(crate) side: Side,
    #[schemars(with = "Positive")]
    #[serde(deserialize_with = "exact")]
    pub(crate) quantity: f64,
    /// Sent again under the same id it is executed once.
    #[schemars(with = "Option<ClientId>")]
    pub(crate) client_trade_id: Option<String>,
}

const CLIENT_TRADE_ID: &str = "7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10";

/// A word and nothing else: a derived enum takes `{"buy": null}` as well.
fn side<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Side, D::Error> {
    match &*String::deserialize(deserializer)? {
        "buy" => Ok(Side::Buy),
        "sell" => Ok(Side::Sell),
        other => Err(de::Error::unknown_variant(other, &["buy", "sell"])),
    }
}

fn side_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Side>, D::Error> {
    #[derive(Deserialize)]
    struct Given(#[serde(deserialize_with = "side")] Side);
    Ok(Option::<Given>::deserialize(deserializer)?.map(|given| given.0))
}

/// `POST /api/v1/trades`: a trade of a user, or what has become of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {
        "type": "object",
        "properties": {"status": {"const": "executed"}, "executedPrice": {"type": "number"}},
        "required": ["executedPrice"],
    },
    {
        "type": "object",
        "properties": {
            "status": {"enum": ["pending", "failed", "canceled"]},
            "executedPrice": {"type": "null"},
        },
    },
]))]
pub(crate) struct PublishTrade {
    #[schemars(with = "ServiceName")]
    pub(crate) trade_id: String,
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
    /// The same in everything that is said of one trade.
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    /// The same in everything that is said of one trade. Default: that of the trade so far, if it is known.
    #[schemars(with = "Option<String>", extend("enum" = ["buy", "sell", null]))]
    #[serde(default, deserialize_with = "side_or_none")]
    pub(crate) side: Option<Side>,
    #[serde(deserialize_with = "word")]
    pub(crate) status: TradeStatus,
    /// Needed if the trade is executed, and refused if it is not.
    #[schemars(with = "Option<Positive>")]
    #[serde(default, deserialize_with = "exact_or_none")]
    pub(crate) executed_price: Option<f64>,
    #[schemars(with = "Positive")]
    #[serde(deserialize_with = "exact")]
    pub(crate) quantity: f64,
    /// Of two pending states of a trade that with the later time counts. Default: now.
    pub(crate) timestamp: Option<Time>,
}

impl Command for PublishTrade {
    const PERMISSION: Option<Permission> = Some(Permission::TradesPublish);
}

/// `GET /api/v1/users/{id}/trades`: the trades of a user.
#[derive(Debug)]
pub(crate) struct ReadTrades {
    pub(crate) user: String,
    pub(crate) page: AskedUpdates,
}

impl Command for ReadTrades {
    const PERMISSION: Option<Permission> = Some(Permission::TradesRead);

    fn is_about(&self, by: &Principal) -> bool {
        self.user == by.subject
    }
}

/// A page of the trades of a user as they are now, the newest change first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TradeList {
    /// That of the last change when the page was read.
    pub(crate) revision: u64,
    pub(crate) trades: Vec<Update<Trade>>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Whether there are older ones; with `sinceRevision`, older ones that changed after it.
    pub(crate) has_more: bool,
    /// That of the request, if the list has only what has changed after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since_revision: Option<u64>,
    /// The ids of trades on this page that were withdrawn after `sinceRevision`. Empty without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) withdrawn: Vec<String>,
}

fn list() -> TradeList {
    TradeList {
        revision: 1,
        trades: vec![Update {
            body: trades::trade(),
            revision: 1,
        }],
        cursor: None,
        has_more: false,
        since_revision: None,
        withdrawn: Vec::new(),
    }
}
