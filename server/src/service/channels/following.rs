//! Following channels, and reading their events.

use std::sync::Arc;
use std::time::SystemTime;

use super::continuing::FollowedChannels;
use super::emitting::{ChannelEmitter, is_room, room_of};
use super::kinds::Kind;
use super::position::{Positions, Sent};
use super::reading::{EventPage, Start, read};
use super::{Channels, NO_CHANNEL, check_name};
use crate::metrics::Counter;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::Attachment;
use crate::service::rules::commands::channels::{
    ChannelEvents, ReadAsService, ReadChannel, SubscribeChannel, UnsubscribeChannel,
};
use crate::service::rules::commands::streams::Held;
use crate::service::rules::content::{MAX_PAGE, page_limit};
use roomcast::Socket;

impl Channels {
    /// Lets a socket follow a channel. The answer has the newest events, or those after a position.
    ///
    /// The answer precedes every later event. If there are more events after the position than fit
    /// into the answer, the socket does not follow yet.
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
        let grant = self.grant(token.as_deref(), &by, &channel).await?;
        let kind = self.check_follows(&channel, &by, grant.as_ref())?;
        let room = room_of(&channel);
        if !socket.is_in(room.as_str()) {
            let followed = socket.rooms().into_iter().filter(is_room).count();
            if followed >= self.0.per_socket {
                return Err(ServiceError::Conflict("follows too many channels"));
            }
        }
        let emitter = Arc::new(ChannelEmitter {
            channel: channel.clone(),
            positions: positions.clone(),
            channels: Arc::downgrade(&self.0),
        });
        let journals = &self.0.journals;
        let reading = || async {
            let bounds = (kind.is_last, MAX_PAGE);
            let page = read(journals.store(), &channel, &positions, start, bounds).await?;
            let EventPage {
                revision,
                answer,
                is_behind,
            } = page;
            // A right can end while the events are read. After the join, a lost right ends it.
            self.check_follows(&channel, &socket.principal(), grant.as_ref())?;
            Ok(Attachment {
                revision,
                joins: !is_behind,
                read: answer,
            })
        };
        let attaching = journals.attach(room.as_str().to_owned(), emitter, &room, socket, reading);
        let attached = attaching.await;
        match (socket.is_in(room.as_str()), attached.is_ok()) {
            (true, true) => FollowedChannels::note(socket, &room, (&channel, grant.clone())),
            // The record of an earlier subscription holds.
            (true, false) => {}
            (false, _) => FollowedChannels::forget(socket, &room),
        }
        let (answer, permit) = attached?;
        let now = SystemTime::now();
        if let Err(lost) = self.check_follows(&channel, &socket.principal(), grant.as_ref()) {
            socket.leave(&room);
            FollowedChannels::forget(socket, &room);
            return Err(lost);
        }
        if grant.is_some() {
            self.end_in_time(socket, now);
        }
        self.0.metrics.count(Counter::ChannelSubscriptions);
        Ok(Held {
            answer,
            held: Some(Box::new(permit)),
        })
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
        let grant = self.grant(token.as_deref(), &by, &channel).await?;
        let found = self.find(&channel);
        let found = found.filter(|(kind, values)| kind.may_read(&by, values, grant.as_ref()));
        let (kind, _) = found.ok_or(NO_CHANNEL)?;
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
        let bounds = (kind.is_last, limit);
        let page = read(store, channel, &positions, start, bounds).await?;
        Ok(page.answer)
    }
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
