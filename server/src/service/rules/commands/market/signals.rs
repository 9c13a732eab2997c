//! Commands about signals: following them, publishing one, and reading what was published.

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
    SUBSCRIBE_SIGNALS: SubscribeSignals => Subscribed<Signals> =
        "subscribe:signals", Nothing, Changes, Anyone, object_or_none,
        "follows all signals, or those of a channel",
        {"channelId": "gold"} => signals::subscribed();
    UNSUBSCRIBE_SIGNALS: UnsubscribeSignals => Unsubscribed =
        "unsubscribe:signals", Nothing, Changes, Anyone, object_or_none,
        "follows all signals no longer, or those of a channel",
        {"channelId": "gold"} => Unsubscribed::example("signals:gold");
    SIGNALS_HISTORY: ReadFollowedSignals => SignalList =
        "signals:history", Nothing, Requests, Anyone, object_or_none,
        "reads a page of all signals, or of those of a channel, the newest first",
        {"channelId": "gold", "limit": 1} => list();
}

/// `subscribe:signals`: all signals, or those of a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribeSignals {
    /// None: all signals.
    #[schemars(with = "Option<ServiceName>")]
    pub(crate) channel_id: Option<String>,
    /// The last `revision` of these signals that the client knows: the snapshot then has only what came after it.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) since_revision: Option<u64>,
}

/// `unsubscribe:signals`: no longer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribeSignals {
    /// The channel that was subscribed to; none: all signals.
    #[schemars(with = "Option<ServiceName>")]
    pub(crate) channel_id: Option<String>,
}

/// `signals:history`: a page of all signals, or of those of a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadFollowedSignals {
    /// None: all signals.
    #[schemars(with = "Option<ServiceName>")]
    #[serde(default)]
    pub(crate) channel_id: Option<String>,
    /// The `cursor` of the snapshot or of the page before; without it, the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<usize>,
    /// Only signals with a larger `revision`, of which the client has all others. On each page.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) since_revision: Option<u64>,
}

/// `POST /api/v1/signals`: a signal, for everybody and a channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PublishSignal {
    /// Published again under the same id it is stored once. Default: a new one.
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

/// `GET /api/v1/signals`: all signals, or those of a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReadSignals {
    /// Only those of this channel.
    #[schemars(with = "Option<ServiceName>")]
    pub(crate) channel_id: Option<String>,
    /// The `cursor` of the page before; without it, the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
    /// Only signals with a larger `revision`, of which the caller has all others. On each page.
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) since_revision: Option<u64>,
}

impl Command for ReadSignals {
    const PERMISSION: Option<Permission> = Some(Permission::SignalsRead);
}

/// A page of signals, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignalList {
    /// That of the last of all signals when the page was read.
    pub(crate) revision: u64,
    pub(crate) signals: Vec<Update<Signal>>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Whether there are older ones; with `sinceRevision`, older ones that came after it.
    pub(crate) has_more: bool,
    /// That of the request, if the list has only what came after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since_revision: Option<u64>,
    /// The ids of signals on this page that were withdrawn after `sinceRevision`. Empty without it.
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
