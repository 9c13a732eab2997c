//! The channels of all servers with followers or recent events, and the events of one as they are
//! published.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::requests::{NodeAnswer, NodeRequest, UnansweredServers, request_all};
use crate::auth::Permission;
use crate::metrics::diagnosis::Diagnosis;
use crate::metrics::trace::{Detail, Filter};
use crate::service::api::trace::{self, Followed};
use crate::service::authorization::{Access, Allowed};
use crate::service::channels::{Channels, NO_CHANNEL};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::ChannelName;
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::content::page_limit;
use crate::service::rules::event::Command;
use roomcast::{Io, Room};

/// `GET /api/v1/channels`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListChannels {
    /// Which channels are first: those with the most followers, with the most events a second, or
    /// with the most bytes of history. Default: `followers`.
    #[serde(default)]
    sort: ChannelOrder,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    limit: Option<usize>,
}

/// The order of a list of channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum ChannelOrder {
    #[default]
    Followers,
    Rate,
    Bytes,
}

impl Command for ListChannels {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsRead);
}

/// `GET /api/v1/channels/{channel}/live`
#[derive(Debug)]
pub(crate) struct WatchChannel {
    pub(crate) channel: String,
    pub(crate) query: WatchQuery,
}

/// How long the events of a channel are watched.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchQuery {
    /// Seconds after which the stream ends, 1 to 3,600. Default 600.
    #[schemars(range(min = 1, max = 3600))]
    #[serde(default, deserialize_with = "whole_in_query")]
    seconds: Option<u64>,
}

impl Command for WatchChannel {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsRead);
}

/// A line of the response of `GET /api/v1/channels/{channel}/live`. Lines about the stream itself
/// have other fields.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LiveLine {
    /// When the event was published, by the clock of its server.
    at: String,
    /// The id of the server.
    node: String,
    /// `published`, or what happened to the stream: `tracing`, `lines_dropped` or `ended`.
    step: String,
    /// The channel.
    channel: Option<String>,
    /// The name of the event.
    event: Option<String>,
    /// The id that the publisher chose.
    id: Option<String>,
    /// The position of the event.
    position: Option<String>,
    /// The data, without secrets.
    data: Option<Value>,
}

/// Channels with followers or with events in the last minute, in the requested order.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChannelList {
    channels: Vec<ListedChannel>,
    /// Whether there are more.
    has_more: bool,
    /// Servers that have not answered. Their followers and events are not counted.
    missing: usize,
}

/// A channel with its figures.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ListedChannel {
    #[schemars(with = "ChannelName")]
    channel: String,
    /// The name of its kind in the configuration.
    kind: String,
    /// The room of its followers.
    room: String,
    /// Sockets that follow it. Each server reports its 500 largest channels and those with the most
    /// events; the followers of other channels are not counted.
    followers: usize,
    /// Events that were published a second, in the last minute: a lower bound.
    events_per_second: f64,
    /// What is stored. Absent if the kind stores no events.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<StoredEvents>,
}

/// The stored events of a channel, with those that will be removed soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StoredEvents {
    /// The number of events.
    events: u64,
    /// The bytes of their names and data.
    bytes: u64,
    /// Set if there are older events, which are not counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_more: bool,
}

/// The answer of a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service::api) struct LocalChannels {
    channels: Vec<LocalChannel>,
    /// Whether further channels have followers at this server.
    has_more: bool,
}

/// A channel at one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LocalChannel {
    /// The room of its followers.
    room: String,
    /// Its name, if the server knows it: the room of a long name has only its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    followers: usize,
    /// Events a second, in the last minute.
    rate: f64,
}

