//! The users that other servers have in one conversation, as plain data.
//!
//! Published presence goes in, and the differences from the previous state come out. This module
//! does not know how servers communicate. An expired server has no published presence, so its users
//! are missing from the input.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::auth::is_guest;
use crate::metrics::Size;
use crate::service::chat::presence::conversation::{Departure, Notice, Presence};
use crate::service::rules::emissions::attendance::{Present, User};
use crate::store::{self, Time};

/// The departed users, with the reasons that other servers reported.
pub(in crate::service) type Departures = BTreeMap<Arc<str>, Departure>;

/// The users that other servers have in a conversation.
#[derive(Debug, Default)]
pub(in crate::service) struct RemotePresence {
    /// The users by id, or `None` before the first lookup. The users found by it have not just
    /// joined.
    users: Option<BTreeMap<Arc<str>, Present>>,
    /// Whether a client was answered before the first lookup, so that all users found must be
    /// announced.
    is_awaited: bool,
    /// The users that are no longer published, but whose departure is not explained yet, and since
    /// when.
    unexplained: BTreeMap<Arc<str>, Instant>,
}

impl RemotePresence {
    /// Returns the number of users, and their bytes.
    pub(super) fn size(&self) -> Size {
        let users = self.users.as_ref().map_or(0, BTreeMap::len);
        let mut size = Size::of::<(Arc<str>, Present)>(users, users);
        let unexplained = self.unexplained.len();
        size += Size::of::<(Arc<str>, Instant)>(unexplained, unexplained);
        size
    }
}

/// The presence of a user in a conversation, as published to other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedPresence {
    /// The conversation.
    pub(crate) conversation_id: Uuid,
    /// The user's id.
    pub(crate) user_id: Arc<str>,
    /// The user's presence, or `None` if the user is no longer present.
    pub(crate) present: Option<SharedPresent>,
    /// The reason in that case.
    pub(crate) departure: Departure,
}

/// A user who is present or in the grace period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedPresent {
    /// The user's name.
    pub(crate) name: Arc<str>,
    /// The number of sockets, at least one: in the grace period the user counts as connected.
    pub(crate) connections: usize,
    /// The time since which the user is present.
    pub(crate) since: Time,
}

/// Returns the user in a row of another server.
pub(in crate::service) fn remote_present(row: &store::PresenceEntry) -> Present {
    Present {
        user: User {
            user_id: row.user_id.as_str().into(),
            name: row.name.as_str().into(),
        },
        guest: is_guest(&row.user_id),
        connections: usize::try_from(row.connections).unwrap_or(usize::MAX),
        since: row.since,
    }
}

impl RemotePresence {
    /// Returns whether the users were ever looked up.
    pub(in crate::service) fn is_known(&self) -> bool {
        self.users.is_some()
    }

    pub(in crate::service) fn has(&self, user: &str) -> bool {
        self.get(user).is_some()
    }

    pub(in crate::service) fn get(&self, user: &str) -> Option<&Present> {
        self.users.as_ref()?.get(user)
    }

    pub(in crate::service) fn users(&self) -> impl Iterator<Item = &Present> + Clone {
        self.users.iter().flat_map(BTreeMap::values)
    }

    /// Returns whether users still count as present because their departure is not explained yet.
    pub(in crate::service) fn is_unexplained(&self) -> bool {
        !self.unexplained.is_empty()
    }

    pub(in crate::service) fn len(&self) -> usize {
        self.users.as_ref().map_or(0, BTreeMap::len)
    }
}

impl Presence {
    /// Records that a client was answered before the first lookup, so that all users found by it
    /// are announced.
    pub(in crate::service) fn announce_unknown(&mut self) {
        self.remote_mut().is_awaited = true;
    }

