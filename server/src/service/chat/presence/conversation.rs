//! Who is in one conversation, as data: events and the time go in, announcements come out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::auth::is_guest;
use crate::service::chat::presence::notices::Notices;
use crate::service::chat::presence::remote::{RemotePresence, SharedPresent};
use crate::service::rules::emissions::attendance::{Here, Present, User};
use crate::store::Time;
use roomcast::SocketId;

/// How presence behaves.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Tempo {
    /// How long a user who lost the last connection still counts as present.
    pub(in crate::service) grace: Duration,
    /// The shortest time between two lists of those present, and in which a user is told of twice.
    pub(in crate::service) interval: Duration,
    /// How many users such a list names, at most [`MAX_LISTED`].
    pub(in crate::service) listed: usize,
    /// Whether other servers are told who is here.
    pub(in crate::service) is_shared: bool,
}

/// The users of one conversation and their sockets there.
#[derive(Debug)]
pub(in crate::service) struct Presence {
    tempo: Tempo,
    users: HashMap<Arc<str>, Tabs>,
    /// The users in the order in which they came, by their `arrival`.
    arrivals: BTreeMap<u64, Arc<str>>,
    next_arrival: u64,
    /// How many sockets all users have together.
    sockets: usize,
    /// The users without a socket, by the end of their grace. Each has `lost` set to it.
    lost: BTreeSet<(Instant, Arc<str>)>,
    list: List,
    notices: Notices,
    remote: RemotePresence,
    /// Whom other servers have to be told of; always empty if they are not.
    changed: BTreeMap<Arc<str>, Going>,
}

#[derive(Debug)]
struct Tabs {
    name: Arc<str>,
    /// Few: the tabs of one person.
    sockets: Vec<SocketId>,
    arrival: u64,
    since: Time,
    lost: Option<Instant>,
    /// The number of changes of the conversation when its membership was last read.
    member_at: u64,
}

/// When the list of those present is sent next.
#[derive(Debug)]
enum List {
    /// Nothing has changed since the last one.
    Unchanged { last: Option<Instant> },
    /// Something has changed, and the next list is due at this time.
    Due(Instant),
}

/// How a user has gone who is not here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Going {
    /// On purpose.
    Left,
    /// The connection was lost without a word.
    Lost,
}

/// What the others have to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) enum Notice {
    /// The user's first socket came.
    Joined(User),
    /// The user's last socket went on purpose.
    Left(User),
    /// The user's last socket was lost, and none came back in time.
    Disconnected(User),
    /// The list of those present has changed.
    List,
}

impl Notice {
    /// Who has come or gone.
    pub(in crate::service) fn user(&self) -> Option<&User> {
        match self {
            Self::Joined(user) | Self::Left(user) | Self::Disconnected(user) => Some(user),
            Self::List => None,
        }
    }

    /// Whether somebody has come.
    pub(in crate::service) fn is_coming(&self) -> bool {
        matches!(self, Self::Joined(_))
    }
}

impl Presence {
    pub(in crate::service) fn new(tempo: Tempo) -> Self {
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

    /// How many sockets all users have here together.
    pub(in crate::service) fn connections(&self) -> usize {
        self.sockets
    }

    /// Sockets in this conversation at all servers, as far as this one knows.
    pub(in crate::service) fn connections_everywhere(&self) -> usize {
        let others = self.remote.users().map(|user| user.connections);
        others.fold(self.sockets, usize::saturating_add)
    }

    /// The sockets that a user has here.
    pub(in crate::service) fn sockets_of(&self, user: &str) -> &[SocketId] {
        self.users.get(user).map_or(&[], |tabs| &tabs.sockets)
    }

    /// The users who are here, or were lost and may come back.
    pub(in crate::service) fn users(&self) -> Vec<Arc<str>> {
        self.users.keys().cloned().collect()
    }

    /// Takes a user out with all sockets, whether they are here or lost.
    pub(in crate::service) fn expel(
        &mut self,
        now: Instant,
        user: &str,
    ) -> Option<(Vec<SocketId>, Option<Notice>)> {
        let tabs = self.users.get_mut(user)?;
        let sockets = std::mem::take(&mut tabs.sockets);
        self.sockets -= sockets.len();
        self.list_changed(now);
        let user = self.forget(user, Going::Left)?;
        Some((sockets, self.announce(now, Notice::Left(user))))
    }

    /// Takes the sockets of a user out and returns them. The user stays in the list until [`Presence::expel`].
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
        // The end of the grace would announce a loss before the removal.
        if let Some(end) = tabs.lost.take() {
            self.lost.remove(&(end, user_id));
        }
        self.list_changed(now);
        sockets
    }

