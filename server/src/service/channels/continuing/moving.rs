//! Channels of a client that moves to another server.
//!
//! The old server removes the socket from the room of a channel between two events, so the frames
//! that it retains end at a known position. The new server checks the right again, sends the events
//! after that position, and lets the socket follow from there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::{FollowedChannels, end};
use crate::service::channels::Channels;
use crate::service::channels::emitting::{emit_missed, is_deletion, room_of};
use crate::service::channels::history::Start;
use crate::service::channels::kinds::Kind;
use crate::service::channels::position::{Place, Sent};
use crate::service::channels::rights::Grant;
use crate::service::fault::ServiceError;
use crate::service::rules::emissions::channels::EndReason;
use crate::service::rules::rooms::{Followed, MovedGrant};
use crate::store::StoreError;
use roomcast::{Room, Socket};

impl Channels {
    /// Removes a socket from a channel. Returns the position of the last event that was sent to it,
    /// or `None` if it is not known.
    pub(super) fn leave_at(&self, room: &Room, channel: &str, socket: &Socket) -> Option<String> {
        let reached = self.0.journals.leave(room.as_str(), room, socket)?;
        let place = Place::new(reached.revision, reached.created_at);
        Some(self.positions(channel).of_place(place))
    }

    /// Continues the subscriptions of a client that comes from another server. Those that cannot
    /// continue end, with the reason.
    pub(super) async fn resume_all(&self, socket: &Socket, followed: &[Followed]) {
        let sent = &AtomicUsize::new(0);
        let deadline = Instant::now() + RESUME_TIMEOUT;
        let resuming = stream::iter(followed).for_each_concurrent(READERS, async |one| {
            let Followed::Declared {
                channel,
                position,
                grant,
            } = one
            else {
                return;
            };
            let moved = (position.as_deref(), grant.as_ref());
            let resumed = timeout_at(deadline, self.resume(socket, channel, moved, sent)).await;
            if let Err(reason) = resumed.unwrap_or(Err(INTERRUPTED)) {
                let room = room_of(channel);
                // The client takes the channel to be followed, even if this server never did.
                FollowedChannels::note(socket, &room, (channel, None));
                end(socket, &room, channel, reason);
            }
        });
        resuming.await;
    }

    /// Lets a socket follow a channel again, after the events that it has missed. `sent` counts the
    /// bytes of missed events in all channels of the socket.
    ///
    /// # Errors
    ///
    /// The reason why the subscription ends.
    async fn resume(
        &self,
        socket: &Socket,
        channel: &str,
        (position, grant): (Option<&str>, Option<&MovedGrant>),
        sent: &AtomicUsize,
    ) -> Result<(), EndReason> {
        let by = socket.principal();
        let revocations = self.0.authenticator.revocations();
        let grant = grant.map(|grant| Grant::from_moved(grant, &by, revocations));
        // Otherwise the backend or the store does not answer, or there are too many followers.
        let reason = |error, grant: Option<&Grant>| {
            let is_lost = matches!(error, ServiceError::NotFound(_));
            let lost = is_lost.then(|| self.lost(channel, &by, grant));
            lost.flatten().unwrap_or(INTERRUPTED)
        };
        let admitting = self.admit_with(channel, &by, grant.clone(), Kind::may_follow);
        let admitted = admitting.await;
        let (kind, grant) = admitted.map_err(|error| reason(error, grant.as_ref()))?;
        let positions = self.positions(channel);
        let position = position.filter(|_| kind.is_stored);
        let position = position.and_then(|text| positions.parse("position", text).ok());
        let Some(Sent::Here(place)) = position else {
            return Err(INTERRUPTED);
        };
        let start = Start::After(Sent::Here(place));
        let following = self.follow_stored((channel, &kind), grant.clone(), start, socket);
        let held = following.await;
        let held = held.map_err(|error| reason(error, grant.as_ref()))?;
        let answer = &held.answer;
        let bytes = answer.events.iter();
        let bytes: usize = bytes
            .map(|event| event.data.get().len() + EVENT_BYTES)
            .sum();
        let is_too_much = sent.fetch_add(bytes, Ordering::Relaxed) + bytes > MISSED_BYTES;
        // The request of a service finds no socket of a client that is between two servers.
        let is_unsubscribed = self.0.handled.lock().has_unsubscribed(channel, &by.subject);
        // The database may have lost its newest commits.
        let reached = positions.parse("position", &answer.position);
        let is_reached = matches!(reached, Ok(Sent::Here(now)) if now.offset >= place.offset);
        let is_whole = is_reached && !answer.forgotten && !answer.has_more;
        let is_gapless = is_whole && !is_too_much && !is_unsubscribed;
        if !is_gapless {
            // Before `held` is dropped: a later event would move the position of the client.
            socket.leave(room_of(channel));
        }
        let may_be_deleted = answer.forgotten || kind.is_last && !answer.events.is_empty();
        if may_be_deleted && self.is_deleted_after(channel, place.offset).await == Ok(true) {
            socket.leave(room_of(channel));
            return Err(EndReason::Deleted);
        }
        if !is_gapless {
            return Err(INTERRUPTED);
        }
        // Another task may have ended the subscription. No later event is emitted before `held` is
        // dropped.
        if socket.is_in(room_of(channel).as_str()) {
            emit_missed(socket, channel, kind.is_last, &answer.events);
        }
        Ok(())
    }

    /// Returns whether a channel was deleted after an offset. A deletion removes all earlier events.
    async fn is_deleted_after(&self, channel: &str, offset: u64) -> Result<bool, StoreError> {
        let (store, room) = (self.0.journals.store(), room_of(channel));
        let first = store.journal_after(room.as_str(), offset, u64::MAX, 1);
        let first = first.await?;
        Ok(first.first().is_some_and(is_deletion))
    }
}

/// The maximum duration until all subscriptions of a socket have continued. A slow backend only ends
/// those that it decides about.
const RESUME_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of channels that are read concurrently for one socket.
const READERS: usize = 8;
/// The maximum size in bytes of all missed events that are sent to one socket. Half of what may wait
/// for a client by default.
const MISSED_BYTES: usize = 512 << 10;
/// The size of an event besides its data, in bytes, without a long id.
const EVENT_BYTES: usize = 256;
/// The reason why a client must subscribe again, from its own position.
const INTERRUPTED: EndReason = EndReason::Interrupted;
