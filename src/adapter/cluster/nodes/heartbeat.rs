//! The content of a heartbeat.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use roomcast_protocol::socket::{Args, Nsp, Parser};
use serde::{Deserialize, Serialize};

use super::{
    BEAT, BYE, CHANGED, NAMESPACE,
    forwarding::{Forwarding, read_this_version},
    node::{Load, Node, NodeOptions, is_id, is_shown},
};
use crate::adapter::{
    WireError,
    envelope::{NodeId, Publication},
    operation::Kind,
};

/// A heartbeat: the only argument of its event. Unknown fields are ignored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::adapter) struct Heartbeat {
    pub(super) id: Arc<str>,
    version: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<Arc<str>>,
    /// Milliseconds since 1970, by the clock of the sender.
    started: u64,
    /// Milliseconds.
    uptime: u64,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "read_this_version"
    )]
    pub(super) forwarding: Option<Forwarding>,
    /// The names of other servers with the same id. If a server finds its own name here, the
    /// heartbeat is newer than its start. A client of the broker cannot have recorded it before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rivals: Vec<Arc<str>>,
    load: Figures,
    /// Whether the sender has proved that it is a server of the cluster.
    #[serde(skip)]
    pub(super) is_authentic: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Figures {
    connections: u64,
    sessions: u64,
    sockets: u64,
    rooms: u64,
    queued_bytes: u64,
    lag_micros: u64,
    /// Thousandths.
    busy: u16,
    #[serde(skip_serializing_if = "is_zero")]
    adapter_queued: u64,
    #[serde(skip_serializing_if = "is_zero")]
    adapter_queued_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    adapter_lag_micros: u64,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gaps: u64,
    #[serde(rename = "cutOffMillis", skip_serializing_if = "is_zero")]
    gap_millis: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Heartbeat {
    pub(super) fn of(
        node: &Node,
        uptime: Duration,
        forwarding: Option<Forwarding>,
        rivals: Vec<Arc<str>>,
    ) -> Self {
        let started = node.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let load = node.load;
        Self {
            id: Arc::clone(&node.id),
            version: Arc::clone(&node.version),
            address: node.address.clone(),
            started: millis(started),
            uptime: millis(uptime),
            forwarding,
            rivals,
            load: Figures {
                connections: load.connections,
                sessions: load.sessions,
                sockets: load.sockets,
                rooms: load.rooms,
                queued_bytes: load.queued_bytes,
                lag_micros: micros(load.lag),
                busy: (load.busy * 1e3) as u16,
                adapter_queued: load.adapter_queued,
                adapter_queued_bytes: load.adapter_queued_bytes,
                adapter_lag_micros: micros(load.adapter_lag),
                lost: load.lost,
                gaps: load.gaps,
                gap_millis: millis(load.gap_time),
            },
            is_authentic: true,
        }
    }

    /// Removes what an unsealed heartbeat cannot prove, because any client of the broker can send
    /// one. Its address and key are dropped, and its id never stops this server.
    pub(in crate::adapter) fn authenticated(self, was_sealed: bool) -> Self {
        match was_sealed {
            true => Self {
                is_authentic: true,
                ..self
            },
            false => Self {
                is_authentic: false,
                address: None,
                forwarding: None,
                ..self
            },
        }
    }

    pub(super) fn uptime(&self) -> Duration {
        Duration::from_millis(self.uptime)
    }

    pub(super) fn node(self, name: NodeId) -> Node {
        let load = self.load;
        Node {
            id: self.id,
            name,
            version: self.version,
            address: self.address,
            started: UNIX_EPOCH + Duration::from_millis(self.started),
            load: Load {
                connections: load.connections,
                sessions: load.sessions,
                sockets: load.sockets,
                rooms: load.rooms,
                queued_bytes: load.queued_bytes,
                lag: Duration::from_micros(load.lag_micros),
                busy: f64::from(load.busy) / 1e3,
                adapter_queued: load.adapter_queued,
                adapter_queued_bytes: load.adapter_queued_bytes,
                adapter_lag: Duration::from_micros(load.adapter_lag_micros),
                lost: load.lost,
                gaps: load.gaps,
                gap_time: Duration::from_millis(load.gap_millis),
            },
            heartbeat_age: Duration::ZERO,
            is_this: false,
        }
    }

    /// Returns the event with the heartbeat, or `None` if it cannot be encoded.
    pub(in crate::adapter) fn publication(&self) -> Option<Publication> {
        let bytes = serde_json::to_vec(&[self]).ok()?;
        let args = Args::document(Parser::Json, bytes.into()).ok()?;
        Some(publication(BEAT, args.items(0)?))
    }

    pub(in crate::adapter) fn read(args: &Args) -> Result<Self, WireError> {
        // The detour through a `Value` reduces code size, because `args.get` is compiled for each
        // type and each form of arguments.
        let beat: Result<serde_json::Value, _> = args.get(0);
        let beat = beat.ok().and_then(|beat| serde_json::from_value(beat).ok());
        let beat: Self = beat.ok_or(WireError::Malformed("heartbeat"))?;
        // Operators see the data of other servers, and it is stored. So text that is too long or
        // not visible is rejected.
        let is_good = is_id(&beat.id)
            && is_shown(&beat.version, NodeOptions::MAX_VERSION)
            && beat
                .address
                .as_deref()
                .is_none_or(|address| is_shown(address, NodeOptions::MAX_ADDRESS))
            && beat.rivals.len() <= MAX_RIVALS
            && beat.rivals.iter().all(|name| is_shown(name, MAX_NAME))
            && beat.started <= LAST
            && beat.load.busy <= 1000;
        match is_good {
            true => Ok(beat),
            false => Err(WireError::Malformed("heartbeat")),
        }
    }
}

/// Returns the leave message of this server.
pub(in crate::adapter) fn bye() -> Publication {
    publication(BYE, Args::default())
}

/// Returns the announcement of a changed value, or `None` if it cannot be encoded.
pub(in crate::adapter) fn changed(key: &str) -> Option<Publication> {
    let bytes = serde_json::to_vec(&[key]).ok()?;
    let args = Args::document(Parser::Json, bytes.into()).ok()?;
    Some(publication(CHANGED, args.items(0)?))
}

fn publication(event: &str, args: Args) -> Publication {
    let event = event.into();
    Publication::new(Nsp::from(NAMESPACE), Kind::ServerSide { event, args })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The maximum number of names in a heartbeat.
pub(super) const MAX_RIVALS: usize = 8;
/// The maximum length of a server name in a heartbeat, in bytes.
const MAX_NAME: usize = 128;
/// The last millisecond of the year 9999. Later times have no text form.
const LAST: u64 = 253_402_300_799_999;