    /// Notes that a user was a member when the conversation had so many changes.
    pub(in crate::service) fn note_member(&mut self, user: &str, changes: u64) {
        if let Some(tabs) = self.users.get_mut(user) {
            tabs.member_at = changes.max(tabs.member_at);
        }
    }

    /// Returns whether a user is known to be a member after a removal with this number, or is not here at all.
    pub(in crate::service) fn is_member_since(&self, user: &str, removal: u64) -> bool {
        let tabs = self.users.get(user);
        tabs.is_none_or(|tabs| tabs.member_at >= removal)
    }

    /// Returns whether a user has no socket and none can come back: the sockets were evicted.
    pub(in crate::service) fn is_evicted(&self, user: &str) -> bool {
        let tabs = self.users.get(user);
        tabs.is_some_and(|tabs| tabs.sockets.is_empty() && tabs.lost.is_none())
    }

    /// Returns whether a user has a socket here or may come back within the grace.
    pub(in crate::service) fn is_attended(&self) -> bool {
        self.sockets > 0 || !self.lost.is_empty()
    }

    /// Takes everybody out, and returns their sockets.
    pub(in crate::service) fn close(&mut self) -> Vec<SocketId> {
        let users = std::mem::take(&mut self.users);
        if self.tempo.is_shared {
            // Other servers still have to be told that nobody is here, so the changes outlive the
            // conversation's end.
            let gone = users.keys().cloned().map(|user| (user, Going::Lost));
            self.changed.extend(gone);
        }
        let changed = std::mem::take(&mut self.changed);
        *self = Self {
            changed,
            ..Self::new(self.tempo)
        };
        users.into_values().flat_map(|tabs| tabs.sockets).collect()
    }

    /// What is to be told of this now; otherwise it will be due later, if it is still true then.
    pub(in crate::service) fn announce(&mut self, now: Instant, notice: Notice) -> Option<Notice> {
        self.notices.offer(now, notice, self.sockets)
    }

