//! The latest refusals and cuts, and the clients that were seen recently.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happened to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(crate) enum IncidentKind {
    /// A connection, a socket, an event or a call was refused.
    Refusal,
    /// A connection was closed because its client reads too slowly, or sends faster than its events
    /// are handled.
    Cut,
}

/// A refusal or a cut, or several of the same kind in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Incident {
    pub(crate) kind: IncidentKind,
    /// The type, as in `admin:refusals`.
    #[serde(rename = "type")]
    pub(crate) category: String,
    pub(crate) reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<IpAddr>,
    /// When it happened last, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) count: u64,
}

/// The newest incidents, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Incidents(VecDeque<Incident>);

impl Incidents {
    /// Adds an incident, or counts it if the same happened to the client a short time ago, so that
    /// a flood of refusals does not replace all others.
    pub(super) fn add(&mut self, mut new: Incident) {
        let is_same = |old: &Incident| {
            new.at.saturating_sub(old.at) < SAME_MS
                && (old.kind, &old.user, old.address) == (new.kind, &new.user, new.address)
                && (&old.category, &old.reason) == (&new.category, &new.reason)
        };
        let mut recent = self.0.iter().rev().take(MAX_COMPARED);
        if let Some(back) = recent.position(is_same)
            && let Some(old) = self.0.remove(self.0.len() - 1 - back)
        {
            new.count = new.count.saturating_add(old.count);
        }
        if self.0.len() >= MAX_INCIDENTS {
            self.0.pop_front();
        }
        self.0.push_back(new);
    }

    /// Returns the newest incidents, the newest first.
    pub(super) fn latest(&self) -> Vec<Incident> {
        self.0.iter().rev().cloned().collect()
    }

    pub(super) fn forget(&mut self, user: &str) {
        self.0
            .retain(|incident| incident.user.as_deref() != Some(user));
    }
}

/// A client that disconnected or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seen {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<IpAddr>,
    /// When it was seen last, in milliseconds since 1970.
    pub(crate) at: u64,
    /// What happened then: the reason of the disconnect or refusal.
    pub(crate) what: String,
}

/// The clients that were seen last, by user and address, in two generations: a full generation
/// replaces the one before it.
#[derive(Debug, Default)]
pub(super) struct RecentClients {
    young: Generation,
    old: Generation,
}

type Generation = HashMap<(Option<Arc<str>>, Option<IpAddr>), Seen>;

impl RecentClients {
    pub(super) fn add(&mut self, seen: Seen) {
        let key = (seen.user.clone(), seen.address);
        self.old.remove(&key);
        if self.young.len() >= GENERATION && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, seen);
    }

    /// Returns the clients that match, the newest first.
    pub(super) fn find(&self, limit: usize, matches: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let all = self.young.values().chain(self.old.values());
        let mut found: Vec<&Seen> = all.filter(|seen| matches(seen)).collect();
        found.sort_unstable_by_key(|seen| std::cmp::Reverse(seen.at));
        found.truncate(limit);
        found.into_iter().cloned().collect()
    }

    pub(super) fn forget(&mut self, user: &str) {
        for generation in [&mut self.young, &mut self.old] {
            generation.retain(|(of, _), _| of.as_deref() != Some(user));
        }
    }
}

/// Maximum number of incidents.
pub(crate) const MAX_INCIDENTS: usize = 200;
/// The newest incidents that a new one is compared with.
const MAX_COMPARED: usize = 32;
/// The time in milliseconds within which the same incident is counted instead of added.
const SAME_MS: u64 = 60_000;
/// Maximum number of clients of a generation.
const GENERATION: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(user: &str, at: u64) -> Incident {
        Incident {
            kind: IncidentKind::Refusal,
            category: "rateLimit".to_owned(),
            reason: "too many events".to_owned(),
            user: Some(user.into()),
            address: None,
            at,
            count: 1,
        }
    }

    #[test]
    fn repeated_incidents_are_counted_and_a_flood_keeps_others() {
        let mut incidents = Incidents::default();
        incidents.add(refusal("bob", 0));
        for at in 0..10_000 {
            incidents.add(refusal("ann", at));
        }
        incidents.add(refusal("ann", 90_000));
        let shown = |one: Incident| format!("{} {}", one.user.unwrap(), one.count);
        let counts: Vec<_> = incidents.latest().into_iter().map(shown).collect();
        assert_eq!(counts, ["ann 1", "ann 10000", "bob 1"]);
        for n in 0..1_000 {
            incidents.add(refusal(&n.to_string(), 0));
        }
        assert_eq!(incidents.0.len(), MAX_INCIDENTS);
        incidents.forget("999");
        assert_eq!(incidents.0.len(), MAX_INCIDENTS - 1);
    }

    #[test]
    fn recent_clients_are_bounded_found_and_forgotten() {
        let mut clients = RecentClients::default();
        let seen = |n: u64| Seen {
            user: Some(format!("user-{n}").into()),
            name: None,
            address: None,
            at: n,
            what: "transport close".to_owned(),
        };
        for n in 0..10_000 {
            clients.add(seen(n));
        }
        assert!(clients.young.len() + clients.old.len() <= 2 * GENERATION);
        assert_eq!(clients.find(2, |_| true), [seen(9_999), seen(9_998)]);
        clients.forget("user-9999");
        assert_eq!(clients.find(1, |_| true), [seen(9_998)]);
    }
}
