//! The channels that a socket follows: which of them it may still follow after its credentials or
//! its connection were replaced.

mod moving;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Channels;
use super::emitting::{is_room, room_of};
use super::rights::{Asker, Grant};
use crate::auth::Principal;
use crate::service::journals::{Arriving, SubscriptionKind};
use crate::service::rules::emissions::channels::{CHANNEL_ENDED, ChannelEnded, EndReason};
use crate::service::rules::rooms::Followed;
use crate::store::Time;
use roomcast::{Namespace, Room, Socket, SocketId};

/// The channels that a socket follows.
#[derive(Default)]
pub(super) struct FollowedChannels {
    known: Mutex<HashMap<Room, Known>>,
    /// The task that ends subscriptions whose right from a backend ends. It ends with this value.
    ending: Mutex<Option<JoinSet<()>>>,
}

/// What a socket has of a channel that it follows.
#[derive(Clone)]
pub(super) struct Known {
    /// The name of the channel. A long one is in no room name.
    pub(super) channel: String,
    /// The right from a backend.
    grant: Option<Grant>,
    /// Since when the socket follows.
    pub(super) since: Time,
}

impl Known {
    /// Returns whether a token or an answer no longer gives the right to follow.
    fn has_lost_grant(&self) -> bool {
        self.grant
            .as_ref()
            .is_some_and(|grant| !grant.is_in_force())
    }
}

impl FollowedChannels {
    /// Returns those of a socket that follows any, or has followed any.
    fn of(socket: &Socket) -> Option<Arc<Self>> {
        socket.data()
    }

    /// Notes a channel that the socket is about to follow, with the right from a backend.
    pub(super) fn note(socket: &Socket, room: &Room, new: (&str, Option<Grant>)) {
        let followed = Self::of(socket).or_else(|| {
            // A service and the client may subscribe at the same time.
            let _creating = CREATING.lock();
            if Self::of(socket).is_none() {
                socket.set_data(Self::default());
            }
            Self::of(socket)
        });
        let (channel, grant) = (new.0.to_owned(), new.1);
        if let Some(followed) = followed {
            let mut known = followed.known.lock();
            let since = known.get(room).map_or_else(Time::now, |known| known.since);
            known.insert(
                room.clone(),
                Known {
                    channel,
                    grant,
                    since,
                },
            );
        }
    }

    /// Returns what `read` returns of the channel that a socket follows in a room.
    pub(super) fn known<T>(
        socket: &Socket,
        room: &Room,
        read: impl FnOnce(&Known) -> T,
    ) -> Option<T> {
        let followed = Self::of(socket)?;
        let known = followed.known.lock();
        known.get(room).map(read)
    }

    /// Returns whether a socket follows the channel of a room.
    pub(super) fn has(socket: &Socket, room: &Room) -> bool {
        Self::known(socket, room, |_| ()).is_some()
    }

    /// Forgets a channel that the client knows it does not follow. Returns whether it was recorded.
    pub(super) fn forget(socket: &Socket, room: &Room) -> bool {
        // A recovered socket has the records of the lost one, whose requests may still be handled.
        let followed = Self::of(socket).filter(|_| socket.is_connected());
        followed.is_some_and(|followed| followed.known.lock().remove(room).is_some())
    }

    fn has_lost_grant(&self) -> bool {
        self.known.lock().values().any(Known::has_lost_grant)
    }

    /// Returns the channels that the client takes to be followed.
    fn all(&self) -> Vec<(Room, Known)> {
        let known = self.known.lock();
        let all = known.iter();
        all.map(|(room, known)| (room.clone(), known.clone()))
            .collect()
    }

    /// Returns when the next right from a backend ends after a time, if there is such a right. The
    /// user may still follow by another rule after earlier ends.
    fn next_end(&self, after: SystemTime) -> Option<SystemTime> {
        let known = self.known.lock();
        let ends = known
            .values()
            .filter_map(|known| known.grant.as_ref()?.until());
        // A right that was revoked at this moment has ended earlier.
        ends.map(|end| {
            if end > after {
                end
            } else {
                after + LONGEST_WAIT
            }
        })
        .min()
    }
}

/// Returns the channels that the client of a socket takes to be followed.
fn followed_by(socket: &Socket) -> Vec<(Room, Known)> {
    FollowedChannels::of(socket).map_or_else(Vec::new, |followed| followed.all())
}

impl Channels {
    /// Ends the subscriptions to channels that the user may no longer follow, after the credentials
    /// of the socket or the kinds were replaced.
    pub(super) fn recheck_permissions(&self, socket: &Socket) {
        end_where(socket, |_, known| self.lost_by(socket, known));
    }

