//! What this server knows of clients and rooms that may cause trouble, as it answers its peers.

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::diagnosis::{Diagnosis, Incident, QueuedBytes, Seen, Steps, Subjects};
use crate::service::api::sockets::node_of;
use crate::service::chat::is_user_room;
use crate::service::rules::content::Beginning;
use roomcast::{Io, Room};

/// The answer of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service::api) struct Findings {
    /// The name of the server.
    pub(super) node: String,
    pub(super) steps: Steps,
    pub(super) top: Vec<TopList>,
    /// The newest first.
    pub(super) incidents: Vec<Incident>,
}

/// The users, addresses or rooms with the highest values of one measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TopList {
    pub(super) subject: Subject,
    pub(super) measure: Measure,
    /// The highest value first.
    pub(super) entries: Vec<TopEntry>,
}

/// What is listed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(crate) enum Subject {
    User,
    Address,
    Room,
}

/// What is measured.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(crate) enum Measure {
    /// Events of clients a second, in the last minute.
    Events,
    /// Bytes that wait to be sent now.
    QueuedBytes,
    /// Sockets that connected in the last minute.
    Connects,
    /// Refused connections, sockets, events and calls in the last hour.
    Refusals,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TopEntry {
    /// The id of the user, the address, or the name of the room.
    pub(super) name: String,
    /// A lower bound of the value, or an estimate if events are sampled. Several servers are added
    /// up.
    pub(super) value: f64,
}

/// Clients that were seen recently, as a server answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::service::api) struct SeenClients {
    pub(super) node: String,
    pub(super) clients: Vec<Seen>,
}

impl Findings {
    /// Collects the findings of this server.
    pub(super) fn of(io: &Io) -> Self {
        let diagnosis = io.state::<Diagnosis>();
        let tops = diagnosis.tops(REPORTED);
        let [mut events, mut connects, mut refusals] = [
            lists(Measure::Events, tops.event_rates, |rate| rate),
            lists(Measure::Connects, tops.connects, |count| count as f64),
            lists(Measure::Refusals, tops.refusals, |count| count as f64),
        ];
        // Sockets have no room when they connect, and refusals name none.
        for of_clients in [&mut connects, &mut refusals] {
            of_clients.retain(|list| list.subject != Subject::Room);
        }
        let mut top = lists(Measure::QueuedBytes, queued(io), |bytes| bytes as f64);
        top.append(&mut events);
        top.append(&mut connects);
        top.append(&mut refusals);
        Self {
            node: node_of(io),
            steps: diagnosis.steps(),
            top,
            incidents: diagnosis.incidents(),
        }
    }
}

impl SeenClients {
    /// Finds clients that this server has seen in the last hour.
    pub(super) fn of(io: &Io, search: &str) -> Self {
        let beginning = Beginning::new(search);
        let begins = |text: &str| beginning.begins(text);
        let matches = |seen: &Seen| {
            seen.user.as_deref().is_some_and(begins)
                || seen
                    .address
                    .is_some_and(|address| begins(&address.to_string()))
                || seen
                    .name
                    .as_ref()
                    .is_some_and(|name| beginning.begins_a_word(name))
        };
        Self {
            node: node_of(io),
            clients: io.state::<Diagnosis>().find(MAX_FOUND, matches),
        }
    }
}

/// Returns who waits for the most bytes now. This checks every socket of the server.
fn queued(io: &Io) -> Subjects<u64> {
    let mut sum = QueuedBytes::default();
    for socket in io.of("/").local().sockets() {
        let bytes = socket.conn().queued_bytes() as u64;
        if bytes == 0 {
            continue;
        }
        let mut rooms = socket.rooms();
        let own = socket.id();
        // A room of one user only repeats the user.
        rooms.retain(|room| !is_user_room(room) && room.as_str() != own.as_str());
        let address = socket.handshake().address().ip().to_canonical();
        let names = rooms.iter().take(MAX_ROOMS).map(Room::as_str);
        sum.add(&socket.principal().subject, address, names, bytes);
    }
    sum.top(REPORTED)
}

fn lists<V>(measure: Measure, of: Subjects<V>, value: fn(V) -> f64) -> Vec<TopList> {
    let texts = |all: Vec<(Arc<str>, V)>| {
        let entry = |(name, count): (Arc<str>, V)| TopEntry {
            name: name.as_ref().to_owned(),
            value: value(count),
        };
        all.into_iter().map(entry).collect()
    };
    let addresses = |all: Vec<(IpAddr, V)>| {
        let entry = |(address, count): (IpAddr, V)| TopEntry {
            name: address.to_string(),
            value: value(count),
        };
        all.into_iter().map(entry).collect()
    };
    let list = |subject, entries| TopList {
        subject,
        measure,
        entries,
    };
    vec![
        list(Subject::User, texts(of.users)),
        list(Subject::Address, addresses(of.addresses)),
        list(Subject::Room, texts(of.rooms)),
    ]
}

/// Entries of a list that a server reports. A client that is not among those of any server is
/// missing in their sum.
const REPORTED: usize = 50;
/// Maximum number of rooms of one socket that are considered.
const MAX_ROOMS: usize = 100;
/// Maximum number of clients that a server finds.
pub(super) const MAX_FOUND: usize = 50;
