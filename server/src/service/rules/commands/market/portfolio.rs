//! Commands about portfolios: following, publishing and reading them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::auth::{Permission, Principal};
use crate::service::rules::bounds::{Amount, POSITIONS, UserId};
use crate::service::rules::commands::form::{Object, exact};
use crate::service::rules::emissions::portfolio::{self, NewestPortfolio, Position};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed};
use crate::service::rules::event::{Command, events};
use crate::service::rules::examples::ADA;
use crate::store::Time;

events! {
    SUBSCRIBE_PORTFOLIO {
        event: "subscribe:portfolio",
        payload: SubscribePortfolio,
        answer: Subscribed<NewestPortfolio>,
        permission: None, limit: Changes, room: Oneself, argument: object,
        does: "follows the sender's portfolio",
        example: {"userId": ADA},
        answered: portfolio::subscribed(),
        call: Market::subscribe_portfolio(socket), serial: true,
    }
    UNSUBSCRIBE_PORTFOLIO {
        event: "unsubscribe:portfolio", payload: UnsubscribePortfolio, answer: Unsubscribed,
        permission: None, limit: Changes, room: Oneself, argument: object,
        does: "stops following the sender's portfolio",
        example: {"userId": ADA},
        answered: Unsubscribed::example("portfolio:ada"),
        call: Market::unsubscribe_portfolio(socket), serial: true,
    }
}

/// `subscribe:portfolio`: follows the portfolio of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribePortfolio {
    /// The sender's own id.
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
}

/// `unsubscribe:portfolio`: ends the subscription.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribePortfolio {
    /// The sender's own id.
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
}

/// `POST /api/v1/portfolios`: publishes the current portfolio of a user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PublishPortfolio {
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
    #[schemars(with = "Amount")]
    #[serde(deserialize_with = "exact")]
    pub(crate) total_value: f64,
    #[schemars(with = "Amount")]
    #[serde(deserialize_with = "exact")]
    pub(crate) cash: f64,
    #[serde(deserialize_with = "positions")]
    #[schemars(length(max = POSITIONS))]
    pub(crate) positions: Vec<Position>,
    /// Of two portfolios of a user, the one with the later time is current. Default: now.
    pub(crate) timestamp: Option<Time>,
}

fn positions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Position>, D::Error> {
    /// A position whose numbers must be exact.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PositionFields {
        symbol: String,
        #[serde(deserialize_with = "exact")]
        quantity: f64,
        #[serde(deserialize_with = "exact")]
        avg_price: f64,
    }
    let value = Vec::<Object<PositionFields>>::deserialize(deserializer)?;
    let position = |Object(value): Object<PositionFields>| Position {
        symbol: value.symbol,
        quantity: value.quantity,
        avg_price: value.avg_price,
    };
    Ok(value.into_iter().map(position).collect())
}

impl Command for PublishPortfolio {
    const PERMISSION: Option<Permission> = Some(Permission::PortfolioPublish);
}

/// `GET /api/v1/users/{id}/portfolio`: reads the portfolio of a user.
#[derive(Debug)]
pub(crate) struct ReadPortfolio {
    pub(crate) user: String,
}

impl Command for ReadPortfolio {
    const PERMISSION: Option<Permission> = Some(Permission::PortfolioRead);

    fn is_about(&self, by: &Principal) -> bool {
        self.user == by.subject
    }
}
