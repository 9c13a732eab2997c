//! The executor of trades: none, the server itself (paper trading), or a service called by webhook.

use super::order::{Fault, Order};
use super::webhook::Webhook;
use crate::auth::outbound::OutboundFault;
use crate::config;
use crate::service::market::Market;

pub(super) enum Executor {
    None,
    /// Executes orders at the last known price.
    Paper,
    Webhook(Box<Webhook>),
}

/// The outcome of an order.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The order was executed at this price.
    Filled(f64),
    /// The order was not executed, and will not be.
    Failed(Fault),
    /// The outcome is unknown, with the reason for the log.
    Unknown(String),
}

impl Executor {
    pub(super) fn new(config: &config::Market) -> Result<Self, OutboundFault> {
        Ok(match config.executor {
            config::Executor::None => Self::None,
            config::Executor::Paper => Self::Paper,
            config::Executor::Webhook => Self::Webhook(Box::new(Webhook::new(&config.webhook)?)),
        })
    }

    pub(super) fn is_available(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Executes an order. Unless `is_first`, the order may already have been executed.
    pub(super) async fn execute(&self, market: &Market, order: &Order, is_first: bool) -> Outcome {
        match self {
            Self::None => Outcome::Unknown("no executor is configured".into()),
            Self::Paper => match market.price(&order.symbol).await {
                Ok(Some(price)) => Outcome::Filled(price),
                Ok(None) => Outcome::Failed(Fault {
                    code: "NO_PRICE".into(),
                    message: "no price of the symbol is known".into(),
                }),
                // A store failure does not fail the trade: the next round may find the price.
                Err(error) => Outcome::Unknown(error.to_string()),
            },
            Self::Webhook(webhook) => webhook.execute(order, is_first).await,
        }
    }
}
