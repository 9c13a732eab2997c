//! Commands about signals: following, publishing and reading them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Permission;
use crate::service::rules::bounds::{Percent, Positive, RevisionCursor, ServiceName, Symbol};
use crate::service::rules::commands::form::{
    exact, exact_or_none, whole_in_query, whole_or_none, word,
};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emissions::signals::{self, Action, Signal, Signals};
use crate::service::rules::event::{Command, events};
use crate::store::Time;

events! {
    SUBSCRIBE_SIGNALS {
        event: "subscribe:signals", payload: SubscribeSignals, answer: Subscribed<Signals>,
        permission: None, limit: Changes, room: Anyone, argument: object_or_none,
        does: "follows all signals, or the signals of a channel",
        example: {"channelId": "gold"},
        answered: signals::subscribed(),
        call: Market::subscribe_signals(socket), serial: true,
    }
    UNSUBSCRIBE_SIGNALS {
        event: "unsubscribe:signals", payload: UnsubscribeSignals, answer: Unsubscribed,
        permission: None, limit: Changes, room: Anyone, argument: object_or_none,
        does: "stops following all signals, or the signals of a channel",
        example: {"channelId": "gold"},
        answered: Unsubscribed::example("signals:gold"),
        call: Market::unsubscribe_signals(socket), serial: true,
    }
    SIGNALS_HISTORY {
        event: "signals:history", payload: ReadFollowedSignals, answer: SignalList,
        permission: None, limit: Requests, room: Anyone, argument: object_or_none,
        does: "reads a page of all signals, or of the signals of a channel, newest first",
        example: {"channelId": "gold", "limit": 1},
        answered: list(),
        call: Market::followed_signals(),
    }
}

/// `subscribe:signals`: follows all signals, or the signals of a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribeSignals {
    /// The channel. Default: all signals.
    #[schemars(with = "Option<ServiceName>")]
    pub(crate) channel_id: Option<String>,
    /// The last `revision` of these signals that the client has. The snapshot then contains only
    /// later signals.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) since_revision: Option<u64>,
}

/// `unsubscribe:signals`: ends the subscription.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribeSignals {
    /// The subscribed channel. Default: all signals.
    #[schemars(with = "Option<ServiceName>")]
    pub(crate) channel_id: Option<String>,
}

/// `signals:history`: reads a page of all signals, or of the signals of a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadFollowedSignals {
    /// The channel. Default: all signals.
    #[schemars(with = "Option<ServiceName>")]
    #[serde(default)]
    pub(crate) channel_id: Option<String>,
    /// The `cursor` of the snapshot or of the previous page. Default: the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<usize>,
    /// Only signals with a larger `revision`; the client has all others. Send it with each page.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) since_revision: Option<u64>,
}

/// `POST /api/v1/signals`: publishes a signal, optionally in a channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PublishSignal {
    /// A signal published again under the same id is stored only once. Default: a new id.
    #[schemars(with = "Option<ServiceName>")]
    pub(crate) signal_id: Option<String>,
    #[schemars(with = "Option<ServiceName>")]
    pub(crate) channel_id: Option<String>,
    #[schemars(with = "ServiceName")]
    pub(crate) provider_id: String,
    #[schemars(with = "ServiceName")]
    pub(crate) provider_name: String,
    #[schemars(with = "Symbol")]
    pub(crate) symbol: String,
    #[serde(deserialize_with = "word")]
    pub(crate) action: Action,
    #[schemars(with = "Option<Positive>")]
    #[serde(default, deserialize_with = "exact_or_none")]
    pub(crate) entry_price: Option<f64>,
    #[schemars(with = "Option<Positive>")]
    #[serde(default, deserialize_with = "exact_or_none")]
    pub(crate) stop_loss: Option<f64>,
    #[schemars(with = "Option<Positive>")]
    #[serde(default, deserialize_with = "exact_or_none")]
    pub(crate) take_profit: Option<f64>,
    #[schemars(with = "Percent")]
    #[serde(deserialize_with = "exact")]
    pub(crate) confidence: f64,
    /// Default: now.
    pub(crate) timestamp: Option<Time>,
}

impl Command for PublishSignal {
    const PERMISSION: Option<Permission> = Some(Permission::SignalsPublish);
}

/// `GET /api/v1/signals`: reads all signals, or the signals of a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReadSignals {
    /// Only signals of this channel.
    #[schemars(with = "Option<ServiceName>")]
    pub(crate) channel_id: Option<String>,
    /// The `cursor` of the previous page. Default: the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
    /// Only signals with a larger `revision`; the caller has all others. Send it with each page.
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) since_revision: Option<u64>,
}

impl Command for ReadSignals {
    const PERMISSION: Option<Permission> = Some(Permission::SignalsRead);
}

/// A page of signals, newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignalList {
    /// The revision of the last of all signals when the page was read.
    pub(crate) revision: u64,
    pub(crate) signals: Vec<Update<Signal>>,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Whether there are older signals. With `sinceRevision`, only signals after it count.
    pub(crate) has_more: bool,
    /// The `sinceRevision` of the request, if the list contains only later signals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since_revision: Option<u64>,
    /// The ids of signals on this page that were withdrawn after `sinceRevision`. Empty without
    /// `sinceRevision`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) withdrawn: Vec<String>,
}

fn list() -> SignalList {
    SignalList {
        revision: 1,
        signals: vec![Update {
            body: signals::signal(),
            revision: 1,
        }],
        cursor: None,
        has_more: false,
        since_revision: None,
        withdrawn: Vec::new(),
    }
}
