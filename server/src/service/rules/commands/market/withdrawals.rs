//! Commands that withdraw published signals, trades and prices.

use crate::auth::Permission;
use crate::service::rules::event::Command;

/// `DELETE /api/v1/signals/{id}`: withdraws a signal.
#[derive(Debug)]
pub(crate) struct WithdrawSignal {
    pub(crate) signal_id: String,
}

impl Command for WithdrawSignal {
    const PERMISSION: Option<Permission> = Some(Permission::SignalsPublish);
}

/// `DELETE /api/v1/users/{id}/trades/{tradeId}`: withdraws a trade that is not executed.
#[derive(Debug)]
pub(crate) struct WithdrawTrade {
    pub(crate) user: String,
    pub(crate) trade_id: String,
}

impl Command for WithdrawTrade {
    const PERMISSION: Option<Permission> = Some(Permission::TradesPublish);
}

/// `DELETE /api/v1/prices/{symbol}`: withdraws the price of a symbol.
#[derive(Debug)]
pub(crate) struct WithdrawPrice {
    pub(crate) symbol: String,
}

impl Command for WithdrawPrice {
    const PERMISSION: Option<Permission> = Some(Permission::PricesPublish);
}
