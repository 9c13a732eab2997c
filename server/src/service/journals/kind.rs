//! Kinds of journals that clients follow, such as the trades of a user.
//!
//! A kind is a value of [`JournalKind`]. How sockets subscribe, unsubscribe, are recovered and
//! arrive from another server is the same for all kinds.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;

use super::snapshot::Bounds;
use super::{JournalEmitter, Journals, Snapshot, acquire, join, journal_of};
use crate::auth::{Principal, is_name};
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::NAME_CHARS;
use crate::service::rules::content::MAX_PAGE;
use crate::service::rules::emission::Emission;
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed};
use crate::service::rules::rooms::{Followed, room_named};
use crate::store::Time;
use roomcast::{Room, Socket};

/// A kind of subscriptions that continue when a socket is recovered or its client moves to another
/// server.
pub(in crate::service) trait SubscriptionKind: Send + Sync {
    /// Returns the subscription of a socket in a room, or `None` if the room is of another kind or
    /// its topic is unknown.
    fn followed(&self, room: &Room, socket: &Socket, by: &Principal) -> Option<Followed>;

    /// Returns whether a subscription from another server is of this kind and the user may continue
    /// it.
    fn follows(&self, followed: &Followed, by: &Principal) -> bool;

    /// Sends snapshots to a recovered socket for subscriptions whose missed updates were not
    /// replayed. A subscription that cannot continue ends, and the client is notified.
    fn recovered<'a>(&'a self, socket: &'a Socket) -> BoxFuture<'a, ()>;

    /// Restores the subscriptions of a client that moved here from another server, starting with a
    /// snapshot, or tells it to subscribe again.
    ///
    /// # Errors
    ///
    /// If the journals cannot be read, or the socket is in too many rooms.
    fn arrive<'a>(&'a self, socket: &'a Socket, followed: &'a [Followed]) -> Arriving<'a>;

    /// Ends subscriptions that the user may no longer have, after the credentials of the socket
    /// were replaced.
    fn recheck(&self, _socket: &Socket) {}
}

/// The restoration of subscriptions.
pub(in crate::service) type Arriving<'a> = BoxFuture<'a, Result<(), ServiceError>>;

/// A kind of journals. A socket follows topics of it, each in a room.
pub(in crate::service) struct JournalKind<S: 'static> {
    pub(in crate::service) journals: Journals,
    /// The prefix of the names of rooms and journals.
    pub(in crate::service) prefix: &'static str,
    pub(in crate::service) topics: Topics,
    /// The maximum number of open entries in a snapshot.
    pub(in crate::service) open: usize,
    /// The maximum number of newest entries in a snapshot. If `open` is not zero, of newest closed
    /// entries.
    pub(in crate::service) newest: usize,
    /// Whether a recovered socket receives the updates that it missed. If not, the newest state is
    /// enough.
    pub(in crate::service) is_replayed: bool,
    pub(in crate::service) emitter: Arc<dyn JournalEmitter>,
    /// The event that sends a snapshot to a socket.
    pub(in crate::service) subscribed: &'static Emission<Subscribed<S>>,
    pub(in crate::service) unsubscribed: &'static Emission<Unsubscribed>,
}

/// The topics of a kind of journals.
pub(in crate::service) enum Topics {
    /// The users. Each has a journal, which only the user follows.
    Users,
    /// The categories of a single journal, and the journal as a whole (`None`). A topic has many
    /// followers, so that they share a snapshot until a new entry is emitted.
    Categories(Option<CategoryRule>),
}

/// Returns whether a user may follow a category, or all of them. Without a rule, every user may.
pub(in crate::service) type CategoryRule =
    Box<dyn Fn(&Principal, Option<&str>) -> bool + Send + Sync>;

/// A user, a category, or `None` for a journal as a whole.
type Topic = Option<String>;

/// The source of a subscription's snapshot.
#[derive(Clone, Copy)]
enum SnapshotSource {
    /// What this server has emitted, optionally only after a revision that the client has.
    Emitted(Option<u64>),
    /// The store: the client was connected to another server, which can have emitted more.
    Store,
}

