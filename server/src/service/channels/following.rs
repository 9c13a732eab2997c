//! Following channels, and reading their events.

use std::sync::Arc;
use std::time::SystemTime;

use super::continuing::FollowedChannels;
use super::emitting::{ChannelEmitter, is_room, room_of};
use super::history::{Start, read, unstored};
use super::kinds::Kind;
use super::position::{Positions, Sent};
use super::rights::Grant;
use super::{Channels, NO_CHANNEL, check_name};
use crate::metrics::Counter;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::join;
use crate::service::rules::commands::channels::{
    ChannelEvents, ReadAsService, ReadChannel, SubscribeChannel, UnsubscribeChannel,
};
use crate::service::rules::commands::streams::Held;
use crate::service::rules::content::{MAX_PAGE, page_limit};
use crate::service::rules::rooms::{RoomKind, room_named};
use roomcast::{Room, Socket};

/// A subscription whose events are not stored. It begins when this is dropped, once the answer is
/// queued, so that no event precedes the answer.
struct Joining {
    channels: Channels,
    socket: Socket,
    channel: String,
    grant: Option<Grant>,
}

impl Drop for Joining {
    fn drop(&mut self) {
        let (channels, socket, grant) = (&self.channels, &self.socket, self.grant.take());
        let (room, is_granted) = (room_of(&self.channel), grant.is_some());
        FollowedChannels::note(socket, &room, (&self.channel, grant));
        // The client may have been recovered since. If it is disconnected, it is told when it is.
        let Some(socket) = socket.namespace().socket(socket.id()) else {
            return;
        };
        // A socket that is in too many rooms does not follow, which its client is told below.
        let _ = join(&socket, &room);
        if is_granted {
            channels.end_in_time(&socket, SystemTime::now());
        }
        // The right may have ended since it was checked, and the kind may store its events by now.
        channels.recheck_one(&socket, &room);
        if !FollowedChannels::has(&socket, &room) {
            socket.leave(room);
        }
    }
}

impl Channels {
    /// Lets a socket follow a channel. The answer has the newest events, or those after a position.
    ///
    /// The answer precedes every later event. If there are more events after the position than fit
    /// into the answer, the socket does not follow yet. So a client never merges pages with events
    /// that arrive in the meantime.
    pub(crate) async fn subscribe(
        &self,
        allowed: Allowed<SubscribeChannel>,
        socket: &Socket,
    ) -> Result<Held<ChannelEvents>, ServiceError> {
        let (by, command) = allowed.into_parts();
        let SubscribeChannel {
            channel,
            since,
            token,
        } = command;
        // The form of a request is checked first: its error does not depend on the channel.
        check_name(&channel)?;
        let positions = self.positions(&channel);
        let start = start(&positions, since.as_deref(), None)?;
        let admitting = self.admit(&channel, &by, token.as_deref(), Kind::may_follow);
        let (kind, grant) = admitting.await?;
        self.follow((&channel, &kind), grant, start, socket).await
    }

    /// Lets a socket follow a channel of a kind, perhaps by a grant.
    pub(super) async fn follow(
        &self,
        (channel, kind): (&str, &Kind),
        grant: Option<Grant>,
        start: Start,
        socket: &Socket,
    ) -> Result<Held<ChannelEvents>, ServiceError> {
        let room = room_of(channel);
        self.check_bounds(kind, &room, socket)?;
        // No later event is emitted while the answer is held, so the list is read before.
        let present = self.present(kind, channel, socket).await;
        if !kind.is_stored {
            let mut answer = unstored(&self.positions(channel), start);
            answer.presence = present;
            // A right can end in the meantime.
            self.check_follows(channel, &socket.principal(), grant.as_ref())?;
            self.0.metrics.count(Counter::ChannelSubscriptions);
            let joining = Joining {
                channels: self.clone(),
                socket: socket.clone(),
                channel: channel.to_owned(),
                grant,
            };
            return Ok(Held {
                answer,
                held: Some(Box::new(joining)),
            });
        }
        let following = self.follow_stored((channel, kind), grant, start, socket);
        let mut held = following.await?;
        held.answer.presence = present.filter(|_| socket.is_in(room.as_str()));
        Ok(held)
    }

    /// Lets a socket follow a channel whose events are stored.
    pub(super) async fn follow_stored(
        &self,
        (channel, kind): (&str, &Kind),
        grant: Option<Grant>,
        start: Start,
        socket: &Socket,
    ) -> Result<Held<ChannelEvents>, ServiceError> {
        let (positions, room) = (self.positions(channel), room_of(channel));
        let emitter = Arc::new(ChannelEmitter {
            channel: channel.to_owned(),
            positions: positions.clone(),
            channels: Arc::downgrade(&self.0),
        });
        let journals = &self.0.journals;
        let reading = || async {
            let bounds = (kind.is_last, MAX_PAGE);
            let page = read(journals.store(), channel, &positions, start, bounds).await?;
            // A right can end while the events are read. After the join, a lost right ends it.
            self.check_follows(channel, &socket.principal(), grant.as_ref())?;
            // Others may have subscribed at the same time.
            self.check_bounds(kind, &room, socket)?;
            Ok(page)
        };
        let attaching = journals.attach(room.as_str().to_owned(), emitter, &room, socket, reading);
        let attached = attaching.await;
        match (socket.is_in(room.as_str()), attached.is_ok()) {
            (true, true) => FollowedChannels::note(socket, &room, (channel, grant.clone())),
            // The record of an earlier subscription holds.
            (true, false) => {}
            (false, _) => {
                FollowedChannels::forget(socket, &room);
            }
        }
        let (answer, permit) = attached?;
        if grant.is_some() {
            self.end_in_time(socket, SystemTime::now());
        }
        // A right can end in the meantime. After this check, its end ends the subscription.
        let checked = self.check_follows(channel, &socket.principal(), grant.as_ref());
        checked.inspect_err(|_| {
            socket.leave(&room);
            FollowedChannels::forget(socket, &room);
        })?;
        self.0.metrics.count(Counter::ChannelSubscriptions);
        Ok(Held {
            answer,
            held: Some(Box::new(permit)),
        })
    }

