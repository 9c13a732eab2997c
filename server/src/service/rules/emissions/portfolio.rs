//! Events about a user's portfolio, sent to that user.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::bounds::{Amount, POSITIONS, Symbol, UserId};
use crate::service::rules::emission::{Keyed, emissions};
use crate::service::rules::examples::{self, ADA, NOON};
use crate::store::Time;

emissions! {
    PORTFOLIO_SUBSCRIBED {
        event: "portfolio:subscribed", payload: Subscribed<NewestPortfolio>, delivery: Reliable,
        summary: "the socket now follows its user's portfolio",
        to: "the socket", rooms: [],
        example: subscribed(),
    }
    PORTFOLIO_UNSUBSCRIBED {
        event: "portfolio:unsubscribed", payload: Unsubscribed, delivery: Reliable,
        summary: "the socket has stopped following its user's portfolio",
        to: "the socket", rooms: [],
        example: Unsubscribed::example("portfolio:ada"),
    }
    PORTFOLIO_UPDATE {
        event: "portfolio:update", payload: Update<Portfolio>, delivery: Conflated,
        summary: "a user's portfolio has changed",
        to: "sockets that follow the portfolio", rooms: [Portfolio],
        example: Update { body: portfolio(), revision: 1 },
    }
}

/// A user's holding of a symbol. A short position is negative.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Position {
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    #[schemars(with = "Amount")]
    pub(crate) quantity: f64,
    #[schemars(with = "Amount")]
    pub(crate) avg_price: f64,
}

/// The current portfolio of a user.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Portfolio {
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
    #[schemars(with = "Amount")]
    pub(crate) total_value: f64,
    #[schemars(with = "Amount")]
    pub(crate) cash: f64,
    #[schemars(length(max = POSITIONS))]
    pub(crate) positions: Vec<Position>,
    pub(crate) timestamp: Time,
}

/// The portfolio of a user at one moment.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NewestPortfolio {
    pub(crate) revision: u64,
    /// Null if no portfolio was published.
    pub(crate) portfolio: Option<Portfolio>,
}

impl Keyed for Update<Portfolio> {
    const BY: &'static str = "user";

    fn key(&self) -> String {
        format!("portfolio {}", self.body.user_id)
    }
}

fn portfolio() -> Portfolio {
    Portfolio {
        user_id: ADA.into(),
        total_value: 1381.0,
        cash: 1000.0,
        positions: vec![Position {
            symbol: "AAPL".into(),
            quantity: 2.0,
            avg_price: 190.5,
        }],
        timestamp: examples::time(NOON),
    }
}

pub(in crate::service::rules) fn subscribed() -> Subscribed<NewestPortfolio> {
    Subscribed {
        room: "portfolio:ada".into(),
        snapshot: NewestPortfolio {
            revision: 1,
            portfolio: Some(portfolio()),
        },
    }
}
