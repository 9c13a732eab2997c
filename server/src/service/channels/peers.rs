//! Requests about channels that every server of the store answers for itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Channels;
use super::presence::LocalFollowers;
use crate::metrics::Size;
use crate::service::cluster::{Announcer, answer_requests, request_peers};
use crate::service::fault::ServiceError;
use crate::service::feed::{Applied, Applier, Applying, Entries};
use crate::service::journals::write;
use crate::service::rules::commands::channels::EndedSubscriptions;
use crate::store::Feed;
use roomcast::{Builder, Io};

/// A request to a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum PeerRequest {
    /// The followers of a channel.
    Followers(String),
    /// The answers of the backend about a channel are void.
    Revoke {
        channel: String,
        /// Only those about this user.
        user: Option<String>,
    },
    /// A channel that stores nothing is deleted.
    Delete(String),
    /// A service subscribes the sockets of a user.
    Subscribe { channel: String, user: String },
    /// A service ends the subscriptions of a user's sockets.
    Unsubscribe { channel: String, user: String },
    /// A request that also arrives through the store, and is handled once.
    Once { id: Uuid, request: Box<Self> },
}

/// The answer of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum PeerAnswer {
    Followers(LocalFollowers),
    /// The number of ended subscriptions.
    Ended(usize),
    /// The number of sockets that follow since then.
    Subscribed(usize),
}

impl PeerAnswer {
    pub(super) fn followers(self) -> Option<LocalFollowers> {
        match self {
            Self::Followers(followers) => Some(followers),
            Self::Ended(_) | Self::Subscribed(_) => None,
        }
    }

    fn changed(&self) -> usize {
        match self {
            Self::Ended(changed) | Self::Subscribed(changed) => *changed,
            Self::Followers(_) => 0,
        }
    }
}

/// Registers the handler for requests of other servers. Must be called only in a cluster.
pub(crate) fn answer_channel_peers(io: Builder, announcer: &Announcer) -> Builder {
    answer_requests(io, announcer, EVENT, |io, request| async move {
        Some(answer(&io, &request).await)
    })
}

/// Returns the answer of this server. A subscription may ask the other servers in its turn.
fn answer<'a>(io: &'a Io, request: &'a PeerRequest) -> BoxFuture<'a, PeerAnswer> {
    let answer = async move {
        match request {
            PeerRequest::Followers(channel) => {
                PeerAnswer::Followers(Channels::local_followers(io, channel))
            }
            PeerRequest::Revoke { channel, user } => {
                let channels = io.state::<Channels>();
                PeerAnswer::Ended(channels.revoke_local(io, channel, user.as_deref()))
            }
            PeerRequest::Delete(channel) => PeerAnswer::Ended(Channels::end_local(io, channel)),
            PeerRequest::Subscribe { channel, user } => {
                let channels = io.state::<Channels>();
                channels.0.handled.lock().subscribe(channel, user);
                PeerAnswer::Subscribed(channels.subscribe_local(io, channel, user).await)
            }
            PeerRequest::Unsubscribe { channel, user } => {
                PeerAnswer::Ended(Channels::unsubscribe_local(io, channel, user))
            }
            PeerRequest::Once { id, request } => {
                let is_new = io.state::<Channels>().0.handled.lock().add(*id, request);
                match is_new {
                    true => answer(io, request).await,
                    false => PeerAnswer::Ended(0),
                }
            }
        }
    };
    answer.boxed()
}

impl Channels {
    /// Returns the answers of all servers, and the number of those that have not answered.
    pub(super) async fn request_all(
        &self,
        io: &Io,
        request: &PeerRequest,
    ) -> (Vec<PeerAnswer>, usize) {
        let mut answers = vec![answer(io, request).await];
        let announcer = self.0.announcer.as_ref();
        let (others, missing) = request_peers(io, announcer, EVENT, request).await;
        answers.extend(others);
        (answers, missing)
    }

    /// Ends subscriptions at all servers, like [`change_everywhere`](Self::change_everywhere). A
    /// server that the broker does not reach learns of it from the store.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub(super) async fn end_everywhere(
        &self,
        io: &Io,
        request: PeerRequest,
    ) -> Result<EndedSubscriptions, ServiceError> {
        let (id, request) = (Uuid::now_v7(), Box::new(request));
        let once = PeerRequest::Once { id, request };
        let (ended, missing) = self.change_everywhere(io, &once).await;
        let store = self.0.journals.store();
        store.add_change(TOPIC, &write(&once)).await?;
        Ok(EndedSubscriptions { ended, missing })
    }

    /// Changes subscriptions at all servers. Returns their number, and the number of servers that
    /// have not answered.
    pub(super) async fn change_everywhere(&self, io: &Io, request: &PeerRequest) -> (usize, usize) {
        let (answers, missing) = self.request_all(io, request).await;
        (answers.iter().map(PeerAnswer::changed).sum(), missing)
    }
}

