//! Commands about portfolios: following one's own, publishing one, and reading that of a user.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::Permission;
use crate::service::rules::emissions::portfolio::{self, NewestPortfolio, Position};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed};
use crate::service::rules::event::{Command, events};
use crate::service::rules::examples::ADA;
use crate::store::Time;

events! {
    SUBSCRIBE_PORTFOLIO: SubscribePortfolio => Subscribed<NewestPortfolio> =
        "subscribe:portfolio", Nothing, Changes, Oneself, object,
        "follows the sender's portfolio",
        {"userId": ADA} => portfolio::subscribed();
    UNSUBSCRIBE_PORTFOLIO: UnsubscribePortfolio => Unsubscribed =
        "unsubscribe:portfolio", Nothing, Changes, Oneself, object,
        "follows the sender's portfolio no longer",
        {"userId": ADA} => Unsubscribed::example("portfolio:ada");
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

/// `POST /api/v1/portfolios`: the portfolio of a user as it is now.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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

/// `GET /api/v1/users/{id}/portfolio`: the portfolio of a user.
#[derive(Debug)]
pub(crate) struct ReadPortfolio {
    pub(crate) user: String,
}

impl Command for ReadPortfolio {
    const PERMISSION: Option<Permission> = Some(Permission::PortfolioRead);
}
