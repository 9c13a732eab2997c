//! The users who follow a channel, at all servers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::continuing::FollowedChannels;
use super::emitting::room_of;
use super::kinds::Kind;
use super::peers::{PeerAnswer, PeerRequest};
use super::{Channels, NO_CHANNEL, check_name};
use crate::auth::Principal;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::channels::{
    ChannelFollowers, ChannelPresence, GetChannelPresence, ReadPresence,
};
use crate::service::rules::emissions::attendance::{Present, User};
use crate::store::Time;
use roomcast::{Io, Socket};

/// The lists of followers that were requested a moment ago, by channel.
pub(super) type Lists = HashMap<String, Arc<List>>;

/// A list of followers.
pub(super) struct List {
    /// One permit: callers that ask together make the list once.
    making: Semaphore,
    /// The list, and when it was made.
    latest: Mutex<Option<(Instant, ChannelFollowers)>>,
}

/// The followers of a channel at one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LocalFollowers {
    users: Vec<Follower>,
    /// The number of users, including those that are not listed.
    count: usize,
}

/// A user who follows a channel at one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Follower {
    id: Arc<str>,
    name: Arc<str>,
    guest: bool,
    connections: usize,
    since: Time,
}

impl Channels {
    /// Returns the users who follow a channel that the sender may follow.
    pub(crate) async fn presence(
        &self,
        allowed: Allowed<GetChannelPresence>,
        socket: &Socket,
    ) -> Result<ChannelPresence, ServiceError> {
        let (by, GetChannelPresence { channel, token }) = allowed.into_parts();
        check_name(&channel)?;
        let admitting = self.admit(&channel, &by, token.as_deref(), Kind::may_follow);
        let (kind, _) = admitting.await?;
        if !kind.has_presence {
            return Err(NO_PRESENCE);
        }
        let followers = self.followers(socket.io(), &channel).await;
        Ok(ChannelPresence { channel, followers })
    }

    /// Returns the followers of a channel, with the user of a socket that begins to follow, if the
    /// kind has presence.
    pub(super) async fn present(
        &self,
        kind: &Kind,
        channel: &str,
        socket: &Socket,
    ) -> Option<ChannelFollowers> {
        if !kind.has_presence {
            return None;
        }
        let by = socket.principal();
        let mut followers = self.followers(socket.io(), channel).await;
        let mut users = followers.users.iter();
        let is_listed = users.any(|present| *present.user.user_id == *by.subject);
        // Among users that are not listed, it may be counted already.
        if !is_listed && followers.users.len() < MAX_LISTED {
            followers.count += 1;
            followers.users.push(Follower::new(&by, Time::now()).into());
        }
        Some(followers)
    }

    /// Returns the followers of a channel at all servers, at most [`AGE`] ago.
    async fn followers(&self, io: &Io, channel: &str) -> ChannelFollowers {
        let list = {
            let mut lists = self.0.lists.lock();
            if lists.len() >= MOST_LISTS && !lists.contains_key(channel) {
                // Others wait for a list that is in use.
                lists.retain(|_, list| Arc::strong_count(list) > 1);
            }
            let list = lists.entry(channel.to_owned()).or_insert_with(|| {
                let (making, latest) = (Semaphore::new(1), Mutex::default());
                Arc::new(List { making, latest })
            });
            Arc::clone(list)
        };
        let _permit = list.making.acquire().await;
        if let Some((made, followers)) = &*list.latest.lock()
            && made.elapsed() < AGE
        {
            return followers.clone();
        }
        let request = PeerRequest::Followers(channel.to_owned());
        let (answers, missing) = self.request_all(io, &request).await;
        let all = answers.into_iter().filter_map(PeerAnswer::followers);
        let followers = merged(all, missing);
        *list.latest.lock() = Some((Instant::now(), followers.clone()));
        followers
    }

