//! Routes that withdraw published data: `DELETE /api/v1/signals/{id}` and similar.

use axum::{extract::Path, http::Method};

use crate::http::api::{Api, Operation, Routes};
use crate::http::forwarding::forward;
use crate::service::bounds::{ServiceName, Symbol, UserId};
use crate::{
    auth::Permission,
    service::{
        emissions::{
            prices::PriceWithdrawn, published::Update, signals::SignalWithdrawn,
            trades::TradeWithdrawn,
        },
        withdrawals::{WithdrawPrice, WithdrawSignal, WithdrawTrade},
    },
};

/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    Routes::new()
        .on(
            Method::DELETE,
            "/signals/{id}",
            forward!(Path(signal_id): Path<String> =>
                market.withdraw_signal(WithdrawSignal { signal_id }, namespace)),
            Operation::new(
                "withdrawSignal",
                "Withdraws a signal.",
                Permission::SignalsPublish,
            )
            .segment::<ServiceName>("id", "The id of the signal.")
            .answer::<Update<SignalWithdrawn>>(200)
            .refuses(404)
            .refuses(409),
        )
        .on(
            Method::DELETE,
            "/users/{id}/trades/{tradeId}",
            forward!(Path((user, trade_id)): Path<(String, String)> =>
                market.withdraw_trade(WithdrawTrade { user, trade_id }, namespace)),
            Operation::new(
                "withdrawTrade",
                "Withdraws a trade of a user that is not executed.",
                Permission::TradesPublish,
            )
            .segment::<UserId>("id", "The id of the user.")
            .segment::<ServiceName>("tradeId", "The id of the trade.")
            .answer::<Update<TradeWithdrawn>>(200)
            .refuses(404)
            .refuses(409),
        )
        .on(
            Method::DELETE,
            "/prices/{symbol}",
            forward!(Path(symbol): Path<String> =>
                market.withdraw_price(WithdrawPrice { symbol }, namespace)),
            Operation::new(
                "withdrawPrice",
                "Withdraws the price of a symbol until another price is published.",
                Permission::PricesPublish,
            )
            .segment::<Symbol>("symbol", "The symbol.")
            .answer::<PriceWithdrawn>(200)
            .refuses(404),
        )
}