    /// Whether nobody is here and nothing is left to be announced to anybody.
    pub(in crate::service) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// A user's socket came. Doing so twice changes nothing.
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
        // Whoever comes back within the grace was never gone for the others, so nothing is told.
        if let Some(end) = present.lost.take() {
            self.lost.remove(&(end, Arc::clone(&user.user_id)));
        }
        present.name = Arc::clone(&user.name);
        present.sockets.push(socket);
        self.sockets += 1;
        self.list_changed(now);
        self.share(&user.user_id);
        // A user who is here with another tab, or at another server, has not just come.
        if !first || self.remote.has(&user.user_id) {
            return None;
        }
        self.announce(now, Notice::Joined(user.clone()))
    }

    fn arrive(&mut self, user: &User, since: Time) {
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        self.arrivals.insert(arrival, Arc::clone(&user.user_id));
        let tabs = Tabs {
            name: Arc::clone(&user.name),
            sockets: Vec::new(),
            arrival,
            since,
            lost: None,
            member_at: 0,
        };
        self.users.insert(Arc::clone(&user.user_id), tabs);
    }

    /// A user's socket left, or ended on purpose.
    pub(in crate::service) fn leave(
        &mut self,
        now: Instant,
        socket: SocketId,
        user: &str,
    ) -> Option<Notice> {
        if !self.remove(now, socket, user)? {
            return None;
        }
        let user = self.forget(user, Going::Left)?;
        // The user is still present at another server, so for the others nothing has changed.
        if self.remote.has(&user.user_id) {
            return None;
        }
        self.announce(now, Notice::Left(user))
    }

    /// A user's socket was lost; if it was the last, the user has the grace to come back.
    pub(in crate::service) fn lose(&mut self, now: Instant, socket: SocketId, user: &str) {
        if self.remove(now, socket, user) != Some(true) {
            return;
        }
        // The grace starts with the last socket, because a page that is reloaded loses one and
        // opens another.
        let end = now + self.tempo.grace;
        if let Some((user_id, _)) = self.users.get_key_value(user) {
            self.lost.insert((end, Arc::clone(user_id)));
        }
        if let Some(present) = self.users.get_mut(user) {
            present.lost = Some(end);
        }
    }

    /// Removes a socket and says whether it was the user's last; none if it was not here.
    fn remove(&mut self, now: Instant, socket: SocketId, user: &str) -> Option<bool> {
        let present = self.users.get_mut(user)?;
        let place = present.sockets.iter().position(|own| *own == socket)?;
        present.sockets.swap_remove(place);
        let last = present.sockets.is_empty();
        self.sockets -= 1;
        self.list_changed(now);
        self.share(user);
        Some(last)
    }

    fn forget(&mut self, user: &str, going: Going) -> Option<User> {
        let (user_id, present) = self.users.remove_entry(user)?;
        self.arrivals.remove(&present.arrival);
        if let Some(end) = present.lost {
            self.lost.remove(&(end, Arc::clone(&user_id)));
        }
        if self.tempo.is_shared {
            self.changed.insert(Arc::clone(&user_id), going);
        }
        Some(User {
            user_id,
            name: present.name,
        })
    }

    /// Whether this socket of this user is here.
    pub(in crate::service) fn has(&self, socket: SocketId, user: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|present| present.sockets.contains(&socket))
    }

    /// Whether a user has a socket here.
    pub(in crate::service) fn is_connected(&self, user: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|present| !present.sockets.is_empty())
    }

    /// When [`Presence::handle_timeout`] has something to do.
    pub(in crate::service) fn poll_timeout(&self) -> Option<Instant> {
        let lost = self.lost.first().map(|(end, _)| *end);
        let list = match self.list {
            List::Due(at) => Some(at),
            List::Unchanged { .. } => None,
        };
        let notice = self.notices.poll_timeout();
        lost.into_iter().chain(notice).chain(list).min()
    }

    /// What is due; call it until there is nothing.
    pub(in crate::service) fn handle_timeout(&mut self, now: Instant) -> Option<Notice> {
        while let Some((end, _)) = self.lost.first()
            && *end <= now
        {
            let (_, user_id) = self.lost.pop_first()?;
            self.list_changed(now);
            let user = self.forget(&user_id, Going::Lost)?;
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

    /// Who is here, those who came first at the front, then those who are on other servers only;
    /// `users` ends at [`MAX_LISTED`].
    pub(in crate::service) fn here(&self, conversation_id: Uuid) -> Here {
        self.first_here(conversation_id, MAX_LISTED)
    }

    /// Who is here, for those who did not ask for it; `users` ends earlier.
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

    /// Whether a user is here, or may come back within the grace.
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

    /// The users of whom other servers have to be told since this was asked last.
    pub(in crate::service) fn take_changed(&mut self) -> BTreeMap<Arc<str>, Going> {
        std::mem::take(&mut self.changed)
    }

    /// All who are here have to be told to other servers again.
    pub(in crate::service) fn share_all(&mut self) {
        if self.tempo.is_shared {
            let here = self
                .users
                .keys()
                .map(|user| (Arc::clone(user), Going::Lost));
            self.changed.extend(here);
        }
    }

    /// What other servers have to know of a user; none says that it is not here.
    pub(in crate::service) fn shared(&self, user: &str) -> Option<SharedPresent> {
        let tabs = self.users.get(user)?;
        Some(SharedPresent {
            name: Arc::clone(&tabs.name),
            connections: tabs.sockets.len().max(1),
            since: tabs.since,
        })
    }

    /// Notes that other servers have to be told of a user.
    fn share(&mut self, user: &str) {
        if self.tempo.is_shared
            && let Some((user_id, _)) = self.users.get_key_value(user)
        {
            self.changed.insert(Arc::clone(user_id), Going::Lost);
        }
    }

    /// The list has to be sent again, but not too soon after the last one.
    pub(in crate::service) fn list_changed(&mut self, now: Instant) {
        if let List::Unchanged { last } = self.list {
            // A list names each user to each socket, so in large conversations it is sent less often.
            let pairs = (self.users.len() + self.remote.len())
                .min(self.tempo.listed)
                .saturating_mul(self.sockets);
            let pairs = u32::try_from(pairs).unwrap_or(u32::MAX);
            let interval = self.tempo.interval.max(PER_PAIR.saturating_mul(pairs));
            self.list = List::Due(last.map_or(now, |last| now.max(last + interval)));
        }
    }
}

/// How many users an answer names; `count` counts them all.
pub(in crate::service) const MAX_LISTED: usize = 1000;

/// Time between two lists for each user named to each socket: about 10 MB/s of lists.
const PER_PAIR: Duration = Duration::from_micros(10);

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
