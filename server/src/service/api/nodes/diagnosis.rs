//! Clients and rooms that may cause trouble on any server: who is most active, what was refused,
//! who was cut, and who was connected recently.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::findings::{MAX_FOUND, Measure, Subject, TopEntry, TopList};
use super::requests::{NodeAnswer, NodeRequest, UnansweredServers, request_all};
use crate::auth::Permission;
use crate::metrics::diagnosis::{Incident, IncidentKind, MAX_INCIDENTS, STEP_S, Seen, Steps};
use crate::service::authorization::{Access, Allowed};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::USER_NAME_CHARS;
use crate::service::rules::event::Command;
use crate::store::Time;
use roomcast::Io;

/// `GET /api/v1/diagnosis`
#[derive(Debug)]
pub(crate) struct ReadDiagnosis;

impl Command for ReadDiagnosis {
    const PERMISSION: Option<Permission> = Some(Permission::ApiMetrics);
}

/// `GET /api/v1/diagnosis/clients`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FindClients {
    /// Only clients whose user id or address begins with this, or a word of whose user's name: 1 to
    /// 256 characters in any case.
    #[schemars(length(min = 1, max = 256))]
    search: String,
}

impl Command for FindClients {
    const PERMISSION: Option<Permission> = Some(Permission::ApiSockets);
}

/// Clients and rooms that may cause trouble, on all servers that have answered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Diagnosis")]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterDiagnosis {
    history: ConnectionHistory,
    /// At most ten entries each. Without lists of users and addresses if the caller lacks
    /// `api:sockets`, and without those of rooms if it lacks `api:rooms`.
    top: Vec<TopList>,
    /// The latest refusals and cuts, the newest first: at most 200.
    incidents: Vec<ClusterIncident>,
    /// Servers that have not answered. Nothing of them is included.
    missing: usize,
}

/// Connects, refusals and disconnects of the last hour, in complete steps.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConnectionHistory {
    /// When the first step begins.
    begins_at: Time,
    /// Seconds of each step.
    step_seconds: u64,
    /// Sockets of the chat that connected in each step.
    connected: Vec<u32>,
    /// Refused connections and sockets of each step.
    refused: Vec<u32>,
    /// Sockets of the chat that disconnected, for each reason that occurred.
    disconnected: Vec<DisconnectCounts>,
}

/// The disconnects of one reason.
#[derive(Debug, Serialize, JsonSchema)]
struct DisconnectCounts {
    reason: String,
    counts: Vec<u32>,
}

/// A refusal or a cut. The same incidents of a client in a row are one.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ClusterIncident {
    kind: IncidentKind,
    /// `authentication`, `permission`, `rateLimit`, `connection`, `payload`, `request`, or
    /// `slowClient` for a cut.
    #[serde(rename = "type")]
    category: String,
    reason: String,
    /// Absent if it is not known, or if the caller lacks `api:sockets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Arc<str>>,
    /// Absent if it is not known, or if the caller lacks `api:sockets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The name of the server.
    node: String,
    /// When it happened last.
    at: Time,
    /// How often it happened.
    count: u64,
}

/// Clients that disconnected or were refused in the last hour, the newest first: at most 50. Some
/// may be connected again.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FoundClients {
    clients: Vec<FoundClient>,
    /// Servers that have not answered.
    missing: usize,
}

/// A client that disconnected or was refused.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FoundClient {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Arc<str>>,
    /// The user's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// When it was seen last.
    at: Time,
    /// The reason of the disconnect or refusal.
    what: String,
    /// The name of the server.
    node: String,
}

/// Returns the findings of all servers, as far as the caller may see them.
pub(crate) async fn diagnose(
    io: &Io,
    access: &Access,
    allowed: Allowed<ReadDiagnosis>,
) -> Result<ClusterDiagnosis, ServiceError> {
    let (by, ReadDiagnosis) = allowed.into_parts();
    let (answers, UnansweredServers(missing)) = request_all(io, &NodeRequest::Diagnosis).await;
    let shows_clients = access.allows(&by, Permission::ApiSockets);
    let shows_rooms = access.allows(&by, Permission::ApiRooms);
    let is_shown = |subject| match subject {
        Subject::User | Subject::Address => shows_clients,
        Subject::Room => shows_rooms,
    };
    let mut steps = Steps::default();
    let mut lists = Vec::new();
    let mut incidents = Vec::new();
    for answer in answers {
        if let NodeAnswer::Diagnosis(findings) = answer {
            steps.merge(&findings.steps);
            lists.extend(findings.top);
            let node = findings.node;
            let of_node = findings.incidents.into_iter();
            incidents.extend(of_node.map(|one| describe(one, &node, shows_clients)));
        }
    }
    lists.retain(|list| is_shown(list.subject));
    incidents.sort_by_key(|incident| Reverse(incident.at));
    incidents.truncate(MAX_INCIDENTS);
    Ok(ClusterDiagnosis {
        history: ConnectionHistory::from(steps),
        top: merge(lists),
        incidents,
        missing,
    })
}

