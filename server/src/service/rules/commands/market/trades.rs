//! Commands about trades: following, executing, publishing and reading them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::auth::{Permission, Principal};
use crate::service::rules::bounds::{
    ClientId, Positive, RevisionCursor, ServiceName, Symbol, UserId,
};
use crate::service::rules::commands::form::{exact, exact_or_none, whole_or_none, word};
use crate::service::rules::commands::pages::UpdatesRequest;
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emissions::trades::{
    self, Side, Trade, TradeExecuted, TradeStatus, Trades,
};
use crate::service::rules::event::{Command, events};
use crate::service::rules::examples::ADA;
use crate::store::Time;

events! {
    SUBSCRIBE_TRADES {
        event: "subscribe:trades", payload: SubscribeTrades, answer: Subscribed<Trades>,
        permission: None, limit: Changes, room: Oneself, argument: object,
        does: "follows the sender's trades",
        example: {"userId": ADA},
        answered: trades::subscribed(),
        call: Market::subscribe_trades(socket), serial: true,
    }
    UNSUBSCRIBE_TRADES {
        event: "unsubscribe:trades", payload: UnsubscribeTrades, answer: Unsubscribed,
        permission: None, limit: Changes, room: Oneself, argument: object,
        does: "stops following the sender's trades",
        example: {"userId": ADA},
        answered: Unsubscribed::example("trades:ada"),
        call: Market::unsubscribe_trades(socket), serial: true,
    }
    TRADES_HISTORY {
        event: "trades:history", payload: ReadOwnTrades, answer: TradeList,
        permission: None, limit: Requests, room: Oneself, argument: object_or_none,
        does: "reads a page of the sender's trades, newest change first",
        example: {"limit": 1},
        answered: list(),
        call: Market::own_trades(),
    }
    EXECUTE_TRADE {
        event: "execute:trade", payload: ExecuteTrade, answer: TradeExecuted,
        permission: TradesExecute, limit: Changes, room: Anyone, argument: object,
        does: "executes a trade for the sender",
        example: {"symbol": "AAPL", "side": "buy", "quantity": 2, "clientTradeId": CLIENT_TRADE_ID},
        answered: trades::executed(),
    }
}

/// `subscribe:trades`: follows the trades of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribeTrades {
    /// The sender's own id.
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
    /// The last `revision` of trades that the client has. The snapshot then contains only later
    /// changes.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) since_revision: Option<u64>,
}

/// `unsubscribe:trades`: ends the subscription.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribeTrades {
    /// The sender's own id.
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
}

/// `trades:history`: reads a page of the trades of the sender.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadOwnTrades {
    /// The `cursor` of the snapshot or of the previous page. Default: the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<usize>,
    /// Only trades with a larger `revision`; the client has all others. Send it with each page.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) since_revision: Option<u64>,
}

/// `execute:trade`: executes a trade for the sender.
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
    /// An order sent again under the same id is executed only once.
    #[schemars(with = "Option<ClientId>")]
    pub(crate) client_trade_id: Option<String>,
}

const CLIENT_TRADE_ID: &str = "7d1c8f0e-3a52-4f0e-9b6e-2a4f6c1d9e10";

/// Deserializes a side from a string only. A derived enum also accepts `{"buy": null}`.
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
    Ok(Option::<Given>::deserialize(deserializer)?.map(|value| value.0))
}

/// `POST /api/v1/trades`: publishes a trade of a user, or its new state.
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
    /// The same in every publication of a trade.
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    /// The same in every publication of a trade. Default: the side published before, if known.
    #[schemars(with = "Option<String>", extend("enum" = ["buy", "sell", null]))]
    #[serde(default, deserialize_with = "side_or_none")]
    pub(crate) side: Option<Side>,
    #[serde(deserialize_with = "word")]
    pub(crate) status: TradeStatus,
    /// Required if the trade is executed, otherwise refused.
    #[schemars(with = "Option<Positive>")]
    #[serde(default, deserialize_with = "exact_or_none")]
    pub(crate) executed_price: Option<f64>,
    #[schemars(with = "Positive")]
    #[serde(deserialize_with = "exact")]
    pub(crate) quantity: f64,
    /// Of two pending states of a trade, the one with the later time is current. Default: now.
    pub(crate) timestamp: Option<Time>,
}

impl Command for PublishTrade {
    const PERMISSION: Option<Permission> = Some(Permission::TradesPublish);
}

/// `GET /api/v1/users/{id}/trades`: reads the trades of a user.
#[derive(Debug)]
pub(crate) struct ReadTrades {
    pub(crate) user: String,
    pub(crate) page: UpdatesRequest,
}

impl Command for ReadTrades {
    const PERMISSION: Option<Permission> = Some(Permission::TradesRead);

    fn is_about(&self, by: &Principal) -> bool {
        self.user == by.subject
    }
}

/// A page of the trades of a user in their current state, newest change first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TradeList {
    /// The revision of the last change when the page was read.
    pub(crate) revision: u64,
    pub(crate) trades: Vec<Update<Trade>>,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Whether there are older trades. With `sinceRevision`, only trades that changed after it
    /// count.
    pub(crate) has_more: bool,
    /// The `sinceRevision` of the request, if the list contains only later changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since_revision: Option<u64>,
    /// The ids of trades on this page that were withdrawn after `sinceRevision`. Empty without
    /// `sinceRevision`.
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
