//! Ending rights and subscriptions at all servers.

use super::Channels;
use super::NO_CHANNEL;
use super::continuing::end;
use super::emitting::room_of;
use super::peers::PeerRequest;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::channels::{EndedSubscriptions, RevokeChannel};
use crate::service::rules::emissions::channels::EndReason;
use roomcast::{Io, Room};

/// Makes the answers of the backend about a channel void, and ends the subscriptions that they
/// allowed.
pub(crate) async fn revoke_channel(
    io: &Io,
    allowed: Allowed<RevokeChannel>,
) -> Result<EndedSubscriptions, ServiceError> {
    let (_, RevokeChannel { channel, new }) = allowed.into_parts();
    let channels = io.state::<Channels>();
    channels.find(&channel).ok_or(NO_CHANNEL)?;
    let request = PeerRequest::Revoke {
        channel,
        user: new.user_id,
    };
    let (ended, missing) = channels.end_everywhere(io, &request).await;
    Ok(EndedSubscriptions { ended, missing })
}

impl Channels {
    /// Makes the answers void at this server, and ends the subscriptions. Returns their number.
    pub(super) fn revoke_local(&self, io: &Io, channel: &str, user: Option<&str>) -> usize {
        let room = room_of(channel);
        // Other tasks end subscriptions as soon as the answers are void.
        let followers = io.of("/").local().to(room.clone()).sockets();
        if let Some(asker) = &self.0.asker {
            asker.revoke(channel, user);
        }
        let is_meant = |subject: &str| user.is_none_or(|user| user == subject);
        let meant = followers
            .into_iter()
            .filter(|socket| is_meant(&socket.principal().subject));
        let ended = meant.filter(|socket| {
            self.recheck_one(socket, &room);
            !socket.is_in(room.as_str())
        });
        ended.count()
    }

    /// Ends all subscriptions at this server to a channel that is deleted. Returns their number.
    pub(super) fn end_local(io: &Io, channel: &str) -> usize {
        let room = room_of(channel);
        let namespace = io.of("/");
        let followers = || namespace.local().to(room.clone());
        let sockets = followers().sockets();
        for socket in &sockets {
            end(socket, &room, channel, EndReason::Deleted);
        }
        // Those that are recovered later find that they are not in the room. Those that have begun
        // to follow meanwhile stay.
        let connected = followers().sockets().into_iter();
        let connected: Vec<Room> = connected.map(|one| Room::from(one.id().as_str())).collect();
        followers().except(connected).leave(room.clone());
        sockets.len()
    }
}