/// Finds clients that were connected to any server, or refused by it, in the last hour.
pub(crate) async fn find_clients(
    io: &Io,
    allowed: Allowed<FindClients>,
) -> Result<FoundClients, ServiceError> {
    let (_, FindClients { search }) = allowed.into_parts();
    let search = search.trim();
    if search.is_empty() || search.chars().count() > USER_NAME_CHARS {
        let problem = format!("must have 1 to {USER_NAME_CHARS} characters");
        return Err(ServiceError::invalid("search", problem));
    }
    let request = NodeRequest::SeenClients(search.to_owned());
    let (answers, UnansweredServers(missing)) = request_all(io, &request).await;
    let mut newest = BTreeMap::new();
    for answer in answers {
        let NodeAnswer::SeenClients(seen) = answer else {
            continue;
        };
        for client in seen.clients {
            let client = found(client, &seen.node);
            let key = (client.user_id.clone(), client.address.clone());
            let known = newest.get(&key);
            if known.is_none_or(|known: &FoundClient| known.at < client.at) {
                newest.insert(key, client);
            }
        }
    }
    let mut clients: Vec<FoundClient> = newest.into_values().collect();
    clients.sort_by_key(|client| Reverse(client.at));
    clients.truncate(MAX_FOUND);
    Ok(FoundClients { clients, missing })
}

/// Removes an erased user from the memory of all servers.
pub(in crate::service::api) async fn forget(io: &Io, user: &str) {
    // A server that does not answer has forgotten the user after an hour.
    let _ = request_all(io, &NodeRequest::Forget(user.to_owned())).await;
}

/// Adds up the lists of all servers, and returns the first entries of each.
fn merge(lists: Vec<TopList>) -> Vec<TopList> {
    let mut sums: BTreeMap<(Measure, Subject), BTreeMap<String, f64>> = BTreeMap::new();
    for list in lists {
        let sum = sums.entry((list.measure, list.subject)).or_default();
        for TopEntry { name, value } in list.entries {
            *sum.entry(name).or_default() += value;
        }
    }
    let list = |((measure, subject), sum): (_, BTreeMap<String, f64>)| {
        let entries = sum.into_iter();
        let mut entries: Vec<_> = entries
            .map(|(name, value)| TopEntry { name, value })
            .collect();
        entries.sort_by(|a, b| b.value.total_cmp(&a.value));
        entries.truncate(SHOWN);
        TopList {
            subject,
            measure,
            entries,
        }
    };
    sums.into_iter().map(list).collect()
}

impl From<Steps> for ConnectionHistory {
    fn from(steps: Steps) -> Self {
        let columns = steps.disconnected.into_iter();
        Self {
            begins_at: time(steps.first.saturating_mul(STEP_S * 1000)),
            step_seconds: STEP_S,
            connected: steps.connected,
            refused: steps.refused,
            disconnected: columns
                .map(|(reason, counts)| DisconnectCounts { reason, counts })
                .collect(),
        }
    }
}

fn describe(incident: Incident, node: &str, shows_clients: bool) -> ClusterIncident {
    let Incident {
        kind,
        category,
        reason,
        user,
        address,
        at,
        count,
    } = incident;
    ClusterIncident {
        kind,
        category,
        reason,
        user_id: user.filter(|_| shows_clients),
        address: address
            .filter(|_| shows_clients)
            .as_ref()
            .map(IpAddr::to_string),
        node: node.to_owned(),
        at: time(at),
        count,
    }
}

fn found(seen: Seen, node: &str) -> FoundClient {
    FoundClient {
        user_id: seen.user,
        name: seen.name,
        address: seen.address.as_ref().map(IpAddr::to_string),
        at: time(seen.at),
        what: seen.what,
        node: node.to_owned(),
    }
}

fn time(milliseconds: u64) -> Time {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds));
    time.unwrap_or(SystemTime::UNIX_EPOCH).into()
}

/// Shown entries of each list.
const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(subject: Subject, entries: &[(&str, f64)]) -> TopList {
        let entry = |(name, value): &(&str, f64)| TopEntry {
            name: (*name).to_owned(),
            value: *value,
        };
        TopList {
            subject,
            measure: Measure::Events,
            entries: entries.iter().map(entry).collect(),
        }
    }

    #[test]
    fn lists_of_servers_are_added_up_and_cut_to_ten() {
        let names: Vec<String> = (0..20).map(|n| format!("user-{n}")).collect();
        let many: Vec<_> = names.iter().map(|name| (&**name, 1.0)).collect();
        let sum = merge(vec![
            list(Subject::User, &[("ann", 5.0), ("bob", 4.0)]),
            list(Subject::Room, &[]),
            list(Subject::User, &[("bob", 3.0)]),
            list(Subject::User, &many),
        ]);
        assert_eq!(sum.len(), 2);
        assert_eq!(sum[0].entries.len(), SHOWN);
        let first: Vec<_> = sum[0].entries.iter().take(2).collect();
        assert_eq!((&*first[0].name, first[0].value), ("bob", 7.0));
        assert_eq!(&*first[1].name, "ann");
        assert!(sum[1].entries.is_empty());
    }
}
