//! The users in one conversation, as plain data: events and the time go in, notices come out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::auth::is_guest;
use crate::metrics::Size;
use crate::service::chat::presence::notices::Notices;
use crate::service::chat::presence::remote::{RemotePresence, SharedPresent};
use crate::service::rules::emissions::attendance::{Here, Present, User};
use crate::store::Time;
use roomcast::SocketId;

/// The timing and limits of presence.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct PresenceConfig {
    /// The grace period after which a user without a connection counts as disconnected.
    pub(in crate::service) grace: Duration,
    /// The minimum interval between two lists of users. Within it, at most two notices about one
    /// user are sent immediately.
    pub(in crate::service) interval: Duration,
    /// The maximum number of users in such a list, at most [`MAX_LISTED`].
    pub(in crate::service) listed: usize,
    /// Whether presence is published to other servers.
    pub(in crate::service) is_shared: bool,
}

/// The users of one conversation and their sockets in it.
#[derive(Debug)]
pub(in crate::service) struct Presence {
    tempo: PresenceConfig,
    users: HashMap<Arc<str>, PresentUser>,
    /// The users in the order of their arrival, by their `arrival` number.
    arrivals: BTreeMap<u64, Arc<str>>,
    next_arrival: u64,
    /// The total number of sockets of all users.
    sockets: usize,
    /// The users without a socket, by the end of their grace period. Each has `lost` set to it.
    lost: BTreeSet<(Instant, Arc<str>)>,
    list: List,
    notices: Notices,
    remote: RemotePresence,
    /// The users whose presence must be published. Always empty if presence is not published.
    changed: BTreeMap<Arc<str>, Departure>,
}

/// The entries of the users of one conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::service::chat) struct PresenceSizes {
    /// The users with their sockets on this server.
    pub(in crate::service::chat) users: Size,
    /// The users of other servers.
    pub(in crate::service::chat) remote: Size,
    /// The notices about users who join and leave.
    pub(in crate::service::chat) notices: Size,
    /// The users whose presence must be published.
    pub(in crate::service::chat) unpublished: Size,
}

impl Presence {
    /// Returns the sizes of all parts.
    pub(in crate::service::chat) fn sizes(&self) -> PresenceSizes {
        let arrivals = self.arrivals.len();
        let lost = self.lost.len();
        let users = Size::of_map(&self.users)
            .with_index(Size::of::<(u64, Arc<str>)>(arrivals, arrivals))
            .with_index(Size::of::<(Instant, Arc<str>)>(lost, lost))
            .with_index(Size::of::<SocketId>(self.sockets, self.sockets));
        let changed = self.changed.len();
        PresenceSizes {
            users,
            remote: self.remote.size(),
            notices: self.notices.size(),
            unpublished: Size::of::<(Arc<str>, Departure)>(changed, changed),
        }
    }
}

#[derive(Debug)]
struct PresentUser {
    name: Arc<str>,
    /// Few entries: the tabs of one person.
    sockets: Vec<SocketId>,
    arrival: u64,
    since: Time,
    lost: Option<Instant>,
    /// The number of changes of the conversation when its membership was last read.
    member_at: u64,
}

/// When the list of users is sent next.
#[derive(Debug)]
enum List {
    /// The list has not changed since it was last sent.
    Unchanged { last: Option<Instant> },
    /// The list has changed, and is due at this time.
    Due(Instant),
}

/// The reason why a user is no longer present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The user left deliberately.
    Left,
    /// The connection was lost.
    Lost,
}

/// A presence change to emit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) enum Notice {
    /// The user's first socket has joined.
    Joined(User),
    /// The user's last socket has left deliberately.
    Left(User),
    /// The user's last socket was lost, and none returned within the grace period.
    Disconnected(User),
    /// The list of users has changed.
    List,
}

impl Notice {
    /// Returns the user that the notice is about.
    pub(in crate::service) fn user(&self) -> Option<&User> {
        match self {
            Self::Joined(user) | Self::Left(user) | Self::Disconnected(user) => Some(user),
            Self::List => None,
        }
    }

    /// Returns whether a user has joined.
    pub(in crate::service) fn is_coming(&self) -> bool {
        matches!(self, Self::Joined(_))
    }
}

impl Presence {
    pub(in crate::service) fn new(tempo: PresenceConfig) -> Self {
        Self {
            tempo,
            users: HashMap::new(),
            arrivals: BTreeMap::new(),
            next_arrival: 0,
            sockets: 0,
            lost: BTreeSet::new(),
            list: List::Unchanged { last: None },
            notices: Notices::new(tempo.interval),
            remote: RemotePresence::default(),
            changed: BTreeMap::new(),
        }
    }