impl LocalChannels {
    /// Collects the channels of this server.
    pub(super) fn of(io: &Io) -> Self {
        let rates = io.state::<Diagnosis>().channel_rates(REPORTED);
        let rates: HashMap<Room, f64> = rates
            .into_iter()
            .map(|(room, rate)| (Room::from(&*room), rate))
            .collect();
        let mut rooms = Channels::local_rooms(io);
        // Channels without followers here have no room here.
        let followed: HashMap<Room, usize> = rooms.iter().cloned().collect();
        let has_more = rooms.len() > REPORTED;
        if has_more {
            rooms.select_nth_unstable_by_key(REPORTED, |(_, followers)| Reverse(*followers));
            rooms.truncate(REPORTED);
        }
        let largest = rooms.into_iter().map(|(room, _)| room);
        let listed: BTreeSet<Room> = largest.chain(rates.keys().cloned()).collect();
        let channels = listed.into_iter().map(|room| LocalChannel {
            channel: Channels::name_at(io, &room),
            followers: followed.get(&room).copied().unwrap_or_default(),
            rate: rates.get(&room).copied().unwrap_or_default(),
            room: room.to_string(),
        });
        Self {
            channels: channels.collect(),
            has_more,
        }
    }
}

/// Lists the channels of all servers.
pub(crate) async fn list_channels(
    io: &Io,
    allowed: Allowed<ListChannels>,
) -> Result<ChannelList, ServiceError> {
    let (_, ListChannels { sort, limit }) = allowed.into_parts();
    let limit = page_limit(limit)?;
    let (answers, UnansweredServers(missing)) = request_all(io, &NodeRequest::Channels).await;
    let answers = answers.into_iter().filter_map(NodeAnswer::channels);
    let channels = io.state::<Channels>();
    let (merged, is_cut) = merge(answers.collect(), |channel| channels.kind_of(channel));
    let total = merged.len();
    let mut listed = match sort {
        ChannelOrder::Followers => first(merged, limit, by_followers),
        ChannelOrder::Rate => first(merged, limit, by_rate),
        ChannelOrder::Bytes => {
            let busiest = first(merged.clone(), MEASURED / 2, by_rate);
            let mut candidates = first(merged, MEASURED / 2, by_followers);
            candidates.extend(busiest);
            candidates.sort_unstable_by(|a, b| a.room.cmp(&b.room));
            candidates.dedup_by(|a, b| a.room == b.room);
            candidates
        }
    };
    measure(channels, &mut listed).await?;
    if sort == ChannelOrder::Bytes {
        listed = first(listed, limit, by_bytes);
    }
    Ok(ChannelList {
        has_more: is_cut || total > listed.len(),
        channels: listed,
        missing,
    })
}

/// Streams the events of a channel as they are published at any server.
///
/// # Errors
///
/// If the channel does not exist, the query is invalid, or too many traces run.
pub(crate) fn watch_channel(
    io: &Io,
    access: &Access,
    allowed: Allowed<WatchChannel>,
) -> Result<Followed, ServiceError> {
    let (by, WatchChannel { channel, query }) = allowed.into_parts();
    if io.state::<Channels>().kind_of(&channel).is_none() {
        return Err(NO_CHANNEL);
    }
    // The permission lets the caller read the events of every channel.
    let (filter, detail) = (Filter::Channel(channel), Detail::Unmasked);
    let permissions = &[Permission::ChannelsRead];
    trace::start(io, access, by, (filter, detail), permissions, query.seconds)
}

/// Adds up the figures of all servers. `kind_of` returns the kind of a channel, and whether its
/// events are stored. Returns the channels, and whether there are more.
fn merge(
    answers: Vec<LocalChannels>,
    kind_of: impl Fn(&str) -> Option<(String, bool)>,
) -> (Vec<ListedChannel>, bool) {
    let mut has_more = false;
    let mut merged: HashMap<String, LocalChannel> = HashMap::new();
    for answer in answers {
        has_more |= answer.has_more;
        for one in answer.channels {
            match merged.get_mut(&one.room) {
                Some(known) => {
                    known.followers = known.followers.saturating_add(one.followers);
                    known.rate += one.rate;
                    known.channel = known.channel.take().or(one.channel);
                }
                None => {
                    merged.insert(one.room.clone(), one);
                }
            }
        }
    }
    // The kind of a channel may have been removed.
    let listed = merged.into_values().filter_map(|one| {
        let channel = one.channel?;
        let (kind, is_stored) = kind_of(&channel)?;
        Some(ListedChannel {
            channel,
            kind,
            room: one.room,
            followers: one.followers,
            events_per_second: one.rate,
            history: is_stored.then(StoredEvents::default),
        })
    });
    (listed.collect(), has_more)
}