    /// Ends the subscriptions at this server whose tokens or answers no longer give the right. The
    /// task of each socket does so as well, a moment later.
    pub(crate) fn end_revoked(&self, namespace: &Namespace) {
        end_at(namespace, |socket, _, known| {
            let has_lost_grant = known.has_lost_grant();
            has_lost_grant.then(|| self.lost_by(socket, known))?
        });
    }

    /// Ends all subscriptions to a channel at this server.
    pub(super) fn end_channel(&self, namespace: &Namespace, channel: &str, reason: EndReason) {
        let room = room_of(channel);
        let followers = namespace.local().to(room.clone());
        let recoveries = || self.0.recoveries.load(Ordering::SeqCst);
        let before = recoveries();
        for socket in followers.sockets() {
            end(&socket, &room, channel, reason);
        }
        // Those that are recovered later find that they are not in the room.
        followers.leave(room.clone());
        // A socket that was recovered in between has been in the room when it was checked.
        if recoveries() != before {
            end_at(namespace, |socket, other, _| {
                (*other == room && !socket.is_in(room.as_str())).then_some(reason)
            });
        }
    }

    /// Ends the subscription to one channel if it cannot continue.
    pub(super) fn recheck_one(&self, socket: &Socket, room: &Room) {
        if let Some(known) = FollowedChannels::known(socket, room, Known::clone)
            && let Some(reason) = self.end_reason(socket, room, &known)
        {
            end(socket, room, &known.channel, reason);
        }
    }

    /// Returns why a subscription cannot continue: the user may no longer follow, or this server
    /// does not emit the events of the channel to the socket. `None` if it can.
    pub(super) fn end_reason(
        &self,
        socket: &Socket,
        room: &Room,
        known: &Known,
    ) -> Option<EndReason> {
        self.lost_by(socket, known).or_else(|| {
            let found = self.find(&known.channel);
            let is_emitted = found.is_some_and(|(kind, _)| !kind.is_stored)
                || self.0.journals.is_followed(room.as_str(), room);
            let is_reached = socket.is_in(room.as_str()) && is_emitted;
            (!is_reached).then_some(EndReason::Interrupted)
        })
    }

    /// Returns why the user of a socket may no longer follow a channel. `None` if it may.
    fn lost_by(&self, socket: &Socket, known: &Known) -> Option<EndReason> {
        self.lost(&known.channel, &socket.principal(), known.grant.as_ref())
    }

    /// Returns why a user may not follow a channel, perhaps by a grant. `None` if it may.
    pub(super) fn lost(
        &self,
        channel: &str,
        by: &Principal,
        grant: Option<&Grant>,
    ) -> Option<EndReason> {
        let Some((kind, values)) = self.find(channel) else {
            return Some(EndReason::Removed);
        };
        if kind.may_follow(by, &values, grant) {
            return None;
        }
        let granted = grant.filter(|grant| kind.takes(grant));
        Some(granted.map_or(EndReason::Forbidden, Grant::end_reason))
    }

    /// Ends the subscriptions of a socket whose right comes from a backend, when the right ends or
    /// is revoked. Rights that have ended until `checked` are known to be checked.
    pub(super) fn end_in_time(&self, socket: &Socket, checked: SystemTime) {
        let Some(followed) = FollowedChannels::of(socket) else {
            return;
        };
        // Locked first: of concurrent calls, the last one must know all rights.
        let mut current = followed.ending.lock();
        let Some(mut end) = followed.next_end(checked) else {
            return;
        };
        let (channels, namespace, id) = (self.clone(), socket.namespace(), socket.id());
        let known = Arc::downgrade(&followed);
        let mut revoked = self.0.authenticator.revocations().added();
        // A revocation may have been added after the grants were checked.
        revoked.mark_changed();
        let mut answered = self.0.asker.as_ref().map(Asker::changed);
        if let Some(answered) = &mut answered {
            answered.mark_changed();
        }
        let mut ending = JoinSet::new();
        ending.spawn(async move {
            loop {
                let wait = end.duration_since(SystemTime::now()).unwrap_or_default();
                let is_over = tokio::select! {
                    // The senders outlive this task, so waiting never fails. Most changes are
                    // about others.
                    () = either(&mut revoked, answered.as_mut()) => false,
                    () = tokio::time::sleep(wait) => true,
                };
                let Some(followed) = known.upgrade() else {
                    return;
                };
                let now = SystemTime::now();
                if is_over || followed.has_lost_grant() {
                    channels.end_lost(&followed, &namespace, &id);
                }
                // An answer may end earlier than before.
                match followed.next_end(now) {
                    Some(next) => end = next,
                    None => return,
                }
            }
        });
        // A task that waits for another end stops.
        *current = Some(ending);
    }

