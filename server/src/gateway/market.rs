//! The recovery of sockets that follow trades, signals, portfolios, prices, notifications and
//! channels, and the execution of trades.
//!
//! [`forwarding`](super::forwarding) registers all other events of the market. Functions in this
//! module call [`Market`] or the notifications and return the result. They must not make decisions,
//! hold state, or access the store without the services.

use super::catalogue::{Call, Catalogue};
use crate::service::emissions::trades::{TRADE_ERROR, TradeError};
use crate::service::trades::{EXECUTE_TRADE, ExecuteTrade};
use crate::service::{Market, Notifications, Refused, ServiceError, Subscriptions, TradeReply};
use roomcast::{Event, Refusal, State};

/// Registers the handlers for connected sockets, and the execution of trades.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue.namespace(|namespace| {
        namespace
            .on_connect(async |event: Event, subscriptions: State<Subscriptions>| {
                // The chat handles clients that arrive from another server.
                if event.socket.recovered() && event.socket.arrival().is_none() {
                    subscriptions.recovered(&event.socket).await;
                }
            })
            .on_connect(async |event: Event, notifications: State<Notifications>| {
                if !event.socket.recovered() {
                    notifications.connected(&event.socket).await;
                }
            })
    });
    // A refused order also sends the event `trade:error`.
    catalogue.on(
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
                let event = TradeError {
                    code: refusal.code().to_owned(),
                    message: error.to_string(),
                    symbol,
                    trade_id: None,
                };
                TRADE_ERROR.emit_to(&call.socket, &event);
                Err(error)
            }
        },
    );
}
