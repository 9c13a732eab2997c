//! Commands about portfolios: following one's own, and publishing one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Permission;
use crate::service::rules::event::{Command, events};
use crate::store::Time;

events! {
    SUBSCRIBE_PORTFOLIO: SubscribePortfolio =
        "subscribe:portfolio", Nothing, Changes, Oneself, object,
        "follows the sender's portfolio";
    UNSUBSCRIBE_PORTFOLIO: UnsubscribePortfolio =
        "unsubscribe:portfolio", Nothing, Changes, Oneself, object,
        "follows the sender's portfolio no longer";
}

/// `subscribe:portfolio`: the portfolio of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribePortfolio {
    /// The sender's own id.
    pub(crate) user_id: String,
}

/// `unsubscribe:portfolio`: no longer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribePortfolio {
    /// The sender's own id.
    pub(crate) user_id: String,
}

/// What a user has of a symbol; a short position is below zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Position {
    pub(crate) symbol: String,
    pub(crate) quantity: f64,
    pub(crate) avg_price: f64,
}

/// `POST /api/v1/portfolios`: the portfolio of a user as it is now.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublishPortfolio {
    pub(crate) user_id: String,
    pub(crate) total_value: f64,
    pub(crate) cash: f64,
    pub(crate) positions: Vec<Position>,
    /// Default: now.
    pub(crate) timestamp: Option<Time>,
}

impl Command for PublishPortfolio {
    const PERMISSION: Option<Permission> = Some(Permission::PortfolioPublish);
}
