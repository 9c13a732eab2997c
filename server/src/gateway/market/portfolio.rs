//! Events about following portfolios.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Market;
use crate::service::portfolio::{
    SUBSCRIBE_PORTFOLIO, SubscribePortfolio, UNSUBSCRIBE_PORTFOLIO, UnsubscribePortfolio,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on_serial(
            &SUBSCRIBE_PORTFOLIO,
            async |call: Call<SubscribePortfolio>, market: State<Market>| {
                market.subscribe_portfolio(call.allowed, &call.socket).await
            },
        )
        .on_serial(
            &UNSUBSCRIBE_PORTFOLIO,
            async |call: Call<UnsubscribePortfolio>, market: State<Market>| {
                market.unsubscribe_portfolio(call.allowed, &call.socket)
            },
        );
}
