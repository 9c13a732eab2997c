//! Routes that withdraw published data: `DELETE /api/v1/signals/{id}` and similar.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
};

use super::api::{Api, ApiError, By, Operation, Routes};
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
            signal,
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
            trade,
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
            price,
            Operation::new(
                "withdrawPrice",
                "Withdraws the price of a symbol, until another one is published.",
                Permission::PricesPublish,
            )
            .segment::<Symbol>("symbol", "The symbol.")
            .answer::<PriceWithdrawn>(200)
            .refuses(404),
        )
}

async fn signal(
    State(at): State<Api>,
    Extension(by): By,
    Path(signal_id): Path<String>,
) -> Result<Json<Update<SignalWithdrawn>>, ApiError> {
    let allowed = at.access.allow(by, WithdrawSignal { signal_id })?;
    let withdrawn = at.market.withdraw_signal(allowed, &at.namespace()).await?;
    Ok(Json(withdrawn))
}

async fn trade(
    State(at): State<Api>,
    Extension(by): By,
    Path((user, trade_id)): Path<(String, String)>,
) -> Result<Json<Update<TradeWithdrawn>>, ApiError> {
    let allowed = at.access.allow(by, WithdrawTrade { user, trade_id })?;
    let withdrawn = at.market.withdraw_trade(allowed, &at.namespace()).await?;
    Ok(Json(withdrawn))
}

async fn price(
    State(at): State<Api>,
    Extension(by): By,
    Path(symbol): Path<String>,
) -> Result<Json<PriceWithdrawn>, ApiError> {
    let allowed = at.access.allow(by, WithdrawPrice { symbol })?;
    let withdrawn = at.market.withdraw_price(allowed, &at.namespace()).await?;
    Ok(Json(withdrawn))
}
