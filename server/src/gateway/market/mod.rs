//! The events of trades, signals, portfolios, prices and notifications, one file for each feature, and sockets that are
//! recovered.
//!
//! The gateway registers this module with its catalogue, which has parsed a command and checked the permission before a
//! function in here sees it. A function in here calls [`Market`] or the notifications, and returns what comes of it.
//! Nothing in here may decide anything, keep a state, or reach the store past the services.

mod notifications;
mod portfolio;
mod prices;
mod signals;
mod trades;

use super::catalogue::Catalogue;
use crate::service::Market;
use roomcast::{Event, State};

/// Registers the events of all features of the market, and what is done when a socket is recovered.
pub(super) fn register(catalogue: &mut Catalogue<'_>) {
    catalogue
        .namespace()
        .on_connect(async |event: Event, market: State<Market>| {
            // Of a client that was at another server the chat takes care.
            if event.socket.recovered() && event.socket.arrival().is_none() {
                market.recovered(&event.socket).await;
            }
        });
    trades::register(catalogue);
    signals::register(catalogue);
    portfolio::register(catalogue);
    prices::register(catalogue);
    notifications::register(catalogue);
}
