//! Events about following prices.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Market;
use crate::service::prices::{
    SUBSCRIBE_PRICES, SubscribePrices, UNSUBSCRIBE_PRICES, UnsubscribePrices,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on_serial(
            &SUBSCRIBE_PRICES,
            async |call: Call<SubscribePrices>, market: State<Market>| {
                market.subscribe_prices(call.allowed, &call.socket).await
            },
        )
        .on_serial(
            &UNSUBSCRIBE_PRICES,
            async |call: Call<UnsubscribePrices>, market: State<Market>| {
                market.unsubscribe_prices(call.allowed, &call.socket)
            },
        );
}