    /// Checks that a socket and its user follow few enough channels, and that few enough sockets
    /// follow the channel.
    fn check_bounds(&self, kind: &Kind, room: &Room, socket: &Socket) -> Result<(), ServiceError> {
        if socket.is_in(room.as_str()) {
            return Ok(());
        }
        let followed = |socket: &Socket| socket.rooms().into_iter().filter(is_room).count();
        let namespace = socket.namespace();
        let in_room = |room: Room| namespace.local().to(room);
        let own = room_named(RoomKind::User.prefix(), &socket.principal().subject);
        let (counter, message) =
            if is_reached(followed(socket), self.0.limits.channels_per_connection) {
                (Counter::ChannelsOfConnection, "follows too many channels")
            } else if in_room(room.clone()).count() >= kind.max_followers {
                let message = "the channel has too many followers";
                (Counter::ChannelFollowers, message)
            } else if is_reached(
                in_room(own).sockets().iter().map(followed).sum(),
                self.0.limits.channels_per_user,
            ) {
                let message = "the connections of the user follow too many channels";
                (Counter::ChannelsOfUser, message)
            } else {
                return Ok(());
            };
        self.0.metrics.count(counter);
        Err(ServiceError::Conflict(message))
    }

    /// Ends the subscription of a socket to a channel.
    pub(crate) fn unsubscribe(
        &self,
        allowed: Allowed<UnsubscribeChannel>,
        socket: &Socket,
    ) -> Result<(), ServiceError> {
        let (_, UnsubscribeChannel { channel }) = allowed.into_parts();
        check_name(&channel)?;
        // A name that is in no channel has no room either.
        let room = room_of(&channel);
        FollowedChannels::forget(socket, &room);
        socket.leave(room);
        Ok(())
    }

    /// Returns a page of the events of a channel that the sender may follow.
    pub(crate) async fn history(
        &self,
        allowed: Allowed<ReadChannel>,
    ) -> Result<ChannelEvents, ServiceError> {
        let (by, command) = allowed.into_parts();
        let ReadChannel {
            channel,
            since,
            before,
            limit,
            token,
        } = command;
        check_name(&channel)?;
        let page = self.requested(&channel, (since.as_deref(), before.as_deref()), limit)?;
        let admitting = self.admit(&channel, &by, token.as_deref(), Kind::may_read);
        let (kind, _) = admitting.await?;
        self.page(&kind, &channel, page).await
    }

    /// Returns a page of the events of any channel, for services.
    pub(crate) async fn history_for_service(
        &self,
        allowed: Allowed<ReadAsService>,
    ) -> Result<ChannelEvents, ServiceError> {
        let (_, ReadAsService { channel, page }) = allowed.into_parts();
        let bounds = (page.since.as_deref(), page.before.as_deref());
        let page = self.requested(&channel, bounds, page.limit)?;
        let (kind, _) = self.find(&channel).ok_or(NO_CHANNEL)?;
        self.page(&kind, &channel, page).await
    }

    /// Returns where the requested page begins, and how many events it has at most.
    fn requested(
        &self,
        channel: &str,
        (since, before): (Option<&str>, Option<&str>),
        limit: Option<usize>,
    ) -> Result<(Start, usize), ServiceError> {
        let limit = page_limit(limit)?;
        let positions = self.positions(channel);
        Ok((start(&positions, since, before)?, limit))
    }

    async fn page(
        &self,
        kind: &Kind,
        channel: &str,
        (start, limit): (Start, usize),
    ) -> Result<ChannelEvents, ServiceError> {
        let (store, positions) = (self.0.journals.store(), self.positions(channel));
        if !kind.is_stored {
            return Ok(unstored(&positions, start));
        }
        let bounds = (kind.is_last, limit);
        let page = read(store, channel, &positions, start, bounds).await?;
        Ok(page.read)
    }
}

/// Returns whether there are as many as a limit allows. Zero is no limit.
fn is_reached(count: usize, most: usize) -> bool {
    most > 0 && count >= most
}

/// Returns where a page begins.
fn start(
    positions: &Positions,
    since: Option<&str>,
    before: Option<&str>,
) -> Result<Start, ServiceError> {
    match (since, before) {
        (Some(_), Some(_)) => Err(ServiceError::invalid("before", "excludes since")),
        (Some(since), None) => Ok(Start::After(positions.parse("since", since)?)),
        (None, Some(before)) => match positions.parse("before", before)? {
            Sent::Here(place) => Ok(Start::Newest(Some(place.offset))),
            Sent::Elsewhere => Err(ServiceError::Unfit {
                field: "before".into(),
                problem: "is a position of an earlier database: leave it out",
            }),
        },
        (None, None) => Ok(Start::Newest(None)),
    }
}
