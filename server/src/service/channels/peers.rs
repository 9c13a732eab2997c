//! Requests about channels that every server of the store answers for itself.

use futures_util::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};

use super::Channels;
use super::presence::LocalFollowers;
use crate::service::cluster::{Announcer, answer_requests, request_peers};
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
                PeerAnswer::Subscribed(channels.subscribe_local(io, channel, user).await)
            }
            PeerRequest::Unsubscribe { channel, user } => {
                PeerAnswer::Ended(Channels::unsubscribe_local(io, channel, user))
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

    /// Changes subscriptions at all servers. Returns their number, and the number of servers that
    /// have not answered.
    pub(super) async fn change_everywhere(&self, io: &Io, request: &PeerRequest) -> (usize, usize) {
        let (answers, missing) = self.request_all(io, request).await;
        (answers.iter().map(PeerAnswer::changed).sum(), missing)
    }
}

/// The name of the event between servers.
const EVENT: &str = "channels";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::cluster::corpus::{STORE, contains_all, lines};
    use crate::service::cluster::{read, write};

    #[test]
    fn requests_and_answers_of_all_versions_are_read() {
        let mut read_lines = 0;
        for line in lines("questions.txt") {
            let again = match &*line.is {
                "channel question" => {
                    let request: PeerRequest = read(STORE, &line.text).unwrap();
                    write(STORE, &request)
                }
                "channel answer" => {
                    let answer: PeerAnswer = read(STORE, &line.text).unwrap();
                    write(STORE, &answer)
                }
                _ => continue,
            };
            let again = again.unwrap();
            assert!(contains_all(&line.text, &again), "{}: {again}", line.name);
            read_lines += 1;
        }
        assert_eq!(read_lines, 8, "one of each is in the corpus");
    }
}