    /// Returns the followers of a channel at this server.
    pub(super) fn local_followers(io: &Io, channel: &str) -> LocalFollowers {
        let room = room_of(channel);
        let mut users: HashMap<String, Follower> = HashMap::new();
        for socket in io.of("/").local().to(room.clone()).sockets() {
            let by = socket.principal();
            let since = FollowedChannels::known(&socket, &room, |known| known.since);
            let since = since.unwrap_or_else(Time::now);
            let user = users.entry(by.subject.clone());
            let user = user.or_insert_with(|| Follower {
                connections: 0,
                ..Follower::new(&by, since)
            });
            user.connections += 1;
            user.since = user.since.min(since);
        }
        let count = users.len();
        let mut users: Vec<Follower> = users.into_values().collect();
        users.sort_unstable_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
        users.truncate(MAX_LISTED);
        LocalFollowers { users, count }
    }
}

/// Returns the users who follow a channel, for services.
pub(crate) async fn read_presence(
    io: &Io,
    allowed: Allowed<ReadPresence>,
) -> Result<ChannelPresence, ServiceError> {
    let (_, ReadPresence { channel }) = allowed.into_parts();
    let channels = io.state::<Channels>();
    let (kind, _) = channels.find(&channel).ok_or(NO_CHANNEL)?;
    if !kind.has_presence {
        return Err(NO_PRESENCE);
    }
    let followers = channels.followers(io, &channel).await;
    Ok(ChannelPresence { channel, followers })
}

impl Follower {
    fn new(by: &Principal, since: Time) -> Self {
        Self {
            id: by.subject.as_str().into(),
            name: by.name.as_str().into(),
            guest: by.guest,
            connections: 1,
            since,
        }
    }
}

impl From<Follower> for Present {
    fn from(follower: Follower) -> Self {
        Self {
            user: User {
                user_id: follower.id,
                name: follower.name,
            },
            guest: follower.guest,
            connections: follower.connections,
            since: follower.since,
        }
    }
}

/// Returns the followers at all servers. A user at several servers counts once if it is listed.
fn merged(all: impl Iterator<Item = LocalFollowers>, missing: usize) -> ChannelFollowers {
    let mut users: BTreeMap<Arc<str>, Follower> = BTreeMap::new();
    let mut unlisted = 0;
    for local in all {
        unlisted += local.count.saturating_sub(local.users.len());
        for follower in local.users {
            match users.get_mut(&follower.id) {
                Some(known) => {
                    known.connections = known.connections.saturating_add(follower.connections);
                    known.since = known.since.min(follower.since);
                }
                None => {
                    users.insert(Arc::clone(&follower.id), follower);
                }
            }
        }
    }
    let count = users.len() + unlisted;
    let mut users: Vec<Follower> = users.into_values().collect();
    users.sort_by_key(|follower| follower.since);
    users.truncate(MAX_LISTED);
    ChannelFollowers {
        users: users.into_iter().map(Present::from).collect(),
        count,
        missing,
    }
}

const NO_PRESENCE: ServiceError = ServiceError::Conflict("the channel has no presence");
/// The maximum number of users in a list.
const MAX_LISTED: usize = 1000;
/// For how long a list is used again.
const AGE: Duration = Duration::from_secs(1);
/// The number of lists beyond which those that nobody waits for are forgotten.
const MOST_LISTS: usize = 256;

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn follower(id: &str, since: u64) -> Follower {
        Follower::new(&Principal::new(id), at(since))
    }

    fn at(seconds: u64) -> Time {
        Time::from(Timestamp::UNIX_EPOCH).after(Duration::from_secs(seconds))
    }

    #[test]
    fn user_at_several_servers_counts_once() {
        let here = LocalFollowers {
            users: vec![follower("ann", 5), follower("bob", 6)],
            count: 2,
        };
        let there = LocalFollowers {
            users: vec![follower("bob", 2), follower("carl", 3)],
            count: 12,
        };
        let all = merged([here, there].into_iter(), 1);
        let users = all.users.iter();
        let users: Vec<_> = users
            .map(|one| (&*one.user.user_id, one.connections, one.since))
            .collect();
        assert_eq!(
            users,
            [("bob", 2, at(2)), ("carl", 1, at(3)), ("ann", 1, at(5))]
        );
        assert_eq!((all.count, all.missing), (13, 1));
    }
}