    /// Returns the total number of sockets of all users on this server.
    pub(in crate::service) fn connections(&self) -> usize {
        self.sockets
    }

    /// Returns the number of sockets in this conversation on all servers, as far as known here.
    pub(in crate::service) fn connections_everywhere(&self) -> usize {
        let others = self.remote.users().map(|user| user.connections);
        others.fold(self.sockets, usize::saturating_add)
    }

    /// Returns the sockets that a user has here.
    pub(in crate::service) fn sockets_of(&self, user: &str) -> &[SocketId] {
        self.users.get(user).map_or(&[], |tabs| &tabs.sockets)
    }

    /// Returns the users that are present or in their grace period.
    pub(in crate::service) fn users(&self) -> Vec<Arc<str>> {
        self.users.keys().cloned().collect()
    }

    /// Removes a user with all sockets, whether present or in the grace period.
    pub(in crate::service) fn expel(
        &mut self,
        now: Instant,
        user: &str,
    ) -> Option<(Vec<SocketId>, Option<Notice>)> {
        let tabs = self.users.get_mut(user)?;
        let sockets = std::mem::take(&mut tabs.sockets);
        self.sockets -= sockets.len();
        self.list_changed(now);
        let user = self.forget(user, Departure::Left)?;
        Some((sockets, self.announce(now, Notice::Left(user))))
    }

    /// Removes and returns the sockets of a user. The user stays in the list until
    /// [`Presence::expel`].
    pub(in crate::service) fn evict(&mut self, now: Instant, user: &str) -> Vec<SocketId> {
        let Some((user_id, tabs)) = self
            .users
            .get_key_value(user)
            .map(|(user_id, _)| Arc::clone(user_id))
            .and_then(|user_id| Some((user_id, self.users.get_mut(user)?)))
        else {
            return Vec::new();
        };
        let sockets = std::mem::take(&mut tabs.sockets);
        self.sockets -= sockets.len();
        // The end of the grace period would announce a loss before the removal.
        if let Some(end) = tabs.lost.take() {
            self.lost.remove(&(end, user_id));
        }
        self.list_changed(now);
        sockets
    }

    /// Records that a user was a member when the conversation had this number of changes.
    pub(in crate::service) fn note_member(&mut self, user: &str, changes: u64) {
        if let Some(tabs) = self.users.get_mut(user) {
            tabs.member_at = changes.max(tabs.member_at);
        }
    }

    /// Returns whether a user is known to be a member after a removal with this number, or is not
    /// here at all.
    pub(in crate::service) fn is_member_since(&self, user: &str, removal: u64) -> bool {
        let tabs = self.users.get(user);
        tabs.is_none_or(|tabs| tabs.member_at >= removal)
    }

    /// Returns whether the user's sockets were evicted: the user has none and is not in the grace
    /// period.
    pub(in crate::service) fn is_evicted(&self, user: &str) -> bool {
        let tabs = self.users.get(user);
        tabs.is_some_and(|tabs| tabs.sockets.is_empty() && tabs.lost.is_none())
    }

    /// Returns whether any user has a socket here or is in the grace period.
    pub(in crate::service) fn is_attended(&self) -> bool {
        self.sockets > 0 || !self.lost.is_empty()
    }

    /// Removes all users, and returns their sockets.
    pub(in crate::service) fn close(&mut self) -> Vec<SocketId> {
        let users = std::mem::take(&mut self.users);
        if self.tempo.is_shared {
            // The departures must still be published, so the changes outlive the conversation.
            let removed = users.keys().cloned().map(|user| (user, Departure::Lost));
            self.changed.extend(removed);
        }
        let changed = std::mem::take(&mut self.changed);
        *self = Self {
            changed,
            ..Self::new(self.tempo)
        };
        users.into_values().flat_map(|tabs| tabs.sockets).collect()
    }

    /// Returns the notice if it is to be emitted now. Otherwise it becomes due later, if it still
    /// holds then.
    pub(in crate::service) fn announce(&mut self, now: Instant, notice: Notice) -> Option<Notice> {
        self.notices.offer(now, notice, self.sockets)
    }

