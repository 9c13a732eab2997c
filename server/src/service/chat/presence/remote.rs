//! Who is in one conversation on other servers, as data: what they have written down goes in, and
//! how it differs from before comes out.
//!
//! It does not know how servers tell one another. A server that is dead has nothing written down any
//! more, so its users are gone from what goes in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::auth::is_guest;
use crate::service::chat::presence::conversation::{Going, Notice, Presence};
use crate::service::rules::emissions::attendance::{Present, User};
use crate::store::{self, Time};

/// How users have gone, by what other servers have told of them.
pub(in crate::service) type Gone = BTreeMap<Arc<str>, Going>;

/// The users that other servers have in a conversation.
#[derive(Debug, Default)]
pub(in crate::service) struct RemotePresence {
    /// The users by their ids; none until they are known for the first time, since those who are
    /// found then have not just come.
    users: Option<BTreeMap<Arc<str>, Present>>,
    /// Whether a client was answered before they were known: it has to be told of all of them.
    is_awaited: bool,
    /// The users who are written down no longer, though nobody has told yet how they have gone, and since when.
    unexplained: BTreeMap<Arc<str>, Instant>,
}

/// What other servers have to know of a user in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedPresence {
    /// The conversation.
    pub(crate) conversation_id: Uuid,
    /// The user's id.
    pub(crate) user_id: Arc<str>,
    /// The user as it is here; none if it is not here any more.
    pub(crate) present: Option<SharedPresent>,
    /// How the user has gone then.
    pub(crate) going: Going,
}

/// A user who is here; during the grace after a lost connection as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedPresent {
    /// The user's name.
    pub(crate) name: Arc<str>,
    /// Sockets, at least one: during the grace the user counts as if it were still there.
    pub(crate) connections: usize,
    /// The time since which the user is here.
    pub(crate) since: Time,
}

/// Returns a user whom the store has at other servers.
pub(in crate::service) fn present_there(row: &store::Here) -> Present {
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
    /// Whether it was ever known who they are.
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

    /// Whether users still count as present because it may yet be told how they have gone.
    pub(in crate::service) fn is_unexplained(&self) -> bool {
        !self.unexplained.is_empty()
    }

    pub(in crate::service) fn len(&self) -> usize {
        self.users.as_ref().map_or(0, BTreeMap::len)
    }
}

impl Presence {
    /// Notes that a client was answered without knowing who is at other servers: all who are found there are announced.
    pub(in crate::service) fn announce_unknown(&mut self) {
        self.remote_mut().is_awaited = true;
    }

