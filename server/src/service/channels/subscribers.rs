//! Subscriptions that services begin and end for users.

use std::time::Duration;

use super::continuing::{FollowedChannels, end};
use super::emitting::room_of;
use super::history::Start;
use super::peers::PeerRequest;
use super::rights::Grant;
use super::{Channels, NO_CHANNEL};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::channels::{
    EndedSubscriptions, SubscribeUser, UnsubscribeUser, UserSubscriptions,
};
use crate::service::rules::content::check_user_id;
use crate::service::rules::emissions::channels::{
    CHANNEL_SUBSCRIBED, ChannelSubscribed, EndReason,
};
use crate::service::rules::rooms::{RoomKind, room_named};
use roomcast::{Io, Room, Socket};

/// Subscribes the connected sockets of a user, at all servers.
pub(crate) async fn subscribe_user(
    io: &Io,
    allowed: Allowed<SubscribeUser>,
) -> Result<UserSubscriptions, ServiceError> {
    let (_, SubscribeUser { channel, new }) = allowed.into_parts();
    let user = new.user_id;
    check_user_id("userId", &user)?;
    let channels = io.state::<Channels>();
    let (kind, _) = channels.find(&channel).ok_or(NO_CHANNEL)?;
    if !kind.takes(&Grant::Service(user.clone())) {
        let problem = "the kind of the channel has no rule `services` in `follow`";
        return Err(ServiceError::Conflict(problem));
    }
    let request = PeerRequest::Subscribe { channel, user };
    let (subscribed, missing) = channels.change_everywhere(io, &request).await;
    Ok(UserSubscriptions {
        subscribed,
        missing,
    })
}

/// Ends the subscriptions of all sockets of a user, at all servers.
pub(crate) async fn unsubscribe_user(
    io: &Io,
    allowed: Allowed<UnsubscribeUser>,
) -> Result<EndedSubscriptions, ServiceError> {
    let (_, UnsubscribeUser { channel, user }) = allowed.into_parts();
    check_user_id("userId", &user)?;
    let channels = io.state::<Channels>();
    channels.find(&channel).ok_or(NO_CHANNEL)?;
    let request = PeerRequest::Unsubscribe { channel, user };
    channels.end_everywhere(io, request).await
}

impl Channels {
    /// Subscribes the sockets of a user at this server. Returns how many follow the channel then.
    pub(super) async fn subscribe_local(&self, io: &Io, channel: &str, user: &str) -> usize {
        let mut following = 0;
        for socket in io.of("/").local().to(room_of_user(user)).sockets() {
            match self.subscribe_socket(channel, user, &socket).await {
                Ok(()) => following += 1,
                Err(error) => tracing::debug!(%error, "a service could not subscribe a socket"),
            }
        }
        following
    }

    /// Subscribes a socket, and sends it the newest events, unless it follows the channel already.
    async fn subscribe_socket(
        &self,
        channel: &str,
        user: &str,
        socket: &Socket,
    ) -> Result<(), ServiceError> {
        let room = room_of(channel);
        if socket.is_in(room.as_str()) {
            return Ok(());
        }
        let grant = Some(Grant::Service(user.to_owned()));
        let (kind, values) = self.find(channel).ok_or(NO_CHANNEL)?;
        if !kind.may_follow(&socket.principal(), &values, grant.as_ref()) {
            return Err(NO_CHANNEL);
        }
        let following = self.follow((channel, &kind), grant, Start::Newest(None), socket);
        let held = following.await?;
        // A socket that was disconnected in the meantime does not follow. If its client was recovered
        // already, it would receive the event.
        if kind.is_stored && !FollowedChannels::has(socket, &room) {
            return Err(ServiceError::unavailable(Duration::ZERO));
        }
        let subscribed = ChannelSubscribed {
            channel: channel.to_owned(),
            events: held.answer,
        };
        // No later event is emitted before `held` is dropped.
        CHANNEL_SUBSCRIBED.emit_to(socket, &subscribed);
        Ok(())
    }

    /// Ends the subscriptions of a user's sockets at this server. Returns their number.
    pub(super) fn unsubscribe_local(io: &Io, channel: &str, user: &str) -> usize {
        let (namespace, room) = (io.of("/"), room_of(channel));
        let sockets = namespace.local().to(room_of_user(user)).sockets();
        let following = sockets.iter().filter(|one| one.is_in(room.as_str()));
        let ended = following.inspect(|socket| {
            end(socket, &room, channel, EndReason::Unsubscribed);
        });
        let ended = ended.count();
        // Those that are recovered later find that they are not in the room.
        namespace.local().to(room_of_user(user)).leave(room);
        ended
    }
}

fn room_of_user(user: &str) -> Room {
    room_named(RoomKind::User.prefix(), user)
}