    /// Returns whether no user is present and nothing is left to announce.
    pub(in crate::service) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Records that a user's socket has joined. Repeating it changes nothing.
    pub(in crate::service) fn join(
        &mut self,
        now: Instant,
        socket: SocketId,
        user: &User,
        since: Time,
    ) -> Option<Notice> {
        let first = !self.users.contains_key(&user.user_id);
        if first {
            self.arrive(user, since);
        }
        let present = self.users.get_mut(&user.user_id)?;
        if present.sockets.contains(&socket) {
            return None;
        }
        // A user who returns within the grace period never counted as departed, so there is no
        // notice.
        if let Some(end) = present.lost.take() {
            self.lost.remove(&(end, Arc::clone(&user.user_id)));
        }
        present.name = Arc::clone(&user.name);
        present.sockets.push(socket);
        self.sockets += 1;
        self.list_changed(now);
        self.share(&user.user_id);
        // A user who has another tab here, or is present on another server, has not just joined.
        if !first || self.remote.has(&user.user_id) {
            return None;
        }
        self.announce(now, Notice::Joined(user.clone()))
    }

    fn arrive(&mut self, user: &User, since: Time) {
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        self.arrivals.insert(arrival, Arc::clone(&user.user_id));
        let tabs = PresentUser {
            name: Arc::clone(&user.name),
            sockets: Vec::new(),
            arrival,
            since,
            lost: None,
            member_at: 0,
        };
        self.users.insert(Arc::clone(&user.user_id), tabs);
    }

    /// Records that a user's socket has left or was closed deliberately.
    pub(in crate::service) fn leave(
        &mut self,
        now: Instant,
        socket: &SocketId,
        user: &str,
    ) -> Option<Notice> {
        if !self.remove(now, socket, user)? {
            return None;
        }
        let user = self.forget(user, Departure::Left)?;
        // The user is still present on another server, so nothing has changed for other users.
        if self.remote.has(&user.user_id) {
            return None;
        }
        self.announce(now, Notice::Left(user))
    }

    /// Records that a user's socket was lost. If it was the last, the grace period starts.
    pub(in crate::service) fn lose(&mut self, now: Instant, socket: &SocketId, user: &str) {
        if self.remove(now, socket, user) != Some(true) {
            return;
        }
        // The grace period starts with the last socket, because reloading a page loses one and
        // opens another.
        let end = now + self.tempo.grace;
        if let Some((user_id, _)) = self.users.get_key_value(user) {
            self.lost.insert((end, Arc::clone(user_id)));
        }
        if let Some(present) = self.users.get_mut(user) {
            present.lost = Some(end);
        }
    }

    /// Removes a socket and returns whether it was the user's last, or `None` if it was not here.
    fn remove(&mut self, now: Instant, socket: &SocketId, user: &str) -> Option<bool> {
        let present = self.users.get_mut(user)?;
        let place = present.sockets.iter().position(|own| own == socket)?;
        present.sockets.swap_remove(place);
        let last = present.sockets.is_empty();
        self.sockets -= 1;
        self.list_changed(now);
        self.share(user);
        Some(last)
    }

    fn forget(&mut self, user: &str, departure: Departure) -> Option<User> {
        let (user_id, present) = self.users.remove_entry(user)?;
        self.arrivals.remove(&present.arrival);
        if let Some(end) = present.lost {
            self.lost.remove(&(end, Arc::clone(&user_id)));
        }
        if self.tempo.is_shared {
            self.changed.insert(Arc::clone(&user_id), departure);
        }
        Some(User {
            user_id,
            name: present.name,
        })
    }