impl<S> JournalKind<S> {
    /// Unsubscribes a socket from a topic.
    pub(in crate::service) fn unsubscribe(
        &self,
        topic: Option<&str>,
        socket: &Socket,
    ) -> Unsubscribed {
        self.end(&self.room_of(topic), socket)
    }

    /// Returns the room of a topic.
    pub(in crate::service) fn room_of(&self, topic: Option<&str>) -> Room {
        room_of(self.prefix, topic)
    }

    /// Returns the rooms of this kind that a socket is in.
    pub(in crate::service) fn rooms(&self, socket: &Socket) -> Vec<Room> {
        let by = socket.principal();
        let mut rooms = socket.rooms();
        rooms.retain(|room| self.topic_in(room, &by).is_some() || self.is_hashed(room));
        rooms
    }

    /// Returns whether a user may follow a topic.
    pub(in crate::service) fn allows(&self, by: &Principal, topic: Option<&str>) -> bool {
        match &self.topics {
            Topics::Users => topic == Some(&by.subject),
            Topics::Categories(rule) => rule.as_ref().is_none_or(|rule| rule(by, topic)),
        }
    }

    /// Returns the name of the journal of a topic.
    pub(super) fn journal(&self, topic: Option<&str>) -> String {
        match self.topics {
            Topics::Users => journal_of(self.prefix, topic.unwrap_or_default()),
            Topics::Categories(_) => self.prefix.to_owned(),
        }
    }

    /// Returns the category of the entries of a topic in its journal.
    pub(super) fn category<'a>(&self, topic: Option<&'a str>) -> Option<&'a str> {
        topic.filter(|_| matches!(self.topics, Topics::Categories(_)))
    }

    /// Returns the topic of a room for a user. `None` if the room is of another kind, of another
    /// user, or has only the hash of a category.
    fn topic_in(&self, room: &Room, by: &Principal) -> Option<Topic> {
        let rest = room.as_str().strip_prefix(self.prefix)?;
        match self.topics {
            Topics::Users => {
                let own = Some(&*by.subject);
                (*room == self.room_of(own)).then(|| own.map(str::to_owned))
            }
            Topics::Categories(_) if rest.is_empty() => Some(None),
            Topics::Categories(_) => rest.strip_prefix(':').map(|topic| Some(topic.to_owned())),
        }
    }

    /// Returns whether a room has only the hash of a category in its name.
    fn is_hashed(&self, room: &Room) -> bool {
        let rest = room.as_str().strip_prefix(self.prefix);
        let is_hashed = rest.is_some_and(|rest| rest.starts_with('#'));
        is_hashed && matches!(self.topics, Topics::Categories(_))
    }

    /// Returns the topic of a room that a socket is in. `None` if it is unknown: the socket joined
    /// the room by another way than its client's subscription.
    fn topic(&self, room: &Room, socket: &Socket, by: &Principal) -> Option<Topic> {
        let hashed = || HashedTopics::of(socket).0.lock().get(room).cloned();
        self.topic_in(room, by).or_else(|| hashed().map(Some))
    }

    /// Returns the topic of a subscription from another server, if the user may follow it.
    fn continued(&self, followed: &Followed, by: &Principal) -> Option<Topic> {
        let topic = match (followed, &self.topics) {
            (Followed::Room(room), _) => self.topic_in(&Room::from(room.as_str()), by)?,
            (Followed::Channel { signals }, Topics::Categories(_))
                if is_name(signals, NAME_CHARS) =>
            {
                Some(signals.clone())
            }
            (Followed::Channel { .. } | Followed::Declared { .. }, _) => return None,
        };
        self.allows(by, topic.as_deref()).then_some(topic)
    }

    /// Ends the subscription of a socket in a room.
    fn end(&self, room: &Room, socket: &Socket) -> Unsubscribed {
        if self.is_hashed(room) {
            HashedTopics::of(socket).0.lock().remove(room);
        }
        socket.leave(room);
        let unsubscribed = Unsubscribed {
            room: room.as_str().to_owned(),
        };
        self.unsubscribed.emit_to(socket, &unsubscribed);
        unsubscribed
    }
}