/// The newest requests that this server has handled.
#[derive(Debug, Default)]
pub(super) struct Handled(VecDeque<HandledRequest>);

#[derive(Debug)]
struct HandledRequest {
    id: Uuid,
    at: Instant,
    /// The channel and the user whose subscriptions a service has ended.
    unsubscribed: Option<(String, String)>,
}

impl HandledRequest {
    fn has_unsubscribed(&self, channel: &str, user: &str) -> bool {
        let unsubscribed = self.unsubscribed.as_ref();
        unsubscribed.is_some_and(|(of, by)| of == channel && by == user)
    }
}

impl Handled {
    /// Adds a request. Returns whether it is new.
    fn add(&mut self, id: Uuid, request: &PeerRequest) -> bool {
        if self.0.iter().any(|known| known.id == id) {
            return false;
        }
        if self.0.len() >= MOST_HANDLED {
            self.0.pop_front();
        }
        let mut unsubscribed = None;
        if let PeerRequest::Unsubscribe { channel, user } = request {
            unsubscribed = Some((channel.clone(), user.clone()));
        }
        self.0.push_back(HandledRequest {
            id,
            at: Instant::now(),
            unsubscribed,
        });
        true
    }

    /// Returns whether a service may have ended a user's subscription while the client moved to this
    /// server.
    pub(super) fn has_unsubscribed(&self, channel: &str, user: &str) -> bool {
        let is_recent = |one: &&HandledRequest| one.at.elapsed() < LONGEST_MOVE;
        // Recent requests may have been removed from the list.
        let is_full = self.0.len() >= MOST_HANDLED && self.0.front().filter(is_recent).is_some();
        let mut recent = self.0.iter().filter(is_recent);
        is_full || recent.any(|one| one.has_unsubscribed(channel, user))
    }

    /// Notes that a service subscribes a user again.
    fn subscribe(&mut self, channel: &str, user: &str) {
        let ended = self.0.iter_mut();
        for one in ended.filter(|one| one.has_unsubscribed(channel, user)) {
            one.unsubscribed = None;
        }
    }

    pub(super) fn size(&self) -> Size {
        Size::of::<HandledRequest>(self.0.len(), self.0.capacity())
    }
}

/// Ends subscriptions that another server has ended while the broker did not reach this one.
pub(crate) struct ChannelEnds(pub(crate) Io);

impl Applier for ChannelEnds {
    fn topic(&self) -> &'static str {
        TOPIC
    }

    fn has_table(&self) -> bool {
        false
    }

    fn apply<'a>(&'a self, _: &'a Feed, changed: &'a Entries) -> Applying<'a> {
        Box::pin(async move {
            match changed {
                Entries::All => {
                    let channels = self.0.state::<Channels>();
                    channels.end_granted(&self.0.of("/"));
                }
                Entries::These(requests) => {
                    for request in requests {
                        // A server of another version may have written it.
                        if let Ok(request) = serde_json::from_str(request) {
                            answer(&self.0, &request).await;
                        }
                    }
                }
            }
            Ok(Applied::default())
        })
    }
}

/// The number of handled requests that are known. A request arrives through the store a second or
/// two after it was sent.
const MOST_HANDLED: usize = 2000;
/// The time after which a client that has left a server has arrived at another one, or starts a new
/// session.
const LONGEST_MOVE: Duration = Duration::from_secs(60);
/// The topic of ended subscriptions in the change feed. The keys are requests.
const TOPIC: &str = "channel_ends";
/// The name of the event between servers.
const EVENT: &str = "channels";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::cluster::corpus::read_back;

    #[test]
    fn ended_subscriptions_of_a_user_are_known_for_a_while() {
        let mut handled = Handled::default();
        let user = |user: &str| PeerRequest::Unsubscribe {
            channel: "rooms:1".to_owned(),
            user: user.to_owned(),
        };
        let id = Uuid::now_v7();
        assert!(handled.add(id, &user("7")) && !handled.add(id, &user("8")));
        assert!(handled.has_unsubscribed("rooms:1", "7"));
        assert!(!handled.has_unsubscribed("rooms:1", "8"));
        assert!(!handled.has_unsubscribed("rooms:2", "7"));
        handled.subscribe("rooms:1", "7");
        assert!(!handled.has_unsubscribed("rooms:1", "7"));
        for _ in 0..MOST_HANDLED {
            handled.add(Uuid::now_v7(), &user("8"));
        }
        // The list may have lost the request of any user.
        assert!(handled.has_unsubscribed("rooms:2", "7"));
    }

    #[test]
    fn requests_and_answers_of_all_versions_are_read() {
        const FILE: &str = "questions.txt";
        assert_eq!(read_back::<PeerRequest>(FILE, "channel question"), 6);
        assert_eq!(read_back::<PeerAnswer>(FILE, "channel answer"), 3);
    }
}
