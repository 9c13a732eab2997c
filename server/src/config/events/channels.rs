//! Section `[channels.NAME]`.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

/// Section `[channels.NAME]`: a kind of channels, to which services or clients publish events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelKind {
    /// Names of the channels, such as `orders:{customer}:{order}`: parts with colons in between. A
    /// part is a text, or `{part}` for any text of 1 to 128 characters. Required.
    pub pattern: String,
    /// Who may follow a channel and read its history; one match is enough: `anyone`, `users` (no
    /// guests), `owner:{part}` (the user whose id is this part of the name), `role:NAME`,
    /// `claim:NAME` (users whose token has this claim with the value `true`),
    /// `claim:NAME={part}` (users whose token has this claim with the part as its value, or in a
    /// list), `token` (users with a token for the channel) or `ask` (clients that the backend in
    /// `[ask]` allows it). Required.
    pub follow: Vec<String>,
    /// Who may publish; one match is enough: `services` (with the permission `channels:publish`),
    /// `followers` (all clients that may follow), `owner:{part}`, `role:NAME` or `token`. Default
    /// `services`.
    pub publish: Vec<String>,
    /// Which events are stored for clients that were absent: `last` for only the newest one, `none`
    /// for no event, or the following keys.
    #[serde(deserialize_with = "history")]
    pub history: ChannelHistory,
    /// Whether followers can learn who else follows a channel. Default `false`.
    pub presence: bool,
    /// Maximum size of the data of an event, as JSON. Default 16 KiB.
    pub max_bytes: usize,
    /// What webhooks receive: `occupied` and `vacated`, when the first socket of a server has begun to
    /// follow a channel and the last one has stopped, and `event`, each published event up to 64 KiB.
    /// Default: none.
    pub webhooks: Vec<ChannelHook>,
    /// Maximum number of followers of a channel at one server. Default 100,000.
    pub max_followers: usize,
    /// Maximum number of events per second that are published at one server to all channels of the
    /// kind, in bursts of at most 1,000. Default 0: no limit.
    pub publishes_per_second: u32,
    /// Maximum number of stored events of all channels of the kind together, counted like
    /// `limits.stored_channel_events`; with 0, there is no limit. Default 10,000,000.
    pub max_stored_events: u64,
    /// Maximum bytes of the stored events of all channels of the kind together; with 0, there is no
    /// limit. Default 8 GiB.
    pub max_stored_bytes: u64,
    /// Names of events, each with the file of the JSON Schema that its data must match. Other
    /// events are then refused. Default: every name and any JSON.
    pub events: BTreeMap<String, PathBuf>,
}

/// What webhooks receive of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "a configuration has no others")]
pub enum ChannelHook {
    /// `channel.occupied`: the first socket of a server has begun to follow.
    Occupied,
    /// `channel.vacated`: the last socket of a server has stopped.
    Vacated,
    /// `channel.event`: an event was published.
    Event,
}

/// Section `[channels.NAME.history]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelHistory {
    /// Maximum number of the newest events that a channel retains, 1 to 10,000. Default 200.
    pub events: u32,
    /// How long an event is retained. Default 7 days.
    #[serde(with = "crate::config::days")]
    pub age: Duration,
    /// Whether a channel retains only its newest event, which replaces the earlier ones. `events` then
    /// has no effect. `history = "last"` sets it, with an `age` of 366 days. Default `false`.
    pub last: bool,
    /// Whether no event is stored: followers receive events only while they are connected. The other
    /// keys then have no effect. `history = "none"` sets it. Default `false`.
    pub none: bool,
}

/// Deserializes a history from its keys, or from the text `last` or `none`.
fn history<'de, D: Deserializer<'de>>(from: D) -> Result<ChannelHistory, D::Error> {
    struct Form;

    impl<'de> Visitor<'de> for Form {
        type Value = ChannelHistory;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`last`, `none`, or a table with `events` and `age`")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<ChannelHistory, E> {
            match text {
                "last" => Ok(ChannelHistory {
                    last: true,
                    age: Duration::from_secs(366 * 86_400),
                    ..ChannelHistory::default()
                }),
                "none" => Ok(ChannelHistory {
                    none: true,
                    ..ChannelHistory::default()
                }),
                _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
            }
        }

        fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<ChannelHistory, M::Error> {
            ChannelHistory::deserialize(MapAccessDeserializer::new(map))
        }
    }

    from.deserialize_any(Form)
}

impl Default for ChannelKind {
    fn default() -> Self {
        Self {
            pattern: String::new(),
            follow: Vec::new(),
            publish: vec!["services".into()],
            history: ChannelHistory::default(),
            presence: false,
            max_bytes: 16 << 10,
            webhooks: Vec::new(),
            max_followers: 100_000,
            publishes_per_second: 0,
            max_stored_events: 10_000_000,
            max_stored_bytes: 8 << 30,
            events: BTreeMap::new(),
        }
    }
}

impl Default for ChannelHistory {
    fn default() -> Self {
        Self {
            events: 200,
            age: Duration::from_secs(7 * 86_400),
            last: false,
            none: false,
        }
    }
}