    /// Takes note of all users that other servers have here now; two servers may have the same one. Of those who
    /// are gone it was told of these how. Users of whom that was not told count as present for as long as `patience`, since what is
    /// written down may be seen before it is told. Says who has come and who has gone with that, as far as it is to be told now.
    pub(in crate::service) fn set_remote(
        &mut self,
        now: Instant,
        rows: impl IntoIterator<Item = Present>,
        told: &Gone,
        patience: Duration,
    ) -> Vec<Notice> {
        let mut users: BTreeMap<Arc<str>, Present> = BTreeMap::new();
        for row in rows {
            match users.get_mut(&row.user.user_id) {
                Some(known) => {
                    // A user may be connected to several of the other servers.
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
            // Nothing is unexplained about those who are still there, of whom it was told how they
            // have gone, or who are here themselves.
            if users.contains_key(user_id) || told.contains_key(user_id) || self.is_here(user_id) {
                continue;
            }
            let since = known.unexplained.get(user_id).copied().unwrap_or(now);
            if now.saturating_duration_since(since) < patience {
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
            // On the first look all of them are new to this server and to nobody else.
            if !is_first && known.is_none() && !self.is_here(&present.user.user_id) {
                notices.push(Notice::Joined(present.user.clone()));
            }
        }
        for (user_id, present) in before {
            if !after.has(&user_id) && !self.is_here(&user_id) {
                notices.push(match told.get(&user_id) {
                    Some(Going::Left) => Notice::Left(present.user),
                    Some(Going::Lost) | None => Notice::Disconnected(present.user),
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
    use crate::service::chat::presence::conversation::Tempo;
    use roomcast::SocketId;

    #[test]
    fn those_who_were_elsewhere_before_anybody_came_here_are_listed_and_not_announced() {
        let (mut presence, now) = start();
        presence.join(now, socket(1), &user("ann"), since(3));
        assert_eq!(
            presence.set_remote(now, [row("bob", 2, 1)], &none(), AT_ONCE),
            []
        );
        assert_eq!(listed(&presence), [("ann".into(), 1), ("bob".into(), 2)]);
        assert_eq!(presence.here(Uuid::nil()).users[1].since, since(1));
    }

    #[test]
    fn users_found_after_a_client_was_answered_without_them_are_announced() {
        let (mut presence, now) = start();
        presence.join(now, socket(1), &user("ann"), since(3));
        presence.announce_unknown();
        let notices = presence.set_remote(now, [row("bob", 2, 1)], &none(), AT_ONCE);
        assert_eq!(notices, [Notice::Joined(user("bob"))]);
        let notices = presence.set_remote(now, [], &none(), AT_ONCE);
        assert_eq!(notices, [Notice::Disconnected(user("bob"))]);
    }

    #[test]
    fn who_comes_or_goes_elsewhere_is_announced_once() {
        let (mut presence, now) = start();
        presence.join(now, socket(1), &user("ann"), since(1));
        presence.set_remote(now, [], &none(), AT_ONCE);
        let notices = presence.set_remote(now, [row("bob", 1, 1)], &none(), AT_ONCE);
        assert_eq!(notices, [Notice::Joined(user("bob"))]);
        assert_eq!(
            presence.set_remote(now, [row("bob", 2, 1)], &none(), AT_ONCE),
            []
        );
        let notices = presence.set_remote(now, [], &none(), AT_ONCE);
        assert_eq!(notices, [Notice::Disconnected(user("bob"))]);
        assert_eq!(presence.set_remote(now, [], &none(), AT_ONCE), []);
    }

    #[test]
    fn a_user_on_two_servers_is_one_user() {
        let (mut presence, now) = start();
        presence.set_remote(now, [row("ann", 1, 1), row("ann", 2, 3)], &none(), AT_ONCE);
        assert_eq!(
            presence.join(now, socket(1), &user("ann"), since(5)),
            None,
            "there already"
        );
        assert_eq!(listed(&presence), [("ann".into(), 4)]);
        assert_eq!(presence.here(Uuid::nil()).users[0].since, since(1));
        assert_eq!(
            presence.set_remote(now, [], &none(), AT_ONCE),
            [],
            "still here"
        );
        presence.set_remote(now, [row("ann", 1, 1)], &none(), AT_ONCE);
        assert_eq!(presence.leave(now, socket(1), "ann"), None, "still there");
        let gone = presence.set_remote(now, [], &none(), AT_ONCE);
        assert_eq!(gone, [Notice::Disconnected(user("ann"))]);
    }

    #[test]
    fn who_is_lost_here_and_back_on_another_server_is_not_announced() {
        let (mut presence, now) = start();
        presence.set_remote(now, [], &none(), AT_ONCE);
        presence.join(now, socket(1), &user("ann"), since(1));
        presence.lose(now, socket(1), "ann");
        assert_eq!(
            presence.set_remote(now, [row("ann", 1, 2)], &none(), AT_ONCE),
            []
        );
        let notices: Vec<_> =
            std::iter::from_fn(|| presence.handle_timeout(now + Duration::from_secs(60))).collect();
        assert!(notices.iter().all(|notice| *notice == Notice::List));
    }

    #[test]
    fn who_leaves_elsewhere_on_purpose_has_left() {
        let (mut presence, now) = start();
        presence.join(now, socket(1), &user("ann"), since(1));
        presence.set_remote(now, [row("bob", 1, 1), row("eve", 1, 1)], &none(), AT_ONCE);
        let left = BTreeMap::from(["bob", "ann"].map(|user| (user.into(), Going::Left)));
        let notices = presence.set_remote(now, [], &left, AT_ONCE);
        let expected = [Notice::Left(user("bob")), Notice::Disconnected(user("eve"))];
        assert_eq!(notices, expected);
    }

    #[test]
    fn who_is_gone_without_a_word_is_present_until_that_has_come_or_is_no_longer_waited_for() {
        let (mut presence, now) = start();
        let patience = Duration::from_millis(500);
        presence.join(now, socket(1), &user("ann"), since(1));
        let both = [row("bob", 1, 1), row("eve", 1, 1)];
        presence.set_remote(now, both, &none(), patience);
        // What is told of others explains nothing, not even by the same server.
        let others = BTreeMap::from([("zoe".into(), Going::Left)]);
        assert_eq!(presence.set_remote(now, [], &others, patience), []);
        assert!(presence.remote().is_unexplained());
        let soon = now + Duration::from_millis(300);
        let left = BTreeMap::from([("bob".into(), Going::Left)]);
        let notices = presence.set_remote(soon, [], &left, patience);
        assert_eq!(notices, [Notice::Left(user("bob"))]);
        assert_eq!(presence.set_remote(soon, [], &none(), patience), []);
        let notices = presence.set_remote(now + patience, [], &none(), patience);
        assert_eq!(notices, [Notice::Disconnected(user("eve"))]);
        assert!(!presence.remote().is_unexplained());
    }

    #[test]
    fn who_is_told_to_be_lost_is_waited_for_no_longer() {
        let (mut presence, now) = start();
        let patience = Duration::from_secs(2);
        presence.join(now, socket(1), &user("ann"), since(1));
        presence.set_remote(now, [row("bob", 1, 1)], &none(), patience);
        let lost = BTreeMap::from([("bob".into(), Going::Lost)]);
        let notices = presence.set_remote(now, [], &lost, patience);
        assert_eq!(notices, [Notice::Disconnected(user("bob"))]);
        assert!(!presence.remote().is_unexplained());
    }

    const AT_ONCE: Duration = Duration::ZERO;

    fn none() -> Gone {
        Gone::new()
    }

    fn start() -> (Presence, Instant) {
        let tempo = Tempo {
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