    /// Replaces the users that other servers have here, and returns the notices to emit now.
    ///
    /// Two servers may have the same user. `reasons` maps departed users to the reported reasons.
    /// Users without a reason count as present for `timeout`, since the store may show a departure
    /// before its reason arrives.
    pub(in crate::service) fn set_remote(
        &mut self,
        now: Instant,
        rows: impl IntoIterator<Item = Present>,
        reasons: &Departures,
        timeout: Duration,
    ) -> Vec<Notice> {
        let mut users: BTreeMap<Arc<str>, Present> = BTreeMap::new();
        for row in rows {
            match users.get_mut(&row.user.user_id) {
                Some(known) => {
                    // A user may be connected to several other servers.
                    known.connections += row.connections;
                    known.since = known.since.min(row.since);
                }
                None => {
                    users.insert(Arc::clone(&row.user.user_id), row);
                }
            }
        }
        let is_first = self.remote().users.is_none() && !self.remote().is_awaited;
        let known = self.remote();
        let mut unexplained = BTreeMap::new();
        for present in known.users() {
            let user_id = &present.user.user_id;
            // A user needs no explanation if still present there or here, or if a reason was
            // reported.
            if users.contains_key(user_id) || reasons.contains_key(user_id) || self.is_here(user_id)
            {
                continue;
            }
            let since = known.unexplained.get(user_id).copied().unwrap_or(now);
            if now.saturating_duration_since(since) < timeout {
                unexplained.insert(Arc::clone(user_id), since);
                users.insert(Arc::clone(user_id), present.clone());
            }
        }
        let before = self.replace_remote(RemotePresence {
            users: Some(users),
            is_awaited: false,
            unexplained,
        });
        let before = before.users.unwrap_or_default();
        let after = self.remote();
        let mut notices = Vec::new();
        let mut differs = before.len() != after.len();
        for present in after.users() {
            let known = before.get(&present.user.user_id);
            differs |= known != Some(present);
            // On the first lookup all users are new to this server, but not to any client.
            if !is_first && known.is_none() && !self.is_here(&present.user.user_id) {
                notices.push(Notice::Joined(present.user.clone()));
            }
        }
        for (user_id, present) in before {
            if !after.has(&user_id) && !self.is_here(&user_id) {
                notices.push(match reasons.get(&user_id) {
                    Some(Departure::Left) => Notice::Left(present.user),
                    Some(Departure::Lost) | None => Notice::Disconnected(present.user),
                });
            }
        }
        if differs {
            self.list_changed(now);
        }
        let now_or_later = |notice| self.announce(now, notice);
        notices.into_iter().filter_map(now_or_later).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::chat::presence::conversation::PresenceConfig;
    use roomcast::SocketId;

    #[test]
    fn remote_users_of_the_first_lookup_are_listed_without_notices() {
        let (mut presence, now) = start();
        presence.join(now, socket(1), &user("ann"), since(3));
        assert_eq!(
            presence.set_remote(now, [row("bob", 2, 1)], &none(), NO_TIMEOUT),
            []
        );
        assert_eq!(listed(&presence), [("ann".into(), 1), ("bob".into(), 2)]);
        assert_eq!(presence.here(Uuid::nil()).users[1].since, since(1));
    }

    #[test]
    fn users_found_after_an_incomplete_reply_are_announced() {
        let (mut presence, now) = start();
        presence.join(now, socket(1), &user("ann"), since(3));
        presence.announce_unknown();
        let notices = presence.set_remote(now, [row("bob", 2, 1)], &none(), NO_TIMEOUT);
        assert_eq!(notices, [Notice::Joined(user("bob"))]);
        let notices = presence.set_remote(now, [], &none(), NO_TIMEOUT);
        assert_eq!(notices, [Notice::Disconnected(user("bob"))]);
    }

    #[test]
    fn remote_join_and_departure_are_announced_once() {
        let (mut presence, now) = start();
        presence.join(now, socket(1), &user("ann"), since(1));
        presence.set_remote(now, [], &none(), NO_TIMEOUT);
        let notices = presence.set_remote(now, [row("bob", 1, 1)], &none(), NO_TIMEOUT);
        assert_eq!(notices, [Notice::Joined(user("bob"))]);
        assert_eq!(
            presence.set_remote(now, [row("bob", 2, 1)], &none(), NO_TIMEOUT),
            []
        );
        let notices = presence.set_remote(now, [], &none(), NO_TIMEOUT);
        assert_eq!(notices, [Notice::Disconnected(user("bob"))]);
        assert_eq!(presence.set_remote(now, [], &none(), NO_TIMEOUT), []);
    }

    #[test]
    fn a_user_on_two_servers_is_one_user() {
        let (mut presence, now) = start();
        presence.set_remote(
            now,
            [row("ann", 1, 1), row("ann", 2, 3)],
            &none(),
            NO_TIMEOUT,
        );
        assert_eq!(
            presence.join(now, socket(1), &user("ann"), since(5)),
            None,
            "there already"
        );
        assert_eq!(listed(&presence), [("ann".into(), 4)]);
        assert_eq!(presence.here(Uuid::nil()).users[0].since, since(1));
        assert_eq!(
            presence.set_remote(now, [], &none(), NO_TIMEOUT),
            [],
            "still here"
        );
        presence.set_remote(now, [row("ann", 1, 1)], &none(), NO_TIMEOUT);
        assert_eq!(presence.leave(now, &socket(1), "ann"), None, "still there");
        let notices = presence.set_remote(now, [], &none(), NO_TIMEOUT);
        assert_eq!(notices, [Notice::Disconnected(user("ann"))]);
    }

    #[test]
    fn user_lost_here_and_present_elsewhere_causes_no_notice() {
        let (mut presence, now) = start();
        presence.set_remote(now, [], &none(), NO_TIMEOUT);
        presence.join(now, socket(1), &user("ann"), since(1));
        presence.lose(now, &socket(1), "ann");
        assert_eq!(
            presence.set_remote(now, [row("ann", 1, 2)], &none(), NO_TIMEOUT),
            []
        );
        let notices: Vec<_> =
            std::iter::from_fn(|| presence.handle_timeout(now + Duration::from_secs(60))).collect();
        assert!(notices.iter().all(|notice| *notice == Notice::List));
    }

    #[test]
    fn deliberate_remote_departure_is_announced_as_left() {
        let (mut presence, now) = start();
        presence.join(now, socket(1), &user("ann"), since(1));
        presence.set_remote(
            now,
            [row("bob", 1, 1), row("eve", 1, 1)],
            &none(),
            NO_TIMEOUT,
        );
        let left = BTreeMap::from(["bob", "ann"].map(|user| (user.into(), Departure::Left)));
        let notices = presence.set_remote(now, [], &left, NO_TIMEOUT);
        let expected = [Notice::Left(user("bob")), Notice::Disconnected(user("eve"))];
        assert_eq!(notices, expected);
    }

    #[test]
    fn missing_user_stays_present_until_explained_or_timed_out() {
        let (mut presence, now) = start();
        let timeout = Duration::from_millis(500);
        presence.join(now, socket(1), &user("ann"), since(1));
        let both = [row("bob", 1, 1), row("eve", 1, 1)];
        presence.set_remote(now, both, &none(), timeout);
        // A departure of another user, even from the same server, explains neither absence.
        let others = BTreeMap::from([("zoe".into(), Departure::Left)]);
        assert_eq!(presence.set_remote(now, [], &others, timeout), []);
        assert!(presence.remote().is_unexplained());
        let later = now + Duration::from_millis(300);
        let left = BTreeMap::from([("bob".into(), Departure::Left)]);
        let notices = presence.set_remote(later, [], &left, timeout);
        assert_eq!(notices, [Notice::Left(user("bob"))]);
        assert_eq!(presence.set_remote(later, [], &none(), timeout), []);
        let notices = presence.set_remote(now + timeout, [], &none(), timeout);
        assert_eq!(notices, [Notice::Disconnected(user("eve"))]);
        assert!(!presence.remote().is_unexplained());
    }

    #[test]
    fn user_reported_as_lost_departs_immediately() {
        let (mut presence, now) = start();
        let timeout = Duration::from_secs(2);
        presence.join(now, socket(1), &user("ann"), since(1));
        presence.set_remote(now, [row("bob", 1, 1)], &none(), timeout);
        let lost = BTreeMap::from([("bob".into(), Departure::Lost)]);
        let notices = presence.set_remote(now, [], &lost, timeout);
        assert_eq!(notices, [Notice::Disconnected(user("bob"))]);
        assert!(!presence.remote().is_unexplained());
    }

    const NO_TIMEOUT: Duration = Duration::ZERO;

    fn none() -> Departures {
        Departures::new()
    }

    fn start() -> (Presence, Instant) {
        let tempo = PresenceConfig {
            grace: Duration::from_secs(5),
            interval: Duration::from_millis(250),
            listed: 100,
            is_shared: true,
        };
        (Presence::new(tempo), Instant::now())
    }

    fn row(id: &str, connections: usize, second: u8) -> Present {
        Present {
            user: user(id),
            guest: false,
            connections,
            since: since(second),
        }
    }

    fn since(second: u8) -> Time {
        format!("2025-01-31T12:00:0{second}Z").parse().unwrap()
    }

    fn user(id: &str) -> User {
        User {
            user_id: id.into(),
            name: id.into(),
        }
    }

    fn socket(n: u32) -> SocketId {
        SocketId::parse(&format!("{n:020}")).unwrap()
    }

    fn listed(presence: &Presence) -> Vec<(String, usize)> {
        let users = presence.here(Uuid::nil()).users;
        users
            .iter()
            .map(|present| (present.user.user_id.to_string(), present.connections))
            .collect()
    }
}