    /// Returns whether this socket of this user is here.
    pub(in crate::service) fn has(&self, socket: &SocketId, user: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|present| present.sockets.contains(socket))
    }

    /// Returns whether a user has a socket here.
    pub(in crate::service) fn is_connected(&self, user: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|present| !present.sockets.is_empty())
    }

    /// Returns when [`Presence::handle_timeout`] is due.
    pub(in crate::service) fn poll_timeout(&self) -> Option<Instant> {
        let lost = self.lost.first().map(|(end, _)| *end);
        let list = match self.list {
            List::Due(at) => Some(at),
            List::Unchanged { .. } => None,
        };
        let notice = self.notices.poll_timeout();
        lost.into_iter().chain(notice).chain(list).min()
    }

    /// Returns a notice that is due. Must be called until it returns `None`.
    pub(in crate::service) fn handle_timeout(&mut self, now: Instant) -> Option<Notice> {
        while let Some((end, _)) = self.lost.first()
            && *end <= now
        {
            let (_, user_id) = self.lost.pop_first()?;
            self.list_changed(now);
            let user = self.forget(&user_id, Departure::Lost)?;
            if !self.remote.has(&user_id)
                && let Some(notice) = self.announce(now, Notice::Disconnected(user))
            {
                return Some(notice);
            }
        }
        if let Some(notice) = self.notices.handle_timeout(now, self.sockets) {
            return Some(notice);
        }
        match self.list {
            List::Due(at) if at <= now => {
                self.list = List::Unchanged { last: Some(now) };
                Some(Notice::List)
            }
            List::Due(_) | List::Unchanged { .. } => None,
        }
    }

    /// Returns the present users: those of this server by arrival, then those that are only on
    /// other servers.
    ///
    /// `users` has at most [`MAX_LISTED`] entries.
    pub(in crate::service) fn here(&self, conversation_id: Uuid) -> Here {
        self.first_here(conversation_id, MAX_LISTED)
    }

    /// Returns the present users for clients that did not request them. `users` has fewer entries.
    pub(in crate::service) fn list(&self, conversation_id: Uuid) -> Here {
        self.first_here(conversation_id, self.tempo.listed.min(MAX_LISTED))
    }

    fn first_here(&self, conversation_id: Uuid, most: usize) -> Here {
        let present = |user_id: &Arc<str>| {
            let tabs = self.users.get(user_id)?;
            let also = self.remote.get(user_id);
            Some(Present {
                user: User {
                    user_id: Arc::clone(user_id),
                    name: Arc::clone(&tabs.name),
                },
                guest: is_guest(user_id),
                connections: tabs.sockets.len() + also.map_or(0, |also| also.connections),
                since: also.map_or(tabs.since, |also| tabs.since.min(also.since)),
            })
        };
        let here = self.arrivals.values().filter_map(present);
        let there = self.remote.users();
        let there = there.filter(|present| !self.users.contains_key(&present.user.user_id));
        Here {
            conversation_id,
            users: here.chain(there.clone().cloned()).take(most).collect(),
            count: self.users.len() + there.count(),
        }
    }

    /// Returns whether a user is here or in the grace period.
    pub(in crate::service) fn is_here(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    pub(in crate::service) fn remote(&self) -> &RemotePresence {
        &self.remote
    }

    pub(super) fn remote_mut(&mut self) -> &mut RemotePresence {
        &mut self.remote
    }

    pub(in crate::service) fn replace_remote(&mut self, remote: RemotePresence) -> RemotePresence {
        std::mem::replace(&mut self.remote, remote)
    }

    /// Takes the users whose presence must be published since the last call.
    pub(in crate::service) fn take_changed(&mut self) -> BTreeMap<Arc<str>, Departure> {
        std::mem::take(&mut self.changed)
    }

    /// Marks all present users to be published again.
    pub(in crate::service) fn share_all(&mut self) {
        if self.tempo.is_shared {
            let here = self
                .users
                .keys()
                .map(|user| (Arc::clone(user), Departure::Lost));
            self.changed.extend(here);
        }
    }

    /// Returns what is published of a user, or `None` if the user is not here.
    pub(in crate::service) fn shared(&self, user: &str) -> Option<SharedPresent> {
        let tabs = self.users.get(user)?;
        Some(SharedPresent {
            name: Arc::clone(&tabs.name),
            connections: tabs.sockets.len().max(1),
            since: tabs.since,
        })
    }

    /// Marks a user to be published.
    fn share(&mut self, user: &str) {
        if self.tempo.is_shared
            && let Some((user_id, _)) = self.users.get_key_value(user)
        {
            self.changed.insert(Arc::clone(user_id), Departure::Lost);
        }
    }

    /// Schedules the next list, but not too soon after the last one.
    pub(in crate::service) fn list_changed(&mut self, now: Instant) {
        if let List::Unchanged { last } = self.list {
            // A list sends each user to each socket, so large conversations get fewer lists.
            let pairs = (self.users.len() + self.remote.len())
                .min(self.tempo.listed)
                .saturating_mul(self.sockets);
            let pairs = u32::try_from(pairs).unwrap_or(u32::MAX);
            let interval = self.tempo.interval.max(PER_PAIR.saturating_mul(pairs));
            self.list = List::Due(last.map_or(now, |last| now.max(last + interval)));
        }
    }
}

/// The maximum number of users in an answer. `count` counts all of them.
pub(in crate::service) const MAX_LISTED: usize = 1000;

/// The time between two lists for each user and socket: about 10 MB/s of lists.
const PER_PAIR: Duration = Duration::from_micros(10);

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