    /// Ends the subscriptions of a socket whose right has ended.
    fn end_lost(&self, followed: &FollowedChannels, namespace: &Namespace, id: &SocketId) {
        match namespace.socket(id) {
            Some(socket) => self.recheck_permissions(&socket),
            // A disconnected but recoverable socket. When it is recovered, its client learns why.
            None => {
                let ended = followed.all().into_iter();
                for (room, _) in ended.filter(|(_, known)| known.has_lost_grant()) {
                    let own = Room::from(id.as_str());
                    namespace.local().to(own).leave(room);
                }
            }
        }
    }

    /// Ends all subscriptions that a backend or a service has allowed: it may have ended any of them
    /// while this server did not learn of it.
    pub(super) fn end_granted(&self, namespace: &Namespace) {
        if let Some(asker) = &self.0.asker {
            asker.revoke(|_| true);
        }
        end_at(namespace, |_, _, known| match known.grant {
            Some(Grant::Answer(_) | Grant::Service(_)) => Some(EndReason::Interrupted),
            Some(Grant::Token(_)) | None => None,
        });
    }

    /// Returns the rooms of the channels that the client of a socket takes to be followed, also
    /// those that the socket has left since it was disconnected.
    pub(crate) fn rooms_of(socket: &Socket) -> Vec<Room> {
        let followed = followed_by(socket).into_iter();
        followed.map(|(room, _)| room).collect()
    }
}

impl SubscriptionKind for Channels {
    /// Removes the socket from the channel, so that the position is that of the last event that was
    /// sent to it.
    fn followed(&self, room: &Room, socket: &Socket, _: &Principal) -> Option<Followed> {
        let known = FollowedChannels::known(socket, room, Known::clone);
        let Known { channel, grant, .. } = known?;
        let position = self.leave_at(room, &channel, socket);
        let grant = grant.as_ref().and_then(Grant::moved);
        Some(Followed::Declared {
            channel,
            position,
            grant,
        })
    }

    fn follows(&self, followed: &Followed, _: &Principal) -> bool {
        matches!(followed, Followed::Declared { .. })
    }

    /// The socket has received the missed events, unless it was removed from a channel, or this
    /// server has not followed it in the meantime.
    fn recovered<'a>(&'a self, socket: &'a Socket) -> BoxFuture<'a, ()> {
        Box::pin(async {
            self.0.recoveries.fetch_add(1, Ordering::SeqCst);
            let now = SystemTime::now();
            end_where(socket, |room, known| self.end_reason(socket, room, known));
            self.end_in_time(socket, now);
            // A room without a record would never be checked.
            for room in socket.rooms().into_iter().filter(is_room) {
                if !FollowedChannels::has(socket, &room) {
                    socket.leave(room);
                }
            }
        })
    }

    /// Sends the client what it has missed in its channels. If that is not known, or is too much,
    /// the client is told to subscribe again, from its own position.
    fn arrive<'a>(&'a self, socket: &'a Socket, followed: &'a [Followed]) -> Arriving<'a> {
        Box::pin(async move {
            self.resume_all(socket, followed).await;
            Ok(())
        })
    }

    fn recheck(&self, socket: &Socket) {
        self.recheck_permissions(socket);
    }
}

/// Held while the list of a socket is created.
static CREATING: Mutex<()> = Mutex::new(());
/// How long to wait for changes if no end is known.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Waits until one of these changes.
async fn either(one: &mut watch::Receiver<()>, other: Option<&mut watch::Receiver<()>>) {
    let Some(other) = other else {
        let _ = one.changed().await;
        return;
    };
    tokio::select! {
        _ = one.changed() => {}
        _ = other.changed() => {}
    }
}

/// Ends the subscriptions at this server for which `reason` returns why they end.
pub(super) fn end_at(
    namespace: &Namespace,
    reason: impl Fn(&Socket, &Room, &Known) -> Option<EndReason>,
) {
    for socket in namespace.local().sockets() {
        end_where(&socket, |room, known| reason(&socket, room, known));
    }
}

/// Ends the subscriptions of a socket for which `reason` returns why they end.
fn end_where(socket: &Socket, reason: impl Fn(&Room, &Known) -> Option<EndReason>) {
    for (room, known) in followed_by(socket) {
        if let Some(reason) = reason(&room, &known) {
            end(socket, &room, &known.channel, reason);
        }
    }
}

/// Removes a socket from a channel, and tells its client why, unless another task has done so.
pub(super) fn end(socket: &Socket, room: &Room, channel: &str, reason: EndReason) {
    socket.leave(room);
    if FollowedChannels::forget(socket, room) {
        let channel = channel.to_owned();
        CHANNEL_ENDED.emit_to(socket, &ChannelEnded { channel, reason });
    }
}
