//! The events of trades, signals, portfolios, prices and notifications, one file per feature, and
//! the recovery of sockets.
//!
//! The gateway registers this module with its catalogue, which parses commands and checks
//! permissions. Functions in this module call [`Market`] or the notifications and return the
//! result. They must not make decisions, hold state, or access the store without the services.

mod notifications;
mod portfolio;
mod prices;
mod signals;
mod trades;

use super::catalogue::Catalogue;
use crate::service::Market;
use roomcast::{Event, State};

/// Registers the events of all market features, and the handler for recovered sockets.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue.namespace(|namespace| {
        namespace.on_connect(async |event: Event, market: State<Market>| {
            // The chat handles clients that arrive from another server.
            if event.socket.recovered() && event.socket.arrival().is_none() {
                market.recovered(&event.socket).await;
            }
        })
    });
    trades::register(catalogue);
    signals::register(catalogue);
    portfolio::register(catalogue);
    prices::register(catalogue);
    notifications::register(catalogue);
}