impl<S: From<Snapshot> + Serialize> JournalKind<S> {
    /// Subscribes a socket to a topic: it receives a snapshot, then every later entry. The snapshot
    /// contains only entries after the revision `since`, if the client has one.
    ///
    /// Subscribing again sends a new snapshot.
    pub(in crate::service) async fn subscribe(
        &self,
        topic: Option<&str>,
        since: Option<u64>,
        socket: &Socket,
    ) -> Result<Subscribed<S>, ServiceError> {
        self.follow(topic, SnapshotSource::Emitted(since), socket)
            .await
    }

    async fn follow(
        &self,
        topic: Option<&str>,
        source: SnapshotSource,
        socket: &Socket,
    ) -> Result<Subscribed<S>, ServiceError> {
        let whole = Bounds {
            open: self.open,
            newest: self.newest,
            since: None,
        };
        let category = self.category(topic);
        let (since, is_shared) = match source {
            SnapshotSource::Emitted(since) => (since, matches!(self.topics, Topics::Categories(_))),
            SnapshotSource::Store => (None, false),
        };
        // A client that has a revision gets at most as many entries as a page has.
        let mut bounds = since.map_or(whole, |since| Bounds {
            open: 0,
            newest: MAX_PAGE,
            since: Some(since),
        });
        let (journals, room) = (&self.journals, self.room_of(topic));
        let followed = journals.follow(self.journal(topic), Arc::clone(&self.emitter), &room);
        let store = journals.store();
        let mut permit = acquire(&followed).await?;
        let view = loop {
            let current = bounds.current(&followed.name, category);
            // The client may have a later revision from another server than the snapshot stored
            // here.
            let cached = permit
                .cached(&current)
                .filter(|view| is_shared && bounds.is_within(view));
            let view = match cached {
                Some(view) => view.clone(),
                None => {
                    let view = store.journal(current.clone()).await?;
                    // The current followers first receive everything up to the snapshot, so that the
                    // socket joins the room at exactly that revision.
                    let namespace = socket.namespace();
                    permit.emit_through(&namespace, view.revision).await?;
                    if is_shared {
                        permit.cache(&current, &view);
                    }
                    view
                }
            };
            if bounds.is_within(&view) {
                break view;
            }
            // The client's revision is not of this journal, for example after a database restore.
            // The client needs a full snapshot.
            bounds = whole;
        };
        let counted = if followed.counts_open() && view.entries.len() > self.open {
            let (_, counted) = store.count_open(&followed.name, Time::now()).await?;
            counted
        } else {
            view.entries.len() as u64
        };
        let snapshot = Snapshot::of(view, bounds, (&followed.name, category));
        followed.note_room(&room);
        // The socket joins while the permit is held: no entry is emitted between the snapshot and
        // the join.
        join(socket, &room)?;
        let subscribed = Subscribed {
            room: room.as_str().to_owned(),
            snapshot: S::from(Snapshot {
                open: counted,
                ..snapshot
            }),
        };
        // The snapshot is queued while the permit is held, so that it precedes every update.
        self.subscribed.emit_to(socket, &subscribed);
        if let Some(topic) = topic.filter(|_| self.is_hashed(&room)) {
            HashedTopics::note(socket, &room, topic);
        }
        Ok(subscribed)
    }

    /// Sends a snapshot to a recovered socket, unless it has received all updates.
    async fn renew(&self, room: &Room, socket: &Socket) -> Result<(), ServiceError> {
        let by = socket.principal();
        let topic = self.topic(room, socket, &by);
        // The client may have reconnected with other credentials.
        if matches!(&topic, Some(topic) if !self.allows(&by, topic.as_deref())) {
            return Err(ServiceError::Denied("may no longer follow"));
        }
        let journal = self.journal(topic.as_ref().and_then(Option::as_deref));
        if self.is_replayed && self.journals.is_followed(&journal, room) {
            return Ok(());
        }
        let topic = topic.ok_or(ServiceError::NotFound("the topic of the room is unknown"))?;
        let following = self.follow(topic.as_deref(), SnapshotSource::Store, socket);
        following.await.map(drop)
    }
}

