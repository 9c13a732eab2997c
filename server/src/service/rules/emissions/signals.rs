//! Events about signals, sent to sockets that follow all signals or a channel.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::bounds::{Positive, ServiceName, Symbol};
use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, MESSAGE_ID, NOON};
use crate::store::Time;

emissions! {
    SIGNALS_SUBSCRIBED {
        event: "signals:subscribed", payload: Subscribed<Signals>, delivery: Reliable,
        summary: "the socket now follows signals",
        to: "the socket", rooms: [],
        example: subscribed(),
    }
    SIGNALS_UNSUBSCRIBED {
        event: "signals:unsubscribed", payload: Unsubscribed, delivery: Reliable,
        summary: "the socket has stopped following these signals",
        to: "the socket", rooms: [],
        example: Unsubscribed::example("signals"),
    }
    SIGNAL_NEW {
        event: "signal:new", payload: Update<Signal>, delivery: Reliable,
        summary: "a signal was published",
        to: "sockets that follow all signals or the signals of its channel", rooms: [Signals, Channel],
        example: Update { body: signal(), revision: 1 },
    }
    SIGNAL_WITHDRAWN {
        event: "signal:withdrawn", payload: Update<SignalWithdrawn>, delivery: Reliable,
        summary: "a signal was withdrawn",
        to: "sockets that follow all signals or the signals of its channel", rooms: [Signals, Channel],
        example: Update {
            body: SignalWithdrawn {
                signal_id: MESSAGE_ID.to_string(),
                channel_id: Some("gold".into()),
                timestamp: examples::time("2025-01-31T12:01:00Z"),
            },
            revision: 2,
        },
    }
}

/// The advice of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Action {
    Buy,
    Sell,
    Hold,
}

/// The advice of a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signal {
    #[schemars(with = "ServiceName")]
    pub(crate) signal_id: String,
    #[schemars(with = "Option<ServiceName>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel_id: Option<String>,
    #[schemars(with = "ServiceName")]
    pub(crate) provider_id: String,
    #[schemars(with = "ServiceName")]
    pub(crate) provider_name: String,
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    pub(crate) action: Action,
    #[schemars(with = "Option<Positive>")]
    pub(crate) entry_price: Option<f64>,
    #[schemars(with = "Option<Positive>")]
    pub(crate) stop_loss: Option<f64>,
    #[schemars(with = "Option<Positive>")]
    pub(crate) take_profit: Option<f64>,
    /// In percent: 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub(crate) confidence: f64,
    pub(crate) timestamp: Time,
}

/// A signal that was withdrawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignalWithdrawn {
    pub(crate) signal_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel_id: Option<String>,
    /// When it was withdrawn.
    pub(crate) timestamp: Time,
}

/// Signals at one moment.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Signals {
    pub(crate) revision: u64,
    /// The most recent signals.
    pub(crate) signals: Vec<Signal>,
    /// Whether there are more signals. With `sinceRevision`, only later signals count.
    pub(crate) has_more: bool,
    /// The `cursor` for the remaining signals in `signals:history`, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// The `sinceRevision` of the subscription, if `signals` contains only later ones. If absent,
    /// these are the most recent of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since_revision: Option<u64>,
    /// The ids of signals that were withdrawn after `sinceRevision`. Empty without `sinceRevision`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) withdrawn: Vec<String>,
}

pub(in crate::service::rules) fn signal() -> Signal {
    Signal {
        signal_id: MESSAGE_ID.to_string(),
        channel_id: Some("gold".into()),
        provider_id: "p1".into(),
        provider_name: "A provider".into(),
        symbol: "XAU/USD".into(),
        action: Action::Buy,
        entry_price: Some(2800.5),
        stop_loss: Some(2750.0),
        take_profit: None,
        confidence: 75.0,
        timestamp: examples::time(NOON),
    }
}

pub(in crate::service::rules) fn subscribed() -> Subscribed<Signals> {
    Subscribed {
        room: "signals:gold".into(),
        snapshot: Signals {
            revision: 1,
            signals: vec![signal()],
            has_more: false,
            cursor: None,
            since_revision: None,
            withdrawn: Vec::new(),
        },
    }
}
