//! Events about following and executing trades.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::emissions::trades::{TRADE_ERROR, TradeError};
use crate::service::trades::{
    EXECUTE_TRADE, ExecuteTrade, ReadOwnTrades, SUBSCRIBE_TRADES, SubscribeTrades, TRADES_HISTORY,
    UNSUBSCRIBE_TRADES, UnsubscribeTrades,
};
use crate::service::{Market, Refused, ServiceError, TradeReply};
use roomcast::{Refusal, State};

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on_serial(
            &SUBSCRIBE_TRADES,
            async |call: Call<SubscribeTrades>, market: State<Market>| {
                market.subscribe_trades(call.allowed, &call.socket).await
            },
        )
        .on_serial(
            &UNSUBSCRIBE_TRADES,
            async |call: Call<UnsubscribeTrades>, market: State<Market>| {
                market.unsubscribe_trades(call.allowed, &call.socket)
            },
        )
        .on(
            &TRADES_HISTORY,
            async |call: Call<ReadOwnTrades>, market: State<Market>| {
                market.own_trades(call.allowed).await
            },
        )
        .on(
            &EXECUTE_TRADE,
            async |call: Call<ExecuteTrade>, market: State<Market>| match market
                .execute(call.allowed, &call.socket)
                .await
            {
                Ok(TradeReply::Executed(executed)) => Ok(executed),
                Ok(TradeReply::Error(error)) => Err(ServiceError::Failed {
                    reason: error.code,
                    message: error.message,
                }),
                Err(Refused { symbol, error }) => {
                    let refusal = Refusal::from(error.clone());
                    let told = TradeError {
                        code: refusal.code().to_owned(),
                        message: error.to_string(),
                        symbol,
                        trade_id: None,
                    };
                    TRADE_ERROR.emit_to(&call.socket, &told);
                    Err(error)
                }
            },
        );
}
