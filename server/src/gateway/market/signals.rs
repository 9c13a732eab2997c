//! Events about following signals.

use crate::gateway::catalogue::{Call, Catalogue};
use crate::service::Market;
use crate::service::signals::{
    ReadFollowedSignals, SIGNALS_HISTORY, SUBSCRIBE_SIGNALS, SubscribeSignals, UNSUBSCRIBE_SIGNALS,
    UnsubscribeSignals,
};
use roomcast::State;

/// Registers the events of this file.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue
        .on_serial(
            &SUBSCRIBE_SIGNALS,
            async |call: Call<SubscribeSignals>, market: State<Market>| {
                market.subscribe_signals(call.allowed, &call.socket).await
            },
        )
        .on_serial(
            &UNSUBSCRIBE_SIGNALS,
            async |call: Call<UnsubscribeSignals>, market: State<Market>| {
                market.unsubscribe_signals(call.allowed, &call.socket)
            },
        )
        .on(
            &SIGNALS_HISTORY,
            async |call: Call<ReadFollowedSignals>, market: State<Market>| {
                market.followed_signals(call.allowed).await
            },
        );
}