impl<S: From<Snapshot> + Serialize> SubscriptionKind for JournalKind<S> {
    fn followed(&self, room: &Room, socket: &Socket, by: &Principal) -> Option<Followed> {
        if self.is_hashed(room) {
            let signals = self.topic(room, socket, by)??;
            return Some(Followed::Channel { signals });
        }
        let topic = self.topic_in(room, by);
        topic.map(|_| Followed::Room(room.as_str().to_owned()))
    }

    fn follows(&self, followed: &Followed, by: &Principal) -> bool {
        self.continued(followed, by).is_some()
    }

    fn recovered<'a>(&'a self, socket: &'a Socket) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for room in self.rooms(socket) {
                if let Err(error) = self.renew(&room, socket).await {
                    tracing::debug!(%error, room = room.as_str(), "could not send a snapshot to a recovered socket, it is unsubscribed");
                    // Without a snapshot, the socket would take the next update for the whole
                    // state. A recovered client does not subscribe again by itself, so it is
                    // notified.
                    self.end(&room, socket);
                }
            }
        })
    }

    fn arrive<'a>(&'a self, socket: &'a Socket, followed: &'a [Followed]) -> Arriving<'a> {
        Box::pin(async move {
            let by = socket.principal();
            for topic in followed.iter().filter_map(|one| self.continued(one, &by)) {
                self.follow(topic.as_deref(), SnapshotSource::Store, socket)
                    .await?;
            }
            Ok(())
        })
    }

    fn recheck(&self, socket: &Socket) {
        if !matches!(self.topics, Topics::Categories(Some(_))) {
            return;
        }
        let by = socket.principal();
        for room in self.rooms(socket) {
            let topic = self.topic(&room, socket, &by);
            if !topic.is_some_and(|topic| self.allows(&by, topic.as_deref())) {
                self.end(&room, socket);
            }
        }
    }
}

/// The topics that a socket follows in rooms with hashed names. They are stored with the socket, so
/// that it can get a snapshot after recovery.
#[derive(Default)]
struct HashedTopics(Mutex<HashMap<Room, String>>);

impl HashedTopics {
    fn of(socket: &Socket) -> Arc<Self> {
        socket.data().unwrap_or_else(|| {
            socket.set_data(Self::default());
            socket.data().unwrap_or_default()
        })
    }

    /// Notes the topic of a joined room.
    fn note(socket: &Socket, room: &Room, topic: &str) {
        let known = Self::of(socket);
        let mut known = known.0.lock();
        // Rooms that the socket left in other ways than by request of its client are evicted as
        // well.
        known.retain(|room, _| socket.is_in(room.as_str()));
        known.insert(room.clone(), topic.to_owned());
    }
}

/// Returns the room of a topic of a kind with this prefix.
pub(in crate::service) fn room_of(prefix: &str, topic: Option<&str>) -> Room {
    topic.map_or_else(|| Room::from(prefix), |topic| room_named(prefix, topic))
}

#[cfg(test)]
mod tests {
    use roomcast::{Ack, Event, Io, testing};

    use super::*;

    #[tokio::test]
    async fn socket_stores_the_topics_of_hashed_rooms() {
        let io = Io::builder().namespace("/", |namespace| {
            namespace.on("join", async |event: Event, topic: String| {
                let room = room_of("signals", Some(&topic));
                let joined = event.socket.join(&room).is_ok();
                HashedTopics::note(&event.socket, &room, &topic);
                Ack(joined)
            })
        });
        let server = testing::serve(io).await;
        let ann = server.client().connect().await.unwrap();
        let topics: Vec<String> = (0..3).map(|n| format!("{n}{}", "ü".repeat(127))).collect();
        for topic in &topics {
            assert!(ann.emit_with_ack::<bool>("join", topic).await.unwrap());
        }
        let socket = server.io().of("/").socket(ann.id()).unwrap();
        let known = || {
            let known = HashedTopics::of(&socket);
            let mut known: Vec<_> = known.0.lock().values().cloned().collect();
            known.sort_unstable();
            known
        };
        assert_eq!(known(), topics);
        // The topic of a room that the socket left is evicted.
        socket.leave(room_of("signals", Some(&topics[0])));
        let second = room_of("signals", Some(&topics[1]));
        HashedTopics::note(&socket, &second, &topics[1]);
        assert_eq!(known(), topics[1..]);
    }
}