/// Adds what the history of each channel has.
async fn measure(channels: &Channels, listed: &mut [ListedChannel]) -> Result<(), ServiceError> {
    let stored = listed.iter().filter(|one| one.history.is_some());
    let rooms: Vec<String> = stored.map(|one| one.room.clone()).collect();
    if rooms.is_empty() {
        return Ok(());
    }
    let newest = MEASURED_EVENTS / rooms.len();
    let sizes = channels.journal_sizes(rooms, newest).await?;
    let mut sizes: HashMap<_, _> = sizes
        .into_iter()
        .map(|size| (size.journal.clone(), size))
        .collect();
    for one in listed {
        if let Some(size) = sizes.remove(&one.room) {
            one.history = Some(StoredEvents {
                events: size.entries,
                bytes: size.bytes,
                has_more: size.has_more,
            });
        }
    }
    Ok(())
}

/// Returns the channels with the highest values, the highest first. Equal ones are ordered by name.
fn first(
    mut channels: Vec<ListedChannel>,
    limit: usize,
    value: fn(&ListedChannel) -> f64,
) -> Vec<ListedChannel> {
    channels.sort_unstable_by(|a, b| {
        let by_value = value(b).total_cmp(&value(a));
        by_value.then_with(|| a.channel.cmp(&b.channel))
    });
    channels.truncate(limit);
    channels
}

fn by_followers(channel: &ListedChannel) -> f64 {
    channel.followers as f64
}

fn by_rate(channel: &ListedChannel) -> f64 {
    channel.events_per_second
}

fn by_bytes(channel: &ListedChannel) -> f64 {
    channel.history.map_or(0.0, |history| history.bytes as f64)
}

/// Channels that a server reports: those with the most followers, and as many with the most events.
const REPORTED: usize = 500;
/// Channels whose history is measured for a list by bytes: half of them have the most followers,
/// and half the most events.
const MEASURED: usize = 400;
/// Maximum number of stored events that are measured for a list.
const MEASURED_EVENTS: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at_server(channels: &[(&str, Option<&str>, usize, f64)], has_more: bool) -> LocalChannels {
        let channels = channels.iter();
        let channels = channels.map(|(room, channel, followers, rate)| LocalChannel {
            room: (*room).to_owned(),
            channel: channel.map(str::to_owned),
            followers: *followers,
            rate: *rate,
        });
        LocalChannels {
            channels: channels.collect(),
            has_more,
        }
    }

    #[test]
    fn figures_of_servers_are_added_up_and_unknown_channels_left_out() {
        let here = at_server(
            &[
                ("channel:a", Some("a"), 2, 0.5),
                ("channel#1", None, 0, 1.0),
                ("channel#2", None, 0, 9.0),
                ("channel:old", Some("old"), 7, 0.0),
            ],
            false,
        );
        let there = at_server(
            &[
                ("channel:a", Some("a"), 3, 0.25),
                ("channel#1", Some("long"), 1, 0.5),
            ],
            true,
        );
        let kind_of =
            |channel: &str| (channel != "old").then(|| ("k".to_owned(), channel == "long"));
        let (merged, has_more) = merge(vec![here, there], kind_of);
        assert!(has_more);
        let figures = |channels: Vec<ListedChannel>| -> Vec<_> {
            let channels = channels.into_iter();
            channels
                .map(|one| {
                    let is_stored = one.history.is_some();
                    (one.channel, one.followers, one.events_per_second, is_stored)
                })
                .collect()
        };
        let (a, long) = (("a".into(), 5, 0.75, false), ("long".into(), 1, 1.5, true));
        let by_size = first(merged.clone(), 9, by_followers);
        assert_eq!(figures(by_size), [a, long.clone()]);
        assert_eq!(figures(first(merged, 1, by_rate)), [long]);
    }
}
