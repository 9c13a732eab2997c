//! Events about trades, sent to the user's followers and to the socket that ordered an execution.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::bounds::{Positive, ServiceName, Symbol, UserId};
use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, ADA, MESSAGE_ID, NOON};
use crate::store::Time;

emissions! {
    TRADES_SUBSCRIBED {
        event: "trades:subscribed", payload: Subscribed<Trades>, delivery: Reliable,
        summary: "the socket now follows its user's trades",
        to: "the socket", rooms: [],
        example: subscribed(),
    }
    TRADES_UNSUBSCRIBED {
        event: "trades:unsubscribed", payload: Unsubscribed, delivery: Reliable,
        summary: "the socket has stopped following its user's trades",
        to: "the socket", rooms: [],
        example: Unsubscribed::example("trades:ada"),
    }
    TRADE_UPDATE {
        event: "trade:update", payload: Update<Trade>, delivery: Reliable,
        summary: "a trade was published or has changed",
        to: "sockets that follow the user's trades", rooms: [Trades],
        example: Update { body: trade(), revision: 1 },
    }
    TRADE_WITHDRAWN {
        event: "trade:withdrawn", payload: Update<TradeWithdrawn>, delivery: Reliable,
        summary: "a trade that is not executed was withdrawn",
        to: "sockets that follow the user's trades", rooms: [Trades],
        example: Update {
            body: TradeWithdrawn {
                trade_id: MESSAGE_ID.to_string(),
                user_id: ADA.into(),
                timestamp: examples::time("2025-01-31T12:01:00Z"),
            },
            revision: 2,
        },
    }
    TRADE_EXECUTED {
        event: "trade:executed", payload: TradeExecuted, delivery: Reliable,
        summary: "a trade was executed as ordered",
        to: "the socket that ordered it, or the user's other sockets if it has disconnected", rooms: [User],
        example: executed(),
    }
    TRADE_ERROR {
        event: "trade:error", payload: TradeError, delivery: Reliable,
        summary: "a trade was not executed, or its outcome is not yet known",
        to: "the socket that ordered it, or the user's other sockets if it has disconnected", rooms: [User],
        example: TradeError {
            code: "NO_PRICE".into(),
            message: "no price of the symbol is known".into(),
            symbol: "AAPL".into(),
            trade_id: Some(MESSAGE_ID.to_string()),
        },
    }
}

/// The state of a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum TradeStatus {
    Pending,
    Executed,
    Failed,
    Canceled,
}

/// Whether the user buys or sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Side {
    Buy,
    Sell,
}

/// A trade in its current state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trade {
    #[schemars(with = "ServiceName")]
    pub(crate) trade_id: String,
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    /// Null if the publishing service never specified it.
    pub(crate) side: Option<Side>,
    pub(crate) status: TradeStatus,
    /// Null unless the trade is executed.
    #[schemars(with = "Option<Positive>")]
    pub(crate) executed_price: Option<f64>,
    #[schemars(with = "Positive")]
    pub(crate) quantity: f64,
    pub(crate) timestamp: Time,
}

/// A trade that was withdrawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TradeWithdrawn {
    pub(crate) trade_id: String,
    pub(crate) user_id: String,
    /// When it was withdrawn.
    pub(crate) timestamp: Time,
}

/// The trades of a user at one moment.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trades {
    pub(crate) revision: u64,
    /// The open trades and the most recently settled trades, ordered by their last change.
    pub(crate) trades: Vec<Trade>,
    /// Whether there are more trades. With `sinceRevision`, only trades that changed after it
    /// count.
    pub(crate) has_more: bool,
    /// The `cursor` for the remaining trades in `trades:history`, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// The `sinceRevision` of the subscription, if `trades` contains only later changes. If absent,
    /// `trades` is complete without earlier snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since_revision: Option<u64>,
    /// The ids of trades that were withdrawn after `sinceRevision`. Empty without `sinceRevision`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) withdrawn: Vec<String>,
}

/// `trade:executed`
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TradeExecuted {
    #[schemars(with = "ServiceName")]
    pub(crate) trade_id: String,
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    pub(crate) side: Side,
    #[schemars(with = "Positive")]
    pub(crate) quantity: f64,
    #[schemars(with = "Positive")]
    pub(crate) executed_price: f64,
    pub(crate) timestamp: Time,
}

/// `trade:error`
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TradeError {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) symbol: String,
    /// Absent if no trade was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trade_id: Option<String>,
}

pub(in crate::service::rules) fn trade() -> Trade {
    Trade {
        trade_id: MESSAGE_ID.to_string(),
        user_id: ADA.into(),
        symbol: "AAPL".into(),
        side: Some(Side::Buy),
        status: TradeStatus::Executed,
        executed_price: Some(190.5),
        quantity: 2.0,
        timestamp: examples::time(NOON),
    }
}

pub(in crate::service::rules) fn subscribed() -> Subscribed<Trades> {
    Subscribed {
        room: "trades:ada".into(),
        snapshot: Trades {
            revision: 1,
            trades: vec![trade()],
            has_more: false,
            cursor: None,
            since_revision: None,
            withdrawn: Vec::new(),
        },
    }
}

pub(in crate::service::rules) fn executed() -> TradeExecuted {
    TradeExecuted {
        trade_id: MESSAGE_ID.to_string(),
        symbol: "AAPL".into(),
        side: Side::Buy,
        quantity: 2.0,
        executed_price: 190.5,
        timestamp: examples::time(NOON),
    }
}
