//! A stored order, and the events that its client receives.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::service::journals::write;
use crate::service::rules::emissions::trades::{
    Side, TRADE_ERROR, TRADE_EXECUTED, Trade, TradeError, TradeExecuted, TradeStatus,
};
use crate::store::{Append, IfOpen, Quota, Time};
use roomcast::{Broadcast, Socket};

/// An order to execute a trade.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    pub(super) trade_id: String,
    pub(super) user_id: String,
    pub(super) symbol: String,
    pub(super) side: Side,
    pub(super) quantity: f64,
    pub(super) timestamp: Time,
}

/// A stored order. It is binding once its pending trade is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    pub(super) order: Order,
    /// How often the outcome of the order was unknown.
    pub(super) rounds: u32,
    /// The reason if the order failed.
    pub(super) fault: Option<Fault>,
    /// The settled trade. In an open order, its client has not been notified.
    pub(super) settled: Option<Trade>,
}

/// The reason why a trade was not executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) code: String,
    pub(super) message: String,
}

/// The event that reports the outcome to a client.
#[derive(Clone, Debug)]
pub(crate) enum TradeReply {
    Executed(TradeExecuted),
    Error(TradeError),
}

impl Order {
    /// Returns the trade id for a client's own id. It is stable, and never equals an id of another
    /// user.
    pub(super) fn id_under(user_id: &str, client_trade_id: &str) -> String {
        let mut hash = Sha256::new();
        for part in ["trade", user_id, client_trade_id] {
            // The lengths distinguish user `a` with id `bc` from user `ab` with id `c`.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut id = [0; 16];
        id.iter_mut()
            .zip(hash.finalize())
            .for_each(|(to, from)| *to = from);
        uuid::Builder::from_custom_bytes(id).into_uuid().to_string()
    }

    /// Returns whether both orders have the same content.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let content = |order: &Self| (order.side, order.quantity);
        self.symbol == other.symbol && content(self) == content(other)
    }

    pub(super) fn pending(&self) -> Trade {
        Trade {
            trade_id: self.trade_id.clone(),
            user_id: self.user_id.clone(),
            symbol: self.symbol.clone(),
            side: Some(self.side),
            status: TradeStatus::Pending,
            executed_price: None,
            quantity: self.quantity,
            timestamp: self.timestamp,
        }
    }
}

impl Stored {
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            rounds: 0,
            fault: None,
            settled: None,
        }
    }

    /// Returns the event that reports the outcome of the trade.
    pub(super) fn reply(&self, trade: &Trade) -> TradeReply {
        let order = &self.order;
        if let (TradeStatus::Executed, Some(executed_price)) = (trade.status, trade.executed_price)
        {
            return TradeReply::Executed(TradeExecuted {
                trade_id: order.trade_id.clone(),
                symbol: order.symbol.clone(),
                side: order.side,
                quantity: trade.quantity,
                executed_price,
                timestamp: trade.timestamp,
            });
        }
        let fault = self.fault.as_ref();
        let (code, message) = fault.map_or(("REJECTED", "the trade was not executed"), |fault| {
            (&fault.code, &fault.message)
        });
        TradeReply::Error(self.error(code, message))
    }

    /// Returns the event for an unknown outcome, and sends it to a socket if one is given.
    pub(super) fn unknown(&self, socket: Option<&Socket>) -> TradeReply {
        let reply = TradeReply::Error(self.error(UNKNOWN.0, UNKNOWN.1));
        if let Some(socket) = socket {
            reply.emit_to(socket);
        }
        reply
    }

    fn error(&self, code: &str, message: &str) -> TradeError {
        TradeError {
            code: code.into(),
            message: message.into(),
            symbol: self.order.symbol.clone(),
            trade_id: Some(self.order.trade_id.clone()),
        }
    }
}

impl TradeReply {
    pub(super) fn emit_to(&self, socket: &Socket) {
        match self {
            Self::Executed(executed) => TRADE_EXECUTED.emit_to(socket, executed),
            Self::Error(error) => TRADE_ERROR.emit_to(socket, error),
        };
    }

    pub(super) fn emit(&self, to: Broadcast<'_>) {
        match self {
            Self::Executed(executed) => TRADE_EXECUTED.emit(to, executed),
            Self::Error(error) => TRADE_ERROR.emit(to, error),
        };
    }
}

/// Returns the first entry of an order, which is refused if the order exists, or if its user has as
/// many open orders as one user may have.
pub(super) fn first_entry(stored: &Stored) -> Append {
    Append {
        if_open: IfOpen::Refuse,
        quota: Quota::Share(MOST_ORDERS_OF_USER),
        ..entry(stored, true)
    }
}

/// Returns the entry that drops an order. It expires immediately, so that the order can be placed
/// again.
pub(super) fn dropped(stored: &Stored) -> Append {
    Append {
        expires_at: Some(Time::now()),
        ..entry(stored, true)
    }
}

/// Returns the entry of an order.
pub(super) fn entry(stored: &Stored, is_open: bool) -> Append {
    let now = Time::now();
    Append {
        // The open orders of a user are counted.
        category: Some(stored.order.user_id.clone()),
        is_open,
        created_at: now,
        expires_at: Some(now.after(if is_open {
            OPEN_RETENTION
        } else {
            CLOSED_RETENTION
        })),
        most_open: MOST_ORDERS,
        ..Append::new(JOURNAL.into(), stored.order.trade_id.clone(), write(stored))
    }
}

pub(super) const JOURNAL: &str = "executions";
/// Maximum number of open orders, whose clients do not know the outcome yet.
pub(super) const MOST_ORDERS: u32 = 1000;
/// Maximum number of open orders of one user, more than a server executes concurrently. A user who
/// disconnects before the outcomes leaves the other places to other users.
const MOST_ORDERS_OF_USER: u32 = 100;
/// Code and message for a trade with an unknown outcome.
const UNKNOWN: (&str, &str) = (
    "OUTCOME_UNKNOWN",
    "it is unknown whether the trade was executed; it stays pending",
);
/// How long an outcome can wait for a disconnected client.
const OPEN_RETENTION: Duration = Duration::from_secs(86_400);
/// How long a closed order is retained, and so recognized by its client id.
const CLOSED_RETENTION: Duration = Duration::from_secs(86_400);
